package collector

import (
	"encoding/binary"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// packetMapper reads sampled packet headers in place of goflow2's parser
// (producer/proto/producer_packet.go). It sets the same fields, but for what that
// parser gets wrong: it reads the payload of fragments other than the first as
// ports, and so it does with IPv4 options, and it does not find the protocol and
// the ports after IPv6 extension headers. packetMapper allocates nothing but the
// message's lists, and every step consumes input.
type packetMapper struct{}

// ParsePacket reads an Ethernet frame into the message. It never fails: what
// the header does not hold stays empty.
func (packetMapper) ParsePacket(m protoproducer.ProtoProducerMessageIf, data []byte) error {
	p := packet{m: m.GetFlowMessage()}
	p.ethernet(data)
	return nil
}

// parseIP reads a sampled packet that begins with its IP header (sFlow header
// protocols 11 and 12), which goflow2 ignores.
func parseIP(m *protoproducer.ProtoProducerMessage, etype uint16, data []byte) {
	p := packet{m: m}
	m.Etype = uint32(etype)
	p.etype(etype, data)
}

// IP protocols and IPv6 extension headers
// (https://www.iana.org/assignments/protocol-numbers).
const (
	ipHopByHop           = 0
	ipICMP               = 1
	ipIPv4               = 4
	ipTCP                = 6
	ipUDP                = 17
	ipIPv6               = 41
	ipRouting            = 43
	ipFragment           = 44
	ipGRE                = 47
	ipAuthentication     = 51
	ipICMPv6             = 58
	ipDestinationOptions = 60
	ipMobility           = 135
)

// maxLayers bounds the layers of one packet, and with it recursion.
const maxLayers = 32

// packet is the state of parsing one packet. Fields of the message are set from
// the outermost headers; what is encapsulated is only listed in LayerStack.
type packet struct {
	m      *protoproducer.ProtoProducerMessage
	layers int
	inner  bool // within an encapsulation
	group  int  // of the layer before: link, network, transport (goflow2's LayerIndex)
	v6     bool // in an IPv6 packet, where extension headers can follow
	later  bool // in a fragment that is not the first: no header follows, only payload
}

// goflow2's layer groups. A layer of a group that is not above the one before
// begins an encapsulation.
const (
	groupEthernet  = 20
	groupTag       = 25
	groupNetwork   = 30
	groupExtension = 35
	groupTransport = 40
	groupICMP      = 70
)

// enter adds a layer and its size to the lists, and reports whether its fields are
// to be set.
func (p *packet) enter(layer flowpb.FlowMessage_LayerStack, size, group int, tag bool) bool {
	if p.layers++; p.layers > 1 && !tag && group <= p.group {
		p.inner = true
	}
	p.group = group
	p.m.LayerStack = append(p.m.LayerStack, layer)
	p.m.LayerSize = append(p.m.LayerSize, uint32(size))
	return !p.inner
}

// short adds a size of 0, as goflow2 does for a header that the sample cuts off.
func (p *packet) short() {
	p.m.LayerSize = append(p.m.LayerSize, 0)
}

func mac(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

func (p *packet) ethernet(data []byte) {
	if p.layers >= maxLayers {
		return
	}
	if len(data) < 14 {
		p.short()
		return
	}
	etype := binary.BigEndian.Uint16(data[12:])
	if p.enter(flowpb.FlowMessage_Ethernet, 14, groupEthernet, false) {
		p.m.DstMac = mac(data)
		p.m.SrcMac = mac(data[6:])
		p.m.Etype = uint32(etype)
	}
	p.etype(etype, data[14:])
}

func (p *packet) etype(etype uint16, data []byte) {
	if p.layers >= maxLayers {
		return
	}
	switch etype {
	case 0x199e, 0x6558: // as in goflow2; 0x6558 is transparent Ethernet bridging
		p.ethernet(data)
	case 0x8100: // 802.1Q
		p.vlan(data)
	case 0x8847: // MPLS
		p.mpls(data)
	case flow.EtypeIPv4:
		p.ipv4(data)
	case flow.EtypeIPv6:
		p.ipv6(data)
	}
}

func (p *packet) vlan(data []byte) {
	if len(data) < 4 {
		p.short()
		return
	}
	etype := binary.BigEndian.Uint16(data[2:])
	if p.enter(flowpb.FlowMessage_Dot1Q, 4, groupTag, true) {
		p.m.VlanId = uint32(binary.BigEndian.Uint16(data))
		p.m.Etype = uint32(etype)
	}
	p.etype(etype, data[4:])
}

func (p *packet) mpls(data []byte) {
	if len(data) < 4 {
		p.short()
		return
	}
	size, etype := 0, uint16(0)
	var labels, ttls []uint32
	for len(data) >= size+4 {
		entry := binary.BigEndian.Uint32(data[size:])
		size += 4
		label := entry >> 12
		labels, ttls = append(labels, label), append(ttls, entry&0xff)
		if entry&0x100 != 0 || label <= 15 {
			if len(data) > size {
				switch data[size] >> 4 {
				case 4:
					etype = flow.EtypeIPv4
				case 6:
					etype = flow.EtypeIPv6
				}
			}
			break
		}
	}
	if p.enter(flowpb.FlowMessage_MPLS, size, groupTag, true) {
		p.m.MplsLabel, p.m.MplsTtl = labels, ttls
		if etype != 0 {
			p.m.Etype = uint32(etype)
		}
	}
	p.etype(etype, data[size:])
}

func (p *packet) ipv4(data []byte) {
	if len(data) < 20 {
		p.short()
		return
	}
	p.v6 = false
	header := max(int(data[0]&0xf)*4, 20)
	fragment := binary.BigEndian.Uint16(data[6:])
	if p.enter(flowpb.FlowMessage_IPv4, 20, groupNetwork, false) {
		p.m.SrcAddr, p.m.DstAddr = data[12:16], data[16:20]
		p.m.IpTos, p.m.IpTtl = uint32(data[1]), uint32(data[8])
		p.m.FragmentId = uint32(binary.BigEndian.Uint16(data[4:]))
		p.m.FragmentOffset = uint32(fragment & 0x1fff)
		p.m.IpFlags = uint32(fragment >> 13)
		p.m.Proto = uint32(data[9])
	}
	if header <= len(data) {
		p.later = fragment&0x1fff != 0
		p.proto(data[9], data[header:])
	}
}

func (p *packet) ipv6(data []byte) {
	if len(data) < 40 {
		p.short()
		return
	}
	p.v6 = true
	next := data[6]
	if p.enter(flowpb.FlowMessage_IPv6, 40, groupNetwork, false) {
		p.m.SrcAddr, p.m.DstAddr = data[8:24], data[24:40]
		first := binary.BigEndian.Uint32(data)
		p.m.IpTos, p.m.IpTtl = first>>20&0xff, uint32(data[7])
		p.m.Ipv6FlowLabel = first & 0xfffff
		p.m.Proto = uint32(next)
	}
	p.proto(next, data[40:])
}

// proto reads what follows an IP header. After IPv6 extension headers the
// message's protocol is that of the transport (RFC 8200, 4). In a fragment that
// is not the first, the transport is listed as a layer, as goflow2 does, but
// nothing is read from it.
func (p *packet) proto(proto byte, data []byte) {
	if p.layers >= maxLayers {
		return
	}
	if !p.inner && p.group == groupExtension {
		p.m.Proto = uint32(proto)
	}
	if p.later && proto != ipICMP && proto != ipICMPv6 && proto != ipTCP && proto != ipUDP {
		return
	}
	switch proto {
	case ipICMP:
		p.icmp(flowpb.FlowMessage_ICMP, data)
	case ipICMPv6:
		p.icmp(flowpb.FlowMessage_ICMPv6, data)
	case ipIPv4:
		p.ipv4(data)
	case ipIPv6:
		p.ipv6(data)
	case ipTCP:
		if len(data) < 20 {
			p.short()
		} else if p.enter(flowpb.FlowMessage_TCP, 20+int(data[13]>>4)*4, groupTransport, false) {
			p.ports(data)
			if !p.later {
				p.m.TcpFlags = uint32(data[13])
			}
		}
	case ipUDP:
		if len(data) < 8 {
			p.short()
		} else if p.enter(flowpb.FlowMessage_UDP, 8, groupTransport, false) {
			p.ports(data)
		}
	case ipGRE:
		if len(data) < 4 {
			p.short()
			return
		}
		p.enter(flowpb.FlowMessage_GRE, 4, groupTransport, false)
		p.etype(binary.BigEndian.Uint16(data[2:]), data[4:])
	case ipRouting:
		p.routing(data)
	case ipFragment:
		p.fragment(data)
	case ipHopByHop, ipDestinationOptions, ipMobility, ipAuthentication:
		p.extension(proto, data)
	}
}

func (p *packet) ports(data []byte) {
	if p.later {
		return
	}
	p.m.SrcPort = uint32(binary.BigEndian.Uint16(data))
	p.m.DstPort = uint32(binary.BigEndian.Uint16(data[2:]))
}

func (p *packet) icmp(layer flowpb.FlowMessage_LayerStack, data []byte) {
	if len(data) < 2 {
		p.short()
		return
	}
	// goflow2 v2.2.6 has code that sets the type and the code here, but it never
	// does for a packet that begins with a link or IP header, since its call counter
	// is already 1. Nor do we: the fields of sFlow records are those of goflow2.
	p.enter(layer, 8, groupICMP, false)
}

// routing reads an IPv6 routing header, with the segments of RFC 8754.
func (p *packet) routing(data []byte) {
	if len(data) < 8 {
		p.short()
		return
	}
	size := 8 + 8*int(data[1])
	if p.enter(flowpb.FlowMessage_IPv6HeaderRouting, size, groupExtension, true) {
		p.m.Ipv6RoutingHeaderSegLeft = uint32(data[3])
		if data[2] == 4 {
			for i := 0; i <= int(data[4]); i++ {
				at := 8 + 16*i
				if at >= size || at+16 > len(data) {
					break
				}
				p.m.Ipv6RoutingHeaderAddresses = append(p.m.Ipv6RoutingHeaderAddresses, data[at:at+16])
			}
		}
	}
	if size <= len(data) {
		p.proto(data[0], data[size:])
	}
}

func (p *packet) fragment(data []byte) {
	if len(data) < 8 {
		p.short()
		return
	}
	offset := binary.BigEndian.Uint16(data[2:])
	if p.enter(flowpb.FlowMessage_IPv6HeaderFragment, 8, groupExtension, true) {
		p.m.FragmentId = binary.BigEndian.Uint32(data[4:])
		p.m.FragmentOffset = uint32(offset >> 3)
		p.m.IpFlags = uint32(offset & 7)
	}
	p.later = offset>>3 != 0
	p.proto(data[0], data[8:])
}

// extension skips an IPv6 extension header that goflow2 does not know. It adds
// no layer, as there is no name for one.
func (p *packet) extension(proto byte, data []byte) {
	if !p.v6 || len(data) < 8 {
		return
	}
	size := 8 + 8*int(data[1])
	if proto == ipAuthentication {
		size = 8 + 4*int(data[1]) // RFC 4302, 2.2
	}
	p.layers++
	p.group = groupExtension
	if size <= len(data) {
		p.proto(data[0], data[size:])
	}
}
