package collector

import "github.com/netobserv/goflow2-kube-enricher/internal/steps"

// reverseElements returns the elements of the other direction of a biflow, nil if the
// template has no counters of that direction: neither those of RFC 5103 nor a
// responder's. Source and destination are exchanged, and so are initiator and
// responder. What was measured in the forward direction only is left out.
func reverseElements(elements []element) []element {
	found := false
	hasReverse := make(map[uint16]bool)
	for _, el := range elements {
		if el.PEN == penReverse {
			hasReverse[el.ID] = true
		}
		found = found || isReverseCounter(el)
	}
	if !found {
		return nil
	}
	steps.Add(steps.Allocation + 2*steps.Lookup*len(elements))
	rev := make([]element, 0, len(elements))
	for _, el := range elements {
		switch {
		case el.PEN == penReverse:
			el.PEN = penIANA
		case el.PEN != penIANA:
			el.skip = true // the tunnel of the forward direction
		default:
			if to, ok := oppositeElements[el.ID]; ok {
				el.ID = to
			} else {
				el.skip = hasReverse[el.ID] || isCounter(el.ID) || forwardOnly(el.ID)
			}
		}
		rev = append(rev, el)
	}
	return rev
}

// oppositeElements pairs the elements of the two ends of a flow.
var oppositeElements = func() map[uint16]uint16 {
	m := make(map[uint16]uint16)
	for _, pair := range [...][2]uint16{
		{ieSourceTransportPort, ieDestinationTransportPort},
		{ieSourceIPv4Address, ieDestinationIPv4Address},
		{ieSourceIPv6Address, ieDestinationIPv6Address},
		{ieSourceIPv4PrefixLength, ieDestinationIPv4PrefixLen},
		{ieSourceIPv6PrefixLength, ieDestinationIPv6PrefixLen},
		{ieBGPSourceASNumber, ieBGPDestinationASNumber},
		{ieIngressInterface, ieEgressInterface},
		{ieSourceMacAddress, ieDestinationMacAddress},
		{iePostSourceMacAddress, iePostDestinationMacAddress},
		{ieVlanID, iePostVlanID},
		{ieIngressVRFID, ieEgressVRFID},
		{ieSourceIPv4Prefix, ieDestinationIPv4Prefix},
		{ieSourceIPv6Prefix, ieDestinationIPv6Prefix},
		{ieTCPSourcePort, ieTCPDestinationPort},
		{ieUDPSourcePort, ieUDPDestinationPort},
		{iePostNATSourceIPv4Address, iePostNATDestIPv4Address},
		{iePostNATSourceIPv6Address, iePostNATDestIPv6Address},
		{iePostNAPTSourcePort, iePostNAPTDestinationPort},
		{ieIngressPhysicalInterface, ieEgressPhysicalInterface},
		{ieDot1qVLANID, iePostDot1qVLANID},
		{ieDot1qCustomerVLANID, iePostDot1qCustomerVLANID},
		{ieInitiatorOctets, ieResponderOctets},
		{ieInitiatorPackets, ieResponderPackets},
		{asaXlateSourceAddress, asaXlateDestinationAddr},
		{asaXlateSourcePort, asaXlateDestinationPort},
	} {
		m[pair[0]], m[pair[1]] = pair[1], pair[0]
	}
	return m
}()

// isReverseCounter reports whether an element counts bytes or packets of the other
// direction.
func isReverseCounter(el element) bool {
	switch el.PEN {
	case penReverse:
		return isCounter(el.ID)
	case penIANA:
		return el.ID == ieResponderOctets || el.ID == ieResponderPackets
	}
	return false
}

// forwardOnly reports whether an element says nothing about the other direction.
func forwardOnly(id uint16) bool {
	switch id {
	case ieIPClassOfService, ieTCPControlBits, ieFlowLabelIPv6, ieMinimumTTL, ieFragmentIdentification, iePostIPClassOfService,
		ieIPNextHopIPv4Address, ieBGPNextHopIPv4Address, ieIPNextHopIPv6Address, ieBGPNextHopIPv6Address,
		ieFlowDirection, ieInterfaceName, ieInterfaceDescription, ieVRFName, ieFragmentOffset, ieIPTTL, ieIPDiffServCodePoint, ieFragmentFlags,
		ieMPLSTopLabelIPv4Address, ieMPLSTopLabelIPv6Address, ieDataLinkFrameSize, ieIPHeaderPacketSection, ieDataLinkFrameSection:
		return true
	}
	return isICMP(id) || id >= ieMPLSTopLabelStackSection && id <= ieMPLSLabelStackSection10
}

// hasReverse reports whether a biflow counted traffic in the other direction.
func (rd *recordDecoder) hasReverse(b []byte) bool {
	for _, i := range rd.reverseCounters {
		steps.Add(1)
		if number(rd.value(b, int(i))) != 0 {
			return true
		}
	}
	return false
}

// oppositeBiflowDirection exchanges initiator (1) and reverse initiator (2) of
// biflowDirection (RFC 5103, 6.3).
func oppositeBiflowDirection(v uint8) uint8 {
	switch v {
	case 1:
		return 2
	case 2:
		return 1
	}
	return v
}
