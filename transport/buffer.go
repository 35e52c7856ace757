package transport

import (
	"sync"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// dropReason is why a record was not written.
type dropReason uint8

const (
	dropOutputFull  dropReason = iota // the buffer was full; the newest record is dropped
	dropOutputError                   // the write failed
	dropShutdown                      // the program ended first
	dropFilter                        // the filter did not want it
	numDropReasons
)

// dropReasonNames are the values of the label reason.
var dropReasonNames = [numDropReasons]string{"output_full", "output_error", "shutdown", "filter"}

const (
	maxChunk = 64 << 10
	minChunk = 16 << 10
	// chunkSlack is left free at the end of a chunk, in bytes, so that the last
	// record usually fits without making the chunk grow.
	chunkSlack = 8 << 10
	// chunkRecords is the largest number of records in a chunk.
	chunkRecords = 1024
	// chunkKeys is the room that keys of usual lengths need in a chunk, in bytes.
	chunkKeys = 64 * chunkRecords
	// minBuffer is the smallest buffer that makes sense, in bytes.
	minBuffer = 4 * minChunk
	// keepFree is the number of free chunks that are kept for reuse.
	keepFree = 16
)

// chunk holds encoded records on their way from a worker to the output. It
// belongs to the writer that fills it, then to the buffer's queue, then to the
// driver that got it from next.
type chunk struct {
	next *chunk
	buf  []byte
	ends []int32 // the offset after each record in buf
	// With keys: the keys of the records, and the offset after each in keys.
	keys    []byte
	keyEnds []int32
	// accounted is the part of buffer.allocated that is for this chunk, in bytes.
	accounted int
	// writtenBytes is how much of buf was written, and writtenRecords is the number
	// of whole records in it. These are completed.
	writtenBytes, writtenRecords int
	// left is the number of records that are not completed, for outputs that complete
	// parts of a chunk on several goroutines. It is used atomically.
	left int32
}

// memory returns the bytes that a chunk takes. The ends are left out: their room
// is the same in all chunks.
func (c *chunk) memory() int { return cap(c.buf) + cap(c.keys) + 4*cap(c.keyEnds) }

// buffer holds the records between the workers and the goroutine that writes.
// Each worker encodes into a chunk of its own, and full chunks are queued. The
// memory of all chunks is bounded. The buffer also keeps the ledger: each record
// that a writer accepted is held until it is counted, once, as written or
// dropped.
//
// Any number of goroutines may use it. Its locks are held for moments only, never
// during a write. A writer's lock is taken before the buffer's.
type buffer struct {
	enc      Encoder
	key      Keyer // makes the keys of the records; nil if they have none
	limit    int   // of allocated, in bytes
	chunkLen int   // bytes
	block    bool  // writers wait for a chunk instead of dropping records
	// lazy is set for outputs that write in large batches. Idle does not queue
	// partial chunks then; sweep does.
	lazy bool
	// direct, if it is set, writes a chunk on the worker's own goroutine. It returns
	// false if that is not possible without waiting. It is called with the writer's
	// lock held.
	direct func(*chunk) bool
	// wake has a value when there is something to do for the goroutine that writes.
	// A goroutine that is busy gets none: it looks for more work by itself.
	wake chan struct{}

	mu         sync.Mutex
	freed      sync.Cond // with block: a chunk is free, or the buffer is closed
	free       *chunk    // last in, first out: that one is most likely in the CPU's cache
	numFree    int
	freeBytes  int    // the part of allocated that is for free chunks, some of which have grown
	head, tail *chunk // full chunks, oldest first
	busy       bool   // next returned a chunk and was not called again
	wanted     int    // bytes that are to be queued before the goroutine that writes is woken up
	allocated  int    // bytes of all chunks
	queued     int    // bytes in chunks that were queued and are not released yet
	writers    []*writer
	closed     bool
	closedFor  dropReason
	// parked reports whether the goroutine that writes sleeps until a writer takes a
	// chunk. It does not sweep meanwhile.
	parked bool

	written uint64
	dropped [numDropReasons]uint64
	sealed  bool // all records are completed, by failRemaining
}

func newBuffer(enc Encoder, limit int, block bool) *buffer {
	b := &buffer{
		enc: enc, limit: limit, block: block,
		chunkLen: min(max(limit/16, minChunk), maxChunk),
		wake:     make(chan struct{}, 1),
	}
	b.freed.L = &b.mu
	return b
}

// writer accepts one worker's records.
type writer struct {
	b *buffer

	mu    sync.Mutex // shared with the goroutines that sweep or scrape, not with other workers
	chunk *chunk
	flush bool // the chunk is to be written as soon as the output is free
	// closed reports whether all records are dropped, for the reason b.closedFor.
	closed   bool
	accepted uint64 // records, dropped ones included
	dropped  [numDropReasons]uint64

	_ [64]byte // keeps the workers' writers out of each other's cache lines
}

func (b *buffer) newWriter() *writer {
	w := &writer{b: b}
	b.mu.Lock()
	defer b.mu.Unlock()
	w.closed = b.closed
	b.writers = append(b.writers, w)
	return w
}

// HandleFlow implements [Writer].
func (w *writer) HandleFlow(r *flow.Record) {
	w.mu.Lock()
	defer w.mu.Unlock() // also when the encoder panics
	c := w.chunk
	if c == nil {
		if c = w.newChunk(); c == nil {
			return
		}
	}
	c.buf = w.b.enc.AppendRecord(c.buf, r)
	c.ends = append(c.ends, int32(len(c.buf)))
	if w.b.key != nil {
		c.keys = w.b.key.AppendKey(c.keys, r)
		c.keyEnds = append(c.keyEnds, int32(len(c.keys)))
	}
	w.accepted++
	if len(c.buf) > w.b.chunkLen-chunkSlack || len(c.ends) == chunkRecords {
		w.chunk, w.flush = nil, false
		if !w.b.writeDirectly(c) {
			w.b.enqueue(c)
		}
	}
}

// Skip implements [Writer].
func (w *writer) Skip() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.accepted++
	w.dropped[dropFilter]++
}

