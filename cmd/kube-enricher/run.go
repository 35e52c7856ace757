package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/collector/pipe"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/hugepages"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// Exit codes of the command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// unblockAfter is how long a stopped capture or pipe may wait for its output
// before that is told to end, too.
const unblockAfter = time.Second

// gcPercent is Go's GOGC, unless that is set. Records allocate nothing, so
// collecting garbage early costs little and keeps what a burst of changes in
// the cluster, or of hostile templates, takes for a moment small.
const gcPercent = 25

const noCluster = "no cluster found: name one with -kubeconfig FILE, give its objects with -kube.snapshot FILE, or run without names with -kube.off"

// run is the program, from its arguments to its exit code.
func run(args, env []string, stdin, stdout, stderr *os.File) int {
	cfg, err := parse(args, env, isPipe(stdin))
	switch {
	case errors.Is(err, flag.ErrHelp):
		if err := printUsage(stdout); err != nil {
			return exitFailed
		}
		return exitDone
	case err != nil:
		return fail(stderr, err)
	case cfg.showVersion:
		program, goflow2, goVersion := versions()
		fmt.Fprintf(stdout, "kube-enricher %s\ngoflow2 %s\n%s\n", program, goflow2, goVersion)
		return exitDone
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	cfg.color = colored(cfg, env, stdout)
	log := newLogger(cfg, stderr)
	a := &app{cfg: cfg, log: log, stdin: stdin, stdout: stdout, reg: prometheus.NewRegistry()}
	if cfg.checkOnly {
		if err := a.check(); err != nil {
			return fail(stderr, err)
		}
		return exitDone
	}
	if err := a.build(); err != nil {
		return fail(stderr, err)
	}
	if err := a.run(); err != nil {
		return fail(stderr, err)
	}
	return exitDone
}

// fail prints the one line that an error ends the program with.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "kube-enricher: %v\n", err)
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newLogger(cfg *config, w io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	log.SetLevel(cfg.logLevel)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	if cfg.logJSON {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	return log
}

// app is the program's parts. They are built inert, then started in the order
// in which records pass them from the end: output, names, HTTP, input.
type app struct {
	cfg           *config
	log           *logrus.Logger
	stdin, stdout *os.File
	reg           *prometheus.Registry

	outputs   []*output
	enricher  *enrich.Enricher // nil with -kube.off
	traffic   *traffic.Counter // nil if traffic is not counted
	collector *collector.Collector

	mu     sync.Mutex
	stages []stage
}

// stage is the first handler of a worker's chain.
type stage interface {
	flow.Handler
	// Drain hands on whatever is held. No record may follow.
	Drain()
}

// passThrough is the stage in place of enrichment.
type passThrough struct{ flow.Handler }

func (p passThrough) Drain() { p.Idle() }

// check is -check: everything is built, nothing started.
func (a *app) check() error {
	err := a.cfg.check(func(file string) error {
		_, err := enrich.LoadSnapshot(file)
		return err
	})
	if err != nil {
		return err
	}
	if c := a.cfg; !c.kubeOff && c.kubeRetain <= c.templatesHold {
		a.log.Warnf("-kube.retain: %v is not longer than -templates.hold %v: data sets that are held that long will find their pods forgotten", c.kubeRetain, c.templatesHold)
	}
	return a.build()
}

func (a *app) build() error {
	a.warnFilter()
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	for _, c := range a.cfg.outputs {
		o, err := a.newOutput(c)
		if err != nil {
			return err
		}
		a.outputs = append(a.outputs, o)
	}
	if !a.cfg.kubeOff {
		source, err := a.source()
		if err != nil {
			return err
		}
		a.enricher, err = enrich.New(enrich.Config{
			Mapping: a.cfg.mapping, SyncTimeout: a.cfg.kubeSyncTimeout, Capture: a.cfg.mode != modeCollect,
			Retain: max(a.cfg.kubeRetain, 1), Wait: a.cfg.kubeWait,
		}, source, a.log, a.reg)
		if err != nil {
			return err
		}
	}
	var err error
	if a.countsTraffic() {
		a.traffic, err = traffic.New(traffic.Config{Mapping: a.cfg.mapping, MaxSeries: a.cfg.metricsWorkloads}, a.reg)
		if err != nil {
			return err
		}
	}
	a.collector, err = collector.New(collector.Config{
		Listeners: a.cfg.listen, Allow: a.cfg.allow, Sampling: a.cfg.sampling,
		TemplatesFile: a.cfg.templatesFile, TemplatesHold: a.cfg.templatesHold, DrainTimeout: a.cfg.drainTimeout / 2,
	}, a.newStage, a.log, a.reg)
	return err
}

// countsTraffic says whether traffic between workloads is counted: somebody can
// see it, and records have names and counters.
func (a *app) countsTraffic() bool {
	return a.cfg.metricsWorkloads > 0 && a.cfg.addr != "" && a.enricher != nil && a.cfg.mode != modeStdin
}

// source is where Kubernetes objects come from.
func (a *app) source() (enrich.Source, error) {
	if a.cfg.kubeSnapshot != "" {
		s, err := enrich.LoadSnapshot(a.cfg.kubeSnapshot, a.labels()...)
		if err != nil {
			return nil, usagef("-kube.snapshot: %v", err)
		}
		return s, nil
	}
	rest, err := enrich.ClusterConfig(a.cfg.kubeconfig)
	if errors.Is(err, enrich.ErrNoCluster) {
		return nil, usagef(noCluster)
	}
	if err != nil && a.cfg.kubeconfig == "" {
		return nil, usagef("%v; %s", err, noCluster)
	}
	if err != nil {
		return nil, usagef("-kubeconfig: %v", err)
	}
	enrich.RouteKlog(a.log) // client-go's own messages
	return enrich.NewCluster(rest, a.log, a.labels()...)
}

// labels names the labels of pods that are copied.
func (a *app) labels() []string {
	var names []string
	for _, l := range a.cfg.kubeLabels {
		names = append(names, l.Name)
	}
	return names
}

// newStage makes a worker's chain of handlers.
func (a *app) newStage(int) flow.Handler {
	w := a.newWriter()
	var next flow.Handler = w
	if a.cfg.filter != nil {
		next = a.cfg.filter.NewStage(w)
	}
	var s stage = passThrough{next}
	switch {
	case a.traffic != nil: // counts what is not written, too
		s = a.enricher.NewStage(a.traffic.NewStage(next))
	case a.enricher != nil:
		s = a.enricher.NewStage(next)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stages = append(a.stages, s)
	return s
}

// part is a running part of the program: started with its own context, so that
// parts can be stopped one after another.
type part struct {
	cancel context.CancelFunc
	done   chan error
}

func start(f func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{cancel, make(chan error, 1)}
	go func() { p.done <- f(ctx) }()
	return p
}

// wait waits until the part ends by itself or ctx does.
func (p *part) wait(ctx context.Context) {
	select {
	case err := <-p.done:
		p.done <- err
	case <-ctx.Done():
	}
}

// stop ends the part and returns its error.
func (p *part) stop() error {
	p.cancel()
	err := <-p.done
	p.done <- err
	return err
}

func (a *app) run() (err error) {
	// A closed standard output is an error of write(2), not a reason to die.
	signal.Ignore(syscall.SIGPIPE)
	input, cancelInput := context.WithCancelCause(context.Background())
	defer cancelInput(nil)
	stopSignals := a.handleSignals(cancelInput)
	defer stopSignals()

	if err := a.openOutputs(); err != nil {
		return err
	}
	http, err := a.listenHTTP()
	if err != nil {
		return err
	}
	if a.cfg.mode == modeCollect {
		if err := a.collector.Open(input); err != nil {
			http.close()
			return err
		}
	}
	server := start(http.serve)
	defer func() { err = errors.Join(err, server.stop()) }() // last, so that the drain can be scraped

	outputs := a.startOutputs(cancelInput)
	var names *part
	if a.enricher != nil {
		names = start(a.enricher.Run)
	}
	huge := start(func(ctx context.Context) error {
		if a.enricher != nil && a.cfg.mode == modeCollect && a.enricher.WaitSynced(ctx) == nil {
			hugepages.Use(ctx, func(int64, error) {})
		}
		return nil
	})
	defer func() { _ = huge.stop() }()
	if a.cfg.mode != modeCollect {
		// The input waits for the outputs here. A stalled one must not keep a
		// signal from ending it.
		unblock := context.AfterFunc(input, func() { time.AfterFunc(unblockAfter, outputs.cancel) })
		defer unblock()
	}
	inputErr := a.runInput(input)

	http.stopping()
	a.drain()
	if a.cfg.mode != modeCollect && input.Err() == nil {
		outputs.finish(input) // takes as long as the readers do, unless a signal comes
	}
	outputErr := outputs.stop()
	var namesErr error
	if names != nil {
		namesErr = names.stop()
	}
	if errors.Is(outputErr, transport.ErrClosed) {
		a.summary(logrus.DebugLevel)
		return nil // the reader has what it wanted
	}
	a.summary(logrus.InfoLevel)
	return errors.Join(inputErr, outputErr, namesErr)
}

// runInput reads what the mode says until it ends, or ctx does.
func (a *app) runInput(ctx context.Context) error {
	if a.cfg.mode == modeCollect {
		return a.collector.Run(ctx)
	}
	if a.enricher != nil {
		// Nothing arrives in real time here, so names are worth waiting for.
		if err := a.enricher.WaitSynced(ctx); err != nil {
			return nil //nolint:nilerr // stopped while waiting
		}
	}
	if a.cfg.mode == modeStdin {
		if a.cfg.stdinImplied {
			a.log.Info("standard input is a pipe: reading goflow2's output from it; give -listen to collect on UDP instead")
		}
		var refuse error
		if !a.cfg.onlyAs(formatJSON) {
			refuse = errNotFromJSON
		} else if err := filterNotFromJSON(a.cfg.filter); err != nil {
			refuse = usagef("-filter: %v", err)
		}
		r, err := pipe.New(pipe.Config{
			Input: a.cfg.input, Mapping: a.cfg.mapping, Labels: a.cfg.kubeLabels, RefuseJSON: refuse,
			Fields: a.cfg.filter.Fields(), Attrs: a.cfg.filter.Attrs(), Extra: !a.cfg.writesAs(formatProtobuf),
			ReceivedJSON: a.collector.InputCounter("json"), ReceivedProtobuf: a.collector.InputCounter("protobuf"),
		}, a.stdin, a.newStage(0), a.log, a.reg)
		if err != nil {
			return err
		}
		return r.Run(ctx)
	}
	stage := a.newStage(0)
	var errs []error
	for _, f := range a.cfg.files {
		errs = append(errs, a.collector.ReadCapture(ctx, f, stage))
	}
	return errors.Join(errs...)
}

// drain hands on what the stages hold. The workers have ended.
func (a *app) drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.stages {
		s.Drain()
	}
}

// handleSignals ends the input at the first SIGINT or SIGTERM and the program
// at the second, and reopens and reloads files at SIGHUP.
func (a *app) handleSignals(cancelInput context.CancelCauseFunc) (stop func()) {
	signals := make(chan os.Signal, 4)
	reload := make(chan struct{}, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		stopping := false
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				switch {
				case s == syscall.SIGHUP:
					for _, o := range a.outputs {
						o.Reopen()
					}
					select {
					case reload <- struct{}{}:
					default: // one is waiting to be read, and will read what is new
					}
				case stopping:
					a.log.Warn("second signal: ending at once")
					os.Exit(exitFailed)
				default:
					stopping = true
					a.log.WithField("signal", s.String()).Info("stopping: writing out what was received; a second signal ends at once")
					cancelInput(nil)
				}
			}
		}
	})
	// Reading a large snapshot takes time, in which other signals are heard.
	go func() {
		for {
			select {
			case <-done:
				return
			case <-reload:
				a.reload()
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		wg.Wait()
	}
}

// reload reads the snapshot again, if there is one.
func (a *app) reload() {
	if a.enricher != nil && a.cfg.kubeSnapshot != "" {
		if err := a.enricher.Reload(context.Background()); err != nil {
			a.log.WithError(err).Error("the snapshot was not read again; the old one stays in use")
		}
	}
}

// summary logs what became of the records, in one line.
func (a *app) summary(level logrus.Level) {
	totals, err := ledger(a.reg)
	if err != nil {
		a.log.WithError(err).Error("the metrics cannot be read")
		return
	}
	a.log.WithFields(totals).Log(level, "done")
}

func buildInfo() prometheus.Collector {
	program, goflow2, goVersion := versions()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kube_enricher_build_info", Help: "1, with the versions of the program, of Go and of goflow2 as labels.",
		ConstLabels: prometheus.Labels{"version": program, "goversion": goVersion, "goflow2": goflow2},
	})
	g.Set(1)
	return g
}

