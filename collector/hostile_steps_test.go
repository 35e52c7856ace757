//go:build steps

package collector

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// maxTimesHonest is how many times a byte of honest records a byte of any datagram may cost.
const maxTimesHonest = 30

// searchTurns is how long TestDearestByte searches. The short form is for each change.
var searchTurns = flag.Int("search", 4000, "how many programs TestDearestByte tries")

// cost returns how many steps the load takes for each of its bytes, over so many rounds.
//
// What a source has earned before the load is taken away: else the load would be charged with
// work that other bytes have paid for. For the same reason the bytes of data sets that had
// waited count when they are decoded.
func cost(d *Decoder, load []datagram, rounds int) float64 {
	for _, p := range d.peers {
		p.work = min(p.work, 0)
	}
	d.spareWork = 0 // there is more at the start of a worker only
	start, waited := steps.Count()
	bytes := 0
	for range rounds {
		for i := range load {
			g := &load[i]
			d.Datagram(g.source, AnyFlow, g.payload, g.received)
			bytes += costBytes(g.payload)
		}
	}
	now, all := steps.Count()
	return float64(now-start) / (float64(bytes) + float64(all-waited))
}

// honestCost returns the steps that a byte of honest records takes.
func honestCost(tb testing.TB) float64 {
	before, load := hostileShapes()[0].make()
	_, d := hostileDecoder(tb, before)
	cost(d, load, 1) // makes the record decoder
	return cost(d, load, 10)
}

// TestHostileSteps holds all shapes of BenchmarkHostile to the bound.
func TestHostileSteps(t *testing.T) {
	honest := honestCost(t)
	t.Logf("honest records: %.2f steps a byte", honest)
	for _, s := range hostileShapes() {
		before, load := s.make()
		load = load[:min(len(load), 40_000)]
		_, d := hostileDecoder(t, before)
		got := cost(d, load, max(1, 200/len(load))) / honest
		t.Logf("%6.2f %s", got, s.name)
		if got > maxTimesHonest {
			t.Errorf("%s: a byte costs %.1f honest ones", s.name, got)
		}
	}
}

// searchDecoder returns a decoder whose budgets are small, so that programs can use them up.
func searchDecoder(tb testing.TB) *Decoder {
	c, d := hostileDecoder(tb, nil)
	c.exporters.exporterBudget, c.exporters.totalBudget = 256<<10, 1<<20
	c.exporters.holdExporter, c.exporters.holdTotal = 32<<10, 128<<10
	d.peersBudget, d.decodersBudget = 128<<10, 128<<10
	return d
}

// assemble makes of a program what comes before the load, and the load.
func assemble(program []byte) (before, load []datagram) {
	a := &assembler{program: program, room: maxProgram}
	for len(a.program) > 0 && a.room > 0 {
		a.counter++
		a.instruction(a.next() % 8)
	}
	a.send(0)
	return a.before, a.load
}

// amortized is over how many bytes a load is repeated at least: a table that grows or
// shrinks at the first of them was filled by others.
const amortized = 16 << 10

// searchProgram runs bytes as a program that makes datagrams, and returns what a byte of its
// load costs, in honest bytes. Any bytes are a program.
func searchProgram(tb testing.TB, program []byte, honest float64) float64 {
	before, load := assemble(program)
	if len(load) == 0 {
		return 0
	}
	d := searchDecoder(tb)
	for _, g := range before {
		d.Datagram(g.source, AnyFlow, g.payload, g.received)
	}
	bytes := 0
	for _, g := range load {
		bytes += costBytes(g.payload)
	}
	return cost(d, load, max(3, amortized/bytes)) / honest
}

