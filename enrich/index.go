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
	// tolerance widens an owner's time at both ends where nobody else claims the address: times in
	// Kubernetes have whole seconds, and clocks differ. It is in nanoseconds.
	tolerance = int64(2 * time.Second)
)

// index finds the owners of addresses by time. It is a hash table whose entries are immutable for
// readers and are replaced as a whole. Any number of readers may look up while one writer, who
// holds the lock of the [store], changes it; no reader ever waits.
type index struct {
	table atomic.Pointer[table]
	seed  [2]uint64
	used  int // entries; for the writer
	// macs counts the entries by MAC: see macAddr.
	macs atomic.Int64
	// additions counts the changes that may have given an address an owner.
	additions atomic.Uint64
	podRanges atomic.Pointer[podRanges] // never nil
	// nodeRanges are the ranges that Nodes tell of, none if they tell of none; never nil.
	nodeRanges atomic.Pointer[podRanges]
	// hosts has the Nodes by their addresses, as pods tell them; never nil.
	hosts     atomic.Pointer[map[netip.Addr]string]
	watch     *watchState // of pods
	nodePorts nodePortTable
}

// table is the hash table: a power of two of buckets, each a linked list of entries.
type table struct {
	buckets []atomic.Pointer[entry]
}

// entry is what is known of one address. The first 64 bytes, one cache line, are all that nearly
// every look-up reads: Go allocates the 128 bytes of an entry at a multiple of 64.
type entry struct {
	addr      netip.Addr
	last      segment                      // the latest one; empty without a pod
	after     atomic.Pointer[entry]        // the next one in the bucket
	static    *statics                     // Services, Nodes and others, for times without a pod; nil if none
	past      *past                        // never nil
	uncertain atomic.Pointer[uncertainEnd] // a cache of one: see asUncertain

	// network is that of an entry in past.networks; nil in the table.
	network *network

	// What the above was made of, for the writer.
	spans       *span
	staticSpans *staticSpan

	_ [8]byte
}

// uncertainEnd is an owner, and how records show it if another pod may have followed it unseen.
type uncertainEnd struct {
	object *flow.Object
	end    flow.End
}

// past is what few addresses have.
type past struct {
	older []segment // in order of time, apart from each other, before the entry's last
	// networks is for an address that pods had in other networks than the cluster's own: a timeline
	// for each network that has it, in order of their numbers. The entry itself has none then, so
	// that every look-up comes here.
	networks []networkEntry
	several  atomic.Pointer[severalOwners] // a cache of one: see [decider.ambiguous]
	// forgottenUntil is the latest end of the pods that had the address and were dropped; 0: none.
	forgottenUntil int64
}

// noPast is the past of most addresses. It is never changed.
var noPast past

// segment is an owner of an address from one time to another, in Unix nanoseconds; to is exclusive.
type segment struct {
	from, to     int64
	end          flow.End
	uncertain    bool // another pod may have owned the address: segments that are certain are better
	inTolerance  bool // it is outside the pod's time, and within the tolerance
	createdLater bool // the pod did not exist within the tolerance before
	provisional  bool // a later event may show that the address had passed on by then
}

