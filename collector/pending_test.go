package collector

import (
	"bytes"
	"encoding/binary"
	"net/netip"
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
	c.exporters.lendTemplates(testTime+11e9, false) // to the other port
	d.decodeLent()
	want := []string{strings.ReplaceAll(basicTuple, "40000", "1"), strings.ReplaceAll(basicTuple, "40000", "5"), strings.ReplaceAll(basicTuple, "40000", "3")}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []uint64{uint64(testTime), uint64(testTime + 3e9), uint64(testTime + 1e9)}; !slices.Equal(times, want) {
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
	const room = 1 << 20
	c.exporters.holdExporter, c.exporters.holdTotal = room, 2*room
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	sent := uint64(0)
	for host := range byte(4) {
		source := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, host}), 1)
		for range 1000 {
			d.Datagram(source, AnyFlow, ipfixMessage(0, 1, set(256, bytes.Repeat([]byte{1}, 1300))), testTime)
			sent++
		}
		e := d.peers[source].exporter
		if e.heldBytes > room || host < 2 && e.heldBytes < room/2 {
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
	c.exporters.totalBudget = 1
	for i := range byte(8) {
		c.exporters.get(netip.AddrFrom4([4]byte{10, 0, 0, i}), 1)
		if n := c.exporters.len(); n > 1 {
			t.Errorf("%d exporters", n)
		}
	}
	if n, dropped := c.exporters.numHeld.Load(), d.metrics.sets[setHoldFull].Load()+c.own.sets[setHoldFull].Load(); n != 0 || dropped != sent {
		t.Errorf("%d held, %d dropped of %d", n, dropped, sent)
	}
}

// TestHoldSize keeps what Open vSwitch without a cache sends in ten minutes, 50 records a
// second, and decodes all of it when templates come.
func TestHoldSize(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: 15 * time.Minute})
	capture := readCapture(t, "ovs-ipfix-nocache")
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	sent := 0
	for sent < 50*600 {
		for _, g := range capture {
			if id := binary.BigEndian.Uint16(g.payload[16:]); id > 255 && id != 462 && sent < 50*600 { // records of flows
				d.Datagram(g.source, AnyFlow, g.payload, testTime+int64(sent)*int64(20*time.Millisecond))
				sent++
			}
		}
	}
	t.Logf("%d KiB of %d for %d sets", c.exporters.heldBytes.Load()>>10, c.exporters.holdExporter>>10, c.exporters.numHeld.Load())
	for _, g := range capture {
		if g.payload[16] == 0 {
			d.Datagram(g.source, AnyFlow, g.payload, testTime+int64(10*time.Minute))
		}
	}
	if n := d.metrics.sets[setHoldFull].Load(); n != 0 || records != sent {
		t.Errorf("%d records of %d, %d sets found no room", records, sent, n)
	}
}

// TestHoldByPort has one of two exporters behind an address wait for its templates with all
// that it has room for. The other one keeps what waits.
func TestHoldByPort(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Minute, TemplatesHoldSize: 100_000})
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	other := netip.AddrPortFrom(testSource.Addr(), 9)
	d.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(1))), testTime)
	for range 10_000 {
		d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(1))), testTime)
	}
	if n := c.exporters.heldBytes.Load(); n > 101_000 || n < 90_000 {
		t.Errorf("%d bytes are held", n)
	}
	d.Datagram(other, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), testTime)
	if records != 1 {
		t.Errorf("%d records", records)
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
