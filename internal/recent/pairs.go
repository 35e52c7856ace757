package recent

import (
	"strings"
	"unique"

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

// pair is who talks to whom.
type pair struct{ src, dst unique.Handle[flow.Workload] }

// pairTable gives numbers to pairs, from 0 on.
type pairTable struct {
	most    int // pairs; others have the number -1
	outside unique.Handle[flow.Workload]

	// Workloads have numbers, too, from 0 on. cache has those of the objects that were
	// looked for last.
	workloads []unique.Handle[flow.Workload]
	ids       map[unique.Handle[flow.Workload]]uint32
	cache     [objectSlots]struct {
		object *flow.Object
		id     uint32
	}

	// list has the numbers of the workloads of each pair, and slots those of pairs plus
	// one, by a hash of that. Go's maps take twice the time.
	list  []workloads
	slots []int32
}

// workloads are the numbers of a source and a destination.
type workloads struct{ src, dst uint32 }

func (w workloads) hash() uint64 {
	h := (uint64(w.src)<<32 | uint64(w.dst)) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}

const (
	objectBits  = 12
	objectSlots = 1 << objectBits
	minSlots    = 1 << 10
)

func newPairTable(most int) *pairTable {
	return &pairTable{
		most:    most,
		outside: unique.Make(flow.Workload{Kind: KindNone, Name: Outside}),
		ids:     make(map[unique.Handle[flow.Workload]]uint32),
		slots:   make([]int32, minSlots),
	}
}

// number returns the number of the pair of two objects, -1 if there are too many.
func (t *pairTable) number(src, dst *flow.Object) int32 {
	return t.numberOf(workloads{t.id(src), t.id(dst)})
}

// numberOfPair is the same for workloads.
func (t *pairTable) numberOfPair(p pair) int32 {
	return t.numberOf(workloads{t.idOf(p.src), t.idOf(p.dst)})
}

func (t *pairTable) numberOf(w workloads) int32 {
	mask := uint64(len(t.slots) - 1)
	for i := w.hash() & mask; ; i = (i + 1) & mask {
		n := t.slots[i] - 1
		if n < 0 {
			return t.add(w, i)
		}
		if t.list[n] == w {
			return n
		}
	}
}

// add gives a number to a pair that is new, in a slot that is free.
func (t *pairTable) add(w workloads, slot uint64) int32 {
	if len(t.list) >= t.most {
		return -1
	}
	t.list = append(t.list, w)
	n := int32(len(t.list))
	t.slots[slot] = n
	if 2*len(t.list) > len(t.slots) {
		t.slots = make([]int32, 2*len(t.slots))
		mask := uint64(len(t.slots) - 1)
		for i, w := range t.list {
			at := w.hash() & mask
			for t.slots[at] != 0 {
				at = (at + 1) & mask
			}
			t.slots[at] = int32(i + 1)
		}
	}
	return n - 1
}

// id returns the number of the workload of an object.
func (t *pairTable) id(o *flow.Object) uint32 {
	c := &t.cache[addressOf(o)*0x9e3779b97f4a7c15>>(64-objectBits)]
	if c.object != o || o == nil {
		c.object, c.id = o, t.idOf(workloadOf(o, t.outside))
	}
	return c.id
}

func (t *pairTable) idOf(h unique.Handle[flow.Workload]) uint32 {
	id, ok := t.ids[h]
	if !ok {
		id = uint32(len(t.workloads))
		t.ids[h] = id
		t.workloads = append(t.workloads, h)
	}
	return id
}

// pair returns who a pair is, by its number.
func (t *pairTable) pair(n int32) pair {
	w := t.list[n]
	return pair{t.workloads[w.src], t.workloads[w.dst]}
}

// workloadOf returns whose the traffic of an end is. An end that nobody in the cluster has is
// the label of its network, else its country, else the outside.
func workloadOf(o *flow.Object, outside unique.Handle[flow.Workload]) unique.Handle[flow.Workload] {
	switch {
	case o == nil:
		return outside
	case o.WorkloadID() != unique.Handle[flow.Workload]{}:
		return o.WorkloadID()
	case o.Place != nil && o.Place.Country != "":
		return unique.Make(flow.Workload{Kind: KindNone, Name: strings.ToValidUTF8(o.Place.Country, "\uFFFD")})
	}
	return outside
}

func endOf(h unique.Handle[flow.Workload]) End {
	w := h.Value()
	return End{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}
}
