package transport

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// flushEvery is how long a record may lie in a chunk that does not fill up,
	// however busy its worker is.
	flushEvery = 50 * time.Millisecond
	// parkedEvery is how often an output that has nothing to do looks after its
	// destination.
	parkedEvery = time.Second
	// watchEvery is how often the state of an output is looked at for the log.
	watchEvery = time.Second
	// stallAfter is how long records may wait for the destination before the
	// output is not ready.
	stallAfter = 5 * time.Second
	// forgetAfter is how long a failed write keeps an output from being ready if it
	// has got nothing to write since. Without it, an output that was taken out of
	// service because it was not ready would never get ready again.
	forgetAfter = 30 * time.Second
	// interruptGrace is how long an interrupted driver has to return.
	interruptGrace = time.Second
)

// errExpired is returned by a driver when the deadline of its runner has passed.
var errExpired = errors.New("deadline")

// driver writes the chunks of a buffer to one kind of destination. It is the part
// of an output that differs from one to the other; [runner] is the rest. A new
// output is a struct that embeds a runner and implements driver. Its constructor
// calls [runner.init] and [runner.register], its Run calls [runner.run]. The
// smallest example is in runner_test.go.
//
// A driver takes chunks from [buffer.next], any number of them before it gives
// the first one back. It counts each record once, by [buffer.complete], when it is
// known whether it was written: for a network, when the other side has
// acknowledged it. Then it returns the chunk by [buffer.release]. Both may happen
// on any goroutine, which wakes the loop by [buffer.wakeUp] afterwards. It tries
// again what can be tried again, with [runner.pause] in between, until
// runner.expired is closed. The runner counts all other records as dropped then.
//
// The loop calls step, check and close from one goroutine.
type driver interface {
	// step writes what can be written. With finishing, no more records will come,
	// and waiting for a batch to fill up is of no use. Errors end the loop; they are
	// [ErrClosed] and errExpired.
	step(finishing bool) (progress, error)
	// check is called about once a second, to look after the destination.
	check()
	// interrupt makes a step that blocks return, if that is possible. It is called
	// by another goroutine, once, after runner.expired was closed.
	interrupt()
	// close ends the use of the destination. It is the last call.
	close() error
}

// progress is what a step of a driver has come to.
type progress uint8

const (
	// progressMore means that there may be more to write at once.
	progressMore progress = iota
	// progressWaiting means that records are under way, or that the destination
	// takes none at the moment.
	progressWaiting
	// progressIdle means that all records that were queued are completed.
	progressIdle
)

// runnerConfig is what a runner needs to know of its output.
type runnerConfig struct {
	// transport is the label of the metrics.
	transport string
	// name is the destination's, in errors and in the log.
	name string
	// errorsHaveName reports whether the driver's errors name the destination already, as
	// those of files do.
	errorsHaveName bool
	// block reports whether workers wait when the buffer is full. Then records that could
	// not be written are an error of Run.
	block bool
	// several reports whether this is one of several outputs.
	several bool
	// drainTimeout is how long the loop may go on after the context has ended.
	drainTimeout time.Duration
	// flushEvery is how long a record may wait in a chunk that does not fill up.
	flushEvery time.Duration
	// stallAfter is how long records may be under way before the output is not
	// ready, and stallText is what is wrong then: "stalled" in "stalled for 5s".
	stallAfter time.Duration
	stallText  string
	// away says in a few words what is wrong while the destination cannot be opened or
	// reached, for the reason of err. Without it, that is "out of reach".
	away func(err error) string
	// bufferBytes is the room that the user has given the buffer, if a part of it is not
	// the buffer's.
	bufferBytes int
}

// runner is what all outputs have in common. It implements [Output] for the types
// that embed it, but for Run.
type runner struct {
	runnerConfig
	buf   *buffer
	stats *outputStats
	log   logrus.FieldLogger

	finishOnce sync.Once
	finish     chan struct{} // closed when no more records will come
	expired    chan struct{} // closed when what is not completed will be dropped

	epoch time.Time
	// waitingSince is when records under way made their last progress, after epoch;
	// 0 if none are under way.
	waitingSince atomic.Int64
	problem      atomic.Pointer[problem] // what is wrong, nil if nothing is known to be
	// connectErr is why the last attempt to connect failed. It explains a problem
	// with an unreachable destination better than the problem's own error.
	connectErr atomic.Pointer[error]
	firstErr   atomic.Pointer[error] // the first error that cost records

	report report // of the goroutine of Run
}

