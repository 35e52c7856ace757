package udp

import "time"

// At one record a datagram, which is what Open vSwitch sends, waking up for each
// datagram costs many times more than all the work on it. Under load a worker
// therefore lets datagrams gather for a moment between two receives.

const (
	// coalesceRate is the rate, in datagrams a second, from which on waiting pays:
	// a wait of maxWait then gathers more than one.
	coalesceRate = 300
	// coalesceBatch is how many datagrams a wait is to gather: so many that what
	// waking up costs, some 25 µs, is next to nothing for each.
	coalesceBatch = 256
	// minWait and maxWait bound a wait. Shorter ones cost as much as they save.
	minWait = 500 * time.Microsecond
	maxWait = 10 * time.Millisecond
	// rateWindow is over how long the rate is averaged.
	rateWindow = 20 * time.Millisecond
	// burstFactor is how much faster than now datagrams may come during a wait
	// without filling the socket's buffer.
	burstFactor = 4
	// burstRate is the least rate, in datagrams a second, that a wait must be safe
	// against however few came before.
	burstRate = 40_000
	// skbSize is what a datagram of Ethernet's size takes of a socket's buffer, in
	// bytes as the kernel counts them (skb truesize).
	skbSize = 2304
)

// coalescer decides how long to wait by the rate at which datagrams come.
type coalescer struct {
	capacity float64 // datagrams that the socket's buffer holds
	rate     float64 // datagrams a second
	last     int64   // Unix nanoseconds
}

// newCoalescer makes a coalescer for a socket whose buffer has the given size, in
// bytes, as getsockopt(SO_RCVBUF) returns it.
func newCoalescer(buffer int) coalescer { return coalescer{capacity: float64(buffer) / skbSize} }

// wait records that n datagrams were received at now (Unix nanoseconds) and
// returns how long to wait before the next receive, 0 for not at all.
func (c *coalescer) wait(n int, now int64) time.Duration {
	dt := float64(now - c.last)
	c.last = now
	if dt <= 0 {
		dt = 1
	}
	weight := dt / (dt + float64(rateWindow))
	c.rate += weight * (float64(n)*1e9/dt - c.rate)
	if n >= BatchSize || c.rate < coalesceRate {
		return 0 // more is waiting, or too little comes
	}
	d := min(time.Duration(coalesceBatch/c.rate*1e9), maxWait)
	safe := time.Duration(c.capacity / max(burstFactor*c.rate, burstRate) * 1e9)
	if d = min(max(d, minWait), safe); d < minWait {
		return 0
	}
	return d
}
