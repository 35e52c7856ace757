package sequence

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

const testTime = int64(1_700_000_000_500_000_000) // Unix nanoseconds

// msg is a message as Tracker.Message takes it.
type msg struct {
	seq, records uint32
	unknown      bool
	uptime       uint32
	at           time.Duration
}

func TestTracker(t *testing.T) {
	run := func(from, to, step uint32) (ms []msg) {
		for s := from; s != to; s += step {
			ms = append(ms, msg{seq: s, records: step})
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
		{"swapped", []msg{{seq: 0, records: 1}, {seq: 2, records: 1}, {seq: 1, records: 1}, {seq: 3, records: 1}}, 0, 0},
		{"late by 32", slices.Concat(run(0, 1, 1), run(2, 33, 1), []msg{{seq: 1, records: 1}}, run(33, 100, 1)), 0, 0},
		{"late by more than 32", slices.Concat(run(0, 1, 1), run(2, 40, 1), []msg{{seq: 1, records: 1}}, run(40, 100, 1)), 1, 1},
		{"late one in the middle of a gap", slices.Concat(run(0, 10, 5), run(40, 50, 5), []msg{{seq: 20, records: 5}}, run(50, 300, 5)), 25, 25},
		{"doubled", []msg{{seq: 0, records: 1}, {seq: 0, records: 1}, {seq: 1, records: 1}, {seq: 1, records: 1}, {seq: 2, records: 1}}, 0, 0},
		{"restart at zero", slices.Concat(run(100000, 100100, 10), run(0, 200, 10)), 0, 0},
		{"restart forward by far", slices.Concat(run(0, 100, 10), run(1<<30, 1<<30+100, 10)), 0, 0},
		{"restart announced by the uptime", []msg{{seq: 100, records: 1, uptime: 900000}, {seq: 101, records: 1, uptime: 901000}, {seq: 500, records: 1, uptime: 1000}, {seq: 501, records: 1, uptime: 1100}}, 0, 0},
		{"reordering sets the uptime back a little", []msg{{seq: 100, records: 1, uptime: 900000}, {seq: 102, records: 1, uptime: 901000}, {seq: 101, records: 1, uptime: 900500}}, 0, 0},
		{"a stray is no restart", slices.Concat(run(100000, 100050, 10), []msg{{seq: 5, records: 1}}, run(100050, 100100, 10)), 0, 0},
		{"unknown number of records", []msg{{seq: 0, records: 2}, {seq: 2, records: 0, unknown: true}, {seq: 9, records: 1}, {seq: 10, records: 1}}, 0, 0},
		{"5 s close a gap", []msg{{seq: 0, records: 1}, {seq: 2, records: 1}, {seq: 3, records: 1, at: 6 * time.Second}}, 1, 1},
		{"the first after 5 s opens one", []msg{{seq: 0, records: 1}, {seq: 2, records: 1, at: 6 * time.Second}}, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Tracker{numbering: byAll}
			var lost uint64
			for _, m := range tc.messages {
				lost += s.Message(m.seq, RecordCount{Data: m.records}, !m.unknown, m.uptime, testTime+int64(m.at))
			}
			if lost != tc.before {
				t.Errorf("%d lost before gaps close, want %d", lost, tc.before)
			}
			if lost += s.CloseAll(); lost != tc.want {
				t.Errorf("%d lost, want %d", lost, tc.want)
			}
		})
	}
}

// TestTrackerExact drops and reorders messages at random, within the window,
// and wants the count of what was dropped exactly.
func TestTrackerExact(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := Tracker{numbering: byAll}
		var lost, dropped uint64
		next := rnd.Uint32()
		var ms []msg
		for i := range 500 {
			n := 1 + rnd.Uint32N(25)
			if i > 0 && i < 499 && rnd.IntN(10) == 0 {
				dropped += uint64(n)
			} else {
				ms = append(ms, msg{seq: next, records: n})
			}
			next += n
		}
		for i := 1; i+9 < len(ms); i += 10 {
			rnd.Shuffle(8, func(a, b int) { ms[i+a], ms[i+b] = ms[i+b], ms[i+a] })
		}
		for _, m := range ms {
			lost += s.Message(m.seq, RecordCount{Data: m.records}, true, 0, testTime)
		}
		if lost += s.CloseAll(); lost != dropped {
			t.Errorf("seed %d: %d lost, %d dropped", seed, lost, dropped)
		}
	}
}
