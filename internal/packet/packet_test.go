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
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/packet/packettest"
)

var update = flag.Bool("update", false, "ask tshark and write packettest's file anew")

func read(b []byte) string {
	var r packettest.Reading
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
			add(&r.VLANs, binary.BigEndian.Uint16(h)&0xfff)
		case l.Kind == MPLS:
			for i := 0; i+4 <= len(h); i += 4 {
				add(&r.Labels, binary.BigEndian.Uint32(h[i:])>>12)
				if h[i+2]&1 != 0 {
					break // a control word may follow
				}
			}
		case r.Ports+r.ICMP != "": // the packet in an ICMP error is not the packet's own
		case l.Kind == IPv4 && len(h) >= 20 && r.Src == "":
			r.Src, r.Dst = netip.AddrFrom4([4]byte(h[12:16])).String(), netip.AddrFrom4([4]byte(h[16:20])).String()
		case l.Kind == IPv6 && l.Whole && r.Src == "":
			r.Src, r.Dst = netip.AddrFrom16([16]byte(h[8:24])).String(), netip.AddrFrom16([16]byte(h[24:40])).String()
		case l.Later:
		case (l.Kind == TCP || l.Kind == UDP) && len(h) >= 4:
			r.Ports = fmt.Sprintf("%d>%d", binary.BigEndian.Uint16(h), binary.BigEndian.Uint16(h[2:]))
			if l.Kind == TCP && len(h) >= 14 {
				r.Flags = fmt.Sprintf("0x%02x", h[13])
			}
		case (l.Kind == ICMP || l.Kind == ICMPv6) && len(h) >= 2:
			r.ICMP = fmt.Sprintf("%d/%d", h[0], h[1])
		}
	}
	return r.String()
}

// TestPackets holds what is read of packets against what tshark reads of them.
func TestPackets(t *testing.T) {
	if *update {
		askTshark(t)
		t.Skip("written anew")
	}
	truth := packettest.Truth(t)
	for _, p := range packettest.Packets() {
		if got, want := read(p.Frame), truth[p.Name]; got != want {
			t.Errorf("%s: %s\ntshark: %s\n%s", p.Name, got, want, hex.EncodeToString(p.Frame))
		}
	}
}

