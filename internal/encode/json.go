package encode

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	stockpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// JSONConfig says what JSON records look like.
type JSONConfig struct {
	// Schema is one of [Schemas].
	Schema string
	// Fields is the value of -fields; empty is "default".
	Fields string
	// Mapping gives the prefixes of the generated fields, by index of
	// [flow.Record].Ends.
	Mapping []flow.MapEntry
	// Cluster is the value of the field Cluster; empty leaves it out.
	Cluster string
	// Labels lists the labels that objects have, in the order in which they
	// have them.
	Labels []flow.Label
}

// Schemas lists the schemas of JSON.
var Schemas = []string{"v1", "v2", "netobserv"}

// JSON encodes a record as one JSON object on a line of its own.
//
// Schema v1 is the contract's own. In schema v2 goflow2's fields are rendered
// as goflow2 v2.2.6 does it (producer/proto/messages.go, render.go), in its
// order, and generated fields follow. Schema netobserv has names and units of
// flowlogs-pipeline's output.
type JSON struct {
	plan
	// room is more than all values of bounded length take up, with their keys.
	room int
	// pascal and snake add the generated fields to lines of either style.
	pascal, snake plan
}

// plan is a list of fields in the order in which they are written.
type plan struct {
	steps []step
	// names holds the name of each field, texts what does not fit its step: a
	// long key, or all of a constant. They are kept apart from the steps, which
	// are gone through for every record and had better be small.
	names, texts []string
}

// step writes one field.
type step struct {
	// key is `"Name":`, with the quote that opens a string, padded: copying a
	// fixed length takes a quarter of the time.
	key    [maxKey]byte
	keyLen uint8 // 0: it is in texts
	op     op
	field  flow.FieldID
	end    uint8
	attr   flow.Attr
}

const maxKey = 32

type op uint8

// How values are written. Those before opAddr are numbers, those from opUints
// on are lists, the others strings.
const (
	opNumber op = iota // one that [numbers] gathers
	opUint
	opStartNs // goflow2's times: the export time where the exporter sends none
	opEndNs
	opStartMs
	opEndMs
	opDSCP

	opAddr
	opMAC
	opText
	opString
	opStockAddr // as goflow2 has it
	opStockMAC
	opStockType
	opStockEtype
	opStockProto
	opStockIcmp
	opStockNet
	opAttr
	opStatus
	opConst

	opUints
	opAddrs
	opStockAddrs
	opLayers
	opInterfaces
)

var opOfKind = [...]op{
	flow.KindUint: opUint, flow.KindAddr: opAddr, flow.KindMAC: opMAC, flow.KindText: opText,
	flow.KindString: opString, flow.KindUints: opUints, flow.KindAddrs: opAddrs, flow.KindLayers: opLayers,
}

// opsOf lists, by dialect, fields that are not written as their kind is.
var opsOf = map[dialect]map[flow.FieldID]op{
	dialectV2: {
		flow.FieldTimeFlowStartNs: opStartNs, flow.FieldTimeFlowEndNs: opEndNs,
		flow.FieldType: opStockType, flow.FieldEtype: opStockEtype, flow.FieldProto: opStockProto, flow.FieldIcmpName: opStockIcmp,
		flow.FieldSrcNet: opStockNet, flow.FieldDstNet: opStockNet,
	},
	dialectNetObserv: {
		flow.FieldTimeFlowStart: opStartMs, flow.FieldTimeFlowEnd: opEndMs, flow.FieldIPTos: opDSCP, flow.FieldInIfName: opInterfaces,
	},
}

// opOf tells how a dialect writes a field.
func (d dialect) opOf(f *flow.Field) op {
	if o, ok := opsOf[d][f.ID]; ok {
		return o
	}
	o := opOfKind[f.Kind]
	switch {
	case o == opUint && f.Default:
		return opNumber
	case o == opMAC && d != dialectV1:
		return opStockMAC
	case o == opAddr && d == dialectV2:
		return opStockAddr
	case o == opAddrs && d == dialectV2:
		return opStockAddrs
	}
	return o
}

