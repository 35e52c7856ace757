package collector

import (
	"encoding/binary"

	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/internal/packet"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Formats of the structures in samples of packets (sflow.org, sflow_version_5.txt and
// sFlow Tunnel Structures).
const (
	sflowSampledHeader     = 1
	sflowSampledEthernet   = 2
	sflowSampledIPv4       = 3
	sflowSampledIPv6       = 4
	sflowExtendedSwitch    = 1001
	sflowExtendedRouter    = 1002
	sflowExtendedGateway   = 1003
	sflowIPv4TunnelIngress = 1024
	sflowVNIIngress        = 1030
)

// What the headers of sampled packets begin with (enum header_protocol).
const (
	headerEthernet = 1
	headerPPP      = 7
	headerIPv4     = 11
	headerIPv6     = 12
	headerMPLS     = 13
	headerPOS      = 14 // PPP in HDLC-like framing (RFC 2615)
)

// sampleReader reads the structures of one sample into a message. It sets the fields
// that goflow2 sets (producer/proto/producer_sf.go), but a structure that is cut or
// malformed costs nothing but itself.
type sampleReader struct {
	m       *protoproducer.ProtoProducerMessage
	headers *headerReader
	packet  bool // there is a structure that describes the packet
	odd     int  // structures that were left out
	// tunnel and vni report whether the structures were there that Open vSwitch adds
	// for a packet that left a tunnel.
	tunnel, vni bool
}

// read reads count structures.
func (s *sampleReader) read(b []byte, count uint32) {
	// XDR pads structures to words (RFC 4506, 4.10). Exporters that do not, do not pad
	// the sample either.
	padded := len(b)%4 == 0
	for ; count > 0 && len(b) >= 8; count-- {
		steps.Add(1)
		format, length := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		b = b[8:]
		if uint64(length) > uint64(len(b)) {
			break
		}
		if !s.structure(format, b[:length:length]) {
			s.odd++
		}
		if padded {
			length = (length + 3) &^ 3 // within b, which has whole words
		}
		b = b[length:]
	}
	if count > 0 {
		s.odd++
	}
}

// structure reads one structure. It returns false if it is cut or malformed.
func (s *sampleReader) structure(format uint32, b []byte) bool {
	switch format {
	case sflowSampledHeader:
		return s.sampledHeader(b)
	case sflowSampledEthernet:
		return s.sampledEthernet(b)
	case sflowSampledIPv4:
		return s.sampledIP(b, packet.EtherIPv4, 4)
	case sflowSampledIPv6:
		return s.sampledIP(b, packet.EtherIPv6, 16)
	case sflowExtendedSwitch:
		return s.extendedSwitch(b)
	case sflowExtendedRouter:
		return s.extendedRouter(b)
	case sflowExtendedGateway:
		return s.extendedGateway(b)
	case sflowIPv4TunnelIngress:
		s.tunnel = true
	case sflowVNIIngress:
		s.vni = true
	}
	return true
}

// sampledHeader reads the length of the packet and its first bytes.
func (s *sampleReader) sampledHeader(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	be := binary.BigEndian
	s.packet = true
	s.m.Bytes = uint64(be.Uint32(b[4:]))
	header := b[16:]
	if n := be.Uint32(b[12:]); n > 0 && uint64(n) < uint64(len(header)) {
		header = header[:n] // padding follows
	}
	switch be.Uint32(b) {
	case headerEthernet:
		s.headers.read(packet.Frame(header))
	case headerPPP, headerPOS:
		s.headers.read(packet.PPPFrame(header))
	case headerIPv4, headerIPv6:
		s.headers.readIP(header)
	case headerMPLS:
		s.m.Etype = packet.EtherMPLS
		s.headers.read(packet.Payload(packet.EtherMPLS, header))
	}
	return true
}

// sampledEthernet reads the beginning of a frame. What another structure has announced
// stays.
func (s *sampleReader) sampledEthernet(b []byte) bool {
	if len(b) < 20 {
		return false
	}
	be := binary.BigEndian
	src, dst, etype := b[4:10], b[10:16], b[16:20]
	if len(b) >= 24 { // XDR pads an address to 8 bytes, though not all exporters do
		src, dst, etype = b[4:10], b[12:18], b[20:24]
	}
	s.packet = true
	if s.m.Bytes == 0 {
		s.m.Bytes = uint64(be.Uint32(b))
	}
	if s.m.SrcMac == 0 && s.m.DstMac == 0 {
		s.m.SrcMac, s.m.DstMac = mac(src), mac(dst)
	}
	if s.m.Etype == 0 {
		s.m.Etype = etherType(be.Uint32(etype))
	}
	return true
}

// sampledIP reads an IP packet's length, ends, TCP flags and type of service.
// addr is the length of an address. Where both are 0, what is known of others stays.
func (s *sampleReader) sampledIP(b []byte, etype uint32, addr int) bool {
	if len(b) < 24+2*addr {
		return false
	}
	be := binary.BigEndian
	s.packet = true
	m := s.m
	if len(m.SrcAddr) > 0 && allZero(b[8:8+2*addr]) {
		return true
	}
	m.Etype = etype
	if n := be.Uint32(b); n > 0 {
		m.Bytes = uint64(n)
	}
	m.Proto = be.Uint32(b[4:])
	b = b[8:]
	m.SrcAddr, m.DstAddr = b[:addr:addr], b[addr:2*addr:2*addr]
	b = b[2*addr:]
	m.SrcPort, m.DstPort = be.Uint32(b), be.Uint32(b[4:])
	if flags := be.Uint32(b[8:]); m.Proto == packet.ProtoTCP && flags > 0 {
		m.TcpFlags = flags
	}
	m.IpTos = be.Uint32(b[12:])
	return true
}

// vlanIDMask takes the priority off a tag (IEEE 802.1Q, 9.6).
const vlanIDMask = 0xfff

// vlanID returns the id of a VLAN that a structure names, 0 if it is unknown.
func vlanID(v uint32) uint32 {
	if v > 0xffff {
		return 0
	}
	return v & vlanIDMask
}

func (s *sampleReader) extendedSwitch(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	s.m.SrcVlan, s.m.DstVlan = vlanID(binary.BigEndian.Uint32(b)), vlanID(binary.BigEndian.Uint32(b[8:]))
	return true
}

// sflowAddress reads an address behind its type, and returns what follows. An unknown
// one, of type 0, has no bytes.
func sflowAddress(b []byte) (addr, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := 0
	switch binary.BigEndian.Uint32(b) {
	case 0:
	case 1:
		n = 4
	case 2:
		n = 16
	default:
		return nil, nil, false
	}
	b = b[4:]
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

func (s *sampleReader) extendedRouter(b []byte) bool {
	hop, b, ok := sflowAddress(b)
	if !ok || len(b) < 8 {
		return false
	}
	s.m.NextHop = hop
	s.m.SrcNet, s.m.DstNet = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return true
}

// extendedGateway reads what BGP knows of the packet's way. The path has one segment
// or several, of sequences and sets of numbers (RFC 4271, 4.3). The numbers are copied
// once the whole structure is known to be there: the room may be that of another one.
func (s *sampleReader) extendedGateway(b []byte) bool {
	be := binary.BigEndian
	hop, b, ok := sflowAddress(b)
	if !ok || len(b) < 16 {
		return false
	}
	as, srcAS := be.Uint32(b), be.Uint32(b[4:])
	segments := be.Uint32(b[12:])
	b = b[16:]
	rest := b
	for range segments {
		steps.Add(2) // it is gone round twice
		if len(rest) < 8 {
			return false
		}
		if _, rest, ok = numberList(rest[4:]); !ok {
			return false
		}
	}
	list, rest, ok := numberList(rest)
	if !ok || len(rest) < 4 { // the local preference
		return false
	}
	communities := appendNumbers(s.headers.communities[:0], list)
	path := s.headers.path[:0]
	for range segments {
		list, b, _ = numberList(b[4:])
		path = appendNumbers(path, list)
	}
	s.headers.path, s.headers.communities = path, communities

	m := s.m
	m.BgpNextHop, m.AsPath, m.BgpCommunities = hop, path, communities
	m.DstAs = as
	if len(path) > 0 {
		m.NextHopAs, m.DstAs = path[0], path[len(path)-1]
	}
	if m.SrcAs = srcAS; srcAS == 0 {
		m.SrcAs = as
	}
	return true
}

// numberList returns the bytes of a list of numbers, which begins with their count,
// and what follows it.
func numberList(b []byte) (list, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if uint64(n) > uint64(len(b)/4) {
		return nil, nil, false
	}
	return b[:4*n], b[4*n:], true
}

// appendNumbers appends the numbers of a list.
func appendNumbers(to []uint32, list []byte) []uint32 {
	for ; len(list) >= 4; list = list[4:] {
		steps.Add(1)
		to = append(to, binary.BigEndian.Uint32(list))
	}
	return to
}
