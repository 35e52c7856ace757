// Package packet walks the headers of a packet, one layer after the other. It is
// the one place that knows link layers, tags, PPPoE, MPLS stacks and IPv6
// extension headers: captures and the packets that exporters sample are both read
// with it.
package packet

import (
	"encoding/binary"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Kind is what a layer is.
type Kind uint8

// The kinds of layers.
const (
	Ethernet Kind = iota
	VLAN          // one tag: IEEE 802.1Q, 802.1ad, and their predecessors 0x9100 and 0x9200
	Tag           // another tag, which tells nothing of interest: 802.1ah, 802.1BR, VN-Tag
	SNAP          // a SNAP header (IEEE 802), where Ethernet has a length in place of the type
	MPLS          // a whole label stack (RFC 3032), and the control word behind it (RFC 4385)
	PPPoE         // a session's header and the PPP protocol (RFC 2516)
	PPP           // the PPP protocol (RFC 1661), with the HDLC bytes before it if there are any
	IPv4
	IPv6
	Routing   // IPv6 routing header
	Fragment  // IPv6 fragment header
	Extension // other IPv6 extension headers: they have a length, and nothing of interest
	TCP
	UDP
	ICMP
	ICMPv6
	GRE
)

// BeginsPacket reports whether a layer of this kind begins a packet or what is
// before its IP header. Behind an IP header it is one in a tunnel.
func (k Kind) BeginsPacket() bool { return k <= IPv6 }

// IsExtension reports whether a layer of this kind is an IPv6 extension header.
func (k Kind) IsExtension() bool { return k >= Routing && k <= Extension }

// IsTransport reports whether a layer of this kind is the last one that is walked.
func (k Kind) IsTransport() bool { return k >= TCP && k <= ICMPv6 }

// Values of EtherType.
const (
	EtherIPv4       = 0x0800
	EtherIPv6       = 0x86dd
	etherTEB        = 0x6558 // transparent Ethernet bridging: a frame in GRE
	etherTEBDecimal = 0x199e // the same number in decimal, as goflow2 has it
	etherVLAN       = 0x8100
	etherQinQ       = 0x88a8
	etherQinQOld    = 0x9100
	etherQinQOlder  = 0x9200
	EtherMPLS       = 0x8847
	etherMPLSUp     = 0x8848 // upstream-assigned labels, once multicast (RFC 5332)
	etherPPPoE      = 0x8864
	etherARP        = 0x0806
	etherBackbone   = 0x88e7 // IEEE 802.1ah, I-TAG: a customer's frame follows
	etherETag       = 0x893f // IEEE 802.1BR
	etherVNTag      = 0x8926
	// MaxLength is the largest value that is a length and no type (IEEE 802.3, 3.2.6).
	MaxLength = 1500
)

// Values of the protocol field (IANA, Protocol Numbers).
const (
	ProtoHopByHop    = 0
	ProtoICMP        = 1
	ProtoIPv4        = 4
	ProtoTCP         = 6
	ProtoUDP         = 17
	ProtoIPv6        = 41
	ProtoRouting     = 43
	ProtoFragment    = 44
	ProtoGRE         = 47
	ProtoAH          = 51
	ProtoICMPv6      = 58
	ProtoNoNext      = 59
	ProtoDestination = 60
	ProtoMobility    = 135
	ProtoHIP         = 139
	ProtoShim6       = 140
)

// maxLayers bounds the layers of one packet. Every layer consumes bytes, so a
// packet of any length ends; the bound keeps hostile ones cheap.
const maxLayers = 32

// Layer is one header of a packet.
type Layer struct {
	Kind Kind
	// Header begins with the header. It reaches to the end of the packet where
	// Whole is false, and is the header alone otherwise. It aliases the packet.
	Header []byte
	// Whole reports whether the packet has all of the header.
	Whole bool
	// Later reports whether the packet is a fragment other than the first: Header
	// then is payload, and Kind says only what the first fragment began with.
	Later bool
	// EtherType is that of what follows a link layer, 0 if it is not known.
	EtherType uint16
	// Proto is the protocol of what follows IPv4, IPv6 or one of its extension
	// headers. It is known of a header that is not whole, too, if its byte is there.
	// An extension header that is a protocol by itself has its own number if nothing
	// follows it.
	Proto uint8
}

// Walker goes from layer to layer. It is a value of its own for each packet, and
// allocates nothing.
type Walker struct {
	rest   []byte
	next   what
	etype  uint16
	proto  uint8
	v6     bool // in an IPv6 packet, where extension headers can follow
	later  bool // in a fragment other than the first
	layers int
}

// what says what rest begins with.
type what uint8

const (
	nothing   what = iota // that is known here
	frame                 // an Ethernet frame
	ppp                   // a PPP frame
	etherType             // what etype says
	protocol              // what proto says
)

// Frame returns a Walker of an Ethernet frame.
func Frame(b []byte) Walker { return Walker{rest: b, next: frame} }

// Payload returns a Walker of what follows a link layer with this EtherType.
func Payload(etype uint16, b []byte) Walker {
	return Walker{rest: b, next: etherType, etype: etype}
}

// IP returns a Walker of an IPv4 or IPv6 packet, by its version.
func IP(b []byte) Walker {
	if len(b) > 0 {
		switch b[0] >> 4 {
		case 4:
			return Payload(EtherIPv4, b)
		case 6:
			return Payload(EtherIPv6, b)
		}
	}
	return Walker{}
}

// PPPFrame returns a Walker of a PPP frame (RFC 1661; in HDLC-like framing RFC 1662).
func PPPFrame(b []byte) Walker { return Walker{rest: b, next: ppp} }

// Protocol returns a Walker of what follows an IP header, for packets that were
// put together from fragments.
func Protocol(proto uint8, v6 bool, b []byte) Walker {
	return Walker{rest: b, next: protocol, proto: proto, v6: v6}
}

// Next reads the next layer into l, and reports whether there is one. After a
// layer that is not whole there is none.
func (w *Walker) Next(l *Layer) bool {
	if w.layers >= maxLayers {
		return false
	}
	w.layers++
	l.Whole, l.Later, l.EtherType, l.Proto = false, w.later, 0, 0
	there := false
	switch w.next {
	case frame:
		w.frame(l)
		there = true
	case etherType:
		there = w.byEtherType(l)
	case protocol:
		there = w.byProtocol(l)
	case ppp:
		w.ppp(l)
		there = true
	}
	if !there {
		return false
	}
	if !l.Whole {
		w.next, w.rest = nothing, nil
	}
	return true
}

// Rest returns what follows the layer read last. It is empty if that is not whole.
func (w *Walker) Rest() []byte { return w.rest }

// Clip shortens what follows the layer read last to n bytes. It is for readers of
// whole packets, where padding may follow an IP packet.
func (w *Walker) Clip(n int) { w.rest = w.rest[:min(n, len(w.rest))] }

// cut splits the header, of n bytes, from what follows it.
func (w *Walker) cut(l *Layer, kind Kind, n int) bool {
	l.Kind = kind
	if n > len(w.rest) {
		l.Header = w.rest
		return false
	}
	l.Header, l.Whole = w.rest[:n], true
	w.rest = w.rest[n:]
	return true
}

func (w *Walker) follow(l *Layer, etype uint16) {
	l.EtherType = etype
	w.next, w.etype = etherType, etype
}

func (w *Walker) frame(l *Layer) {
	if w.cut(l, Ethernet, 14) {
		w.follow(l, binary.BigEndian.Uint16(l.Header[12:]))
	}
}

func (w *Walker) byEtherType(l *Layer) bool {
	switch w.etype {
	case EtherIPv4:
		w.ipv4(l)
	case EtherIPv6:
		w.ipv6(l)
	case etherTEB, etherTEBDecimal:
		w.frame(l)
	case etherVLAN, etherQinQ, etherQinQOld, etherQinQOlder:
		if w.cut(l, VLAN, 4) {
			w.follow(l, binary.BigEndian.Uint16(l.Header[2:]))
		}
	case EtherMPLS, etherMPLSUp:
		w.mpls(l)
	case etherPPPoE:
		w.pppoe(l)
	case etherBackbone:
		if w.cut(l, Tag, 4) {
			w.next = frame
		}
	case etherETag:
		w.tag(l, 8)
	case etherVNTag:
		w.tag(l, 6)
	default:
		return w.etype <= MaxLength && w.snap(l)
	}
	return true
}

// tag reads a tag of n bytes, the last two of which are the EtherType.
func (w *Walker) tag(l *Layer, n int) {
	if w.cut(l, Tag, n) {
		w.follow(l, binary.BigEndian.Uint16(l.Header[n-2:]))
	}
}

// snap reads a SNAP header that has an EtherType (RFC 1042), and reports whether
// there is one. Other frames with a length are of protocols like STP.
func (w *Walker) snap(l *Layer) bool {
	if len(w.rest) < 8 || string(w.rest[:6]) != "\xaa\xaa\x03\x00\x00\x00" {
		return false
	}
	w.cut(l, SNAP, 8)
	w.follow(l, binary.BigEndian.Uint16(l.Header[6:]))
	return true
}

// mpls reads label stack entries up to the bottom of the stack, whatever labels
// they have: those up to 15 have meanings of their own (RFC 3032, 2.1; RFC 6790),
// and none of them ends a stack. What follows has no type; its first four bits say
// IPv4 and IPv6, if the header is a likely one. Else it may be an Ethernet frame, behind
// the control word of a pseudowire (RFC 4385, 3) or without one, if the EtherType is
// known where it would be: pseudowires carry other things, too.
func (w *Walker) mpls(l *Layer) {
	n := 0
	for bottom := false; !bottom; {
		steps.Add(1)
		if len(w.rest) < n+4 {
			w.cut(l, MPLS, len(w.rest)+1)
			return
		}
		bottom = w.rest[n+2]&1 != 0
		n += 4
	}
	switch rest := w.rest[n:]; {
	case isIPv4(rest):
		w.cut(l, MPLS, n)
		w.follow(l, EtherIPv4)
	case len(rest) > 0 && rest[0]>>4 == 6 && !isFrameNotIPv6(rest):
		w.cut(l, MPLS, n)
		w.follow(l, EtherIPv6)
	case isControlWord(rest):
		w.cut(l, MPLS, n+4)
		w.next = frame
	case isFrame(rest):
		w.cut(l, MPLS, n)
		w.next = frame
	default:
		w.cut(l, MPLS, n)
		w.next = nothing
	}
}

// isIPv4 reports whether b likely begins with an IPv4 header, as far as it is there. A
// frame whose destination begins with 0x45 does not: its length or its checksum is wrong.
// A checksum of 0 is one that the network card was to fill in.
func isIPv4(b []byte) bool {
	if len(b) == 0 || b[0] < 0x45 || b[0] > 0x4f { // a header has 20 bytes at least
		return false
	}
	n := 4 * int(b[0]&0xf)
	if len(b) >= 4 && int(binary.BigEndian.Uint16(b[2:])) < n {
		return false
	}
	if len(b) < n || b[10] == 0 && b[11] == 0 {
		return true
	}
	sum := uint32(0)
	steps.Add(n / 2)
	for i := 0; i < n; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum>>16+sum&0xffff == 0xffff // RFC 1071; a second carry would leave less
}

// isControlWord reports whether b begins with the control word of a pseudowire, and a
// frame behind it. A frame whose destination begins with 0, and that has a tag, looks
// like it, but the first twelve bits of an Ethernet's control word are 0 (RFC 4448, 4.6).
func isControlWord(b []byte) bool {
	if len(b) < 4 || b[0]>>4 != 0 || !isFrame(b[4:]) {
		return false
	}
	return b[0] == 0 && b[1] == 0 || !isFrame(b)
}

// isFrameNotIPv6 reports whether b, whose first four bits are those of IPv6, rather
// begins with a frame. IPv6 has no checksum, so the frame must have an EtherType where
// IPv6 has the middle of an address, and either there is IP behind that, or IPv6 would
// have no payload or a protocol that is not walked.
func isFrameNotIPv6(b []byte) bool {
	if !isFrame(b) {
		return false
	}
	switch payload := b[14:]; binary.BigEndian.Uint16(b[12:]) {
	case EtherIPv4:
		if len(payload) >= 20 && isIPv4(payload) {
			return true
		}
	case EtherIPv6:
		if len(payload) >= 8 && payload[0]>>4 == 6 && isWalked(payload[6]) {
			return true
		}
	}
	return b[4] == 0 && b[5] == 0 || !isWalked(b[6])
}

// isWalked reports whether a protocol is one that is walked in IPv6.
func isWalked(proto uint8) bool {
	switch proto {
	case ProtoTCP, ProtoUDP, ProtoICMPv6, ProtoIPv4, ProtoIPv6, ProtoGRE:
		return true
	}
	return IsExtension(proto)
}

// isFrame reports whether b begins with an Ethernet frame of a type that is known
// here.
func isFrame(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case EtherIPv4, EtherIPv6, etherARP, etherVLAN, etherQinQ, etherQinQOld, etherQinQOlder, EtherMPLS, etherMPLSUp, etherPPPoE:
		return true
	}
	return false
}

