// Package traffic counts bytes, packets and flows between workloads, as metrics
// of bounded number.
//
// Each worker counts into a table of its own. A scrape takes the tables away,
// adds them up, and decides which pairs of workloads have series of their own;
// all others share one, whose labels are all "other".
package traffic

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Config says what is counted.
type Config struct {
	// Mapping says which entry of a record's ends is whose. Ends that are not
	// mapped are unknown.
	Mapping []flow.MapEntry
	// MaxSeries bounds the series of each metric, the one for all others
	// included. It is at least 2.
	MaxSeries int
}

// Counter has the metrics of all workers.
type Counter struct {
	src, dst int // entries of the mapping, flow.MaxEnds if there is none
	room     int // pairs in a worker's table

	mu     sync.Mutex // of those who scrape; workers never wait for it
	stages []*Stage
	ranks  ranking

	descs   [numValues]*prometheus.Desc
	records *prometheus.Desc
	series  *prometheus.Desc
	swaps   *prometheus.Desc
}

// New makes a Counter and registers its metrics.
func New(cfg Config, reg prometheus.Registerer) (*Counter, error) {
	if cfg.MaxSeries < 2 {
		return nil, errors.New("fewer than 2 series of traffic between workloads")
	}
	c := &Counter{src: flow.MaxEnds, dst: flow.MaxEnds, room: max(roomFactor*cfg.MaxSeries, minRoom)}
	for i, e := range cfg.Mapping {
		switch e.Field {
		case flow.FieldSrcAddr:
			c.src = i
		case flow.FieldDstAddr:
			c.dst = i
		}
	}
	c.ranks = newRanking(cfg.MaxSeries-1, time.Now())
	c.describe()
	if err := reg.Register(c); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return c, nil
}

// A worker's table has room for some more pairs than can have series, since
// only a scrape decides which those are.
const (
	roomFactor = 4
	minRoom    = 1024
)

// pair is who sends and who receives. Unknown workloads are zero.
type pair struct{ src, dst unique.Handle[flow.Workload] }

// The values that are counted.
const (
	valueBytes = iota
	valuePackets
	valueFlows
	numValues
)

// counts never decrease, and never wrap: they stop at the largest number.
type counts [numValues]uint64

func (c *counts) add(d *counts) {
	for i, n := range d {
		sum, carry := bits.Add64(c[i], n, 0)
		if carry != 0 {
			sum = ^uint64(0)
		}
		c[i] = sum
	}
}

// table is what one worker counted since the last scrape.
type table struct {
	index  map[pair]int32 // in pairs and counts
	pairs  []pair
	counts []counts
	rest   counts // of pairs for which there was no room
}

// newTable makes a table with all the room that it may need: it is full soon after
// each scrape where there are many pairs, and growing costs more than counting.
func newTable(room int) *table {
	return &table{index: make(map[pair]int32, room), pairs: make([]pair, 0, room), counts: make([]counts, 0, room)}
}

// slot returns where to count p. It allocates only while the table grows, which
// it stops at room.
func (t *table) slot(p pair, room int) *counts {
	i, ok := t.index[p]
	if !ok {
		if len(t.pairs) >= room {
			return &t.rest
		}
		i = int32(len(t.pairs))
		t.index[p] = i
		t.pairs = append(t.pairs, p)
		t.counts = append(t.counts, counts{})
	}
	return &t.counts[i]
}

func (t *table) clear() {
	clear(t.index)
	clear(t.pairs) // handles keep what they stand for in memory
	t.pairs, t.counts, t.rest = t.pairs[:0], t.counts[:0], counts{}
}

// result is what became of a record here.
type result uint8

const (
	resultCounted  result = iota
	resultRepeated        // another record has the same packets
	resultNoAddress
	numResults
)

var resultNames = [numResults]string{"counted", "repeated", "no_address"}

// Stage counts a worker's records and hands them on as they are. It is used by
// one goroutine at a time, beside those that scrape.
type Stage struct {
	c       *Counter
	next    flow.Handler
	results [numResults]atomic.Uint64

	mu    sync.Mutex // held for moments only, and never by another worker
	table *table     // nil until there is something to count: most sockets of many get nothing
	spare *table     // of the scrape, empty; nil until there was something to take away

	_ [64]byte // keeps the workers' stages out of each other's cache lines
}

// NewStage makes a worker's stage in front of next.
func (c *Counter) NewStage(next flow.Handler) *Stage {
	s := &Stage{c: c, next: next}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stages = append(c.stages, s)
	return s
}

// HandleFlow counts r and hands it on.
func (s *Stage) HandleFlow(r *flow.Record) {
	s.count(r)
	s.next.HandleFlow(r)
}

// Idle passes the call on.
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }

func (s *Stage) count(r *flow.Record) {
	switch {
	case r.Extra.Duplicate:
		s.results[resultRepeated].Add(1)
		return
	case len(r.Msg.SrcAddr) == 0 && len(r.Msg.DstAddr) == 0: // ARP and its like
		s.results[resultNoAddress].Add(1)
		return
	}
	s.results[resultCounted].Add(1)
	rate := r.Msg.SamplingRate
	if rate == 0 || r.Extra.Scaled {
		rate = 1
	}
	d := counts{scaled(r.Msg.Bytes, rate), scaled(r.Msg.Packets, rate), 1}
	p := pair{s.workload(r, s.c.src), s.workload(r, s.c.dst)}
	s.mu.Lock()
	if s.table == nil {
		s.table = newTable(s.c.room)
	}
	s.table.slot(p, s.c.room).add(&d)
	s.mu.Unlock()
}

func (s *Stage) workload(r *flow.Record, entry int) unique.Handle[flow.Workload] {
	if entry < len(r.Ends) {
		if o := r.Ends[entry].Object; o != nil {
			return o.WorkloadID()
		}
	}
	return unique.Handle[flow.Workload]{}
}

// maxValue bounds the bytes and packets of one record: 256 TiB. No exporter
// sends more unless it lies, and then it should not stop the counter.
const maxValue = 1 << 48

func scaled(n, rate uint64) uint64 {
	if high, low := bits.Mul64(n, rate); high == 0 && low < maxValue {
		return low
	}
	return maxValue
}

// take takes the worker's table away. It returns nil if nothing was ever counted.
func (s *Stage) take() *table {
	s.mu.Lock()
	used := s.table != nil
	s.mu.Unlock()
	if !used {
		return nil
	}
	if s.spare == nil {
		s.spare = newTable(s.c.room)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table, s.spare = s.spare, s.table
	return s.spare
}
