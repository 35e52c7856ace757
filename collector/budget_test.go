package collector

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// testTemplate makes a template of so many fields, the id-th one of a domain.
// Templates have the same shape if shape and fields are equal.
func testTemplate(domain uint32, id, shape, fields int) *template {
	f := make([]netflow.Field, fields)
	for i := range f {
		f[i] = netflow.Field{Type: uint16(1 + i), Length: 4}
	}
	f[0].Type = uint16(shape)
	return newTemplate(templateKey{domain, 10, uint16(256 + id)}, nil, f, false)
}

// setSelectorRate has port 1 tell the rate of a selector.
func setSelectorRate(e *exporter, domain uint32, selector, rate uint64) {
	e.setRate(optionKey{id: selector, domain: domain, version: 10, port: 1, kind: forSelector}, rate, 1)
}

// fills are what an exporter table may be full of.
var fills = map[string]func(t *exporters){
	"many exporters of shared shapes": func(t *exporters) {
		for i := range 500 {
			e := t.get(forged(i).Addr(), 1)
			for domain := range uint32(4) {
				for id := range 88 {
					e.learnTemplate(testTemplate(domain, id, (i+id)%200, 30), 1, 1)
				}
			}
		}
	},
	"one exporter of many shapes": func(t *exporters) {
		e := t.get(forged(1).Addr(), 1)
		for i := range 2000 {
			e.learnTemplate(testTemplate(0, i, i, 50), 1, 1)
		}
	},
	"small shapes": func(t *exporters) {
		for i := range 50_000 {
			t.get(forged(i/1000).Addr(), 1).learnTemplate(testTemplate(0, i%1000, i, 1+i>>16), 1, 1)
		}
	},
	"one template an exporter": func(t *exporters) {
		for i := range 20_000 {
			t.get(forged(i).Addr(), 1).learnTemplate(testTemplate(1, 0, 0, 20), 1, 1)
		}
	},
	"exporters without anything": func(t *exporters) {
		for i := range 40_000 {
			t.get(forged(i).Addr(), 1)
		}
	},
	"sampling rates": func(t *exporters) {
		for i := range 50 {
			e := t.get(forged(i).Addr(), 1)
			for s := range 1000 {
				setSelectorRate(e, 1, uint64(s+1), 5)
			}
		}
	},
	"boot times": func(t *exporters) {
		for i := range 50 {
			e := t.get(forged(i).Addr(), 1)
			for domain := range uint32(1000) {
				e.setBootTime(1, domain, 5, 1)
			}
		}
	},
	"names": func(t *exporters) {
		for i := range 50 {
			e := t.get(forged(i).Addr(), 1)
			for n := range 1000 {
				e.learnName(announcedName{
					nameKey: nameKey{nameOfInterface, uint64(n % 300)}, nameSource: nameSource{1, uint16(n / 100), 1},
					name: fmt.Append(nil, "eth", n), description: []byte("uplink"),
				})
			}
		}
	},
	"templates that change": func(t *exporters) {
		for i := range 100 {
			e := t.get(forged(i).Addr(), 1)
			for round := range 20 {
				for id := range 200 {
					e.learnTemplate(testTemplate(0, id, i*20+round, 30), 1, 1)
				}
			}
		}
	},
	"more than all budgets": func(t *exporters) {
		t.totalBudget, t.exporterBudget = 8<<20, 1<<20
		for i := range 100 {
			e := t.get(forged(i).Addr(), 1)
			for n := range 3000 {
				e.learnTemplate(testTemplate(uint32(n%7), n, (i*3000+n)%50_000, 1+n%40), 1, int64(n))
				setSelectorRate(e, uint32(n), uint64(n+1), 5)
				e.setBootTime(1, uint32(n), 5, 1)
				e.learnName(announcedName{nameKey: nameKey{nameOfVRF, uint64(n)}, nameSource: nameSource{1, uint16(n), 1}, name: make([]byte, n%maxNameLen)})
			}
		}
	},
}

