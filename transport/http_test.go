package transport

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// newHTTP returns an output to a server, which sends after a moment.
func newHTTP(t *testing.T, cfg HTTPConfig, server string) *batchBench {
	t.Helper()
	var err error
	if cfg.URL, err = ParseURL(server); err != nil {
		t.Fatal(err)
	}
	if cfg.Flush == 0 {
		cfg.Flush = 60 * time.Millisecond
	}
	log, hook := logtest.NewNullLogger()
	b := &batchBench{t: t, reg: prometheus.NewPedanticRegistry(), log: hook}
	h, err := NewHTTP(cfg, lineEncoder{}, log, b.reg)
	if err != nil {
		t.Fatal(err)
	}
	b.batchOutput = &h.batchOutput
	return b
}

// inserts is an HTTP server that takes lines, as databases do. It fails as often as
// a test asks for.
type inserts struct {
	mu       sync.Mutex
	counts   map[int]int // of the lines that it has taken, by sequence number
	bodies   []int       // lines of each request
	requests []*http.Request
	// fail answers in place of the server, if it is set, and reports whether it has.
	fail func(w http.ResponseWriter, r *http.Request, attempt int) bool
}

func (s *inserts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(decoded(r))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r)
	if s.fail != nil && s.fail(w, r, len(s.requests)) {
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := 0
	for line := range bytes.Lines(body) {
		seq, err := strconv.Atoi(strings.TrimRight(string(line), "x\n"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.counts[seq]++
		n++
	}
	s.bodies = append(s.bodies, n)
}

// decoded returns the body of a request, as it was before compression.
func decoded(r *http.Request) io.Reader {
	switch r.Header.Get("Content-Encoding") {
	case "gzip":
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			return strings.NewReader(err.Error())
		}
		return z
	case "zstd":
		z, err := zstd.NewReader(r.Body)
		if err != nil {
			return strings.NewReader(err.Error())
		}
		return z
	}
	return r.Body
}

func newInserts(t *testing.T) (*inserts, string) {
	s := &inserts{counts: make(map[int]int)}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

// once checks that the server has n lines, each once.
func (s *inserts) once(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.counts) != n {
		t.Errorf("%d different records have come, want %d", len(s.counts), n)
	}
	for seq, k := range s.counts {
		if k != 1 {
			t.Errorf("record %d has come %d times", seq, k)
		}
	}
}

// TestHTTP writes from several workers at once, with each compression.
func TestHTTP(t *testing.T) {
	const workers, each = 4, 5000
	for _, compression := range []string{"", CompressionNone, CompressionGzip, CompressionZstd} {
		t.Run(compression, func(t *testing.T) {
			s, server := newInserts(t)
			b := newHTTP(t, HTTPConfig{Compression: compression, BatchBytes: 100_000, ContentType: "application/x-ndjson", Block: true, BufferBytes: 1 << 20}, server+"/insert?table=flows")
			if b.Problem() == nil {
				t.Error("ready before the server was reached")
			}
			b.start()
			var wg sync.WaitGroup
			for id := range workers {
				w := b.NewWriter()
				wg.Go(func() {
					for i := range each {
						b.hand(w, id*each+i, 1, i%300)
						if i%97 == 0 && w.Idle() {
							t.Error("asks to be called again")
						}
					}
				})
			}
			wg.Wait()
			noError(t, b.done())
			b.expect(workers*each, 0, 0, 0, 0)
			noError(t, b.Problem())
			s.once(t, workers*each)
			m := b.scrape()
			if int(m["output_batches_total http"]) != len(s.bodies) || m["output_bytes_total http"] == 0 || m["output_write_seconds http"] == 0 || m["output_errors_total http"] != 0 || m["output_buffered_bytes http"] != 0 {
				t.Errorf("metrics: %v", m)
			}
			if len(s.bodies) < 30 {
				t.Errorf("%d requests, want batches of at most 100,000 bytes", len(s.bodies))
			}
			r := s.requests[0]
			if r.Method != http.MethodPost || r.URL.String() != "/insert?table=flows" || r.Header.Get("Content-Type") != "application/x-ndjson" {
				t.Errorf("%s %s, %v", r.Method, r.URL, r.Header)
			}
		})
	}
}

// TestHTTPBatchSize checks that no body is larger than asked for, unless a record is.
func TestHTTPBatchSize(t *testing.T) {
	s, server := newInserts(t)
	var largest int64
	s.fail = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		largest = max(largest, r.ContentLength)
		return false
	}
	b := newHTTP(t, HTTPConfig{BatchBytes: 1000}, server)
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 500, 90)
	b.hand(w, 500, 1, 5000)
	b.hand(w, 501, 500, 90)
	noError(t, b.done())
	s.once(t, 1001)
	b.expect(1001, 0, 0, 0, 0)
	if largest < 5000 || largest > 5100 {
		t.Errorf("the largest body has %d bytes, want that of the large record", largest)
	}
	alone := 0
	for _, n := range s.bodies {
		if n == 1 {
			alone++
		}
		if n > 11 {
			t.Errorf("%d records of 90 bytes in a body of 1,000", n)
		}
	}
	if alone == 0 {
		t.Error("the large record was not alone")
	}
}

