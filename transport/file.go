package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Defaults of [FileConfig]. DefaultDrainTimeout is also the default of
// [KafkaConfig].
const (
	DefaultBufferBytes  = 16 << 20
	DefaultDrainTimeout = 10 * time.Second
)

// reopenEvery is how often a file that cannot be opened is tried again while
// records wait for it.
const reopenEvery = 250 * time.Millisecond

// FileConfig has the settings of a file output.
type FileConfig struct {
	// Path is the file to append to. Standard output if empty. If it is a named
	// pipe, the output waits until the pipe has a reader.
	Path string
	// Stdout replaces os.Stdout in tests.
	Stdout io.Writer
	// BufferBytes bounds the records that wait to be written, in bytes; 0 is
	// [DefaultBufferBytes]. A single larger record is written all the same.
	BufferBytes int
	// Block makes workers wait when the buffer is full, instead of dropping
	// the newest records: for inputs that can wait. Run then reports records
	// that could not be written as an error.
	Block bool
	// DrainTimeout is how long Run goes on writing after its context has
	// ended; 0 is [DefaultDrainTimeout].
	DrainTimeout time.Duration
	// Binary reports whether records are not lines.
	Binary bool
	// Several reports whether this is one of several outputs. The metric records_held
	// has the transport as a label then.
	Several bool
}

// File writes records to a file, a named pipe or standard output. It implements
// [Output], with the same rules for concurrent calls.
//
// Workers encode into chunks. A worker writes a chunk by itself if the kernel
// takes it at once. Otherwise, and whenever there is trouble, one goroutine
// writes, so a worker never waits for the file. The file has whole records only,
// whatever happens. A write that fails costs the records of its chunk that were
// not written yet.
type File struct {
	runner
	cfg    FileConfig
	reopen atomic.Bool // Reopen was called

	// writeMu is held during writes. The goroutine of the loop may hold it for
	// as long as a reader stalls, so workers only try to lock it. It guards
	// partialChunk, partial and partialRecords.
	writeMu sync.Mutex
	// partialChunk reports whether a part of the first chunk of the queue was written.
	partialChunk bool
	// partial is what has to be written before anything else: the rest of a record
	// that was written in part, or the end of a line that was found in the file.
	// partialRecords is 1 or 0 accordingly.
	partial        []byte
	partialRecords int

	dst atomic.Pointer[destination] // changed with writeMu held, or before Run
}

var (
	_ Output = (*File)(nil)
	_ driver = (*File)(nil)
)

// NewFile returns an output that is inert until Open or Run, and registers its
// metrics. It fails if the buffer is too small, or if reg has the metrics of
// another file output.
func NewFile(cfg FileConfig, enc Encoder, log logrus.FieldLogger, reg prometheus.Registerer) (*File, error) {
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = DefaultBufferBytes
	}
	if cfg.BufferBytes < minBuffer {
		return nil, fmt.Errorf("buffer of %d bytes is too small; it must have at least %d", cfg.BufferBytes, minBuffer)
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = DefaultDrainTimeout
	}
	name := cfg.Path
	if name == "" {
		name = "stdout"
	}
	f := &File{cfg: cfg}
	f.init(runnerConfig{
		transport:      "file",
		name:           name,
		errorsHaveName: true,
		block:          cfg.Block,
		several:        cfg.Several,
		drainTimeout:   cfg.DrainTimeout,
		flushEvery:     flushEvery,
		stallAfter:     stallAfter,
		stallText:      "stalled",
		away:           func(error) string { return "cannot be opened" },
	}, newBuffer(enc, cfg.BufferBytes, cfg.Block), log, "not opened yet")
	f.buf.direct = f.writeDirectly
	if err := f.register(reg); err != nil {
		return nil, err
	}
	return f, nil
}

// Open implements [Output]. A named pipe that nobody reads from is no error: Run
// goes on trying to open it.
func (f *File) Open() error {
	if f.dst.Load() != nil {
		return nil
	}
	d, err := f.openDestination(nil)
	switch {
	case errors.Is(err, errNoReader):
		f.setProblem(err, true)
		return nil
	case err != nil:
		f.setProblem(err, true)
		return err
	}
	f.setDestination(d)
	return nil
}

