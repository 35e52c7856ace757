package traffic

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// A table counts as Go's map does, and what has no room is counted together.
func TestTable(t *testing.T) {
	handles := make([]unique.Handle[flow.Workload], 200)
	for i := range handles[1:] { // the first one is of nobody
		handles[i+1] = unique.Make(flow.Workload{Name: fmt.Sprint(i)})
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, room := range []int{1, 2, 3, 1024, 5000, 100_000} {
		table := newTable(room)
		for range 2 { // the second time after clear
			want, others := make(map[pair]counts), counts{}
			for range 30_000 {
				p := pair{handles[rnd.IntN(len(handles))], handles[rnd.IntN(len(handles))]}
				d := counts{rnd.Uint64N(1000), rnd.Uint64N(3), 1}
				table.add(p, &d)
				c, ok := want[p]
				if !ok && len(want) == room {
					others.add(&d)
					continue
				}
				c.add(&d)
				want[p] = c
			}
			if table.overflow != others || len(table.used) != len(want) {
				t.Errorf("room for %d: %d pairs, others %v; want %d, %v", room, len(table.used), table.overflow, len(want), others)
			}
			for _, i := range table.used {
				e := &table.entries[i]
				if e.counts != want[e.pair] {
					t.Errorf("room for %d: %v, want %v", room, e.counts, want[e.pair])
				}
			}
			table.clear()
			for i, e := range table.entries {
				if e != (entry{}) {
					t.Fatalf("entry %d is %v when the table is empty", i, e)
				}
			}
		}
	}
}

// A table has no more memory than the pairs that it has room for need.
func TestTableSize(t *testing.T) {
	for _, room := range []int{1, 2, 5461, 5462, 100_000} {
		if table := newTable(room); len(table.entries) != room+room/2+1 || cap(table.used) != room {
			t.Errorf("room for %d pairs: %d entries, %d of them may be used", room, len(table.entries), cap(table.used))
		}
	}
}