// TestHTTPFlush checks that records that fill no batch are sent in time, and not
// one by one.
func TestHTTPFlush(t *testing.T) {
	s, server := newInserts(t)
	b := newHTTP(t, HTTPConfig{Flush: 200 * time.Millisecond}, server)
	b.start()
	w := b.NewWriter()
	for i := range 50 {
		b.hand(w, i, 1, 10)
		w.Idle()
	}
	b.counted()
	b.expect(50, 0, 0, 0, 0)
	if len(s.bodies) > 3 {
		t.Errorf("%d requests for 50 records", len(s.bodies))
	}
	noError(t, b.stop())
}

// TestHTTPAnswers has what becomes of a batch by the server's answer. It is the
// table of docs/outputs.md.
func TestHTTPAnswers(t *testing.T) {
	code := func(code int, header ...string) func(http.ResponseWriter, *http.Request, int) bool {
		return func(w http.ResponseWriter, r *http.Request, attempt int) bool {
			if attempt > 2 {
				return false
			}
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			http.Error(w, "no: "+r.Header.Get("Authorization"), code)
			return true
		}
	}
	for name, test := range map[string]struct {
		fail                func(http.ResponseWriter, *http.Request, int) bool
		retry               bool
		written, failed     int // of two batches of 10 records
		attempts            int
		problem, notProblem string
	}{
		"200":                {func(http.ResponseWriter, *http.Request, int) bool { return false }, false, 20, 0, 2, "", ""},
		"204":                {func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(204); return true }, false, 20, 0, 2, "", ""},
		"400":                {code(400), false, 0, 20, 2, "400 Bad Request: no", "hunter2"},
		"401":                {code(401), false, 0, 20, 2, "401 Unauthorized", "hunter2"},
		"403":                {code(403), true, 0, 20, 2, "403", "hunter2"},
		"404":                {code(404), true, 0, 20, 2, "404 Not Found", "hunter2"},
		"408":                {code(408), false, 0, 20, 2, "408", ""},
		"408, retry":         {code(408), true, 20, 0, 4, "", ""},
		"429":                {code(429), false, 20, 0, 4, "", ""},
		"429 with a time":    {code(429, "Retry-After", "1"), false, 20, 0, 4, "", ""},
		"500":                {code(500), false, 0, 20, 2, "500 Internal Server Error", "hunter2"},
		"500, retry":         {code(500), true, 20, 0, 4, "", ""},
		"502":                {code(502), false, 0, 20, 2, "502", ""},
		"503":                {code(503, "Retry-After", "not a time"), false, 20, 0, 4, "", ""},
		"504, retry":         {code(504), true, 20, 0, 4, "", ""},
		"301":                {code(301, "Location", "/elsewhere"), true, 0, 20, 2, "redirects are not followed", ""},
		"307":                {code(307, "Location", "/elsewhere"), true, 0, 20, 2, "redirects are not followed", ""},
		"307 to nowhere":     {code(307), true, 0, 20, 2, "307", ""},
		"hangs up":           {hangUp(2), false, 0, 20, 2, "closed the connection without an answer", ""},
		"hangs up, retry":    {hangUp(2), true, 20, 0, 4, "", ""},
		"no answer":          {silent(2), false, 0, 20, 2, "no answer within 300ms", ""},
		"no answer, retry":   {silent(2), true, 20, 0, 4, "", ""},
		"no end of answer":   {unfinished(), false, 20, 0, 2, "", ""},
		"half-closed":        {halfClosed(2), false, 0, 20, 2, "", ""},
		"answers with trash": {trash(2), false, 0, 20, 2, "malformed HTTP", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, server := newInserts(t)
			s.fail = test.fail
			headers, err := ParseHeaders("Authorization=Bearer hunter2", nil)
			noError(t, err)
			b := newHTTP(t, HTTPConfig{Retry: test.retry, Timeout: 300 * time.Millisecond, Headers: headers}, server)
			b.start()
			w := b.NewWriter()
			for i := range 2 {
				b.hand(w, i*10, 10, 10)
				until(t, "the batch is under way or counted", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.requests) > i })
				if !test.retry && test.failed > 0 {
					b.counted()
				}
			}
			b.counted()
			problem := b.Problem()
			b.expect(test.written, 0, test.failed, 0, 0)
			noError(t, b.stop())
			switch {
			case test.problem == "" && problem != nil && test.failed == 0:
				t.Errorf("problem %v", problem)
			case test.problem != "" && (problem == nil || !strings.Contains(problem.Error(), test.problem)):
				t.Errorf("problem %v, want %q", problem, test.problem)
			case test.notProblem != "" && strings.Contains(problem.Error(), test.notProblem):
				t.Errorf("the problem has a secret: %v", problem)
			}
			s.mu.Lock()
			attempts := len(s.requests)
			s.mu.Unlock()
			if attempts != test.attempts {
				t.Errorf("%d attempts, want %d", attempts, test.attempts)
			}
			for seq, n := range s.counts {
				if n != 1 {
					t.Errorf("record %d is there %d times", seq, n)
				}
			}
			for _, e := range b.log.AllEntries() {
				if line, _ := e.String(); strings.Contains(line, "hunter2") {
					t.Errorf("the log has a secret: %s", line)
				}
			}
		})
	}
}

