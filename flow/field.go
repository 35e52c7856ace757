package flow

import flowpb "github.com/netsampler/goflow2/v2/pb"

// FieldID names one field of a record. Values are indices of [Fields] and may
// change between versions.
type FieldID uint8

// The fields of a record.
const (
	FieldBiFlowDirection FieldID = iota
	FieldBytes
	FieldDstAS
	FieldDstAddr
	FieldDstMac
	FieldDstNet
	FieldDstPort
	FieldDstVlan
	FieldEgressVrfID
	FieldEtype
	FieldEtypeName
	FieldForwardingStatus
	FieldFragmentID
	FieldFragmentOffset
	FieldIPTTL
	FieldIPTos
	FieldIPv6FlowLabel
	FieldIcmpCode
	FieldIcmpName
	FieldIcmpType
	FieldInIf
	FieldIngressVrfID
	FieldNextHop
	FieldNextHopAS
	FieldOutIf
	FieldPackets
	FieldProto
	FieldProtoName
	FieldSamplerAddress
	FieldSamplingRate
	FieldSequenceNum
	FieldSrcAS
	FieldSrcAddr
	FieldSrcMac
	FieldSrcNet
	FieldSrcPort
	FieldSrcVlan
	FieldTCPFlags
	FieldTimeFlowEnd
	FieldTimeFlowStart
	FieldTimeReceived
	FieldType
	FieldVlanID
	FieldASPath
	FieldBgpCommunities
	FieldBgpNextHop
	FieldFlowDirection
	FieldFlowEndReason
	FieldIPFlags
	FieldIPv6RoutingHeaderAddresses
	FieldIPv6RoutingHeaderSegLeft
	FieldInIfName
	FieldLayerSize
	FieldLayerStack
	FieldMplsIP
	FieldMplsLabel
	FieldMplsTTL
	FieldObservationDomainID
	FieldObservationPointID
	FieldOutIfName
	FieldTimeFlowEndNs
	FieldTimeFlowStartNs
	FieldTimeReceivedNs
	FieldTunnelDstAddr
	FieldTunnelDstPort
	FieldTunnelKey
	FieldTunnelProto
	FieldTunnelSrcAddr
	FieldTunnelSrcPort
	FieldTunnelType
	numFields
)

// ValueKind is the shape of a field's value and says which accessor reads it.
type ValueKind uint8

// The kinds of fields.
const (
	KindUint   ValueKind = iota // a number: [Record.Uint]
	KindAddr                    // an IP address of 4 or 16 bytes, none if empty: [Record.Bytes]
	KindMAC                     // a MAC address in the low 48 bits, none if 0: [Record.Uint]
	KindText                    // text from the wire, not to be trusted: [Record.Bytes]
	KindString                  // one of a fixed set of names that need no escaping: [Record.Name]
	KindUints                   // numbers: [Record.Uints]
	KindAddrs                   // addresses: [Record.Addrs]
	KindLayers                  // goflow2's layer names: Record.Msg.LayerStack
)

// Field describes one field of a record.
type Field struct {
	ID    FieldID
	Name  string // in schema v1
	Snake string // in schema v2; empty for what another field says there
	// NetObserv is the name in schema netobserv of a field that is in its default
	// set; others have their Name there.
	NetObserv string
	Number    int32 // in flow.proto, below [NumberGenerated] goflow2's; 0 for what another field says there
	Kind      ValueKind
	Default   bool // written unless -fields says otherwise
	Doc       string
}

// The numbers of fields in flow.proto. Those below NumberGenerated are
// goflow2's.
const (
	NumberGenerated = 2000 // of the prefix src, by Attr
	NumberDst       = 2020 // of the prefix dst, by Attr
	NumberLabels    = 10   // behind the first of a prefix: its labels
	NumberOther     = 2040 // objects of other prefixes
	NumberCluster   = 2041
	NumberOwn       = 2100 // what goflow2 has no fields for
)

// Upstream reports whether goflow2 has the field, too.
func (f *Field) Upstream() bool { return 0 < f.Number && f.Number < NumberGenerated }

