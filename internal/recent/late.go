package recent

import (
	"cmp"
	"math"
	"slices"
)

// A record is late if its worker has had a newer one before: it waited for its template or its
// pod, or is of a further capture. A worker's other records are in the order of their times, so
// they are read page by page. The late ones may lie anywhere. A reader finds out where the next
// ones are, and copies each alone when its turn comes.

// lateKnown is how many late records a reader knows the places of. To find them it has room for
// twice as many, which is about as much as a page. When it has read them, it looks for the next
// ones.
const lateKnown = 4096

// late is a late record. The reader's next one is the smallest.
type late struct {
	time  uint64 // of receipt, as the merger orders them
	place uint64 // see placed; likewise
}

func (a late) compare(b late) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.place, b.place))
}

// lates has the late records that a reader has yet to read.
type lates struct {
	in    []int  // the segments that may have some, by their indexes
	known []late // the next ones, in order
	read  int    // how many of those were
	last  late   // that was read
	more  bool   // there may be others than the known ones
	bytes []byte // of the one that is read
}

// free forgets what is known, until it is needed.
func (k *lates) free() {
	k.more = k.more || k.read < len(k.known)
	k.known, k.read = nil, 0
}

// sort brings what is known into order, and keeps the first ones.
func (k *lates) sort() {
	slices.SortFunc(k.known, late.compare)
	if len(k.known) > lateKnown {
		k.known, k.more = k.known[:lateKnown], true
	}
}

// times returns bounds of the times of a segment's records, as the merger orders them.
func (m *merger) times(l *glance) (first, last uint64) {
	if m.newest {
		return l.newest ^ m.flip, l.oldest ^ m.flip
	}
	return l.oldest, l.newest
}

// beginLate prepares for the late records. The segments of which some may be first come first.
func (m *merger) beginLate() {
	k := &m.late
	k.more = len(k.in) > 0
	slices.SortFunc(k.in, func(a, b int) int {
		first, _ := m.times(&m.list[a])
		other, _ := m.times(&m.list[b])
		return cmp.Compare(first, other)
	})
}

// findLate finds the late records that come next.
func (m *merger) findLate() {
	k := &m.late
	k.known, k.read, k.more = k.known[:0], 0, false
	end := late{math.MaxUint64, math.MaxUint64} // there are enough before it
	for _, i := range k.in {
		l := &m.list[i]
		first, last := m.times(l)
		if first > end.time {
			break
		}
		if last < k.last.time || !l.pin() {
			continue
		}
		v, newest := l.view(), l.before
		for at := 0; at < v.used; at += v.lengthAt(at) {
			t := v.receivedAt(at)
			if t >= newest {
				newest = t
				continue
			}
			r := late{t ^ m.flip, placed(i, at) ^ m.flip}
			if t < m.since || t > m.until || r.compare(k.last) <= 0 || r.compare(end) >= 0 {
				continue
			}
			if k.known = append(k.known, r); len(k.known) == 2*lateKnown {
				k.sort()
				end = k.known[lateKnown-1]
			}
		}
		l.segment.unpin()
	}
	k.sort()
}

// placed returns the place of a record: the index of its segment, from 1 on, and its offset.
func placed(i, at int) uint64 { return uint64(i+1)<<32 | uint64(at) }

// lateFirst reports whether a late record comes before the next one of a cursor, which is nil if
// there is none.
func (m *merger) lateFirst(next *cursor) bool {
	k := &m.late
	if k.read == len(k.known) {
		if !k.more {
			return false
		}
		if m.findLate(); len(k.known) == 0 {
			return false
		}
	}
	// Of a worker's records with the same time, the late ones came last.
	t := k.known[k.read].time
	return next == nil || t < next.time || m.newest && t == next.time
}

// unpackLate unpacks the next late record. It reports false if that has left.
func (m *merger) unpackLate() bool {
	k := &m.late
	k.last = k.known[k.read]
	k.read++
	place := k.last.place ^ m.flip
	l, at := &m.list[place>>32-1], int(uint32(place))
	if !l.pin() {
		return false
	}
	v := l.view()
	k.bytes = append(k.bytes[:0], v.bytes[at:at+v.lengthAt(at)]...)
	v.bytes = k.bytes
	m.unpacker.unpack(v, &m.record, 0, m.s.mapped.n)
	l.segment.unpin()
	return true
}
