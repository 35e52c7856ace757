package recent

import (
	"context"
	"math"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// followEvery is how often those who follow look for new records.
const followEvery = 100 * time.Millisecond

// place is how far somebody who follows has read the records of a worker.
type place struct {
	number uint64 // of the segment
	used   int    // of it, in bytes
	read   uint64 // records of the worker that were read or skipped
}

// follower reads what comes.
type follower struct {
	s       *Store
	q       Query
	places  map[int]place // by worker
	skipped uint64        // records that the next call tells of
	room    float64       // records that may be handed on now, if there is a bound
}

// Follow calls f with each record that matches q from now on, or from q.Since on if that
// is set, by the time of receipt, until ctx ends or f fails. It returns f's error, or
// that of ctx.
//
// skipped is how many records were left out since the call before: those that were gone
// before a slow f could see them, and those beyond q.PerSecond. They were not looked at,
// so it is not known whether they match. The record is nil if there are only such.
func (s *Store) Follow(ctx context.Context, q Query, f func(r *flow.Record, skipped uint64) error) error {
	w := &follower{s: s, q: q, places: make(map[int]place)}
	w.q.Newest = false
	list := s.glances()
	if q.Since.IsZero() {
		for i := range list {
			w.passOver(&list[i])
		}
	} else {
		// What has gone already was never promised.
		for _, l := range list {
			if _, ok := w.places[l.worker]; !ok {
				w.places[l.worker] = place{number: l.number, read: l.first}
			}
		}
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	w.room = float64(q.PerSecond)
	if !q.Since.IsZero() {
		w.room = math.Inf(1) // what there is already was asked for
	}
	for {
		if err := w.poll(ctx, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		// Records come in bursts: what is for a second may be used at once.
		w.room = min(w.room+float64(q.PerSecond)*followEvery.Seconds(), float64(q.PerSecond))
	}
}

// passOver counts all records of a segment as read.
func (w *follower) passOver(l *glance) {
	w.places[l.worker] = place{number: l.number, used: l.used, read: l.first + uint64(l.count)}
}

// poll hands on what came since the last one.
func (w *follower) poll(ctx context.Context, f func(*flow.Record, uint64) error) error {
	list := w.news()
	if len(list) > 0 {
		if err := w.handOn(ctx, list, f); err != nil {
			return err
		}
	}
	if w.skipped > 0 {
		n := w.skipped
		w.skipped = 0
		return f(nil, n)
	}
	return nil
}

// news returns the segments with records that were not read yet. It counts those that
// have gone in the meantime.
func (w *follower) news() []glance {
	list := w.s.glances()
	n := 0
	seen := make(map[int]bool)
	for _, l := range list {
		p := w.places[l.worker]
		end := l.first + uint64(l.count)
		if end <= p.read || l.number < p.number {
			continue
		}
		if !seen[l.worker] && l.first > p.read {
			w.skipped += l.first - p.read
		}
		seen[l.worker] = true
		list[n] = l
		n++
	}
	return list[:n]
}

// handOn calls f with the records of the segments that match. It counts those that it
// does not get to as skipped.
func (w *follower) handOn(ctx context.Context, list []glance, f func(*flow.Record, uint64) error) error {
	total := 0
	for i := range list {
		l := &list[i]
		l.unread = int(l.first + uint64(l.count) - max(w.places[l.worker].read, l.first))
		total += l.unread
	}
	m := w.s.newMerger(list, &w.q)
	defer m.free()
	for _, c := range m.cursors {
		if p := w.places[c.list[0].worker]; p.number == c.list[0].number {
			c.from = p.used
		}
	}
	for i := range list {
		w.passOver(&list[i])
	}
	looked := 0
	var failed error
	err := m.each(ctx, func(r *flow.Record) bool {
		if w.q.PerSecond > 0 && w.room < 1 {
			return false
		}
		looked++
		if w.q.Match != nil && !w.q.Match(r) {
			return true
		}
		w.room--
		skipped := w.skipped
		w.skipped = 0
		failed = f(r, skipped)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if rest := total - looked - m.outside; rest > 0 {
		w.skipped += uint64(rest)
	}
	return err
}
