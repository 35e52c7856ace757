package collector

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"unsafe"
)

// nameKind says what a number is the number of.
type nameKind uint8

const (
	nameOfInterface nameKind = iota
	nameOfVRF
	nameOfApplication
)

// nameKey names something that options data describe: an interface by its index, a
// VRF by its id, or an application by engine and selector.
type nameKey struct {
	kind nameKind
	id   uint64
}

// namedEntry is what one source has told about a nameKey. It does not change once it is
// in a table.
type namedEntry struct {
	nameKey
	domain uint32
	// port is the source port that has told it, 0 if several have told the same.
	port uint16
	// name and description, which only interfaces have, share an array.
	name, description []byte
	next              *namedEntry // in the bucket
}

func (n *namedEntry) says(name, description []byte) bool {
	return bytes.Equal(n.name, name) && bytes.Equal(n.description, description)
}

// bytes returns what the entry takes on the heap.
func (n *namedEntry) bytes() int64 {
	return allocated(int64(unsafe.Sizeof(*n))) + allocated(int64(cap(n.name)+cap(n.description)))
}

const (
	// maxNameLen is how much of a name or description is kept, in bytes.
	maxNameLen = 255
	// maxTellers is how many sources may tell something different about one nameKey.
	// It bounds what a look-up costs.
	maxTellers = 64
	// bucketLoad is how many entries there are in a bucket when the table grows.
	bucketLoad = 2
	minBuckets = 8
)

// nameBucket is the newest of some entries, which lead from one to the next.
type nameBucket = atomic.Pointer[namedEntry]

// optionsTable has the names that an exporter's options data give to numbers. One
// goroutine at a time may change it; any number may read it meanwhile, without a lock:
// a change puts new entries before those that stay. The zero value is an empty table.
type optionsTable struct {
	// buckets has a power of two of buckets, nil if the table is empty.
	buckets atomic.Pointer[[]nameBucket]
	// factor spreads the keys over the buckets. It is odd, and secret.
	factor uint64
	n      int // entries
	// entryBytes is what the entries take on the heap.
	entryBytes int64
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

// find returns what is known of a key for a source, nil if nothing is. What the
// source's own port has told goes before what several ports have told, and that before
// what another port has. Among these, the source's own domain goes before others.
// Where two tell something different, neither counts.
func (t *optionsTable) find(k nameKey, domain uint32, port uint16) *namedEntry {
	buckets := t.buckets.Load()
	if buckets == nil {
		return nil
	}
	var best *namedEntry
	bestRank, unsure := -1, false
	for n := bucketOf(*buckets, t.factor, k).Load(); n != nil; n = n.next {
		if n.nameKey != k {
			continue
		}
		switch rank := n.rank(domain, port); {
		case rank > bestRank:
			best, bestRank, unsure = n, rank, false
		case rank == bestRank && !n.says(best.name, best.description):
			unsure = true
		}
	}
	if unsure {
		return nil
	}
	return best
}

// rank returns how near the entry is to a source.
func (n *namedEntry) rank(domain uint32, port uint16) int {
	rank := 0
	switch n.port {
	case port:
		rank = 4
	case 0:
		rank = 2
	}
	if n.domain == domain {
		rank++
	}
	return rank
}

// put remembers what a source tells about a key, as a copy. The table then takes at most
// so many bytes: if need be, random other entries go.
func (t *optionsTable) put(e namedEntry, budget int64) {
	known := t.find(e.nameKey, e.domain, e.port)
	if known != nil && known.says(e.name, e.description) {
		if known.port != e.port && known.port != 0 {
			shared := *known
			shared.port = 0
			t.add(&shared, func(n *namedEntry, _ int) bool { return n == known })
		}
		return
	}
	both := make([]byte, 0, len(e.name)+len(e.description))
	both = append(append(both, e.name...), e.description...)
	e.name, e.description = both[:len(e.name):len(e.name)], both[len(e.name):]
	if buckets := t.buckets.Load(); buckets == nil || t.n >= bucketLoad*len(*buckets) {
		t.grow()
	}
	t.add(&e, func(n *namedEntry, newer int) bool {
		return n.domain == e.domain && n.port == e.port || newer >= maxTellers-1
	})
	for t.bytes() > budget && t.n > 1 {
		t.evict()
	}
}

// add puts an entry before the others of its bucket, and removes those of the same key
// for which gone returns true. It is called with the number of newer ones that stay.
func (t *optionsTable) add(e *namedEntry, gone func(n *namedEntry, newer int) bool) {
	at := bucketOf(*t.buckets.Load(), t.factor, e.nameKey)
	first := at.Load()
	last, newer := (*namedEntry)(nil), 0 // the last one to go
	for n := first; n != nil; n = n.next {
		if n.nameKey != e.nameKey {
			continue
		}
		if gone(n, newer) {
			last = n
			t.n--
			t.entryBytes -= n.bytes()
		} else {
			newer++
		}
	}
	end, newer := &e.next, 0
	for n := first; n != nil; n = n.next {
		if last == nil {
			*end = n // the rest stays
			break
		}
		if n.nameKey == e.nameKey && gone(n, newer) {
			if n == last {
				last = nil
			}
			*end = nil
			continue
		}
		if n.nameKey == e.nameKey {
			newer++
		}
		kept := *n // readers may be at the old one
		kept.next = nil
		*end, end = &kept, &kept.next
	}
	t.n++
	t.entryBytes += e.bytes()
	at.Store(e)
}

// evict removes the newest entry of a random bucket.
func (t *optionsTable) evict() {
	buckets := *t.buckets.Load()
	first := rand.IntN(len(buckets)) //nolint:gosec // no secret: chance only spreads evictions
	for i := range buckets {
		at := &buckets[(first+i)%len(buckets)]
		if n := at.Load(); n != nil {
			t.n--
			t.entryBytes -= n.bytes()
			at.Store(n.next)
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
	if old != nil {
		for i := range *old {
			for n := (*old)[i].Load(); n != nil; n = n.next {
				moved := *n // readers may be at the old one
				at := bucketOf(buckets, t.factor, n.nameKey)
				moved.next = at.Load()
				at.Store(&moved)
			}
		}
	}
	t.buckets.Store(&buckets)
}

// clear makes the table empty.
func (t *optionsTable) clear() {
	t.buckets.Store(nil)
	t.n, t.entryBytes = 0, 0
}
