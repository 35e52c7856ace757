// Package udp receives batches of UDP datagrams on sockets that share one
// address, each of which belongs to one worker.
//
// On Linux a worker receives by recvmmsg(2), waits in an epoll instance of its
// own and, under load, lets datagrams gather between two receives. Elsewhere one
// datagram a call is received by the net package: that is for trying things out.
package udp

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

// BatchSize is the greatest number of datagrams that one Receive returns, by one
// system call.
const BatchSize = 64

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// Socket is one UDP socket and the buffers of the worker that receives on it.
// One goroutine receives and coalesces; any may call [Socket.Drops],
// [Socket.FinalDrops] and [Socket.Stop].
//
// Go's poller does not know the socket: it would be woken by each datagram, also
// by those that [Socket.Coalesce] lets gather, which costs more than all the work
// on them. It knows an epoll instance of our own instead, which has the socket in
// it and is armed only when the worker has nothing to do.
type Socket struct {
	address string
	granted int      // see ReceiveBuffer
	file    *os.File // keeps fd open
	raw     syscall.RawConn
	fd      int      // the worker's; other goroutines use raw
	epoll   *os.File // readable once when a datagram comes after arm
	wait    syscall.RawConn
	epfd    int
	armed   bool

	coalescer  coalescer
	timer      *os.File // a timer of the kernel, see sleep
	timerConn  syscall.RawConn
	onTimer    func(fd uintptr) bool
	timerUnset bool // the timer is to be set, not to be read
	timerFor   time.Duration
	emptied    bool // the last call received all there was, and no sleep followed

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
	drops      uint32 // the kernel's counter at the last call of Drops
	dropsFinal bool
}