// TestBudgetIsTrue holds the bytes that are counted to the growth of the live heap:
// it is at most a tenth above them, and they are at most a third above it.
func TestBudgetIsTrue(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector takes memory, too")
	}
	for name, fill := range fills {
		t.Run(name, func(t *testing.T) {
			table := newExporters(0, new(workerMetrics))
			grown := heapGrowth(func() { fill(table) })
			counted := table.bytes.Load()
			t.Logf("%d exporters, %d templates: %d KiB on the heap, %d KiB counted", table.len(), table.numTemplates.Load(), grown>>10, counted>>10)
			if grown > counted*11/10 || counted > grown*4/3 {
				t.Errorf("%d bytes on the heap, %d counted", grown, counted)
			}
			if counted > table.totalBudget {
				t.Errorf("%d bytes of %d", counted, table.totalBudget)
			}
			checkAccounts(t, table)
			// All of it is counted back.
			table.mu.Lock()
			for table.evict(nil) {
			}
			table.mu.Unlock()
			if n := table.bytes.Load(); n != 0 || table.numTemplates.Load() != 0 || table.shapes.len() != 0 {
				t.Errorf("%d bytes, %d templates, %d shapes of no exporter", n, table.numTemplates.Load(), table.shapes.len())
			}
		})
	}
}

// checkAccounts adds up anew what was counted of each exporter and of all.
func checkAccounts(t *testing.T, table *exporters) {
	t.Helper()
	total := table.byAddr.bytes() + table.shapes.bytes()
	for _, s := range table.shapes.all() {
		total += s.bytes()
	}
	for _, e := range table.list() {
		shapes := make(map[*shape]int32)
		var sessionBytes int64
		for _, s := range e.sessions.all() {
			sessionBytes += s.bytes()
			var first int64
			for _, l := range s.templates.all() {
				shapes[l.shape]++
				if l.first {
					first += l.shape.bytes()
				}
			}
			if s.templates.len() == 0 || s.shapeBytes != first {
				t.Errorf("a session has %d templates; shapes of %d bytes, counted %d", s.templates.len(), first, s.shapeBytes)
			}
		}
		if e.sessionBytes != sessionBytes || int(e.numSessions.Load()) != e.sessions.len() {
			t.Errorf("%d sessions take %d bytes, counted %d, %d", e.sessions.len(), sessionBytes, e.numSessions.Load(), e.sessionBytes)
		}
		for _, l := range e.lent.all() {
			shapes[l.shape]++
		}
		var shapeBytes int64
		for s, n := range shapes {
			shapeBytes += s.bytes()
			if uses := e.shapeUses.get(s); uses == nil || *uses != n {
				t.Errorf("a shape is used %d times, counted %v", n, uses)
			}
		}
		if e.shapeBytes != shapeBytes || e.bytes.Load() != e.ownBytes+shapeBytes || e.bytes.Load() > e.budget()+table.sessionBudget {
			t.Errorf("an exporter takes %d + %d bytes, counted %d", e.ownBytes, shapeBytes, e.bytes.Load())
		}
		total += e.ownBytes
	}
	if n := table.bytes.Load(); n != total {
		t.Errorf("%d bytes are counted, there are %d", n, total)
	}
}

