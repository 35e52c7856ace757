package pipe

import (
	"bytes"
	"math"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// requestedField is a field that the handler reads, with its value in the last line.
type requestedField struct {
	id   flow.FieldID
	kind flow.ValueKind
	// names are the numbers of the names that may be in place of a number.
	names map[string]uint64

	number uint64
	no     bool   // of kind KindBool: whether it is false; it is true if it is not there
	text   []byte // of kind KindText; aliases the line or buf
	buf    []byte
}

// requestAddress makes the scanner keep an address that is not mapped.
func (s *scanner) requestAddress(id flow.FieldID, end int) {
	f := &flow.Fields[id]
	for _, name := range []string{f.Name, f.Snake} {
		s.add(name, func(m *member) { m.end = end })
	}
}

// request makes the scanner keep a field that is no address. Times are always kept.
// Lists cannot be.
func (s *scanner) request(id flow.FieldID) {
	w := requestedField{id: id, kind: flow.Fields[id].Kind}
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
		for _, t := range flow.OwnTypes {
			w.names[flow.TypeName(t)] = uint64(t)
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
			delete(w.names, name) // several numbers have it
		}
	case flow.FieldEtypeName, flow.FieldProtoName, flow.FieldIcmpName:
		return // derived from the numbers
	}
	for _, name := range names {
		if name != "" {
			s.add(name, func(m *member) { m.field = len(s.requested) })
		}
	}
	s.requested = append(s.requested, w)
}

// reset removes the value of the last line.
func (w *requestedField) reset() { w.number, w.no, w.text = 0, false, nil }

// parse keeps the value of a member. What cannot be a value of the field is ignored.
func (w *requestedField) parse(s *scanner, value []byte) {
	switch {
	case w.kind == flow.KindText:
		w.text = s.str(value)
		if bytes.IndexByte(value, '\\') >= 0 {
			w.buf = append(w.buf[:0], w.text...)
			w.text = w.buf
		}
	case w.kind == flow.KindBool:
		w.no = string(value) == "false"
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

// set sets the field of a record to the value of the last line.
func (w *requestedField) set(r *flow.Record) {
	switch {
	case w.kind == flow.KindText:
		r.SetBytes(w.id, w.text)
	case w.id == flow.FieldCountsOnce:
		r.Extra.Duplicate = w.no
	case w.id == flow.FieldType:
		r.Msg.Type = flowpb.FlowMessage_FlowType(min(w.number, math.MaxInt32))
	default:
		r.SetUint(w.id, w.number)
	}
}

// presentField is a generated field that the handler reads, with its value in the
// last line.
type presentField struct {
	ref  flow.AttrRef
	has  bool
	text []byte // aliases the line or buf
	buf  []byte
}

// requestAttr makes the scanner keep a generated field.
func (s *scanner) requestAttr(ref flow.AttrRef, mapping []flow.MapEntry, labels []flow.Label) {
	add := func(name string) { s.add(name, func(m *member) { m.attr = len(s.present) }) }
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
	s.present = append(s.present, presentField{ref: ref})
}

// parse keeps the value of a member.
func (g *presentField) parse(s *scanner, value []byte) {
	g.text, g.has = s.str(value), true
	if bytes.IndexByte(value, '\\') >= 0 {
		g.buf = append(g.buf[:0], g.text...)
		g.text = g.buf
	}
}

// attrs appends the generated fields that the last line had.
func (s *scanner) attrs(dst []flow.LineAttr) []flow.LineAttr {
	for i := range s.present {
		if g := &s.present[i]; g.has {
			dst = append(dst, flow.LineAttr{Ref: g.ref, Text: g.text})
		}
	}
	return dst
}
