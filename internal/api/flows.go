package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

const (
	// maxFlows bounds the records of an answer, and maxAnswer their length in bytes.
	maxFlows  = 2000
	maxAnswer = 2 << 20
)

func (s *Server) flows(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		s.stream(w, r)
		return
	}
	s.scanning(func(ctx context.Context, p *params) (any, error) {
		q := p.query()
		limit := p.number("limit", 100, maxFlows)
		if err := p.end(); err != nil {
			return nil, err
		}
		q.Newest = true
		return s.newest(ctx, q, limit)
	})(w, r)
}

// records is a list of records, each rendered already.
type records struct {
	Flows   []raw `json:"flows"`
	Skipped int   `json:"skipped"`
}

// raw is JSON.
type raw []byte

// MarshalJSON implements [encoding/json.Marshaler].
func (r raw) MarshalJSON() ([]byte, error) { return r, nil }

// newest returns the newest records that match q, at most limit.
func (s *Server) newest(ctx context.Context, q recent.Query, limit int) (*records, error) {
	answer := &records{Flows: []raw{}}
	size := 0
	var buffer []byte // an encoder makes more room than it needs
	err := s.cfg.Store.Each(ctx, q, func(r *flow.Record) bool {
		if len(answer.Flows) == limit {
			return false
		}
		buffer = s.cfg.Encoder.AppendRecord(buffer[:0], r)
		line := bytes.Clone(bytes.TrimRight(buffer, "\n"))
		if size += len(line); size > maxAnswer {
			answer.Skipped = limit - len(answer.Flows)
			return false
		}
		answer.Flows = append(answer.Flows, line)
		return true
	})
	return answer, err
}

const (
	// heartbeat is how often an idle stream has a comment, so that proxies keep it.
	heartbeat = 15 * time.Second
	// maxPending is how many bytes a client may have yet to read. More is skipped.
	maxPending = 128 << 10
)

// errFull refuses a stream.
var errFull = errors.New("too many clients follow already; try again later")

// stream sends records as they come, as server-sent events.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	p := s.parse(r)
	q := p.query()
	q.PerSecond = p.number("limit", 100, 1000)
	if !q.Until.IsZero() {
		p.failf("until: a stream has no end; ask for JSON to have the records of an interval")
	}
	if err := p.end(); err != nil {
		Fail(w, http.StatusBadRequest, err)
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		Fail(w, http.StatusServiceUnavailable, errFull)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	out := newEvents(s.cfg.Store.Skipped(recent.ClientPage))
	go func() {
		defer cancel()
		_ = s.cfg.Store.Follow(ctx, q, func(rec *flow.Record, skipped uint64) error {
			out.skip(skipped)
			if rec == nil {
				out.wake()
			} else {
				out.flow(s.cfg.Encoder, rec)
			}
			return nil
		})
	}()
	if err := out.send(ctx, w); errors.Is(err, os.ErrDeadlineExceeded) {
		s.cfg.Cut.Inc()
	}
}

func appendSkipped(b []byte, n uint64) []byte {
	b = append(b, "event: skipped\ndata: "...)
	return append(strconv.AppendUint(b, n, 10), "\n\n"...)
}
