package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	// soakGrowth is by how much the heap of the last third may differ from that
	// of the first.
	soakGrowth = 0.05
	// soakGarbage is how many different datagrams of garbage there are. Each makes
	// the program remember something: with ever new ones it is the way to the
	// bounds that would be measured, which TestMemoryBounds of the collector is for.
	soakGarbage = 1000
)

// soakStream is one exporter: a capture that is sent over and over again.
type soakStream struct {
	name      string
	conn      *net.UDPConn
	datagrams [][]byte
	records   int // in one turn of the capture, at least
	next      int
	turns     int
}

// soaking returns for how long to send, which the variable SOAK says, and how many records a
// second: 20,000 unless SOAK_RATE says something else. One datagram in ten is garbage on top of
// that.
func soaking(t *testing.T) (duration time.Duration, rate int) {
	t.Helper()
	duration, err := time.ParseDuration(os.Getenv("SOAK"))
	if err != nil {
		t.Skip("needs SOAK, a duration such as 10m: make soak")
	}
	rate = 20_000
	if v := os.Getenv("SOAK_RATE"); v != "" {
		if rate, err = strconv.Atoi(v); err != nil || rate < 1000 {
			t.Fatalf("SOAK_RATE=%s: want records a second, 1000 at least", v)
		}
	}
	return duration, rate
}

