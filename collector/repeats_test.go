package collector

import (
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestRepeatedElements has elements that come several times: a zero never replaces a
// value, and of several values the last one counts.
func TestRepeatedElements(t *testing.T) {
	mac := []byte{2, 0, 0, 0, 0, 1}
	for _, tc := range []valueCase{
		{name: "a zero behind a value", record: []val{{10, uint32(5)}, {10, uint32(0)}}, want: "InIf=5"},
		{name: "a zero before a value", record: []val{{10, uint32(0)}, {10, uint32(5)}}, want: "InIf=5"},
		{name: "two values", record: []val{{10, uint32(5)}, {10, uint32(6)}}, want: "InIf=6"},
		{name: "two values and a zero", record: []val{{10, uint32(5)}, {14, uint16(3)}, {10, uint32(6)}, {10, uint16(0)}}, want: "InIf=6 OutIf=3"},
		{name: "zeros", record: []val{{10, uint32(0)}, {4, uint8(6)}, {10, uint32(0)}}, want: "InIf=0 Proto=6"},
		{name: "VLAN", record: []val{{58, uint16(5)}, {58, uint16(0)}}, want: "VlanId=5 SrcVlan=5"},
		{name: "VLAN of 243", record: []val{{243, uint16(5)}, {243, uint16(0)}}, want: "VlanId=5 SrcVlan=5"},
		{name: "counters", record: []val{{1, uint64(500)}, {2, uint32(5)}, {1, uint64(0)}, {2, uint32(0)}}, want: "Bytes=500 Packets=5"},
		{name: "totals", record: []val{{85, uint64(500)}, {85, uint64(0)}}, want: "Bytes=500"},
		{name: "one direction of a biflow", record: []val{{231, uint32(5)}, {231, uint32(0)}, {232, uint32(7)}, {232, uint32(0)}}, want: "Bytes=5|Bytes=7"},
		{name: "flags", record: []val{{6, uint8(0x12)}, {6, uint16(0)}}, want: "TCPFlags=18"},
		{name: "ICMP", record: []val{{4, uint8(1)}, {32, uint16(0x0301)}, {32, uint16(0)}}, want: "IcmpType=3 IcmpCode=1"},
		{name: "ICMP type and code", record: []val{{4, uint8(1)}, {176, uint8(3)}, {177, uint8(1)}, {176, uint8(0)}, {177, uint8(0)}}, want: "IcmpType=3 IcmpCode=1"},
		{name: "ICMP of two elements", record: []val{{4, uint8(1)}, {32, uint16(0x0301)}, {139, uint16(0)}, {32, uint16(0)}}, want: "IcmpType=3 IcmpCode=1"},
		{name: "MAC", record: []val{{56, mac}, {56, make([]byte, 6)}}, want: "SrcMac=20000000001"},
		{name: "next hop", record: []val{{15, addr("10.0.0.9")}, {15, addr("0.0.0.0")}}, want: "NextHop=10.0.0.9"},
		{name: "version", record: []val{{60, uint8(6)}, {60, uint8(0)}, {27, addr("::")}, {8, addr("0.0.0.0")}}, want: "EtypeName=IPv6"},
		{name: "an address", record: []val{{8, addr("10.0.0.1")}, {8, addr("0.0.0.0")}}, want: "SrcAddr=10.0.0.1 EtypeName=IPv4"},
		{name: "prefix length", record: []val{{9, uint8(24)}, {9, uint8(0)}}, want: "SrcNet=24"},
		{name: "DSCP", record: []val{{195, uint8(46)}, {195, uint8(0)}}, want: "IPTos=184"},
		{name: "TTL", record: []val{{192, uint8(64)}, {192, uint8(0)}}, want: "IPTTL=64"},
		{name: "direction", record: []val{{61, uint8(1)}, {61, uint8(0)}}, want: "FlowDirection=1"},
		{name: "VRF", record: []val{{234, uint32(7)}, {234, uint32(0)}}, want: "IngressVrfID=7"},
		{name: "rate", record: []val{{34, uint32(100)}, {34, uint32(0)}}, want: "SamplingRate=100"},
		{name: "labels", record: []val{{70, []byte{0, 1, 1}}, {70, []byte{0, 0, 0}}}, want: "MplsLabel=16"},
		{name: "uptime", record: []val{{22, uint32(50_000)}, {22, uint32(0)}, {21, uint32(55_000)}, {21, uint32(0)}}, only: 9, want: "TimeFlowStart=1699999990 TimeFlowEnd=1699999995"},
		{name: "start and duration", record: []val{{152, uint64(1_600_000_000_000)}, {161, uint32(5000)}, {161, uint32(0)}}, want: "TimeFlowStart=1600000000 TimeFlowEnd=1600000005"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, version := range []uint16{9, 10} {
				if tc.only != 0 && tc.only != version {
					continue
				}
				for _, variable := range []bool{false, true} {
					got, _ := decodeAll(t, showFields(t, tc.want), datagramOf(version, tc.record, variable))
					if s := strings.Join(got, "|"); s != tc.want {
						t.Errorf("version %d, variable %v: got %s, want %s", version, variable, s, tc.want)
					}
				}
			}
		})
	}
}

