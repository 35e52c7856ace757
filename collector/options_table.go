package collector

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// nameKind says what a number is the number of.
type nameKind uint8

const (
	nameOfInterface nameKind = iota
	nameOfVRF
	nameOfApplication
	// namesOfPort has no name: an entry says that a port has announced names. The id is the
	// port and the kind of these.
	namesOfPort
)

// nameKey names something that options data describe: an interface by its index, a
// VRF by its id, or an application by engine and selector.
type nameKey struct {
	kind nameKind
	id   uint64
}

// nameSource is who tells or asks for a name, and when, in Unix seconds.
type nameSource struct {
	domain uint32
	port   uint16
	at     uint32
}

// announcedName is what one source has announced about a nameKey.
type announcedName struct {
	nameKey
	nameSource
	unsaved bool // it differs from what the templates file has
	// name and description, which only interfaces have, share an array in a table.
	name, description []byte
}

// namedEntry is an entry of a table. It does not change, but for the time when it was
// announced last and for what follows it.
type namedEntry struct {
	announcedName
	next nameBucket
}

func (n *announcedName) says(name, description []byte) bool {
	return bytes.Equal(n.name, name) && bytes.Equal(n.description, description)
}

// bytes returns what the entry takes on the heap.
func (n *namedEntry) bytes() int64 {
	return allocated(int64(unsafe.Sizeof(*n))) + allocated(int64(cap(n.name)+cap(n.description)))
}

const (
	// maxNameLen is how much of a name or description is kept, in bytes.
	maxNameLen = 255
	// maxNamers is how many sources may tell something about one nameKey. It bounds
	// what a look-up costs.
	maxNamers = 64
	// bucketLoad is how many entries there are in a bucket when the table grows.
	bucketLoad = 2
	minBuckets = 8
)

// nameBucket is the newest of some entries, which lead from one to the next.
type nameBucket = atomic.Pointer[namedEntry]

// optionsTable has the names that the ports of an exporter's address give to numbers in
// options data. What one port has announced counts for another one under the conditions of
// sampling rates: it was announced of late, and nobody tells something else. One
// goroutine at a time may change it; any number may read it meanwhile, without a lock: an
// entry that goes still leads to those behind it. The zero value is an empty table.
type optionsTable struct {
	// buckets has a power of two of buckets, nil if the table is empty.
	buckets atomic.Pointer[[]nameBucket]
	// factor spreads the keys over the buckets. It is odd, and secret.
	factor uint64
	n      int // entries
	// entryBytes is what the entries take on the heap.
	entryBytes int64
	// crowded is when something went for want of room, so that it is not known whether
	// the ports agree; in Unix seconds.
	crowded atomic.Uint32
	// unsaved reports whether the templates file lacks an entry.
	unsaved bool
}

// bytes returns what the table takes on the heap.
func (t *optionsTable) bytes() int64 {
	buckets := t.buckets.Load()
	if buckets == nil {
		return 0
	}
	return allocated(int64(unsafe.Sizeof(*buckets))) + allocated(int64(len(*buckets))*int64(unsafe.Sizeof(nameBucket{}))) + t.entryBytes
}

// bucketOf returns the bucket of a key (universal hashing by multiplication).
func bucketOf(buckets []nameBucket, factor uint64, k nameKey) *nameBucket {
	h := (k.id<<2 ^ k.id>>62 ^ uint64(k.kind)) * factor
	return &buckets[h>>(64-bits.Len(uint(len(buckets)-1)))]
}

// find returns what is known of a key for a source, nil if nothing is. What the source's
// own port has announced goes before what other ports have. Among these, the source's own
// domain goes before others. Where two tell something different, neither counts. passed is
// how many entries it had to look at.
func (t *optionsTable) find(k nameKey, of nameSource) (best *namedEntry, passed int) {
	buckets := t.buckets.Load()
	if buckets == nil {
		return nil, 0
	}
	bestRank, unsure := -1, false
	for n := bucketOf(*buckets, t.factor, k).Load(); n != nil; n = n.next.Load() {
		passed++
		steps.Add(steps.Miss)
		if n.nameKey != k {
			continue
		}
		rank := n.rank(&of)
		if rank < bestRank || rank < rankOwn && !isRecent(atomic.LoadUint32(&n.at), of.at) {
			continue
		}
		if rank > bestRank {
			best, bestRank, unsure = n, rank, false
		} else if !n.says(best.name, best.description) {
			unsure = true
		}
	}
	if unsure || best != nil && bestRank < rankOwn && !t.mayBorrow(k.kind, &of) {
		return nil, passed
	}
	return best, passed
}

// mayBorrow reports whether the names of other ports count for a source: not if it has
// announced names of that kind itself, which may be those of another exporter.
func (t *optionsTable) mayBorrow(kind nameKind, of *nameSource) bool {
	if crowded := t.crowded.Load(); crowded != 0 && isRecent(crowded, of.at) {
		return false
	}
	k := announcerKey(kind, of.port)
	steps.Add(steps.Miss)
	for n := bucketOf(*t.buckets.Load(), t.factor, k).Load(); n != nil; n = n.next.Load() {
		if n.nameKey == k {
			return false
		}
	}
	return true
}

