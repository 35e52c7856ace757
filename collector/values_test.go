package collector

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// val is an element of a record with its value, for be.
type val struct {
	id uint16
	v  any
}

// valueCase is a record and what its fields are, in any order of elements, in NetFlow
// v9 and in IPFIX, and with all elements of variable length.
type valueCase struct {
	name   string
	record []val
	want   string // "Name=value ..." of one record, several are separated by "|"
	only   uint16 // the version, 0 for both
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// showFields returns the named fields of a record, as names has them with their values.
func showFields(t *testing.T, names string) func(*flow.Record) string {
	return func(r *flow.Record) string {
		var out []string
		for pair := range strings.FieldsSeq(strings.Split(names, "|")[0]) {
			name, _, _ := strings.Cut(pair, "=")
			f, ok := flow.FieldByName(name)
			if !ok {
				t.Fatalf("no field %s", name)
			}
			var v string
			switch f.Kind {
			case flow.KindUint:
				v = fmt.Sprint(r.Uint(f.ID))
			case flow.KindMAC:
				v = fmt.Sprintf("%x", r.Uint(f.ID))
			case flow.KindAddr:
				if a, ok := netip.AddrFromSlice(r.Bytes(f.ID)); ok {
					v = a.String()
				}
			case flow.KindString:
				v = strings.ReplaceAll(r.Name(f.ID), " ", "-")
			case flow.KindUints:
				v = strings.Trim(strings.ReplaceAll(fmt.Sprint(r.Uints(f.ID)), " ", ","), "[]")
			default:
				t.Fatalf("kind of %s", name)
			}
			out = append(out, name+"="+v)
		}
		return strings.Join(out, " ")
	}
}

// datagramOf makes a datagram of a template and one record.
func datagramOf(version uint16, vals []val, variable bool) []byte {
	var fields []ie
	var record []byte
	for _, v := range vals {
		b := be(v.v)
		if variable {
			fields = append(fields, ie{v.id, 0xffff, 0})
			record = append(record, byte(len(b)))
		} else {
			fields = append(fields, ie{v.id, uint16(len(b)), 0})
		}
		record = append(record, b...)
	}
	if version == 9 {
		return v9Message(0, 1, set(0, templateRecord(256, fields...)), set(256, record))
	}
	return ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, record))
}

func checkValues(t *testing.T, cases []valueCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			reversed := slices.Clone(tc.record)
			slices.Reverse(reversed)
			for _, version := range []uint16{9, 10} {
				if tc.only != 0 && tc.only != version {
					continue
				}
				for i, vals := range [][]val{tc.record, reversed} {
					for _, variable := range []bool{false, true} {
						got, m := decodeAll(t, showFields(t, tc.want), datagramOf(version, vals, variable))
						if s := strings.Join(got, "|"); s != tc.want {
							t.Errorf("version %d, reversed %v, variable %v:\n got %s\nwant %s", version, i == 1, variable, s, tc.want)
						}
						if n := m.drops[dropMalformed].Load() + m.sets[setMalformed].Load() + m.drops[dropPanic].Load(); n != 0 {
							t.Errorf("%d faults", n)
						}
					}
				}
			}
		})
	}
}

