package hubble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// rawClient is a client of HTTP/2 that sends what a test wants, and keeps nothing of what it
// receives. It obeys the windows of the server, and opens its own when the test says so.
type rawClient struct {
	tb     testing.TB
	conn   net.Conn
	framer *http2.Framer
	mu     sync.Mutex // of what is written, and of what follows
	header bytes.Buffer
	hpack  *hpack.Encoder

	next   uint32            // stream
	left   map[uint32][]byte // what is still to be sent, by stream
	half   map[uint32]bool   // the request does not end with it
	window map[uint32]int    // what the server takes, by stream; 0 is for the connection

	status map[uint32]string // of gRPC, of streams that ended
	reset  map[uint32]bool
	got    int // bytes of answers
}

// newRawClient takes so many bytes of the answer of each stream.
func newRawClient(tb testing.TB, conn net.Conn, window uint32) *rawClient {
	tb.Helper()
	c := &rawClient{
		tb: tb, conn: conn, framer: http2.NewFramer(conn, conn), next: 1, left: make(map[uint32][]byte), half: make(map[uint32]bool),
		window: map[uint32]int{0: 65535}, status: make(map[uint32]string), reset: make(map[uint32]bool),
	}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.hpack = hpack.NewEncoder(&c.header)
	tb.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		tb.Fatal(err)
	}
	if err := c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		tb.Fatal(err)
	}
	go c.read()
	return c
}

// read reads until the connection ends, and sends what the server takes.
func (c *rawClient) read() {
	for {
		f, err := c.framer.ReadFrame()
		if se := (http2.StreamError{}); errors.As(err, &se) {
			continue
		}
		if err != nil {
			return
		}
		c.mu.Lock()
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = c.framer.WritePing(true, f.Data)
			}
		case *http2.WindowUpdateFrame:
			c.window[f.StreamID] += int(f.Increment)
		case *http2.DataFrame:
			c.got += len(f.Data())
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				if h.Name == "grpc-status" {
					c.status[f.StreamID] = h.Value
				}
			}
		case *http2.RSTStreamFrame:
			c.reset[f.StreamID] = true
			delete(c.left, f.StreamID)
		}
		c.pump()
		c.mu.Unlock()
	}
}

// pump sends what is left, as far as the windows allow. c.mu is held.
func (c *rawClient) pump() {
	const frame = 16 << 10
	for id, b := range maps.Clone(c.left) {
		for len(b) > 0 {
			n := min(len(b), c.window[0], c.window[id], frame)
			if n <= 0 || c.framer.WriteData(id, !c.half[id] && n == len(b), b[:n]) != nil {
				break
			}
			b = b[n:]
			c.window[0] -= n
			c.window[id] -= n
		}
		c.left[id] = b
	}
}

// begin sends the headers of a call, with further ones: names and values.
func (c *rawClient) begin(method string, more ...string) uint32 {
	id := c.next
	c.next += 2
	c.header.Reset()
	list := []string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "x", "te", "trailers"}
	if !slices.Contains(more, "content-type") {
		list = append(list, "content-type", "application/grpc")
	}
	for h := range slices.Chunk(append(list, more...), 2) {
		_ = c.hpack.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.header.Bytes(), EndHeaders: true})
	c.window[id] = 65535
	return id
}

// call sends a whole request.
func (c *rawClient) call(method string, req proto.Message) uint32 {
	b, err := proto.Marshal(req)
	if err != nil {
		c.tb.Fatal(err)
	}
	return c.callBytes(method, append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...))
}

// callBytes sends a request with any body, and further headers.
func (c *rawClient) callBytes(method string, body []byte, more ...string) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.begin(method, more...)
	if len(body) == 0 {
		_ = c.framer.WriteData(id, true, nil)
	}
	c.left[id] = body
	c.pump()
	return id
}

// halfCall begins a call with a part of its request.
func (c *rawClient) halfCall(part []byte) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.begin(observerpb.Observer_GetFlows_FullMethodName)
	c.left[id], c.half[id] = part, true
	c.pump()
	return id
}

// halfRequest returns a message without its last byte.
func halfRequest() []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, maxRequest), make([]byte, maxRequest-1)...)
}

// open lets the server send n more bytes of a stream.
func (c *rawClient) open(id, n uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.framer.WriteWindowUpdate(0, n)
	_ = c.framer.WriteWindowUpdate(id, n)
}

// outcome returns the status of a call that has ended, and whether its stream was reset.
func (c *rawClient) outcome(id uint32) (status string, reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status[id], c.reset[id]
}

// pipes is a listener for connections of pipes, which have no network and so work with a fake
// clock.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (*pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// servePipes runs a server of pipes.
func servePipes(t *testing.T, source Source) (*testServer, *pipes) {
	t.Helper()
	skipped := prometheus.NewCounter(prometheus.CounterOpts{Name: "skipped"})
	s, err := New(Config{Mapping: mapping(t), Name: "enricher-0"}, source, skipped, quiet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s.listener = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return &testServer{s, skipped, func() error { cancel(); return <-done }}, p
}
