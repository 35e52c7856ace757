package collector

import (
	"github.com/netsampler/goflow2/v2/decoders/netflow"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// recordDecoder turns the records of one shape of template into messages without
// allocating. The fields that goflow2's producer reads are boxed once, over a
// scratch buffer that each record is copied into. A recordDecoder belongs to one
// worker, which uses it for all exporters that send the same shape.
type recordDecoder struct {
	tmpl template // any of that shape; zero once the record decoder was evicted

	lastUsed int64 // Unix nanoseconds
	bytes    int   // of decodersBudget

	scratch []byte
	// at holds, per field of the template, where its value is in the record.
	// It is constant unless the template has variable-length fields. Behind them are
	// the values that count of repeats, for each record.
	at      []valueBounds
	repeats []repeatedElement
	// canonicalAt leads from the fields of repeats to the value that counts; it is 0 for
	// other fields. It is nil if there are no repeats, and once the record decoder is made.
	canonicalAt []uint16

	forward direction
	reverse *direction // of an RFC 5103 biflow

	// sampler and sequence are the indexes of the fields with the ids of the sampler
	// and of the selection sequence, or -1.
	sampler, sequence int
	// physical are those of the physical interfaces, in and out, or -1.
	physical [2]int16
	// application is the index of the field with the application's id, valid where a
	// direction names it. applicationID has room for its text.
	application   int
	applicationID []byte
	// elementValues has room for the elements of the user's list.
	elementValues []flow.ElementValue
	// hasNames reports whether the template is one of options data with names.
	hasNames bool
	// reverseCounters are the fields that hold the counters of the other direction.
	reverseCounters []uint16
	// rate has the fields with the sampling rate, nil if there are none.
	rate *rateElements
	mpls [numMPLSSections]uint32 // the label stack of a record
}

type valueBounds struct{ offset, length int }

// direction says how one record, or one direction of a biflow, is read.
type direction struct {
	// fields are what goflow2's producer reads, in the template's order. Values
	// alias the scratch buffer, or the datagram for those that variable lists.
	fields []netflow.DataField
	// variable lists the fields whose boxed value must be made for each record.
	variable []variableField
	extra    []extraField
	// choices are the targets that the template has several elements for.
	// needsFamily reports whether they depend on the family of the flow, and mixed
	// whether the template has addresses of both families.
	choices            []choice
	family             familyReader
	needsFamily, mixed bool
	icmp               icmpReader
	mpls               []uint16 // sections of the label stack, from the top
	// hasStart and hasEnd report whether the template has times that goflow2 reads.
	hasStart, hasEnd bool
	hasDirection     bool // the template has IE 61
	// elements are the fields with elements of the user's list.
	elements []elementField
	// outer is where the template has the outer header of a tunnel, nil if it has none.
	outer *outerHeader
	// names says which numbers options data may give a name to.
	names naming
	// openVSwitch reports whether the template is one of Open vSwitch's.
	openVSwitch bool
	// sections reports whether the template has the beginnings of packets.
	sections bool
}

type variableField struct {
	field uint16 // in direction.fields
	index uint16 // in the template
}

// extraField fills in one element that goflow2's producer does not read.
type extraField struct {
	op    extraOp
	field flow.FieldID // of opSet...
	index uint16       // of the element in the template
	// other is a second element, or -1: the boot time of opStartUptime and opEndUptime,
	// the port of UDP of opSrcPort and opDstPort.
	other   int16
	variant uint8  // opSet...UnlessZero: which of the elements that may fill the field
	mask    uint64 // opSetUint...: the largest number that the field can hold
}

type extraOp uint8

const (
	opSetUint extraOp = iota
	opSetUintIfZero
	opSetUintIfSet // unless the value is 0
	opSetAddr
	opSetText
	opSetUintUnlessZero
	opSetAddrUnlessZero
	opApplicationID
	opReverseBiflowDirection
	opSrcPrefix
	opDstPrefix
	opEtype
	opSrcPort
	opDstPort
	opVLANIfZero
	opPostVLANIfZero
	opDSCPIfZero
	opLayer2Segment
	opBytes
	opPackets
	opFrameSection
	opIPSection
	// The times are last.
	opStartUptime
	opEndUptime
	opStartSeconds
	opEndSeconds
	opStartMillis
	opEndMillis
	opStartNTP
	opEndNTP
	opDurationMillis
	opDurationMicros
	opObservedSeconds
	opObservedMillis
	opObservedNTP
	numExtraOps
)

// decodeRecords decodes the records of a data set. It returns false if the set
// ends with something else.
func (d *Decoder) decodeRecords(t *templateBinding, b []byte, h *header) bool {
	// The bytes after the last one that is not 0 are padding, or the tail of zeros
	// that some exporters fill their datagrams with, if no record reaches into them.
	tail := len(b)
	for tail > 0 && b[tail-1] == 0 {
		tail--
	}
	before := d.recordCount.Data
	if tail == 0 && t.tmpl.options {
		tail = 1 // options data may say 0 of system 0: sampling is off
	}
	steps.Add(len(b) - tail)
	for len(b) >= t.tmpl.minLen && tail > 0 {
		steps.Add(1)
		n := t.locate(b)
		if n == 0 {
			return false
		}
		if t.tmpl.options {
			d.decodeOptions(t, b[:n])
			d.recordCount.Options++
		} else {
			d.decodeRecord(t, b[:n], h)
			d.recordCount.Data++
		}
		b, tail = b[n:], tail-n
	}
	if d.recordCount.Data != before {
		d.peer.markUsed()
	}
	return true
}

// locate finds the fields of a record at the start of b, and copies the fixed
// ones into the scratch buffer. It returns the record's length, 0 if b does not
// hold a whole record.
func (rd *recordDecoder) locate(b []byte) int {
	if len(b) < rd.tmpl.minLen {
		return 0
	}
	if !rd.tmpl.variable {
		steps.Copied(rd.tmpl.minLen)
		copy(rd.scratch, b[:rd.tmpl.minLen])
		return rd.tmpl.minLen
	}
	pos, slot := 0, 0
	steps.Add(len(rd.tmpl.fields))
	for i := range rd.tmpl.fields {
		f := &rd.tmpl.fields[i]
		prefix, length, ok := nextField(f, b[pos:])
		if !ok {
			return 0
		}
		pos += prefix
		rd.at[i] = valueBounds{pos, length}
		if prefix == 0 {
			steps.Copied(length)
			copy(rd.scratch[slot:], b[pos:pos+length])
			slot += length
		} else {
			slot++
		}
		pos += length
	}
	return pos
}

// value returns the value of a field of the record that locate was called for
// last. It aliases the record.
func (rd *recordDecoder) value(record []byte, field int) []byte {
	at := rd.at[field]
	return record[at.offset : at.offset+at.length]
}

// decodeRecord emits a record, and the other direction of a biflow as one more.
func (d *Decoder) decodeRecord(t *templateBinding, b []byte, h *header) {
	if len(t.repeats) > 0 {
		t.resolveRepeats(b)
	}
	d.emitDirection(t, &t.forward, b, h)
	if t.reverse != nil && t.hasReverse(b) {
		d.emitDirection(t, t.reverse, b, h)
	}
}

func (d *Decoder) emitDirection(t *templateBinding, dir *direction, b []byte, h *header) {
	d.rec.Reset()
	steps.Add(steps.Record + len(dir.variable)*steps.Allocation/2 + len(dir.fields) + len(dir.extra) + len(dir.elements) + len(dir.mpls))
	if err := dir.fill(&d.rec, &d.headers, t, b, h); err != nil {
		// goflow2 fails only on numbers of more than 8 bytes, which the record
		// decoder leaves out. Should it fail for another reason, only this record
		// is lost.
		d.metrics.dropSet(setMalformed)
		return
	}
	var announced uint64
	if own := t.rate; own != nil {
		announced = own.of(t.recordDecoder, b)
	}
	rate, ok := d.samplingRate(t, b, announced)
	if !ok {
		d.refuse()
		return
	}
	d.rec.Msg.SamplingRate = rate
	if dir.names != 0 {
		d.addNames(dir.names, t, b, h.domain)
	}
	d.rec.Msg.ObservationDomainId = h.domain
	d.emit(h.proto, h.sequence, d.peer.address)
}

// fill makes the message of one direction of a record, which locate has just been
// called for. The message aliases the record and the scratch buffer.
func (d *direction) fill(r *flow.Record, headers *headerReader, t *templateBinding, record []byte, h *header) error {
	version := t.tmpl.key.version
	for _, v := range d.variable {
		at := t.at[v.index]
		value := record[at.offset : at.offset+at.length : at.offset+at.length]
		if number, _ := readByGoflow2(version, d.fields[v.field].Type); number && at.length > 8 {
			value = nil // goflow2 would reject the record
		}
		d.fields[v.field].Value = value
	}
	var f family
	if d.needsFamily {
		f = d.family.of(t.recordDecoder, record)
	}
	if len(d.choices) > 0 {
		d.choose(t.recordDecoder, record, f)
	}
	m := &r.Msg
	if err := protoproducer.ConvertNetFlowDataSet(m, version, h.exportTime, h.uptime, d.fields, nil, nil); err != nil {
		return err
	}
	if d.mixed {
		m.Etype = f.etype()
	}
	if len(d.mpls) > 0 {
		m.MplsLabel = t.labels(d.mpls, record)
	}
	if d.sections {
		headers.begin(m)
	}
	r.Extra.HasStart, r.Extra.HasEnd, r.Extra.HasDirection = d.hasStart, d.hasEnd, d.hasDirection
	for i := range d.extra {
		x := &d.extra[i]
		v := t.value(record, int(x.index))
		switch {
		case x.op == opSetUint: // the most frequent one
			r.SetUint(x.field, number(v)&x.mask)
		case x.op == opFrameSection:
			headers.frameSection(v)
		case x.op == opIPSection:
			headers.ipSection(v)
		case x.op >= opStartUptime:
			x.applyTime(r, t, record, v, h)
		default:
			x.apply(r, t, record, v)
		}
	}
	if d.sections {
		headers.end()
		r.Extra.HasICMP = headers.icmp
	}
	if m.VlanId|m.SrcVlan|m.DstVlan > vlanMask {
		m.VlanId, m.SrcVlan, m.DstVlan = m.VlanId&vlanMask, m.SrcVlan&vlanMask, m.DstVlan&vlanMask
	}
	if d.icmp.own || m.Proto == flow.ProtoICMP || m.Proto == flow.ProtoIPv6ICMP {
		d.icmp.fill(r, t.recordDecoder, record)
	}
	if len(d.elements) > 0 {
		r.Extra.Elements = d.readElements(t.recordDecoder, record)
	}
	if d.outer != nil {
		d.outer.fill(r, t.recordDecoder, record)
	}
	if d.openVSwitch {
		classifyOVSRecord(r)
	}
	return nil
}

// apply sets what the element's value v is for, except for opSetUint, times and the
// sections of packets.
func (x *extraField) apply(r *flow.Record, t *templateBinding, record, v []byte) {
	m := &r.Msg
	switch x.op {
	case opSetUintIfZero:
		if r.Uint(x.field) == 0 {
			r.SetUint(x.field, number(v)&x.mask)
		}
	case opSetUintIfSet:
		if n := number(v) & x.mask; n != 0 {
			r.SetUint(x.field, n)
		}
	case opSetAddr:
		r.SetBytes(x.field, v)
	case opSetText:
		r.SetBytes(x.field, text(v))
	case opSetUintUnlessZero:
		if n := number(v) & x.mask; n != 0 {
			r.SetUint(x.field, n)
		}
	case opSetAddrUnlessZero:
		setAddrUnlessZero(r, x.field, v)
	case opApplicationID:
		t.applicationID = appendApplicationID(t.applicationID[:0], v)
		r.Extra.ApplicationID = t.applicationID
	case opReverseBiflowDirection:
		r.Extra.BiFlowDirection = oppositeBiflowDirection(uint8(number(v)))
	case opSrcPrefix:
		setAddrIfUnset(r, &m.SrcAddr, v)
	case opDstPrefix:
		setAddrIfUnset(r, &m.DstAddr, v)
	case opEtype:
		setEtype(r, uint32(number(v)))
	case opSrcPort:
		if m.SrcPort == 0 {
			m.SrcPort = x.port(r, t.recordDecoder, record)
		}
	case opDstPort:
		if m.DstPort == 0 {
			m.DstPort = x.port(r, t.recordDecoder, record)
		}
	case opVLANIfZero:
		if m.VlanId&vlanMask == 0 {
			m.VlanId = uint32(number(v))
			m.SrcVlan = m.VlanId
		}
	case opPostVLANIfZero:
		if m.DstVlan&vlanMask == 0 {
			m.DstVlan = uint32(number(v))
		}
	case opDSCPIfZero:
		if m.IpTos == 0 {
			m.IpTos = uint32(number(v)&0x3f) << 2
		}
	case opLayer2Segment:
		// The upper byte is the kind of encapsulation (IANA's description of IE 351).
		r.Extra.TunnelKey = number(v) & 0xffffff
	case opBytes:
		m.Bytes = number(v)
	case opPackets:
		m.Packets = number(v)
	}
}

// setAddrUnlessZero sets an address of which a record may have several, one for each
// family. A zero never replaces another one. Of two others that of the flow's family
// counts.
func setAddrUnlessZero(r *flow.Record, field flow.FieldID, v []byte) {
	known := r.Bytes(field)
	if len(v) == 0 || len(known) > 0 && (allZero(v) && !allZero(known) || allZero(v) == allZero(known) && len(v) != len(r.Msg.SrcAddr)) {
		return
	}
	r.SetBytes(field, v)
}

// number reads a big-endian number of up to 8 bytes, since RFC 7011, 6.2 allows
// any reduced size. Longer values give 0.
func number(b []byte) uint64 {
	if len(b) > 8 {
		return 0
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// vlanMask has the bits of a VLAN's id; those above are priority and DEI.
const vlanMask = 0xfff

// text returns b without the zero bytes that fixed-length strings are padded with.
func text(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}
