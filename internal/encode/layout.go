package encode

import (
	"math"
	"math/bits"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// layout is a list of fields in the order in which they are written.
type layout struct {
	steps []step
	// names holds the name of each field. texts holds what its step has no room
	// for: a long key, or all of a constant. Both are apart from the steps, which
	// are read for every record and are faster when they are small.
	names, texts []string
}

// step writes one field.
type step struct {
	// key is `"Name":` with the quote that opens a string. It is padded because
	// copying a fixed length takes a quarter of the time.
	key    [maxKey]byte
	keyLen uint8 // 0 if the key is in texts
	op     op
	field  flow.FieldID
	end    uint8 // of a generated field; of an element, its index in the user's list
	attr   flow.Attr
	bit    uint8 // of a generated field: the number of its bit in [flow.End.Present]
}

const maxKey = 32

// numberSlots is how many numbers of the default set there can be: the FieldID
// of each is below it. It is a power of two, so that s.field%numberSlots is an
// index without a check.
const numberSlots = 64

type op uint8

// How values are written. Those before opAddr are numbers. Those from opUints on are
// lists. The others are strings.
const (
	opNumber op = iota // one that [numbers] gathers
	opUint
	opStartNs // goflow2's times: the export time where the exporter sends none
	opEndNs
	opStartMs
	opEndMs
	opDSCP
	opBool
	opNotBool
	opElement // a number or a string, only where the record carries it

	opAddr
	opMAC
	opText
	opString
	opUpstreamAddr // as goflow2 renders it
	opUpstreamMAC
	opUpstreamType
	opUpstreamEtype
	opUpstreamProto
	opUpstreamIcmp
	opUpstreamNet
	opAttr
	opConst

	opUints
	opAddrs
	opUpstreamAddrs
	opLayers
	opInterfaces
)

var opOfKind = [...]op{
	flow.KindUint: opUint, flow.KindAddr: opAddr, flow.KindMAC: opMAC, flow.KindText: opText,
	flow.KindString: opString, flow.KindUints: opUints, flow.KindAddrs: opAddrs, flow.KindLayers: opLayers,
	flow.KindBool: opBool,
}

// opsOf lists the fields of each dialect that are not written as others of their kind.
var opsOf = map[dialect]map[flow.FieldID]op{
	dialectV2: {
		flow.FieldTimeFlowStartNs: opStartNs, flow.FieldTimeFlowEndNs: opEndNs,
		flow.FieldType: opUpstreamType, flow.FieldEtype: opUpstreamEtype, flow.FieldProto: opUpstreamProto, flow.FieldIcmpName: opUpstreamIcmp,
		flow.FieldSrcNet: opUpstreamNet, flow.FieldDstNet: opUpstreamNet,
	},
	dialectNetObserv: {
		flow.FieldTimeFlowStart: opStartMs, flow.FieldTimeFlowEnd: opEndMs, flow.FieldIPTos: opDSCP, flow.FieldInIfName: opInterfaces,
	},
}

// opOf returns how a dialect writes a field.
func (d dialect) opOf(f *flow.Field) op {
	if o, ok := opsOf[d][f.ID]; ok {
		return o
	}
	o := opOfKind[f.Kind]
	switch {
	case o == opUint && f.Default:
		return opNumber
	case o == opMAC && d != dialectV1:
		return opUpstreamMAC
	case o == opAddr && d == dialectV2:
		return opUpstreamAddr
	case o == opAddrs && d == dialectV2:
		return opUpstreamAddrs
	}
	return o
}

// upstreamOrder returns the place of a column in goflow2's output, which is the place
// of the field in goflow2's message. Other columns come after all of these.
func upstreamOrder(c column) int {
	f := &flow.Fields[c.field]
	if c.kind != decoded || !f.Upstream() {
		return math.MaxInt
	}
	return (*upstreampb.FlowMessage)(nil).ProtoReflect().Descriptor().Fields().ByNumber(protowire.Number(f.Number)).Index()
}

// add appends the step of a column. It returns an upper bound for what the step
// writes, in bytes; values of unbounded length make room for themselves.
func (l *layout) add(d dialect, c column, name string) int {
	s := step{
		field: c.field, end: uint8(c.end), attr: c.attr,
		bit: uint8(bits.TrailingZeros32(c.attr.Bit())),
	}
	switch {
	case c.kind == element:
		s.op, s.end = opElement, uint8(c.element)
	case c.kind == decoded && c.negated:
		s.op = opNotBool
	case c.kind == decoded:
		s.op = d.opOf(&flow.Fields[c.field])
	case c.kind != generated:
		s.op = opConst
	default:
		s.op = opAttr
	}
	key := `"` + name + `":`
	switch {
	case s.op == opConst:
		key = string(appendQuoted([]byte(key+`"`), c.value)) + `",`
	case s.op == opInterfaces:
		key = `"IfDirections":[`
	case s.op >= opUints:
		key += "["
	case s.op >= opAddr:
		key += `"`
	}
	text := ""
	if len(key) > maxKey {
		text = key
	} else {
		s.keyLen = uint8(copy(s.key[:], key))
	}
	l.steps = append(l.steps, s)
	l.names = append(l.names, name)
	l.texts = append(l.texts, text)
	return max(maxKey, len(key)) + maxPrefix + 4
}

// appendKey appends the key of a step.
func (l *layout) appendKey(b []byte, i int) []byte {
	if s := &l.steps[i]; s.keyLen > 0 {
		return append(b, s.key[:s.keyLen]...)
	}
	return append(b, l.texts[i]...)
}

func (l *layout) putKey(b []byte, n, i int, s *step) int {
	if s.keyLen > 0 {
		*(*[maxKey]byte)(b[n:]) = s.key
		return n + int(s.keyLen)
	}
	return n + copy(b[n:], l.texts[i])
}
