package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestTemplatesAcrossPorts has several source ports of one address. A template
// belongs to the port that sent it (RFC 7011, 8).
func TestTemplatesAcrossPorts(t *testing.T) {
	const other = "fd00::1 fd00::2 0 0 0 0 0"
	template := ipfixMessage(0, 1, set(2, basicTemplate(256)))
	data := ipfixMessage(0, 1, set(256, basicRecord(40000)))
	template2 := ipfixMessage(0, 1, set(2, templateRecord(256, ie{27, 16, 0}, ie{28, 16, 0})))
	data2 := ipfixMessage(0, 1, set(256, be(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"))))
	another := ipfixMessage(0, 1, set(2, templateRecord(999, ie{27, 16, 0})))
	type sent struct {
		port uint16
		at   time.Duration
		b    []byte
	}
	for _, tc := range []struct {
		name string
		sent []sent
		want string
		lent uint64
		held int64
	}{
		{"each port has its own", []sent{{1, 0, template}, {2, 0, template2}, {1, 0, data}, {2, 0, data2}, {1, 0, data}},
			basicTuple + "|" + other + "|" + basicTuple, 0, 0},
		{"a port changes its own", []sent{{1, 0, template}, {2, 0, template}, {1, 0, template2}, {1, 0, data2}, {2, 0, data}},
			other + "|" + basicTuple, 0, 0},
		{"another port's waits", []sent{{1, 0, template}, {2, 0, data}}, "", 0, 1},
		{"for 10 s", []sent{{1, 0, template}, {2, time.Second, data}, {1, 10900 * time.Millisecond, template}}, "", 0, 1},
		{"then takes the address's", []sent{{1, 0, template}, {2, time.Second, data}, {1, 11 * time.Second, template}}, basicTuple, 1, 0},
		{"and so does what comes then", []sent{{1, 0, template}, {2, 0, data}, {2, 9 * time.Second, data}, {2, 11 * time.Second, data}, {2, time.Hour, data}},
			strings.Repeat(basicTuple+"|", 3) + basicTuple, 1, 0},
		{"until it sends one of its own", []sent{{1, 0, template}, {2, 0, data}, {2, 11 * time.Second, data}, {2, 12 * time.Second, template2}, {2, 13 * time.Second, data2}},
			basicTuple + "|" + basicTuple + "|" + other, 1, 0},
		{"of another id, too", []sent{{1, 0, template}, {2, 0, data}, {2, 11 * time.Second, data}, {2, 12 * time.Second, another}, {2, time.Minute, data}, {1, 2 * time.Minute, data}},
			basicTuple + "|" + basicTuple + "|" + basicTuple, 1, 1},
		{"its own came in time", []sent{{1, 0, template}, {2, 0, data2}, {2, 9 * time.Second, template2}, {2, 11 * time.Second, data2}}, other + "|" + other, 0, 0},
		{"it sends templates, this one will come", []sent{{1, 0, template}, {2, 0, another}, {2, 0, data}, {1, time.Minute, data}}, basicTuple, 0, 1},
		{"two shapes of the id", []sent{{1, 0, template}, {2, 0, template2}, {3, 0, data}, {1, time.Minute, template}}, "", 0, 1},
		{"one shape of two ports", []sent{{1, 0, template}, {2, 0, template}, {3, 0, data}, {1, time.Minute, template}}, basicTuple, 1, 0},
		{"the template comes later", []sent{{3, 0, data}, {1, time.Minute, template}, {1, 2 * time.Minute, template}}, basicTuple, 1, 0},
		{"not refreshed for 30 min", []sent{{1, 0, template}, {2, 30 * time.Minute, data}, {1, 31 * time.Minute, data}}, basicTuple, 0, 1},
		{"refreshed within 30 min", []sent{{1, 0, template}, {1, time.Hour, template}, {2, 80 * time.Minute, data}, {1, 81 * time.Minute, data}}, basicTuple + "|" + basicTuple, 1, 0},
		{"a decision stays when shapes differ", []sent{{1, 0, template}, {2, 0, data}, {2, 11 * time.Second, data}, {3, 12 * time.Second, template2}, {2, 13 * time.Second, data}},
			basicTuple + "|" + basicTuple + "|" + basicTuple, 1, 0},
		{"port 0 is a port", []sent{{1, 0, template}, {1, 0, data}, {0, 0, template2}, {1, 0, data}, {0, 0, data2}, {0, 0, template2}, {1, 0, data}},
			basicTuple + "|" + basicTuple + "|" + other + "|" + basicTuple, 0, 0},
		{"v9", []sent{{1, 0, v9Message(0, 1, set(0, basicTemplate(256)))}, {2, 0, v9Message(0, 1, set(256, basicRecord(40000)))}, {1, 11 * time.Second, template}}, basicTuple, 1, 0},
		{"another version is another template", []sent{{1, 0, template}, {2, 0, v9Message(0, 1, set(256, basicRecord(40000)))}, {1, 11 * time.Second, template}}, "", 0, 1},
		{"another domain's", []sent{{1, 0, template}, {2, 0, ipfixMessage(0, 2, set(256, basicRecord(40000)))}, {1, 11 * time.Second, template}}, "", 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newWith(t, Config{TemplatesHold: 24 * time.Hour})
			var got []string
			d := c.NewDecoder(&sink{f: func(r *flow.Record) { got = append(got, tuple(r)) }})
			for _, s := range tc.sent {
				now := testTime + int64(s.at)
				c.exporters.lendTemplates(now, false)
				d.decodeLent()
				d.Datagram(netip.AddrPortFrom(testSource.Addr(), s.port), AnyFlow, s.b, now)
			}
			if got := strings.Join(got, "|"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if n := c.own.fallbacks[fallbackPort].Load(); n != tc.lent {
				t.Errorf("%d templates lent, want %d", n, tc.lent)
			}
			if n := c.exporters.numHeld.Load(); n != tc.held {
				t.Errorf("%d sets wait, want %d", n, tc.held)
			}
			checkAccounts(t, c.exporters)
			checkCaches(t, d)
		})
	}
}

// TestLendAtTheEnd lends templates to all that waits once no more can come, in the
// order in which it came.
func TestLendAtTheEnd(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Hour})
	var got []uint32
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { got = append(got, r.Msg.SrcPort) }})
	from := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(testSource.Addr(), port) }
	d.Datagram(from(1), AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256)), set(2, basicTemplate(257))), testTime)
	for i := range uint16(20) {
		d.Datagram(from(9-i%3), AnyFlow, ipfixMessage(0, 1, set(256+i%2, basicRecord(i))), testTime+int64(i))
	}
	c.exporters.lendTemplates(testTime+20, true)
	d.decodeLent()
	want := make([]uint32, 20)
	for i := range want {
		want[i] = uint32(i)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %d", got)
	}
	if n := c.own.fallbacks[fallbackPort].Load(); n != 6 {
		t.Errorf("%d templates lent, want 6", n)
	}
}

