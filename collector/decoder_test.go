package collector

import (
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// decodeAll decodes datagrams of one source and returns what show makes of the
// records, and the decoder's metrics.
func decodeAll(t *testing.T, show func(*flow.Record) string, datagrams ...[]byte) ([]string, *workerMetrics) {
	t.Helper()
	c, _ := newTestCollector(t)
	var got []string
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { got = append(got, show(r)) }})
	for _, b := range datagrams {
		d.Datagram(testSource, AnyFlow, b, testTime)
	}
	return got, d.metrics
}

// TestHostile has a case for each fault of goflow2 that the guards cover and
// for each way in which a datagram can lie. A good datagram follows each.
func TestHostile(t *testing.T) {
	good := ipfixMessage(1, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)))
	expanded := sflowSample(3, be(uint32(1), uint32(0), uint32(3), uint32(100), uint32(1), uint32(0), uint32(0), uint32(1), uint32(0), uint32(2), uint32(0xffffffff)))
	cases := map[string]struct {
		datagrams                                                         [][]byte
		records                                                           int
		datagramsMalformed, setsMalformed, templatesRejected, setsUnknown uint64
		unknownProtocol                                                   uint64
	}{
		"IPFIX withdrawal, then data of it": {
			datagrams:         [][]byte{ipfixMessage(0, 0, set(2, be(uint16(300), uint16(0)))), ipfixMessage(0, 0, set(300, be(uint32(1))))},
			templatesRejected: 1, setsUnknown: 1,
		},
		"template of length zero, then data of it": {
			datagrams:         [][]byte{ipfixMessage(0, 0, set(2, templateRecord(300, ie{8, 0, 0}, ie{12, 0, 0}))), ipfixMessage(0, 0, set(300, be(uint32(1))))},
			templatesRejected: 1, setsUnknown: 1,
		},
		"v9 template without fields": {
			datagrams:         [][]byte{v9Message(0, 0, set(0, be(uint16(300), uint16(0)))), v9Message(0, 0, set(300, be(uint32(1))))},
			templatesRejected: 1, setsUnknown: 1,
		},
		"options template of length zero": {
			datagrams:         [][]byte{ipfixMessage(0, 0, set(3, optionsRecord(300, 1, ie{144, 0, 0}, ie{34, 0, 0}))), ipfixMessage(0, 0, set(300, be(uint32(1))))},
			templatesRejected: 1, setsUnknown: 1,
		},
		"sFlow expanded sample of 4 billion records": {
			datagrams: [][]byte{sflowMessage(expanded)}, datagramsMalformed: 1,
		},
		"sFlow sample count beyond the cap":     {datagrams: [][]byte{slices.Concat(sflowMessage()[:24], be(uint32(100000)))}, datagramsMalformed: 1},
		"sFlow sample longer than the datagram": {datagrams: [][]byte{sflowMessage(be(uint32(1), uint32(1<<31), uint32(0)))}, datagramsMalformed: 1},
		"sFlow of an unknown address family":    {datagrams: [][]byte{be(uint32(5), uint32(9), make([]byte, 40))}, datagramsMalformed: 1},
		"v5 count of 65535 in 24 bytes":         {datagrams: [][]byte{v5Message(65535)}, datagramsMalformed: 1},
		"v5 count beyond the records":           {datagrams: [][]byte{v5Message(30, v5Record(40000))}, records: 1, datagramsMalformed: 1},
		"v5 cut in a record":                    {datagrams: [][]byte{v5Message(2, v5Record(40000), v5Record(40000)[:47])}, records: 1, datagramsMalformed: 1},
		"unknown template beside a good set": {
			datagrams: [][]byte{ipfixMessage(0, 1, set(999, be(uint32(1))), set(2, basicTemplate(256)), set(256, basicRecord(40000)), set(998, be(uint32(1))))},
			records:   1, setsUnknown: 2,
		},
		"set longer than the datagram behind a good one": {
			datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)), be(uint16(256), uint16(60000), uint32(1)))},
			records:   1, setsMalformed: 1,
		},
		"set of length zero":                      {datagrams: [][]byte{ipfixMessage(0, 1, be(uint16(256), uint16(0), uint32(1)))}, datagramsMalformed: 1},
		"IPFIX length below 16":                   {datagrams: [][]byte{be(uint16(10), uint16(3), make([]byte, 30))}, datagramsMalformed: 1},
		"IPFIX header only, cut":                  {datagrams: [][]byte{be(uint16(10), uint16(16), uint32(0))}, datagramsMalformed: 1},
		"reserved set id beside a good set":       {datagrams: [][]byte{ipfixMessage(0, 1, set(77, be(uint32(1))), set(2, basicTemplate(256)), set(256, basicRecord(40000)))}, records: 1, setsMalformed: 1},
		"template field count beyond the bytes":   {datagrams: [][]byte{ipfixMessage(0, 1, set(2, be(uint16(256), uint16(65535), uint32(1))))}, datagramsMalformed: 1},
		"options with more scopes than fields":    {datagrams: [][]byte{ipfixMessage(0, 1, set(3, be(uint16(256), uint16(1), uint16(2), uint16(34), uint16(4))))}, datagramsMalformed: 1},
		"good template before a bad one in a set": {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256), be(uint16(257), uint16(9999)))), ipfixMessage(0, 1, set(256, basicRecord(40000)))}, records: 1, datagramsMalformed: 1},
		"template id below 256":                   {datagrams: [][]byte{ipfixMessage(0, 1, set(2, be(uint16(200), uint16(1), uint16(8), uint16(4))))}, datagramsMalformed: 1},
		"number of 12 bytes":                      {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{1, 12, 0})), set(256, be(uint32(1), make([]byte, 12))))}, records: 1},
		"variable length beyond the set":          {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0})), set(256, be(uint8(200), uint8(1))))}, setsMalformed: 1},
		"variable length of 3 bytes, cut":         {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0})), set(256, be(uint8(255), uint8(1))))}, setsMalformed: 1},
		"NetFlow v1":                              {datagrams: [][]byte{be(uint16(1), make([]byte, 60))}, unknownProtocol: 1},
		"NetFlow v7":                              {datagrams: [][]byte{be(uint16(7), make([]byte, 60))}, unknownProtocol: 1},
		"empty":                                   {datagrams: [][]byte{{}}, unknownProtocol: 1},
		"text":                                    {datagrams: [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, unknownProtocol: 1},
		"tail of zeros behind the sets":           {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)), make([]byte, 800))}, records: 1},
		"tail of zeros in the set":                {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000), make([]byte, 800)))}, records: 1},
		"padding after a variable-length record":  {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0})), set(256, be(uint8(4), "eth0", uint8(0), uint8(0), uint8(0))))}, records: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, m := decodeAll(t, tuple, append(slices.Clone(tc.datagrams), good)...)
			if len(got) != tc.records+1 || got[len(got)-1] != basicTuple {
				t.Errorf("records %q, want %d and the good one", got, tc.records)
			}
			for _, check := range []struct {
				what      string
				got, want uint64
			}{
				{"malformed datagrams", m.drops[dropMalformed].Load(), tc.datagramsMalformed},
				{"malformed sets", m.sets[setMalformed].Load(), tc.setsMalformed},
				{"sets without template", m.sets[setTimeout].Load(), tc.setsUnknown},
				{"rejected templates", m.templatesRejected.Load(), tc.templatesRejected},
				{"datagrams of unknown protocol", m.drops[dropUnknownProtocol].Load(), tc.unknownProtocol},
				{"panics", m.drops[dropPanic].Load(), 0},
			} {
				if check.got != check.want {
					t.Errorf("%d %s, want %d", check.got, check.what, check.want)
				}
			}
		})
	}
}