// Fields is the one table of fields, indexed by FieldID: the default ones
// first, both groups sorted by name.
var Fields = [numFields]Field{
	{FieldBiFlowDirection, "BiFlowDirection", "bi_flow_direction", "", 2100, KindUint, true, "biflow direction (IE 239)"},
	{FieldBytes, "Bytes", "bytes", "Bytes", 9, KindUint, true, "bytes of the flow or sampled packet; Open vSwitch IPFIX counters are already scaled up by the sampling rate, sFlow's are not"},
	{FieldDstAS, "DstAS", "dst_as", "", 15, KindUint, true, "destination autonomous system"},
	{FieldDstAddr, "DstAddr", "dst_addr", "DstAddr", 7, KindAddr, true, "destination address"},
	{FieldDstMac, "DstMac", "dst_mac", "DstMac", 28, KindMAC, true, "destination MAC address"},
	{FieldDstNet, "DstNet", "dst_net", "", 17, KindUint, true, "destination prefix length"},
	{FieldDstPort, "DstPort", "dst_port", "DstPort", 22, KindUint, true, "destination port"},
	{FieldDstVlan, "DstVlan", "dst_vlan", "", 34, KindUint, true, "destination VLAN"},
	{FieldEgressVrfID, "EgressVrfID", "egress_vrf_id", "", 2104, KindUint, true, "egress VRF (IE 235)"},
	{FieldEtype, "Etype", "etype", "Etype", 30, KindUint, true, "EtherType (IE 256, or told from the addresses)"},
	{FieldEtypeName, "EtypeName", "", "", 0, KindString, true, "name of the EtherType: IPv4, IPv6, ARP, ..."},
	{FieldForwardingStatus, "ForwardingStatus", "forwarding_status", "", 24, KindUint, true, "forwarding status (IE 89)"},
	{FieldFragmentID, "FragmentId", "fragment_id", "", 35, KindUint, true, "IP identification"},
	{FieldFragmentOffset, "FragmentOffset", "fragment_offset", "", 36, KindUint, true, "fragment offset, in units of 8 bytes"},
	{FieldIPTTL, "IPTTL", "ip_ttl", "", 25, KindUint, true, "time to live or hop limit (IE 52, 192)"},
	{FieldIPTos, "IPTos", "ip_tos", "Dscp", 23, KindUint, true, "type of service or traffic class"},
	{FieldIPv6FlowLabel, "IPv6FlowLabel", "ipv6_flow_label", "", 37, KindUint, true, "IPv6 flow label"},
	{FieldIcmpCode, "IcmpCode", "icmp_code", "IcmpCode", 32, KindUint, true, "ICMP code"},
	{FieldIcmpName, "IcmpName", "icmp_name", "", 0, KindString, true, "name of the ICMP type, empty for what is no ICMP"},
	{FieldIcmpType, "IcmpType", "icmp_type", "IcmpType", 31, KindUint, true, "ICMP type"},
	{FieldInIf, "InIf", "in_if", "", 18, KindUint, true, "index of the ingress interface"},
	{FieldIngressVrfID, "IngressVrfID", "ingress_vrf_id", "", 2103, KindUint, true, "ingress VRF (IE 234)"},
	{FieldNextHop, "NextHop", "next_hop", "", 12, KindAddr, true, "next hop"},
	{FieldNextHopAS, "NextHopAS", "next_hop_as", "", 13, KindUint, true, "autonomous system of the next hop"},
	{FieldOutIf, "OutIf", "out_if", "", 19, KindUint, true, "index of the egress interface"},
	{FieldPackets, "Packets", "packets", "Packets", 10, KindUint, true, "packets of the flow; 1 for a sampled packet"},
	{FieldProto, "Proto", "proto", "Proto", 20, KindUint, true, "IP protocol number"},
	{FieldProtoName, "ProtoName", "", "", 0, KindString, true, "name of the IP protocol: TCP, UDP, ICMP, ..."},
	{FieldSamplerAddress, "SamplerAddress", "sampler_address", "AgentIP", 11, KindAddr, true, "address of the exporter; for sFlow the agent's"},
	{FieldSamplingRate, "SamplingRate", "sampling_rate", "Sampling", 3, KindUint, true, "one in how many packets was sampled, 0 if the exporter does not say"},
	{FieldSequenceNum, "SequenceNum", "sequence_num", "", 4, KindUint, true, "sequence number in the datagram's header"},
	{FieldSrcAS, "SrcAS", "src_as", "", 14, KindUint, true, "source autonomous system"},
	{FieldSrcAddr, "SrcAddr", "src_addr", "SrcAddr", 6, KindAddr, true, "source address"},
	{FieldSrcMac, "SrcMac", "src_mac", "SrcMac", 27, KindMAC, true, "source MAC address"},
	{FieldSrcNet, "SrcNet", "src_net", "", 16, KindUint, true, "source prefix length"},
	{FieldSrcPort, "SrcPort", "src_port", "SrcPort", 21, KindUint, true, "source port"},
	{FieldSrcVlan, "SrcVlan", "src_vlan", "", 33, KindUint, true, "source VLAN"},
	{FieldTCPFlags, "TCPFlags", "tcp_flags", "Flags", 26, KindUint, true, "TCP flags, or-ed over the flow"},
	{FieldTimeFlowEnd, "TimeFlowEnd", "", "TimeFlowEndMs", 0, KindUint, true, "end of the flow, Unix seconds; 0 if the exporter does not say, the time of receipt for sFlow"},
	{FieldTimeFlowStart, "TimeFlowStart", "", "TimeFlowStartMs", 0, KindUint, true, "start of the flow, Unix seconds; 0 if the exporter does not say, the time of receipt for sFlow"},
	{FieldTimeReceived, "TimeReceived", "", "TimeReceived", 0, KindUint, true, "time of receipt, Unix seconds"},
	{FieldType, "Type", "type", "", 1, KindString, true, "SFLOW_5, NETFLOW_V5, NETFLOW_V9 or IPFIX"},
	{FieldVlanID, "VlanId", "vlan_id", "", 29, KindUint, true, "802.1Q VLAN"},
	{FieldASPath, "AsPath", "as_path", "", 102, KindUints, false, "AS path (sFlow)"},
	{FieldBgpCommunities, "BgpCommunities", "bgp_communities", "", 101, KindUints, false, "BGP communities (sFlow)"},
	{FieldBgpNextHop, "BgpNextHop", "bgp_next_hop", "", 100, KindAddr, false, "BGP next hop"},
	{FieldFlowDirection, "FlowDirection", "flow_direction", "FlowDirection", 2101, KindUint, false, "0 ingress, 1 egress (IE 61)"},
	{FieldFlowEndReason, "FlowEndReason", "flow_end_reason", "", 2102, KindUint, false, "why the flow ended (IE 136)"},
	{FieldIPFlags, "IPFlags", "ip_flags", "", 38, KindUint, false, "flags of the IP header"},
	{FieldIPv6RoutingHeaderAddresses, "IPv6RoutingHeaderAddresses", "ipv6_routing_header_addresses", "", 105, KindAddrs, false, "segment routing header, addresses (sFlow)"},
	{FieldIPv6RoutingHeaderSegLeft, "IPv6RoutingHeaderSegLeft", "ipv6_routing_header_seg_left", "", 106, KindUint, false, "segment routing header, segments left (sFlow)"},
	{FieldInIfName, "InIfName", "in_if_name", "Interfaces", 2105, KindText, false, "name of the ingress interface (IE 82)"},
	{FieldLayerSize, "LayerSize", "layer_size", "", 104, KindUints, false, "sizes of the sampled packet's layers, in bytes (sFlow)"},
	{FieldLayerStack, "LayerStack", "layer_stack", "", 103, KindLayers, false, "layers of the sampled packet (sFlow)"},
	{FieldMplsIP, "MplsIp", "mpls_ip", "", 82, KindAddrs, false, "addresses of the MPLS top label"},
	{FieldMplsLabel, "MplsLabel", "mpls_label", "", 81, KindUints, false, "MPLS label stack"},
	{FieldMplsTTL, "MplsTtl", "mpls_ttl", "", 80, KindUints, false, "MPLS TTLs"},
	{FieldObservationDomainID, "ObservationDomainId", "observation_domain_id", "", 70, KindUint, false, "observation domain or v9 source id"},
	{FieldObservationPointID, "ObservationPointId", "observation_point_id", "", 71, KindUint, false, "observation point (IE 138)"},
	{FieldOutIfName, "OutIfName", "out_if_name", "", 2106, KindText, false, "name of the egress interface (IE 82)"},
	{FieldTimeFlowEndNs, "TimeFlowEndNs", "time_flow_end_ns", "", 112, KindUint, false, "end of the flow, Unix nanoseconds"},
	{FieldTimeFlowStartNs, "TimeFlowStartNs", "time_flow_start_ns", "", 111, KindUint, false, "start of the flow, Unix nanoseconds"},
	{FieldTimeReceivedNs, "TimeReceivedNs", "time_received_ns", "", 110, KindUint, false, "time of receipt, Unix nanoseconds"},
	{FieldTunnelDstAddr, "TunnelDstAddr", "tunnel_dst_addr", "", 2110, KindAddr, false, "Open vSwitch tunnel, outer destination (6876/894)"},
	{FieldTunnelDstPort, "TunnelDstPort", "tunnel_dst_port", "", 2113, KindUint, false, "Open vSwitch tunnel, outer destination port (6876/897)"},
	{FieldTunnelKey, "TunnelKey", "tunnel_key", "", 2108, KindUint, false, "Open vSwitch tunnel key, such as the VNI (6876/892)"},
	{FieldTunnelProto, "TunnelProto", "tunnel_proto", "", 2111, KindUint, false, "Open vSwitch tunnel, outer IP protocol (6876/895)"},
	{FieldTunnelSrcAddr, "TunnelSrcAddr", "tunnel_src_addr", "", 2109, KindAddr, false, "Open vSwitch tunnel, outer source (6876/893)"},
	{FieldTunnelSrcPort, "TunnelSrcPort", "tunnel_src_port", "", 2112, KindUint, false, "Open vSwitch tunnel, outer source port (6876/896)"},
	{FieldTunnelType, "TunnelType", "tunnel_type", "", 2107, KindUint, false, "Open vSwitch tunnel type: 1 VXLAN, 2 GRE, 7 Geneve (6876/891)"},
}

