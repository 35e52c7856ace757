package collector

import (
	"bytes"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

func forged(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 2055)
}

func fromPort(i int) netip.AddrPort { return netip.AddrPortFrom(testSource.Addr(), uint16(i+1)) }

// smallTemplates is a set of n templates of one field, all of different shapes.
func smallTemplates(n int) []byte {
	return set(2, repeat(n, func(i int) []byte { return templateRecord(uint16(256+i), ie{uint16(1000 + i), 4, 0}) })...)
}

// smallBudget is a budget of all exporters that tests fill in little time.
const smallBudget = 2 << 20

// floods are what a hostile sender might fill our memory with, at the least
// cost to him that we know of.
var floods = map[string]func(d *Decoder){
	"plans of many fields": func(d *Decoder) {
		// 1,024 fields that a record of one byte has, if fields may be empty, and
		// all templates of different shapes.
		fields := slices.Repeat([]ie{{8, 0, 0}}, 1024)
		fields[0].length = 1
		for i := range 16 {
			var data [][]byte
			for id := range uint16(32) {
				fields[1].typ = uint16(i)<<8 + id
				d.Datagram(forged(i), AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256+id, fields...))), testTime)
				data = append(data, set(256+id, []byte{1}))
			}
			for port := range 20 {
				d.Datagram(netip.AddrPortFrom(forged(i).Addr(), uint16(port+1)), AnyFlow, ipfixMessage(0, 1, data...), testTime)
			}
		}
	},
	"plans of long records": func(d *Decoder) {
		for i := range 14_000 {
			id := uint16(256 + i%4000)
			b := ipfixMessage(0, 1, set(2, templateRecord(id, ie{82, uint16(40_000 + i), 0})), set(id, []byte{1}))
			d.Datagram(forged(i/4000), AnyFlow, b, testTime)
		}
	},
	"small templates": func(d *Decoder) {
		b := ipfixMessage(0, 1, smallTemplates(4096))
		for i := range 200 {
			d.Datagram(forged(i), AnyFlow, b, testTime)
		}
	},
	"large templates": func(d *Decoder) {
		large := slices.Repeat([]ie{{8, 4, 0}}, 1024)
		for i := range 128 {
			for id := range uint16(64) {
				large[0].typ = uint16(i)<<8 + id // a shape of its own
				d.Datagram(forged(i), AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256+id, large...))), testTime)
			}
		}
	},
	"samplers": func(d *Decoder) {
		b := ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{302, 4, 0}, ie{34, 4, 0})),
			set(300, repeat(100, func(i int) []byte { return be(uint32(i+1), uint32(i+1)) })...))
		for i := range 4096 {
			d.Datagram(forged(i), AnyFlow, b, testTime)
		}
	},
	"sequence numbers of many ports": func(d *Decoder) {
		for domain := range uint32(256) {
			for port := range 2000 {
				d.Datagram(fromPort(port), AnyFlow, ipfixMessage(domain<<20, domain*77), testTime)
			}
		}
	},
	"sequence numbers that jump": func(d *Decoder) {
		for i := range 200_000 {
			d.Datagram(forged(i), AnyFlow, ipfixMessage(0, 1), testTime)
			d.Datagram(forged(i), AnyFlow, ipfixMessage(1000, 1), testTime)
		}
	},
	"short data sets without template": func(d *Decoder) {
		b := ipfixMessage(0, 1, slices.Repeat([][]byte{set(999, []byte{1})}, 7000)...)
		for i := range 80 {
			d.Datagram(forged(i), AnyFlow, b, testTime)
		}
	},
	"data sets without template": func(d *Decoder) {
		b := ipfixMessage(0, 1, set(999, bytes.Repeat([]byte{1}, 60_000))) // cannot be packed
		for i := range 300 {
			for range 20 {
				d.Datagram(forged(i), AnyFlow, b, testTime)
			}
		}
	},
}

// TestMemoryBounds floods a decoder in every way that makes it remember
// something. What it then has on its heap is bounded.
func TestMemoryBounds(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector takes memory, too")
	}
	for name, flood := range floods {
		t.Run(name, func(t *testing.T) {
			c, _ := newWith(t, Config{TemplatesHold: time.Minute})
			c.exporters.totalBudget = 16 << 20
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			grown := heapGrowth(func() { flood(d) })
			limit := int64(50 << 20)
			if name == "data sets without template" {
				limit = MaxHold + 10<<20
			}
			if grown > limit {
				t.Errorf("the heap has grown by %d MiB", grown>>20)
			}
			counted := c.exporters.bytes.Load() + c.exporters.heldBytes.Load() + int64(d.peersBytes+d.decodersBytes)
			t.Logf("%d KiB on the heap; %d KiB counted of the table, %d of held sets, %d of peers, %d of record decoders", grown>>10,
				c.exporters.bytes.Load()>>10, c.exporters.heldBytes.Load()>>10, d.peersBytes>>10, d.decodersBytes>>10)
			// Trackers with open gaps are counted by their number.
			if gaps := int64(len(d.gaps)) * 1024; grown > counted*11/10+gaps+1<<20 {
				t.Errorf("%d bytes on the heap, %d counted", grown, counted)
			}
			checkCaches(t, d)
			checkAccounts(t, c.exporters)
			runtime.KeepAlive(c)
			runtime.KeepAlive(d)
		})
	}
}

