package capture

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/packet"
)

// Link types, as tcpdump.org lists them (LINKTYPE_).
const (
	linkNull      = 0   // BSD loopback: the address family in the byte order of the capturing machine
	linkEthernet  = 1   //
	linkRawBSD    = 12  // raw IP under the number that it has on most systems (DLT_RAW)
	linkRawOBSD   = 14  // and on OpenBSD
	linkPPP       = 9   // PPP, with the two bytes of HDLC-like framing or without
	linkPPPSerial = 50  // PPP in HDLC-like framing
	linkRaw       = 101 // raw IP
	linkLoop      = 108 // OpenBSD loopback: the address family in network order
	linkLinuxSLL  = 113 // Linux cooked, as of the "any" device
	linkMPLS      = 219 // a label stack
	linkIPv4      = 228 //
	linkIPv6      = 229 //
	linkLinuxSLL2 = 276 // Linux cooked, version 2
)

// parser finds the UDP datagrams in packets.
type parser struct {
	fn      func(*Datagram)
	stats   Stats
	last    time.Time // of the packet before
	unknown uint16    // a link type that is not known here
	frags   reassembler

	d   Datagram
	cut bool // the capture has only part of the packet at hand
}

// outcome is what became of a packet.
type outcome uint8

const (
	whole outcome = iota
	fragment
	notUDP
	malformed
	unknownLink
)

// maxSeconds is where Unix nanoseconds end, in 2262. A later time is damaged. The
// time of the packet before is then a better one.
const maxSeconds = math.MaxInt64 / 1_000_000_000

// packet reads one packet. cut reports whether the snap length cut off its end.
func (p *parser) packet(t time.Time, link uint16, b []byte, cut bool) {
	if sec := t.Unix(); sec >= 0 && sec < maxSeconds {
		p.last = t.UTC()
	}
	p.d = Datagram{Time: p.last}
	p.cut = cut
	p.stats.Packets++
	switch p.link(link, b) {
	case whole:
		p.stats.Whole++
		p.fn(&p.d)
	case fragment:
		p.stats.Fragments++
	case notUDP:
		p.stats.NotUDP++
	case malformed:
		p.stats.Malformed++
	case unknownLink:
		p.stats.UnknownLink++
		p.unknown = link
	}
}

// link finds the IP packet in a packet of a link type.
func (p *parser) link(link uint16, b []byte) outcome {
	switch link {
	case linkEthernet:
		return p.walk(packet.Frame(b))
	case linkLinuxSLL:
		return p.cooked(b, 14, 16)
	case linkLinuxSLL2:
		return p.cooked(b, 0, 20)
	case linkNull, linkLoop:
		return p.loopback(b)
	case linkPPP, linkPPPSerial:
		return p.walk(packet.PPPFrame(b))
	case linkMPLS:
		return p.walk(packet.Payload(packet.EtherMPLS, b))
	case linkRaw, linkRawBSD, linkRawOBSD, linkIPv4, linkIPv6:
		if len(b) == 0 || b[0]>>4 != 4 && b[0]>>4 != 6 {
			return malformed
		}
		return p.walk(packet.IP(b))
	}
	return unknownLink
}

// cooked reads a header that ends at byte size and has the EtherType at byte etype.
func (p *parser) cooked(b []byte, etype, size int) outcome {
	if len(b) < size {
		return malformed
	}
	return p.walk(packet.Payload(binary.BigEndian.Uint16(b[etype:]), b[size:]))
}

func (p *parser) loopback(b []byte) outcome {
	if len(b) < 4 {
		return malformed
	}
	// Families are small numbers, so the byte that is not 0 shows the byte order.
	family := binary.BigEndian.Uint32(b)
	if family > 0xffff {
		family = binary.LittleEndian.Uint32(b)
	}
	switch family {
	case 2: // AF_INET everywhere
		return p.walk(packet.Payload(packet.EtherIPv4, b[4:]))
	case 10, 23, 24, 28, 30: // AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS
		return p.walk(packet.Payload(packet.EtherIPv6, b[4:]))
	}
	return notUDP
}

// walk goes through the layers of a packet until its IP header. Packets in tunnels
// are not looked at.
func (p *parser) walk(w packet.Walker) outcome {
	var l packet.Layer
	for w.Next(&l) {
		switch {
		case l.Kind == packet.IPv4:
			return p.ipv4(&w, &l)
		case l.Kind == packet.IPv6:
			return p.ipv6(&w, &l)
		case !l.Whole:
			return malformed
		}
	}
	return notUDP
}

