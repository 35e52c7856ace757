package recent

import (
	"context"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// followEvery is how often those who follow look for new records.
const followEvery = 100 * time.Millisecond

// ticks is how often they do so in a second.
const ticks = int(time.Second / followEvery)

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
	room    int           // records that may be handed on now, if there is a bound
	recent  [ticks]int    // records that were handed on at the last ticks
	tick    int           // index in recent
	full    bool          // there were more records than room
	later   int           // ticks until f is called once more, 0 if it is not
	replay  bool          // the batch with what there was already is still to come

	list []glance       // of the last poll; its room is used again
	ends map[int]uint64 // records of the workers up to the end of what is listed
}

// Follow calls f with each record that matches q from now on, or from q.Since on if that
// is set, until ctx ends or f fails. It returns f's error, or that of ctx. Records come in
// batches, every [followEvery] at most: after each one, the record is nil. With q.Since, what
// there is already is the first one, even if nothing is, in the order of the times of receipt.
// Then records come as they arrive, also those that were received before others, or before
// q.Since, but had to wait for a template or a pod. Those of several workers are merged by the
// times in each batch.
//
// skipped is how many records were left out since the call before: those that were gone
// before a slow f could see them, and those beyond q.PerSecond. They were not looked at,
// so it is not known whether they match. A little more than a second after such a call,
// there is one more with a nil record: f may have kept something to say until then.
func (s *Store) Follow(ctx context.Context, q Query, f func(r *flow.Record, skipped uint64) error) error {
	w := s.newFollower(q)
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if err := w.poll(ctx, f); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		w.next()
	}
}

// laterTicks is when f is called again after records were skipped: more than a second later, as
// ticks do not come on time.
const laterTicks = ticks + ticks/2

// next makes room for the records of a tick. Records come in bursts: what is for a second may be
// used at once. Where that was not enough at the tick before, it is spread over some.
func (w *follower) next() {
	w.tick = (w.tick + 1) % ticks
	w.recent[w.tick] = 0
	w.room = w.q.PerSecond
	for _, n := range w.recent {
		w.room -= n
	}
	if w.full {
		w.room = min(w.room, max(2*w.q.PerSecond/ticks, 1))
	}
	w.full = false
}

// newFollower returns a follower that has read nothing of what it is to hand on.
func (s *Store) newFollower(q Query) *follower {
	w := &follower{s: s, q: q, places: make(map[int]place), ends: make(map[int]uint64), room: q.PerSecond}
	w.q.Newest = false
	list := s.glances()
	if q.Since.IsZero() {
		for i := range list {
			w.passOver(&list[i])
		}
		return w
	}
	w.replay = true
	// What has gone already was never promised.
	for _, l := range list {
		if _, ok := w.places[l.worker]; !ok {
			w.places[l.worker] = place{number: l.number, read: l.first}
		}
	}
	return w
}

// passOver counts all records of a segment as read.
func (w *follower) passOver(l *glance) {
	w.places[l.worker] = place{number: l.number, used: l.used, read: l.first + uint64(l.count)}
}

// poll hands on what came since the last one.
func (w *follower) poll(ctx context.Context, f func(*flow.Record, uint64) error) error {
	handed := 0
	if list := w.news(); len(list) > 0 {
		var err error
		if handed, err = w.handOn(ctx, list, f); err != nil {
			return err
		}
	}
	again := false
	if w.later > 0 {
		w.later--
		again = w.later == 0
	}
	if handed == 0 && w.skipped == 0 && !w.replay && !again {
		return nil
	}
	w.replay, w.q.Since = false, time.Time{} // what comes late may be older
	return f(nil, w.tell())
}

// tell returns how many records were skipped that f does not know of yet.
func (w *follower) tell() (skipped uint64) {
	if skipped = w.skipped; skipped > 0 {
		w.skipped, w.later = 0, laterTicks
	}
	return skipped
}

// news returns the segments with records that were not read yet. It counts those that
// have gone in the meantime.
func (w *follower) news() []glance {
	w.list = w.s.glancesOf(w.list[:0], func(l *glance) bool {
		p := w.places[l.worker]
		return l.first+uint64(l.count) > p.read && l.number >= p.number
	})
	clear(w.ends)
	for i := range w.list {
		l := &w.list[i]
		before, ok := w.ends[l.worker]
		if !ok {
			before = w.places[l.worker].read
		}
		if l.first > before { // an older segment may stay for longer, if somebody reads it
			w.skipped += l.first - before
		}
		w.ends[l.worker] = l.first + uint64(l.count)
	}
	return w.list
}

// handOn calls f with the records of the segments that match, and returns how many these
// were. It counts those that it does not get to as skipped.
func (w *follower) handOn(ctx context.Context, list []glance, f func(*flow.Record, uint64) error) (handed int, err error) {
	total := 0
	for i := range list {
		l := &list[i]
		l.unread = int(l.first + uint64(l.count) - max(w.places[l.worker].read, l.first))
		total += l.unread
	}
	m := w.s.newMerger(list, &w.q, !w.replay)
	defer m.free()
	if w.q.Waits != nil {
		w.q.Waits(m.release)
	}
	if w.q.PerSecond > 0 && w.q.Match == nil && w.q.Since.IsZero() && w.q.Until.IsZero() {
		m.most = w.room + 1 // what comes after is not looked at
	}
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
	err = m.each(ctx, func(r *flow.Record) bool {
		if w.q.PerSecond > 0 && w.room < 1 && !w.replay {
			w.full = true
			return false
		}
		looked++
		if w.q.Match != nil && !w.q.Match(r) {
			return true
		}
		handed++
		if !w.replay { // what there is already was asked for
			w.room--
			w.recent[w.tick]++
		}
		failed = f(r, w.tell())
		return failed == nil
	})
	if failed != nil {
		return handed, failed
	}
	if rest := total - looked - m.outside; rest > 0 {
		w.skipped += uint64(rest)
	}
	return handed, err
}
