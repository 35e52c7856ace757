package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/packet/packettest"
)

// reading shows what a record tells of a sampled packet as tshark's readings do. Of
// the VLAN ids, a record has the innermost one.
func reading(r *flow.Record) string {
	m := &r.Msg
	addr := func(b []byte) string {
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
		return ""
	}
	out := packettest.Reading{Src: addr(m.SrcAddr), Dst: addr(m.DstAddr), VLANs: fmt.Sprint(m.VlanId)}
	out.Labels = strings.Trim(strings.ReplaceAll(fmt.Sprint(m.MplsLabel), " ", ","), "[]")
	if m.SrcPort+m.DstPort > 0 {
		out.Ports = fmt.Sprintf("%d>%d", m.SrcPort, m.DstPort)
	}
	if m.TcpFlags > 0 {
		out.Flags = fmt.Sprintf("0x%02x", m.TcpFlags)
	}
	if r.Extra.HasICMP {
		out.ICMP = fmt.Sprintf("%d/%d", m.IcmpType, m.IcmpCode)
	}
	return out.String()
}

// record returns tshark's reading as a record can have it.
func record(truth string) string {
	before, after, _ := strings.Cut(truth, "vlans=")
	ids, after, _ := strings.Cut(after, " ")
	vlan := ids[strings.LastIndexByte(ids, ',')+1:]
	if vlan == "" {
		vlan = "0"
	}
	// The packet in a tunnel is not the record's.
	return before + "vlans=" + vlan + " " + after
}

// TestSampledPackets reads the packets of packettest out of samples, in each way in
// which a packet is sampled. tshark has read the same packets.
func TestSampledPackets(t *testing.T) {
	truth := packettest.Truth(t)
	section := func(element uint16) func([]byte) []byte {
		return func(b []byte) []byte {
			record := b
			length := uint16(len(b))
			if len(b)%2 == 1 { // a variable length in half of the cases
				length, record = 0xffff, append([]byte{byte(len(b))}, b...)
			}
			return ipfixMessage(0, 1, set(2, templateRecord(256, ie{element, length, 0})), set(256, record))
		}
	}
	expanded := func(b []byte) []byte {
		return sflowMessage(sflowSample(3, be(uint32(1), uint32(0), uint32(3), uint32(100), uint32(1), uint32(0), uint32(0), uint32(4), uint32(0), uint32(5), uint32(1), rawHeader(1, 100, b))))
	}
	ipSample := func(b []byte) []byte {
		protocol := uint32(11)
		if b[0]>>4 == 6 {
			protocol = 12
		}
		return sflowMessage(flowSample(1, 2, rawHeader(protocol, 100, b)))
	}
	for _, way := range []struct {
		name   string
		ip     bool // from the IP header on
		sample func([]byte) []byte
	}{
		{"flow sample", false, func(b []byte) []byte { return sflowMessage(flowSample(1, 2, rawHeader(1, 100, b))) }},
		{"expanded flow sample", false, expanded},
		{"discarded packet", false, func(b []byte) []byte { return sflowMessage(discarded(1, 2, 258, rawHeader(1, 100, b))) }},
		{"dataLinkFrameSection", false, section(ieDataLinkFrameSection)},
		{"flow sample from IP on", true, ipSample},
		{"ipHeaderPacketSection", true, section(ieIPHeaderPacketSection)},
	} {
		t.Run(way.name, func(t *testing.T) {
			n := 0
			for _, p := range packettest.Packets() {
				b := p.Frame
				if way.ip {
					if etype := string(b[12:14]); etype != "\x08\x00" && etype != "\x86\xdd" {
						continue
					}
					b = b[14:]
				}
				n++
				want := record(truth[p.Name])
				if strings.HasPrefix(p.Name, "GRE") {
					want = want[:strings.Index(want, "ports=")] + "ports= flags= icmp=" // those of the packet in the tunnel
				}
				got, _ := decodeAll(t, reading, way.sample(b))
				if !slices.Equal(got, []string{want}) {
					t.Errorf("%s: %q, tshark: %s", p.Name, got, want)
				}
			}
			if n < 25 {
				t.Errorf("%d packets", n)
			}
		})
	}
}

