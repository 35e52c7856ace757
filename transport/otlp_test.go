package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // for servers of tests
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/test/brokers"
)

// logEncoder writes log records with a sequence number as the time, and as many bytes
// as the record has in the severity's text.
type logEncoder struct{}

func (logEncoder) AppendRecord(dst []byte, r *flow.Record) []byte {
	record := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), uint64(r.Msg.SequenceNum)+1)
	record = appendBytes(record, 3, strings.Repeat("x", int(r.Msg.Bytes)))
	return appendBytes(dst, 2, record)
}

// receiver takes log records as OpenTelemetry's collector does, with its protocol's
// own code. It fails as often as a test asks for.
type receiver struct {
	collogspb.UnimplementedLogsServiceServer
	mu       sync.Mutex
	counts   map[int]int
	requests int
	sizes    []int
	headers  []metadata.MD
	resource map[string]string
	// fail answers in place of the receiver, if it is set and returns something.
	fail func(attempt int) (*collogspb.ExportLogsServiceResponse, error)
}

// Export implements the service.
func (s *receiver) Export(ctx context.Context, req *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	md, _ := metadata.FromIncomingContext(ctx)
	s.headers = append(s.headers, md)
	if s.fail != nil {
		if resp, err := s.fail(s.requests); resp != nil || err != nil {
			return resp, err
		}
	}
	n := 0
	for _, rl := range req.ResourceLogs {
		for _, a := range rl.Resource.Attributes {
			s.resource[a.Key] = a.Value.GetStringValue()
		}
		for _, sl := range rl.ScopeLogs {
			if sl.Scope.GetName() != scopeName {
				return nil, status.Errorf(codes.InvalidArgument, "scope %v", sl.Scope)
			}
			for _, r := range sl.LogRecords {
				s.counts[int(r.TimeUnixNano)-1]++
				n++
			}
		}
	}
	s.sizes = append(s.sizes, n)
	return new(collogspb.ExportLogsServiceResponse), nil
}

func (s *receiver) once(t *testing.T, n int) {
	t.Helper()
	(&inserts{counts: s.counts}).once(t, n)
}

func newReceiver() *receiver {
	return &receiver{counts: make(map[int]int), resource: make(map[string]string)}
}

// serve makes the receiver listen to gRPC.
func (s *receiver) serve(t *testing.T, addr string, opts ...grpc.ServerOption) (server *grpc.Server, at string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	noError(t, err)
	server = grpc.NewServer(opts...)
	collogspb.RegisterLogsServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return server, l.Addr().String()
}

// ServeHTTP is OTLP/HTTP.
func (s *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(decoded(r))
	req := new(collogspb.ExportLogsServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, req)
	}
	if err != nil || r.URL.Path != "/v1/logs" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, fmt.Sprint(r.URL, r.Header, err), http.StatusBadRequest)
		return
	}
	md := metadata.MD{}
	for k, v := range r.Header {
		md.Set(k, v...)
	}
	resp, err := s.Export(metadata.NewIncomingContext(r.Context(), md), req)
	if err != nil {
		code, text, _ := strings.Cut(status.Convert(err).Message(), " ")
		if seconds, ok := strings.CutPrefix(text, "after "); ok {
			w.Header().Set("Retry-After", seconds)
		}
		n, _ := strconv.Atoi(code)
		http.Error(w, text, n)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	b, _ := proto.Marshal(resp)
	_, _ = w.Write(b)
}

// newOTLP returns an output of batches of at most 20,000 bytes, which are sent after a
// moment.
func newOTLP(t *testing.T, cfg OTLPConfig) *batchBench {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	b := &batchBench{t: t, reg: prometheus.NewPedanticRegistry(), log: hook}
	o, err := NewOTLP(cfg, logEncoder{}, log, b.reg)
	noError(t, err)
	b.batchOutput = &o.batchOutput
	b.batchBytes.reset(20_000)
	b.flushAfter, b.flushEvery = flushEvery, flushEvery
	return b
}

