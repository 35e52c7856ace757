package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	fleetExporters = 2000
	fleetDomains   = 4
	// fleetRefresh is how often an exporter sends its templates.
	fleetRefresh = 600 * time.Second
	// fleetSets is how many data sets are in a datagram, with one record each.
	fleetSets = 5
	// fleetForged is how many addresses garbage comes from.
	fleetForged = 5000
	// fleetPause is how long exporters pause while the program is killed and started.
	fleetPause = 5 * time.Second
	// fleetMemory is by how much resident memory may grow above that of the idle program,
	// in bytes.
	fleetMemory = 200 << 20
)

// fleet sends what many Open vSwitches do, and garbage from forged sources.
type fleet struct {
	t         *testing.T
	rate      int // records a second
	to        *net.UDPAddr
	rnd       *rand.Rand
	exporters []*fleetExporter
	templates [][]byte // datagrams
	sets      [][]byte // with a record each
	pool      [][]byte // of garbage
	records   int      // of exporters, sent
	missed    int      // not sent in time
	garbage   int
	next      int // the exporter that is next to send
	refreshed int // how many exporters have sent their templates again
}

type fleetExporter struct {
	conn     *net.UDPConn
	sequence uint32
}

func newFleet(t *testing.T, to string, rate int) *fleet {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := &fleet{t: t, rate: rate, rnd: rand.New(rand.NewPCG(seed, 1))}
	var err error
	if f.to, err = net.ResolveUDPAddr("udp", to); err != nil {
		t.Fatal(err)
	}
	for _, g := range captureDatagrams(t, filepath.Join(captureDir, "ovs-ipfix.pcap")) {
		const statistics = 462 // options data of Open vSwitch
		switch id := binary.BigEndian.Uint16(g[16:]); {
		case id < 256:
			f.templates = append(f.templates, g)
		case id != statistics:
			f.sets = append(f.sets, g[16:])
		}
	}
	s := &soak{t: t, rnd: f.rnd}
	for range soakGarbage {
		f.pool = append(f.pool, s.mutate(f.datagram(0, f.sets[f.rnd.IntN(len(f.sets))])))
	}
	for i := range fleetExporters {
		f.exporters = append(f.exporters, &fleetExporter{conn: f.dial(loopback(30, i))})
	}
	return f
}

func (f *fleet) dial(source string) *net.UDPConn {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(source)}, f.to)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

// datagram makes a message of sets.
func (f *fleet) datagram(sequence uint32, sets ...[]byte) []byte {
	return ipfixMessage(sequence, 0x02000001+f.rnd.Uint32N(fleetDomains), bytes.Join(sets, nil))
}

func (f *fleet) write(c *net.UDPConn, b []byte) {
	if _, err := c.Write(b); err != nil {
		f.t.Fatal(err)
	}
}

// sendTemplates sends all templates of an exporter.
func (f *fleet) sendTemplates(e *fleetExporter) {
	for domain := range uint32(fleetDomains) {
		for _, g := range f.templates {
			g = slices.Clone(g)
			binary.BigEndian.PutUint32(g[8:], e.sequence)
			binary.BigEndian.PutUint32(g[12:], 0x02000001+domain)
			f.write(e.conn, g)
		}
	}
}

// sendGarbage sends a datagram of garbage from a forged source. That sends the same each
// time: with ever new garbage, it is the way to the bounds that would be measured.
func (f *fleet) sendGarbage(source int) {
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(loopback(60, source))}, f.to)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	f.write(c, f.pool[source%len(f.pool)])
}

// sendUntil sends what is due by now: records of all exporters in turn, templates of those
// whose time it is, and garbage, which is a tenth of all datagrams.
func (f *fleet) sendUntil(elapsed time.Duration) {
	due := int(elapsed.Seconds()*float64(f.rate)) - f.missed
	if late := due - f.records - f.rate/4; late > 0 {
		f.missed += late // the machine stood still: what was missed is not made up for
		due -= late
	}
	for f.records < due {
		e := f.exporters[f.next%len(f.exporters)]
		f.next++
		var sets [fleetSets][]byte
		for i := range sets {
			sets[i] = f.sets[f.rnd.IntN(len(f.sets))]
		}
		f.write(e.conn, f.datagram(e.sequence, sets[:]...))
		e.sequence += fleetSets
		f.records += fleetSets
		if f.rnd.IntN(9) == 0 {
			f.sendGarbage(f.garbage % fleetForged)
			f.garbage++
		}
	}
	for f.refreshed < int(elapsed*fleetExporters/fleetRefresh) {
		f.sendTemplates(f.exporters[f.refreshed%fleetExporters])
		f.refreshed++
	}
}

// fleetLife is one run of the program under the load of the fleet.
type fleetLife struct {
	t        *testing.T
	p        *program
	base     string
	idle     float64 // resident bytes
	lines    *atomic.Int64
	honest   *atomic.Int64 // lines of exporters of the fleet
	baseline int64         // lines of the lives before
}

func (l *fleetLife) start(w *os.File, args ...string) {
	l.p = startWith(l.t, nil, w, args...)
	l.p.eventually("ready", func() bool { _, code := get(l.t, l.base+"/readyz"); return code == http.StatusOK })
	text, _ := get(l.t, l.base+"/metrics")
	l.idle = metric(text, "process_resident_memory_bytes", "")
	l.baseline = l.lines.Load()
}

