package recent

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// segmentBytes is the room for packed records in a segment, some 120 KiB. No record is
	// longer: a datagram has 64 KiB at most, and texts from options data are short. A
	// segment takes whole pages of memory (8 KiB), and nothing of a further one.
	segmentBytes = 120<<10 - 512
	// segmentObjects is how many objects the records of a segment can have.
	segmentObjects = 2 << 10
	// segmentSize is what a segment takes in memory.
	segmentSize = int64(unsafe.Sizeof(segment{})) + 4*segmentObjects // with what sums note of it
)

// segment has packed records of one worker, in the order in which they came.
//
// Its worker owns it from recycle to seal, and alone writes to it. Each record is
// published by one store, after which its bytes and objects do not change until the
// segment is recycled. That takes a segment that nobody has pinned.
type segment struct {
	// pins is how many read the segment, its worker included while it writes; recycling
	// while the segment is made empty.
	pins      atomic.Int64
	published atomic.Uint64 // extent of what can be read
	sealed    atomic.Bool
	folded    atomic.Bool // the sums have its records

	// The rest does not change while the segment is pinned.
	number uint64 // in the order in which segments were begun
	worker int
	first  uint64 // how many records the worker had before
	before uint64 // time of receipt of the newest of those, Unix nanoseconds

	// These are valid once the segment is sealed.
	oldest, newest uint64 // times of receipt, Unix nanoseconds
	late           bool   // some records are

	base    [numWords]uint32 // the numbers of the first record; valid once that is published
	objects [segmentObjects]*flow.Object
	hints   [segmentObjects]uint32 // where sums have the objects, perhaps
	bytes   [segmentBytes + slack]byte
}

const recycling = -1

// extent is how much a segment has.
type extent struct {
	used    int // bytes of records
	count   int // records
	objects int // the places of objects
}

const extentBits = 20 // of count and objects; used has the rest

func (e extent) pack() uint64 {
	return uint64(e.used)<<(2*extentBits) | uint64(e.count)<<extentBits | uint64(e.objects)
}

func extentOf(p uint64) extent {
	const low = 1<<extentBits - 1
	return extent{used: int(p >> (2 * extentBits)), count: int(p >> extentBits & low), objects: int(p & low)}
}