func TestICMPValues(t *testing.T) {
	v4 := func(more ...val) []val {
		return append([]val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}, {4, uint8(1)}}, more...)
	}
	v6 := func(more ...val) []val {
		return append([]val{{27, addr("fd00::1")}, {28, addr("fd00::2")}, {4, uint8(58)}}, more...)
	}
	ports := func(src, dst uint16) []val { return []val{{7, src}, {11, dst}} }
	with := func(a []val, b ...val) []val { return append(slices.Clone(a), b...) }
	checkValues(t, []valueCase{
		{name: "port of an echo", record: v4(ports(0, 0x0800)...), want: "IcmpType=8 IcmpCode=0 IcmpName=Echo SrcPort=0 DstPort=2048"},
		{name: "port with a code", record: v4(ports(0, 0x0303)...), want: "IcmpType=3 IcmpCode=3 IcmpName=Destination-Unreachable DstPort=771"},
		{name: "no source port", record: v4(val{11, uint16(0x0b00)}), want: "IcmpType=11 IcmpCode=0 IcmpName=Time-Exceeded"},
		{name: "port of ICMPv6", record: v6(ports(0, 0x8700)...), want: "IcmpType=135 IcmpCode=0 IcmpName=Neighbor-Solicitation DstPort=34560"},
		{name: "port of ICMPv6 with a code", record: v6(ports(0, 0x0104)...), want: "IcmpType=1 IcmpCode=4 IcmpName=Destination-Unreachable"},
		{name: "no ports", record: v4(), want: "IcmpType=0 IcmpCode=0 IcmpName="},
		{name: "ports of 0", record: v4(ports(0, 0)...), want: "IcmpType=0 IcmpCode=0 IcmpName="},
		{name: "fprobe", record: v4(ports(0, 3)...), want: "IcmpType=0 IcmpCode=0 IcmpName= DstPort=3"},
		{name: "bare type of ICMPv6", record: v6(ports(0, 135)...), want: "IcmpType=0 IcmpCode=0 IcmpName= DstPort=135"},
		{name: "a source port", record: v4(ports(3, 0x0800)...), want: "IcmpType=0 IcmpCode=0 IcmpName= SrcPort=3 DstPort=2048"},
		{name: "rare type", record: v4(ports(0, 0x2900)...), want: "IcmpType=41 IcmpCode=0 IcmpName=ICMP-messages-utilized-by-experimental-mobility-protocols-such-as-Seamoby"},
		{name: "rare type of ICMPv6", record: v6(ports(0, 0x9c00)...), want: "IcmpType=156 IcmpCode=0 IcmpName=ILNPv6-Locator-Update-Message"},
		{name: "unknown type", record: v4(ports(0, 0x7f00)...), want: "IcmpType=0 IcmpCode=0 IcmpName="},
		{name: "ICMPv6 type in IPv4", record: v4(ports(0, 0x8700)...), want: "IcmpType=0 IcmpCode=0 IcmpName="},
		{name: "no ICMP", record: []val{{4, uint8(17)}, {7, uint16(0)}, {11, uint16(0x0800)}}, want: "IcmpType=0 IcmpCode=0 IcmpName= DstPort=2048"},
		{name: "announced echo reply", record: v4(val{32, uint16(0)}), want: "IcmpType=0 IcmpCode=0 IcmpName=Echo-Reply"},
		{name: "announced echo reply in two elements", record: v4(val{176, uint8(0)}, val{177, uint8(0)}), want: "IcmpType=0 IcmpCode=0 IcmpName=Echo-Reply"},
		{name: "announced type beside the port", record: with(v4(ports(0, 0x0800)...), val{32, uint16(0x0303)}), want: "IcmpType=3 IcmpCode=3"},
		{name: "announced echo reply beside the port", record: with(v4(ports(0, 0x0800)...), val{32, uint16(0)}), want: "IcmpType=0 IcmpCode=0 IcmpName=Echo-Reply"},
		{name: "code without type", record: v4(append(ports(0, 0x0800), val{177, uint8(0)})...), want: "IcmpType=8 IcmpCode=0 IcmpName=Echo"},
		{name: "code without type beside the port", record: v4(append(ports(0, 0x0301), val{177, uint8(1)})...), want: "IcmpType=3 IcmpCode=1 IcmpName=Destination-Unreachable"},
		{name: "code without type of ICMPv6 beside the port", record: v6(append(ports(0, 0x0104), val{179, uint8(4)})...), want: "IcmpType=1 IcmpCode=4 IcmpName=Destination-Unreachable"},
		{name: "code beside a type of 0 and the port", record: v4(append(ports(0, 0x0301), val{176, uint8(0)}, val{177, uint8(1)})...), want: "IcmpType=0 IcmpCode=1"},
		{name: "only the other family's element", record: v4(append(ports(0, 0x0800), val{139, uint16(0)})...), want: "IcmpType=8 IcmpCode=0 IcmpName=Echo"},
		{name: "only the other family's element, no port", record: v4(val{139, uint16(0)}), want: "IcmpType=0 IcmpCode=0 IcmpName="},
		{name: "both families, IPv4", record: v4(val{32, uint16(0x0800)}, val{139, uint16(0)}), want: "IcmpType=8 IcmpCode=0 IcmpName=Echo"},
		{name: "both families, IPv6", record: v6(val{32, uint16(0)}, val{139, uint16(0x8000)}), want: "IcmpType=128 IcmpCode=0 IcmpName=Echo-Request"},
		{name: "both families, echo reply", record: v4(val{32, uint16(0)}, val{139, uint16(0)}), want: "IcmpType=0 IcmpCode=0 IcmpName=Echo-Reply"},
		{name: "both families announced, IPv4", record: v4(val{32, uint16(0x0800)}, val{139, uint16(0x8700)}), want: "IcmpType=8 IcmpCode=0"},
		{name: "both families announced, IPv6", record: v6(val{32, uint16(0x0800)}, val{139, uint16(0x8700)}), want: "IcmpType=135 IcmpCode=0"},
		{name: "types and codes of both families", record: v6(val{176, uint8(0)}, val{177, uint8(0)}, val{178, uint8(1)}, val{179, uint8(4)}), want: "IcmpType=1 IcmpCode=4"},
		{name: "announced by the other family's element", record: v4(val{32, uint16(0)}, val{139, uint16(0x0303)}), want: "IcmpType=3 IcmpCode=3"},
		{name: "type of both kinds, one 0", record: v4(val{32, uint16(0)}, val{176, uint8(3)}, val{177, uint8(1)}), want: "IcmpType=3 IcmpCode=1"},
	})
}

