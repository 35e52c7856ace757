package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc/credentials"
)

// TLSFiles names what connections with TLS are made with. The files are in PEM. They
// are read for each connection, so that they can be replaced.
type TLSFiles struct {
	// Cert and Key are the certificate and the key of the client, empty for none.
	Cert, Key string
	// CA has the certificates of the authorities that the client trusts; the system's
	// if it is empty.
	CA string
	// Insecure turns the check of the server's certificate off.
	Insecure bool
}

// config reads the files, and returns a [FileError] if one cannot be used.
func (f *TLSFiles) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.Insecure} //nolint:gosec // the user has asked for it
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, &FileError{f.CA, err}
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &FileError{f.CA, fmt.Errorf("%s has no certificate in PEM", f.CA)}
		}
	}
	if f.Cert != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, &FileError{f.Cert, fmt.Errorf("certificate %s with key %s: %w", f.Cert, f.Key, err)}
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}

// dialTimeout bounds how long a connection takes to be there, its handshake included.
const dialTimeout = 5 * time.Second

// dialer connects to the servers of an output.
type dialer struct {
	files *TLSFiles // nil for connections without TLS
	// protocols are what the connection will be used for, as TLS names it (ALPN).
	protocols []string
}

// DialContext connects to a server.
func (d *dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: dialTimeout}
	if d.files == nil {
		return plain.DialContext(ctx, network, addr)
	}
	cfg, err := d.files.config()
	if err != nil {
		return nil, err
	}
	cfg.NextProtos = d.protocols
	return (&tls.Dialer{NetDialer: plain, Config: cfg}).DialContext(ctx, network, addr)
}

// refusalTimeout is how long a server has to say that it wants another certificate of
// the client, which TLS 1.3 lets it do after the client's end of the handshake.
const refusalTimeout = 200 * time.Millisecond

// probe returns nil if a server can be connected to. It sends nothing.
func (d *dialer) probe(ctx context.Context, addr string) error {
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if d.files == nil {
		return nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(refusalTimeout)); err != nil {
		return err
	}
	var first [1]byte
	if _, err := conn.Read(first[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the server closes the connection after the handshake: %w", err)
	}
	return nil
}

// grpcCredentials are those of gRPC, which makes its connections itself. The files are
// read for each connection.
type grpcCredentials struct {
	credentials.TransportCredentials
	files *TLSFiles
}

func newGRPCCredentials(files *TLSFiles) *grpcCredentials {
	return &grpcCredentials{credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}), files}
}

// ClientHandshake implements [credentials.TransportCredentials].
func (g *grpcCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := g.files.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (g *grpcCredentials) Clone() credentials.TransportCredentials {
	return &grpcCredentials{g.TransportCredentials.Clone(), g.files}
}

// FileError is the error of a constructor if a file that the configuration names
// cannot be used.
type FileError struct {
	Name string // of the file
	Err  error  // names the file, too
}

// Error implements error.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }
