package transport

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// maxInFlight is how many requests an output has under way at a time. More than
	// one hide the time that answers take; more than a few only shift the queue.
	maxInFlight = 4
	// shortestRetry and longestRetry bound the pause between two attempts if the
	// destination asks for none; longestWait bounds the pause that it asks for.
	shortestRetry = 100 * time.Millisecond
	longestRetry  = 5 * time.Second
	longestWait   = 5 * time.Minute
	// lookEvery is how often records that wait for their batch are looked after.
	lookEvery = 500 * time.Millisecond
)

// verdict is what became of an attempt to send a batch.
type verdict uint8

const (
	// sentAll means that the destination has acknowledged the batch.
	sentAll verdict = iota
	// sentNone means that the destination has taken none of it, or that it may be
	// sent twice. It is sent again.
	sentNone
	// tooLarge means that the destination takes none of it because of its size. Its
	// halves are sent.
	tooLarge
	// refused means that it is not sent again: the destination does not want it, or
	// may have it.
	refused
)

// attempt is the outcome of an attempt to send a batch.
type attempt struct {
	verdict verdict
	err     error         // why it is not sentAll, or why records were rejected
	wait    time.Duration // what the destination asks to wait before the next attempt, with sentNone
	// rejected is how many records of an acknowledged batch the destination did not
	// take.
	rejected int
	// warning is what else there is to say of an acknowledged batch, for the log.
	warning string
}

// sender sends batches to one kind of destination. Any number of goroutines may
// use it at once.
type sender interface {
	// send makes one attempt. It ends soon when ctx does.
	send(ctx context.Context, b *batch) attempt
	// probe returns nil if the destination can be reached, without sending anything
	// that it could take for records.
	probe(ctx context.Context) error
	// close ends the connections. No call of send or probe is under way.
	close()
}

// batchOutput is an output whose destination takes batches and answers each of
// them: an HTTP server, for instance. It has the queue, the attempts and the
// ledger; the sender is what differs from one to the other. It implements [Output],
// with the same rules for concurrent calls.
//
// A batch counts as written once it is acknowledged. While the destination cannot
// be reached, or asks to wait, batches are kept and the buffer fills up; when it is
// full the newest records are dropped. Batches that the destination refuses are
// dropped, for the reason output_error.
type batchOutput struct {
	runner
	sender     sender
	batchBytes batchLimit
	flushAfter time.Duration // how long a record may wait for its batch to fill up

	queue queue

	inFlight   atomic.Int32
	deliveries sync.WaitGroup
	ctx        context.Context // ends when what is under way is given up
	cancel     context.CancelFunc

	retry    retryState
	warnings ratelog.Limiter
}

var (
	_ Output = (*batchOutput)(nil)
	_ driver = (*batchOutput)(nil)
)

// initBatches sets up what all such outputs have in common.
func (o *batchOutput) initBatches(s sender, batchBytes int, flush time.Duration) {
	o.sender, o.flushAfter = s, flush
	o.batchBytes.reset(batchBytes)
	o.ctx, o.cancel = context.WithCancel(context.Background())
	// Records that need not wait are sent when their worker has nothing else to do.
	o.buf.lazy = flush >= flushEvery
}

// tickOf returns how often the loop of an output runs whose records may wait for
// flush.
func tickOf(flush time.Duration) time.Duration {
	return min(max(flush/4, flushEvery), lookEvery)
}

// Run implements [Output]. It returns nil after a clean end, and [ErrDrain] if the
// deadline passed before all was acknowledged. A destination that cannot be reached
// is no error: Run goes on trying.
func (o *batchOutput) Run(ctx context.Context) error {
	probeCtx, cancel := context.WithCancel(context.Background())
	var probing sync.WaitGroup
	probing.Go(func() { o.keepProbing(probeCtx) })
	defer func() {
		cancel()
		probing.Wait()
		o.sender.close()
	}()
	return o.run(ctx, o)
}

// step implements [driver]. It sends what is due.
func (o *batchOutput) step(finishing bool) (progress, error) {
	if o.ctx.Err() != nil {
		return progressIdle, errExpired // what was under way is given up, and not counted
	}
	more := o.fill()
	for o.queue.size > 0 && o.inFlight.Load() < maxInFlight && (more || finishing || o.due()) {
		o.start(o.queue.take(o.batchBytes.get()))
		more = o.fill()
	}
	if !more && o.queue.size == 0 && o.inFlight.Load() == 0 {
		return progressIdle, nil
	}
	return progressWaiting, nil
}

// fill moves chunks from the buffer to the queue until that has a whole batch, and
// reports whether it has.
func (o *batchOutput) fill() bool {
	for limit := o.batchBytes.get(); o.queue.size < limit; {
		wanted := 0
		if o.buf.lazy { // else each chunk is due
			wanted = limit - o.queue.size
		}
		c := o.buf.next(wanted)
		if c == nil {
			return false
		}
		o.queue.put(o.buf.shrink(c), o.now())
	}
	return true
}