// TestShapes decodes what real exporters send and the captures lack.
func TestShapes(t *testing.T) {
	show := func(format string, f func(r *flow.Record) []any) func(*flow.Record) string {
		return func(r *flow.Record) string { return fmt.Sprintf(format, f(r)...) }
	}
	rate := show("%d", func(r *flow.Record) []any { return []any{r.Msg.SamplingRate} })
	times := show("%v %v %d %d", func(r *flow.Record) []any {
		return []any{r.Extra.HasStart, r.Extra.HasEnd, r.Uint(flow.FieldTimeFlowStart), r.Uint(flow.FieldTimeFlowEnd)}
	})
	counts := show("%d %d", func(r *flow.Record) []any { return []any{r.Msg.Bytes, r.Msg.Packets} })
	packet := show("%s %d %s", func(r *flow.Record) []any { return []any{tuple(r), r.Msg.Etype, r.Name(flow.FieldProtoName)} })
	interfaces := show("%d %d", func(r *flow.Record) []any { return []any{r.Msg.InIf, r.Msg.OutIf} })
	extra := show("%d %d %d %d %d %d %s %s", func(r *flow.Record) []any {
		x := &r.Extra
		return []any{x.FlowDirection, x.BiFlowDirection, x.IngressVrfID, x.EgressVrfID, x.FlowEndReason, r.Msg.IpTtl, x.InIfName, x.OutIfName}
	})
	tunnel := show("%d %d %v %v %d %d %d", func(r *flow.Record) []any {
		x := &r.Extra
		src, _ := r.Addr(flow.FieldTunnelSrcAddr)
		dst, _ := r.Addr(flow.FieldTunnelDstAddr)
		return []any{x.TunnelType, x.TunnelKey, src, dst, x.TunnelProto, x.TunnelSrcPort, x.TunnelDstPort}
	})
	one := func(fields []ie, record []byte) []byte {
		return ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, record))
	}
	one9 := func(fields []ie, record []byte) []byte {
		return v9Message(0, 1, set(0, templateRecord(256, fields...)), set(256, record))
	}
	a4, b4 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, tc := range []struct {
		name      string
		show      func(*flow.Record) string
		datagrams [][]byte
		want      string
	}{
		{"reduced-size counters", counts, [][]byte{one([]ie{{1, 3, 0}, {2, 1, 0}}, be(uint8(1), uint16(2), uint8(9)))}, "65538 9"},
		{"counters in 85/86", counts, [][]byte{one([]ie{{85, 8, 0}, {86, 4, 0}}, be(uint64(500), uint32(5)))}, "500 5"},
		{"counters in 23/24", counts, [][]byte{one([]ie{{23, 4, 0}, {24, 4, 0}}, be(uint32(500), uint32(5)))}, "500 5"},
		{"counters in 231/298", counts, [][]byte{one([]ie{{231, 8, 0}, {298, 8, 0}}, be(uint64(500), uint64(5)))}, "500 5"},
		{"totals beside deltas", counts, [][]byte{one([]ie{{1, 4, 0}, {2, 4, 0}, {85, 8, 0}, {86, 8, 0}}, be(uint32(7), uint32(1), uint64(500), uint64(5)))}, "7 1"},
		{"outgoing zero beside deltas", counts, [][]byte{one9([]ie{{1, 4, 0}, {2, 4, 0}, {23, 4, 0}, {24, 4, 0}}, be(uint32(7), uint32(1), uint32(0), uint32(0)))}, "7 1"},
		{"outgoing beside zero deltas", counts, [][]byte{one9([]ie{{1, 4, 0}, {2, 4, 0}, {23, 4, 0}, {24, 4, 0}}, be(uint32(0), uint32(0), uint32(7), uint32(1)))}, "7 1"},
		{"what goflow2 has no field for", extra, [][]byte{one(
			[]ie{{61, 1, 0}, {239, 1, 0}, {234, 4, 0}, {235, 4, 0}, {136, 1, 0}, {192, 1, 0}, {82, 8, 0}, {82, 0xffff, 0}},
			be(uint8(1), uint8(2), uint32(3), uint32(4), uint8(5), uint8(63), "eth0\x00\x00\x00\x00", uint8(5), "pod-b"))}, "1 2 3 4 5 63 eth0 pod-b"},
		{"Open vSwitch tunnel", tunnel, [][]byte{one(
			[]ie{{891, 1, 6876}, {892, 0xffff, 6876}, {893, 4, 6876}, {894, 4, 6876}, {895, 1, 6876}, {896, 2, 6876}, {897, 2, 6876}},
			be(uint8(7), uint8(3), uint8(2), uint16(7), a4, b4, uint8(17), uint16(40000), uint16(6081)))}, "7 131079 10.0.0.1 10.0.0.2 17 40000 6081"},
		{"no times", times, [][]byte{one([]ie{{8, 4, 0}}, be(a4))}, "false false 0 0"},
		{"IPFIX milliseconds", times, [][]byte{one([]ie{{152, 8, 0}, {153, 8, 0}}, be(uint64(1_600_000_000_000), uint64(1_600_000_009_000)))}, "true true 1600000000 1600000009"},
		{"IPFIX end only", times, [][]byte{one([]ie{{151, 4, 0}}, be(uint32(1_600_000_009)))}, "false true 0 1600000009"},
		{"IPFIX uptime with its own boot time", times, [][]byte{one([]ie{{22, 4, 0}, {21, 4, 0}, {160, 8, 0}}, be(uint32(1000), uint32(3000), uint64(1_600_000_000_000)))}, "true true 1600000001 1600000003"},
		{"IPFIX uptime with the boot time from options", times, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{160, 8, 0})), set(300, be(uint32(1), uint64(1_600_000_000_000)))),
			one([]ie{{22, 4, 0}, {21, 4, 0}}, be(uint32(1000), uint32(3000)))}, "true true 1600000001 1600000003"},
		{"IPFIX uptime without boot time", times, [][]byte{one([]ie{{22, 4, 0}, {21, 4, 0}}, be(uint32(1000), uint32(3000)))}, "false false 0 0"},
		{"v9 uptime", times, [][]byte{one9([]ie{{22, 4, 0}, {21, 4, 0}}, be(uint32(10_000), uint32(59_000)))}, "true true 1699999950 1699999999"},
		{"v9 absolute milliseconds", times, [][]byte{one9([]ie{{152, 8, 0}, {153, 8, 0}}, be(uint64(1_600_000_000_000), uint64(1_600_000_009_000)))}, "true true 1600000000 1600000009"},
		{"v9 of variable length", counts, [][]byte{one9([]ie{{95, 0xffff, 0}, {1, 4, 0}, {2, 4, 0}}, be(uint8(3), "abc", uint32(7), uint32(1)))}, "7 1"},
		{"the same element twice", counts, [][]byte{one([]ie{{1, 4, 0}, {1, 4, 0}, {2, 4, 0}}, be(uint32(5), uint32(7), uint32(1)))}, "7 1"},
		{"options with the enterprise bit", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 9})), set(300, be(uint32(1), uint32(77)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "0"},
		{"sampling of 2 bytes", rate, [][]byte{
			v9Message(0, 1, set(1, be(uint16(300), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(2))), set(300, be(uint32(1), uint16(512), uint16(0)))),
			one9([]ie{{8, 4, 0}}, be(a4))}, "512"},
		{"sampling 1 in 10 by interval and space", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{305, 4, 0}, ie{306, 4, 0})), set(300, be(uint32(1), uint32(1), uint32(9)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "10"},
		{"sampling by interval alone", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{305, 4, 0})), set(300, be(uint32(1), uint32(2000)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "2000"},
		{"sampling by size and population", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 4, 0}, ie{309, 4, 0}, ie{310, 4, 0})), set(300, be(uint32(0), uint32(2), uint32(600)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "300"},
		{"sampling of another domain", rate, [][]byte{
			ipfixMessage(0, 2, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 0})), set(300, be(uint32(1), uint32(77)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "0"},
		{"sampling by sampler", rate, [][]byte{
			v9Message(0, 1, set(1, be(uint16(300), uint16(0), uint16(8), uint16(48), uint16(1), uint16(50), uint16(4))), set(300, be(uint8(5), uint32(100), uint8(6), uint32(200)))),
			v9Message(0, 1, set(0, templateRecord(256, ie{48, 1, 0})), set(256, be(uint8(5), uint8(6), uint8(9)))),
		}, "100|200|200"},
		{"biflow", tuple, [][]byte{one(
			[]ie{{8, 4, 0}, {12, 4, 0}, {7, 2, 0}, {11, 2, 0}, {4, 1, 0}, {1, 4, 0}, {2, 4, 0}, {1, 4, 29305}, {2, 4, 29305}},
			be(a4, b4, uint16(1111), uint16(80), uint8(6), uint32(100), uint32(1), uint32(9000), uint32(7)))},
			"10.0.0.1 10.0.0.2 1111 80 6 100 1|10.0.0.2 10.0.0.1 80 1111 6 9000 7"},
		{"biflow of one direction", tuple, [][]byte{one(
			[]ie{{8, 4, 0}, {12, 4, 0}, {1, 4, 0}, {2, 4, 0}, {1, 4, 29305}, {2, 4, 29305}},
			be(a4, b4, uint32(100), uint32(1), uint32(0), uint32(0)))}, "10.0.0.1 10.0.0.2 0 0 0 100 1"},
		{"biflow interfaces", interfaces, [][]byte{one(
			[]ie{{10, 4, 0}, {14, 4, 0}, {1, 4, 29305}}, be(uint32(3), uint32(4), uint32(1)))}, "3 4|4 3"},
		{"sFlow interface formats", interfaces, [][]byte{sflowMessage(flowSample(0x3fffffff, 0x40000100, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))}, "1073741823 256"},
		{"sFlow raw IPv4", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(11, 100, ipv4Packet(17, 0, udpHeader(10)))))}, "10.244.0.5 10.96.0.1 40000 443 17 100 1 2048 UDP"},
		{"sFlow raw IPv6", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(12, 100, ipv6Packet(17, udpHeader(10)))))}, "fd00:10:244::5 fd00:10:96::1 40000 443 17 100 1 34525 UDP"},
		{"sFlow non-first fragment", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x0800, ipv4Packet(17, 185, udpHeader(10))))))}, "10.244.0.5 10.96.0.1 0 0 17 100 1 2048 UDP"},
		{"sFlow IPv6 hop-by-hop", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x86dd, ipv6Packet(0, be(uint8(17), uint8(0), make([]byte, 6), udpHeader(10)))))))}, "fd00:10:244::5 fd00:10:96::1 40000 443 17 100 1 34525 UDP"},
		{"sFlow IPv6 later fragment", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x86dd, ipv6Packet(44, be(uint8(17), uint8(0), uint16(185<<3), uint32(9), udpHeader(10)))))))}, "fd00:10:244::5 fd00:10:96::1 0 0 17 100 1 34525 UDP"},
		{"sFlow ARP", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))}, "  0 0 0 60 1 2054 "},
		{"v5 sampling", rate, [][]byte{v5Message(1, v5Record(1))}, "100"},
		{"v5 times", times, [][]byte{v5Message(1, v5Record(1))}, "true true 1699999990 1699999999"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, m := decodeAll(t, tc.show, tc.datagrams...)
			if s := strings.Join(got, "|"); s != tc.want {
				t.Errorf("got %s, want %s", s, tc.want)
			}
			if n := m.drops[dropMalformed].Load() + m.sets[setMalformed].Load() + m.drops[dropPanic].Load(); n != 0 {
				t.Errorf("%d faults", n)
			}
		})
	}
}

