package collector

import (
	"bytes"
	"net"

	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// outerHeader says where a template has the outer header of a tunnel: the first of
// elements that are there twice, whose last is of the packet inside, which is the flow's
// (RFC 7011, 8: the order of several is that of their treatment by the Metering Process;
// for IP in IP the first address is the outer header's). Or it has addresses of both
// families: if both are there, one is of the flow and the other one of the outer header,
// as in SRv6 that carries IPv4. An index is -1 where there is none.
type outerHeader struct {
	src4, dst4, src6, dst6, proto, srcPort, dstPort int
	// addresses are the first and the last field of each address that is there twice.
	addresses [][2]uint16
	// families are the fields with the source and destination of IPv4 and of IPv6, if
	// the template has all of them.
	families *[2][2]uint16
}

// findOuterHeader returns where the template has an outer header, nil if it has none.
func (c *compiler) findOuterHeader() *outerHeader {
	o := &outerHeader{-1, -1, -1, -1, -1, -1, -1, nil, nil}
	seen := [...]struct {
		id          uint16
		first, last int // fields, -1 until there is one
		outer       *int
	}{
		{ieSourceIPv4Address, -1, -1, &o.src4},
		{ieDestinationIPv4Address, -1, -1, &o.dst4},
		{ieSourceIPv6Address, -1, -1, &o.src6},
		{ieDestinationIPv6Address, -1, -1, &o.dst6},
		{ieProtocolIdentifier, -1, -1, &o.proto},
		{ieSourceTransportPort, -1, -1, &o.srcPort},
		{ieDestinationTransportPort, -1, -1, &o.dstPort},
	}
	for _, el := range c.elements {
		if el.PEN != penIANA || el.skip || el.ID > ieDestinationIPv6Address || c.rd.tmpl.fields[el.index].Length == 0 {
			continue
		}
		for i := range seen {
			s := &seen[i]
			if s.id != el.ID {
				continue
			}
			if s.last = el.index; s.first < 0 {
				s.first = el.index
			} else {
				*s.outer = s.first
			}
		}
	}
	for i := range seen[:4] {
		if s := &seen[i]; *s.outer >= 0 {
			o.addresses = append(o.addresses, [2]uint16{uint16(s.first), uint16(s.last)})
		}
	}
	if seen[0].last >= 0 && seen[1].last >= 0 && seen[2].last >= 0 && seen[3].last >= 0 {
		at := func(i int) uint16 { return uint16(c.rd.canonical(seen[i].last)) }
		o.families = &[2][2]uint16{{at(0), at(1)}, {at(2), at(3)}}
	}
	if o.addresses == nil && o.families == nil {
		return nil
	}
	return o
}

// inTunnel reports whether the addresses that come twice are there twice, and differ.
func (o *outerHeader) inTunnel(rd *recordDecoder, record []byte) bool {
	for _, pair := range o.addresses {
		first, last := rd.value(record, int(pair[0])), rd.value(record, int(pair[1]))
		if !allZero(first) && !allZero(last) && !bytes.Equal(first, last) {
			return true
		}
	}
	return false
}

// fill sets the fields of the tunnel. The addresses of the flow are set already: where
// they are the same, there is no tunnel, and an exporter sends its elements twice.
func (o *outerHeader) fill(r *flow.Record, rd *recordDecoder, record []byte) {
	value := func(i int) []byte {
		if i < 0 {
			return nil
		}
		return rd.value(record, i)
	}
	address := func(i4, i6 int) []byte {
		if v := value(i4); len(v) == 4 && !allZero(v) {
			return v
		}
		if v := value(i6); len(v) == 16 && !allZero(v) {
			return v
		}
		return nil
	}
	src, dst := address(o.src4, o.src6), address(o.dst4, o.dst6)
	if (src == nil || bytes.Equal(src, r.Msg.SrcAddr)) && (dst == nil || bytes.Equal(dst, r.Msg.DstAddr)) {
		if src, dst = o.ofOtherFamily(&r.Msg, rd, record); src == nil {
			return
		}
	}
	x := &r.Extra
	x.TunnelSrcAddr, x.TunnelDstAddr = src, dst
	if o.proto >= 0 {
		r.SetUint(flow.FieldTunnelProto, number(value(o.proto)))
	}
	if o.srcPort >= 0 {
		r.SetUint(flow.FieldTunnelSrcPort, number(value(o.srcPort)))
	}
	if o.dstPort >= 0 {
		r.SetUint(flow.FieldTunnelDstPort, number(value(o.dstPort)))
	}
}

// ofOtherFamily returns the addresses of the family that the flow is not of, nil unless
// both are there. IPv4 that is mapped into IPv6 is the same address.
func (o *outerHeader) ofOtherFamily(m *protoproducer.ProtoProducerMessage, rd *recordDecoder, record []byte) (src, dst []byte) {
	if o.families == nil {
		return nil, nil
	}
	other := o.families[0]
	if len(m.SrcAddr) == net.IPv4len {
		other = o.families[1]
	}
	src, dst = rd.value(record, int(other[0])), rd.value(record, int(other[1]))
	if allZero(src) || allZero(dst) || len(src) == len(m.SrcAddr) || allZero(m.SrcAddr) && allZero(m.DstAddr) || isMapped(src) || isMapped(dst) {
		return nil, nil
	}
	return src, dst
}

// isMapped reports whether an address is an IPv4 address in IPv6 (RFC 4291, 2.5.5.2).
func isMapped(b []byte) bool {
	return len(b) == net.IPv6len && allZero(b[:10]) && b[10] == 0xff && b[11] == 0xff
}
