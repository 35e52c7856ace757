package transport

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// column is one field that records can be written with.
type column struct {
	name  string // in schema v1
	snake string // in schema v2; empty if goflow2 has no such field
	kind  columnKind
	def   bool         // in the default set
	field flow.FieldID // of a decoded field
	end   int          // of a generated field: index of the mapping entry
	attr  flow.Attr
}

type columnKind uint8

const (
	decoded   columnKind = iota // from the flow
	generated                   // from the cluster
	cluster                     // the same in every record
)

// columns lists all fields that records can have, sorted by name.
func columns(mapping []flow.MapEntry) ([]column, error) {
	if len(mapping) > flow.MaxEnds {
		return nil, fmt.Errorf("mapping: %d entries; at most %d are possible", len(mapping), flow.MaxEnds)
	}
	cols := []column{{name: "Cluster", snake: "cluster", kind: cluster, def: true}}
	for i := range flow.Fields {
		f := &flow.Fields[i]
		cols = append(cols, column{name: f.Name, snake: f.Snake, kind: decoded, def: f.Default, field: f.ID})
	}
	for i, e := range mapping {
		for _, a := range flow.Attrs {
			cols = append(cols, column{
				name: e.Prefix + a.Name, snake: e.Snake + "_" + a.Snake,
				kind: generated, def: a.Default, end: i, attr: a.Attr,
			})
		}
	}
	names := make(map[string]bool)
	for _, c := range cols {
		for _, n := range []string{c.name, c.snake} {
			if n != "" && names[n] {
				return nil, fmt.Errorf("mapping: two fields would have the name %s; choose other prefixes", n)
			}
			names[n] = true
		}
	}
	slices.SortFunc(cols, func(a, b column) int { return cmp.Compare(a.name, b.name) })
	return cols, nil
}

// selectColumns returns the columns that the value of -fields names.
//
// The value is a list of names separated by commas, read from left to right:
// NAME and +NAME add a field, -NAME removes it. NAME is a field's in either
// naming style, or P and what follows the prefix of generated fields (PNode is
// SrcNode, DstNode and those of all other prefixes), or one of the groups
// default and all. A list that begins with + or - starts from the default.
func selectColumns(list string, mapping []flow.MapEntry) ([]column, error) {
	cols, err := columns(mapping)
	if err != nil {
		return nil, err
	}
	on := make([]bool, len(cols))
	first := true
	for token := range strings.SplitSeq(list, ",") {
		token = strings.TrimSpace(token)
		if token == "" {
			continue
		}
		name, add := token, true
		if token[0] == '+' || token[0] == '-' {
			name, add = token[1:], token[0] == '+'
			if first {
				set(cols, on, "default", true)
			}
		}
		if first {
			// -cluster asks for its field in each record by itself.
			set(cols, on, "Cluster", true)
		}
		first = false
		if !set(cols, on, name, add) {
			return nil, fmt.Errorf("fields: no field is named %q; possible are default, all, %s", name, possible(cols))
		}
	}
	if first {
		set(cols, on, "default", true)
	}
	selected := cols[:0]
	for i, c := range cols {
		if on[i] {
			selected = append(selected, c)
		}
	}
	if len(selected) == 0 || len(selected) == 1 && selected[0].kind == cluster {
		return nil, fmt.Errorf("fields: %q leaves no field; an example is default,+TimeFlowStartNs,-SrcMac", list)
	}
	return selected, nil
}

// set switches the fields of a name and tells whether there are any.
func set(cols []column, on []bool, name string, value bool) bool {
	found := false
	for i, c := range cols {
		if name == c.name || name != "" && name == c.snake || name == "all" || name == "default" && c.def {
			on[i], found = value, true
		}
	}
	if found {
		return true
	}
	for i, c := range cols {
		if c.kind == generated && name == "P"+flow.Attrs[c.attr].Name {
			on[i], found = value, true
		}
	}
	return found
}

func possible(cols []column) string {
	var names []string
	for _, c := range cols {
		if c.kind != generated {
			names = append(names, c.name)
		}
	}
	for _, a := range flow.Attrs {
		names = append(names, "P"+a.Name)
	}
	return strings.Join(names, ", ") + " (P: any prefix of -mapping)"
}
