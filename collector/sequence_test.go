package collector

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// msg is a message as sequence.message takes it.
type msg struct {
	seq, units uint32
	unknown    bool
	uptime     uint32
	at         time.Duration
}

func TestSequence(t *testing.T) {
	run := func(from, to, step uint32) (ms []msg) {
		for s := from; s != to; s += step {
			ms = append(ms, msg{seq: s, units: step})
		}
		return ms
	}
	for _, tc := range []struct {
		name     string
		messages []msg
		want     uint64 // after all gaps are closed
		before   uint64 // before that
	}{
		{"no loss", run(0, 1000, 10), 0, 0},
		{"wrap", run(0xffffff00, 0x100, 8), 0, 0},
		{"begins anywhere", run(77777, 77877, 1), 0, 0},
		{"one lost", slices.Concat(run(0, 100, 10), run(110, 800, 10)), 10, 10},
		{"lost at the end of what is seen", slices.Concat(run(0, 100, 10), run(110, 120, 10)), 10, 0},
		{"swapped", []msg{{seq: 0, units: 1}, {seq: 2, units: 1}, {seq: 1, units: 1}, {seq: 3, units: 1}}, 0, 0},
		{"late by 32", slices.Concat(run(0, 1, 1), run(2, 33, 1), []msg{{seq: 1, units: 1}}, run(33, 100, 1)), 0, 0},
		{"late by more than 32", slices.Concat(run(0, 1, 1), run(2, 40, 1), []msg{{seq: 1, units: 1}}, run(40, 100, 1)), 1, 1},
		{"late one in the middle of a gap", slices.Concat(run(0, 10, 5), run(40, 50, 5), []msg{{seq: 20, units: 5}}, run(50, 300, 5)), 25, 25},
		{"doubled", []msg{{seq: 0, units: 1}, {seq: 0, units: 1}, {seq: 1, units: 1}, {seq: 1, units: 1}, {seq: 2, units: 1}}, 0, 0},
		{"restart at zero", slices.Concat(run(100000, 100100, 10), run(0, 200, 10)), 0, 0},
		{"restart forward by far", slices.Concat(run(0, 100, 10), run(1<<30, 1<<30+100, 10)), 0, 0},
		{"restart told by the uptime", []msg{{seq: 100, units: 1, uptime: 900000}, {seq: 101, units: 1, uptime: 901000}, {seq: 500, units: 1, uptime: 1000}, {seq: 501, units: 1, uptime: 1100}}, 0, 0},
		{"reordering sets the uptime back a little", []msg{{seq: 100, units: 1, uptime: 900000}, {seq: 102, units: 1, uptime: 901000}, {seq: 101, units: 1, uptime: 900500}}, 0, 0},
		{"a stray is no restart", slices.Concat(run(100000, 100050, 10), []msg{{seq: 5, units: 1}}, run(100050, 100100, 10)), 0, 0},
		{"unknown number of records", []msg{{seq: 0, units: 2}, {seq: 2, units: 0, unknown: true}, {seq: 9, units: 1}, {seq: 10, units: 1}}, 0, 0},
		{"5 s close a gap", []msg{{seq: 0, units: 1}, {seq: 2, units: 1}, {seq: 3, units: 1, at: 6 * time.Second}}, 1, 1},
		{"the first after 5 s opens one", []msg{{seq: 0, units: 1}, {seq: 2, units: 1, at: 6 * time.Second}}, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := sequence{counting: countAll}
			var lost uint64
			for _, m := range tc.messages {
				lost += s.message(m.seq, units{flows: m.units}, !m.unknown, m.uptime, testTime+int64(m.at))
			}
			if lost != tc.before {
				t.Errorf("%d lost before gaps close, want %d", lost, tc.before)
			}
			if lost += s.closeAll(); lost != tc.want {
				t.Errorf("%d lost, want %d", lost, tc.want)
			}
		})
	}
}

// TestSequenceExact drops and reorders messages at random, within the window,
// and wants the count of what was dropped exactly.
func TestSequenceExact(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := sequence{counting: countAll}
		var lost, dropped uint64
		next := rnd.Uint32()
		var ms []msg
		for i := range 500 {
			n := 1 + rnd.Uint32N(25)
			if i > 0 && i < 499 && rnd.IntN(10) == 0 {
				dropped += uint64(n)
			} else {
				ms = append(ms, msg{seq: next, units: n})
			}
			next += n
		}
		for i := 1; i+9 < len(ms); i += 10 {
			rnd.Shuffle(8, func(a, b int) { ms[i+a], ms[i+b] = ms[i+b], ms[i+a] })
		}
		for _, m := range ms {
			lost += s.message(m.seq, units{flows: m.units}, true, 0, testTime)
		}
		if lost += s.closeAll(); lost != dropped {
			t.Errorf("seed %d: %d lost, %d dropped", seed, lost, dropped)
		}
	}
}

