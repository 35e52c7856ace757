package recent

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxPairs bounds the pairs that an answer is made of. What further ones have is among
// the others.
const maxPairs = 50_000

// Pair is who talks to whom, and how much.
type Pair struct {
	Src End `json:"src"`
	Dst End `json:"dst"`
	Counts
	LastSeen time.Time `json:"last_seen"`
	Verdict  string    `json:"verdict"`
}

// Pairs is an answer about pairs, those with most bytes first.
type Pairs struct {
	Start *time.Time `json:"start"` // nil if there are no records
	End   *time.Time `json:"end"`
	Pairs []Pair     `json:"pairs"`
	Other Others     `json:"other"`
}

// Others is what is not shown one by one.
type Others struct {
	Counts
	Pairs int `json:"pairs"`
}

// visitor takes what an answer is made of: what a pair has in the interval that begins at start,
// which is the time of receipt for a single record, and the sum's parts. Pairs have the numbers of
// workloads of the answer's table. All are passed in registers, which a struct of five is not: to
// copy what has just been written takes longer than all else.
type visitor func(p pair, start uint64, c Counts, last uint64, v verdicts)

// others takes what pairs have in an interval that are not known.
type others func(start uint64, c Counts)

// visit calls f and rest with all that matches q, by workloads of t. It returns the time from
// which on the answer is complete.
//
// Records tell most. Sums tell of records that have left, and take less time, if all records
// are wanted, or all from a time on that only sums reach back to.
func (s *Store) visit(ctx context.Context, q *Query, t *pairTable, f visitor, rest others) (from uint64, err error) {
	since, until := q.bounds()
	gone := s.gone.Load()
	if whole := gone > 0 || until == math.MaxUint64; whole && q.Match == nil && s.sumsReach(since) {
		return s.visitSums(since, until, t, f, rest), nil
	}
	list := s.glances()
	s.sums.mu.Lock()
	t.take(s.sums.workloads)
	s.sums.mu.Unlock()
	from = since
	if gone > 0 {
		from = max(from, gone)
	}
	return from, s.visitRecords(ctx, q, list, t, f)
}

// sumsReach reports whether sums tell all that there is of the time from since on, and the
// records in memory no more than that.
func (s *Store) sumsReach(since uint64) bool {
	gone := s.gone.Load()
	s.sums.mu.Lock()
	defer s.sums.mu.Unlock()
	if len(s.sums.buckets) == 0 {
		return false
	}
	first := s.sums.buckets[0].start
	if gone > 0 {
		return since <= gone && first <= gone
	}
	return since <= first && !s.sums.shrunk
}

// visitSums calls f and rest with the sums, and with the records that are not among them yet. The
// table, which is empty, takes over their workloads.
func (s *Store) visitSums(since, until uint64, t *pairTable, f visitor, rest others) (from uint64) {
	u := s.sums
	u.mu.Lock()
	defer u.mu.Unlock()
	s.fold()
	from = math.MaxUint64
	t.take(u.workloads)
	for _, b := range u.buckets {
		if b.start+b.step <= since || b.start > until {
			continue
		}
		from = min(from, b.start)
		for i := range b.list {
			p := &b.list[i]
			f(p.pair, b.start, p.Counts, p.last, p.verdict)
		}
		if b.other != (Counts{}) {
			rest(b.start, b.other)
		}
	}
	w := walk{since: since, until: until, mapped: s.mapped, table: t, visit: f}
	for _, l := range s.glances() {
		if !l.segment.folded.Load() && l.pin() {
			u.numbersFor(t, &l)
			w.all(l.view())
			l.segment.unpin()
		}
	}
	return min(from, max(since, s.gone.Load()))
}

// visitRecords calls f with the records that match q.
func (s *Store) visitRecords(ctx context.Context, q *Query, list []glance, t *pairTable, f visitor) error {
	since, until := q.bounds()
	w := walk{since: since, until: until, mapped: s.mapped, table: t, visit: f, match: q.Match}
	for i := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l := &list[i]; !l.outside(since, until) {
			w.segment(s.sums, l)
		}
	}
	return nil
}

// walk visits the records of segments.
type walk struct {
	since, until uint64
	mapped       ends
	table        *pairTable
	visit        visitor
	match        func(*flow.Record) bool

	record   flow.Record
	unpacker unpacker
}

