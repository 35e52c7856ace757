package page

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// forward serves a program's page on another address, as a forwarded port does, until end is
// called. The address may be empty.
func forward(t *testing.T, base, addr string) (at string, end func()) {
	t.Helper()
	to, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: httputil.NewSingleHostReverseProxy(to)}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return listener.Addr().String(), func() {
		_ = server.Close()
		<-done
	}
}

// TestAway ends the port forward under an open page, and begins it again: the page says so,
// keeps what it shows, and goes on by itself.
func TestAway(t *testing.T) {
	p := collect(t, demoSnapshot)
	p.goesOn(t)
	addr, end := forward(t, p.base, "")
	v := open(t, "http://"+addr, "", narrow)
	v.wait("live records", `document.getElementById("live-state").textContent.startsWith("live")`)
	end()
	v.wait("word that it is away", `/does not answer.*port/.test(document.getElementById("banner").innerText)`)
	v.wait("word at the list", `document.getElementById("live-state").textContent.startsWith("the connection is lost")`)
	v.accessible("away")
	if n := eval[int](v, `document.querySelectorAll("#pairs-table tbody tr").length`); n == 0 {
		t.Error("the pairs are gone while the collector is away")
	}
	_, end = forward(t, p.base, addr)
	t.Cleanup(end)
	v.wait("an end of the word", `document.getElementById("banner").hidden`)
	v.wait("live records again", `document.getElementById("live-state").textContent.startsWith("live")`)
	v.mu.Lock()
	v.problems = slices.DeleteFunc(v.problems, func(text string) bool { return strings.Contains(text, "net::ERR_") })
	v.mu.Unlock()
}
