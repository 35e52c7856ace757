package recent

import (
	"slices"
	"strings"
	"sync"
	"unique"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// End names who sends or receives, as the API shows it.
type End struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// The names of ends that nobody is known to own.
const (
	KindNone = "none"
	Outside  = "outside"
)

// handle is a workload. All objects of a workload have the same one.
type handle = unique.Handle[flow.Workload]

// workloads gives numbers to workloads, from 0 on, of which the outside has the first.
type workloads struct {
	list  []handle
	slots []int32 // numbers plus one, by a hash of the handle. Go's maps take twice the time.
	// objects is how many objects hold each, by number. bytes is what the names take of those
	// that none holds, and held what the others take.
	objects     []uint32
	bytes, held int64
}

// outsideNumber is the number of the outside.
const outsideNumber = 0

const (
	golden   = 0x9e3779b97f4a7c15 // of Fibonacci hashing: its upper bits depend on all others
	minSlots = 1 << 4
)

// putSlot puts a number, plus one, into the first free slot from that of a hash on. There must be
// one, and the slots must be a power of two.
func putSlot(slots []int32, hash uint64, number int) {
	mask := uint64(len(slots) - 1)
	at := hash & mask
	for slots[at] != 0 {
		at = (at + 1) & mask
	}
	slots[at] = int32(number + 1)
}

func newWorkloads() *workloads {
	w := &workloads{slots: make([]int32, minSlots)}
	w.number(unique.Make(flow.Workload{Kind: KindNone, Name: Outside}))
	return w
}

// reset forgets all workloads but the outside.
func (w *workloads) reset() {
	clear(w.list[outsideNumber+1:])
	clear(w.slots)
	w.list, w.objects = w.list[:outsideNumber+1], w.objects[:outsideNumber+1]
	putSlot(w.slots, hashOf(w.list[outsideNumber]), outsideNumber)
}

// take makes w the same as another one, whose numbers it takes over. What objects have of them it
// does not tell.
func (w *workloads) take(o *workloads) {
	w.list, w.slots = append(w.list[:0], o.list...), append(w.slots[:0], o.slots...)
	w.objects = slices.Grow(w.objects[:0], len(o.list))[:len(o.list)]
}

// knows reports whether a workload has a number.
func (w *workloads) knows(h handle) bool {
	mask := uint64(len(w.slots) - 1)
	for i := hashOf(h) & mask; w.slots[i] != 0; i = (i + 1) & mask {
		if w.list[w.slots[i]-1] == h {
			return true
		}
	}
	return false
}

// number returns the number of a workload.
func (w *workloads) number(h handle) uint32 {
	mask := uint64(len(w.slots) - 1)
	for i := hashOf(h) & mask; ; i = (i + 1) & mask {
		n := w.slots[i] - 1
		if n < 0 {
			return w.add(h, i)
		}
		if w.list[n] == h {
			return uint32(n)
		}
	}
}

// of returns the number of the workload of an object.
func (w *workloads) of(o *flow.Object) uint32 {
	if o == nil {
		return outsideNumber
	}
	return w.number(w.handleOf(o))
}

// handleOf returns the workload of an object.
func (w *workloads) handleOf(o *flow.Object) handle {
	if h := o.WorkloadID(); h != (handle{}) {
		return h
	}
	return placeOfObject(o, w.list[outsideNumber])
}

// add gives a number to a workload that is new, in a slot that is free.
func (w *workloads) add(h handle, slot uint64) uint32 {
	w.list, w.objects = append(w.list, h), append(w.objects, 0)
	w.bytes += sizeOf(h)
	n := len(w.list)
	w.slots[slot] = int32(n)
	if 2*n > len(w.slots) {
		w.slots = make([]int32, 2*len(w.slots))
		for i, h := range w.list {
			putSlot(w.slots, hashOf(h), i)
		}
	}
	return uint32(n - 1)
}

// hold says that one more object has a workload.
func (w *workloads) hold(n uint32) {
	if w.objects[n]++; w.objects[n] == 1 {
		size := sizeOf(w.list[n])
		w.bytes, w.held = w.bytes-size, w.held+size
	}
}

// release takes hold back.
func (w *workloads) release(n uint32) {
	if w.objects[n]--; w.objects[n] == 0 {
		size := sizeOf(w.list[n])
		w.bytes, w.held = w.bytes+size, w.held-size
	}
}

// size is what the workloads take in memory, in bytes, without what those of objects do.
func (w *workloads) size() int64 {
	return w.bytes + int64(cap(w.list))*int64(unsafe.Sizeof(handle{})) + int64(cap(w.objects)+len(w.slots))*4
}

// hashOf returns a hash of a handle, of which all lower bits may be used. A handle is a
// pointer, and what it points to does not move.
func hashOf(h handle) uint64 { return uint64(*(*uintptr)(unsafe.Pointer(&h))) * golden >> 24 }

const _ = -(unsafe.Sizeof(handle{}) - unsafe.Sizeof(uintptr(0))) // a handle is a pointer

// sizeOf returns what a workload takes in memory, in bytes, if no object has it any more.
func sizeOf(h handle) int64 {
	const shared = 232 // the entry in Go's table of unique values, its share of the nodes, and what is rounded up
	w := h.Value()
	return int64(unsafe.Sizeof(w)) + int64(len(w.Namespace)+len(w.Name)+len(w.Kind)+len(w.Zone)) + shared
}

// pair is who talks to whom, by numbers of workloads.
type pair struct{ src, dst uint32 }

func (p pair) hash() uint64 {
	h := (uint64(p.src)<<32 | uint64(p.dst)) * golden
	return h ^ h>>32
}

// A slot has the number of a pair, plus one, and a tag above it: bits of the pair's hash. To see
// that a pair is not there hardly ever takes a look at other pairs, which are elsewhere in memory.
const (
	numberBits = 20
	numberMask = 1<<numberBits - 1
	mostPairs  = numberMask - 1
)

// tagOf returns the tag of a hash. It has none of the bits that say where the slot is.
func tagOf(hash uint64) uint32 { return uint32(hash>>(32+numberBits)) << numberBits }

// pairSum is what a pair has.
type pairSum struct {
	pair
	sum
}

// pairs has sums of pairs, which have numbers from 0 on.
type pairs struct {
	most  int // further ones have the number -1
	list  []pairSum
	slots []uint32 // by a hash of the pair
}

// newPairs makes room for some pairs, and for more when there are.
func newPairs(most, some int) pairs {
	n := minSlots
	for n < 2*some {
		n *= 2
	}
	return pairs{most: min(most, mostPairs), list: make([]pairSum, 0, some), slots: make([]uint32, n)}
}

// number returns the number of a pair, -1 if there are too many.
func (t *pairs) number(p pair) int32 { return t.find(p, p.hash()) }

func (t *pairs) find(p pair, hash uint64) int32 {
	mask, tag := uint64(len(t.slots)-1), tagOf(hash)
	for i := hash & mask; ; i = (i + 1) & mask {
		slot := t.slots[i]
		if slot == 0 {
			return t.insert(p, i, tag)
		}
		if slot&^numberMask != tag {
			continue
		}
		if n := slot&numberMask - 1; t.list[n].pair == p {
			return int32(n)
		}
	}
}

// batch gathers pairs to look for. A table is not in the processor's cache, most often: to
// look for many, one right after another, means to wait for several at once.
type batch struct {
	used   int
	found  [128]pairSum
	hashes [128]uint64
	slots  [128]uint32
}

// next returns the place of a further pair. There must be one.
func (b *batch) next() *pairSum {
	b.used++
	return &b.found[b.used-1]
}

func (b *batch) full() bool { return b.used == len(b.found) }

// addAll adds what a batch has, and empties it. What there is no room for goes to other.
func (t *pairs) addAll(b *batch, other *Counts) {
	found, hashes, slots := b.found[:b.used], b.hashes[:b.used], b.slots[:b.used]
	b.used = 0
	mask := uint64(len(t.slots) - 1)
	for i := range found {
		h := found[i].hash()
		hashes[i], slots[i] = h, t.slots[h&mask]
	}
	full := len(t.list) >= t.most
	for i, slot := range slots {
		n := int32(slot&numberMask) - 1
		if p := found[i].pair; slot == 0 && !full || slot != 0 && (slot&^numberMask != tagOf(hashes[i]) || t.list[n].pair != p) {
			n = t.find(p, hashes[i])
		}
		if n < 0 {
			other.add(found[i].Counts)
		} else {
			t.list[n].add(&found[i].sum)
		}
	}
}

// insert gives a number to a pair that is new, in a slot that is free.
func (t *pairs) insert(p pair, slot uint64, tag uint32) int32 {
	if len(t.list) >= t.most {
		return -1
	}
	t.list = append(t.list, pairSum{pair: p})
	n := len(t.list)
	t.slots[slot] = tag | uint32(n)
	if 2*n > len(t.slots) {
		t.index(2 * len(t.slots))
	}
	return int32(n - 1)
}

// index makes n slots.
func (t *pairs) index(n int) {
	t.slots = make([]uint32, n)
	mask := uint64(n - 1)
	for i := range t.list {
		h := t.list[i].hash()
		at := h & mask
		for t.slots[at] != 0 {
			at = (at + 1) & mask
		}
		t.slots[at] = tagOf(h) | uint32(i+1)
	}
}

// size is what the pairs take in memory, in bytes.
func (t *pairs) size() int64 {
	return int64(cap(t.list))*int64(unsafe.Sizeof(pairSum{})) + int64(len(t.slots))*4
}

// pairTable has the sums of an answer.
type pairTable struct {
	pairs
	workloads *workloads
	batch     batch
	numbers   numbers // of the segment that is read
	// The first shared workloads have the same numbers in of, which are the sums'.
	of     *workloads
	shared uint32
}

// numbers are those of the workloads of a segment's objects, by their places from 1 on. The first
// one is nobody's.
type numbers [segmentObjects + 1]uint32

// somePairs is how many pairs a table has room for before it grows.
const somePairs = 4 << 10

// pairTables has those that nobody uses. A large one is several MiB, and the page asks often.
var pairTables = sync.Pool{New: func() any {
	return &pairTable{pairs: newPairs(0, somePairs), workloads: newWorkloads()}
}}

// newPairTable returns an empty table for some pairs at most, which is to be freed.
func newPairTable(most int) *pairTable {
	t := pairTables.Get().(*pairTable)
	t.most = most
	return t
}

// free gives the table back, without the workloads.
func (t *pairTable) free() {
	t.list = t.list[:0]
	clear(t.slots)
	t.workloads.reset()
	t.of, t.shared = nil, 0
	pairTables.Put(t)
}

// take takes over the workloads of sums, and their numbers. The table is empty.
func (t *pairTable) take(of *workloads) {
	t.workloads.take(of)
	t.of, t.shared = of, uint32(len(of.list))
}

// sharedWith returns how many workloads have the same numbers in a table of the sums.
func (t *pairTable) sharedWith(of *workloads) uint32 {
	if of != t.of { // the sums have forgotten some since
		return 0
	}
	return t.shared
}

// placeOfObject returns whose the traffic of an end is that nobody in the cluster has, and
// that has no label of its network: the country's, else the outside's.
func placeOfObject(o *flow.Object, outside handle) handle {
	if o.Place != nil && o.Place.Country != "" {
		return unique.Make(flow.Workload{Kind: KindNone, Name: strings.ToValidUTF8(o.Place.Country, "\uFFFD")})
	}
	return outside
}

func endOf(h handle) End {
	w := h.Value()
	return End{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}
}
