package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// pipeListener hands out the server's ends of pipes, which keep to the time of synctest.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	c, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.conns) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// client is a connection of a test with the address that the server sees.
type clientConn struct {
	net.Conn
	addr net.Addr
}

func (c clientConn) RemoteAddr() net.Addr { return c.addr }

// serveOverPipes runs a server of the program, and returns a function that connects
// from an address.
func serveOverPipes(t *testing.T, h http.Handler, c *connections) (dial func(from string) net.Conn) {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn)}
	log, _ := logtest.NewNullLogger()
	s := newServer(h, c, log)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return func(from string) net.Conn {
		here, there := net.Pipe()
		addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 1))
		l.conns <- clientConn{there, addr}
		t.Cleanup(func() { _ = here.Close() })
		return here
	}
}

// request sends the head of a request.
func request(t *testing.T, c net.Conn, head string) {
	t.Helper()
	if _, err := io.WriteString(c, head); err != nil {
		t.Fatal(err)
	}
}

// answer reads an answer, and returns its code and body, or the error of reading it.
func answer(c net.Conn) (int, string, error) {
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

var okHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })

// TestHungConnections has 300 clients that hang, each in one of several ways. Another
// one gets its answer at once, and no more connections than the bound stay open.
func TestHungConnections(t *testing.T) {
	for name, head := range map[string]string{
		"nothing sent":       "",
		"header without end": "GET / HTTP/1.1\r\nHost: x\r\n",
		"body without end":   "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"chunks without end": "GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"answer not read":    "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				c := newConnections(maxConnections)
				dial := serveOverPipes(t, okHandler, c)
				// A client of its own keeps its connection, whatever others do.
				other := dial("192.0.2.1")
				for range 300 {
					request(t, dial("127.0.0.1"), head)
				}
				synctest.Wait()
				c.mu.Lock()
				if n := len(c.open); n > maxConnections || n == 0 {
					t.Errorf("%d connections are open", n)
				}
				c.mu.Unlock()
				for _, conn := range []net.Conn{dial("127.0.0.1"), other} {
					request(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
					if code, body, err := answer(conn); code != http.StatusOK || body != "ok" || err != nil {
						t.Errorf("%d %q %v", code, body, err)
					}
				}
				if d := time.Since(start); d != 0 {
					t.Errorf("the answers took %v", d)
				}
				// In the end the server lets go of all of them by itself.
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				c.mu.Lock()
				defer c.mu.Unlock()
				if len(c.open) > 0 {
					t.Errorf("%d connections are open after two minutes", len(c.open))
				}
			})
		})
	}
}

// TestRequestOnItsWay has clients whose requests hang before and after a connection whose
// request is on its way for a moment.
func TestRequestOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := serveOverPipes(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
			}
			_, _ = io.WriteString(w, "ok")
		}), newConnections(maxConnections))
		hang := func() {
			for range 2 * maxConnections {
				request(t, dial("127.0.0.1"), "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
				synctest.Wait()
			}
		}
		hang()
		conn := dial("127.0.0.1")
		hang()
		time.Sleep(onItsWay / 2)
		request(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if code, body, err := answer(conn); code != http.StatusOK || body != "ok" || err != nil {
			t.Errorf("%d %q %v", code, body, err)
		}
		// One that says nothing for longer goes before requests that hang.
		silent, hung := dial("127.0.0.1"), dial("127.0.0.1")
		request(t, hung, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(2 * onItsWay)
		dial("127.0.0.1")
		synctest.Wait()
		if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the silent one is still open: %v", err)
		}
	})
}

// TestRequestWithBody wants a body to be refused, and its connection closed.
func TestRequestWithBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := serveOverPipes(t, okHandler, newConnections(maxConnections))
		conn := dial("127.0.0.1")
		start := time.Now()
		request(t, conn, "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
		if code, body, err := answer(conn); code != http.StatusRequestEntityTooLarge || !strings.Contains(body, "no body") || err != nil {
			t.Errorf("%d %q %v", code, body, err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection is not closed: %v", err)
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("closed after %v", d)
		}
	})
}