// TestLentIsBounded has many ports borrow many templates.
func TestLentIsBounded(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Hour})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), testTime)
	for port := range uint16(3 * maxLent) {
		d.Datagram(netip.AddrPortFrom(testSource.Addr(), 10_000+port), AnyFlow, ipfixMessage(0, 1, set(256, basicRecord(1))), testTime)
		if port%1000 == 999 {
			c.exporters.lendTemplates(testTime, true)
			d.decodeLent()
		}
	}
	e := c.exporters.get(testSource.Addr(), 0)
	if n := e.lent.len(); n == 0 || n > maxLent {
		t.Errorf("%d templates are lent", n)
	}
	checkAccounts(t, c.exporters)
}

// ovsTemplate is a template that begins as all of Open vSwitch's do.
func ovsTemplate(id uint16, more ...ie) []byte {
	return templateRecord(id, append([]ie{{138, 4, 0}, {61, 1, 0}, {56, 6, 0}, {80, 6, 0}, {256, 2, 0}, {240, 1, 0}}, more...)...)
}

// TestTemplatesAcrossDomains has observation domains that lack a template. Open
// vSwitch before 3.2 sends its templates in the first one only.
func TestTemplatesAcrossDomains(t *testing.T) {
	source, source2 := testSource, netip.AddrPortFrom(testSource.Addr(), 9)
	template := func(domain uint32, more ...ie) []byte {
		return ipfixMessage(0, domain, set(2, ovsTemplate(256, more...)))
	}
	bytes4, packets4 := ie{1, 4, 0}, ie{2, 4, 0}
	data := func(domain uint32) []byte {
		return ipfixMessage(0, domain, set(256, be(uint32(5), uint8(0), make([]byte, 12), uint16(0x800), uint8(14), uint32(100), uint32(7))))
	}
	const bytes, packets = "100 7|", "7 100|"
	type sent struct {
		source netip.AddrPort
		b      []byte
	}
	for _, tc := range []struct {
		name  string
		sent  []sent
		want  string
		taken uint64
		held  int64
	}{
		{"of one domain only", []sent{{source, template(1, bytes4, packets4)}, {source, data(2)}, {source, data(3)}, {source, data(2)}}, bytes + bytes + bytes, 2, 0},
		{"data first", []sent{{source, data(2)}, {source, template(1, bytes4, packets4)}, {source, data(2)}}, bytes + bytes, 1, 0},
		{"its own wins", []sent{{source, template(1, bytes4, packets4)}, {source, data(2)}, {source, template(2, packets4, bytes4)}, {source, data(2)}, {source, data(1)}}, bytes + packets + bytes, 1, 0},
		{"one shape of two domains", []sent{{source, template(1, bytes4, packets4)}, {source, template(2, bytes4, packets4)}, {source, data(3)}}, bytes, 1, 0},
		{"two shapes of two domains", []sent{{source, template(1, bytes4, packets4)}, {source, template(2, packets4, bytes4)}, {source, data(3)}}, "", 0, 1},
		{"two shapes become one", []sent{{source, template(1, bytes4, packets4)}, {source, template(2, packets4, bytes4)}, {source, data(3)}, {source, template(1, packets4, bytes4)}}, packets, 1, 0},
		{"of another port", []sent{{source2, template(1, bytes4, packets4)}, {source, data(2)}}, "", 0, 1},
		{"another exporter's", []sent{
			{source, ipfixMessage(0, 1, set(2, templateRecord(256, ie{61, 1, 0}, ie{138, 4, 0}, ie{56, 6, 0}, ie{80, 6, 0}, ie{256, 2, 0}, ie{240, 1, 0}, bytes4, packets4)))}, {source, data(2)}}, "", 0, 1},
		{"of v9", []sent{
			{source, v9Message(0, 1, set(0, ovsTemplate(256, bytes4, packets4)))}, {source, v9Message(0, 2, data(2)[16:])}}, "", 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newWith(t, Config{TemplatesHold: time.Hour})
			var got string
			d := c.NewDecoder(&sink{f: func(r *flow.Record) { got += fmt.Sprintf("%d %d|", r.Msg.Bytes, r.Msg.Packets) }})
			for _, s := range tc.sent {
				d.Datagram(s.source, AnyFlow, s.b, testTime)
			}
			if got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if n := d.metrics.fallbacks[fallbackDomain].Load(); n != tc.taken {
				t.Errorf("%d templates taken, want %d", n, tc.taken)
			}
			if n := c.exporters.numHeld.Load(); n != tc.held {
				t.Errorf("%d sets wait, want %d", n, tc.held)
			}
			checkAccounts(t, c.exporters)
		})
	}
}

