package brokers

import (
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Gate is the way to a broker, which can be shut.
type Gate struct {
	addr string

	mu     sync.Mutex
	opened sync.Cond
	l      net.Listener // nil when shut
	ended  bool
	hangUp bool
	conns  map[net.Conn]bool
}

// NewGated returns a cluster of one broker behind a gate.
func NewGated(t *testing.T, topic string, opts ...kfake.Opt) (*Gate, *kfake.Cluster) {
	t.Helper()
	g := &Gate{conns: make(map[net.Conn]bool)}
	g.opened.L = &g.mu
	c := New(t, topic, append(opts, kfake.ListenFn(func(network, addr string) (net.Listener, error) {
		l, err := net.Listen(network, addr)
		if err == nil {
			g.l, g.addr = l, l.Addr().String()
		}
		return g, err
	}))...)
	return g, c
}

// Accept implements net.Listener.
func (g *Gate) Accept() (net.Conn, error) {
	for {
		g.mu.Lock()
		for g.l == nil && !g.ended {
			g.opened.Wait()
		}
		l, ended := g.l, g.ended
		g.mu.Unlock()
		if ended {
			return nil, net.ErrClosed
		}
		c, err := l.Accept()
		if err != nil {
			continue // the gate was shut
		}
		g.mu.Lock()
		if g.hangUp {
			_ = c.Close()
			g.mu.Unlock()
			continue
		}
		g.conns[c] = true
		g.mu.Unlock()
		return gatedConn{c, g}, nil
	}
}

type gatedConn struct {
	net.Conn
	g *Gate
}

func (c gatedConn) Close() error {
	c.g.mu.Lock()
	defer c.g.mu.Unlock()
	delete(c.g.conns, c.Conn)
	return c.Conn.Close()
}

// Addr implements net.Listener.
func (g *Gate) Addr() net.Addr {
	addr, _ := net.ResolveTCPAddr("tcp", g.addr)
	return addr
}

// Close implements net.Listener.
func (g *Gate) Close() error {
	g.Shut()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.opened.Broadcast()
	return nil
}

// Shut refuses connections and breaks those there are, wherever in a request
// or an answer they may be.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.l != nil {
		_ = g.l.Close()
		g.l = nil
	}
	g.breakLocked()
}

// Break breaks the connections that there are.
func (g *Gate) Break() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.breakLocked()
}

func (g *Gate) breakLocked() {
	for c := range g.conns {
		_ = c.Close()
	}
	clear(g.conns)
}

// HangUp breaks the connections that there are and takes new ones only to close
// them, as what stands before a broker does while that is away. It ends with
// false.
func (g *Gate) HangUp(on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hangUp = on
	if on {
		g.breakLocked()
	}
}

// Open takes connections again, at the same address.
func (g *Gate) Open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.l = l
	g.opened.Broadcast()
}

// Address returns the broker's.
func (g *Gate) Address() string { return g.addr }
