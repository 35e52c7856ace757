// Package collector receives NetFlow v1, v5, v7, v9, IPFIX and sFlow v5, from UDP
// sockets or from packet captures, and decodes it with goflow2 into records.
//
// Whatever comes from the wire may be hostile. Guards check every count against the
// bytes that remain before goflow2's decoders run, each set of a datagram is
// decoded by itself, and whatever an exporter makes us remember is bounded.
//
// A datagram passes worker.go, decoder.go, the file of its protocol and, for
// NetFlow v9 and IPFIX, record_decoder.go, before emit.go hands its records to the
// worker's flow.Handler.
package collector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector/udp"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Config says where to listen and what to bound.
type Config struct {
	Listeners []Listener
	// TemplatesFile is where templates and sampling rates are kept across
	// restarts; empty for nowhere.
	TemplatesFile string
	// TemplatesHold is how long data sets wait for their template. If it is 0, a data
	// set without template is dropped at once.
	TemplatesHold time.Duration
	// TemplatesHoldSize bounds the data sets of one exporter that wait, in bytes; 0 is
	// DefaultHoldExporter.
	TemplatesHoldSize int64
	// Allow lists the networks that exporters may send from; empty for all.
	Allow []netip.Prefix
	// Sampling gives a sampling rate to exporters that send none. The longest
	// prefix that contains the exporter counts.
	Sampling []SamplingRule
	// Fields are the fields that somebody reads of the records. Only for these, names
	// in options data are kept and looked up.
	Fields flow.FieldSet
	// Elements are further elements that become fields of records.
	Elements []flow.ExtraElement
	// DrainTimeout bounds how long Run, after its context has ended, reads what had
	// reached the sockets; 0 is 5 s.
	DrainTimeout time.Duration
}

// SamplingRule gives the exporters of a network a sampling rate.
type SamplingRule struct {
	Exporters netip.Prefix
	Rate      uint64 // one in how many packets
}

// policy is what the configuration says about exporters, by their address.
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

// Collector receives datagrams and decodes them. Open and Run are called by one
// goroutine; other methods may be called by any.
type Collector struct {
	cfg        Config
	newHandler func(worker int) flow.Handler
	log        logrus.FieldLogger
	exporters  *exporters
	errors     *errorLog
	policy     *policy
	elements   *userElements
	own        *workerMetrics // of what no worker counts
	opened     bool

	bound  atomic.Bool
	failed atomic.Int32 // sockets
	// passedOver counts what captures have that could not be read.
	passedOver [numPassedOver]atomic.Uint64
	inputs     map[string]prometheus.Counter // by format; exported with the other counters

	mu      sync.Mutex
	workers []*workerMetrics
	sockets []*socket
}

// inputFormats are the values of the label protocol for records that were read
// from standard input rather than decoded from datagrams.
var inputFormats = []string{"json", "protobuf"}

// New makes a collector. newHandler is called once for each worker, from Run; the
// handler is then called by that worker only. Metrics are registered with reg.
func New(cfg Config, newHandler func(worker int) flow.Handler, log logrus.FieldLogger, reg prometheus.Registerer) (*Collector, error) {
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 5 * time.Second
	}
	c := &Collector{
		cfg:        cfg,
		newHandler: newHandler,
		log:        log,
		errors:     &errorLog{log: log},
		policy:     newPolicy(&cfg),
		elements:   newUserElements(cfg.Elements),
		own:        new(workerMetrics),
		inputs:     make(map[string]prometheus.Counter),
	}
	c.exporters = newExporters(cfg.TemplatesHold, c.own)
	if cfg.TemplatesHoldSize > 0 {
		c.exporters.holdExporter = cfg.TemplatesHoldSize
	}
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

// Ready returns nil if all sockets are bound and none has failed, else an error that
// says what is missing. Any goroutine may call it.
func (c *Collector) Ready() error {
	if !c.bound.Load() {
		return errors.New("sockets are not bound")
	}
	if n := c.failed.Load(); n > 0 {
		return fmt.Errorf("%d sockets were given up", n)
	}
	return nil
}