// TestOTLP writes from several workers at once, by both protocols.
func TestOTLP(t *testing.T) {
	const workers, each = 4, 3000
	for _, compression := range []string{"", CompressionGzip} {
		for _, protocol := range []string{OTLPGRPC, OTLPHTTP} {
			t.Run(protocol+compression, func(t *testing.T) {
				s := newReceiver()
				_, addr := s.serve(t, "127.0.0.1:0")
				server := httptest.NewServer(s)
				t.Cleanup(server.Close)
				u, err := ParseURL(server.URL + "/v1/logs")
				noError(t, err)
				headers, err := ParseHeaders("X-Scope-OrgID=tenant", nil)
				noError(t, err)
				b := newOTLP(t, OTLPConfig{
					Protocol: protocol, Address: addr, URL: u, Compression: compression, Headers: headers, Block: true, BufferBytes: 1 << 20,
					Resource: [][2]string{{"service.name", "kube-enricher"}, {"k8s.cluster.name", "east"}},
				})
				b.start()
				var wg sync.WaitGroup
				for id := range workers {
					w := b.NewWriter()
					wg.Go(func() {
						for i := range each {
							b.hand(w, id*each+i, 1, i%300)
						}
					})
				}
				wg.Wait()
				noError(t, b.done())
				b.expect(workers*each, 0, 0, 0, 0)
				noError(t, b.Problem())
				s.once(t, workers*each)
				if fmt.Sprint(s.resource) != "map[k8s.cluster.name:east service.name:kube-enricher]" || s.headers[0].Get("x-scope-orgid")[0] != "tenant" {
					t.Errorf("resource %v, headers %v", s.resource, s.headers[0])
				}
				if len(s.sizes) < 30 {
					t.Errorf("%d requests, want batches of at most 20,000 bytes", len(s.sizes))
				}
			})
		}
	}
}

// grpcStatus returns an error with details.
func grpcStatus(t *testing.T, code codes.Code, wait time.Duration) error {
	s := status.New(code, "no: hunter2")
	if wait > 0 {
		var err error
		s, err = s.WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
		noError(t, err)
	}
	return s.Err()
}

