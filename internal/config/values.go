package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
)

// Setters of options. Their errors say what is allowed; the parser puts the name
// of the flag before it. Setters of a kind take a function that returns the place
// of the value.

// oneOf takes one of the allowed values.
func oneOf(field func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !slices.Contains(allowed, v) {
			if len(allowed) == 1 {
				return fmt.Errorf("%s is not allowed; the only value is %s", Quote(v), allowed[0])
			}
			return fmt.Errorf("%s is not allowed; give one of %s", Quote(v), strings.Join(allowed, ", "))
		}
		*field(c) = v
		return nil
	}
}

// boolean takes what strconv.ParseBool does.
func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%s is not allowed; give true or false", Quote(v))
		}
		*field(c) = b
		return nil
	}
}

// path takes the name of a file. A dash is refused: people who give it mean
// standard input or output, which no flag stands for.
func path(field func(*Config) *string, advice string) func(*Config, string) error {
	return func(c *Config, v string) error {
		switch {
		case v == "-":
			return fmt.Errorf("- is not allowed; %s", advice)
		case strings.ContainsRune(v, 0):
			return fmt.Errorf("%s is no name of a file; %s", Quote(v), advice)
		}
		*field(c) = v
		return nil
	}
}

// setFiles takes a list of names of files.
func setFiles(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, v string) error {
		for part := range strings.SplitSeq(v, ",") {
			var name string
			if err := path(func(*Config) *string { return &name }, "give files")(c, strings.TrimSpace(part)); err != nil {
				return err
			}
			if name == "" {
				return fmt.Errorf("%s has an empty name; give files such as a.mmdb,b.mmdb", Quote(v))
			}
			*field(c) = append(*field(c), name)
		}
		return nil
	}
}

// address takes the address of an HTTP server, or nothing.
func address(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "" {
			_, port, err := net.SplitHostPort(v)
			if err == nil {
				_, err = strconv.ParseUint(port, 10, 16)
			}
			if err != nil {
				return fmt.Errorf("%s is not allowed; give [HOST]:PORT with a port from 0 to 65535, or an empty value for none", Quote(v))
			}
		}
		*field(c) = v
		return nil
	}
}

func setCluster(c *Config, v string) error {
	if !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
		return fmt.Errorf("%s is not allowed; give a name in UTF-8 without control characters", Quote(v))
	}
	c.Cluster = v
	return nil
}

// sizeUnits are the units of sizes, and the bytes of each.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// size takes a number of bytes within bounds, plain or with a unit.
func size(field func(*Config) *int64, least, most int64) func(*Config, string) error {
	return func(c *Config, v string) error {
		number, unit := v, int64(1)
		for _, u := range sizeUnits {
			if n, ok := strings.CutSuffix(v, u.name); ok {
				number, unit = strings.TrimSpace(n), u.bytes
			}
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > most/unit || n*unit < least {
			return fmt.Errorf("%s is not allowed; give a size from %d to %d bytes, plain or such as 8MiB", Quote(v), least, most)
		}
		*field(c) = n * unit
		return nil
	}
}

// duration takes a duration that is not negative.
func duration(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%s is not allowed; give a duration such as 60s or 2m, or 0s for none", Quote(v))
		}
		*field(c) = d
		return nil
	}
}

// positive takes a duration that is more than 0.
func positive(field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		if err := duration(field)(c, v); err != nil || *field(c) == 0 {
			return fmt.Errorf("%s is not allowed; give a duration of more than 0, such as 10s", Quote(v))
		}
		return nil
	}
}

// prefixes takes a list of networks, or nothing.
func prefixes(field func(*Config) *[]netip.Prefix) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v == "" {
			return nil
		}
		for part := range strings.SplitSeq(v, ",") {
			p, err := prefix(part)
			if err != nil {
				return err
			}
			*field(c) = append(*field(c), p)
		}
		return nil
	}
}

