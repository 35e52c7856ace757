package collector

import "github.com/netobserv/goflow2-kube-enricher/flow"

// addSubstitutes adds the elements that stand for others, where those are absent or
// 0.
func (c *compiler) addSubstitutes() {
	c.addPrefix(opSrcPrefix, ieSourceIPv4Prefix)
	c.addPrefix(opSrcPrefix, ieSourceIPv6Prefix)
	c.addPrefix(opDstPrefix, ieDestinationIPv4Prefix)
	c.addPrefix(opDstPrefix, ieDestinationIPv6Prefix)
	if i := c.lastOf(ieEthernetType); i >= 0 {
		c.addExtra(extraField{op: opEtype}, int(i))
	}
	c.addPorts(opSrcPort, ieTCPSourcePort, ieUDPSourcePort)
	c.addPorts(opDstPort, ieTCPDestinationPort, ieUDPDestinationPort)
	c.addIfZero(ieIngressPhysicalInterface, flow.FieldInIf)
	c.addIfZero(ieEgressPhysicalInterface, flow.FieldOutIf)
	if i := c.lastOf(ieDot1qVLANID); i >= 0 {
		c.addExtra(extraField{op: opVLANIfZero}, int(i))
	}
	if i := c.lastOf(iePostDot1qVLANID); i >= 0 {
		c.addExtra(extraField{op: opPostVLANIfZero}, int(i))
	}
	if i := c.lastOf(ieIPDiffServCodePoint); i >= 0 {
		c.addExtra(extraField{op: opDSCPIfZero}, int(i))
	}
	if i := c.lastOf(ieIPTTL); i >= 0 {
		x := setField(flow.FieldIPTTL)
		if c.find(ieMinimumTTL) >= 0 {
			x.op = opSetUintIfSet
		}
		c.addExtra(x, int(i))
	}
	if i := c.lastOf(ieLayer2SegmentID); i >= 0 && !c.has(flow.Element{PEN: flow.PENVMware, ID: ovsTunnelKey}) {
		c.addExtra(extraField{op: opLayer2Segment}, int(i))
	}
}

// addPrefix adds a prefix as an address.
func (c *compiler) addPrefix(op extraOp, id uint16) {
	if i := c.lastOf(id); i >= 0 {
		c.direction.extra = append(c.direction.extra, extraField{op: op, index: uint16(i), other: -1})
	}
}

// addPorts adds the ports of TCP and UDP, which have elements of their own.
func (c *compiler) addPorts(op extraOp, tcp, udp uint16) {
	x := extraField{op: op, other: c.lastOf(udp)}
	i := c.lastOf(tcp)
	if i < 0 {
		i = x.other
	}
	if i >= 0 {
		x.index = uint16(i)
		c.direction.extra = append(c.direction.extra, x)
	}
}

// has reports whether the direction has an element.
func (c *compiler) has(e flow.Element) bool {
	for _, el := range c.elements {
		if el.Element == e && !el.skip {
			return true
		}
	}
	return false
}

// port returns the port of a flow from the elements of TCP and of UDP: the one that is
// not 0, else that of the flow's protocol. Without an element of its protocol x.index
// and x.other are the same.
func (x *extraField) port(r *flow.Record, rd *recordDecoder, record []byte) uint32 {
	tcp, udp := number(rd.value(record, int(x.index))), uint64(0)
	if x.other >= 0 {
		udp = number(rd.value(record, int(x.other)))
	}
	if udp != 0 && (tcp == 0 || r.Msg.Proto == flow.ProtoUDP) {
		return uint32(uint16(udp))
	}
	return uint32(uint16(tcp))
}

// setAddrIfUnset sets an address, and the EtherType with it where no other tells one.
func setAddrIfUnset(r *flow.Record, at *[]byte, v []byte) {
	etype := uint32(flow.EtypeIPv4)
	switch len(v) {
	case 4:
	case 16:
		etype = flow.EtypeIPv6
	default:
		return
	}
	if len(*at) > 0 && (!allZero(*at) || allZero(v)) {
		return
	}
	*at = v
	if r.Msg.Etype == 0 || !allZero(v) {
		r.Msg.Etype = etype
	}
}

// setEtype sets the EtherType that the exporter sends, unless addresses show that the
// record is of IP: zeros in the elements of addresses show nothing.
func setEtype(r *flow.Record, v uint32) {
	m := &r.Msg
	if v == 0 || v == m.Etype || m.Etype != 0 && m.Etype != flow.EtypeIPv4 && m.Etype != flow.EtypeIPv6 {
		return
	}
	if allZero(m.SrcAddr) && allZero(m.DstAddr) {
		m.Etype = v
	}
}

// addCounters adds the counters of other elements where the usual ones are absent.
// Where outgoing counters stand beside the usual ones, goflow2 uses the one that
// comes last, which may be the 0 of a direction that was not counted.
func (c *compiler) addCounters() {
	octets := []uint16{ieOctetTotalCount, iePostOctetDeltaCount, ieInitiatorOctets, ieLayer2OctetDeltaCount}
	packets := []uint16{iePacketTotalCount, iePostPacketDeltaCount, ieInitiatorPackets}
	if c.findFirst(ieResponderOctets, ieResponderPackets) >= 0 {
		// The counters of both directions are there, so the others may be sums.
		octets = []uint16{ieInitiatorOctets, ieOctetTotalCount, iePostOctetDeltaCount, ieLayer2OctetDeltaCount}
		packets = []uint16{ieInitiatorPackets, iePacketTotalCount, iePostPacketDeltaCount}
	}
	if c.hasBytes {
		octets = []uint16{iePostOctetDeltaCount, ieInitiatorOctets, ieLayer2OctetDeltaCount}
	}
	if c.hasPackets {
		packets = []uint16{iePostPacketDeltaCount, ieInitiatorPackets}
	}
	c.addCounter(flow.FieldBytes, opBytes, c.hasBytes, octets)
	c.addCounter(flow.FieldPackets, opPackets, c.hasPackets, packets)
}

// addCounter adds the counters that are there, of which the first that is not 0
// counts. has reports whether the usual one is there, which goes first.
func (c *compiler) addCounter(field flow.FieldID, op extraOp, has bool, ids []uint16) {
	for _, id := range ids {
		if i := c.find(id); i >= 0 {
			if !has && id != ieLayer2OctetDeltaCount {
				// goflow2 may have read another one of them.
				c.addExtra(extraField{op: op}, i)
			} else {
				c.addIfZero(id, field)
			}
			has = true
		}
	}
}