// newChunk gets the writer a chunk. If the buffer has none, it counts a record as
// dropped and returns nil. The writer's lock is held, but for the time of waiting.
func (w *writer) newChunk() *chunk {
	var c *chunk
	if !w.closed {
		if c = w.b.get(false); c == nil && w.b.block {
			w.mu.Unlock()
			c = w.b.get(true)
			w.mu.Lock()
			if c != nil && w.closed {
				w.b.release(c)
				c = nil
			}
		}
	}
	if c == nil {
		reason := dropOutputFull
		if w.closed {
			reason = w.b.closedFor
		}
		w.accepted++
		w.dropped[reason]++
		return nil
	}
	w.chunk = c
	return c
}

// Idle implements [Writer].
func (w *writer) Idle() (pending bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chunk == nil || w.b.lazy {
		return false
	}
	// While the output is busy the chunk fills up further. A buffer full of chunks
	// with one record each would hold next to nothing.
	if w.b.writeDirectly(w.chunk) || w.b.offer(w.chunk) {
		w.chunk, w.flush = nil, false
	} else {
		w.flush = true
	}
	return false
}

// get returns an empty chunk, or nil if the buffer is full or closed. With wait it
// waits until the buffer is not full.
func (b *buffer) get(wait bool) *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.parked {
		b.parked = false
		b.wakeLocked()
	}
	for !b.closed {
		if c := b.free; c != nil {
			b.free, c.next = c.next, nil
			b.numFree--
			b.freeBytes -= c.accounted
			return c
		}
		if b.allocated+b.chunkLen <= b.limit {
			b.allocated += b.chunkLen
			return &chunk{
				buf:       make([]byte, 0, b.chunkLen),
				ends:      make([]int32, 0, chunkRecords),
				accounted: b.chunkLen,
			}
		}
		if !wait {
			break
		}
		b.freed.Wait()
	}
	return nil
}

