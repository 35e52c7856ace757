package config

import (
	"github.com/netobserv/goflow2-kube-enricher/internal/hubble"
)

// Hubble holds the settings of Hubble's API.
type Hubble struct {
	// Addr is the TCP address; empty for none.
	Addr string
	// Cert, Key and ClientCA are PEM files; empty for none.
	Cert, Key, ClientCA string
}

// hubbleOptions returns the options of Hubble's API.
func hubbleOptions() []option {
	return []option{
		{
			name: "hubble.addr", arg: "[HOST]:PORT",
			usage: "gRPC address of Hubble's API, which `hubble observe` and Hubble UI read the newest records from, for instance `127.0.0.1:4244`; empty for none. Without `-hubble.tls.client-ca` it asks nobody who they are, so use a loopback address. " +
				"After captures, the program stays until a signal. Not for standard input. docs/hubble.md describes it",
			set: address(func(c *Config) *string { return &c.Hubble.Addr }),
		},
		{
			name: "hubble.tls.cert", arg: "FILE",
			usage: "certificate of `-hubble.addr`, in PEM, with those that lead to its CA; it is read again when it changes. Clients connect by TLS then",
			set:   path(func(c *Config) *string { return &c.Hubble.Cert }, "give a file"),
		},
		{
			name: "hubble.tls.key", arg: "FILE",
			usage: "private key of that certificate, in PEM",
			set:   path(func(c *Config) *string { return &c.Hubble.Key }, "give a file"),
		},
		{
			name: "hubble.tls.client-ca", arg: "FILE",
			usage: "CA, in PEM, that must have signed the certificates of Hubble's clients; empty to let in clients without one",
			set:   path(func(c *Config) *string { return &c.Hubble.ClientCA }, "give a file"),
		},
	}
}

// checkHubble refuses settings of Hubble's API that contradict others.
func (p *parser) checkHubble(c *Config) error {
	h := &c.Hubble
	refuse := func(name, why string) error { return Usagef("%s: %s", p.given[name].flag(name), why) }
	switch {
	case h.Addr == "" && h.Cert != "":
		return refuse("hubble.tls.cert", "nobody connects without -hubble.addr; give it, too")
	case h.Addr == "" && h.Key != "":
		return refuse("hubble.tls.key", "nobody connects without -hubble.addr; give it, too")
	case h.Addr == "" && h.ClientCA != "":
		return refuse("hubble.tls.client-ca", "nobody connects without -hubble.addr; give it, too")
	case h.Addr == "":
		return nil
	case c.Mode == Stdin:
		return refuse("hubble.addr", "Hubble has no records from standard input; leave it out")
	case h.Cert != "" && h.Key == "":
		return refuse("hubble.tls.cert", "a certificate needs its key; give -hubble.tls.key, too")
	case h.Key != "" && h.Cert == "":
		return refuse("hubble.tls.key", "a key needs its certificate; give -hubble.tls.cert, too")
	case h.ClientCA != "" && h.Cert == "":
		return refuse("hubble.tls.client-ca", "clients show certificates by TLS only; give -hubble.tls.cert and -hubble.tls.key, too")
	}
	return p.sameAddress(c, "hubble.addr", h.Addr)
}

// checkCertificates looks at the files of Hubble's API, for -check.
func (h *Hubble) checkCertificates() error {
	if h.Cert == "" {
		return nil
	}
	if err := hubble.CheckCertificates(h.Cert, h.Key, h.ClientCA); err != nil {
		return Usagef("-hubble.tls: %v", err)
	}
	return nil
}
