package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/collector/pipe"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/hubble"
	"github.com/netobserv/goflow2-kube-enricher/internal/places"
	"github.com/netobserv/goflow2-kube-enricher/internal/policy"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
	"github.com/netobserv/goflow2-kube-enricher/internal/summary"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
)

// Exit codes of the command.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitSignal = 128 // plus the signal's number: a capture or pipe was cut short
)

const noCluster = "no cluster found: name one with -kubeconfig FILE, give its objects with -kube.snapshot FILE, or run without names with -kube.off"

// run is the program, from its arguments to its exit code.
func run(args, env []string, stdin, stdout, stderr *os.File) int {
	cfg, err := config.Parse(args, env, isPipe(stdin))
	switch {
	case errors.Is(err, flag.ErrHelp):
		if err := config.WriteUsage(stdout); err != nil {
			return exitFailed
		}
		return exitDone
	case err != nil:
		return fail(stderr, err)
	case cfg.ShowVersion:
		program, goflow2, goVersion := versions()
		fmt.Fprintf(stdout, "kube-enricher %s\ngoflow2 %s\n%s\n", program, goflow2, goVersion)
		return exitDone
	}
	log := newLogger(cfg, stderr)
	routeLibraries(log)
	limitMemory(log)
	cfg.Color = cfg.Color && isTerminal(stdout)
	if width, _, err := term.GetSize(int(stdout.Fd())); err == nil && cfg.TextToStdout {
		cfg.Width = width
	}
	a := &app{cfg: cfg, log: log, stdin: stdin, stdout: stdout, stderr: stderr, reg: prometheus.NewRegistry(), signalled: make(chan struct{})}
	switch {
	case cfg.CheckOnly:
		err = a.check()
	default:
		if err = a.build(); err == nil {
			err = a.run()
		}
	}
	if err != nil {
		return fail(stderr, err)
	}
	if s := a.stoppedBy.Load(); s != 0 && cfg.Mode != config.Collect {
		return exitSignal + int(s) // as a shell says it of a program that a signal has ended
	}
	return exitDone
}

// fail prints the one line that an error ends the program with, and returns its
// exit code.
func fail(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "kube-enricher: %v\n", err)
	if usage := (*config.UsageError)(nil); errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

func newLogger(cfg *config.Config, w io.Writer) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(w)
	log.SetLevel(cfg.LogLevel)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	if cfg.LogJSON {
		log.SetFormatter(&logrus.JSONFormatter{})
	}
	return log
}

// routeLibraries keeps package log, and with it net/http, from writing to standard error past log:
// what servers have sent, and no JSON. It changes a setting of the whole process.
func routeLibraries(log logrus.FieldLogger) {
	stdlog.SetFlags(0)
	stdlog.SetOutput(ratelog.Standard(log))
}

// isPipe reports whether f is a pipe or FIFO: no terminal, no file, no /dev/null.
func isPipe(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeNamedPipe != 0
}

// isTerminal reports whether f is a character device. Terminals are. So is
// /dev/null, where nobody sees the difference.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// app is the program's parts. build makes all of them, and none does anything
// then. They are started from the end of a record's way to its beginning: outputs,
// names, HTTP, input.
type app struct {
	cfg           *config.Config
	log           *logrus.Logger
	stdin, stdout *os.File
	stderr        *os.File
	reg           *prometheus.Registry

	outputs   []*output
	snapshot  *enrich.Snapshot   // nil until it is loaded, or with a cluster
	names     enrich.Source      // nil with -kube.off
	enricher  *enrich.Enricher   // nil with -kube.off
	traffic   *traffic.Counter   // nil if traffic is not counted
	policies  *policy.Policies   // nil without -ovn.nb and -ovn.sb
	places    *places.Lookup     // nil without -networks and -geoip
	recent    *recent.Store      // nil if nobody looks at the newest records
	hubble    *hubble.Server     // nil without Hubble's API
	pageCut   prometheus.Counter // nil without the page
	collector *collector.Collector
	summary   *summary.Stage // nil if there is to be none

	stoppedBy atomic.Int32  // the first signal that asked to stop
	signalled chan struct{} // closed when it has come

	mu     sync.Mutex
	chains []chain
}