// setNamespaces takes names as Kubernetes has them: labels of RFC 1123.
func setNamespaces(c *Config, v string) error {
	for part := range strings.SplitSeq(v, ",") {
		name := strings.TrimSpace(part)
		if !isLabel(name) {
			return fmt.Errorf("%s is not allowed; give names of namespaces, such as shop,web", Quote(part))
		}
		c.KubeNamespaces = append(c.KubeNamespaces, name)
	}
	return nil
}

// setOwners takes names of resources with their API groups.
func setOwners(c *Config, v string) error {
	for part := range strings.SplitSeq(v, ",") {
		for label := range strings.SplitSeq(strings.TrimSpace(part), ".") {
			if !isLabel(label) {
				return fmt.Errorf("%s is not allowed; give resources with their groups, such as virtualmachines.kubevirt.io", Quote(part))
			}
		}
	}
	c.KubeOwners = v
	return nil
}

// isLabel reports whether s is a label of RFC 1123, as names in Kubernetes are.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
}

func setSampling(c *Config, v string) error {
	for part := range strings.SplitSeq(v, ",") {
		network, rate, ok := strings.Cut(part, "=")
		n, err := strconv.ParseUint(strings.TrimSpace(rate), 10, 32)
		if !ok || err != nil || n == 0 {
			return fmt.Errorf("%s is not allowed; give CIDR=RATE with a rate from 1 on, such as 10.0.0.0/8=400", Quote(part))
		}
		p, err := prefix(network)
		if err != nil {
			return err
		}
		c.Sampling = append(c.Sampling, collector.SamplingRule{Exporters: p, Rate: n})
	}
	return nil
}

// prefix reads a network, or an address as the network that has only it.
// IPv4-mapped IPv6 becomes IPv4, as it does for exporters' addresses.
func prefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if err != nil || p != p.Masked() {
		return p, fmt.Errorf("%s is not allowed; give networks such as 10.0.0.0/8 or fd00::/8, or addresses", Quote(s))
	}
	return p, nil
}

// maxRecent is the most room for the newest records, in bytes.
const maxRecent = 64 << 30

// maxMetricsWorkloads is the most pairs of workloads with series of their own. It
// bounds the size of a scrape.
const maxMetricsWorkloads = 100_000

func setMetricsWorkloads(c *Config, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n == 1 || n > maxMetricsWorkloads {
		return fmt.Errorf("%s is not allowed; give a number from 2 to %d, or 0 for none", Quote(v), maxMetricsWorkloads)
	}
	c.MetricsWorkloads = n
	return nil
}

func setLogLevel(c *Config, v string) error {
	l, err := logrus.ParseLevel(v)
	if err != nil {
		return fmt.Errorf("%s is not allowed; give one of panic, fatal, error, warning, info, debug, trace", Quote(v))
	}
	c.LogLevel = l
	return nil
}

func setLogFormat(c *Config, v string) error {
	var name string
	if err := oneOf(func(*Config) *string { return &name }, "normal", "json")(c, v); err != nil {
		return err
	}
	c.LogJSON = name == "json"
	return nil
}

// Quote returns a value of the user in quotes, for an error: cut if it is long.
func Quote(s string) string {
	const most = 200
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}

// show is like [Quote] for names. It leaves the quotes out if the name is short
// and printable.
func show(s string) string {
	if len(s) > 200 || s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return Quote(s)
	}
	return s
}

// integer takes a whole number within bounds.
func integer(field func(*Config) *int, least, most int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%s is not allowed; give a number from %d to %d", Quote(v), least, most)
		}
		*field(c) = n
		return nil
	}
}

// setCheckReady sets the URL of -check.ready. Without a path it gets that of the probe.
func setCheckReady(c *Config, v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s is no URL; give one such as http://127.0.0.1:8080/readyz", Quote(v))
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/readyz"
	}
	c.CheckReady = u.String()
	return nil
}