// FieldByName finds a field by its name in schema v1 or in goflow2 v2's JSON.
func FieldByName(name string) (*Field, bool) {
	for i := range Fields {
		if f := &Fields[i]; name == f.Name || name != "" && name == f.Snake {
			return f, true
		}
	}
	return nil, false
}

// Uint returns the value of a field of kind KindUint or KindMAC, 0 for others.
func (r *Record) Uint(id FieldID) uint64 {
	m := &r.Msg
	switch id {
	case FieldBiFlowDirection:
		return uint64(r.Extra.BiFlowDirection)
	case FieldBytes:
		return m.Bytes
	case FieldDstAS:
		return uint64(m.DstAs)
	case FieldDstMac:
		return m.DstMac
	case FieldDstNet:
		return uint64(m.DstNet)
	case FieldDstPort:
		return uint64(m.DstPort)
	case FieldDstVlan:
		return uint64(m.DstVlan)
	case FieldEgressVrfID:
		return uint64(r.Extra.EgressVrfID)
	case FieldEtype:
		return uint64(m.Etype)
	case FieldForwardingStatus:
		return uint64(m.ForwardingStatus)
	case FieldFragmentID:
		return uint64(m.FragmentId)
	case FieldFragmentOffset:
		return uint64(m.FragmentOffset)
	case FieldIPTTL:
		return uint64(m.IpTtl)
	case FieldIPTos:
		return uint64(m.IpTos)
	case FieldIPv6FlowLabel:
		return uint64(m.Ipv6FlowLabel)
	case FieldIcmpCode:
		return uint64(m.IcmpCode)
	case FieldIcmpType:
		return uint64(m.IcmpType)
	case FieldInIf:
		return uint64(m.InIf)
	case FieldIngressVrfID:
		return uint64(r.Extra.IngressVrfID)
	case FieldNextHopAS:
		return uint64(m.NextHopAs)
	case FieldOutIf:
		return uint64(m.OutIf)
	case FieldPackets:
		return m.Packets
	case FieldProto:
		return uint64(m.Proto)
	case FieldSamplingRate:
		return m.SamplingRate
	case FieldSequenceNum:
		return uint64(m.SequenceNum)
	case FieldSrcAS:
		return uint64(m.SrcAs)
	case FieldSrcMac:
		return m.SrcMac
	case FieldSrcNet:
		return uint64(m.SrcNet)
	case FieldSrcPort:
		return uint64(m.SrcPort)
	case FieldSrcVlan:
		return uint64(m.SrcVlan)
	case FieldTCPFlags:
		return uint64(m.TcpFlags)
	case FieldTimeFlowEnd:
		return r.endSeconds()
	case FieldTimeFlowStart:
		return r.startSeconds()
	case FieldTimeReceived:
		return m.TimeReceivedNs / 1e9
	case FieldVlanID:
		return uint64(m.VlanId)
	case FieldFlowDirection:
		return uint64(r.Extra.FlowDirection)
	case FieldFlowEndReason:
		return uint64(r.Extra.FlowEndReason)
	case FieldIPFlags:
		return uint64(m.IpFlags)
	case FieldIPv6RoutingHeaderSegLeft:
		return uint64(m.Ipv6RoutingHeaderSegLeft)
	case FieldObservationDomainID:
		return uint64(m.ObservationDomainId)
	case FieldObservationPointID:
		return uint64(m.ObservationPointId)
	case FieldTimeFlowEndNs:
		return r.endNs()
	case FieldTimeFlowStartNs:
		return r.startNs()
	case FieldTimeReceivedNs:
		return m.TimeReceivedNs
	case FieldTunnelDstPort:
		return uint64(r.Extra.TunnelDstPort)
	case FieldTunnelKey:
		return r.Extra.TunnelKey
	case FieldTunnelProto:
		return uint64(r.Extra.TunnelProto)
	case FieldTunnelSrcPort:
		return uint64(r.Extra.TunnelSrcPort)
	case FieldTunnelType:
		return uint64(r.Extra.TunnelType)
	}
	return 0
}