// mutate changes a program at random, and may take a part of another one.
func mutate(r *rand.Rand, program, other []byte) []byte {
	p := slices.Clone(program)
	for range r.IntN(4) + 1 {
		at := r.IntN(len(p) + 1)
		switch r.IntN(6) {
		case 0:
			p = slices.Insert(p, at, byte(r.IntN(256)))
		case 1:
			if at < len(p) {
				p = slices.Delete(p, at, min(at+r.IntN(4)+1, len(p)))
			}
		case 2:
			from := r.IntN(len(other) + 1)
			p = slices.Insert(p, at, other[from:min(from+r.IntN(24), len(other))]...)
		default:
			if at < len(p) {
				p[at] = byte(r.IntN(256))
			}
		}
	}
	return p[:min(len(p), 200)]
}

// TestDearestByte climbs from the seeds to ever dearer programs, and fails if one is above the
// bound.
func TestDearestByte(t *testing.T) {
	honest := honestCost(t)
	type candidate struct {
		program []byte
		cost    float64
	}
	var best []candidate
	try := func(p []byte) {
		got := searchProgram(t, p, honest)
		if got > maxTimesHonest {
			before, load := assemble(p)
			t.Errorf("a byte costs %.1f honest ones: %s, then %s\n%#v", got, describe(before), describe(load), p)
		}
		best = append(best, candidate{p, got})
		slices.SortStableFunc(best, func(a, b candidate) int { return cmp.Compare(b.cost, a.cost) })
		best = best[:min(len(best), 40)]
	}
	for _, p := range searchSeeds() {
		try(p)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range *searchTurns {
		p := best[r.IntN(len(best))].program
		try(mutate(r, p, best[r.IntN(len(best))].program))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d programs: a byte of the dearest costs %.1f honest ones: %#v", *searchTurns, best[0].cost, best[0].program)
}

// FuzzDearestByte does the same with Go's fuzzing, which keeps programs that reach new code:
// here each level of the cost is code of its own.
func FuzzDearestByte(f *testing.F) {
	for _, p := range searchSeeds() {
		f.Add(p)
	}
	honest := honestCost(f)
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 400 {
			return
		}
		got := searchProgram(t, program, honest)
		if reached(int(got*2)) > 0 && got > maxTimesHonest {
			before, load := assemble(program)
			t.Errorf("a byte costs %.1f honest ones; %s, then %s", got, describe(before), describe(load))
		}
	})
}

// reached has a branch for each level, so that to reach one is new code to the fuzzer.
func reached(level int) (n int) {
	if level >= 2 {
		n++
	}
	if level >= 4 {
		n++
	}
	if level >= 6 {
		n++
	}
	if level >= 8 {
		n++
	}
	if level >= 10 {
		n++
	}
	if level >= 12 {
		n++
	}
	if level >= 14 {
		n++
	}
	if level >= 16 {
		n++
	}
	if level >= 18 {
		n++
	}
	if level >= 20 {
		n++
	}
	if level >= 22 {
		n++
	}
	if level >= 24 {
		n++
	}
	if level >= 26 {
		n++
	}
	if level >= 28 {
		n++
	}
	if level >= 30 {
		n++
	}
	if level >= 32 {
		n++
	}
	if level >= 34 {
		n++
	}
	if level >= 36 {
		n++
	}
	if level >= 38 {
		n++
	}
	if level >= 40 {
		n++
	}
	if level >= 42 {
		n++
	}
	if level >= 44 {
		n++
	}
	if level >= 46 {
		n++
	}
	if level >= 48 {
		n++
	}
	if level >= 50 {
		n++
	}
	if level >= 52 {
		n++
	}
	if level >= 54 {
		n++
	}
	if level >= 56 {
		n++
	}
	if level >= 58 {
		n++
	}
	if level >= 60 {
		n++
	}
	return n
}

// describe tells of datagrams what they begin with.
func describe(gs []datagram) string {
	sources := make(map[netip.AddrPort]bool)
	bytes := 0
	for _, g := range gs {
		sources[g.source] = true
		bytes += len(g.payload)
	}
	if len(gs) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%d datagrams of %d bytes from %d sources, %x...", len(gs), bytes, len(sources), gs[0].payload[:min(len(gs[0].payload), 120)])
}