// hijack takes a request's connection.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	return conn, rw
}

// hangUp closes the first connections without an answer.
func hangUp(first int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, attempt int) bool {
		if attempt > first {
			return false
		}
		conn, _ := hijack(w)
		_ = conn.Close()
		return true
	}
}

// silent gives the first requests no answer.
func silent(first int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, attempt int) bool {
		if attempt > first {
			return false
		}
		conn, _ := hijack(w)
		go func() {
			_, _ = io.Copy(io.Discard, conn) // until the client has had enough
			_ = conn.Close()
		}()
		return true
	}
}

// halfClosed ends its direction of the first connections, and reads on.
func halfClosed(first int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, attempt int) bool {
		if attempt > first {
			return false
		}
		conn, _ := hijack(w)
		_ = conn.(*net.TCPConn).CloseWrite()
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
		return true
	}
}

// unfinished begins its answers, which say that all is well, and never ends them.
func unfinished() func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		conn, rw := hijack(w)
		_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
		_ = rw.Flush()
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}()
		return true
	}
}

// trash answers the first requests with something else than HTTP.
func trash(first int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, attempt int) bool {
		if attempt > first {
			return false
		}
		conn, rw := hijack(w)
		_, _ = rw.WriteString("220 mail.example.org ESMTP\r\n")
		_ = rw.Flush()
		_ = conn.Close()
		return true
	}
}

// TestHTTPTooLarge has a server that takes small bodies only. Nothing is lost but
// the record that is too large by itself, and later batches are small at once.
func TestHTTPTooLarge(t *testing.T) {
	s, server := newInserts(t)
	refused := 0
	s.fail = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.ContentLength <= 2000 {
			return false
		}
		refused++
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	}
	b := newHTTP(t, HTTPConfig{}, server)
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 500, 50)
	b.hand(w, 500, 1, 3000)
	b.hand(w, 501, 500, 50)
	b.counted()
	b.expect(1000, 0, 1, 0, 0)
	s.once(t, 1000)
	s.mu.Lock()
	before := refused
	s.mu.Unlock()
	b.hand(w, 1001, 500, 50)
	b.counted()
	b.expect(1500, 0, 1, 0, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if before == 0 || refused != before {
		t.Errorf("%d bodies were refused, and %d later", before, refused-before)
	}
	noError(t, b.stop())
}

