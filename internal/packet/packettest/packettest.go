// Package packettest has the packets that all readers of packets are tested with,
// and what tshark reads of them: package packet, the reader of captures, and that of
// sampled packets.
package packettest

import (
	"bytes"
	_ "embed" // of what tshark reads
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// A Link is a way to carry IP.
type Link struct {
	Name string
	// Frame makes an Ethernet frame of an IP packet, whose EtherType is given.
	Frame func(etype int, ip []byte) []byte
}

// A Packet begins with an Ethernet frame.
type Packet struct {
	Name  string
	Frame []byte
}

// A Reading is what a reader makes of a packet: the addresses of the outermost IP
// header, all VLAN ids and all labels from the outside to the inside, ports, TCP
// flags, and ICMP type and code. What is not there is empty.
type Reading struct {
	Src, Dst, VLANs, Labels, Ports, Flags, ICMP string
}

// String returns the reading as the file of tshark's readings has it.
func (r *Reading) String() string {
	return fmt.Sprintf("%s>%s vlans=%s labels=%s ports=%s flags=%s icmp=%s", r.Src, r.Dst, r.VLANs, r.Labels, r.Ports, r.Flags, r.ICMP)
}

// File is where tshark's readings are, in this package.
const File = "tshark.txt"

//go:embed tshark.txt
var golden string

// Truth returns what tshark reads of Packets, by name.
func Truth(tb testing.TB) map[string]string {
	tb.Helper()
	truth := make(map[string]string)
	for line := range strings.Lines(golden) {
		name, reading, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		truth[name] = reading
	}
	if packets := Packets(); len(truth) != len(packets) {
		tb.Fatalf("tshark.txt is of %d packets, there are %d; run go test ./internal/packet -update", len(truth), len(packets))
	}
	return truth
}

func be16(v ...int) []byte {
	var b []byte
	for _, v := range v {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return b
}

func be32(v ...uint32) []byte {
	var b []byte
	for _, v := range v {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

var macs = []byte{2, 0, 0, 0, 0, 0x12, 2, 0, 0, 0, 0, 0x11}

// Ethernet is a frame.
func Ethernet(etype int, payload ...[]byte) []byte {
	return join(append([][]byte{macs, be16(etype)}, payload...)...)
}

// Label is a label stack entry.
func Label(l uint32, bottom bool) []byte {
	e := l<<12 | 64
	if bottom {
		e |= 1 << 8
	}
	return be32(e)
}

// IPv4 is a packet; offset is in the units of its field.
func IPv4(proto byte, offset int, options []byte, payload ...[]byte) []byte {
	p := join(payload...)
	n := 20 + len(options)
	h := join([]byte{0x40 | byte(n/4), 0}, be16(n+len(p), 7, offset), []byte{64, proto, 0, 0}, []byte{192, 0, 2, 1, 198, 51, 100, 1}, options)
	var sum uint32
	for i := 0; i < len(h); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum))
	return join(h, p)
}

// IPv6 is a packet.
func IPv6(next byte, payload ...[]byte) []byte {
	p := join(payload...)
	src, dst := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8::2").As16()
	return join([]byte{0x60, 0, 0, 0}, be16(len(p)), []byte{next, 64}, src[:], dst[:], p)
}

// TCP is a segment with the flags PSH and ACK.
func TCP(payload ...byte) []byte {
	return join(be16(1234, 443), be32(1, 2), []byte{0x50, 0x18}, be16(1000, 0, 0), payload)
}

// UDP is a datagram.
func UDP(payload ...byte) []byte { return join(be16(5353, 53, 8+len(payload), 0), payload) }

func tags(types ...int) func(etype int, ip []byte) []byte {
	return func(etype int, ip []byte) []byte {
		var b []byte
		for i := range types {
			next := etype
			if i+1 < len(types) {
				next = types[i+1]
			}
			// Priority bits, and an id that tells the tags apart.
			b = append(b, be16(0xa000|100*(len(types)-i), next)...)
		}
		return Ethernet(types[0], b, ip)
	}
}

func pppoe(etype int, ip []byte) []byte {
	proto := 0x0021
	if etype == 0x86dd {
		proto = 0x0057
	}
	return join([]byte{0x11, 0, 0, 7}, be16(len(ip)+2, proto), ip)
}

func mpls(etype int, before ...[]byte) func(int, []byte) []byte {
	return func(_ int, ip []byte) []byte { return Ethernet(etype, join(before...), ip) }
}

// Links are the ways to carry IP that all readers know.
func Links() []Link {
	return []Link{
		{"Ethernet", func(etype int, ip []byte) []byte { return Ethernet(etype, ip) }},
		{"802.1Q", tags(0x8100)},
		{"802.1ad", tags(0x88a8, 0x8100)},
		{"802.1ad alone", tags(0x88a8)},
		{"802.1Q twice", tags(0x8100, 0x8100)},
		{"0x9100", tags(0x9100, 0x8100)},
		{"three tags", tags(0x88a8, 0x8100, 0x8100)},
		{"priority tag", func(etype int, ip []byte) []byte { return Ethernet(0x8100, be16(0xa000, etype), ip) }},
		{"SNAP", func(etype int, ip []byte) []byte {
			return Ethernet(len(ip)+8, []byte{0xaa, 0xaa, 3, 0, 0, 0}, be16(etype), ip)
		}},
		{"802.1ah", func(etype int, ip []byte) []byte {
			return Ethernet(0x88a8, be16(300, 0x88e7), be32(70000), Ethernet(0x8100, be16(100, etype), ip))
		}},
		{"VN-Tag", func(etype int, ip []byte) []byte { return Ethernet(0x8926, be32(0x00640001), be16(etype), ip) }},
		{"802.1BR", func(etype int, ip []byte) []byte {
			return Ethernet(0x893f, be16(0, 5, 6, etype), ip)
		}},
		{"PPPoE", func(etype int, ip []byte) []byte { return Ethernet(0x8864, pppoe(etype, ip)) }},
		{"PPPoE behind a tag", func(etype int, ip []byte) []byte { return tags(0x8100)(0x8864, pppoe(etype, ip)) }},
		{"PPPoE behind two tags", func(etype int, ip []byte) []byte { return tags(0x88a8, 0x8100)(0x8864, pppoe(etype, ip)) }},
		{"MPLS one label", mpls(0x8847, Label(24021, true))},
		{"MPLS two labels", mpls(0x8847, Label(24021, false), Label(24022, true))},
		{"MPLS 0x8848", mpls(0x8848, Label(24021, true))},
		{"MPLS behind a tag", func(_ int, ip []byte) []byte { return tags(0x8100)(0x8847, join(Label(24021, true), ip)) }},
		{"MPLS explicit null on top", mpls(0x8847, Label(0, false), Label(24021, true))},
		{"MPLS explicit null at the bottom", mpls(0x8847, Label(24021, false), Label(0, true))},
		{"MPLS IPv6 explicit null", mpls(0x8847, Label(24021, false), Label(2, true))},
		{"MPLS router alert", mpls(0x8847, Label(1, false), Label(24021, true))},
		{"MPLS entropy label like IPv4", mpls(0x8847, Label(24021, false), Label(7, false), Label(0x45001, true))},
		{"MPLS entropy label like IPv6", mpls(0x8847, Label(24021, false), Label(7, false), Label(0x60001, true))},
		{"MPLS entropy label in the middle", mpls(0x8847, Label(7, false), Label(0x45001, false), Label(24021, true))},
		{"EoMPLS with control word", func(etype int, ip []byte) []byte {
			return Ethernet(0x8847, Label(24023, true), be32(0), Ethernet(etype, ip))
		}},
		{"EoMPLS with control word and sequence number", func(etype int, ip []byte) []byte {
			return Ethernet(0x8847, Label(24021, false), Label(24023, true), be32(7), Ethernet(etype, ip))
		}},
		{"EoMPLS with control word and tags", func(etype int, ip []byte) []byte {
			return tags(0x8100)(0x8847, join(Label(24023, true), be32(0), tags(0x8100, 0x8100)(etype, ip)))
		}},
		{"EoMPLS with control word and an address like IPv4", func(etype int, ip []byte) []byte {
			return Ethernet(0x8847, Label(24023, true), be32(0, 0x444ca898, 0xa50d0200, 0x00000011), be16(etype), ip)
		}},
		{"EoMPLS without control word and with an address like IPv4", func(etype int, ip []byte) []byte {
			return Ethernet(0x8847, Label(24024, true), be32(0x444ca898, 0xa50d0200, 0x00000011), be16(etype), ip)
		}},
		{"EoMPLS without control word and with a tag", func(etype int, ip []byte) []byte {
			return Ethernet(0x8847, Label(24024, true), tags(0x8100)(etype, ip))
		}},
		{"EoMPLS without control word", func(etype int, ip []byte) []byte {
			return Ethernet(0x8847, Label(24024, true), Ethernet(etype, ip))
		}},
	}
}

// Packets are what the readers of packets are tested with.
func Packets() []Packet {
	var all []Packet
	for _, link := range Links() {
		all = append(all,
			Packet{link.Name + ", IPv4 TCP", link.Frame(0x0800, IPv4(6, 0, nil, TCP()))},
			Packet{link.Name + ", IPv6 UDP", link.Frame(0x86dd, IPv6(17, UDP(1, 2, 3)))})
	}
	ip4 := func(packet []byte) []byte { return Ethernet(0x0800, packet) }
	ip6 := func(packet []byte) []byte { return Ethernet(0x86dd, packet) }
	option := []byte{1, 1, 1, 0}
	hopByHop := func(next byte) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	fragment := func(next byte, offset int) []byte { return join([]byte{next, 0}, be16(offset), be32(7)) }
	gre := func(flags int, optional ...[]byte) []byte { return join(be16(flags, 0x0800), join(optional...)) }
	return append(all, []Packet{
		{"PPPoE with a protocol of one byte", Ethernet(0x8864, []byte{0x11, 0, 0, 7}, be16(41), []byte{0x21}, IPv4(6, 0, nil, TCP()))},
		{"PPPoE of no IP", Ethernet(0x8864, []byte{0x11, 0, 0, 7}, be16(10, 0xc021), []byte{9, 1, 0, 8, 1, 2, 3, 4})},
		{"PPPoE discovery", Ethernet(0x8863, []byte{0x11, 9, 0, 0}, be16(4, 0x0101, 0))},
		{"ARP", Ethernet(0x0806, be16(1, 0x0800, 0x0604, 1), macs[:6], []byte{192, 0, 2, 1}, make([]byte, 6), []byte{192, 0, 2, 2})},
		{"MPLS of no IP", Ethernet(0x8847, Label(24021, true), be32(0x10000021, 1, 2, 3))},
		{"MPLS of a pseudowire of no Ethernet", Ethernet(0x8847, Label(24021, true), be32(0, 0x11223344, 0x55667788, 0x99aabbcc, 0xddeeff00, 0x12345678))},
		{"MPLS cut in the stack", Ethernet(0x8847, Label(24021, false), Label(24022, false), []byte{1, 2})},

		{"IPv4 with options", ip4(IPv4(6, 0, option, TCP()))},
		{"hop-by-hop", ip6(IPv6(0, hopByHop(6), TCP()))},
		{"destination options of 16 bytes", ip6(IPv6(60, []byte{17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, UDP()))},
		{"routing header", ip6(IPv6(43, []byte{6, 2, 4, 0, 0, 0, 0, 0}, make([]byte, 16), TCP()))},
		{"authentication header", ip6(IPv6(51, []byte{6, 4, 0, 0}, be32(1, 2, 3, 4, 5), TCP()))},
		{"several extension headers", ip6(IPv6(0, hopByHop(60), hopByHop(44), fragment(17, 0), UDP()))},
		{"first fragment IPv6", ip6(IPv6(44, fragment(17, 1), UDP(1, 2, 3, 4, 5, 6, 7, 8)))},
		{"later fragment IPv6", ip6(IPv6(44, fragment(17, 16), []byte{1, 2, 3, 4, 5, 6, 7, 8}))},
		{"first fragment IPv4", ip4(IPv4(6, 0x2000, nil, TCP()))},
		{"later fragment IPv4", ip4(IPv4(6, 10, nil, []byte{1, 2, 3, 4, 5, 6, 7, 8}))},
		{"later fragment of ICMP", ip4(IPv4(1, 10, nil, []byte{8, 0, 3, 4, 5, 6, 7, 8}))},

		{"ICMP echo", ip4(IPv4(1, 0, nil, []byte{8, 0, 0, 0, 0, 1, 0, 1}))},
		{"ICMP echo reply", ip4(IPv4(1, 0, nil, []byte{0, 0, 0, 0, 0, 1, 0, 1}))},
		{"ICMP port unreachable", ip4(IPv4(1, 0, nil, []byte{3, 3, 0, 0, 0, 0, 0, 0}, IPv4(17, 0, nil, UDP())))},
		{"ICMPv6 neighbor solicitation", ip6(IPv6(58, []byte{135, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)))},
		{"ICMPv6 behind hop-by-hop", ip6(IPv6(0, hopByHop(58), []byte{143, 0, 0, 0, 0, 0, 0, 0}))},
		{"ICMP behind tags", tags(0x88a8, 0x8100)(0x0800, IPv4(1, 0, nil, []byte{11, 0, 0, 0, 0, 0, 0, 0}))},

		{"GRE", ip4(IPv4(47, 0, nil, gre(0), IPv4(6, 0, nil, TCP())))},
		{"GRE with a key", ip4(IPv4(47, 0, nil, gre(0x2000, be32(0x45000000)), IPv4(6, 0, nil, TCP())))},
		{"GRE with all fields", ip4(IPv4(47, 0, nil, gre(0xb000, be32(0, 5, 6)), IPv4(6, 0, nil, TCP())))},

		{"TCP cut behind the ports", ip4(IPv4(6, 0, nil, TCP()))[:14+20+4]},
		{"TCP cut behind the flags", ip4(IPv4(6, 0, nil, TCP()))[:14+20+16]},
		{"TCP cut behind the flags IPv6", ip6(IPv6(6, TCP()))[:14+40+16]},
		{"UDP cut behind the ports", ip6(IPv6(17, UDP(1)))[:14+40+4]},
	}...)
}

// Format returns the file of readings, in the order of Packets.
func Format(readings []Reading) []byte {
	var b bytes.Buffer
	for i, p := range Packets() {
		fmt.Fprintf(&b, "%s: %s\n", p.Name, &readings[i])
	}
	return b.Bytes()
}
