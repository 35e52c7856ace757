package encode

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// JSONConfig configures an encoder of JSON.
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
	// Labels lists the labels of -kube.labels. Objects have their values in the same
	// order.
	Labels []flow.Label
	// Elements are those that become fields, by the index in [flow.ElementValue].
	Elements []flow.ExtraElement
}

// Schemas lists the schemas of JSON.
var Schemas = []string{"v1", "v2", "netobserv"}

// JSON encodes a record as one JSON object on a line of its own.
//
// Schema v1 is this program's own. Schema v2 has goflow2's fields in goflow2's order,
// rendered as goflow2 v2.2.6 does it (producer/proto/messages.go, render.go). Generated
// fields follow them. Schema netobserv has the names and units of flowlogs-pipeline.
//
// Any number of goroutines may use an encoder. It does not allocate once the buffer
// that it appends to has grown.
type JSON struct {
	layout
	elements []flow.ExtraElement
	fields   flow.FieldSet
	ends     int // the generated fields are of the first so many ends
	// room is an upper bound for all keys and values of bounded length.
	room int
	// pascal and snake have the generated fields that lines of either style get.
	pascal, snake layout
}

// NewJSON returns an encoder. Errors begin with the name of the option that is
// wrong (schema, fields, mapping) and say what is possible.
func NewJSON(cfg JSONConfig) (*JSON, error) {
	d, ok := map[string]dialect{"v1": dialectV1, "v2": dialectV2, "netobserv": dialectNetObserv}[cfg.Schema]
	if !ok {
		return nil, fmt.Errorf("schema: %q is none of %s", cfg.Schema, strings.Join(Schemas, ", "))
	}
	cols, err := selectColumns(d, cfg.Fields, cfg.Mapping, cfg.Elements, cfg.Labels...)
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
		slices.SortStableFunc(cols, func(a, b column) int { return cmp.Compare(upstreamOrder(a), upstreamOrder(b)) })
	}
	e := &JSON{room: 64, elements: cfg.Elements, fields: fieldsOf(cols)}
	if d == dialectNetObserv && e.fields.Has(flow.FieldInIfName) {
		e.fields.Add(flow.FieldOutIfName) // Interfaces has both
	}
	for _, c := range cols {
		e.room += e.add(d, c, c.key)
		if c.kind == generated {
			e.ends = max(e.ends, c.end+1)
		}
	}
	// Fields that are added to lines are sorted by name in all schemas.
	cols = slices.DeleteFunc(cols, func(c column) bool {
		return c.kind == decoded && !slices.Contains(flow.VerdictFields[:], c.field) || c.kind == constant || c.kind == element
	})
	for i := range cols {
		if c := &cols[i]; c.kind == decoded {
			c.pascal, c.snake = flow.Fields[c.field].Name, flow.Fields[c.field].Snake
		}
	}
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

// AppendRecord appends the record and a newline. A record that was read as a
// line of JSON is that line with the generated fields added.
func (e *JSON) AppendRecord(dst []byte, r *flow.Record) []byte {
	if r.Line != nil {
		return e.appendLine(dst, r)
	}
	return e.appendFields(dst, r)
}

// appendFields appends the record's fields and a newline.
func (e *JSON) appendFields(dst []byte, r *flow.Record) []byte {
	n := len(dst)
	b := reserve(dst, n, e.room)
	b[n] = '{'
	n++
	var v [numberSlots]uint64
	numbers(&v, r)
	// Most attributes are empty in most records. What an end has is found out once.
	var present [flow.MaxEnds]uint32
	for i := range e.ends {
		present[i%flow.MaxEnds] = r.Ends[i%flow.MaxEnds].Present()
	}
	// Each field ends with a comma; the last one becomes the closing brace.
	for i := range e.steps {
		s := &e.steps[i]
		switch s.op {
		case opNumber:
			*(*[maxKey]byte)(b[n:]) = s.key
			n = putUint(b, n+int(s.keyLen), v[s.field%numberSlots])
			b[n] = ','
			n++
		case opAttr:
			if present[s.end%flow.MaxEnds]>>(s.bit%32)&1 != 0 {
				b, n = e.putAttr(b, n, i, s, &r.Ends[s.end%flow.MaxEnds])
			}
		default:
			b, n = e.putOther(b, n, i, s, r)
		}
	}
	if b[n-1] == ',' {
		n--
	}
	b[n], b[n+1] = '}', '\n'
	return b[:n+2]
}

// Fields returns the fields of the flow that the encoder writes.
func (e *JSON) Fields() flow.FieldSet { return e.fields }

