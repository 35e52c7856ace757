package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "ask tshark and write testdata anew")

const golden = "testdata/tshark.txt"

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

func ether(etype int, payload ...[]byte) []byte {
	return join(append([][]byte{macs, be16(etype)}, payload...)...)
}

// label is a label stack entry.
func label(l uint32, bottom bool) []byte {
	e := l<<12 | 64
	if bottom {
		e |= 1 << 8
	}
	return be32(e)
}

// v4 is an IPv4 packet; offset is in the units of its field.
func v4(proto byte, offset int, options []byte, payload ...[]byte) []byte {
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

func v6(next byte, payload ...[]byte) []byte {
	p := join(payload...)
	src, dst := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8::2").As16()
	return join([]byte{0x60, 0, 0, 0}, be16(len(p)), []byte{next, 64}, src[:], dst[:], p)
}

func tcp(payload ...byte) []byte {
	return join(be16(1234, 443), be32(1, 2), []byte{0x50, 0x18}, be16(1000, 0, 0), payload)
}

func udp(payload ...byte) []byte { return join(be16(5353, 53, 8+len(payload), 0), payload) }

// packets are what is read. Each begins with an Ethernet frame.
var packets = []struct {
	name string
	b    []byte
}{
	{"IPv4 TCP", ether(0x0800, v4(6, 0, nil, tcp()))},
	{"IPv6 UDP", ether(0x86dd, v6(17, udp(1, 2, 3)))},
	{"IPv4 with options", ether(0x0800, v4(6, 0, []byte{1, 1, 1, 0}, tcp()))},
	{"802.1Q", ether(0x8100, be16(0xa064, 0x0800), v4(6, 0, nil, tcp()))},
	{"802.1ad", ether(0x88a8, be16(200, 0x8100, 100, 0x0800), v4(6, 0, nil, tcp()))},
	{"0x9100", ether(0x9100, be16(200, 0x8100, 100, 0x86dd), v6(17, udp()))},
	{"three tags", ether(0x88a8, be16(300, 0x8100, 200, 0x8100, 100, 0x0800), v4(17, 0, nil, udp()))},
	{"PPPoE IPv4", ether(0x8864, []byte{0x11, 0, 0, 7}, be16(42, 0x0021), v4(6, 0, nil, tcp()))},
	{"PPPoE IPv6 behind a tag", ether(0x8100, be16(7, 0x8864), []byte{0x11, 0, 0, 7}, be16(50, 0x0057), v6(17, udp()))},
	{"PPPoE with a protocol of one byte", ether(0x8864, []byte{0x11, 0, 0, 7}, be16(41), []byte{0x21}, v4(6, 0, nil, tcp()))},
	{"MPLS one label", ether(0x8847, label(24021, true), v4(6, 0, nil, tcp()))},
	{"MPLS 0x8848", ether(0x8848, label(24021, true), v4(6, 0, nil, tcp()))},
	{"MPLS explicit null on top", ether(0x8847, label(0, false), label(24021, true), v4(6, 0, nil, tcp()))},
	{"MPLS IPv6 explicit null", ether(0x8847, label(24021, false), label(2, true), v6(6, tcp()))},
	{"MPLS router alert", ether(0x8847, label(1, false), label(24021, true), v4(17, 0, nil, udp()))},
	{"MPLS entropy label like IPv4", ether(0x8847, label(24021, false), label(7, false), label(0x45001, true), v4(6, 0, nil, tcp()))},
	{"MPLS entropy label like IPv6", ether(0x8847, label(24021, false), label(7, false), label(0x60001, true), v4(6, 0, nil, tcp()))},
	{"EoMPLS with control word", ether(0x8847, label(24022, true), be32(0), ether(0x0800, v4(6, 0, nil, tcp())))},
	{"EoMPLS with control word and tag", ether(0x8847, label(24022, true), be32(0), ether(0x8100, be16(9, 0x0800), v4(6, 0, nil, tcp())))},
	{"hop-by-hop", ether(0x86dd, v6(0, []byte{6, 0, 1, 4, 0, 0, 0, 0}, tcp()))},
	{"destination options of 16 bytes", ether(0x86dd, v6(60, []byte{17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, udp()))},
	{"routing header", ether(0x86dd, v6(43, []byte{6, 2, 4, 0, 0, 0, 0, 0}, make([]byte, 16), tcp()))},
	{"authentication header", ether(0x86dd, v6(51, []byte{6, 4, 0, 0}, be32(1, 2, 3, 4, 5), tcp()))},
	{"first fragment IPv6", ether(0x86dd, v6(44, []byte{17, 0, 0, 1}, be32(7), udp(1, 2, 3, 4, 5, 6, 7, 8)))},
	{"later fragment IPv6", ether(0x86dd, v6(44, []byte{17, 0, 0, 16}, be32(7), []byte{1, 2, 3, 4, 5, 6, 7, 8}))},
	{"later fragment IPv4", ether(0x0800, v4(6, 10, nil, []byte{1, 2, 3, 4, 5, 6, 7, 8}))},
	{"ICMP", ether(0x0800, v4(1, 0, nil, []byte{8, 0, 0, 0, 0, 1, 0, 1}))},
	{"ICMPv6", ether(0x86dd, v6(58, []byte{135, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 16)))},
	{"ARP", ether(0x0806, be16(1, 0x0800, 0x0604, 1), macs[:6], []byte{192, 0, 2, 1}, make([]byte, 6), []byte{192, 0, 2, 2})},
	{"TCP cut behind the ports", ether(0x0800, v4(6, 0, nil, tcp()))[:14+20+4]},
	{"UDP cut behind the ports", ether(0x86dd, v6(17, udp(1)))[:14+40+4]},
}

// reading is what a reader of packets makes of one: the outermost addresses,
// all VLAN ids, all labels, and what the innermost transport says.
type reading struct {
	src, dst, vlans, labels, ports, flags, icmp string
}

func (r *reading) String() string {
	return fmt.Sprintf("%s>%s vlans=%s labels=%s ports=%s flags=%s icmp=%s", r.src, r.dst, r.vlans, r.labels, r.ports, r.flags, r.icmp)
}

func read(b []byte) string {
	var r reading
	var l Layer
	add := func(s *string, v any) {
		if *s != "" {
			*s += ","
		}
		*s += fmt.Sprint(v)
	}
	for w := Frame(b); w.Next(&l); {
		switch h := l.Header; {
		case l.Kind == VLAN && l.Whole:
			add(&r.vlans, binary.BigEndian.Uint16(h)&0xfff)
		case l.Kind == MPLS && l.Whole:
			for i := 0; ; i += 4 {
				add(&r.labels, binary.BigEndian.Uint32(h[i:])>>12)
				if h[i+2]&1 != 0 {
					break
				}
			}
		case l.Kind == IPv4 && len(h) >= 20:
			r.src, r.dst = netip.AddrFrom4([4]byte(h[12:16])).String(), netip.AddrFrom4([4]byte(h[16:20])).String()
		case l.Kind == IPv6 && l.Whole:
			r.src, r.dst = netip.AddrFrom16([16]byte(h[8:24])).String(), netip.AddrFrom16([16]byte(h[24:40])).String()
		case l.Later:
		case (l.Kind == TCP || l.Kind == UDP) && len(h) >= 4:
			r.ports = fmt.Sprintf("%d>%d", binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:]))
			if l.Kind == TCP && len(h) >= 14 {
				r.flags = fmt.Sprintf("0x%02x", h[13])
			}
		case (l.Kind == ICMP || l.Kind == ICMPv6) && len(h) >= 2:
			r.icmp = fmt.Sprintf("%d/%d", h[0], h[1])
		}
	}
	return r.String()
}

