package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// pipeline is a worker's chain without sockets and outputs: datagrams go in,
// enriched JSON comes out in a buffer.
type pipeline struct {
	decoder *collector.Decoder
	enc     transport.Encoder
	buf     []byte
	records int

	_ [64]byte // keeps those of BenchmarkWorkers out of each other's cache lines
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

// newNames makes an enricher that knows the given number of pods, with addresses
// from 10.128.0.0 on.
func newNames(tb testing.TB, pods int) *enrich.Enricher {
	tb.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	source, err := enrich.LoadSnapshot(podSnapshot(tb, pods))
	if err != nil {
		tb.Fatal(err)
	}
	names, err := enrich.New(enrich.Config{Mapping: benchMapping(tb), Unheld: true, KeepEnded: true}, source, log, prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	running := start(names.Run)
	tb.Cleanup(func() { _ = running.stop() })
	if err := names.WaitSynced(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return names
}

func benchMapping(tb testing.TB) []flow.MapEntry {
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		tb.Fatal(err)
	}
	return mapping
}

// newPipeline makes a pipeline in a format; with counted also one that counts
// traffic by workload.
func newPipeline(tb testing.TB, names *enrich.Enricher, format string, counted bool) *pipeline {
	tb.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	reg := prometheus.NewRegistry()
	p := new(pipeline)
	var err error
	if format == config.FormatProtobuf {
		p.enc, err = encode.NewProtobuf(encode.ProtobufConfig{Fields: "default", Mapping: benchMapping(tb)})
	} else {
		p.enc, err = encode.NewJSON(encode.JSONConfig{Schema: "v1", Fields: "default", Mapping: benchMapping(tb)})
	}
	if err != nil {
		tb.Fatal(err)
	}
	c, err := collector.New(collector.Config{}, nil, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	var next flow.Handler = p
	if counted {
		counter, err := traffic.New(traffic.Config{Mapping: benchMapping(tb), MaxSeries: 5000}, reg)
		if err != nil {
			tb.Fatal(err)
		}
		next = counter.NewStage(p)
	}
	p.decoder = c.NewDecoder(names.NewStage(next))
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

// benchProtocols are what benchMessages knows. The records of ipfix-variable
// end with the names of two interfaces.
var benchProtocols = []string{"v5", "v9", "ipfix", "ipfix-variable", "sflow"}

// benchMessages returns a message of n records between the pods from first on,
// and the one with their template.
func benchMessages(protocol string, first, n, pods int) (template, data []byte) {
	ends := func(i int) (src, dst netip.Addr, port uint16) {
		return podAddr(i % pods), podAddr((i*7 + 1) % pods), uint16(32768 + i%28000)
	}
	switch protocol {
	case "v5":
		d := be(uint16(5), uint16(n), uint32(1_000_000), uint32(benchTime/1e9), make([]byte, 12))
		for i := first; i < first+n; i++ {
			src, dst, port := ends(i)
			d = append(d, be(src.AsSlice(), dst.AsSlice(), uint32(0), uint16(6), uint16(7), uint32(93), uint32(104844), uint32(998_000), uint32(999_000),
				port, uint16(443), []byte{0, 0x1b, 6, 0, 0, 0, 0, 0, 24, 24, 0, 0})...)
		}
		return d, d
	case "sflow":
		d := be(uint32(5), uint32(1), []byte{172, 18, 0, 2}, uint32(0), uint32(0), uint32(1_000_000), uint32(n))
		for i := first; i < first+n; i++ {
			src, dst, port := ends(i)
			frame := be([]byte{0x0a, 0x58, 0x0a, 0x80, 0, 1, 0x0a, 0x58, 0x0a, 0x80, 0, 5, 8, 0, 0x45, 0, 0x05, 0x14, 0, 1, 0x40, 0, 64, 6, 0, 0},
				src.AsSlice(), dst.AsSlice(), port, uint16(443), make([]byte, 8), []byte{0x50, 0x10, 0, 0, 0, 0, 0, 0})
			frame = append(frame, make([]byte, 128-len(frame))...)
			sample := be(uint32(i), uint32(3), uint32(400), uint32(i*400), uint32(0), uint32(6), uint32(7), uint32(1),
				uint32(1), uint32(16+len(frame)), uint32(1), uint32(1318), uint32(4), uint32(len(frame)), frame)
			d = append(d, be(uint32(1), uint32(len(sample)), sample)...)
		}
		return d, d
	}
	message := func(id uint16, content []byte) []byte {
		if protocol != "v9" {
			return be(uint16(10), uint16(20+len(content)), uint32(benchTime/1e9), uint32(0), uint32(0), id, uint16(4+len(content)), content)
		}
		if id == 2 {
			id = 0
		}
		return be(uint16(9), uint16(1), uint32(1_000_000), uint32(benchTime/1e9), uint32(0), uint32(0), id, uint16(4+len(content)), content)
	}
	fields := ovsTemplate
	if protocol == "ipfix-variable" {
		fields = append(slices.Clip(fields), [][2]uint16{{82, 65535}, {82, 65535}}...)
	}
	t := be(uint16(256), uint16(len(fields)))
	for _, f := range fields {
		t = append(t, be(f[0], f[1])...)
	}
	var d []byte
	for i := first; i < first+n; i++ {
		src, dst, port := ends(i)
		s4, d4 := src.As4(), dst.As4()
		value := map[uint16]uint64{
			56: 0x0a580a800005, 80: 0x0a580a800001, 256: 0x800, 240: 14, 10: 6, 60: 4, 192: 64, 4: 6,
			8: uint64(binary.BigEndian.Uint32(s4[:])), 12: uint64(binary.BigEndian.Uint32(d4[:])), 7: uint64(port), 11: 443, 158: 2_000_000, 159: 1_000,
			1: 104844, 2: 93, 136: 2, 352: 106146, 85: 255892, 86: 305,
		}
		for _, f := range fields {
			if f[0] == 82 {
				d = append(d, "\x0f0123456789abcde"...)
				continue
			}
			d = append(d, binary.BigEndian.AppendUint64(nil, value[f[0]])[8-f[1]:]...)
		}
	}
	return message(2, t), message(256, d)
}

var benchSource = netip.MustParseAddrPort("172.18.0.2:40000")

// benchPods is how many pods the benchmarks know.
const benchPods = 50_000

// warmMessages teaches a pipeline the template, and returns messages between all
// sorts of pods.
func (p *pipeline) warmMessages(protocol string, n int) [][]byte {
	template, _ := benchMessages(protocol, 0, 1, benchPods)
	p.decoder.Datagram(benchSource, collector.AnyFlow, template, benchTime)
	var datagrams [][]byte
	for i := range 2000 {
		_, d := benchMessages(protocol, i*n*13, n, benchPods)
		datagrams = append(datagrams, d)
	}
	for _, d := range datagrams {
		p.decoder.Datagram(benchSource, collector.AnyFlow, d, benchTime)
	}
	p.records = 0
	return datagrams
}

// BenchmarkPipeline decodes, enriches and encodes: one datagram an operation.
func BenchmarkPipeline(b *testing.B) {
	names := newNames(b, benchPods)
	run := func(format, protocol string, n int, counted bool) {
		name := format
		if counted {
			name += "+traffic"
		}
		b.Run(fmt.Sprintf("%s/%s/%d", name, protocol, n), func(b *testing.B) {
			p := newPipeline(b, names, format, counted)
			datagrams := p.warmMessages(protocol, n)
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
	for _, protocol := range benchProtocols {
		run(config.FormatJSON, protocol, 25, false)
	}
	run(config.FormatJSON, "ipfix", 1, false)
	run(config.FormatProtobuf, "ipfix", 25, false)
	run(config.FormatProtobuf, "ipfix", 1, false)
	run(config.FormatJSON, "ipfix", 25, true)
}

// BenchmarkWorkers runs one pipeline on each of several goroutines, which share
// what they know of the cluster: one datagram of 25 records an operation.
func BenchmarkWorkers(b *testing.B) {
	names := newNames(b, benchPods)
	for _, workers := range []int{1, 2, 4} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			if workers > runtime.GOMAXPROCS(0) {
				b.Skip("not so many cores")
			}
			pipelines, datagrams := make([]*pipeline, workers), make([][][]byte, workers)
			for w := range workers {
				pipelines[w] = newPipeline(b, names, config.FormatJSON, false)
				datagrams[w] = pipelines[w].warmMessages("ipfix", 25)
			}
			b.ResetTimer()
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					for i := range (b.N + workers - 1) / workers {
						pipelines[w].decoder.Datagram(benchSource, collector.AnyFlow, datagrams[w][i%len(datagrams[w])], benchTime)
					}
				})
			}
			wg.Wait()
			records := 0
			for _, p := range pipelines {
				records += p.records
			}
			b.ReportMetric(float64(records)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestPipelineAllocations gates the way of a datagram to enriched records: no
// allocation for any of them.
func TestPipelineAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	const n, pods = 25, 1000
	names := newNames(t, pods)
	for _, format := range []string{config.FormatJSON, config.FormatProtobuf} {
		for _, protocol := range benchProtocols {
			p := newPipeline(t, names, format, true)
			template, data := benchMessages(protocol, 0, n, pods)
			p.decoder.Datagram(benchSource, collector.AnyFlow, template, benchTime)
			p.decoder.Datagram(benchSource, collector.AnyFlow, data, benchTime)
			p.records = 0
			got := testing.AllocsPerRun(200, func() { p.decoder.Datagram(benchSource, collector.AnyFlow, data, benchTime) })
			if got > 0 || p.records < 200*n {
				t.Errorf("%s, %s: %v allocations a datagram, %d records", format, protocol, got, p.records)
			}
		}
	}
}
