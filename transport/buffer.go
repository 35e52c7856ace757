package transport

import (
	"sync"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// reason says why a record was not written.
type reason uint8

const (
	outputFull  reason = iota // the buffer was full: the newest record is the one that goes
	outputError               // the write failed
	shutdown                  // the program ended first
	filter                    // the user did not want it
	numReasons
)

var reasonNames = [numReasons]string{"output_full", "output_error", "shutdown", "filter"}

const (
	maxChunk = 64 << 10
	minChunk = 16 << 10
	// chunkSlack is left free at the end of a chunk, so that the last record
	// usually fits without making the chunk grow.
	chunkSlack = 8 << 10
	// chunkRecords bounds the records of a chunk, however short they are.
	chunkRecords = 1024
	// chunkKeys is what keys of usual lengths take in a chunk, in bytes.
	chunkKeys = 64 * chunkRecords
	// minBuffer is the smallest buffer that makes sense, in bytes.
	minBuffer = 4 * minChunk
	// keepFree is how many chunks are kept for reuse when nothing stalls.
	keepFree = 16
)

// chunk holds encoded records on their way from a worker to the output.
type chunk struct {
	next *chunk
	buf  []byte
	ends []int32 // offset behind each record in buf
	// With keys: those of the records, and the offset behind each in keys.
	keys    []byte
	keyEnds []int32
	size    int // of all these, as accounted for
	// off and rec say how much of it has been written: bytes, and whole records,
	// which are settled.
	off, rec int
}

func (c *chunk) length() int { return cap(c.buf) + cap(c.keys) + 4*cap(c.keyEnds) }

// buffer is what lies between the workers and the goroutine that writes. Each
// worker encodes into a chunk of its own; full chunks queue up. The memory of
// all is bounded. It keeps the ledger: every record that a writer took is
// counted as written or dropped once, and held until then.
//
// The locks are held for moments only, never during a write. A writer's lock
// is taken before the buffer's.
type buffer struct {
	enc      Encoder
	key      Keyer // of each record, nil if they have none
	limit    int   // bytes
	chunkLen int
	block    bool // writers wait for a chunk instead of dropping records
	// lazy makes partial chunks wait for sweep: batches matter more than the
	// moment.
	lazy bool
	// direct, if there is one, writes a chunk on the worker's own goroutine: it
	// returns false if that cannot be done without waiting. It is called with the
	// writer's lock held.
	direct func(*chunk) bool
	// wake tells the goroutine that writes that there is something to do. It
	// is not needed while that goroutine is busy.
	wake chan struct{}

	mu         sync.Mutex
	freed      sync.Cond // with block: signals that a chunk may be had, or that the buffer is closed
	free       *chunk    // last in, first out: what is in the CPU's cache is used first
	numFree    int
	head, tail *chunk // full chunks, oldest first
	busy       bool   // next gave out a chunk and has not been called again
	allocated  int    // bytes of all chunks
	queued     int    // bytes in chunks handed over and not yet released
	writers    []*writer
	closed     bool
	closedFor  reason
	// dozing says that the goroutine that writes wants to be woken when a writer
	// takes a chunk: until then it does not look after them.
	dozing bool

	written   uint64
	dropped   [numReasons]uint64
	abandoned bool // all records are settled
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

// writer takes one worker's records.
type writer struct {
	b *buffer

	mu    sync.Mutex // shared with the goroutine that writes, not with other workers
	chunk *chunk
	flush bool // the chunk is to be written as soon as the output is free
	// closed says that records are dropped, as those of b.closedFor.
	closed  bool
	handed  uint64 // records taken, dropped ones included
	dropped [numReasons]uint64

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
	w.handed++
	if len(c.buf) > w.b.chunkLen-chunkSlack || len(c.ends) == chunkRecords {
		w.chunk, w.flush = nil, false
		if !w.b.writeDirectly(c) {
			w.b.push(c)
		}
	}
}

// Skip implements [Writer].
func (w *writer) Skip() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handed++
	w.dropped[filter]++
}

// newChunk gives the writer a chunk. If there is none, the record is counted
// as dropped.
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
		why := outputFull
		if w.closed {
			why = w.b.closedFor
		}
		w.handed++
		w.dropped[why]++
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
	// While the output is busy the chunk had better fill up further: a buffer
	// of chunks with a record each would hold next to nothing.
	if w.b.writeDirectly(w.chunk) || w.b.offer(w.chunk) {
		w.chunk, w.flush = nil, false
	} else {
		w.flush = true
	}
	return false
}

