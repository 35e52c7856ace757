package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// liveHeap returns how many bytes of the heap the last collection found in use.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestManyClients: 50 clients that follow and ask at once take 64 MiB at most, and no record is
// kept from the ring by them.
func TestManyClients(t *testing.T) {
	const most = 64 << 20
	clients := 50
	if race.Enabled { // each takes many times as long, and a few are enough for races
		clients = 3
	}
	f := newFixtureOf(t, 8<<20)
	r := flowtest.Reference()
	kept := uint64(0)
	keep := func(n int) {
		for range n {
			r.Msg.TimeReceivedNs += 1e6
			f.stage.HandleFlow(r)
			kept++
		}
	}
	keep(100_000)
	runtime.GC()
	before, peak := liveHeap(), uint64(0)

	ctx, cancel := context.WithCancel(t.Context())
	var following, asking sync.WaitGroup
	ask := func(target, accept string) {
		q, err := http.NewRequestWithContext(ctx, http.MethodGet, f.base+target, nil)
		if err != nil {
			t.Error(err)
			return
		}
		q.Header.Set("Accept", accept)
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			if ctx.Err() == nil {
				t.Error(err)
			}
			return
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", target, answer.StatusCode)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
	}
	filter := "filter=" + url.QueryEscape(`SrcNamespace == "local-path-storage" && Bytes > 1`)
	for range clients {
		following.Go(func() { ask("flows?limit=1000", "text/event-stream") })
		asking.Go(func() {
			for _, target := range []string{"summary", "pairs?", "series?by=pair&", "flows?limit=2000&"} {
				if target != "summary" {
					target += filter
				}
				ask(target, "")
			}
		})
	}
	done := make(chan struct{})
	go func() { asking.Wait(); close(done) }()
	for asked := false; !asked; {
		select {
		case <-done:
			asked = true
		default:
			keep(1000)
			peak = max(peak, liveHeap())
		}
	}
	cancel()
	following.Wait()
	if a := f.cfg.Store.About(); a.Records != kept {
		t.Errorf("%d records are known of %d", a.Records, kept)
	}
	if peak > before+most && !race.Enabled {
		t.Errorf("%d MiB more with %d clients, want %d at most", (peak-before)>>20, clients, most>>20)
	}
	t.Logf("%d MiB before, %d at most", before>>20, peak>>20)
}