// segment visits the records of a segment in their place, since nothing waits meanwhile. To copy
// them takes time, and pushes the table out of the processor's cache.
func (w *walk) segment(u *sums, l *glance) {
	u.mu.Lock()
	pinned := l.pin()
	if pinned {
		u.numbersFor(w.table, l)
	}
	u.mu.Unlock()
	if !pinned {
		return
	}
	defer l.segment.unpin()
	if w.match == nil {
		w.all(l.view())
	} else {
		w.matching(l.view())
	}
}

// all visits all records of a segment.
func (w *walk) all(v *view) {
	numbers := &w.table.numbers
	var h head
	for at := 0; at < v.used; at += v.lengthAt(at) {
		if at := v.receivedAt(at); at < w.since || at > w.until {
			continue
		}
		if h.read(v, at, w.mapped); h.counts() {
			w.visit(pair{numbers[h.src], numbers[h.dst]}, h.received, h.Counts, h.received, h.verdict)
		}
	}
}

// matching visits the records of a segment that match.
func (w *walk) matching(v *view) {
	r, numbers := &w.record, &w.table.numbers
	for at := 0; at < v.used; at += v.lengthAt(at) {
		if at := v.receivedAt(at); at < w.since || at > w.until {
			continue
		}
		w.unpacker.unpack(v, r, at, w.mapped.n)
		if !w.match(r) {
			continue
		}
		c, verdict := countsOf(r), verdictOf(r.Extra.Verdict)
		if c.Flows == 0 && verdict == 0 {
			continue
		}
		b := v.bytes[at:]
		src, dst := placeOf(b, w.mapped.src, w.mapped.n), placeOf(b, w.mapped.dst, w.mapped.n)
		w.visit(pair{numbers[src], numbers[dst]}, r.Msg.TimeReceivedNs, c, r.Msg.TimeReceivedNs, verdict)
	}
}

// Pairs answers who talks to whom. Of the pairs with most bytes it shows limit.
func (s *Store) Pairs(ctx context.Context, q Query, limit int) (*Pairs, error) {
	t := newPairTable(maxPairs)
	defer t.free()
	var other Counts
	oldest, newest := s.span()
	b := &t.batch
	from, err := s.visit(ctx, &q, t, func(p pair, _ uint64, c Counts, last uint64, v verdicts) {
		next := b.next()
		next.pair, next.Counts, next.last, next.verdict = p, c, last, v
		if b.full() {
			t.addAll(b, &other)
		}
	}, func(_ uint64, c Counts) { other.add(c) })
	t.addAll(b, &other)
	if err != nil {
		return nil, err
	}
	_, until := q.bounds()
	end := min(until, newest)
	top := topSums(t.list, limit)
	answer := &Pairs{
		Start: known(min(max(from, oldest), end)), End: known(end),
		Pairs: make([]Pair, 0, len(top)), Other: Others{Counts: other, Pairs: len(t.list) - len(top)},
	}
	shown := make([]bool, len(t.list))
	for _, n := range top {
		d := &t.list[n]
		shown[n] = true
		answer.Pairs = append(answer.Pairs, Pair{
			Src: endOf(t.workloads.list[d.src]), Dst: endOf(t.workloads.list[d.dst]),
			Counts: d.Counts, LastSeen: timeOf(d.last), Verdict: d.verdict.String(),
		})
	}
	for i := range t.list {
		if !shown[i] {
			answer.Other.Counts.add(t.list[i].Counts)
		}
	}
	return answer, nil
}

// topSums returns the indexes of the sums with most bytes, at most n, in their order.
func topSums(sums []pairSum, n int) []int32 {
	more := func(a, b int32) int {
		return cmp.Or(cmp.Compare(sums[b].Bytes, sums[a].Bytes), cmp.Compare(a, b))
	}
	// Twice as many as are wanted are kept, and sorted when they are that many: sorting all
	// of them takes longer than reading the records.
	var top []int32
	least := uint64(0)
	for i := range sums {
		if sums[i].Bytes < least {
			continue
		}
		if top = append(top, int32(i)); len(top) >= 2*n+minSorted {
			slices.SortFunc(top, more)
			top = top[:n]
			least = sums[top[n-1]].Bytes
		}
	}
	slices.SortFunc(top, more)
	return top[:min(n, len(top))]
}

const minSorted = 1024

// known is like timeOf for JSON: nil for 0.
func known(ns uint64) *time.Time {
	if t := timeOf(ns); !t.IsZero() {
		return &t
	}
	return nil
}

// timeOf returns a time of receipt in UTC, zero for 0.
func timeOf(ns uint64) time.Time {
	if ns == 0 || ns > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns)).UTC()
}
