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
//
// Go's poller does not know the socket: it would be woken by each datagram, also
// by those that a nap lets gather, which costs more than all the work on them.
// It knows an epoll instance of our own instead, which has the socket in it and
// is armed only when the worker has nothing to do.
type socket struct {
	file      *os.File // keeps fd open
	raw       syscall.RawConn
	fd        int      // the worker's; others go by raw
	epoll     *os.File // readable once when a datagram comes after arm
	wait      syscall.RawConn
	epfd      int
	armed     bool
	alarm     *os.File // a timer, for naps
	ring      syscall.RawConn
	rung      func(fd uintptr) bool
	set       bool // the timer is to be set, not to be read
	napFor    time.Duration
	emptied   bool // the last call took all there was, and no nap came since
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
	read    func(epfd uintptr) bool // kept: a closure a call would allocate

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
	s := &socket{address: l.String(), protocols: l.Protocols, bufferSize: 2 * got}
	if err := s.adopt(pc.(*net.UDPConn)); err != nil {
		return nil, err
	}
	if got < l.ReceiveBuffer && first {
		log.WithFields(logrus.Fields{"asked": l.ReceiveBuffer, "got": got, "address": l.String()}).Warnf(
			"the kernel caps the receive buffer, so bursts may be lost; set: sysctl -w net.core.rmem_max=%d", l.ReceiveBuffer)
	}
	s.messages = make([]mmsghdr, batchSize)
	s.iovecs = make([]unix.Iovec, batchSize)
	s.names = make([]unix.RawSockaddrInet6, batchSize)
	// Not of Go's heap: the collector would count the 4 MiB, of which little is
	// ever touched, and let so much more garbage gather.
	if s.buffers, err = unix.Mmap(-1, 0, batchSize*maxDatagram, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		s.close()
		return nil, os.NewSyscallError("map the receive buffers", err)
	}
	_ = unix.Madvise(s.buffers, unix.MADV_NOHUGEPAGE) // most datagrams are short
	for i := range s.messages {
		s.iovecs[i].Base = &s.buffers[i*maxDatagram]
		s.iovecs[i].SetLen(maxDatagram)
		h := &s.messages[i].hdr
		h.Iov = &s.iovecs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&s.names[i]))
	}
	s.read = s.tryRead
	return s, nil
}

// adopt takes the descriptor of a connection over, which it closes: that takes
// it out of Go's poller.
func (s *socket) adopt(conn *net.UDPConn) error {
	defer conn.Close() // the duplicate lives on
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(cerr, err); err != nil {
		return fmt.Errorf("duplicate the socket: %w", err)
	}
	// os.NewFile hands descriptors in non-blocking mode to the poller. All that
	// is received here is received by MSG_DONTWAIT.
	err = os.NewSyscallError("fcntl", unix.SetNonblock(s.fd, false))
	s.file = os.NewFile(uintptr(s.fd), "udp "+s.address)
	if err == nil {
		s.raw, err = s.file.SyscallConn()
	}
	if err == nil {
		err = s.openEpoll()
	}
	if err == nil {
		err = s.openAlarm()
	}
	if err != nil {
		s.close()
	}
	return err
}

func (s *socket) openEpoll() (err error) {
	if s.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if s.epoll, s.wait, err = polled(s.epfd, "epoll of udp "+s.address); err != nil {
		return err
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epfd, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT}))
}

func (s *socket) openAlarm() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	s.rung = s.readAlarm
	s.alarm, s.ring, err = polled(fd, "timer of udp "+s.address)
	return err
}

// polled gives a descriptor to Go's poller.
func polled(fd int, name string) (*os.File, syscall.RawConn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), name)
	conn, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails unless the poller has it
	}
	if err != nil {
		return nil, nil, errors.Join(err, file.Close())
	}
	return file, conn, nil
}

// arm makes the poller look out for a datagram, also for one that has come
// already, and disarm ends that.
func (s *socket) arm() {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.epfd), unix.EPOLL_CTL_MOD, uintptr(s.fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		s.readErr = os.NewSyscallError("epoll_ctl", errno)
	}
	s.armed = true
}

func (s *socket) disarm() {
	if !s.armed {
		return
	}
	s.armed = false
	var ev unix.EpollEvent
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epfd), uintptr(unsafe.Pointer(&ev)), 1, 0, 0, 0)
	if n == 1 || errno != 0 {
		return // an event that has been taken disarms by itself
	}
	ev.Events = unix.EPOLLONESHOT
	_, _, _ = unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.epfd), unix.EPOLL_CTL_MOD, uintptr(s.fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
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
	stopping := s.stopping.Load()
	if !s.emptied || stopping {
		if s.take(); s.n > 0 || s.readErr != nil {
			if stopping && time.Now().UnixNano() > s.drainDeadline.Load() {
				return s.n, errDrained
			}
			return s.n, s.readErr
		}
	}
	if stopping {
		return 0, errDrained
	}
	err := s.wait.Read(s.read)
	s.disarm()
	switch {
	case s.n > 0:
		return s.n, nil
	case s.stopping.Load():
		// stop has set the deadline that ended the read. The next call takes
		// what came in between.
		return 0, nil
	case err == nil:
		err = s.readErr
	}
	return 0, err
}

// tryRead takes what is waiting once the poller has told of it.
func (s *socket) tryRead(uintptr) bool {
	if s.armed {
		s.disarm()
		if s.take(); s.n > 0 {
			return true
		}
	}
	s.arm()
	return s.readErr != nil
}

// take takes what is waiting, without waiting itself: none of the runtime's
// provisions for a system call that may is needed.
func (s *socket) take() {
	for i := range s.messages {
		h := &s.messages[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.Flags = 0
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.n = int(n)
			s.emptied = s.n < batchSize
			return
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.emptied = true
			return
		case unix.ECONNREFUSED: // an earlier ICMP error; the socket is fine
			continue
		default:
			s.readErr = os.NewSyscallError("recvmmsg", errno)
			return
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
	_ = s.epoll.SetReadDeadline(t) // fails on a closed socket only, as the next read does
	if s.stopping.Load() {
		_ = s.epoll.SetReadDeadline(time.Unix(1, 0))
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
	_ = s.epoll.SetReadDeadline(time.Unix(1, 0))
}

func (s *socket) close() {
	for _, f := range []*os.File{s.alarm, s.epoll, s.file} {
		if f != nil {
			_ = f.Close()
		}
	}
	if s.buffers != nil {
		// The addresses stay valid, whoever might still look there.
		_ = unix.Madvise(s.buffers, unix.MADV_DONTNEED)
	}
}

// nap lets datagrams gather. It waits for a timer of the kernel in Go's poller: a
// timer of the runtime, or a thread that sleeps in a system call, keeps the
// runtime's monitor awake, which costs more than the nap saves.
func (s *socket) nap(d time.Duration) {
	s.napFor, s.set = d, true
	_ = s.ring.Read(s.rung) // a nap that fails is a short one
	s.emptied = false
}

// readAlarm sets the timer, and when it is called again reads it.
func (s *socket) readAlarm(fd uintptr) bool {
	if s.set {
		s.set = false
		t := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(s.napFor))}
		_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		return errno != 0
	}
	var expirations uint64
	_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&expirations)), 8)
	return errno != unix.EAGAIN
}
