package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// followPage follows all records by the page's API until stop, which returns how many there were,
// and how many were left out.
func followPage(t *testing.T, addr string) (stop func() (flows, lost uint64)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/api/v1/flows?limit=1000", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	var flows, lost atomic.Uint64
	done := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		for event := ""; lines.Scan(); {
			line := lines.Text()
			data, isData := strings.CutPrefix(line, "data: ")
			switch n := uint64(0); {
			case strings.HasPrefix(line, "event: "):
				event = line
			case isData && event == "event: flow":
				flows.Add(1)
			case isData:
				_, _ = fmt.Sscan(data, &n)
				lost.Add(n)
			}
		}
		done <- lines.Err()
	}()
	return func() (uint64, uint64) {
		select {
		case err := <-done:
			t.Errorf("the stream of the page's client has ended: %v", err)
		default:
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		_ = answer.Body.Close()
		return flows.Load(), lost.Load()
	}
}