// newIndex returns an empty index of addresses whose pods are watched as given.
func newIndex(watch *watchState) *index {
	ix := &index{seed: [2]uint64{random(), random()}, watch: watch}
	ix.table.Store(newTable(1 << 10))
	ix.podRanges.Store(new(podRanges))
	ix.nodeRanges.Store(new(podRanges))
	ix.hosts.Store(&map[netip.Addr]string{})
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

// find returns the entry of an address: e, or one after it in its bucket; nil if there is none.
func (e *entry) find(addr netip.Addr) *entry {
	for e != nil && e.addr != addr {
		e = e.after.Load()
	}
	return e
}

// lookup returns who owned addr over the time [from, to]. It also reports whether that is settled:
// later events will not change it. It is not if nobody is known to have owned the address, if the
// owner is named only by the tolerance after its end, or if the owner may have lost the address by
// then (see markProvisional). The MAC decides among pods in several networks, unless it is 0, and
// the port among Services, unless it is 0.
func (ix *index) lookup(addr netip.Addr, from, to int64, mac uint64, p port) (end flow.End, settled bool) {
	e := ix.find(addr)
	if e == nil {
		return flow.End{}, false
	}
	if e.past.networks != nil {
		d := decider{ix: ix, from: from, to: to}
		d.src = side{entry: e, mac: mac, port: p, static: e.staticEnd(ix, p, from, to)}
		d.decide()
		return d.owner(&d.src)
	}
	return ix.at(e, from, to, p)
}

// at is lookup in an entry that has a timeline: one without networks, or one of a network. The
// port decides among Services, unless it is 0.
func (ix *index) at(e *entry, from, to int64, p port) (end flow.End, settled bool) {
	if e.last.from <= from && to < e.last.to && e.last.end.Object != nil && (!e.last.provisional || from <= ix.watch.KnownUntil()) {
		return e.last.end, !e.last.provisional
	}
	s, rule := ix.findOwner(e, from, to)
	switch rule {
	case ruleNone, ruleGap:
		return flow.End{}, false
	case ruleStatic:
		return e.static.at(e.static.find(from, to), &ix.nodePorts, p, from, to), true
	case ruleStaticNear:
		return e.static.at(e.static.near(from, to), &ix.nodePorts, p, from, to), true
	case ruleInterrupted:
		return e.asUncertain(s.end.Object), false
	}
	return s.end, rule != ruleAfter && !(rule == ruleOverlap && (s.provisional || s.inTolerance))
}

// asUncertain returns how records show an owner that another pod may have followed unseen. That is
// made once, not for each record.
func (e *entry) asUncertain(o *flow.Object) flow.End {
	d := e.uncertain.Load()
	if d == nil || d.object != o {
		d = &uncertainEnd{o, asUncertain(o)}
		e.uncertain.Store(d)
	}
	return d.end
}

// rule is why an owner was chosen.
type rule uint8

const (
	ruleNone        rule = iota
	ruleOverlap          // a pod owned the address then
	ruleStatic           // no pod did, and a Service, an egress IP, a Node or an endpoint did
	ruleBefore           // a pod owned it soon afterwards
	ruleAfter            // a pod had owned it shortly before
	ruleGap              // no pod is known to have owned it, and one may have come and gone unseen
	ruleInterrupted      // a pod owned it before the watch was interrupted
	ruleStaticNear       // no pod did, and a Service or the like did shortly before or afterwards
)

// findOwner is [entry.bestSegment], but it gives no tolerance for a time at which pods may have
// come and gone unseen.
func (ix *index) findOwner(e *entry, from, to int64) (*segment, rule) {
	s, rule := e.bestSegment(from, to)
	switch {
	case rule == ruleNone || rule == ruleBefore || rule == ruleAfter || rule == ruleOverlap && s.inTolerance:
		if ix.watch.Gap(from, to) {
			return nil, ruleGap
		}
	case rule == ruleOverlap && s.provisional && from > ix.watch.KnownUntil():
		return s, ruleInterrupted
	}
	return s, rule
}

// bestSegment returns the segment of the pod whose time overlaps most with [from, to], the later
// one of equals. Without one it is the Service or Node, which has no segment; and without that, the
// pod that is nearest in time, within the tolerance.
func (e *entry) bestSegment(from, to int64) (*segment, rule) {
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
		if best == nil || s.doubt() < best.doubt() || s.doubt() == best.doubt() && overlap >= most {
			best, most = s, overlap
		}
	}
	if best != nil {
		return best, ruleOverlap
	}
	if g := e.static.find(from, to); g != nil && g.shared == notShared {
		return nil, ruleStatic
	}
	nearest, rule := tolerance+1, ruleNone
	if e.past.forgottenUntil != 0 && to < e.past.forgottenUntil+tolerance {
		return nil, ruleNone // one of the pods that were dropped may have owned it
	}
	for i := first; i < n && e.segment(i).from-to < nearest; i++ {
		if s := e.segment(i); !s.uncertain && !s.inTolerance && !s.createdLater {
			best, nearest, rule = s, s.from-to, ruleBefore
		}
	}
	for i := first - 1; i >= 0 && from-e.segment(i).to < nearest; i-- {
		if s := e.segment(i); !s.uncertain && !s.inTolerance {
			best, nearest, rule = s, from-s.to, ruleAfter
		}
	}
	if g := e.static.near(from, to); best == nil && g != nil && g.shared == notShared {
		return nil, ruleStaticNear
	}
	return best, rule
}

// doubt is higher for segments that others beat. What several pods may own is not settled by the
// tolerance of one of them.
func (s *segment) doubt() int {
	switch {
	case s.inTolerance && !s.uncertain:
		return 2
	case s.uncertain:
		return 1
	}
	return 0
}

// segment returns the i-th segment in order of time; the entry's last comes after all of
// past.older.
func (e *entry) segment(i int) *segment {
	if i == len(e.past.older) {
		return &e.last
	}
	return &e.past.older[i]
}

// put adds an entry, or replaces the one of the same address. It is for the writer, like all that
// follows.
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
	if isMACAddr(e.addr) {
		ix.macs.Add(1)
	}
}

// remove removes the entry of an address.
func (ix *index) remove(addr netip.Addr) {
	link := ix.table.Load().bucket(ix.hash(addr))
	for e := link.Load(); e != nil; e = link.Load() {
		if e.addr == addr {
			link.Store(e.after.Load()) // a reader that is at e still finds the entries after it
			ix.used--
			if isMACAddr(addr) {
				ix.macs.Add(-1)
			}
			return
		}
		link = &e.after
	}
}

// grow copies the entries into a bigger table. Those of the old one keep their neighbours, because
// readers may still be in it.
func (ix *index) grow(size int) {
	old, t := ix.table.Load(), newTable(size)
	for i := range old.buckets {
		for e := old.buckets[i].Load(); e != nil; e = e.after.Load() {
			c := &entry{addr: e.addr, last: e.last, past: e.past, static: e.static, network: e.network, spans: e.spans, staticSpans: e.staticSpans}
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

// newEntry returns an entry with a copy of the segments, which are in order of time. Pods that had
// the address up to the time forgotten are not among them; 0 if all are.
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
