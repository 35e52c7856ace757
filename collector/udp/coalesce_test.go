package udp

import (
	"testing"
	"time"
)

const (
	testTime    = int64(1_700_000_000_500_000_000) // Unix nanoseconds
	smallBuffer = 2 * 212992                       // the kernel's default limit, doubled
	largeBuffer = 2 * 8 << 20                      // ours
)

// simulate feeds a socket by the clock of a test: rate says how many datagrams a
// second come at a time. It returns the longest wait, and how many datagrams were
// waiting at most, from begin on.
func simulate(p *coalescer, begin, d time.Duration, rate func(time.Duration) float64) (longest time.Duration, most float64) {
	const work = 2 * time.Microsecond // for a datagram
	waiting := 0.0
	for now := time.Duration(0); now < d; {
		n := min(int(waiting), BatchSize)
		waiting -= float64(n)
		spent := time.Duration(n) * work
		if n < BatchSize {
			wait := p.wait(n, testTime+int64(now))
			if now > begin {
				longest = max(longest, wait)
			}
			spent += wait
			if wait == 0 && waiting < 1 { // until the next one comes
				spent += min(time.Duration((1-waiting)/max(rate(now), 1)*1e9)+1, time.Millisecond)
			}
		} else {
			p.wait(n, testTime+int64(now))
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

// TestCoalescer feeds a socket at constant rates and looks at the waits.
func TestCoalescer(t *testing.T) {
	for _, tc := range []struct {
		name     string
		buffer   int
		rate     float64 // datagrams a second
		min, max time.Duration
	}{
		{"a few", largeBuffer, 10, 0, 0},
		{"below the threshold", largeBuffer, coalesceRate * 2 / 3, 0, 0},
		{"above", largeBuffer, coalesceRate * 2, maxWait, maxWait},
		{"Open vSwitch on a small cluster", largeBuffer, 10_000, maxWait, maxWait},
		{"50,000", largeBuffer, 50_000, 4 * time.Millisecond, maxWait},
		{"200,000", largeBuffer, 200_000, time.Millisecond, 2 * time.Millisecond},
		{"a small buffer", smallBuffer, 10_000, 4 * time.Millisecond, maxWait},
		{"a small buffer and a high rate", smallBuffer, 50_000, minWait, time.Millisecond},
		{"a tiny buffer", 8192, 50_000, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newCoalescer(tc.buffer)
			wait, most := simulate(&p, time.Second, 2*time.Second, func(time.Duration) float64 { return tc.rate })
			if wait < tc.min || wait > tc.max {
				t.Errorf("wait of %v, want %v to %v", wait, tc.min, tc.max)
			}
			if most > max(p.capacity, 64) {
				t.Errorf("%v datagrams were waiting, the buffer holds %v", most, p.capacity)
			}
		})
	}
}

// TestCoalescerBursts sends bursts of 50 ms out of silence, and out of what waits
// begin with.
func TestCoalescerBursts(t *testing.T) {
	for name, tc := range map[string]struct {
		buffer int
		rate   float64
	}{
		"default": {largeBuffer, 200_000}, "208 KiB": {smallBuffer, 20_000},
	} {
		for _, before := range []float64{0, coalesceRate, 2 * coalesceRate} {
			p := newCoalescer(tc.buffer)
			_, most := simulate(&p, 0, 2*time.Second, func(now time.Duration) float64 {
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
