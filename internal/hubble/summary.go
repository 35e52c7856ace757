package hubble

import (
	"strconv"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// flagNames lists TCP's flags in the order in which Hubble shows them.
var flagNames = [...]struct {
	bit  uint32
	name string
}{
	{flagSYN, "SYN"}, {flagACK, "ACK"}, {flagRST, "RST"}, {flagFIN, "FIN"}, {flagPSH, "PSH"},
	{flagURG, "URG"}, {flagECE, "ECE"}, {flagCWR, "CWR"}, {flagNS, "NS"},
}

// appendSummary appends what flows have no fields for: how much traffic the record is of, after what
// Cilium writes there, and what is in doubt about the names.
func (v *view) appendSummary(b []byte) []byte {
	m := &v.r.Msg
	b = v.appendProtocol(b)
	b = append(b, "; "...)
	b = appendCount(b, m.Packets, "packet")
	b = append(b, ", "...)
	b = appendCount(b, m.Bytes, "byte")
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
		b = appendValid(append(b, "; rule "...), rule)
	}
	if warn := v.r.Extra.PolicyWarn; len(warn) > 0 {
		b = appendValid(append(b, "; "...), warn)
	}
	for _, o := range [...]*flow.Object{v.src.object, v.dst.object} {
		if o != nil && o.Warn != "" {
			b = append(append(b, "; "...), valid(o.Warn)...)
		}
	}
	return b
}

// appendProtocol appends the protocol as Cilium does.
func (v *view) appendProtocol(b []byte) []byte {
	m := &v.r.Msg
	switch m.Proto {
	case protoTCP:
		if m.TcpFlags != 0 {
			b = append(b, "TCP Flags: "...)
			return appendFlagNames(b, m.TcpFlags)
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

func appendFlagNames(b []byte, bits uint32) []byte {
	sep := ""
	for _, f := range flagNames {
		if bits&f.bit != 0 {
			b = append(append(b, sep...), f.name...)
			sep = ", "
		}
	}
	return b
}

func appendCount(b []byte, n uint64, unit string) []byte {
	b = strconv.AppendUint(b, n, 10)
	b = append(append(b, ' '), unit...)
	if n != 1 {
		b = append(b, 's')
	}
	return b
}