func TestFamilyValues(t *testing.T) {
	zero4, zero6 := addr("0.0.0.0"), addr("::")
	all := func(ends []val, version uint8) []val {
		r := slices.Clone(ends)
		if version != 0 {
			r = append(r, val{60, version})
		}
		return r
	}
	ends4 := []val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}, {27, zero6}, {28, zero6}}
	ends6 := []val{{8, zero4}, {12, zero4}, {27, addr("fd00::1")}, {28, addr("fd00::2")}}
	hops := func(a, b string) []val { return []val{{15, addr(a)}, {62, addr(b)}, {18, addr(a)}, {63, addr(b)}} }
	nets := func(a, b uint8) []val { return []val{{9, a}, {29, b}, {13, a}, {30, b}} }
	for _, version := range []uint8{0, 1} { // with and without IE 60
		name := [...]string{"", ", with IE 60"}[version]
		checkValues(t, []valueCase{
			{name: "IPv4" + name, record: all(ends4, version*4), want: "SrcAddr=10.0.0.1 DstAddr=10.0.0.2 EtypeName=IPv4"},
			{name: "IPv6" + name, record: all(ends6, version*6), want: "SrcAddr=fd00::1 DstAddr=fd00::2 EtypeName=IPv6"},
			{name: "next hops of IPv4" + name, record: all(slices.Concat(ends4, hops("10.0.0.9", "::")), version*4), want: "NextHop=10.0.0.9 BgpNextHop=10.0.0.9 EtypeName=IPv4"},
			{name: "next hops of IPv6" + name, record: all(slices.Concat(ends6, hops("0.0.0.0", "fd00::9")), version*6), want: "NextHop=fd00::9 BgpNextHop=fd00::9 EtypeName=IPv6"},
			{name: "IPv6 next hops of IPv4" + name, record: all(slices.Concat(ends4, hops("0.0.0.0", "fd00::9")), version*4), want: "NextHop=fd00::9 BgpNextHop=fd00::9 EtypeName=IPv4"},
			{name: "both next hops of IPv4" + name, record: all(slices.Concat(ends4, hops("10.0.0.9", "fd00::9")), version*4), want: "NextHop=10.0.0.9 BgpNextHop=10.0.0.9"},
			{name: "both next hops of IPv6" + name, record: all(slices.Concat(ends6, hops("10.0.0.9", "fd00::9")), version*6), want: "NextHop=fd00::9 BgpNextHop=fd00::9"},
			{name: "no next hops of IPv4" + name, record: all(slices.Concat(ends4, hops("0.0.0.0", "::")), version*4), want: "NextHop=0.0.0.0 BgpNextHop=0.0.0.0"},
			{name: "no next hops of IPv6" + name, record: all(slices.Concat(ends6, hops("0.0.0.0", "::")), version*6), want: "NextHop=:: BgpNextHop=::"},
			{name: "next hops, addresses of one family" + name, record: all(slices.Concat(ends4[:2], hops("0.0.0.0", "::")), version*4), want: "NextHop=0.0.0.0 BgpNextHop=0.0.0.0"},
			{name: "lengths of IPv4" + name, record: all(slices.Concat(ends4, nets(24, 0)), version*4), want: "SrcNet=24 DstNet=24"},
			{name: "lengths of IPv6" + name, record: all(slices.Concat(ends6, nets(0, 64)), version*6), want: "SrcNet=64 DstNet=64"},
			{name: "both lengths of IPv4" + name, record: all(slices.Concat(ends4, nets(24, 64)), version*4), want: "SrcNet=24 DstNet=24"},
			{name: "both lengths of IPv6" + name, record: all(slices.Concat(ends6, nets(24, 64)), version*6), want: "SrcNet=64 DstNet=64"},
		})
	}
	checkValues(t, []valueCase{
		{name: "DHCP", record: []val{{27, zero6}, {28, zero6}, {8, zero4}, {12, addr("255.255.255.255")}, {60, uint8(4)}}, want: "SrcAddr=0.0.0.0 DstAddr=255.255.255.255 EtypeName=IPv4"},
		{name: "DHCP without IE 60", record: []val{{27, zero6}, {28, zero6}, {8, zero4}, {12, addr("255.255.255.255")}}, want: "SrcAddr=0.0.0.0 DstAddr=255.255.255.255 EtypeName=IPv4"},
		{name: "unspecified IPv6 source", record: []val{{8, zero4}, {12, zero4}, {27, zero6}, {28, addr("ff02::1:ff00:1")}}, want: "SrcAddr=:: DstAddr=ff02::1:ff00:1 EtypeName=IPv6"},
		{name: "IE 60 against the addresses", record: []val{{27, addr("fd00::1")}, {28, addr("fd00::2")}, {8, zero4}, {12, zero4}, {60, uint8(4)}}, want: "SrcAddr=fd00::1 DstAddr=fd00::2 EtypeName=IPv4"},
		{name: "zeros of IPv4 by IE 60", record: []val{{27, zero6}, {28, zero6}, {8, zero4}, {12, zero4}, {60, uint8(4)}}, want: "SrcAddr=0.0.0.0 DstAddr=0.0.0.0 EtypeName=IPv4"},
		{name: "zeros of IPv6 by IE 60", record: []val{{27, zero6}, {28, zero6}, {8, zero4}, {12, zero4}, {60, uint8(6)}}, want: "SrcAddr=:: DstAddr=:: EtypeName=IPv6"},
		{name: "zeros of IPv6 by the EtherType", record: []val{{256, uint16(0x86dd)}, {27, zero6}, {28, zero6}, {8, zero4}, {12, zero4}}, want: "SrcAddr=:: DstAddr=:: EtypeName=IPv6"},
		{name: "ARP of both families", record: []val{{256, uint16(0x0806)}, {27, zero6}, {28, zero6}, {8, zero4}, {12, zero4}, {60, uint8(0)}}, want: "EtypeName=ARP"},
		{name: "ARP beside IPv4", record: []val{{256, uint16(0x0806)}, {8, zero4}, {12, zero4}}, want: "Etype=2054 EtypeName=ARP"},
		{name: "ARP beside IPv6", record: []val{{256, uint16(0x0806)}, {27, zero6}, {28, zero6}}, want: "Etype=2054 EtypeName=ARP"},
		{name: "LLDP beside IPv4", record: []val{{256, uint16(0x88cc)}, {8, zero4}, {12, zero4}}, want: "EtypeName=LLDP"},
		{name: "EtherType of a tag beside addresses", record: []val{{256, uint16(0x8100)}, {8, addr("10.0.0.1")}, {12, zero4}}, want: "EtypeName=IPv4"},
		{name: "no EtherType beside zeros", record: []val{{256, uint16(0)}, {8, zero4}, {12, zero4}, {4, uint8(6)}}, want: "EtypeName=IPv4"},
		{name: "prefixes", record: []val{{44, addr("10.1.0.0")}, {45, addr("10.2.0.0")}, {9, uint8(16)}}, want: "SrcAddr=10.1.0.0 DstAddr=10.2.0.0 SrcNet=16 EtypeName=IPv4"},
		{name: "prefixes of IPv6", record: []val{{170, addr("fd01::")}, {169, addr("fd02::")}}, want: "SrcAddr=fd01:: DstAddr=fd02:: EtypeName=IPv6"},
		{name: "prefixes beside zeros", record: []val{{44, addr("10.1.0.0")}, {8, zero4}, {45, addr("10.2.0.0")}, {12, zero4}}, want: "SrcAddr=10.1.0.0 DstAddr=10.2.0.0 EtypeName=IPv4"},
		{name: "prefixes beside addresses", record: []val{{44, addr("10.1.0.0")}, {8, addr("10.1.0.5")}, {45, addr("10.2.0.0")}, {12, addr("10.2.0.5")}}, want: "SrcAddr=10.1.0.5 DstAddr=10.2.0.5"},
	})
}