// TestTemplatesAcrossPorts keeps templates when the source port changes, and
// keeps two exporters behind one address from breaking each other.
func TestTemplatesAcrossPorts(t *testing.T) {
	c, _ := newTestCollector(t)
	var got []string
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { got = append(got, tuple(r)) }})
	from := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(testSource.Addr(), port) }
	template := ipfixMessage(0, 1, set(2, basicTemplate(256)))
	data := ipfixMessage(0, 1, set(256, basicRecord(40000)))
	other := ipfixMessage(0, 1, set(2, templateRecord(256, ie{27, 16, 0}, ie{28, 16, 0})))
	otherData := ipfixMessage(0, 1, set(256, be(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"))))
	const otherTuple = "fd00::1 fd00::2 0 0 0 0 0"

	d.Datagram(from(1000), AnyFlow, template, testTime)
	d.Datagram(from(2000), AnyFlow, data, testTime) // the exporter came back from another port
	d.Datagram(from(3000), AnyFlow, other, testTime)
	d.Datagram(from(3000), AnyFlow, otherData, testTime)
	d.Datagram(from(1000), AnyFlow, data, testTime)
	d.Datagram(from(1000), AnyFlow, other, testTime) // changed by who sent it first
	d.Datagram(from(1000), AnyFlow, otherData, testTime)
	d.Datagram(from(3000), AnyFlow, otherData, testTime)
	want := []string{basicTuple, otherTuple, basicTuple, otherTuple, otherTuple}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := d.metrics.sets[setTimeout].Load(); n != 0 {
		t.Errorf("%d sets without template", n)
	}
}

// TestBounds floods the decoder with forged exporters and templates.
func TestBounds(t *testing.T) {
	c, _ := newTestCollector(t)
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), testTime)
	for i := range 3 * defaultMaxExporters {
		forged := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 2055)
		d.Datagram(forged, AnyFlow, v5Message(1, v5Record(1)), testTime)
		if i%500 == 0 {
			d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(40000))), testTime+int64(i)*1e6)
		}
	}
	if n := c.exporters.len(); n > defaultMaxExporters {
		t.Errorf("%d exporters, at most %d are to be kept", n, defaultMaxExporters)
	}
	if len(d.peers) > maxPeers {
		t.Errorf("%d peers", len(d.peers))
	}
	if n := d.metrics.sets[setTimeout].Load(); n != 0 {
		t.Errorf("the flood pushed out an exporter that has templates: %d of its sets are lost", n)
	}
	var fields []ie
	for i := range 300 {
		fields = append(fields, ie{uint16(i + 1000), 1, 0})
	}
	for domain := range uint32(100) {
		for id := range uint16(200) {
			d.Datagram(testSource, AnyFlow, ipfixMessage(0, domain, set(2, templateRecord(256+id, fields...))), testTime)
		}
	}
	e := d.peers[testSource].exporter
	if len(e.templates) > maxTemplates || e.numFields > maxExporterFields {
		t.Errorf("%d templates with %d fields", len(e.templates), e.numFields)
	}
	var sum int64
	for _, e := range c.exporters.all() {
		sum += int64(len(e.templates))
	}
	if n := c.exporters.numTemplates.Load(); n != sum {
		t.Errorf("templates counted as %d, there are %d", n, sum)
	}
	runtime.KeepAlive(d)
}