// TestSampledLayers has what the readings do not show: MAC addresses, EtherTypes,
// and lists of layers.
func TestSampledLayers(t *testing.T) {
	show := func(r *flow.Record) string {
		m := &r.Msg
		return fmt.Sprintf("%012x %012x %#x %d %v %v %v", m.SrcMac, m.DstMac, m.Etype, m.Proto, m.LayerStack, m.LayerSize, m.MplsTtl)
	}
	udp4, udp6 := packettest.IPv4(17, 0, nil, packettest.UDP()), packettest.IPv6(17, packettest.UDP())
	customer := be("\x02\x00\x00\x00\x00\x42", "\x02\x00\x00\x00\x00\x41", uint16(0x8100), uint16(7), uint16(0x86dd), udp6)
	const macs = "020000000011 020000000012 "
	for name, test := range map[string]struct {
		header []byte
		want   string
	}{
		"tags":                        {packettest.Ethernet(0x88a8, be(uint16(2), uint16(0x8100), uint16(1), uint16(0x0800)), udp4), macs + "0x800 17 [Ethernet Dot1Q Dot1Q IPv4 UDP] [14 4 4 20 8] []"},
		"PPPoE":                       {packettest.Ethernet(0x8864, be(uint32(0x11000001), uint16(30), uint16(0x21)), udp4), macs + "0x800 17 [Ethernet IPv4 UDP] [14 20 8] []"},
		"PPPoE of no IP":              {packettest.Ethernet(0x8864, be(uint32(0x11000001), uint16(6), uint16(0xc021), uint32(1))), macs + "0x8864 0 [Ethernet] [14] []"},
		"EoMPLS":                      {packettest.Ethernet(0x8847, packettest.Label(16, true), be(uint32(0)), customer), macs + "0x86dd 17 [Ethernet MPLS Ethernet Dot1Q IPv6 UDP] [14 8 14 4 40 8] [64]"},
		"pseudowire of no Ethernet":   {packettest.Ethernet(0x8847, packettest.Label(16, true), make([]byte, 40)), macs + "0x8847 0 [Ethernet MPLS] [14 4] [64]"},
		"MPLS cut in the stack":       {packettest.Ethernet(0x8847, packettest.Label(16, false), be(uint16(0))), macs + "0x8847 0 [Ethernet MPLS] [14 4] [64]"},
		"MPLS cut in the first entry": {packettest.Ethernet(0x8847, be(uint16(0))), macs + "0x8847 0 [Ethernet] [14 0] []"},
		"frame cut":                   {packettest.Ethernet(0x0800)[:13], "000000000000 000000000000 0x0 0 [] [0] []"},
		"IPv4 cut":                    {packettest.Ethernet(0x0800, udp4[:19]), macs + "0x800 0 [Ethernet] [14 0] []"},
		"IPv4 cut in the options":     {packettest.Ethernet(0x0800, packettest.IPv4(17, 0, []byte{1, 1, 1, 0})[:22]), macs + "0x800 17 [Ethernet IPv4] [14 20] []"},
		"IPv6 cut":                    {packettest.Ethernet(0x86dd, udp6[:39]), macs + "0x86dd 0 [Ethernet] [14 0] []"},
		"extension header cut":        {packettest.Ethernet(0x86dd, packettest.IPv6(0, []byte{17, 1, 0, 0, 0, 0, 0, 0})), macs + "0x86dd 17 [Ethernet IPv6] [14 40] []"},
		"routing header cut":          {packettest.Ethernet(0x86dd, packettest.IPv6(43, []byte{6, 2, 4, 0, 0, 0, 0, 0, 1})), macs + "0x86dd 6 [Ethernet IPv6 IPv6HeaderRouting] [14 40 24] []"},
		"IPv6 in IPv4":                {packettest.Ethernet(0x0800, packettest.IPv4(41, 0, nil, udp6)), macs + "0x800 41 [Ethernet IPv4 IPv6 UDP] [14 20 40 8] []"},
		"frame in GRE":                {packettest.Ethernet(0x0800, packettest.IPv4(47, 0, nil, be(uint32(0x6558)), customer)), macs + "0x800 47 [Ethernet IPv4 GRE Ethernet Dot1Q IPv6 UDP] [14 20 4 14 4 40 8] []"},
		"ICMP of one byte":            {packettest.Ethernet(0x0800, packettest.IPv4(1, 0, nil, []byte{8})), macs + "0x800 1 [Ethernet IPv4] [14 20 0] []"},
		"STP":                         {packettest.Ethernet(38, be("\x42\x42\x03", make([]byte, 35))), macs + "0x0 0 [Ethernet] [14] []"},
		"STP behind a tag":            {packettest.Ethernet(0x8100, be(uint16(7), uint16(38), "\x42\x42\x03", make([]byte, 35))), macs + "0x0 0 [Ethernet Dot1Q] [14 4] []"},
		"mobility header":             {packettest.Ethernet(0x86dd, packettest.IPv6(135, be(uint8(59), uint8(1), uint8(5), make([]byte, 13)))), macs + "0x86dd 135 [Ethernet IPv6] [14 40] []"},
		"mobility header, a packet":   {packettest.Ethernet(0x86dd, packettest.IPv6(135, be(uint8(17), uint8(0), make([]byte, 6)), packettest.UDP())), macs + "0x86dd 17 [Ethernet IPv6 UDP] [14 40 8] []"},
		"HIP behind hop-by-hop":       {packettest.Ethernet(0x86dd, packettest.IPv6(0, be(uint8(139), uint8(0), make([]byte, 6)), be(uint8(59), uint8(4), make([]byte, 38)))), macs + "0x86dd 139 [Ethernet IPv6] [14 40] []"},
		"HIP cut":                     {packettest.Ethernet(0x86dd, packettest.IPv6(139, be(uint8(59), uint8(4), make([]byte, 6)))), macs + "0x86dd 139 [Ethernet IPv6] [14 40] []"},
		"Shim6":                       {packettest.Ethernet(0x86dd, packettest.IPv6(140, be(uint8(59), uint8(0), make([]byte, 6)))), macs + "0x86dd 140 [Ethernet IPv6] [14 40] []"},
		"nothing behind hop-by-hop":   {packettest.Ethernet(0x86dd, packettest.IPv6(0, be(uint8(59), uint8(0), make([]byte, 6)))), macs + "0x86dd 59 [Ethernet IPv6] [14 40] []"},
	} {
		got, _ := decodeAll(t, show, sflowMessage(flowSample(1, 2, rawHeader(1, 100, test.header))))
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s:\n%s, want\n%s", name, got, test.want)
		}
	}
}

