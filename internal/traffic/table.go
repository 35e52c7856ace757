package traffic

import (
	"hash/maphash"
	"math/bits"
)

// table has the counts of one worker since the last scrape. It is a hash table with open
// addressing: with many pairs, waiting for memory is most of what counting costs, and here
// a pair and its counts lie side by side.
type table struct {
	entries  []entry // more than room; one whose flows are 0 is free
	used     []int32 // the others, in the order in which they were taken
	overflow counts  // of pairs for which there was no room
	room     int     // the most pairs
	seed     maphash.Seed
}

// entry has the counts of a pair.
type entry struct {
	pair   pair
	counts counts
}

// newTable makes a table with all the room that it may need. With many pairs it is
// full soon after each scrape, and growing costs more than counting.
func newTable(room int) *table {
	// At most two thirds are used, so that a pair is found after two steps in the mean.
	size := room + room/2 + 1
	return &table{entries: make([]entry, size), used: make([]int32, 0, room), room: room, seed: maphash.MakeSeed()}
}

// add adds to the counts of p, or to overflow if p is new and the table has as many pairs
// as it may have. The flows of d are not 0.
func (t *table) add(p pair, d *counts) {
	first, _ := bits.Mul64(maphash.Comparable(t.seed, p), uint64(len(t.entries)))
	i := int(first)
	for t.entries[i].pair != p && t.entries[i].counts[valueFlows] != 0 {
		if i++; i == len(t.entries) {
			i = 0
		}
	}
	e := &t.entries[i]
	if e.counts[valueFlows] == 0 {
		if len(t.used) == t.room {
			t.overflow.add(d)
			return
		}
		t.used = append(t.used, int32(i))
		e.pair = p
	}
	e.counts.add(d)
}

func (t *table) clear() {
	for _, i := range t.used {
		t.entries[i] = entry{} // a handle keeps its value in memory
	}
	t.used, t.overflow = t.used[:0], counts{}
}
