package hubble

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/encoding/protowire"
)

// emitterName is who says that a flow is.
const emitterName = "kube-enricher"

// Fields of Flow.
const (
	flowTime                  = 1
	flowVerdict               = 2
	flowDropReason            = 3 // older clients read it
	flowEthernet              = 4
	flowIP                    = 5
	flowL4                    = 6
	flowSource                = 8
	flowDestination           = 9
	flowType                  = 10
	flowNodeName              = 11
	flowSourceNames           = 13
	flowDestinationNames      = 14
	flowReply                 = 16 // older clients read it
	flowEventType             = 19
	flowSourceService         = 20
	flowDestinationService    = 21
	flowTrafficDirection      = 22
	flowTraceObservationPoint = 24
	flowDropReasonDesc        = 25
	flowIsReply               = 26
	flowInterface             = 28
	flowUUID                  = 34
	flowTunnel                = 39
	flowEmitter               = 41
	flowEgressAllowedBy       = 21001
	flowIngressAllowedBy      = 21002
	flowEgressDeniedBy        = 21004
	flowIngressDeniedBy       = 21005
	flowSummary               = 100000 // it is what clients show
)

// appendFlow appends the record's Flow.
func (v *view) appendFlow(b []byte, version string) []byte {
	verdict := v.verdict()
	b = appendTime(b, flowTime, v.r.Msg.TimeReceivedNs)
	b = appendUint(b, flowVerdict, uint64(verdict))
	if verdict == flowpb.Verdict_DROPPED {
		reason := uint64(v.dropReason())
		b = appendUint(appendUint(b, flowDropReason, reason), flowDropReasonDesc, reason)
	}
	b = v.appendEthernet(b)
	b = v.appendIP(b)
	b = v.appendL4(b)
	b = v.appendTunnel(b)
	src, dst := v.source(), v.destination()
	b = v.appendEndpoint(b, flowSource, src)
	b = v.appendEndpoint(b, flowDestination, dst)
	b = appendText(appendText(b, flowSourceNames, src.place), flowDestinationNames, dst.place)
	b = appendService(appendService(b, flowSourceService, src), flowDestinationService, dst)
	b = appendUint(b, flowType, uint64(flowpb.FlowType_L3_L4))
	b = v.appendNodeName(b, flowNodeName)
	if is := v.isReply(); is != replyUnknown {
		b = appendBool(b, flowReply, is == replyYes)
		var at int
		b, at = open(b, flowIsReply)
		b = closed(appendBool(b, boolValue, is == replyYes), at)
	}
	b = v.appendEvent(b)
	b = appendUint(b, flowTrafficDirection, uint64(v.direction()))
	b = v.appendInterface(b)
	b = v.appendPolicy(b)
	b, at := open(b, flowUUID)
	b = closed(v.appendUUID(b), at)
	b, at = open(b, flowEmitter)
	b = closed(appendText(appendText(b, emitterNameField, emitterName), emitterVersion, version), at)
	b, at = open(b, flowSummary)
	return closed(v.appendSummary(b), at)
}

// Fields of Emitter, Timestamp and BoolValue.
const (
	emitterNameField = 1
	emitterVersion   = 2

	timeSeconds = 1
	timeNanos   = 2

	boolValue = 1
)

// appendTime appends a time in Unix nanoseconds.
func appendTime(b []byte, field protowire.Number, ns uint64) []byte {
	at := time.Unix(0, int64(ns))
	b, start := open(b, field)
	b = appendUint(b, timeSeconds, uint64(at.Unix()))
	return closed(appendUint(b, timeNanos, uint64(at.Nanosecond())), start)
}

// appendNodeName appends the name of the Node that has exported the record, with its cluster
// before it, as Cilium writes it.
func (v *view) appendNodeName(b []byte, field protowire.Number) []byte {
	node := v.nodeName()
	if node == "" {
		return b
	}
	b, at := open(b, field)
	if v.cluster != "" {
		b = append(append(b, v.cluster...), '/')
	}
	return closed(append(b, valid(node)...), at)
}

// Fields of Ethernet.
const (
	ethernetSource      = 1
	ethernetDestination = 2
)

func (v *view) appendEthernet(b []byte) []byte {
	src, dst := v.r.Msg.SrcMac, v.r.Msg.DstMac
	if src == 0 && dst == 0 {
		return b
	}
	b, at := open(b, flowEthernet)
	return closed(appendMAC(appendMAC(b, ethernetSource, src), ethernetDestination, dst), at)
}

func appendMAC(b []byte, field protowire.Number, addr uint64) []byte {
	const digits = "0123456789abcdef"
	b, at := open(b, field)
	for shift := 40; shift >= 0; shift -= 8 {
		octet := byte(addr >> shift)
		b = append(b, digits[octet>>4], digits[octet&0xf])
		if shift > 0 {
			b = append(b, ':')
		}
	}
	return closed(b, at)
}

