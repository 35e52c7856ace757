package encode

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// OTLPConfig configures an encoder of OpenTelemetry's log records.
type OTLPConfig struct {
	// Fields is the value of -fields; empty is "default".
	Fields string
	// Mapping gives the prefixes of the generated fields, by index of
	// [flow.Record].Ends.
	Mapping []flow.MapEntry
	// Labels lists the labels of -kube.labels. Objects have their values in the same
	// order.
	Labels []flow.Label
	// Elements are those that become fields, by the index in [flow.ElementValue].
	Elements []flow.ExtraElement
}

// OTLP encodes a record as a LogRecord of OpenTelemetry (opentelemetry-proto,
// logs/v1/logs.proto), as a field log_records of ScopeLogs. So any number of records
// one after the other are the end of a ScopeLogs. Fields are attributes; those
// without a value are left out. The time is the flow's start, if the exporter has
// sent one, else that of receipt.
//
// Any number of goroutines may use an encoder. It does not allocate once the buffer
// that it appends to has grown.
type OTLP struct {
	steps    []otlpStep
	elements []flow.ExtraElement
	fields   flow.FieldSet
	// room is an upper bound for all values of bounded length.
	room int
}

// The fields of the messages that are written (opentelemetry-proto v1.11).
const (
	otlpLogRecords = 2  // of ScopeLogs
	otlpTime       = 1  // of LogRecord, fixed64
	otlpObserved   = 11 // of LogRecord, fixed64
	otlpAttribute  = 6  // of LogRecord, a KeyValue
	otlpKeyField   = 1  // of KeyValue
	otlpValueField = 2  // of KeyValue, an AnyValue
	otlpString     = 1  // of AnyValue
	otlpBool       = 2  // of AnyValue
	otlpInt        = 3  // of AnyValue
	otlpArray      = 5  // of AnyValue, an ArrayValue
	otlpItem       = 1  // of ArrayValue, an AnyValue
)

// otlpOp is how a value is written.
type otlpOp uint8

const (
	otlpDefaultNumber otlpOp = iota // one that [numbers] gathers
	otlpNumber
	otlpAddr
	otlpMAC
	otlpText
	otlpName // in lower case, "unknown" for none
	otlpFlag
	otlpList
	otlpAttrValue
	otlpElement
)

// otlpStep writes one attribute.
type otlpStep struct {
	// head is the field key of KeyValue and the tag of its value. It is padded because
	// copying a fixed length takes less time.
	head    [maxOTLPHead]byte
	headLen uint8 // 0 if the key is longer, and in key
	op      otlpOp
	always  bool // also if it is 0
	field   flow.FieldID
	end     uint8 // of a generated field; of an element, its index in the user's list
	attr    flow.Attr
	kind    flow.ValueKind // of a list
	key     []byte         // field key of KeyValue
	kinds   []otlpKind     // of the attribute of a workload
	prefix  string         // of its end, such as "source."
}

// otlpKind writes the name of a workload of one kind.
type otlpKind struct {
	kind string
	step otlpStep
}

// otlpKinds are the kinds whose attributes are made before records come. Pods have
// their attribute anyway.
var otlpKinds = []string{"Deployment", "Service", "DaemonSet", "StatefulSet", "CronJob", "Job", "ReplicaSet", "Node"}

const (
	maxOTLPHead = 48
	// maxOTLPShort bounds the values that are known to fit into a KeyValue of less than
	// 128 bytes, whose length takes one byte.
	maxOTLPShort = 127 - maxOTLPHead - 3
	// otlpPrefix is the room for a record's length. Most have 128 to 16383 bytes.
	otlpPrefix = 2
)

// NewOTLP returns an encoder. Errors begin with the name of the option that is wrong
// (fields, mapping) and say what is possible.
func NewOTLP(cfg OTLPConfig) (*OTLP, error) {
	cols, err := selectColumns(dialectOTLP, cfg.Fields, cfg.Mapping, cfg.Elements, cfg.Labels...)
	if err != nil {
		return nil, err
	}
	e := &OTLP{elements: cfg.Elements, fields: fieldsOf(cols), room: 128}
	for i := range cols {
		c := &cols[i]
		if c.kind == cluster { // an attribute of the resource
			continue
		}
		s := newOTLPStep(c)
		if c.kind == generated && c.attr == flow.AttrWorkload {
			s.prefix = otlpEnd(cfg.Mapping[c.end])
			for _, kind := range otlpKinds {
				s.kinds = append(s.kinds, otlpKind{kind, newOTLPStep(&column{key: s.prefix + kindKey(kind), kind: generated})})
			}
		}
		e.steps = append(e.steps, s)
		e.room += 2 * (len(c.key) + 2*maxPrefix + maxOTLPHead)
	}
	// The name of a node is in records once, whoever has it.
	for i := range e.steps {
		if s := &e.steps[i]; s.kinds != nil && slices.ContainsFunc(e.steps, func(o otlpStep) bool { return o.op == otlpAttrValue && o.end == s.end && o.attr == flow.AttrNode }) {
			s.kinds[len(s.kinds)-1].step.headLen = 0
		}
	}
	return e, nil
}

