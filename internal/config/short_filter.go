package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// shortFilters are the values of -n, -pod, -port and -ip; empty if they are not given.
type shortFilters struct {
	namespace, pod, port, ip string
}

// shortFilterOptions returns the options of filters that are quick to type. They are of
// the command line only: a variable such as KUBE_ENRICHER_PORT is set by Kubernetes for a
// Service.
func shortFilterOptions() []option {
	return []option{
		{
			name: "n", arg: "NAMESPACE", commandLine: true,
			usage: "writes only records with an end in this namespace. This and the next three flags are joined to each other and to `-filter` by `&&`",
			set:   name(func(c *Config) *string { return &c.short.namespace }, "a namespace, such as shop"),
		},
		{
			name: "pod", arg: "[NAMESPACE/]NAME", commandLine: true,
			usage: "writes only records with this pod at one end",
			set: func(c *Config, v string) error {
				namespace, pod, found := strings.Cut(v, "/")
				if found && (namespace == "" || pod == "" || strings.Contains(pod, "/")) {
					return fmt.Errorf("%s is no pod; give NAME or NAMESPACE/NAME", Quote(v))
				}
				return name(func(c *Config) *string { return &c.short.pod }, "NAME or NAMESPACE/NAME")(c, v)
			},
		},
		{
			name: "port", arg: "N", commandLine: true,
			usage: "writes only records with this port at one end",
			set: func(c *Config, v string) error {
				n, err := strconv.ParseUint(v, 10, 16)
				if err != nil {
					return fmt.Errorf("%s is no port; give a number from 0 to 65535", Quote(v))
				}
				c.short.port = strconv.FormatUint(n, 10)
				return nil
			},
		},
		{
			name: "ip", arg: "ADDRESS", commandLine: true,
			usage: "writes only records with this address at one end, or with one of this network (`10.244.0.0/16`)",
			set: func(c *Config, v string) error {
				if network, err := netip.ParsePrefix(v); err == nil {
					c.short.ip = network.Masked().String()
					return nil
				}
				a, err := netip.ParseAddr(v)
				if err != nil || a.Zone() != "" {
					return fmt.Errorf("%s is no address; give an IP address or a network such as 10.244.0.0/16", Quote(v))
				}
				c.short.ip = a.Unmap().String()
				return nil
			},
		},
	}
}

// name returns a setter for the name of an object, which may not be empty.
func name(field func(*Config) *string, allowed string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if strings.TrimSpace(v) == "" {
			return errors.New("is empty; give " + allowed)
		}
		*field(c) = v
		return nil
	}
}

// expression returns the filters as an expression of package filter; empty if none is
// given. Its error names the flag.
func (f *shortFilters) expression(mapping []flow.MapEntry) (string, error) {
	var all []string
	// either adds a condition of an end, for both ends. It gets the prefix of the end's
	// generated fields.
	either := func(flag string, condition func(prefix string) string) error {
		var ends []string
		for _, e := range mapping {
			if e.Field == flow.FieldSrcAddr || e.Field == flow.FieldDstAddr {
				ends = append(ends, condition(e.Prefix))
			}
		}
		if len(ends) == 0 {
			return Usagef("-%s: neither SrcAddr nor DstAddr is in -mapping, so their names are not known; add one", flag)
		}
		all = append(all, "("+strings.Join(ends, " || ")+")")
		return nil
	}
	if f.namespace != "" {
		err := either("n", func(prefix string) string {
			return prefix + "Namespace == " + strconv.Quote(f.namespace)
		})
		if err != nil {
			return "", err
		}
	}
	if f.pod != "" {
		err := either("pod", func(prefix string) string {
			namespace, pod, found := strings.Cut(f.pod, "/")
			if !found {
				return prefix + "Pod == " + strconv.Quote(f.pod)
			}
			return prefix + "Namespace == " + strconv.Quote(namespace) + " && " + prefix + "Pod == " + strconv.Quote(pod)
		})
		if err != nil {
			return "", err
		}
	}
	if f.port != "" {
		all = append(all, fmt.Sprintf("(SrcPort == %s || DstPort == %[1]s)", f.port))
	}
	if f.ip != "" {
		test := "(SrcAddr == %q || DstAddr == %[1]q)"
		if strings.Contains(f.ip, "/") {
			test = "(cidr(SrcAddr, %q) || cidr(DstAddr, %[1]q))"
		}
		all = append(all, fmt.Sprintf(test, f.ip))
	}
	return strings.Join(all, " && "), nil
}
