package recent

import (
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
	outside unique.Handle[flow.Workload]
	index   map[pair]int32
	list    []pair
	most    int // pairs; others have the number -1

	// cache has the numbers of the pairs that were looked for last, by their objects.
	cache [cacheSize]struct {
		src, dst *flow.Object
		number   int32
		known    bool
	}
}

const (
	cacheBits = 9
	cacheSize = 1 << cacheBits
)

func newPairTable(most int) *pairTable {
	return &pairTable{
		outside: unique.Make(flow.Workload{Kind: KindNone, Name: Outside}),
		index:   make(map[pair]int32), most: most,
	}
}

// number returns the number of the pair of a record, -1 if there are too many.
func (t *pairTable) number(h *head) int32 {
	src, dst := h.src.Object, h.dst.Object
	c := &t.cache[(addressOf(src)*0x9e3779b97f4a7c15^addressOf(dst)*0xc2b2ae3d27d4eb4f)>>(64-cacheBits)]
	if c.known && c.src == src && c.dst == dst {
		return c.number
	}
	n := t.numberOf(pair{t.workload(src), t.workload(dst)})
	c.src, c.dst, c.number, c.known = src, dst, n, true
	return n
}

func (t *pairTable) numberOf(p pair) int32 {
	n, ok := t.index[p]
	if !ok {
		if len(t.list) >= t.most {
			return -1
		}
		n = int32(len(t.list))
		t.index[p] = n
		t.list = append(t.list, p)
	}
	return n
}

// workload returns whose the traffic of an end is.
func (t *pairTable) workload(o *flow.Object) unique.Handle[flow.Workload] {
	if o == nil || o.WorkloadID() == (unique.Handle[flow.Workload]{}) {
		return t.outside
	}
	return o.WorkloadID()
}

func endOf(h unique.Handle[flow.Workload]) End {
	w := h.Value()
	return End{Kind: w.Kind, Namespace: w.Namespace, Name: w.Name}
}