// TestBudgetFits has a fleet and a large exporter, of the sizes that the budgets
// are for. Nothing of theirs is evicted.
func TestBudgetFits(t *testing.T) {
	if testing.Short() || race.Enabled {
		t.Skip("takes seconds")
	}
	var shapes [200]*template
	for i := range shapes {
		shapes[i] = testTemplate(0, 0, i, 50)
	}
	learn := func(e *exporter, port uint16, domains, templates int) {
		for domain := range uint32(domains) {
			for id := range templates {
				e.learnTemplate(&template{templateKey{domain, 10, uint16(256 + id)}, shapes[(id+int(domain)*50)%len(shapes)].shape}, port, 1)
			}
		}
	}
	t.Run("4,096 exporters of 4 domains", func(t *testing.T) {
		table := newExporters(0, new(workerMetrics))
		for i := range 4096 {
			learn(table.get(forged(i).Addr(), 1), 1, 4, 88)
		}
		if n := table.numTemplates.Load(); n != 4096*4*88 {
			t.Errorf("%d templates of %d fit", n, 4096*4*88)
		}
		t.Logf("%d MiB of %d", table.bytes.Load()>>20, table.totalBudget>>20)
	})
	t.Run("4,096 ports of 4 domains", func(t *testing.T) {
		for _, s := range shapes {
			s.openVSwitch = true // has one more table
			defer func() { s.openVSwitch = false }()
		}
		table := newExporters(0, new(workerMetrics))
		e := table.get(forged(1).Addr(), 1)
		for port := range uint16(4096) {
			learn(e, port, 4, 88)
			for domain := range uint32(4) {
				e.setBootTime(port, domain, 5, 1)
				e.setRate(optionKey{domain: domain, version: 10, port: port, kind: forSelector, id: 1}, 100, 1)
			}
		}
		if n := table.numTemplates.Load(); n != 4096*4*88 || e.rates.values.len() != 4096*4 || e.bootTimes.values.len() != 4096*4 {
			t.Errorf("%d templates of %d, %d rates, %d boot times fit", n, 4096*4*88, e.rates.values.len(), e.bootTimes.values.len())
		}
		t.Logf("%d MiB of %d", table.bytes.Load()>>20, e.budget()>>20)
	})
	t.Run("one exporter of 64 domains", func(t *testing.T) {
		table := newExporters(0, new(workerMetrics))
		e := table.get(forged(1).Addr(), 1)
		learn(e, 1, 64, 89)
		for domain := range uint32(64) {
			e.setBootTime(1, domain, 5, 1)
			for sampler := range uint64(100) {
				setSelectorRate(e, domain, sampler+1, 5+sampler)
			}
		}
		if e.countTemplates() != 64*89 || e.rates.values.len() != 6400 || e.bootTimes.values.len() != 64 {
			t.Errorf("%d templates, %d rates, %d boot times fit", e.countTemplates(), e.rates.values.len(), e.bootTimes.values.len())
		}
		t.Logf("%d KiB of %d", e.bytes.Load()>>10, table.exporterBudget>>10)
	})
}

// TestExporterBudget fills one exporter's budget. Its own templates go, those first
// that were not refreshed for long, and no kind of thing leaves another without
// room.
func TestExporterBudget(t *testing.T) {
	table := newExporters(0, new(workerMetrics))
	other := table.get(forged(2).Addr(), 1)
	other.learnTemplate(testTemplate(0, 0, 0, 10), 1, 1)
	e := table.get(forged(1).Addr(), 1)
	const n = 200_000
	for i := range n {
		setSelectorRate(e, 1, uint64(i+1), 5)
		e.setBootTime(1, uint32(i), 5, 1)
	}
	for i := range n {
		e.learnTemplate(testTemplate(uint32(i/60_000), i%60_000, i%60_000, 10), 1, int64(i))
		if i%100 == 0 { // long before it would be the oldest of a few
			for refreshed := range 10 {
				e.learnTemplate(testTemplate(9, refreshed, 1, 10), 1, int64(i))
			}
		}
	}
	t.Logf("%d templates, %d rates, %d boot times", e.countTemplates(), e.rates.values.len(), e.bootTimes.values.len())
	if e.countTemplates() < 1000 || e.rates.values.len() < 10_000 || e.bootTimes.values.len() < 10_000 {
		t.Errorf("%d templates, %d rates, %d boot times", e.countTemplates(), e.rates.values.len(), e.bootTimes.values.len())
	}
	for refreshed := range 10 {
		if _, _, ok := e.template(templateKey{9, 10, uint16(256 + refreshed)}, 1); !ok {
			t.Errorf("template %d was refreshed and went", refreshed)
		}
	}
	if other.countTemplates() != 1 || table.len() != 2 {
		t.Error("it pushed out another exporter")
	}
	checkAccounts(t, table)
}

