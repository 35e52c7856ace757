package collector

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func newWith(t *testing.T, cfg Config) (*Collector, *logtest.Hook) {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	c, err := New(cfg, nil, log, prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return c, hook
}

// TestHold decodes data that came before its template when that comes, with the
// time at which the data came, and before the data that comes with it.
func TestHold(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Minute})
	var got []string
	var times []uint64
	d := c.NewDecoder(&sink{f: func(r *flow.Record) {
		got = append(got, tuple(r))
		times = append(times, r.Msg.TimeReceivedNs)
	}})
	other := netip.AddrPortFrom(testSource.Addr(), 9)
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(1)), set(257, basicRecord(2))), testTime)
	d.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(3))), testTime+1e9)
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 2, set(256, basicRecord(4))), testTime+2e9) // another domain
	if len(got) != 0 || c.exporters.numHeld.Load() != 4 {
		t.Fatalf("%d records, %d sets held", len(got), c.exporters.numHeld.Load())
	}
	d.Datagram(testSource, AnyFlow, ipfixMessage(2, 1, set(2, basicTemplate(256)), set(256, basicRecord(5))), testTime+3e9)
	want := []string{strings.ReplaceAll(basicTuple, "40000", "1"), strings.ReplaceAll(basicTuple, "40000", "3"), strings.ReplaceAll(basicTuple, "40000", "5")}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []uint64{uint64(testTime), uint64(testTime + 1e9), uint64(testTime + 3e9)}; !slices.Equal(times, want) {
		t.Errorf("received at %d, want %d", times, want)
	}
	c.exporters.expireHeld(testTime+int64(time.Minute), c.own)
	if n := c.own.sets[setTimeout].Load(); n != 1 || c.exporters.numHeld.Load() != 1 {
		t.Errorf("%d sets timed out, %d are held", n, c.exporters.numHeld.Load())
	}
	c.exporters.expireHeld(0, c.own)
	if n := c.own.sets[setShutdown].Load(); n != 1 || c.exporters.heldBytes.Load() != 0 || c.exporters.numHeld.Load() != 0 {
		t.Errorf("%d sets dropped at the end; %d bytes, %d sets are held", n, c.exporters.heldBytes.Load(), c.exporters.numHeld.Load())
	}
}

// TestHoldBounds floods the store of held sets: an exporter pushes out its own
// oldest sets, never another's.
func TestHoldBounds(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Minute})
	c.exporters.holdTotal = 2 * defaultHoldExporter
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	sent := uint64(0)
	for host := range byte(4) {
		source := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 1)
		for range 1000 {
			d.Datagram(source, AnyFlow, ipfixMessage(0, 1, set(256, make([]byte, 1400))), testTime)
			sent++
		}
		e := d.peers[source].exporter
		if e.heldBytes > defaultHoldExporter || host < 2 && e.heldBytes < defaultHoldExporter/2 {
			t.Errorf("exporter %d holds %d bytes", host, e.heldBytes)
		}
	}
	held := uint64(c.exporters.numHeld.Load())
	if b := c.exporters.heldBytes.Load(); b > c.exporters.holdTotal {
		t.Errorf("%d bytes held", b)
	}
	if dropped := d.metrics.sets[setHoldFull].Load(); held+dropped != sent {
		t.Errorf("%d held and %d dropped of %d", held, dropped, sent)
	}
	// Eviction of the exporters accounts for what they hold.
	c.exporters.max = 1
	for i := range byte(8) {
		c.exporters.get(netip.AddrFrom4([4]byte{10, 0, 0, i}), 1)
		c.exporters.mu.Lock()
		for len(c.exporters.byAddr) > 1 {
			c.exporters.evictLocked()
		}
		c.exporters.mu.Unlock()
	}
	if n, dropped := c.exporters.numHeld.Load(), d.metrics.sets[setHoldFull].Load()+c.own.sets[setHoldFull].Load(); n != 0 || dropped != sent {
		t.Errorf("%d held, %d dropped of %d", n, dropped, sent)
	}
}

// TestPolicy refuses exporters that are not allowed, and gives a rate to those
// that send none.
func TestPolicy(t *testing.T) {
	c, _ := newWith(t, Config{
		Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")},
		Sampling: []SamplingRule{
			{netip.MustParsePrefix("0.0.0.0/0"), 7}, {netip.MustParsePrefix("192.0.2.1/32"), 400}, {netip.MustParsePrefix("192.0.2.0/24"), 50},
		},
	})
	var rates []uint64
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { rates = append(rates, r.Msg.SamplingRate) }})
	data := ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(1)))
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "::ffff:192.0.2.2", "2001:db8::1", "198.51.100.1"} {
		d.Datagram(netip.AddrPortFrom(netip.MustParseAddr(a), 1), AnyFlow, data, testTime)
	}
	d.Datagram(testSource, AnyFlow, v5Message(1, v5Record(1)), testTime) // has its own, 100
	if want := []uint64{400, 50, 50, 0, 100}; !slices.Equal(rates, want) {
		t.Errorf("rates %d, want %d", rates, want)
	}
	if n := d.metrics.drops[dropNotAllowed].Load(); n != 1 {
		t.Errorf("%d not allowed", n)
	}
}