// TestHTTPRetryAfter checks that the server's time is kept to, by all requests.
func TestHTTPRetryAfter(t *testing.T) {
	s, server := newInserts(t)
	var first, second time.Time
	s.fail = func(w http.ResponseWriter, _ *http.Request, attempt int) bool {
		switch attempt {
		case 1:
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case 2:
			second = time.Now()
		}
		return false
	}
	b := newHTTP(t, HTTPConfig{}, server)
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 10, 10)
	until(t, "the problem is known", func() bool {
		err := b.Problem()
		return err != nil && strings.Contains(err.Error(), "503")
	})
	b.hand(w, 10, 10, 10)
	b.counted()
	if wait := second.Sub(first); wait < time.Second {
		t.Errorf("the next attempt came after %v, want a second", wait)
	}
	noError(t, b.Problem())
	noError(t, b.stop())
	s.once(t, 20)
}

// TestHTTPAway has a server that is away at the start, comes, and goes. The buffer
// fills up meanwhile, and what finds no room is counted.
func TestHTTPAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	addr := l.Addr().String()
	noError(t, l.Close())
	b := newHTTP(t, HTTPConfig{BufferBytes: 256 << 10, BatchBytes: 20_000}, "http://"+addr+"/?password=hunter2")
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 1000, 1000)
	until(t, "it says what is wrong", func() bool {
		err := b.Problem()
		return err != nil && strings.Contains(err.Error(), "connection refused")
	})
	if !b.Full() {
		t.Error("a buffer of 256 KiB has room after a megabyte")
	}
	m := b.scrape()
	held, full := int(m["records_held output"]), int(m["records_dropped_total output_full http"])
	if held+full != 1000 || held < 100 || full < 100 {
		t.Fatalf("%d held, %d dropped", held, full)
	}
	s := &inserts{counts: make(map[int]int)}
	l, err = net.Listen("tcp", addr)
	noError(t, err)
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}}
	server.Start()
	b.counted()
	b.expect(held, full, 0, 0, 0)
	s.once(t, held)
	noError(t, b.Problem())
	server.Close()
	b.hand(w, 5000, 10, 10)
	until(t, "it says that the server is away", func() bool { return b.Problem() != nil })
	b.expect(held, full, 0, 0, 10)
	// The deadline is over at once.
	b.drainTimeout = time.Millisecond
	if err := b.stop(); !errors.Is(err, ErrDrain) {
		t.Errorf("Run returns %v", err)
	}
	b.expect(held, full, 0, 10, 0)
	for _, e := range b.log.AllEntries() {
		if line, _ := e.String(); strings.Contains(line, "hunter2") {
			t.Errorf("the log has a secret: %s", line)
		}
	}
}

// TestHTTPStopped ends while the server gives no answer.
func TestHTTPStopped(t *testing.T) {
	s, server := newInserts(t)
	s.fail = silent(1000)
	b := newHTTP(t, HTTPConfig{Timeout: time.Minute}, server)
	b.drainTimeout = 50 * time.Millisecond
	b.start()
	b.hand(b.NewWriter(), 0, 10, 10)
	until(t, "the request is under way", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.requests) > 0 })
	if err := b.stop(); !errors.Is(err, ErrDrain) {
		t.Errorf("Run returns %v", err)
	}
	b.expect(0, 0, 0, 10, 0)
}

// TestHTTPBlocks checks that inputs that can wait do, and that Run reports what was
// lost.
func TestHTTPBlocks(t *testing.T) {
	s, server := newInserts(t)
	b := newHTTP(t, HTTPConfig{Block: true, BufferBytes: 256 << 10, BatchBytes: 20_000}, server)
	b.start()
	b.hand(b.NewWriter(), 0, 3000, 1000)
	noError(t, b.done())
	b.expect(3000, 0, 0, 0, 0)
	s.once(t, 3000)

	s.fail = func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.WriteHeader(404); return true }
	b = newHTTP(t, HTTPConfig{Block: true}, server)
	b.start()
	b.hand(b.NewWriter(), 0, 10, 10)
	if err := b.done(); err == nil || !strings.Contains(err.Error(), "10 records could not be written") {
		t.Errorf("Run returns %v", err)
	}
}

