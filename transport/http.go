package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

// Defaults of [HTTPConfig]. Sizes are in bytes.
const (
	DefaultHTTPBatch   = 1 << 20
	DefaultHTTPFlush   = time.Second
	DefaultHTTPTimeout = 10 * time.Second
	DefaultHTTPBuffer  = 64 << 20
)

// minHTTPBuffer is the smallest buffer that makes sense, in bytes.
const minHTTPBuffer = 128 << 10

// HTTPConfig has the settings of an HTTP output. The zero value of a field stands
// for its default, but for Flush.
type HTTPConfig struct {
	// URL is where batches are sent, by POST. See [ParseURL].
	URL *url.URL
	// Headers are sent with each request. They replace what the program would send.
	Headers []Header
	// ContentType is the header Content-Type.
	ContentType string
	// Compression is CompressionNone, CompressionGzip or CompressionZstd.
	Compression string
	// BatchBytes bounds a request's body before compression. A record that is larger
	// is sent alone.
	BatchBytes int
	// Flush is how long a record may wait for its batch to fill up.
	Flush time.Duration
	// Timeout bounds a request, from connecting to the end of the answer.
	Timeout time.Duration
	// Retry makes a batch be sent again that the server may have: after a timeout, a
	// connection that ended, and 5xx. Records may be there twice then.
	Retry bool
	// TLS is for URLs that begin with https.
	TLS TLSFiles

	// BufferBytes bounds the records that are not acknowledged yet, in bytes.
	BufferBytes int
	// Block makes workers wait when the buffer is full, instead of dropping
	// the newest records: for inputs that can wait. Run then reports records
	// that could not be written as an error.
	Block bool
	// DrainTimeout is how long Run goes on after its context has ended. It is
	// [DefaultDrainTimeout] if 0.
	DrainTimeout time.Duration
	// Several reports whether this is one of several outputs. The metric records_held has
	// the transport as a label then.
	Several bool
}

func (c *HTTPConfig) setDefaults() {
	if c.Compression == "" {
		c.Compression = CompressionNone
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = DefaultHTTPBatch
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultHTTPTimeout
	}
	if c.BufferBytes == 0 {
		c.BufferBytes = DefaultHTTPBuffer
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
}

// HTTP writes batches of records to an HTTP server, each by a POST. It implements
// [Output], with the same rules for concurrent calls.
//
// A batch counts as written when the server answers with a code from 200 to 299.
// docs/outputs.md has what becomes of it with other answers.
type HTTP struct {
	batchOutput
}

// NewHTTP returns an output that is inert until Run, and registers its metrics. It
// fails if the configuration is wrong, or if reg has the metrics of another such
// output. The error is a [FileError] if a file that the configuration names cannot
// be used.
func NewHTTP(cfg HTTPConfig, enc Encoder, log logrus.FieldLogger, reg prometheus.Registerer) (*HTTP, error) {
	cfg.setDefaults()
	if cfg.BufferBytes < minHTTPBuffer {
		return nil, fmt.Errorf("buffer of %d bytes is too small; it must have at least %d", cfg.BufferBytes, minHTTPBuffer)
	}
	client, err := newHTTPClient(cfg)
	if err != nil {
		return nil, err
	}
	h := new(HTTP)
	h.init(runnerConfig{
		transport:    "http",
		name:         "http",
		block:        cfg.Block,
		several:      cfg.Several,
		drainTimeout: cfg.DrainTimeout,
		flushEvery:   tickOf(cfg.Flush),
		stallAfter:   stallAfter,
		stallText:    "no batch was acknowledged",
	}, newBuffer(enc, cfg.BufferBytes, cfg.Block), log, "the server was not reached yet")
	h.initBatches(client, cfg.BatchBytes, cfg.Flush)
	if err := h.register(reg); err != nil {
		return nil, err
	}
	return h, nil
}

// ParseURL reads the URL of an HTTP server. No error has the URL in it, which may
// have a password.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("this is no URL; give one such as http://clickhouse:8123/?query=INSERT%20INTO%20flows%20FORMAT%20JSONEachRow")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the URL does not begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("the URL has no host; give http://HOST:PORT/PATH")
	case u.Fragment != "":
		return nil, errors.New("the URL has a fragment, which no server gets; write %23 for a #")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("the URL's port is not allowed; give one from 1 to 65535")
		}
	}
	return u, nil
}

// httpClient sends batches to an HTTP server. It implements [sender].
type httpClient struct {
	cfg       HTTPConfig
	client    *http.Client
	transport *http.Transport
	// plain and secure make connections, without TLS and with it.
	plain, secure *dialer
	compress      compressor
	// envelope, if it is set, returns what goes before the records in the body.
	envelope func(b *batch) []byte
	// accepted, if it is set, reads the body of an answer that acknowledges a batch.
	accepted func(body []byte, hidden secrets) attempt
	// again reports whether a batch is sent again that the server has answered with
	// a code other than 2xx, and that it cannot have or may have twice.
	again func(code int) bool
}