// openDestination opens the path, or standard output. old is the destination so far, nil
// if there is none.
func (f *File) openDestination(old *destination) (*destination, error) {
	if f.cfg.Path == "" {
		return openStdout(f.cfg.Stdout)
	}
	d, err := openPath(f.cfg.Path)
	if err != nil || !d.regular || d.size == 0 {
		return d, err
	}
	if !f.cfg.Binary {
		d.partialLine = !endsLine(f.cfg.Path, d.size)
		return d, nil
	}
	if old != nil && f.partialRecords == 0 && old.sameFile(d) {
		return d, nil // has the whole messages that were written to it
	}
	switch n, err := cutTornEnd(d.file, d.size); {
	case err != nil:
		f.log.WithError(err).Warn("the file is not of whole messages")
	case n > 0:
		f.log.WithField("bytes", n).Warn("the file ended within a message, left by a program that was killed; the part was cut off")
	}
	return d, nil
}

// setDestination makes d the destination. A record that was written in part to the
// one before is lost.
func (f *File) setDestination(d *destination) {
	f.buf.complete(0, f.partialRecords, dropOutputError)
	f.partial, f.partialRecords = f.partial[:0], 0
	if d.partialLine {
		f.partial = append(f.partial, '\n')
	}
	f.problem.Store(nil)
	f.dst.Store(d)
}

// Reopen implements [Output]. The file is closed and opened again between two
// records. If that fails the old file stays in use, and it is tried again.
func (f *File) Reopen() {
	f.reopen.Store(true)
	f.buf.wakeUp()
}

// Run implements [Output]. It returns nil after a clean end, [ErrClosed] if the
// reader of standard output has gone, and [ErrDrain] if the deadline passed before
// all was written. Other errors are failures. A write to a destination that
// cannot be interrupted may go on after Run has returned.
func (f *File) Run(ctx context.Context) error {
	if err := f.Open(); err != nil {
		f.buf.failRemaining(dropOutputError)
		return f.wrap(err)
	}
	return f.run(ctx, f)
}

// step implements [driver]. It writes the oldest chunk.
func (f *File) step(finishing bool) (progress, error) {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	if !f.partialChunk && f.reopen.Swap(false) {
		f.openAgain()
	}
	c := f.buf.next(0)
	switch {
	case c != nil:
		f.partialChunk = false
		if err := f.write(c); err != nil {
			return progressMore, err
		}
		f.buf.release(c)
		return progressMore, nil
	case f.buf.sweep(false):
		return progressMore, nil
	case finishing:
		if d := f.dst.Load(); d != nil && f.partialRecords > 0 {
			_ = f.finishPartial(d) // the last attempt
		}
	}
	return progressIdle, nil
}

// check implements [driver]. It opens the path again if the file was removed, could
// not be opened, or failed.
func (f *File) check() {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	if f.partialChunk {
		return // the rest of the chunk belongs to the same file
	}
	d := f.dst.Load()
	if d == nil || f.problem.Load() != nil || d.removed() {
		f.openAgain()
	}
}

// interrupt implements [driver].
func (f *File) interrupt() {
	if d := f.dst.Load(); d != nil {
		d.interrupt()
	}
}

// close implements [driver].
func (f *File) close() error {
	f.writeMu.Lock() // a worker may be writing
	defer f.writeMu.Unlock()
	if d := f.dst.Swap(nil); d != nil {
		return d.Close()
	}
	return nil
}

// writeDirectly writes a chunk on its worker's goroutine, if nothing is in the way
// and the kernel takes it at once. It returns false if the chunk is still the
// worker's. What the kernel does not take is left to the goroutine of the loop, and
// so are all errors.
func (f *File) writeDirectly(c *chunk) bool {
	if !f.writeMu.TryLock() {
		return false
	}
	defer f.writeMu.Unlock()
	d := f.dst.Load()
	if d == nil || d.nowait == nil || len(f.partial) > 0 || f.reopen.Load() || f.problem.Load() != nil || !f.buf.reserve(c) {
		return false
	}
	start := f.now()
	n, err := d.nowait.write(c.buf)
	if n > 0 {
		f.stats.observeBatch(n, f.now()-start)
	} else if d.nowait.unsupported(err) {
		d.nowait = nil
	}
	c.writtenBytes = n
	for c.writtenRecords < len(c.ends) && int(c.ends[c.writtenRecords]) <= n {
		c.writtenRecords++
	}
	f.buf.complete(c.writtenRecords, 0, dropOutputError)
	if n == len(c.buf) {
		f.buf.release(c)
		return true
	}
	f.partialChunk = n > 0
	f.buf.putBack(c)
	return true
}

