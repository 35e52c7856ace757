package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// Defaults of [FileConfig].
const (
	DefaultBufferBytes  = 16 << 20
	DefaultDrainTimeout = 10 * time.Second
)

const (
	// flushEvery is how long a record may lie in a chunk that does not fill up,
	// however busy its worker is.
	flushEvery = 50 * time.Millisecond
	// dozeEvery is how often the file is looked after when nothing comes.
	dozeEvery = time.Second
	// retryEvery is how often a file that cannot be opened is tried.
	retryEvery = 250 * time.Millisecond
	// stallAfter is how long a write may take before the output is not ready.
	stallAfter = 5 * time.Second
	// forgetAfter is how long a failed write counts against an output that was
	// given nothing to write since: whoever takes an output that is not ready
	// out of service must not thereby keep it from getting ready again.
	forgetAfter = 30 * time.Second
)

var (
	deadlinePast = time.Unix(1, 0)
	noDeadline   = time.Time{}
)

// errExpired ends the loop when the deadline has passed.
var errExpired = errors.New("deadline")

// FileConfig says where a file output writes and how much it may hold.
type FileConfig struct {
	// Path is the file to append to; empty is standard output. A named pipe is
	// waited for until it has a reader.
	Path string
	// Stdout stands in for os.Stdout in tests.
	Stdout io.Writer
	// BufferBytes bounds what waits to be written, in bytes; 0 is
	// [DefaultBufferBytes]. A single larger record is written all the same.
	BufferBytes int
	// Block makes workers wait when the buffer is full, instead of dropping
	// the newest records: for inputs that can wait. Run then reports records
	// that could not be written as an error.
	Block bool
	// DrainTimeout is how long Run goes on writing after its context has
	// ended; 0 is [DefaultDrainTimeout].
	DrainTimeout time.Duration
	// Binary says that records are not lines.
	Binary bool
	// Several says that this is one of several outputs: the metric records_held
	// has the transport as a label then.
	Several bool
}

// File writes records to a file, a named pipe or standard output.
//
// Workers encode into chunks. A worker writes a chunk by itself if the kernel takes
// it at once; else, and whenever there is trouble, one goroutine writes: a worker
// never waits for the file. What is in the file are whole records, whatever
// happens; a write that fails costs the records of its chunk that were not written.
type File struct {
	cfg   FileConfig
	name  string
	buf   *buffer
	stats *outputStats

	finishOnce sync.Once
	finish     chan struct{} // no more records will come
	expired    chan struct{} // what is not written by now is dropped
	reopen     atomic.Bool

	// turn is held by whoever writes. The goroutine of loop may hold it for as
	// long as a reader stalls, so workers only try to get it.
	turn sync.Mutex
	// begun says that the chunk in front of the queue has been written in part. It
	// belongs to whoever has the turn.
	begun bool

	dst atomic.Pointer[destination] // replaced by the goroutine that writes
	// torn is the rest of a record that was written in part; tornRecords says
	// whether it is one (1), or the end of a line found in the file (0).
	torn        []byte
	tornRecords int
	firstErr    error

	epoch   time.Time
	since   atomic.Int64            // when the running write began, after epoch; 0: none runs
	problem atomic.Pointer[problem] // what is wrong, nil if nothing is known to be

	report report // of the goroutine of Run
}

// NewFile returns an output that is inert until Open or Run, and registers its
// metrics.
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
	f := &File{
		cfg:     cfg,
		name:    cfg.Path,
		buf:     newBuffer(enc, cfg.BufferBytes, cfg.Block),
		finish:  make(chan struct{}),
		expired: make(chan struct{}),
		epoch:   time.Now(),
	}
	f.buf.direct = f.writeDirectly
	if f.name == "" {
		f.name = "stdout"
	}
	f.report = report{log: log.WithField("output", f.name), buf: f.buf}
	f.problem.Store(&problem{err: errors.New("not opened yet"), open: true})
	var err error
	if f.stats, err = registerOutput(reg, "file", cfg.Several, f.buf); err != nil {
		return nil, err
	}
	return f, nil
}