// pin keeps the segment from being recycled until unpin. It reports false if that is
// happening just now.
func (g *segment) pin() bool {
	for {
		n := g.pins.Load()
		if n == recycling {
			return false
		}
		if g.pins.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *segment) unpin() { g.pins.Add(-1) }

// idSlots is how many objects a worker knows the places of in its segment.
const (
	idBits  = 8
	idSlots = 1 << idBits
)

// knownObject says where a segment has an object.
type knownObject struct {
	object *flow.Object
	id     uint16
}

// keep packs r into the worker's segment.
func (st *Stage) keep(r *flow.Record) {
	mask, size := variable(r)
	size += maxFixed
	g := st.open
	if g == nil || st.has.used+size > segmentBytes || st.has.objects+st.s.mapped.n > st.s.mostObjects {
		if g = st.roomFor(r, size); g == nil {
			return
		}
	}
	b := g.bytes[st.has.used:]
	binary.LittleEndian.PutUint64(b[offReceived:], r.Msg.TimeReceivedNs)
	b[offFlags] = flagsOf(&r.Extra)
	at := offEnds
	for i := range st.s.mapped.n {
		e := &r.Ends[i]
		b[at] = byte(e.Status)
		binary.LittleEndian.PutUint16(b[at+1:], st.idOf(g, e.Object))
		at += endSize
	}
	if st.has.count == 0 {
		wordsOf(&g.base, r)
	}
	numbers := b[at+2*maskSize:]
	words, n := putOften(numbers, &g.base, r)
	if seldomDiffer(&g.base, r) {
		more, k := putSeldom(numbers[n:], &g.base, r)
		words, n = words|more, n+k
	}
	binary.LittleEndian.PutUint64(b[at:], mask)
	binary.LittleEndian.PutUint64(b[at+maskSize:], words)
	at += 2*maskSize + n
	if mask != 0 {
		at = len(appendVariable(b[:at], mask, r))
	}
	binary.LittleEndian.PutUint32(b, uint32(at))
	g.oldest, g.newest = min(g.oldest, r.Msg.TimeReceivedNs), max(g.newest, r.Msg.TimeReceivedNs)
	if r.Msg.TimeReceivedNs < st.newest {
		g.late = true
	} else {
		st.newest = r.Msg.TimeReceivedNs
	}
	st.has.used += at
	st.has.count++
	g.published.Store(st.has.pack())
	// That waits until memory has taken all that was written before. The lines that the next record
	// will take are asked of memory now, so that they are here by then.
	if next := g.bytes[st.has.used:]; len(next) >= 4*cacheLine {
		next[cacheLine], next[2*cacheLine], next[3*cacheLine] = 0, 0, 0
	}
}

// cacheLine is how many bytes of memory a processor reads at once.
const cacheLine = 64

// roomFor returns a segment with room for a record, the worker's own from then on. It returns
// nil if there is none, and counts the record.
func (st *Stage) roomFor(r *flow.Record, size int) *segment {
	lost := st.s.tooLong
	if size <= segmentBytes {
		if g := st.rotate(); g != nil {
			return g
		}
		lost = st.s.noRoom
	}
	lost.Inc()
	st.s.missed.add(1, countsOf(r), r.Msg.TimeReceivedNs)
	return nil
}

// idOf returns where g has an object, from 1 on; 0 for none. An object may have several
// places.
func (st *Stage) idOf(g *segment, o *flow.Object) uint16 {
	if o == nil {
		return 0
	}
	k := &st.ids[addressOf(o)*golden>>(64-idBits)]
	if k.object != o {
		g.objects[st.has.objects], g.hints[st.has.objects] = o, o.Hint()
		st.has.objects++
		*k = knownObject{object: o, id: uint16(st.has.objects)}
	}
	return k.id
}

// rotate seals the worker's segment and begins the next one. It returns nil if there is no
// room for it, which takes as many readers as there are segments.
func (st *Stage) rotate() *segment {
	s := st.s
	if g := st.open; g != nil {
		st.open = nil
		st.total += uint64(st.has.count)
		g.sealed.Store(true)
		g.unpin()
	}
	st.has = extent{}
	clear(st.ids[:])
	number, g := s.takeSlot()
	if g == nil {
		return nil
	}
	g.recycle(number, st)
	st.open = g
	// Objects may take more than they did. What those of segments that leave took is known
	// later, so it is no more than a few segments at a time.
	for range 4 {
		if s.used.Load() <= s.room || s.takeOldest(number) == nil {
			break
		}
		s.used.Add(-segmentSize)
	}
	return g
}

// takeSlot returns the number of the next segment and an empty one in its place, nil if
// there is none. The segment is being recycled.
func (s *Store) takeSlot() (number uint64, g *segment) {
	for range 2 * len(s.slots) {
		number = s.next.Add(1) - 1
		slot := &s.slots[number%uint64(len(s.slots))]
		switch g = slot.Load(); {
		case g != nil && !g.pins.CompareAndSwap(0, recycling):
			continue // another worker's, or somebody reads it
		case g != nil:
			s.left(g)
			return number, g
		}
		if s.used.Add(segmentSize) > s.room {
			s.used.Add(-segmentSize)
			if g = s.takeOldest(number); g == nil {
				continue
			}
		} else {
			g = new(segment)
			g.pins.Store(recycling)
		}
		if slot.CompareAndSwap(nil, g) {
			return number, g
		}
		s.used.Add(-segmentSize)
	}
	return 0, nil
}

// takeOldest takes the oldest segment that nobody reads out of its place. It returns nil if
// there is none. The segment is being recycled.
func (s *Store) takeOldest(number uint64) *segment {
	n := uint64(len(s.slots))
	for i := number + 1; i < number+n; i++ {
		slot := &s.slots[i%n]
		if g := slot.Load(); g != nil && g.pins.CompareAndSwap(0, recycling) {
			if !slot.CompareAndSwap(g, nil) { // it has been taken, and is elsewhere by now
				g.pins.Store(0)
				continue
			}
			s.left(g)
			return g
		}
	}
	return nil
}

// left notes what leaves with a segment that is being recycled.
func (s *Store) left(g *segment) {
	e := extentOf(g.published.Load())
	if e.count == 0 {
		return
	}
	change(&s.gone, func(was uint64) uint64 { return max(was, g.newest) })
	if !g.folded.Load() {
		s.missed.add(e.count, g.view(e).counts(s.mapped), g.newest)
	}
}

// view returns what a segment has, in its place. It must be pinned or recycling, and stay so.
func (g *segment) view(e extent) *view {
	return &view{extent: e, base: &g.base, objects: g.objects[:e.objects], bytes: g.bytes[:e.used]}
}

// counts returns what all records have.
func (v *view) counts(e ends) (sum Counts) {
	var h head
	for at := 0; at < v.used; at += v.lengthAt(at) {
		h.read(v, at, e)
		sum.add(h.Counts)
	}
	return sum
}

// recycle makes a segment empty, and pins it for its worker.
func (g *segment) recycle(number uint64, st *Stage) {
	clear(g.objects[:]) // what nobody else knows of them goes
	g.published.Store(0)
	g.sealed.Store(false)
	g.folded.Store(false)
	g.number, g.worker, g.first, g.before = number, st.worker, st.total, st.newest
	g.oldest, g.newest, g.late = ^uint64(0), 0, false
	g.pins.Store(1)
}

// addressOf returns a number for an object, to be hashed: its address. Objects do not move.
func addressOf(o *flow.Object) uint64 { return uint64(uintptr(unsafe.Pointer(o))) >> 4 }
