package hubble

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
)

// one makes a predicate of a value that must be in a list, nil for an empty list.
func one[T comparable](list []T, value func(v *view) T) (predicate, error) {
	if len(list) == 0 {
		return nil, nil
	}
	return func(v *view) bool { return slices.Contains(list, value(v)) }, nil
}

func verdictIs(f *flowpb.FlowFilter) (predicate, error) { return one(f.GetVerdict(), (*view).verdict) }

func directionIs(f *flowpb.FlowFilter) (predicate, error) {
	return one(f.GetTrafficDirection(), (*view).direction)
}

func ipVersionIs(f *flowpb.FlowFilter) (predicate, error) {
	return one(f.GetIpVersion(), (*view).ipVersion)
}

func uuidIs(f *flowpb.FlowFilter) (predicate, error) { return one(f.GetUuid(), (*view).uuid) }

// encryptedIs is for WireGuard and IPsec, of which exporters tell nothing.
func encryptedIs(f *flowpb.FlowFilter) (predicate, error) {
	list := f.GetEncrypted()
	if len(list) > 0 && !slices.Contains(list, false) {
		return nil, unknowable("what is encrypted")
	}
	return nil, nil
}

func dropReasonIs(f *flowpb.FlowFilter) (predicate, error) {
	list := f.GetDropReasonDesc()
	if len(list) == 0 {
		return nil, nil
	}
	return func(v *view) bool {
		return v.verdict() == flowpb.Verdict_DROPPED && slices.Contains(list, v.dropReason())
	}, nil
}

// replyIs leaves out what may be an answer or not, but for what was dropped: Hubble UI asks for
// what is no answer, and is to see drops.
func replyIs(f *flowpb.FlowFilter) (predicate, error) {
	list := f.GetReply()
	if len(list) == 0 {
		return nil, nil
	}
	return func(v *view) bool {
		is := v.isReply()
		if is == replyUnknown && v.verdict() != flowpb.Verdict_DROPPED {
			return false
		}
		return slices.Contains(list, is == replyYes)
	}, nil
}

// protocols has the numbers of what Hubble calls protocols.
var protocols = map[string][]uint32{
	"icmp": {protoICMP, protoICMP6}, "icmpv4": {protoICMP}, "icmpv6": {protoICMP6}, "tcp": {protoTCP}, "udp": {protoUDP},
	"sctp": {protoSCTP}, "vrrp": {protoVRRP}, "igmp": {protoIGMP},
	"dns": nil, "http": nil,
}

func protocolIs(f *flowpb.FlowFilter) (predicate, error) {
	names := f.GetProtocol()
	if len(names) == 0 {
		return nil, nil
	}
	var numbers []uint32
	for _, name := range names {
		list, ok := protocols[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("there is no protocol %q", name)
		}
		numbers = append(numbers, list...)
	}
	if len(numbers) == 0 {
		return nil, unknowable("requests of HTTP or DNS; ask for their ports")
	}
	return func(v *view) bool { return slices.Contains(numbers, v.r.Msg.Proto) }, nil
}

func tcpFlagsAre(f *flowpb.FlowFilter) (predicate, error) {
	var masks []uint32
	for _, flags := range f.GetTcpFlags() {
		masks = append(masks, maskOf(flags))
	}
	if len(masks) == 0 {
		return nil, nil
	}
	return func(v *view) bool {
		bits := v.r.Msg.TcpFlags
		if v.r.Msg.Proto != protoTCP || bits == 0 {
			return false
		}
		return slices.ContainsFunc(masks, func(m uint32) bool { return bits&m == m })
	}, nil
}

func maskOf(f *flowpb.TCPFlags) (mask uint32) {
	for _, b := range [...]struct {
		set bool
		bit uint32
	}{
		{f.GetFIN(), flagFIN}, {f.GetSYN(), flagSYN}, {f.GetRST(), flagRST}, {f.GetPSH(), flagPSH}, {f.GetACK(), flagACK},
		{f.GetURG(), flagURG}, {f.GetECE(), flagECE}, {f.GetCWR(), flagCWR}, {f.GetNS(), flagNS},
	} {
		if b.set {
			mask |= b.bit
		}
	}
	return mask
}

func eventIs(f *flowpb.FlowFilter) (predicate, error) {
	list := f.GetEventType()
	if len(list) == 0 {
		return nil, nil
	}
	return func(v *view) bool {
		eventType, subType, ok := v.event()
		return ok && slices.ContainsFunc(list, func(t *flowpb.EventTypeFilter) bool {
			return (t.GetType() == 0 || t.GetType() == eventType) && (!t.GetMatchSubType() || t.GetSubType() == subType)
		})
	}, nil
}

// traceIs is for traces of applications and of IP options, which no record has.
func traceIs(f *flowpb.FlowFilter) (predicate, error) {
	application, ip := f.GetTraceId(), f.GetIpTraceId()
	if len(application) == 0 && len(ip) == 0 {
		return nil, nil
	}
	if len(application) > 0 && !slices.Contains(application, "") || len(ip) > 0 && !slices.Contains(ip, 0) {
		return nil, unknowable("traces")
	}
	return nil, nil
}

func interfaceIs(f *flowpb.FlowFilter) (predicate, error) {
	list := f.GetInterface()
	if len(list) == 0 {
		return nil, nil
	}
	return func(v *view) bool {
		index, name := v.interfaceSeen()
		if index == 0 && len(name) == 0 {
			return false
		}
		return slices.ContainsFunc(list, func(i *flowpb.NetworkInterface) bool {
			return (i.GetIndex() == 0 || i.GetIndex() == index) && (i.GetName() == "" || i.GetName() == string(name))
		})
	}, nil
}

// ofPort makes the part for ports that values returns.
func ofPort(values func(*flowpb.FlowFilter) []string, port func(*view) uint32) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		var list []uint32
		for _, s := range values(f) {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("port %q is no number from 0 to 65535", s)
			}
			list = append(list, uint32(n))
		}
		if len(list) == 0 {
			return nil, nil
		}
		return func(v *view) bool {
			switch v.r.Msg.Proto {
			case protoTCP, protoUDP, protoSCTP:
				return slices.Contains(list, port(v))
			}
			return false
		}, nil
	}
}

func sourcePort(v *view) uint32 { return v.r.Msg.SrcPort }

func destinationPort(v *view) uint32 { return v.r.Msg.DstPort }

func sourceAddr(v *view) netip.Addr { return v.src.addr }

func destinationAddr(v *view) netip.Addr { return v.dst.addr }

// ofIP makes the part for addresses and prefixes that values returns.
func ofIP(values func(*flowpb.FlowFilter) []string, addr func(*view) netip.Addr) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		var prefixes []netip.Prefix
		for _, s := range values(f) {
			p, err := parsePrefix(s)
			if err != nil {
				return nil, err
			}
			prefixes = append(prefixes, p)
		}
		if len(prefixes) == 0 {
			return nil, nil
		}
		return func(v *view) bool {
			a := addr(v)
			return a.IsValid() && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
		}, nil
	}
}

func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return p, fmt.Errorf("%q is no range of addresses such as 10.0.0.0/8", s)
		}
		return p, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no IP address", s)
	}
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}