// check is -check: it builds everything and starts nothing.
func (a *app) check() error {
	if err := a.cfg.Check(a.loadSnapshot); err != nil {
		return err
	}
	if c := a.cfg; !c.KubeOff && c.KubeRetain <= c.TemplatesHold {
		a.log.Warnf("-kube.retain: %v is not longer than -templates.hold %v: data sets that are held that long will find their pods forgotten", c.KubeRetain, c.TemplatesHold)
	}
	if err := a.build(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.stdout, "ok: %s\n", a.checked()); err != nil {
		return err
	}
	if a.cfg.CheckLive {
		if err := a.checkLive(context.Background()); err != nil {
			return err
		}
	}
	if a.cfg.CheckReady != "" {
		return checkReady(context.Background(), a.stdout, a.cfg.CheckReady)
	}
	return nil
}

// checked says what -check has looked at.
func (a *app) checked() string {
	c := a.cfg
	parts := []string{"flags"}
	for _, f := range []struct{ what, name string }{
		{"configuration file", c.ConfigFile}, {"elements", c.ElementsFile}, {"filter", c.FilterText},
		{"snapshot", c.KubeSnapshot}, {"kubeconfig", c.Kubeconfig}, {"templates file", c.TemplatesFile},
		{"networks", c.Networks}, {"GeoIP", strings.Join(c.GeoIP, ",")},
	} {
		if f.name != "" {
			parts = append(parts, f.what)
		}
	}
	if n := len(c.Files); n > 0 {
		parts = append(parts, fmt.Sprintf("%d captures", n))
	}
	parts = append(parts, "outputs "+outputNames(c.Outputs))
	text := strings.Join(parts, ", ")
	if !c.KubeOff && c.KubeSnapshot == "" && !c.CheckLive {
		text += "; cluster not contacted"
	}
	return text
}

// build makes the parts, inert.
func (a *app) build() (err error) {
	cfg := a.cfg
	if cfg.KubeOff && cfg.Mode != config.Stdin && cfg.FilterNeedsNames() {
		a.log.Warn("-filter asks for names, which are all empty with -kube.off")
	}
	if err := cfg.CheckCaptures(); err != nil {
		return err
	}
	a.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())
	if err := a.buildOutputs(); err != nil {
		return err
	}
	if !cfg.KubeOff {
		if a.names, err = a.source(); err != nil {
			return err
		}
		owners, err := a.owners()
		if err != nil {
			return err
		}
		a.enricher, err = enrich.New(enrich.Config{
			Mapping: cfg.Mapping, SyncTimeout: cfg.KubeSyncTimeout, Unheld: cfg.Mode != config.Collect,
			Retain: max(cfg.KubeRetain, 1), KeepEnded: cfg.Mode == config.Capture, Wait: cfg.KubeWait,
			JoinSubnets: cfg.JoinSubnets, Owners: owners,
		}, a.names, a.log, a.reg)
		if err != nil {
			return err
		}
	}
	if err := a.buildPlaces(); err != nil {
		return err
	}
	if a.countsTraffic() {
		a.traffic, err = traffic.New(traffic.Config{Mapping: cfg.Mapping, MaxSeries: cfg.MetricsWorkloads, Zones: cfg.MetricsZones}, a.reg)
		if err != nil {
			return err
		}
	}
	if err := a.buildPolicies(); err != nil {
		return err
	}
	if cfg.KeepsRecent() {
		// How many sockets there are may depend on the machine, so this is no wrong usage.
		if least, sockets := cfg.LeastRecent(); cfg.Recent < least {
			a.log.Warnf("-recent: %d bytes are too few for %d sockets (count in -listen): many records will be in sums only; give at least %dMiB",
				cfg.Recent, sockets, least>>20)
		}
		if a.recent, err = recent.New(recent.Config{Room: cfg.Recent, Mapping: cfg.Mapping}, a.reg); err != nil {
			return err
		}
	}
	if err := errors.Join(a.buildPage(), a.buildHubble()); err != nil {
		return err
	}
	a.collector, err = collector.New(collector.Config{
		Listeners: cfg.Listen, Allow: cfg.Allow, Sampling: cfg.Sampling,
		TemplatesFile: cfg.TemplatesFile, TemplatesHold: cfg.TemplatesHold, TemplatesHoldSize: cfg.TemplatesHoldSize, DrainTimeout: cfg.DrainTimeout / 2,
		Fields: cfg.FieldsRead(), Elements: cfg.Elements,
	}, a.newChain, a.log, a.reg)
	return err
}

