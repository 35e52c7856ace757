package main

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxConnections bounds the connections of one HTTP server. It leaves room for the
	// sockets and files of the program where a process may have 256 descriptors.
	maxConnections = 64
	// maxPageConnections is the same for the page, whose clients have several each: one that
	// follows, and those that ask.
	maxPageConnections = 160
	// maxScarce bounds the requests of one server that are answered at once and take
	// memory: scrapes and the pages for debugging.
	maxScarce = 8
	// onItsWay is how long the request of a new connection may be on its way.
	onItsWay = time.Second
)

// connections bounds the connections of one HTTP server. Where netutil.LimitListener
// would make new ones wait for those that hang, it closes one of those: a probe is
// answered however many hang. That one is of the client with most connections, and
// among its own one that has waited for a request for a while, else the one whose request
// is the oldest. So a client with many connections cannot take those of another one.
//
// Any goroutine may call its methods.
type connections struct {
	most int // at once

	mu   sync.Mutex
	last uint64 // number of the connection that came last
	open map[net.Conn]*connection
}

// connection is what is known of a connection that is open.
type connection struct {
	net.Conn
	number uint64 // in the order in which they came
	client netip.Addr
	active bool      // a request is being read or answered
	since  time.Time // of that, or of the end of the last one
	scarce bool      // that request is one of the few of maxScarce
}

func newConnections(most int) *connections {
	return &connections{most: most, open: make(map[net.Conn]*connection)}
}

// connKey is the key of the connection in a request's context.
type connKey struct{}

// withConn is the ConnContext of a server.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// note is the ConnState of a server, which calls it before it serves a new connection.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.last++
		c.open[conn] = &connection{Conn: conn, number: c.last, client: clientOf(conn), since: time.Now()}
		c.evict(conn, c.most, func(*connection) bool { return true })
	case http.StateActive, http.StateIdle:
		if o := c.open[conn]; o != nil {
			o.active, o.since = state == http.StateActive, time.Now()
		}
	case http.StateHijacked, http.StateClosed:
		delete(c.open, conn)
	}
}

// clientOf returns the address at the other end of a connection.
func clientOf(conn net.Conn) netip.Addr {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// evict closes connections of a kind until there are at most limit, but not the
// exception. c.mu is held.
func (c *connections) evict(except net.Conn, limit int, kind func(*connection) bool) {
	for {
		n := 0
		byClient := make(map[netip.Addr]int)
		for _, o := range c.open {
			if kind(o) {
				n++
				byClient[o.client]++
			}
		}
		if n <= limit {
			return
		}
		var victim *connection
		for conn, o := range c.open {
			if kind(o) && conn != except && (victim == nil || o.goesBefore(victim, byClient)) {
				victim = o
			}
		}
		if victim == nil {
			return
		}
		delete(c.open, victim.Conn)
		_ = victim.Close()
	}
}

// goesBefore reports whether o is closed rather than v. byClient has the number of
// connections of each client.
func (o *connection) goesBefore(v *connection, byClient map[netip.Addr]int) bool {
	if a, b := byClient[o.client], byClient[v.client]; a != b {
		return a > b
	}
	if a, b := o.worth(), v.worth(); a != b {
		return a < b
	}
	return o.number < v.number
}

// worth orders connections by what would be lost with them: nothing with one that waits
// for a request, and most with one whose request is just on its way.
func (o *connection) worth() int {
	switch {
	case o.active:
		return 1
	case time.Since(o.since) > onItsWay:
		return 0
	}
	return 2
}

// scarce bounds how many requests to h are answered at once. A further one ends one of
// those before it.
func (c *connections) scarce(h http.Handler) http.Handler {
	mark := func(r *http.Request, scarce bool) {
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		c.mu.Lock()
		defer c.mu.Unlock()
		o := c.open[conn]
		if o == nil {
			return // closed in the meantime
		}
		if o.scarce = scarce; scarce {
			c.evict(conn, maxScarce, func(o *connection) bool { return o.scarce })
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mark(r, true)
		defer mark(r, false)
		h.ServeHTTP(w, r)
	})
}

// writeTimeout is how long a client may take to read an answer, or the next part of one
// that is streamed.
const writeTimeout = 30 * time.Second

// withoutBody refuses requests with a body: no page takes one, and the server would
// wait for its end.
func withoutBody(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			h.ServeHTTP(w, r)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
		w.Header().Set("Connection", "close")
		http.Error(w, "a request to this page has no body", http.StatusRequestEntityTooLarge)
	})
}

// unhurried lets h answer for as long as it takes, in parts that the client reads in
// time each.
func unhurried(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(&unhurriedWriter{w}, r)
	})
}

// unhurriedWriter gives each part of an answer a time limit of its own.
type unhurriedWriter struct{ http.ResponseWriter }

func (w *unhurriedWriter) Write(b []byte) (int, error) {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(writeTimeout))
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *unhurriedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