// SetUint sets a field of kind KindUint or KindMAC, but none of the times. What
// the field has no room for becomes the largest number that it can hold.
func (r *Record) SetUint(id FieldID, v uint64) {
	m := &r.Msg
	switch id {
	case FieldBiFlowDirection:
		r.Extra.BiFlowDirection = narrow[uint8](v)
	case FieldBytes:
		m.Bytes = v
	case FieldDstAS:
		m.DstAs = narrow[uint32](v)
	case FieldDstMac:
		m.DstMac = v
	case FieldDstNet:
		m.DstNet = narrow[uint32](v)
	case FieldDstPort:
		m.DstPort = narrow[uint32](v)
	case FieldDstVlan:
		m.DstVlan = narrow[uint32](v)
	case FieldEgressVrfID:
		r.Extra.EgressVrfID = narrow[uint32](v)
	case FieldEtype:
		m.Etype = narrow[uint32](v)
	case FieldForwardingStatus:
		m.ForwardingStatus = narrow[uint32](v)
	case FieldFragmentID:
		m.FragmentId = narrow[uint32](v)
	case FieldFragmentOffset:
		m.FragmentOffset = narrow[uint32](v)
	case FieldIPTTL:
		m.IpTtl = narrow[uint32](v)
	case FieldIPTos:
		m.IpTos = narrow[uint32](v)
	case FieldIPv6FlowLabel:
		m.Ipv6FlowLabel = narrow[uint32](v)
	case FieldIcmpCode:
		m.IcmpCode = narrow[uint32](v)
	case FieldIcmpType:
		m.IcmpType = narrow[uint32](v)
	case FieldInIf:
		m.InIf = narrow[uint32](v)
	case FieldIngressVrfID:
		r.Extra.IngressVrfID = narrow[uint32](v)
	case FieldNextHopAS:
		m.NextHopAs = narrow[uint32](v)
	case FieldOutIf:
		m.OutIf = narrow[uint32](v)
	case FieldPackets:
		m.Packets = v
	case FieldProto:
		m.Proto = narrow[uint32](v)
	case FieldSamplingRate:
		m.SamplingRate = v
	case FieldSequenceNum:
		m.SequenceNum = narrow[uint32](v)
	case FieldSrcAS:
		m.SrcAs = narrow[uint32](v)
	case FieldSrcMac:
		m.SrcMac = v
	case FieldSrcNet:
		m.SrcNet = narrow[uint32](v)
	case FieldSrcPort:
		m.SrcPort = narrow[uint32](v)
	case FieldSrcVlan:
		m.SrcVlan = narrow[uint32](v)
	case FieldTCPFlags:
		m.TcpFlags = narrow[uint32](v)
	case FieldVlanID:
		m.VlanId = narrow[uint32](v)
	case FieldFlowDirection:
		r.Extra.FlowDirection = narrow[uint8](v)
	case FieldFlowEndReason:
		r.Extra.FlowEndReason = narrow[uint8](v)
	case FieldIPFlags:
		m.IpFlags = narrow[uint32](v)
	case FieldIPv6RoutingHeaderSegLeft:
		m.Ipv6RoutingHeaderSegLeft = narrow[uint32](v)
	case FieldObservationDomainID:
		m.ObservationDomainId = narrow[uint32](v)
	case FieldObservationPointID:
		m.ObservationPointId = narrow[uint32](v)
	case FieldTunnelDstPort:
		r.Extra.TunnelDstPort = narrow[uint16](v)
	case FieldTunnelKey:
		r.Extra.TunnelKey = v
	case FieldTunnelProto:
		r.Extra.TunnelProto = narrow[uint8](v)
	case FieldTunnelSrcPort:
		r.Extra.TunnelSrcPort = narrow[uint16](v)
	case FieldTunnelType:
		r.Extra.TunnelType = narrow[uint8](v)
	}
}