// TestLongAnswers has pages that take minutes: one that writes at its end, as a
// profile does, and one that writes all the time, as a trace. A client that does not
// read is given up.
func TestLongAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		page  http.HandlerFunc
		reads bool
	}{
		"at the end": {func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(5 * time.Minute):
				_, _ = io.WriteString(w, "done")
			case <-r.Context().Done():
			}
		}, true},
		"all the time": {func(w http.ResponseWriter, r *http.Request) {
			for range 30 {
				_, _ = io.WriteString(w, strings.Repeat("-", 1<<12))
				time.Sleep(10 * time.Second)
			}
			if r.Context().Err() == nil {
				_, _ = io.WriteString(w, "done")
			}
		}, true},
		"not read": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("-", 1<<12)); err != nil {
					return
				}
			}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newConnections(maxConnections)
				conn := serveOverPipes(t, c.scarce(unhurried(tc.page)), c)("127.0.0.1")
				request(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				if !tc.reads {
					time.Sleep(2 * writeTimeout)
					synctest.Wait()
					c.mu.Lock()
					defer c.mu.Unlock()
					if len(c.open) > 0 {
						t.Error("the connection is still open")
					}
					return
				}
				if code, body, err := answer(conn); code != http.StatusOK || !strings.HasSuffix(body, "done") || err != nil {
					t.Errorf("%d, %d bytes, %v", code, len(body), err)
				}
			})
		})
	}
}

// TestScarcePages has more requests to a page than may be answered at once: the
// oldest end, the newest is answered.
func TestScarcePages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConnections(maxConnections)
		var mu sync.Mutex
		running, most := 0, 0
		page := c.scarce(unhurried(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			if r.URL.Path == "/hang" {
				<-r.Context().Done()
			}
			_, _ = io.WriteString(w, "ok")
			mu.Lock()
			running--
			mu.Unlock()
		}))
		dial := serveOverPipes(t, page, c)
		var hung []net.Conn
		for range 20 {
			conn := dial("127.0.0.1")
			request(t, conn, "GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
			synctest.Wait()
			hung = append(hung, conn)
		}
		for i, conn := range hung[:len(hung)-maxScarce] {
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				t.Errorf("request %d is still answered", i)
			}
		}
		mu.Lock()
		// One more runs until it notices that its client has gone.
		if running != maxScarce || most > maxScarce+1 {
			t.Errorf("%d run, %d at most", running, most)
		}
		mu.Unlock()
		conn := dial("127.0.0.1")
		request(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if code, body, err := answer(conn); code != http.StatusOK || body != "ok" || err != nil {
			t.Errorf("%d %q %v", code, body, err)
		}
	})
}

// TestMetricsOf gathers for one request at a time, and goes on after a gatherer that
// panicked.
func TestMetricsOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gathering, gathered := 0, 0
		metrics := metricsOf(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
			gathering++
			if gathering > 1 {
				t.Error("two gather at once")
			}
			time.Sleep(time.Second)
			gathering--
			if gathered++; gathered == 1 {
				panic("of a collector")
			}
			return nil, nil
		}))
		dial := serveOverPipes(t, metrics, newConnections(maxConnections))
		var conns []net.Conn
		for range 5 {
			conn := dial("127.0.0.1")
			request(t, conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			synctest.Wait()
			conns = append(conns, conn)
		}
		_ = conns[4].Close() // is not gathered for
		for i, conn := range conns[:4] {
			if code, _, err := answer(conn); (code == http.StatusOK) != (i > 0) {
				t.Errorf("request %d: %d %v", i, code, err)
			}
		}
		if gathered != 4 {
			t.Errorf("gathered %d times", gathered)
		}
	})
}

// TestHungScrapes has the program itself with clients that hang: their connections
// end, and probes and scrapes are answered.
func TestHungScrapes(t *testing.T) {
	addr, debug := freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+freeAddr(t)+"?count=1", "-addr", addr, "-debug.addr", debug, "-kube.off")
	p.eventually("alive", func() bool { _, code := get(t, "http://"+addr+"/livez"); return code == http.StatusOK })
	for at, page := range map[string]string{addr: "/metrics", debug: "/debug/pprof/profile?seconds=300"} {
		var conns []net.Conn
		for range 300 {
			conn, err := net.Dial("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			request(t, conn, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", page))
			conns = append(conns, conn)
		}
		for i, conn := range conns[:len(conns)-maxConnections] {
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, net.ErrClosed) || isTimeout(err) {
				t.Fatalf("%s: connection %d is still open: %v", page, i, err)
			}
		}
	}
	for _, url := range []string{"http://" + addr + "/livez", "http://" + addr + "/readyz", "http://" + addr + "/metrics", "http://" + debug + "/templates", "http://" + debug + "/exporters"} {
		if body, code := get(t, url); code != http.StatusOK || body == "" {
			t.Errorf("%s: %d %s", url, code, body)
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}