// TestOTLPAnswers has what becomes of a batch by the receiver's answer. It is the table
// of docs/outputs.md.
func TestOTLPAnswers(t *testing.T) {
	twice := func(err error) func(int) (*collogspb.ExportLogsServiceResponse, error) {
		return func(attempt int) (*collogspb.ExportLogsServiceResponse, error) {
			if attempt > 2 {
				return nil, nil
			}
			return nil, err
		}
	}
	partial := func(rejected int64) func(int) (*collogspb.ExportLogsServiceResponse, error) {
		return func(int) (*collogspb.ExportLogsServiceResponse, error) {
			return &collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: "too old"}}, nil
		}
	}
	code := func(text string) error { return status.Error(codes.Unknown, text) }
	type test struct {
		fail            func(int) (*collogspb.ExportLogsServiceResponse, error)
		written, failed int // of 10 records
		attempts        int
		problem         string
	}
	for protocol, tests := range map[string]map[string]test{
		OTLPGRPC: {
			"OK":                               {nil, 10, 0, 1, ""},
			"Canceled":                         {twice(grpcStatus(t, codes.Canceled, 0)), 10, 0, 3, ""},
			"Unknown":                          {twice(grpcStatus(t, codes.Unknown, 0)), 0, 10, 1, "Unknown"},
			"InvalidArgument":                  {twice(grpcStatus(t, codes.InvalidArgument, 0)), 0, 10, 1, "InvalidArgument"},
			"DeadlineExceeded":                 {twice(grpcStatus(t, codes.DeadlineExceeded, 0)), 10, 0, 3, ""},
			"NotFound":                         {twice(grpcStatus(t, codes.NotFound, 0)), 0, 10, 1, "NotFound"},
			"PermissionDenied":                 {twice(grpcStatus(t, codes.PermissionDenied, 0)), 0, 10, 1, "PermissionDenied"},
			"ResourceExhausted":                {twice(grpcStatus(t, codes.ResourceExhausted, 0)), 0, 10, 1, "ResourceExhausted"},
			"ResourceExhausted with RetryInfo": {twice(grpcStatus(t, codes.ResourceExhausted, time.Millisecond)), 10, 0, 3, ""},
			"Aborted":                          {twice(grpcStatus(t, codes.Aborted, 0)), 10, 0, 3, ""},
			"OutOfRange":                       {twice(grpcStatus(t, codes.OutOfRange, 0)), 10, 0, 3, ""},
			"Unimplemented":                    {twice(grpcStatus(t, codes.Unimplemented, 0)), 0, 10, 1, "Unimplemented"},
			"Internal":                         {twice(grpcStatus(t, codes.Internal, 0)), 0, 10, 1, "Internal"},
			"Unavailable":                      {twice(grpcStatus(t, codes.Unavailable, 0)), 10, 0, 3, ""},
			"Unavailable with RetryInfo":       {twice(grpcStatus(t, codes.Unavailable, time.Second)), 10, 0, 3, ""},
			"DataLoss":                         {twice(grpcStatus(t, codes.DataLoss, 0)), 10, 0, 3, ""},
			"Unauthenticated":                  {twice(grpcStatus(t, codes.Unauthenticated, 0)), 0, 10, 1, "Unauthenticated"},
			"partial success":                  {partial(3), 7, 3, 1, "rejected records of a batch: too old"},
			"partial success of none":          {partial(0), 10, 0, 1, ""},
			"partial success of more":          {partial(1 << 40), 0, 10, 1, "rejected"},
			"partial success of less than 0":   {partial(-1), 10, 0, 1, ""},
		},
		OTLPHTTP: {
			"200":                        {nil, 10, 0, 1, ""},
			"400":                        {twice(code("400 no")), 0, 10, 1, "400 Bad Request: no"},
			"401":                        {twice(code("401 hunter2")), 0, 10, 1, "401 Unauthorized"},
			"404":                        {twice(code("404 no")), 0, 10, 1, "404"},
			"429":                        {twice(code("429 no")), 10, 0, 3, ""},
			"429 with a time":            {twice(code("429 after 1")), 10, 0, 3, ""},
			"500":                        {twice(code("500 no")), 0, 10, 1, "500"},
			"502":                        {twice(code("502 no")), 10, 0, 3, ""},
			"503":                        {twice(code("503 no")), 10, 0, 3, ""},
			"504":                        {twice(code("504 no")), 10, 0, 3, ""},
			"307":                        {twice(code("307 no")), 0, 10, 1, "redirects are not followed"},
			"partial success":            {partial(3), 7, 3, 1, "rejected records of a batch: too old"},
			"partial success of nothing": {partial(0), 10, 0, 1, ""},
			"rejected, all of them named": {func(attempt int) (*collogspb.ExportLogsServiceResponse, error) {
				resp, err := partial(3)(attempt)
				resp.PartialSuccess.ErrorMessage = strings.Repeat("a record is too old; ", 10_000)
				return resp, err
			}, 7, 3, 1, "rejected"},
		},
	} {
		for name, test := range tests {
			t.Run(protocol+" "+name, func(t *testing.T) {
				s := newReceiver()
				s.fail = test.fail
				_, addr := s.serve(t, "127.0.0.1:0")
				server := httptest.NewServer(s)
				t.Cleanup(server.Close)
				u, err := ParseURL(server.URL + "/v1/logs")
				noError(t, err)
				headers, err := ParseHeaders("Authorization=Bearer hunter2", nil)
				noError(t, err)
				b := newOTLP(t, OTLPConfig{Protocol: protocol, Address: addr, URL: u, Headers: headers, Timeout: 2 * time.Second})
				b.start()
				began := time.Now()
				b.hand(b.NewWriter(), 0, 10, 10)
				b.counted()
				problem := b.Problem()
				b.expect(test.written, 0, test.failed, 0, 0)
				noError(t, b.stop())
				if test.problem == "" && problem != nil || test.problem != "" && (problem == nil || !strings.Contains(problem.Error(), test.problem)) {
					t.Errorf("problem %v, want %q", problem, test.problem)
				}
				if s.requests != test.attempts {
					t.Errorf("%d attempts, want %d", s.requests, test.attempts)
				}
				if waits := strings.Contains(name, "with a time") || name == "Unavailable with RetryInfo"; waits && time.Since(began) < 2*time.Second {
					t.Errorf("two attempts that ask for a second each took %v", time.Since(began))
				}
				for _, e := range b.log.AllEntries() {
					if line, _ := e.String(); strings.Contains(line, "hunter2") {
						t.Errorf("the log has a secret: %s", line)
					}
				}
				warned := slices.ContainsFunc(b.log.AllEntries(), func(e *logrus.Entry) bool {
					return e.Level == logrus.WarnLevel && strings.HasSuffix(e.Message, ": too old")
				})
				if warned != (strings.HasPrefix(name, "partial") && test.failed == 0) {
					t.Errorf("whether the receiver's warning is logged: %t", warned)
				}
				if problem != nil && strings.Contains(problem.Error(), "hunter2") {
					t.Errorf("the problem has a secret: %v", problem)
				}
			})
		}
	}
}

