package policy

import (
	"strings"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// shown is a decision as records carry it. It is immutable: records alias its text.
type shown struct {
	Decision
	text []byte    // the fields one after the other, in the order of write
	ends [7]uint16 // of each field in text
}

// show renders a decision.
func show(d Decision, warn string) *shown {
	p := d.policy.Value()
	s := &shown{Decision: d}
	for i, v := range [...]string{p.Verdict, p.Kind, p.Namespace, p.Name, p.Direction, d.rule.Value(), warn} {
		s.text = append(s.text, v[:min(len(v), maxText)]...)
		s.ends[i] = uint16(len(s.text))
	}
	return s
}

// maxText bounds a field. Names of Kubernetes have at most 253 bytes.
const maxText = 4096

// write sets the fields of a record, which may be changed but not their bytes.
func (s *shown) write(x *flow.Extra) {
	e := &s.ends
	x.Verdict = s.text[:e[0]:e[0]]
	x.PolicyKind = s.text[e[0]:e[1]:e[1]]
	x.PolicyNamespace = s.text[e[1]:e[2]:e[2]]
	x.PolicyName = s.text[e[2]:e[3]:e[3]]
	x.PolicyDirection = s.text[e[3]:e[4]:e[4]]
	x.PolicyRule = s.text[e[4]:e[5]:e[5]]
	x.PolicyWarn = s.text[e[5]:e[6]:e[6]]
}

// maxNamed is how many policies a warning names. It counts the rest.
const maxNamed = 3

// mix returns what several decisions have in common, with a warning that names them. A
// policy is named only if all are of it.
func mix(all []*shown) *shown {
	p := all[0].policy.Value()
	verdict, rule := p.Verdict, all[0].rule.Value()
	var names []string
	for _, s := range all {
		q := s.policy.Value()
		if q.Verdict != verdict {
			verdict = ""
		}
		if s.rule.Value() != rule {
			rule = ""
		}
		if q.Kind != p.Kind || q.Namespace != p.Namespace || q.Name != p.Name || q.Direction != p.Direction {
			p, rule = Policy{}, ""
			// From here on, every other one differs from the empty policy as well.
		}
		names = append(names, s.String())
	}
	if p == (Policy{}) {
		rule = ""
	}
	p.Verdict = verdict
	return show(Decision{unique.Make(p), unique.Make(rule)}, warning(names))
}

// warning says which policies come into question, in the order of their names.
func warning(names []string) string {
	more := ""
	if n := len(names) - maxNamed; n > 0 {
		names, more = names[:maxNamed], ",... ("+itoa(n)+" more)"
	}
	return "Several policies found for same number: " + strings.Join(names, ",") + more
}
