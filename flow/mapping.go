package flow

import (
	"fmt"
	"strings"
)

// MapEntry maps an address field to generated fields: names that begin with Prefix
// show the owner of the address in Field.
type MapEntry struct {
	Field  FieldID
	Prefix string // as in SrcPod
	Snake  string // as in src_pod, without the underscore
}

// ParseMapping reads the value of -mapping, such as
// "SrcAddr=Src,DstAddr=Dst". Fields may be named in either style.
func ParseMapping(s string) ([]MapEntry, error) {
	var entries []MapEntry
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, prefix, ok := strings.Cut(part, "=")
		if !ok || prefix == "" {
			return nil, fmt.Errorf("%q is not FIELD=PREFIX", part)
		}
		for i := 0; i < len(prefix); i++ {
			c := prefix[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && ('0' <= c && c <= '9' || c == '_')) {
				return nil, fmt.Errorf("prefix %q is not a name of letters, digits and underscores", prefix)
			}
		}
		f, ok := FieldByName(name)
		if !ok || f.Kind != KindAddr {
			return nil, fmt.Errorf("%q is not an address field (one of %s)", name, strings.Join(addrFields(), ", "))
		}
		for _, e := range entries {
			if e.Field == f.ID {
				return nil, fmt.Errorf("field %s is mapped twice", f.Name)
			}
			if e.Prefix == prefix {
				return nil, fmt.Errorf("prefix %s is used twice", prefix)
			}
		}
		entries = append(entries, MapEntry{Field: f.ID, Prefix: prefix, Snake: snake(prefix)})
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("empty; an example is SrcAddr=Src,DstAddr=Dst")
	}
	if len(entries) > MaxEnds {
		return nil, fmt.Errorf("%d entries; at most %d are possible", len(entries), MaxEnds)
	}
	return entries, nil
}

func addrFields() []string {
	var names []string
	for i := range Fields {
		if Fields[i].Kind == KindAddr {
			names = append(names, Fields[i].Name)
		}
	}
	return names
}

// snake turns a prefix such as Src or BgpNext into src or bgp_next.
func snake(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			if i > 0 && !('A' <= s[i-1] && s[i-1] <= 'Z') && s[i-1] != '_' {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return strings.Trim(b.String(), "_")
}
