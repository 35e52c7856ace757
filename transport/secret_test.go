package transport

import (
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestRedact has servers that repeat secrets, and what is left of their messages.
func TestRedact(t *testing.T) {
	for _, test := range []struct {
		name, url string
		headers   []string
		text      string
		want      string
	}{
		{"a header's value", "http://h/", []string{"hunter2"}, "your key hunter2 is wrong", "your key ... is wrong"},
		{"a short one", "http://h/", []string{"abc"}, "your key abc is wrong", "your key ... is wrong"},
		{"one character", "http://h/", []string{"7"}, "tenant 7 is unknown", "tenant ... is unknown"},
		{"the token of a value", "http://h/", []string{"Bearer hunter2"}, "token hunter2 has expired", "token ... has expired"},
		{"one within another", "http://h/", []string{"abc", "xabcdef"}, "got xabcdef", "got ..."},
		{"two that overlap", "http://h/", []string{"abcd", "cdef"}, "got abcdef.", "got ...."},
		{"user and password", "http://bob:hunter2@h/", nil, "bob may not log in with hunter2", "... may not log in with ..."},
		{"both as a header", "http://bob:hunter2@h/", nil, "Basic Ym9iOmh1bnRlcjI= is wrong", "Basic ... is wrong"},
		{"a user alone", "http://s3cret@h/", nil, "s3cret: no such user", "...: no such user"},
		{"in the query", "http://h/?password=hunter2", nil, "/?password=hunter2 is forbidden", "/?password=... is forbidden"},
		{"in the query, escaped", "http://h/?password=hunter%202%2F", nil, "?password=hunter%202%2F or hunter 2/ or hunter+2%2F", "?password=... or ... or ..."},
		{"a short one in the query", "http://h/?password=ab&skip=1", nil, "ab: 1 error", "...: 1 error"},
		{"under other names", "http://h/?code=x&sv=2026-01-01", nil, "sv 2026-01-01, code x", "sv ..., code ..."},
		{"in a query that is not well formed", "http://h/?password=hunter2;x", nil, "hunter2;x is wrong", "... is wrong"},
		{"in JSON", "http://h/", []string{"ab/c&d="}, `{"key":"ab\/c\u0026d="}`, `{"key":"..."}`},
		{"none", "http://h/", []string{""}, "no such table", "no such table"},
	} {
		u, err := url.Parse(test.url)
		noError(t, err)
		var s secrets
		for _, v := range test.headers {
			s.addHeader(v)
		}
		s.addURL(u)
		if got := s.redact(test.text); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

// TestRedactStatus has a server that repeats the request where the status of its answer should be,
// as one that echoes does.
func TestRedactStatus(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	u, err := url.Parse("http://" + l.Addr().String() + "/?password=hunter2")
	noError(t, err)
	c, err := newHTTPClient(HTTPConfig{URL: u, Timeout: time.Minute})
	noError(t, err)
	defer c.close()
	a := c.send(t.Context(), &batch{})
	if a.err == nil || strings.Contains(a.err.Error(), "hunter2") || !strings.Contains(a.err.Error(), "/?password=...") {
		t.Error(a.err)
	}
}
