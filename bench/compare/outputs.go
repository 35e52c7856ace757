//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// sender is our program with one output to a sink, and further arguments.
func sender(s *sink, transport string, pods int, more ...string) *program {
	where := map[string][]string{
		"http": {"-transport", "http", "-transport.http.url", "http://" + s.addr + "/"},
		"otlp": {"-transport", "otlp", "-transport.otlp.endpoint", s.addr},
	}
	p := enricher("json", pods, append(where[transport], more...)...)
	p.name = "kube-enricher -transport " + transport
	p.settled = s.settled
	args := p.args
	p.args = func(b *bench, udp, http, output string) ([]string, error) {
		s.records.Store(0) // an earlier run may have lost some
		list, err := args(b, udp, http, output)
		if err != nil {
			return nil, err
		}
		for _, flag := range []string{"-format", "-transport.file"} { // there is no file
			if i := slices.Index(list, flag); i >= 0 {
				list = slices.Delete(list, i, i+2)
			}
		}
		return list, nil
	}
	acknowledged := p.written
	p.written = func(run *process) (uint64, error) {
		n, err := acknowledged(run)
		if got := s.records.Load(); err == nil && got != n {
			return 0, fmt.Errorf("%s: %d records are acknowledged, the sink has %d", p.name, n, got)
		}
		return n, err
	}
	return p
}

// settled waits until no more records come.
func (s *sink) settled(ctx context.Context) error {
	for before, n := uint64(0), s.records.Load(); n != before || before == 0; {
		if err := sleep(ctx, 1500*time.Millisecond); err != nil { // more than records wait for their batch
			return err
		}
		before, n = n, s.records.Load()
	}
	return nil
}

// output measures what it costs to send records: against our program with JSON
// in a file, a real one: the null device takes bytes without looking at them.
func output(transport string, most float64, more ...string) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		l := load{protocol: "ipfix", records: 25, rate: 50_000, seconds: b.seconds, pods: b.pods}
		return b.pairs(ctx, most, func() (float64, error) {
			s, err := newSink(transport)
			if err != nil {
				return 0, err
			}
			defer s.close()
			return b.cost(ctx, sender(s, transport, b.pods, more...), l)
		}, func() (float64, error) {
			file := filepath.Join(b.dir, "records")
			defer os.Remove(file)
			return b.costTo(ctx, enricher("json", b.pods), l, file)
		})
	}
}
