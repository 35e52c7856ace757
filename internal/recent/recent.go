// Package recent keeps the newest records in memory, for those who look at them: the
// page, its API and Hubble's.
//
// Each worker packs its records into segments (segment.go), one after another. A ring has
// room for a number of segments. When it is full, the oldest that nobody reads is written
// anew. Readers that may wait copy a segment before they unpack its records. What only counts
// reads them in their place: that takes less than a millisecond a segment, but for a long filter.
// So a worker never waits for a reader, and seldom goes on to the next segment for one.
package recent

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// MinRoom is the least room that a [Store] can have, in bytes. See [LeastRoom].
const MinRoom = 1 << 20

// Config has the settings of a [Store].
type Config struct {
	// Room is how many bytes records and sums take, at least [MinRoom].
	Room int64
	// Mapping has the fields that a record's Ends belong to, by index of Ends.
	Mapping []flow.MapEntry
}

// Store has the newest records of all workers. Any number of goroutines may use it.
type Store struct {
	cfg    Config
	mapped ends

	next   atomic.Uint64 // number of the segment that comes next
	slots  []atomic.Pointer[segment]
	gone   atomic.Uint64 // time of receipt of the newest record that has left
	missed missed
	sums   *sums
	room   int64        // for segments and objects, in bytes
	used   atomic.Int64 // by them
	pages  atomic.Int64 // that readers have

	mostObjects int // of a segment

	skipped         *prometheus.CounterVec // by client
	tooLong, noRoom prometheus.Counter     // records that are not in the ring

	mu     sync.Mutex // never held by a worker with records
	stages []*Stage
}

// The clients that may skip records, as values of the label client.
const (
	ClientPage   = "page"
	ClientHubble = "hubble"
)

// New makes a Store and registers its metrics. It keeps no memory yet.
func New(cfg Config, reg prometheus.Registerer) (*Store, error) {
	if cfg.Room < MinRoom {
		return nil, fmt.Errorf("%d bytes are not enough for the newest records; at least %d are", cfg.Room, MinRoom)
	}
	sumsRoom := cfg.Room / sumsShare
	room := cfg.Room - sumsRoom
	s := &Store{
		cfg: cfg, room: room, mapped: endsOf(cfg.Mapping),
		slots:       make([]atomic.Pointer[segment], room/segmentSize),
		mostObjects: int(min(segmentObjects, room/objectsShare/objectSize)),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kube_enricher_recent_skipped_total",
			Help: "records that those who follow the newest ones were not sent, since they were too slow or there were too many",
		}, []string{"client"}),
	}
	s.sums = newSums(sumsRoom, len(s.slots))
	for _, client := range []string{ClientPage, ClientHubble} {
		s.skipped.WithLabelValues(client)
	}
	lost := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kube_enricher_recent_lost_total",
		Help: "records that are not among the newest ones in memory; sums and outputs have them",
	}, []string{"reason"})
	s.tooLong, s.noRoom = lost.WithLabelValues("too_long"), lost.WithLabelValues("no_room")
	for _, c := range []prometheus.Collector{s.skipped, lost} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return s, nil
}

// Skipped returns the counter of what a client was not sent. Who follows counts there
// what [Store.Follow] reports.
func (s *Store) Skipped(client string) prometheus.Counter {
	return s.skipped.WithLabelValues(client)
}

// LeastRoom returns how many bytes so many workers need at least, in whole MiB: each fills a
// segment of its own, and there must be as many that are full, which others can read. Two are for
// answers of what is counted, which read a segment in its place; the API makes two at once.
func LeastRoom(workers int) int64 {
	const mebibyte, counting = 1 << 20, 2
	segments := int64(2*workers+1+counting) * segmentSize
	bytes := segments * sumsShare / (sumsShare - 1)
	return max(MinRoom, (bytes+mebibyte-1)/mebibyte*mebibyte)
}

// sumsShare is the share of the room that sums have: one in so many bytes.
const sumsShare = 4

// The objects of a segment have one in objectsShare bytes of the ring's room at most, if they
// take as much as objectSize each.
const (
	objectsShare = 4
	objectSize   = 400
)

// endsOf finds source and destination among the mapped fields.
func endsOf(mapping []flow.MapEntry) ends {
	e := ends{src: flow.MaxEnds, dst: flow.MaxEnds, n: len(mapping)}
	for i, m := range mapping {
		switch m.Field {
		case flow.FieldSrcAddr:
			e.src = i
		case flow.FieldDstAddr:
			e.dst = i
		}
	}
	return e
}

// foldEvery is how often records are added to the sums.
const foldEvery = 250 * time.Millisecond

// Run makes room for records, and adds them to the sums until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	s.makeRoom()
	tick := time.NewTicker(foldEvery)
	defer tick.Stop()
	for last := uint64(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n := s.next.Load(); n != last { // a segment may be sealed
			last = n
			s.sums.mu.Lock()
			s.fold()
			s.sums.mu.Unlock()
		}
	}
}

// makeRoom makes all segments at once. One by one, as records come, they would make the heap
// grow, which means a collection of garbage after each quarter of it: with many pods that
// costs more than the records. The system gives memory only when it is written to.
func (s *Store) makeRoom() {
	for i := range s.slots {
		if s.used.Add(segmentSize) > s.room || !s.slots[i].CompareAndSwap(nil, new(segment)) {
			s.used.Add(-segmentSize)
		}
	}
}

// Stage keeps a worker's records and passes them on unchanged. It is a [flow.Handler],
// used by one goroutine at a time.
type Stage struct {
	s      *Store
	worker int
	next   flow.Handler

	open   *segment // nil before the first record
	has    extent   // of open
	total  uint64   // records before those
	newest uint64   // time of receipt of the newest of all
	ids    [idSlots]knownObject

	_ [64]byte // keeps the workers' stages out of each other's cache lines
}

// Stage makes a worker's stage that passes its records on to next. Workers have numbers
// from 0 on.
func (s *Store) Stage(worker int, next flow.Handler) *Stage {
	st := &Stage{s: s, worker: worker, next: next}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stages = append(s.stages, st)
	return st
}

// HandleFlow implements [flow.Handler]. It does not keep r.
func (st *Stage) HandleFlow(r *flow.Record) {
	st.keep(r)
	st.next.HandleFlow(r)
}

// Idle implements [flow.Handler].
func (st *Stage) Idle() (pending bool) { return st.next.Idle() }

// Query says which records are wanted.
type Query struct {
	// Since and Until bound the time of receipt, both inclusive; zero for no bound.
	Since, Until time.Time
	// Newest asks for the newest records first. [Store.Follow] does not know it.
	Newest bool
	// Match reports whether a record is wanted; nil for all. One goroutine calls it. It does
	// not wait for anything: a worker may have to do without the segment meanwhile.
	Match func(*flow.Record) bool
	// PerSecond bounds how many records [Store.Follow] hands on, 0 for no bound. Those
	// beyond it are skipped, and not looked at. Those that were there before are not bounded.
	PerSecond int
	// Waits, if not nil, is called before any record, and by [Store.Follow] before each batch, with
	// a function that the reader's f may call before it waits for long. The record is not valid
	// after that, and the reader takes hardly any memory until f returns.
	Waits func(release func())
}