// get returns an empty chunk, nil if the buffer is full. With wait it returns
// nil only when the buffer is closed.
func (b *buffer) get(wait bool) *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dozing {
		b.dozing = false
		b.wakeLocked()
	}
	for !b.closed {
		if c := b.free; c != nil {
			b.free, c.next = c.next, nil
			b.numFree--
			return c
		}
		if b.allocated+b.chunkLen <= b.limit {
			b.allocated += b.chunkLen
			return &chunk{
				buf:  make([]byte, 0, b.chunkLen),
				ends: make([]int32, 0, chunkRecords),
				size: b.chunkLen,
			}
		}
		if !wait {
			break
		}
		b.freed.Wait()
	}
	return nil
}

// push queues a chunk for writing.
func (b *buffer) push(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pushLocked(c)
}

// offer queues a chunk if the output has nothing else to do.
func (b *buffer) offer(c *chunk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.head != nil {
		return false
	}
	b.pushLocked(c)
	return true
}

func (b *buffer) pushLocked(c *chunk) {
	b.account(c)
	if b.tail == nil {
		b.head = c
	} else {
		b.tail.next = c
	}
	b.tail = c
	b.wakeLocked()
}

// account takes note of a chunk's size when its worker gives it away.
func (b *buffer) account(c *chunk) {
	// A record larger than the chunk has made it grow.
	b.allocated += c.length() - c.size
	c.size = c.length()
	b.queued += len(c.buf)
}

func (b *buffer) wakeLocked() {
	if !b.busy {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
}

// writeDirectly writes a chunk on the worker's goroutine, if that can be done
// without waiting: to wake up another one costs more than most writes.
func (b *buffer) writeDirectly(c *chunk) bool {
	return b.direct != nil && b.direct(c)
}

// reserve tells whether a worker may write a chunk before anyone else does: no
// other one is waiting. It is then accounted for as being written.
func (b *buffer) reserve(c *chunk) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy || b.head != nil {
		return false
	}
	b.account(c)
	return true
}

// putBack puts a chunk that was reserved in front of all others.
func (b *buffer) putBack(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.next = b.head; b.head == nil {
		b.tail = c
	}
	b.head = c
	b.wakeLocked()
}

// next returns the oldest chunk of the queue, nil if there is none. The caller
// gives it back by release.
func (b *buffer) next() *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.head
	b.busy = c != nil
	if c == nil {
		return nil
	}
	if b.head = c.next; b.head == nil {
		b.tail = nil
	}
	c.next = nil
	return c
}

// release takes a chunk back whose records are settled.
func (b *buffer) release(c *chunk) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.abandoned {
		return
	}
	b.queued -= len(c.buf)
	b.freeLocked(c)
}

func (b *buffer) freeLocked(c *chunk) {
	if cap(c.buf) < b.chunkLen || c.length() > 2*b.chunkLen+chunkKeys {
		b.allocated -= c.size
	} else {
		c.buf, c.ends, c.keys, c.keyEnds = c.buf[:0], c.ends[:0], c.keys[:0], c.keyEnds[:0]
		c.off, c.rec = 0, 0
		c.next, b.free = b.free, c
		b.numFree++
	}
	b.freed.Signal()
}

