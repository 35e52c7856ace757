package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// hostileDir has hostile datagrams, and odd ones of real exporters, a file for
// each case. The collector's tests write them.
const hostileDir = "../../collector/testdata/hostile"

// maxGrowth is by how much memory may grow above that of the idle program, in
// bytes, whatever is sent to it but data sets that wait: these have a budget of 256 MiB,
// and maxGrowthHeld. maxGrowthTogether is for all floods at once: the collector has budgets
// of 128 MiB for exporters beside that, and 40 MiB for the caches of each worker. A
// quarter is for the garbage collector.
const (
	maxGrowth         = 200e6
	maxGrowthHeld     = 420e6
	maxGrowthTogether = 680e6
)

// target is the running program under attack.
type target struct {
	*program
	flows, base string
	good        chan uint16 // source ports of good records, as they come out
	lines       chan int    // how many lines came out, when the output ends
	goodSent    uint16

	sent          int // datagrams
	pending       int // bytes sent since settle
	records       int // that the datagrams sent hold
	rss, firstRSS float64
	maxGrowth     float64
	goroutines    float64
}

func attack(t *testing.T, sockets int, args ...string) *target {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	a := &target{flows: freeAddr(t), good: make(chan uint16, 1024), lines: make(chan int, 1), maxGrowth: maxGrowth}
	addr := freeAddr(t)
	a.base = "http://" + addr
	a.program = startWith(t, nil, w, append([]string{"-listen", fmt.Sprintf("flow://%s?count=%d", a.flows, sockets), "-addr", addr, "-kube.off"}, args...)...)
	a.patient = true
	w.Close()
	go a.read(r)
	a.eventually("ready", func() bool { _, code := get(t, a.base+"/readyz"); return code == http.StatusOK })
	a.expectGood("at the start")
	text := a.scrape()
	a.firstRSS, a.goroutines = a.rss, metric(text, "go_goroutines", "")
	return a
}

// read counts the lines of the output and tells of good records.
func (a *target) read(r *os.File) {
	defer r.Close()
	lines := 0
	for b := bufio.NewReaderSize(r, 1<<20); ; lines++ {
		line, err := b.ReadSlice('\n')
		if err != nil {
			a.lines <- lines
			_, _ = io.Copy(io.Discard, r)
			return
		}
		if !bytes.Contains(line, []byte(`"SrcMac":"0a:58:0a:f4:00:05"`)) {
			continue
		}
		_, rest, _ := bytes.Cut(line, []byte(`"SrcPort":`))
		port, _, _ := bytes.Cut(rest, []byte(","))
		if n, err := strconv.ParseUint(string(port), 10, 16); err == nil {
			a.good <- uint16(n)
		}
	}
}

// from sends datagrams from a loopback address, and a port of their own.
func (a *target) from(source string, datagrams ...[]byte) {
	a.t.Helper()
	to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(a.flows))
	c, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(source)}, to)
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	for _, b := range datagrams {
		if _, err := c.Write(b); err != nil {
			a.t.Fatal(err)
		}
		a.sent++
		// The kernel's buffer must not overflow: what it drops attacks nobody. And
		// a good datagram should not wait long behind what costs no more than it should.
		if a.pending += len(b) + 1024; a.pending > 1<<19 {
			a.settle()
		}
	}
}

// scrape reads the metrics, and takes note of the memory.
func (a *target) scrape() string {
	text, _ := get(a.t, a.base+"/metrics")
	a.rss = max(a.rss, metric(text, "process_resident_memory_bytes", ""))
	return text
}

