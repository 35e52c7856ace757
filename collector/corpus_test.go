package collector

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

var update = flag.Bool("update", false, "write testdata/hostile anew")

// corpusDir has the datagrams of faultCases and shapeCases as files, for the
// tests that send them to the program.
const corpusDir = "testdata/hostile"

// faultCase is a datagram, or a few, with a fault, and what it is counted as.
type faultCase struct {
	datagrams                                                         [][]byte
	records                                                           int
	datagramsMalformed, setsMalformed, templatesRejected, setsUnknown uint64
	unknownProtocol                                                   uint64
}

// shapeCase is what some exporter sends and the captures lack, with what show
// makes of its records.
type shapeCase struct {
	name      string
	show      func(*flow.Record) string
	datagrams [][]byte
	want      string
}

// repeat returns what f makes of 0 to n-1.
func repeat(n int, f func(i int) []byte) [][]byte {
	bs := make([][]byte, n)
	for i := range bs {
		bs[i] = f(i)
	}
	return bs
}

// faultCases has a case for each fault of goflow2 that the guards cover and
// for each way in which a datagram can lie.
func faultCases() map[string]faultCase {
	expanded := sflowSample(3, be(uint32(1), uint32(0), uint32(3), uint32(100), uint32(1), uint32(0), uint32(0), uint32(1), uint32(0), uint32(2), uint32(0xffffffff)))
	return map[string]faultCase{
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
		"v5 count beyond the records":           {datagrams: [][]byte{v5Message(30, v5Record(40000))}, records: 1, setsMalformed: 1},
		"v5 cut in a record":                    {datagrams: [][]byte{v5Message(2, v5Record(40000), v5Record(40000)[:47])}, records: 1, setsMalformed: 1},
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
		"good template before a bad one in a set": {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256), be(uint16(257), uint16(9999)))), ipfixMessage(0, 1, set(256, basicRecord(40000)))}, records: 1, setsMalformed: 1},
		"template id below 256":                   {datagrams: [][]byte{ipfixMessage(0, 1, set(2, be(uint16(200), uint16(1), uint16(8), uint16(4))))}, datagramsMalformed: 1},
		"number of 12 bytes":                      {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{1, 12, 0})), set(256, be(uint32(1), make([]byte, 12))))}, records: 1},
		"variable length beyond the set, behind two records": {
			datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{82, 0xffff, 0}))), ipfixMessage(0, 1, set(256, be(uint32(1), uint8(1), "a", uint32(2), uint8(1), "b", uint32(3), uint8(99), "c")))},
			records:   2, setsMalformed: 1,
		},
		"options data cut behind one record": {
			datagrams:     [][]byte{ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 4, 0}, ie{34, 4, 0}, ie{82, 0xffff, 0}))), ipfixMessage(0, 1, set(300, be(uint32(1), uint32(10), uint8(0), uint32(2), uint32(10), uint8(99))))},
			setsMalformed: 1,
		},
		"variable length beyond the set":         {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0})), set(256, be(uint8(200), uint8(1))))}, setsMalformed: 1},
		"variable length of 3 bytes, cut":        {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0})), set(256, be(uint8(255), uint8(1))))}, setsMalformed: 1},
		"NetFlow v1 without records":             {datagrams: [][]byte{be(uint16(1), make([]byte, 60))}, datagramsMalformed: 1},
		"NetFlow v7 without records":             {datagrams: [][]byte{be(uint16(7), make([]byte, 60))}, datagramsMalformed: 1},
		"NetFlow v1 count of 65535 in 16 bytes":  {datagrams: [][]byte{be(uint16(1), uint16(65535), make([]byte, 12))}, datagramsMalformed: 1},
		"NetFlow v7 count beyond the records":    {datagrams: [][]byte{v7Message(3, v7Record(40000))}, records: 1, setsMalformed: 1},
		"NetFlow v1 header cut":                  {datagrams: [][]byte{be(uint16(1), uint16(1), make([]byte, 8))}, datagramsMalformed: 1},
		"NetFlow v8":                             {datagrams: [][]byte{be(uint16(8), make([]byte, 60))}, unknownProtocol: 1},
		"empty":                                  {datagrams: [][]byte{{}}, unknownProtocol: 1},
		"text":                                   {datagrams: [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, unknownProtocol: 1},
		"tail of zeros behind the sets":          {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)), make([]byte, 800))}, records: 1},
		"tail of zeros in the set":               {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000), make([]byte, 800)))}, records: 1},
		"padding after a variable-length record": {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0})), set(256, be(uint8(4), "eth0", uint8(0), uint8(0), uint8(0))))}, records: 1},
		"data set shorter than its record":       {datagrams: [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, be(uint32(1))))}},
		"template of 1025 fields":                {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(300, slices.Repeat([]ie{{4, 1, 0}}, 1025)...)))}, templatesRejected: 1},
		"record longer than any datagram":        {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(300, ie{8, 0xfffe, 0}, ie{12, 0xfffe, 0})))}, templatesRejected: 1},
		"1000 templates in a datagram":           {datagrams: [][]byte{ipfixMessage(0, 1, set(2, repeat(1000, func(i int) []byte { return templateRecord(uint16(300+i), ie{8, 4, 0}) })...))}},
		"1000 data sets without template":        {datagrams: [][]byte{ipfixMessage(0, 1, repeat(1000, func(i int) []byte { return set(uint16(300 + i)) })...)}, setsUnknown: 1000},
		"1000 records of one byte":               {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{4, 1, 0})), set(256, bytes.Repeat([]byte{6}, 1000)))}, records: 1000},
		"record of 60000 bytes promised":         {datagrams: [][]byte{ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 60000, 0})), set(256, []byte("eth0")))}},
		"sequence numbers of 300 domains":        {datagrams: repeat(300, func(i int) []byte { return ipfixMessage(uint32(i)<<20, uint32(i)) })},
		"IPFIX length beyond the datagram":       {datagrams: [][]byte{be(uint16(10), uint16(60000), ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)))[4:])}, records: 1},
		"bytes behind the length of IPFIX":       {datagrams: [][]byte{append(ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000))), "more bytes"...)}, records: 1},
		"v9 template cut":                        {datagrams: [][]byte{v9Message(0, 1, set(0, basicTemplate(256)[:14]))}, datagramsMalformed: 1},
		"v9 options template longer than set":    {datagrams: [][]byte{v9Message(0, 1, set(1, be(uint16(300), uint16(40000), uint16(40000), uint32(1))))}, datagramsMalformed: 1},
		"sFlow header cut":                       {datagrams: [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x0800, ipv4Packet(17, 0, udpHeader(10))))))[:20]}, datagramsMalformed: 1},
		"sFlow record longer than its sample":    {datagrams: [][]byte{sflowMessage(flowSample(1, 2, be(uint32(1), uint32(1<<30), uint32(1))))}, datagramsMalformed: 1},
		"sFlow packet header shorter than said":  {datagrams: [][]byte{sflowMessage(flowSample(1, 2, be(uint32(1), uint32(20), uint32(1), uint32(100), uint32(0), uint32(1<<31), uint32(0))))}, records: 1},
		"sFlow sample of counters":               {datagrams: [][]byte{sflowMessage(sflowSample(2, make([]byte, 12)))}},
		"sFlow bad sample beside a good one": {
			datagrams: [][]byte{sflowMessage(expanded, flowSample(1, 2, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))}, records: 1, setsMalformed: 1,
		},
	}
}