// enqueue queues a chunk for writing.
func (b *buffer) enqueue(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.enqueueLocked(c)
}

// offer queues a chunk if the output has nothing else to do, and reports whether
// it did.
func (b *buffer) offer(c *chunk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.head != nil {
		return false
	}
	b.enqueueLocked(c)
	return true
}

func (b *buffer) enqueueLocked(c *chunk) {
	b.account(c)
	if b.tail == nil {
		b.head = c
	} else {
		b.tail.next = c
	}
	b.tail = c
	// Room that fills up is no time to wait for more.
	if b.wanted -= len(c.buf); b.wanted <= 0 || b.halfFullLocked() {
		b.wakeLocked()
	}
}

// account updates the totals when a worker gives a chunk away.
func (b *buffer) account(c *chunk) {
	// The chunk may have grown, for a large record or for keys.
	b.allocated += c.memory() - c.accounted
	c.accounted = c.memory()
	b.queued += len(c.buf)
}

func (b *buffer) wakeLocked() {
	if !b.busy {
		b.wakeUp()
	}
}

// wakeUp makes the goroutine that writes look for something to do.
func (b *buffer) wakeUp() {
	select {
	case b.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// writeDirectly writes a chunk on the worker's goroutine, if that is possible
// without waiting. To wake up another goroutine costs more than most writes.
func (b *buffer) writeDirectly(c *chunk) bool {
	return b.direct != nil && b.direct(c)
}

// reserve reports whether a worker may write a chunk by itself, since no other
// chunk waits. If so, the chunk is accounted for like one that is queued.
func (b *buffer) reserve(c *chunk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.head != nil {
		return false
	}
	b.account(c)
	return true
}

// putBack queues a chunk that was reserved, before all others.
func (b *buffer) putBack(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.next = b.head; b.head == nil {
		b.tail = c
	}
	b.head = c
	b.wakeLocked()
}

// next returns the oldest chunk of the queue, or nil if there is none. The chunk
// belongs to the caller, who returns it by release. The caller may have several at
// a time. If there is none, wake gets a value when the chunks that are queued from then on have
// wanted bytes, or when more than half of the room is in use.
func (b *buffer) next(wanted int) *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.head
	b.busy, b.wanted = c != nil, wanted
	if c == nil {
		return nil
	}
	if b.head = c.next; b.head == nil {
		b.tail = nil
	}
	c.next = nil
	return c
}

// release takes back a chunk whose records are completed.
func (b *buffer) release(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return
	}
	b.queued -= len(c.buf)
	b.freeLocked(c)
}

func (b *buffer) freeLocked(c *chunk) {
	if cap(c.buf) < b.chunkLen || c.memory() > 2*b.chunkLen+chunkKeys {
		b.allocated -= c.accounted
	} else {
		c.buf, c.ends, c.keys, c.keyEnds = c.buf[:0], c.ends[:0], c.keys[:0], c.keyEnds[:0]
		c.writtenBytes, c.writtenRecords = 0, 0
		c.next, b.free = b.free, c
		b.numFree++
		b.freeBytes += c.accounted
	}
	b.freed.Signal()
}

// shrink returns a chunk with the records of c and no more room than they need,
// for outputs that keep chunks for long. If c is more than half full it returns c.
// The caller has c from next, and from then on has the chunk that is returned.
func (b *buffer) shrink(c *chunk) *chunk {
	if len(c.buf) > cap(c.buf)/2 {
		return c
	}
	small := &chunk{
		buf: append(make([]byte, 0, len(c.buf)), c.buf...), ends: append(make([]int32, 0, len(c.ends)), c.ends...),
		keys: append(make([]byte, 0, len(c.keys)), c.keys...), keyEnds: append(make([]int32, 0, len(c.keyEnds)), c.keyEnds...),
	}
	small.accounted = small.memory()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return c
	}
	b.allocated += small.accounted
	b.freeLocked(c)
	return small
}

// halfFull reports whether more than half of the room is in use.
func (b *buffer) halfFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.halfFullLocked()
}

