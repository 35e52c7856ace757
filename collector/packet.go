package collector

import (
	"encoding/binary"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/internal/packet"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// headerReader fills in what the headers of a sampled packet tell: the fields that
// goflow2's parser sets (producer/proto/producer_packet.go), and its lists of layers.
// What the sample does not hold stays empty. The reader allocates nothing once its
// lists have grown, and every step consumes input.
//
// The fields are those of the outermost IP header, and of the transport behind it.
// Before that header there may be several Ethernet frames, tags and label stacks: the
// MAC addresses are those of the outermost frame, and the VLAN id is that of the
// innermost tag. What lies in tunnels is only listed in LayerStack.
type headerReader struct {
	m *protoproducer.ProtoProducerMessage
	// icmp reports whether the ICMP type and code were read.
	icmp bool

	past // of the packet at hand

	// The room for the message's lists.
	layers            []flowpb.FlowMessage_LayerStack
	sizes             []uint32
	labels, ttls      []uint32
	segments          [][]byte
	path, communities []uint32 // sampleReader fills them
}

// past tells what lies behind the reader in a packet: the first frame, the first
// label stack, the first IP header, and what begins a tunnel.
type past struct{ ether, mpls, ip, inner bool }

// begin gives a message that was reset the room for its lists.
func (h *headerReader) begin(m *protoproducer.ProtoProducerMessage) {
	h.m, h.icmp = m, false
	h.layers, h.sizes, h.segments = h.layers[:0], h.sizes[:0], h.segments[:0]
}

// readIP reads a packet that begins with its IP header.
func (h *headerReader) readIP(data []byte) {
	if len(data) > 0 {
		switch data[0] >> 4 {
		case 4:
			h.m.Etype = packet.EtherIPv4
		case 6:
			h.m.Etype = packet.EtherIPv6
		}
	}
	h.read(packet.IP(data))
}

// frameSection reads dataLinkFrameSection (IE 315): what a frame begins with. Where
// the record has no counters, they are one packet, and the length of the section, as
// in goflow2. One of zeros is no frame.
func (h *headerReader) frameSection(data []byte) {
	if allZero(data) {
		return
	}
	h.read(packet.Frame(data))
	h.count(uint64(len(data)))
}

// ipSection reads ipHeaderPacketSection (IE 313): what a packet begins with from its
// IP header on. goflow2 does not. Where the record has no counters, they are those of
// the packet.
func (h *headerReader) ipSection(data []byte) {
	if len(data) == 0 || len(h.layers) > 0 {
		return // there was a frame, which tells more
	}
	h.readIP(data)
	length := uint64(0)
	switch {
	case h.m.Etype == packet.EtherIPv4 && len(data) >= 20:
		length = uint64(binary.BigEndian.Uint16(data[2:]))
	case h.m.Etype == packet.EtherIPv6 && len(data) >= 40:
		length = 40 + uint64(binary.BigEndian.Uint16(data[4:]))
	}
	h.count(length)
}

// count counts the packet where the record has no counters.
func (h *headerReader) count(length uint64) {
	if h.m.Packets == 0 {
		h.m.Packets = 1
	}
	if h.m.Bytes == 0 {
		h.m.Bytes = length
	}
}

// read reads a packet's headers into the message. Lists of layers and segments go
// on where there was a packet before, as they do in goflow2.
func (h *headerReader) read(w packet.Walker) {
	h.past = past{}
	var l packet.Layer
	for w.Next(&l) {
		steps.Add(steps.Miss)
		h.layer(&l)
		if l.Kind.IsTransport() {
			break // nothing is walked behind it
		}
	}
}

// end hands the lists of layers to the message.
func (h *headerReader) end() { h.m.LayerStack, h.m.LayerSize = h.layers, h.sizes }

// layer reads one header.
func (h *headerReader) layer(l *packet.Layer) {
	if h.ip && l.Kind.BeginsPacket() {
		h.inner = true
	}
	switch l.Kind {
	case packet.Ethernet:
		h.ethernet(l)
	case packet.VLAN:
		h.vlan(l)
	case packet.MPLS:
		h.labelStack(l)
	case packet.IPv4:
		h.ipv4(l)
	case packet.IPv6:
		h.ipv6(l)
	case packet.Routing:
		h.routing(l)
	case packet.Fragment:
		h.fragment(l)
	case packet.TCP:
		h.tcp(l)
	case packet.UDP:
		h.udp(l)
	case packet.ICMP:
		h.readICMP(l, flowpb.FlowMessage_ICMP)
	case packet.ICMPv6:
		h.readICMP(l, flowpb.FlowMessage_ICMPv6)
	case packet.GRE:
		h.list(l.Whole, flowpb.FlowMessage_GRE, len(l.Header))
	}
	if h.inner {
		return
	}
	if l.EtherType != 0 && !h.ip {
		h.m.Etype = etherType(uint32(l.EtherType))
	}
	if l.Kind.IsExtension() && len(l.Header) > 0 {
		h.m.Proto = uint32(l.Proto) // RFC 8200, 4: that of the transport in the end
	}
}

// etherType returns an EtherType, 0 where there is a length in its place.
func etherType(v uint32) uint32 {
	if v <= packet.MaxLength {
		return 0
	}
	return v
}

// list adds a layer and its size to the lists. Like goflow2, it lists no layer, but a
// size of 0, for a header that the sample cuts off.
func (h *headerReader) list(there bool, layer flowpb.FlowMessage_LayerStack, size int) {
	if !there {
		h.sizes = append(h.sizes, 0)
		return
	}
	h.layers = append(h.layers, layer)
	h.sizes = append(h.sizes, uint32(size))
}

func mac(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b))<<32 | uint64(binary.BigEndian.Uint32(b[2:]))
}

