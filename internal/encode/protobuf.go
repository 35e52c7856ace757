package encode

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// ProtobufConfig configures an encoder of protobuf.
type ProtobufConfig struct {
	// Fields is the value of -fields; empty is "default".
	Fields string
	// Mapping gives the prefixes of the generated fields, by index of
	// [flow.Record].Ends.
	Mapping []flow.MapEntry
	// Cluster is the value of the field cluster; empty leaves it out.
	Cluster string
	// Labels lists the labels of -kube.labels. Objects have their values in the same
	// order.
	Labels []flow.Label
	// Elements are those that become fields, by the index in [flow.ElementValue].
	Elements []flow.ExtraElement
}

// Protobuf encodes a record as an EnrichedFlow of flow/flow.proto with its length
// before it, as goflow2's format bin does. Fields are in the order of their numbers.
// If the record was read from a pipe, fields that goflow2's message does not know
// follow them.
//
// A record that was read as a line of JSON has next to nothing in its message (see
// package pipe), so such input is best refused.
//
// Any number of goroutines may use an encoder. It does not allocate once the buffer
// that it appends to has grown.
type Protobuf struct {
	on      [256]bool  // decoded fields to write, by FieldID
	ends    []protoEnd // generated fields of the prefixes Src and Dst
	others  []protoEnd // those of other prefixes
	cluster []byte     // encoded field; nil if there is none
	// elements are those of the user's list to write, by their index there.
	elements []protoElement
	fields   flow.FieldSet
	// room is an upper bound for all values of bounded length. Values of unbounded
	// length make room for themselves, and for room bytes after them.
	room int
}

const (
	maxProtoTag = 3 // bytes; enough for numbers up to 262143
	// protoRoom is an upper bound for all decoded fields of bounded length.
	protoRoom = len(flow.Fields) * (maxProtoTag + binary.MaxVarintLen64)
)

// protoEnd writes the generated fields of one prefix.
type protoEnd struct {
	end    uint8
	base   protowire.Number // what the numbers of the attributes are counted from
	prefix []byte           // encoded field prefix of KubeObject; nil for Src and Dst
	attrs  []protoAttr
	status bool // attrs has the status, which is known of every end
}

type protoElement struct {
	name []byte // encoded field name of ExtraField; nil if the element is not written
	typ  flow.ElementType
}

type protoAttr struct {
	number protowire.Number
	attr   flow.Attr
	key    []byte // encoded key of the map's entry; nil if it is no label
}

// The numbers of a map's fields (protobuf encoding, "Maps").
const (
	mapKey   = 1
	mapValue = 2
)

// NewProtobuf returns an encoder. Errors begin with the name of the option that
// is wrong (fields, mapping) and say what is possible.
func NewProtobuf(cfg ProtobufConfig) (*Protobuf, error) {
	cols, err := selectColumns(dialectProtobuf, cfg.Fields, cfg.Mapping, cfg.Elements, cfg.Labels...)
	if err != nil {
		return nil, err
	}
	e := &Protobuf{room: protoRoom, fields: fieldsOf(cols), elements: make([]protoElement, len(cfg.Elements))}
	ends := make([]protoEnd, len(cfg.Mapping))
	for i, m := range cfg.Mapping {
		ends[i].end = uint8(i)
		switch m.Prefix {
		case "Src":
			ends[i].base = flow.NumberGenerated
		case "Dst":
			ends[i].base = flow.NumberDst
		default:
			ends[i].base = flow.NumberObject
			ends[i].prefix = protowire.AppendString(protowire.AppendTag(nil, flow.NumberPrefix, protowire.BytesType), m.Prefix)
		}
	}
	for _, c := range cols {
		switch c.kind {
		case decoded:
			e.on[c.field] = true
		case element:
			el := &cfg.Elements[c.element]
			e.elements[c.element] = protoElement{protowire.AppendString(protowire.AppendTag(nil, flow.NumberElementName, protowire.BytesType), el.Name), el.Type}
		case generated:
			end := &ends[c.end]
			number, _ := flow.AttrNumber(c.attr)
			a := protoAttr{number: end.base + protowire.Number(number), attr: c.attr}
			if c.attr >= flow.AttrLabel {
				a.key = protowire.AppendString(protowire.AppendTag(nil, mapKey, protowire.BytesType), cfg.Labels[c.attr-flow.AttrLabel].Field)
			}
			end.attrs = append(end.attrs, a)
			end.status = end.status || c.attr == flow.AttrStatus
		case cluster:
			if cfg.Cluster != "" {
				e.cluster = protowire.AppendTag(nil, flow.NumberCluster, protowire.BytesType)
				e.cluster = appendString(e.cluster, cfg.Cluster)
			}
		}
	}
	for _, end := range ends {
		slices.SortStableFunc(end.attrs, func(a, b protoAttr) int { return cmp.Compare(a.number, b.number) })
		switch {
		case len(end.attrs) == 0:
		case end.prefix == nil:
			e.ends = append(e.ends, end)
		default:
			e.others = append(e.others, end)
		}
	}
	slices.SortFunc(e.ends, func(a, b protoEnd) int { return cmp.Compare(a.base, b.base) })
	e.room += len(e.cluster)
	return e, nil
}

