package api

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// single is a listener with one connection.
type single struct {
	conn   chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (s *single) Accept() (net.Conn, error) {
	select {
	case c := <-s.conn:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *single) Close() error { s.once.Do(func() { close(s.closed) }); return nil }

func (*single) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// TestStall: a client that follows and reads nothing is cut off and counted, one that reads slowly
// is not.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := unserved(t, recent.MinRoom)
		l := &single{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
		server := &http.Server{Handler: Guard("", f.Handler()), WriteTimeout: sendTimeout, ReadHeaderTimeout: sendTimeout}
		ended := make(chan struct{})
		go func() { defer close(ended); _ = server.Serve(l) }()
		client, end := net.Pipe()
		l.conn <- end
		if _, err := io.WriteString(client, "GET /api/v1/flows HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<16)
		for range 10 { // a pipe has no room: each answer waits for its reader
			f.send(1)
			time.Sleep(sendTimeout - time.Second)
			_ = client.SetReadDeadline(time.Now().Add(time.Millisecond))
			for {
				if _, err := client.Read(b); errors.Is(err, os.ErrDeadlineExceeded) {
					break
				} else if err != nil {
					t.Error(err)
					break
				}
			}
		}
		if n := testutil.ToFloat64(f.cfg.Cut); n != 0 || len(f.streams) != 1 {
			t.Errorf("%v counted as cut, %d streams of a slow client", n, len(f.streams))
		}
		f.send(1)
		time.Sleep(2*sendTimeout + time.Second)
		synctest.Wait()
		if n := testutil.ToFloat64(f.cfg.Cut); n != 1 || len(f.streams) != 0 {
			t.Errorf("%v counted as cut, %d streams", n, len(f.streams))
		}
		_ = client.Close()
		_ = server.Close()
		<-ended
	})
}

// TestParameters holds the parameters in docs/openapi.yaml to those that are taken: the error about
// another one lists them.
func TestParameters(t *testing.T) {
	f, s := newFixture(t), spec(t)
	for _, path := range []string{"summary", "pairs", "series", "flows"} {
		var described []string
		list, _ := at(s, "paths", "/api/v1/"+path, "get", "parameters").([]any)
		for _, p := range list {
			if ref, ok := at(p, "$ref").(string); ok {
				p = at(s, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
			}
			described = append(described, at(p, "name").(string))
		}
		status, body := f.get(t, path+"?nothing=1")
		var answer failure
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusBadRequest {
			t.Fatalf("%s: status %d, %s", path, status, body)
		}
		var taken []string
		if _, names, ok := strings.Cut(answer.Error, "there are "); ok {
			taken = strings.Split(names, ", ")
		}
		slices.Sort(described)
		slices.Sort(taken)
		if !slices.Equal(described, taken) {
			t.Errorf("%s takes %v, docs/openapi.yaml has %v", path, taken, described)
		}
	}
}

// TestStreamUntil: a stream that would have no record, since it is to end before it begins, is
// refused. One of what has been may have an end.
func TestStreamUntil(t *testing.T) {
	f := newFixture(t)
	f.Stop() // which ends a stream that is not refused
	h := f.Handler()
	for accept, want := range map[string]int{"text/event-stream": http.StatusBadRequest, "application/json": http.StatusOK} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/flows?since=5m&until=1m", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want || want != http.StatusOK && !strings.Contains(w.Body.String(), `"until: `) {
			t.Errorf("%s: status %d, %s", accept, w.Code, w.Body)
		}
	}
}

// TestLongMistake: an error does not repeat all that a client sent.
func TestLongMistake(t *testing.T) {
	f := newFixture(t)
	if status, body := f.get(t, "pairs?filter="+strings.Repeat("%C3%A4", 5000)); status != http.StatusBadRequest || len(body) > 2*maxError || !json.Valid([]byte(body)) {
		t.Errorf("status %d, %d bytes: %.200s", status, len(body), body)
	}
}