// TestSoak sends all captures at once, mixed with garbage, for as long as the
// variable SOAK says. The heap must be flat and the ledger exact.
func TestSoak(t *testing.T) {
	duration, records := soaking(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	flows, addr, hubble, page := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	base := "http://" + addr
	p := startWith(t, nil, w, "-listen", "flow://"+flows+"?count=2", "-addr", addr, "-kube.snapshot", demoSnapshot,
		"-hubble.addr", hubble, "-ui.addr", page, "-recent", "4MiB", // small, so that it is full soon
		"-templates.file", filepath.Join(t.TempDir(), "templates"),
		"-templates.hold", "5s") // or what garbage makes it hold grows for 15 minutes
	w.Close()
	var lines atomic.Int64
	read := make(chan struct{})
	go func() {
		defer close(read)
		for b := make([]byte, 1<<20); ; {
			n, err := r.Read(b)
			lines.Add(int64(bytes.Count(b[:n], []byte("\n"))))
			if err != nil {
				return
			}
		}
	}()
	p.eventually("ready", func() bool { _, code := get(t, base+"/readyz"); return code == http.StatusOK })

	stopHubble, stopPage := followHubble(t, hubble), followPage(t, page)
	s := newSoak(t, flows, float64(records))
	// It takes a while until all has been sent once.
	warm := min(max(duration/5, 10*time.Second), time.Minute)
	samples := p.load(base, 0, warm+duration, warm, s.sendUntil)

	var text string
	p.eventually("worked on", func() bool {
		text, _ = get(t, base+"/metrics")
		return metric(text, "kube_enricher_datagrams_received_total", "")+metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`) >= float64(s.sent) &&
			metric(text, "kube_enricher_records_held", "") == 0
	})
	received := metric(text, "kube_enricher_records_received_total", "")
	written := metric(text, "kube_enricher_records_written_total", "")
	kernel := metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`)
	checkLedger(t, text, received)
	if n := metric(text, "kube_enricher_datagrams_received_total", "") + kernel; n != float64(s.sent) {
		t.Errorf("%v datagrams received or dropped by the kernel, %d sent", n, s.sent)
	}
	if n := metric(text, "kube_enricher_datagrams_dropped_total", `"panic"`); n != 0 {
		t.Errorf("%v panics: %s", n, p.stderr())
	}
	if want := s.recordsOfWholeTurns(); kernel == 0 && received < float64(want) {
		t.Errorf("%v records received, the captures alone have %d", received, want)
	}
	for name, stop := range map[string]func() (uint64, uint64){"Hubble's API": stopHubble, "the page's API": stopPage} {
		followed, lost := stop()
		if n := float64(followed + lost); n < received/2 || n > received {
			t.Errorf("%v records received; %d were sent to the one who follows by %s, who was too slow for %d", received, followed, name, lost)
		}
		t.Logf("%s sent %d records, and left out %d", name, followed, lost)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	<-read
	if float64(lines.Load()) != written {
		t.Errorf("%d lines came out, %v are counted as written", lines.Load(), written)
	}

	rate := (samples[len(samples)-1].received - samples[0].received) / (samples[len(samples)-1].at - samples[0].at).Seconds()
	t.Logf("%v after %v to warm up: %.0f records/s; %d datagrams, of them %d garbage; %.0f records received, %.0f written, %.0f dropped; %.0f datagrams dropped by the kernel",
		duration, warm, rate, s.sent, s.garbage, received, written, metric(text, "kube_enricher_records_dropped_total", ""), kernel)
	if rate < 0.9*s.rate {
		t.Errorf("%.0f records/s, fewer than %.0f: this machine is too slow or too busy for the test", rate, s.rate)
	}
	checkFlat(t, samples, duration)
}

// soakSample is what one scrape says.
type soakSample struct {
	at                                    time.Duration
	received, inuse, alloc, goal, rss, gr float64
}

// load calls send with what time it is, from one time to another, every two milliseconds, and
// looks at the program's metrics every half second. What it sees from the time warm on, it
// returns, by the time since then.
func (p *program) load(base string, from, until, warm time.Duration, send func(elapsed time.Duration)) (samples []soakSample) {
	p.t.Helper()
	begun := time.Now().Add(-from)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for next := time.Now(); ; {
		now := <-tick.C
		elapsed := now.Sub(begun)
		if elapsed >= until {
			return samples
		}
		send(elapsed)
		if now.Before(next) {
			continue
		}
		next = next.Add(500 * time.Millisecond)
		if text, _ := get(p.t, base+"/metrics"); elapsed >= warm {
			samples = append(samples, newSoakSample(elapsed-warm, text))
		}
		select {
		case <-p.done:
			p.t.Fatal("the program ended: ", p.stderr())
		default:
		}
	}
}

func newSoakSample(at time.Duration, text string) soakSample {
	return soakSample{
		at:       at,
		received: metric(text, "kube_enricher_records_received_total", ""),
		inuse:    metric(text, "go_memstats_heap_inuse_bytes", ""),
		alloc:    metric(text, "go_memstats_heap_alloc_bytes", ""),
		goal:     metric(text, "go_memstats_next_gc_bytes", ""),
		rss:      metric(text, "process_resident_memory_bytes", ""),
		gr:       metric(text, "go_goroutines", ""),
	}
}

// checkFlat compares the first and the last third of the samples. Between two
// collections of garbage the heap grows by what is garbage already, so each
// third is taken for the median of the least values in windows of 10 s: the heap
// as it is behind a collection.
func checkFlat(t *testing.T, samples []soakSample, duration time.Duration) {
	window := min(10*time.Second, duration/12)
	for _, m := range []struct {
		name  string
		of    func(*soakSample) float64
		check bool
	}{
		{"heap in use", func(s *soakSample) float64 { return s.inuse }, true},
		{"heap allocated", func(s *soakSample) float64 { return s.alloc }, false},
		{"goal of the next collection", func(s *soakSample) float64 { return s.goal }, false},
		{"resident memory", func(s *soakSample) float64 { return s.rss }, false},
		{"goroutines", func(s *soakSample) float64 { return s.gr }, false},
	} {
		third := func(n time.Duration) float64 {
			least := make(map[time.Duration]float64)
			for i := range samples {
				s := &samples[i]
				if s.at*3/duration != n {
					continue
				}
				w := s.at / window
				if v, ok := least[w]; !ok || m.of(s) < v {
					least[w] = m.of(s)
				}
			}
			var all []float64
			for _, v := range least {
				all = append(all, v)
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		first, last := third(0), third(2)
		change := last/first - 1
		t.Logf("%s: %.0f in the first third, %.0f in the last: %+.1f %%", m.name, first, last, 100*change)
		if m.check && math.Abs(change) >= soakGrowth {
			t.Errorf("%s is not flat: %+.1f %%", m.name, 100*change)
		}
	}
}

// soak sends.
type soak struct {
	t       *testing.T
	rate    float64 // records a second
	rnd     *rand.Rand
	streams []*soakStream
	junk    []*net.UDPConn // sources of garbage
	pool    [][]byte       // garbage
	turn    int
	records float64 // sent, on average over the captures
	sent    int
	garbage int
}

func newSoak(t *testing.T, to string, rate float64) *soak {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := &soak{t: t, rate: rate, rnd: rand.New(rand.NewPCG(seed, 1))}
	dial := func(source string) *net.UDPConn {
		addr, err := net.ResolveUDPAddr("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(source)}, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	files, err := filepath.Glob(filepath.Join(captureDir, "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for i, file := range files {
		s.streams = append(s.streams, &soakStream{
			name: filepath.Base(file), conn: dial(loopback(1, i)), datagrams: captureDatagrams(t, file),
			records: len(truth(t, strings.TrimSuffix(file, ".pcap")+".truth.csv")),
		})
	}
	for i := range 4 {
		s.junk = append(s.junk, dial(loopback(2, i/2)))
	}
	for i := range soakGarbage {
		from := s.streams[i%len(s.streams)].datagrams
		s.pool = append(s.pool, s.mutate(from[s.rnd.IntN(len(from))]))
	}
	return s
}

// captureDatagrams returns the exporter's datagrams of a capture.
func captureDatagrams(t *testing.T, file string) (datagrams [][]byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for b = b[24:]; len(b) >= 16; {
		n := int(binary.LittleEndian.Uint32(b[8:]))
		packet := b[16 : 16+n]
		b = b[16+n:]
		if packet[12] == 8 && packet[13] == 0 { // Ethernet, IPv4
			packet = packet[14:]
		}
		datagrams = append(datagrams, packet[int(packet[0]&0xf)*4+8:])
	}
	return datagrams
}

func (s *soak) send(c *net.UDPConn, b []byte) {
	if _, err := c.Write(b); err != nil {
		s.t.Fatal(err)
	}
	s.sent++
}

// sendUntil sends what is due by now.
func (s *soak) sendUntil(elapsed time.Duration) {
	due := elapsed.Seconds() * s.rate
	if due-s.records > s.rate/4 {
		s.records = due - s.rate/4 // the machine stood still: what was missed is not made up for
	}
	for s.records < due {
		st := s.streams[s.turn%len(s.streams)]
		s.turn++
		s.send(st.conn, st.datagrams[st.next])
		s.records += float64(st.records) / float64(len(st.datagrams))
		if st.next++; st.next == len(st.datagrams) {
			st.next = 0
			st.turns++
		}
		if s.rnd.IntN(9) == 0 { // one in ten of all
			i := s.garbage % len(s.pool)
			s.send(s.junk[i%len(s.junk)], s.pool[i])
			s.garbage++
		}
	}
}

// mutate makes garbage: of a good datagram, or of nothing.
func (s *soak) mutate(b []byte) []byte {
	switch b = slices.Clone(b); s.rnd.IntN(6) {
	case 0: // random bytes
		b = make([]byte, s.rnd.IntN(1500))
		for i := range b {
			b[i] = byte(s.rnd.Uint32())
		}
	case 1: // random bytes behind a good header
		for i := min(len(b), 20); i < len(b); i++ {
			b[i] = byte(s.rnd.Uint32())
		}
	case 2: // cut
		b = b[:s.rnd.IntN(len(b)+1)]
	case 3: // a part of it twice
		at := s.rnd.IntN(len(b) + 1)
		b = slices.Concat(b[:at], b[at/2:])
	default: // some bytes are others
		for range 1 + s.rnd.IntN(8) {
			b[s.rnd.IntN(len(b))] = byte(s.rnd.Uint32())
		}
	}
	return b
}

// recordsOfWholeTurns is how many records the captures that were sent to their
// end have.
func (s *soak) recordsOfWholeTurns() (n int) {
	for _, st := range s.streams {
		n += st.turns * st.records
	}
	return n
}
