package collector

import (
	"hash/maphash"
	"iter"
	"math/rand/v2"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// sizedMap is a hash map that reports how many bytes it takes and returns memory
// when it shrinks. A Go map does neither, and one whose keys come and go takes up
// to twice what its length suggests, so no budget in bytes could rely on it.
//
// The zero value is an empty map. It is not safe for concurrent use.
type sizedMap[K comparable, V any] struct {
	seed maphash.Seed
	// slots are probed linearly. Their number is 0 or a power of two, of which at
	// most three quarters are in use; the others have the hash 0.
	slots []slot[K, V]
	n     int
}

// slot keeps the hash of its key: whoever deletes goes by all keys of a run. Where it
// stands it often takes no room of its own.
type slot[K comparable, V any] struct {
	key   K
	hash  uint32
	value V
}

// minSlots is the least number of slots of a map that is not empty.
const minSlots = 4

// slotsFor returns how many slots hold n entries.
func slotsFor(n int) int {
	if n == 0 {
		return 0
	}
	slots := minSlots
	for n > slots/4*3 {
		slots *= 2
	}
	return slots
}

func (m *sizedMap[K, V]) len() int { return m.n }

// bytes returns the size of the slots on the heap.
func (m *sizedMap[K, V]) bytes() int64 { return m.slotBytes(len(m.slots)) }

// bytesWithOneMore returns what bytes will return once a new key was added.
func (m *sizedMap[K, V]) bytesWithOneMore() int64 {
	return m.slotBytes(max(len(m.slots), slotsFor(m.n+1)))
}

func (m *sizedMap[K, V]) slotBytes(slots int) int64 {
	return allocated(int64(slots) * int64(unsafe.Sizeof(slot[K, V]{})))
}

// usedHash is set in the hashes of keys: that of a free slot is 0.
const usedHash = 1 << 31

func (m *sizedMap[K, V]) hashOf(k K) uint32 {
	return uint32(maphash.Comparable(m.seed, k)) | usedHash
}

// find returns where a key of the given hash is, or the free slot where it belongs.
func (m *sizedMap[K, V]) find(k K, hash uint32) (i int, found bool) {
	steps.Add(steps.Lookup)
	mask := len(m.slots) - 1
	for i = int(hash) & mask; m.slots[i].hash != 0; i = (i + 1) & mask {
		steps.Add(1)
		if m.slots[i].hash == hash && m.slots[i].key == k {
			return i, true
		}
	}
	return i, false
}

// get returns the value of a key, or nil. It is valid until the next put or delete.
func (m *sizedMap[K, V]) get(k K) *V {
	if m.n == 0 {
		return nil
	}
	if i, ok := m.find(k, m.hashOf(k)); ok {
		return &m.slots[i].value
	}
	return nil
}

func (m *sizedMap[K, V]) put(k K, v V) {
	if m.n == 0 || m.n+1 > len(m.slots)/4*3 {
		if old := m.get(k); old != nil {
			*old = v
			return
		}
		m.resize(slotsFor(m.n + 1))
	}
	hash := m.hashOf(k)
	i, found := m.find(k, hash)
	if !found {
		m.n++
	}
	m.slots[i] = slot[K, V]{k, hash, v}
}

// delete removes a key, if it is there. A map of which only an eighth is in use
// shrinks.
// getOrPut returns the value of a key, which is the zero value if there was none.
func (m *sizedMap[K, V]) getOrPut(k K) *V {
	if v := m.get(k); v != nil {
		return v
	}
	var zero V
	m.put(k, zero)
	return m.get(k)
}

func (m *sizedMap[K, V]) delete(k K) {
	if m.n == 0 {
		return
	}
	i, found := m.find(k, m.hashOf(k))
	if !found {
		return
	}
	m.n--
	if m.n == 0 {
		m.slots = nil
		return
	}
	// Later keys of the same run move up, so that no search ends too early.
	mask := len(m.slots) - 1
	for j := (i + 1) & mask; m.slots[j].hash != 0; j = (j + 1) & mask {
		steps.Add(1)
		if home := int(m.slots[j].hash); (j-home)&mask >= (j-i)&mask {
			m.slots[i], i = m.slots[j], j
		}
	}
	m.slots[i] = slot[K, V]{}
	if m.n <= len(m.slots)/8 && len(m.slots) > minSlots {
		m.resize(slotsFor(m.n))
	}
}

func (m *sizedMap[K, V]) resize(slots int) {
	if m.slots == nil {
		m.seed = maphash.MakeSeed()
	}
	steps.Add(steps.Allocation + slots)
	old := m.slots
	m.slots = make([]slot[K, V], slots)
	for _, s := range old {
		if s.hash != 0 {
			i, _ := m.find(s.key, s.hash)
			m.slots[i] = s
		}
	}
}

// all returns the entries, from a random one on. The map must not change
// meanwhile.
func (m *sizedMap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.n == 0 {
			return
		}
		mask := len(m.slots) - 1
		first := rand.IntN(len(m.slots)) //nolint:gosec // no secret: chance only spreads evictions
		for i := range m.slots {
			steps.Add(1)
			if s := &m.slots[(first+i)&mask]; s.hash != 0 && !yield(s.key, s.value) {
				return
			}
		}
	}
}

// places returns the entries with the places of their values, which may be changed. The
// map must not change otherwise meanwhile.
func (m *sizedMap[K, V]) places() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) {
		var zero K
		for i := range m.slots {
			if s := &m.slots[i]; s.key != zero && !yield(s.key, &s.value) {
				return
			}
		}
	}
}

// allocated returns at most what the runtime takes for an object of n bytes: it
// rounds up to a size class, and objects with pointers of 512 bytes to 32 KiB have
// a header of 8 bytes that moves sizes of 2^n to the next class (Go's
// runtime/sizeclasses.go and malloc.go: 4,096 bytes take 4,864).
func allocated(n int64) int64 {
	const large = 32 << 10 // larger ones take whole pages
	switch {
	case n == 0:
		return 0
	case n >= large:
		return n
	}
	return n + n*3/16 + 8
}

// evictionChoice is how many entries an eviction chooses from. The more there
// are, the better the choice, and the longer it takes.
const evictionChoice = 16

// victim chooses what to evict: of the first few entries of a sequence, which
// begins at a random one, that which goes before all others. It returns false if
// the sequence is empty.
func victim[K, V any](entries iter.Seq2[K, V], before func(a, b V) bool) (key K, value V, ok bool) {
	n := 0
	for k, v := range entries {
		steps.Add(steps.Miss)
		if !ok || before(v, value) {
			key, value, ok = k, v, true
		}
		if n++; n == evictionChoice {
			break
		}
	}
	return key, value, ok
}
