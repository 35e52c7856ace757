// Package enrich names the Kubernetes objects behind the addresses of flow
// records. A [Source], which is a cluster or a snapshot file, feeds an index of
// addresses by time; a [Stage] for each worker looks up there, without locks
// and without allocating, whom an address belonged to when the flow ran.
package enrich

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	defaultRetain = 20 * time.Minute
	defaultHold   = 64 << 20
	sweepEvery    = 10 * time.Second
)

// Config is what an [Enricher] is made with.
type Config struct {
	// Mapping lists the address fields that are looked up. Owners are put into
	// Record.Ends in its order.
	Mapping []flow.MapEntry
	// SyncTimeout is how long records wait for the first full sync. With 0
	// they don't wait.
	SyncTimeout time.Duration
	// Retain is how long a pod that has ended still answers for flows of its
	// time; 20 minutes if 0.
	Retain time.Duration
	// Wait is how long a record waits for the owner of an address that is of a
	// pod range of the cluster and that nobody owned when the flow ran, as far
	// as is known. With 0, and of a source that is fixed, none waits.
	Wait time.Duration
	// Capture is for input that does not arrive in real time: records are
	// never held, the caller waits by WaitSynced instead; and what is known
	// does not expire, because the clock is the capture's.
	Capture bool
	// HoldBytes bounds what all stages together hold; 64 MiB if 0.
	HoldBytes int64
}

// Source is where Kubernetes objects come from: a [Cluster] or a [Snapshot].
type Source interface {
	// run feeds the state until ctx ends.
	run(ctx context.Context, st *store)
	// reload reads everything again, if the source is one that changes only
	// then. On an error the state is as before.
	reload(st *store) error
	// fixed says that the source changes only when it is reloaded. All that it
	// holds is of interest then, however long ago it ended.
	fixed() bool
}

// Enricher knows who owns which address. Its methods may be called from any
// goroutine.
type Enricher struct {
	cfg     Config
	source  Source
	log     logrus.FieldLogger
	store   *store
	metrics *metrics

	ready     atomic.Bool   // records wait no longer
	readyCh   chan struct{} // closed when open becomes true
	readyOnce sync.Once
	room      atomic.Int64 // bytes that may still be held
}

// New makes an Enricher; it does nothing until Run.
func New(cfg Config, source Source, log logrus.FieldLogger, reg prometheus.Registerer) (*Enricher, error) {
	if len(cfg.Mapping) > flow.MaxEnds {
		return nil, errors.New("too many entries in the mapping")
	}
	if cfg.Retain <= 0 {
		cfg.Retain = defaultRetain
	}
	if cfg.Capture || source.fixed() {
		cfg.Wait = 0
	}
	if cfg.HoldBytes <= 0 {
		cfg.HoldBytes = defaultHold
	}
	e := &Enricher{cfg: cfg, source: source, log: log, readyCh: make(chan struct{})}
	e.room.Store(cfg.HoldBytes)
	e.metrics = newMetrics(e)
	e.store = newStore(cfg.Retain, cfg.Capture || source.fixed(), source.fixed(), log, e.metrics)
	e.store.onSync = e.setReady
	if err := e.metrics.register(reg); err != nil {
		return nil, err
	}
	return e, nil
}

// Run feeds the index until ctx ends. Its error is nil: a cluster that cannot be
// reached may come back, and Ready tells.
func (e *Enricher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	if !e.source.fixed() { // a snapshot is there at once
		wg.Go(func() { e.timeOut(ctx) })
	}
	if !e.cfg.Capture {
		wg.Go(func() { e.sweep(ctx) })
	}
	e.source.run(ctx, e.store)
	cancel()
	return nil
}

// release lets records pass.
func (e *Enricher) setReady() {
	e.readyOnce.Do(func() {
		e.ready.Store(true)
		close(e.readyCh)
	})
}

func (e *Enricher) timeOut(ctx context.Context) {
	t := time.NewTimer(e.cfg.SyncTimeout)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return
	case <-e.readyCh:
		return
	case <-t.C:
	}
	if missing := e.store.missing(); missing != nil {
		e.log.WithError(missing).WithField("after", e.cfg.SyncTimeout.String()).
			Warn("not all of the cluster is known yet: records are written without the names that are missing")
	}
	e.setReady()
}

func (e *Enricher) sweep(ctx context.Context) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			e.store.expire()
		}
	}
}

// Ready returns nil once the first sync is complete or has been waited for long
// enough, and until then what is missing.
func (e *Enricher) Ready() error {
	if e.ready.Load() {
		return nil
	}
	if err := e.store.missing(); err != nil {
		return err
	}
	return errors.New("not started")
}

// WaitSynced waits for what makes Ready return nil, or for the end of ctx,
// whose error it returns.
func (e *Enricher) WaitSynced(ctx context.Context) error {
	select {
	case <-e.readyCh:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reload reads a snapshot again. If that fails, what was read before stays in
// use. A cluster needs no reloading.
func (e *Enricher) Reload(context.Context) error { return e.source.reload(e.store) }

// Lookup says who owned addr over the time [from, to], in Unix nanoseconds. It
// neither locks nor allocates. IPv4-mapped IPv6 addresses must be unmapped.
func (e *Enricher) Lookup(addr netip.Addr, from, to int64) flow.End {
	end, _ := e.store.index.lookup(addr, from, to, 0)
	return end
}
