package hubble

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// emitterName is who says that a flow is.
const emitterName = "kube-enricher"

// flow builds the record's flow. It shares nothing with the record, but the slices of its
// endpoints with other flows.
func (v *view) flow(version string) *flowpb.Flow {
	m := &v.r.Msg
	src, dst := v.source(), v.destination()
	f := &flowpb.Flow{
		Time:               timestamppb.New(v.time()),
		Uuid:               v.uuid(),
		Emitter:            &flowpb.Emitter{Name: emitterName, Version: version},
		Verdict:            v.verdict(),
		Ethernet:           ethernet(m.SrcMac, m.DstMac),
		IP:                 v.ip(),
		L4:                 v.l4(),
		Tunnel:             v.tunnel(),
		Source:             v.proto(src),
		Destination:        v.proto(dst),
		Type:               flowpb.FlowType_L3_L4,
		NodeName:           v.inCluster(v.nodeName()),
		SourceService:      serviceOf(src),
		DestinationService: serviceOf(dst),
		SourceNames:        src.names,
		DestinationNames:   dst.names,
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

// time returns when the record was received. The records of a source are in this order.
func (v *view) time() time.Time { return time.Unix(0, int64(v.r.Msg.TimeReceivedNs)) }

func ethernet(src, dst uint64) *flowpb.Ethernet {
	if src == 0 && dst == 0 {
		return nil
	}
	return &flowpb.Ethernet{Source: mac(src), Destination: mac(dst)}
}

func mac(addr uint64) string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], addr)
	return net.HardwareAddr(b[2:]).String()
}

// ip returns the addresses, nil for a record that has none.
func (v *view) ip() *flowpb.IP {
	version := v.ipVersion()
	if version == flowpb.IPVersion_IP_NOT_USED {
		return nil
	}
	return &flowpb.IP{
		Source: v.src.text(), Destination: v.dst.text(), SourceXlated: v.translated(), IpVersion: version,
	}
}

func (v *view) ipVersion() flowpb.IPVersion {
	a := v.src.addr
	if !a.IsValid() {
		a = v.dst.addr
	}
	switch {
	case a.Is4():
		return flowpb.IPVersion_IPv4
	case a.IsValid():
		return flowpb.IPVersion_IPv6
	}
	return flowpb.IPVersion_IP_NOT_USED
}

// translated returns the source address behind a NAT, empty if it is the same or not known.
func (v *view) translated() string {
	a := addrOf(v.r.Extra.PostNATSrcAddr)
	if !a.IsValid() || a.IsUnspecified() || a == v.src.addr || !v.src.addr.IsValid() {
		return ""
	}
	return a.String()
}

// l4 returns ports, or type and code; nil for other protocols.
func (v *view) l4() *flowpb.Layer4 {
	m := &v.r.Msg
	src, dst := m.SrcPort, m.DstPort
	switch m.Proto {
	case protoTCP:
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_TCP{TCP: &flowpb.TCP{
			SourcePort: src, DestinationPort: dst, Flags: tcpFlags(m.TcpFlags),
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
		return &flowpb.Layer4{Protocol: &flowpb.Layer4_IGMP{IGMP: &flowpb.IGMP{GroupAddress: v.dst.text()}}}
	}
	return nil
}

// tcpFlags returns the flags, nil if none are known: a packet without any is none of a
// connection.
func tcpFlags(bits uint32) *flowpb.TCPFlags {
	if bits == 0 {
		return nil
	}
	return &flowpb.TCPFlags{
		FIN: bits&flagFIN != 0, SYN: bits&flagSYN != 0, RST: bits&flagRST != 0,
		PSH: bits&flagPSH != 0, ACK: bits&flagACK != 0, URG: bits&flagURG != 0,
		ECE: bits&flagECE != 0, CWR: bits&flagCWR != 0, NS: bits&flagNS != 0,
	}
}

// Tunnel types of Open vSwitch (enterprise element 6876/891).
const (
	tunnelVXLAN  = 1
	tunnelGeneve = 7
)

// tunnel returns the tunnel that the packets were in, nil if there was none.
func (v *view) tunnel() *flowpb.Tunnel {
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

// networkInterface returns where the exporter saw the packets: where they left it if it says so,
// else where they came in; nil if neither is known.
func (v *view) networkInterface() *flowpb.NetworkInterface {
	index, name := v.interfaceSeen()
	if index == 0 && len(name) == 0 {
		return nil
	}
	return &flowpb.NetworkInterface{Index: index, Name: valid(string(name))}
}

func (v *view) interfaceSeen() (index uint32, name []byte) {
	if v.egress() {
		return v.r.Msg.OutIf, v.r.Extra.OutIfName
	}
	return v.r.Msg.InIf, v.r.Extra.InIfName
}

// uuid returns what identifies the record: the same in each answer. It is a UUID of version 8
// (RFC 9562, section 5.8) made of the record's values, so records that are equal in all of them
// have the same one.
func (v *view) uuid() string {
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
