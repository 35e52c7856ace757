package hubble

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// reference makes a record's flow with Cilium's generated types, plainly and without care for
// what it costs. [view.appendFlow] is held to it.
type reference struct{ *view }

func referenceAddr(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func referenceNames(ep *endpoint) []string {
	if ep.place == "" {
		return nil
	}
	return []string{ep.place}
}

func (v reference) flow(version string) *flowpb.Flow {
	m := &v.r.Msg
	src, dst := v.source(), v.destination()
	f := &flowpb.Flow{
		Time:               timestamppb.New(time.Unix(0, int64(v.r.Msg.TimeReceivedNs))),
		Uuid:               v.uuid(),
		Emitter:            &flowpb.Emitter{Name: emitterName, Version: version},
		Verdict:            v.verdict(),
		Ethernet:           referenceEthernet(m.SrcMac, m.DstMac),
		IP:                 v.ip(),
		L4:                 v.l4(),
		Tunnel:             v.tunnel(),
		Source:             v.proto(src),
		Destination:        v.proto(dst),
		Type:               flowpb.FlowType_L3_L4,
		NodeName:           valid(v.inCluster(v.nodeName())),
		SourceService:      referenceService(src),
		DestinationService: referenceService(dst),
		SourceNames:        referenceNames(src),
		DestinationNames:   referenceNames(dst),
		TrafficDirection:   v.direction(),
		Interface:          v.networkInterface(),
		Summary:            v.summary(), //nolint:staticcheck // it is what clients show
	}
	if f.Verdict == flowpb.Verdict_DROPPED {
		f.DropReasonDesc = v.dropReason()
		f.DropReason = uint32(f.DropReasonDesc) //nolint:staticcheck // older clients read it
	}
	if is := v.isReply(); is != replyUnknown {
		f.IsReply = wrapperspb.Bool(is == replyYes)
		f.Reply = is == replyYes //nolint:staticcheck // older clients read it
	}
	v.setPolicy(f)
	if eventType, subType, ok := v.event(); ok {
		f.EventType = &flowpb.CiliumEventType{Type: eventType, SubType: subType}
		if eventType == eventTrace {
			f.TraceObservationPoint = flowpb.TraceObservationPoint(subType)
			if subType == pointToEndpoint { // 0 is another one there
				f.TraceObservationPoint = flowpb.TraceObservationPoint_TO_ENDPOINT
			}
		}
	}
	return f
}

func referenceEthernet(src, dst uint64) *flowpb.Ethernet {
	if src == 0 && dst == 0 {
		return nil
	}
	return &flowpb.Ethernet{Source: referenceMAC(src), Destination: referenceMAC(dst)}
}

func referenceMAC(addr uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], addr)
	return net.HardwareAddr(b[2:]).String()
}

func (v reference) ip() *flowpb.IP {
	version := v.ipVersion()
	if version == flowpb.IPVersion_IP_NOT_USED {
		return nil
	}
	return &flowpb.IP{
		Source: referenceAddr(v.src.addr), Destination: referenceAddr(v.dst.addr), SourceXlated: referenceAddr(v.translated()), IpVersion: version,
	}
}

func (v reference) l4() *flowpb.Layer4 {
	m := &v.r.Msg
	src, dst := m.SrcPort, m.DstPort
	switch m.Proto {
	case protoTCP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{
			SourcePort: src, DestinationPort: dst, Flags: referenceFlags(m.TcpFlags),
		}}}
	case protoUDP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_UDP{UDP: &flowpb.UDP{SourcePort: src, DestinationPort: dst}}}
	case protoSCTP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_SCTP{SCTP: &flowpb.SCTP{SourcePort: src, DestinationPort: dst}}}
	case protoICMP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_ICMPv4{ICMPv4: &flowpb.ICMPv4{Type: m.IcmpType, Code: m.IcmpCode}}}
	case protoICMP6:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_ICMPv6{ICMPv6: &flowpb.ICMPv6{Type: m.IcmpType, Code: m.IcmpCode}}}
	case protoVRRP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_VRRP{VRRP: &flowpb.VRRP{}}}
	case protoIGMP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_IGMP{IGMP: &flowpb.IGMP{GroupAddress: referenceAddr(v.dst.addr)}}}
	}
	return nil
}

