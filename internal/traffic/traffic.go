// Package traffic counts bytes, packets and flows between workloads. The number of
// its metrics is bounded.
//
// Each worker counts into a table of its own. A scrape takes the tables, adds them
// up, and decides which pairs of workloads have series of their own. All other pairs
// share one series, whose labels are all "other".
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

// Config has the settings of a [Counter].
type Config struct {
	// Mapping has the fields that a record's Ends belong to, by index of Ends. An
	// end without an entry counts as unknown.
	Mapping []flow.MapEntry
	// MaxSeries is the largest number of series of each metric, including the one
	// for all other pairs. It is at least 2.
	MaxSeries int
	// Zones adds the zones of both ends as labels, which makes as many more pairs.
	Zones bool
}

// Counter has the metrics of all workers. Any number of goroutines may use it.
type Counter struct {
	src, dst int // indexes of a record's Ends; flow.MaxEnds if there is none
	room     int // pairs in a worker's table
	zones    bool

	mu      sync.Mutex // held by scrapes and by NewStage, never by a worker with records
	stages  []*Stage
	ranking ranking

	descs   [numValues]*prometheus.Desc
	records *prometheus.Desc
	series  *prometheus.Desc
	swaps   *prometheus.Desc
}

// New makes a Counter and registers its metrics. It fails if MaxSeries is too small,
// or if reg has the metrics already.
func New(cfg Config, reg prometheus.Registerer) (*Counter, error) {
	if cfg.MaxSeries < 2 {
		return nil, errors.New("fewer than 2 series of traffic between workloads")
	}
	c := &Counter{src: flow.MaxEnds, dst: flow.MaxEnds, room: max(roomFactor*cfg.MaxSeries, minRoom), zones: cfg.Zones}
	for i, e := range cfg.Mapping {
		switch e.Field {
		case flow.FieldSrcAddr:
			c.src = i
		case flow.FieldDstAddr:
			c.dst = i
		}
	}
	c.ranking = newRanking(cfg.MaxSeries-1, time.Now())
	c.ranking.zones = cfg.Zones
	c.describe()
	if err := reg.Register(c); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return c, nil
}

// A worker's table has room for roomFactor times the pairs that can have series, and
// for minRoom at least: only a scrape decides which pairs have series.
const (
	roomFactor = 4
	minRoom    = 1024
)

// pair has the workload that sends and the one that receives. A workload that is not
// known is zero.
type pair struct{ src, dst unique.Handle[flow.Workload] }

// The values that are counted, as indexes of counts.
const (
	valueBytes = iota
	valuePackets
	valueFlows
	numValues
)

// counts are the counters of one pair. They never decrease and never wrap: they stop
// at the largest number.
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

// result is what a stage did with a record.
type result uint8

const (
	resultCounted   result = iota
	resultDuplicate        // another record has the same packets
	resultSample           // of OVN's, beside the bridge's records
	resultNoAddress
	numResults
)

// resultNames are the values of the label result.
var resultNames = [numResults]string{"counted", "repeated", "sample", "no_address"}

// Stage counts a worker's records and passes them on unchanged. It is a
// [flow.Handler], used by one goroutine at a time. Scrapes may come meanwhile.
type Stage struct {
	c       *Counter
	next    flow.Handler
	results [numResults]atomic.Uint64

	mu    sync.Mutex // guards table; held for moments only, and never by another worker
	table *table     // nil before the first record, since many sockets never get any
	spare *table     // empty, guarded by Counter.mu; nil before the first scrape with counts

	_ [64]byte // keeps the workers' stages out of each other's cache lines
}

// NewStage makes a worker's stage that passes its records on to next.
func (c *Counter) NewStage(next flow.Handler) *Stage {
	s := &Stage{c: c, next: next}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stages = append(c.stages, s)
	return s
}

// HandleFlow implements [flow.Handler]. It does not keep r.
func (s *Stage) HandleFlow(r *flow.Record) {
	s.count(r)
	s.next.HandleFlow(r)
}

// Idle implements [flow.Handler].
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }

func (s *Stage) count(r *flow.Record) {
	if !r.CountsOnce() {
		s.results[reasonOf(r)].Add(1)
		return
	}
	s.results[resultCounted].Add(1)
	bytes, packets := Estimate(r)
	d := counts{bytes, packets, 1}
	p := pair{s.workload(r, s.c.src), s.workload(r, s.c.dst)}
	s.mu.Lock()
	if s.table == nil {
		s.table = newTable(s.c.room)
	}
	s.table.add(p, &d)
	s.mu.Unlock()
}

// reasonOf returns why a record does not count.
func reasonOf(r *flow.Record) result {
	switch {
	case !r.HasAddress(): // such as ARP
		return resultNoAddress
	case r.Extra.Sampled:
		return resultSample
	}
	return resultDuplicate
}

// workload returns the workload of the end with the given index, zero if it is not
// known.
func (s *Stage) workload(r *flow.Record, end int) unique.Handle[flow.Workload] {
	if end < len(r.Ends) {
		switch o := r.Ends[end].Object; {
		case o == nil:
		case s.c.zones:
			return o.ZonedWorkloadID()
		default:
			return o.WorkloadID()
		}
	}
	return unique.Handle[flow.Workload]{}
}

// Estimate returns the bytes and packets that a record stands for.
func Estimate(r *flow.Record) (bytes, packets uint64) {
	return flow.Estimate(r.Msg.Bytes, r.Msg.Packets, r.Msg.SamplingRate, r.Extra.Scaled)
}

// swapTable gives the worker an empty table and returns the one with its counts. It
// returns nil if nothing was ever counted. The table is the next spare one: the caller
// clears it before it unlocks Counter.mu.
func (s *Stage) swapTable() *table {
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