// TestPackets holds what is read of packets against what tshark reads of them.
func TestPackets(t *testing.T) {
	if *update {
		askTshark(t)
	}
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("%s has %d lines, want %d; run with -update", golden, len(lines), len(packets))
	}
	for i, p := range packets {
		name, want, _ := strings.Cut(lines[i], ": ")
		if name != p.name {
			t.Fatalf("line %d of %s is of %q, want %q", i+1, golden, name, p.name)
		}
		if got := read(p.b); got != want {
			t.Errorf("%s: %s\ntshark: %s\n%s", p.name, got, want, hex.EncodeToString(p.b))
		}
	}
}

func askTshark(t *testing.T) {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Fatal("-update needs tshark")
	}
	pcap := join(be32(0xa1b2c3d4), be16(2, 4), be32(0, 0, 65535, 1))
	for _, p := range packets {
		// The packet was longer than what there is, as sampled ones are.
		pcap = join(pcap, be32(1, 0, uint32(len(p.b)), uint32(max(len(p.b), 100))), p.b)
	}
	file := filepath.Join(t.TempDir(), "packets.pcap")
	if err := os.WriteFile(file, pcap, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-r", file, "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-d", "mpls.label==24022,pwethcw", "-T", "fields", "-E", "separator=;"}
	for _, f := range []string{
		"ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "vlan.id", "mpls.label", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport",
		"tcp.flags", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code", "ieee8021ad.id",
	} {
		args = append(args, "-e", f)
	}
	out, err := exec.CommandContext(t.Context(), tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for i, line := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		f := strings.Split(line, ";")
		r := reading{src: f[0] + f[2], dst: f[1] + f[3], vlans: strings.Trim(f[15]+","+f[4], ","), labels: f[5]}
		if s, d := f[6]+f[8], f[7]+f[9]; s+d != "" {
			r.ports = s + ">" + d
		}
		if f[10] != "" {
			r.flags = "0x" + f[10][len(f[10])-2:]
		}
		if s, d := f[11]+f[13], f[12]+f[14]; s+d != "" {
			r.icmp = s + "/" + d
		}
		fmt.Fprintf(&text, "%s: %s\n", packets[i].name, &r)
	}
	if err := os.MkdirAll("testdata", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(golden, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzWalk checks that walking ends, with as many layers as there may be, and
// that what it hands out lies in the packet.
func FuzzWalk(f *testing.F) {
	for _, p := range packets {
		f.Add(p.b)
	}
	f.Add(bytes.Repeat([]byte{0x81, 0x00}, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := Frame(b)
		var l Layer
		n, left := 0, len(b)
		for w.Next(&l) {
			if n++; n > maxLayers {
				t.Fatal("too many layers")
			}
			if len(l.Header)+len(l.Payload) > left || l.Whole && len(l.Header) == 0 {
				t.Fatalf("layer %d takes %d and leaves %d of %d", n, len(l.Header), len(l.Payload), left)
			}
			left = len(l.Payload)
		}
	})
}

func TestWalkAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range packets {
			var l Layer
			for w := Frame(p.b); w.Next(&l); {
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