func referenceFlags(bits uint32) *flowpb.TCPFlags {
	if bits == 0 {
		return nil
	}
	return &flowpb.TCPFlags{
		FIN: bits&flagFIN != 0, SYN: bits&flagSYN != 0, RST: bits&flagRST != 0,
		PSH: bits&flagPSH != 0, ACK: bits&flagACK != 0, URG: bits&flagURG != 0,
		ECE: bits&flagECE != 0, CWR: bits&flagCWR != 0, NS: bits&flagNS != 0,
	}
}

func (v reference) tunnel() *flowpb.Tunnel {
	x := &v.r.Extra
	src, dst := addrOf(x.TunnelSrcAddr), addrOf(x.TunnelDstAddr)
	if !src.IsValid() || !dst.IsValid() || src.IsUnspecified() && dst.IsUnspecified() {
		return nil
	}
	t := &flowpb.Tunnel{
		IP:  &flowpb.IP{Source: src.String(), Destination: dst.String(), IpVersion: flowpb.IPVersion_IPv4},
		Vni: uint32(x.TunnelKey),
	}
	if !src.Is4() {
		t.IP.IpVersion = flowpb.IPVersion_IPv6
	}
	switch x.TunnelType {
	case tunnelVXLAN:
		t.Protocol = flowpb.Tunnel_VXLAN
	case tunnelGeneve:
		t.Protocol = flowpb.Tunnel_GENEVE
	}
	if x.TunnelProto == protoUDP {
		t.L4 = &flowpb.Layer4{Protocol: &flowpb.Layer4_UDP{UDP: &flowpb.UDP{
			SourcePort: uint32(x.TunnelSrcPort), DestinationPort: uint32(x.TunnelDstPort),
		}}}
	}
	return t
}

func (v reference) networkInterface() *flowpb.NetworkInterface {
	index, name := v.interfaceSeen()
	if index == 0 && len(name) == 0 {
		return nil
	}
	return &flowpb.NetworkInterface{Index: index, Name: valid(string(name))}
}

func (v reference) uuid() string {
	m, x := &v.r.Msg, &v.r.Extra
	b := make([]byte, 0, 256)
	for _, n := range [...]uint64{
		m.TimeReceivedNs, m.TimeFlowStartNs, m.TimeFlowEndNs, m.Bytes, m.Packets, m.SrcMac, m.DstMac, x.TunnelKey,
		uint64(m.SequenceNum)<<32 | uint64(m.ObservationDomainId), uint64(m.ObservationPointId)<<32 | uint64(m.Proto),
		uint64(m.SrcPort)<<32 | uint64(m.DstPort), uint64(m.InIf)<<32 | uint64(m.OutIf),
		uint64(m.TcpFlags)<<32 | uint64(m.IcmpType)<<16 | uint64(m.IcmpCode),
		uint64(m.VlanId)<<32 | uint64(m.IpTos)<<16 | uint64(x.FlowDirection)<<8 | uint64(x.BiFlowDirection),
		uint64(m.FragmentId)<<32 | uint64(m.FragmentOffset)<<16 | uint64(m.IpTtl),
	} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	for _, addr := range [...][]byte{m.SamplerAddress, m.SrcAddr, m.DstAddr} {
		b = append(append(b, byte(len(addr))), addr...)
	}
	sum := sha256.Sum256(b)
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	text := make([]byte, 0, 36)
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return string(text)
}