// kindKey returns the name of the attribute for workloads of a kind.
func kindKey(kind string) string { return "k8s." + strings.ToLower(kind) + ".name" }

// newOTLPStep returns the step of a column.
func newOTLPStep(c *column) otlpStep {
	s := otlpStep{field: c.field, end: uint8(c.end), attr: c.attr}
	s.key = protowire.AppendString(protowire.AppendTag(nil, otlpKeyField, protowire.BytesType), c.key)
	if head := protowire.AppendTag(slices.Clone(s.key), otlpValueField, protowire.BytesType); len(head) <= maxOTLPHead {
		s.headLen = uint8(copy(s.head[:], head))
	}
	f := &flow.Fields[c.field]
	switch {
	case c.kind == generated:
		s.op = otlpAttrValue
		return s
	case c.kind == element:
		s.op, s.end = otlpElement, uint8(c.element)
		return s
	case f.ID == flow.FieldProto || f.ID == flow.FieldEtype:
		s.op = otlpName
	case f.Kind == flow.KindUint && f.Default:
		s.op = otlpDefaultNumber
	default:
		s.op = [...]otlpOp{
			flow.KindUint: otlpNumber, flow.KindAddr: otlpAddr, flow.KindMAC: otlpMAC, flow.KindText: otlpText,
			flow.KindString: otlpName, flow.KindUints: otlpList, flow.KindAddrs: otlpList, flow.KindLayers: otlpList,
			flow.KindBool: otlpFlag,
		}[f.Kind]
	}
	s.always, s.kind = otlpAlways[f.ID], f.Kind
	return s
}

// Fields returns the fields of the flow that the encoder reads.
func (e *OTLP) Fields() flow.FieldSet {
	fields := e.fields
	fields.Add(flow.FieldTimeReceivedNs, flow.FieldTimeFlowStartNs)
	return fields
}

// AppendRecord appends the record as a field of ScopeLogs.
func (e *OTLP) AppendRecord(dst []byte, r *flow.Record) []byte {
	start := len(dst) + 1
	b := reserve(dst, len(dst), e.room)
	b[start-1] = otlpLogRecords<<3 | byte(protowire.BytesType)
	n := start + otlpPrefix
	received := r.Msg.TimeReceivedNs
	at := r.Uint(flow.FieldTimeFlowStartNs)
	if at == 0 {
		at = received
	}
	b[n] = otlpTime<<3 | byte(protowire.Fixed64Type)
	binary.LittleEndian.PutUint64(b[n+1:], at)
	b[n+9] = otlpObserved<<3 | byte(protowire.Fixed64Type)
	binary.LittleEndian.PutUint64(b[n+10:], received)
	n += 18
	var v [numberSlots]uint64
	numbers(&v, r)
	for i := range e.steps {
		s := &e.steps[i]
		if s.op != otlpDefaultNumber || s.headLen == 0 {
			b, n = e.putOther(b, n, s, r)
			continue
		}
		if u := v[s.field%numberSlots]; u != 0 || s.always {
			n = s.putInt(b, n, u)
		}
	}
	b = b[:n]
	length := n - start - otlpPrefix
	if size := protowire.SizeVarint(uint64(length)); size != otlpPrefix {
		b = slices.Grow(b, size)[:start+size+length]
		copy(b[start+size:], b[start+otlpPrefix:start+otlpPrefix+length])
	}
	putVarint(b, start, uint64(length))
	return b
}

// putInt writes an attribute that is a number, whose key is short.
func (s *otlpStep) putInt(b []byte, n int, v uint64) int {
	value := s.begin(b, n)
	b[value] = otlpInt<<3 | byte(protowire.VarintType)
	return s.end1(b, n, putVarint(b, value+1, v))
}

// begin writes the beginning of an attribute at n, whose key is short, and returns
// where its value begins. The caller calls end1 when it is written.
func (s *otlpStep) begin(b []byte, n int) (value int) {
	b[n] = otlpAttribute<<3 | byte(protowire.BytesType)
	*(*[maxOTLPHead]byte)(b[n+2:]) = s.head
	return n + 2 + int(s.headLen) + 1
}

// end1 fills in the lengths of an attribute that begins at n and ends at end. Each is
// less than 128, and so takes one byte.
func (s *otlpStep) end1(b []byte, n, end int) int {
	value := n + 2 + int(s.headLen) + 1
	b[n+1] = byte(end - n - 2)
	b[value-1] = byte(end - value)
	return end
}