// NewJSON returns an encoder. Errors begin with the name of the option that is
// wrong (schema, fields, mapping) and say what is possible.
func NewJSON(cfg JSONConfig) (*JSON, error) {
	d, ok := map[string]dialect{"v1": dialectV1, "v2": dialectV2, "netobserv": dialectNetObserv}[cfg.Schema]
	if !ok {
		return nil, fmt.Errorf("schema: %q is none of %s", cfg.Schema, strings.Join(Schemas, ", "))
	}
	cols, err := selectColumns(d, cfg.Fields, cfg.Mapping, cfg.Labels...)
	if err != nil {
		return nil, err
	}
	if cfg.Cluster == "" {
		cols = slices.DeleteFunc(cols, func(c column) bool { return c.kind == cluster })
	}
	for i := range cols {
		if cols[i].kind == cluster {
			cols[i].value = cfg.Cluster
		}
	}
	if d == dialectV2 {
		slices.SortStableFunc(cols, func(a, b column) int { return cmp.Compare(stockOrder(a), stockOrder(b)) })
	}
	e := &JSON{room: 64}
	for _, c := range cols {
		e.room += e.add(d, c, c.key)
	}
	// Whatever is the order, that of lines is by name.
	cols = slices.DeleteFunc(cols, func(c column) bool { return c.kind == decoded || c.kind == constant })
	slices.SortFunc(cols, func(a, b column) int { return cmp.Compare(a.pascal, b.pascal) })
	for _, c := range cols {
		e.pascal.add(d, c, c.pascal)
	}
	slices.SortFunc(cols, func(a, b column) int { return cmp.Compare(a.snake, b.snake) })
	for _, c := range cols {
		e.snake.add(d, c, c.snake)
	}
	return e, nil
}

// stockOrder tells where in its output goflow2 has a column: at the place of
// the field in its message. What it does not have comes behind.
func stockOrder(c column) int {
	f := &flow.Fields[c.field]
	if c.kind != decoded || !f.Upstream() {
		return math.MaxInt
	}
	return (*stockpb.FlowMessage)(nil).ProtoReflect().Descriptor().Fields().ByNumber(protowire.Number(f.Number)).Index()
}