func narrow[T uint8 | uint16 | uint32](v uint64) T { return T(min(v, uint64(^T(0)))) }

// Bytes returns the value of a field of kind KindAddr or KindText, nil for
// others. The slice aliases the record.
func (r *Record) Bytes(id FieldID) []byte {
	m := &r.Msg
	switch id {
	case FieldDstAddr:
		return m.DstAddr
	case FieldNextHop:
		return m.NextHop
	case FieldSamplerAddress:
		return m.SamplerAddress
	case FieldSrcAddr:
		return m.SrcAddr
	case FieldBgpNextHop:
		return m.BgpNextHop
	case FieldInIfName:
		return r.Extra.InIfName
	case FieldOutIfName:
		return r.Extra.OutIfName
	case FieldTunnelDstAddr:
		return r.Extra.TunnelDstAddr
	case FieldTunnelSrcAddr:
		return r.Extra.TunnelSrcAddr
	}
	return nil
}

// Uints returns the value of a field of kind KindUints, nil for others.
func (r *Record) Uints(id FieldID) []uint32 {
	m := &r.Msg
	switch id {
	case FieldASPath:
		return m.AsPath
	case FieldBgpCommunities:
		return m.BgpCommunities
	case FieldLayerSize:
		return m.LayerSize
	case FieldMplsLabel:
		return m.MplsLabel
	case FieldMplsTTL:
		return m.MplsTtl
	}
	return nil
}