// putShort writes an attribute that is a string of at most maxOTLPShort bytes, if the
// key is short, too.
func putShort[S []byte | string](s *otlpStep, b []byte, n int, v S) int {
	at := s.begin(b, n)
	b[at] = otlpString<<3 | byte(protowire.BytesType)
	b[at+1] = byte(len(v))
	return s.end1(b, n, at+2+copy(b[at+2:], v))
}

// putOther writes an attribute that [numbers] does not gather.
func (e *OTLP) putOther(b []byte, n int, s *otlpStep, r *flow.Record) ([]byte, int) {
	var short [maxPrefix + flow.MACLen]byte
	switch s.op {
	case otlpAttrValue:
		return e.putAttr(b, n, s, &r.Ends[s.end%flow.MaxEnds])
	case otlpDefaultNumber, otlpNumber:
		v := r.Uint(s.field)
		if v == 0 && !s.always {
			return b, n
		}
		if s.headLen > 0 {
			return b, s.putInt(b, n, v)
		}
		b, attribute, value := s.open(b[:n])
		b = protowire.AppendVarint(protowire.AppendTag(b, otlpInt, protowire.VarintType), v)
		return e.finish(b, attribute, value)
	case otlpAddr:
		if k := putAddr(short[:], 0, r.Bytes(s.field)); k > 0 {
			return e.putString(b, n, s, short[:k], true)
		}
	case otlpMAC:
		if k := putMAC(short[:], 0, r.Uint(s.field)); k > 0 {
			return e.putString(b, n, s, short[:k], true)
		}
	case otlpName:
		return e.putName(b, n, s, r)
	case otlpText:
		if v := r.Bytes(s.field); len(v) > 0 {
			return e.putString(b, n, s, v, false)
		}
	case otlpFlag:
		b, attribute, value := s.open(b[:n])
		b = protowire.AppendVarint(protowire.AppendTag(b, otlpBool, protowire.VarintType), protowire.EncodeBool(r.Bool(s.field)))
		return e.finish(b, attribute, value)
	case otlpElement:
		return e.putElement(b, n, s, r)
	case otlpList:
		return e.putList(b, n, s, r)
	}
	return b, n
}