// TestHeaderProtocols has samples that begin with something else than a frame.
func TestHeaderProtocols(t *testing.T) {
	const v4, v6 = "192.0.2.1>198.51.100.1", "2001:db8::1>2001:db8::2"
	udp4, udp6 := packettest.IPv4(17, 0, nil, packettest.UDP()), packettest.IPv6(17, packettest.UDP())
	show := func(r *flow.Record) string {
		s, _, _ := strings.Cut(reading(r), " ")
		return fmt.Sprintf("%s %#x %d", s, r.Msg.Etype, r.Msg.DstPort)
	}
	for _, test := range []struct {
		name     string
		protocol uint32
		header   []byte
		want     string
	}{
		{"PPP", 7, be(uint16(0x21), udp4), v4 + " 0x800 53"},
		{"PPP with its HDLC bytes", 7, be(uint32(0xff030057), udp6), v6 + " 0x86dd 53"},
		{"PPP of MPLS", 7, be(uint16(0x281), packettest.Label(16, true), udp4), v4 + " 0x800 53"},
		{"POS", 14, be(uint32(0xff030021), udp4), v4 + " 0x800 53"},
		{"IPv4", 11, udp4, v4 + " 0x800 53"},
		{"IPv6", 12, udp6, v6 + " 0x86dd 53"},
		{"IPv6 as IPv4", 11, udp6, v6 + " 0x86dd 53"},
		{"no IP as IPv4", 11, make([]byte, 40), "> 0x0 0"},
		{"MPLS", 13, be(packettest.Label(16, true), udp6), v6 + " 0x86dd 53"},
		{"MPLS of no IP", 13, be(packettest.Label(16, true), uint32(0x10000000)), "> 0x8847 0"},
		{"802.11", 15, make([]byte, 60), "> 0x0 0"},
	} {
		got, _ := decodeAll(t, show, sflowMessage(flowSample(1, 2, rawHeader(test.protocol, 100, test.header))))
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %s", test.name, got, test.want)
		}
	}
}