func (b *buffer) halfFullLocked() bool {
	return b.allocated-b.freeBytes > b.limit/2
}

// full reports whether a writer that needs a chunk would get none.
func (b *buffer) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.free == nil && b.allocated+b.chunkLen > b.limit
}

// fill returns how much of the room is taken, from 0 to 1.
func (b *buffer) fill() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return min(float64(b.allocated-b.freeBytes)/float64(b.limit), 1)
}

// park reports whether no writer has a chunk and none is queued or under way. If
// so, wake gets a value when a writer takes a chunk, and there is nothing to do
// before.
func (b *buffer) park() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parked = b.head == nil && !b.busy && b.numFree <= keepFree && b.allocated == b.freeBytes
	return b.parked
}

// trim gives the memory of one free chunk back if there are more than keepFree.
func (b *buffer) trim() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.free; b.numFree > keepFree {
		b.free = c.next
		b.numFree--
		b.freeBytes -= c.accounted
		b.allocated -= c.accounted
	}
}

// sweep queues the chunks of writers that wait for the output to be free, or with
// all, of all writers. It reports whether there were any.
func (b *buffer) sweep(all bool) bool {
	found := false
	for _, w := range b.allWriters() {
		w.mu.Lock()
		if c := w.chunk; c != nil && (all || w.flush) {
			w.chunk, w.flush = nil, false
			b.enqueue(c)
			found = true
		}
		w.mu.Unlock()
	}
	return found
}

func (b *buffer) allWriters() []*writer {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.writers // only ever appended to
}

// close queues the writers' chunks. From then on the writers drop all records, for
// the given reason. Only the first call's reason counts.
func (b *buffer) close(reason dropReason) {
	b.mu.Lock()
	if !b.closed {
		b.closed, b.closedFor = true, reason
		b.freed.Broadcast()
	}
	ws := b.writers
	b.mu.Unlock()
	for _, w := range ws {
		w.mu.Lock()
		w.closed = true
		if c := w.chunk; c != nil {
			w.chunk = nil
			b.enqueue(c)
		}
		w.mu.Unlock()
	}
}

// complete counts records as written, and others as dropped for a reason. It
// returns false if failRemaining has counted them already.
func (b *buffer) complete(written, dropped int, reason dropReason) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return false
	}
	b.written += uint64(written)
	b.dropped[reason] += uint64(dropped)
	return true
}

// failRemaining closes the buffer and counts all records that are not completed as
// dropped. It returns their number.
func (b *buffer) failRemaining(reason dropReason) uint64 {
	b.close(reason)
	l := b.ledger()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sealed {
		return 0
	}
	b.sealed = true
	// Records may have been completed since ledger was called, so its field held is
	// of no use here.
	held := l.accepted - l.byWriters - b.written
	for _, n := range b.dropped {
		held -= n
	}
	b.dropped[reason] += held
	b.head, b.tail, b.queued = nil, nil, 0
	return held
}

// ledger has the numbers of records at one moment, where
//
//	accepted = written + dropped + held
type ledger struct {
	accepted, written uint64
	dropped           [numDropReasons]uint64
	held              uint64
	buffered          int    // bytes, keys excluded
	byWriters         uint64 // the part of dropped that the writers dropped
}

// ledger reads the counters.
func (b *buffer) ledger() ledger {
	b.mu.Lock()
	l := ledger{written: b.written, dropped: b.dropped, buffered: b.queued}
	ws := b.writers
	b.mu.Unlock()
	// What the writers accepted is read later than what became of it, so that held
	// is never negative.
	for _, w := range ws {
		w.mu.Lock()
		l.accepted += w.accepted
		for i, n := range w.dropped {
			l.dropped[i] += n
			l.byWriters += n
		}
		if w.chunk != nil {
			l.buffered += len(w.chunk.buf)
		}
		w.mu.Unlock()
	}
	l.held = l.accepted - l.written
	for _, n := range l.dropped {
		l.held -= n
	}
	return l
}
