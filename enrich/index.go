package enrich

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// never is the end of what has not ended.
	never = math.MaxInt64
	// tolerance widens an owner's time at both ends where nobody else claims
	// the address: Kubernetes tells times in whole seconds, and clocks differ.
	tolerance = int64(2 * time.Second)
)

// index finds the owners of addresses. Any number of readers may look up while
// one writer changes it, and no reader ever waits: it is a hash table whose
// entries are immutable for readers and are replaced as a whole.
type index struct {
	table atomic.Pointer[table]
	seed  [2]uint64
	used  int // entries; the writer's
	// puts counts the changes that may have given an address an owner.
	additions atomic.Uint64
	ranges    atomic.Pointer[ranges] // of pods
	// told is up to when all is known of pods: never while they are watched.
	told atomic.Int64
	// blind is when pods may have come and gone without having been seen: from
	// the last news to a list, where a watch could not be resumed. Oldest first.
	blind atomic.Pointer[[]period]
}

type table struct {
	buckets []atomic.Pointer[entry] // a power of two of them
}

// entry is what is known of one address. What nearly every look-up needs comes
// first, in one cache line: 128 bytes are allocated at a multiple of 64.
type entry struct {
	addr      netip.Addr
	last      segment                      // without object if no pod owned the address
	after     atomic.Pointer[entry]        // the next one in the bucket
	static    flow.End                     // when no pod owned the address: a service or a node
	past      *past                        // never nil
	uncertain atomic.Pointer[uncertainEnd] // the last one that was asked for

	// What the above was made of; readers don't touch it.
	spans        *span
	staticOwners *staticOwnerList

	_ [8]byte
}

// doubt is how an owner is shown when it may have been another one.
type uncertainEnd struct {
	object *flow.Object
	end    flow.End
}

// past is what few addresses have.
type past struct {
	older []segment // by time, not overlapping, before the entry's last
	// macs is for an address that pods had in several networks. Then last is
	// empty, so that nobody misses it.
	macs []macEntry
	// forgotten is until when pods had the address that are not known any more.
	forgottenUntil int64
}

// noPast is what most addresses have. It is never changed.
var noPast past

// segment says whom the address belongs to from one time to another, in Unix
// nanoseconds; to is exclusive.
type segment struct {
	from, to    int64
	end         flow.End
	uncertain   bool // within the tolerance of those who may have owned it, or in doubt
	inTolerance bool // of the time of all of those
	provisional bool // the address may have passed on by then, unseen
}

func newIndex() *index {
	ix := &index{seed: [2]uint64{random(), random()}}
	ix.table.Store(newTable(1 << 10))
	ix.ranges.Store(&ranges{})
	ix.told.Store(never)
	return ix
}

func random() uint64 { return maphash.Bytes(maphash.MakeSeed(), nil) }

func newTable(size int) *table { return &table{make([]atomic.Pointer[entry], size)} }

func (ix *index) hash(addr netip.Addr) uint64 {
	b := addr.As16()
	hi, lo := bits.Mul64(binary.LittleEndian.Uint64(b[:8])^ix.seed[0], binary.LittleEndian.Uint64(b[8:])^ix.seed[1])
	return hi ^ lo
}

func (t *table) bucket(hash uint64) *atomic.Pointer[entry] {
	return &t.buckets[hash&uint64(len(t.buckets)-1)]
}

// find returns the entry of an address, nil if there is none.
func (ix *index) find(addr netip.Addr) *entry { return ix.first(addr).find(addr) }

// first returns the first entry of an address's bucket, nil if there is none.
func (ix *index) first(addr netip.Addr) *entry {
	return ix.table.Load().bucket(ix.hash(addr)).Load()
}

// find returns the entry of an address, which may be e or behind it in its
// bucket, nil if there is none.
func (e *entry) find(addr netip.Addr) *entry {
	for e != nil && e.addr != addr {
		e = e.after.Load()
	}
	return e
}

// lookup says who owned addr over the time [from, to]. Settled is false if the
// next owner may turn out to have done so: nobody did, as far as is known, and
// there is none to show, or one who had gone by then; or one who may have gone
// by then ([timeliner.shake]). The MAC, unless it is 0, decides among pods in
// several networks.
func (ix *index) lookup(addr netip.Addr, from, to int64, mac uint64) (end flow.End, settled bool) {
	e := ix.find(addr)
	if e == nil {
		return flow.End{}, false
	}
	return ix.at(e, from, to, mac)
}

// at is lookup, in the entry of the address.
func (ix *index) at(e *entry, from, to int64, mac uint64) (end flow.End, settled bool) {
	if e.last.from <= from && to < e.last.to && e.last.end.Object != nil && (!e.last.provisional || from <= ix.told.Load()) {
		return e.last.end, !e.last.provisional
	}
	s, rule := ix.choose(e, mac, from, to)
	switch rule {
	case ruleNone, ruleGap:
		return flow.End{}, false
	case ruleStatic:
		return e.static, true
	case ruleInterrupted:
		return e.asUncertain(s.end.Object), false
	}
	return s.end, rule != ruleAfter && !(s.provisional && rule == ruleOverlap)
}

// doubted makes the end of an owner which may have been another one. That is
// done once, not for each record.
func (e *entry) asUncertain(o *flow.Object) flow.End {
	d := e.uncertain.Load()
	if d == nil || d.object != o {
		d = &uncertainEnd{o, asUncertain(o)}
		e.uncertain.Store(d)
	}
	return d.end
}

// rule says why an owner was chosen.
type rule uint8

