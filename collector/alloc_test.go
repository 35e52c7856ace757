package collector

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/packet/packettest"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// TestAllocations gates the hot path: no allocation for a record of any
// exporter whose records goflow2 itself needs none for.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for name, limit := range map[string]float64{
		"ovs-ipfix": 0, "ovs-ipfix-nocache": 0, "ovs-ipfix-2node-geneve": 0, "softflowd-v10": 0, "softflowd-v10-milli": 0,
		"pmacctd-v10": 0, "ovs-sflow": 0, "pmacctd-sflow-s10": 0, "softflowd-v9": 0, "softflowd-v9-sampled10": 0, "softflowd-v5": 0, "fprobe-v5": 0, "ovs-netflow5": 0,
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			records := 0
			d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
			all := readCapture(t, name)
			var data []datagram // of records alone: templates and options may allocate
			for _, g := range all {
				templates := d.metrics.sets[setTimeout].Load()
				before := records
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
				if records > before && d.metrics.sets[setTimeout].Load() == templates && onlyData(g.payload) {
					data = append(data, g)
				}
			}
			if len(data) == 0 {
				t.Fatal("no datagram of records alone")
			}
			run := func() {
				for _, g := range data {
					d.Datagram(g.source, AnyFlow, g.payload, g.received)
				}
			}
			run()
			records = 0
			run()
			perRun := records
			if got := testing.AllocsPerRun(20, run) / float64(perRun); got > limit {
				t.Errorf("%.3f allocations a record in %d datagrams of %d records, want at most %v", got, len(data), perRun, limit)
			}
		})
	}
}

// TestDroppedAllocations gates datagrams that are dropped: anybody may send them, and as many.
func TestDroppedAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for name, c := range map[string]struct {
		allowed  Protocols
		datagram []byte
		allow    string
	}{
		"IPFIX at a port for sFlow":      {SFlow, ipfixMessage(0, 1, set(2, basicTemplate(256))), ""},
		"NetFlow v5 at a port for sFlow": {SFlow, v5Message(1, v5Record(1)), ""},
		"sFlow at a port for NetFlow":    {NetFlow, sflowMessage(), ""},
		"no protocol":                    {AnyFlow, []byte("GET / HTTP/1.1"), ""},
		"malformed":                      {AnyFlow, ipfixMessage(0, 1, set(2, basicTemplate(256)))[:18], ""},
		"of nobody who may send":         {AnyFlow, v5Message(1, v5Record(1)), "203.0.113.0/24"},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg Config
			if c.allow != "" {
				cfg.Allow = []netip.Prefix{netip.MustParsePrefix(c.allow)}
			}
			collector, _ := newWith(t, cfg)
			d := collector.NewDecoder(&sink{f: func(*flow.Record) { t.Error("a record") }})
			d.Datagram(testSource, c.allowed, c.datagram, testTime) // this one is logged
			if n := testing.AllocsPerRun(100, func() {
				d.Datagram(testSource, c.allowed, c.datagram, testTime)
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// TestSampleAllocations gates the reading of sampled packets of all kinds, and of the
// structures beside them.
func TestSampleAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	c, _ := newTestCollector(t)
	records := 0
	d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
	var all [][]byte
	fields := [][]ie{{{315, 0xffff, 0}}, {{313, 0xffff, 0}}}
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256, fields[0]...), templateRecord(257, fields[1]...))), testTime)
	hop := be(uint32(1), ip4)
	for _, p := range packettest.Packets() {
		all = append(all,
			sflowMessage(flowSample(1, 2, rawHeader(1, 100, p.Frame),
				structure(1002, hop, uint32(24), uint32(25)), structure(1001, uint32(1), uint32(0), uint32(2), uint32(0)),
				structure(1003, hop, uint32(1), uint32(2), uint32(3), uint32(1), uint32(2), uint32(2), uint32(4), uint32(5), uint32(1), uint32(6), uint32(7)))),
			sflowMessage(discarded(1, 2, 258, rawHeader(1, 100, p.Frame))),
			ipfixMessage(0, 1, set(256, be(uint8(len(p.Frame)), p.Frame))),
			ipfixMessage(0, 1, set(257, be(uint8(len(p.Frame)-14), p.Frame[14:]))))
	}
	run := func() {
		for _, b := range all {
			d.Datagram(testSource, AnyFlow, b, testTime)
		}
	}
	run()
	if records != len(all) {
		t.Fatalf("%d records of %d datagrams", records, len(all))
	}
	if n := testing.AllocsPerRun(20, run); n > 0 {
		t.Errorf("%v allocations in %d datagrams", n, len(all))
	}
}

