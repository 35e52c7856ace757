package api

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// events are what a client has yet to read. One goroutine adds to them, and another one
// sends them.
type events struct {
	mu      sync.Mutex
	pending []byte
	skipped uint64        // records since the last event
	more    chan struct{} // has an element if there are pending ones
	line    []byte        // of the goroutine that adds
	counter prometheus.Counter
}

// newEvents returns events without any. What is skipped is counted.
func newEvents(skipped prometheus.Counter) *events {
	return &events{more: make(chan struct{}, 1), counter: skipped}
}

// wake tells the goroutine that sends.
func (e *events) wake() {
	select {
	case e.more <- struct{}{}:
	default:
	}
}

// skip notes that records were skipped.
func (e *events) skip(n uint64) {
	if n > 0 {
		e.counter.Add(float64(n))
		e.mu.Lock()
		e.skipped += n
		e.mu.Unlock()
	}
}

// partPending is how many bytes are sent before a batch has ended.
const partPending = 16 << 10

// flow adds a record. If there is no room, it is skipped. It is sent once [events.wake] is
// called, or much is pending: to send each record by itself costs more than to make it.
func (e *events) flow(enc Encoder, r *flow.Record) {
	e.line = bytes.TrimRight(enc.AppendRecord(e.line[:0], r), "\n")
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.pending)+len(e.line) > maxPending {
		e.counter.Inc()
		e.skipped++
		return
	}
	if e.skipped > 0 {
		e.pending = appendSkipped(e.pending, e.skipped)
		e.skipped = 0
	}
	e.pending = append(append(append(e.pending, "event: flow\ndata: "...), e.line...), "\n\n"...)
	if len(e.pending) >= partPending {
		e.wake()
	}
}

// take returns what there is to send, and takes b for what comes.
func (e *events) take(b []byte) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.skipped > 0 {
		e.pending = appendSkipped(e.pending, e.skipped)
		e.skipped = 0
	}
	taken := e.pending
	e.pending = b[:0]
	return taken
}

// send sends events until ctx ends, or the client does not read for a while.
func (e *events) send(ctx context.Context, w http.ResponseWriter) error {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{}) // the server's is for the request, which has been read
	idle := time.NewTicker(heartbeat)
	defer idle.Stop()
	b := []byte(": follows\n\n")
	for {
		_ = c.SetWriteDeadline(time.Now().Add(sendTimeout))
		if _, err := w.Write(b); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.more:
			b = e.take(b)
		case <-idle.C:
			b = append(b[:0], ": still here\n\n"...)
		}
	}
}

// sendTimeout is how long a client may take to read what is sent at once.
const sendTimeout = 30 * time.Second
