package udp

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
)

// TestListen receives on sockets of a free port, and drains them.
func TestListen(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	sockets, err := Listen(t.Context(), Config{Address: "127.0.0.1:0", Sockets: 2, ReceiveBuffer: 1 << 16}, log)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sockets {
		defer s.Close()
		if s.Port() == 0 || s.Port() != sockets[0].Port() || s.Address() != sockets[0].Address() || !strings.HasPrefix(s.Address(), "127.0.0.1:") {
			t.Errorf("bound to %s, port %d", s.Address(), s.Port())
		}
	}
	c, err := net.Dial("udp", sockets[0].Address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const sent = 100
	for range sent {
		if _, err := c.Write([]byte("datagram")); err != nil {
			t.Fatal(err)
		}
	}
	received := 0
	for _, s := range sockets {
		s.FinalDrops()
		s.Stop(time.Now().Add(5 * time.Second))
		for {
			n, err := s.Receive()
			for i := range n {
				b, source, truncated := s.Datagram(i)
				if string(b) != "datagram" || source.String() != c.LocalAddr().String() || truncated {
					t.Errorf("%q from %v, truncated %v", b, source, truncated)
				}
			}
			received += n
			if errors.Is(err, ErrDrained) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := s.Drops(); n != 0 {
			t.Errorf("%d drops after the last count", n)
		}
	}
	if received != sent {
		t.Errorf("%d received of %d", received, sent)
	}
}

// TestListenInUse names what is wrong, and the caller names the address.
func TestListenInUse(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	log, _ := logtest.NewNullLogger()
	_, err = Listen(t.Context(), Config{Address: c.LocalAddr().String(), Sockets: 1, ReceiveBuffer: 1 << 16}, log)
	if err == nil || !strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error %v", err)
	}
}
