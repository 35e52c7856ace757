// Package api answers questions about the newest records over HTTP, in JSON: who talks to
// whom, how much over time, and the records themselves. docs/api.md describes it, for
// people and for programs (docs/openapi.yaml).
package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// Encoder renders records.
type Encoder interface {
	// AppendRecord appends a record as a line of JSON.
	AppendRecord(dst []byte, r *flow.Record) []byte
}

// Mistake is an error in an expression.
type Mistake struct {
	Text     string
	Position int // of the character, from 1 on
}

// Error implements error.
func (m *Mistake) Error() string { return m.Text }

// Field is the name of a field that expressions can use.
type Field struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// Config has what a [Server] answers from.
type Config struct {
	Store   *recent.Store
	Encoder Encoder
	// Compile makes a function of an expression. Its error is a *[Mistake] if it knows the
	// place.
	Compile func(expression string) (func(*flow.Record) bool, error)
	// Explain answers /api/v1/explain, ready what /readyz says.
	Explain http.HandlerFunc
	Ready   func() any
	Version string
	Mode    string
	// Listen has the addresses that exporters may send to, as in -listen.
	Listen  []string
	Started time.Time
	Fields  []Field
	// Mapping has the address fields whose names are in records, as in -mapping.
	Mapping []flow.MapEntry
	// Cut counts the streams that were ended because their client read nothing for a while.
	Cut prometheus.Counter
}

// Server answers requests. Any number of goroutines may use it.
type Server struct {
	cfg Config
	// scans bounds the requests that read records at once. Each takes a core, and some
	// memory.
	scans chan struct{}
	// answers bounds those that are made or being sent, for their memory.
	answers chan struct{}
	// streams bounds the clients that follow.
	streams chan struct{}
	names   names // for summaries
	// stopped is closed when all streams are to end.
	stopped chan struct{}
	stop    sync.Once
}

const (
	maxScans   = 2
	maxAnswers = 4
	maxStreams = 64
)

// New makes a Server.
func New(cfg Config) *Server {
	return &Server{
		cfg:     cfg,
		scans:   make(chan struct{}, maxScans),
		answers: make(chan struct{}, maxAnswers),
		streams: make(chan struct{}, maxStreams),
		stopped: make(chan struct{}),
	}
}

// Stop ends the streams. Other answers end by themselves.
func (s *Server) Stop() { s.stop.Do(func() { close(s.stopped) }) }

// Handler returns the handler of all paths below /api/.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/summary", s.scanning(s.summary))
	mux.HandleFunc("GET /api/v1/pairs", s.scanning(s.pairs))
	mux.HandleFunc("GET /api/v1/series", s.scanning(s.series))
	mux.HandleFunc("GET /api/v1/flows", s.flows)
	mux.HandleFunc("GET /api/v1/explain", s.cfg.Explain)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			Fail(w, http.StatusMethodNotAllowed, errors.New("the API can only be read: ask with GET"))
			return
		}
		Fail(w, http.StatusNotFound, errors.New("there are summary, pairs, series, flows and explain below /api/v1/"))
	})
	return mux
}

// answer makes the answer to a request. What has a method AppendJSON renders itself.
type answer func(ctx context.Context, p *params) (any, error)

// appender renders itself as JSON.
type appender interface {
	AppendJSON(b []byte) []byte
}

// bodies has buffers for answers, which are up to some megabytes long.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

// maxKept bounds the buffers that are kept for further answers, in bytes.
const maxKept = 4 << 20

// scanning answers with what f makes, for a few requests at a time.
func (s *Server) scanning(f answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !enter(r, s.answers) {
			return
		}
		defer leave(s.answers)
		buffer := bodies.Get().(*[]byte)
		body, err := s.scan(r, f, (*buffer)[:0])
		if cap(body) <= maxKept {
			*buffer = body
			defer bodies.Put(buffer) // it has been sent by then
		}
		switch {
		case r.Context().Err() != nil: // the client has gone
		case errors.As(err, new(fault)):
			Fail(w, http.StatusInternalServerError, err)
		case err != nil:
			Fail(w, http.StatusBadRequest, err)
		default:
			write(w, body)
		}
	}
}

// fault is an error that no client causes: an answer that cannot be made.
type fault struct{ err error }

// Error implements error.
func (f fault) Error() string { return "the answer cannot be made: " + f.err.Error() }

// scan appends the answer to a request to b.
func (s *Server) scan(r *http.Request, f answer, b []byte) ([]byte, error) {
	if !enter(r, s.scans) {
		return b, r.Context().Err()
	}
	defer leave(s.scans)
	body, err := f(r.Context(), s.parse(r))
	if err != nil {
		return b, err
	}
	if a, ok := body.(appender); ok {
		return append(a.AppendJSON(b), '\n'), nil
	}
	rendered, err := json.Marshal(body)
	if err != nil {
		return b, fault{err}
	}
	return append(append(b, rendered...), '\n'), nil
}

// enter waits for a place. It reports false if the client has gone.
func enter(r *http.Request, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-r.Context().Done():
		return false
	}
}

func leave(places chan struct{}) { <-places }

// write sends an answer.
func write(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client has gone
}

// failure is the body of an answer that says what is wrong.
type failure struct {
	Error string `json:"error"`
	// Position is the character of filter that is wrong, from 1 on; 0 for others.
	Position int `json:"position"`
}

// maxError bounds what is said of a mistake, in bytes: what a client sent may be in it.
const maxError = 500

// Fail answers with what is wrong.
func Fail(w http.ResponseWriter, status int, err error) {
	body := failure{Error: cut(err.Error(), maxError)}
	if m := (*Mistake)(nil); errors.As(err, &m) {
		body.Position = m.Position
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // the client has gone
}

func (s *Server) pairs(ctx context.Context, p *params) (any, error) {
	q := p.query()
	limit := p.number("limit", 1000, 10_000)
	if err := p.end(); err != nil {
		return nil, err
	}
	return s.cfg.Store.Pairs(ctx, q, limit)
}

// bys are the values of the parameter by.
var bys = map[string]recent.By{"": recent.ByTotal, "total": recent.ByTotal, "namespace": recent.ByNamespace, "pair": recent.ByPair}

func (s *Server) series(ctx context.Context, p *params) (any, error) {
	q := p.query()
	buckets, limit := p.number("buckets", 60, 1000), p.number("limit", 20, 100)
	text := p.text("by")
	by, ok := bys[text]
	if !ok {
		p.failf("by: %q is none of total, namespace and pair", short(text))
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return s.cfg.Store.Series(ctx, q, by, buckets, limit)
}

// known returns a time as JSON shows it: null if there is none.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