// ipv4 reads what follows an IPv4 header (RFC 791).
func (p *parser) ipv4(w *packet.Walker, l *packet.Layer) outcome {
	h := l.Header
	if len(h) < 20 || h[0]>>4 != 4 {
		return malformed
	}
	if l.Proto != packet.ProtoUDP {
		return notUDP
	}
	length := int(binary.BigEndian.Uint16(h[2:]))
	if !l.Whole || int(h[0]&0xf)*4 != len(h) || length > 0 && length < len(h) || length > len(h)+len(w.Rest()) && !p.cut {
		return malformed
	}
	if length > 0 { // 0: segmentation is left to the network card
		p.clip(w, length-len(h))
	}
	src, dst := netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
	offset, more, id := l.Offset()
	if offset == 0 && !more {
		return p.transport(src, dst, w, true)
	}
	return p.reassemble(&fragmentOf{
		key:    fragmentKey{src, dst, id, packet.ProtoUDP},
		proto:  packet.ProtoUDP,
		offset: offset,
		more:   more,
		data:   w.Rest(),
	})
}

// ipv6 reads what follows an IPv6 header (RFC 8200).
func (p *parser) ipv6(w *packet.Walker, l *packet.Layer) outcome {
	h := l.Header
	if !l.Whole || h[0]>>4 != 6 {
		return malformed
	}
	length := int(binary.BigEndian.Uint16(h[4:]))
	if length > len(w.Rest()) && !p.cut {
		return malformed
	}
	if length > 0 { // 0: segmentation is left to the network card
		p.clip(w, length)
	}
	src, dst := netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
	return p.transport(src, dst, w, true)
}

// transport goes through the extension headers of an IPv6 packet, if it has any, to
// the UDP datagram. fragments reports whether a fragment header may follow, as it may
// not in a reassembled packet.
func (p *parser) transport(src, dst netip.Addr, w *packet.Walker, fragments bool) outcome {
	var l packet.Layer
	for w.Next(&l) {
		switch l.Kind {
		case packet.UDP:
			return p.udp(src, dst, &l, w.Rest())
		case packet.Routing, packet.Extension:
			if !l.Whole {
				return malformed
			}
		case packet.Fragment:
			if !l.Whole || !fragments {
				return malformed
			}
			offset, more, id := l.Offset()
			if offset == 0 && !more { // the only fragment (RFC 6946)
				continue
			}
			if !leadsToUDP(l.Proto) {
				return notUDP
			}
			return p.reassemble(&fragmentOf{
				key:    fragmentKey{src, dst, id, 0},
				proto:  l.Proto,
				offset: offset,
				more:   more,
				data:   w.Rest(),
			})
		default:
			return notUDP
		}
	}
	return notUDP
}

// leadsToUDP reports whether UDP can follow what an IPv6 fragment begins with.
func leadsToUDP(proto byte) bool {
	return proto == packet.ProtoUDP || proto != packet.ProtoFragment && packet.IsExtension(proto)
}

// udp reads a UDP datagram (RFC 768). It does not verify checksums, since network
// cards fill them in after the packet was captured.
func (p *parser) udp(src, dst netip.Addr, l *packet.Layer, b []byte) outcome {
	if !l.Whole {
		return malformed
	}
	h := l.Header
	length := int(binary.BigEndian.Uint16(h[4:])) - len(h)
	if length < 0 || length > len(b) && !p.cut {
		return malformed
	}
	p.d.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(h))
	p.d.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(h[2:]))
	p.d.Truncated = length > len(b)
	p.d.Payload = b[:min(length, len(b))]
	return whole
}

// clip shortens what follows an IP header to its n bytes, or to all that the capture
// has of them.
func (p *parser) clip(w *packet.Walker, n int) {
	if rest := len(w.Rest()); n >= rest {
		p.cut = p.cut && n > rest
		return
	}
	p.cut = false // only padding after the packet was cut off
	w.Clip(n)
}

// reassemble takes a fragment and hands on the datagram that it completes.
func (p *parser) reassemble(f *fragmentOf) outcome {
	if p.cut {
		return malformed // nothing can fill the hole
	}
	proto, data, v := p.frags.add(p.last, f)
	if v != whole {
		return v
	}
	w := packet.Protocol(proto, f.key.src.Is6(), data)
	if p.transport(f.key.src, f.key.dst, &w, false) == whole {
		p.stats.Reassembled++
		p.fn(&p.d)
	}
	return fragment
}
