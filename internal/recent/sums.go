package recent

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	// pairShare says how many pairs a bucket has room for: that of all sums has so many bytes
	// for one of each of minBuckets.
	pairShare = 160
	// maxBuckets bounds the buckets. They are merged, and the oldest leave, to stay below.
	maxBuckets = 400
	// minBuckets is how many there is room for, however many pairs each has. That is more than
	// there can be before the oldest ones are merged.
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
	pairs
	other Counts // of pairs for which there was no room
}

// merge adds another bucket. The pairs that there is no room for are among the others.
func (b *bucket) merge(o *bucket) {
	for i := range o.list {
		p := &o.list[i]
		if n := b.number(p.pair); n >= 0 {
			b.list[n].add(&p.sum)
		} else {
			b.other.add(p.Counts)
		}
	}
	b.other.add(o.other)
}

// sums has what was counted of segments, before they leave the ring. It is bounded.
type sums struct {
	mu   sync.Mutex
	room int64 // in bytes, for workloads and buckets
	most int   // pairs in a bucket

	workloads *workloads
	objects   *objects
	added     []added   // by the place of the segment in the ring
	charged   int64     // of the ring's room for objects
	buckets   []*bucket // by start
	spare     bool      // there may be workloads that no bucket has
	kept      int64     // bytes of workloads, when these were forgotten the last time
	shrunk    bool      // some have left
	total     totals
	names     names

	waiting []waiting
	numbers numbers // of the segment that is counted
	batch   batch
}

