package collector

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/packet/packettest"
)

// structure is one structure of a sample.
func structure(format uint32, content ...any) []byte {
	b := be(content...)
	return be(format, uint32(len(b)), b)
}

// expandedSample is an expanded flow sample, rate 100, of the given structures.
func expandedSample(inFormat, in, outFormat, out uint32, structures ...[]byte) []byte {
	return sflowSample(3, be(uint32(1), uint32(0), uint32(3), uint32(100), uint32(1000), uint32(0), inFormat, in, outFormat, out, uint32(len(structures)), slices.Concat(structures...)))
}

// discarded is a notification of a discarded packet (sflow.org, sflow_drops.txt).
func discarded(in, out, reason uint32, structures ...[]byte) []byte {
	return sflowSample(5, be(uint32(1), uint32(0), uint32(3), uint32(9), in, out, reason, uint32(len(structures)), slices.Concat(structures...)))
}

var (
	ip4, ip4b = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")
	ip6, ip6b = netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::8")
	sampled   = rawHeader(1, 100, packettest.Ethernet(0x0800, packettest.IPv4(6, 0, nil, packettest.TCP())))
)

// gateway is an extended gateway structure. what follows the addresses is
// numbers: of this network, of the source, of the source's peer, segments...
func gateway(hop any, numbers ...uint32) []byte {
	b := be(hop)
	for _, n := range numbers {
		b = append(b, be(n)...)
	}
	return structure(1003, b)
}

