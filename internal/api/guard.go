package api

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// policy lets the page use its own files and the API, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Guard serves h with headers that keep other sites away from it. addr is the address of
// the server, as [net.Listen] takes it.
//
// A request's Host must be an IP address, localhost or the host of addr. Else a page of
// another site could read the answers: it lets a name of its own resolve to loopback, and
// browsers take that for its own site.
func Guard(addr string, h http.Handler) http.Handler {
	host, _, _ := net.SplitHostPort(addr)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("X-Frame-Options", "DENY")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		if strings.HasPrefix(r.URL.Path, "/api/") {
			header.Set("Cache-Control", "no-store")
		}
		if !allowed(r.Host, host) {
			Fail(w, http.StatusForbidden, errors.New("the name in this request is not that of the page: use an IP address, localhost, or the host of -ui.addr"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

// allowed reports whether the Host of a request is one that the page has.
func allowed(host, own string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.Trim(name, "[]"), ".")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	return strings.EqualFold(name, "localhost") || own != "" && strings.EqualFold(name, own)
}
