package sequence

import (
	"math/rand/v2"
	"testing"
)

// sent is a message of a stream, as its exporter numbered it.
type sent struct {
	stream, seq, records uint32
	lost                 bool // on the way
}

// TestCounters has sources with several streams, counted by stream or all together.
// What is counted as lost is what was lost.
func TestCounters(t *testing.T) {
	// exporter sends n messages of 20 records, of streams as they are given, one after
	// the other. first has the first number of each stream; if shared, they count
	// together from the first one's on.
	exporter := func(n int, shared bool, first []uint32, streams []uint32, lost func(i int, stream uint32) bool) (ms []sent) {
		next := map[uint32]uint32{}
		for i, f := range first {
			next[uint32(i)] = f
		}
		for i := range n {
			stream := streams[i%len(streams)]
			counter := stream
			if shared {
				counter = 0
			}
			ms = append(ms, sent{stream, next[counter], 20, lost(i, stream)})
			next[counter] += 20
		}
		return ms
	}
	none := func(int, uint32) bool { return false }
	firstOnly := func(i int, stream uint32) bool { return stream == 0 && i > 20 && i < 550 && i%20 == 10 }
	half := func(i int, _ uint32) bool { return i > 20 && i < 550 && i%3 == 1 }
	alternate, bursts := []uint32{0, 1}, []uint32{0, 0, 0, 0, 1, 0, 0, 1, 1, 2}
	for _, tc := range []struct {
		name     string
		messages []sent
	}{
		{"by stream", exporter(600, false, []uint32{5000, 400000}, alternate, none)},
		{"by stream, one loses", exporter(600, false, []uint32{5000, 400000}, alternate, firstOnly)},
		{"by stream, begun 30 apart", exporter(600, false, []uint32{5000, 5030}, alternate, none)},
		{"by stream, begun 30 apart, one loses", exporter(600, false, []uint32{5000, 5030}, alternate, firstOnly)},
		{"by stream, begun where the other went on, one loses", exporter(600, false, []uint32{5000, 5020}, alternate, firstOnly)},
		{"by stream, begun at the same number, one loses", exporter(600, false, []uint32{0, 0}, alternate, firstOnly)},
		{"by stream, begun at the same number, a third is lost", exporter(600, false, []uint32{0, 0, 0}, bursts, half)},
		{"together", exporter(600, true, []uint32{5000}, alternate, none)},
		{"together, from 0", exporter(600, true, []uint32{0}, bursts, none)},
		{"together, one loses", exporter(600, true, []uint32{5000}, bursts, firstOnly)},
		{"together, a third is lost", exporter(600, true, []uint32{5000}, bursts, half)},
	} {
		for _, p := range []struct {
			name  string
			proto Protocol
			unit  uint32 // by which the messages' numbers are divided
		}{{"IPFIX", IPFIX, 1}, {"v5", NetFlow5, 1}, {"v9", NetFlow9, 20}} {
			t.Run(tc.name+" "+p.name, func(t *testing.T) {
				var q Source
				var lost, want uint64
				for i, m := range tc.messages {
					n := RecordCount{Data: m.records / p.unit}
					if m.lost {
						want += uint64(n.Data)
						continue
					}
					lost += q.Counters(p.proto).Message(Stream(m.stream), m.seq/p.unit, n, true, 0, testTime+int64(i)*1e6)
				}
				if lost += q.Counters(p.proto).CloseAll(); lost != want {
					t.Errorf("%d lost, want %d", lost, want)
				}
			})
		}
	}
}

// TestCountersApart has two observation domains that begin a little apart, and of which
// one loses messages.
func TestCountersApart(t *testing.T) {
	for apart := int32(-64); apart <= 64; apart++ {
		for _, records := range []uint32{1, 7, 20} {
			var q Source
			next := [2]uint32{5000, 5000 + uint32(apart)}
			var lost, want uint64
			for i := range 600 {
				domain := uint32(i % 2)
				seq := next[domain]
				next[domain] += records
				if domain == 0 && i%20 == 10 && i < 550 {
					want += uint64(records)
					continue
				}
				lost += q.Counters(IPFIX).Message(Stream(domain), seq, RecordCount{Data: records}, true, 0, testTime+int64(i)*1e6)
			}
			if lost += q.Counters(IPFIX).CloseAll(); lost != want {
				t.Errorf("%d apart, %d records a message: %d lost, want %d", apart, records, lost, want)
			}
		}
	}
}

// TestCountersUptime has two line cards that count their messages of NetFlow v9 alike
// but started at different times.
func TestCountersUptime(t *testing.T) {
	for _, shared := range []bool{false, true} {
		var q Source
		var lost, want uint64
		var next [2]uint32
		for i := range uint32(1000) {
			card := i % 2
			counter := card
			if shared {
				counter = 0
			}
			seq := next[counter]
			next[counter]++
			if i > 50 && i%10 < 2 && i < 900 {
				want++
				continue
			}
			lost += q.Counters(NetFlow9).Message(Stream(card), seq, RecordCount{Data: 1}, true, 1e6+card*1e6+i, testTime)
		}
		if lost += q.Counters(NetFlow9).CloseAll(); lost != want {
			t.Errorf("shared %v: %d lost, want %d", shared, lost, want)
		}
	}
}

// TestCountersExact has streams of either kind with random losses, orders and sizes.
func TestCountersExact(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		shared, streams := seed%2 == 0, 2+rnd.Uint32N(6)
		next := make([]uint32, streams)
		for i := range next {
			next[i] = rnd.Uint32N(3000)
		}
		var ms []sent
		var lost, dropped uint64
		for i := range 1000 {
			stream := rnd.Uint32N(streams)
			counter := stream
			if shared {
				counter = 0
			}
			m := sent{stream, next[counter], 1 + rnd.Uint32N(25), false}
			next[counter] += m.records
			if i > 100 && i < 900 && rnd.IntN(10) == 0 {
				dropped += uint64(m.records)
			} else {
				ms = append(ms, m)
			}
		}
		for i := 100; i+9 < len(ms); i += 10 {
			rnd.Shuffle(4, func(a, b int) { ms[i+a], ms[i+b] = ms[i+b], ms[i+a] })
		}
		var q Source
		for _, m := range ms {
			lost += q.Counters(IPFIX).Message(Stream(m.stream), m.seq, RecordCount{Data: m.records}, true, 0, testTime)
		}
		if lost += q.Counters(IPFIX).CloseAll(); lost != dropped {
			t.Errorf("seed %d, shared %v: %d lost, %d dropped", seed, shared, lost, dropped)
		}
	}
}

// TestAgentStream has agents and sub-agents that a relay may send from one source.
func TestAgentStream(t *testing.T) {
	seen := make(map[Stream]bool)
	agents := [][]byte{{192, 0, 2, 1}, {192, 0, 2, 2}, make([]byte, 16), append(make([]byte, 15), 1), append([]byte{1}, make([]byte, 15)...)}
	for _, agent := range agents {
		for sub := range uint32(1000) {
			seen[AgentStream(agent, sub)] = true
		}
		if n := testing.AllocsPerRun(100, func() { AgentStream(agent, 1) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	}
	if len(seen) != len(agents)*1000 {
		t.Errorf("%d streams", len(seen))
	}
}