// shrink returns a chunk with the same records that takes no more room than
// they need, for outputs that keep chunks for long. A chunk that is nearly full
// is returned as it is. The caller has c from next.
func (b *buffer) shrink(c *chunk) *chunk {
	if len(c.buf) > cap(c.buf)/2 {
		return c
	}
	small := &chunk{
		buf: append(make([]byte, 0, len(c.buf)), c.buf...), ends: append(make([]int32, 0, len(c.ends)), c.ends...),
		keys: append(make([]byte, 0, len(c.keys)), c.keys...), keyEnds: append(make([]int32, 0, len(c.keyEnds)), c.keyEnds...),
	}
	small.size = small.length()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.abandoned {
		return c
	}
	b.allocated += small.size
	b.freeLocked(c)
	return small
}

// halfFull tells whether half of the room is taken.
func (b *buffer) halfFull() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allocated-b.numFree*b.chunkLen > b.limit/2
}

// doze tells whether no writer has a chunk and none is queued, so that there is
// nothing to look after until wake tells of one.
func (b *buffer) doze() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dozing = b.head == nil && !b.busy && b.numFree <= keepFree && b.allocated == b.numFree*b.chunkLen
	return b.dozing
}

// trim frees a chunk if more are idle than are needed when nothing stalls.
func (b *buffer) trim() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.free; b.numFree > keepFree {
		b.free = c.next
		b.numFree--
		b.allocated -= c.size
	}
}

// sweep queues the chunks of writers that have asked for it, or of all, and
// tells whether there were any.
func (b *buffer) sweep(all bool) bool {
	found := false
	for _, w := range b.allWriters() {
		w.mu.Lock()
		if c := w.chunk; c != nil && (all || w.flush) {
			w.chunk, w.flush = nil, false
			b.push(c)
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

// close queues what the writers hold and makes them drop, for the given
// reason, what they are handed from now on. The first reason counts.
func (b *buffer) close(why reason) {
	b.mu.Lock()
	if !b.closed {
		b.closed, b.closedFor = true, why
		b.freed.Broadcast()
	}
	ws := b.writers
	b.mu.Unlock()
	for _, w := range ws {
		w.mu.Lock()
		w.closed = true
		if c := w.chunk; c != nil {
			w.chunk = nil
			b.push(c)
		}
		w.mu.Unlock()
	}
}

// settle counts records as written and dropped. It returns false if they have
// been counted already, by abandon.
func (b *buffer) settle(written, dropped int, why reason) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.abandoned {
		return false
	}
	b.written += uint64(written)
	b.dropped[why] += uint64(dropped)
	return true
}

// abandon closes the buffer and counts all records that are not settled as
// dropped. It returns how many they were.
func (b *buffer) abandon(why reason) uint64 {
	b.close(why)
	l := b.ledger()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.abandoned {
		return 0
	}
	b.abandoned = true
	// Between the two locks records may have been settled.
	held := l.handed - l.fromWriters - b.written
	for _, n := range b.dropped {
		held -= n
	}
	b.dropped[why] += held
	b.head, b.tail, b.queued = nil, nil, 0
	return held
}

// ledger is one look at the counters: handed = written + dropped + held.
type ledger struct {
	handed, written uint64
	dropped         [numReasons]uint64
	held            uint64
	buffered        int // bytes
	fromWriters     uint64
}

func (b *buffer) ledger() ledger {
	b.mu.Lock()
	l := ledger{written: b.written, dropped: b.dropped, buffered: b.queued}
	ws := b.writers
	b.mu.Unlock()
	// What the writers took is counted later than what became of it, so that
	// held is never less than nothing.
	for _, w := range ws {
		w.mu.Lock()
		l.handed += w.handed
		for i, n := range w.dropped {
			l.dropped[i] += n
			l.fromWriters += n
		}
		if w.chunk != nil {
			l.buffered += len(w.chunk.buf)
		}
		w.mu.Unlock()
	}
	l.held = l.handed - l.written
	for _, n := range l.dropped {
		l.held -= n
	}
	return l
}
