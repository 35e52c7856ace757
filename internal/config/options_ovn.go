package config

import (
	"fmt"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

// OVN says where the policies' names come from.
type OVN struct {
	// Northbound and Southbound are remotes, separated by commas, or a file; empty for none.
	Northbound, Southbound string
	Keys                   ovsdb.Keys
}

// On reports whether verdicts are looked up.
func (o *OVN) On() bool { return o.Northbound != "" || o.Southbound != "" }

// ovnOptions returns the options of the policies that OVN has applied.
func ovnOptions() []option {
	const where = "`unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT` (several by commas for a cluster of servers), or a FILE that "
	return []option{
		{
			name: "ovn.nb", arg: "WHERE",
			usage: "OVN's northbound database, for the verdicts and policies of the packets that OVN samples: " + where +
				"`ovn-nbctl --format=json list ACL` has written, and the same of Sample, Sampling_App and NB_Global, one after the other; SIGHUP reads it again. " +
				"Empty for none. docs/policies.md says how to make OVN sample",
			set: ovnDatabase(func(c *Config) *string { return &c.OVN.Northbound }),
		},
		{
			name: "ovn.sb", arg: "WHERE",
			usage: "OVN's southbound database, for the policies of packets that OVN samples as dropped: " + where +
				"`ovn-sbctl --format=json list Logical_Flow` has written",
			set: ovnDatabase(func(c *Config) *string { return &c.OVN.Southbound }),
		},
		{
			name: "ovn.tls.cert", arg: "FILE", usage: "certificate that the program shows to OVN's databases, in PEM, for `ssl:`",
			set: path(func(c *Config) *string { return &c.OVN.Keys.Cert }, "give a file"),
		},
		{
			name: "ovn.tls.key", arg: "FILE", usage: "key of that certificate, in PEM",
			set: path(func(c *Config) *string { return &c.OVN.Keys.Key }, "give a file"),
		},
		{
			name: "ovn.tls.ca", arg: "FILE", usage: "certificate of the authority that the databases' certificates come from, in PEM",
			set: path(func(c *Config) *string { return &c.OVN.Keys.CA }, "give a file"),
		},
	}
}

// ovnDatabase takes remotes or a file.
func ovnDatabase(field func(*Config) *string) func(*Config, string) error {
	file := path(field, "give a remote or a file")
	return func(c *Config, v string) error {
		if !ovsdb.IsRemote(v) {
			return file(c, v)
		}
		if _, err := ovsdb.ParseRemotes(v); err != nil {
			return fmt.Errorf("%w", err)
		}
		*field(c) = v
		return nil
	}
}

// checkOVN refuses settings that contradict one another.
func (p *parser) checkOVN(c *Config) error {
	k := c.OVN.Keys
	tls := strings.Contains(c.OVN.Northbound+","+c.OVN.Southbound, "ssl:")
	for _, f := range p.inOrder([]flagValue{{"ovn.tls.cert", k.Cert != ""}, {"ovn.tls.key", k.Key != ""}, {"ovn.tls.ca", k.CA != ""}}) {
		if f.given && !tls {
			return Usagef("%s: is for databases by ssl:HOST:PORT; give one with -ovn.nb or -ovn.sb, or leave it out", p.given[f.name].flag(f.name))
		}
	}
	if !tls {
		return nil
	}
	if k.CA == "" {
		return Usagef("-ovn.tls.ca: is missing; ssl: needs the authority that the database's certificate comes from")
	}
	if (k.Cert == "") != (k.Key == "") {
		return Usagef("-ovn.tls.cert: certificate and key go together; give both -ovn.tls.cert and -ovn.tls.key")
	}
	return nil
}