// announcerKey is the key of an entry that says that a port has announced names of a kind.
func announcerKey(kind nameKind, port uint16) nameKey {
	return nameKey{namesOfPort, uint64(kind)<<16 | uint64(port)}
}

// rankOwn is the least rank of what the source's own port has announced.
const rankOwn = 2

// rank returns how near the entry is to a source.
func (n *namedEntry) rank(of *nameSource) int {
	rank := 0
	if n.port == of.port {
		rank = rankOwn
	}
	if n.domain == of.domain {
		rank++
	}
	return rank
}

// put remembers what a source tells about a key, as a copy. The table then takes at most
// so many bytes: if need be, random other entries go. passed is how many entries it had to
// look at, and changed reports whether the table has changed.
func (t *optionsTable) put(e announcedName, budget int64) (passed int, changed bool) {
	known, passed := t.find(e.nameKey, e.nameSource)
	if known != nil && known.port == e.port && known.domain == e.domain {
		if e.name == nil {
			e.name = known.name
		}
		if e.description == nil {
			e.description = known.description
		}
	} else if len(e.name)+len(e.description) == 0 && (known == nil || known.port != e.port) {
		return passed, false // there is nothing to end
	}
	if known != nil && known.port == e.port && known.says(e.name, e.description) {
		if !sameSavedTime(known.at, e.at) {
			known.unsaved, t.unsaved = true, true
		}
		atomic.StoreUint32(&known.at, e.at)
	} else {
		both := make([]byte, 0, len(e.name)+len(e.description))
		both = append(append(both, e.name...), e.description...)
		e.name, e.description = both[:len(e.name):len(e.name)], both[len(e.name):]
		e.unsaved, t.unsaved = true, true
		t.insert(&namedEntry{announcedName: e})
		changed = true
	}
	announcer := announcerKey(e.kind, e.port)
	if known, _ := t.find(announcer, e.nameSource); known == nil {
		t.insert(&namedEntry{announcedName: announcedName{nameKey: announcer, nameSource: e.nameSource}})
		changed = true
	}
	for t.bytes() > budget && t.n > 2 {
		t.evict()
		t.crowded.Store(e.at)
	}
	return passed, changed
}

// insert adds an entry in place of the one of its source. If there are too many of its
// key, the oldest go.
func (t *optionsTable) insert(e *namedEntry) {
	if buckets := t.buckets.Load(); buckets == nil || t.n >= bucketLoad*len(*buckets) {
		t.grow()
	}
	at := bucketOf(*t.buckets.Load(), t.factor, e.nameKey)
	steps.Add(2 * steps.Allocation)
	before, newer := at, 0 // what leads to n, and how many entries of the key stay
	for n := at.Load(); n != nil; n = n.next.Load() {
		steps.Add(1)
		switch {
		case n.nameKey != e.nameKey:
		case n.domain == e.domain && n.port == e.port:
			t.remove(before, n)
			continue
		case newer == maxNamers-1:
			if isRecent(n.at, e.at) && !n.says(e.name, e.description) {
				t.crowded.Store(e.at)
			}
			t.remove(before, n)
			continue
		default:
			newer++
		}
		before = &n.next
	}
	t.n++
	t.entryBytes += e.bytes()
	e.next.Store(at.Load())
	at.Store(e)
}

// remove takes an entry out of its bucket. Readers may still be at it.
func (t *optionsTable) remove(before *nameBucket, n *namedEntry) {
	before.Store(n.next.Load())
	t.n--
	t.entryBytes -= n.bytes()
}

// evict removes the newest entry of a random bucket.
func (t *optionsTable) evict() {
	buckets := *t.buckets.Load()
	first := rand.IntN(len(buckets)) //nolint:gosec // no secret: chance only spreads evictions
	for i := range buckets {
		steps.Add(1)
		at := &buckets[(first+i)%len(buckets)]
		if n := at.Load(); n != nil {
			t.remove(at, n)
			return
		}
	}
}

// grow doubles the number of buckets.
func (t *optionsTable) grow() {
	old := t.buckets.Load()
	size := minBuckets
	if old != nil {
		size = 2 * len(*old)
	}
	if t.factor == 0 {
		t.factor = rand.Uint64() | 1 //nolint:gosec // nobody who could guess it sees what it leads to
	}
	buckets := make([]nameBucket, size)
	steps.Add(size + (steps.Allocation+steps.Miss)*t.n)
	if old != nil {
		var chain []*namedEntry
		for i := range *old {
			chain = chain[:0]
			for n := (*old)[i].Load(); n != nil; n = n.next.Load() {
				chain = append(chain, n)
			}
			for _, n := range slices.Backward(chain) { // the newest comes first again
				// Readers may be at the old one.
				moved := &namedEntry{announcedName: n.announcedName}
				at := bucketOf(buckets, t.factor, n.nameKey)
				moved.next.Store(at.Load())
				at.Store(moved)
			}
		}
	}
	t.buckets.Store(&buckets)
}

// clear makes the table empty.
func (t *optionsTable) clear() {
	t.buckets.Store(nil)
	t.n, t.entryBytes = 0, 0
	t.unsaved = false
	t.crowded.Store(0)
}