// problem is what is wrong with an output.
type problem struct {
	err error
	at  time.Duration // after the output's epoch
	// unreachable reports whether the destination could not be opened or reached. The
	// problem lasts until it can, however long nothing was written.
	unreachable bool
}

// init sets a runner up. The destination counts as unreachable for the given
// reason until the driver finds that it is not.
func (r *runner) init(cfg runnerConfig, buf *buffer, log logrus.FieldLogger, unreachable string) {
	r.runnerConfig = cfg
	r.buf = buf
	r.log = log.WithField("output", cfg.name)
	r.finish = make(chan struct{})
	r.expired = make(chan struct{})
	r.epoch = time.Now()
	if r.bufferBytes == 0 {
		r.bufferBytes = buf.limit
	}
	r.report = report{log: r.log, buf: buf, name: cfg.name, bytes: r.bufferBytes}
	r.setProblem(errors.New(unreachable), true)
}

// register registers the metrics.
func (r *runner) register(reg prometheus.Registerer) (err error) {
	r.stats, err = registerOutput(reg, r.transport, r.several, r.buf)
	return err
}

// Open implements [Output] for destinations that cannot be opened at once.
func (r *runner) Open() error { return nil }

// Reopen implements [Output] for destinations that are not files.
func (r *runner) Reopen() {}

// NewWriter implements [Output].
func (r *runner) NewWriter() Writer { return r.buf.newWriter() }

// Finish implements [Output]. It may be called any number of times.
func (r *runner) Finish() {
	r.finishOnce.Do(func() { close(r.finish) })
}

// Problem implements [Output].
func (r *runner) Problem() error {
	switch what, err := r.trouble(); {
	case what == "":
		return nil
	case err == nil:
		return fmt.Errorf("%s: %s", r.name, what)
	case r.errorsHaveName:
		return err
	default:
		return fmt.Errorf("%s: %s: %w", r.name, what, err)
	}
}

// trouble returns in a few words why records are not written, and the error behind that, which
// may be nil. The words are empty if nothing is known to be wrong.
func (r *runner) trouble() (what string, err error) {
	now := r.now()
	if p := r.problem.Load(); p != nil && (p.unreachable || now-p.at < forgetAfter) {
		if !p.unreachable {
			return "records cannot be written", p.err
		}
		err = p.err
		if e := r.connectErr.Load(); e != nil {
			err = *e
		}
		if r.away == nil {
			return "out of reach", err
		}
		return r.away(err), err
	}
	if since := time.Duration(r.waitingSince.Load()); since != 0 && now-since > r.stallAfter {
		return fmt.Sprintf("%s for %v", r.stallText, (now - since).Round(time.Second)), nil
	}
	return "", nil
}

// Full implements [Output].
func (r *runner) Full() bool { return r.buf.full() }

// wrap adds to an error which output it is of.
func (r *runner) wrap(err error) error {
	if r.errorsHaveName {
		return fmt.Errorf("output: %w", err)
	}
	return fmt.Errorf("output: %s: %w", r.name, err)
}

// now returns the time since the epoch, which is more than 0.
func (r *runner) now() time.Duration { return max(time.Since(r.epoch), 1) }

func (r *runner) setProblem(err error, unreachable bool) {
	r.problem.Store(&problem{err: err, at: r.now(), unreachable: unreachable})
}

// fail notes that records were lost by an error of the destination.
func (r *runner) fail(err error) {
	r.stats.errors.Add(1)
	r.firstErr.CompareAndSwap(nil, &err)
	r.setProblem(err, false)
}

// pause waits between two attempts, until the deadline at most.
func (r *runner) pause(d time.Duration) {
	select {
	case <-r.expired:
	case <-time.After(d):
	}
}

// run drives an output until all records are completed, or its deadline has
// passed. Its errors are those of [Output].
func (r *runner) run(ctx context.Context, d driver) error {
	done := make(chan error, 1)
	go func() {
		err := r.loop(d)
		if closeErr := d.close(); err == nil {
			err = closeErr
		}
		done <- err
	}()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	stop := ctx.Done()
	var deadline, giveUp <-chan time.Time
	for {
		select {
		case err := <-done:
			return r.conclude(err)
		case <-stop:
			stop = nil
			r.Finish()
			deadline = time.After(r.drainTimeout)
		case <-deadline:
			close(r.expired)
			d.interrupt()
			giveUp = time.After(interruptGrace)
		case <-giveUp:
			// The step goes on. What it still writes is counted as dropped.
			return r.conclude(errExpired)
		case <-watch.C:
			r.report.watch(r, false)
		}
	}
}