// pppoe reads the header of a session (RFC 2516, 4) and the PPP protocol.
func (w *Walker) pppoe(l *Layer) { w.pppAt(l, PPPoE, 6) }

// ppp reads the PPP protocol and the two bytes that HDLC-like framing has before it
// (RFC 1662, 3.1).
func (w *Walker) ppp(l *Layer) {
	n := 0
	if len(w.rest) >= 2 && w.rest[0] == 0xff && w.rest[1] == 0x03 {
		n = 2
	}
	w.pppAt(l, PPP, n)
}

// pppAt reads a header that ends with the PPP protocol, which begins at byte n. The
// protocol is one byte if the first is odd (RFC 1661, 6.5).
func (w *Walker) pppAt(l *Layer, kind Kind, n int) {
	size := n + 2
	if len(w.rest) > n && w.rest[n]&1 != 0 {
		size = n + 1
	}
	if !w.cut(l, kind, size) {
		return
	}
	protocol := uint16(l.Header[n])
	if size == n+2 {
		protocol = binary.BigEndian.Uint16(l.Header[n:])
	}
	switch protocol {
	case 0x0021:
		w.follow(l, EtherIPv4)
	case 0x0057:
		w.follow(l, EtherIPv6)
	case 0x0281:
		w.follow(l, EtherMPLS)
	case 0x0283:
		w.follow(l, etherMPLSUp)
	default:
		w.next = nothing
	}
}

