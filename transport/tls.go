package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
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