// Fields of IP.
const (
	ipSource           = 1
	ipDestination      = 2
	ipVersionField     = 3
	ipSourceTranslated = 5
)

// appendIP appends the addresses, nothing for a record that has none.
func (v *view) appendIP(b []byte) []byte {
	version := v.ipVersion()
	if version == flowpb.IPVersion_IP_NOT_USED {
		return b
	}
	b, at := open(b, flowIP)
	b = appendAddr(appendAddr(b, ipSource, v.src.addr), ipDestination, v.dst.addr)
	b = appendAddr(b, ipSourceTranslated, v.translated())
	return closed(appendUint(b, ipVersionField, uint64(version)), at)
}

// appendAddr appends an address, unless it is invalid.
func appendAddr(b []byte, field protowire.Number, addr netip.Addr) []byte {
	if !addr.IsValid() {
		return b
	}
	b, at := open(b, field)
	return closed(addr.AppendTo(b), at)
}

func (v *view) ipVersion() flowpb.IPVersion {
	a := v.src.addr
	if !a.IsValid() {
		a = v.dst.addr
	}
	return versionOf(a)
}

func versionOf(a netip.Addr) flowpb.IPVersion {
	switch {
	case a.Is4():
		return flowpb.IPVersion_IPv4
	case a.IsValid():
		return flowpb.IPVersion_IPv6
	}
	return flowpb.IPVersion_IP_NOT_USED
}

// translated returns the source address behind a NAT, invalid if it is the same or not known.
func (v *view) translated() netip.Addr {
	a := addrOf(v.r.Extra.PostNATSrcAddr)
	if !a.IsValid() || a.IsUnspecified() || a == v.src.addr || !v.src.addr.IsValid() {
		return netip.Addr{}
	}
	return a
}

// Fields of Tunnel, and its types in Open vSwitch (enterprise element 6876/891).
const (
	tunnelProtocol = 1
	tunnelIP       = 2
	tunnelL4       = 3
	tunnelVNI      = 4

	tunnelVXLAN  = 1
	tunnelGeneve = 7
)

// appendTunnel appends the tunnel that the packets were in, nothing if there was none.
func (v *view) appendTunnel(b []byte) []byte {
	x := &v.r.Extra
	src, dst := addrOf(x.TunnelSrcAddr), addrOf(x.TunnelDstAddr)
	if !src.IsValid() || !dst.IsValid() || src.IsUnspecified() && dst.IsUnspecified() {
		return b
	}
	b, tunnel := open(b, flowTunnel)
	switch x.TunnelType {
	case tunnelVXLAN:
		b = appendUint(b, tunnelProtocol, uint64(flowpb.Tunnel_VXLAN))
	case tunnelGeneve:
		b = appendUint(b, tunnelProtocol, uint64(flowpb.Tunnel_GENEVE))
	}
	b, at := open(b, tunnelIP)
	b = appendAddr(appendAddr(b, ipSource, src), ipDestination, dst)
	b = closed(appendUint(b, ipVersionField, uint64(versionOf(src))), at)
	if x.TunnelProto == protoUDP {
		b, at = open(b, tunnelL4)
		b = closed(appendPorts(b, l4UDP, uint32(x.TunnelSrcPort), uint32(x.TunnelDstPort)), at)
	}
	b = appendUint(b, tunnelVNI, uint64(uint32(x.TunnelKey)))
	return closed(b, tunnel)
}

// Fields of NetworkInterface.
const (
	interfaceIndex = 1
	interfaceName  = 2
)

// appendInterface appends where the exporter saw the packets: where they left it if it says so,
// else where they came in; nothing if neither is known.
func (v *view) appendInterface(b []byte) []byte {
	index, name := v.interfaceSeen()
	if index == 0 && len(name) == 0 {
		return b
	}
	b, at := open(b, flowInterface)
	return closed(appendExported(appendUint(b, interfaceIndex, uint64(index)), interfaceName, name), at)
}

func (v *view) interfaceSeen() (index uint32, name []byte) {
	if v.egress() {
		return v.r.Msg.OutIf, v.r.Extra.OutIfName
	}
	return v.r.Msg.InIf, v.r.Extra.InIfName
}

// uuidLength is the length of a UUID as text.
const uuidLength = 36

// uuid returns what identifies the record, as flows show it.
func (v *view) uuid() string { return string(v.appendUUID(make([]byte, 0, uuidLength))) }

// appendUUID appends what identifies the record: the same in each answer. It is a UUID of version
// 8 (RFC 9562, section 5.8) made of the record's values, so records that are equal in all of them
// have the same one.
func (v *view) appendUUID(text []byte) []byte {
	m, x := &v.r.Msg, &v.r.Extra
	var room [256]byte
	b := room[:0]
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
	for i, part := range [...][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			text = append(text, '-')
		}
		text = hex.AppendEncode(text, part)
	}
	return text
}
