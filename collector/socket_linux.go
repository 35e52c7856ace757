package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const (
	// batchSize is how many datagrams one system call receives at most.
	batchSize = 64
	// maxDatagram is the longest UDP payload. Pages of a buffer that no datagram
	// reaches are never touched, so short datagrams cost no memory.
	maxDatagram = 65535
	pollPending = 50 * time.Millisecond
)

// errDrained says that the socket is stopped and empty.
var errDrained = errors.New("socket is drained")

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// socket is one UDP socket and the buffers of the worker that receives on it.
type socket struct {
	conn      *net.UDPConn
	raw       syscall.RawConn
	address   string
	protocols Protocols
	// bufferSize is the size of the kernel's buffer, as it counts: twice what
	// setsockopt was asked for.
	bufferSize int

	messages []mmsghdr
	iovecs   []unix.Iovec
	names    []unix.RawSockaddrInet6 // large enough for both families
	buffers  []byte

	n       int // datagrams received by the last call
	readErr error
	read    func(fd uintptr) bool // kept: a closure a call would allocate

	timed         bool // a read deadline is set
	stopping      atomic.Bool
	drainDeadline atomic.Int64 // Unix nanoseconds

	dropsMu    sync.Mutex
	drops      uint32 // as last told by the kernel
	dropsFinal bool
}

// listen binds the sockets of a listener, which share its address by
// SO_REUSEPORT.
func listen(ctx context.Context, l Listener, log logrus.FieldLogger) ([]*socket, error) {
	// SO_REUSEPORT lets a second instance of the same user share the port and
	// take half of the datagrams. A plain socket tells whether the port is free.
	probe, err := net.ListenPacket("udp", l.String())
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s (-listen): %w", l, reason(err))
	}
	l.Port = uint16(probe.LocalAddr().(*net.UDPAddr).Port)
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("listen on udp %s: %w", l, err)
	}
	var sockets []*socket
	for range l.Sockets {
		s, err := openSocket(ctx, l, log, len(sockets) == 0)
		if err != nil {
			return sockets, fmt.Errorf("listen on udp %s (-listen): %w", l, reason(err))
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

func openSocket(ctx context.Context, l Listener, log logrus.FieldLogger, first bool) (*socket, error) {
	var got int
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { got, err = setOptions(int(fd), l.ReceiveBuffer) }); cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := config.ListenPacket(ctx, "udp", l.String())
	if err != nil {
		return nil, err
	}
	conn := pc.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if got < l.ReceiveBuffer && first {
		log.WithFields(logrus.Fields{"asked": l.ReceiveBuffer, "got": got, "address": l.String()}).Warnf(
			"the kernel caps the receive buffer, so bursts may be lost; set: sysctl -w net.core.rmem_max=%d", l.ReceiveBuffer)
	}
	s := &socket{
		conn: conn, raw: raw, address: l.String(), protocols: l.Protocols, bufferSize: 2 * got,
		messages: make([]mmsghdr, batchSize),
		iovecs:   make([]unix.Iovec, batchSize),
		names:    make([]unix.RawSockaddrInet6, batchSize),
		buffers:  make([]byte, batchSize*maxDatagram),
	}
	for i := range s.messages {
		s.iovecs[i].Base = &s.buffers[i*maxDatagram]
		s.iovecs[i].SetLen(maxDatagram)
		h := &s.messages[i].hdr
		h.Iov = &s.iovecs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	}
	s.read = s.receiveFrom
	return s, nil
}

// setOptions returns the size of the receive buffer that the kernel granted, in
// bytes of payload and bookkeeping as the caller asked for them.
func setOptions(fd, rcvbuf int) (int, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvbuf); err != nil {
			return 0, fmt.Errorf("set SO_RCVBUF to %s bytes: %w", strconv.Itoa(rcvbuf), err)
		}
	}
	got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return 0, fmt.Errorf("get SO_RCVBUF: %w", err)
	}
	return got / 2, nil // the kernel doubles what it is asked for (socket(7))
}

