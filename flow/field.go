package flow

import (
	"fmt"
	"strings"
)

// FieldID names one field of a record. Values are indices of [Fields] and may
// change between versions.
type FieldID uint8

// ValueKind is the shape of a field's value. It decides which accessor reads
// the field.
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
	KindBool                    // true or false: [Record.Bool]
)

// List reports whether a field of this kind has several values.
func (k ValueKind) List() bool { return k == KindUints || k == KindAddrs || k == KindLayers }

// PENVMware is the private enterprise number of the elements in which Open
// vSwitch describes its tunnels (ofproto/ipfix-enterprise-entities.def).
const PENVMware = 6876

// Element is an Information Element of IPFIX (RFC 7011, section 3.2).
type Element struct {
	PEN uint32 // private enterprise number, 0 for elements that IANA assigns
	ID  uint16
}

// String returns the element as documentation names it: "IE 61" or "6876/891".
func (e Element) String() string {
	if e.PEN == 0 {
		return fmt.Sprintf("IE %d", e.ID)
	}
	return fmt.Sprintf("%d/%d", e.PEN, e.ID)
}

// Field describes one field of a record. It is a row of the table in field.go.
type Field struct {
	ID   FieldID // index in [Fields]; the table leaves it out
	Name string  // in schema v1
	Kind ValueKind
	// Bits is how wide a number is that goflow2's message has no field for: 8,
	// 16, 32 or 64. It is 0 for other fields.
	Bits uint8
	// Number is the field's number in flow.proto, below [NumberGenerated] that of
	// goflow2; 0 if another field has the value there.
	Number int32
	// Snake is the name in schema v2 and in flow.proto. The table leaves it out
	// where it follows from Name. It is empty if another field has the value there.
	Snake string
	// NetObserv is the name in schema netobserv of a field that is in its default
	// set; others have their Name there.
	NetObserv string
	Default   bool // written unless -fields asks for something else
	// Elements lists elements whose value is the field's value, as it is. The
	// collector fills the field from any of them. Elements that goflow2 reads are
	// not listed.
	Elements []Element
	Doc      string // without the elements; [Field.Description] has them
}

// The numbers of fields in flow.proto. Those below NumberGenerated are
// goflow2's.
const (
	NumberGenerated = 2000 // first one of the prefix src, see [AttrInfo].Number
	NumberDst       = 2020 // first one of the prefix dst
	NumberLabels    = 10   // the labels of a prefix, counted from its first number
	NumberOther     = 2040 // objects of other prefixes, each a KubeObject
	NumberCluster   = 2041
	NumberOwn       = 2100 // first one of what goflow2 has no fields for
	NumberElements  = 2136 // elements of the user's list, each an ExtraField

	NumberPrefix = 1 // prefix in KubeObject
	NumberObject = 2 // first generated field in KubeObject

	NumberElementName  = 1 // name in ExtraField
	NumberElementValue = 2 // value in ExtraField
)

// Upstream reports whether goflow2 has the field, too.
func (f *Field) Upstream() bool { return 0 < f.Number && f.Number < NumberGenerated }

// Own reports whether goflow2's message has no field for the value, so that
// [OwnFields] holds it.
func (f *Field) Own() bool { return f.Number >= NumberOwn }

// Description returns what documentation says of the field: Doc, and the
// elements that it comes from.
func (f *Field) Description() string {
	if len(f.Elements) == 0 {
		return f.Doc
	}
	names := make([]string, len(f.Elements))
	for i, e := range f.Elements {
		names[i] = e.String()
	}
	list := strings.Join(names, ", ") + ")"
	if doc, ok := strings.CutSuffix(f.Doc, ")"); ok {
		return doc + ", " + list
	}
	return f.Doc + " (" + list
}

// Fields is the table of fields, indexed by FieldID. Nothing may change it.
var Fields = func() (fields [len(table)]Field) {
	for i, f := range table {
		f.ID = FieldID(i)
		if f.Snake == "" && f.Number != 0 {
			f.Snake = snake(f.Name)
		}
		fields[i] = f
	}
	return fields
}()

// FieldByName finds a field by its name in schema v1 or in goflow2 v2's JSON.
func FieldByName(name string) (*Field, bool) {
	for i := range Fields {
		if f := &Fields[i]; name == f.Name || name != "" && name == f.Snake {
			return f, true
		}
	}
	return nil, false
}