// TestOldOpenVSwitch reads what Open vSwitch 3.1 sent of three observation domains.
func TestOldOpenVSwitch(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Hour, Listeners: []Listener{{Protocols: NetFlow, Port: 2055}}})
	domains := make(map[uint32]int)
	h := &sink{f: func(r *flow.Record) { domains[r.Msg.ObservationDomainId]++ }}
	if err := c.ReadCapture(t.Context(), "../testdata/captures-ovn/ovs31-three-domains.pcap", h); err != nil {
		t.Fatal(err)
	}
	if len(domains) != 3 || domains[33554433] != 5 || domains[33554434] != 5 || domains[33554435] != 5 {
		t.Errorf("records by domain: %v", domains)
	}
}

// TestLendingRests has an address hold thousands of sets that no template fits, and announce
// another template at each look. It is not looked through each time: with as many sets as there
// is room for, that would take a quarter of a second, in which its other ports wait.
func TestLendingRests(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Hour})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	for i := range 20_000 {
		d.Datagram(fromPort(i+10), AnyFlow, ipfixMessage(0, 1, set(256, []byte{6})), testTime)
	}
	announce := func(i int) {
		d.Datagram(fromPort(i%2), AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256, ie{uint16(i + 1), 1, 0}))), testTime)
	}
	announce(0)
	announce(1) // so there is no one shape
	e := c.exporters.get(testSource.Addr(), testTime/1e6)
	looks := 0
	const seconds = 10
	for tick := range seconds * 4 {
		announce(tick + 2)
		now := testTime + int64(lendAfter) + int64(tick)*int64(maintenanceInterval)
		c.exporters.lendTemplates(now, false)
		if e.refusedAt == e.generation.Load() {
			looks++
		}
	}
	// 20,000 ports with a set each make a rest of 0.8 s.
	if looks == 0 || looks > seconds*5/4+1 {
		t.Errorf("%d looks in %d s", looks, seconds)
	}
}