func (v reference) summary() string {
	m := &v.r.Msg
	b := make([]byte, 0, 96)
	b = v.appendProtocol(b)
	b = append(b, "; "...)
	b = referenceCount(b, m.Packets, "packet")
	b = append(b, ", "...)
	b = referenceCount(b, m.Bytes, "byte")
	if m.SamplingRate > 1 {
		b = append(b, ", sampled 1:"...)
		b = strconv.AppendUint(b, m.SamplingRate, 10)
		if v.r.Extra.Scaled {
			b = append(b, " and scaled"...)
		}
	}
	if v.r.Extra.Duplicate || v.r.Extra.Sampled {
		b = append(b, ", also in another record"...)
	}
	if rule := v.r.Extra.PolicyRule; len(rule) > 0 {
		b = append(append(b, "; rule "...), valid(string(rule))...)
	}
	if warn := v.r.Extra.PolicyWarn; len(warn) > 0 {
		b = append(append(b, "; "...), valid(string(warn))...)
	}
	for _, o := range [...]*flow.Object{v.src.object, v.dst.object} {
		if o != nil && o.Warn != "" {
			b = append(append(b, "; "...), valid(o.Warn)...)
		}
	}
	return string(b)
}

func (v reference) appendProtocol(b []byte) []byte {
	m := &v.r.Msg
	switch m.Proto {
	case protoTCP:
		if m.TcpFlags != 0 {
			b = append(b, "TCP Flags: "...)
			return append(b, referenceFlagList(m.TcpFlags)...)
		}
		return append(b, "TCP"...)
	case protoICMP:
		b = append(b, "ICMPv4"...)
	case protoICMP6:
		b = append(b, "ICMPv6"...)
	default:
		name := v.r.Name(flow.FieldProtoName)
		if name == "" {
			name = v.r.Name(flow.FieldEtypeName)
		}
		return append(b, name...)
	}
	if name := v.r.Name(flow.FieldIcmpName); name != "" {
		b = append(append(b, ' '), name...)
	}
	return b
}

func referenceFlagList(bits uint32) string {
	var names []string
	for _, f := range flagNames {
		if bits&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ", ")
}

func referenceCount(b []byte, n uint64, unit string) []byte {
	b = strconv.AppendUint(b, n, 10)
	b = append(append(b, ' '), unit...)
	if n != 1 {
		b = append(b, 's')
	}
	return b
}

func (v reference) setPolicy(f *flowpb.Flow) {
	x := &v.r.Extra
	if !v.decided() || len(x.PolicyKind) == 0 {
		return
	}
	policy := []*flowpb.Policy{{
		Kind: valid(string(x.PolicyKind)), Namespace: valid(string(x.PolicyNamespace)), Name: valid(string(x.PolicyName)),
	}}
	dropped := f.GetVerdict() == flowpb.Verdict_DROPPED
	switch v.policyDirection() {
	case flowpb.TrafficDirection_INGRESS:
		if dropped {
			f.IngressDeniedBy = policy
		} else {
			f.IngressAllowedBy = policy
		}
	case flowpb.TrafficDirection_EGRESS:
		if dropped {
			f.EgressDeniedBy = policy
		} else {
			f.EgressAllowedBy = policy
		}
	default:
	}
}

func (v reference) proto(ep *endpoint) *flowpb.Endpoint {
	p := &flowpb.Endpoint{Identity: v.identityOf(ep), Namespace: ep.namespace, PodName: ep.pod}
	for _, l := range v.labelsOf(ep) {
		text := l.source + ":" + l.key
		if l.value != "" {
			text += "=" + l.value
		}
		p.Labels = append(p.Labels, text)
	}
	if ep.workload != "" {
		p.Workloads = []*flowpb.Workload{{Name: ep.workload, Kind: ep.workloadKind}}
	}
	if ep.namespace != "" || ep.identity == identityHost || ep.identity == identityRemoteNode {
		p.ClusterName = v.cluster
	}
	return p
}

func referenceService(ep *endpoint) *flowpb.Service {
	if ep.service == "" {
		return nil
	}
	return &flowpb.Service{Name: ep.service, Namespace: ep.namespace}
}
