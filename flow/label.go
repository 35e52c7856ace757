package flow

import (
	"fmt"
	"slices"
	"strings"
)

// AttrLabel is the first label of an object, in the order of -kube.labels; the
// others follow.
const AttrLabel Attr = 64

// MaxLabels bounds how many labels are copied.
const MaxLabels = 32

// Label is a label of pods that is shown in a generated field.
type Label struct {
	Name  string // of the label, such as app.kubernetes.io/name
	Field string // after the prefix, in schema v1: App in SrcApp
	Snake string // after the prefix, in schema v2: app in src_app
}

// ParseLabels reads the value of -kube.labels, such as
// "app.kubernetes.io/name=App,tier=Tier".
func ParseLabels(s string) ([]Label, error) {
	var labels []Label
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, field, ok := strings.Cut(part, "=")
		if !ok || !valid(name, "-_./", true) || !valid(field, "_", false) {
			return nil, fmt.Errorf("%q is not LABEL=FIELD; an example is app.kubernetes.io/name=App", part)
		}
		l := Label{name, field, snake(field)}
		same := func(o Label) bool { return o.Field == l.Field || o.Snake == l.Snake }
		if slices.ContainsFunc(labels, same) {
			return nil, fmt.Errorf("field %s is used twice", field)
		}
		for _, a := range Attrs {
			if same(Label{"", a.Name, a.Snake}) {
				return nil, fmt.Errorf("field %s is a generated field already; choose another name", field)
			}
		}
		labels = append(labels, l)
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("empty; an example is app.kubernetes.io/name=App,tier=Tier")
	}
	if len(labels) > MaxLabels {
		return nil, fmt.Errorf("%d labels; at most %d are possible", len(labels), MaxLabels)
	}
	return labels, nil
}

// valid reports whether s consists of letters, digits and the characters of others,
// and begins with a letter, or with a digit if that is allowed.
func valid(s, others string, digit bool) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && !('0' <= c && c <= '9' && (digit || i > 0)) && (i == 0 || strings.IndexByte(others, c) < 0) {
			return false
		}
	}
	return s != ""
}

// JoinLabels makes [Object].Labels of the values of the labels, in the order of
// -kube.labels.
func JoinLabels(values []string) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(strings.ReplaceAll(v, "\n", " ")) // Kubernetes allows none
		b.WriteByte('\n')
	}
	return strings.TrimRight(b.String(), "\n")
}

// label returns the i-th label.
func (o *Object) label(i int) string {
	s := o.Labels
	for ; i > 0; i-- {
		n := strings.IndexByte(s, '\n')
		if n < 0 {
			return ""
		}
		s = s[n+1:]
	}
	if n := strings.IndexByte(s, '\n'); n >= 0 {
		s = s[:n]
	}
	return s
}