// TestStructures has the structures that a sample may have beside its packet. None
// of them costs the sample, or the structures beside it.
func TestStructures(t *testing.T) {
	hop4, hop6, hop0 := be(uint32(1), ip4), be(uint32(2), ip6), be(uint32(0))
	router := func(r *flow.Record) string {
		hop, _ := r.Addr(flow.FieldNextHop)
		return fmt.Sprint(hop, r.Msg.SrcNet, r.Msg.DstNet)
	}
	gw := func(r *flow.Record) string {
		hop, _ := r.Addr(flow.FieldBgpNextHop)
		m := &r.Msg
		return fmt.Sprint(hop, m.AsPath, m.BgpCommunities, m.SrcAs, m.DstAs, m.NextHopAs)
	}
	vlans := func(r *flow.Record) string { return fmt.Sprint(r.Msg.SrcVlan, r.Msg.DstVlan) }
	const noRouter, noGateway = "invalid IP 0 0", "invalid IP [] [] 0 0 0"
	for _, test := range []struct {
		name      string
		structure []byte
		show      func(*flow.Record) string
		want      string
		odd       uint64
	}{
		{"router", structure(1002, hop4, uint32(24), uint32(25)), router, "192.0.2.7 24 25", 0},
		{"router IPv6", structure(1002, hop6, uint32(48), uint32(64)), router, "2001:db8::7 48 64", 0},
		{"router, hop unknown", structure(1002, hop0, uint32(24), uint32(25)), router, "invalid IP 24 25", 0},
		{"router, hop of type 3", structure(1002, uint32(3), ip4, uint32(24), uint32(25)), router, noRouter, 1},
		{"router cut in the masks", structure(1002, hop4, uint32(24)), router, noRouter, 1},
		{"router cut in the hop", structure(1002, uint32(2), ip4), router, noRouter, 1},
		{"router empty", structure(1002), router, noRouter, 1},
		{"router with more behind", structure(1002, hop4, uint32(24), uint32(25), uint32(99)), router, "192.0.2.7 24 25", 0},

		{"gateway", gateway(hop4, 64500, 64501, 64502, 1, 2, 2, 64510, 64511, 1, 77, 100), gw, "192.0.2.7 [64510 64511] [77] 64501 64511 64510", 0},
		{"gateway IPv6", gateway(hop6, 64500, 64501, 64502, 1, 2, 1, 64510, 0, 100), gw, "2001:db8::7 [64510] [] 64501 64510 64510", 0},
		{"gateway, hop unknown", gateway(hop0, 64500, 64501, 64502, 1, 2, 1, 64510, 0, 100), gw, "invalid IP [64510] [] 64501 64510 64510", 0},
		{"gateway of three segments", gateway(hop4, 64500, 0, 64502, 3, 2, 1, 64510, 1, 2, 64511, 64512, 2, 1, 64513, 2, 77, 78, 100), gw,
			"192.0.2.7 [64510 64511 64512 64513] [77 78] 64500 64513 64510", 0},
		{"gateway without path", gateway(hop4, 64500, 64501, 64502, 0, 0, 100), gw, "192.0.2.7 [] [] 64501 64500 0", 0},
		{"gateway with an empty segment", gateway(hop4, 64500, 64501, 64502, 2, 2, 0, 2, 1, 64510, 0, 100), gw, "192.0.2.7 [64510] [] 64501 64510 64510", 0},
		{"gateway of more segments than bytes", gateway(hop4, 64500, 64501, 64502, 1<<31, 2, 1, 64510, 0, 100), gw, noGateway, 1},
		{"gateway, path longer than the bytes", gateway(hop4, 64500, 64501, 64502, 1, 2, 1<<31, 64510, 0, 100), gw, noGateway, 1},
		{"gateway, communities longer than the bytes", gateway(hop4, 64500, 64501, 64502, 1, 2, 1, 64510, 1<<30, 100), gw, noGateway, 1},
		{"gateway cut behind the path", gateway(hop4, 64500, 64501, 64502, 1, 2, 1, 64510), gw, noGateway, 1},
		{"gateway without a local preference", gateway(hop4, 64500, 64501, 64502, 1, 2, 1, 64510, 0), gw, noGateway, 1},
		{"gateway cut in the numbers", gateway(hop4, 64500, 64501), gw, noGateway, 1},
		{"gateway of a hop of type 9", gateway(be(uint32(9)), 64500, 64501, 64502, 0, 0, 100), gw, noGateway, 1},

		{"switch", structure(1001, uint32(100), uint32(5), uint32(200), uint32(0)), vlans, "100 200", 0},
		{"switch, VLANs unknown", structure(1001, ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)), vlans, "0 0", 0},
		{"switch, one VLAN unknown", structure(1001, uint32(100), uint32(0), ^uint32(0), uint32(0)), vlans, "100 0", 0},
		{"switch, with priority bits", structure(1001, uint32(0xa064), uint32(0), uint32(0x2064), uint32(0)), vlans, "100 100", 0},
		{"switch cut", structure(1001, uint32(100), uint32(5), uint32(200)), vlans, "0 0", 1},

		{"packet header cut", structure(1, uint32(1), uint32(60), uint32(0)), vlans, "0 0", 1},
		{"IPv4 cut", structure(3, uint32(500), uint32(6), ip4, ip4b), vlans, "0 0", 1},
		{"IPv6 cut", structure(4, uint32(500), uint32(6), ip6, ip6b), vlans, "0 0", 1},
		{"Ethernet cut", structure(2, uint32(500), "\x02\x00\x00\x00\x00\x01"), vlans, "0 0", 1},
		{"user", structure(1004, uint32(106), uint32(3), "abc\x00", uint32(106), uint32(0)), vlans, "0 0", 0},
		{"egress queue, cut", structure(1036), vlans, "0 0", 0},
		{"ACL, cut", structure(1037, uint32(7)), vlans, "0 0", 0},
		{"of an enterprise", structure(4413<<12|1, uint32(7)), vlans, "0 0", 0},
		{"empty", structure(1031), vlans, "0 0", 0},
		{"of no whole words, padded", be(uint32(1005), uint32(5), "abcde\x00\x00\x00"), vlans, "0 0", 0},
	} {
		for _, where := range []struct {
			name    string
			records [][]byte
		}{
			{"before", [][]byte{test.structure, sampled}},
			{"behind", [][]byte{sampled, test.structure}},
			{"between", [][]byte{structure(1006, uint32(0)), test.structure, sampled, structure(1012)}},
		} {
			for _, sample := range [][]byte{flowSample(1, 2, where.records...), expandedSample(0, 1, 0, 2, where.records...), discarded(1, 2, 300, where.records...)} {
				show := func(r *flow.Record) string { return tuple(r) + " " + test.show(r) }
				got, m := decodeAll(t, show, sflowMessage(sample))
				if want := "192.0.2.1 198.51.100.1 1234 443 6 100 1 " + test.want; !slices.Equal(got, []string{want}) {
					t.Errorf("%s, %s: %q, want %s", test.name, where.name, got, want)
				}
				if n := m.structures.Load(); n != test.odd {
					t.Errorf("%s, %s: %d structures left out, want %d", test.name, where.name, n, test.odd)
				}
				if m.drops[dropMalformed].Load()+m.sets[setMalformed].Load()+m.sets[setNoPacket].Load() > 0 {
					t.Errorf("%s, %s: the sample is counted as dropped", test.name, where.name)
				}
			}
		}
	}
}