func TestSubstituteValues(t *testing.T) {
	mac := func(last byte) []byte { return []byte{2, 0, 0, 0, 0, last} }
	none := make([]byte, 6)
	label := func(n uint32, s byte) []byte { return []byte{byte(n >> 12), byte(n >> 4), byte(n<<4) | s} }
	checkValues(t, []valueCase{
		{name: "MACs as they came", record: []val{{56, mac(1)}, {80, mac(2)}, {81, none}, {57, none}}, want: "SrcMac=20000000001 DstMac=20000000002"},
		{name: "MACs as they left", record: []val{{56, none}, {80, none}, {81, mac(1)}, {57, mac(2)}}, want: "SrcMac=20000000001 DstMac=20000000002"},
		{name: "one MAC of each", record: []val{{56, mac(1)}, {57, mac(2)}}, want: "SrcMac=20000000001 DstMac=20000000002"},
		{name: "no MACs", record: []val{{56, none}, {81, none}, {4, uint8(6)}}, want: "SrcMac=0 DstMac=0"},
		{name: "VLANs", record: []val{{243, uint16(100)}, {254, uint16(200)}}, want: "VlanId=100 SrcVlan=100 DstVlan=200"},
		{name: "VLANs beside 0", record: []val{{58, uint16(0)}, {59, uint16(0)}, {243, uint16(100)}, {254, uint16(200)}}, want: "VlanId=100 SrcVlan=100 DstVlan=200"},
		{name: "VLANs beside priority alone", record: []val{{58, uint16(0xa000)}, {59, uint16(0x6000)}, {243, uint16(100)}, {254, uint16(200)}}, want: "VlanId=100 SrcVlan=100 DstVlan=200"},
		{name: "VLANs beside others", record: []val{{58, uint16(10)}, {59, uint16(20)}, {243, uint16(100)}, {254, uint16(200)}}, want: "VlanId=10 SrcVlan=10 DstVlan=20"},
		{name: "VLANs with priority", record: []val{{243, uint16(0xa064)}, {254, uint16(0x60c8)}}, want: "VlanId=100 SrcVlan=100 DstVlan=200"},
		{name: "VLANs of the customer", record: []val{{245, uint16(100)}, {255, uint16(200)}, {244, uint8(5)}}, want: "VlanId=0 SrcVlan=0 DstVlan=0"},
		{name: "ports of TCP", record: []val{{4, uint8(6)}, {182, uint16(1234)}, {183, uint16(443)}, {180, uint16(0)}, {181, uint16(0)}}, want: "SrcPort=1234 DstPort=443"},
		{name: "ports of UDP", record: []val{{4, uint8(17)}, {182, uint16(0)}, {183, uint16(0)}, {180, uint16(5353)}, {181, uint16(53)}}, want: "SrcPort=5353 DstPort=53"},
		{name: "ports of UDP alone", record: []val{{180, uint16(5353)}, {181, uint16(53)}}, want: "SrcPort=5353 DstPort=53"},
		{name: "ports of TCP beside 0", record: []val{{4, uint8(6)}, {7, uint16(0)}, {11, uint16(0)}, {182, uint16(1234)}, {183, uint16(443)}}, want: "SrcPort=1234 DstPort=443"},
		{name: "ports beside others", record: []val{{4, uint8(6)}, {7, uint16(1)}, {11, uint16(2)}, {182, uint16(1234)}, {183, uint16(443)}}, want: "SrcPort=1 DstPort=2"},
		{name: "both ports", record: []val{{4, uint8(17)}, {180, uint16(3)}, {181, uint16(4)}, {182, uint16(1)}, {183, uint16(2)}}, want: "SrcPort=3 DstPort=4"},
		{name: "physical interfaces", record: []val{{252, uint32(3)}, {253, uint32(4)}}, want: "InIf=3 OutIf=4"},
		{name: "physical interfaces of 2 bytes", record: []val{{252, uint16(3)}, {253, uint16(4)}}, want: "InIf=3 OutIf=4"},
		{name: "physical interfaces beside others", record: []val{{10, uint16(1)}, {14, uint16(2)}, {252, uint32(3)}, {253, uint32(4)}}, want: "InIf=1 OutIf=2"},
		{name: "bytes of layer 2", record: []val{{352, uint64(84)}, {2, uint32(2)}}, want: "Bytes=84 Packets=2"},
		{name: "bytes of layer 2 beside others", record: []val{{352, uint64(84)}, {1, uint32(56)}}, want: "Bytes=56"},
		{name: "bytes of layer 2 beside totals", record: []val{{352, uint64(84)}, {85, uint64(56)}}, want: "Bytes=56"},
		{name: "bytes of layer 2 beside outgoing ones", record: []val{{352, uint64(84)}, {23, uint64(56)}}, want: "Bytes=56"},
		{name: "bytes of layer 2 beside none", record: []val{{352, uint64(84)}, {1, uint32(0)}}, want: "Bytes=84"},
		{name: "bytes of layer 2 beside none that went out", record: []val{{352, uint64(84)}, {1, uint32(0)}, {23, uint32(60)}}, want: "Bytes=60"},
		{name: "DSCP beside a ToS of 0", record: []val{{195, uint8(46)}, {5, uint8(0)}}, want: "IPTos=184"},
		{name: "DSCP", record: []val{{195, uint8(46)}}, want: "IPTos=184"},
		{name: "DSCP beside ToS", record: []val{{195, uint8(46)}, {5, uint8(0xbb)}}, want: "IPTos=187"},
		{name: "TTLs", record: []val{{52, uint8(60)}, {192, uint8(0)}}, want: "IPTTL=60"},
		{name: "label of 0 in the middle", record: []val{{70, label(24021, 0)}, {71, label(0, 0)}, {72, label(24022, 1)}, {73, label(0, 0)}}, want: "MplsLabel=24021,0,24022"},
		{name: "label of 0 at the bottom", record: []val{{70, label(24021, 0)}, {71, label(0, 1)}, {72, label(0, 0)}}, want: "MplsLabel=24021,0"},
		{name: "label of 0 on top", record: []val{{70, label(0, 0)}, {71, label(24021, 1)}}, want: "MplsLabel=0,24021"},
		{name: "labels", record: []val{{70, label(24021, 1)}, {71, label(0, 0)}, {72, label(0, 0)}}, want: "MplsLabel=24021"},
		{name: "explicit null at the bottom", record: []val{{70, label(24021, 0)}, {71, label(0, 1)}, {72, label(0, 0)}}, want: "MplsLabel=24021,0"},
		{name: "explicit null at the top", record: []val{{70, label(0, 0)}, {71, label(24021, 1)}}, want: "MplsLabel=0,24021"},
		{name: "no labels", record: []val{{4, uint8(6)}, {70, label(0, 0)}, {71, label(0, 0)}}, want: "MplsLabel="},
		{name: "ten labels", record: []val{{70, label(1, 0)}, {71, label(2, 0)}, {72, label(3, 0)}, {73, label(4, 0)}, {74, label(5, 0)}, {75, label(6, 0)},
			{76, label(7, 0)}, {77, label(8, 0)}, {78, label(9, 0)}, {79, label(10, 1)}}, want: "MplsLabel=1,2,3,4,5,6,7,8,9,10"},
		{name: "layer-2 segment", record: []val{{351, uint64(1<<56 | 5001)}}, want: "TunnelKey=5001"},
		{name: "rate in IE 34", record: []val{{34, uint32(512)}, {35, uint8(1)}}, want: "SamplingRate=512"},
		{name: "rate in IE 50", record: []val{{49, uint8(2)}, {50, uint32(100)}}, want: "SamplingRate=100"},
		{name: "rate of 2 bytes", record: []val{{34, uint16(512)}}, want: "SamplingRate=512"},
		{name: "rate of interval and space", record: []val{{305, uint32(1)}, {306, uint32(511)}}, want: "SamplingRate=512"},
		{name: "rate without space", record: []val{{305, uint32(2)}, {306, uint32(0)}}, want: "SamplingRate=1"},
		{name: "rate of an interval", record: []val{{305, uint32(512)}}, want: "SamplingRate=512"},
		{name: "rate of size and population", record: []val{{304, uint16(3)}, {305, uint32(1)}, {309, uint32(2)}, {310, uint32(512)}}, want: "SamplingRate=256"},
		{name: "rate of 0 beside another", record: []val{{34, uint32(0)}, {50, uint32(100)}}, want: "SamplingRate=100"},
		{name: "rate of a probability", record: []val{{4, uint8(6)}, {311, math.Float64bits(0.01)}}, want: "SamplingRate=100"},
		{name: "rate of a short probability", record: []val{{4, uint8(6)}, {311, math.Float32bits(0.01)}}, want: "SamplingRate=100"},
		{name: "rate of a probability of 0", record: []val{{4, uint8(6)}, {311, math.Float64bits(0)}}, want: "SamplingRate=0"},
		{name: "rate of a uniform selector", record: []val{{304, uint16(4)}, {305, uint32(1)}, {311, math.Float64bits(0.01)}}, want: "SamplingRate=100"},
		{name: "rate of a selector by count", record: []val{{304, uint16(1)}, {305, uint32(1)}, {306, uint32(99)}, {309, uint32(1)}, {310, uint32(7)}}, want: "SamplingRate=100"},
		{name: "rate of interval and space, rounded", record: []val{{305, uint32(2)}, {306, uint32(5)}}, want: "SamplingRate=4"},
		{name: "rate of size and population, rounded", record: []val{{309, uint32(2)}, {310, uint32(7)}}, want: "SamplingRate=4"},
	})
}

