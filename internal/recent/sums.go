package recent

import (
	"slices"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// pairSize is what a pair in a bucket takes in memory, in bytes: a key and a sum, in a map
	// that may be half full, and its share of the names of workloads.
	pairSize = 160
	// maxBuckets bounds the buckets. They are merged, and the oldest leave, to stay below.
	maxBuckets = 400
	// minBuckets is how many there is room for, however many pairs each has: a bucket has one
	// in so many of all.
	// That is more than there can be before the oldest ones are merged.
	minBuckets = 32
	// maxExporters bounds the exporters that are counted apart.
	maxExporters = 1000
)

// steps are the lengths of buckets, in nanoseconds. Each divides the next one, and so
// buckets never overlap.
var steps = [...]uint64{2e9, 10e9, 60e9, 600e9, 3600e9}

// sum is what a pair has in a bucket.
type sum struct {
	Counts
	last    uint64 // time of receipt of the last record, Unix nanoseconds
	verdict verdicts
}

func (s *sum) add(d *sum) {
	s.Counts.add(d.Counts)
	s.last = max(s.last, d.last)
	s.verdict |= d.verdict
}

// bucket has the sums of an interval.
type bucket struct {
	start, step uint64
	pairs       map[pair]*sum
	other       Counts // of pairs for which there was no room
}

// merge adds another bucket. The pairs that there is no room for are among the others.
func (b *bucket) merge(o *bucket, most int) {
	for p, s := range o.pairs {
		if have := b.pairs[p]; have != nil {
			have.add(s)
		} else if len(b.pairs) < most {
			b.pairs[p] = s
		} else {
			b.other.add(s.Counts)
		}
	}
	b.other.add(o.other)
}

// sums has what was counted of segments, before they leave the ring. It is bounded.
type sums struct {
	mu      sync.Mutex
	most    int // pairs in all buckets
	outside unique.Handle[flow.Workload]

	buckets []*bucket // by start
	pairs   int       // in all of them
	shrunk  bool      // some have left
	total   totals
	page    page
}

// totals counts all records.
type totals struct {
	counts    Counts
	records   uint64
	addressed uint64 // records with an address
	named     uint64 // those with a name at one end
	newest    uint64 // time of receipt, Unix nanoseconds
	exporters map[exporterKey]*exporterSum
	lastOne   exporterKey  // that was counted last
	lastSum   *exporterSum // its sum
}

// clone returns a copy that shares nothing.
func (t *totals) clone() *totals {
	c := *t
	c.lastSum, c.exporters = nil, make(map[exporterKey]*exporterSum, len(t.exporters))
	for k, v := range t.exporters {
		e := *v
		c.exporters[k] = &e
	}
	return &c
}

type exporterKey struct {
	address string
	kind    int32
}

type exporterSum struct {
	records, last uint64
}

func newSums(room int64) *sums {
	return &sums{
		most: int(room / pairSize), outside: unique.Make(flow.Workload{Kind: KindNone, Name: Outside}),
		total: totals{exporters: make(map[exporterKey]*exporterSum)},
	}
}

// missed counts the records whose segments were written anew before they were added to the
// sums. Workers add to it.
type missed struct{ records, bytes, packets, flows atomic.Uint64 }

func (m *missed) add(records int, c Counts) {
	m.records.Add(uint64(records))
	m.bytes.Add(c.Bytes)
	m.packets.Add(c.Packets)
	m.flows.Add(c.Flows)
}

// take returns what was added since the last call.
func (m *missed) take() (records uint64, c Counts) {
	return m.records.Swap(0), Counts{m.bytes.Swap(0), m.packets.Swap(0), m.flows.Swap(0)}
}

// fold adds the segments that are sealed and were not added yet. s.sums.mu is held.
func (s *Store) fold() {
	for _, l := range s.glances() {
		if l.sealed && l.takeTo(&s.sums.page) {
			s.sums.count(&s.sums.page, s.mapped)
		}
	}
	if records, c := s.missed.take(); records > 0 {
		s.sums.total.records += records
		s.sums.total.counts.add(c)
		s.sums.bucketAt(s.sums.total.newest).other.add(c)
	}
	s.sums.page.clear()
	s.sums.shrink()
}