// countsTraffic reports whether traffic between workloads is counted: somebody
// can see it, and records have names and counters.
func (a *app) countsTraffic() bool {
	return a.cfg.MetricsWorkloads > 0 && a.cfg.Addr != "" && a.enricher != nil && a.cfg.Mode != config.Stdin
}

// loadSnapshot reads the snapshot, for build to use.
func (a *app) loadSnapshot(file string) (err error) {
	owners, err := a.owners()
	if err == nil {
		a.snapshot, err = enrich.LoadSnapshotWithOwners(file, owners, a.labels()...)
	}
	return err
}

// source returns where Kubernetes objects come from. Its errors are of wrong
// usage, but for those of the cluster's client.
func (a *app) source() (enrich.Source, error) {
	if file := a.cfg.KubeSnapshot; file != "" {
		if a.snapshot == nil {
			if err := a.loadSnapshot(file); err != nil {
				return nil, config.Usagef("-kube.snapshot: %v", err)
			}
		}
		return a.snapshot, nil
	}
	rest, err := enrich.ClusterConfig(a.cfg.Kubeconfig)
	if errors.Is(err, enrich.ErrNoCluster) {
		return nil, config.Usagef(noCluster)
	}
	if err != nil && a.cfg.Kubeconfig == "" {
		return nil, config.Usagef("%v; %s", err, noCluster)
	}
	if err != nil {
		return nil, config.Usagef("-kubeconfig: %v", err)
	}
	enrich.RouteKlog(a.log) // client-go's own messages
	c, err := enrich.NewCluster(rest, a.log, a.labels()...)
	if err == nil {
		c.Restrict(a.cfg.KubeNamespaces...)
	}
	return c, err
}

// owners returns the resources of -kube.owners, nil for none.
func (a *app) owners() (*enrich.Owners, error) {
	if a.cfg.KubeOwners == "" {
		return nil, nil //nolint:nilnil // nil owners are none
	}
	owners, err := enrich.ParseOwners(a.cfg.KubeOwners)
	if err != nil {
		return nil, config.Usagef("-kube.owners: %v", err)
	}
	return owners, nil
}