// write writes the rest of a chunk and completes each of its records. If it returns
// an error, which ends the loop, the records left are completed by the runner.
func (f *File) write(c *chunk) error {
	off, rec := c.writtenBytes, c.writtenRecords
	for {
		d, err := f.awaitDestination()
		if err != nil {
			return err
		}
		if len(f.partial) > 0 {
			err = f.finishPartial(d)
		} else if off < len(c.buf) {
			var n int
			n, err = f.writeOnce(d, c.buf[off:])
			off += n
		}
		written := 0
		for rec < len(c.ends) && int(c.ends[rec]) <= off && len(f.partial) == 0 {
			rec++
			written++
		}
		if !f.buf.complete(written, 0, dropOutputError) {
			return errExpired
		}
		switch {
		case err == nil:
			if off == len(c.buf) && len(f.partial) == 0 {
				return nil
			}
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errExpired
		case readerGone(err) && !d.fifo:
			return ErrClosed
		}
		start := 0 // of the record that was written in part
		if rec > 0 {
			start = int(c.ends[rec-1])
		}
		if readerGone(err) {
			// The next reader gets the whole record of which this one has a part.
			off = start
			f.dropDestination(d, err)
			continue
		}
		f.fail(err)
		lost := len(c.ends) - rec
		if off > start && !d.truncateTail(off-start) {
			// The rest will be written before anything else.
			f.partial, f.partialRecords = append(f.partial[:0], c.buf[off:c.ends[rec]]...), 1
			lost--
		}
		f.buf.complete(0, lost, dropOutputError)
		return nil
	}
}

// finishPartial goes on writing what has to be written before anything else.
func (f *File) finishPartial(d *destination) error {
	n, err := f.writeOnce(d, f.partial)
	f.partial = f.partial[n:]
	if len(f.partial) == 0 {
		f.buf.complete(f.partialRecords, 0, dropOutputError)
		f.partial, f.partialRecords = nil, 0
	}
	return err
}

// writeOnce makes one write and counts it.
func (f *File) writeOnce(d *destination, p []byte) (int, error) {
	start := f.now()
	f.waitingSince.Store(int64(start))
	n, err := d.w.Write(p)
	f.waitingSince.Store(0)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.ErrShortWrite
	}
	f.stats.observeBatch(n, f.now()-start)
	if p := f.problem.Load(); err == nil && p != nil && !p.unreachable {
		f.problem.Store(nil)
	}
	return n, err
}

// awaitDestination returns the destination. If it could not be opened, it is tried
// until the deadline.
func (f *File) awaitDestination() (*destination, error) {
	for {
		select {
		case <-f.expired:
			return nil, errExpired
		default:
		}
		if d := f.dst.Load(); d != nil {
			return d, nil
		}
		if f.openAgain(); f.dst.Load() == nil {
			f.pause(reopenEvery)
		}
	}
}

// openAgain opens the path again. If that fails the old file stays in use, unless
// it was removed.
func (f *File) openAgain() {
	old := f.dst.Load()
	if f.cfg.Path == "" {
		return
	}
	if old != nil && f.partialRecords > 0 {
		_ = f.finishPartial(old)
	}
	d, err := f.openDestination(old)
	if err != nil {
		if !errors.Is(err, errNoReader) {
			f.stats.errors.Add(1)
		}
		if old != nil && old.removed() {
			f.dropDestination(old, err)
		}
		f.setProblem(err, true)
		return
	}
	if old == nil {
		f.setDestination(d)
		return
	}
	before := f.problem.Load()
	f.setDestination(d)
	if before != nil && !before.unreachable {
		f.problem.Store(before) // until a write succeeds
	}
	if err := old.Close(); err != nil {
		f.fail(fmt.Errorf("close %s: %w", f.name, err))
	}
}

// dropDestination closes a destination that is of no more use, because of err.
func (f *File) dropDestination(d *destination, err error) {
	f.buf.complete(0, f.partialRecords, dropOutputError)
	f.partial, f.partialRecords = nil, 0
	f.dst.Store(nil)
	_ = d.Close()
	f.setProblem(err, true)
}

// readerGone reports whether a write failed because its reader has gone.
func readerGone(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}
