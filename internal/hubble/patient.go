package hubble

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// answerPart is how many bytes of an answer a client has [stallTimeout] for.
const answerPart = 16 << 10

// patientWriter waits for a client to take an answer, but not for ever: once a part of it has
// been waiting for [stallTimeout], the call is ended. One goroutine writes.
type patientWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	cut     prometheus.Counter // of calls that were ended
	timer   *time.Timer

	mu      sync.Mutex
	waiting bool      // for the client
	since   time.Time // since when
}

func newPatientWriter(w http.ResponseWriter, cut prometheus.Counter) *patientWriter {
	p := &patientWriter{ResponseWriter: w, control: http.NewResponseController(w), cut: cut}
	p.timer = time.AfterFunc(stallTimeout, p.stalled)
	p.timer.Stop()
	return p
}

// stalled ends the call, if a part of the answer still waits.
func (p *patientWriter) stalled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting && time.Since(p.since) >= stallTimeout { // it may be the next part by now
		p.waiting = false
		p.cut.Inc()
		_ = p.control.SetWriteDeadline(time.Unix(1, 0)) // resets the stream, with what it has left
	}
}

// begin notes that a part of the answer waits.
func (p *patientWriter) begin() {
	p.mu.Lock()
	p.waiting, p.since = true, time.Now()
	p.mu.Unlock()
	p.timer.Reset(stallTimeout)
}

// done notes that it does not wait any more.
func (p *patientWriter) done() {
	p.timer.Stop()
	p.mu.Lock()
	p.waiting = false
	p.mu.Unlock()
}

// Write implements [http.ResponseWriter]. A long answer may take its time for each part.
func (p *patientWriter) Write(b []byte) (n int, err error) {
	for part := range slices.Chunk(b, answerPart) {
		p.begin()
		written, err := p.ResponseWriter.Write(part)
		p.done()
		if n += written; err != nil {
			return n, err
		}
	}
	return n, nil
}

// Flush implements [http.Flusher]. It comes at the end of each answer, too: net/http would wait
// for ever with what is left.
func (p *patientWriter) Flush() {
	p.begin()
	defer p.done()
	_ = p.control.Flush() // a client that has gone ends the call
}
