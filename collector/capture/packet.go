package capture

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"
)

// Link types, as tcpdump.org lists them (LINKTYPE_).
const (
	linkNull      = 0   // BSD loopback: the address family in the byte order of the capturing machine
	linkEthernet  = 1   //
	linkRawBSD    = 12  // raw IP under the number that it has on most systems (DLT_RAW)
	linkRawOBSD   = 14  // and on OpenBSD
	linkRaw       = 101 // raw IP
	linkLoop      = 108 // OpenBSD loopback: the address family in network order
	linkLinuxSLL  = 113 // Linux cooked, as of the "any" device
	linkIPv4      = 228 //
	linkIPv6      = 229 //
	linkLinuxSLL2 = 276 // Linux cooked, version 2
)

const (
	etypeIPv4 = 0x0800
	etypeIPv6 = 0x86dd

	protoUDP = 17
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

func (p *parser) link(link uint16, b []byte) outcome {
	var etypeAt, header int
	switch link {
	case linkEthernet:
		etypeAt, header = 12, 14
	case linkLinuxSLL:
		etypeAt, header = 14, 16
	case linkLinuxSLL2:
		etypeAt, header = 0, 20
	case linkNull, linkLoop:
		return p.loopback(b)
	case linkRaw, linkRawBSD, linkRawOBSD, linkIPv4, linkIPv6:
		return p.ip(b)
	default:
		return unknownLink
	}
	if len(b) < header {
		return malformed
	}
	etype := binary.BigEndian.Uint16(b[etypeAt:])
	b = b[header:]
	for etype == 0x8100 || etype == 0x88a8 || etype == 0x9100 || etype == 0x9200 { // VLAN tags, stacked
		if len(b) < 4 {
			return malformed
		}
		etype = binary.BigEndian.Uint16(b[2:])
		b = b[4:]
	}
	switch etype {
	case etypeIPv4:
		return p.ipv4(b)
	case etypeIPv6:
		return p.ipv6(b)
	}
	return notUDP
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
		return p.ipv4(b[4:])
	case 10, 23, 24, 28, 30: // AF_INET6 of Linux, Windows, NetBSD and OpenBSD, FreeBSD, macOS
		return p.ipv6(b[4:])
	}
	return notUDP
}

func (p *parser) ip(b []byte) outcome {
	switch {
	case len(b) == 0:
		return malformed
	case b[0]>>4 == 4:
		return p.ipv4(b)
	case b[0]>>4 == 6:
		return p.ipv6(b)
	}
	return malformed
}

// ipv4 reads an IPv4 packet (RFC 791).
func (p *parser) ipv4(b []byte) outcome {
	if len(b) < 20 || b[0]>>4 != 4 {
		return malformed
	}
	if b[9] != protoUDP {
		return notUDP
	}
	header, length := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > len(b) || length > 0 && length < header || length > len(b) && !p.cut {
		return malformed
	}
	data := b[header:]
	if length > 0 { // 0: segmentation is left to the network card
		data = p.clip(data, length-header)
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	id, offset := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	if offset&0x3fff == 0 { // neither an offset nor more fragments
		return p.udp(src, dst, data)
	}
	f := fragmentOf{
		key:    fragmentKey{src, dst, uint32(id), protoUDP},
		proto:  protoUDP,
		offset: int(offset&0x1fff) * 8,
		more:   offset&0x2000 != 0,
		data:   data,
	}
	return p.reassemble(&f)
}

// ipv6 reads an IPv6 packet (RFC 8200).
func (p *parser) ipv6(b []byte) outcome {
	const header = 40
	if len(b) < header || b[0]>>4 != 6 {
		return malformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length > len(b)-header && !p.cut {
		return malformed
	}
	data := b[header:]
	if length > 0 { // 0: segmentation is left to the network card
		data = p.clip(data, length)
	}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	return p.next(src, dst, b[6], data, true)
}

// next reads the extension headers of an IPv6 packet. fragments reports whether a
// fragment header may follow, as it may not in a reassembled packet.
func (p *parser) next(src, dst netip.Addr, proto byte, b []byte, fragments bool) outcome {
	for {
		size := 8
		switch proto {
		case protoUDP:
			return p.udp(src, dst, b)
		case 0, 43, 60, 135, 139, 140: // hop-by-hop, routing, destination, mobility, HIP, Shim6
			if len(b) >= 8 {
				size += int(b[1]) * 8
			}
		case 51: // authentication (RFC 4302, 2.2)
			if len(b) >= 8 {
				size += int(b[1]) * 4
			}
		case 44:
			if len(b) < 8 || !fragments {
				return malformed
			}
			offset := binary.BigEndian.Uint16(b[2:])
			if offset&^6 == 0 { // the only fragment (RFC 6946)
				break
			}
			if !leadsToUDP(b[0]) {
				return notUDP
			}
			f := fragmentOf{
				key:    fragmentKey{src, dst, binary.BigEndian.Uint32(b[4:]), 0},
				proto:  b[0],
				offset: int(offset &^ 7),
				more:   offset&1 != 0,
				data:   b[8:],
			}
			return p.reassemble(&f)
		default:
			return notUDP
		}
		if len(b) < size {
			return malformed
		}
		proto, b = b[0], b[size:]
	}
}

// leadsToUDP reports whether UDP can follow what an IPv6 fragment begins with.
func leadsToUDP(proto byte) bool {
	switch proto {
	case protoUDP, 0, 43, 51, 60, 135, 139, 140:
		return true
	}
	return false
}

// udp reads a UDP datagram (RFC 768). It does not verify checksums, since network
// cards fill them in after the packet was captured.
func (p *parser) udp(src, dst netip.Addr, b []byte) outcome {
	if len(b) < 8 {
		return malformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if length < 8 || length > len(b) && !p.cut {
		return malformed
	}
	p.d.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	p.d.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	p.d.Truncated = length > len(b)
	p.d.Payload = b[8:min(length, len(b))]
	return whole
}

// clip returns the first n bytes of b, or all that the capture has of them.
func (p *parser) clip(b []byte, n int) []byte {
	if n >= len(b) {
		p.cut = p.cut && n > len(b)
		return b
	}
	p.cut = false // only padding after the packet was cut off
	return b[:n]
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
	if p.next(f.key.src, f.key.dst, proto, data, false) == whole {
		p.stats.Reassembled++
		p.fn(&p.d)
	}
	return fragment
}
