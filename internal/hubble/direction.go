package hubble

import (
	flowpb "github.com/cilium/cilium/api/v1/flow"
	goflowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The protocols that Hubble knows, by their number in IP.
const (
	protoICMP  = 1
	protoIGMP  = 2
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58
	protoVRRP  = 112
	protoSCTP  = 132
)

// TCP's flags, as in its header (RFC 9293, section 3.1) from the lowest bit.
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
	flagECE
	flagCWR
	flagNS
)

// firstEphemeralPort is the first one that Linux gives to clients unless it is set otherwise
// (net.ipv4.ip_local_port_range). Other systems and RFC 6335 begin higher.
const firstEphemeralPort = 32768

// reply reports whether packets are answers, and whether that is known.
type reply uint8

const (
	replyUnasked reply = iota
	replyUnknown
	replyNo
	replyYes
)

func replyIf(yes bool) reply {
	if yes {
		return replyYes
	}
	return replyNo
}

// isReply reports whether the packets of the record are answers. What the exporter tells goes
// first, then what only one side sends, then which side is a Service, then which side alone has
// a client's port.
func (v *view) isReply() reply {
	if v.reply == replyUnasked {
		v.reply = v.findReply()
	}
	return v.reply
}

func (v *view) findReply() reply {
	m := &v.r.Msg
	switch v.r.Extra.BiFlowDirection { // RFC 5103, section 6.3
	case 1:
		return replyNo
	case 2:
		return replyYes
	}
	switch m.Proto {
	case protoICMP, protoICMP6:
		if v.r.HasICMP() {
			return replyOfICMP(m.Proto, m.IcmpType)
		}
		return replyUnknown
	case protoTCP:
		if m.TcpFlags&flagSYN != 0 && m.TcpFlags&flagACK == 0 {
			return replyNo
		}
		// With several packets, both sides have sent both flags.
		if m.TcpFlags&(flagSYN|flagACK) == flagSYN|flagACK && m.Packets == 1 {
			return replyYes
		}
	case protoUDP, protoSCTP:
	default:
		return replyUnknown
	}
	if src, dst := isService(v.src.object), isService(v.dst.object); src != dst {
		return replyIf(src)
	}
	src, dst := m.SrcPort >= firstEphemeralPort, m.DstPort >= firstEphemeralPort
	if src == dst || m.SrcPort == 0 || m.DstPort == 0 {
		return replyUnknown
	}
	return replyIf(dst)
}

func isService(o *flow.Object) bool { return o != nil && o.Kind == kindService }

func isPod(o *flow.Object) bool { return o != nil && o.Kind == kindPod }

// replyOfICMP reports whether a message answers another one (RFC 792, RFC 4443).
func replyOfICMP(proto, icmpType uint32) reply {
	switch {
	case proto == protoICMP && icmpType == 0, proto == protoICMP6 && icmpType == 129:
		return replyYes // echo reply
	case proto == protoICMP && icmpType == 8, proto == protoICMP6 && icmpType == 128:
		return replyNo // echo
	}
	return replyUnknown
}

// side says which end of a record is the local one in Cilium's sense: the pod at whose interface
// the packets were seen.
type side uint8

const (
	sideUnknown side = iota
	sideSource
	sideDestination
)

// local returns the local end: the only pod on the exporter's Node, else the only pod. Of two
// pods of one Node it is the source where packets enter the bridge, and the destination where
// they leave it. Open vSwitch samples for sFlow where packets enter.
func (v *view) local() side {
	if !v.knowsSide {
		v.side, v.knowsSide = v.findLocal(), true
	}
	return v.side
}

func (v *view) findLocal() side {
	src, dst := isPod(v.src.object), isPod(v.dst.object)
	if !src || !dst {
		return onlySide(src, dst)
	}
	onSrc, onDst := v.onExporter(v.src.object), v.onExporter(v.dst.object)
	switch {
	case onSrc != onDst:
		return onlySide(onSrc, onDst)
	case v.egress():
		return sideDestination
	case v.r.Extra.HasDirection, onSrc && v.r.Msg.Type == goflowpb.FlowMessage_SFLOW_5:
		return sideSource
	}
	return sideUnknown
}

func onlySide(src, dst bool) side {
	switch {
	case src && !dst:
		return sideSource
	case dst && !src:
		return sideDestination
	}
	return sideUnknown
}

// egress reports whether the exporter saw the packets where they left it (IE 61).
func (v *view) egress() bool { return v.r.Extra.HasDirection && v.r.Extra.FlowDirection == 1 }

// direction returns the direction of the connection as the local pod sees it: answers have that
// of what they answer. It is that of the policy's rules where a policy decided, and that of the
// packets, as the exporter tells it, where no end is a pod.
func (v *view) direction() flowpb.TrafficDirection {
	if d := v.policyDirection(); d != flowpb.TrafficDirection_TRAFFIC_DIRECTION_UNKNOWN {
		return d
	}
	local, isReply := v.local(), v.isReply()
	switch {
	case local != sideUnknown && isReply != replyUnknown:
		if (local == sideSource) != (isReply == replyYes) {
			return flowpb.TrafficDirection_EGRESS
		}
		return flowpb.TrafficDirection_INGRESS
	case local != sideUnknown || !v.r.Extra.HasDirection:
		return flowpb.TrafficDirection_TRAFFIC_DIRECTION_UNKNOWN
	case v.egress():
		return flowpb.TrafficDirection_EGRESS
	}
	return flowpb.TrafficDirection_INGRESS
}