// TestOuterHeader has records with two headers, and some that look like it.
func TestOuterHeader(t *testing.T) {
	zero4, zero6 := addr("0.0.0.0"), addr("::")
	outer4 := []val{{8, addr("192.0.2.1")}, {12, addr("192.0.2.2")}}
	inner4 := []val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}}
	outer6 := []val{{27, addr("2001:db8::1")}, {28, addr("2001:db8::2")}}
	inner6 := []val{{27, addr("fd00::1")}, {28, addr("fd00::2")}}
	none4, none6 := []val{{8, zero4}, {12, zero4}}, []val{{27, zero6}, {28, zero6}}
	flow5 := func(proto uint8, src, dst uint16) []val { return []val{{4, proto}, {7, src}, {11, dst}} }
	for _, tc := range []struct {
		name   string
		record [][]val
		want   string
	}{
		{"VXLAN", [][]val{outer4, flow5(17, 5000, 4789), inner4, flow5(6, 1000, 80)},
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 SrcPort=1000 DstPort=80 Proto=6 TunnelDstAddr=192.0.2.2 TunnelDstPort=4789 TunnelProto=17 TunnelSrcAddr=192.0.2.1 TunnelSrcPort=5000"},
		{"VXLAN of ICMP", [][]val{outer4, flow5(17, 5000, 4789), inner4, flow5(1, 0, 0)},
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 Proto=1 TunnelDstAddr=192.0.2.2 TunnelDstPort=4789 TunnelProto=17 TunnelSrcAddr=192.0.2.1 TunnelSrcPort=5000"},
		{"VXLAN of hop-by-hop options", [][]val{outer6, flow5(17, 5000, 4789), inner6, flow5(0, 0, 0)},
			"SrcAddr=fd00::1 DstAddr=fd00::2 TunnelDstAddr=2001:db8::2 TunnelDstPort=4789 TunnelProto=17 TunnelSrcAddr=2001:db8::1 TunnelSrcPort=5000"},
		{"VXLAN of DHCP", [][]val{outer4, flow5(17, 5000, 4789), {{8, zero4}, {12, addr("255.255.255.255")}}, flow5(17, 68, 67)},
			"SrcAddr=0.0.0.0 DstAddr=255.255.255.255 SrcPort=68 DstPort=67 Proto=17 TunnelDstAddr=192.0.2.2 TunnelDstPort=4789 TunnelProto=17 TunnelSrcAddr=192.0.2.1 TunnelSrcPort=5000"},
		{"no packet inside", [][]val{outer4, flow5(17, 5000, 53), none4, flow5(0, 0, 0)}, "SrcAddr=192.0.2.1 DstAddr=192.0.2.2 SrcPort=5000 DstPort=53 Proto=17"},
		{"no packet around", [][]val{none4, flow5(0, 0, 0), inner4, flow5(6, 1000, 80)}, "SrcAddr=10.0.0.1 DstAddr=10.0.0.2 SrcPort=1000 DstPort=80 Proto=6"},
		{"one packet twice", [][]val{inner4, flow5(6, 1000, 80), inner4, flow5(0, 0, 0)}, "SrcAddr=10.0.0.1 DstAddr=10.0.0.2 SrcPort=1000 DstPort=80 Proto=6"},
		{"SRv6 of IPv4", [][]val{outer6, inner4, flow5(6, 1000, 80)},
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 SrcPort=1000 DstPort=80 Proto=6 TunnelDstAddr=2001:db8::2 TunnelSrcAddr=2001:db8::1"},
		{"SRv6 of IPv4, by its version", [][]val{inner4, outer6, {{60, uint8(4)}}},
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 TunnelDstAddr=2001:db8::2 TunnelSrcAddr=2001:db8::1"},
		{"6in4, by its version", [][]val{inner6, outer4, {{60, uint8(6)}}},
			"SrcAddr=fd00::1 DstAddr=fd00::2 TunnelDstAddr=192.0.2.2 TunnelSrcAddr=192.0.2.1"},
		{"SRv6 of IPv4, in a template for both", [][]val{outer6, inner4, none6},
			"SrcAddr=10.0.0.1 DstAddr=10.0.0.2 TunnelDstAddr=2001:db8::2 TunnelSrcAddr=2001:db8::1"},
		{"SRv6 of IPv6, in a template for both", [][]val{outer6, none4, inner6},
			"SrcAddr=fd00::1 DstAddr=fd00::2 TunnelDstAddr=2001:db8::2 TunnelSrcAddr=2001:db8::1"},
		{"IPv4 in a template for both families", [][]val{inner4, none6}, "SrcAddr=10.0.0.1 DstAddr=10.0.0.2"},
		{"IPv6 in a template for both families", [][]val{none4, inner6}, "SrcAddr=fd00::1 DstAddr=fd00::2"},
		{"IPv4 in IPv6 notation", [][]val{{{27, addr("::ffff:10.0.0.1")}, {28, addr("::ffff:10.0.0.2")}}, inner4}, "SrcAddr=10.0.0.1 DstAddr=10.0.0.2"},
		{"half of the other family", [][]val{{{27, zero6}, {28, addr("2001:db8::2")}}, inner4, {{60, uint8(4)}}}, "SrcAddr=10.0.0.1 DstAddr=10.0.0.2"},
	} {
		for _, version := range []uint16{9, 10} {
			for _, variable := range []bool{false, true} {
				got, _ := decodeAll(t, showSetFields, datagramOf(version, slices.Concat(tc.record...), variable))
				if s := strings.Join(got, "|"); s != tc.want {
					t.Errorf("%s, version %d, variable %v:\n got %s\nwant %s", tc.name, version, variable, s, tc.want)
				}
			}
		}
	}
}

// TestRepeatedElementsAllocateNothing decodes records with elements that come twice.
func TestRepeatedElementsAllocateNothing(t *testing.T) {
	c, _ := newTestCollector(t)
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	fields := []ie{{8, 4, 0}, {12, 4, 0}, {4, 1, 0}, {8, 4, 0}, {12, 4, 0}, {4, 1, 0}, {10, 4, 0}, {10, 4, 0}, {85, 4, 0}, {85, 4, 0}}
	record := be(ip4, ip4, uint8(4), ip4b, ip4b, uint8(6), uint32(1), uint32(0), uint32(5), uint32(0))
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, record)), testTime)
	data := ipfixMessage(0, 1, set(256, record, record))
	if n := testing.AllocsPerRun(100, func() { d.Datagram(testSource, AnyFlow, data, testTime) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