// settle waits until all that was sent is worked on, and checks the ledger of this life
// and that no record of the fleet is missing.
func (l *fleetLife) settle(sent int) {
	l.t.Helper()
	var text string
	l.p.patient = true
	// What has been lost does not come, but all that is there takes a while on a busy machine.
	until := time.Now().Add(2 * time.Minute)
	l.p.eventually("worked on", func() bool {
		text, _ = get(l.t, l.base+"/metrics")
		return time.Now().After(until) || metric(text, "kube_enricher_records_held", "") == 0 && (l.honest.Load() == int64(sent) ||
			metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`)+metric(text, "kube_enricher_records_dropped_total", "") > 0)
	})
	time.Sleep(time.Second) // for what of garbage is still on its way
	text, _ = get(l.t, l.base+"/metrics")
	checkLedger(l.t, text, metric(text, "kube_enricher_records_received_total", ""))
	written := metric(text, "kube_enricher_records_written_total", "")
	if n := l.lines.Load() - l.baseline; float64(n) != written {
		l.t.Errorf("%d lines came out, %v are counted as written", n, written)
	}
	if n := metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`); n > 0 {
		l.t.Errorf("the kernel dropped %v datagrams: this machine is too slow or too busy for the test", n)
	}
	if n := metric(text, "kube_enricher_datagrams_dropped_total", `"panic"`); n != 0 {
		l.t.Errorf("%v panics: %s", n, l.p.stderr())
	}
	if n := l.honest.Load(); n != int64(sent) {
		l.t.Errorf("%d records of the fleet came out, %d were sent: %s", n, sent, lossMetrics(text))
	}
	l.t.Logf("%.0f records received, %.0f written; %d of the fleet; %.0f templates; %.0f exporters; %.0f sets dropped",
		metric(text, "kube_enricher_records_received_total", ""), written, l.honest.Load(), metric(text, "kube_enricher_templates", ""),
		metric(text, "kube_enricher_exporters", ""), metric(text, "kube_enricher_sets_dropped_total", ""))
}

// lossMetrics returns the lines of metrics that are about losses.
func lossMetrics(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "_dropped_total") || strings.Contains(line, "records_held") || strings.Contains(line, "hold_") || strings.Contains(line, "sequence_lost_total") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// TestSoakFleet has 2,000 exporters of 4 observation domains send 20,000 records a second
// (SOAK_RATE) for as long as the variable SOAK says, and their templates once in ten minutes. A tenth
// of all datagrams is garbage from forged sources. Halfway, the program is killed and
// started while the exporters pause: what they sent before and after comes out.
func TestSoakFleet(t *testing.T) {
	duration, rate := soaking(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var lines, honest atomic.Int64
	read := make(chan struct{})
	go func() {
		defer close(read)
		of := []byte(`"SamplerAddress":"127.30.`)
		for s := bufio.NewScanner(bufio.NewReaderSize(r, 1<<20)); s.Scan(); {
			lines.Add(1)
			if bytes.Contains(s.Bytes(), of) {
				honest.Add(1)
			}
		}
	}()
	flows, addr := freeAddr(t), freeAddr(t)
	args := []string{
		"-listen", "netflow://" + flows + "?count=2", "-addr", addr, "-kube.snapshot", demoSnapshot,
		"-templates.file", filepath.Join(t.TempDir(), "templates"),
		"-templates.hold", "20s", // or what garbage makes it hold grows for 15 minutes
	}
	l := &fleetLife{t: t, base: "http://" + addr, lines: &lines, honest: &honest}
	l.start(w, args...)
	f := newFleet(t, flows, rate)
	for i, e := range f.exporters {
		f.sendTemplates(e)
		if i%2 == 1 {
			time.Sleep(40 * time.Millisecond) // 4,000 datagrams a second
		}
	}
	templates := float64(fleetExporters * fleetDomains * 89)
	l.p.eventually("templates known", func() bool {
		text, _ := get(t, l.base+"/metrics")
		if metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`) > 0 {
			t.Fatal("the kernel dropped datagrams with templates: this machine is too slow or too busy for the test")
		}
		return metric(text, "kube_enricher_templates", "") >= templates
	})
	if n := l.load(f, 0, duration/2); n > l.idle+fleetMemory {
		t.Errorf("%.0f MiB resident, %.0f when idle", n/(1<<20), l.idle/(1<<20))
	}
	pause := time.Now()
	l.settle(f.records)
	time.Sleep(3 * time.Second) // templates of garbage come, too; the file is written every two seconds
	l.p.signal(syscall.SIGKILL)
	l.p.wait()
	l.start(w, args...)
	w.Close()
	time.Sleep(time.Until(pause.Add(fleetPause)))
	t.Logf("killed and started; the exporters paused for %v", time.Since(pause).Round(time.Second))
	if n := l.load(f, duration/2, duration); n > l.idle+fleetMemory {
		t.Errorf("%.0f MiB resident, %.0f when idle", n/(1<<20), l.idle/(1<<20))
	}
	l.settle(f.records)
	l.p.signal(syscall.SIGTERM)
	if code := l.p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, l.p.stderr())
	}
	<-read
	t.Logf("%d records and %d datagrams of garbage were sent, %.0f records/s", f.records, f.garbage, float64(f.records)/duration.Seconds())
}

// load sends what is due from one time to another, and checks that the heap is flat in the
// last four fifths of at least five minutes. It returns the most resident bytes.
func (l *fleetLife) load(f *fleet, from, until time.Duration) (resident float64) {
	duration := until - from
	seen := l.p.load(l.base, from, until, from, f.sendUntil)
	samples := seen[:0:0]
	for _, s := range seen {
		resident = max(resident, s.rss)
		if s.at -= duration / 5; s.at >= 0 {
			samples = append(samples, s)
		}
	}
	l.t.Logf("resident: %.0f MiB at most, %.0f when idle", resident/(1<<20), l.idle/(1<<20))
	// It takes a minute until the workers have used each template of each exporter.
	if duration >= 5*time.Minute {
		checkFlat(l.t, samples, duration*4/5)
	}
	return resident
}
