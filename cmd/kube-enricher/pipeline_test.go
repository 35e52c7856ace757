package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/transport"
	"github.com/netobserv/goflow2-kube-enricher/transport/traffic"
)

// pipeline is a worker's chain without sockets and outputs: datagrams go in,
// enriched JSON comes out in a buffer.
type pipeline struct {
	decoder *collector.Decoder
	enc     transport.Encoder
	buf     []byte
	records int
}

// HandleFlow is the end of the chain.
func (p *pipeline) HandleFlow(r *flow.Record) {
	if len(p.buf) > 1<<16 {
		p.buf = p.buf[:0]
	}
	p.buf = p.enc.AppendRecord(p.buf, r)
	p.records++
}

func (p *pipeline) Idle() bool { return false }

// newPipeline makes a pipeline that knows the given number of pods, with
// addresses from 10.128.0.0 on.
func newPipeline(tb testing.TB, pods int) *pipeline {
	tb.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	reg := prometheus.NewRegistry()
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		tb.Fatal(err)
	}
	p := new(pipeline)
	if p.enc, err = transport.NewJSON(transport.JSONConfig{Schema: "v1", Fields: "default", Mapping: mapping}); err != nil {
		tb.Fatal(err)
	}
	source, err := enrich.LoadSnapshot(podSnapshot(tb, pods))
	if err != nil {
		tb.Fatal(err)
	}
	names, err := enrich.New(enrich.Config{Mapping: mapping, Capture: true}, source, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	running := start(names.Run)
	tb.Cleanup(func() { _ = running.stop() })
	if err := names.WaitSynced(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	c, err := collector.New(collector.Config{}, nil, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	counter, err := traffic.New(traffic.Config{Mapping: mapping, MaxSeries: 5000}, reg)
	if err != nil {
		tb.Fatal(err)
	}
	p.decoder = c.NewDecoder(names.NewStage(counter.NewStage(p)))
	return p
}

func podAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 128 + byte(i>>16), byte(i >> 8), byte(i)})
}

// podSnapshot writes a snapshot of pods, four to a Deployment.
func podSnapshot(tb testing.TB, pods int) string {
	tb.Helper()
	type object = map[string]any
	var items []object
	for i := range pods {
		rs := fmt.Sprintf("app-%d-7d4b9c", i/4)
		owner := func(kind, name, uid string) []object {
			return []object{{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}}
		}
		if i%4 == 0 {
			items = append(items, object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": object{
				"name": rs, "namespace": fmt.Sprintf("team-%d", i/4%100), "uid": "rs-" + rs, "ownerReferences": owner("Deployment", fmt.Sprintf("app-%d", i/4), "d-"+rs)}})
		}
		items = append(items, object{"apiVersion": "v1", "kind": "Pod",
			"metadata": object{"name": fmt.Sprintf("%s-%05d", rs, i), "namespace": fmt.Sprintf("team-%d", i/4%100), "uid": fmt.Sprintf("pod-%d", i),
				"ownerReferences": owner("ReplicaSet", rs, "rs-"+rs)},
			"spec": object{"nodeName": fmt.Sprintf("node-%d", i%200)},
			"status": object{"phase": "Running", "hostIP": fmt.Sprintf("172.18.%d.%d", i%200/100, i%100), "podIPs": []object{{"ip": podAddr(i).String()}},
				"startTime": "2023-11-01T00:00:00Z"}})
	}
	b, err := json.Marshal(object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		tb.Fatal(err)
	}
	file := filepath.Join(tb.TempDir(), "pods.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// ovsTemplate is the template of Open vSwitch for TCP over IPv4, as element and
// length.
var ovsTemplate = [][2]uint16{
	{138, 4}, {61, 1}, {56, 6}, {80, 6}, {256, 2}, {240, 1}, {10, 4}, {60, 1}, {192, 1}, {4, 1}, {195, 1}, {8, 4}, {12, 4},
	{7, 2}, {11, 2}, {158, 4}, {159, 4}, {1, 8}, {2, 8}, {136, 1}, {352, 8}, {85, 8}, {86, 8},
}

const benchTime = int64(1_700_000_000_000_000_000)

// ovsMessages returns the template's message and one of n records a datagram
// between the pods from first on.
func ovsMessages(first, n, pods int) (template, data []byte) {
	be := binary.BigEndian
	message := func(id uint16, content []byte) []byte {
		b := be.AppendUint16(be.AppendUint16(nil, 10), uint16(20+len(content)))
		b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, uint32(benchTime/1e9)), 0), 0)
		b = be.AppendUint16(be.AppendUint16(b, id), uint16(4+len(content)))
		return append(b, content...)
	}
	t := be.AppendUint16(be.AppendUint16(nil, 256), uint16(len(ovsTemplate)))
	for _, f := range ovsTemplate {
		t = be.AppendUint16(be.AppendUint16(t, f[0]), f[1])
	}
	var d []byte
	for i := first; i < first+n; i++ {
		src, dst := podAddr(i%pods).As4(), podAddr((i*7+1)%pods).As4()
		value := map[uint16]uint64{
			56: 0x0a580a800005, 80: 0x0a580a800001, 256: 0x800, 240: 14, 10: 6, 60: 4, 192: 64, 4: 6,
			8: uint64(be.Uint32(src[:])), 12: uint64(be.Uint32(dst[:])), 7: uint64(32768 + i%28000), 11: 443, 158: 2_000_000, 159: 1_000,
			1: 104844, 2: 93, 136: 2, 352: 106146, 85: 255892, 86: 305,
		}
		for _, f := range ovsTemplate {
			d = append(d, be.AppendUint64(nil, value[f[0]])[8-f[1]:]...)
		}
	}
	return message(2, t), message(256, d)
}