const (
	ruleNone        rule = iota
	ruleOverlap          // a pod owned the address then
	ruleStatic           // no pod did, and a service or a node has it
	ruleBefore           // a pod owned it soon afterwards
	ruleAfter            // a pod had owned it shortly before
	ruleGap              // nobody surely did, and somebody may have come and gone unseen
	ruleInterrupted      // a pod owned it when the watch was interrupted, and another one may do so by now
)

// choose is [entry.chooseBy], except that no tolerance is given for a time of
// which not all is known.
func (ix *index) choose(e *entry, mac uint64, from, to int64) (*segment, rule) {
	s, rule := e.chooseBy(mac, from, to)
	switch {
	case rule == ruleNone || rule == ruleBefore || rule == ruleAfter || rule == ruleOverlap && s.inTolerance:
		if ix.unseen(from, to) {
			return nil, ruleGap
		}
	case rule == ruleOverlap && s.provisional && from > ix.told.Load():
		return s, ruleInterrupted
	}
	return s, rule
}

// chooseBy is choose, among those with a MAC if it helps.
func (e *entry) chooseBy(mac uint64, from, to int64) (*segment, rule) {
	for i := range e.past.macs {
		if m := &e.past.macs[i]; m.mac == mac {
			if s, rule := m.choose(from, to); s != nil {
				return s, rule
			}
		}
	}
	return e.choose(from, to)
}

// choose takes the pod whose time overlaps most with [from, to], the later one
// of equals; else the service or node; else the pod that is next to it in time,
// within the tolerance. The segment is that of the pod.
func (e *entry) choose(from, to int64) (*segment, rule) {
	n := len(e.past.older)
	if e.last.end.Object != nil {
		n++
	}
	first, beyond := 0, n // the first one that ends after from
	for first < beyond {
		if mid := int(uint(first+beyond) / 2); e.segment(mid).to > from {
			beyond = mid
		} else {
			first = mid + 1
		}
	}
	var best *segment
	most := int64(-1)
	for i := first; i < n; i++ {
		s := e.segment(i)
		if to < s.from {
			break
		}
		overlap := min(to, s.to) - max(from, s.from)
		if best == nil || best.uncertain && !s.uncertain || best.uncertain == s.uncertain && overlap >= most {
			best, most = s, overlap
		}
	}
	if best != nil {
		return best, ruleOverlap
	}
	if e.static.Object != nil {
		return nil, ruleStatic
	}
	nearest, rule := tolerance+1, ruleNone
	if e.past.forgottenUntil != 0 && to < e.past.forgottenUntil+tolerance {
		return nil, ruleNone // it may have been of one of those
	}
	for i := first; i < n && e.segment(i).from-to < nearest; i++ {
		if s := e.segment(i); !s.uncertain {
			best, nearest, rule = s, s.from-to, ruleBefore
		}
	}
	for i := first - 1; i >= 0 && from-e.segment(i).to < nearest; i-- {
		if s := e.segment(i); !s.uncertain {
			best, nearest, rule = s, from-s.to, ruleAfter
		}
	}
	return best, rule
}

// segment returns the i-th segment, of which the last has the highest number.
func (e *entry) segment(i int) *segment {
	if i == len(e.past.older) {
		return &e.last
	}
	return &e.past.older[i]
}

// put adds an entry, or replaces the one of the same address. It is for the
// writer, like all that follows.
func (ix *index) put(e *entry) {
	defer ix.additions.Add(1)
	link := ix.table.Load().bucket(ix.hash(e.addr))
	for old := link.Load(); old != nil; old = link.Load() {
		if old.addr == e.addr {
			e.after.Store(old.after.Load())
			link.Store(e)
			return
		}
		link = &old.after
	}
	if t := ix.table.Load(); 2*ix.used >= len(t.buckets) { // mostly one in a bucket
		ix.grow(2 * len(t.buckets))
	}
	b := ix.table.Load().bucket(ix.hash(e.addr))
	e.after.Store(b.Load())
	b.Store(e)
	ix.used++
}

func (ix *index) remove(addr netip.Addr) {
	link := ix.table.Load().bucket(ix.hash(addr))
	for e := link.Load(); e != nil; e = link.Load() {
		if e.addr == addr {
			link.Store(e.after.Load()) // who is at e still finds the rest behind it
			ix.used--
			return
		}
		link = &e.after
	}
}

// grow copies the entries into a bigger table: those of the old one must keep
// their neighbours for the sake of readers that are still in it.
func (ix *index) grow(size int) {
	old, t := ix.table.Load(), newTable(size)
	for i := range old.buckets {
		for e := old.buckets[i].Load(); e != nil; e = e.after.Load() {
			c := &entry{addr: e.addr, last: e.last, past: e.past, static: e.static, spans: e.spans, staticOwners: e.staticOwners}
			b := t.bucket(ix.hash(e.addr))
			c.after.Store(b.Load())
			b.Store(c)
		}
	}
	ix.table.Store(t)
}

// reserve makes room for n entries at once.
func (ix *index) reserve(n int) {
	size := len(ix.table.Load().buckets)
	for size < 2*n {
		size *= 2
	}
	if size > len(ix.table.Load().buckets) {
		ix.grow(size)
	}
}

// newEntry copies the segments.
func newEntry(addr netip.Addr, segments []segment, forgotten int64) *entry {
	e := &entry{addr: addr, past: &noPast}
	n := len(segments)
	if n > 0 && !segments[n-1].inTolerance {
		n--
		e.last = segments[n]
	}
	if n > 0 || forgotten != 0 {
		e.past = &past{forgottenUntil: forgotten, older: slices.Clone(segments[:n])}
	}
	return e
}

// macEntry says whom an address belonged to that was seen with a MAC.
type macEntry struct {
	mac uint64
	*entry
}