// labels returns the names of the pod labels that are kept: those that are copied, and then
// those that Hubble's clients group by.
func (a *app) labels() []string {
	var names []string
	for _, l := range a.cfg.KubeLabels {
		names = append(names, l.Name)
	}
	if a.cfg.Hubble.Addr == "" {
		return names
	}
	for _, name := range hubble.GroupingLabels {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// chain is a worker's chain of handlers, by its first one.
type chain interface {
	flow.Handler
	// Drain hands on the records that are held. No record may follow.
	Drain()
}

// withoutNames is the first handler of a chain without enrichment.
type withoutNames struct{ flow.Handler }

func (w withoutNames) Drain() { w.Idle() }

// newChain makes a worker's chain: names, names that came with the input, places, verdicts, the
// newest records, traffic metrics, filter, outputs. What comes before the filter has records that
// are not written, too.
func (a *app) newChain(worker int) flow.Handler {
	w := a.newWriter()
	var next flow.Handler = w
	if a.cfg.Filter != nil {
		next = a.cfg.Filter.NewStage(w)
	}
	if a.summarizes() {
		a.summary = summary.NewStage(a.cfg.Mapping, a.cfg.Mode == config.Stdin, next)
		next = a.summary
	}
	if a.traffic != nil {
		next = a.traffic.NewStage(next)
	}
	if a.recent != nil {
		next = a.recent.Stage(worker, next)
	}
	if a.policies != nil {
		next = a.policies.NewStage(next)
	}
	if a.places != nil {
		next = a.places.NewStage(next)
	}
	if a.cfg.Mode == config.Stdin {
		next = pipe.NewNames(pipe.NamesConfig{Mapping: a.cfg.Mapping, Labels: a.cfg.KubeLabels, Alone: a.enricher == nil}, next)
	}
	var c chain = withoutNames{next}
	if a.enricher != nil {
		c = a.enricher.NewStage(next)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.chains = append(a.chains, c)
	return c
}

// drain makes the chains hand on the records that they hold. Their workers must
// have ended.
func (a *app) drain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, c := range a.chains {
		c.Drain()
	}
}

// read runs the input that the mode asks for, until it ends or ctx does.
func (a *app) read(ctx context.Context) error {
	if a.cfg.Mode == config.Collect {
		return a.collector.Run(ctx)
	}
	if a.enricher != nil {
		// Nothing arrives in real time here, so names are worth waiting for.
		if err := a.enricher.WaitSynced(ctx); err != nil {
			return nil //nolint:nilerr // stopped while waiting
		}
	}
	if a.policies != nil {
		a.policies.WaitReady(ctx, policyWait)
	}
	c := a.newChain(0)
	if a.cfg.Mode == config.Stdin {
		return a.readStdin(ctx, c)
	}
	var errs []error
	for _, f := range a.cfg.Files {
		if ctx.Err() != nil {
			break
		}
		errs = append(errs, a.collector.ReadCapture(ctx, f, c))
	}
	return errors.Join(errs...)
}

// readOfLines returns what something reads of records that come as lines: the filter, lines
// of text, and what decides about names.
func (a *app) readOfLines() ([]flow.FieldID, []flow.AttrRef) {
	fields, attrs := a.cfg.ReadOfLines()
	if a.summarizes() {
		fields = append(fields, summary.Fields()...)
		for _, ref := range summary.Attrs(a.cfg.Mapping) {
			if !slices.Contains(attrs, ref) {
				attrs = append(attrs, ref)
			}
		}
	}
	if a.enricher != nil {
		fields = append(fields, enrich.Fields()...)
	}
	if a.policies != nil {
		fields = append(fields, policy.Fields()...)
	}
	slices.Sort(fields)
	return slices.Compact(fields), attrs
}

// readStdin reads goflow2's output from standard input.
func (a *app) readStdin(ctx context.Context, c flow.Handler) error {
	cfg := a.cfg
	if cfg.StdinImplied {
		a.log.Info("standard input is a pipe: reading goflow2's output or a capture from it; give -listen to collect on UDP instead")
	}
	fields, attrs := a.readOfLines()
	r, err := pipe.New(pipe.Config{
		Input: cfg.Input, Mapping: cfg.Mapping, Labels: cfg.KubeLabels, RefuseJSON: cfg.RefuseJSON(),
		Capture: func(ctx context.Context, in io.Reader) error {
			return a.collector.ReadCaptureFrom(ctx, in, "standard input", c)
		},
		Fields: fields, Attrs: attrs,
		ReceivedJSON: a.collector.InputCounter("json"), ReceivedProtobuf: a.collector.InputCounter("protobuf"),
	}, a.stdin, c, a.log, a.reg)
	if err != nil {
		return err
	}
	return r.Run(ctx)
}