// TestSequencePerProtocol checks in which units each protocol counts.
func TestSequencePerProtocol(t *testing.T) {
	v5 := func(seq uint32, n int) []byte {
		b := v5Message(n, slices.Repeat([][]byte{v5Record(1)}, n)...)
		copy(b[16:], be(seq))
		return b
	}
	ipfix := func(seq, domain uint32, n int) []byte {
		return ipfixMessage(seq, domain, set(256, slices.Concat(slices.Repeat([][]byte{basicRecord(1)}, n)...)))
	}
	templates := func(domain uint32) []byte { return ipfixMessage(0, domain, set(2, basicTemplate(256))) }
	sflow := func(seq uint32) []byte {
		b := sflowMessage()
		copy(b[16:], be(seq))
		return b
	}
	for _, tc := range []struct {
		name      string
		proto     protocol
		datagrams [][]byte
		want      uint64
	}{
		{"v5 counts flows", protoNetFlow5, [][]byte{v5(0, 3), v5(3, 2), v5(9, 1)}, 4},
		{"v5 of Open vSwitch has the number of the last flow", protoNetFlow5, [][]byte{v5(29, 30), v5(30, 1), v5(32, 2), v5(62, 30), v5(66, 2), v5(67, 1)}, 2},
		{"v9 counts datagrams", protoNetFlow9, [][]byte{v9Message(5, 1), v9Message(6, 1), v9Message(9, 1)}, 2},
		{"v9 counts by source id", protoNetFlow9, [][]byte{v9Message(5, 1), v9Message(700, 2), v9Message(6, 1), v9Message(701, 2)}, 0},
		{"sFlow counts datagrams", protoSFlow, [][]byte{sflow(1), sflow(2), sflow(4)}, 1},
		{"IPFIX counts records", protoIPFIX, [][]byte{templates(1), ipfix(0, 1, 3), ipfix(3, 1, 2), ipfix(9, 1, 1)}, 4},
		{"IPFIX counts by domain", protoIPFIX, [][]byte{templates(1), templates(2), ipfix(0, 1, 30), ipfix(0, 2, 2), ipfix(30, 1, 2), ipfix(2, 2, 1)}, 0},
		{"Open vSwitch counts across domains", protoIPFIX, [][]byte{templates(1), ipfix(0, 1, 1),
			ipfixMessage(1, 2, set(2, basicTemplate(256))), ipfix(1, 2, 1), ipfix(2, 1, 1), ipfix(3, 2, 1), ipfix(5, 1, 1), ipfix(6, 2, 1)}, 1},
		{"across domains whose templates came at 0", protoIPFIX, slices.Concat([][]byte{templates(1), templates(2)}, func() (ds [][]byte) {
			for i := range uint32(200) {
				if i != 100 {
					ds = append(ds, ipfix(i, 1+i%2, 1))
				}
			}
			return ds
		}()), 1},
		{"an unknown template is no loss", protoIPFIX, [][]byte{templates(1), ipfix(0, 1, 1), ipfixMessage(1, 1, set(300, be(uint32(1), uint32(2)))), ipfix(3, 1, 1), ipfix(4, 1, 1)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			for _, b := range tc.datagrams {
				d.Datagram(testSource, AnyFlow, b, testTime)
			}
			if d.tick(testTime+6e9, false) {
				t.Error("gaps are open after 6 s")
			}
			if n := d.metrics.sequenceLost[tc.proto].Load(); n != tc.want {
				t.Errorf("%d lost, want %d", n, tc.want)
			}
		})
	}
}

// TestSequenceCaptures follows real exporters, none of which lost anything on
// the way to its capture but those behind the one that nobody listened to.
func TestSequenceCaptures(t *testing.T) {
	for _, name := range captureNames(t) {
		c, _ := newTestCollector(t)
		d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
		for _, g := range readCapture(t, name) {
			d.Datagram(g.source, AnyFlow, g.payload, g.received)
		}
		d.tick(0, true)
		var lost uint64
		for p := range numProtocols {
			lost += d.metrics.sequenceLost[p].Load()
		}
		if (lost != 0) != (name == "ovs-ipfix-nolistener") {
			t.Errorf("%s: %d lost", name, lost)
		}
	}
}
