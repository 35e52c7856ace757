// Package enrich names the Kubernetes objects behind the addresses of flow records.
//
// A [Source], which is a [Cluster] or a [Snapshot], feeds a store of objects (store.go). The store
// derives an index of addresses by time (index.go, timeline.go). A [Stage] for each worker looks up
// there who owned an address when the flow ran; it takes no lock and does not allocate. Where
// several networks have an address, the record decides (decide.go). What is known of the watches,
// and so of interruptions, is in watchstate.go.
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

// Config configures an [Enricher].
type Config struct {
	// Mapping lists the address fields that are looked up, at most [flow.MaxEnds]. Their owners are
	// put into Record.Ends in its order.
	Mapping []flow.MapEntry
	// SyncTimeout is how long records wait for the first full sync. With 0 they do not wait.
	SyncTimeout time.Duration
	// Retain is how long a pod that has ended is still named for flows of its time; 20 minutes if
	// 0.
	Retain time.Duration
	// Wait is how long a record waits for a pod that the cluster has not announced yet. It waits if
	// one of its addresses is in a pod range of the cluster and no pod is known to have owned it
	// when the flow ran, or if the address may have passed on by then. With 0 no record waits, nor
	// does any with a source that does not change by itself.
	Wait time.Duration
	// Unheld is for input that can wait. Records are never held: the caller waits by WaitSynced
	// instead.
	Unheld bool
	// KeepEnded is for input of the past, such as captures. Pods that have ended do not expire.
	KeepEnded bool
	// JoinSubnets are those in which the gateway routers of OVN-Kubernetes have their addresses. The
	// annotation k8s.ovn.org/node-id of a Node is the host part.
	JoinSubnets []netip.Prefix
	// Owners are the resources whose objects may be root owners, however many are in between.
	Owners *Owners
	// HoldBytes bounds the memory of the records that all stages together hold; 64 MiB if 0.
	HoldBytes int64
}

// Source is where Kubernetes objects come from: a [Cluster] or a [Snapshot]. A source feeds one
// Enricher.
type Source interface {
	// run feeds the store until ctx ends.
	run(ctx context.Context, st *store)
	// reload reads everything again, if the source changes only then. On an error the store is as
	// before.
	reload(st *store) error
	// fixed reports whether the source changes only when it is reloaded. All that it holds is of
	// interest then, however long ago it ended.
	fixed() bool
}

// Enricher knows who owns which address, and when. Its methods may be called from any goroutine at
// any time.
type Enricher struct {
	cfg     Config
	source  Source
	log     logrus.FieldLogger
	store   *store
	metrics *metrics

	ready     atomic.Bool   // the first sync is complete, or took too long
	readyCh   chan struct{} // closed when ready becomes true
	settledCh chan struct{} // closed when the first lists took no more memory
	readyOnce sync.Once
	room      atomic.Int64 // bytes that stages may still hold
}

// New returns an Enricher, which does nothing until Run. It registers the metrics that begin with
// kube_enricher_lookups_, kube_enricher_kube_ and kube_enricher_records_held with reg. An error is
// one of the mapping, or of metrics that reg has already.
func New(cfg Config, source Source, log logrus.FieldLogger, reg prometheus.Registerer) (*Enricher, error) {
	if len(cfg.Mapping) > flow.MaxEnds {
		return nil, errors.New("too many entries in the mapping")
	}
	if cfg.Retain <= 0 {
		cfg.Retain = defaultRetain
	}
	if cfg.Unheld || source.fixed() {
		cfg.Wait = 0
	}
	if cfg.HoldBytes <= 0 {
		cfg.HoldBytes = defaultHold
	}
	e := &Enricher{cfg: cfg, source: source, log: log, readyCh: make(chan struct{}), settledCh: make(chan struct{})}
	e.room.Store(cfg.HoldBytes)
	e.metrics = newMetrics(e)
	e.store = newStore(cfg.Retain, cfg.KeepEnded || source.fixed(), source.fixed(), log, e.metrics)
	e.store.onSync, e.store.joinSubnets = e.setReady, cfg.JoinSubnets
	e.store.chains = newChains(cfg.Owners)
	if err := e.metrics.register(reg); err != nil {
		return nil, err
	}
	return e, nil
}

// Run feeds the index until ctx ends. Call it once. It always returns nil: a cluster that cannot be
// reached may come back. Ready and Stale report on it meanwhile.
func (e *Enricher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	if !e.source.fixed() { // a snapshot is there at once
		wg.Go(func() { e.timeOut(ctx) })
		wg.Go(func() {
			if e.WaitSynced(ctx) == nil {
				e.store.freeGarbage()
				close(e.settledCh)
			}
		})
	}
	if !e.cfg.KeepEnded {
		wg.Go(func() { e.sweep(ctx) })
	}
	e.source.run(ctx, e.store)
	cancel()
	return nil
}

// setReady ends the wait for the first sync.
func (e *Enricher) setReady() {
	e.readyOnce.Do(func() {
		e.ready.Store(true)
		close(e.readyCh)
	})
}

// timeOut ends the wait for the first sync after Config.SyncTimeout.
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

// sweep drops what has expired, every sweepEvery.
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

// Ready returns nil once the first sync is complete or has taken longer than Config.SyncTimeout.
// Until then its error says which kinds are missing and why.
func (e *Enricher) Ready() error {
	if e.ready.Load() {
		return nil
	}
	if err := e.store.missing(); err != nil {
		return err
	}
	return errors.New("not started")
}

// WaitSynced waits until Ready returns nil. If ctx ends before, it returns the error of ctx.
func (e *Enricher) WaitSynced(ctx context.Context) error {
	select {
	case <-e.readyCh:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// WaitSettled waits as WaitSynced does, and until the memory that the first lists took has been given
// back. It returns at once for a snapshot that has been applied.
func (e *Enricher) WaitSettled(ctx context.Context) error {
	err := e.WaitSynced(ctx)
	if err != nil || e.source.fixed() {
		return err
	}
	select {
	case <-e.settledCh:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reload reads a snapshot again. On an error, what was read before stays in use. A cluster is
// always up to date: for it, Reload does nothing.
func (e *Enricher) Reload(context.Context) error {
	return e.source.reload(e.store)
}

// Lookup returns who owned addr over the time [from, to], in Unix nanoseconds; the end has no
// object if nobody is known to have. It neither locks nor allocates. IPv4-mapped IPv6 addresses
// must be unmapped (RFC 4291, section 2.5.5.2).
func (e *Enricher) Lookup(addr netip.Addr, from, to int64) flow.End {
	end, _ := e.store.index.lookup(addr, from, to, 0, 0)
	return end
}