// Listen binds the sockets of one address, which share it by SO_REUSEPORT. If it
// fails it also returns the sockets that are open, which the caller closes.
func Listen(ctx context.Context, cfg Config, log logrus.FieldLogger) ([]*Socket, error) {
	// SO_REUSEPORT lets a second instance of the same user share the port and
	// take half of the datagrams. A plain socket shows whether the port is free.
	probe, err := net.ListenPacket("udp", cfg.Address)
	if err != nil {
		return nil, withoutAddress(err)
	}
	// With port 0 the first bind chooses the port, and the others share it.
	cfg.Address = withPort(cfg.Address, probe.LocalAddr().(*net.UDPAddr).Port)
	if err := probe.Close(); err != nil {
		return nil, withoutAddress(err)
	}
	var sockets []*Socket
	for range cfg.Sockets {
		s, err := open(ctx, cfg, log, len(sockets) == 0)
		if err != nil {
			return sockets, withoutAddress(err)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}

// open opens one socket. Only the first one of an address warns.
func open(ctx context.Context, cfg Config, log logrus.FieldLogger, first bool) (*Socket, error) {
	var got int
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { got, err = setOptions(int(fd), cfg.ReceiveBuffer) }); cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := config.ListenPacket(ctx, "udp", cfg.Address)
	if err != nil {
		return nil, err
	}
	// The kernel counts twice what it was asked for (socket(7)).
	s := &Socket{address: cfg.Address, granted: got, coalescer: newCoalescer(2 * got)}
	if err := s.adopt(pc.(*net.UDPConn)); err != nil {
		return nil, err
	}
	if got < cfg.ReceiveBuffer && first {
		log.WithFields(logrus.Fields{"asked": cfg.ReceiveBuffer, "got": got, "address": cfg.Address}).Warnf(
			"the kernel caps the receive buffer, so bursts may be lost; set: sysctl -w net.core.rmem_max=%d", cfg.ReceiveBuffer)
	}
	s.messages = make([]mmsghdr, BatchSize)
	s.iovecs = make([]unix.Iovec, BatchSize)
	s.names = make([]unix.RawSockaddrInet6, BatchSize)
	// The buffers are not on Go's heap. The garbage collector would count the
	// 4 MiB, of which little is ever touched, and let that much more garbage gather.
	if s.buffers, err = unix.Mmap(-1, 0, BatchSize*maxDatagram, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		s.Close()
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

// adopt duplicates the descriptor of a connection and closes the connection:
// that removes the socket from Go's poller.
func (s *Socket) adopt(conn *net.UDPConn) error {
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
		err = s.openTimer()
	}
	if err != nil {
		s.Close()
	}
	return err
}

func (s *Socket) openEpoll() (err error) {
	if s.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if s.epoll, s.wait, err = polled(s.epfd, "epoll of udp "+s.address); err != nil {
		return err
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(s.epfd, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT}))
}

func (s *Socket) openTimer() error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	s.onTimer = s.timerReady
	s.timer, s.timerConn, err = polled(fd, "timer of udp "+s.address)
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

// arm makes the epoll instance readable once a datagram is there, also for one
// that is there already. disarm ends that.
func (s *Socket) arm() {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.epfd), unix.EPOLL_CTL_MOD, uintptr(s.fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	if errno != 0 {
		s.readErr = os.NewSyscallError("epoll_ctl", errno)
	}
	s.armed = true
}

func (s *Socket) disarm() {
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

// Receive waits for datagrams and returns how many came, at most [BatchSize]. They
// are valid until the next call. It returns os.ErrDeadlineExceeded if WakeAfter
// asked for that, and [ErrDrained] once the socket is stopped and empty; there may
// be datagrams beside an error.
func (s *Socket) Receive() (int, error) {
	s.n, s.readErr = 0, nil
	stopping := s.stopping.Load()
	if !s.emptied || stopping {
		if s.receiveWaiting(); s.n > 0 || s.readErr != nil {
			if stopping && time.Now().UnixNano() > s.drainDeadline.Load() {
				return s.n, ErrDrained
			}
			return s.n, s.readErr
		}
	}
	if stopping {
		return 0, ErrDrained
	}
	err := s.wait.Read(s.read)
	s.disarm()
	switch {
	case s.n > 0:
		return s.n, nil
	case s.stopping.Load():
		// Stop has set the deadline that ended the read. The next call receives
		// what came in between.
		return 0, nil
	case err == nil:
		err = s.readErr
	}
	return 0, err
}

// tryRead receives what is waiting once the poller has reported the epoll
// instance as readable, and else arms it.
func (s *Socket) tryRead(uintptr) bool {
	if s.armed {
		s.disarm()
		if s.receiveWaiting(); s.n > 0 {
			return true
		}
	}
	s.arm()
	return s.readErr != nil
}

// receiveWaiting receives what is waiting and never blocks. It is a raw system
// call, since the runtime need not prepare for one that blocks.
func (s *Socket) receiveWaiting() {
	for i := range s.messages {
		h := &s.messages[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.Flags = 0
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.messages[0])), BatchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.n = int(n)
			s.emptied = s.n < BatchSize
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

// Datagram returns the i-th datagram of the last batch. b is the socket's buffer,
// valid until the next Receive. An IPv4 source is an IPv4 address on sockets of
// both families, too. truncated reports whether b lacks the datagram's end.
func (s *Socket) Datagram(i int) (b []byte, source netip.AddrPort, truncated bool) {
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

// Drops returns how many datagrams the kernel dropped since the last call because
// the socket's buffer was full. It asks for SO_MEMINFO, which answers at any time:
// the counter of SO_RXQ_OVFL comes with datagrams only, so it does not show the
// end of a burst.
func (s *Socket) Drops() (n uint64) {
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
			return // before Linux 4.12 the drops are not counted
		}
		drops := info[unix.SK_MEMINFO_DROPS]
		n = uint64(drops - s.drops) // wraps
		s.drops = drops
	})
	return n
}

// FinalDrops is the last call of Drops, which returns 0 from then on: what the
// socket refuses after [Socket.Stop] is not lost.
func (s *Socket) FinalDrops() uint64 {
	n := s.Drops()
	s.dropsMu.Lock()
	defer s.dropsMu.Unlock()
	s.dropsFinal = true
	return n
}

// WakeAfter makes the next Receive return after 50 ms without a datagram if
// pending, and otherwise only with one.
func (s *Socket) WakeAfter(pending bool) {
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

// Stop makes the kernel refuse new datagrams, and Receive return [ErrDrained] once
// those that came before are read, or at the deadline.
func (s *Socket) Stop(deadline time.Time) {
	s.drainDeadline.Store(deadline.UnixNano())
	reject := unix.SockFprog{Len: 1, Filter: &unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	_ = s.raw.Control(func(fd uintptr) {
		// Where filters are not allowed the drain ends at the deadline at the latest.
		_ = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &reject)
	})
	s.stopping.Store(true)
	_ = s.epoll.SetReadDeadline(time.Unix(1, 0))
}

// Close closes the socket. Receive must have returned.
func (s *Socket) Close() {
	for _, f := range []*os.File{s.timer, s.epoll, s.file} {
		if f != nil {
			_ = f.Close()
		}
	}
	if s.buffers != nil {
		// The addresses stay valid, whoever might still look there.
		_ = unix.Madvise(s.buffers, unix.MADV_DONTNEED)
	}
}

// Coalesce records that n datagrams were received at now (Unix nanoseconds). Under
// load it waits, some milliseconds at most, so that the next Receive returns more
// datagrams.
func (s *Socket) Coalesce(n int, now int64) {
	if d := s.coalescer.wait(n, now); d > 0 {
		s.sleep(d)
		s.emptied = false
	}
}

// sleep waits for a timer of the kernel in Go's poller. A timer of the runtime, or
// a thread that sleeps in a system call, keeps the runtime's monitor awake, which
// costs more than coalescing saves.
func (s *Socket) sleep(d time.Duration) {
	s.timerFor, s.timerUnset = d, true
	_ = s.timerConn.Read(s.onTimer) // if it fails, the sleep is a short one
}

// timerReady sets the timer when sleep calls it and reads it when it is called
// again. It reports whether the sleep is over.
func (s *Socket) timerReady(fd uintptr) bool {
	if s.timerUnset {
		s.timerUnset = false
		t := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(s.timerFor))}
		_, _, errno := unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		return errno != 0
	}
	var expirations uint64
	_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&expirations)), 8)
	return errno != unix.EAGAIN
}