// Addrs returns the value of a field of kind KindAddrs, nil for others.
func (r *Record) Addrs(id FieldID) [][]byte {
	m := &r.Msg
	switch id {
	case FieldIPv6RoutingHeaderAddresses:
		return m.Ipv6RoutingHeaderAddresses
	case FieldMplsIP:
		return m.MplsIp
	}
	return nil
}

// Name returns the value of a field of kind KindString, "" for others.
func (r *Record) Name(id FieldID) string {
	m := &r.Msg
	switch id {
	case FieldType:
		return TypeName(m.Type)
	case FieldEtypeName:
		return EtypeName(m.Etype)
	case FieldProtoName:
		return ProtoName(m.Etype, m.Proto)
	case FieldIcmpName:
		if m.Type == flowpb.FlowMessage_SFLOW_5 && m.IcmpType == 0 && m.IcmpCode == 0 {
			return "" // goflow2 does not read the type of sampled packets; 0 would be an echo reply
		}
		return IcmpName(m.Proto, m.IcmpType)
	}
	return ""
}

func (r *Record) startNs() uint64 {
	if !r.Extra.HasStart {
		return 0
	}
	return r.Msg.TimeFlowStartNs
}

func (r *Record) endNs() uint64 {
	if !r.Extra.HasEnd {
		return 0
	}
	return r.Msg.TimeFlowEndNs
}

func (r *Record) startSeconds() uint64 { return r.startNs() / 1e9 }

func (r *Record) endSeconds() uint64 { return r.endNs() / 1e9 }
