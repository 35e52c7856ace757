package ovsdb

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes an authority, with a certificate in the file that ca names.
func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir, name: name}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(name, template)
	return a
}

func (a *authority) ca() string { return filepath.Join(a.dir, a.name+"-cert.pem") }

// issue makes a certificate of the authority, as OVN's ovs-pki does: without names of hosts.
func (a *authority) issue(name string, ends time.Duration) Keys {
	a.t.Helper()
	a.sign(name, &x509.Certificate{NotAfter: time.Now().Add(ends), KeyUsage: x509.KeyUsageDigitalSignature})
	return Keys{Key: filepath.Join(a.dir, name+"-key.pem"), Cert: filepath.Join(a.dir, name+"-cert.pem"), CA: a.ca()}
}

// sign makes a certificate and its key, and writes both. Without an authority it signs itself.
func (a *authority) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore = time.Now().Add(-24 * time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{"-cert.pem": {Type: "CERTIFICATE", Bytes: der}, "-key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(a.dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// listen starts the server anew, with a further remote whose port is 0, and returns its address.
func (d *database) listen(remote string, options ...string) string {
	d.t.Helper()
	d.options = append(options, "--remote="+remote+":0:127.0.0.1")
	d.stop()
	if err := os.Remove(d.file("log")); err != nil {
		d.t.Fatal(err)
	}
	d.start()
	text, err := os.ReadFile(d.file("log"))
	if err != nil {
		d.t.Fatal(err)
	}
	port := regexp.MustCompile(`127\.0\.0\.1: listening on port (\d+)`).FindSubmatch(text)
	if port == nil {
		d.t.Fatalf("no port in the log:\n%s", text)
	}
	return "127.0.0.1:" + string(port[1])
}

// listenTLS makes the server listen by TLS, with a certificate. It asks its clients for
// certificates of the same authority.
func (d *database) listenTLS(k Keys) string {
	d.t.Helper()
	return d.listen("pssl", "--private-key="+k.Key, "--certificate="+k.Cert, "--ca-cert="+k.CA)
}

// TestTLS follows a real server by TLS. Whoever has no right to, or asks the wrong server, is
// told what to do.
func TestTLS(t *testing.T) {
	d := newDatabase(t)
	d.nbctl("ls-add", "sw", "--", "--name=first", "acl-add", "sw", "to-lport", "1000", "ip4", "drop")
	ours, others := newAuthority(t, d.dir, "ours"), newAuthority(t, d.dir, "others")
	server, client := ours.issue("server", time.Hour), ours.issue("client", time.Hour)
	stranger, late := others.issue("stranger", time.Hour), ours.issue("late", -time.Hour)
	where := "ssl:" + d.listenTLS(server)
	with := func(base Keys, change func(*Keys)) Keys { change(&base); return base }
	for name, c := range map[string]struct {
		where string
		keys  Keys
		want  string // empty if the rows come
	}{
		"right":                  {where, client, ""},
		"wrong authority":        {where, with(client, func(k *Keys) { k.CA = others.ca() }), "-ovn.tls.ca"},
		"of another authority":   {where, with(stranger, func(k *Keys) { k.CA = ours.ca() }), "-ovn.tls.cert"},
		"without a certificate":  {where, Keys{CA: ours.ca()}, "-ovn.tls.cert"},
		"expired":                {where, late, "-ovn.tls.cert"},
		"another key":            {where, with(client, func(k *Keys) { k.Key = server.Key }), "-ovn.tls.key"},
		"a key for an authority": {where, with(client, func(k *Keys) { k.CA = k.Key }), "holds no certificate in PEM"},
		"no file":                {where, with(client, func(k *Keys) { k.CA += "x" }), "-ovn.tls.ca: open "},
		"only by TLS":            {strings.Replace(where, "ssl:", "tcp:", 1), Keys{}, "ssl:HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRows()
			err := once(t, c.where, c.keys, r)
			if c.want == "" {
				if err != nil || !strings.Contains(r.text(), "first") {
					t.Errorf("rows %q, %v", r.text(), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v does not name %q in one line", err, c.want)
			}
			if r.ends != 0 {
				t.Error("rows came")
			}
		})
	}
	where = "ssl:" + d.listenTLS(ours.issue("late-server", -time.Hour))
	if err := once(t, where, client, newRows()); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("a server's certificate that has expired: %v", err)
	}
	where = "ssl:" + d.listen("ptcp")
	if err := once(t, where, client, newRows()); err == nil || !strings.Contains(err.Error(), "tcp:HOST:PORT") {
		t.Errorf("a server without TLS: %v", err)
	}
}

// once follows a remote until a whole view has come, nil, or a connection has failed.
func once(t *testing.T, where string, keys Keys, to Receiver) (result error) {
	t.Helper()
	remotes, err := ParseRemotes(where)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	New(Config{
		Remotes: remotes, Keys: keys, Database: "OVN_Northbound", Tables: []Table{testTable},
		Failed:    func(err error, _ time.Duration) { result = err; cancel() },
		Ready:     func(Remote) { cancel() },
		Malformed: func(err error) { t.Error(err) },
	}).Run(ctx, to)
	return result
}