// newHTTPClient returns a client whose connections are made by the first request.
func newHTTPClient(cfg HTTPConfig) (*httpClient, error) {
	c := &httpClient{cfg: cfg, again: func(code int) bool {
		switch {
		case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
			return true // it has not taken the batch
		case code == http.StatusRequestTimeout || code >= 500:
			return cfg.Retry
		}
		return false
	}}
	c.plain, c.secure = new(dialer), &dialer{files: &c.cfg.TLS, protocols: []string{"http/1.1"}}
	tlsConfig, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	if _, _, err := c.headers(); err != nil {
		return nil, err
	}
	if c.compress, err = newCompressor(cfg.Compression); err != nil {
		return nil, err
	}
	c.transport = &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     c.plain.DialContext,
		DialTLSContext:  c.secure.DialContext,
		TLSClientConfig: tlsConfig, // with a proxy
		// A server that closes a connection for its age may do so while a batch is
		// under way, and nobody knows whether it has the batch then.
		IdleConnTimeout:     2 * time.Second,
		MaxIdleConnsPerHost: maxInFlight,
		MaxConnsPerHost:     maxInFlight,
		DisableCompression:  true,
		WriteBufferSize:     64 << 10,
	}
	c.client = &http.Client{
		Transport: c.transport,
		// To follow would turn a POST into a GET, or send secrets to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// headers returns the headers of a request, and those values that may be secrets.
func (c *httpClient) headers() (h http.Header, hidden secrets, err error) {
	h = http.Header{"User-Agent": {"kube-enricher"}}
	if c.cfg.ContentType != "" {
		h.Set("Content-Type", c.cfg.ContentType)
	}
	if c.compress.encoding != "" {
		h.Set("Content-Encoding", c.compress.encoding)
	}
	for i := range c.cfg.Headers {
		v, err := c.cfg.Headers[i].get()
		if err != nil {
			return nil, nil, err
		}
		h.Set(c.cfg.Headers[i].Name, v)
		hidden.addHeader(v)
	}
	hidden.addURL(c.cfg.URL)
	return h, hidden, nil
}

// send implements [sender].
func (c *httpClient) send(ctx context.Context, b *batch) attempt {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	body, err := c.body(b)
	if err != nil {
		return attempt{verdict: refused, err: err}
	}
	headers, hidden, err := c.headers()
	if err != nil {
		return attempt{verdict: sentNone, err: err} // a file that is being replaced
	}
	out := &outgoing{body: body}
	req := (&http.Request{
		Method: http.MethodPost, URL: c.cfg.URL, Host: c.cfg.URL.Host, Header: headers,
		ContentLength: body.size(), Body: out.reader(),
		GetBody: func() (io.ReadCloser, error) { return out.reader(), nil },
	}).WithContext(ctx)
	resp, err := c.client.Do(req)
	begun := out.end()
	if err != nil {
		a := attempt{verdict: refused, err: c.explain(ctx, err, hidden)}
		if !begun || c.cfg.Retry {
			a.verdict = sentNone
		}
		return a
	}
	defer resp.Body.Close()
	return c.answer(ctx, resp, hidden)
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// maxAccepted bounds what is read of an answer that may say which records were rejected, and why.
// It is what gRPC takes of one.
const maxAccepted = 4 << 20

// answer judges a batch by the server's answer.
func (c *httpClient) answer(ctx context.Context, resp *http.Response, hidden secrets) attempt {
	code := resp.StatusCode
	good := code >= 200 && code < 300
	most := int64(maxAnswer)
	if good && c.accepted != nil {
		most = maxAccepted
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	switch {
	case good && c.accepted == nil:
		return attempt{verdict: sentAll}
	case good && err == nil:
		return c.accepted(text, hidden)
	case good:
		text = nil // a message in binary
	}
	a := attempt{verdict: refused, err: errors.New("the server answers " + answerText(resp, hidden.redact(string(text))))}
	switch {
	case good: // what is missing may say that records were rejected
		a.verdict = sentNone
	case code == http.StatusRequestEntityTooLarge:
		a.verdict = tooLarge
	case c.again(code):
		a.verdict, a.wait = sentNone, retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	switch {
	case err == nil:
	case ctx.Err() != nil:
		a.err = fmt.Errorf("%w, and no end of the answer within %v", a.err, c.cfg.Timeout)
	case good:
		a.err = fmt.Errorf("%w, and has closed the connection within the answer", a.err)
	}
	return a
}

// answerText returns the status of an answer, and the beginning of its text.
func answerText(resp *http.Response, text string) string {
	status := strings.TrimSpace(strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode))
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return status + "; redirects are not followed, give the URL that it leads to"
	}
	return status + quoteAnswer(text)
}

// retryAfter reads the header Retry-After (RFC 9110, section 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	} else if errors.Is(err, strconv.ErrRange) {
		return longestWait
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// explain returns an error of the client without the URL, which may have a password. A server may
// repeat parts of the request where its answer has to begin, and the error then has them.
func (c *httpClient) explain(ctx context.Context, err error, hidden secrets) error {
	if withURL, ok := errors.AsType[*url.Error](err); ok {
		err = withURL.Err
	}
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("no answer within %v", c.cfg.Timeout)
	case hungUp(err):
		return errors.New("the server has closed the connection without an answer")
	}
	if text := hidden.redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// probe implements [sender]. It connects, and sends nothing.
func (c *httpClient) probe(ctx context.Context) error {
	u := c.cfg.URL
	if proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u}); err != nil || proxy != nil {
		return err // only a request shows more
	}
	port := u.Port()
	if port == "" {
		port = u.Scheme
	}
	d := c.plain
	if u.Scheme == "https" {
		d = c.secure
	}
	return d.probe(ctx, net.JoinHostPort(u.Hostname(), port))
}

// close implements [sender].
func (c *httpClient) close() { c.transport.CloseIdleConnections() }
