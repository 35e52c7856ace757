package transport

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// postOutput is the least that an output over a network needs: it sends one batch
// at a time and waits for the answer.
type postOutput struct {
	runner
	send func(ctx context.Context, batch []byte) error
	// refused is an error of send that a second attempt does not help against.
	refused error

	ctx    context.Context
	cancel context.CancelFunc
}

var (
	_ Output = (*postOutput)(nil)
	_ driver = (*postOutput)(nil)
)

func newPostOutput(t *testing.T, block bool, send func(context.Context, []byte) error) *postOutput {
	t.Helper()
	log, _ := logtest.NewNullLogger()
	p := &postOutput{send: send, refused: errors.New("refused")}
	p.ctx, p.cancel = context.WithCancel(t.Context())
	p.init(runnerConfig{
		transport: "post", name: "post", block: block, drainTimeout: 5 * time.Second, flushEvery: flushEvery,
		stallAfter: stallAfter, stallText: "no batch was acknowledged",
	}, newBuffer(lineEncoder{}, minBuffer, block), log, "not connected yet")
	p.buf.lazy = true
	if err := p.register(prometheus.NewPedanticRegistry()); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postOutput) Run(ctx context.Context) error { return p.run(ctx, p) }

func (p *postOutput) step(bool) (progress, error) {
	c := p.buf.next(0)
	if c == nil {
		return progressIdle, nil
	}
	for {
		start := p.now()
		p.waitingSince.Store(int64(start))
		err := p.send(p.ctx, c.buf)
		p.waitingSince.Store(0)
		switch {
		case err == nil:
			p.stats.observeBatch(len(c.buf), p.now()-start)
			p.problem.Store(nil)
			p.buf.complete(len(c.ends), 0, dropOutputError)
		case errors.Is(err, p.refused):
			p.fail(err)
			p.buf.complete(0, len(c.ends), dropOutputError)
		default:
			p.stats.errors.Add(1)
			p.setProblem(err, true)
			p.pause(time.Second)
			select {
			case <-p.expired:
				return progressWaiting, errExpired
			default:
				continue
			}
		}
		p.buf.release(c)
		return progressMore, nil
	}
}

func (p *postOutput) check()       {}
func (p *postOutput) interrupt()   { p.cancel() }
func (p *postOutput) close() error { p.cancel(); return nil }

// TestRunner runs an output that is nothing but a driver, through outages.
func TestRunner(t *testing.T) {
	errAway := errors.New("connection refused")
	const records = 100
	for _, tc := range []struct {
		name             string
		block            bool
		outage           time.Duration
		hang, refuse     bool
		written, dropped uint64
		reason           dropReason
		err              string
	}{
		{name: "works", written: records},
		{name: "away for a while", outage: 3 * time.Second, written: records},
		{name: "away for good", outage: time.Hour, dropped: records, reason: dropShutdown,
			err: "output: post: 100 records are left: not all records could be written before the deadline"},
		{name: "hangs", hang: true, dropped: records, reason: dropShutdown,
			err: "output: post: 100 records are left: not all records could be written before the deadline"},
		{name: "refuses", refuse: true, dropped: records, reason: dropOutputError},
		{name: "refuses, and that matters", refuse: true, block: true, dropped: records, reason: dropOutputError,
			err: "output: post: 100 records could not be written: refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var p *postOutput
				p = newPostOutput(t, tc.block, func(ctx context.Context, _ []byte) error {
					switch {
					case tc.hang:
						<-ctx.Done()
						return ctx.Err()
					case tc.refuse:
						return p.refused
					case time.Since(start) < tc.outage:
						return errAway
					}
					return nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- p.Run(ctx) }()
				w := p.NewWriter()
				for range records {
					w.HandleFlow(new(flow.Record))
				}
				time.Sleep(time.Second)
				if err := p.Problem(); tc.outage > 0 && (err == nil || err.Error() != "post: out of reach: connection refused") {
					t.Errorf("ready during an outage: %v", err)
				}
				time.Sleep(stallAfter)
				if err := p.Problem(); tc.written > 0 && err != nil || tc.written == 0 && err == nil {
					t.Errorf("ready: %v", err)
				}
				cancel()
				err := <-done
				if err == nil && tc.err != "" || err != nil && err.Error() != tc.err {
					t.Errorf("error %v, want %q", err, tc.err)
				}
				l := p.buf.ledger()
				if l.accepted != records || l.written != tc.written || l.dropped[tc.reason] != tc.dropped || l.held != 0 {
					t.Errorf("the ledger is %+v", l)
				}
			})
		})
	}
}