func checkJoined(t *testing.T, got []string, want string) {
	t.Helper()
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("\n got %s\nwant %s", s, want)
	}
}

// TestResponderValues reads biflows with the counters of initiator and responder.
func TestResponderValues(t *testing.T) {
	ends := []val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}, {7, uint16(40000)}, {11, uint16(443)}, {4, uint8(6)}, {10, uint16(3)}, {14, uint16(4)}, {6, uint8(0x1b)}}
	const forward = "SrcAddr=10.0.0.1 DstAddr=10.0.0.2 SrcPort=40000 DstPort=443 InIf=3 OutIf=4 TCPFlags=27 "
	const reverse = "SrcAddr=10.0.0.2 DstAddr=10.0.0.1 SrcPort=443 DstPort=40000 InIf=4 OutIf=3 TCPFlags=0 "
	counters := func(ids []uint16, values ...uint32) []val {
		r := slices.Clone(ends)
		for i, id := range ids {
			r = append(r, val{id, values[i]})
		}
		return r
	}
	all := []uint16{231, 298, 232, 299}
	checkValues(t, []valueCase{
		{name: "both directions", record: counters(all, 500, 5, 900, 9), want: forward + "Bytes=500 Packets=5|" + reverse + "Bytes=900 Packets=9"},
		{name: "initiator alone", record: counters(all, 500, 5, 0, 0), want: forward + "Bytes=500 Packets=5"},
		{name: "responder alone", record: counters(all, 0, 0, 900, 9), want: forward + "Bytes=0 Packets=0|" + reverse + "Bytes=900 Packets=9"},
		{name: "responder's packets alone", record: counters(all, 0, 0, 0, 9), want: forward + "Bytes=0 Packets=0|" + reverse + "Bytes=0 Packets=9"},
		{name: "event", record: counters(all, 0, 0, 0, 0), want: forward + "Bytes=0 Packets=0"},
		{name: "bytes alone", record: counters([]uint16{231, 232}, 500, 900), want: forward + "Bytes=500 Packets=0|" + reverse + "Bytes=900 Packets=0"},
		{name: "packets alone", record: counters([]uint16{298, 299}, 5, 9), want: forward + "Bytes=0 Packets=5|" + reverse + "Bytes=0 Packets=9"},
		{name: "responder beside the usual counters", record: counters([]uint16{1, 2, 232, 299}, 500, 5, 900, 9), want: forward + "Bytes=500 Packets=5|" + reverse + "Bytes=900 Packets=9"},
		{name: "usual counters of 0", record: counters([]uint16{1, 2, 231, 298, 232, 299}, 0, 0, 500, 5, 900, 9), want: forward + "Bytes=500 Packets=5|" + reverse + "Bytes=900 Packets=9"},
		{name: "totals of both directions", record: counters([]uint16{85, 86, 231, 298, 232, 299}, 1400, 14, 500, 5, 900, 9), want: forward + "Bytes=500 Packets=5|" + reverse + "Bytes=900 Packets=9"},
		{name: "ICMP", record: []val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}, {4, uint8(1)}, {176, uint8(8)}, {177, uint8(0)}, {231, uint32(84)}, {232, uint32(84)}},
			want: "SrcAddr=10.0.0.1 IcmpType=8 IcmpCode=0 IcmpName=Echo|SrcAddr=10.0.0.2 IcmpType=0 IcmpCode=0 IcmpName="},
		{name: "ICMP in one element", record: []val{{27, addr("fd00::1")}, {28, addr("fd00::2")}, {4, uint8(58)}, {139, uint16(0x8000)}, {298, uint32(1)}, {299, uint32(1)}},
			want: "SrcAddr=fd00::1 IcmpType=128 IcmpName=Echo-Request|SrcAddr=fd00::2 IcmpType=0 IcmpName="},
		{name: "ICMP in the port", record: []val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}, {4, uint8(1)}, {7, uint16(0)}, {11, uint16(0x0800)}, {231, uint32(84)}, {232, uint32(84)}},
			want: "SrcAddr=10.0.0.1 SrcPort=0 DstPort=2048 IcmpType=8 IcmpName=Echo|SrcAddr=10.0.0.2 SrcPort=2048 DstPort=0 IcmpType=0 IcmpName="},
		{name: "initiator without responder", record: counters([]uint16{231, 298}, 500, 5), want: forward + "Bytes=500 Packets=5"},
	})
	checkValues(t, []valueCase{
		{name: "VLANs, prefixes and ports are exchanged", record: []val{{44, addr("10.1.0.0")}, {45, addr("10.2.0.0")}, {243, uint16(100)}, {254, uint16(200)}, {182, uint16(1234)}, {183, uint16(443)}, {299, uint32(9)}},
			want: "SrcAddr=10.1.0.0 DstAddr=10.2.0.0 VlanId=100 SrcVlan=100 DstVlan=200 SrcPort=1234 DstPort=443|SrcAddr=10.2.0.0 DstAddr=10.1.0.0 VlanId=200 SrcVlan=200 DstVlan=100 SrcPort=443 DstPort=1234"},
		{name: "what else is exchanged", record: []val{{27, addr("fd00::1")}, {28, addr("fd00::2")}, {29, uint8(64)}, {30, uint8(48)}, {56, []byte{2, 0, 0, 0, 0, 1}}, {80, []byte{2, 0, 0, 0, 0, 2}},
			{16, uint32(65001)}, {17, uint32(65002)}, {234, uint32(1)}, {235, uint32(2)}, {180, uint16(5353)}, {181, uint16(53)}, {252, uint32(3)}, {253, uint32(4)}, {232, uint32(9)}},
			want: "SrcAddr=fd00::1 DstAddr=fd00::2 SrcNet=64 DstNet=48 SrcMac=20000000001 DstMac=20000000002 SrcAS=65001 DstAS=65002 IngressVrfID=1 EgressVrfID=2 SrcPort=5353 DstPort=53 InIf=3 OutIf=4 Bytes=0|" +
				"SrcAddr=fd00::2 DstAddr=fd00::1 SrcNet=48 DstNet=64 SrcMac=20000000002 DstMac=20000000001 SrcAS=65002 DstAS=65001 IngressVrfID=2 EgressVrfID=1 SrcPort=53 DstPort=5353 InIf=4 OutIf=3 Bytes=9"},
	})
}

