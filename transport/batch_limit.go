package transport

import "sync"

// growAfter is how many full batches are acknowledged before a larger one is tried. A
// destination that still takes none larger refuses one request in as many.
const growAfter = 50

// batchLimit is how large batches may be. It is less than asked for once one was too
// large for the destination, and grows again while the destination takes what it gets:
// the limit may have been another server's, behind the same name, or a setting of before.
type batchLimit struct {
	mu    sync.Mutex
	most  int // bytes, as asked for
	limit int // bytes
	taken int // full batches acknowledged since limit has changed
}

// reset sets what is asked for.
func (l *batchLimit) reset(most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most, l.limit, l.taken = most, most, 0
}

// get returns the limit in bytes.
func (l *batchLimit) get() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit
}

// tooLarge makes later batches smaller than one of size bytes, which was too large.
func (l *batchLimit) tooLarge(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = 0
	l.limit = min(l.limit, max(size/2, 1))
}

// accepted lets later batches be twice as large when enough were taken that are as large
// as they may be. Small ones show nothing.
func (l *batchLimit) accepted(size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.limit == l.most || size <= l.limit/2 {
		return
	}
	if l.taken++; l.taken < growAfter {
		return
	}
	l.taken = 0
	l.limit = min(2*l.limit, l.most)
}
