package collector

import (
	"github.com/netsampler/goflow2/v2/decoders/netflow"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Private enterprise numbers of elements that the collector reads.
const (
	penReverse = 29305 // RFC 5103: the element of the other direction
	penVMware  = 6876  // Open vSwitch's tunnel elements
)

// plan turns the records of one shape of template into messages without
// allocating: the fields that goflow2's producer reads are boxed once, over a
// scratch buffer that each record is copied into. It belongs to one worker,
// which uses it for all exporters that send the same shape.
type plan struct {
	tmpl *template // any of that shape

	scratch []byte
	// at holds, per field of the template, where its value is in the record.
	// It is constant unless the template has variable-length fields.
	at []span

	forward direction
	reverse *direction // of an RFC 5103 biflow

	// sampler is the index of the field that names the sampler, or -1.
	sampler int
	// counters are the fields that hold the counters of the other direction.
	counters []uint16
}

// binding is a plan as one exporter's template uses it.
type binding struct {
	*plan
	// generation is the exporter's, from which the rest was taken.
	generation uint64
	tmpl       *template
	rate       uint64 // sampling rate of the domain
	boot       uint64 // boot time in Unix milliseconds that options data told, or 0
}

type span struct{ offset, length int }

// direction is how one record, or one half of a biflow, is read.
type direction struct {
	// fields are what goflow2's producer reads, in the template's order; values
	// alias the plan's scratch buffer, or the datagram where index says so.
	fields []netflow.DataField
	// variable lists the fields whose boxed value must be made for each record.
	variable []boxed
	amend    []amendment
	// hasStart and hasEnd say that the template has times that goflow2 reads.
	hasStart, hasEnd bool
	// openVSwitch says that the template is one of Open vSwitch's.
	openVSwitch bool
}

type boxed struct {
	field uint16 // in direction.fields
	index uint16 // in the template
}

// amendment is one element that goflow2's producer drops and we fill.
type amendment struct {
	op    amendOp
	index uint16 // of the field in the template
	boot  int16  // opStartUptime, opEndUptime: the field with the boot time, or -1
}

type amendOp uint8

const (
	opTTL amendOp = iota
	opEtype
	opFlowDirection
	opBiFlowDirection
	opReverseBiFlowDirection
	opIngressVRF
	opEgressVRF
	opEndReason
	opInIfName
	opOutIfName
	opTunnelType
	opTunnelKey
	opTunnelSrc
	opTunnelDst
	opTunnelProto
	opTunnelSrcPort
	opTunnelDstPort
	opBytes
	opPackets
	opBytesIfZero
	opPacketsIfZero
	opStartUptime
	opEndUptime
	opStartSeconds
	opEndSeconds
	opStartMillis
	opEndMillis
	opStartNTP
	opEndNTP
)

// mapped tells how goflow2's producer reads an IANA element
// (producer/proto/producer_nf.go, ConvertNetFlowDataSet): as a number, which
// it rejects if longer than 8 bytes, as raw bytes, or not at all.
func mapped(version, typ uint16) (number, raw bool) {
	switch typ {
	case 1, 2, 23, 24, 7, 11, 4, 16, 17, 10, 14, 89, 5, 6, 52, 9, 13, 29, 30, 32, 139, 176, 177, 178, 179,
		56, 57, 80, 81, 58, 59, 54, 88, 197, 31, 70, 71, 72, netflow.IPFIX_FIELD_observationPointId:
		return true, false
	case 8, 12, 27, 28, 15, 18, 62, 63, 47, 140, 60:
		return false, true
	}
	switch {
	case version == 9 && (typ == 21 || typ == 22):
		return true, false
	case version == 10 && (typ >= 150 && typ <= 159 || typ == netflow.IPFIX_FIELD_dataLinkFrameSize):
		return true, false
	case version == 10 && typ == netflow.IPFIX_FIELD_dataLinkFrameSection:
		return false, true
	}
	return false, false
}

// keepsWhenEmpty tells of elements that goflow2's producer passes over when
// they have no bytes.
func keepsWhenEmpty(typ uint16) bool {
	switch typ {
	case 8, 12, 27, 28, 60:
		return true
	}
	return false
}

// isNextHop tells of the addresses that goflow2's producer takes over whatever
// they are.
func isNextHop(typ uint16) bool { return typ == 15 || typ == 18 || typ == 62 || typ == 63 }

// element is a field of the template as one direction reads it: IANA element
// typ, or element typ of enterprise pen. skip hides it.
type element struct {
	typ   uint16
	pen   uint32
	index int
	skip  bool
}

func newPlan(t *template) *plan {
	p := &plan{tmpl: t, sampler: -1, at: make([]span, len(t.fields))}
	offset := 0
	elements := make([]element, len(t.fields))
	for i, f := range t.fields {
		elements[i] = element{typ: f.Type, index: i}
		if f.PenProvided {
			elements[i].pen = f.Pen
		} else if f.Type == 48 || f.Type == 302 {
			p.sampler = i
		}
		if !t.variable {
			p.at[i] = span{offset, int(f.Length)}
			offset += int(f.Length)
		}
	}
	// In cache lines of its own: it is written for each record, and other
	// workers' plans may lie beside it.
	const line = 64
	p.scratch = make([]byte, line+t.minLen+line)[line : line+t.minLen : line+t.minLen]
	p.forward = p.direction(elements)
	if rev := reverse(elements); rev != nil {
		d := p.direction(rev)
		for i := range d.amend {
			if d.amend[i].op == opBiFlowDirection {
				d.amend[i].op = opReverseBiFlowDirection
			}
		}
		p.reverse = &d
		for _, el := range elements {
			if el.pen == penReverse && isCounter(el.typ) {
				p.counters = append(p.counters, uint16(el.index))
			}
		}
	}
	return p
}

// direction compiles how the elements are read.
func (p *plan) direction(elements []element) direction {
	var d direction
	version := p.tmpl.key.version
	// slots lays the fixed fields out in the scratch buffer, as the record has
	// them if it has no variable ones.
	slot := make([]int, len(p.tmpl.fields))
	offset := 0
	for i := range p.tmpl.fields {
		slot[i] = offset
		if f := &p.tmpl.fields[i]; f.Length == variableLength {
			offset++
		} else {
			offset += int(f.Length)
		}
	}
	iana := func(typ uint16) int {
		for _, el := range elements {
			if el.pen == 0 && !el.skip && el.typ == typ {
				return el.index
			}
		}
		return -1
	}
	// Of elements that are there several times the last one counts, as with
	// those that goflow2 reads.
	add := func(op amendOp, index int) {
		for i := range d.amend {
			if d.amend[i].op == op {
				d.amend[i].index = uint16(index)
				return
			}
		}
		d.amend = append(d.amend, amendment{op: op, index: uint16(index), boot: -1})
	}
	// What a later field of the same element sets again need not be read, nor an
	// empty address. Else a template of a thousand fields without
	// length would make each byte of data as dear as a thousand fields.
	last := make(map[uint16]int)
	for _, el := range elements {
		if n := p.tmpl.fields[el.index].Length; el.pen == 0 && !el.skip && (n <= 8 || n != variableLength && isNextHop(el.typ)) {
			last[el.typ] = el.index
		}
	}
	hasBytes, hasPackets := iana(1) >= 0, iana(2) >= 0
	names := 0
	for _, el := range elements {
		f := &p.tmpl.fields[el.index]
		isVariable := f.Length == variableLength
		if el.skip {
			continue
		}
		if el.pen == 0 {
			number, raw := mapped(version, el.typ)
			if el.typ == 23 && hasBytes || el.typ == 24 && hasPackets {
				number = false
			}
			if i, ok := last[el.typ]; ok && el.index < i {
				number, raw = false, raw && !isNextHop(el.typ)
			}
			if f.Length == 0 && keepsWhenEmpty(el.typ) {
				raw = false
			}
			if (number && (isVariable || f.Length <= 8)) || raw {
				df := netflow.DataField{Type: el.typ}
				if isVariable {
					d.variable = append(d.variable, boxed{uint16(len(d.fields)), uint16(el.index)})
				} else {
					df.Value = p.scratch[slot[el.index] : slot[el.index]+int(f.Length) : slot[el.index]+int(f.Length)]
				}
				d.fields = append(d.fields, df)
			}
			switch el.typ {
			case 150, 152, 154, 156, 158:
				d.hasStart = d.hasStart || version == 10
			case 151, 153, 155, 157, 159:
				d.hasEnd = d.hasEnd || version == 10
			case 22:
				d.hasStart = d.hasStart || version == 9
			case 21:
				d.hasEnd = d.hasEnd || version == 9
			case 192:
				add(opTTL, el.index)
			case 256:
				if f.Length > 0 {
					add(opEtype, el.index)
				}
			case 61:
				add(opFlowDirection, el.index)
			case 239:
				add(opBiFlowDirection, el.index)
			case 234:
				add(opIngressVRF, el.index)
			case 235:
				add(opEgressVRF, el.index)
			case 136:
				add(opEndReason, el.index)
			case 82:
				// Open vSwitch sends the name twice in the templates of
				// outgoing packets: of the ingress, then of the egress interface.
				if names == 0 {
					add(opInIfName, el.index)
				} else if names == 1 {
					add(opOutIfName, el.index)
				}
				names++
			}
		} else if el.pen == penVMware {
			if op, ok := tunnelOps[el.typ]; ok {
				add(op, el.index)
			}
		}
	}
	// Counters in other elements, where the usual ones are absent. Where
	// outgoing counters stand beside the usual ones, goflow2 takes what comes
	// last, which may be the 0 of a direction that was not counted.
	if !hasBytes {
		if i := firstOf(iana, 85, 23, 231); i >= 0 {
			add(opBytes, i)
		}
	} else if i := iana(23); i >= 0 {
		add(opBytesIfZero, i)
	}
	if !hasPackets {
		if i := firstOf(iana, 86, 24, 298); i >= 0 {
			add(opPackets, i)
		}
	} else if i := iana(24); i >= 0 {
		add(opPacketsIfZero, i)
	}
	d.addTimes(version, iana)
	d.openVSwitch = version == 10 && isOpenVSwitch(elements)
	return d
}

var tunnelOps = map[uint16]amendOp{
	891: opTunnelType, 892: opTunnelKey, 893: opTunnelSrc, 894: opTunnelDst,
	895: opTunnelProto, 896: opTunnelSrcPort, 897: opTunnelDstPort,
}

// addTimes adds the times that goflow2 does not read: absolute ones in v9, and
// those of IPFIX that count from the exporter's boot.
func (d *direction) addTimes(version uint16, iana func(uint16) int) {
	add := func(has *bool, op amendOp, typ uint16) bool {
		i := iana(typ)
		if i >= 0 && !*has {
			d.amend = append(d.amend, amendment{op: op, index: uint16(i), boot: -1})
			*has = true
		}
		return i >= 0
	}
	if version == 9 {
		_ = add(&d.hasStart, opStartMillis, 152) || add(&d.hasStart, opStartSeconds, 150) || add(&d.hasStart, opStartNTP, 154) || add(&d.hasStart, opStartNTP, 156)
		_ = add(&d.hasEnd, opEndMillis, 153) || add(&d.hasEnd, opEndSeconds, 151) || add(&d.hasEnd, opEndNTP, 155) || add(&d.hasEnd, opEndNTP, 157)
		return
	}
	boot := int16(iana(netflow.IPFIX_FIELD_systemInitTimeMilliseconds))
	relative := func(has bool, op amendOp, typ uint16) {
		if i := iana(typ); i >= 0 && !has {
			d.amend = append(d.amend, amendment{op: op, index: uint16(i), boot: boot})
		}
	}
	relative(d.hasStart, opStartUptime, netflow.IPFIX_FIELD_flowStartSysUpTime)
	relative(d.hasEnd, opEndUptime, netflow.IPFIX_FIELD_flowEndSysUpTime)
}

func firstOf(find func(uint16) int, types ...uint16) int {
	for _, t := range types {
		if i := find(t); i >= 0 {
			return i
		}
	}
	return -1
}

func isCounter(typ uint16) bool {
	switch typ {
	case 1, 2, 23, 24, 85, 86, 231, 298:
		return true
	}
	return false
}

// reverse returns the elements of the other direction of an RFC 5103 biflow,
// nil if the template has no reverse counters. Ends, ports and interfaces are
// exchanged; what was measured in the forward direction only is left out.
func reverse(elements []element) []element {
	found := false
	given := make(map[uint16]bool)
	for _, el := range elements {
		if el.pen == penReverse {
			given[el.typ] = true
			found = found || isCounter(el.typ)
		}
	}
	if !found {
		return nil
	}
	rev := make([]element, 0, len(elements))
	for _, el := range elements {
		switch {
		case el.pen == penReverse:
			el.pen = 0
		case el.pen != 0:
			el.skip = true // tunnel of the forward direction
		default:
			if to, ok := exchanged[el.typ]; ok {
				el.typ = to
			} else {
				el.skip = given[el.typ] || isCounter(el.typ) || forwardOnly(el.typ)
			}
		}
		rev = append(rev, el)
	}
	return rev
}

// exchanged pairs the elements of the two ends of a flow.
var exchanged = map[uint16]uint16{
	7: 11, 11: 7, 8: 12, 12: 8, 27: 28, 28: 27, 9: 13, 13: 9, 29: 30, 30: 29, 16: 17, 17: 16,
	10: 14, 14: 10, 56: 80, 80: 56, 81: 57, 57: 81, 58: 59, 59: 58, 234: 235, 235: 234,
}

// forwardOnly tells of elements that say nothing about the other direction.
func forwardOnly(typ uint16) bool {
	switch typ {
	case 5, 6, 15, 18, 62, 63, 31, 52, 54, 55, 61, 82, 83, 88, 192, 195, 197, 70, 71, 72, 47, 140,
		netflow.IPFIX_FIELD_dataLinkFrameSize, netflow.IPFIX_FIELD_dataLinkFrameSection:
		return true
	}
	return false
}

// locate finds the fields of a record at the start of b, and copies the fixed
// ones into the scratch buffer. It returns the record's length, 0 if b does not
// hold a whole record.
func (p *plan) locate(b []byte) int {
	if len(b) < p.tmpl.minLen {
		return 0
	}
	if !p.tmpl.variable {
		copy(p.scratch, b[:p.tmpl.minLen])
		return p.tmpl.minLen
	}
	pos, slot := 0, 0
	for i := range p.tmpl.fields {
		f := &p.tmpl.fields[i]
		prefix, length, ok := nextField(f, b[pos:])
		if !ok {
			return 0
		}
		pos += prefix
		p.at[i] = span{pos, length}
		if prefix == 0 {
			copy(p.scratch[slot:], b[pos:pos+length])
			slot += length
		} else {
			slot++
		}
		pos += length
	}
	return pos
}

// fill makes the message of one direction of the record rec, which locate has
// just been called for.
func (d *direction) fill(r *flow.Record, p *binding, rec []byte, exportTime, uptime uint32) error {
	for _, v := range d.variable {
		s := p.at[v.index]
		value := rec[s.offset : s.offset+s.length : s.offset+s.length]
		if number, _ := mapped(p.plan.tmpl.key.version, d.fields[v.field].Type); number && s.length > 8 {
			value = nil // goflow2 would give up the record
		}
		d.fields[v.field].Value = value
	}
	m := &r.Msg
	if err := protoproducer.ConvertNetFlowDataSet(m, p.plan.tmpl.key.version, exportTime, uptime, d.fields, nil, packetMapper{}); err != nil {
		return err
	}
	r.Extra.HasStart, r.Extra.HasEnd = d.hasStart, d.hasEnd
	for i := range d.amend {
		a := &d.amend[i]
		s := p.at[a.index]
		a.apply(r, p, rec, rec[s.offset:s.offset+s.length])
	}
	if d.openVSwitch {
		r.Extra.Scaled, r.Extra.Duplicate = true, repeatedByOVS(&r.Extra)
	}
	return nil
}

func (a *amendment) apply(r *flow.Record, p *binding, rec, v []byte) {
	m, x := &r.Msg, &r.Extra
	switch a.op {
	case opTTL:
		m.IpTtl = uint32(number(v))
	case opEtype:
		if m.Etype == 0 {
			m.Etype = uint32(number(v))
		}
	case opFlowDirection:
		x.FlowDirection = uint8(number(v))
	case opBiFlowDirection:
		x.BiFlowDirection = uint8(number(v))
	case opReverseBiFlowDirection:
		x.BiFlowDirection = uint8(number(v))
		switch x.BiFlowDirection {
		case 1:
			x.BiFlowDirection = 2
		case 2:
			x.BiFlowDirection = 1
		}
	case opIngressVRF:
		x.IngressVrfID = uint32(number(v))
	case opEgressVRF:
		x.EgressVrfID = uint32(number(v))
	case opEndReason:
		x.FlowEndReason = uint8(number(v))
	case opInIfName:
		x.InIfName = text(v)
	case opOutIfName:
		x.OutIfName = text(v)
	case opTunnelType:
		x.TunnelType = uint8(number(v))
	case opTunnelKey:
		x.TunnelKey = number(v)
	case opTunnelSrc:
		x.TunnelSrcAddr = v
	case opTunnelDst:
		x.TunnelDstAddr = v
	case opTunnelProto:
		x.TunnelProto = uint8(number(v))
	case opTunnelSrcPort:
		x.TunnelSrcPort = uint16(number(v))
	case opTunnelDstPort:
		x.TunnelDstPort = uint16(number(v))
	case opBytes:
		m.Bytes = number(v)
	case opPackets:
		m.Packets = number(v)
	case opBytesIfZero:
		if m.Bytes == 0 {
			m.Bytes = number(v)
		}
	case opPacketsIfZero:
		if m.Packets == 0 {
			m.Packets = number(v)
		}
	case opStartUptime:
		if boot := a.bootTime(p, rec); boot != 0 {
			m.TimeFlowStartNs, x.HasStart = (boot+number(v))*1e6, true
		}
	case opEndUptime:
		if boot := a.bootTime(p, rec); boot != 0 {
			m.TimeFlowEndNs, x.HasEnd = (boot+number(v))*1e6, true
		}
	case opStartSeconds:
		m.TimeFlowStartNs = number(v) * 1e9
	case opEndSeconds:
		m.TimeFlowEndNs = number(v) * 1e9
	case opStartMillis:
		m.TimeFlowStartNs = number(v) * 1e6
	case opEndMillis:
		m.TimeFlowEndNs = number(v) * 1e6
	case opStartNTP:
		m.TimeFlowStartNs = protoproducer.ConvertNTPEpoch(number(v))
	case opEndNTP:
		m.TimeFlowEndNs = protoproducer.ConvertNTPEpoch(number(v))
	}
}

// bootTime returns the exporter's boot in Unix milliseconds: the record's own,
// else what options data said, 0 if it is unknown.
func (a *amendment) bootTime(p *binding, rec []byte) uint64 {
	if a.boot < 0 {
		return p.boot
	}
	s := p.at[a.boot]
	return number(rec[s.offset : s.offset+s.length])
}

// number reads a big-endian number of up to 8 bytes (RFC 7011, 6.2 allows any
// reduced size); longer values give 0.
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

// text cuts the zero bytes that fixed-length strings are padded with.
func text(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}