// ethernet reads the addresses of a frame. Where both are 0, those of elements or of
// other structures stay.
func (h *headerReader) ethernet(l *packet.Layer) {
	h.list(l.Whole, flowpb.FlowMessage_Ethernet, 14)
	if l.Whole && !h.inner && !h.ether && !allZero(l.Header[:12]) {
		h.m.DstMac, h.m.SrcMac = mac(l.Header), mac(l.Header[6:])
	}
	h.ether = true
}

func (h *headerReader) vlan(l *packet.Layer) {
	h.list(l.Whole, flowpb.FlowMessage_Dot1Q, 4)
	if l.Whole && !h.inner {
		h.m.VlanId = uint32(binary.BigEndian.Uint16(l.Header)) & vlanIDMask
	}
}

// labelStack lists the entries of a stack, also of one that the sample cuts off.
func (h *headerReader) labelStack(l *packet.Layer) {
	b := l.Header
	size := len(b)
	if !l.Whole {
		size -= size % 4
	}
	h.list(size > 0, flowpb.FlowMessage_MPLS, size)
	if h.inner {
		return
	}
	if !h.mpls {
		h.labels, h.ttls = h.labels[:0], h.ttls[:0]
	}
	h.mpls = true
	for bottom := false; !bottom && len(b) >= 4; b = b[4:] {
		steps.Add(1)
		entry := binary.BigEndian.Uint32(b)
		h.labels, h.ttls = append(h.labels, entry>>12), append(h.ttls, entry&0xff)
		bottom = entry&0x100 != 0 // a control word may follow
	}
	h.m.MplsLabel, h.m.MplsTtl = h.labels, h.ttls
}

