package collector

import (
	"bytes"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// outerHeader says where a template has elements twice: first those of the outer header
// of a tunnel, then those of the packet inside, which are the flow's (RFC 7011, 8: the
// order of several is that of their treatment by the Metering Process; for IP in IP
// the first address is the outer header's). An index is -1 where the element is there
// once at most.
type outerHeader struct {
	src4, dst4, src6, dst6, proto, srcPort, dstPort int
}

// findOuterHeader returns where the template has an outer header, nil if it has none.
func (c *compiler) findOuterHeader() *outerHeader {
	o := &outerHeader{-1, -1, -1, -1, -1, -1, -1}
	seen := [...]struct {
		id    uint16
		first int // index of the first one, -1 until then
		outer *int
	}{
		{ieSourceIPv4Address, -1, &o.src4},
		{ieDestinationIPv4Address, -1, &o.dst4},
		{ieSourceIPv6Address, -1, &o.src6},
		{ieDestinationIPv6Address, -1, &o.dst6},
		{ieProtocolIdentifier, -1, &o.proto},
		{ieSourceTransportPort, -1, &o.srcPort},
		{ieDestinationTransportPort, -1, &o.dstPort},
	}
	for _, el := range c.elements {
		if el.PEN != penIANA || el.skip || el.ID > ieDestinationIPv6Address {
			continue
		}
		for i := range seen {
			switch s := &seen[i]; {
			case s.id != el.ID:
			case s.first < 0:
				s.first = el.index
			default:
				*s.outer = s.first
			}
		}
	}
	if o.src4 < 0 && o.dst4 < 0 && o.src6 < 0 && o.dst6 < 0 {
		return nil
	}
	return o
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
		return
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