// TestEvictionOrder fills the table of exporters: first go those without records,
// then those that take most.
func TestEvictionOrder(t *testing.T) {
	table := newExporters(0, new(workerMetrics))
	fill := func(i, templates int, used bool) *exporter {
		e := table.get(forged(i).Addr(), int64(i))
		for id := range templates {
			e.learnTemplate(testTemplate(0, id, i*10+id, 10), 1, 1)
		}
		if used {
			e.markUsed()
		}
		return e
	}
	idle, small, large, older := fill(1, 1, false), fill(2, 1, true), fill(3, 9, true), fill(0, 1, true)
	for _, want := range []*exporter{idle, large, older, small} {
		table.mu.Lock()
		table.evict(nil)
		table.mu.Unlock()
		if !want.evicted.Load() {
			t.Fatalf("%v is still there", want.addr)
		}
	}
}

// decodeCapture decodes a capture as change makes it: first all templates, then all
// data of each of n senders. It returns the number of records.
func decodeCapture(t *testing.T, n int, change func(i int, g datagram) datagram) uint64 {
	t.Helper()
	c, _ := newWith(t, Config{TemplatesHold: time.Minute})
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	capture := readCapture(t, "ovs-ipfix")
	for _, templates := range []bool{true, false} {
		for i := range n {
			for _, g := range capture {
				if isTemplates := binary.BigEndian.Uint16(g.payload[16:]) < 256; isTemplates == templates {
					g = change(i, g)
					d.Datagram(g.source, AnyFlow, g.payload, g.received)
				}
			}
		}
	}
	if dropped := d.metrics.sets[setHoldFull].Load() + c.own.sets[setHoldFull].Load(); dropped > 0 || c.exporters.numHeld.Load() > 0 {
		t.Errorf("%d sets dropped, %d wait", dropped, c.exporters.numHeld.Load())
	}
	checkCaches(t, d)
	return d.metrics.records[protoIPFIX].Load()
}

// TestManyDomains has one Open vSwitch send what is in a capture in each of many
// observation domains.
func TestManyDomains(t *testing.T) {
	for _, n := range []int{1, 16, 64} {
		got := decodeCapture(t, n, func(i int, g datagram) datagram {
			g.payload = slices.Clone(g.payload)
			binary.BigEndian.PutUint32(g.payload[12:], 0x02000001+uint32(i))
			return g
		})
		if got != uint64(105*n) {
			t.Errorf("%d records of %d domains, want %d", got, n, 105*n)
		}
	}
}

// TestFleet has many Open vSwitches send what is in a capture.
func TestFleet(t *testing.T) {
	n := 4000
	if testing.Short() || race.Enabled {
		n = 200
	}
	got := decodeCapture(t, n, func(i int, g datagram) datagram {
		g.source = netip.AddrPortFrom(forged(i).Addr(), g.source.Port())
		return g
	})
	if got != uint64(105*n) {
		t.Errorf("%d records of %d exporters, want %d", got, n, 105*n)
	}
}

// TestManyPorts has many Open vSwitches send from one address, behind a NAT. Each has
// its templates.
func TestManyPorts(t *testing.T) {
	n := 4000
	if testing.Short() || race.Enabled {
		n = 50
	}
	got := decodeCapture(t, n, func(i int, g datagram) datagram {
		g.source = netip.AddrPortFrom(g.source.Addr(), uint16(i))
		return g
	})
	if got != uint64(105*n) {
		t.Errorf("%d records of %d ports, want %d", got, n, 105*n)
	}
}

