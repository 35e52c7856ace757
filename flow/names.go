package flow

import flowpb "github.com/netsampler/goflow2/v2/pb"

// The types of flows that goflow2's message has no number for.
const (
	TypeNetFlowV1 flowpb.FlowMessage_FlowType = 101
	TypeNetFlowV7 flowpb.FlowMessage_FlowType = 107
)

// OwnTypes lists the types of flows that goflow2's message has no number for.
var OwnTypes = [...]flowpb.FlowMessage_FlowType{TypeNetFlowV1, TypeNetFlowV7}

// TypeName returns goflow2's name of a flow type, or one like it for [OwnTypes].
func TypeName(t flowpb.FlowMessage_FlowType) string {
	switch t {
	case flowpb.FlowMessage_SFLOW_5:
		return "SFLOW_5"
	case TypeNetFlowV1:
		return "NETFLOW_V1"
	case flowpb.FlowMessage_NETFLOW_V5:
		return "NETFLOW_V5"
	case TypeNetFlowV7:
		return "NETFLOW_V7"
	case flowpb.FlowMessage_NETFLOW_V9:
		return "NETFLOW_V9"
	case flowpb.FlowMessage_IPFIX:
		return "IPFIX"
	}
	return "FLOWUNKNOWN"
}

// The IP protocols that the code itself asks for.
const (
	ProtoICMP     = 1
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoIPv6ICMP = 58
)

// The EtherTypes that the code itself asks for.
const (
	EtypeIPv4 = 0x0800
	EtypeIPv6 = 0x86dd
)

// EtypeName returns the usual short name of an EtherType (IEEE 802 numbers),
// "" if it has none here.
func EtypeName(etype uint32) string {
	switch etype {
	case EtypeIPv4:
		return "IPv4"
	case EtypeIPv6:
		return "IPv6"
	case 0x0806:
		return "ARP"
	case 0x8035:
		return "RARP"
	case 0x0842:
		return "WoL"
	case 0x8100:
		return "802.1Q"
	case 0x88a8:
		return "802.1ad"
	case 0x8847:
		return "MPLS"
	case 0x8848:
		return "MPLS-Multicast"
	case 0x8863:
		return "PPPoE-Discovery"
	case 0x8864:
		return "PPPoE-Session"
	case 0x8808:
		return "Ethernet-Flow-Control"
	case 0x8809:
		return "Slow-Protocols"
	case 0x888e:
		return "EAPOL"
	case 0x88cc:
		return "LLDP"
	case 0x88e5:
		return "MACsec"
	case 0x88f7:
		return "PTP"
	case 0x8902:
		return "CFM"
	case 0x8906:
		return "FCoE"
	case 0x8915:
		return "RoCE"
	case 0x894f:
		return "NSH"
	case 0x6558:
		return "TEB"
	}
	return ""
}

// protoNames are the keywords of the IANA registry "Assigned Internet Protocol
// Numbers", by number; numbers without a keyword are empty.
var protoNames = [256]string{
	0: "HOPOPT", 1: "ICMP", 2: "IGMP", 3: "GGP", 4: "IPv4", 5: "ST", 6: "TCP", 7: "CBT",
	8: "EGP", 9: "IGP", 10: "BBN-RCC-MON", 11: "NVP-II", 12: "PUP", 13: "ARGUS", 14: "EMCON", 15: "XNET",
	16: "CHAOS", 17: "UDP", 18: "MUX", 19: "DCN-MEAS", 20: "HMP", 21: "PRM", 22: "XNS-IDP", 23: "TRUNK-1",
	24: "TRUNK-2", 25: "LEAF-1", 26: "LEAF-2", 27: "RDP", 28: "IRTP", 29: "ISO-TP4", 30: "NETBLT", 31: "MFE-NSP",
	32: "MERIT-INP", 33: "DCCP", 34: "3PC", 35: "IDPR", 36: "XTP", 37: "DDP", 38: "IDPR-CMTP", 39: "TP++",
	40: "IL", 41: "IPv6", 42: "SDRP", 43: "IPv6-Route", 44: "IPv6-Frag", 45: "IDRP", 46: "RSVP", 47: "GRE",
	48: "DSR", 49: "BNA", 50: "ESP", 51: "AH", 52: "I-NLSP", 53: "SWIPE", 54: "Min-IPv4", 55: "MOBILE",
	56: "TLSP", 57: "SKIP", 58: "IPv6-ICMP", 59: "IPv6-NoNxt", 60: "IPv6-Opts", 62: "CFTP",
	64: "SAT-EXPAK", 65: "KRYPTOLAN", 66: "RVD", 67: "IPPC", 69: "SAT-MON", 70: "VISA", 71: "IPCV",
	72: "CPNX", 73: "CPHB", 74: "WSN", 75: "PVP", 76: "BR-SAT-MON", 77: "SUN-ND", 78: "WB-MON", 79: "WB-EXPAK",
	80: "ISO-IP", 81: "VMTP", 82: "SECURE-VMTP", 83: "VINES", 84: "IPTM", 85: "NSFNET-IGP", 86: "DGP", 87: "TCF",
	88: "EIGRP", 89: "OSPFIGP", 90: "Sprite-RPC", 91: "LARP", 92: "MTP", 93: "AX.25", 94: "IPIP", 95: "MICP",
	96: "SCC-SP", 97: "ETHERIP", 98: "ENCAP", 100: "GMTP", 101: "IFMP", 102: "PNNI", 103: "PIM",
	104: "ARIS", 105: "SCPS", 106: "QNX", 107: "A/N", 108: "IPComp", 109: "SNP", 110: "Compaq-Peer", 111: "IPX-in-IP",
	112: "VRRP", 113: "PGM", 115: "L2TP", 116: "DDX", 117: "IATP", 118: "STP", 119: "SRP",
	120: "UTI", 121: "SMP", 122: "SM", 123: "PTP", 124: "ISIS over IPv4", 125: "FIRE", 126: "CRTP", 127: "CRUDP",
	128: "SSCOPMCE", 129: "IPLT", 130: "SPS", 131: "PIPE", 132: "SCTP", 133: "FC", 134: "RSVP-E2E-IGNORE", 135: "Mobility Header",
	136: "UDPLite", 137: "MPLS-in-IP", 138: "manet", 139: "HIP", 140: "Shim6", 141: "WESP", 142: "ROHC", 143: "Ethernet",
	144: "AGGFRAG", 145: "NSH", 255: "Reserved",
}

