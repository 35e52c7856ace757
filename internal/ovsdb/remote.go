package ovsdb

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

// Remote is where a database server is (ovsdb(7), section "Connection Methods").
type Remote struct {
	Scheme  string // unix, tcp or ssl
	Address string // a path, or host and port
}

// String returns the remote as OVN's tools take it.
func (r Remote) String() string { return r.Scheme + ":" + r.Address }

// IsRemote reports whether text names a server, and not a file.
func IsRemote(text string) bool {
	for _, scheme := range []string{"unix:", "tcp:", "ssl:"} {
		if strings.HasPrefix(text, scheme) {
			return true
		}
	}
	return false
}

// ParseRemotes reads one remote or several, separated by commas: the members of a cluster,
// any of which will do.
func ParseRemotes(text string) ([]Remote, error) {
	var remotes []Remote
	for part := range strings.SplitSeq(text, ",") {
		scheme, address, _ := strings.Cut(part, ":")
		r := Remote{Scheme: scheme, Address: address}
		switch scheme {
		case "unix":
			if address == "" {
				return nil, errors.New("unix: names no socket; give unix:PATH")
			}
		case "tcp", "ssl":
			host, port, err := net.SplitHostPort(address)
			if err != nil || host == "" || port == "" {
				return nil, fmt.Errorf("%q is no %s:HOST:PORT; an IPv6 address goes in brackets", part, scheme)
			}
		default:
			return nil, fmt.Errorf("%q is none of unix:PATH, tcp:HOST:PORT and ssl:HOST:PORT", part)
		}
		remotes = append(remotes, r)
	}
	return remotes, nil
}

// Keys names the files of the client's certificate and of the authorities that the server's
// must come from, in PEM. OVN's servers ask for a client's certificate.
type Keys struct{ Key, Cert, CA string }

// Any reports whether any file is named.
func (k Keys) Any() bool { return k != Keys{} }

// config reads the files. Like OVN's own clients, it checks that the server's certificate
// comes from the authority, and not the name in it: OVN's certificates name no host.
func (k Keys) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.Cert != "" || k.Key != "" {
		pair, err := tls.LoadX509KeyPair(k.Cert, k.Key)
		if err != nil {
			return nil, fmt.Errorf("-ovn.tls.cert, -ovn.tls.key: %w; give a certificate and its key, in PEM", err)
		}
		// Like OVN's own clients, whatever authorities the server asks for: it says then what
		// is wrong with the certificate.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	text, err := os.ReadFile(k.CA)
	if err != nil {
		return nil, fmt.Errorf("-ovn.tls.ca: %w; give the certificate of an authority, in PEM", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("-ovn.tls.ca: %s holds no certificate in PEM; give that of the authority that the database's comes from", k.CA)
	}
	c.InsecureSkipVerify = true // VerifyConnection checks the certificate
	c.VerifyConnection = func(state tls.ConnectionState) error {
		chain := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			chain.AddCert(cert)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: chain, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		return err
	}
	return c, nil
}

// Check reads the files of the keys, and returns what is wrong with them.
func (k Keys) Check() error {
	_, err := k.config()
	return err
}

// dial connects to a server.
func (r Remote) dial(ctx context.Context, keys Keys) (net.Conn, error) {
	var d net.Dialer
	switch r.Scheme {
	case "unix":
		return d.DialContext(ctx, "unix", r.Address)
	case "ssl":
		c, err := keys.config() // again each time: certificates are renewed
		if err != nil {
			return nil, err
		}
		return (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", r.Address)
	}
	return d.DialContext(ctx, "tcp", r.Address)
}