var benchSource = netip.MustParseAddrPort("172.18.0.2:40000")

// BenchmarkPipeline decodes, enriches and encodes: one datagram an operation.
func BenchmarkPipeline(b *testing.B) {
	const pods = 50_000
	p := newPipeline(b, pods)
	for _, n := range []int{1, 25} {
		b.Run(fmt.Sprintf("ovs-ipfix/records=%d", n), func(b *testing.B) {
			template, _ := ovsMessages(0, 1, pods)
			p.decoder.Datagram(benchSource, collector.AnyFlow, template, benchTime)
			var datagrams [][]byte
			for i := range 2000 {
				_, d := ovsMessages(i*n*13, n, pods)
				datagrams = append(datagrams, d)
			}
			p.records = 0
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				p.decoder.Datagram(benchSource, collector.AnyFlow, datagrams[i%len(datagrams)], benchTime)
				i++
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(p.records), "ns/record")
			b.ReportMetric(float64(p.records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestPipelineAllocations gates the way of a datagram to enriched JSON: no
// allocation for a record of v5, v9 or IPFIX.
func TestPipelineAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	p := newPipeline(t, 1000)
	template, data := ovsMessages(0, 25, 1000)
	v9 := func(id uint16, content []byte) []byte {
		be := binary.BigEndian
		b := be.AppendUint16(be.AppendUint16(nil, 9), 1)
		b = append(b, make([]byte, 16)...)
		b = be.AppendUint16(be.AppendUint16(b, id), uint16(4+len(content)))
		return append(b, content...)
	}
	v5 := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, 5), 30)
	v5 = append(v5, make([]byte, 20+30*48)...)
	for name, datagrams := range map[string][2][]byte{
		"IPFIX": {template, data},
		"v9":    {v9(0, template[20:]), v9(256, data[20:])},
		"v5":    {v5, v5},
	} {
		p.decoder.Datagram(benchSource, collector.AnyFlow, datagrams[0], benchTime)
		p.records = 0
		got := testing.AllocsPerRun(200, func() { p.decoder.Datagram(benchSource, collector.AnyFlow, datagrams[1], benchTime) })
		if got != 0 || p.records < 200*25 {
			t.Errorf("%s: %v allocations a datagram, %d records", name, got, p.records)
		}
	}
}
