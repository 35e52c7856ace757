// Package collector receives NetFlow v5, v9, IPFIX and sFlow v5, from UDP
// sockets or from packet captures, and decodes it with goflow2 into records.
//
// The wire is taken for hostile: goflow2's decoders run behind guards that
// check every count against the bytes that remain, each set of a datagram is
// decoded by itself, and whatever an exporter makes us remember is bounded.
package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Config says where to listen and what to bound.
type Config struct {
	Listeners []Listener
	// MaxExporters bounds how many exporters are remembered; 0 is 4096. The one
	// not heard from for longest makes room.
	MaxExporters int
	// TemplatesFile is where templates and sampling rates are kept across
	// restarts; empty for nowhere.
	TemplatesFile string
	// TemplatesHold is how long data sets wait for their template; 0 for not at all.
	TemplatesHold time.Duration
	// Allow lists who may export to us; empty for everyone.
	Allow []netip.Prefix
	// Sampling gives a sampling rate to exporters that send none. The longest
	// prefix that holds the exporter counts.
	Sampling []SamplingRule
	// DrainTimeout bounds how long Run reads what reached the sockets before it
	// was told to stop; 0 is 5 s.
	DrainTimeout time.Duration
}

// SamplingRule gives the exporters of a network a sampling rate.
type SamplingRule struct {
	Exporters netip.Prefix
	Rate      uint64 // one in how many packets
}

// policy is what the configuration says of exporters by their address.
type policy struct {
	allow    []netip.Prefix
	sampling []SamplingRule // longest prefix first
}

func newPolicy(cfg *Config) *policy {
	p := &policy{allow: cfg.Allow, sampling: slices.Clone(cfg.Sampling)}
	slices.SortStableFunc(p.sampling, func(a, b SamplingRule) int { return b.Exporters.Bits() - a.Exporters.Bits() })
	return p
}

func (p *policy) allows(a netip.Addr) bool {
	return len(p.allow) == 0 || slices.ContainsFunc(p.allow, func(n netip.Prefix) bool { return n.Contains(a) })
}

func (p *policy) samplingRate(a netip.Addr) uint64 {
	for _, r := range p.sampling {
		if r.Exporters.Contains(a) {
			return r.Rate
		}
	}
	return 0
}

// Collector receives and decodes.
type Collector struct {
	cfg        Config
	newHandler func(worker int) flow.Handler
	log        logrus.FieldLogger
	exporters  *exporters
	faults     *faultLog
	policy     *policy
	own        *workerMetrics // of what no worker does
	opened     bool

	bound  atomic.Bool
	failed atomic.Int32                  // sockets
	inputs map[string]prometheus.Counter // by format; exported with the other counters

	mu      sync.Mutex
	workers []*workerMetrics
	sockets []*socket
}

// inputFormats are the values of the label protocol for records that were read
// from standard input rather than decoded from datagrams.
var inputFormats = []string{"json", "protobuf"}

// New makes a collector. newHandler is called once for each worker, from Run or
// ReadCapture; the handler is then called by that worker only. Metrics are
// registered with reg.
func New(cfg Config, newHandler func(worker int) flow.Handler, log logrus.FieldLogger, reg prometheus.Registerer) (*Collector, error) {
	if cfg.MaxExporters == 0 {
		cfg.MaxExporters = defaultMaxExporters
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 5 * time.Second
	}
	c := &Collector{
		cfg:        cfg,
		newHandler: newHandler,
		log:        log,
		faults:     &faultLog{log: log},
		policy:     newPolicy(&cfg),
		own:        new(workerMetrics),
		inputs:     make(map[string]prometheus.Counter),
	}
	c.exporters = newExporters(cfg.MaxExporters, cfg.TemplatesHold, c.own)
	c.workers = []*workerMetrics{c.own}
	for _, f := range inputFormats {
		c.inputs[f] = prometheus.NewCounter(prometheus.CounterOpts{Name: "records"})
	}
	if err := reg.Register(newMetrics(c)); err != nil {
		return nil, fmt.Errorf("register the collector's metrics: %w", err)
	}
	return c, nil
}