// takeTo copies a segment that was not added to the sums yet, and marks it. The mark is
// set while the segment is pinned, so a worker that recycles it knows.
func (l *glance) takeTo(p *page) bool {
	g := l.segment
	if g.folded.Load() || !g.pin() {
		return false
	}
	defer g.unpin()
	if g.number != l.number || g.folded.Load() {
		return false
	}
	g.folded.Store(true)
	l.copyPinned(p)
	return true
}

// count adds the records of a segment.
func (t *sums) count(p *page, e ends) {
	var b *bucket
	for at := 0; at < p.used; at += p.lengthAt(at) {
		h := p.head(at, e)
		t.total.note(&h)
		if h.Flows == 0 && h.verdict == 0 {
			continue
		}
		if b == nil || h.received < b.start || h.received >= b.start+b.step {
			b = t.bucketAt(h.received)
		}
		key := pair{workloadOf(h.src.Object, t.outside), workloadOf(h.dst.Object, t.outside)}
		s := b.pairs[key]
		if s == nil {
			if len(b.pairs) >= t.most/minBuckets {
				b.other.add(h.Counts)
				continue
			}
			s = new(sum)
			b.pairs[key] = s
			t.pairs++
		}
		s.Counts.add(h.Counts)
		s.last, s.verdict = max(s.last, h.received), s.verdict|h.verdict
	}
}

// note counts a record.
func (t *totals) note(h *head) {
	t.records++
	t.counts.add(h.Counts)
	t.newest = max(t.newest, h.received)
	if h.address {
		t.addressed++
		if h.src.Object != nil || h.dst.Object != nil {
			t.named++
		}
	}
	if t.lastSum == nil || t.lastOne.kind != int32(h.kind) || t.lastOne.address != string(h.exporter) {
		key := exporterKey{string(h.exporter), int32(h.kind)}
		if t.lastSum = t.exporters[key]; t.lastSum == nil {
			if len(t.exporters) >= maxExporters {
				return
			}
			t.lastSum = new(exporterSum)
			t.exporters[key] = t.lastSum
		}
		t.lastOne = key
	}
	t.lastSum.records++
	t.lastSum.last = max(t.lastSum.last, h.received)
}

// bucketAt returns the bucket of a time.
func (t *sums) bucketAt(at uint64) *bucket {
	i := len(t.buckets)
	for i > 0 && t.buckets[i-1].start > at {
		i--
	}
	if i > 0 && at < t.buckets[i-1].start+t.buckets[i-1].step {
		return t.buckets[i-1]
	}
	b := &bucket{start: at - at%steps[0], step: steps[0], pairs: make(map[pair]*sum)}
	t.buckets = slices.Insert(t.buckets, i, b)
	return b
}

// shrink makes room: it merges the oldest buckets into longer ones, as long as there are
// shorter ones than the longest, and drops the oldest ones after that.
func (t *sums) shrink() {
	for len(t.buckets) > 1 && (t.pairs > t.most || len(t.buckets) > maxBuckets) {
		if !t.mergeOldest() {
			t.shrunk = true
			t.pairs -= len(t.buckets[0].pairs)
			t.buckets = slices.Delete(t.buckets, 0, 1)
		}
	}
}

// mergeOldest merges the oldest of the shortest buckets that can be merged. It reports
// false if there are none. The newest bucket stays as it is.
func (t *sums) mergeOldest() bool {
	for level := range len(steps) - 1 {
		step := steps[level+1]
		for i := range len(t.buckets) - 1 {
			first := t.buckets[i]
			if first.step != steps[level] {
				continue
			}
			start := first.start - first.start%step
			end := i + 1
			for end < len(t.buckets) && t.buckets[end].start < start+step {
				end++
			}
			if end == len(t.buckets) {
				continue // the newest is one of them
			}
			t.pairs -= t.pairsOf(i, end)
			for _, b := range t.buckets[i+1 : end] {
				first.merge(b, t.most/minBuckets)
			}
			first.start, first.step = start, step
			t.buckets = slices.Delete(t.buckets, i+1, end)
			t.pairs += len(first.pairs)
			return true
		}
	}
	return false
}

func (t *sums) pairsOf(from, to int) (n int) {
	for _, b := range t.buckets[from:to] {
		n += len(b.pairs)
	}
	return n
}