// TestGateways has samples with two gateway structures. One that is malformed does not
// touch what the other has set.
func TestGateways(t *testing.T) {
	hop := be(uint32(1), ip4)
	show := func(r *flow.Record) string { return fmt.Sprint(r.Msg.AsPath, r.Msg.BgpCommunities) }
	good := gateway(hop, 9, 9, 9, 1, 2, 2, 4, 5, 2, 1, 2, 100)
	for _, test := range []struct {
		name  string
		other []byte
		want  string // of the good one, then the other
	}{
		{"cut in the communities", gateway(hop, 9, 9, 9, 1, 2, 2, 1, 2, 2, 7), "[4 5] [1 2]"},
		{"cut behind the communities", gateway(hop, 9, 9, 9, 1, 2, 2, 1, 2, 2, 7, 8), "[4 5] [1 2]"},
		{"cut in the second segment", gateway(hop, 9, 9, 9, 2, 2, 2, 1, 2, 2, 2, 3), "[4 5] [1 2]"},
		{"good, too", gateway(hop, 9, 9, 9, 1, 2, 1, 3, 1, 7, 100), "[3] [7]"},
	} {
		got, _ := decodeAll(t, show, sflowMessage(flowSample(1, 2, sampled, good, test.other)))
		if !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %s", test.name, got, test.want)
		}
		got, _ = decodeAll(t, show, sflowMessage(flowSample(1, 2, sampled, test.other, good)))
		if !slices.Equal(got, []string{"[4 5] [1 2]"}) {
			t.Errorf("%s, before the good one: %q", test.name, got)
		}
	}
}