// onlyData reports whether a datagram has data sets alone.
func onlyData(b []byte) bool {
	switch protocolOf(b) {
	case protoIPFIX:
		b = b[16:]
	case protoNetFlow9:
		b = b[20:]
	default:
		return true
	}
	for len(b) >= 4 {
		id, n := int(b[0])<<8|int(b[1]), int(b[2])<<8|int(b[3])
		if id < 256 || n < 4 || n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// ovsTemplate is the template of Open vSwitch for TCP over IPv4.
func ovsFields() []ie {
	return []ie{{138, 4, 0}, {61, 1, 0}, {56, 6, 0}, {80, 6, 0}, {256, 2, 0}, {240, 1, 0}, {10, 4, 0}, {60, 1, 0}, {192, 1, 0}, {4, 1, 0},
		{195, 1, 0}, {8, 4, 0}, {12, 4, 0}, {7, 2, 0}, {11, 2, 0}, {158, 4, 0}, {159, 4, 0}, {1, 8, 0}, {2, 8, 0}, {136, 1, 0}, {352, 8, 0}, {85, 8, 0}, {86, 8, 0}}
}

func ovsRecord(src, dst netip.Addr, port uint16) []byte {
	return be(uint32(0), uint8(0), "\x0a\x58\x0a\xf4\x00\x05", "\x0a\x58\x0a\xf4\x00\x01", uint16(0x800), uint8(14), uint32(6), uint8(4), uint8(64), uint8(6),
		uint8(0), src, dst, port, uint16(443), uint32(2_000_000), uint32(1_000), uint64(104844), uint64(93), uint8(2), uint64(106146), uint64(255892), uint64(305))
}

func BenchmarkDecode(b *testing.B) {
	for name, n := range map[string]int{"ipfix/1": 1, "ipfix/25": 25} {
		b.Run(name, func(b *testing.B) {
			c, _ := newTestCollector(b)
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			d.Datagram(testSource, AnyFlow, ipfixMessage(0, 0, set(2, templateRecord(256, ovsFields()...))), testTime)
			var records []byte
			for i := range n {
				records = append(records, ovsRecord(netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), netip.AddrFrom4([4]byte{10, 96, 0, 1}), 40000)...)
			}
			g := ipfixMessage(0, 0, set(256, records))
			b.ReportAllocs()
			for b.Loop() {
				d.Datagram(testSource, AnyFlow, g, testTime)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/record")
		})
	}
}

// TestValueAllocations gates the records that choices, label stacks, biflows and the
// like are for.
func TestValueAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	zero4, zero6 := addr("0.0.0.0"), addr("::")
	record := []val{{8, addr("10.0.0.1")}, {12, addr("10.0.0.2")}, {27, zero6}, {28, zero6}, {60, uint8(4)}, {15, zero4}, {62, zero6}, {18, zero4}, {63, zero6},
		{9, uint8(24)}, {29, uint8(0)}, {13, uint8(24)}, {30, uint8(0)}, {56, make([]byte, 6)}, {81, make([]byte, 6)}, {80, make([]byte, 6)}, {57, make([]byte, 6)},
		{4, uint8(1)}, {32, uint16(0x0800)}, {139, uint16(0)}, {70, []byte{1, 2, 0}}, {71, []byte{1, 2, 1}}, {79, make([]byte, 3)}, {243, uint16(1)}, {254, uint16(2)},
		{182, uint16(1)}, {183, uint16(2)}, {252, uint32(1)}, {253, uint32(2)}, {34, uint32(512)}, {323, testMillis}, {161, uint32(5)}, {351, uint64(7)},
		{231, uint32(5)}, {232, uint32(6)}}
	for name, g := range map[string][]byte{
		"v9": datagramOf(9, record, false), "IPFIX": datagramOf(10, record, false),
		"v1": v1Message(1, v1Record(1)), "v5": v5Message(1, v5Record(1)), "v7": v7Message(1, v7Record(1)),
	} {
		c, _ := newTestCollector(t)
		records := 0
		d := c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
		d.Datagram(testSource, AnyFlow, g, testTime)
		data := g
		switch name {
		case "v9":
			data = slices.Concat(g[:20], g[20+int(g[22])<<8+int(g[23]):])
		case "IPFIX":
			data = slices.Concat(g[:16], g[16+int(g[18])<<8+int(g[19]):])
			copy(data[2:], be(uint16(len(data))))
		}
		records = 0
		n := testing.AllocsPerRun(100, func() { d.Datagram(testSource, AnyFlow, data, testTime) })
		if records < 100 || n != 0 {
			t.Errorf("%s: %v allocations a datagram, %d records", name, n, records)
		}
	}
}
