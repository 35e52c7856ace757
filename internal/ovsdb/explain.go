package ovsdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"unicode"
)

// explained is an error in one line, with what to do about it. Servers and files have texts
// of their own in it, which may be long or have line breaks.
type explained struct {
	err    error
	advice string // empty if err says it
}

const maxErrorText = 500

func (e *explained) Error() string {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, e.err.Error())
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "..."
	}
	if e.advice == "" {
		return text
	}
	return text + "; " + e.advice
}

func (e *explained) Unwrap() error { return e.err }

// explain says what to do about the error of a connection. begun reports whether the server
// had handed over the tables before.
func explain(r Remote, begun bool, err error) error {
	return &explained{err, advise(r, begun, err)}
}

func advise(r Remote, begun bool, err error) string {
	if advice := adviseTLS(err); advice != "" {
		return advice
	}
	timeout := net.Error(nil)
	syntax := (*json.SyntaxError)(nil)
	name := (*net.DNSError)(nil)
	switch {
	case errors.Is(err, fs.ErrNotExist) && r.Scheme == "unix":
		return "is OVN's database server running, and its directory mounted here?"
	case errors.Is(err, fs.ErrPermission):
		return "run as root, or in the socket's group"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is OVN's database server running, and does it listen there?"
	case errors.As(err, &name):
		return "give a name that can be resolved, or an address"
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return "is there a firewall on the way?"
	case ended(err) && begun:
		return "the server has ended the connection"
	case ended(err) && r.Scheme == "ssl":
		return "the server has ended the connection at once; if its port is not for TLS, give tcp:HOST:PORT; else it may not take the certificate of -ovn.tls.cert"
	case ended(err) && r.Scheme == "tcp":
		return "the server has ended the connection at once; if its port is for TLS, give ssl:HOST:PORT"
	case errors.As(err, &syntax):
		return "no database server of OVN answers there; give its socket or port"
	}
	return ""
}

// ended reports whether the other side has ended a connection.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// adviseTLS says what to do about certificates that one side does not take.
func adviseTLS(err error) string {
	unknown := x509.UnknownAuthorityError{}
	invalid := x509.CertificateInvalidError{}
	plain := tls.RecordHeaderError{}
	alert := tls.AlertError(0)
	switch {
	case errors.As(err, &plain):
		return "the port is not for TLS; give tcp:HOST:PORT"
	case errors.As(err, &unknown):
		return "give the certificate of the authority that the database's comes from with -ovn.tls.ca"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "renew the database server's certificate, or set the clock right"
	case errors.As(err, &invalid):
		return "give the database server another certificate"
	case errors.As(err, &alert) || strings.Contains(err.Error(), "remote error: tls: "):
		return "the server does not take the program's certificate; give one that it trusts with -ovn.tls.cert and -ovn.tls.key"
	}
	return ""
}