// TestBoundsOfPorts has one address learn many templates and use them from many
// source ports, each of a sequence of its own.
func TestBoundsOfPorts(t *testing.T) {
	c, _ := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	const templates, ports = 1000, 400
	var data [][]byte
	for i := range uint16(templates) {
		f := ie{1000 + i, 4, 0} // of a shape of its own
		d.Datagram(testSource, AnyFlow, ipfixMessage(0, uint32(i%200), set(2, templateRecord(256+i, f))), testTime)
		data = append(data, ipfixMessage(0, uint32(i%200), set(256+i, be(uint32(1)))))
	}
	for port := range uint16(ports) {
		for _, b := range data {
			d.Datagram(netip.AddrPortFrom(testSource.Addr(), 1+port), AnyFlow, b, testTime)
		}
	}
	if n := d.metrics.records[protoIPFIX].Load(); n != templates*ports {
		t.Errorf("%d records, want %d", n, templates*ports)
	}
	bindings, seqs := 0, 0
	for _, p := range d.peers {
		bindings += len(p.bindings)
		seqs += p.sequences.Len()
	}
	if bindings > maxBindings || seqs > maxSeqs+sequence.MaxTrackers || d.decodersCost > maxDecodersCost || len(d.recordDecoders) > maxDecodersCost/recordDecoderCost {
		t.Errorf("%d bindings, %d sequences, plans of cost %d", bindings, seqs, d.decodersCost)
	}
	// Shapes are shared: a thousand exporters of one kind have one plan.
	before := len(d.recordDecoders)
	for i := range uint32(1000) {
		source := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 1)
		d.Datagram(source, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(1))), testTime)
	}
	if n := len(d.recordDecoders); n != before+1 {
		t.Errorf("%d plans for one shape", n-before)
	}
}

