package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/hugepages"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// unblockAfter is how long a capture or pipe that a signal has stopped may wait
// for its output, before the output is stopped, too.
const unblockAfter = time.Second

// twinWithin is how soon after the first signal another one counts as the same. timeout(1), make and
// others send a signal to the program and to its process group, so that it comes twice.
const twinWithin = 10 * time.Millisecond

// task is a running part of the program. Each has a context of its own, so that
// parts can be stopped one after another.
type task struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // valid once done is closed
}

// start runs f in a goroutine.
func start(f func(context.Context) error) *task {
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = f(ctx)
	}()
	return t
}

// wait waits until the task ends by itself and returns its error, or until ctx
// ends.
func (t *task) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the task and returns its error.
func (t *task) stop() error {
	t.cancel()
	<-t.done
	return t.err
}

// run starts the parts that build has made. Once the input has ended or a signal
// has come, it stops them in this order: readiness, sockets (drained), held
// records, outputs (flushed), names, HTTP.
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
	collect := a.cfg.Mode == config.Collect
	http, err := a.listen(input)
	if err != nil {
		return err
	}
	a.logStarted(http)
	unready := context.AfterFunc(input, http.stopping) // also where an output ends the input
	defer unready()
	if a.recent != nil {
		sums := start(a.recent.Run)
		defer func() { _ = sums.stop() }() // once nobody reads the records any more
	}
	server := start(http.serve)
	defer func() { err = errors.Join(err, server.stop()) }() // last, so that the drain can be scraped
	observer := start(a.runHubble)
	defer func() { err = errors.Join(err, observer.stop()) }()

	outputs := a.startOutputs(cancelInput)
	var names *task
	if a.enricher != nil {
		names = start(a.enricher.Run)
	}
	if a.places != nil {
		files := start(a.places.Run)
		defer func() { _ = files.stop() }()
	}
	if a.policies != nil {
		policies := start(a.policies.Run)
		defer func() { _ = policies.stop() }()
	}
	if collect {
		signs := start((&firstSigns{log: a.log, gather: a.reg.Gather, listen: a.collector.Bound(), names: a.enricher != nil}).run)
		defer func() { _ = signs.stop() }()
	}
	often := start(a.collectOften)
	defer func() { _ = often.stop() }()
	huge := start(a.useHugePages)
	defer func() { _ = huge.stop() }()
	if !collect {
		// The input waits for the outputs here. An output that stalls must not keep
		// a signal from ending the input.
		unblock := context.AfterFunc(input, func() { time.AfterFunc(unblockAfter, outputs.cancel) })
		defer unblock()
	}
	inputErr := a.read(input)

	stays := a.stays(inputErr)
	if stays {
		unready() // outputs that have written all end the input, too
	} else {
		http.stopping()
	}
	a.drain()
	if !collect && input.Err() == nil {
		outputs.finish(input) // takes as long as the readers do, unless a signal comes
	}
	outputErr := outputs.stop()
	level := logrus.InfoLevel
	if errors.Is(outputErr, transport.ErrClosed) {
		outputErr, inputErr, level = nil, nil, logrus.DebugLevel // the reader has read all it wanted
	}
	a.logDone(level)
	a.writeSummary()
	if stays && outputErr == nil && a.stoppedBy.Load() == 0 {
		a.stay(http)
	}
	var namesErr error
	if names != nil {
		namesErr = names.stop()
	}
	return errors.Join(inputErr, outputErr, namesErr)
}

// listen opens all addresses, so that one that is in use is known at once.
func (a *app) listen(input context.Context) (*httpServers, error) {
	http, err := a.listenHTTP()
	if err != nil {
		return nil, err
	}
	if err := a.listenHubble(); err != nil {
		http.close()
		return nil, err
	}
	if a.cfg.Mode == config.Collect {
		if err := a.collector.Open(input); err != nil {
			http.close()
			a.closeHubble()
			return nil, err
		}
	}
	return http, nil
}

// stays reports whether the program stays after its captures, for those who look at their
// records.
func (a *app) stays(inputErr error) bool {
	return a.cfg.Mode == config.Capture && a.recent != nil && inputErr == nil && a.stoppedBy.Load() == 0
}

// stay waits for a signal, which ends the program as planned.
func (a *app) stay(http *httpServers) {
	log := a.log.WithField("ui", http.address("-ui.addr"))
	if a.hubble != nil {
		log = log.WithField("hubble", a.hubble.Addr())
	}
	http.draining.Store(false) // an output whose reader has gone ended the input, not the program
	log.Info("all captures are read; the program stays for those who look at them until a signal (Ctrl-C)")
	<-a.signalled
	http.stopping()
	a.stoppedBy.Store(0)
}

// isSignalled reports whether a signal has asked to stop.
func (a *app) isSignalled() bool {
	select {
	case <-a.signalled:
		return true
	default:
		return false
	}
}

// useHugePages moves the heap into huge pages once the cluster is known, until
// ctx ends. Captures and pipes are over before it would pay.
func (a *app) useHugePages(ctx context.Context) error {
	if !a.cfg.HugePages || a.enricher == nil || a.cfg.Mode != config.Collect {
		return nil
	}
	// A huge page is resident as a whole. Garbage must have left before.
	if err := a.enricher.WaitSettled(ctx); err != nil {
		return err // the program stops
	}
	hugepages.Use(ctx, func(moved int64, err error) {
		if err != nil {
			a.log.WithError(err).Debug("the heap stays in small pages")
			return
		}
		a.log.WithField("bytes", moved).Debug("the heap has been moved into huge pages")
	})
	return nil
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
					default: // a reload is due already, and will read the newest files
					}
				case stopping:
					a.log.Warn("second signal: ending at once")
					os.Exit(exitFailed)
				default:
					stopping = true
					if n, ok := s.(syscall.Signal); ok {
						a.stoppedBy.Store(int32(n))
					}
					close(a.signalled) // not ready from here on
					passOver(signals, twinWithin)
					a.log.WithField("signal", s.String()).Info("stopping: writing out what was received; a second signal ends at once")
					cancelInput(nil)
				}
			}
		}
	})
	// Reading a large snapshot takes time. Other signals must work meanwhile.
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
		// Nothing is left to be reloaded. By default the signal would end the program, and
		// change its exit code.
		signal.Ignore(syscall.SIGHUP)
		signal.Stop(signals)
		close(done)
		wg.Wait()
	}
}

// passOver takes signals out of a channel for a time.
func passOver(signals <-chan os.Signal, d time.Duration) {
	for end := time.After(d); ; {
		select {
		case <-signals:
		case <-end:
			return
		}
	}
}

// reload reads the snapshot, OVN's tables and the files of places again.
func (a *app) reload() {
	a.reloadPolicies()
	if a.places != nil {
		a.places.Reload()
	}
	if a.enricher != nil && a.cfg.KubeSnapshot != "" {
		if err := a.enricher.Reload(context.Background()); err != nil {
			a.log.WithError(err).Error("the snapshot was not read again; the old one stays in use")
		}
	}
}
