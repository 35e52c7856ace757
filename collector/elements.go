package collector

import (
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Private enterprise numbers of elements that the collector treats by themselves
// (https://www.iana.org/assignments/enterprise-numbers). 0 stands for IANA's own
// elements.
const (
	penIANA    = 0
	penReverse = 29305 // RFC 5103, 6.1: the element of the other direction
)

// IANA's information elements (https://www.iana.org/assignments/ipfix) by their
// names there, as far as the collector treats them by themselves. NetFlow v9 has the
// same numbers up to 127 (RFC 3954, 8). An element that only maps to a field is a
// row of the table in flow/field.go and needs no name here.
const (
	ieOctetDeltaCount             = 1
	iePacketDeltaCount            = 2
	ieProtocolIdentifier          = 4
	ieIPClassOfService            = 5
	ieTCPControlBits              = 6
	ieSourceTransportPort         = 7
	ieSourceIPv4Address           = 8
	ieSourceIPv4PrefixLength      = 9
	ieIngressInterface            = 10
	ieDestinationTransportPort    = 11
	ieDestinationIPv4Address      = 12
	ieDestinationIPv4PrefixLen    = 13
	ieEgressInterface             = 14
	ieIPNextHopIPv4Address        = 15
	ieBGPSourceASNumber           = 16
	ieBGPDestinationASNumber      = 17
	ieBGPNextHopIPv4Address       = 18
	ieFlowEndSysUpTime            = 21
	ieFlowStartSysUpTime          = 22
	iePostOctetDeltaCount         = 23
	iePostPacketDeltaCount        = 24
	ieSourceIPv6Address           = 27
	ieDestinationIPv6Address      = 28
	ieSourceIPv6PrefixLength      = 29
	ieDestinationIPv6PrefixLen    = 30
	ieFlowLabelIPv6               = 31
	ieICMPTypeCodeIPv4            = 32
	ieSamplingInterval            = 34
	ieSourceIPv4Prefix            = 44
	ieDestinationIPv4Prefix       = 45
	ieMPLSTopLabelIPv4Address     = 47
	ieSamplerID                   = 48
	ieSamplerRandomInterval       = 50
	ieMinimumTTL                  = 52
	ieFragmentIdentification      = 54
	iePostIPClassOfService        = 55
	ieSourceMacAddress            = 56
	iePostDestinationMacAddress   = 57
	ieVlanID                      = 58
	iePostVlanID                  = 59
	ieIPVersion                   = 60
	ieFlowDirection               = 61
	ieIPNextHopIPv6Address        = 62
	ieBGPNextHopIPv6Address       = 63
	ieMPLSTopLabelStackSection    = 70
	ieMPLSLabelStackSection2      = 71
	ieMPLSLabelStackSection3      = 72
	ieMPLSLabelStackSection10     = 79
	ieDestinationMacAddress       = 80
	iePostSourceMacAddress        = 81
	ieInterfaceName               = 82
	ieInterfaceDescription        = 83
	ieOctetTotalCount             = 85
	iePacketTotalCount            = 86
	ieFragmentOffset              = 88
	ieForwardingStatus            = 89
	ieApplicationDescription      = 94
	ieApplicationID               = 95
	ieApplicationName             = 96
	ieObservationPointID          = 138
	ieICMPTypeCodeIPv6            = 139
	ieMPLSTopLabelIPv6Address     = 140
	ieExportingProcessID          = 144
	ieObservationDomainID         = 149
	ieFlowStartSeconds            = 150
	ieFlowEndSeconds              = 151
	ieFlowStartMilliseconds       = 152
	ieFlowEndMilliseconds         = 153
	ieFlowStartMicroseconds       = 154
	ieFlowEndMicroseconds         = 155
	ieFlowStartNanoseconds        = 156
	ieFlowEndNanoseconds          = 157
	ieFlowStartDeltaMicroseconds  = 158
	ieFlowEndDeltaMicroseconds    = 159
	ieSystemInitTimeMilliseconds  = 160
	ieFlowDurationMilliseconds    = 161
	ieFlowDurationMicroseconds    = 162
	ieDestinationIPv6Prefix       = 169
	ieSourceIPv6Prefix            = 170
	ieICMPTypeIPv4                = 176
	ieICMPCodeIPv4                = 177
	ieICMPTypeIPv6                = 178
	ieICMPCodeIPv6                = 179
	ieUDPSourcePort               = 180
	ieUDPDestinationPort          = 181
	ieTCPSourcePort               = 182
	ieTCPDestinationPort          = 183
	ieIPTTL                       = 192
	ieIPDiffServCodePoint         = 195
	ieFragmentFlags               = 197
	iePaddingOctets               = 210
	iePostNATSourceIPv4Address    = 225
	iePostNATDestIPv4Address      = 226
	iePostNAPTSourcePort          = 227
	iePostNAPTDestinationPort     = 228
	ieInitiatorOctets             = 231
	ieResponderOctets             = 232
	ieIngressVRFID                = 234
	ieEgressVRFID                 = 235
	ieVRFName                     = 236
	ieEthernetHeaderLength        = 240
	ieDot1qVLANID                 = 243
	ieDot1qCustomerVLANID         = 245
	ieIngressPhysicalInterface    = 252
	ieEgressPhysicalInterface     = 253
	iePostDot1qVLANID             = 254
	iePostDot1qCustomerVLANID     = 255
	ieEthernetType                = 256
	iePostNATSourceIPv6Address    = 281
	iePostNATDestIPv6Address      = 282
	ieInitiatorPackets            = 298
	ieResponderPackets            = 299
	ieSelectionSequenceID         = 301
	ieSelectorID                  = 302
	ieSelectorAlgorithm           = 304
	ieSamplingPacketInterval      = 305
	ieSamplingPacketSpace         = 306
	ieSamplingSize                = 309
	ieSamplingPopulation          = 310
	ieSamplingProbability         = 311
	ieDataLinkFrameSize           = 312
	ieIPHeaderPacketSection       = 313
	ieDataLinkFrameSection        = 315
	ieObservationTimeSeconds      = 322
	ieObservationTimeMilliseconds = 323
	ieObservationTimeMicroseconds = 324
	ieObservationTimeNanoseconds  = 325
	ieLayer2SegmentID             = 351
	ieLayer2OctetDeltaCount       = 352
)

// ovsTunnelKey is Open vSwitch's element for the key of a tunnel
// (ofproto/ipfix-enterprise-entities.def).
const ovsTunnelKey = 892

// Elements that the Cisco ASA sends in NetFlow v9, where numbers are not IANA's alone
// (Cisco Secure Firewall ASA NetFlow Implementation Guide).
const (
	asaXlateSourceAddress   = 40001
	asaXlateDestinationAddr = 40002
	asaXlateSourcePort      = 40003
	asaXlateDestinationPort = 40004
)

// setField returns the extra field that sets a field of the record to the value of
// one element.
func setField(id flow.FieldID) extraField { return fieldSetters[id] }

var fieldSetters = func() (setters [len(flow.Fields)]extraField) {
	for i := range setters {
		id := flow.FieldID(i)
		x := extraField{field: id}
		switch flow.Fields[id].Kind {
		case flow.KindAddr:
			x.op = opSetAddr
		case flow.KindText:
			x.op = opSetText
		default:
			x.op = opSetUint
			// A number that is too long for the field loses its upper bytes, as in
			// goflow2. SetUint would set the largest number instead, which is the mask.
			var r flow.Record
			r.SetUint(id, ^uint64(0))
			x.mask = r.Uint(id)
		}
		setters[i] = x
	}
	return setters
}()

// textPairs are the extra fields for texts of which the template may have two, the
// first for the ingress side and the second for the egress side.
var textPairs = map[uint16][2]extraField{
	ieInterfaceName:        {setField(flow.FieldInIfName), setField(flow.FieldOutIfName)},
	ieInterfaceDescription: {setField(flow.FieldInIfDescription), setField(flow.FieldOutIfDescription)},
	ieVRFName:              {setField(flow.FieldIngressVrfName), setField(flow.FieldEgressVrfName)},
}

// setOneOf returns the extra field that sets a field which several elements may fill.
// Exporters send zeros in those that they have no value for.
func setOneOf(f *flow.Field, e flow.Element) extraField {
	x := setField(f.ID)
	x.variant = uint8(1 + slices.Index(f.Elements, e))
	switch x.op {
	case opSetAddr:
		x.op = opSetAddrUnlessZero
	case opSetUint:
		x.op = opSetUintUnlessZero
	}
	return x
}

// readByGoflow2 reports how goflow2's producer reads an IANA element
// (producer/proto/producer_nf.go, ConvertNetFlowDataSet): as a number, which it
// rejects if longer than 8 bytes, as raw bytes, or not at all. What the collector reads
// in its place is left out: label stacks, sections of frames and, in NetFlow v9, times
// by uptime.
func readByGoflow2(version, id uint16) (number, raw bool) {
	switch id {
	case ieOctetDeltaCount, iePacketDeltaCount, iePostOctetDeltaCount, iePostPacketDeltaCount,
		ieSourceTransportPort, ieDestinationTransportPort, ieProtocolIdentifier,
		ieBGPSourceASNumber, ieBGPDestinationASNumber, ieIngressInterface, ieEgressInterface,
		ieForwardingStatus, ieIPClassOfService, ieTCPControlBits, ieMinimumTTL,
		ieSourceIPv4PrefixLength, ieDestinationIPv4PrefixLen, ieSourceIPv6PrefixLength, ieDestinationIPv6PrefixLen,
		ieICMPTypeCodeIPv4, ieICMPTypeCodeIPv6, ieICMPTypeIPv4, ieICMPCodeIPv4, ieICMPTypeIPv6, ieICMPCodeIPv6,
		ieSourceMacAddress, iePostDestinationMacAddress, ieDestinationMacAddress, iePostSourceMacAddress,
		ieVlanID, iePostVlanID, ieFragmentIdentification, ieFragmentOffset, ieFragmentFlags, ieFlowLabelIPv6,
		ieObservationPointID:
		return true, false
	case ieSourceIPv4Address, ieDestinationIPv4Address, ieSourceIPv6Address, ieDestinationIPv6Address,
		ieIPNextHopIPv4Address, ieBGPNextHopIPv4Address, ieIPNextHopIPv6Address, ieBGPNextHopIPv6Address,
		ieMPLSTopLabelIPv4Address, ieMPLSTopLabelIPv6Address, ieIPVersion:
		return false, true
	}
	return version == 10 && (id >= ieFlowStartSeconds && id <= ieFlowEndDeltaMicroseconds || id == ieDataLinkFrameSize), false
}

// isNextHop reports whether an element is one of the addresses that goflow2's
// producer copies whatever they are.
func isNextHop(id uint16) bool {
	switch id {
	case ieIPNextHopIPv4Address, ieBGPNextHopIPv4Address, ieIPNextHopIPv6Address, ieBGPNextHopIPv6Address:
		return true
	}
	return false
}

// isCounter reports whether an element counts bytes or packets.
func isCounter(id uint16) bool {
	switch id {
	case ieOctetDeltaCount, iePacketDeltaCount, iePostOctetDeltaCount, iePostPacketDeltaCount,
		ieOctetTotalCount, iePacketTotalCount, ieInitiatorOctets, ieInitiatorPackets, ieResponderOctets, ieResponderPackets,
		ieLayer2OctetDeltaCount:
		return true
	}
	return false
}

// goflow2Time reports whether an element is a time from which goflow2's producer
// computes the start or the end of the flow.
func goflow2Time(version, id uint16) (start, end bool) {
	switch id {
	case ieFlowStartSeconds, ieFlowStartMilliseconds, ieFlowStartMicroseconds, ieFlowStartNanoseconds, ieFlowStartDeltaMicroseconds:
		return version == 10, false
	case ieFlowEndSeconds, ieFlowEndMilliseconds, ieFlowEndMicroseconds, ieFlowEndNanoseconds, ieFlowEndDeltaMicroseconds:
		return false, version == 10
	}
	return false, false
}
