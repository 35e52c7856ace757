package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// source is a server that speaks as the HTTP sources of log shippers do. It has what it
// took, and says no where they do.
type source struct {
	path     string   // the only one that is answered
	types    []string // of content, nil for any
	codings  []string // of content
	maxBytes int      // of a body as it is sent, 0 for no limit
	code     int      // of a request that is taken
	lines    bool     // bodies have an object on each line; else values of JSON in any form

	mu      sync.Mutex
	objects []string
	refused int
}

// newVector returns a source as Vector's http_server with newline_delimited framing and
// the codec json (its src/sources/http_server.rs and util/http).
func newVector() *source {
	return &source{path: "/", codings: []string{"", "gzip", "deflate", "snappy", "zstd"}, code: http.StatusOK, lines: true}
}

// newFluentBit returns a source as Fluent Bit's input http (its plugins/in_http).
func newFluentBit() *source {
	return &source{path: "/flows", types: []string{"application/json"}, codings: []string{"", "gzip"}, maxBytes: 4 << 20, code: http.StatusCreated}
}

// ServeHTTP implements [http.Handler].
func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code, err := s.take(r)
	if err == nil {
		w.WriteHeader(s.code)
		return
	}
	s.mu.Lock()
	s.refused++
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"code":%d,"message":%q}`, code, err)
}

// take keeps what a request has, as a whole or not at all, or returns the code of the
// answer.
func (s *source) take(r *http.Request) (code int, err error) {
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	coding := r.Header.Get("Content-Encoding")
	switch {
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, errors.New(r.Method)
	case r.URL.Path != s.path:
		return http.StatusNotFound, errors.New(r.URL.Path)
	case err != nil || s.types != nil && !slices.Contains(s.types, contentType):
		return http.StatusBadRequest, fmt.Errorf("invalid Content-Type %s", contentType)
	case !slices.Contains(s.codings, coding):
		return http.StatusUnsupportedMediaType, fmt.Errorf("unsupported encoding %s", coding)
	case s.maxBytes > 0 && r.ContentLength > int64(s.maxBytes):
		return http.StatusRequestEntityTooLarge, errors.New("too large")
	}
	body := io.Reader(r.Body)
	switch coding {
	case "gzip":
		body, err = gzip.NewReader(r.Body)
	case "zstd":
		body, err = zstd.NewReader(r.Body)
	}
	if err != nil {
		return http.StatusBadRequest, err
	}
	objects, err := s.read(body)
	if err != nil {
		return http.StatusBadRequest, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects = append(s.objects, objects...)
	return 0, nil
}

// read returns the objects of a body, in one form for all.
func (s *source) read(body io.Reader) (objects []string, err error) {
	keep := func(v map[string]any) error {
		text, err := json.Marshal(v)
		objects = append(objects, string(text))
		return err
	}
	if s.lines {
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			var v map[string]any
			if err := errors.Join(json.Unmarshal(lines.Bytes(), &v), keep(v)); err != nil {
				return nil, err
			}
		}
		return objects, lines.Err()
	}
	for values := json.NewDecoder(body); ; {
		var v map[string]any
		switch err := values.Decode(&v); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		}
		if err := keep(v); err != nil {
			return nil, err
		}
	}
}

// TestHTTPSources sends to servers that do as Vector and Fluent Bit do, by the commands
// of docs/outputs.md. They have what the file has.
func TestHTTPSources(t *testing.T) {
	for _, test := range []struct {
		name   string
		source *source
		args   []string
		code   int
		error  string // what the log has, if records are dropped
	}{
		{"vector", newVector(), nil, exitDone, ""},
		{"vector gzip", newVector(), []string{"-transport.http.compression", "gzip"}, exitDone, ""},
		{"vector zstd", newVector(), []string{"-transport.http.compression", "zstd"}, exitDone, ""},
		{"fluent-bit", newFluentBit(), []string{"-transport.http.content-type", "application/json"}, exitDone, ""},
		{"fluent-bit gzip", newFluentBit(), []string{"-transport.http.content-type", "application/json", "-transport.http.compression", "gzip"}, exitDone, ""},
		{"fluent-bit small batches", newFluentBit(), []string{"-transport.http.content-type", "application/json", "-transport.http.batch", "2KiB"}, exitDone, ""},
		{"fluent-bit without its type", newFluentBit(), nil, exitFailed, "400 Bad Request"},
		{"fluent-bit zstd", newFluentBit(), []string{"-transport.http.content-type", "application/json", "-transport.http.compression", "zstd"}, exitFailed, "415"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(test.source)
			defer server.Close()
			file := filepath.Join(t.TempDir(), "flows")
			args := append([]string{"-kube.snapshot", demoSnapshot, "-transport", "file,http", "-transport.file", file, "-transport.http.url", server.URL + test.source.path}, test.args...)
			_, log, code := runWith(t, nil, append(args, kafkaCapture)...)
			if code != test.code || !strings.Contains(log, test.error) {
				t.Fatalf("exit code %d: %s", code, log)
			}
			var want []string
			if test.error == "" {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if want, err = (&source{lines: true}).read(strings.NewReader(string(text))); err != nil || len(want) != kafkaRecords {
					t.Fatalf("%d records: %v", len(want), err)
				}
			}
			got := test.source.objects
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) || test.error == "" && test.source.refused > 0 {
				t.Errorf("the source has %d records, the file %d; it refused %d requests", len(got), len(want), test.source.refused)
			}
		})
	}
}
