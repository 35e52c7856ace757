package collector

import (
	"bytes"
	"math/bits"
	"math/rand/v2"
	"slices"
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

// namedEntry is what one source has told about a nameKey. It does not change.
type namedEntry struct {
	nameKey
	domain uint32
	// port is the source port that has told it, 0 if several have told the same.
	port uint16
	// name and description, which only interfaces have, share an array.
	name, description []byte
}

func (n *namedEntry) says(name, description []byte) bool {
	return bytes.Equal(n.name, name) && bytes.Equal(n.description, description)
}

const (
	// maxNameLen is how much of a name or description is kept, in bytes.
	maxNameLen = 255
	// maxTellers is how many sources may tell something different about one nameKey.
	// It bounds what a look-up costs.
	maxTellers = 64
	// bucketLoad is how many entries there are in a bucket when the table grows.
	bucketLoad = 4
	minBuckets = 8
)

// nameBucket has the entries of some keys. It is never changed, but replaced.
type nameBucket []namedEntry

// optionsTable has the names that an exporter's options data give to numbers. One
// goroutine at a time may change it; any number may read it meanwhile, without a lock:
// a change replaces one small bucket. The zero value is an empty table.
type optionsTable struct {
	// buckets has a power of two of buckets, nil if the table is empty.
	buckets atomic.Pointer[[]atomic.Pointer[nameBucket]]
	// factor spreads the keys over the buckets. It is odd, and secret.
	factor uint64
	n      int // entries
	// inBuckets is what the buckets and the texts take on the heap, in bytes.
	inBuckets int64
}

// bytes returns what the table takes on the heap.
func (t *optionsTable) bytes() int64 {
	buckets := t.buckets.Load()
	if buckets == nil {
		return 0
	}
	return bucketArrayBytes(len(*buckets)) + t.inBuckets
}

func bucketArrayBytes(n int) int64 {
	const sliceHeader = 24
	return allocated(sliceHeader) + allocated(int64(n)*int64(unsafe.Sizeof(atomic.Pointer[nameBucket]{})))
}

func (b *nameBucket) bytes() int64 {
	if b == nil || len(*b) == 0 {
		return 0
	}
	n := allocated(int64(unsafe.Sizeof(*b))) + allocated(int64(cap(*b))*int64(unsafe.Sizeof(namedEntry{})))
	for i := range *b {
		n += allocated(int64(cap((*b)[i].name) + cap((*b)[i].description)))
	}
	return n
}

// bucketOf returns the bucket of a key (universal hashing by multiplication).
func bucketOf(buckets []atomic.Pointer[nameBucket], factor uint64, k nameKey) *atomic.Pointer[nameBucket] {
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
	b := bucketOf(*buckets, t.factor, k).Load()
	if b == nil {
		return nil
	}
	var best *namedEntry
	bestRank, unsure := -1, false
	for i := range *b {
		n := &(*b)[i]
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

// put remembers what a source tells about a key. The table then takes at most so many
// bytes: if need be, random other entries go.
func (t *optionsTable) put(e namedEntry, budget int64) {
	if known := t.find(e.nameKey, e.domain, e.port); known != nil && known.says(e.name, e.description) {
		if known.port != e.port && known.port != 0 {
			shared := *known
			shared.port = 0
			t.replace(known, shared)
		}
		return
	}
	if buckets := t.buckets.Load(); buckets == nil || t.n >= bucketLoad*len(*buckets) {
		t.grow()
	}
	at := bucketOf(*t.buckets.Load(), t.factor, e.nameKey)
	old := at.Load()
	bucket := nameBucket{}
	tellers := 0
	if old != nil {
		bucket = make(nameBucket, 0, len(*old)+1)
		for _, n := range *old {
			if n.nameKey == e.nameKey {
				if tellers++; n.domain == e.domain && n.port == e.port || tellers >= maxTellers {
					continue // the last of too many tellers goes
				}
			}
			bucket = append(bucket, n)
		}
	}
	t.set(at, append(bucket, e))
	for t.bytes() > budget && t.n > 1 {
		t.evict()
	}
}

// replace puts an entry in the place of another one of the same key.
func (t *optionsTable) replace(known *namedEntry, n namedEntry) {
	at := bucketOf(*t.buckets.Load(), t.factor, n.nameKey)
	bucket := slices.Clone(*at.Load())
	for i := range bucket {
		if b := &bucket[i]; b.nameKey == known.nameKey && b.domain == known.domain && b.port == known.port {
			*b = n
		}
	}
	t.set(at, bucket)
}

// set replaces a bucket and keeps count.
func (t *optionsTable) set(at *atomic.Pointer[nameBucket], b nameBucket) {
	old := at.Load()
	if old != nil {
		t.n -= len(*old)
	}
	t.n += len(b)
	t.inBuckets += b.bytes() - old.bytes()
	at.Store(&b)
}

// evict removes an entry of a random bucket.
func (t *optionsTable) evict() {
	buckets := *t.buckets.Load()
	first := rand.IntN(len(buckets)) //nolint:gosec // no secret: chance only spreads evictions
	for i := range buckets {
		at := &buckets[(first+i)%len(buckets)]
		if b := at.Load(); b != nil && len(*b) > 0 {
			t.set(at, slices.Clone((*b)[1:]))
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
	} else if t.factor == 0 {
		t.factor = rand.Uint64() | 1 //nolint:gosec // nobody who could guess it sees what it leads to
	}
	buckets := make([]atomic.Pointer[nameBucket], size)
	t.n, t.inBuckets = 0, 0
	if old != nil {
		for i := range *old {
			b := (*old)[i].Load()
			if b == nil {
				continue
			}
			for _, n := range *b {
				at := bucketOf(buckets, t.factor, n.nameKey)
				var bucket nameBucket
				if known := at.Load(); known != nil {
					bucket = *known
				}
				t.set(at, append(slices.Clip(bucket), n))
			}
		}
	}
	t.buckets.Store(&buckets)
}

// clear makes the table empty.
func (t *optionsTable) clear() {
	t.buckets.Store(nil)
	t.n, t.inBuckets = 0, 0
}
