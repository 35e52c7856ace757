package hubble

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// minTLS is the oldest version of TLS, as in Cilium's server. Its clients know it.
const minTLS = tls.VersionTLS13

// certificates has the server's certificate and those who sign clients'. It reads the files again
// when one of them changes: certificates are renewed while the process runs.
type certificates struct {
	cert, key, ca string
	log           logrus.FieldLogger
	failed        ratelog.Limiter

	mu     sync.Mutex
	seen   [3]fileState // of the files that config was made of, or that could not be used
	config *tls.Config
}

// fileState tells whether a file has changed.
type fileState struct {
	modified time.Time
	size     int64
}

func loadCertificates(cert, key, ca string, log logrus.FieldLogger) (*certificates, error) {
	c := &certificates{cert: cert, key: key, ca: ca, log: log}
	c.seen = c.states()
	var err error
	c.config, err = c.read()
	return c, err
}

// CheckCertificates returns an error if the files cannot be used.
func CheckCertificates(cert, key, ca string) error {
	_, err := loadCertificates(cert, key, ca, nil)
	return err
}

// configFor returns the configuration for one more client.
func (c *certificates) configFor(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.states()
	if now == c.seen {
		return c.config, nil
	}
	config, err := c.read()
	if err != nil {
		// The files may be half written: they are read again for the next client.
		if log := c.failed.Logger(c.log, time.Now().UnixNano()); log != nil {
			log.WithError(err).Error("the files of -hubble.tls have changed and cannot be used; those from before stay in use")
		}
		return c.config, nil
	}
	c.config, c.seen = config, now
	c.log.Info("the files of -hubble.tls have changed and are in use")
	return c.config, nil
}

func (c *certificates) states() (states [3]fileState) {
	for i, name := range [...]string{c.cert, c.key, c.ca} {
		if info, err := os.Stat(name); err == nil {
			states[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	return states
}

// read makes a configuration of the files.
func (c *certificates) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", c.cert, c.key, err)
	}
	config := &tls.Config{MinVersion: minTLS, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	if c.ca == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM", c.ca)
	}
	return config, nil
}