// TestPadding reads nothing of what follows a sampled header that is no multiple of
// four bytes.
func TestPadding(t *testing.T) {
	tcp := packettest.Ethernet(0x0800, packettest.IPv4(6, 0, nil, packettest.TCP()))
	for cut, want := range map[int]string{
		14 + 20 + 3: "ports= flags= icmp=", 14 + 20 + 4: "ports=1234>443 flags= icmp=",
		14 + 20 + 13: "ports=1234>443 flags= icmp=", 14 + 20 + 14: "ports=1234>443 flags=0x18 icmp=",
	} {
		b := slices.Clone(tcp)
		for i := cut; i < len(b); i++ {
			b[i] = 0xff
		}
		n := (cut + 3) &^ 3
		structure := be(uint32(1), uint32(16+n), uint32(1), uint32(100), uint32(0), uint32(cut), b[:n])
		got, _ := decodeAll(t, reading, sflowMessage(flowSample(1, 2, structure)))
		if len(got) != 1 || !strings.HasSuffix(got[0], want) {
			t.Errorf("cut at %d: %q, want %s", cut, got, want)
		}
	}
}

// TestIPSection has the counters of records with ipHeaderPacketSection, and what
// else may be in their templates.
func TestIPSection(t *testing.T) {
	show := func(r *flow.Record) string { return fmt.Sprint(tuple(r), " ", r.Msg.VlanId) }
	p4, p6 := packettest.IPv4(17, 0, nil, packettest.UDP(1, 2)), packettest.IPv6(17, packettest.UDP(1, 2))
	frame := packettest.Ethernet(0x8100, be(uint16(7), uint16(0x0800)), packettest.IPv4(6, 0, nil, packettest.TCP()))
	for _, test := range []struct {
		name   string
		fields []ie
		record []byte
		want   string
	}{
		{"alone, IPv4", []ie{{313, 0xffff, 0}}, be(uint8(len(p4)), p4), "192.0.2.1 198.51.100.1 5353 53 17 30 1 0"},
		{"alone, IPv6", []ie{{313, 0xffff, 0}}, be(uint8(len(p6)), p6), "2001:db8::1 2001:db8::2 5353 53 17 50 1 0"},
		{"padded", []ie{{313, 64, 0}}, be(p4, make([]byte, 64-len(p4))), "192.0.2.1 198.51.100.1 5353 53 17 30 1 0"},
		{"with counters before", []ie{{1, 4, 0}, {2, 4, 0}, {313, 0xffff, 0}}, be(uint32(900), uint32(3), uint8(len(p4)), p4), "192.0.2.1 198.51.100.1 5353 53 17 900 3 0"},
		{"with counters behind", []ie{{313, 0xffff, 0}, {86, 4, 0}, {85, 4, 0}}, be(uint8(len(p4)), p4, uint32(3), uint32(900)), "192.0.2.1 198.51.100.1 5353 53 17 900 3 0"},
		{"empty", []ie{{4, 1, 0}, {313, 0xffff, 0}}, be(uint8(6), uint8(0)), "  0 0 6 0 0 0"},
		{"beside a frame", []ie{{315, uint16(len(frame)), 0}, {313, 0xffff, 0}, {312, 2, 0}}, be(frame, uint8(len(p4)), p4, uint16(900)), "192.0.2.1 198.51.100.1 1234 443 6 900 1 7"},
		{"beside an empty frame", []ie{{315, 0xffff, 0}, {313, 0xffff, 0}, {312, 2, 0}}, be(uint8(0), uint8(len(p4)), p4, uint16(900)), "192.0.2.1 198.51.100.1 5353 53 17 900 1 0"},
		{"cut", []ie{{313, 19, 0}}, p4[:19], "  0 0 0 0 1 0"},
	} {
		got, _ := decodeAll(t, show, ipfixMessage(0, 1, set(2, templateRecord(256, test.fields...)), set(256, test.record)))
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %s", test.name, got, test.want)
		}
	}
}

