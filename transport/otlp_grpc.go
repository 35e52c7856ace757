package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// exportMethod is the call that takes logs (opentelemetry-proto,
// collector/logs/v1/logs_service.proto).
const exportMethod = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

// writeBuffer is how much gRPC gathers for one write, in bytes. Each write wakes up the receiver
// and the runtime's monitor, and a batch takes 17 of them with 64 KiB.
const writeBuffer = 512 << 10

// grpcClient sends batches to a receiver by gRPC. It implements [sender].
type grpcClient struct {
	cfg      OTLPConfig
	timeout  time.Duration
	envelope envelope
	conn     *grpc.ClientConn
	dialer   dialer // of probes
	requests requestPool
}

// newGRPCClient returns a client that connects at the first request.
func newGRPCClient(cfg OTLPConfig, timeout time.Duration, e envelope) (*grpcClient, error) {
	c := &grpcClient{cfg: cfg, timeout: timeout, envelope: e, dialer: dialer{protocols: []string{"h2"}}}
	if _, err := cfg.TLS.config(); err != nil {
		return nil, err
	}
	if _, _, err := c.metadata(); err != nil {
		return nil, err
	}
	var creds credentials.TransportCredentials = insecure.NewCredentials()
	if cfg.UseTLS {
		creds, c.dialer.files = newGRPCCredentials(&c.cfg.TLS), &c.cfg.TLS
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent("kube-enricher"),
		grpc.WithDisableServiceConfig(), // the names' DNS records don't decide how often is tried
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})),
		grpc.WithIdleTimeout(0),
		// The attempts of the output decide how often a receiver that is away is tried.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: shortestRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithWriteBufferSize(writeBuffer),
	}
	switch cfg.Compression {
	case "", CompressionNone:
	case CompressionGzip:
		opts = append(opts, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
	default:
		return nil, fmt.Errorf("otlp: no compression is named %q", cfg.Compression)
	}
	var err error
	if c.conn, err = grpc.NewClient("dns:///"+cfg.Address, opts...); err != nil {
		return nil, fmt.Errorf("otlp: %w", err)
	}
	return c, nil
}

// CheckMetadata returns why a call of gRPC cannot have headers, nil if it can. Values that come from
// files are checked when they are sent. It is no secret that a value has a wrong character.
func CheckMetadata(headers []Header) error {
	for i := range headers {
		h := &headers[i]
		name := strings.ToLower(h.Name)
		switch {
		case strings.HasPrefix(name, "grpc-") || slices.Contains([]string{"content-type", "te", "user-agent"}, name):
			return fmt.Errorf("header %s is not allowed with gRPC, which sets it; leave it out", h.Name)
		case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
			return fmt.Errorf("header %s: gRPC's names have letters, digits and - _ . only", h.Name)
		}
		for _, p := range h.value {
			if !printable(p.text) {
				return fmt.Errorf("header %s: gRPC's values have printable ASCII only", h.Name)
			}
		}
	}
	return nil
}

// printable reports whether a text can be the value of a header of gRPC.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// metadata returns the headers of a request, and those values that may be secrets.
func (c *grpcClient) metadata() (md metadata.MD, hidden secrets, err error) {
	md = metadata.MD{}
	for i := range c.cfg.Headers {
		h := &c.cfg.Headers[i]
		v, err := h.get()
		if err != nil {
			return nil, nil, err
		}
		if !printable(v) { // gRPC would fail each call, and a batch would be dropped for it
			return nil, nil, fmt.Errorf("header %s: its file has other characters than printable ASCII, which gRPC cannot send", h.Name)
		}
		md.Set(strings.ToLower(h.Name), v)
		hidden.addHeader(v)
	}
	return md, hidden, nil
}

// send implements [sender].
func (c *grpcClient) send(ctx context.Context, b *batch) attempt {
	md, hidden, err := c.metadata()
	if err != nil {
		return attempt{verdict: sentNone, err: err} // a file that is being replaced
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// The client may read a request after its call has ended, when the chunks are in
	// use for other records. So it gets a copy.
	before := c.envelope.before(b)
	request := c.requests.Get(len(before) + b.size)
	n := copy(*request, before)
	for _, p := range b.parts {
		n += copy((*request)[n:], p.bytes())
	}
	message := mem.BufferSlice{mem.NewBuffer(request, &c.requests)}
	var response []byte
	err = c.conn.Invoke(metadata.NewOutgoingContext(ctx, md), exportMethod, message, &response)
	if err == nil {
		return partialSuccess(response, hidden)
	}
	return c.failed(err, hidden)
}

// failed judges a call that has failed, by the table of the specification ("OTLP/gRPC
// Throttling" and "Failures").
func (c *grpcClient) failed(err error, hidden secrets) attempt {
	s := status.Convert(err)
	text := hidden.redact(s.Message())
	a := attempt{verdict: refused, err: errors.New("the receiver answers " + s.Code().String() + quoteAnswer(text))}
	wait, hasRetry := retryInfo(s)
	switch s.Code() {
	case codes.DeadlineExceeded:
		a.verdict, a.err = sentNone, fmt.Errorf("no answer within %v", c.timeout)
	case codes.Unavailable:
		a.verdict, a.err = sentNone, errors.New("the receiver is not available"+quoteAnswer(text))
	case codes.Canceled, codes.Aborted, codes.OutOfRange, codes.DataLoss:
		a.verdict = sentNone
	case codes.ResourceExhausted:
		switch {
		case hasRetry:
			a.verdict = sentNone
		case strings.Contains(s.Message(), "larger than max"): // of gRPC itself
			a.verdict = tooLarge
		}
	}
	a.wait = wait
	return a
}

// retryInfo returns how long a status asks to wait, and reports whether it does.
func retryInfo(s *status.Status) (time.Duration, bool) {
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return max(r.GetRetryDelay().AsDuration(), 0), true
		}
	}
	return 0, false
}

// probe implements [sender]. It connects, and sends nothing.
func (c *grpcClient) probe(ctx context.Context) error {
	return c.dialer.probe(ctx, c.cfg.Address)
}

// close implements [sender].
func (c *grpcClient) close() { _ = c.conn.Close() }

// requestPool has the memory of requests that gRPC has done with. Its own pool clears
// what it hands out, which costs as much as to fill it. It implements [mem.BufferPool].
type requestPool struct{ pool sync.Pool }

// Get implements [mem.BufferPool], but for what the memory has.
func (p *requestPool) Get(size int) *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok && cap(*b) >= size {
		*b = (*b)[:size]
		return b
	}
	b := make([]byte, size, size+size/8)
	return &b
}

// Put implements [mem.BufferPool].
func (p *requestPool) Put(b *[]byte) { p.pool.Put(b) }

// rawCodec passes messages that are encoded.
type rawCodec struct{}

// Name implements [encoding.CodecV2]: it is part of the content type.
func (rawCodec) Name() string { return "proto" }

// Marshal implements [encoding.CodecV2].
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	b, ok := v.(mem.BufferSlice)
	if !ok {
		return nil, fmt.Errorf("a request is %T", v)
	}
	return b, nil
}

// Unmarshal implements [encoding.CodecV2].
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	p, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a response is %T", v)
	}
	*p = data.Materialize()
	return nil
}