// receive waits for datagrams and returns how many came. It returns
// os.ErrDeadlineExceeded if wakeAfter asked for that, errDrained once the
// socket is stopped and empty.
func (s *socket) receive() (int, error) {
	s.n, s.readErr = 0, nil
	if !s.stopping.Load() {
		err := s.raw.Read(s.read)
		if !s.stopping.Load() {
			if err == nil {
				err = s.readErr
			}
			return s.n, err
		}
		if s.n > 0 {
			return s.n, nil
		}
	}
	// The read deadline that stop set keeps raw.Read from reading.
	if err := s.raw.Control(func(fd uintptr) { s.receiveFrom(fd) }); err != nil {
		return 0, err
	}
	if s.n == 0 || time.Now().UnixNano() > s.drainDeadline.Load() {
		return s.n, errDrained
	}
	return s.n, nil
}

// receiveFrom takes what is waiting. It returns false if that is nothing.
func (s *socket) receiveFrom(fd uintptr) bool {
	for i := range s.messages {
		h := &s.messages[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.Flags = 0
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&s.messages[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.n = int(n)
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		case unix.ECONNREFUSED: // an earlier ICMP error; the socket is fine
			continue
		default:
			s.readErr = os.NewSyscallError("recvmmsg", errno)
			return true
		}
	}
}

// datagram returns the i-th datagram of the last batch.
func (s *socket) datagram(i int) (b []byte, source netip.AddrPort, truncated bool) {
	m := &s.messages[i]
	b = s.buffers[i*maxDatagram:][:m.len:m.len]
	name := &s.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	if name.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		source = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	} else {
		source = netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), port)
	}
	return b, source, m.hdr.Flags&unix.MSG_TRUNC != 0
}

// kernelDrops returns how many datagrams the kernel dropped since the last call
// because the socket's buffer was full. It is the counter of SO_RXQ_OVFL, which
// comes with datagrams only and so keeps silent about the end of a burst;
// SO_MEMINFO tells at any time. Any goroutine may call it.
func (s *socket) kernelDrops() (n uint64) {
	s.dropsMu.Lock()
	defer s.dropsMu.Unlock()
	if s.dropsFinal {
		return 0
	}
	_ = s.raw.Control(func(fd uintptr) {
		var info [unix.SK_MEMINFO_VARS]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 || size < uint32(unsafe.Sizeof(info)) {
			return // before Linux 4.12 the loss stays uncounted
		}
		drops := info[unix.SK_MEMINFO_DROPS]
		n = uint64(drops - s.drops) // wraps
		s.drops = drops
	})
	return n
}

// finalDrops is the last call of kernelDrops: what the socket refuses from now on
// was not lost.
func (s *socket) finalDrops() uint64 {
	n := s.kernelDrops()
	s.dropsMu.Lock()
	defer s.dropsMu.Unlock()
	s.dropsFinal = true
	return n
}

// wakeAfter makes receive return after 50 ms without a datagram if pending, and
// otherwise only with one.
func (s *socket) wakeAfter(pending bool) {
	if !pending && !s.timed {
		return
	}
	s.timed = pending
	var t time.Time
	if pending {
		t = time.Now().Add(pollPending)
	}
	_ = s.conn.SetReadDeadline(t) // fails on a closed socket only, as the next read does
	if s.stopping.Load() {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// stop makes the kernel refuse new datagrams and receive return errDrained once
// those that came before are read, or at the deadline.
func (s *socket) stop(deadline time.Time) {
	s.drainDeadline.Store(deadline.UnixNano())
	reject := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	_ = s.raw.Control(func(fd uintptr) {
		// Where filters are not allowed the drain ends at the deadline at the latest.
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &reject)
	})
	s.stopping.Store(true)
	_ = s.conn.SetReadDeadline(time.Unix(1, 0))
}

func (s *socket) close() { _ = s.conn.Close() }
