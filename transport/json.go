package transport

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// JSONConfig says what JSON records look like.
type JSONConfig struct {
	// Schema is "v1".
	Schema string
	// Fields is the value of -fields; empty is "default".
	Fields string
	// Mapping gives the prefixes of the generated fields, by index of
	// [flow.Record].Ends.
	Mapping []flow.MapEntry
	// Cluster is the value of the field Cluster; empty leaves it out.
	Cluster string
}

// JSON encodes a record as one JSON object on a line of its own.
type JSON struct {
	plan
	// room is more than all values of bounded length take up, with their keys.
	room int
	// v1 and v2 add the generated fields to lines of either style.
	v1, v2 plan
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

const (
	opNumber op = iota // one that [numbers] gathers
	opUint
	opAddr
	opMAC
	opText
	opString
	opUints
	opAddrs
	opLayers
	opAttr
	opStatus
	opConst
)

var opOfKind = [...]op{
	flow.KindUint: opUint, flow.KindAddr: opAddr, flow.KindMAC: opMAC, flow.KindText: opText,
	flow.KindString: opString, flow.KindUints: opUints, flow.KindAddrs: opAddrs, flow.KindLayers: opLayers,
}

// NewJSON returns an encoder. Errors begin with the name of the option that is
// wrong (schema, fields, mapping) and say what is possible.
func NewJSON(cfg JSONConfig) (*JSON, error) {
	if cfg.Schema != "v1" {
		return nil, fmt.Errorf("schema: %q is none of v1", cfg.Schema)
	}
	cols, err := selectColumns(cfg.Fields, cfg.Mapping)
	if err != nil {
		return nil, err
	}
	e := &JSON{room: 64}
	for _, c := range cols {
		if c.kind == cluster && cfg.Cluster == "" {
			continue
		}
		e.room += e.add(c, c.name, cfg.Cluster)
		if c.kind != decoded {
			e.v1.add(c, c.name, cfg.Cluster)
		}
	}
	slices.SortFunc(cols, func(a, b column) int { return cmp.Compare(a.snake, b.snake) })
	for _, c := range cols {
		if c.kind == generated || c.kind == cluster && cfg.Cluster != "" {
			e.v2.add(c, c.snake, cfg.Cluster)
		}
	}
	return e, nil
}

// add appends the step of a column and returns how much room it takes.
func (p *plan) add(c column, name, clusterName string) int {
	s := step{field: c.field, end: uint8(c.end), attr: c.attr}
	key := `"` + name + `":`
	switch c.kind {
	case decoded:
		s.op = opOfKind[flow.Fields[c.field].Kind]
		switch s.op {
		case opUint:
			if c.def {
				s.op = opNumber
			}
		case opUints, opAddrs, opLayers:
			key += "["
		default:
			key += `"`
		}
	case generated:
		s.op = opAttr
		if c.attr == flow.AttrStatus {
			s.op = opStatus
		}
		key += `"`
	case cluster:
		s.op = opConst
		key = string(appendQuoted([]byte(key+`"`), clusterName)) + `",`
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
	return max(maxKey, len(key)) + maxAddr + 4
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
	switch s.op {
	case opUint:
		n = putUint(b, n, r.Uint(s.field))
		b[n] = ','
		return b, n + 1
	case opAddr:
		n = putAddr(b, n, r.Bytes(s.field))
	case opMAC:
		n = putMAC(b, n, r.Uint(s.field))
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
	case opLayers:
		for _, l := range r.Msg.LayerStack {
			b = append(b, '"')
			if name, ok := flowpb.FlowMessage_LayerStack_name[int32(l)]; ok {
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

// appendLine appends the record's line with the generated fields spliced in
// before the closing brace, in the line's own style. A line that is no object
// is passed on as it is, and a key that the line has is not added again.
func (e *JSON) appendLine(dst []byte, r *flow.Record) []byte {
	l := r.Line
	if l.Close < 0 {
		return append(append(dst, l.Text...), '\n')
	}
	dst = append(dst, l.Text[:l.Close]...)
	p := &e.v1
	if l.Snake {
		p = &e.v2
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