// TestHTTPTLS checks certificates of both sides, and that files are read again.
func TestHTTPTLS(t *testing.T) {
	s := &inserts{counts: make(map[int]int)}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	b := newHTTP(t, HTTPConfig{}, server.URL)
	b.start()
	until(t, "it says what is wrong", func() bool {
		err := b.Problem()
		return err != nil && strings.Contains(err.Error(), "certificate")
	})
	b.hand(b.NewWriter(), 0, 10, 10)
	b.scrape()
	b.drainTimeout = time.Millisecond
	_ = b.stop()
	b.expect(0, 0, 0, 10, 0)

	b = newHTTP(t, HTTPConfig{TLS: TLSFiles{Insecure: true}}, server.URL)
	b.start()
	b.hand(b.NewWriter(), 0, 10, 10)
	noError(t, b.done())
	s.once(t, 10)
}

// TestParseHeaders reads headers and secrets.
func TestParseHeaders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	noError(t, os.WriteFile(file, []byte("from a file\n"), 0o600))
	variable := func(name string) (string, bool) { return "from " + name, name == "TOKEN" }
	for list, want := range map[string]string{
		"": "",
		"authorization=Bearer ${TOKEN}, X-Scope-OrgID: a%2Cb": "Authorization=Bearer from TOKEN|X-Scope-Orgid=a,b",
		"A=${env:TOKEN}${file:" + file + "}!":                 "A=from TOKENfrom a file!",
		"A=Basic dTpw==":                                      "A=Basic dTpw==",
		"A=100%25":                                            "A=100%",
		"A=":                                                  "A=",
		"hunter2":                                             "error header 1 is not NAME=VALUE",
		"A=b,hunter2 hunter2=x":                               "error header 2 has no valid name",
		"A=${hunter2":                                         "error header A: a reference is not",
		"A=${vault:x}":                                        "error header A: a reference is not",
		"A=${}":                                               "error header A: a reference is not",
		"A=${NONE}":                                           "error header A: there is no environment variable NONE",
		"A=hunter2%zz":                                        "error header A: the value has a %",
		"A=hunter2%0a":                                        "error header A: the value has a character",
		"Content-Length=1":                                    "error header Content-Length is not allowed",
	} {
		headers, err := ParseHeaders(list, variable)
		if err != nil {
			if got := "error " + err.Error(); want == "" || !strings.HasPrefix(got, want) || strings.Contains(got, "hunter2") {
				t.Errorf("%q: %v, want %q", list, err, want)
			}
			continue
		}
		var got []string
		for _, h := range headers {
			v, err := h.get()
			noError(t, err)
			got = append(got, h.Name+"="+v)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
		if text := fmt.Sprintf("%v %+v %#v", headers, headers, headers); strings.Contains(text, "from") || strings.Contains(text, "dTpw") {
			t.Errorf("the text of headers has a value: %s", text)
		}
	}
}

// TestHTTPSecretFile checks that the file of a header is read for each request.
func TestHTTPSecretFile(t *testing.T) {
	s, server := newInserts(t)
	s.fail = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("X-Key") == "new" {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	file := filepath.Join(t.TempDir(), "key")
	headers, err := ParseHeaders("x-key=${file:"+file+"}", nil)
	noError(t, err)
	u, err := url.Parse(server)
	noError(t, err)
	if _, err := newHTTPClient(HTTPConfig{URL: u, Headers: headers}); err == nil {
		t.Error("a missing file is no error at the start")
	}
	noError(t, os.WriteFile(file, []byte("old\n"), 0o600))
	b := newHTTP(t, HTTPConfig{Headers: headers}, server)
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 10, 10)
	b.counted()
	noError(t, os.WriteFile(file, []byte("new\n"), 0o600))
	b.hand(w, 10, 10, 10)
	b.counted()
	b.expect(10, 0, 10, 0, 0)
	noError(t, b.stop())
}

// TestParseURL checks that no error has the URL in it.
func TestParseURL(t *testing.T) {
	for _, good := range []string{"http://h", "https://u:p@h:8443/x?query=INSERT%20INTO%20t", "http://[::1]:80/"} {
		if _, err := ParseURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "hunter2", "hunter2:8123", "ftp://hunter2/", "http:///hunter2", "http://:80/hunter2", "http://h:0/hunter2", "http://h:99999/hunter2", "http://h/#hunter2", "http://h/%zzhunter2", "://hunter2", "http://u:hunter2@"} {
		if _, err := ParseURL(bad); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestRetryAfter reads both forms of the header.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, "-1": 0, "soon": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
		"99999999999999999999": 5 * time.Minute,
	} {
		if got := retryAfter(v, now); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}