// AppendRecord appends the record with its length before it.
func (e *Protobuf) AppendRecord(dst []byte, r *flow.Record) []byte {
	// Most records have 128 to 16383 bytes. Their length takes up two bytes.
	const prefix = 2
	start := len(dst)
	m := &r.Msg
	b := reserve(dst, start, e.room+upstreamSize(m))
	b, n := e.putUpstream(b, start+prefix, m)
	// A message that was read from a pipe keeps the fields that goflow2 does not
	// know. Those that it has are not added again.
	unknown := m.ProtoReflect().GetUnknown()
	for i := range e.ends {
		pe := &e.ends[i]
		end := &r.Ends[pe.end%flow.MaxEnds]
		if end.Object != nil || pe.status {
			b, n = e.putEnd(b, n, pe, end, unknown)
		}
	}
	for i := range e.others {
		pe := &e.others[i]
		end := &r.Ends[pe.end%flow.MaxEnds]
		if end.Object != nil || pe.status {
			b, n = e.putOther(b, n, pe, end, unknown)
		}
	}
	if len(e.cluster) > 0 && !hasField(unknown, flow.NumberCluster) {
		n += copy(b[n:], e.cluster)
	}
	own := n
	b, n = e.putOwn(b, n, r)
	if len(unknown) > 0 {
		n = own + removeFields(b[own:n], unknown)
	}
	b = b[:n]
	if len(r.Extra.Elements) > 0 {
		b = e.appendElements(b, &r.Extra)
	}
	b = append(b, unknown...)

	length := len(b) - start - prefix
	if size := protowire.SizeVarint(uint64(length)); size != prefix {
		b = slices.Grow(b, size)
		b = b[:start+size+length]
		copy(b[start+size:], b[start+prefix:start+prefix+length])
	}
	putVarint(b, start, uint64(length))
	return b
}

// Fields returns the fields of the flow that the encoder writes.
func (e *Protobuf) Fields() flow.FieldSet { return e.fields }

// appendElements appends the elements of the user's list that the record carries.
func (e *Protobuf) appendElements(b []byte, x *flow.Extra) []byte {
	for i := range x.Elements {
		v := &x.Elements[i]
		el := &e.elements[v.Index]
		if el.name == nil {
			continue
		}
		// The value is written first, and its length is known then.
		b = protowire.AppendTag(b, flow.NumberElements, protowire.BytesType)
		start := len(b)
		b = append(b, el.name...)
		b = protowire.AppendTag(b, flow.NumberElementValue, protowire.BytesType)
		if el.typ == flow.ElementString {
			b = appendString(b, v.Value)
		} else {
			at := len(b)
			b = el.typ.Append(b, v.Value)
			b = insertLength(b, at)
		}
		b = insertLength(b, start)
	}
	return b
}

// insertLength puts the length of b[at:] before it.
func insertLength(b []byte, at int) []byte {
	length := len(b) - at
	size := protowire.SizeVarint(uint64(length))
	b = slices.Grow(b, size)[:len(b)+size]
	copy(b[at+size:], b[at:at+length])
	putVarint(b, at, uint64(length))
	return b
}

// appendPacked appends a field that is a list of numbers, unless it is empty.
func appendPacked[T uint32 | upstreampb.FlowMessage_LayerStack](b []byte, number protowire.Number, list []T) []byte {
	if len(list) == 0 {
		return b
	}
	size := 0
	for _, v := range list {
		size += protowire.SizeVarint(uint64(v))
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(size))
	for _, v := range list {
		b = protowire.AppendVarint(b, uint64(v))
	}
	return b
}

// appendEach appends a field for each item of a list.
func appendEach(b []byte, number protowire.Number, list [][]byte) []byte {
	for _, v := range list {
		b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
	}
	return b
}

// putEnd writes what is known of one end.
func (e *Protobuf) putEnd(b []byte, n int, pe *protoEnd, end *flow.End, unknown []byte) ([]byte, int) {
	for i := range pe.attrs {
		a := &pe.attrs[i]
		if !end.Has(a.attr) {
			continue
		}
		v := end.Attr(a.attr) // may be empty though Has is true, see there
		if v == "" || len(unknown) > 0 && hasField(unknown, a.number) {
			continue
		}
		if a.key != nil {
			b = appendEntry(b[:n], a, v)
			n = len(b)
			b = reserve(b, n, e.room)
			continue
		}
		b = reserve(b, n, len(v)+e.room)
		n = putTag(b, n, uint32(a.number), uint32(protowire.BytesType))
		if end.Object == nil || end.Object.Plain() {
			n = putVarint(b, n, uint64(len(v)))
			n += copy(b[n:], v)
			continue
		}
		b = appendString(b[:n], v)
		n = len(b)
		b = reserve(b, n, e.room)
	}
	return b, n
}

