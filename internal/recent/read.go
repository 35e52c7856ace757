package recent

import (
	"cmp"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"sync"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// glance is what is known of a segment without its records.
type glance struct {
	segment *segment
	number  uint64
	worker  int
	first   uint64
	sealed  bool
	extent
	before         uint64
	oldest, newest uint64 // bounds of the times of receipt
	late           bool   // there may be late records
	unread         int    // records that somebody who follows has not read
	most           int    // records that are copied; 0 for all
}

// glances returns what is known of all segments that have records, by their numbers.
func (s *Store) glances() []glance {
	return s.glancesOf(make([]glance, 0, len(s.slots)), func(*glance) bool { return true })
}

// glancesOf appends those that are wanted to list, which has none.
func (s *Store) glancesOf(list []glance, wanted func(*glance) bool) []glance {
	n := uint64(len(s.slots))
	oldest := s.next.Load() // of the slots, which are in order from there on but for a few
	for i := range n {
		g := s.slots[(oldest+i)%n].Load()
		if g == nil || !g.pin() {
			continue
		}
		l := glance{segment: g, number: g.number, worker: g.worker, first: g.first, before: g.before, newest: math.MaxUint64, late: true}
		if l.sealed = g.sealed.Load(); l.sealed {
			l.oldest, l.newest, l.late = g.oldest, g.newest, g.late
		}
		l.extent = extentOf(g.published.Load())
		g.unpin()
		if l.count == 0 {
			continue
		}
		if list = append(list, l); !wanted(&list[len(list)-1]) {
			list = list[:len(list)-1]
		}
	}
	slices.SortFunc(list, func(a, b glance) int { return cmp.Compare(a.number, b.number) })
	return list
}

// outside reports whether no record of the segment can be in an interval.
func (l *glance) outside(since, until uint64) bool {
	return l.newest < since || l.oldest > until
}

// pin keeps the segment from being recycled until it is unpinned. It reports false if that has
// happened since the glance.
func (l *glance) pin() bool {
	if !l.segment.pin() {
		return false
	}
	if l.segment.number != l.number {
		l.segment.unpin()
		return false
	}
	return true
}

// view returns what the segment had at the glance, in its place. It must be pinned, and stay so.
func (l *glance) view() *view { return l.segment.view(l.extent) }

// view is what is read of a segment, in its place or in a copy.
type view struct {
	extent
	base    *[numWords]uint32 // the numbers of the first record
	objects []*flow.Object
	bytes   []byte
}

// page is a reader's copy of a segment.
type page struct {
	view
	copied struct {
		base    [numWords]uint32
		objects [segmentObjects]*flow.Object
		bytes   [segmentBytes + slack]byte
	}
}

// pages has those that nobody uses.
var pages = sync.Pool{New: func() any { return new(page) }}

// clear forgets the objects, so that they need not stay in memory.
func (p *page) clear() { clear(p.copied.objects[:]) }

func (p *page) free() {
	p.clear()
	pages.Put(p)
}

// copyTo copies what the segment had at the glance, records from an offset on. It reports
// false if the segment has been recycled since. If these are more than l.most, the glance is of
// no more then.
func (l *glance) copyTo(p *page, from int) bool {
	if !l.pin() {
		return false
	}
	g := l.segment
	defer g.unpin()
	if l.most > 0 {
		l.cut(from)
	}
	c := &p.copied
	p.view = view{extent: l.extent, base: &c.base, objects: c.objects[:l.extent.objects], bytes: c.bytes[:l.used]}
	c.base = g.base
	copy(p.bytes[from:], g.bytes[from:])
	copy(p.objects, g.objects[:])
	return true
}

// cut makes the glance end l.most records after an offset. The segment is pinned.
func (l *glance) cut(from int) {
	v := l.segment.view(l.extent)
	at := from
	for n := 0; n < l.most && at < l.used; n++ {
		at += v.lengthAt(at)
	}
	l.used = at
}

// lengthAt returns the length of the packed record at an offset.
func (v *view) lengthAt(at int) int { return int(binary.LittleEndian.Uint32(v.bytes[at:])) }

// receivedAt returns the time of receipt of the packed record at an offset.
func (v *view) receivedAt(at int) uint64 {
	return binary.LittleEndian.Uint64(v.bytes[at+offReceived:])
}

// unpack unpacks the record at an offset into r, which is new or has the record that u has
// unpacked before. Slices of r alias the view and the lists of u.
func (u *unpacker) unpack(v *view, r *flow.Record, at, ends int) {
	b := v.bytes[at : at+v.lengthAt(at)]
	r.Msg.TimeReceivedNs = binary.LittleEndian.Uint64(b[offReceived:])
	setFlags(&r.Extra, b[offFlags])
	n := offEnds
	for i := range ends {
		e := flow.End{Status: flow.Status(b[n])}
		if id := binary.LittleEndian.Uint16(b[n+1:]); id > 0 {
			e.Object = v.objects[id-1]
		}
		r.Ends[i] = e
		n += endSize
	}
	mask := binary.LittleEndian.Uint64(b[n:])
	words := binary.LittleEndian.Uint64(b[n+maskSize:])
	b = b[n+2*maskSize:]
	copy(u.words[:], v.base[:])
	for ; words != 0; words &= words - 1 {
		u.words[bits.TrailingZeros64(words)] ^= binary.LittleEndian.Uint32(b)
		b = b[wordSize:]
	}
	setWords(r, &u.words)
	if gone := u.filled &^ mask; gone != 0 {
		forget(r, gone)
	}
	u.filled = mask
	u.reset()
	u.variable(b, mask, r)
}