// CheckFile tells whether records could be written to path, without creating
// it: what -check wants to know.
func CheckFile(path string) error {
	if path == "" {
		return nil
	}
	fi, err := os.Stat(path)
	if err == nil {
		if fi.IsDir() {
			return fmt.Errorf("%s is a directory", path)
		}
		if err := unix.Access(path, unix.W_OK); err != nil {
			return fmt.Errorf("%s cannot be written to: %w", path, err)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if fi, err = os.Stat(dir); err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("directory %s cannot be written to: %w", dir, err)
	}
	return nil
}

// NewWriter implements [Output].
func (f *File) NewWriter() Writer { return f.buf.newWriter() }

// Open opens the file, so that a wrong path shows before anything is started.
// Run calls it if need be.
func (f *File) Open() error {
	if f.dst.Load() != nil {
		return nil
	}
	d, err := f.openDestination()
	switch {
	case errors.Is(err, errNoReader):
		f.setProblem(err, true)
		return nil // the loop goes on trying
	case err != nil:
		f.setProblem(err, true)
		return err
	}
	f.use(d)
	return nil
}

func (f *File) openDestination() (*destination, error) {
	if f.cfg.Path == "" {
		return openStdout(f.cfg.Stdout)
	}
	return openPath(f.cfg.Path, !f.cfg.Binary)
}

// use makes d the destination; what was torn belongs to the one before.
func (f *File) use(d *destination) {
	f.buf.settle(0, f.tornRecords, outputError)
	f.torn, f.tornRecords = f.torn[:0], 0
	if d.open {
		f.torn = append(f.torn, '\n')
	}
	f.problem.Store(nil)
	f.dst.Store(d)
}

// Reopen closes the file and opens it anew, for log rotation: between two
// records, and soon, but not before it returns. If that fails the old file
// stays in use and it is tried again.
func (f *File) Reopen() {
	f.reopen.Store(true)
	select {
	case f.buf.wake <- struct{}{}:
	default:
	}
}

// Finish says that no more records will be handed over. Run ends when those it
// has are written, however long that takes, unless its context ends.
func (f *File) Finish() {
	f.finishOnce.Do(func() { close(f.finish) })
}

// Ready returns nil, or what keeps records from being written.
func (f *File) Ready() error {
	now := time.Since(f.epoch)
	if p := f.problem.Load(); p != nil && (p.open || now-p.at < forgetAfter) {
		return fmt.Errorf("output: %w", p.err)
	}
	if since := time.Duration(f.since.Load()); since != 0 && now-since > stallAfter {
		return fmt.Errorf("output: %s: stalled for %v", f.name, (now - since).Round(time.Second))
	}
	return nil
}

func (f *File) setProblem(err error, open bool) {
	f.problem.Store(&problem{err: err, at: time.Since(f.epoch), open: open})
}

// Run implements [Output]. It returns nil after a clean end, [ErrClosed] if the
// reader of standard output has gone, [ErrDrain] if the deadline passed before
// all was written; other errors are failures. A write to a destination that
// cannot be interrupted may outlive it.
func (f *File) Run(ctx context.Context) error {
	if err := f.Open(); err != nil {
		f.buf.abandon(outputError)
		return fmt.Errorf("output: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- f.loop() }()
	watch := time.NewTicker(time.Second)
	defer watch.Stop()
	stop := ctx.Done()
	var deadline <-chan time.Time
	for {
		select {
		case err := <-done:
			return f.end(err)
		case <-stop:
			stop = nil
			f.Finish()
			deadline = time.After(f.cfg.DrainTimeout)
		case <-deadline:
			close(f.expired)
			if d := f.dst.Load(); d != nil {
				d.interrupt()
			}
			select {
			case err := <-done:
				return f.end(err)
			case <-time.After(time.Second):
				// The write goes on, to no avail.
				return f.drained(f.buf.abandon(shutdown))
			}
		case <-watch.C:
			f.report.watch(f.Ready(), false)
		}
	}
}

// end settles what is left when the loop has ended.
func (f *File) end(err error) error {
	why := outputError
	if err == errExpired {
		why = shutdown
	}
	left := f.buf.abandon(why)
	var closeErr error
	if d := f.dst.Swap(nil); d != nil {
		closeErr = d.Close()
	}
	switch {
	case err == ErrClosed:
		return err // nobody cares any more
	case err == errExpired:
		return f.drained(left)
	}
	f.report.watch(f.Ready(), true)
	if f.cfg.Block && f.firstErr != nil {
		return fmt.Errorf("output: %d records could not be written: %w", f.buf.ledger().dropped[outputError], f.firstErr)
	}
	if closeErr != nil {
		return fmt.Errorf("output: %w", closeErr)
	}
	return nil
}

// drained tells whether all was written before the deadline.
func (f *File) drained(left uint64) error {
	f.report.watch(f.Ready(), true)
	if left == 0 {
		return nil
	}
	return fmt.Errorf("output: %s: %d records are left: %w", f.name, left, ErrDrain)
}

// loop writes what is handed over until there will be no more. Errors are
// [ErrClosed] and errExpired.
func (f *File) loop() error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	ready := make(chan struct{})
	close(ready)
	finish := f.finish
	ticks, quiet := 0, 0 // since when there were no writes
	dozing := false
	var batches uint64
	for {
		idle, err := f.writeNext()
		if err != nil {
			return err
		}
		wake := f.buf.wake
		if !idle {
			wake = ready
		} else if finish == nil {
			f.finishLast()
			return nil
		}
		select {
		case <-wake:
			if dozing {
				dozing, quiet = false, 0
				tick.Reset(flushEvery)
			}
		case <-tick.C:
			f.buf.sweep(true)
			f.buf.trim()
			if ticks++; dozing || ticks%int(time.Second/flushEvery) == 0 {
				f.check()
			}
			quiet++
			if n := f.stats.batches.Load(); n != batches {
				batches, quiet = n, 0
			}
			// Not before a second without a record: the next one costs a wake-up.
			if !dozing && quiet >= int(time.Second/flushEvery) && f.buf.doze() {
				dozing = true
				tick.Reset(dozeEvery)
			}
		case <-finish:
			finish = nil
			f.buf.close(shutdown)
		}
	}
}

// finishLast tries once more to finish a record that was written in part.
func (f *File) finishLast() {
	f.turn.Lock()
	defer f.turn.Unlock()
	if d := f.dst.Load(); d != nil && len(f.torn) > 0 && f.tornRecords > 0 {
		_ = f.finishTorn(d)
	}
}

// writeNext writes the oldest chunk, and tells whether there is none.
func (f *File) writeNext() (idle bool, err error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if !f.begun && f.reopen.Swap(false) {
		f.openAnew()
	}
	c := f.buf.next()
	if c == nil {
		return !f.buf.sweep(false), nil
	}
	f.begun = false
	if err := f.write(c); err != nil {
		return false, err
	}
	f.buf.release(c)
	return false, nil
}

// writeDirectly writes a chunk on its worker's goroutine, if nothing is in the
// way and the kernel takes it at once. What it does not take, and what cannot be
// written at all, is left to the goroutine of loop. It returns false if the
// chunk is still the worker's.
func (f *File) writeDirectly(c *chunk) bool {
	if !f.turn.TryLock() {
		return false
	}
	defer f.turn.Unlock()
	d := f.dst.Load()
	if d == nil || d.nowait == nil || len(f.torn) > 0 || f.reopen.Load() || f.problem.Load() != nil || !f.buf.reserve(c) {
		return false
	}
	start := time.Since(f.epoch)
	n, err := d.nowait.write(c.buf)
	if n > 0 {
		f.count(n, start)
	} else if d.nowait.unable(err) {
		d.nowait = nil
	}
	c.off = n
	for c.rec < len(c.ends) && int(c.ends[c.rec]) <= n {
		c.rec++
	}
	f.buf.settle(c.rec, 0, outputError)
	if n == len(c.buf) {
		f.buf.release(c)
		return true
	}
	f.begun = n > 0
	f.buf.putBack(c)
	return true
}

// write writes the rest of a chunk and settles each of its records, whatever
// happens. On an error of the loop's those left are settled by its end.
func (f *File) write(c *chunk) error {
	off, rec := c.off, c.rec // bytes written and records settled
	for {
		d, err := f.wait()
		if err != nil {
			return err
		}
		if len(f.torn) > 0 {
			err = f.finishTorn(d)
		} else if off < len(c.buf) {
			var n int
			n, err = f.writeOnce(d, c.buf[off:])
			off += n
		}
		written := 0
		for rec < len(c.ends) && int(c.ends[rec]) <= off && len(f.torn) == 0 {
			rec++
			written++
		}
		if !f.buf.settle(written, 0, outputError) {
			return errExpired
		}
		switch {
		case err == nil:
			if off == len(c.buf) && len(f.torn) == 0 {
				return nil
			}
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errExpired
		case isClosed(err) && !d.fifo:
			return ErrClosed
		}
		start := 0 // of the record that was written in part
		if rec > 0 {
			start = int(c.ends[rec-1])
		}
		if isClosed(err) {
			// The next reader gets the record that this one has half of.
			off = start
			f.lose(d, err)
			continue
		}
		f.fail(err)
		lost := len(c.ends) - rec
		if off > start && !d.takeBack(off-start) {
			// It will be finished before anything else is written.
			f.torn, f.tornRecords = append(f.torn[:0], c.buf[off:c.ends[rec]]...), 1
			lost--
		}
		f.buf.settle(0, lost, outputError)
		return nil
	}
}

// finishTorn goes on writing a record that was written in part.
func (f *File) finishTorn(d *destination) error {
	n, err := f.writeOnce(d, f.torn)
	f.torn = f.torn[n:]
	if len(f.torn) == 0 {
		f.buf.settle(f.tornRecords, 0, outputError)
		f.torn, f.tornRecords = nil, 0
	}
	return err
}

// writeOnce makes one write and accounts for its time.
func (f *File) writeOnce(d *destination, p []byte) (int, error) {
	start := time.Since(f.epoch)
	f.since.Store(max(int64(start), 1))
	n, err := d.w.Write(p)
	f.since.Store(0)
	if n == 0 && err == nil && len(p) > 0 {
		err = io.ErrShortWrite
	}
	f.count(n, start)
	if p := f.problem.Load(); err == nil && p != nil && !p.open {
		f.problem.Store(nil)
	}
	return n, err
}

// count counts a write that began at start, after epoch.
func (f *File) count(n int, start time.Duration) {
	f.stats.batches.Add(1)
	f.stats.bytes.Add(uint64(n))
	f.stats.seconds.Observe((time.Since(f.epoch) - start).Seconds())
}

// wait returns the destination, for which it waits if it could not be opened.
func (f *File) wait() (*destination, error) {
	for {
		select {
		case <-f.expired:
			return nil, errExpired
		default:
		}
		if d := f.dst.Load(); d != nil {
			return d, nil
		}
		if f.openAnew(); f.dst.Load() == nil {
			select {
			case <-f.expired:
			case <-time.After(retryEvery):
			}
		}
	}
}

// check looks, once a second, after a file that was removed, could not be
// opened or failed.
func (f *File) check() {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.begun {
		return // the rest belongs where the beginning is
	}
	d := f.dst.Load()
	if d == nil || f.problem.Load() != nil || d.gone() {
		f.openAnew()
	}
}

// openAnew opens the path again. If that fails it stays with the old file,
// unless that has been removed.
func (f *File) openAnew() {
	old := f.dst.Load()
	if f.cfg.Path == "" {
		return
	}
	d, err := f.openDestination()
	if err != nil {
		if !errors.Is(err, errNoReader) {
			f.stats.errors.Add(1)
		}
		if old != nil && old.gone() {
			f.lose(old, err)
		}
		f.setProblem(err, true)
		return
	}
	if old == nil {
		f.use(d)
		return
	}
	if len(f.torn) > 0 && f.tornRecords > 0 {
		_ = f.finishTorn(old)
	}
	hadProblem := f.problem.Load()
	f.use(d)
	if hadProblem != nil && !hadProblem.open {
		f.problem.Store(hadProblem) // until a write succeeds
	}
	if err := old.Close(); err != nil {
		f.fail(fmt.Errorf("close %s: %w", f.name, err))
	}
}

// lose closes a destination that is of no more use.
func (f *File) lose(d *destination, err error) {
	f.buf.settle(0, f.tornRecords, outputError)
	f.torn, f.tornRecords = nil, 0
	f.dst.Store(nil)
	_ = d.Close()
	f.setProblem(err, true)
}

// fail notes that a write failed.
func (f *File) fail(err error) {
	f.stats.errors.Add(1)
	if f.firstErr == nil {
		f.firstErr = err
	}
	f.setProblem(err, false)
}

// isClosed tells whether a write failed because its reader has gone.
func isClosed(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, io.ErrClosedPipe)
}