// add appends the step of a column and returns how much room it takes.
func (p *plan) add(d dialect, c column, name string) int {
	s := step{field: c.field, end: uint8(c.end), attr: c.attr}
	switch {
	case c.kind == decoded:
		s.op = d.opOf(&flow.Fields[c.field])
	case c.kind != generated:
		s.op = opConst
	case c.attr == flow.AttrStatus:
		s.op = opStatus
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
	p.steps = append(p.steps, s)
	p.names = append(p.names, name)
	p.texts = append(p.texts, text)
	return max(maxKey, len(key)) + maxPrefix + 4
}

// AppendRecord appends the record and a newline. A record that was read as a
// line of JSON is that line with the generated fields added.
func (e *JSON) AppendRecord(dst []byte, r *flow.Record) []byte {
	if r.Line != nil {
		return e.appendLine(dst, r)
	}
	n := len(dst)
	b := reserve(dst, n, e.room)
	b[n] = '{'
	n++
	var v [64]uint64
	numbers(&v, r)
	// Each field ends with a comma; the last one becomes the closing brace.
	for i := range e.steps {
		s := &e.steps[i]
		if s.op != opNumber {
			b, n = e.putOther(b, n, i, r)
			continue
		}
		*(*[maxKey]byte)(b[n:]) = s.key
		n = putUint(b, n+int(s.keyLen), v[s.field%64])
		b[n] = ','
		n++
	}
	if b[n-1] == ',' {
		n--
	}
	b[n], b[n+1] = '}', '\n'
	return b[:n+2]
}

// numbers gathers the numbers of the default set, by FieldID. To ask for one
// after the other would take a quarter of the encoder's time.
func numbers(v *[64]uint64, r *flow.Record) {
	m := &r.Msg
	v[flow.FieldBiFlowDirection] = uint64(r.Extra.BiFlowDirection)
	v[flow.FieldBytes] = m.Bytes
	v[flow.FieldDstAS] = uint64(m.DstAs)
	v[flow.FieldDstNet] = uint64(m.DstNet)
	v[flow.FieldDstPort] = uint64(m.DstPort)
	v[flow.FieldDstVlan] = uint64(m.DstVlan)
	v[flow.FieldEgressVrfID] = uint64(r.Extra.EgressVrfID)
	v[flow.FieldEtype] = uint64(m.Etype)
	v[flow.FieldForwardingStatus] = uint64(m.ForwardingStatus)
	v[flow.FieldFragmentID] = uint64(m.FragmentId)
	v[flow.FieldFragmentOffset] = uint64(m.FragmentOffset)
	v[flow.FieldIPTTL] = uint64(m.IpTtl)
	v[flow.FieldIPTos] = uint64(m.IpTos)
	v[flow.FieldIPv6FlowLabel] = uint64(m.Ipv6FlowLabel)
	v[flow.FieldIcmpCode] = uint64(m.IcmpCode)
	v[flow.FieldIcmpType] = uint64(m.IcmpType)
	v[flow.FieldInIf] = uint64(m.InIf)
	v[flow.FieldIngressVrfID] = uint64(r.Extra.IngressVrfID)
	v[flow.FieldNextHopAS] = uint64(m.NextHopAs)
	v[flow.FieldOutIf] = uint64(m.OutIf)
	v[flow.FieldPackets] = m.Packets
	v[flow.FieldProto] = uint64(m.Proto)
	v[flow.FieldSamplingRate] = m.SamplingRate
	v[flow.FieldSequenceNum] = uint64(m.SequenceNum)
	v[flow.FieldSrcAS] = uint64(m.SrcAs)
	v[flow.FieldSrcNet] = uint64(m.SrcNet)
	v[flow.FieldSrcPort] = uint64(m.SrcPort)
	v[flow.FieldSrcVlan] = uint64(m.SrcVlan)
	v[flow.FieldTCPFlags] = uint64(m.TcpFlags)
	v[flow.FieldTimeFlowEnd] = r.Uint(flow.FieldTimeFlowEnd)
	v[flow.FieldTimeFlowStart] = r.Uint(flow.FieldTimeFlowStart)
	v[flow.FieldTimeReceived] = m.TimeReceivedNs / 1e9
	v[flow.FieldVlanID] = uint64(m.VlanId)
}

// putOther writes a field that is none of [numbers].
func (e *JSON) putOther(b []byte, n, i int, r *flow.Record) ([]byte, int) {
	s := &e.steps[i]
	if s.op == opAttr {
		end := &r.Ends[s.end%flow.MaxEnds]
		if end.Object == nil {
			return b, n
		}
		return e.putAttr(b, n, i, end.Object)
	}
	n = e.putKey(b, n, i)
	if s.op < opAddr {
		n = putUint(b, n, numberOf(s, r))
		b[n] = ','
		return b, n + 1
	}
	switch s.op {
	case opAddr:
		n = putAddr(b, n, r.Bytes(s.field))
	case opStockAddr:
		n = putStockAddr(b, n, r.Bytes(s.field))
	case opMAC:
		n = putMAC(b, n, r.Uint(s.field))
	case opStockMAC:
		if mac := r.Uint(s.field); mac<<16 != 0 {
			n = putMAC(b, n, mac)
		} else {
			n += copy(b[n:], "00:00:00:00:00:00")
		}
	case opStockNet:
		if s.field == flow.FieldSrcNet {
			n = putStockNet(b, n, r.Msg.SrcAddr, r.Msg.SrcNet)
		} else {
			n = putStockNet(b, n, r.Msg.DstAddr, r.Msg.DstNet)
		}
	case opStockType:
		if name, ok := stockpb.FlowMessage_FlowType_name[int32(r.Msg.Type)]; ok {
			n += copy(b[n:], name)
		} else {
			n = len(strconv.AppendInt(b[:n], int64(r.Msg.Type), 10))
		}
	case opStockEtype:
		n += copy(b[n:], stockEtype(r.Msg.Etype))
	case opStockProto:
		n += copy(b[n:], protoproducer.ProtoName(r.Msg.Proto))
	case opStockIcmp:
		n += copy(b[n:], protoproducer.IcmpCodeType(r.Msg.Proto, r.Msg.IcmpCode, r.Msg.IcmpType))
	case opString:
		v := r.Name(s.field)
		b = reserve(b, n, len(v)+e.room)
		n += copy(b[n:], v)
	case opStatus:
		n += copy(b[n:], r.Ends[s.end%flow.MaxEnds].Status.String())
	case opText:
		b = appendQuoted(b[:n], r.Bytes(s.field))
		n = len(b)
		b = reserve(b, n, e.room)
	case opConst:
		return b, n
	default:
		b = appendList(b[:n], s, r)
		n = len(b)
		return reserve(b, n, e.room), n
	}
	b[n], b[n+1] = '"', ','
	return b, n + 2
}

// numberOf returns the value of a field that is written as a number and is none
// of [numbers].
func numberOf(s *step, r *flow.Record) uint64 {
	switch s.op {
	case opStartNs:
		return r.Msg.TimeFlowStartNs
	case opEndNs:
		return r.Msg.TimeFlowEndNs
	case opStartMs:
		return r.Msg.TimeFlowStartNs / 1e6
	case opEndMs:
		return r.Msg.TimeFlowEndNs / 1e6
	case opDSCP:
		return uint64(r.Msg.IpTos>>2) & 0x3f
	}
	return r.Uint(s.field)
}

// stockEtype returns goflow2's name of an EtherType.
func stockEtype(etype uint32) string {
	switch etype {
	case flow.EtypeIPv4, flow.EtypeIPv6, 0x0806:
		return flow.EtypeName(etype)
	}
	return ""
}

func (p *plan) putKey(b []byte, n, i int) int {
	s := &p.steps[i]
	if s.keyLen > 0 {
		*(*[maxKey]byte)(b[n:]) = s.key
		return n + int(s.keyLen)
	}
	return n + copy(b[n:], p.texts[i])
}

// putAttr writes a generated field, if the object has it.
func (e *JSON) putAttr(b []byte, n, i int, o *flow.Object) ([]byte, int) {
	v := o.Attr(e.steps[i].attr)
	if v == "" {
		return b, n
	}
	b = reserve(b, n, len(v)+e.room)
	n = e.putKey(b, n, i)
	if o.Plain() {
		n += copy(b[n:], v)
	} else {
		b = appendQuoted(b[:n], v)
		n = len(b)
		b = reserve(b, n, e.room)
	}
	b[n], b[n+1] = '"', ','
	return b, n + 2
}

// appendList appends the rest of a field that is a list.
func appendList(b []byte, s *step, r *flow.Record) []byte {
	open := len(b)
	switch s.op {
	case opUints:
		for _, v := range r.Uints(s.field) {
			b = append(strconv.AppendUint(b, uint64(v), 10), ',')
		}
	case opAddrs:
		for _, v := range r.Addrs(s.field) {
			b = append(b, '"')
			n := len(b)
			b = reserve(b, n, maxAddr)
			b = append(b[:putAddr(b, n, v)], '"', ',')
		}
	case opStockAddrs:
		for _, v := range r.Addrs(s.field) {
			b = append(b, '"')
			n := len(b)
			b = reserve(b, n, maxAddr)
			b = append(b[:putStockAddr(b, n, v)], '"', ',')
		}
	case opInterfaces:
		return appendInterfaces(b, &r.Extra)
	case opLayers:
		for _, l := range r.Msg.LayerStack {
			b = append(b, '"')
			if name, ok := stockpb.FlowMessage_LayerStack_name[int32(l)]; ok {
				b = append(b, name...)
			} else {
				b = strconv.AppendInt(b, int64(l), 10)
			}
			b = append(b, '"', ',')
		}
	}
	if len(b) > open {
		b = b[:len(b)-1]
	}
	return append(b, ']', ',')
}

// appendInterfaces appends the rest of IfDirections (0 ingress, 1 egress), and
// Interfaces with the names in the same order.
func appendInterfaces(b []byte, x *flow.Extra) []byte {
	in, out := len(x.InIfName) > 0, len(x.OutIfName) > 0
	switch {
	case in && out:
		b = append(b, "0,1"...)
	case in:
		b = append(b, '0')
	case out:
		b = append(b, '1')
	}
	b = append(b, `],"Interfaces":[`...)
	if in {
		b = append(appendQuoted(append(b, '"'), x.InIfName), '"')
	}
	if in && out {
		b = append(b, ',')
	}
	if out {
		b = append(appendQuoted(append(b, '"'), x.OutIfName), '"')
	}
	return append(b, ']', ',')
}

// appendLine appends the record's line with the generated fields spliced in
// before the closing brace, in the line's own style. A line that is no object
// is passed on as it is, and a key that the line has is not added again.
func (e *JSON) appendLine(dst []byte, r *flow.Record) []byte {
	l := r.Line
	if l.Close < 0 {
		return append(append(dst, l.Text...), '\n')
	}
	dst = append(dst, l.Text[:l.Close]...)
	p := &e.pascal
	if l.Snake {
		p = &e.snake
	}
	comma := !l.Empty
	for i := range p.steps {
		s := &p.steps[i]
		end := &r.Ends[s.end%flow.MaxEnds]
		var v string
		switch s.op {
		case opAttr:
			if end.Object == nil {
				continue
			}
			if v = end.Object.Attr(s.attr); v == "" {
				continue
			}
		case opStatus:
			v = end.Status.String()
		}
		if slices.Contains(l.Keys, p.names[i]) {
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = true
		if s.keyLen > 0 {
			dst = append(dst, s.key[:s.keyLen]...)
		} else {
			dst = append(dst, p.texts[i]...)
		}
		if s.op == opConst {
			dst = dst[:len(dst)-1] // its comma
			continue
		}
		dst = append(appendQuoted(dst, v), '"')
	}
	return append(append(dst, l.Text[l.Close:]...), '\n')
}
