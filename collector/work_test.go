package collector

import (
	"net/netip"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestWorkIsEarned has a hostile source ask for ever new record decoders. It gets some, what
// it has not earned is counted, and an honest source of the same worker loses nothing.
func TestWorkIsEarned(t *testing.T) {
	c, _ := newTestCollector(t)
	honest := netip.MustParseAddrPort("192.0.2.200:2055")
	records := make(map[string]int)
	d := c.NewDecoder(&sink{f: func(r *flow.Record) { records[netip.AddrFrom4([4]byte(r.Msg.SamplerAddress)).String()]++ }})
	send := func(gs ...datagram) {
		for _, g := range gs {
			d.Datagram(g.source, AnyFlow, g.payload, g.received)
		}
	}
	const templates, rounds = 3000, 8
	send(templatesOf(templates, 100, func(i int) []ie { return []ie{{uint16(400 + i), 1, 0}, {1, 1, penReverse}} })...)
	send(from(honest, ipfixMessage(0, 1, set(2, basicTemplate(256))))...)
	sent := 0
	for range rounds {
		clear(d.recordDecoders) // as if other templates had pushed them out
		d.decodersBytes = 0
		for _, g := range setsOf(templates, []byte{1, 0}) {
			send(g)
			send(from(honest, ipfixMessage(uint32(sent), 1, set(256, basicRecord(40000))))...)
			sent++
		}
	}
	if got := records[honest.Addr().String()]; got != sent {
		t.Errorf("%d records of the honest source, want %d", got, sent)
	}
	got, dropped := records[testSource.Addr().String()], int(d.metrics.sets[setBudget].Load())
	if got+dropped != rounds*templates || dropped == 0 || got == 0 {
		t.Errorf("%d records and %d dropped of %d", got, dropped, rounds*templates)
	}
	if lost := d.peers[honest].exporter.sequenceLost.Load(); lost > 0 {
		t.Errorf("%d records of the honest source counted as lost", lost)
	}
}

// TestRateIsNotGuessed has a port name ever other interfaces whose rates another port of its
// address has announced. A record whose rate it takes too much work to find out is dropped
// and counted, not written with another rate.
func TestRateIsNotGuessed(t *testing.T) {
	c, _ := newTestCollector(t)
	records := 0
	d := c.NewDecoder(&sink{f: func(r *flow.Record) {
		records++
		if r.Msg.SamplingRate != uint64(r.Msg.InIf) {
			t.Fatalf("interface %d has the rate %d", r.Msg.InIf, r.Msg.SamplingRate)
		}
	}})
	d.Datagram(fromPort(1), AnyFlow, tellRates(), testTime)
	d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(256, ie{10, 1, 0}))), testTime)
	for range 10 {
		d.Datagram(testSource, AnyFlow, recordsMessage(256, func(i int) []byte { return be(uint8(i%249 + 1)) }), testTime)
	}
	if dropped := int(d.metrics.sets[setBudget].Load()); records+dropped != 10*inMTU || dropped == 0 || records == 0 {
		t.Errorf("%d records and %d dropped of %d", records, dropped, 10*inMTU)
	}
}

// TestHonestWork has a worker meet sources for the first time whose templates are known from
// elsewhere, with their smallest datagrams. Nothing is dropped.
func TestHonestWork(t *testing.T) {
	for name, tc := range map[string]struct{ template, record []byte }{
		"Open vSwitch": {templateRecord(256, ovsFields()...), ovsRecord(testSource.Addr(), testSource.Addr(), 1)},
		"small":        {basicTemplate(256), basicRecord(1)},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			for i := range 8 { // templates of different shapes
				shape := be(uint16(256+i), tc.template[2:])
				shape[len(shape)-1] += byte(i)
				d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, set(2, shape)), testTime)
			}
			records := 0
			d = c.NewDecoder(&sink{f: func(*flow.Record) { records++ }})
			var all [][]byte
			for i := range 8 {
				all = append(all, set(uint16(256+i), tc.record, make([]byte, i)))
			}
			d.Datagram(testSource, AnyFlow, ipfixMessage(0, 1, all...), testTime)
			if dropped := d.metrics.sets[setBudget].Load(); dropped > 0 || records != 8 {
				t.Errorf("%d sets dropped, %d records", dropped, records)
			}
		})
	}
}