// ipv4 reads an IPv4 header (RFC 791). Its addresses are there also where its
// options are cut: then Header has at least 20 bytes.
func (w *Walker) ipv4(l *Layer) {
	n := 20
	if len(w.rest) >= 20 {
		n = max(int(w.rest[0]&0xf)*4, 20)
	}
	if !w.cut(l, IPv4, n) {
		if len(l.Header) >= 20 {
			l.Proto = l.Header[9]
		}
		return
	}
	w.v6 = false
	w.later = binary.BigEndian.Uint16(l.Header[6:])&0x1fff != 0
	w.then(l, l.Header[9])
}

func (w *Walker) ipv6(l *Layer) {
	if !w.cut(l, IPv6, 40) {
		return
	}
	w.v6, w.later = true, false
	w.then(l, l.Header[6])
}

func (w *Walker) then(l *Layer, proto uint8) {
	l.Proto = proto
	w.next, w.proto = protocol, proto
}

// Offset returns the offset of a fragment in bytes, whether more fragments follow,
// and its identification, of a layer of IPv4 or Fragment that is whole.
func (l *Layer) Offset() (offset int, more bool, id uint32) {
	if l.Kind == Fragment {
		v := binary.BigEndian.Uint16(l.Header[2:])
		return int(v &^ 7), v&1 != 0, binary.BigEndian.Uint32(l.Header[4:])
	}
	v := binary.BigEndian.Uint16(l.Header[6:])
	return int(v&0x1fff) * 8, v&0x2000 != 0, uint32(binary.BigEndian.Uint16(l.Header[4:]))
}