// TestOTLPCutAnswers has receivers that begin to say that all is well. What is missing may say that
// records were rejected, so the batch is sent again.
func TestOTLPCutAnswers(t *testing.T) {
	for _, test := range []struct{ answer, problem string }{
		{"Content-Length: 11\r\n\r\nabcd", "200 OK, and has closed the connection within the answer"},
		{"Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n", "200 OK, and has closed the connection within the answer"},
		{"Content-Length: 11\r\n\r\nabcd", "200 OK, and no end of the answer within 1s"},
	} {
		s := newReceiver()
		cut := make(chan bool)
		late := strings.Contains(test.problem, "within 1s")
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, first := <-cut; !first {
				s.ServeHTTP(w, r)
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			conn, rw := hijack(w)
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\n" + test.answer)
			_ = rw.Flush()
			if late {
				_, _ = io.Copy(io.Discard, conn) // until the client has had enough
			}
			_ = conn.Close()
		}))
		t.Cleanup(server.Close)
		u, err := ParseURL(server.URL + "/v1/logs")
		noError(t, err)
		cfg := OTLPConfig{Protocol: OTLPHTTP, URL: u}
		if late {
			cfg.Timeout = time.Second
		}
		b := newOTLP(t, cfg)
		b.start()
		b.hand(b.NewWriter(), 0, 10, 10)
		cut <- false
		until(t, "it says what is wrong", func() bool {
			err := b.Problem()
			return err != nil && strings.Contains(err.Error(), test.problem)
		})
		close(cut)
		b.counted()
		b.expect(10, 0, 0, 0, 0)
		if !late { // a slow machine may be late again
			s.once(t, 10)
		}
		noError(t, b.stop())
	}
}

// TestOTLPTooLarge has a receiver that takes small requests only.
func TestOTLPTooLarge(t *testing.T) {
	s := newReceiver()
	_, addr := s.serve(t, "127.0.0.1:0", grpc.MaxRecvMsgSize(3000))
	b := newOTLP(t, OTLPConfig{Address: addr})
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 500, 50)
	b.hand(w, 500, 1, 5000)
	b.hand(w, 501, 500, 50)
	b.counted()
	b.expect(1000, 0, 1, 0, 0)
	s.once(t, 1000)
	noError(t, b.stop())
}