// TestPanicContainment costs one datagram by a panic, and no more.
func TestPanicContainment(t *testing.T) {
	c, hook := newTestCollector(t)
	first := true
	n := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) {
		if first {
			first = false
			panic("a fault")
		}
		n++
	}})
	b := ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)))
	d.Datagram(testSource, AnyFlow, b, testTime)
	d.Datagram(testSource, AnyFlow, b, testTime)
	if n != 1 || d.metrics.drops[dropPanic].Load() != 1 {
		t.Errorf("%d records, %d panics", n, d.metrics.drops[dropPanic].Load())
	}
	logged := false
	for _, e := range hook.AllEntries() {
		logged = logged || e.Data["begins"] != nil && strings.HasPrefix(e.Data["begins"].(string), "000a")
	}
	if !logged {
		t.Error("the datagram is not in the log")
	}
}

// TestErrorLog logs one line in ten seconds for each reason.
func TestErrorLog(t *testing.T) {
	c, hook := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	for i := range 100 {
		d.Datagram(testSource, AnyFlow, []byte("garbage"), testTime+int64(i)*2e8) // 20 s
		d.Datagram(testSource, AnyFlow, v5Message(9), testTime+int64(i)*2e8)
	}
	if n := len(hook.AllEntries()); n != 4 {
		t.Errorf("%d lines, want 2 for each of 2 reasons", n)
	}
	if got := hook.LastEntry().Data[ratelog.Suppressed]; got != uint64(49) {
		t.Errorf("%s=%v, want 49", ratelog.Suppressed, got)
	}
}
