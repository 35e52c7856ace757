// Command replay sends the datagrams of a capture to a collector, again and again, with the
// gaps that they have in the capture. It is the exporter of "make demo-live".
//
//	replay [-gap DURATION] [-ready URL] CAPTURE HOST:PORT
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
)

func main() {
	gap := flag.Duration("gap", time.Second, "the longest gap between two datagrams")
	ready := flag.String("ready", "", "wait until this page answers with 200")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := errors.New("give a capture and the collector's address")
	if flag.NArg() == 2 {
		for *ready != "" && !answers(ctx, *ready) && ctx.Err() == nil {
			wait(ctx, 50*time.Millisecond)
		}
		err = replay(ctx, flag.Arg(0), flag.Arg(1), *gap)
	}
	stopped := ctx.Err() != nil
	stop()
	if err != nil && !stopped {
		fmt.Fprintln(os.Stderr, "replay:", err)
		os.Exit(1)
	}
}

// answers reports whether a page answers with 200.
func answers(ctx context.Context, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// replay sends the capture over and over until ctx ends. An answer that nobody listens is no
// error: the collector may start again.
func replay(ctx context.Context, file, address string, gap time.Duration) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		var last time.Time
		sent := 0
		_, err := capture.Read(ctx, file, func(d *capture.Datagram) {
			if !last.IsZero() {
				wait(ctx, min(d.Time.Sub(last), gap))
			}
			last = d.Time
			if _, err := conn.Write(d.Payload); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
				sent++
			}
		})
		if err == nil && sent == 0 {
			err = fmt.Errorf("%s has no datagram that can be sent", file)
		}
		if err != nil {
			return err
		}
		wait(ctx, gap)
	}
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