// InputCounter returns the counter of records that are read from standard input
// in the given format, json or protobuf: records_received_total of that protocol.
func (c *Collector) InputCounter(format string) prometheus.Counter { return c.inputs[format] }

// Ready returns nil when all sockets are bound, else what is missing.
func (c *Collector) Ready() error {
	if !c.bound.Load() {
		return errors.New("sockets are not bound")
	}
	if n := c.failed.Load(); n > 0 {
		return fmt.Errorf("%d sockets were given up", n)
	}
	return nil
}

// NewDecoder makes a decoder that hands records to h. It is for one goroutine.
// Its counts are part of the collector's metrics.
func (c *Collector) NewDecoder(h flow.Handler) *Decoder {
	m := new(workerMetrics)
	c.mu.Lock()
	c.workers = append(c.workers, m)
	c.mu.Unlock()
	return &Decoder{
		exporters: c.exporters,
		metrics:   m,
		faults:    c.faults,
		policy:    c.policy,
		handler:   h,
		peers:     make(map[netip.AddrPort]*peer),
		plans:     make(map[string]*plan),
	}
}

func (c *Collector) allMetrics() []*workerMetrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.workers)
}

// Open binds the sockets, so that what arrives from then on is received by Run.
// It is called at most once.
func (c *Collector) Open(ctx context.Context) error {
	c.opened = true
	for _, l := range c.cfg.Listeners {
		group, err := listen(ctx, l, c.log)
		c.mu.Lock()
		c.sockets = append(c.sockets, group...)
		c.mu.Unlock()
		if err != nil {
			c.closeSockets()
			return err
		}
	}
	return nil
}

func (c *Collector) closeSockets() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		c.own.drops[dropKernel].Add(s.finalDrops())
		s.close()
	}
	c.sockets = nil
}

// countKernelDrops brings the count of datagrams that the kernel dropped up to
// date.
func (c *Collector) countKernelDrops() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		c.own.drops[dropKernel].Add(s.kernelDrops())
	}
}

// Run receives until ctx ends, on the sockets that Open bound. It then refuses
// new datagrams, reads what had reached the sockets, and returns when the
// workers have handed on all of it.
func (c *Collector) Run(ctx context.Context) error {
	if !c.opened {
		if err := c.Open(ctx); err != nil {
			return err
		}
	}
	defer c.closeSockets()
	c.mu.Lock()
	sockets := slices.Clone(c.sockets)
	c.mu.Unlock()
	templates := c.restoreTemplates()
	c.bound.Store(true)
	defer c.bound.Store(false)
	var wg, house sync.WaitGroup
	drained := make(chan struct{})
	house.Go(func() { c.keepHouse(templates, drained) })
	for i, s := range sockets {
		d := c.NewDecoder(c.newHandler(i))
		wg.Go(func() { c.work(s, d) })
	}
	stop := context.AfterFunc(ctx, func() {
		deadline := time.Now().Add(c.cfg.DrainTimeout)
		for _, s := range sockets {
			c.own.drops[dropKernel].Add(s.finalDrops())
			s.stop(deadline)
		}
	})
	wg.Wait()
	close(drained)
	house.Wait()
	stop()
	if ctx.Err() == nil {
		return errors.New("receive: all sockets failed")
	}
	return nil
}

// work receives and decodes on one socket until it is stopped and drained.
func (c *Collector) work(s *socket, d *Decoder) {
	pace := newPacer(s.bufferSize)
	for {
		n, err := s.receive()
		now := time.Now().UnixNano()
		for i := range n {
			b, source, truncated := s.datagram(i)
			if truncated {
				d.metrics.received(protoUnknown, len(b))
				d.received = now
				d.drop(dropTruncated, source, b)
				continue
			}
			d.Datagram(source, s.protocols, b, now)
		}
		switch {
		case errors.Is(err, errDrained):
			d.tick(now, true)
			d.handler.Idle()
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.wakeAfter(d.idle(now))
		case err != nil:
			c.failed.Add(1)
			c.log.WithError(err).WithField("address", s.address).Error("receiving failed; this socket is given up")
			d.handler.Idle()
			return
		case n < batchSize:
			s.wakeAfter(d.idle(now))
			if nap := pace.nap(n, now); nap > 0 {
				s.nap(nap)
			}
		default:
			pace.nap(n, now) // more is waiting; takes note of the rate
		}
	}
}