// TestHostilePorts floods an address that honest exporters share, from other ports: one
// with ever new templates, and ever other ports. The honest keep their templates.
func TestHostilePorts(t *testing.T) {
	const honest = 500
	from := func(port int) netip.AddrPort { return netip.AddrPortFrom(testSource.Addr(), uint16(port)) }
	for name, flood := range map[string]func(d *Decoder, i int){
		"one port": func(d *Decoder, i int) {
			d.Datagram(from(60_000), AnyFlow, ipfixMessage(0, uint32(i), set(2, templateRecord(256, ie{uint16(i), 4, 0}, ie{uint16(i >> 16), 4, 0}))), d.received)
		},
		"other ports": func(d *Decoder, i int) {
			d.Datagram(from(1000+i%60_000), AnyFlow, ipfixMessage(0, uint32(i), set(2, smallTemplates(100))), d.received)
		},
		"ports of another address": func(d *Decoder, i int) {
			source := netip.AddrPortFrom(forged(1).Addr(), uint16(i))
			d.Datagram(source, AnyFlow, ipfixMessage(0, uint32(i), set(2, smallTemplates(100)), set(256, bytes.Repeat([]byte{1}, 300))), d.received)
		},
		"other addresses": func(d *Decoder, i int) {
			d.Datagram(forged(i), AnyFlow, ipfixMessage(0, uint32(i), set(2, smallTemplates(100))), d.received)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newWith(t, Config{TemplatesHold: time.Minute})
			c.exporters.totalBudget, c.exporters.exporterBudget, c.exporters.sessionBudget = 16<<20, 512<<10, 8<<10
			records := 0
			d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
			for _, b := range [][]byte{ipfixMessage(0, 1, set(2, basicTemplate(256))), ipfixMessage(0, 1, set(256, basicRecord(1)))} {
				for port := range honest {
					d.Datagram(from(port), AnyFlow, b, testTime)
				}
			}
			for i := range 40_000 {
				flood(d, i)
			}
			for port := range honest {
				d.Datagram(from(port), AnyFlow, ipfixMessage(1, 1, set(256, basicRecord(1))), testTime)
			}
			if records != 2*honest {
				t.Errorf("%d records of %d", records, 2*honest)
			}
			e := c.exporters.get(testSource.Addr(), 0)
			if e.bytes.Load() > e.budget()+c.exporters.sessionBudget || c.exporters.bytes.Load() > c.exporters.totalBudget {
				t.Errorf("%d bytes of one address, %d in all", e.bytes.Load(), c.exporters.bytes.Load())
			}
			checkAccounts(t, c.exporters)
		})
	}
}

// TestPeersAreEvictedOneByOne floods a worker with sources. One that sends all the
// time is followed all the time.
func TestPeersAreEvictedOneByOne(t *testing.T) {
	c, _ := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), testTime)
	seq := uint32(0)
	n := 2 * peersBudget / peerBytes
	for i := range n {
		now := testTime + int64(i)*1e6
		d.Datagram(forged(i), AnyFlow, v5Message(1, v5Record(1)), now)
		if i%100 == 0 { // long before it would be the oldest of a few
			d.Datagram(testSource, AnyFlow, ipfixMessage(seq, 1, set(256, basicRecord(40000))), now)
			seq += 2 // a record is lost each time
		}
	}
	d.closeGaps(0, true)
	if lost := d.metrics.sequenceLost[protoIPFIX].Load(); lost != uint64(seq/2-1) {
		t.Errorf("%d lost, want %d", lost, seq/2-1)
	}
	if len(d.peers) < n/4 {
		t.Errorf("%d peers are left", len(d.peers))
	}
	checkCaches(t, d)
}

// TestPeerOfManyDatagrams has a source send more datagrams than its counter can hold. It is not
// taken for one that has sent none, which would be the first to go.
func TestPeerOfManyDatagrams(t *testing.T) {
	c, _ := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	d.Datagram(testSource, AnyFlow, v5Message(1, v5Record(1)), testTime)
	p := d.peers[testSource]
	p.datagrams = math.MaxUint32 - 2
	var worth []uint32
	for i := range 6 {
		d.Datagram(testSource, AnyFlow, v5Message(1, v5Record(1)), testTime+int64(i+1)*1e9)
		worth = append(worth, d.slots[p.slot].worth)
	}
	if slices.Min(worth) != slices.Max(worth) {
		t.Errorf("worth %d", worth)
	}
}

