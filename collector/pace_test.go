package collector

import (
	"testing"
	"time"
)

// TestPacer feeds a socket at constant rates and looks at the naps.
func TestPacer(t *testing.T) {
	const (
		small = 2 * 212992  // the kernel's default limit, doubled
		large = 2 * 8 << 20 // ours
	)
	for _, tc := range []struct {
		name     string
		buffer   int
		rate     int // datagrams a second
		min, max time.Duration
	}{
		{"a few", large, 100, 0, 0},
		{"below the threshold", large, 1000, 0, 0},
		{"Open vSwitch on a small cluster", large, 10_000, 4 * time.Millisecond, maxNap},
		{"50,000", large, 50_000, minNap, 2 * time.Millisecond},
		{"200,000", large, 200_000, minNap, minNap},
		{"a small buffer", small, 10_000, 2 * time.Millisecond, maxNap},
		{"a small buffer and a high rate", small, 50_000, minNap, time.Millisecond},
		{"a tiny buffer", 8192, 50_000, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPacer(tc.buffer)
			now, last, nap := testTime, testTime, time.Duration(0)
			for range 2000 {
				// The next datagram comes a period after the last one at the earliest.
				now += max(int64(nap), int64(time.Second)/int64(tc.rate))
				n := min(int((now-last)*int64(tc.rate)/int64(time.Second)), batchSize)
				last = now
				nap = p.nap(n, now)
				if nap == 0 && n == batchSize {
					now, last = now+1000, now+1000
					nap = p.nap(1, now)
				}
			}
			if nap < tc.min || nap > tc.max {
				t.Errorf("nap of %v, want %v to %v", nap, tc.min, tc.max)
			}
			if filled := float64(tc.rate) * nap.Seconds() * burstFactor; nap > 0 && filled > 1.1*float64(tc.buffer)/skbSize { // the rate is an average
				t.Errorf("%v datagrams may come in a nap of %v; the buffer holds %v", filled, nap, float64(tc.buffer)/skbSize)
			}
		})
	}
}
