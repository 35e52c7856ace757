package hubble

import (
	"net"
	"sync"
)

// limitedListener closes connections beyond a number at once, so that clients cannot use up the
// process's files.
type limitedListener struct {
	net.Listener
	places chan struct{}
}

func limited(l net.Listener, n int) *limitedListener {
	return &limitedListener{l, make(chan struct{}, n)}
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &limitedConn{Conn: c, free: func() { <-l.places }}, nil
		default:
			_ = c.Close()
		}
	}
}

// limitedConn frees its place when it is closed.
type limitedConn struct {
	net.Conn
	once sync.Once
	free func()
}

// Close implements [net.Conn].
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.free)
	return err
}
