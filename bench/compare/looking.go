//go:build linux

package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// ring measures what it costs to keep the newest records: our program with the page on
// against our program without it. If somebody looks, a page is open, and a client of Hubble's
// API follows.
func ring(looked bool, most float64) func(context.Context, *bench) (result, error) {
	return func(ctx context.Context, b *bench) (result, error) {
		ui, err := freePort("tcp")
		if err != nil {
			return result{}, err
		}
		hubble, err := freePort("tcp")
		if err != nil {
			return result{}, err
		}
		l := load{protocol: "ipfix", records: 25, rate: 50_000, seconds: b.seconds, pods: b.pods}
		off, on := enricher("json", b.pods), enricher("json", b.pods, "-ui.addr", ui, "-hubble.addr", hubble)
		if looked {
			ready := on.ready
			on.ready = func(p *process) bool {
				if !ready(p) {
					return false
				}
				go look(ctx, p, ui, hubble)
				return true
			}
		}
		return b.pairs(ctx, most,
			func() (float64, error) { return b.cost(ctx, on, l) },
			func() (float64, error) { return b.cost(ctx, off, l) })
	}
}

// look does what an open page does, and what "hubble observe --follow" does, until the
// program ends.
func look(ctx context.Context, p *process, ui, hubble string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := <-p.exited
		p.exited <- err
		cancel()
	}()
	go func() { _ = read(ctx, http.DefaultClient, "http://"+ui+"/api/v1/flows", "text/event-stream") }()
	go func() { _ = observe(ctx, hubble) }()
	for again := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
		began := time.Now()
		for _, path := range []string{"summary", "pairs?since=5m&limit=3000", "series?since=5m&by=namespace&buckets=120&limit=12"} {
			_ = read(ctx, http.DefaultClient, "http://"+ui+"/api/v1/"+path, "")
		}
		again = max(5*time.Second, 30*time.Since(began)) // as internal/ui/static/js/app.js
	}
}

// read asks for a page and reads all of it.
func read(ctx context.Context, c *http.Client, url, accept string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", accept)
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// observe follows by Hubble's API: one call of gRPC, whose answers are read and thrown away.
func observe(ctx context.Context, addr string) error {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	c := &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	// A frame of gRPC: not compressed, of two bytes: GetFlowsRequest{follow: true}.
	body := strings.NewReader("\x00\x00\x00\x00\x02\x18\x01")
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/observer.Observer/GetFlows", body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/grpc")
	r.Header.Set("Te", "trailers")
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