// shapeCases has what real exporters send and the captures lack.
func shapeCases() []shapeCase {
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
	return []shapeCase{

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
		{"IPFIX uptime with its own boot time", times, [][]byte{one([]ie{{22, 4, 0}, {21, 4, 0}, {160, 8, 0}}, be(uint32(1000), uint32(3000), uint64(1_699_999_000_000)))}, "true true 1699999001 1699999003"},
		{"IPFIX uptime with the boot time from options", times, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{160, 8, 0})), set(300, be(uint32(1), uint64(1_699_999_000_000)))),
			one([]ie{{22, 4, 0}, {21, 4, 0}}, be(uint32(1000), uint32(3000)))}, "true true 1699999001 1699999003"},
		{"IPFIX uptime with a boot time of 0 beside that from options", times, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{160, 8, 0})), set(300, be(uint32(1), uint64(1_699_999_000_000)))),
			one([]ie{{160, 8, 0}, {22, 4, 0}, {21, 4, 0}}, be(uint64(0), uint32(1000), uint32(3000)))}, "true true 1699999001 1699999003"},
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
		{"sampling rate of the record, and one of options where it is 0", rate, [][]byte{
			v9Message(0, 1, set(1, be(uint16(300), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(4))), set(300, be(uint32(1), uint32(100)))),
			v9Message(0, 1, set(0, templateRecord(256, ie{8, 4, 0}, ie{34, 4, 0})), set(256, be(a4, uint32(512), a4, uint32(0))))}, "512|100"},
		{"no hint at the family of zeros", packet, [][]byte{
			one([]ie{{8, 4, 0}, {12, 4, 0}, {27, 16, 0}, {28, 16, 0}, {4, 1, 0}}, be(make([]byte, 40), uint8(6))),
			one([]ie{{27, 16, 0}, {28, 16, 0}, {8, 4, 0}, {12, 4, 0}, {4, 1, 0}}, be(make([]byte, 40), uint8(6)))}, "0.0.0.0 0.0.0.0 0 0 6 0 0 2048 TCP|:: :: 0 0 6 0 0 34525 TCP"},
		{"sampling by interval alone", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{305, 4, 0})), set(300, be(uint32(1), uint32(2000)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "2000"},
		{"sampling by size and population", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 4, 0}, ie{309, 4, 0}, ie{310, 4, 0})), set(300, be(uint32(0), uint32(2), uint32(600)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "300"},
		{"sampling of another domain", rate, [][]byte{
			ipfixMessage(0, 2, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 0})), set(300, be(uint32(1), uint32(77)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "77"}, // the only one: see TestSampling
		{"sampling by sampler", rate, [][]byte{
			v9Message(0, 1, set(1, be(uint16(300), uint16(0), uint16(8), uint16(48), uint16(1), uint16(50), uint16(4))), set(300, be(uint8(5), uint32(100), uint8(6), uint32(200)))),
			v9Message(0, 1, set(0, templateRecord(256, ie{48, 1, 0})), set(256, be(uint8(5), uint8(6), uint8(9)))),
		}, "100|200|0"},
		{"biflow", tuple, [][]byte{one(
			[]ie{{8, 4, 0}, {12, 4, 0}, {7, 2, 0}, {11, 2, 0}, {4, 1, 0}, {1, 4, 0}, {2, 4, 0}, {1, 4, 29305}, {2, 4, 29305}},
			be(a4, b4, uint16(1111), uint16(80), uint8(6), uint32(100), uint32(1), uint32(9000), uint32(7)))},
			"10.0.0.1 10.0.0.2 1111 80 6 100 1|10.0.0.2 10.0.0.1 80 1111 6 9000 7"},
		{"biflow of one direction", tuple, [][]byte{one(
			[]ie{{8, 4, 0}, {12, 4, 0}, {1, 4, 0}, {2, 4, 0}, {1, 4, 29305}, {2, 4, 29305}},
			be(a4, b4, uint32(100), uint32(1), uint32(0), uint32(0)))}, "10.0.0.1 10.0.0.2 0 0 0 100 1"},
		{"biflow interfaces", interfaces, [][]byte{one(
			[]ie{{10, 4, 0}, {14, 4, 0}, {1, 4, 29305}}, be(uint32(3), uint32(4), uint32(1)))}, "3 4|4 3"},
		{"sFlow interface formats", interfaces, [][]byte{sflowMessage(flowSample(0x3fffffff, 0x40000100, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))}, "0 0"},
		{"sFlow raw IPv4", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(11, 100, ipv4Packet(17, 0, udpHeader(10)))))}, "10.244.0.5 10.96.0.1 40000 443 17 100 1 2048 UDP"},
		{"sFlow raw IPv6", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(12, 100, ipv6Packet(17, udpHeader(10)))))}, "fd00:10:244::5 fd00:10:96::1 40000 443 17 100 1 34525 UDP"},
		{"sFlow non-first fragment", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x0800, ipv4Packet(17, 185, udpHeader(10))))))}, "10.244.0.5 10.96.0.1 0 0 17 100 1 2048 UDP"},
		{"sFlow IPv6 hop-by-hop", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x86dd, ipv6Packet(0, be(uint8(17), uint8(0), make([]byte, 6), udpHeader(10)))))))}, "fd00:10:244::5 fd00:10:96::1 40000 443 17 100 1 34525 UDP"},
		{"sFlow IPv6 later fragment", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x86dd, ipv6Packet(44, be(uint8(17), uint8(0), uint16(185<<3), uint32(9), udpHeader(10)))))))}, "fd00:10:244::5 fd00:10:96::1 0 0 17 100 1 34525 UDP"},
		{"sFlow ARP", packet, [][]byte{sflowMessage(flowSample(1, 2, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))}, "  0 0 0 60 1 2054 "},
		{"v5 sampling", rate, [][]byte{v5Message(1, v5Record(1))}, "100"},
		{"v5 times", times, [][]byte{v5Message(1, v5Record(1))}, "true true 1699999990 1699999999"},
		{"several sets", counts, [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(2, templateRecord(257, ie{1, 4, 0}, ie{2, 4, 0})),
			set(256, basicRecord(1)), set(257, be(uint32(7), uint32(1)), be(uint32(9), uint32(3))), set(256, basicRecord(2)))}, "1000 10|7 1|9 3|1000 10"},
		{"padding to 4 bytes", tuple, [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000), make([]byte, 3)))}, basicTuple},
		{"addresses of each record", tuple, [][]byte{
			ipfixMessage(0, 1, set(2, templateRecord(256, ie{8, 4, 0}, ie{12, 4, 0})), set(256, be(a4, b4, b4, a4))), ipfixMessage(2, 1, set(256, be(b4, b4)))},
			"10.0.0.1 10.0.0.2 0 0 0 0 0|10.0.0.2 10.0.0.1 0 0 0 0 0|10.0.0.2 10.0.0.2 0 0 0 0 0"},
		{"template repeated", counts, [][]byte{one([]ie{{1, 4, 0}, {2, 4, 0}}, be(uint32(7), uint32(1))), one([]ie{{1, 4, 0}, {2, 4, 0}}, be(uint32(8), uint32(2)))}, "7 1|8 2"},
		{"template changed under its id", counts, [][]byte{one([]ie{{1, 4, 0}, {2, 4, 0}}, be(uint32(7), uint32(1))), one([]ie{{2, 1, 0}, {1, 2, 0}}, be(uint8(2), uint16(8)))}, "7 1|8 2"},
		{"template changed within a datagram", counts, [][]byte{ipfixMessage(0, 1,
			set(2, templateRecord(256, ie{1, 4, 0}, ie{2, 4, 0})), set(256, be(uint32(7), uint32(1))),
			set(2, templateRecord(256, ie{2, 1, 0}, ie{1, 2, 0})), set(256, be(uint8(2), uint16(8))))}, "7 1|8 2"},
		{"options data of 3 bytes", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{149, 1, 0}, ie{34, 2, 0})), set(300, be(uint8(1), uint16(300), uint8(0)))),
			one([]ie{{8, 4, 0}}, be(a4))}, "300"},
		{"sampling by selector", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 2, 0}, ie{305, 4, 0}, ie{306, 4, 0})), set(300, be(uint16(5), uint32(1), uint32(99), uint16(6), uint32(1), uint32(199)))),
			ipfixMessage(0, 1, set(2, templateRecord(256, ie{302, 8, 0})), set(256, be(uint64(5), uint64(6), uint64(9)))),
		}, "100|200|0"},
		{"more samplers than are remembered", rate, [][]byte{
			ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 2, 0}, ie{34, 2, 0})), set(300, repeat(400, func(i int) []byte { return be(uint16(i+1), uint16(i+1000)) })...)),
			ipfixMessage(0, 1, set(2, templateRecord(256, ie{302, 8, 0})), set(256, be(uint64(1), uint64(400)))),
		}, "1000|1399"},
		{"variable length of 3 bytes", counts, [][]byte{one([]ie{{82, 0xffff, 0}, {1, 4, 0}, {2, 4, 0}}, be(uint8(255), uint16(300), make([]byte, 300), uint32(7), uint32(1)))}, "7 1"},
		{"sFlow expanded sample", interfaces, [][]byte{sflowMessage(sflowSample(3, be(uint32(1), uint32(0), uint32(3), uint32(100), uint32(1), uint32(0), uint32(0), uint32(4), uint32(0), uint32(5), uint32(1),
			rawHeader(1, 60, ethernet(0x0806, make([]byte, 28))))))}, "4 5"},
	}
}