// ledger sums up the records received, written, dropped and held, and the
// drops by reason. With several outputs, their numbers have the transport's
// name before them.
func ledger(g prometheus.Gatherer) (logrus.Fields, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	totals := logrus.Fields{"received": 0.0}
	add := func(name string, v float64) {
		sum, _ := totals[name].(float64)
		totals[name] = sum + v
	}
	several := 0
	for _, f := range families {
		if f.GetName() == "kube_enricher_records_written_total" {
			several = len(f.GetMetric())
		}
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			label := func(name string) string {
				for _, l := range m.GetLabel() {
					if l.GetName() == name {
						return l.GetValue()
					}
				}
				return ""
			}
			prefix := ""
			if several > 1 && label("transport") != "" {
				prefix = label("transport") + "_"
			}
			switch name := f.GetName(); {
			case name == "kube_enricher_records_written_total":
				add(prefix+"written", v)
				add(prefix+"dropped", 0)
			case v == 0:
			case name == "kube_enricher_records_received_total":
				add("received", v)
			case name == "kube_enricher_records_held":
				add(prefix+"held", v)
			case name == "kube_enricher_records_dropped_total":
				add(prefix+"dropped", v)
				add(prefix+"dropped_"+label("reason"), v)
			case name == "kube_enricher_datagrams_dropped_total":
				add("datagrams_dropped_"+label("reason"), v)
			case name == "kube_enricher_sets_dropped_total":
				add("sets_dropped_"+label("reason"), v)
			}
		}
	}
	return totals, nil
}