// byElement has the fields by the elements that fill them.
var byElement = func() map[Element]*Field {
	m := make(map[Element]*Field)
	for i := range Fields {
		for _, e := range Fields[i].Elements {
			m[e] = &Fields[i]
		}
	}
	return m
}()

// FieldByElement finds the field that an element fills. It is meant for compiling
// templates, not for every record.
func FieldByElement(e Element) (*Field, bool) {
	f, ok := byElement[e]
	return f, ok
}

// table is the one table of fields: the default ones first, both groups sorted
// by name. "go generate ./flow" makes of it the FieldIDs, [OwnFields], the
// accessors of [Record], flow.proto with its Go code, and what encoders write;
// "make docs" makes docs/fields.md.
//
// A field of an element that goflow2 does not read is one row here: Name, Kind,
// Bits of a number, the next free Number from 2100 on (docs/fields.md has those
// in use), Elements, Doc.
var table = [...]Field{
	{Name: "BiFlowDirection", Kind: KindUint, Bits: 8, Number: 2100, Default: true, Elements: []Element{{0, 239}}, Doc: "biflow direction"},
	{Name: "Bytes", Kind: KindUint, Number: 9, NetObserv: "Bytes", Default: true, Doc: "bytes of the flow or sampled packet; Open vSwitch IPFIX counters are already scaled up by the sampling rate, sFlow's are not"},
	{Name: "DstAS", Kind: KindUint, Number: 15, Default: true, Doc: "destination autonomous system"},
	{Name: "DstAddr", Kind: KindAddr, Number: 7, NetObserv: "DstAddr", Default: true, Doc: "destination address"},
	{Name: "DstMac", Kind: KindMAC, Number: 28, NetObserv: "DstMac", Default: true, Doc: "destination MAC address"},
	{Name: "DstNet", Kind: KindUint, Number: 17, Default: true, Doc: "destination prefix length"},
	{Name: "DstPort", Kind: KindUint, Number: 22, NetObserv: "DstPort", Default: true, Doc: "destination port"},
	{Name: "DstVlan", Kind: KindUint, Number: 34, Default: true, Doc: "destination VLAN"},
	{Name: "EgressVrfID", Kind: KindUint, Bits: 32, Number: 2104, Default: true, Elements: []Element{{0, 235}}, Doc: "egress VRF"},
	{Name: "Etype", Kind: KindUint, Number: 30, NetObserv: "Etype", Default: true, Doc: "EtherType (IE 256, or derived from the addresses)"},
	{Name: "EtypeName", Kind: KindString, Default: true, Doc: "name of the EtherType: IPv4, IPv6, ARP, ..."},
	{Name: "ForwardingStatus", Kind: KindUint, Number: 24, Default: true, Doc: "forwarding status (IE 89)"},
	{Name: "FragmentId", Kind: KindUint, Number: 35, Default: true, Doc: "IP identification"},
	{Name: "FragmentOffset", Kind: KindUint, Number: 36, Default: true, Doc: "fragment offset, in units of 8 bytes"},
	{Name: "IPTTL", Kind: KindUint, Number: 25, Snake: "ip_ttl", Default: true, Elements: []Element{{0, 192}}, Doc: "time to live or hop limit (IE 52)"},
	{Name: "IPTos", Kind: KindUint, Number: 23, Snake: "ip_tos", NetObserv: "Dscp", Default: true, Doc: "type of service or traffic class"},
	{Name: "IPv6FlowLabel", Kind: KindUint, Number: 37, Default: true, Doc: "IPv6 flow label"},
	{Name: "IcmpCode", Kind: KindUint, Number: 32, NetObserv: "IcmpCode", Default: true, Doc: "ICMP code"},
	{Name: "IcmpName", Kind: KindString, Snake: "icmp_name", Default: true, Doc: "name of the ICMP type, empty for what is no ICMP"},
	{Name: "IcmpType", Kind: KindUint, Number: 31, NetObserv: "IcmpType", Default: true, Doc: "ICMP type"},
	{Name: "InIf", Kind: KindUint, Number: 18, Default: true, Doc: "index of the ingress interface"},
	{Name: "IngressVrfID", Kind: KindUint, Bits: 32, Number: 2103, Default: true, Elements: []Element{{0, 234}}, Doc: "ingress VRF"},
	{Name: "NextHop", Kind: KindAddr, Number: 12, Default: true, Doc: "next hop"},
	{Name: "NextHopAS", Kind: KindUint, Number: 13, Default: true, Doc: "autonomous system of the next hop"},
	{Name: "OutIf", Kind: KindUint, Number: 19, Default: true, Doc: "index of the egress interface"},
	{Name: "Packets", Kind: KindUint, Number: 10, NetObserv: "Packets", Default: true, Doc: "packets of the flow; 1 for a sampled packet"},
	{Name: "Proto", Kind: KindUint, Number: 20, NetObserv: "Proto", Default: true, Doc: "IP protocol number"},
	{Name: "ProtoName", Kind: KindString, Default: true, Doc: "name of the IP protocol: TCP, UDP, ICMP, ..."},
	{Name: "SamplerAddress", Kind: KindAddr, Number: 11, NetObserv: "AgentIP", Default: true, Doc: "address of the exporter; for sFlow the agent's"},
	{Name: "SamplingRate", Kind: KindUint, Number: 3, NetObserv: "Sampling", Default: true, Doc: "one in how many packets was sampled, 0 if the exporter does not say"},
	{Name: "SequenceNum", Kind: KindUint, Number: 4, Default: true, Doc: "sequence number in the datagram's header"},
	{Name: "SrcAS", Kind: KindUint, Number: 14, Default: true, Doc: "source autonomous system"},
	{Name: "SrcAddr", Kind: KindAddr, Number: 6, NetObserv: "SrcAddr", Default: true, Doc: "source address"},
	{Name: "SrcMac", Kind: KindMAC, Number: 27, NetObserv: "SrcMac", Default: true, Doc: "source MAC address"},
	{Name: "SrcNet", Kind: KindUint, Number: 16, Default: true, Doc: "source prefix length"},
	{Name: "SrcPort", Kind: KindUint, Number: 21, NetObserv: "SrcPort", Default: true, Doc: "source port"},
	{Name: "SrcVlan", Kind: KindUint, Number: 33, Default: true, Doc: "source VLAN"},
	{Name: "TCPFlags", Kind: KindUint, Number: 26, Snake: "tcp_flags", NetObserv: "Flags", Default: true, Doc: "TCP flags, or-ed over the flow"},
	{Name: "TimeFlowEnd", Kind: KindUint, NetObserv: "TimeFlowEndMs", Default: true, Doc: "end of the flow, Unix seconds; 0 if the exporter does not say, the time of receipt for sFlow"},
	{Name: "TimeFlowStart", Kind: KindUint, NetObserv: "TimeFlowStartMs", Default: true, Doc: "start of the flow, Unix seconds; 0 if the exporter does not say, the time of receipt for sFlow"},
	{Name: "TimeReceived", Kind: KindUint, NetObserv: "TimeReceived", Default: true, Doc: "time of receipt, Unix seconds"},
	{Name: "Type", Kind: KindString, Number: 1, Default: true, Doc: "SFLOW_5, NETFLOW_V1, NETFLOW_V5, NETFLOW_V7, NETFLOW_V9 or IPFIX"},
	{Name: "VlanId", Kind: KindUint, Number: 29, Default: true, Doc: "802.1Q VLAN"},
	{Name: "ApplicationId", Kind: KindText, Number: 2120, Doc: "application as engine:selector (RFC 6759), such as 13:431 (IE 95)"},
	{Name: "ApplicationName", Kind: KindText, Number: 2121, Elements: []Element{{0, 96}}, Doc: "name of the application (options data of the exporter)"},
	{Name: "AsPath", Kind: KindUints, Number: 102, Doc: "AS path (sFlow)"},
	{Name: "BgpCommunities", Kind: KindUints, Number: 101, Doc: "BGP communities (sFlow)"},
	{Name: "BgpNextHop", Kind: KindAddr, Number: 100, Doc: "BGP next hop"},
	{Name: "CountsOnce", Kind: KindBool, Number: 2114, Doc: "whether the traffic metrics count the record: false if another record has the same packets, for samples of OVN, and if there are no addresses"},
	{Name: "EgressVrfName", Kind: KindText, Number: 2119, Doc: "name of the egress VRF (IE 236, in options data by IE 235 or 234)"},
	{Name: "ExporterAddress", Kind: KindAddr, Number: 2115, Doc: "address that the datagram came from, where it is not SamplerAddress"},
	{Name: "FirewallEvent", Kind: KindUint, Bits: 8, Number: 2127, Elements: []Element{{0, 233}, {0, 40005}}, Doc: "what a firewall did: 1 created, 2 deleted, 3 denied, 4 alert, 5 update"},
	{Name: "FlowDirection", Kind: KindUint, Bits: 8, Number: 2101, NetObserv: "FlowDirection", Elements: []Element{{0, 61}}, Doc: "0 ingress, 1 egress"},
	{Name: "FlowEndReason", Kind: KindUint, Bits: 8, Number: 2102, Elements: []Element{{0, 136}}, Doc: "why the flow ended"},
	{Name: "IPFlags", Kind: KindUint, Number: 38, Snake: "ip_flags", Doc: "flags of the IP header"},
	{Name: "IPv6RoutingHeaderAddresses", Kind: KindAddrs, Number: 105, Doc: "segment routing header, addresses (sFlow)"},
	{Name: "IPv6RoutingHeaderSegLeft", Kind: KindUint, Number: 106, Doc: "segment routing header, segments left (sFlow)"},
	{Name: "InIfDescription", Kind: KindText, Number: 2116, Doc: "description of the ingress interface (IE 83, also in options data)"},
	{Name: "InIfName", Kind: KindText, Number: 2105, NetObserv: "Interfaces", Doc: "name of the ingress interface (IE 82, also in options data)"},
	{Name: "IngressVrfName", Kind: KindText, Number: 2118, Doc: "name of the ingress VRF (IE 236, in options data by IE 234 or 235)"},
	{Name: "LayerSize", Kind: KindUints, Number: 104, Doc: "sizes of the sampled packet's layers, in bytes (sFlow)"},
	{Name: "LayerStack", Kind: KindLayers, Number: 103, Doc: "layers of the sampled packet (sFlow)"},
	{Name: "MplsIp", Kind: KindAddrs, Number: 82, Doc: "addresses of the MPLS top label"},
	{Name: "MplsLabel", Kind: KindUints, Number: 81, Doc: "MPLS label stack"},
	{Name: "MplsTtl", Kind: KindUints, Number: 80, Doc: "MPLS TTLs"},
	{Name: "NatEvent", Kind: KindUint, Bits: 8, Number: 2126, Elements: []Element{{0, 230}}, Doc: "what a NAT did: 1 created a translation, 2 deleted it, 3 ran out of addresses; others in IANA's registry of NAT event types"},
	{Name: "ObservationDomainId", Kind: KindUint, Number: 70, Doc: "observation domain or v9 source id"},
	{Name: "ObservationPointId", Kind: KindUint, Number: 71, Doc: "observation point (IE 138)"},
	{Name: "ObservationTimeNs", Kind: KindUint, Bits: 64, Number: 2128, Doc: "when the packet or event was observed, Unix nanoseconds (IE 322 to 325)"},
	{Name: "OutIfDescription", Kind: KindText, Number: 2117, Doc: "description of the egress interface (IE 83, also in options data)"},
	{Name: "OutIfName", Kind: KindText, Number: 2106, Doc: "name of the egress interface (IE 82, also in options data)"},
	{Name: "PolicyDirection", Kind: KindText, Number: 2133, Doc: "Ingress or Egress: which of the policy's rules decided"},
	{Name: "PolicyKind", Kind: KindText, Number: 2130, Doc: "kind of the policy that decided, such as NetworkPolicy or AdminNetworkPolicy"},
	{Name: "PolicyName", Kind: KindText, Number: 2132, Doc: "name of the policy that decided, empty for a namespace's default deny"},
	{Name: "PolicyNamespace", Kind: KindText, Number: 2131, Doc: "namespace of the policy that decided"},
	{Name: "PolicyRule", Kind: KindText, Number: 2134, Doc: "index of the rule that decided"},
	{Name: "PolicyWarn", Kind: KindText, Number: 2135, Doc: "what is doubtful about the verdict or the policy"},
	{Name: "PostNATDstAddr", Kind: KindAddr, Number: 2123, Snake: "post_nat_dst_addr", Elements: []Element{{0, 226}, {0, 282}, {0, 40002}}, Doc: "destination address behind a NAT"},
	{Name: "PostNATDstPort", Kind: KindUint, Bits: 16, Number: 2125, Snake: "post_nat_dst_port", Elements: []Element{{0, 228}, {0, 40004}}, Doc: "destination port behind a NAT"},
	{Name: "PostNATSrcAddr", Kind: KindAddr, Number: 2122, Snake: "post_nat_src_addr", Elements: []Element{{0, 225}, {0, 281}, {0, 40001}}, Doc: "source address behind a NAT"},
	{Name: "PostNATSrcPort", Kind: KindUint, Bits: 16, Number: 2124, Snake: "post_nat_src_port", Elements: []Element{{0, 227}, {0, 40003}}, Doc: "source port behind a NAT"},
	{Name: "TimeFlowEndNs", Kind: KindUint, Number: 112, Doc: "end of the flow, Unix nanoseconds"},
	{Name: "TimeFlowStartNs", Kind: KindUint, Number: 111, Doc: "start of the flow, Unix nanoseconds"},
	{Name: "TimeReceivedNs", Kind: KindUint, Number: 110, Doc: "time of receipt, Unix nanoseconds"},
	{Name: "TunnelDstAddr", Kind: KindAddr, Number: 2110, Elements: []Element{{PENVMware, 894}}, Doc: "outer destination address of a tunnel"},
	{Name: "TunnelDstPort", Kind: KindUint, Bits: 16, Number: 2113, Elements: []Element{{PENVMware, 897}}, Doc: "outer destination port of a tunnel"},
	{Name: "TunnelKey", Kind: KindUint, Bits: 64, Number: 2108, Elements: []Element{{PENVMware, 892}}, Doc: "tunnel key, such as the VNI: Open vSwitch's, or the layer-2 segment of other exporters (IE 351)"},
	{Name: "TunnelProto", Kind: KindUint, Bits: 8, Number: 2111, Elements: []Element{{PENVMware, 895}}, Doc: "outer IP protocol of a tunnel"},
	{Name: "TunnelSrcAddr", Kind: KindAddr, Number: 2109, Elements: []Element{{PENVMware, 893}}, Doc: "outer source address of a tunnel"},
	{Name: "TunnelSrcPort", Kind: KindUint, Bits: 16, Number: 2112, Elements: []Element{{PENVMware, 896}}, Doc: "outer source port of a tunnel"},
	{Name: "TunnelType", Kind: KindUint, Bits: 8, Number: 2107, Elements: []Element{{PENVMware, 891}}, Doc: "Open vSwitch tunnel type: 1 VXLAN, 2 GRE, 7 Geneve"},
	{Name: "Verdict", Kind: KindText, Number: 2129, Doc: "allowed or dropped, as the exporter's network policies decided; empty if they did not say"},
}

