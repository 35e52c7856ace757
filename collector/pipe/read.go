package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
)

// Run reads to the end of the input and returns nil, or an error that says how much of
// it was dropped, or at which offset reading failed. When ctx ends, Run hands on what has
// been read and returns nil.
//
// Run interrupts a read that is under way then if the input has a SetReadDeadline
// that works, as sockets and files that can be polled have. If not, Run does not
// wait for it: one goroutine stays in Read until that returns, and does nothing
// else.
func (r *Reader) Run(ctx context.Context) error {
	r.buf = make([]byte, min(initialBuffer, r.bufferLimit()))
	src := source{in: r.in, buffers: make(chan []byte), results: make(chan result, 1)}
	src.Go(src.run)
	defer src.stop()
	timer := time.NewTimer(pendingEvery)
	defer timer.Stop()
	for {
		r.makeRoom()
		src.read(r.buf[r.end:])
		res, ok := r.await(ctx, src.results, timer)
		if !ok {
			return r.finish(false)
		}
		src.reading = false
		r.end += res.n
		r.now = uint64(time.Now().UnixNano())
		if err := r.consume(); err != nil {
			r.flush()
			return err
		}
		if r.input == InputCapture {
			return r.capture(ctx, &rest{ctx: ctx, buffered: r.buf[r.begin:r.end], src: &src, err: res.err})
		}
		switch {
		case errors.Is(res.err, io.EOF):
			if err := r.finish(true); err != nil {
				return err
			}
			return r.lostError()
		case res.err != nil:
			at := r.offset + int64(r.end-r.begin)
			return errors.Join(fmt.Errorf("read input: at offset %d: %w", at, res.err), r.finish(false))
		case ctx.Err() != nil:
			return r.finish(false)
		}
	}
}

// await waits for what is being read, and calls Idle when it is due. It returns
// false if ctx ends first.
func (r *Reader) await(ctx context.Context, got <-chan result, timer *time.Timer) (result, bool) {
	for {
		var due <-chan time.Time
		if wait, ok := r.idle(); ok {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case res := <-got:
			return res, true
		case <-due:
		case <-ctx.Done():
			select {
			case res := <-got:
				return res, true
			default:
				return result{}, false
			}
		}
	}
}

// idle calls the handler's Idle if it is due. It returns after what time Idle is
// due next, and false if it is not.
func (r *Reader) idle() (time.Duration, bool) {
	every := flushEvery
	if !r.fresh {
		every = pendingEvery
	}
	if !r.fresh && !r.pending {
		return 0, false
	}
	if wait := time.Until(r.idleAt.Add(every)); wait > 0 {
		return wait, true
	}
	r.flush()
	return pendingEvery, r.pending
}

// flush calls the handler's Idle.
func (r *Reader) flush() {
	r.pending = r.h.Idle()
	r.fresh = false
	r.idleAt = time.Now()
}

// bufferLimit is how large the buffer can become, in bytes. A line that is too long
// by one byte must fit, and so must a message with its length.
func (r *Reader) bufferLimit() int { return r.max + maxPrefix + 1 }

// makeRoom moves what is not handed on yet to the front of the buffer, and
// makes that larger if it is half full.
func (r *Reader) makeRoom() {
	if r.begin > 0 {
		r.end = copy(r.buf, r.buf[r.begin:r.end])
		r.begin = 0
	}
	if r.end < len(r.buf)/2 {
		return
	}
	if size := min(2*len(r.buf), r.bufferLimit()); size > len(r.buf) {
		buf := make([]byte, size)
		copy(buf, r.buf[:r.end])
		r.buf = buf
	}
}

// consume hands on the records that are in the buffer.
func (r *Reader) consume() error {
	if r.input == InputAuto {
		if r.capture != nil {
			isCapture, more := capture.Recognize(r.buf[r.begin:min(r.end, r.begin+capture.Magic)])
			if isCapture {
				r.input = InputCapture
			}
			if isCapture || more {
				return nil
			}
		}
		switch r.detect() {
		case undecided:
			return nil
		case isMessage:
			r.input = InputProtobuf
		case noMessage:
			r.input = InputJSON
		}
	}
	switch r.input {
	case InputCapture:
		return nil
	case InputProtobuf:
		return r.messages(false)
	}
	if r.refuse != nil && r.begin < r.end {
		return r.refuse
	}
	r.lines()
	return nil
}

// finish hands on what is left when no more is read, at the end of the input
// or before.
func (r *Reader) finish(atEnd bool) error {
	defer r.flush()
	if r.input == InputAuto {
		r.input = InputJSON
		if r.refuse != nil && r.begin < r.end {
			return r.refuse
		}
		r.lines()
	}
	if r.input == InputProtobuf {
		if err := r.messages(true); err != nil {
			return err
		}
	}
	rest := r.buf[r.begin:r.end]
	switch {
	case len(rest) == 0 || r.skipping:
	case r.input == InputJSON && (atEnd || r.scan.scan(rest)):
		r.handleLine(rest)
	case r.input == InputProtobuf && atEnd:
		r.drop(cut)
		return r.errorf("%w", io.ErrUnexpectedEOF)
	default:
		r.drop(cut)
	}
	return nil
}

// drop counts what is at begin as dropped.
func (r *Reader) drop(why dropReason) {
	r.dropped[why].Inc()
	r.lost[why]++
}

// lostError returns an error that says what was dropped, nil if nothing was.
func (r *Reader) lostError() error {
	var parts []string
	for why, n := range r.lost {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, dropNames[why]))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("read input: lines or messages were dropped: %s; the others are written", strings.Join(parts, ", "))
}

// advance forgets the next n bytes of the buffer.
func (r *Reader) advance(n int) {
	r.begin += n
	r.offset += int64(n)
}

// errorf returns an error with the offset of what is at begin.
func (r *Reader) errorf(format string, args ...any) error {
	return fmt.Errorf("read input: at offset %d: "+format, append([]any{r.offset}, args...)...)
}

// handle counts a record and hands it on.
func (r *Reader) handle(received prometheus.Counter) {
	if received != nil {
		received.Inc()
	}
	r.fresh = true
	r.h.HandleFlow(&r.rec)
}

// warning is a kind of line in the log, each with a limit of its own.
type warning uint8

const (
	warnPassed warning = iota
	warnTooLong
	warnMalformed
	numWarnings
)

// warnLimited logs something about what is at begin, unless the same was logged
// just before.
func (r *Reader) warnLimited(w warning, message string) {
	if log := r.limiters[w].Logger(r.log, time.Now().UnixNano()); log != nil {
		log.WithField("offset", r.offset).Warn(message)
	}
}
