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

// visitor takes what an answer is made of: what a pair (a number of the table, -1 for
// others) has in the interval that begins at start, which is the time of receipt for a
// single record. The sum is valid until it returns.
type visitor func(number int32, start uint64, s *sum)

// visit calls f with all that matches q, by pairs of t. It returns the time from which on
// the answer is complete, and the longest interval that f was called with.
//
// Records tell most. Sums tell of records that have left, and take less time, if all records
// are wanted, or all from a time on that only sums reach back to.
func (s *Store) visit(ctx context.Context, q *Query, t *pairTable, f visitor) (from, step uint64, err error) {
	since, until := q.bounds()
	gone := s.gone.Load()
	if whole := gone > 0 || until == math.MaxUint64; whole && q.Match == nil && s.sumsReach(since) {
		from, step = s.visitSums(since, until, t, f)
		return from, step, nil
	}
	list := s.glances()
	from = since
	if gone > 0 {
		from = max(from, gone)
	}
	return from, 0, s.visitRecords(ctx, q, list, t, f)
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

// visitSums calls f with the sums, and with the records that are not among them yet.
func (s *Store) visitSums(since, until uint64, t *pairTable, f visitor) (from, step uint64) {
	u := s.sums
	u.mu.Lock()
	defer u.mu.Unlock()
	s.fold()
	from = math.MaxUint64
	for _, b := range u.buckets {
		if b.start+b.step <= since || b.start > until {
			continue
		}
		from, step = min(from, b.start), max(step, b.step)
		for p, sum := range b.pairs {
			f(t.numberOfPair(p), b.start, sum)
		}
		if b.other != (Counts{}) {
			f(-1, b.start, &sum{Counts: b.other})
		}
	}
	p := &u.page
	for _, l := range s.glances() {
		if l.segment.folded.Load() || !l.copyTo(p) {
			continue
		}
		visitPage(p, s.mapped, since, until, t, f)
	}
	p.clear()
	return min(from, max(since, s.gone.Load())), step
}

// visitRecords calls f with the records that match q.
func (s *Store) visitRecords(ctx context.Context, q *Query, list []glance, t *pairTable, f visitor) error {
	since, until := q.bounds()
	p := pages.Get().(*page)
	defer p.free()
	var r flow.Record
	var u unpacker
	var h head
	var d sum
	for i := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l := &list[i]; l.outside(since, until) || !l.copyTo(p) {
			continue
		}
		if q.Match == nil {
			visitPage(p, s.mapped, since, until, t, f)
			continue
		}
		for at := 0; at < p.used; at += p.lengthAt(at) {
			if at := p.receivedAt(at); at < since || at > until {
				continue
			}
			p.unpack(&u, &r, at, s.mapped.n)
			if !q.Match(&r) {
				continue
			}
			h.of(&r, s.mapped)
			h.visit(&d, t, f)
		}
	}
	return nil
}

// visitPage calls f with all records of a page.
func visitPage(p *page, e ends, since, until uint64, t *pairTable, f visitor) {
	var d sum
	for at := 0; at < p.used; at += p.lengthAt(at) {
		if at := p.receivedAt(at); at < since || at > until {
			continue
		}
		h := p.head(at, e)
		h.visit(&d, t, f)
	}
}

// visit calls f with one record, unless it says nothing of a pair. d is for the call.
func (h *head) visit(d *sum, t *pairTable, f visitor) {
	if h.Flows == 0 && h.verdict == 0 {
		return
	}
	*d = sum{h.Counts, h.received, h.verdict}
	f(t.number(h.src.Object, h.dst.Object), h.received, d)
}

// Pairs answers who talks to whom. Of the pairs with most bytes it shows limit.
func (s *Store) Pairs(ctx context.Context, q Query, limit int) (*Pairs, error) {
	t := newPairTable(maxPairs)
	var sums []sum
	var other Counts
	oldest, newest := s.span()
	from, _, err := s.visit(ctx, &q, t, func(n int32, _ uint64, d *sum) {
		if n < 0 { // there was no room
			other.add(d.Counts)
			return
		}
		if int(n) == len(sums) {
			sums = append(sums, sum{})
		}
		sums[n].add(d)
	})
	if err != nil {
		return nil, err
	}
	_, until := q.bounds()
	answer := &Pairs{Start: known(max(from, oldest)), End: known(min(until, newest)), Pairs: []Pair{}, Other: Others{Counts: other}}
	top := topSums(sums, limit)
	for i := range sums {
		answer.Other.Counts.add(sums[i].Counts)
	}
	answer.Other.Pairs = len(sums) - len(top)
	for _, n := range top {
		d, p := &sums[n], t.pair(n)
		answer.Other.Counts.remove(d.Counts)
		answer.Pairs = append(answer.Pairs, Pair{
			Src: endOf(p.src), Dst: endOf(p.dst),
			Counts: d.Counts, LastSeen: timeOf(d.last), Verdict: d.verdict.String(),
		})
	}
	return answer, nil
}

// topSums returns the indexes of the sums with most bytes, at most n, in their order.
func topSums(sums []sum, n int) []int32 {
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