// TestBehindLabels has what may follow a label stack, and begin as IP does.
func TestBehindLabels(t *testing.T) {
	ip4 := packettest.IPv4(6, 0, nil, packettest.TCP())
	ip6 := packettest.IPv6(6, packettest.TCP())
	// customer is a frame from and to addresses that begin as given.
	customer := func(dst, src string, etype int, payload []byte) []byte {
		b := packettest.Ethernet(etype, payload)
		copy(b, dst)
		copy(b[6:], src)
		return b
	}
	set := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	const (
		v4    = "192.0.2.1>198.51.100.1 vlans= labels=99 ports=1234>443 flags=0x18 icmp="
		v4Cut = "192.0.2.1>198.51.100.1 vlans= labels=99 ports= flags= icmp="
		v6    = "2001:db8::1>2001:db8::2 vlans= labels=99 ports=1234>443 flags=0x18 icmp="
		none  = "> vlans= labels=99 ports= flags= icmp="
	)
	for name, test := range map[string]struct {
		payload []byte
		want    string
	}{
		"IPv4":                                 {ip4, v4},
		"IPv4 cut":                             {ip4[:20], v4Cut},
		"IPv4 cut in the options":              {packettest.IPv4(6, 0, make([]byte, 8))[:24], v4Cut},
		"IPv4 with options":                    {packettest.IPv4(6, 0, make([]byte, 8), packettest.TCP()), v4},
		"IPv4 without a checksum":              {set(ip4, 10, 0, 0), v4},
		"IPv4 of a wrong checksum":             {set(ip4, 10, 1, 2), none},
		"IPv4 shorter than its header":         {set(ip4, 2, 0, 19, 0, 7, 0, 0, 64, 6, 0, 0), none},
		"IPv6":                                 {ip6, v6},
		"IPv6 whose address looks like a type": {set(ip6, 12, 8, 0), "2001:db8:800::1>2001:db8::2 vlans= labels=99 ports=1234>443 flags=0x18 icmp="},
		"frame, address like IPv4":             {customer("\x45\x00\x00\x00\x00\x02", "\x02", 0x0800, ip4), v4},
		"frame, address like IPv4 of a length": {customer("\x45\x00\x00\x40\x00\x02", "\x02", 0x0800, ip4), v4},
		"frame of IPv6, address like IPv4":     {customer("\x48\x5b\x39\x40\x00\x02", "\x02", 0x86dd, ip6), v6},
		"frame, address like IPv6":             {customer("\x60\x00\x00\x00\x00\x02", "\x02", 0x0800, ip4), v4},
		"frame of IPv6, address like IPv6":     {customer("\x60\x00\x00\x00\x00\x02", "\x02", 0x86dd, ip6), v6},
		"frame, addresses like IPv6":           {customer("\x60\x00\x00\x00\x00\x02", "\x00\x1b", 0x0800, ip4), v4},
		"frame of IPv6, addresses like IPv6":   {customer("\x60\x00\x00\x00\x00\x02", "\x00\x1b", 0x86dd, ip6), v6},
		"frame of STP, address like IPv4":      {customer("\x45\x00\x00\x00\x00\x02", "\x02", 38, make([]byte, 38)), none},
	} {
		frame := packettest.Ethernet(0x8847, packettest.Label(99, true), test.payload)
		if got := read(frame); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// askTshark writes what tshark reads of the packets.
func askTshark(t *testing.T) {
	t.Helper()
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Fatal("-update needs tshark")
	}
	be := binary.BigEndian
	pcap := be.AppendUint32(nil, 0xa1b2c3d4)
	for _, v := range []uint32{2<<16 | 4, 0, 0, 65535, 1} {
		pcap = be.AppendUint32(pcap, v)
	}
	for _, p := range packettest.Packets() {
		// The packet was longer than what there is, as sampled ones are.
		for _, v := range []int{1, 0, len(p.Frame), max(len(p.Frame), 100)} {
			pcap = be.AppendUint32(pcap, uint32(v))
		}
		pcap = append(pcap, p.Frame...)
	}
	file := filepath.Join(t.TempDir(), "packets.pcap")
	if err := os.WriteFile(file, pcap, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-r", file, "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE", "-o", "tcp.relative_sequence_numbers:FALSE",
		"-d", "mpls.label==24023,pwethcw", "-d", "mpls.label==24024,pwethnocw", "-T", "fields", "-E", "separator=;"}
	fields := []string{"ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "vlan.id", "mpls.label", "tcp.srcport", "tcp.dstport", "udp.srcport", "udp.dstport",
		"tcp.flags", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code", "ieee8021ad.id"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	out, err := exec.CommandContext(t.Context(), tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var readings []packettest.Reading
	for line := range strings.Lines(string(out)) {
		value := make(map[string]string)
		for i, v := range strings.Split(strings.TrimSuffix(line, "\n"), ";") {
			value[fields[i]] = v
		}
		// Of several, the outermost.
		first := func(names ...string) string {
			for _, name := range names {
				if v, _, _ := strings.Cut(value[name], ","); v != "" {
					return v
				}
			}
			return ""
		}
		r := packettest.Reading{
			Src: first("ip.src", "ipv6.src"), Dst: first("ip.dst", "ipv6.dst"),
			VLANs: strings.Trim(value["ieee8021ad.id"]+","+value["vlan.id"], ","), Labels: value["mpls.label"],
		}
		if t := first("icmp.type", "icmpv6.type"); t != "" {
			r.ICMP = t + "/" + first("icmp.code", "icmpv6.code")
		} else if s := first("tcp.srcport", "udp.srcport"); s != "" {
			r.Ports = s + ">" + first("tcp.dstport", "udp.dstport")
			if f := first("tcp.flags"); f != "" {
				r.Flags = "0x" + f[len(f)-2:]
			}
		}
		readings = append(readings, r)
	}
	if err := os.WriteFile(filepath.Join("packettest", packettest.File), packettest.Format(readings), 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzWalk checks that walking ends, with as many layers as there may be, and
// that what it hands out lies in the packet.
func FuzzWalk(f *testing.F) {
	for _, p := range packettest.Packets() {
		f.Add(p.Frame, uint8(0))
	}
	f.Add(bytes.Repeat([]byte{0x81, 0x00}, 200), uint8(0))
	f.Fuzz(func(t *testing.T, b []byte, start uint8) {
		w := Frame(b)
		switch start % 5 {
		case 1:
			w = IP(b)
		case 2:
			w = PPPFrame(b)
		case 3:
			w = Payload(EtherMPLS, b)
		case 4:
			w = Protocol(ProtoHopByHop, true, b)
		}
		var l Layer
		n, left := 0, len(b)
		for w.Next(&l) {
			if n++; n > maxLayers {
				t.Fatal("too many layers")
			}
			if len(l.Header)+len(w.Rest()) > left || l.Whole && len(l.Header) == 0 {
				t.Fatalf("layer %d takes %d and leaves %d of %d", n, len(l.Header), len(w.Rest()), left)
			}
			left = len(w.Rest())
		}
	})
}

func TestWalkAllocatesNothing(t *testing.T) {
	packets := packettest.Packets()
	if n := testing.AllocsPerRun(100, func() {
		for _, p := range packets {
			var l Layer
			for w := Frame(p.Frame); w.Next(&l); {
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