// loop calls the driver's steps until no more records will come and all are
// completed. Without records for a second it parks: it wakes up rarely then, until
// a writer takes a chunk.
func (r *runner) loop(d driver) error {
	tick := time.NewTicker(r.flushEvery)
	defer tick.Stop()
	second := int(time.Second / r.flushEvery)
	atOnce := make(chan struct{})
	close(atOnce)
	finish := r.finish
	ticks, quietTicks := 0, 0 // all, and those since the last write
	parked := false
	var batches uint64
	for {
		state, err := d.step(finish == nil)
		if err != nil {
			return err
		}
		wake := r.buf.wake
		switch {
		case state == progressMore:
			wake = atOnce
		case state == progressIdle && finish == nil:
			return nil
		}
		select {
		case <-wake:
			if parked {
				parked, quietTicks = false, 0
				tick.Reset(r.flushEvery)
			}
		case <-tick.C:
			r.buf.sweep(true)
			r.buf.trim()
			if ticks++; parked || ticks%second == 0 {
				d.check()
			}
			quietTicks++
			if n := r.stats.batches.Load(); n != batches {
				batches, quietTicks = n, 0
			}
			// The record after parking costs a wake-up, so it is not done at once.
			if !parked && quietTicks >= second && r.buf.park() {
				parked = true
				tick.Reset(parkedEvery)
			}
		case <-finish:
			finish = nil
			r.buf.close(dropShutdown)
		case <-r.expired:
			return errExpired
		}
	}
}

// conclude counts what is left when the loop has ended with err, and returns the
// error of Run.
func (r *runner) conclude(err error) error {
	reason := dropOutputError
	if err == errExpired {
		reason = dropShutdown
	}
	left := r.buf.failRemaining(reason)
	if err == ErrClosed {
		return err // nobody is interested in the records any more
	}
	l := r.buf.ledger()
	if l.accepted > 0 { // else the destination was not needed
		r.report.watch(r, true)
	}
	failed := r.firstErr.Load()
	switch {
	case err == errExpired && left > 0:
		return fmt.Errorf("output: %s: %d records are left: %w", r.name, left, ErrDrain)
	case r.block && failed != nil:
		return r.wrap(fmt.Errorf("%d records could not be written: %w", l.dropped[dropOutputError], *failed))
	case err != nil && err != errExpired:
		return r.wrap(err)
	}
	return nil
}

// report logs an output's troubles, and that they are over. It is used by one
// goroutine.
//
// It does not use [ratelog.Limiter], which counts events that were not logged:
// report logs changes of a state. It looks at the state once a second and logs the
// difference to what it logged last, so nothing is lost while it waits, and the
// number of dropped records in a line is exact.
type report struct {
	log   logrus.FieldLogger
	buf   *buffer
	name  string // of the destination
	bytes int    // that the buffer may have

	// The state that was logged last.
	logged  time.Time
	drops   uint64
	full    uint64 // of drops, those for want of room
	problem bool
}

// watch logs a line if the state of the runner has changed, at most every
// [ratelog.Interval] unless it is the last.
func (r *report) watch(of *runner, last bool) {
	what, err := of.trouble()
	l := r.buf.ledger()
	full := l.dropped[dropOutputFull]
	drops := full + l.dropped[dropOutputError] + l.dropped[dropShutdown]
	if drops == r.drops && (what != "") == r.problem {
		return
	}
	if !last && !r.logged.IsZero() && time.Since(r.logged) < ratelog.Interval {
		return
	}
	log := r.log
	switch {
	case drops > r.drops:
		log = log.WithField("dropped", drops-r.drops)
		if problem := of.Problem(); problem != nil {
			log = log.WithError(problem)
		}
		why := ""
		if full > r.full {
			why = fmt.Sprintf(": the buffer of %s MiB is full", mebibytes(r.bytes))
		}
		log.Warnf("%s: records were dropped%s", r.name, why)
	case what != "":
		if err != nil {
			log = log.WithError(err)
		}
		log.Warnf("%s: %s; buffering %s of %s MiB", r.name, what, mebibytes(int(r.buf.fill()*float64(r.bytes))), mebibytes(r.bytes))
	default:
		log.Infof("%s: works again", r.name)
	}
	r.logged, r.drops, r.full, r.problem = time.Now(), drops, full, what != ""
}

// mebibytes returns a number of bytes in MiB, with one decimal unless that is 0.
func mebibytes(n int) string {
	return strconv.FormatFloat(math.Round(float64(n)/(1<<20)*10)/10, 'f', -1, 64)
}
