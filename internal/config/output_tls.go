package config

import (
	"errors"
	"io/fs"

	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// tlsFlags are the options of an output's connections with TLS.
type tlsFlags struct {
	flags string // begins the names of the options
	cert  string // ends the name of the option for the client's certificate
	peer  tlsPeer
	files *transport.TLSFiles // what the options set
	// variables are those of the environment that stand for options, by the ends of their names.
	variables map[string]string
}

// tlsPeer is what descriptions call the other side, and its certificate.
type tlsPeer struct{ name, certificate string }

var (
	oneServer   = tlsPeer{"the server", "the server's certificate"}
	someBrokers = tlsPeer{"the brokers", "the brokers' certificates"}
)

// options returns the part of the table of options.
func (f tlsFlags) options() []option {
	file := func(field *string) func(*Config, string) error {
		return path(func(*Config) *string { return field }, "give a file")
	}
	return []option{
		{
			name: f.flags + "tls.ca", arg: "FILE",
			usage: "certificates of the authorities that sign " + f.peer.certificate + " (PEM), in place of the system's. This file and the next two are read at each connection, so they may be replaced",
			set:   file(&f.files.CA),
		},
		{
			name: f.flags + f.cert, arg: "FILE",
			usage: "client certificate for " + f.peer.name + " (PEM)",
			set:   file(&f.files.Cert),
		},
		{
			name: f.flags + "tls.key", arg: "FILE",
			usage: "key of the client certificate (PEM)",
			set:   file(&f.files.Key),
		},
		{
			name: f.flags + "tls.insecure", def: "false",
			usage: "don't verify " + f.peer.certificate,
			set:   boolean(func(*Config) *bool { return &f.files.Insecure }),
		},
	}
}

// where names an option in an error: by the variable that stands for it, if there is one.
func (f tlsFlags) where(name string, s setting) string {
	if v, ok := f.variables[name]; ok {
		return "environment variable " + v
	}
	return s.flag(f.flags + name)
}

// finish refuses contradictions. on reports whether connections have TLS, and advice says
// how to have it.
func (f tlsFlags) finish(p *parser, on bool, advice string) error {
	flag := func(name string) string { return f.where(name, p.given[f.flags+name]) }
	for _, name := range []string{"tls.ca", f.cert, "tls.key", "tls.insecure"} {
		if s, ok := p.given[f.flags+name]; ok && !on && s.value != "" && (name != "tls.insecure" || f.files.Insecure) {
			return Usagef("%s: connections have no TLS; %s, or leave it out", flag(name), advice)
		}
	}
	switch {
	case f.files.Cert != "" && f.files.Key == "":
		return Usagef("%s: the key is missing; give -%stls.key, too", flag(f.cert), f.flags)
	case f.files.Key != "" && f.files.Cert == "":
		return Usagef("%s: the certificate is missing; give -%s%s, too", flag("tls.key"), f.flags, f.cert)
	}
	return nil
}

// usage makes an error of an output's constructor one that names the flag, if a file
// cannot be used: one of these, or one with a header.
func (f tlsFlags) usage(err error) error {
	file, ok := errors.AsType[*transport.FileError](err)
	if !ok {
		return err
	}
	name := file.Name
	if path, ok := errors.AsType[*fs.PathError](err); ok && path.Path == f.files.Key {
		name = path.Path // the error of a certificate may be that of its key
	}
	flag := "headers"
	switch name {
	case f.files.CA:
		flag = "tls.ca"
	case f.files.Cert:
		flag = f.cert
	case f.files.Key:
		flag = "tls.key"
	}
	return Usagef("%s: %v", f.where(flag, setting{}), err)
}
