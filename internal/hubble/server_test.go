package hubble

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
	"runtime"
	"strings"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert, key, x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// issue returns a certificate for loopback with a serial number, and its key, in PEM.
func (a *authority) issue(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// write writes files as the kubelet does: each is in place at once. at makes their times differ.
func write(t *testing.T, at time.Time, files map[string][]byte) {
	t.Helper()
	for name, b := range files {
		if err := os.WriteFile(name+".new", b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name+".new", at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTLS connects with and without the certificates that are asked for, before and after they
// are renewed.
func TestTLS(t *testing.T) {
	servers, clients, others := newAuthority(t), newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	begin := time.Now().Add(-time.Hour)
	cert, key := servers.issue(t, 11)
	write(t, begin, map[string][]byte{file("crt"): cert, file("key"): key, file("ca"): clients.pem()})
	s := serve(t, Config{Cert: file("crt"), Key: file("key"), ClientCA: file("ca")}, newMemory(record(0, 1)))

	// status asks with a client's certificate, if any, and returns the server's serial number.
	ask := func(by *authority, version uint16) (serial int64, err error) {
		config := &tls.Config{RootCAs: servers.pool, MinVersion: tls.VersionTLS12, MaxVersion: version}
		config.VerifyConnection = func(c tls.ConnectionState) error {
			serial = c.PeerCertificates[0].SerialNumber.Int64()
			return nil
		}
		if by != nil {
			pair, err := tls.X509KeyPair(by.issue(t, 5))
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		conn := dial(t, s.Addr(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		defer conn.Close()
		_, err = observerpb.NewObserverClient(conn).ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return serial, err
	}
	if serial, err := ask(clients, tls.VersionTLS13); err != nil || serial != 11 {
		t.Errorf("%d, %v", serial, err)
	}
	for name, by := range map[string]*authority{"no certificate": nil, "one of others": others} {
		if _, err := ask(by, tls.VersionTLS13); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ask(clients, tls.VersionTLS12); err == nil {
		t.Error("TLS 1.2 is enough")
	}
	if _, err := client(t, s).ServerStatus(t.Context(), &observerpb.ServerStatusRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v", err)
	}

	// Half of a renewal does not do harm.
	newCert, newKey := servers.issue(t, 12)
	write(t, begin.Add(time.Minute), map[string][]byte{file("crt"): newCert})
	if serial, err := ask(clients, tls.VersionTLS13); err != nil || serial != 11 {
		t.Errorf("with half of it: %d, %v", serial, err)
	}
	write(t, begin.Add(time.Minute), map[string][]byte{file("key"): newKey})
	if serial, err := ask(clients, tls.VersionTLS13); err != nil || serial != 12 {
		t.Errorf("renewed: %d, %v", serial, err)
	}
	write(t, begin.Add(2*time.Minute), map[string][]byte{file("ca"): others.pem()})
	if _, err := ask(clients, tls.VersionTLS13); err == nil {
		t.Error("the CA that was replaced still counts")
	}
	if _, err := ask(others, tls.VersionTLS13); err != nil {
		t.Errorf("the new CA: %v", err)
	}
}

func TestBadCertificates(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	crt, key, other, none := filepath.Join(dir, "crt"), filepath.Join(dir, "key"), filepath.Join(dir, "other"), filepath.Join(dir, "none")
	certPEM, keyPEM := a.issue(t, 1)
	_, otherPEM := a.issue(t, 2)
	write(t, time.Now(), map[string][]byte{crt: certPEM, key: keyPEM, other: otherPEM})
	if err := CheckCertificates(crt, key, crt); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ crt, key, ca, want string }{
		{none, key, "", none}, {crt, none, "", none}, {crt, other, "", "does not match"}, {crt, key, none, none}, {crt, key, key, "no certificate in PEM"},
	} {
		if err := CheckCertificates(tt.crt, tt.key, tt.ca); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// TestAddressInUse: that is known before anything runs.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(Config{Addr: l.Addr().String()}, newMemory(), nil, quiet(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "-hubble.addr") || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
}

// TestManyRequests: a request beyond the bound is refused, and others go on.
func TestManyRequests(t *testing.T) {
	m := newMemory(record(0, 1))
	s := serve(t, Config{}, m)
	from := func(peer int) observerpb.ObserverClient {
		return observerpb.NewObserverClient(dial(t, s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialFrom(t, s, peer), nil })))
	}
	var open []grpc.ServerStreamingClient[observerpb.GetFlowsResponse]
	// ask opens n streams, and expects that one more is refused.
	ask := func(peer, n int, refusal string) {
		t.Helper()
		var conn observerpb.ObserverClient
		for i := range n {
			if i%maxCallsEach == 0 {
				conn = from(peer)
			}
			st, err := conn.GetFlows(t.Context(), &observerpb.GetFlowsRequest{Follow: true, Number: 1})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := st.Recv(); err != nil { // it has its place
				t.Fatal(err)
			}
			open = append(open, st)
		}
		c := from(peer)
		if _, err := getFlows(t, c, &observerpb.GetFlowsRequest{}); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), refusal) {
			t.Errorf("one more: %v", err)
		}
		if _, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{}); err != nil {
			t.Error(err)
		}
	}
	ask(0, maxStreamsAt, "from your address")
	ask(1, maxStreams-maxStreamsAt, "96 requests for flows are")
	m.add(record(1, 2))
	for _, st := range open {
		if _, err := st.Recv(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestManyConnections: one beyond what there may be of an address is closed, and one beyond what
// there may be in all. It has its place once another one ends.
func TestManyConnections(t *testing.T) {
	s := serve(t, Config{}, newMemory())
	served := func(peer int) (net.Conn, bool) {
		c := dialFrom(t, s, peer)
		// The server's settings are its first bytes (RFC 9113, section 3.4).
		if _, err := c.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
			return c, false
		}
		n, err := c.Read(make([]byte, 9))
		return c, n > 0 && err == nil
	}
	var open []net.Conn
	for peer := range maxConnections / maxConnectionsAt {
		for range maxConnectionsAt {
			c, ok := served(peer)
			if !ok {
				t.Fatalf("connection %d of peer %d is refused", len(open), peer)
			}
			open = append(open, c)
		}
		if _, ok := served(peer); ok {
			t.Errorf("one more connection of peer %d is served", peer)
		}
	}
	if _, ok := served(2); ok {
		t.Error("one more connection is served")
	}
	_ = open[0].Close() // and one of another address has its place
	waitFor(t, func() bool { c, ok := served(2); return ok && c.Close() == nil })
	waitFor(t, func() bool { c, ok := served(0); return ok && c.Close() == nil })
	l := s.listener.(*limitedListener)
	for _, c := range open {
		_ = c.Close()
	}
	waitFor(t, func() bool {
		l.share.mu.Lock()
		defer l.share.mu.Unlock()
		return len(l.share.of) == 0 && len(l.places) == 0
	})
}

// TestPeers: an IPv6 network is one peer, and a mapped address is that of IPv4.
func TestPeers(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:4244": "192.0.2.1/32", "[::ffff:192.0.2.1]:4244": "192.0.2.1/32", "[2001:db8::1:2]:1": "2001:db8::/64",
		"[2001:db8:0:1::1]:1": "2001:db8:0:1::/64", "[fe80::1%eth0]:1": "fe80::/64", "[::1]:1": "::/64", "pipe": "invalid Prefix",
	} {
		if got := peerOf(address); got.String() != want {
			t.Errorf("%s is %s, want %s", address, got, want)
		}
	}
}

// TestStop ends streams that are open, and leaves no goroutine behind.
func TestStop(t *testing.T) {
	before := runtime.NumGoroutine()
	s := serve(t, Config{}, newMemory(record(0, 1)))
	conn := dial(t, s.Addr())
	st, err := observerpb.NewObserverClient(conn).GetFlows(t.Context(), &observerpb.GetFlowsRequest{Follow: true, Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err == nil {
		t.Error("the stream goes on")
	}
	_ = conn.Close()
	waitFor(t, func() bool { return runtime.NumGoroutine() <= before })
}