// TestSetBehindMessage reads sets whose padding is not in the message's length.
func TestSetBehindMessage(t *testing.T) {
	for padding := range 8 {
		b := ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000), make([]byte, padding)))
		for behind := range padding + 1 {
			copy(b[2:], be(uint16(len(b)-behind)))
			got, m := decodeAll(t, tuple, b)
			checkJoined(t, got, basicTuple)
			if n := m.drops[dropMalformed].Load() + m.sets[setMalformed].Load(); n != 0 {
				t.Errorf("%d bytes of padding, %d behind the message: %d faults", padding, behind, n)
			}
			if !wholeMessage(b) {
				t.Errorf("%d bytes of padding, %d behind the message: not told from other payloads in a capture", padding, behind)
			}
		}
	}
	// A set that begins behind the message is none of it.
	b := ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)))
	length := len(b)
	b = append(b, set(256, basicRecord(40001))...)
	copy(b[2:], be(uint16(length)))
	got, _ := decodeAll(t, tuple, b)
	checkJoined(t, got, basicTuple)
	for _, sets := range []int{1, 2, 3, 4, 5, 8} {
		for _, variable := range []bool{false, true} {
			b, want := manyPadded(sets, variable)
			if !wholeMessage(b) {
				t.Errorf("%d sets, variable %v: not told from other payloads in a capture", sets, variable)
			}
			got, m := decodeAll(t, showFields(t, "SrcAddr= SrcPort="), b)
			checkJoined(t, got, want)
			if n := m.drops[dropMalformed].Load() + m.sets[setMalformed].Load(); n != 0 {
				t.Errorf("%d sets, variable %v: %d faults", sets, variable, n)
			}
			checkJoined(t, templateLast(t, b), want)
		}
	}
	// What padding does not explain is none of the message.
	padded := set(256, basicRecord(40000), make([]byte, 3))
	for name, tail := range map[string][]byte{
		"whole set":        set(256, basicRecord(40001)),
		"too much padding": set(256, basicRecord(40001), make([]byte, 3)),
		"unknown template": set(257, make([]byte, 3)),
		"no set":           []byte("no set at all"),
		"padding":          append(make([]byte, 3), 9, 9, 9, 9),
	} {
		b := ipfixMessage(0, 1, set(2, basicTemplate(256)), padded)
		length := len(b)
		if name == "padding" {
			length += 3 // of the message, not of the set
		}
		b = append(b, tail...)
		copy(b[2:], be(uint16(length)))
		got, m := decodeAll(t, tuple, b)
		checkJoined(t, got, basicTuple)
		if n := m.drops[dropMalformed].Load() + m.sets[setMalformed].Load(); n != 0 {
			t.Errorf("%s behind the message: %d faults", name, n)
		}
	}
}