// TestOTLPAway has a receiver that is away at the start, comes, goes and comes back.
func TestOTLPAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	addr := l.Addr().String()
	noError(t, l.Close())
	b := newOTLP(t, OTLPConfig{Address: addr})
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 100, 50)
	until(t, "it says what is wrong", func() bool {
		err := b.Problem()
		return err != nil && strings.Contains(err.Error(), "connection refused")
	})
	b.expect(0, 0, 0, 0, 100)
	s := newReceiver()
	server, _ := s.serve(t, addr)
	b.counted()
	noError(t, b.Problem())
	server.Stop()
	b.hand(w, 100, 100, 50)
	until(t, "it says that the receiver is away", func() bool { return b.Problem() != nil })
	s.serve(t, addr)
	b.counted()
	b.expect(200, 0, 0, 0, 0)
	s.once(t, 200)
	noError(t, b.Problem())
	noError(t, b.stop())
}

// TestOTLPHangs has receivers that accept connections and say nothing.
func TestOTLPHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	u, err := ParseURL("http://" + l.Addr().String() + "/v1/logs")
	noError(t, err)
	for _, protocol := range []string{OTLPGRPC, OTLPHTTP} {
		b := newOTLP(t, OTLPConfig{Protocol: protocol, Address: l.Addr().String(), URL: u, Timeout: 100 * time.Millisecond})
		b.drainTimeout = 50 * time.Millisecond
		b.start()
		b.hand(b.NewWriter(), 0, 10, 10)
		until(t, "it says what is wrong", func() bool {
			err := b.Problem()
			return err != nil && strings.Contains(err.Error(), "no answer within 100ms")
		})
		if err := b.stop(); !errors.Is(err, ErrDrain) {
			t.Errorf("%s: Run returns %v", protocol, err)
		}
		b.expect(0, 0, 0, 10, 0)
	}
}

// TestOTLPTLS has a receiver that wants the client to show who it is.
func TestOTLPTLS(t *testing.T) {
	certs := brokers.NewCertificates(t)
	s := newReceiver()
	_, addr := s.serve(t, "127.0.0.1:0", grpc.Creds(credentials.NewTLS(certs.Server(true))))
	server := httptest.NewUnstartedServer(s)
	server.TLS = certs.Server(true)
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := ParseURL(server.URL + "/v1/logs")
	noError(t, err)
	mutual := TLSFiles{CA: certs.CA, Cert: certs.ClientCert, Key: certs.ClientKey}
	for i, protocol := range []string{OTLPGRPC, OTLPHTTP} {
		b := newOTLP(t, OTLPConfig{Protocol: protocol, Address: addr, URL: u, UseTLS: true, TLS: mutual})
		b.start()
		b.hand(b.NewWriter(), 10*i, 10, 10)
		noError(t, b.done())
		s.once(t, 10*i+10)
		for name, files := range map[string]TLSFiles{"no client certificate": {CA: certs.CA}, "no authority": {Cert: certs.ClientCert, Key: certs.ClientKey}} {
			b := newOTLP(t, OTLPConfig{Protocol: protocol, Address: addr, URL: u, UseTLS: true, TLS: files})
			b.drainTimeout = 50 * time.Millisecond
			b.start()
			b.hand(b.NewWriter(), 1000, 10, 10)
			until(t, "it says what is wrong", func() bool {
				err := b.Problem()
				return err != nil && strings.Contains(err.Error(), "certificate")
			})
			if err := b.stop(); !errors.Is(err, ErrDrain) {
				t.Errorf("%s, %s: Run returns %v", protocol, name, err)
			}
			b.expect(0, 0, 0, 10, 0)
		}
	}
	for _, files := range []TLSFiles{{CA: "/nowhere"}, {Cert: certs.ClientCert, Key: certs.CA}} {
		file := (*FileError)(nil)
		if _, err := NewOTLP(OTLPConfig{UseTLS: true, TLS: files}, logEncoder{}, nullLog(), prometheus.NewRegistry()); !errors.As(err, &file) {
			t.Errorf("%+v: %v", files, err)
		}
	}
}

