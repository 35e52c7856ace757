package hubble

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	flowpb "github.com/cilium/cilium/api/v1/flow"
)

// endpointOf returns one of a record's ends.
type endpointOf func(*view) *endpoint

// namespaced is a pattern for a name in a namespace: the beginning of the name, and the whole
// namespace. What is empty is for all.
type namespaced struct{ namespace, prefix string }

// parseNamespaced reads NAMESPACE/PREFIX, NAMESPACE/, /PREFIX, or PREFIX for namespace default.
func parseNamespaced(s string) (namespaced, error) {
	if s == "" {
		return namespaced{}, errors.New("the name of a pod or service is empty; give NAMESPACE/NAME")
	}
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		return namespaced{"default", s}, nil
	}
	name, _, _ = strings.Cut(name, "/")
	return namespaced{namespace, name}, nil
}

func podName(ep *endpoint) (namespace, name string) { return ep.namespace, ep.pod }

func serviceName(ep *endpoint) (namespace, name string) {
	if ep.service == "" {
		return "", ""
	}
	return ep.namespace, ep.service
}

// ofEndpointName makes the part for names of pods or services that values returns.
func ofEndpointName(values func(*flowpb.FlowFilter) []string, of endpointOf, name func(*endpoint) (string, string)) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		var list []namespaced
		for _, s := range values(f) {
			n, err := parseNamespaced(s)
			if err != nil {
				return nil, err
			}
			list = append(list, n)
		}
		if len(list) == 0 {
			return nil, nil
		}
		return func(v *view) bool {
			namespace, is := name(of(v))
			if namespace == "" && is == "" {
				return false
			}
			return slices.ContainsFunc(list, func(n namespaced) bool {
				return strings.HasPrefix(is, n.prefix) && (n.namespace == "" || n.namespace == namespace)
			})
		}, nil
	}
}

// ofWorkload makes the part for workloads that values returns: by name, kind, or both.
func ofWorkload(values func(*flowpb.FlowFilter) []*flowpb.Workload, of endpointOf) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		list := values(f)
		if len(list) == 0 {
			return nil, nil
		}
		return func(v *view) bool {
			ep := of(v)
			return ep.workload != "" && slices.ContainsFunc(list, func(wanted *flowpb.Workload) bool {
				return (wanted.GetName() == "" || wanted.GetName() == ep.workload) && (wanted.GetKind() == "" || wanted.GetKind() == ep.workloadKind)
			})
		}, nil
	}
}

// ofIdentity makes the part for identities that values returns.
func ofIdentity(values func(*flowpb.FlowFilter) []uint32, of endpointOf) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		return one(values(f), func(v *view) uint32 { return v.identityOf(of(v)) })
	}
}

// ofCluster makes the part for names of clusters that values returns.
func ofCluster(values func(*flowpb.FlowFilter) []string, of endpointOf) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		if slices.Contains(values(f), "") {
			return nil, errors.New("the name of a cluster is empty")
		}
		return one(values(f), func(v *view) string { return v.clusterOf(of(v)) })
	}
}

// ofNames makes the part for names of addresses that values returns: those of networks outside of
// the cluster, in any case. Other ends have none.
func ofNames(values func(*flowpb.FlowFilter) []string, of endpointOf) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		list, err := allPatterns(values(f), domainPattern)
		if len(list) == 0 || err != nil {
			return nil, err
		}
		pattern, err := regexp.Compile(`(?i)` + anyOf(list))
		if err != nil {
			return nil, fmt.Errorf("domain names: %w", err)
		}
		last, matches := "", false
		return func(v *view) bool {
			if place := of(v).place; place != last {
				last, matches = place, place != "" && pattern.MatchString(place)
			}
			return matches
		}, nil
	}
}

// allPatterns makes regular expressions of names.
func allPatterns(names []string, pattern func(string) (string, error)) (list []string, err error) {
	for _, s := range names {
		p, err := pattern(s)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// anyOf returns a regular expression for what one of some matches as a whole.
func anyOf(patterns []string) string { return `\A(?:` + strings.Join(patterns, "|") + `)\z` }

// anyDomain is a regular expression for a domain name.
const anyDomain = `[-0-9_a-z]+(?:\.[-0-9_a-z]+)*`

// domainPattern returns a regular expression for a domain name in which * stands for any part.
func domainPattern(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), "."))
	if name == "" || strings.HasSuffix(name, ".") {
		return "", fmt.Errorf("%q is no domain name", s)
	}
	var b strings.Builder
	for _, r := range name {
		switch {
		case r == '*':
			b.WriteString(`[-.0-9a-z]*`)
		case r == '.':
			b.WriteString(`\.`)
		case r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z':
			b.WriteRune(r)
		default:
			return "", fmt.Errorf("%q is no domain name: it has the character %q", s, r)
		}
	}
	return b.String(), nil
}

// defaultCluster is the cluster that a Node without one is in, for patterns.
const defaultCluster = "default"

// ofNode makes the predicate for names of Nodes: NODE, CLUSTER/NODE or CLUSTER/, with * for any part.
func ofNode(f *flowpb.FlowFilter) (predicate, error) {
	list, err := allPatterns(f.GetNodeName(), nodePattern)
	if len(list) == 0 || err != nil {
		return nil, err
	}
	pattern, err := regexp.Compile(anyOf(list))
	if err != nil {
		return nil, fmt.Errorf("names of nodes: %w", err)
	}
	last, matches := "", false // records of one exporter come together
	return func(v *view) bool {
		name := v.inCluster(v.nodeName())
		if name == "" {
			return false
		}
		if name != last {
			last = name
			if !strings.Contains(name, "/") {
				name = defaultCluster + "/" + name
			}
			matches = pattern.MatchString(name)
		}
		return matches
	}, nil
}

func nodePattern(s string) (string, error) {
	cluster, node, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		cluster, node = "", s
	case strings.Contains(node, "/"):
		return "", fmt.Errorf("%q is no name of a node; give NODE or CLUSTER/NODE", s)
	}
	if s == "" {
		return "", errors.New("the name of a node is empty")
	}
	var patterns [2]string
	for i, name := range [...]string{cluster, node} {
		patterns[i] = anyDomain
		if name != "" {
			var err error
			if patterns[i], err = domainPattern(name); err != nil {
				return "", err
			}
		}
	}
	return patterns[0] + "/" + patterns[1], nil
}
