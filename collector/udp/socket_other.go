//go:build !linux

package udp

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// BatchSize is the greatest number of datagrams that one Receive returns.
const BatchSize = 1

// Socket receives one datagram a call: the portable way, for trying things out.
type Socket struct {
	conn     *net.UDPConn
	address  string
	granted  int // unknown: 0
	buffer   []byte
	n        int
	source   netip.AddrPort
	timed    bool
	stopping atomic.Bool
}

// Listen binds one socket, whatever the number asked for.
func Listen(ctx context.Context, cfg Config, log logrus.FieldLogger) ([]*Socket, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", cfg.Address)
	if err != nil {
		return nil, withoutAddress(err)
	}
	conn := pc.(*net.UDPConn)
	if err := conn.SetReadBuffer(cfg.ReceiveBuffer); err != nil {
		log.WithError(err).Warn("the kernel caps the receive buffer, so bursts may be lost")
	}
	address := withPort(cfg.Address, conn.LocalAddr().(*net.UDPAddr).Port)
	return []*Socket{{conn: conn, address: address, buffer: make([]byte, maxDatagram)}}, nil
}

// Receive waits for a datagram. It returns os.ErrDeadlineExceeded if WakeAfter
// asked for that, ErrDrained once the socket is stopped.
func (s *Socket) Receive() (int, error) {
	var err error
	s.n, s.source, err = s.conn.ReadFromUDPAddrPort(s.buffer)
	if err != nil {
		if s.stopping.Load() {
			err = ErrDrained
		}
		return 0, err
	}
	return 1, nil
}

// Datagram returns the datagram of the last Receive, until the next one.
func (s *Socket) Datagram(int) (b []byte, source netip.AddrPort, truncated bool) {
	return s.buffer[:s.n:s.n], s.source, false
}

// Drops returns 0: there is no portable way to ask.
func (s *Socket) Drops() uint64 { return 0 }

// FinalDrops returns 0, as Drops does.
func (s *Socket) FinalDrops() uint64 { return 0 }

// WakeAfter makes Receive return after 50 ms without a datagram if pending.
func (s *Socket) WakeAfter(pending bool) {
	if !pending && !s.timed {
		return
	}
	s.timed = pending
	var t time.Time
	if pending {
		t = time.Now().Add(pollPending)
	}
	_ = s.conn.SetReadDeadline(t)
	if s.stopping.Load() {
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Stop ends Receive. What is still in the socket's buffer is read for a moment.
func (s *Socket) Stop(time.Time) {
	s.stopping.Store(true)
	_ = s.conn.SetReadDeadline(time.Now().Add(pollPending))
}

// Close closes the socket.
func (s *Socket) Close() { _ = s.conn.Close() }

// Coalesce does nothing here.
func (s *Socket) Coalesce(int, int64) {}
