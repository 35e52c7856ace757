//go:build !linux

package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	batchSize   = 1
	maxDatagram = 65535
	pollPending = 50 * time.Millisecond
)

// errDrained says that the socket is stopped and empty.
var errDrained = errors.New("socket is drained")

// socket receives one datagram a call: the portable way, for trying things out.
type socket struct {
	conn       *net.UDPConn
	address    string
	protocols  Protocols
	bufferSize int // unknown: 0, so that there are no naps
	buffer     []byte
	n          int
	source     netip.AddrPort
	timed      bool
	stopping   atomic.Bool
}

// listen binds one socket, whatever the listener's count.
func listen(ctx context.Context, l Listener, log logrus.FieldLogger) ([]*socket, error) {
	pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", l.String())
	if err != nil {
		return nil, fmt.Errorf("listen on udp %s (-listen): %w", l, reason(err))
	}
	conn := pc.(*net.UDPConn)
	if err := conn.SetReadBuffer(l.ReceiveBuffer); err != nil {
		log.WithError(err).Warn("the kernel caps the receive buffer, so bursts may be lost")
	}
	return []*socket{{conn: conn, address: l.String(), protocols: l.Protocols, buffer: make([]byte, maxDatagram)}}, nil
}

// receive waits for a datagram. It returns os.ErrDeadlineExceeded if wakeAfter
// asked for that, errDrained once the socket is stopped.
func (s *socket) receive() (int, error) {
	var err error
	s.n, s.source, err = s.conn.ReadFromUDPAddrPort(s.buffer)
	if err != nil {
		if s.stopping.Load() {
			err = errDrained
		}
		return 0, err
	}
	return 1, nil
}

func (s *socket) datagram(int) (b []byte, source netip.AddrPort, truncated bool) {
	return s.buffer[:s.n:s.n], s.source, false
}

// kernelDrops and finalDrops tell nothing here: there is no portable way to ask.
func (s *socket) kernelDrops() uint64 { return 0 }
func (s *socket) finalDrops() uint64  { return 0 }

// wakeAfter makes receive return after 50 ms without a datagram if pending.
func (s *socket) wakeAfter(pending bool) {
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

// stop ends receive. What is still in the socket's buffer is read for a moment.
func (s *socket) stop(time.Time) {
	s.stopping.Store(true)
	_ = s.conn.SetReadDeadline(time.Now().Add(pollPending))
}

func (s *socket) close() { _ = s.conn.Close() }

func (s *socket) nap(d time.Duration) { time.Sleep(d) }