// settle waits until all that was sent has been worked on, and is written.
func (a *target) settle() (text string) {
	a.t.Helper()
	a.pending = 0
	a.eventually("worked on", func() bool {
		text = a.scrape()
		return metric(text, "kube_enricher_datagrams_received_total", "")+metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`) >= float64(a.sent)
	})
	return text
}

// expectGood sends a good datagram, whose record must come out.
func (a *target) expectGood(after string) time.Duration {
	a.t.Helper()
	a.goodSent++
	b := referenceMessage()
	binary.BigEndian.PutUint16(b[len(b)-21:], a.goodSent) // its source port
	start := time.Now()
	a.from("127.0.0.1", b)
	a.records++
	a.eventually(after+": the record of a good datagram", func() bool {
		for {
			select {
			case port := <-a.good:
				if port == a.goodSent {
					return true
				}
			default:
				return false
			}
		}
	})
	return time.Since(start)
}

// checkMemory wants the memory that was in use at any time to be bounded.
func (a *target) checkMemory(after string) {
	a.t.Helper()
	a.t.Logf("%s: %.0f MB above idle at most", after, (a.rss-a.firstRSS)/1e6)
	if a.rss-a.firstRSS > a.maxGrowth && !race.Enabled && runtime.GOOS == "linux" {
		a.t.Errorf("%s: %.0f MB in use, %.0f when idle", after, a.rss/1e6, a.firstRSS/1e6)
	}
}

// stop ends the program and compares the ledger with what came out.
func (a *target) stop() {
	a.t.Helper()
	text := a.settle()
	a.eventually("written", func() bool { text = a.scrape(); return metric(text, "kube_enricher_records_held", "") == 0 })
	n := metric(text, "kube_enricher_records_received_total", "")
	checkLedger(a.t, text, n)
	if lost := metric(text, "kube_enricher_datagrams_dropped_total", `"kernel"`); lost > 0 {
		a.t.Logf("the kernel dropped %v datagrams", lost)
	} else {
		// A forged exporter can be forgotten between its template and its data.
		waiting := metric(text, "kube_enricher_sets_held", "") + metric(text, "kube_enricher_sets_dropped_total", "")
		if n > float64(a.records) || n+waiting < float64(a.records) {
			a.t.Errorf("%v records received, %d were sent, %v sets wait or were dropped", n, a.records, waiting)
		}
	}
	if n := metric(text, "kube_enricher_datagrams_dropped_total", `"panic"`); n != 0 {
		a.t.Errorf("%v panics: %s", n, a.stderr())
	}
	if n := metric(text, "go_goroutines", ""); n > a.goroutines+5 {
		a.t.Errorf("%v goroutines, %v at the start", n, a.goroutines)
	}
	written := metric(text, "kube_enricher_records_written_total", "")
	a.signal(syscall.SIGTERM)
	if code := a.wait(); code != exitDone {
		a.t.Errorf("exit code %d: %s", code, a.stderr())
	}
	if lines := <-a.lines; float64(lines) != written {
		a.t.Errorf("%d lines came out, %v are counted as written", lines, written)
	}
	if n := strings.Count(a.stderr(), "\n"); n > 100 {
		a.t.Errorf("%d log lines", n)
	}
}

// TestHostileCorpus sends each file of the corpus to one program. A good
// datagram follows each and must come out.
func TestHostileCorpus(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(hostileDir, "*.hex"))
	if err != nil || len(files) < 90 {
		t.Fatal(len(files), err)
	}
	a := attack(t, 2)
	var slowest time.Duration
	for i, file := range files {
		datagrams, records := readHex(t, file)
		a.from(fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200), datagrams...)
		a.records += records
		slowest = max(slowest, a.expectGood(filepath.Base(file)))
		a.settle()
	}
	a.checkMemory("corpus")
	t.Logf("%d files, slowest good record after %v", len(files), slowest)
	a.stop()
}

// readHex reads a file of the corpus: lines of comment, then a datagram a line.
func readHex(t *testing.T, file string) (datagrams [][]byte, records int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	records = -1
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			if n, ok := strings.CutPrefix(comment, " records: "); ok {
				if records, err = strconv.Atoi(n); err != nil {
					t.Fatalf("%s: %v", file, err)
				}
			}
			continue
		}
		b, err := hex.DecodeString(line)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		datagrams = append(datagrams, b)
	}
	if len(datagrams) == 0 || records < 0 {
		t.Fatalf("%s: %d datagrams, %d records", file, len(datagrams), records)
	}
	return datagrams, records
}

// ipfixSet and ipfixMessage build what floods are made of.
func ipfixSet(id int, content ...byte) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(id)), uint16(4+len(content)))
	return append(b, content...)
}

func ipfixMessage(sequence, domain uint32, sets []byte) []byte {
	be := binary.BigEndian
	b := be.AppendUint16(be.AppendUint16(nil, 10), uint16(16+len(sets)))
	b = be.AppendUint32(be.AppendUint32(be.AppendUint32(b, uint32(benchTime/1e9)), sequence), domain)
	return append(b, sets...)
}

// ipfixTemplate is a template record of n fields.
func ipfixTemplate(id, n int, element, length uint16) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, uint16(id)), uint16(n))
	for range n {
		b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, element), length)
	}
	return b
}

// join returns what f makes of 0 to n-1, one behind another.
func join(n int, f func(i int) []byte) (b []byte) {
	for i := range n {
		b = append(b, f(i)...)
	}
	return b
}

func loopback(net, i int) string { return fmt.Sprintf("127.%d.%d.%d", net, i/250, 1+i%250) }

// flood is much of something that makes the program remember, or work.
type flood struct {
	name string
	send func(a *target)
}

// many is n, or less where all is ten times as slow.
func many(n int) int {
	if race.Enabled {
		return n / 10
	}
	return n
}

func floods() []flood {
	smallTemplates := ipfixMessage(0, 1, ipfixSet(2, join(4000, func(i int) []byte { return ipfixTemplate(256+i, 1, uint16(i), 4) })...))
	v5 := make([]byte, 24+48)
	copy(v5, []byte{0, 5, 0, 1})
	v5[24] = 10 // an address
	return []flood{
		{"forged sources", func(a *target) {
			for i := range many(6000) {
				a.from(loopback(16, i), v5)
				a.records++
			}
		}},
		{"forged sources with templates", func(a *target) {
			template, data := benchMessages("ipfix", 0, 1, 100)
			for i := range many(6000) {
				a.from(loopback(17, i), template, data)
				a.records++
			}
		}},
		{"small templates", func(a *target) {
			for i := range many(200) {
				a.from(loopback(18, i), smallTemplates)
			}
		}},
		{"long templates", func(a *target) {
			for i := range many(40) {
				for domain := range 5 {
					a.from(loopback(19, i), ipfixMessage(0, uint32(domain), ipfixSet(2, join(15, func(id int) []byte {
						return ipfixTemplate(256+id, 1000, uint16(75*i+15*domain+id), 4)
					})...)))
				}
			}
		}},
		{"templates of one exporter", func(a *target) {
			for domain := range 30 {
				a.from("127.20.0.1", ipfixMessage(0, uint32(domain), ipfixSet(2, join(4000, func(i int) []byte {
					return ipfixTemplate(256+i, 2, uint16(4000*domain+i), 4)
				})...)))
			}
		}},
		{"many exporters and ports that use long templates", func(a *target) {
			// Fields without length: a short record has many of them.
			for i := range 8 {
				for id := range 30 {
					template := ipfixTemplate(256+id, 1000, uint16(30*i+id), 0)
					template[7] = 1 // the length of the first field
					a.from(loopback(21, i), ipfixMessage(0, 1, ipfixSet(2, template...)))
				}
			}
			data := ipfixMessage(0, 1, join(30, func(i int) []byte { return ipfixSet(256+i, 0) }))
			for i := range many(3000) {
				a.from(loopback(21, i%8), data)
			}
		}},
		{"short data sets of long records", func(a *target) {
			// None is a record.
			for i := range 4 {
				a.from("127.28.0.1", ipfixMessage(0, 1, ipfixSet(2, join(1000, func(id int) []byte {
					return ipfixTemplate(256+1000*i+id, 1, 82, uint16(60_000+1000*i+id))
				})...)))
			}
			data := ipfixMessage(0, 1, join(12_000, func(i int) []byte { return ipfixSet(256+i%4000, 1) }))
			for range many(20) {
				a.from("127.28.0.1", data)
			}
		}},
		{"data sets without template", func(a *target) {
			big := ipfixMessage(0, 1, ipfixSet(999, bytes.Repeat([]byte{1}, 60_000)...)) // cannot be packed
			for i := range many(240) {
				for range 20 {
					a.from(loopback(22, i), big)
				}
			}
		}},
		{"short data sets without template", func(a *target) {
			short := ipfixMessage(0, 1, join(7000, func(int) []byte { return ipfixSet(999, 1) }))
			for i := range many(40) {
				a.from(loopback(23, i), short)
			}
		}},
		{"templates while data sets wait", func(a *target) {
			a.from("127.24.0.1", ipfixMessage(0, 1, join(16_000, func(int) []byte { return ipfixSet(9999) })))
			for range 4 {
				a.from("127.24.0.1", smallTemplates)
			}
		}},
		{"sampling rates", func(a *target) {
			options := ipfixSet(3, 1, 44, 0, 2, 0, 1, 1, 46, 0, 2, 0, 34, 0, 2) // 300: selector, rate
			rates := ipfixSet(300, join(300, func(i int) []byte { return []byte{byte(i >> 8), byte(i), 1, byte(i)} })...)
			for i := range many(2000) {
				a.from(loopback(25, i), ipfixMessage(0, 1, append(options, rates...)))
			}
		}},
		{"sequence numbers", func(a *target) {
			for i := range many(60) {
				var b [][]byte
				for domain := range uint32(300) {
					b = append(b, ipfixMessage(0, domain, nil), ipfixMessage(1000, domain, nil))
				}
				a.from(loopback(26, i), b...)
			}
		}},
		{"random bytes", func(a *target) {
			rnd := rand.New(rand.NewPCG(1, 2))
			for i := range many(10_000) {
				b := make([]byte, rnd.IntN(200))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				if len(b) > 2 {
					b[0], b[1] = 0, 11 // no version that there is: nothing comes of it
				}
				a.from(loopback(27, i%50), b)
			}
		}},
		{"sources that are not allowed", func(a *target) {
			for i := range many(5000) {
				a.from(loopback(200, i), v5)
			}
		}},
	}
}

// run sends the flood. The record of a good datagram after it must come out.
func (f flood) run(a *target) {
	a.t.Helper()
	start := time.Now()
	f.send(a)
	a.expectGood(f.name)
	text := a.settle()
	took := time.Since(start)
	a.checkMemory(fmt.Sprintf("%s (%v)", f.name, took.Round(time.Millisecond)))
	if n := strings.Count(text, "\nkube_enricher_exporter_last_seen_timestamp_seconds{"); n > 1001 {
		a.t.Errorf("%s: %d exporters are labels", f.name, n)
	}
}

// TestHostileFloods floods the program in every way that makes it remember
// something: its memory is bounded.
func TestHostileFloods(t *testing.T) {
	for _, f := range floods() {
		t.Run(f.name, func(t *testing.T) {
			a := attack(t, 1, "-templates.file", filepath.Join(t.TempDir(), "templates"), "-allow", "127.0.0.0/9")
			if f.name == "data sets without template" {
				a.maxGrowth = maxGrowthHeld
			}
			f.run(a)
			a.stop()
			a.checkMemory("stopped")
		})
	}
}

// TestHostileFloodsTogether has one program take all floods, so that all bounds
// are reached at once.
func TestHostileFloodsTogether(t *testing.T) {
	templates := filepath.Join(t.TempDir(), "templates")
	a := attack(t, 2, "-templates.file", templates, "-allow", "127.0.0.0/9")
	a.maxGrowth = maxGrowthTogether
	for _, f := range floods() {
		f.run(a)
	}
	if n := metric(a.scrape(), "kube_enricher_datagrams_dropped_total", `"not_allowed"`); n != float64(many(5000)) {
		t.Errorf("%v datagrams were not allowed, %d were sent", n, many(5000))
	}
	a.stop()
	a.checkMemory("stopped")
	// The templates file that the floods left behind can be read.
	a = attack(t, 2, "-templates.file", templates)
	if _, err := os.Stat(templates + ".bad"); err == nil || strings.Contains(a.stderr(), "templates file") {
		t.Errorf("the templates file was not read: %s", a.stderr())
	}
	if n := metric(a.scrape(), "kube_enricher_templates", ""); n < 1000 {
		t.Errorf("%v templates were restored", n)
	}
	a.stop()
}
