package collector

import "time"

// At one record a datagram, which is what Open vSwitch sends, waking up for each
// datagram costs many times more than all the work on it. Under load a worker
// therefore lets datagrams gather for a moment between two receives.

const (
	// napRate is the rate, in datagrams a second, from which on naps pay: one of
	// maxNap then gathers more than one.
	napRate = 300
	// napBatch is how many datagrams a nap is to gather: so many that what waking
	// up costs, some 25 µs, is next to nothing for each.
	napBatch = 256
	// minNap and maxNap bound a nap. Shorter ones cost as much as they save.
	minNap = 500 * time.Microsecond
	maxNap = 5 * time.Millisecond
	// rateWindow is over how long the rate is averaged.
	rateWindow = 20 * time.Millisecond
	// burstFactor is how much faster than now datagrams may come during a nap
	// without filling the socket's buffer.
	burstFactor = 4
	// burstRate is the least rate, in datagrams a second, that a nap must be safe
	// against however few came before.
	burstRate = 40_000
	// skbSize is what a datagram of Ethernet's size takes of a socket's buffer, in
	// bytes as the kernel counts them (skb truesize).
	skbSize = 2304
)

// pacer decides on naps by the rate at which datagrams come.
type pacer struct {
	capacity float64 // datagrams that the socket's buffer holds
	rate     float64 // datagrams a second
	last     int64   // Unix nanoseconds
}

// newPacer makes a pacer for a socket whose buffer is of the given size, as
// getsockopt(SO_RCVBUF) tells it.
func newPacer(buffer int) pacer { return pacer{capacity: float64(buffer) / skbSize} }

// nap takes note of n datagrams received at now (Unix nanoseconds) and returns
// how long to wait before the next receive.
func (p *pacer) nap(n int, now int64) time.Duration {
	dt := float64(now - p.last)
	p.last = now
	if dt <= 0 {
		dt = 1
	}
	weight := dt / (dt + float64(rateWindow))
	p.rate += weight * (float64(n)*1e9/dt - p.rate)
	if n >= batchSize || p.rate < napRate {
		return 0 // more is waiting, or too little comes
	}
	d := min(time.Duration(napBatch/p.rate*1e9), maxNap)
	safe := time.Duration(p.capacity / max(burstFactor*p.rate, burstRate) * 1e9)
	if d = min(max(d, minNap), safe); d < minNap {
		return 0
	}
	return d
}
