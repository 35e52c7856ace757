// Package policy says what OVN decided about sampled packets, and by which policy.
//
// Where OVN samples its ACLs or its drops into IPFIX, a record has the application and the
// datapath in its observation domain, and a number in its observation point. The northbound
// database says which ACL the number is of, and OVN-Kubernetes writes on each ACL which
// policy it is of. Numbers change hands, so they are looked up by the time of the flow.
package policy

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// Config has the settings of [Policies].
type Config struct {
	// Northbound and Southbound say where the databases are: remotes, separated by commas, or
	// a file; empty for none. A file may have the tables of both.
	Northbound, Southbound string
	Keys                   ovsdb.Keys
	// MaxSeries is the largest number of series of each metric; 0 for no such metrics.
	MaxSeries int
}

// Policies knows the ACLs. Any number of goroutines may use it.
type Policies struct {
	cfg Config
	log logrus.FieldLogger

	numbers numbers
	apps    atomic.Pointer[[256]role]
	metrics *metrics
	warned  ratelog.Set

	mu    sync.Mutex // guards what follows; no worker takes it
	db    *database
	right map[string]int64 // until when each source is known to have been as db has it

	ready chan struct{} // closed once all databases have been read
}

// source is a database that is read, by the flag that names it.
type source struct {
	flag     string
	side     int
	from     string
	database string
	tables   []ovsdb.Table
}

// sources returns the databases that are read.
func (p *Policies) sources() (all []source) {
	if p.cfg.Northbound != "" {
		all = append(all, source{"-ovn.nb", sideNorth, p.cfg.Northbound, "OVN_Northbound", northbound()})
	}
	if p.cfg.Southbound != "" {
		all = append(all, source{"-ovn.sb", sideSouth, p.cfg.Southbound, "OVN_Southbound", southbound()})
	}
	return all
}

// New makes Policies and registers its metrics. It reads and connects to nothing.
func New(cfg Config, log logrus.FieldLogger, reg prometheus.Registerer) (*Policies, error) {
	p := &Policies{cfg: cfg, log: log, right: make(map[string]int64), ready: make(chan struct{})}
	p.db = newDatabase(&p.numbers)
	p.apps.Store(new(p.db.applications()))
	p.metrics = newMetrics(p)
	for _, s := range p.sources() {
		if ovsdb.IsRemote(s.from) {
			p.metrics.connected(s.database, false)
			p.metrics.failures.WithLabelValues(s.database)
		}
	}
	if err := reg.Register(p.metrics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return p, nil
}

// Load reads those databases that are files. It is called again to read them anew; a file
// that is wrong leaves what is known then. The error names the flag.
func (p *Policies) Load() error {
	var errs []error
	for _, s := range p.sources() {
		if ovsdb.IsRemote(s.from) {
			continue
		}
		// Whichever flag names it, a file may have the tables of both.
		s.tables = append(northbound(), southbound()...)
		if _, err := ovsdb.ReadFile(s.from, s.tables, newView(p, s)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.flag, err))
		}
	}
	return inOneLine(errs)
}

// inOneLine joins errors in a line.
func inOneLine(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	err := errs[0]
	for _, e := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, e)
	}
	return err
}

// Run follows those databases that are not files, until ctx ends.
func (p *Policies) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range p.sources() {
		if !ovsdb.IsRemote(s.from) {
			continue
		}
		wg.Go(func() { p.follow(ctx, s) })
	}
	wg.Wait()
	return nil
}

// WaitReady waits until all databases have been read once, for as long as wait at most.
func (p *Policies) WaitReady(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case <-p.ready:
	case <-ctx.Done():
	}
}

// Fields returns what is read of a record.
func Fields() []flow.FieldID {
	return []flow.FieldID{flow.FieldObservationDomainID, flow.FieldObservationPointID, flow.FieldSamplingRate}
}

func (p *Policies) follow(ctx context.Context, s source) {
	log := p.log.WithField("database", s.database)
	remotes, err := ovsdb.ParseRemotes(s.from)
	if err != nil { // it was checked before
		log.Error(err)
		return
	}
	ovsdb.New(ovsdb.Config{
		Remotes: remotes, Keys: p.cfg.Keys, Database: s.database, Tables: s.tables,
		Failed: func(err error, wait time.Duration) {
			p.metrics.connected(s.database, false)
			p.metrics.failures.WithLabelValues(s.database).Inc()
			if log := p.warned.Logger(log, s.database); log != nil {
				log.Warnf("%s: cannot read OVN's database; verdicts are those that are known already; trying again in %v: %v", s.flag, wait.Round(time.Second), err)
			}
		},
		Ready: func(remote ovsdb.Remote) {
			p.metrics.connected(s.database, true)
			log.WithField("remote", remote.String()).Infof("read OVN's database: %d ACLs", p.acls())
		},
		Malformed: func(err error) {
			if log := p.warned.Logger(log, "malformed "+s.database); log != nil {
				log.Warnf("%s: row left out: %v", s.flag, err)
			}
		},
	}).Run(ctx, newView(p, s))
}

// view takes the rows of one source.
type view struct {
	p      *Policies
	source source
	side   *side
	whole  bool // a whole view has begun, and not ended
}

func newView(p *Policies, s source) *view { return &view{p: p, source: s, side: p.db.sides[s.side]} }

// Begin implements [ovsdb.Receiver].
func (v *view) Begin() {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	v.side.begin()
	v.whole = true
}

// Change implements [ovsdb.Receiver].
func (v *view) Change(table string, id ovsdb.UUID, op ovsdb.Op, row ovsdb.Row) error {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	return v.side.change(table, id, op, row)
}

// End implements [ovsdb.Receiver].
func (v *view) End() {
	p := v.p
	now := time.Now().UnixNano()
	p.mu.Lock()
	defer p.mu.Unlock()
	change := period{now, now}
	right, again := p.right[v.source.flag]
	if v.whole {
		v.side.sweep(v.source.tables)
		change.since = -forever // what is there at first has been there for long, for all we know
		if again {
			change.since = right
		}
		v.whole = false
	}
	v.side.settle(change)
	p.right[v.source.flag] = now
	if !again && len(p.right) == len(p.sources()) {
		close(p.ready)
	}
	p.apps.Store(new(p.db.applications()))
}

// Lost implements [ovsdb.Receiver]. What changes from here to the next whole view changes at
// a time that nobody knows.
func (v *view) Lost(right time.Time) {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	v.p.right[v.source.flag] = right.UnixNano()
}
