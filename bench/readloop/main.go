//go:build linux

// Command readloop receives datagrams and does nothing with them: the least that
// any collector can cost. It says how many came when it gets a SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	var (
		listen = flag.String("listen", "127.0.0.1:2055", "where to listen")
		loop   = flag.String("loop", "single", "single: one datagram a call; recvmmsg: up to 64 a call on a blocking socket, with a pause between two calls")
		pause  = flag.Duration("pause", time.Millisecond, "the pause of recvmmsg")
	)
	flag.Parse()
	if err := run(*listen, *loop, *pause); err != nil {
		fmt.Fprintln(os.Stderr, "readloop:", err)
		os.Exit(1)
	}
}

const rcvbuf = 8 << 20

func run(listen, loop string, pause time.Duration) error {
	addr, err := netip.ParseAddrPort(listen)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	var n uint64 // written by one goroutine, read when nothing more comes
	errs := make(chan error, 1)
	switch loop {
	case "single":
		go func() { errs <- single(addr, &n) }()
	case "recvmmsg":
		go func() { errs <- batches(addr, pause, &n) }()
	default:
		return fmt.Errorf("no loop is called %q", loop)
	}
	select {
	case err := <-errs:
		return err
	case <-ctx.Done():
	}
	fmt.Printf("{\"datagrams\":%d}\n", n)
	return nil
}

func single(addr netip.AddrPort, n *uint64) error {
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf) }); err != nil {
		return err
	}
	buf := make([]byte, 65535)
	for {
		if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
			return err
		}
		*n++
	}
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// batches reads with recvmmsg(2), and pauses so that datagrams gather.
func batches(addr netip.AddrPort, pause time.Duration, n *uint64) error {
	const batch, size = 64, 65535
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, rcvbuf)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		return err
	}
	messages, iovecs := make([]mmsghdr, batch), make([]unix.Iovec, batch)
	names, buffers := make([]unix.RawSockaddrInet4, batch), make([]byte, batch*size)
	for i := range messages {
		iovecs[i].Base = &buffers[i*size]
		iovecs[i].SetLen(size)
		messages[i].hdr.Iov = &iovecs[i]
		messages[i].hdr.SetIovlen(1)
		messages[i].hdr.Name = (*byte)(unsafe.Pointer(&names[i]))
	}
	for {
		for i := range messages {
			messages[i].hdr.Namelen = unix.SizeofSockaddrInet4
		}
		got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), batch, unix.MSG_WAITFORONE, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return os.NewSyscallError("recvmmsg", errno)
		}
		*n += uint64(got)
		time.Sleep(pause)
	}
}
