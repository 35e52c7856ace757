package hubble

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"k8s.io/apimachinery/pkg/labels"
)

// sourceAny stands for a label of any source, in a selector.
const sourceAny = "any"

// labelSet is the labels of an end as a selector of Kubernetes asks for them. Keys are
// SOURCE.KEY, since the grammar of selectors knows no colon.
type labelSet []label

// Has implements [labels.Labels].
func (s *labelSet) Has(key string) bool {
	_, ok := s.Lookup(key)
	return ok
}

// Get implements [labels.Labels].
func (s *labelSet) Get(key string) string {
	value, _ := s.Lookup(key)
	return value
}

// Lookup implements [labels.Labels].
func (s *labelSet) Lookup(key string) (value string, ok bool) {
	source, key, ok := strings.Cut(key, ".")
	if !ok {
		source, key = sourceAny, source
	}
	for _, l := range *s {
		if l.key == key && (source == sourceAny || l.source == source) {
			return l.value, true
		}
	}
	return "", false
}

// selectors parses selectors of labels.
func selectors(texts []string) (list []labels.Selector, err error) {
	for _, s := range texts {
		selector, err := labels.Parse(dotted(s))
		if err != nil {
			return nil, fmt.Errorf("%q is no selector of labels such as app=shop or k8s:tier in (a, b): %w", s, err)
		}
		list = append(list, selector)
	}
	return list, nil
}

// oneMatches reports whether one of some selectors matches the labels of an end.
func oneMatches(list []labels.Selector, of *labelSet) bool {
	return slices.ContainsFunc(list, func(s labels.Selector) bool { return s.Matches(of) })
}

// nodeLabelsAre is for labels of nodes, which nobody asks the cluster for.
func nodeLabelsAre(f *flowpb.FlowFilter) (predicate, error) {
	list, err := selectors(f.GetNodeLabels())
	if err != nil || len(list) == 0 || oneMatches(list, &labelSet{}) {
		return nil, err
	}
	return nil, unknowable("labels of nodes")
}

// ofLabel makes the part for selectors that values returns.
func ofLabel(values func(*flowpb.FlowFilter) []string, of endpointOf) part {
	return func(f *flowpb.FlowFilter) (predicate, error) {
		list, err := selectors(values(f))
		if err != nil || len(list) == 0 {
			return nil, err
		}
		set := new(labelSet) // an interface has a pointer without an allocation
		return func(v *view) bool {
			*set = v.labelsOf(of(v))
			return oneMatches(list, set)
		}, nil
	}
}

// dotted rewrites the keys of a selector from SOURCE:KEY to SOURCE.KEY, and from KEY to any.KEY.
// A key ends where a blank, a comma or an operator begins. A comma in parentheses ends a value.
func dotted(selector string) string {
	var b strings.Builder
	rest := selector
	for rest != "" {
		start := strings.IndexFunc(rest, func(r rune) bool { return !unicode.IsSpace(r) && r != '!' })
		if start < 0 {
			b.WriteString(rest)
			// A selector that ends here lacks a key, as labels.Parse will say.
			break
		}
		b.WriteString(rest[:start])
		rest = rest[start:]
		end := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsSpace(r) || r == '=' || r == '!' || r == ',' })
		if end < 0 {
			end = len(rest)
		}
		if source, key, ok := strings.Cut(rest[:end], ":"); ok {
			b.WriteString(source + "." + key)
		} else {
			b.WriteString(sourceAny + "." + source)
		}
		rest = rest[end:]
		end = endOfRequirement(rest)
		b.WriteString(rest[:end])
		rest = rest[end:]
	}
	return b.String()
}

// endOfRequirement returns where the next requirement of a selector begins.
func endOfRequirement(s string) int {
	depth := 0
	for i, r := range s {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				return i + 1
			}
		}
	}
	return len(s)
}
