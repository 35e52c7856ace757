// Package brokers has Kafka brokers for tests, within the process, and what is
// needed around them.
package brokers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// New returns a cluster of one broker, unless the options say otherwise, that
// has the topic with 8 partitions.
func New(t *testing.T, topic string, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.SeedTopics(8, topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Consume returns the n records of a topic, in order for each partition. The
// test fails if they are not that many.
func Consume(t *testing.T, topic string, n int, seeds []string, opts ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seeds...), kgo.ConsumeTopics(topic), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d records came, want %d", len(records), n)
		}
		records = append(records, fetches.Records()...)
	}
	// Nor are there more.
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if more := cl.PollFetches(ctx).Records(); len(more) > 0 || len(records) > n {
		t.Fatalf("%d records came, want %d", len(records)+len(more), n)
	}
	return records
}

// Certificates are those of brokers on loopback and of a client, in files. One
// authority vouches for both, and for nobody else.
type Certificates struct {
	CA, ClientCert, ClientKey string // files
	Pool                      *x509.CertPool
	Broker, Client            tls.Certificate
}

// NewCertificates makes certificates that are valid for the test.
func NewCertificates(t *testing.T) *Certificates {
	t.Helper()
	fatal := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	serial := int64(0)
	create := func(name string, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		fatal(err)
		serial++
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		}
		if parent == nil {
			parent, parentKey = template, key
			template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		} else {
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
			template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		fatal(err)
		cert, err := x509.ParseCertificate(der)
		fatal(err)
		return cert, key
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		name = filepath.Join(dir, name)
		fatal(os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return name
	}
	ca, caKey := create("authority", nil, nil)
	broker, brokerKey := create("broker", ca, caKey)
	client, clientKey := create("client", ca, caKey)
	keyBytes, err := x509.MarshalPKCS8PrivateKey(clientKey)
	fatal(err)
	c := &Certificates{
		CA: write("ca.pem", "CERTIFICATE", ca.Raw), ClientCert: write("client.pem", "CERTIFICATE", client.Raw), ClientKey: write("client.key", "PRIVATE KEY", keyBytes),
		Pool:   x509.NewCertPool(),
		Broker: tls.Certificate{Certificate: [][]byte{broker.Raw}, PrivateKey: brokerKey},
		Client: tls.Certificate{Certificate: [][]byte{client.Raw}, PrivateKey: clientKey},
	}
	c.Pool.AddCert(ca)
	return c
}

// Server returns the configuration of a broker. With mutual, it wants clients
// to have a certificate.
func (c *Certificates) Server(mutual bool) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{c.Broker}}
	if mutual {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, c.Pool
	}
	return cfg
}
