package collector

import "github.com/netobserv/goflow2-kube-enricher/flow"

// icmpFromPort takes type and code of an ICMP flow whose exporter sends none from
// its destination port, where Cisco's exporters and others have them: type<<8|code.
// The source port is 0 then. The ports stay as they were sent.
//
// Other exporters have something else there: fprobe an identifier of its own, some of
// Cisco's the bare type. Their ports are of no known type, and tell nothing. A port of
// 0 does not tell an echo reply from nothing at all.
func icmpFromPort(r *flow.Record) {
	m := &r.Msg
	if m.Proto != flow.ProtoICMP && m.Proto != flow.ProtoIPv6ICMP || m.SrcPort != 0 {
		return
	}
	typ, code := m.DstPort>>8, m.DstPort&0xff
	if typ == 0 || flow.IcmpName(m.Proto, typ) == "" {
		return
	}
	m.IcmpType, m.IcmpCode = typ, code
}

// icmpElements are the fields of a template that tell an ICMP type and code of one
// family, -1 where there is none.
type icmpElements struct{ typeCode, typ, code int16 }

func (e *icmpElements) sent() bool { return e.typeCode >= 0 || e.typ >= 0 }

// icmpReader reads ICMP type and code.
type icmpReader struct {
	v4, v6 icmpElements
	// own is set where goflow2 would let the last of several elements win, whatever
	// its value and family.
	own bool
}

// fill sets ICMP type and code of a record whose other fields are set. What was read in
// a section of the packet, as HasICMP tells, stays.
func (e *icmpReader) fill(r *flow.Record, rd *recordDecoder, record []byte) {
	m := &r.Msg
	if e.own && !r.Extra.HasICMP {
		first, second := &e.v4, &e.v6
		if m.Proto == flow.ProtoIPv6ICMP || m.Proto != flow.ProtoICMP && m.Etype == flow.EtypeIPv6 {
			first, second = second, first
		}
		if m.IcmpType, m.IcmpCode = first.read(rd, record); m.IcmpType == 0 && m.IcmpCode == 0 {
			m.IcmpType, m.IcmpCode = second.read(rd, record)
		}
	}
	switch m.Proto {
	case flow.ProtoICMP:
		r.Extra.HasICMP = r.Extra.HasICMP || e.v4.sent()
	case flow.ProtoIPv6ICMP:
		r.Extra.HasICMP = r.Extra.HasICMP || e.v6.sent()
	default:
		return
	}
	// A code alone is none: goflow2 leaves the type 0 then, which is that of an echo reply.
	if !r.Extra.HasICMP && m.IcmpType == 0 {
		icmpFromPort(r)
	}
}

// read returns type and code, of two that are sent those that are not both 0.
func (e *icmpElements) read(rd *recordDecoder, record []byte) (typ, code uint32) {
	if e.typeCode >= 0 {
		if v := uint32(uint16(number(rd.value(record, int(e.typeCode))))); v != 0 {
			return v >> 8, v & 0xff
		}
	}
	if e.typ >= 0 {
		typ = uint32(number(rd.value(record, int(e.typ))))
	}
	if e.code >= 0 {
		code = uint32(number(rd.value(record, int(e.code))))
	}
	return typ, code
}

// addICMP finds the elements that tell ICMP type and code.
func (c *compiler) addICMP() {
	at := c.lastOf
	e := &c.direction.icmp
	e.v4 = icmpElements{at(ieICMPTypeCodeIPv4), at(ieICMPTypeIPv4), at(ieICMPCodeIPv4)}
	e.v6 = icmpElements{at(ieICMPTypeCodeIPv6), at(ieICMPTypeIPv6), at(ieICMPCodeIPv6)}
	sources := 0
	for _, there := range [...]bool{e.v4.typeCode >= 0, e.v4.typ >= 0 || e.v4.code >= 0, e.v6.typeCode >= 0, e.v6.typ >= 0 || e.v6.code >= 0} {
		if there {
			sources++
		}
	}
	e.own = sources > 1
}

// isICMP reports whether an element tells an ICMP type or code.
func isICMP(id uint16) bool {
	switch id {
	case ieICMPTypeCodeIPv4, ieICMPTypeCodeIPv6, ieICMPTypeIPv4, ieICMPCodeIPv4, ieICMPTypeIPv6, ieICMPCodeIPv6:
		return true
	}
	return false
}