// putOther writes a field of the flow that [numbers] does not gather.
func (e *JSON) putOther(b []byte, n, i int, s *step, r *flow.Record) ([]byte, int) {
	if s.op == opElement {
		return e.putElement(b, n, i, r)
	}
	n = e.putKey(b, n, i, s)
	if s.op == opBool || s.op == opNotBool {
		n = len(strconv.AppendBool(b[:n], r.Bool(s.field) == (s.op == opBool)))
		b[n] = ','
		return b, n + 1
	}
	if s.op < opAddr {
		n = putUint(b, n, numberOf(s, r))
		b[n] = ','
		return b, n + 1
	}
	switch s.op {
	case opAddr:
		n = putAddr(b, n, r.Bytes(s.field))
	case opUpstreamAddr:
		n = putUpstreamAddr(b, n, r.Bytes(s.field))
	case opMAC:
		n = putMAC(b, n, r.Uint(s.field))
	case opUpstreamMAC:
		if mac := r.Uint(s.field); mac<<16 != 0 {
			n = putMAC(b, n, mac)
		} else {
			n += copy(b[n:], "00:00:00:00:00:00")
		}
	case opUpstreamNet:
		if s.field == flow.FieldSrcNet {
			n = putUpstreamNet(b, n, r.Msg.SrcAddr, r.Msg.SrcNet)
		} else {
			n = putUpstreamNet(b, n, r.Msg.DstAddr, r.Msg.DstNet)
		}
	case opUpstreamType:
		name, ok := upstreampb.FlowMessage_FlowType_name[int32(r.Msg.Type)]
		if !ok && slices.Contains(flow.OwnTypes[:], r.Msg.Type) {
			name, ok = flow.TypeName(r.Msg.Type), true
		}
		if ok {
			n += copy(b[n:], name)
		} else {
			n = len(strconv.AppendInt(b[:n], int64(r.Msg.Type), 10))
		}
	case opUpstreamEtype:
		n += copy(b[n:], upstreamEtype(r.Msg.Etype))
	case opUpstreamProto:
		n += copy(b[n:], protoproducer.ProtoName(r.Msg.Proto))
	case opUpstreamIcmp:
		if proto := r.Msg.Proto; r.HasICMP() || proto != flow.ProtoICMP {
			n += copy(b[n:], protoproducer.IcmpCodeType(proto, r.Msg.IcmpCode, r.Msg.IcmpType))
		} // else goflow2 has the name of type 0, an echo reply
	case opString:
		v := r.Name(s.field)
		b = reserve(b, n, len(v)+e.room)
		n += copy(b[n:], v)
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

// numberOf returns the value of a field that is written as a number and that
// [numbers] does not gather.
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

// upstreamEtype returns goflow2's name of an EtherType.
func upstreamEtype(etype uint32) string {
	switch etype {
	case flow.EtypeIPv4, flow.EtypeIPv6, 0x0806:
		return flow.EtypeName(etype)
	}
	return ""
}

// putAttr writes a generated field of an end, if it has one.
func (e *JSON) putAttr(b []byte, n, i int, s *step, end *flow.End) ([]byte, int) {
	v := end.Attr(s.attr)
	if v == "" { // of labels, and of objects that nobody has made
		return b, n
	}
	b = reserve(b, n, len(v)+e.room)
	n = e.putKey(b, n, i, s)
	if o := end.Object; o == nil || o.Plain() {
		n += copy(b[n:], v)
	} else {
		b = appendQuoted(b[:n], v)
		n = len(b)
		b = reserve(b, n, e.room)
	}
	b[n], b[n+1] = '"', ','
	return b, n + 2
}

// putElement writes an element of the user's list, if the record carries it.
func (e *JSON) putElement(b []byte, n, i int, r *flow.Record) ([]byte, int) {
	if len(r.Extra.Elements) == 0 {
		return b, n
	}
	index := e.steps[i].end
	v, ok := r.Extra.Element(int(index))
	if !ok {
		return b, n
	}
	b = e.appendKey(b[:n], i)
	switch typ := e.elements[index].Type; typ {
	case flow.ElementUint:
		b = typ.Append(b, v)
	case flow.ElementString:
		b = append(appendQuoted(append(b, '"'), v), '"')
	default:
		b = append(typ.Append(append(b, '"'), v), '"')
	}
	b = append(b, ',')
	n = len(b)
	return reserve(b, n, e.room), n
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
	case opUpstreamAddrs:
		for _, v := range r.Addrs(s.field) {
			b = append(b, '"')
			n := len(b)
			b = reserve(b, n, maxAddr)
			b = append(b[:putUpstreamAddr(b, n, v)], '"', ',')
		}
	case opInterfaces:
		return appendInterfaces(b, &r.Extra)
	case opLayers:
		for _, l := range r.Msg.LayerStack {
			b = append(b, '"')
			if name, ok := upstreampb.FlowMessage_LayerStack_name[int32(l)]; ok {
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

// appendInterfaces appends the rest of IfDirections (0 ingress, 1 egress), then
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

// appendLine appends the record's line and adds the generated fields before the
// closing brace, in the line's own style. A key that the line has already is not
// added again. A line that is no object stays as it is.
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
		v, text := "", []byte(nil)
		switch s.op {
		case opAttr:
			v = r.Ends[s.end%flow.MaxEnds].Attr(s.attr)
		case opText:
			text = r.Bytes(s.field)
		}
		if s.op != opConst && len(v)+len(text) == 0 {
			continue
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
		dst = append(appendQuoted(appendQuoted(dst, v), text), '"') // one of them is empty
	}
	return append(append(dst, l.Text[l.Close:]...), '\n')
}