// ProtoName returns the IANA keyword of an IP protocol, "" if it has none or if
// the record is not of IP: protocol 0 is HOPOPT only in an IP packet.
func ProtoName(etype, proto uint32) string {
	if proto == 0 && etype != EtypeIPv4 && etype != EtypeIPv6 || proto > 255 {
		return ""
	}
	return protoNames[proto]
}

// icmpNames and icmp6Names are the type names of the IANA registries "ICMP Type
// Numbers" and "ICMPv6 type Numbers".
var (
	icmpNames = [256]string{
		0: "Echo Reply", 3: "Destination Unreachable", 4: "Source Quench", 5: "Redirect", 6: "Alternate Host Address",
		8: "Echo", 9: "Router Advertisement", 10: "Router Solicitation", 11: "Time Exceeded", 12: "Parameter Problem",
		13: "Timestamp", 14: "Timestamp Reply", 15: "Information Request", 16: "Information Reply",
		17: "Address Mask Request", 18: "Address Mask Reply", 30: "Traceroute", 31: "Datagram Conversion Error",
		32: "Mobile Host Redirect", 33: "IPv6 Where-Are-You", 34: "IPv6 I-Am-Here", 35: "Mobile Registration Request",
		36: "Mobile Registration Reply", 37: "Domain Name Request", 38: "Domain Name Reply", 39: "SKIP", 40: "Photuris",
		41: "ICMP messages utilized by experimental mobility protocols such as Seamoby",
		42: "Extended Echo Request", 43: "Extended Echo Reply",
	}
	icmp6Names = [256]string{
		1: "Destination Unreachable", 2: "Packet Too Big", 3: "Time Exceeded", 4: "Parameter Problem",
		128: "Echo Request", 129: "Echo Reply", 130: "Multicast Listener Query", 131: "Multicast Listener Report",
		132: "Multicast Listener Done", 133: "Router Solicitation", 134: "Router Advertisement",
		135: "Neighbor Solicitation", 136: "Neighbor Advertisement", 137: "Redirect Message", 138: "Router Renumbering",
		139: "ICMP Node Information Query", 140: "ICMP Node Information Response",
		141: "Inverse Neighbor Discovery Solicitation Message", 142: "Inverse Neighbor Discovery Advertisement Message",
		143: "Version 2 Multicast Listener Report", 144: "Home Agent Address Discovery Request Message",
		145: "Home Agent Address Discovery Reply Message", 146: "Mobile Prefix Solicitation", 147: "Mobile Prefix Advertisement",
		148: "Certification Path Solicitation Message", 149: "Certification Path Advertisement Message",
		150: "ICMP messages utilized by experimental mobility protocols such as Seamoby",
		151: "Multicast Router Advertisement", 152: "Multicast Router Solicitation", 153: "Multicast Router Termination",
		154: "FMIPv6 Messages", 155: "RPL Control Message", 156: "ILNPv6 Locator Update Message", 157: "Duplicate Address Request", 158: "Duplicate Address Confirmation",
		159: "MPL Control Message", 160: "Extended Echo Request", 161: "Extended Echo Reply",
	}
)

// IcmpName returns the IANA name of an ICMP or ICMPv6 type, "" for what is no
// ICMP and for types without a name.
func IcmpName(proto, icmpType uint32) string {
	if icmpType > 255 {
		return ""
	}
	switch proto {
	case ProtoICMP:
		return icmpNames[icmpType]
	case ProtoIPv6ICMP:
		return icmp6Names[icmpType]
	}
	return ""
}
