package udp

import (
	"errors"
	"net"
	"strconv"
	"time"
)

// Config says where to listen.
type Config struct {
	Address string // host:port, as net.Listen takes it; port 0 for any that is free
	Sockets int    // how many sockets share the address
	// ReceiveBuffer is the size asked for each socket's buffer, in bytes.
	ReceiveBuffer int
}

// ErrDrained reports that a socket is stopped and empty.
var ErrDrained = errors.New("socket is drained")

const (
	// maxDatagram is the longest UDP payload, in bytes. Pages of a buffer that no
	// datagram reaches are never touched, so short datagrams cost no memory.
	maxDatagram = 65535
	// pollPending is how long Receive waits after WakeAfter(true).
	pollPending = 50 * time.Millisecond
)

// Address returns the address that the socket is bound to, as host:port. The host
// is that of Config; the port is never 0.
func (s *Socket) Address() string { return s.address }

// Port returns the port that the socket is bound to.
func (s *Socket) Port() uint16 {
	_, port, _ := net.SplitHostPort(s.address)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// ReceiveBuffer returns the bytes that the kernel granted to the socket's buffer, in
// the unit of Config: half of what SO_RCVBUF reports on Linux (socket(7)). It is 0
// where that is not known.
func (s *Socket) ReceiveBuffer() int { return s.granted }

// withPort replaces the port of host:port.
func withPort(address string, port int) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// withoutAddress returns an error of package net without the address, which the
// caller names.
func withoutAddress(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	return err
}