// TestProbe connects to servers that want TLS, and more: a certificate of the client, and
// that it names the protocol it will speak. Nothing is sent.
func TestProbe(t *testing.T) {
	certs := brokers.NewCertificates(t)
	cfg := certs.Server(true)
	cfg.NextProtos = []string{"h2", "http/1.1"}
	named := make(chan []string, 10)
	cfg.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		named <- hello.SupportedProtos
		return nil, nil
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("a request for %s", r.URL) }))
	server.TLS, server.Config.ErrorLog = cfg, log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := ParseURL(server.URL)
	noError(t, err)
	for protocol, want := range map[string]string{OTLPGRPC: "h2", OTLPHTTP: "http/1.1"} {
		for files, refused := range map[TLSFiles]bool{
			{CA: certs.CA, Cert: certs.ClientCert, Key: certs.ClientKey}: false,
			{CA: certs.CA}: true,
		} {
			o := newOTLP(t, OTLPConfig{Protocol: protocol, Address: u.Host, URL: u, UseTLS: true, TLS: files})
			if err := o.sender.probe(t.Context()); (err != nil) != refused {
				t.Errorf("%s, %+v: %v", protocol, files, err)
			}
			if got := <-named; len(got) != 1 || got[0] != want {
				t.Errorf("%s: the client names %q, want %s", protocol, got, want)
			}
			o.sender.close()
		}
	}
}

// TestPartialSuccess reads answers that are none.
func TestPartialSuccess(t *testing.T) {
	good, err := proto.Marshal(&collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{RejectedLogRecords: 5, ErrorMessage: "why"}})
	noError(t, err)
	for i := range good {
		_ = partialSuccess(good[:i], nil)
		_ = partialSuccess(bytes.Replace(good, good[i:i+1], []byte{0xff}, 1), nil)
	}
	if a := partialSuccess([]byte("<html>all is well</html>"), nil); a.verdict != sentAll || a.rejected != 0 {
		t.Errorf("%+v", a)
	}
	if a := partialSuccess(good, nil); a.rejected != 5 || !strings.HasSuffix(a.err.Error(), ": why") {
		t.Errorf("%+v", a)
	}
	for rejected, want := range map[int64]string{
		-3: "the receiver has rejected -3 records of a batch, which counts as none: ...",
		0:  "the receiver has taken a batch with a warning: ...",
	} {
		answer, err := proto.Marshal(&collogspb.ExportLogsServiceResponse{PartialSuccess: &collogspb.ExportLogsPartialSuccess{RejectedLogRecords: rejected, ErrorMessage: "why"}})
		noError(t, err)
		if a := partialSuccess(answer, secrets{"why"}); a.rejected != 0 || a.err != nil || a.warning != want {
			t.Errorf("%d rejected: %+v", rejected, a)
		}
	}
	if a := partialSuccess(good, secrets{"why"}); !strings.HasSuffix(a.err.Error(), ": ...") {
		t.Errorf("a secret is repeated: %v", a.err)
	}
}

func nullLog() logrus.FieldLogger {
	log, _ := logtest.NewNullLogger()
	return log
}

// TestOTLPMetadata has headers that calls of gRPC cannot have. One whose file has become so is no
// reason to drop a batch: the file may be written anew.
func TestOTLPMetadata(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for value, want := range map[string]string{
		"Bearer x\n": "", "Bearer \u00fc": "header Authorization: its file has other characters than printable ASCII, which gRPC cannot send",
	} {
		noError(t, os.WriteFile(file, []byte(value), 0o600))
		headers, err := ParseHeaders("Authorization=${file:"+file+"}", nil)
		noError(t, err)
		noError(t, CheckMetadata(headers))
		c := grpcClient{cfg: OTLPConfig{Headers: headers}}
		md, _, err := c.metadata()
		if want == "" && (err != nil || md.Get("authorization")[0] != "Bearer x") || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%q: %v, %v", value, md, err)
		}
		if want != "" {
			if a := c.send(t.Context(), new(batch)); a.verdict != sentNone || a.err == nil {
				t.Errorf("%q: %+v", value, a)
			}
		}
	}
}