// putOther writes what is known of one end as a KubeObject, unless nothing is known.
func (e *Protobuf) putOther(b []byte, n int, pe *protoEnd, end *flow.End, unknown []byte) ([]byte, int) {
	size := len(pe.prefix)
	for i := range pe.attrs {
		a := &pe.attrs[i]
		v := end.Attr(a.attr)
		switch {
		case v == "":
		case a.key != nil:
			size += protowire.SizeTag(a.number) + protowire.SizeBytes(sizeEntry(a, v))
		default:
			size += protowire.SizeTag(a.number) + protowire.SizeBytes(validLen(v))
		}
	}
	if size == len(pe.prefix) || len(unknown) > 0 && hasOther(unknown, pe.prefix) {
		return b, n
	}
	b = protowire.AppendTag(b[:n], flow.NumberOther, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	b = append(b, pe.prefix...)
	for i := range pe.attrs {
		a := &pe.attrs[i]
		v := end.Attr(a.attr)
		switch {
		case v == "":
		case a.key != nil:
			b = appendEntry(b, a, v)
		default:
			b = appendString(protowire.AppendTag(b, a.number, protowire.BytesType), v)
		}
	}
	n = len(b)
	return reserve(b, n, e.room), n
}

// hasField reports whether a message has a field.
func hasField(message []byte, number protowire.Number) bool {
	for len(message) > 0 {
		num, _, n := protowire.ConsumeField(message)
		if n < 0 {
			return false
		}
		if num == number {
			return true
		}
		message = message[n:]
	}
	return false
}

// removeFields removes the fields from part of a message that another part has, and
// returns how long it is then.
func removeFields(part, other []byte) (n int) {
	for at := 0; at < len(part); {
		number, _, size := protowire.ConsumeField(part[at:])
		if size < 0 {
			return n
		}
		if !hasField(other, number) {
			n += copy(part[n:], part[at:at+size])
		}
		at += size
	}
	return n
}

// hasOther reports whether a message has a KubeObject that begins with prefix, an
// encoded field.
func hasOther(message, prefix []byte) bool {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false
		}
		size := protowire.ConsumeFieldValue(num, typ, message[n:])
		if size < 0 {
			return false
		}
		if num == flow.NumberOther && typ == protowire.BytesType {
			object, _ := protowire.ConsumeBytes(message[n:])
			if bytes.HasPrefix(object, prefix) {
				return true
			}
		}
		message = message[n+size:]
	}
	return false
}

// putTag writes a field's number, of at most 18 bits, and its type.
func putTag(b []byte, n int, number, wire uint32) int {
	t := number<<3 | wire
	switch {
	case t < 1<<7:
		b[n] = byte(t)
		return n + 1
	case t < 1<<14:
		binary.LittleEndian.PutUint16(b[n:], uint16(t&0x7f|0x80|t>>7<<8))
		return n + 2
	}
	b[n], b[n+1], b[n+2] = byte(t)|0x80, byte(t>>7)|0x80, byte(t>>14)
	return n + 3
}

// putNumber writes a field that is a number.
func putNumber(b []byte, n int, number uint32, v uint64) int {
	return putVarint(b, putTag(b, n, number, uint32(protowire.VarintType)), v)
}

// putBool writes a field that is true or false, also if it is false.
func putBool(b []byte, n int, number uint32, v bool) int {
	if v {
		return putNumber(b, n, number, 1)
	}
	return putNumber(b, n, number, 0)
}

// putBytes writes a field that is bytes.
func putBytes(b []byte, n int, number uint32, v []byte) int {
	n = putVarint(b, putTag(b, n, number, uint32(protowire.BytesType)), uint64(len(v)))
	return n + copy(b[n:], v)
}

// putVarint writes a number as a base 128 varint.
func putVarint(b []byte, n int, v uint64) int {
	for v >= 0x80 {
		b[n] = byte(v) | 0x80
		v >>= 7
		n++
	}
	b[n] = byte(v)
	return n + 1
}

// sizeEntry returns the size of a label's entry in its map.
func sizeEntry(a *protoAttr, v string) int {
	return len(a.key) + protowire.SizeTag(mapValue) + protowire.SizeBytes(validLen(v))
}

// appendEntry appends a label as an entry of its map.
func appendEntry(b []byte, a *protoAttr, v string) []byte {
	b = protowire.AppendTag(b, a.number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(sizeEntry(a, v)))
	return appendString(protowire.AppendTag(append(b, a.key...), mapValue, protowire.BytesType), v)
}

// appendString appends a string with its length before it. Strings of proto3 are
// UTF-8; bytes that are not become U+FFFD.
func appendString[S []byte | string](b []byte, s S) []byte {
	length := validLen(s)
	b = protowire.AppendVarint(b, uint64(length))
	if length == len(s) {
		return append(b, s...)
	}
	return appendValid(b, s)
}
