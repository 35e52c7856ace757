package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// body is what a request sends: the chunks' bytes as they are, or one block that is
// compressed.
type body [][]byte

// body returns the body of a request, compressed where that is asked for.
func (c *httpClient) body(b *batch) (body, error) {
	if b.encoded != nil {
		return body{b.encoded}, nil
	}
	blocks := make(body, 0, len(b.parts)+1)
	if c.envelope != nil {
		blocks = append(blocks, c.envelope(b))
	}
	for _, p := range b.parts {
		blocks = append(blocks, p.bytes())
	}
	if c.compress.encoding == "" {
		return blocks, nil
	}
	var err error
	b.encoded, err = c.compress.compress(blocks)
	return body{b.encoded}, err
}

func (b body) size() (n int64) {
	for _, block := range b {
		n += int64(len(block))
	}
	return n
}

// outgoing is a body while it is sent. The client may read it on another goroutine,
// even after the request has ended, when the chunks are in use for other records.
type outgoing struct {
	mu    sync.Mutex
	body  body
	begun bool // some of it was read
	ended bool // nothing is read any more
}

// reader returns a reader of the whole body. The client asks for another one only if
// it has written nothing of the first.
func (o *outgoing) reader() io.ReadCloser {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.begun = false
	return &bodyReader{o: o, blocks: o.body}
}

// end makes all readers fail, and reports whether any of them has read anything.
func (o *outgoing) end() (begun bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	return o.begun
}

var errRequestEnded = errors.New("the request has ended")

// bodyReader reads one block after the other.
type bodyReader struct {
	o      *outgoing
	blocks body
	at     int // offset in the first block
}

// Read implements [io.Reader].
func (r *bodyReader) Read(p []byte) (n int, err error) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	if r.o.ended {
		return 0, errRequestEnded
	}
	r.o.begun = true
	for n < len(p) && len(r.blocks) > 0 {
		k := copy(p[n:], r.blocks[0][r.at:])
		n += k
		if r.at += k; r.at == len(r.blocks[0]) {
			r.blocks, r.at = r.blocks[1:], 0
		}
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Close implements [io.Closer].
func (r *bodyReader) Close() error { return nil }

// compressor makes the body of a request. Its zero value copies nothing.
type compressor struct {
	encoding string // the value of Content-Encoding; empty for none
	writers  *sync.Pool
}

// encoder is a writer that can be used again: that of gzip, or of zstd.
type encoder interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// newCompressor returns what compresses by the given name.
func newCompressor(name string) (compressor, error) {
	switch name {
	case "", CompressionNone:
		return compressor{}, nil
	case CompressionGzip:
		return compressor{name, &sync.Pool{New: func() any {
			w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails for unknown levels
			return w
		}}}, nil
	case CompressionZstd:
		return compressor{name, &sync.Pool{New: func() any {
			w, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest)) // fails for unknown options
			return w
		}}}, nil
	}
	return compressor{}, fmt.Errorf("no compression is named %q", name)
}

// compress returns the blocks as one.
func (c *compressor) compress(blocks body) ([]byte, error) {
	w, ok := c.writers.Get().(encoder)
	if !ok {
		return nil, fmt.Errorf("no compression %s", c.encoding)
	}
	defer c.writers.Put(w)
	var buf bytes.Buffer
	buf.Grow(int(blocks.size() / 4))
	w.Reset(&buf)
	for _, block := range blocks {
		if _, err := w.Write(block); err != nil {
			return nil, fmt.Errorf("compress: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return buf.Bytes(), nil
}
