package pipe

import (
	"bytes"
	"math"
	"strconv"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// want is a field that the handler reads, with what the last line had of it.
type want struct {
	id   flow.FieldID
	kind flow.ValueKind
	// names are what may be in place of a number.
	names map[string]uint64

	number uint64
	text   []byte // of kind KindText; aliases the line or buf
	buf    []byte
}

// wantAddress makes the scanner keep an address that is not mapped.
func (s *scanner) wantAddress(id flow.FieldID, end int) {
	f := &flow.Fields[id]
	for _, name := range []string{f.Name, f.Snake} {
		s.add(name, func(m *member) { m.end = end })
	}
}

// want makes the scanner keep a field that is no address. Times are kept anyway,
// and lists cannot be.
func (s *scanner) want(id flow.FieldID) {
	w := want{id: id, kind: flow.Fields[id].Kind}
	names := []string{flow.Fields[id].Name, flow.Fields[id].Snake}
	switch id {
	case flow.FieldTimeFlowEnd, flow.FieldTimeFlowStart, flow.FieldTimeReceived,
		flow.FieldTimeFlowEndNs, flow.FieldTimeFlowStartNs, flow.FieldTimeReceivedNs:
		return
	case flow.FieldType:
		w.names = make(map[string]uint64)
		for name, n := range flowpb.FlowMessage_FlowType_value {
			w.names[name] = uint64(n)
		}
	case flow.FieldEtype:
		names = append(names, flow.Fields[flow.FieldEtypeName].Name)
		w.names = make(map[string]uint64)
		for n := range uint32(math.MaxUint16 + 1) {
			if name := flow.EtypeName(n); name != "" {
				w.names[name] = uint64(n)
			}
		}
	case flow.FieldProto:
		names = append(names, flow.Fields[flow.FieldProtoName].Name)
		w.names = make(map[string]uint64)
		for n := range uint32(math.MaxUint8 + 1) {
			for _, name := range []string{protoproducer.ProtoName(n), flow.ProtoName(flow.EtypeIPv4, n)} {
				if _, ok := w.names[name]; !ok {
					w.names[name] = uint64(n)
				}
			}
		}
		for _, name := range []string{"", "unassigned", "experimental", "unknown"} {
			delete(w.names, name) // of many
		}
	case flow.FieldEtypeName, flow.FieldProtoName, flow.FieldIcmpName:
		return // made of the numbers
	}
	for _, name := range names {
		if name != "" {
			s.add(name, func(m *member) { m.want = len(s.wants) })
		}
	}
	s.wants = append(s.wants, w)
}

// forget forgets the last line.
func (w *want) forget() { w.number, w.text = 0, nil }

// take keeps the value of a member. What is no value of the field is nothing.
func (w *want) take(s *scanner, value []byte) {
	switch {
	case w.kind == flow.KindText:
		w.text = s.str(value)
		if bytes.IndexByte(value, '\\') >= 0 {
			w.buf = append(w.buf[:0], w.text...)
			w.text = w.buf
		}
	case w.kind == flow.KindMAC:
		w.number = mac(s.str(value))
	case value[0] != '"':
		w.number = number64(value)
	default:
		text := s.str(value)
		if n, ok := w.names[string(text)]; ok {
			w.number = n
			return
		}
		if i := bytes.IndexByte(text, '/'); i >= 0 && (w.id == flow.FieldSrcNet || w.id == flow.FieldDstNet) {
			text = text[i+1:] // goflow2's rendering of a prefix length
		}
		if n, ok := digits(text); ok {
			w.number = n
		}
	}
}

// set puts what the last line had into a record.
func (w *want) set(r *flow.Record) {
	switch {
	case w.kind == flow.KindText:
		r.SetBytes(w.id, w.text)
	case w.id == flow.FieldType:
		r.Msg.Type = flowpb.FlowMessage_FlowType(min(w.number, math.MaxInt32))
	default:
		r.SetUint(w.id, w.number)
	}
}

// number64 reads a JSON number; it returns 0 for what is not whole or negative,
// and the largest number for what is too large.
func number64(b []byte) uint64 {
	if n, ok := digits(b); ok {
		return n
	}
	if n, err := strconv.ParseUint(string(b), 10, 64); err == nil {
		return n
	}
	// 1e3 and 1000.0 are whole, too.
	switch f, _ := strconv.ParseFloat(string(b), 64); {
	case f >= 1<<64:
		return math.MaxUint64
	case f > 0 && f == math.Trunc(f):
		return uint64(f)
	}
	return 0
}

// mac reads a MAC address as goflow2 writes it, with colons. It returns 0 for
// anything else.
func mac(b []byte) uint64 {
	if len(b) != flow.MACLen || b[2] != ':' {
		return 0
	}
	v, _ := flow.ParseMAC(b)
	return v
}

// given is a generated field that the handler reads, with what the last line
// had of it.
type given struct {
	ref  flow.AttrRef
	has  bool
	text []byte // aliases the line or buf
	buf  []byte
}

// wantAttr makes the scanner keep a generated field.
func (s *scanner) wantAttr(ref flow.AttrRef, mapping []flow.MapEntry, labels []flow.Label) {
	add := func(name string) { s.add(name, func(m *member) { m.attr = len(s.given) }) }
	if ref.End == flow.EndCluster {
		add("Cluster")
		add("cluster")
		add("K8S_ClusterName")
	} else {
		e := mapping[ref.End]
		for _, a := range flow.Attrs {
			if a.Attr == ref.Attr {
				add(e.Prefix + a.Name)
				add(e.Snake + "_" + a.Snake)
			}
		}
		for _, a := range flow.NetObservAttrs {
			if a.Attr == ref.Attr {
				add(e.Prefix + a.Name)
			}
		}
		if i := int(ref.Attr) - int(flow.AttrLabel); i >= 0 {
			add(e.Prefix + labels[i].Field)
			add(e.Snake + "_" + labels[i].Snake)
		}
	}
	s.given = append(s.given, given{ref: ref})
}

func (g *given) take(s *scanner, value []byte) {
	g.text, g.has = s.str(value), true
	if bytes.IndexByte(value, '\\') >= 0 {
		g.buf = append(g.buf[:0], g.text...)
		g.text = g.buf
	}
}

// attrs appends the generated fields that the last line had.
func (s *scanner) attrs(dst []flow.LineAttr) []flow.LineAttr {
	for i := range s.given {
		if g := &s.given[i]; g.has {
			dst = append(dst, flow.LineAttr{Ref: g.ref, Text: g.text})
		}
	}
	return dst
}
