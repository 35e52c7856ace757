package hubble

import (
	"net"
	"sync"
)

// limitedListener closes connections beyond a number at once, so that clients cannot use up the
// process's files, and those of a peer beyond its share, so that others have a place.
type limitedListener struct {
	net.Listener
	places chan struct{}
	share  *share
}

func limited(l net.Listener, n, each int) *limitedListener {
	return &limitedListener{l, make(chan struct{}, n), newShare(each)}
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer := peerOf(c.RemoteAddr().String())
		if !l.share.enter(peer) {
			_ = c.Close()
			continue
		}
		if !tryEnter(l.places) {
			l.share.leave(peer)
			_ = c.Close()
			continue
		}
		return &limitedConn{Conn: c, free: func() { leave(l.places); l.share.leave(peer) }}, nil
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
