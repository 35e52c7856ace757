// Package capture reads the UDP datagrams of packet captures: pcap and pcapng
// files as tcpdump and Wireshark write them, plain or compressed
// with gzip.
//
// The package has small readers of its own, for three reasons. A capture may be
// hostile, so its lengths must not decide how much is allocated. A damaged capture
// is read up to the damage, which the error names by its offset. The capture's times
// are the clock of everything that follows, so pcapng times of any resolution are
// exact. The tests compare the readers with gopacket's.
package capture

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Datagram is one UDP datagram of a capture, whole or reassembled from its
// fragments.
type Datagram struct {
	// Time is when the datagram was captured, in UTC. That of a fragmented datagram
	// is the time of the fragment that completed it. It fits Unix nanoseconds.
	Time time.Time
	// Src and Dst are as in the packet: IPv4-mapped IPv6 stays what it is.
	Src, Dst netip.AddrPort
	// Payload is what follows the UDP header. It is valid until the function
	// that was given the datagram returns.
	Payload []byte
	// Truncated reports whether the capture's snap length cut off the payload.
	Truncated bool
}

// Stats counts the packets of a capture. Each is in exactly one of the other
// counters but Reassembled and Incomplete, which count datagrams:
//
//	Packets = Whole + Fragments + NotUDP + Malformed + UnknownLink
type Stats struct {
	Packets     uint64 // read from the capture
	Whole       uint64 // UDP datagrams of one packet
	Reassembled uint64 // UDP datagrams of several packets
	Incomplete  uint64 // datagrams of which fragments are missing
	Fragments   uint64 // fragments of UDP datagrams, or of what may be one
	NotUDP      uint64 // other protocols
	Malformed   uint64 // headers that are cut or contradict themselves
	UnknownLink uint64 // captured on a kind of link that is not known here
}

// Datagrams returns how many datagrams were handed on.
func (s *Stats) Datagrams() uint64 { return s.Whole + s.Reassembled }

// maxPacket is the longest packet that is read, in bytes: libpcap's and Wireshark's own
// limit on what a network captures. maxFixed is how much of a packet's header or block
// is read together with it.
const (
	maxPacket = 256 << 10
	maxFixed  = 20
	maxPeek   = maxPacket + maxFixed
)

// Read calls fn with every UDP datagram of the capture file path, in order, on the
// goroutine that called Read. It recognizes pcap (of micro- and nanoseconds) and
// pcapng in either byte order, and gzip, by their content.
//
// If the file is damaged or cut, fn has had everything before the damage. The error
// then names the file and the offset of the packet or block that could not be read,
// within the uncompressed capture if the file is compressed. Stats are right also
// beside an error. When ctx ends, Read returns the error of ctx, also while it waits for
// a named pipe.
func Read(ctx context.Context, path string, fn func(*Datagram)) (Stats, error) {
	f, err := open(ctx, path)
	if err != nil {
		// The error of os.Open names the file.
		return Stats{}, fmt.Errorf("read capture: %w", err)
	}
	defer f.Close()
	// Files that can be polled, such as named pipes, can be interrupted.
	defer context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })()
	start := time.Unix(0, 0)
	if info, err := f.Stat(); err == nil {
		start = info.ModTime()
	}
	stats, err := read(ctx, f, start, fn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("read capture %s: %w", path, err)
	}
	return stats, err
}

// ReadFrom does the same with a capture that comes as a stream, such as standard input. name
// is for errors. A Read of in that is under way when ctx ends is waited for.
func ReadFrom(ctx context.Context, in io.Reader, name string, fn func(*Datagram)) (Stats, error) {
	stats, err := read(ctx, in, time.Now(), fn)
	if err != nil {
		err = fmt.Errorf("read capture %s: %w", name, err)
	}
	return stats, err
}

// open opens a file. A named pipe without a writer is waited for until ctx ends.
func open(ctx context.Context, path string) (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.Open(path)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		return r.file, r.err
	case <-ctx.Done():
	}
	// The writer that the open waits for.
	if w, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		_ = w.Close()
	}
	go func() {
		if r := <-opened; r.err == nil {
			_ = r.file.Close()
		}
	}()
	return nil, ctx.Err()
}

// read reads a capture. start stands in for the time of packets without one,
// until a packet has one.
func read(ctx context.Context, file io.Reader, start time.Time, fn func(*Datagram)) (Stats, error) {
	in := input{r: bufio.NewReaderSize(file, maxPeek)}
	if magic, _ := in.r.Peek(2); string(magic) == "\x1f\x8b" {
		unzipped, err := gzip.NewReader(in.r)
		if err != nil {
			return Stats{}, in.errorf("%w", err)
		}
		in = input{r: bufio.NewReaderSize(unzipped, maxPeek), gzip: true}
	}
	p := parser{fn: fn, last: start.UTC()}
	err := readPackets(ctx, &in, &p)
	p.stats.Incomplete = p.frags.incomplete()
	if err == nil && p.stats.Packets > 0 && p.stats.UnknownLink == p.stats.Packets {
		err = fmt.Errorf("link type %d is not supported", p.unknown)
	}
	return p.stats, err
}

// readPackets hands every packet of a capture to p.
func readPackets(ctx context.Context, in *input, p *parser) error {
	magic, err := in.peek(4)
	if err != nil {
		return err
	}
	switch binary.BigEndian.Uint32(magic) {
	case pcapMicro, pcapNano:
		return readPcap(ctx, in, binary.BigEndian, p)
	case ngSectionHeader:
		return readPcapng(ctx, in, p)
	}
	switch binary.LittleEndian.Uint32(magic) {
	case pcapMicro, pcapNano:
		return readPcap(ctx, in, binary.LittleEndian, p)
	}
	return in.errorf("neither pcap nor pcapng: it begins with %x", magic)
}

// input reads a file and knows where it is.
type input struct {
	r      *bufio.Reader
	offset int64 // of the next byte to be read
	block  int64 // of the packet or block that is being read
	gzip   bool
}

// begin records that a packet or block begins here. It returns false at the end of
// the file. The next read reports other errors.
func (in *input) begin() (ok bool) {
	in.block = in.offset
	_, err := in.r.Peek(1)
	return !errors.Is(err, io.EOF)
}

// peek returns the next n bytes, at most maxPeek, without consuming them.
// They are valid until the next call.
func (in *input) peek(n int) ([]byte, error) {
	b, err := in.r.Peek(n)
	if err != nil {
		return nil, in.failed(err)
	}
	return b, nil
}

// skip consumes n bytes.
func (in *input) skip(n int64) error {
	for n > 0 {
		// Discard takes an int, which has 32 bits on some machines.
		done, err := in.r.Discard(int(min(n, 1<<30)))
		in.offset += int64(done)
		n -= int64(done)
		if err != nil {
			return in.failed(err)
		}
	}
	return nil
}

// failed returns the error for one that reading returned.
func (in *input) failed(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	// os.PathError repeats the name of the file.
	if pe := (*os.PathError)(nil); errors.As(err, &pe) {
		err = pe.Err
	}
	return in.errorf("%w", err)
}

// errorf returns an error with the offset of the packet or block.
func (in *input) errorf(format string, args ...any) error {
	where := "at offset %d: "
	if in.gzip {
		where = "at offset %d of the uncompressed capture: "
	}
	return fmt.Errorf(where+format, append([]any{in.block}, args...)...)
}
