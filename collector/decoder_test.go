package collector

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"

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

// TestBounds floods the decoder with forged exporters and templates.
func TestBounds(t *testing.T) {
	c, _ := newTestCollector(t)
	c.exporters.totalBudget = smallBudget
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), testTime)
	for i := range 12_288 {
		forged := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 2055)
		d.Datagram(forged, AnyFlow, v5Message(1, v5Record(1)), testTime)
		if i%500 == 0 {
			d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(40000))), testTime+int64(i)*1e6)
		}
	}
	if n := c.exporters.bytes.Load(); n > smallBudget || n < smallBudget/2 {
		t.Errorf("%d exporters take %d bytes of %d", c.exporters.len(), n, smallBudget)
	}
	if d.peersBytes > peersBudget {
		t.Errorf("%d peers take %d bytes", len(d.peers), d.peersBytes)
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
	if n := e.bytes.Load(); n > defaultExporterBudget {
		t.Errorf("%d templates take %d bytes", e.countTemplates(), n)
	}
	var sum int64
	for _, e := range c.exporters.list() {
		sum += int64(e.countTemplates())
	}
	if n := c.exporters.numTemplates.Load(); n != sum {
		t.Errorf("templates counted as %d, there are %d", n, sum)
	}
	runtime.KeepAlive(d)
}

// checkCaches checks that a worker's caches keep their budgets, and that what they
// take was added up right.
func checkCaches(t *testing.T, d *Decoder) {
	t.Helper()
	peers, decoders := 0, 0
	rates := func(p *peer) int {
		if p.rates == nil {
			return 0
		}
		return rateCacheBytes
	}
	for _, p := range d.peers {
		want := peerBytes + rates(p) + len(p.bindings)*bindingBytes + p.sequences.Len()*trackerBytes
		if p.bytes != want || len(p.bindings)*bindingBytes > peerBudget {
			t.Errorf("a peer with %d bindings and %d trackers takes %d bytes, want %d", len(p.bindings), p.sequences.Len(), p.bytes, want)
		}
		peers += p.bytes
	}
	for _, rd := range d.recordDecoders {
		decoders += rd.bytes
	}
	if d.peersBytes != peers || peers > peersBudget {
		t.Errorf("%d peers take %d bytes, counted as %d", len(d.peers), peers, d.peersBytes)
	}
	if d.decodersBytes != decoders || decoders > decodersBudget {
		t.Errorf("%d record decoders take %d bytes, counted as %d", len(d.recordDecoders), decoders, d.decodersBytes)
	}
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
		data = append(data, ipfixMessage(0, uint32(i%200), set(2, templateRecord(256+i, f)), set(256+i, be(uint32(1)))))
	}
	for port := range uint16(ports) {
		for _, b := range data {
			d.Datagram(netip.AddrPortFrom(testSource.Addr(), 1+port), AnyFlow, b, testTime)
		}
	}
	if n := d.metrics.records[protoIPFIX].Load(); n != templates*ports {
		t.Errorf("%d records, want %d", n, templates*ports)
	}
	checkCaches(t, d)
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