func (h *headerReader) ipv4(l *packet.Layer) {
	b := l.Header
	there := len(b) >= 20 // options may be cut
	h.list(there, flowpb.FlowMessage_IPv4, 20)
	if !there || h.inner {
		return
	}
	h.ip = true
	fragment := binary.BigEndian.Uint16(b[6:])
	h.m.SrcAddr, h.m.DstAddr = b[12:16:16], b[16:20:20]
	h.m.IpTos, h.m.IpTtl = uint32(b[1]), uint32(b[8])
	h.m.FragmentId = uint32(binary.BigEndian.Uint16(b[4:]))
	h.m.FragmentOffset = uint32(fragment & 0x1fff)
	h.m.IpFlags = uint32(fragment >> 13)
	h.m.Proto = uint32(b[9])
}

func (h *headerReader) ipv6(l *packet.Layer) {
	h.list(l.Whole, flowpb.FlowMessage_IPv6, 40)
	if !l.Whole || h.inner {
		return
	}
	h.ip = true
	b := l.Header
	first := binary.BigEndian.Uint32(b)
	h.m.SrcAddr, h.m.DstAddr = b[8:24:24], b[24:40:40]
	h.m.IpTos, h.m.IpTtl = first>>20&0xff, uint32(b[7])
	h.m.Ipv6FlowLabel = first & 0xfffff
	h.m.Proto = uint32(b[6])
}

// routing reads an IPv6 routing header, with the segments of RFC 8754 that the
// sample holds.
func (h *headerReader) routing(l *packet.Layer) {
	b := l.Header
	if len(b) < 8 {
		h.list(false, 0, 0)
		return
	}
	size := 8 + 8*int(b[1])
	h.list(true, flowpb.FlowMessage_IPv6HeaderRouting, size)
	if h.inner {
		return
	}
	h.m.Ipv6RoutingHeaderSegLeft = uint32(b[3])
	const segmentRouting = 4
	if b[2] != segmentRouting {
		return
	}
	for i := 0; i <= int(b[4]); i++ {
		steps.Add(1)
		at := 8 + 16*i
		if at >= size || at+16 > len(b) {
			break
		}
		h.segments = append(h.segments, b[at:at+16:at+16])
	}
	h.m.Ipv6RoutingHeaderAddresses = h.segments
}

func (h *headerReader) fragment(l *packet.Layer) {
	h.list(l.Whole, flowpb.FlowMessage_IPv6HeaderFragment, 8)
	if !l.Whole || h.inner {
		return
	}
	offset := binary.BigEndian.Uint16(l.Header[2:])
	h.m.FragmentId = binary.BigEndian.Uint32(l.Header[4:])
	h.m.FragmentOffset = uint32(offset >> 3)
	h.m.IpFlags = uint32(offset & 7)
}

// tcp reads ports and flags as far as the sample holds them.
func (h *headerReader) tcp(l *packet.Layer) {
	b := l.Header
	size := 0
	if l.Whole {
		size = 20 + int(b[13]>>4)*4 // this is how goflow2 counts
	}
	h.list(l.Whole, flowpb.FlowMessage_TCP, size)
	h.ports(l)
	if len(b) >= 14 && !l.Later && !h.inner {
		h.m.TcpFlags = uint32(b[13])
	}
}

func (h *headerReader) udp(l *packet.Layer) {
	h.list(l.Whole, flowpb.FlowMessage_UDP, 8)
	h.ports(l)
}

func (h *headerReader) ports(l *packet.Layer) {
	if len(l.Header) < 4 || l.Later || h.inner {
		return
	}
	h.m.SrcPort = uint32(binary.BigEndian.Uint16(l.Header))
	h.m.DstPort = uint32(binary.BigEndian.Uint16(l.Header[2:]))
}

// readICMP reads type and code. goflow2 v2.2.6 has code for it, but never does so for
// a packet that begins with a link or IP header, since its call counter is already 1.
func (h *headerReader) readICMP(l *packet.Layer, layer flowpb.FlowMessage_LayerStack) {
	there := len(l.Header) >= 2
	h.list(there, layer, 8)
	if !there || l.Later || h.inner {
		return
	}
	h.m.IcmpType, h.m.IcmpCode = uint32(l.Header[0]), uint32(l.Header[1])
	h.icmp = true
}