// due reports whether the queue's records are to be sent though they are no whole
// batch.
func (o *batchOutput) due() bool {
	// The oldest waited in their worker's chunk for up to a tick before. Ticks are not exact, and
	// the one after this would be too late.
	return o.queue.age(o.now()) >= o.flushAfter-o.flushEvery*3/2 || o.buf.halfFull()
}

// start sends a batch on a goroutine of its own.
func (o *batchOutput) start(b *batch) {
	if o.inFlight.Add(1) == 1 {
		o.waitingSince.Store(int64(o.now()))
	}
	o.deliveries.Go(func() {
		o.deliver(b)
		if o.inFlight.Add(-1) == 0 {
			o.waitingSince.Store(0)
		}
		o.buf.wakeUp()
	})
}

// deliver sends a batch, or parts of it, until all of its records are counted. When
// it is given up, the runner counts what is left.
func (o *batchOutput) deliver(b *batch) {
	for {
		if !o.retry.wait(o.ctx) {
			return
		}
		began := time.Now()
		a := o.sender.send(o.ctx, b)
		if o.ctx.Err() != nil && a.verdict != sentAll {
			return
		}
		switch a.verdict {
		case sentAll:
			o.retry.reset()
			o.acknowledged(b, a, time.Since(began))
			return
		case sentNone:
			o.stats.errors.Add(1)
			o.setProblem(a.err, true)
			o.retry.postpone(a.wait)
			continue
		case tooLarge:
			if b.records > 1 {
				o.stats.errors.Add(1)
				o.deliverHalves(b)
				return
			}
		}
		o.fail(a.err)
		o.complete(b, 0, dropOutputError)
		return
	}
}

// deliverHalves sends a batch that was too large as two, and makes later batches
// smaller.
func (o *batchOutput) deliverHalves(b *batch) {
	o.batchBytes.tooLarge(b.size)
	first, second := b.halves()
	o.deliver(&first)
	o.deliver(&second)
}

// acknowledged counts a batch that the destination has acknowledged.
func (o *batchOutput) acknowledged(b *batch, a attempt, took time.Duration) {
	bytes := b.size
	if b.encoded != nil {
		bytes = len(b.encoded)
	}
	o.stats.observeBatch(bytes, took)
	o.batchBytes.accepted(b.size)
	o.waitingSince.Store(int64(o.now()))
	rejected := min(max(a.rejected, 0), b.records)
	if rejected > 0 {
		o.fail(a.err)
	} else if o.problem.Load() != nil {
		o.problem.Store(nil)
	}
	if a.warning != "" {
		if log := o.warnings.Logger(o.log, time.Now().UnixNano()); log != nil {
			log.Warn(o.name + ": " + a.warning)
		}
	}
	o.complete(b, b.records-rejected, dropOutputError)
}

// complete counts a batch's records, written ones and those that are dropped for a
// reason, and returns the chunks that are completed.
func (o *batchOutput) complete(b *batch, written int, reason dropReason) {
	o.buf.complete(written, b.records-written, reason)
	for _, p := range b.parts {
		if atomic.AddInt32(&p.c.left, -int32(p.records())) == 0 {
			o.buf.release(p.c)
		}
	}
}

// check implements [driver]. keepProbing looks after the destination.
func (o *batchOutput) check() {}

// interrupt implements [driver].
func (o *batchOutput) interrupt() { o.cancel() }

// close implements [driver].
func (o *batchOutput) close() error {
	o.cancel()
	o.deliveries.Wait()
	return nil
}

// keepProbing looks whether the destination can be reached while no batch shows it,
// so that troubles are known before there are records to send.
func (o *batchOutput) keepProbing(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		if p := o.problem.Load(); p != nil && p.unreachable && o.inFlight.Load() == 0 {
			attempt, cancel := context.WithTimeout(ctx, probeTimeout)
			err := o.sender.probe(attempt)
			cancel()
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				o.stats.errors.Add(1)
				o.problem.CompareAndSwap(p, &problem{err: err, at: o.now(), unreachable: true})
			default:
				o.problem.CompareAndSwap(p, nil)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// retryState is when the next attempt may be made. All requests of an output share
// it: a destination that is away, or asks to wait, is so for all of them.
type retryState struct {
	mu       sync.Mutex
	failures int // in a row
	until    time.Time
}

// reset ends the pause, since the destination works.
func (r *retryState) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures, r.until = 0, time.Time{}
}

// postpone makes the next attempts wait: longer each time, and at least as long as
// the destination asks for.
func (r *retryState) postpone(asked time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.After(r.until) { // the others that fail at the same time are no further failures
		pause := min(shortestRetry<<min(r.failures, 10), longestRetry)
		r.failures++
		r.until = now.Add(pause/2 + rand.N(pause/2)) //nolint:gosec // it spreads clients and keeps no secret
	}
	if until := now.Add(min(asked, longestWait)); until.After(r.until) {
		r.until = until
	}
}

// wait waits for the next attempt. It returns false if ctx ends before.
func (r *retryState) wait(ctx context.Context) bool {
	for {
		r.mu.Lock()
		d := time.Until(r.until)
		r.mu.Unlock()
		if d <= 0 {
			return ctx.Err() == nil
		}
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return false
		}
	}
}
