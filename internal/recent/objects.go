package recent

import (
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// objects has the objects of the segments that were added to the sums. Each counts once
// towards the room, in however many segments it is: the cluster may lose all of them at
// once, and then nobody else has them.
type objects struct {
	list  []heldObject
	free  int32   // index of the first of list without an object, plus one; 0 for none
	slots []int32 // indexes plus one, by a hash of the object
	count int
	bytes int64 // what the objects take, without their workloads
}

// heldObject is an object that segments have.
type heldObject struct {
	object   *flow.Object // nil if nobody has it any more
	workload uint32       // its number
	// places is in how many places segments have it; if it is nil, the next one like it.
	places int32
}

func newObjects() *objects { return &objects{slots: make([]int32, minSlots)} }

// hold counts the objects of a segment. It puts their indexes into list, and the numbers of
// their workloads into numbers. The hints save most of the search.
func (t *objects) hold(of []*flow.Object, hints []uint32, w *workloads, list []int32, numbers []uint32) {
	for i, o := range of {
		n := int32(hints[i]) - 1
		if uint32(n) >= uint32(len(t.list)) || t.list[n].object != o {
			n = t.index(o, w)
			o.SetHint(uint32(n + 1))
		}
		k := &t.list[n]
		k.places++
		list[i], numbers[i] = n, k.workload
	}
}

// index returns the index of an object.
func (t *objects) index(o *flow.Object, w *workloads) int32 {
	mask := uint64(len(t.slots) - 1)
	for i := hashOfObject(o) & mask; ; i = (i + 1) & mask {
		n := t.slots[i] - 1
		if n < 0 {
			return t.add(o, w, i)
		}
		if t.list[n].object == o {
			return n
		}
	}
}

// add adds an object that is new, in a slot that is free.
func (t *objects) add(o *flow.Object, w *workloads, slot uint64) int32 {
	n := t.free - 1
	if n >= 0 {
		t.free = t.list[n].places
	} else {
		n = int32(len(t.list))
		t.list = append(t.list, heldObject{})
	}
	t.list[n] = heldObject{object: o, workload: w.of(o)}
	w.hold(t.list[n].workload)
	t.bytes += int64(o.Size())
	t.count++
	t.slots[slot] = n + 1
	if 2*t.count > len(t.slots) {
		t.slots = make([]int32, 2*len(t.slots))
		for i := range t.list {
			if o := t.list[i].object; o != nil {
				putSlot(t.slots, hashOfObject(o), i)
			}
		}
	}
	return n
}

// release forgets the places of a segment that has left.
func (t *objects) release(list []int32, w *workloads) {
	for _, n := range list {
		k := &t.list[n]
		if k.places--; k.places > 0 {
			continue
		}
		t.removeSlot(k.object, n)
		t.bytes -= int64(k.object.Size())
		t.count--
		w.release(k.workload)
		k.object, k.places = nil, t.free
		t.free = n + 1
	}
}

// removeSlot empties the slot of an object, and moves those after it that would not be found
// then.
func (t *objects) removeSlot(o *flow.Object, n int32) {
	mask := uint64(len(t.slots) - 1)
	hole := hashOfObject(o) & mask
	for t.slots[hole] != n+1 {
		hole = (hole + 1) & mask
	}
	for i := (hole + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		wanted := hashOfObject(t.list[t.slots[i]-1].object) & mask
		if (i-wanted)&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = 0
}

// size is what the objects take in memory, in bytes.
func (t *objects) size() int64 {
	return t.bytes + int64(cap(t.list))*int64(unsafe.Sizeof(heldObject{})) + int64(len(t.slots))*4
}

// hashOfObject returns a hash of an object, of which all lower bits may be used.
func hashOfObject(o *flow.Object) uint64 { return addressOf(o) * golden >> 24 }
