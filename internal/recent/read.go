package recent

import (
	"cmp"
	"encoding/binary"
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
	oldest, newest uint64 // valid if sealed
	unread         int    // records that somebody who follows has not read
}

// glances returns what is known of all segments that have records, by their numbers.
func (s *Store) glances() []glance {
	list := make([]glance, 0, len(s.slots))
	for i := range s.slots {
		g := s.slots[i].Load()
		if g == nil || !g.pin() {
			continue
		}
		l := glance{segment: g, number: g.number, worker: g.worker, first: g.first}
		if l.sealed = g.sealed.Load(); l.sealed {
			l.oldest, l.newest = g.oldest, g.newest
		}
		l.extent = extentOf(g.published.Load())
		g.unpin()
		if l.count > 0 {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b glance) int { return cmp.Compare(a.number, b.number) })
	return list
}

// outside reports whether no record of the segment can be in an interval.
func (l *glance) outside(since, until uint64) bool {
	return l.sealed && (l.newest < since || l.oldest > until)
}

// page is a reader's copy of a segment.
type page struct {
	extent
	objects [segmentObjects]*flow.Object
	bytes   [segmentBytes + slack]byte
}

// pages has those that nobody uses.
var pages = sync.Pool{New: func() any { return new(page) }}

// clear forgets the objects, so that they need not stay in memory.
func (p *page) clear() { clear(p.objects[:]) }

func (p *page) free() {
	p.clear()
	pages.Put(p)
}

// copyTo copies what the segment had at the glance. It reports false if the segment has
// been recycled since.
func (l *glance) copyTo(p *page) bool {
	g := l.segment
	if !g.pin() {
		return false
	}
	defer g.unpin()
	if g.number != l.number {
		return false
	}
	l.copyPinned(p)
	return true
}

// copyPinned copies a segment that is pinned.
func (l *glance) copyPinned(p *page) {
	p.extent = l.extent
	copy(p.bytes[:l.used], l.segment.bytes[:l.used])
	copy(p.objects[:l.extent.objects], l.segment.objects[:l.extent.objects])
}

// lengthAt returns the length of the packed record at an offset.
func (p *page) lengthAt(at int) int { return int(binary.LittleEndian.Uint32(p.bytes[at:])) }

// receivedAt returns the time of receipt of the packed record at an offset.
func (p *page) receivedAt(at int) uint64 {
	return binary.LittleEndian.Uint64(p.bytes[at+offReceived:])
}

// unpack unpacks the record at an offset into r. Slices of r alias the page and the
// lists of u.
func (p *page) unpack(u *unpacker, r *flow.Record, at, ends int) {
	b := p.bytes[at:]
	r.Reset()
	r.Msg.TimeReceivedNs = binary.LittleEndian.Uint64(b[offReceived:])
	setFlags(&r.Extra, b[offFlags])
	n := offEnds
	for i := range ends {
		e := flow.End{Status: flow.Status(b[n])}
		if id := binary.LittleEndian.Uint16(b[n+1:]); id > 0 {
			e.Object = p.objects[id-1]
		}
		r.Ends[i] = e
		n += endSize
	}
	mask := binary.LittleEndian.Uint64(b[n:])
	n += 8
	n += numbers(b[n:], r)
	if mask != 0 {
		u.reset()
		u.variable(b[n:p.lengthAt(at)], mask, r)
	}
}