// idle does what waits for a pause, and tells whether to be called again soon.
func (d *Decoder) idle(now int64) (pending bool) {
	pending = d.tick(now, false)
	return d.handler.Idle() || pending
}

// Datagram decodes one datagram that arrived from source at the given time (Unix
// nanoseconds), and calls the handler for each of its records. b is not kept. A
// panic costs this datagram only.
func (d *Decoder) Datagram(source netip.AddrPort, allowed Protocols, b []byte, received int64) {
	defer func() {
		if r := recover(); r != nil {
			d.panicked(r, b)
			d.metrics.drop(dropPanic)
			delete(d.peers, source)
		}
	}()
	d.datagram(source, allowed, b, received)
}

// panicked logs a panic and what caused it.
func (d *Decoder) panicked(r any, b []byte) {
	d.faults.log.WithFields(logrus.Fields{"panic": fmt.Sprint(r), "stack": string(debug.Stack())}).Debug("decoding panicked")
	var source netip.AddrPort
	if d.peer != nil {
		source = d.peer.source
	}
	d.faults.report(dropPanic, source, b, d.received)
}

// WriteTemplates writes the known templates in the form of goflow2's /templates:
// a JSON object by exporter, then by goflow2's template key.
func (c *Collector) WriteTemplates(w io.Writer) error {
	all := make(map[string]netflow.FlowBaseTemplateSet)
	for _, e := range c.exporters.all() {
		e.mu.Lock()
		for k, l := range e.templates {
			source := netip.AddrPortFrom(e.addr, l.port).String()
			if all[source] == nil {
				all[source] = make(netflow.FlowBaseTemplateSet)
			}
			key := uint64(k.version)<<48 | uint64(k.domain)<<16 | uint64(k.id)
			all[source][key] = l.goflow2()
		}
		e.mu.Unlock()
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("write templates: %w", err)
	}
	return nil
}

// exporterInfo is what /exporters tells of one exporter.
type exporterInfo struct {
	Exporter     netip.Addr `json:"exporter"`
	LastSeen     time.Time  `json:"lastSeen"`
	Templates    int        `json:"templates"`
	SetsHeld     int64      `json:"setsHeld"`     // data sets that wait for a template
	SequenceLost uint64     `json:"sequenceLost"` // records or datagrams, as its protocol counts
}

// WriteExporters writes the known exporters as a JSON array, the one that lost
// most first.
func (c *Collector) WriteExporters(w io.Writer) error {
	infos := []exporterInfo{}
	for _, e := range c.exporters.all() {
		e.mu.Lock()
		templates := len(e.templates)
		e.mu.Unlock()
		infos = append(infos, exporterInfo{e.addr, time.UnixMilli(e.lastSeen.Load()).UTC(), templates, e.numHeld.Load(), e.sequenceLost.Load()})
	}
	slices.SortFunc(infos, func(a, b exporterInfo) int {
		return cmp.Or(cmp.Compare(b.SequenceLost, a.SequenceLost), a.Exporter.Compare(b.Exporter))
	})
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(infos); err != nil {
		return fmt.Errorf("write exporters: %w", err)
	}
	return nil
}

// goflow2 returns the template in the type that goflow2 keeps it in.
func (t *template) goflow2() any {
	scopes, options := t.fields[:t.scopes], t.fields[t.scopes:]
	switch {
	case !t.options:
		return netflow.TemplateRecord{TemplateId: t.key.id, FieldCount: uint16(len(t.fields)), Fields: t.fields}
	case t.key.version == 9:
		return netflow.NFv9OptionsTemplateRecord{
			TemplateId: t.key.id, ScopeLength: uint16(4 * len(scopes)), OptionLength: uint16(4 * len(options)),
			Scopes: scopes, Options: options,
		}
	default:
		return netflow.IPFIXOptionsTemplateRecord{
			TemplateId: t.key.id, FieldCount: uint16(len(t.fields)), ScopeFieldCount: uint16(len(scopes)),
			Scopes: scopes, Options: options,
		}
	}
}
