package pipe

import (
	"context"
	"io"
	"sync"
	"time"
)

// source reads the input in a goroutine of its own, because a Read of a pipe
// cannot be cancelled. It reads only when it is asked to, so it is never ahead of
// the reader and needs no buffer.
type source struct {
	sync.WaitGroup
	in      io.Reader
	buffers chan []byte // to read into
	results chan result // with room for one: the reader may be gone
	reading bool        // a result is due
}

type result struct {
	n   int
	err error
}

// run reads until stop is called.
func (s *source) run() {
	for b := range s.buffers {
		res := result{err: io.ErrNoProgress}
		for range 100 { // as often as bufio.Reader tries
			if n, err := s.in.Read(b); n > 0 || err != nil {
				res = result{n, err}
				break
			}
		}
		s.results <- res
	}
}

// read asks for more bytes, which go into b.
func (s *source) read(b []byte) {
	s.reading = true
	s.buffers <- b
}

// rest is the input from where the reader is, for somebody else to read. It ends with an
// error when ctx does.
type rest struct {
	ctx      context.Context //nolint:containedctx // an io.Reader has no other way to get it
	buffered []byte
	src      *source
	err      error // of the last read
}

// Read implements [io.Reader].
func (r *rest) Read(p []byte) (int, error) {
	if len(r.buffered) > 0 {
		n := copy(p, r.buffered)
		r.buffered = r.buffered[n:]
		return n, nil
	}
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	r.src.read(p)
	select {
	case res := <-r.src.results:
		r.src.reading = false
		return res.n, res.err
	case <-r.ctx.Done():
		// What is still read goes into p, which nobody looks at any more.
		r.err = r.ctx.Err()
		return 0, r.err
	}
}

// stop ends the goroutine. It waits for the end, unless the goroutine is in a Read
// that cannot be interrupted.
func (s *source) stop() {
	close(s.buffers)
	if s.reading {
		d, ok := s.in.(interface{ SetReadDeadline(time.Time) error })
		if !ok || d.SetReadDeadline(time.Unix(1, 0)) != nil {
			return
		}
		defer func() { _ = d.SetReadDeadline(time.Time{}) }()
	}
	s.Wait()
}