// putName writes the name of a value, in lower case as the receiver does.
func (e *OTLP) putName(b []byte, n int, s *otlpStep, r *flow.Record) ([]byte, int) {
	var name string
	switch s.field {
	case flow.FieldProto:
		name = r.Name(flow.FieldProtoName)
	case flow.FieldEtype:
		name = r.Name(flow.FieldEtypeName)
	default:
		name = r.Name(s.field)
	}
	if name == "" {
		if !s.always {
			return b, n
		}
		name = "unknown"
	}
	if !s.always {
		if s.headLen > 0 && len(name) <= maxOTLPShort {
			return b, putShort(s, b, n, name)
		}
		return putLongString(b, n, e.room, s.key, name)
	}
	var lower [maxOTLPShort]byte
	k := copy(lower[:], name)
	for i := range k {
		if c := lower[i]; 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	return e.putString(b, n, s, lower[:k], true)
}

// putString writes an attribute that is a string. plain reports whether it is known to
// be UTF-8.
func (e *OTLP) putString(b []byte, n int, s *otlpStep, v []byte, plain bool) ([]byte, int) {
	if plain && s.headLen > 0 && len(v) <= maxOTLPShort {
		return b, putShort(s, b, n, v)
	}
	return putLongString(b, n, e.room, s.key, v)
}

// putAttr writes what is known of an end.
func (e *OTLP) putAttr(b []byte, n int, s *otlpStep, end *flow.End) ([]byte, int) {
	v := end.Attr(s.attr)
	if v == "" {
		return b, n
	}
	plain := end.Object == nil || end.Object.Plain()
	if s.headLen > 0 && len(v) <= maxOTLPShort && plain {
		n = putShort(s, b, n, v)
	} else {
		b, n = putLongString(b, n, e.room, s.key, v)
	}
	if s.kinds != nil {
		return e.putKind(b, n, s, end, v, plain)
	}
	return b, n
}

// putKind writes the name of a workload again, under its kind.
func (e *OTLP) putKind(b []byte, n int, s *otlpStep, end *flow.End, name string, plain bool) ([]byte, int) {
	kind := end.Object.WorkloadKind
	switch kind {
	case "", "Pod":
		return b, n
	}
	for i := range s.kinds {
		k := &s.kinds[i]
		switch {
		case k.kind != kind:
		case k.step.headLen == 0:
			return b, n
		case plain && len(name) <= maxOTLPShort:
			return b, putShort(&k.step, b, n, name)
		default:
			return putLongString(b, n, e.room, k.step.key, name)
		}
	}
	// Kinds of others are rare, and may have any name.
	b = protowire.AppendTag(b[:n], otlpAttribute, protowire.BytesType)
	attribute := len(b)
	b = protowire.AppendTag(b, otlpKeyField, protowire.BytesType)
	key := len(b)
	b = append(append(b, s.prefix...), "k8s."...)
	name0 := len(b)
	b = appendValid(b, kind)
	for i := name0; i < len(b); i++ {
		if c := b[i]; 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	b = insertLength(append(b, ".name"...), key)
	b = protowire.AppendTag(b, otlpValueField, protowire.BytesType)
	value := len(b)
	b = appendString(protowire.AppendTag(b, otlpString, protowire.BytesType), name)
	b = insertLength(insertLength(b, value), attribute)
	n = len(b)
	return reserve(b, n, e.room), n
}

// putLongString writes an attribute that is a string of any length. The room after it
// is for what follows.
func putLongString[S []byte | string](b []byte, n, room int, key []byte, v S) ([]byte, int) {
	length := validLen(v)
	value := 1 + protowire.SizeVarint(uint64(length)) + length
	b = protowire.AppendTag(b[:n], otlpAttribute, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(key)+1+protowire.SizeVarint(uint64(value))+value))
	b = append(b, key...)
	b = protowire.AppendTag(b, otlpValueField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(value))
	b = protowire.AppendTag(b, otlpString, protowire.BytesType)
	b = appendString(b, v)
	n = len(b)
	return reserve(b, n, room), n
}

// putElement writes an element of the user's list, if the record carries it.
func (e *OTLP) putElement(b []byte, n int, s *otlpStep, r *flow.Record) ([]byte, int) {
	v, ok := r.Extra.Element(int(s.end))
	if !ok {
		return b, n
	}
	b, attribute, value := s.open(b[:n])
	switch typ := e.elements[s.end].Type; typ {
	case flow.ElementUint:
		b = protowire.AppendVarint(protowire.AppendTag(b, otlpInt, protowire.VarintType), flow.BigEndian(v))
	case flow.ElementString:
		b = appendString(protowire.AppendTag(b, otlpString, protowire.BytesType), v)
	default:
		b = protowire.AppendTag(b, otlpString, protowire.BytesType)
		text := len(b)
		b = insertLength(typ.Append(b, v), text)
	}
	return e.finish(b, attribute, value)
}

// open appends an attribute's beginning, for a value that is appended. The caller
// calls finish with the offsets of what has a length before it.
func (s *otlpStep) open(b []byte) (_ []byte, attribute, value int) {
	b = protowire.AppendTag(b, otlpAttribute, protowire.BytesType)
	attribute = len(b)
	b = append(b, s.key...)
	b = protowire.AppendTag(b, otlpValueField, protowire.BytesType)
	return b, attribute, len(b)
}

// finish inserts the lengths of an attribute that open began.
func (e *OTLP) finish(b []byte, attribute, value int) ([]byte, int) {
	b = insertLength(insertLength(b, value), attribute)
	n := len(b)
	return reserve(b, n, e.room), n
}

// putList writes an attribute that is a list, unless it is empty.
func (e *OTLP) putList(b []byte, n int, s *otlpStep, r *flow.Record) ([]byte, int) {
	if len(r.Uints(s.field))+len(r.Addrs(s.field)) == 0 && (s.kind != flow.KindLayers || len(r.Msg.LayerStack) == 0) {
		return b, n
	}
	b, attribute, value := s.open(b[:n])
	b = protowire.AppendTag(b, otlpArray, protowire.BytesType)
	array := len(b)
	switch s.kind {
	case flow.KindUints:
		for _, v := range r.Uints(s.field) {
			b = protowire.AppendVarint(protowire.AppendTag(b, otlpItem, protowire.BytesType), uint64(1+protowire.SizeVarint(uint64(v))))
			b = protowire.AppendVarint(protowire.AppendTag(b, otlpInt, protowire.VarintType), uint64(v))
		}
	case flow.KindAddrs:
		for _, v := range r.Addrs(s.field) {
			var addr [maxPrefix]byte
			b = appendItem(b, addr[:putAddr(addr[:], 0, v)])
		}
	default:
		for _, l := range r.Msg.LayerStack {
			if name, ok := upstreampb.FlowMessage_LayerStack_name[int32(l)]; ok {
				b = appendItem(b, name)
				continue
			}
			var number [maxUint]byte
			b = appendItem(b, strconv.AppendInt(number[:0], int64(l), 10))
		}
	}
	return e.finish(insertLength(b, array), attribute, value)
}

// appendItem appends an item of a list that is a string of less than 126 bytes.
func appendItem[S []byte | string](b []byte, v S) []byte {
	b = append(b, otlpItem<<3|byte(protowire.BytesType), byte(2+len(v)), otlpString<<3|byte(protowire.BytesType), byte(len(v)))
	return append(b, v...)
}
