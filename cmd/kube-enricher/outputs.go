package main

import (
	"context"
	"errors"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// output is an output and its name in -transport. The table of outputs is in
// internal/config/outputs.go.
type output struct {
	transport.Output
	name string
}

// buildOutputs makes the outputs, inert.
func (a *app) buildOutputs() error {
	for _, o := range a.cfg.Outputs {
		out, err := a.cfg.NewOutput(o, config.OutputDeps{Stdout: a.stdout, Log: a.log, Reg: a.reg})
		if err != nil {
			return err
		}
		a.outputs = append(a.outputs, &output{out, o.Transport})
	}
	return nil
}

// openOutputs opens what can be opened at once.
func (a *app) openOutputs() error {
	for _, o := range a.outputs {
		if err := o.Open(); err != nil {
			return config.Usagef("-transport.%s: %v", o.name, err)
		}
	}
	return nil
}

// newWriter returns a writer to all outputs, for one worker.
func (a *app) newWriter() transport.Writer {
	var ws []transport.Writer
	for _, o := range a.outputs {
		ws = append(ws, o.NewWriter())
	}
	return transport.Fanout(ws...)
}

// outputProblems calls note with the name of each output that does not write
// records, why, and whether its buffer is full.
func (a *app) outputProblems(note func(part string, err error, full bool)) {
	for _, o := range a.outputs {
		name := "output"
		if len(a.outputs) > 1 {
			name += "." + o.name
		}
		err, full := o.Problem(), o.Full()
		if err == nil && full {
			err = errors.New("output: slower than the records that come in")
		}
		if err != nil {
			note(name, err, full)
		}
	}
}

// runningOutputs are the outputs once they are started.
type runningOutputs struct {
	outputs []*output
	tasks   []*task
}

// startOutputs starts the outputs. An output that ends by itself calls end with
// its error, so that the input ends: a program with half of its outputs would look
// healthy for too long.
func (a *app) startOutputs(end context.CancelCauseFunc) *runningOutputs {
	r := &runningOutputs{outputs: a.outputs}
	for _, o := range a.outputs {
		t := start(o.Run)
		r.tasks = append(r.tasks, t)
		go func() { end(t.wait(context.Background())) }()
	}
	return r
}

// cancel makes the outputs end within their deadlines.
func (r *runningOutputs) cancel() {
	for _, t := range r.tasks {
		t.cancel()
	}
}

// finish waits until all records are written, however long that takes, or until
// ctx ends.
func (r *runningOutputs) finish(ctx context.Context) {
	for _, o := range r.outputs {
		o.Finish()
	}
	for _, t := range r.tasks {
		_ = t.wait(ctx) // stop returns the error
	}
}

// stop ends the outputs and returns their errors. With several outputs, a reader
// of standard output that has gone is no error.
func (r *runningOutputs) stop() error {
	r.cancel()
	var errs []error
	for _, t := range r.tasks {
		err := t.stop()
		if len(r.tasks) > 1 && errors.Is(err, transport.ErrClosed) {
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// outputNames returns the outputs and their formats, such as
// "file:json,kafka:protobuf".
func outputNames(outputs []config.Output) string {
	names := make([]string, len(outputs))
	for i, o := range outputs {
		names[i] = o.Transport
		if o.Format != o.Transport {
			names[i] += ":" + o.Format
		}
	}
	return strings.Join(names, ",")
}