// TestZeroFrame has sections of frames that are all zeros, or whose addresses are. They
// leave the addresses of the elements.
func TestZeroFrame(t *testing.T) {
	const src, dst = "\x02\x00\x00\x00\x00\x21", "\x02\x00\x00\x00\x00\x22"
	show := func(r *flow.Record) string {
		return fmt.Sprintf("%s %012x %012x", tuple(r), r.Msg.SrcMac, r.Msg.DstMac)
	}
	frame := packettest.Ethernet(0x0800, packettest.IPv4(17, 0, nil, packettest.UDP()))
	noMacs := slices.Concat(make([]byte, 12), frame[12:])
	for name, test := range map[string]struct {
		section []byte
		want    string
	}{
		"all zeros":      {make([]byte, 60), "192.0.2.7  0 0 0 0 0 020000000021 020000000022"},
		"addresses of 0": {noMacs, "192.0.2.1 198.51.100.1 5353 53 17 42 1 020000000021 020000000022"},
		"addresses":      {frame, "192.0.2.1 198.51.100.1 5353 53 17 42 1 020000000011 020000000012"},
	} {
		fields := []ie{{8, 4, 0}, {56, 6, 0}, {80, 6, 0}, {315, uint16(len(test.section)), 0}}
		got, _ := decodeAll(t, show, ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, be(ip4, src, dst, test.section))))
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %s", name, got, test.want)
		}
	}
}

// TestSectionBesideElements has sections in records whose elements tell the same, or
// that are of two directions.
func TestSectionBesideElements(t *testing.T) {
	const show = "SrcAddr= DstAddr= Bytes= IcmpType= IcmpCode= IcmpName= MplsLabel="
	reply := packettest.IPv4(1, 0, nil, make([]byte, 8))
	tcp := packettest.IPv4(6, 0, nil, packettest.TCP())
	labels := packettest.Ethernet(0x8847, be(uint32(16<<12|0x100)), tcp)
	ends := be(ip4, netip.MustParseAddr("10.96.0.1"))
	for _, test := range []struct {
		name   string
		fields []ie
		record []byte
		want   []string
	}{
		{"elements of both families, and an echo reply", []ie{{32, 2, 0}, {139, 2, 0}, {313, 0xffff, 0}}, be(uint16(0x0303), uint16(0), uint8(len(reply)), reply),
			[]string{"SrcAddr=192.0.2.1 DstAddr=198.51.100.1 Bytes=28 IcmpType=0 IcmpCode=0 IcmpName=Echo-Reply MplsLabel="}},
		{"elements of both families, and a packet of TCP", []ie{{32, 2, 0}, {139, 2, 0}, {313, 0xffff, 0}}, be(uint16(0x0303), uint16(0), uint8(len(tcp)), tcp),
			[]string{"SrcAddr=192.0.2.1 DstAddr=198.51.100.1 Bytes=40 IcmpType=3 IcmpCode=3 IcmpName= MplsLabel="}},
		{"empty label elements", []ie{{70, 3, 0}, {71, 3, 0}, {315, 0xffff, 0}}, be(make([]byte, 6), uint8(len(labels)), labels),
			[]string{fmt.Sprintf("SrcAddr=192.0.2.1 DstAddr=198.51.100.1 Bytes=%d IcmpType=0 IcmpCode=0 IcmpName= MplsLabel=16", len(labels))}},
		{"label elements, and a frame without", []ie{{70, 3, 0}, {315, 0xffff, 0}}, be([]byte{0, 2, 1}, uint8(14+len(tcp)), packettest.Ethernet(0x0800, tcp)),
			[]string{"SrcAddr=192.0.2.1 DstAddr=198.51.100.1 Bytes=54 IcmpType=0 IcmpCode=0 IcmpName= MplsLabel=32"}},
		{"a biflow, whose other direction the packet is not of", []ie{{8, 4, 0}, {12, 4, 0}, {231, 4, 0}, {232, 4, 0}, {313, 0xffff, 0}}, be(ends, uint32(500), uint32(900), uint8(len(reply)), reply),
			[]string{"SrcAddr=192.0.2.1 DstAddr=198.51.100.1 Bytes=500 IcmpType=0 IcmpCode=0 IcmpName=Echo-Reply MplsLabel=",
				"SrcAddr=10.96.0.1 DstAddr=192.0.2.7 Bytes=900 IcmpType=0 IcmpCode=0 IcmpName= MplsLabel="}},
	} {
		got, _ := decodeAll(t, showFields(t, show), ipfixMessage(0, 1, set(2, templateRecord(256, test.fields...)), set(256, test.record)))
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