// NewDecoder makes a decoder that hands records to h. One goroutine uses it. Its
// counts are part of the collector's metrics.
func (c *Collector) NewDecoder(h flow.Handler) *Decoder {
	m := new(workerMetrics)
	c.mu.Lock()
	c.workers = append(c.workers, m)
	c.mu.Unlock()
	return &Decoder{
		exporters:      c.exporters,
		metrics:        m,
		errors:         c.errors,
		policy:         c.policy,
		handler:        h,
		wantedNames:    wantedNames(&c.cfg.Fields),
		elements:       c.elements,
		peers:          make(map[netip.AddrPort]*peer),
		recordDecoders: make(map[string]*recordDecoder),
		spareWork:      maxSpare,
		peersBudget:    peersBudget,
		decodersBudget: decodersBudget,
	}
}

func (c *Collector) allMetrics() []*workerMetrics {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.workers)
}

// socket is a UDP socket of a listener, with the bound port and the granted buffer.
type socket struct {
	*udp.Socket
	listener Listener
}

// Open binds the sockets, so that what arrives from then on is received by Run.
// It is called at most once.
func (c *Collector) Open(ctx context.Context) error {
	c.opened = true
	for _, l := range c.cfg.Listeners {
		group, err := udp.Listen(ctx, udp.Config{Address: l.String(), Sockets: l.Sockets, ReceiveBuffer: l.ReceiveBuffer}, c.log)
		c.mu.Lock()
		for _, s := range group {
			bound := l
			bound.Port, bound.ReceiveBuffer = s.Port(), s.ReceiveBuffer()
			c.sockets = append(c.sockets, &socket{s, bound})
		}
		c.mu.Unlock()
		if err != nil {
			c.closeSockets()
			return fmt.Errorf("listen on udp %s (-listen): %w", l, err)
		}
	}
	return nil
}

// Bound returns the listeners that Open bound, with the port that the kernel chose
// where the configured one is 0, the number of sockets that are open, and the bytes
// that the kernel granted to the buffer of each (0 where that is not known). It
// returns nothing before Open and after Run. Any goroutine may call it.
func (c *Collector) Bound() []Listener {
	c.mu.Lock()
	defer c.mu.Unlock()
	var bound []Listener
	for _, s := range c.sockets {
		if n := len(bound); n > 0 && bound[n-1].String() == s.listener.String() {
			bound[n-1].Sockets++
			continue
		}
		l := s.listener
		l.Sockets = 1
		bound = append(bound, l)
	}
	return bound
}

// giveUp closes a socket that has failed, so that the kernel gives its share of the
// datagrams to the other sockets of the address.
func (c *Collector) giveUp(s *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed.Add(1)
	c.own.drops[dropKernel].Add(s.FinalDrops())
	s.Close()
	c.sockets = slices.DeleteFunc(c.sockets, func(o *socket) bool { return o == s })
}

// Close closes the sockets that Open bound. It is for who does not call Run, which does it by
// itself.
func (c *Collector) Close() { c.closeSockets() }

func (c *Collector) closeSockets() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		c.own.drops[dropKernel].Add(s.FinalDrops())
		s.Close()
	}
	c.sockets = nil
}

// countKernelDrops adds the datagrams that the kernel dropped since the last call
// to their counter.
func (c *Collector) countKernelDrops() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets {
		c.own.drops[dropKernel].Add(s.Drops())
	}
}

// Run receives until ctx ends, on the sockets that Open bound. If Open was not
// called, Run calls it. When ctx ends, Run refuses new datagrams, reads what had
// reached the sockets, and returns nil after the workers have handed all of it to
// their handlers. It returns an error if all sockets have failed.
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
	drained := make(chan struct{})
	saved := c.keepTemplates(ctx, drained)
	c.bound.Store(true)
	defer c.bound.Store(false)
	var wg, maintenance sync.WaitGroup
	maintenance.Go(func() { c.runMaintenance(drained) })
	for i, s := range sockets {
		w := &worker{socket: s, decoder: c.NewDecoder(c.newHandler(i)), log: c.log, giveUp: c.giveUp, stopped: ctx.Done()}
		w.decoder.port = s.listener.Port
		wg.Go(w.run)
	}
	stop := context.AfterFunc(ctx, func() {
		deadline := time.Now().Add(c.cfg.DrainTimeout)
		for _, s := range sockets {
			c.own.drops[dropKernel].Add(s.FinalDrops())
			s.Stop(deadline)
		}
	})
	wg.Wait()
	close(drained)
	maintenance.Wait()
	c.awaitTemplates(saved)
	stop()
	if ctx.Err() == nil {
		return errors.New("receive: all sockets failed")
	}
	return nil
}