// The functions below read fields that are derived from goflow2's message. The
// generated accessors use them.

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
		if !r.HasICMP() {
			return ""
		}
		return IcmpName(m.Proto, m.IcmpType)
	}
	return ""
}

// HasICMP reports whether ICMP type and code are known. Without
// [Extra.HasICMP] a type of 0 is none, not that of an echo reply.
func (r *Record) HasICMP() bool {
	return r.Msg.IcmpType != 0 || r.Msg.IcmpCode != 0 || r.Extra.HasICMP
}

// CountsOnce reports whether the record is the one that counts its packets, and has an
// address to count them for. Lines of JSON that do not say otherwise count.
func (r *Record) CountsOnce() bool {
	return !r.Extra.Duplicate && !r.Extra.Sampled && r.HasAddress()
}

// HasAddress reports whether the record has an address that traffic can be counted for.
// Lines of JSON have theirs as text, and are taken to have one.
func (r *Record) HasAddress() bool {
	return r.Line != nil || len(r.Msg.SrcAddr)+len(r.Msg.DstAddr) > 0
}

// VerdictFields are the fields of what OVN decided. A record that was read as text
// gets them, too.
var VerdictFields = [...]FieldID{
	FieldVerdict, FieldPolicyKind, FieldPolicyNamespace, FieldPolicyName, FieldPolicyDirection, FieldPolicyRule, FieldPolicyWarn,
}

// The values of the field Verdict.
const (
	VerdictAllowed = "allowed"
	VerdictDropped = "dropped"
)

// DirectionName returns "ingress" or "egress", and "" if the exporter did not say where it
// saw the flow (RFC 7270, flowDirection). Only a template tells an ingress from a 0.
func (r *Record) DirectionName() string {
	switch {
	case r.Extra.FlowDirection == 1:
		return "egress"
	case r.Extra.FlowDirection == 0 && r.Extra.HasDirection:
		return "ingress"
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

// narrow converts a number. What T has no room for becomes its largest number.
func narrow[T uint8 | uint16 | uint32](v uint64) T { return T(min(v, uint64(^T(0)))) }