// TestStructuresEnd has samples whose list of structures ends otherwise than it says.
func TestStructuresEnd(t *testing.T) {
	router := structure(1002, uint32(1), ip4, uint32(24), uint32(25))
	sample := func(count uint32, content ...[]byte) []byte {
		return sflowSample(1, be(uint32(1), uint32(3), uint32(100), uint32(1000), uint32(0), uint32(1), uint32(2), count, slices.Concat(content...)))
	}
	unpadded := packettest.Ethernet(0x0800, packettest.IPv4(6, 0, nil, packettest.TCP(1)))
	for _, test := range []struct {
		name      string
		sample    []byte
		want      string
		odd       uint64
		malformed uint64
	}{
		{"the last is longer than the sample", sample(2, sampled, be(uint32(1002), uint32(1<<30), uint32(1))), "443 0", 1, 0},
		{"more are promised", sample(3, sampled, router), "443 24", 1, 0},
		{"half a head", sample(2, sampled, be(uint32(1002))), "443 0", 1, 0},
		{"fewer are promised", sample(1, sampled, router), "443 0", 0, 0},
		{"not padded", sample(2, structure(1, uint32(1), uint32(100), uint32(0), uint32(len(unpadded)), unpadded), router), "443 24", 0, 0},
		{"only a cut one", sample(1, structure(1, uint32(1))), "", 1, 1},
		{"the first is longer than the sample", sample(2, be(uint32(1002), uint32(1<<30)), sampled), "", 1, 1},
		{"4 billion of nothing", sample(1<<32 - 1), "", 1, 1},
		{"no count", sample(1)[:8+28], "", 0, 1},
	} {
		show := func(r *flow.Record) string { return fmt.Sprint(r.Msg.DstPort, r.Msg.SrcNet) }
		if test.name == "no count" {
			test.sample = sflowSample(1, test.sample[8:])
		}
		// A good sample beside it shows that the datagram goes on.
		got, m := decodeAll(t, show, sflowMessage(test.sample, flowSample(1, 2, sampled)))
		want := []string{test.want, "443 0"}
		if test.want == "" {
			want = want[1:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
		if odd, malformed := m.structures.Load(), m.sets[setMalformed].Load(); odd != test.odd || malformed != test.malformed {
			t.Errorf("%s: %d structures left out and %d samples malformed, want %d and %d", test.name, odd, malformed, test.odd, test.malformed)
		}
	}
}

// TestSampledStructures has samples that describe their packet without its header.
func TestSampledStructures(t *testing.T) {
	show := func(r *flow.Record) string {
		m := &r.Msg
		return fmt.Sprintf("%s flags %#x tos %d etype %#x macs %012x %012x", tuple(r), m.TcpFlags, m.IpTos, m.Etype, m.SrcMac, m.DstMac)
	}
	v4 := structure(3, uint32(500), uint32(6), ip4, ip4b, uint32(1234), uint32(443), uint32(24), uint32(8))
	v6 := structure(4, uint32(500), uint32(6), ip6, ip6b, uint32(1234), uint32(443), uint32(24), uint32(8))
	udp := structure(3, uint32(500), uint32(17), ip4, ip4b, uint32(1234), uint32(53), uint32(24), uint32(8))
	padded := structure(2, uint32(518), "\x02\x00\x00\x00\x00\x01\x00\x00", "\x02\x00\x00\x00\x00\x02\x00\x00", uint32(0x0800))
	unpadded := structure(2, uint32(518), "\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", uint32(0x0800))
	const (
		ipv4 = "192.0.2.7 192.0.2.8 1234 443 6 500 1 flags 0x18 tos 8 etype 0x800 macs "
		macs = "020000000001 020000000002"
		none = "000000000000 000000000000"
	)
	for _, test := range []struct {
		name       string
		structures [][]byte
		want       string
	}{
		{"IPv4", [][]byte{v4}, ipv4 + none},
		{"IPv6", [][]byte{v6}, "2001:db8::7 2001:db8::8 1234 443 6 500 1 flags 0x18 tos 8 etype 0x86dd macs " + none},
		{"IPv4 UDP", [][]byte{udp}, "192.0.2.7 192.0.2.8 1234 53 17 500 1 flags 0x0 tos 8 etype 0x800 macs " + none},
		{"Ethernet", [][]byte{padded}, "  0 0 0 518 1 flags 0x0 tos 0 etype 0x800 macs " + macs},
		{"Ethernet with a length", [][]byte{structure(2, padded[8:28], uint32(38))}, "  0 0 0 518 1 flags 0x0 tos 0 etype 0x0 macs " + macs},
		{"Ethernet without padding", [][]byte{unpadded}, "  0 0 0 518 1 flags 0x0 tos 0 etype 0x800 macs " + macs},
		{"Ethernet, IPv4", [][]byte{padded, v4}, ipv4 + macs},
		{"IPv4, Ethernet", [][]byte{v4, padded}, ipv4 + macs},
		{"Ethernet, IPv4 without length", [][]byte{padded, structure(3, uint32(0), v4[12:])}, "192.0.2.7 192.0.2.8 1234 443 6 518 1 flags 0x18 tos 8 etype 0x800 macs " + macs},
		{"IPv4, Ethernet with a tag", [][]byte{v4, structure(2, padded[8:28], uint32(0x8100))}, ipv4 + macs},
		{"header, Ethernet", [][]byte{sampled, padded}, "192.0.2.1 198.51.100.1 1234 443 6 100 1 flags 0x18 tos 0 etype 0x800 macs 020000000011 020000000012"},
		{"Ethernet, header", [][]byte{padded, sampled}, "192.0.2.1 198.51.100.1 1234 443 6 100 1 flags 0x18 tos 0 etype 0x800 macs 020000000011 020000000012"},
		{"header, zeros for IPv4", [][]byte{sampled, structure(3, make([]byte, 32))}, "192.0.2.1 198.51.100.1 1234 443 6 100 1 flags 0x18 tos 0 etype 0x800 macs 020000000011 020000000012"},
		{"zeros for IPv4, header", [][]byte{structure(3, make([]byte, 32)), sampled}, "192.0.2.1 198.51.100.1 1234 443 6 100 1 flags 0x18 tos 0 etype 0x800 macs 020000000011 020000000012"},
		{"header, zeros for IPv6", [][]byte{sampled, structure(4, make([]byte, 56))}, "192.0.2.1 198.51.100.1 1234 443 6 100 1 flags 0x18 tos 0 etype 0x800 macs 020000000011 020000000012"},
		{"IPv4, zeros for IPv6", [][]byte{v4, structure(4, make([]byte, 56))}, ipv4 + none},
		{"Ethernet, header without addresses", [][]byte{padded, rawHeader(1, 100, slices.Concat(make([]byte, 12), sampled[36:]))}, "192.0.2.1 198.51.100.1 1234 443 6 100 1 flags 0x18 tos 0 etype 0x800 macs " + macs},
		{"zeros for IPv4 alone", [][]byte{structure(3, make([]byte, 32))}, "0.0.0.0 0.0.0.0 0 0 0 0 1 flags 0x0 tos 0 etype 0x800 macs " + none},
	} {
		for _, sample := range [][]byte{flowSample(1, 2, test.structures...), expandedSample(0, 1, 0, 2, test.structures...), discarded(1, 2, 300, test.structures...)} {
			got, _ := decodeAll(t, show, sflowMessage(sample))
			if !slices.Equal(got, []string{test.want}) {
				t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
			}
		}
	}
}

// TestSFlowInterfaces has the formats of interfaces (sFlow v5, 5.3).
func TestSFlowInterfaces(t *testing.T) {
	show := func(r *flow.Record) string {
		return fmt.Sprint(r.Msg.InIf, r.Msg.OutIf, r.Msg.ForwardingStatus, r.Msg.SamplingRate)
	}
	type row struct {
		name   string
		sample []byte
		want   string
	}
	rows := []row{
		{"both known", flowSample(1, 2, sampled), "1 2 0 100"},
		{"largest", flowSample(0x3ffffffe, 0x3ffffffe, sampled), "1073741822 1073741822 0 100"},
		{"unknown", flowSample(0, 0, sampled), "0 0 0 100"},
		{"internal", flowSample(0x3fffffff, 0x3fffffff, sampled), "0 0 0 100"},
		{"two outputs", flowSample(1, 0x80000002, sampled), "1 0 0 100"},
		{"an unknown number of outputs", flowSample(1, 0x80000000, sampled), "1 0 0 100"},
		{"format 3", flowSample(0xc0000001, 0xc0000002, sampled), "0 0 0 100"},
		{"all ones", flowSample(0xffffffff, 0xffffffff, sampled), "0 0 0 100"},
		{"input in another format", flowSample(0x80000003, 2, sampled), "0 2 0 100"},
		{"expanded", expandedSample(0, 1, 0, 2, sampled), "1 2 0 100"},
		{"expanded, large", expandedSample(0, 1, 0, 1285816721, sampled), "1 1285816721 0 100"},
		{"expanded, internal", expandedSample(0, 0x3fffffff, 0, 0x3fffffff, sampled), "0 0 0 100"},
		{"expanded, all ones", expandedSample(0, 0xffffffff, 0, 0xffffffff, sampled), "0 0 0 100"},
		{"expanded, seven outputs", expandedSample(0, 1, 2, 7, sampled), "1 0 0 100"},
		{"expanded, unknown format", expandedSample(3, 1, 9, 7, sampled), "0 0 0 100"},
		{"discarded packet without interfaces", discarded(0, 0, 256, sampled), "0 0 0 1"},
		{"discarded packet, output in another format", discarded(1, 0x40000101, 260, sampled), "1 0 138 1"},
		{"discarded packet, internal", discarded(0x3fffffff, 2, 300, sampled), "0 2 128 1"},
	}
	for reason, status := range map[uint32]uint32{0: 128, 1: 128, 13: 128, 256: 0, 257: 130, 258: 128, 259: 139, 260: 138, 261: 133, 262: 128, 0x3fffffff: 128} {
		rows = append(rows,
			row{fmt.Sprint("reason ", reason), flowSample(1, 1<<30|reason, sampled), fmt.Sprint("1 0 ", status, " 100")},
			row{fmt.Sprint("expanded, reason ", reason), expandedSample(0, 1, 1, reason, sampled), fmt.Sprint("1 0 ", status, " 100")},
			row{fmt.Sprint("discarded packet, reason ", reason), discarded(1, 2, reason, sampled), fmt.Sprint("1 2 ", status, " 1")})
	}
	for _, r := range rows {
		if got, _ := decodeAll(t, show, sflowMessage(r.sample)); !slices.Equal(got, []string{r.want}) {
			t.Errorf("%s: %q, want %s", r.name, got, r.want)
		}
	}
}

// TestNoPacket makes no records of samples that describe no packet.
func TestNoPacket(t *testing.T) {
	application := structure(2202, uint32(4), "http", uint32(0), uint32(0), uint32(0), uint32(0))
	got, m := decodeAll(t, tuple, sflowMessage(flowSample(1, 2, application), flowSample(1, 2), expandedSample(0, 1, 0, 2, application), discarded(1, 2, 258),
		flowSample(1, 2, structure(1001, uint32(1), uint32(0), uint32(1), uint32(0))), sflowSample(2, make([]byte, 12)), sflowSample(4, make([]byte, 16)), flowSample(1, 2, sampled)))
	if len(got) != 1 {
		t.Errorf("records %q, want one", got)
	}
	if n := m.sets[setNoPacket].Load(); n != 5 {
		t.Errorf("%d samples of no packet, want 5", n)
	}
	if m.sets[setMalformed].Load()+m.drops[dropMalformed].Load()+m.structures.Load() > 0 {
		t.Error("they are no fault")
	}
}

// TestFromOVSTunnel: Open vSwitch alone adds both structures to what left a tunnel.
func TestFromOVSTunnel(t *testing.T) {
	show := func(r *flow.Record) string { return fmt.Sprint(r.Extra.Duplicate && r.Extra.FromTunnel) }
	tunnel, vni := structure(sflowIPv4TunnelIngress, make([]byte, 32)), structure(sflowVNIIngress, uint32(7))
	for want, lists := range map[string][][][]byte{
		"true":  {{sampled, tunnel, vni}, {vni, tunnel, sampled}},
		"false": {{sampled}, {sampled, tunnel}, {sampled, vni}, {sampled, structure(1023, make([]byte, 32)), structure(1029, uint32(7))}},
	} {
		for _, list := range lists {
			for _, sample := range [][]byte{flowSample(1, 2, list...), expandedSample(0, 1, 0, 2, list...)} {
				if got, _ := decodeAll(t, show, sflowMessage(sample)); !slices.Equal(got, []string{want}) {
					t.Errorf("%x: %q, want %s", sample, got, want)
				}
			}
		}
	}
}

// TestSampledICMPName names the type of a sampled packet, and none where the sample
// does not hold it.
func TestSampledICMPName(t *testing.T) {
	show := func(r *flow.Record) string { return r.Name(flow.FieldIcmpName) }
	v4 := func(b ...byte) []byte {
		return rawHeader(1, 100, packettest.Ethernet(0x0800, packettest.IPv4(1, 0, nil, b)))
	}
	v6 := func(b ...byte) []byte { return rawHeader(1, 100, packettest.Ethernet(0x86dd, packettest.IPv6(58, b))) }
	for name, test := range map[string]struct {
		header []byte
		want   string
	}{
		"echo":                   {v4(8, 0, 0, 0), "Echo"},
		"echo reply":             {v4(0, 0, 0, 0), "Echo Reply"},
		"port unreachable":       {v4(3, 3, 0, 0), "Destination Unreachable"},
		"cut before the type":    {v4(), ""},
		"cut before the code":    {v4(0), ""},
		"later fragment":         {rawHeader(1, 100, packettest.Ethernet(0x0800, packettest.IPv4(1, 5, nil, []byte{0, 0, 0, 0}))), ""},
		"neighbor solicitation":  {v6(135, 0, 0, 0), "Neighbor Solicitation"},
		"echo request of IPv6":   {v6(128, 0, 0, 0), "Echo Request"},
		"of an unknown type":     {v6(250, 0, 0, 0), ""},
		"UDP":                    {rawHeader(1, 100, packettest.Ethernet(0x0800, packettest.IPv4(17, 0, nil, packettest.UDP()))), ""},
		"by its structure alone": {structure(3, uint32(84), uint32(1), ip4, ip4b, uint32(0), uint32(0), uint32(0), uint32(0)), ""},
	} {
		if got, _ := decodeAll(t, show, sflowMessage(flowSample(1, 2, test.header))); !slices.Equal(got, []string{test.want}) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestSFlowUpstream compares good samples of many shapes with what goflow2 makes of
// them. Its own decoder reads none of ours.
func TestSFlowUpstream(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	number := func() uint32 { return uint32(r.IntN(4)) * uint32(r.IntN(1000)) }
	address := func() []byte {
		if r.IntN(2) == 0 {
			return be(uint32(1), ip4)
		}
		return be(uint32(2), ip6)
	}
	payload := func() []byte { return make([]byte, r.IntN(9)) }
	headers := []func() []byte{
		func() []byte {
			return packettest.Ethernet(0x0800, packettest.IPv4(6, 0, nil, packettest.TCP(payload()...)))
		},
		func() []byte { return packettest.Ethernet(0x86dd, packettest.IPv6(17, packettest.UDP(payload()...))) },
		func() []byte {
			return packettest.Ethernet(0x8100, be(uint16(r.IntN(4096)), uint16(0x86dd)), packettest.IPv6(6, packettest.TCP()))
		},
		func() []byte {
			return packettest.Ethernet(0x8847, packettest.Label(16+number(), false), packettest.Label(20, true), packettest.IPv4(17, 0, nil, packettest.UDP()))
		},
		func() []byte { return packettest.Ethernet(0x0806, make([]byte, 28)) },
		func() []byte {
			return packettest.Ethernet(0x0800, packettest.IPv4(4, 0, nil, packettest.IPv4(6, 0, nil, packettest.TCP())))
		},
		func() []byte {
			return packettest.Ethernet(0x0800, packettest.IPv4(47, 0, nil, be(uint32(0x86dd)), packettest.IPv6(17, packettest.UDP())))
		},
		func() []byte {
			return packettest.Ethernet(0x86dd, packettest.IPv6(43, be(uint8(17), uint8(4), uint8(4), uint8(1), uint8(1), uint8(0), uint16(0), ip6, ip6b), packettest.UDP()))
		},
		func() []byte {
			return packettest.Ethernet(0x86dd, packettest.IPv6(44, be(uint8(17), uint8(0), uint16(1), uint32(7)), packettest.UDP(payload()...)))
		},
		func() []byte {
			return packettest.Ethernet(0x0800, packettest.IPv4(1, 0, nil, be(number()<<24, number())))
		},
	}
	structures := []func() []byte{
		func() []byte { return rawHeader(1, r.IntN(1500), headers[r.IntN(len(headers))]()) },
		func() []byte { return rawHeader(1, r.IntN(1500), headers[r.IntN(len(headers))]()) },
		func() []byte {
			return structure(3, 1+number(), uint32(6), ip4, ip4b, number(), number(), uint32(0), number())
		},
		func() []byte {
			return structure(4, 1+number(), uint32(17), ip6, ip6b, number(), number(), uint32(0), number())
		},
		func() []byte { return structure(1001, number(), number(), number(), number()) },
		func() []byte { return structure(1002, address(), number(), number()) },
		func() []byte {
			segment := be(uint32(0))
			if n := uint32(r.IntN(4)); n > 0 {
				segment = be(uint32(1), uint32(2), n)
				for range n {
					segment = append(segment, be(number())...)
				}
			}
			communities := be(uint32(0))
			if r.IntN(2) == 0 {
				communities = be(uint32(2), number(), number())
			}
			return structure(1003, address(), number(), number(), number(), segment, communities, number())
		},
		func() []byte { return structure(1036, number()) },
		func() []byte { return structure(2100, number(), number()) },
	}
	s := newUpstream(t)
	for range 5000 {
		list := [][]byte{structures[r.IntN(4)]()} // a packet at least
		for range r.IntN(4) {
			list = append(list, structures[r.IntN(len(structures))]())
		}
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		sample := flowSample(number(), number(), list...)
		if r.IntN(2) == 0 {
			sample = expandedSample(0, number(), 0, number(), list...)
		}
		g := datagram{testSource, sflowMessage(sample, sflowSample(2, make([]byte, 12))), testTime}
		c, _ := newTestCollector(t)
		var ours []*flowpb.FlowMessage
		d := c.NewDecoder(&sink{f: func(r *flow.Record) {
			ours = append(ours, proto.Clone(&r.Msg.FlowMessage).(*flowpb.FlowMessage))
		}})
		d.Datagram(g.source, AnyFlow, g.payload, g.received)
		want, err := s.decode(g)
		if err != nil || len(want) != 1 || len(ours) != 1 {
			t.Fatalf("%x: %d records, upstream has %d (%v)", g.payload, len(ours), len(want), err)
		}
		for _, f := range differing(want[0], ours[0]) {
			if ok := filled[f]; ok == nil || !ok(want[0], ours[0]) {
				t.Errorf("%x: %s is %v, upstream has %v", g.payload, f, value(ours[0], f), value(want[0], f))
			}
		}
		if t.Failed() {
			return
		}
	}
}
