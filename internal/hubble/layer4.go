package hubble

import "google.golang.org/protobuf/encoding/protowire"

// Fields of Layer4, and of the protocols in it.
const (
	l4TCP    = 1
	l4UDP    = 2
	l4ICMPv4 = 3
	l4ICMPv6 = 4
	l4SCTP   = 5
	l4VRRP   = 6
	l4IGMP   = 7

	portSource      = 1
	portDestination = 2
	tcpFlags        = 3

	icmpType = 1
	icmpCode = 2

	igmpGroup = 2
)

// appendL4 appends ports, or type and code; nothing for other protocols.
func (v *view) appendL4(b []byte) []byte {
	m, before := &v.r.Msg, len(b)
	b, l4 := open(b, flowL4)
	var at int
	switch m.Proto {
	case protoTCP:
		b, at = open(b, l4TCP)
		b = appendEnds(b, m.SrcPort, m.DstPort)
		b = closed(appendTCPFlags(b, m.TcpFlags), at)
	case protoUDP:
		b = appendPorts(b, l4UDP, m.SrcPort, m.DstPort)
	case protoSCTP:
		b = appendPorts(b, l4SCTP, m.SrcPort, m.DstPort)
	case protoICMP:
		b = appendICMP(b, l4ICMPv4, m.IcmpType, m.IcmpCode)
	case protoICMP6:
		b = appendICMP(b, l4ICMPv6, m.IcmpType, m.IcmpCode)
	case protoVRRP:
		b, at = open(b, l4VRRP)
		b = closed(b, at)
	case protoIGMP:
		b, at = open(b, l4IGMP)
		b = closed(appendAddr(b, igmpGroup, v.dst.addr), at)
	default:
		return b[:before]
	}
	return closed(b, l4)
}

// appendPorts appends the message of a protocol that has no more than ports.
func appendPorts(b []byte, field protowire.Number, src, dst uint32) []byte {
	b, at := open(b, field)
	return closed(appendEnds(b, src, dst), at)
}

func appendEnds(b []byte, src, dst uint32) []byte {
	return appendUint(appendUint(b, portSource, uint64(src)), portDestination, uint64(dst))
}

func appendICMP(b []byte, field protowire.Number, kind, code uint32) []byte {
	b, at := open(b, field)
	return closed(appendUint(appendUint(b, icmpType, uint64(kind)), icmpCode, uint64(code)), at)
}

// flagFields lists TCP's flags by their fields of TCPFlags, from 1 on.
var flagFields = [...]uint32{flagFIN, flagSYN, flagRST, flagPSH, flagACK, flagURG, flagECE, flagCWR, flagNS}

// appendTCPFlags appends the flags, nothing if none are known: a packet without any is none of a
// connection.
func appendTCPFlags(b []byte, bits uint32) []byte {
	if bits == 0 {
		return b
	}
	b, at := open(b, tcpFlags)
	for i, flag := range flagFields {
		b = appendBool(b, protowire.Number(i+1), bits&flag != 0)
	}
	return closed(b, at)
}