// TestWorkersAwaitLoans has sets that get their template late. Workers look for them until then:
// one that sleeps would decode them with its next datagram, which may be long after.
func TestWorkersAwaitLoans(t *testing.T) {
	const tick = int64(maintenanceInterval)
	template := func(id uint16) []byte { return ipfixMessage(0, 1, set(2, basicTemplate(id))) }
	data := func(id uint16) []byte { return ipfixMessage(0, 1, set(id, basicRecord(40000))) }
	second := func(n float64) int64 { return testTime + int64(n*1e9) }
	for _, tc := range []struct {
		name string
		// prepare lets a set wait, and returns the time when it began to be overdue, and the
		// latest time at which it may be lent its template.
		prepare func(c *Collector, d *Decoder) (from, until int64)
	}{
		{"the address rests", func(c *Collector, d *Decoder) (from, until int64) {
			c.exporters.holdExporter = 64 << 20
			for i := range 60_000 { // that nobody has a template for
				d.Datagram(fromPort(i+10), AnyFlow, data(999), testTime)
			}
			c.exporters.lendTemplates(second(10.5), false)
			d.Datagram(fromPort(1), AnyFlow, template(256), second(13))
			d.Datagram(fromPort(2), AnyFlow, data(256), second(13)) // to be lent from 23 s on
			d.Datagram(fromPort(1), AnyFlow, template(257), second(22.9))
			c.exporters.lendTemplates(second(22.9), false) // looks through all, and rests
			return second(23), second(26)
		}},
		{"the template comes later", func(c *Collector, d *Decoder) (from, until int64) {
			d.Datagram(fromPort(2), AnyFlow, data(256), testTime)
			c.exporters.lendTemplates(second(11), false)
			d.Datagram(fromPort(1), AnyFlow, template(256), second(100.6))
			return second(100.6), second(101)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newWith(t, Config{TemplatesHold: time.Hour})
			records := 0
			d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
			from, until := tc.prepare(c, d)
			now := from
			for ; now < until+tick && records == 0; now += tick {
				if !c.exporters.waitsToLend(now) {
					t.Fatalf("after %d s a worker would sleep", (now-testTime)/1e9)
				}
				c.exporters.lendTemplates(now, false)
				d.decodeLent()
			}
			if records != 1 {
				t.Errorf("%d records", records)
			}
			if now = second(1000); c.exporters.waitsToLend(now) {
				t.Error("workers never sleep")
			}
		})
	}
}