// added says which segment was added to the sums, and the indexes of its objects.
type added struct {
	segment *segment
	objects []int32
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

func newSums(room int64, segments int) *sums {
	return &sums{
		room: room, most: int(room / pairShare / minBuckets), workloads: newWorkloads(),
		objects: newObjects(), added: make([]added, segments),
		total: totals{exporters: make(map[exporterKey]*exporterSum)},
	}
}

// missed counts the records whose segments were written anew before they were added to the
// sums. Workers add to it.
type missed struct {
	records, bytes, packets, flows atomic.Uint64
	newest                         atomic.Uint64 // time of receipt
}

// add counts records, of which the newest came at a time.
func (m *missed) add(records int, c Counts, newest uint64) {
	change(&m.newest, func(was uint64) uint64 { return max(was, newest) })
	m.records.Add(uint64(records))
	m.flows.Add(c.Flows)
	// What an exporter claims cannot make sums small.
	change(&m.bytes, func(was uint64) uint64 { return plus(was, c.Bytes) })
	change(&m.packets, func(was uint64) uint64 { return plus(was, c.Packets) })
}

// change changes a number that others change, too.
func change(n *atomic.Uint64, to func(was uint64) uint64) {
	for was := n.Load(); !n.CompareAndSwap(was, to(was)); {
		was = n.Load()
	}
}

// take returns what was added since the last call.
func (m *missed) take() (records uint64, c Counts) {
	return m.records.Swap(0), Counts{m.bytes.Swap(0), m.packets.Swap(0), m.flows.Swap(0)}
}

// fold adds the segments that are sealed and were not added yet, the oldest first.
// s.sums.mu is held.
func (s *Store) fold() {
	t := s.sums
	for i := range s.slots {
		g := s.slots[i].Load()
		waits := g != nil && g.waits()                                                  // before what follows: it may be recycled at any time
		if a := &t.added[i]; a.segment != nil && (a.segment != g || !g.folded.Load()) { // it has left
			t.objects.release(a.objects, t.workloads)
			a.segment, t.spare = nil, true
		}
		if waits && g.pin() {
			t.waiting = append(t.waiting, waiting{g, g.number, i})
			g.unpin()
		}
	}
	slices.SortFunc(t.waiting, func(a, b waiting) int { return cmp.Compare(a.number, b.number) })
	for _, w := range t.waiting {
		if w.take() {
			t.count(w.view(extentOf(w.published.Load())), s.mapped, t.holdObjects(&w))
			w.unpin()
			t.shrink()
		}
	}
	t.shrink() // workloads may have left with objects
	clear(t.waiting)
	t.waiting = t.waiting[:0]
	n := t.objects.size() + t.workloads.held
	s.used.Add(n - t.charged)
	t.charged = n
	if records, c := s.missed.take(); records > 0 || c != (Counts{}) {
		t.total.records += records
		t.total.counts.add(c)
		t.total.newest = max(t.total.newest, s.missed.newest.Load())
		t.bucketAt(t.total.newest).other.add(c)
	}
}

// waiting is a segment that is to be added to the sums.
type waiting struct {
	*segment
	number uint64
	slot   int
}

// waits reports whether the segment is sealed and was not added to the sums yet.
func (g *segment) waits() bool { return g.sealed.Load() && !g.folded.Load() }

// take pins the segment and marks it as added, unless it has been recycled since. The mark
// is set while the segment is pinned, so a worker that recycles it knows.
func (w *waiting) take() bool {
	if !w.pin() {
		return false
	}
	if w.segment.number != w.number || !w.waits() {
		w.unpin()
		return false
	}
	w.folded.Store(true)
	return true
}

// holdObjects counts the objects of a segment that is pinned. It returns the numbers of their
// workloads by their places, of which the first one is nobody's.
func (t *sums) holdObjects(w *waiting) []uint32 {
	n := extentOf(w.published.Load()).objects
	a := &t.added[w.slot]
	if cap(a.objects) < n {
		a.objects = make([]int32, n, segmentObjects)
	}
	a.segment, a.objects = w.segment, a.objects[:n]
	t.numbers[0] = outsideNumber
	t.objects.hold(w.objects[:n], w.hints[:n], t.workloads, a.objects, t.numbers[1:])
	return t.numbers[:n+1]
}

// numbersFor finds the numbers that the workloads of a segment's objects have in the table of an
// answer. Sums that have the segment know them without a look at the objects. It must be pinned.
func (t *sums) numbersFor(answer *pairTable, l *glance) {
	list := answer.numbers[1 : 1+l.objects]
	if !l.segment.folded.Load() {
		for i := range list {
			list[i] = answer.workloads.of(l.segment.objects[i])
		}
		return
	}
	shared := answer.sharedWith(t.workloads)
	for i, at := range t.added[l.number%uint64(len(t.added))].objects[:len(list)] {
		n := t.objects.list[at].workload
		if n >= shared {
			n = answer.workloads.number(t.workloads.list[n])
		}
		list[i] = n
	}
}

// count adds the records of a segment, whose objects' workloads have the numbers.
func (t *sums) count(v *view, e ends, numbers []uint32) {
	t.spare = true
	var b *bucket
	var h head
	for at := 0; at < v.used; at += v.lengthAt(at) {
		h.read(v, at, e)
		t.total.note(&h)
		if !h.counts() {
			continue
		}
		if b == nil || h.received < b.start || h.received >= b.start+b.step {
			b.add(&t.batch)
			b = t.bucketAt(h.received)
		}
		p := t.batch.next()
		p.pair, p.Counts, p.last, p.verdict = pair{numbers[h.src], numbers[h.dst]}, h.Counts, h.received, h.verdict
		if t.batch.full() {
			b.add(&t.batch)
		}
	}
	b.add(&t.batch)
}

// add adds what a batch has. A nil bucket is for one that has nothing.
func (b *bucket) add(batch *batch) {
	if b != nil {
		b.addAll(batch, &b.other)
	}
}

// note counts a record.
func (t *totals) note(h *head) {
	t.records++
	t.counts.add(h.Counts)
	t.newest = max(t.newest, h.received)
	if h.address {
		t.addressed++
		if h.named {
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
	some := 0 // as many as the one before has, if time goes on
	if i > 0 && i == len(t.buckets) {
		some = len(t.buckets[i-1].list)
	}
	b := &bucket{start: at - at%steps[0], step: steps[0], pairs: newPairs(t.most, some)}
	t.buckets = slices.Insert(t.buckets, i, b)
	return b
}

// size is what the sums take in memory, in bytes.
func (t *sums) size() int64 {
	n := t.workloads.size() + t.names.size()
	for _, b := range t.buckets {
		n += b.size()
	}
	return n
}

// shrink makes room: it merges the oldest buckets into longer ones, as long as there are shorter
// ones than the longest, and drops the oldest ones after that. It forgets the workloads that no
// bucket has when there may be many, or nothing else is left: that takes a look at all pairs.
func (t *sums) shrink() {
	for len(t.buckets) > 1 && (len(t.buckets) > maxBuckets || t.size() > t.room) {
		many := t.workloads.bytes > t.kept
		switch {
		case t.spare && many && len(t.buckets) <= maxBuckets:
			t.forgetSpare()
		case t.mergeOldest():
			t.spare = true
		case t.spare && len(t.buckets) <= maxBuckets:
			t.forgetSpare()
		default:
			t.shrunk, t.spare = true, true
			t.buckets = slices.Delete(t.buckets, 0, 1)
		}
	}
}

// forgetSpare forgets the workloads that no bucket and no object has.
func (t *sums) forgetSpare() {
	t.spare = false
	old := t.workloads
	t.workloads = newWorkloads()
	numbers := make([]uint32, len(old.list)) // by the old ones, 0 for those that are not known yet
	number := func(n uint32) uint32 {
		if n != outsideNumber && numbers[n] == 0 {
			numbers[n] = t.workloads.number(old.list[n])
		}
		return numbers[n]
	}
	for _, b := range t.buckets {
		for i := range b.list {
			p := &b.list[i]
			p.pair = pair{number(p.src), number(p.dst)}
		}
		b.index(len(b.slots))
	}
	for i := range t.objects.list {
		if k := &t.objects.list[i]; k.object != nil {
			k.workload = number(k.workload)
			t.workloads.hold(k.workload)
		}
	}
	t.kept = t.workloads.bytes
	t.names.forget(t.workloads)
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
			for _, b := range t.buckets[i+1 : end] {
				first.merge(b)
			}
			first.start, first.step = start, step
			t.buckets = slices.Delete(t.buckets, i+1, end)
			return true
		}
	}
	return false
}