// templateLast decodes an IPFIX message that begins with a template set, but the set
// comes in a message of its own, behind the rest.
func templateLast(t *testing.T, b []byte) (got []string) {
	t.Helper()
	c, _ := newWith(t, Config{TemplatesHold: time.Minute})
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { got = append(got, showFields(t, "SrcAddr= SrcPort=")(r)) }})
	end := 16 + int(binary.BigEndian.Uint16(b[18:]))
	rest := slices.Concat(b[:16], b[end:])
	copy(rest[2:], be(binary.BigEndian.Uint16(b[2:])-uint16(end-16)))
	d.Datagram(testSource, AnyFlow, rest, testTime)
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, b[16:end]), testTime)
	if n := d.metrics.drops[dropMalformed].Load() + d.metrics.sets[setMalformed].Load(); n != 0 {
		t.Errorf("%d faults", n)
	}
	return got
}

// manyPadded makes an IPFIX message of so many data sets of one record each, with
// padding that the message's length does not count (RFC 7011, 3.3.1), and its records.
func manyPadded(sets int, variable bool) (b []byte, want string) {
	template, prefix := templateRecord(256, ie{8, 4, 0}, ie{7, 1, 0}), []byte(nil)
	if variable {
		template, prefix = templateRecord(256, ie{8, 0xffff, 0}, ie{7, 1, 0}), []byte{4}
	}
	padding := make([]byte, 3-len(prefix))
	all, records := [][]byte{set(2, template)}, []string{}
	for i := range sets {
		all = append(all, set(256, prefix, be(addr("10.0.0.1"), uint8(i+1)), padding))
		records = append(records, fmt.Sprintf("SrcAddr=10.0.0.1 SrcPort=%d", i+1))
	}
	b = ipfixMessage(0, 1, all...)
	copy(b[2:], be(uint16(len(b)-sets*len(padding))))
	return b, strings.Join(records, "|")
}
