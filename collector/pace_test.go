package collector

import (
	"testing"
	"time"
)

const (
	smallBuffer = 2 * 212992  // the kernel's default limit, doubled
	largeBuffer = 2 * 8 << 20 // ours
)

// paceRun feeds a socket by the clock of a test: rate says how many datagrams a
// second come at a time. It returns the longest nap, and how many datagrams were
// waiting at most, from begin on.
func paceRun(p *pacer, begin, d time.Duration, rate func(time.Duration) float64) (longest time.Duration, most float64) {
	const work = 2 * time.Microsecond // for a datagram
	waiting := 0.0
	for now := time.Duration(0); now < d; {
		n := min(int(waiting), batchSize)
		waiting -= float64(n)
		spent := time.Duration(n) * work
		if n < batchSize {
			nap := p.nap(n, testTime+int64(now))
			if now > begin {
				longest = max(longest, nap)
			}
			spent += nap
			if nap == 0 && waiting < 1 { // until the next one comes
				spent += min(time.Duration((1-waiting)/max(rate(now), 1)*1e9)+1, time.Millisecond)
			}
		} else {
			p.nap(n, testTime+int64(now))
		}
		for ; spent > 0; spent -= 100 * time.Microsecond {
			step := min(spent, 100*time.Microsecond)
			waiting += rate(now) * step.Seconds()
			now += step
		}
		if now > begin {
			most = max(most, waiting)
		}
	}
	return longest, most
}

// TestPacer feeds a socket at constant rates and looks at the naps.
func TestPacer(t *testing.T) {
	for _, tc := range []struct {
		name     string
		buffer   int
		rate     float64 // datagrams a second
		min, max time.Duration
	}{
		{"a few", largeBuffer, 10, 0, 0},
		{"below the threshold", largeBuffer, napRate * 2 / 3, 0, 0},
		{"above", largeBuffer, napRate * 2, maxNap, maxNap},
		{"Open vSwitch on a small cluster", largeBuffer, 10_000, maxNap, maxNap},
		{"50,000", largeBuffer, 50_000, 4 * time.Millisecond, maxNap},
		{"200,000", largeBuffer, 200_000, time.Millisecond, 2 * time.Millisecond},
		{"a small buffer", smallBuffer, 10_000, 4 * time.Millisecond, maxNap},
		{"a small buffer and a high rate", smallBuffer, 50_000, minNap, time.Millisecond},
		{"a tiny buffer", 8192, 50_000, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPacer(tc.buffer)
			nap, most := paceRun(&p, time.Second, 2*time.Second, func(time.Duration) float64 { return tc.rate })
			if nap < tc.min || nap > tc.max {
				t.Errorf("nap of %v, want %v to %v", nap, tc.min, tc.max)
			}
			if most > max(p.capacity, 64) {
				t.Errorf("%v datagrams were waiting, the buffer holds %v", most, p.capacity)
			}
		})
	}
}

// TestPacerBursts sends bursts of 50 ms out of silence, and out of what naps
// begin with.
func TestPacerBursts(t *testing.T) {
	for name, tc := range map[string]struct {
		buffer int
		rate   float64
	}{
		"default": {largeBuffer, 200_000}, "208 KiB": {smallBuffer, 20_000},
	} {
		for _, before := range []float64{0, napRate, 2 * napRate} {
			p := newPacer(tc.buffer)
			_, most := paceRun(&p, 0, 2*time.Second, func(now time.Duration) float64 {
				if now%(500*time.Millisecond) < 50*time.Millisecond {
					return tc.rate
				}
				return before
			})
			if most > p.capacity {
				t.Errorf("%s, from %v/s: %v datagrams were waiting, the buffer holds %v", name, before, most, p.capacity)
			}
		}
	}
}