// TestRecordDecodersAreEvictedOneByOne has a source send more shapes than there is
// room for. Each of its records is decoded.
func TestRecordDecodersAreEvictedOneByOne(t *testing.T) {
	c, _ := newTestCollector(t)
	got := make(map[string]int)
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { got[tuple(r)]++ }})
	basic := ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000)))
	least := 1 << 30
	const n = 3000
	for i := range n {
		// A record of 20,004 bytes, of a shape of its own.
		b := ipfixMessage(0, 1, set(2, templateRecord(300, ie{8, 4, 0}, ie{uint16(1000 + i), 20_000, 0})), set(300, be(uint32(i+1)), make([]byte, 20_000)))
		d.Datagram(testSource, AnyFlow, b, testTime+int64(i))
		d.Datagram(testSource, AnyFlow, basic, testTime+int64(i))
		if i > n/2 {
			least = min(least, len(d.recordDecoders))
		}
	}
	if got[basicTuple] != n || len(got) != n+1 {
		t.Errorf("%d records of %d, and %d other ones", got[basicTuple], n, len(got)-1)
	}
	if least < 100 {
		t.Errorf("only %d record decoders were left", least)
	}
	checkCaches(t, d)
}

// TestWorkersShareBudget has several workers learn, use and lose templates of the
// same exporters at once. What is counted is right at the end.
func TestWorkersShareBudget(t *testing.T) {
	c, _ := newWith(t, Config{TemplatesHold: time.Minute})
	c.exporters.totalBudget, c.exporters.exporterBudget = 1<<20, 128<<10
	c.cfg.Fields.Add(flow.FieldInIfName)
	const workers = 4
	var wg sync.WaitGroup
	for w := range workers {
		d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
		wg.Go(func() {
			for i := range 4000 {
				source := netip.AddrPortFrom(forged(i*7%500).Addr(), uint16(w%2+1))
				domain, id := uint32(i%3), uint16(256+i%40)
				d.Datagram(source, AnyFlow, ipfixMessage(0, domain,
					set(id, be(uint32(1))), // waits now and then
					set(2, templateRecord(id, ie{uint16(1000 + (i+w)%300), 4, 0})),
					set(3, optionsRecord(400, 1, ie{302, 4, 0}, ie{34, 4, 0}, ie{160, 8, 0})),
					set(400, be(uint32(i), uint32(i), uint64(i))),
					set(3, optionsRecord(401, 1, ie{10, 2, 0}, ie{82, 4, 0})),
					set(401, be(uint16(i%5+1), uint32(i)), be(uint16(i%7+1), "eth0")),
					set(2, templateRecord(255+256, ie{8, 4, 0}, ie{10, 2, 0})),
					set(255+256, be(uint32(i), uint16(i%7+1))),
					set(id, be(uint32(1)))), testTime+int64(i))
				// Another port has sent no template.
				source = netip.AddrPortFrom(source.Addr(), uint16(9+i%2))
				d.Datagram(source, AnyFlow, ipfixMessage(0, domain, set(id, be(uint32(1)))), testTime+int64(i))
				if i%100 == w {
					c.exporters.lendTemplates(testTime+int64(i), true)
				}
				d.decodeLent()
			}
			c.exporters.lendTemplates(testTime, true)
			d.decodeLent()
			if n := d.metrics.drops[dropPanic].Load(); n > 0 {
				t.Errorf("%d panics", n)
			}
			checkCaches(t, d)
		})
	}
	f := newTemplatesFile(filepath.Join(t.TempDir(), "templates"))
	defer f.close()
	for range 20 {
		if err := c.WriteExporters(io.Discard); err != nil {
			t.Error(err)
		}
		f.rewrite = !f.rewrite
		if err := f.save(c.exporters, time.Now(), true); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	checkAccounts(t, c.exporters)
	if n := c.exporters.bytes.Load(); n > c.exporters.totalBudget {
		t.Errorf("%d bytes", n)
	}
	c.exporters.expireHeld(0, c.own)
	if c.exporters.numHeld.Load() != 0 || c.exporters.heldBytes.Load() != 0 {
		t.Errorf("%d sets, %d bytes are held", c.exporters.numHeld.Load(), c.exporters.heldBytes.Load())
	}
}