// TestFaultCases has a good datagram follow each fault.
func TestFaultCases(t *testing.T) {
	good := ipfixMessage(1, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)))
	for name, tc := range faultCases() {
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

// TestShapeCases decodes them without a fault.
func TestShapeCases(t *testing.T) {
	for _, tc := range shapeCases() {
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

// TestCorpus compares the files of testdata/hostile with the cases, so that
// the two cannot drift apart. It writes them with -update.
func TestCorpus(t *testing.T) {
	files := make(map[string][]byte)
	add := func(kind, name string, records int, datagrams [][]byte) {
		var b bytes.Buffer
		fmt.Fprintf(&b, "# %s\n# records: %d\n", name, records)
		for _, d := range datagrams {
			fmt.Fprintf(&b, "%s\n", hex.EncodeToString(d))
		}
		file := kind + "-" + strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9')
		}), "-") + ".hex"
		if files[file] != nil {
			t.Fatalf("two cases are named %s", file)
		}
		files[file] = b.Bytes()
	}
	for name, tc := range faultCases() {
		add("fault", name, tc.records, tc.datagrams)
	}
	for _, tc := range shapeCases() {
		add("shape", tc.name, 1+strings.Count(tc.want, "|"), tc.datagrams)
	}
	if *update {
		if err := os.RemoveAll(corpusDir); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(corpusDir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(corpusDir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := os.ReadDir(corpusDir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	if want := slices.Sorted(maps.Keys(files)); !slices.Equal(have, want) {
		t.Errorf("files %q, want %q (go test -run TestCorpus -update)", have, want)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(corpusDir, name)); err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s is not what its case says (go test -run TestCorpus -update)", name)
		}
	}
}