// TestStore writes the table and reads it back into another collector.
func TestStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates")
	now := time.Unix(0, testTime)
	c, _ := newWith(t, Config{})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	other := netip.AddrPortFrom(testSource.Addr(), 9)
	for _, b := range [][]byte{
		ipfixMessage(0, 1, set(2, basicTemplate(256))),
		ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{34, 4, 0}, ie{160, 8, 0})), set(300, be(uint32(1), uint32(77), uint64(5)))),
		ipfixMessage(0, 1, set(2, templateRecord(257, ie{892, 0xffff, 6876}))),
		v9Message(0, 1, set(0, basicTemplate(256))),
	} {
		d.Datagram(testSource, AnyFlow, b, testTime)
	}
	d.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256, ie{27, 16, 0}))), testTime)
	s := &store{path: file}
	if err := s.save(c.exporters, now, false); err != nil {
		t.Fatal(err)
	}
	restored := func(file string, now time.Time) (*Collector, int, error) {
		c, _ := newWith(t, Config{})
		n, err := (&store{path: file}).load(c.exporters, now)
		return c, n, err
	}
	c2, n, err := restored(file, now.Add(23*time.Hour))
	if err != nil || n != 5 {
		t.Fatalf("%d templates restored, error %v", n, err)
	}
	var rate uint64
	var got []string
	d2 := c2.NewDecoder(&sink{f: func(r *flow.Record) { rate = r.Msg.SamplingRate; got = append(got, tuple(r)) }})
	d2.Datagram(netip.AddrPortFrom(testSource.Addr(), 5), AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(40000))), testTime)
	d2.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(256, netip.MustParseAddr("fd00::1").AsSlice())), testTime)
	if rate != 77 || !slices.Equal(got, []string{basicTuple, "fd00::1  0 0 0 0 0"}) {
		t.Errorf("rate %d, records %q", rate, got)
	}
	e := c2.exporters.get(testSource.Addr(), 0)
	if l := e.templates[portKey{templateKey: templateKey{1, 10, 256}}]; l == nil || l.refreshed != testTime/1e9 {
		t.Errorf("the template's age is not kept: %+v", l)
	}
	if _, n, err := restored(file, now.Add(25*time.Hour)); err != nil || n != 0 {
		t.Errorf("%d templates a day old are trusted, error %v", n, err)
	}
	if _, n, err := restored(filepath.Join(t.TempDir(), "none"), now); err != nil || n != 0 {
		t.Errorf("missing file: %d templates, error %v", n, err)
	}

	// Damage of every kind is noticed, and the file set aside.
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": {}, "cut": whole[:len(whole)/2], "foreign": []byte("{\"exporters\":[]}\n"),
		"flipped":         slices.Concat(whole[:len(whole)-20], []byte{whole[len(whole)-20] ^ 1}, whole[len(whole)-19:]),
		"another version": []byte(strings.Replace(string(whole), storeFormat, "kube-enricher-templates/9", 1)),
	} {
		bad := filepath.Join(t.TempDir(), "t")
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, hook := newWith(t, Config{TemplatesFile: bad})
		if c.restoreTemplates() == nil || len(hook.AllEntries()) != 1 || c.exporters.len() != 0 {
			t.Errorf("%s: %d lines logged, %d exporters", name, len(hook.AllEntries()), c.exporters.len())
		}
		if got, err := os.ReadFile(bad + ".bad"); err != nil || !slices.Equal(got, content) {
			t.Errorf("%s: not set aside: %v", name, err)
		}
	}

	// Nothing is left behind by writing, and a directory that has gone is an error.
	if files, _ := os.ReadDir(filepath.Dir(file)); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	if err := (&store{path: filepath.Join(file, "x")}).save(c.exporters, now, true); err == nil {
		t.Error("no error")
	}
}

// TestStoreInterval writes a changed table every few seconds at most.
func TestStoreInterval(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates")
	c, _ := newWith(t, Config{})
	s := &store{path: file}
	now := time.Unix(0, testTime)
	wrote := func(now time.Time) bool {
		_ = os.Remove(file)
		if err := s.save(c.exporters, now, false); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(file)
		return err == nil
	}
	wrote(now)
	e := c.exporters.get(testSource.Addr(), testTime/1e9)
	e.setSampling(samplerKey{version: 9}, 5)
	if wrote(now.Add(time.Second)) {
		t.Error("written after a second")
	}
	if !wrote(now.Add(3 * time.Second)) {
		t.Error("not written after 3 s")
	}
	if wrote(now.Add(30 * time.Second)) {
		t.Error("written without a change")
	}
	if !wrote(now.Add(2 * time.Minute)) {
		t.Error("times of refresh are not written")
	}
}