// TestEstablishedExporter floods the table of exporters with forged ones that
// have templates. An exporter that was there before keeps its own.
func TestEstablishedExporter(t *testing.T) {
	c, _ := newTestCollector(t)
	c.exporters.totalBudget = smallBudget
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	now := testTime
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), now)
	want := 0
	for i := range 20_480 {
		if i%500 == 0 {
			now += 1e9
			d.Datagram(testSource, AnyFlow, ipfixMessage(uint32(want), 1, set(256, basicRecord(40000))), now)
			want++
		}
		d.Datagram(forged(i), AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), now)
	}
	if records != want {
		t.Errorf("%d records decoded of %d", records, want)
	}
}

// TestNewExporter fills the table of templates from a few forged sources. An
// exporter that comes later finds room for its own.
func TestNewExporter(t *testing.T) {
	c, _ := newTestCollector(t)
	c.exporters.totalBudget = 16 << 20
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	floods["large templates"](d)
	floods["small templates"](d)
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(40000))), testTime)
	if records != 1 {
		t.Error("its template was not taken")
	}
}

// TestHonestPeersKeepState floods a worker from forged sources in every way that fills its
// caches. What it keeps of honest sources stays: sequence numbers, gaps that may yet be
// filled, and record decoders.
func TestHonestPeersKeepState(t *testing.T) {
	const sources = 40
	honest := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 0, byte(i)}), 2055)
	}
	for name, flood := range map[string]func(i int) datagram{
		"sources": func(i int) datagram { return datagram{forged(i), ipfixMessage(0, 1), testTime} },
		"gaps": func(i int) datagram {
			return datagram{forged(i / 2), ipfixMessage(uint32(i%2*1000), 1), testTime}
		},
		"domains of many ports": func(i int) datagram {
			return datagram{fromPort(i / 256), ipfixMessage(0, uint32(i%256)), testTime}
		},
		"bindings": func(i int) datagram {
			if i < 30 {
				return datagram{fromPort(i), ipfixMessage(0, 1, set(2, templateRecord(256, ovsFields()...))), testTime}
			}
			return datagram{fromPort(i % 30), ipfixMessage(0, uint32(i/30), set(256, ovsRecord(testSource.Addr(), testSource.Addr(), 1))), testTime}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			d.peersBudget = 4 << 20 // takes little time to fill
			send := func(i, sequence int, sets ...[]byte) {
				d.Datagram(honest(i), AnyFlow, ipfixMessage(uint32(sequence), 1, sets...), testTime)
			}
			for i := range sources {
				send(i, 0, set(2, basicTemplate(256)))
				for n := range 20 {
					send(i, n, set(256, basicRecord(40000)))
				}
				send(i, 21, set(256, basicRecord(40000))) // that of number 20 is late
			}
			for i := range 40_000 {
				g := flood(i)
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
			}
			if d.peersBytes < d.peersBudget*3/4 {
				t.Errorf("the flood fills %d bytes only", d.peersBytes)
			}
			// Of a random few that which goes first is evicted: by chance all may be honest.
			evicted := make(map[int]bool)
			for i := range sources {
				p := d.peers[honest(i)]
				if p == nil || p.sequences.Len() == 0 || len(p.bindings) == 0 {
					evicted[i] = true
					continue
				}
				send(i, 20, set(256, basicRecord(40000)))
				send(i, 22, set(256, basicRecord(40000)))
				send(i, 25, set(256, basicRecord(40000))) // 23 and 24 are lost
			}
			if len(evicted) > 2 {
				t.Errorf("%d of %d honest sources were evicted", len(evicted), sources)
			}
			d.closeGaps(0, true)
			for i := range sources {
				if evicted[i] {
					continue
				}
				if lost := d.peers[honest(i)].exporter.sequenceLost.Load(); lost != 2 {
					t.Errorf("source %d lost %d records, want 2", i, lost)
				}
			}
		})
	}
}