func (w *Walker) byProtocol(l *Layer) bool {
	switch w.proto {
	case ProtoTCP:
		w.transport(l, TCP, 20)
	case ProtoUDP:
		w.transport(l, UDP, 8)
	case ProtoICMP:
		w.transport(l, ICMP, 4)
	case ProtoICMPv6:
		w.transport(l, ICMPv6, 4)
	case ProtoIPv4, ProtoIPv6, ProtoGRE:
		return !w.later && w.tunnel(l)
	default:
		return w.v6 && !w.later && w.extension(l)
	}
	return true
}

// transport reads the fixed part of a header, behind which nothing is walked.
func (w *Walker) transport(l *Layer, kind Kind, n int) {
	w.cut(l, kind, n)
	w.next = nothing
}

func (w *Walker) tunnel(l *Layer) bool {
	switch w.proto {
	case ProtoIPv4:
		w.ipv4(l)
	case ProtoIPv6:
		w.ipv6(l)
	default:
		w.gre(l)
	}
	return true
}

// gre reads a GRE header with the optional fields that its flags announce (RFC 2784,
// RFC 2890). What follows one with source routes (RFC 1701), or of version 1 (RFC
// 2637), is not walked.
func (w *Walker) gre(l *Layer) {
	const checksum, routing, key, sequence, version = 0x80, 0x40, 0x20, 0x10, 0x07
	n := 4
	if len(w.rest) >= 4 {
		for _, flag := range [...]byte{checksum, key, sequence} {
			if w.rest[0]&flag != 0 {
				n += 4
			}
		}
	}
	if !w.cut(l, GRE, n) {
		return
	}
	w.next = nothing
	if l.Header[0]&routing == 0 && l.Header[1]&version == 0 {
		w.follow(l, binary.BigEndian.Uint16(l.Header[2:]))
	}
}

