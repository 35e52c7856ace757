package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestRecordFields decodes what the elements of a record fill, a kind a row.
func TestRecordFields(t *testing.T) {
	ip := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	ipfix := func(fields []ie, record ...any) []byte {
		return ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, be(record...)))
	}
	v9 := func(fields []ie, record ...any) []byte {
		return v9Message(0, 1, set(0, templateRecord(256, fields...)), set(256, be(record...)))
	}
	nat := []ie{{8, 4, 0}, {12, 4, 0}, {225, 4, 0}, {226, 4, 0}, {227, 2, 0}, {228, 2, 0}, {230, 1, 0}}
	asa := []ie{{8, 4, 0}, {12, 4, 0}, {40001, 4, 0}, {40002, 4, 0}, {40003, 2, 0}, {40004, 2, 0}, {40005, 1, 0}}
	both := []ie{{60, 1, 0}, {8, 4, 0}, {27, 16, 0}, {225, 4, 0}, {281, 16, 0}}
	swapped := []ie{{60, 1, 0}, {281, 16, 0}, {225, 4, 0}, {8, 4, 0}, {27, 16, 0}}
	zero4, zero6 := ip("0.0.0.0"), ip("::")
	a, b, c, d := ip("10.0.0.1"), ip("10.0.0.2"), ip("192.0.2.1"), ip("192.0.2.2")
	a6, b6, c6, d6 := ip("fd00::1"), ip("fd00::2"), ip("2001:db8::1"), ip("2001:db8::2")
	for _, tc := range []struct {
		name     string
		datagram []byte
		want     string
	}{
		{"NAT in IPFIX", ipfix(nat, a, b, c, d, uint16(1000), uint16(80), uint8(1)),
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 NatEvent=1 PostNATDstAddr=192.0.2.2 PostNATDstPort=80 PostNATSrcAddr=192.0.2.1 PostNATSrcPort=1000"},
		{"NAT in v9", v9(nat, a, b, c, d, uint16(1000), uint16(80), uint8(2)),
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 NatEvent=2 PostNATDstAddr=192.0.2.2 PostNATDstPort=80 PostNATSrcAddr=192.0.2.1 PostNATSrcPort=1000"},
		{"NAT of an ASA", v9(asa, a, b, c, d, uint16(1000), uint16(80), uint8(2)),
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 FirewallEvent=2 PostNATDstAddr=192.0.2.2 PostNATDstPort=80 PostNATSrcAddr=192.0.2.1 PostNATSrcPort=1000"},
		{"NAT64", ipfix(both, uint8(6), zero4, a6, c, zero6), "SrcAddr=fd00::1 PostNATSrcAddr=192.0.2.1"},
		{"NAT of the flow's family, v4", ipfix(both, uint8(4), a, zero6, c, c6), "SrcAddr=10.0.0.1 PostNATSrcAddr=192.0.2.1"},
		{"NAT of the flow's family, v6", ipfix(both, uint8(6), zero4, a6, c, c6), "SrcAddr=fd00::1 PostNATSrcAddr=2001:db8::1"},
		{"a zero before the NAT", ipfix(swapped, uint8(6), zero6, c, zero4, a6), "SrcAddr=fd00::1 PostNATSrcAddr=192.0.2.1"},
		{"a zero behind the NAT", ipfix(swapped, uint8(4), c6, zero4, a, zero6), "SrcAddr=10.0.0.1 PostNATSrcAddr=2001:db8::1"},
		{"firewall event", ipfix([]ie{{8, 4, 0}, {233, 1, 0}, {33002, 2, 0}}[:2], a, uint8(3)), "SrcAddr=10.0.0.1 FirewallEvent=3"},
		{"extended code is no event", v9([]ie{{8, 4, 0}, {33002, 2, 0}, {233, 1, 0}}, a, uint16(1001), uint8(3)), "SrcAddr=10.0.0.1 FirewallEvent=3"},
		{"extended code alone", v9([]ie{{8, 4, 0}, {33002, 2, 0}}, a, uint16(1001)), "SrcAddr=10.0.0.1"},
		{"old event beside an empty new one", v9([]ie{{8, 4, 0}, {40005, 1, 0}, {233, 1, 0}}, a, uint8(2), uint8(0)), "SrcAddr=10.0.0.1 FirewallEvent=2"},

		{"application", ipfix([]ie{{8, 4, 0}, {95, 4, 0}}, a, uint32(13<<24|431)), "SrcAddr=10.0.0.1 ApplicationId=13:431"},
		{"application of 9 bytes", v9([]ie{{8, 4, 0}, {95, 9, 0}}, a, uint8(20), uint64(7)), "SrcAddr=10.0.0.1 ApplicationId=20:7"},
		{"application of 10 bytes", v9([]ie{{8, 4, 0}, {95, 10, 0}}, a, uint8(20), uint8(1), uint64(7)), "SrcAddr=10.0.0.1 ApplicationId=20:0x010000000000000007"},
		{"application of variable length", ipfix([]ie{{8, 4, 0}, {95, 0xffff, 0}}, a, uint8(3), uint8(3), uint16(443)), "SrcAddr=10.0.0.1 ApplicationId=3:443"},
		{"application of no bytes", ipfix([]ie{{8, 4, 0}, {95, 0xffff, 0}}, a, uint8(0)), "SrcAddr=10.0.0.1"},
		{"engine alone", ipfix([]ie{{8, 4, 0}, {95, 1, 0}}, a, uint8(1)), "SrcAddr=10.0.0.1 ApplicationId=1:0"},
		{"application's name", ipfix([]ie{{94, 4, 0}, {96, 4, 0}, {8, 4, 0}}, "Web\x00", "http", a), "SrcAddr=10.0.0.1 ApplicationName=http"},
		{"application's description", ipfix([]ie{{94, 4, 0}, {8, 4, 0}}, "Web\x00", a), "SrcAddr=10.0.0.1 ApplicationName=Web"},
		{"names of interfaces", ipfix([]ie{{82, 4, 0}, {83, 4, 0}, {82, 4, 0}, {83, 4, 0}, {8, 4, 0}}, "eth0", "in\x00\x00", "eth1", "out\x00", a),
			"SrcAddr=10.0.0.1 InIfDescription=in InIfName=eth0 OutIfDescription=out OutIfName=eth1"},
		{"name of the egress interface", ipfix([]ie{{14, 2, 0}, {82, 4, 0}, {83, 4, 0}}, uint16(7), "eth1", "out\x00"), "OutIf=7 OutIfDescription=out OutIfName=eth1"},
		{"name of the physical egress interface", ipfix([]ie{{82, 0xffff, 0}, {253, 4, 0}}, uint8(4), "eth1", uint32(7)), "OutIf=7 OutIfName=eth1"},
		{"name of one of two interfaces", ipfix([]ie{{14, 2, 0}, {10, 2, 0}, {82, 4, 0}}, uint16(7), uint16(6), "eth1"), "InIf=6 OutIf=7 InIfName=eth1"},
		{"names beside the egress interface", ipfix([]ie{{14, 2, 0}, {82, 4, 0}, {82, 4, 0}}, uint16(7), "eth0", "eth1"), "OutIf=7 InIfName=eth0 OutIfName=eth1"},
		{"name of the egress VRF", ipfix([]ie{{235, 4, 0}, {236, 4, 0}, {8, 4, 0}}, uint32(7), "red\x00", a), "SrcAddr=10.0.0.1 EgressVrfName=red"},
		{"VRF's name", ipfix([]ie{{236, 4, 0}, {8, 4, 0}}, "red\x00", a), "SrcAddr=10.0.0.1 IngressVrfName=red"},

		{"IP in IP", ipfix([]ie{{8, 4, 0}, {12, 4, 0}, {4, 1, 0}, {8, 4, 0}, {12, 4, 0}, {4, 1, 0}}, c, d, uint8(4), a, b, uint8(6)),
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 Proto=6 TunnelDstAddr=192.0.2.2 TunnelProto=4 TunnelSrcAddr=192.0.2.1"},
		{"SRv6", v9([]ie{{27, 16, 0}, {28, 16, 0}, {27, 16, 0}, {28, 16, 0}, {4, 1, 0}}, c6, d6, a6, b6, uint8(6)),
			"SrcAddr=fd00::1 DstAddr=fd00::2 Proto=6 TunnelDstAddr=2001:db8::2 TunnelSrcAddr=2001:db8::1"},
		{"VXLAN with ports", ipfix([]ie{{8, 4, 0}, {12, 4, 0}, {7, 2, 0}, {11, 2, 0}, {4, 1, 0}, {8, 4, 0}, {12, 4, 0}, {7, 2, 0}, {11, 2, 0}, {4, 1, 0}},
			c, d, uint16(5000), uint16(4789), uint8(17), a, b, uint16(1000), uint16(80), uint8(6)),
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 SrcPort=1000 DstPort=80 Proto=6 TunnelDstAddr=192.0.2.2 TunnelDstPort=4789 TunnelProto=17 TunnelSrcAddr=192.0.2.1 TunnelSrcPort=5000"},
		{"elements twice without a tunnel", ipfix([]ie{{8, 4, 0}, {12, 4, 0}, {8, 4, 0}, {12, 4, 0}}, a, b, a, b), "SrcAddr=10.0.0.1 DstAddr=10.0.0.2"},
		{"no outer header", ipfix([]ie{{8, 4, 0}, {12, 4, 0}, {8, 4, 0}, {12, 4, 0}}, zero4, zero4, a, b), "SrcAddr=10.0.0.1 DstAddr=10.0.0.2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _ := decodeAll(t, showSetFields, tc.datagram)
			if len(got) != 1 || got[0] != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// TestReverseNAT exchanges the ends behind a NAT in the other direction of a biflow.
func TestReverseNAT(t *testing.T) {
	address := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	for _, tc := range []struct {
		name     string
		fields   []ie
		src, dst []byte
	}{
		{"IPv4", []ie{{225, 4, 0}, {226, 4, 0}}, address("192.0.2.1"), address("192.0.2.2")},
		{"IPv6", []ie{{281, 16, 0}, {282, 16, 0}}, address("2001:db8::1"), address("2001:db8::2")},
	} {
		fields := append([]ie{{8, 4, 0}, {12, 4, 0}, {1, 4, 0}, {1, 4, penReverse}, {227, 2, 0}, {228, 2, 0}, {233, 1, 0}, {95, 4, 0}}, tc.fields...)
		got, _ := decodeAll(t, showSetFields, ipfixMessage(0, 1, set(2, templateRecord(256, fields...)),
			set(256, be(address("10.0.0.1"), address("10.0.0.2"), uint32(100), uint32(200), uint16(1000), uint16(80), uint8(2), uint32(13<<24|431), tc.src, tc.dst))))
		src, _ := netip.AddrFromSlice(tc.src)
		dst, _ := netip.AddrFromSlice(tc.dst)
		const format = "SrcAddr=%s DstAddr=%s ApplicationId=13:431 FirewallEvent=2 PostNATDstAddr=%s PostNATDstPort=%d PostNATSrcAddr=%s PostNATSrcPort=%d"
		want := []string{
			fmt.Sprintf(format, "10.0.0.1", "10.0.0.2", dst, 80, src, 1000),
			fmt.Sprintf(format, "10.0.0.2", "10.0.0.1", src, 1000, dst, 80),
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q\nwant %q", tc.name, got, want)
		}
	}
}

// TestReverseICMP has the type of the answer in an element of its own.
func TestReverseICMP(t *testing.T) {
	b := ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{12, 4, 0}, ie{4, 1, 0}, ie{32, 2, 0}, ie{1, 4, 0}, ie{32, 2, penReverse}, ie{1, 4, penReverse})),
		set(256, be(ip4, ip4b, uint8(1), uint16(0x0800), uint32(84), uint16(0), uint32(84))))
	got, _ := decodeAll(t, showFields(t, "SrcAddr= IcmpType= IcmpName="), b)
	checkJoined(t, got, "SrcAddr=192.0.2.7 IcmpType=8 IcmpName=Echo|SrcAddr=192.0.2.8 IcmpType=0 IcmpName=Echo-Reply")
}

// showSetFields shows the fields of the 5-tuple that are set, then the opt-in fields of
// names, NAT and tunnels.
func showSetFields(r *flow.Record) string {
	var parts []string
	add := func(f *flow.Field) {
		switch f.Kind {
		case flow.KindUint:
			if v := r.Uint(f.ID); v != 0 {
				parts = append(parts, fmt.Sprintf("%s=%d", f.Name, v))
			}
		case flow.KindAddr:
			if a, ok := r.Addr(f.ID); ok {
				parts = append(parts, f.Name+"="+a.String())
			}
		case flow.KindText:
			if v := r.Bytes(f.ID); len(v) > 0 {
				parts = append(parts, f.Name+"="+string(v))
			}
		}
	}
	for _, id := range []flow.FieldID{flow.FieldSrcAddr, flow.FieldDstAddr, flow.FieldSrcPort, flow.FieldDstPort, flow.FieldProto, flow.FieldInIf, flow.FieldOutIf} {
		add(&flow.Fields[id])
	}
	for i := range flow.Fields {
		switch f := &flow.Fields[i]; {
		case f.Own() && (f.Number >= 2114 && f.Number < 2128 || f.Number >= 2105 && f.Number <= 2113):
			add(f)
		}
	}
	return strings.Join(parts, " ")
}