// IsExtension reports whether a protocol is an IPv6 extension header that has a
// protocol behind it (RFC 8200, 4).
func IsExtension(proto uint8) bool {
	switch proto {
	case ProtoHopByHop, ProtoRouting, ProtoFragment, ProtoAH, ProtoDestination, ProtoMobility, ProtoHIP, ProtoShim6:
		return true
	}
	return false
}

// extension reads an IPv6 extension header, and reports whether the protocol is
// one.
func (w *Walker) extension(l *Layer) bool {
	if !IsExtension(w.proto) {
		return false
	}
	kind, unit := Extension, 8
	switch w.proto {
	case ProtoRouting:
		kind = Routing
	case ProtoFragment:
		kind, unit = Fragment, 0
	case ProtoAH:
		unit = 4 // RFC 4302, 2.2
	}
	n := 8
	if len(w.rest) >= 8 {
		n += unit * int(w.rest[1])
	}
	whole := w.cut(l, kind, n)
	if len(l.Header) > 0 {
		l.Proto = l.Header[0]
	}
	if l.Proto == ProtoNoNext && isProtocol(w.proto) {
		l.Proto = w.proto
	}
	if !whole {
		return true
	}
	if kind == Fragment {
		w.later = binary.BigEndian.Uint16(l.Header[2:])&^7 != 0
	}
	w.next, w.proto = protocol, l.Header[0]
	return true
}

// isProtocol reports whether an extension header is what the packet is for: its next
// header is 59, none (RFC 6275, 6.1.1; RFC 7401, 5.1; RFC 5533, 5.1).
func isProtocol(proto uint8) bool {
	return proto == ProtoMobility || proto == ProtoHIP || proto == ProtoShim6
}
