package encode

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// column is one field that records can be written with.
type column struct {
	key   string   // as it is written
	names []string // what -fields may call it, the key first
	// suffixes lists the names of a generated field without its prefix.
	suffixes []string
	kind     columnKind
	def      bool         // in the default set
	field    flow.FieldID // of a decoded field
	negated  bool         // the field's opposite
	end      int          // of a generated field: index of the mapping entry
	attr     flow.Attr
	value    string // of a constant
	element  int    // of an element: its index in the user's list
	// pascal and snake are the names of a generated field in lines of either
	// style.
	pascal, snake string
}

type columnKind uint8

const (
	decoded   columnKind = iota // from the flow
	generated                   // from the owner of an address
	cluster                     // the same in every record, from -cluster
	constant                    // the same in every record, always
	element                     // from the flow, where it carries the element
)

// dialect is a way of naming fields. It decides which fields there are, and which
// are in the default set.
type dialect uint8

const (
	dialectV1 dialect = iota
	dialectV2
	dialectNetObserv
	dialectProtobuf
	dialectOTLP
)

// within maps fields of schema v1 to the field whose value they show in another form.
// Other schemas have the latter alone.
var within = map[flow.FieldID]flow.FieldID{
	flow.FieldTimeReceived:  flow.FieldTimeReceivedNs,
	flow.FieldTimeFlowStart: flow.FieldTimeFlowStartNs,
	flow.FieldTimeFlowEnd:   flow.FieldTimeFlowEndNs,
	flow.FieldEtypeName:     flow.FieldEtype,
	flow.FieldProtoName:     flow.FieldProto,
}

// key returns the name of a field in a dialect, empty if it has no such field,
// and whether the field is in its default set.
func (d dialect) key(f *flow.Field) (key string, def bool) {
	switch d {
	case dialectV2:
		return f.Snake, f.Upstream()
	case dialectProtobuf:
		if f.Number == 0 {
			return "", false
		}
		// A field without a value takes up no bytes, but most records count.
		return f.Snake, f.Kind != flow.KindBool
	case dialectNetObserv:
		if f.ID == flow.FieldOutIfName {
			return "", false
		}
		if f.NetObserv != "" {
			return f.NetObserv, true
		}
		return f.Name, false
	case dialectOTLP:
		return otlpKey(f)
	}
	return f.Name, f.Default
}

// also returns the names of fields that are part of f in this dialect.
func (d dialect) also(f *flow.Field) []string {
	var names []string
	switch d {
	case dialectV2, dialectProtobuf, dialectOTLP:
		for part, whole := range within {
			if whole == f.ID {
				names = append(names, flow.Fields[part].Name)
			}
		}
	case dialectNetObserv:
		if f.ID == flow.FieldInIfName { // Interfaces has both names, IfDirections their directions
			out := &flow.Fields[flow.FieldOutIfName]
			names = append(names, out.Name, out.Snake, "IfDirections")
		}
	}
	return names
}

// attrs returns the columns of one prefix.
func (d dialect) attrs(end int, e flow.MapEntry) []column {
	var cols []column
	if d == dialectNetObserv {
		for _, a := range flow.NetObservAttrs {
			key := e.Prefix + a.Name
			c := column{key: key, names: []string{key}, suffixes: []string{a.Name}, kind: generated, def: a.Default, end: end, attr: a.Attr, pascal: key, snake: key}
			if v1 := a.Row; v1 != nil {
				c.names, c.suffixes = append(c.names, e.Prefix+v1.Name, e.Snake+"_"+v1.Snake), append(c.suffixes, v1.Name)
			}
			cols = append(cols, c)
		}
		return cols
	}
	for _, a := range flow.Attrs {
		c := column{kind: generated, suffixes: []string{a.Name}, def: a.Default, end: end, attr: a.Attr, pascal: e.Prefix + a.Name, snake: e.Snake + "_" + a.Snake}
		c.key = c.pascal
		switch d {
		case dialectV1:
		case dialectOTLP:
			c.key = otlpAttr(e, &a)
		default:
			c.key = c.snake
		}
		c.names = []string{c.key, c.pascal, c.snake}
		cols = append(cols, c)
	}
	return cols
}

// labels returns the columns of one prefix for labels. All are in the default set,
// because -kube.labels has asked for them.
func (d dialect) labels(end int, e flow.MapEntry, labels []flow.Label) []column {
	var cols []column
	for i, l := range labels {
		c := column{kind: generated, suffixes: []string{l.Field}, def: true, end: end, attr: flow.AttrLabel + flow.Attr(i), pascal: e.Prefix + l.Field, snake: e.Snake + "_" + l.Snake}
		c.key = c.pascal
		switch d {
		case dialectV2:
			c.key = c.snake
		case dialectOTLP:
			c.key = otlpLabel(e, &l)
		}
		c.names = []string{c.key, c.pascal, c.snake}
		cols = append(cols, c)
	}
	return cols
}

// columns lists all fields that records can have, sorted by name.
func columns(d dialect, mapping []flow.MapEntry, labels ...flow.Label) ([]column, error) {
	if len(mapping) > flow.MaxEnds {
		return nil, fmt.Errorf("mapping: %d entries; at most %d are possible", len(mapping), flow.MaxEnds)
	}
	c := column{key: "Cluster", names: []string{"Cluster", "cluster"}, kind: cluster, def: true, pascal: "Cluster", snake: "cluster"}
	switch d {
	case dialectV2, dialectProtobuf:
		c.key = "cluster"
	case dialectOTLP:
		c.key = "k8s.cluster.name"
		c.names = append(c.names, c.key)
	case dialectNetObserv:
		c.key, c.pascal, c.snake = "K8S_ClusterName", "K8S_ClusterName", "K8S_ClusterName"
		c.names = append(c.names, c.key)
	}
	cols := []column{c}
	if d == dialectNetObserv {
		// Loki streams of flowlogs-pipeline have it as a label.
		cols = append(cols, column{key: "_RecordType", names: []string{"_RecordType"}, kind: constant, def: true, value: "flowLog"})
	}
	if d == dialectNetObserv {
		cols = append(cols, column{key: "Duplicate", names: []string{"Duplicate"}, kind: decoded, field: flow.FieldCountsOnce, negated: true})
	}
	for i := range flow.Fields {
		f := &flow.Fields[i]
		if key, def := d.key(f); key != "" {
			names := append([]string{key, f.Name, f.Snake}, d.also(f)...)
			cols = append(cols, column{key: key, names: names, kind: decoded, def: def, field: f.ID})
		}
	}
	for i, e := range mapping {
		cols = append(cols, d.attrs(i, e)...)
		cols = append(cols, d.labels(i, e, labels)...)
	}
	of := make(map[string]int)
	for i, c := range cols {
		for _, n := range c.names {
			if other, ok := of[n]; ok && n != "" && other != i {
				if c.attr >= flow.AttrLabel {
					return nil, fmt.Errorf("kube.labels: two fields would have the name %s; choose another name", n)
				}
				return nil, fmt.Errorf("mapping: two fields would have the name %s; choose other prefixes", n)
			}
			of[n] = i
		}
	}
	slices.SortFunc(cols, func(a, b column) int { return cmp.Compare(a.key, b.key) })
	return cols, nil
}

// selectColumns returns the columns that the value of -fields names.
//
// The value is a list of names separated by commas, read from left to right:
// NAME and +NAME add a field, -NAME removes it. NAME is a field's in either
// naming style, or P and what follows the prefix of generated fields (PNode is
// SrcNode, DstNode and those of all other prefixes), or one of the groups
// default and all. A list that begins with + or - starts from the default.
//
// The elements of the user's list are in the set from the start, as -cluster is.
func selectColumns(d dialect, list string, mapping []flow.MapEntry, elements []flow.ExtraElement, labels ...flow.Label) ([]column, error) {
	cols, err := columns(d, mapping, labels...)
	if err != nil {
		return nil, err
	}
	for i := range elements {
		name := elements[i].Name
		cols = append(cols, column{key: name, names: []string{name}, kind: element, def: true, element: i})
	}
	slices.SortFunc(cols, func(a, b column) int { return cmp.Compare(a.key, b.key) })
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
			// The option -cluster asks for its field whatever the list has.
			set(cols, on, "Cluster", true)
			for i := range elements {
				set(cols, on, elements[i].Name, true)
			}
		}
		first = false
		if !set(cols, on, name, add) {
			return nil, &UnknownFieldError{name, possible(cols)}
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
	if !slices.ContainsFunc(selected, func(c column) bool { return c.kind == decoded || c.kind == generated || c.kind == element }) {
		return nil, fmt.Errorf("fields: %q leaves no field; an example is default,+TimeFlowStartNs,-SrcMac", list)
	}
	return selected, nil
}

// Names returns what is the name of a field in any schema, and so cannot be that of an
// element of the user's list.
func Names(mapping []flow.MapEntry, labels ...flow.Label) (map[string]bool, error) {
	names := map[string]bool{"default": true, "all": true}
	for _, d := range []dialect{dialectV1, dialectV2, dialectNetObserv, dialectProtobuf} {
		cols, err := columns(d, mapping, labels...)
		if err != nil {
			return nil, err
		}
		for _, c := range cols {
			for _, n := range append(c.names, c.pascal, c.snake) {
				names[n] = true
			}
			for _, s := range c.suffixes {
				names["P"+s] = true
			}
		}
	}
	return names, nil
}

// fieldsOf returns the fields that columns read.
func fieldsOf(cols []column) (fields flow.FieldSet) {
	for _, c := range cols {
		if c.kind == decoded {
			fields.Add(c.field)
		}
	}
	return fields
}

// set switches the fields with a name on or off. It reports whether there are any.
func set(cols []column, on []bool, name string, value bool) bool {
	found := false
	for i, c := range cols {
		if name == "all" || name == "default" && c.def || name != "" && slices.Contains(c.names, name) {
			on[i], found = value, true
		}
	}
	rest, ok := strings.CutPrefix(name, "P")
	if found || !ok {
		return found
	}
	for i, c := range cols {
		if slices.Contains(c.suffixes, rest) {
			on[i], found = value, true
		}
	}
	return found
}

// UnknownFieldError is the error for a list of fields that has a name of none.
type UnknownFieldError struct {
	Name     string
	Possible []string
}

// Error implements error.
func (e *UnknownFieldError) Error() string {
	return fmt.Sprintf("fields: no field is named %q; possible are default, all, %s (P: any prefix of -mapping)", e.Name, strings.Join(e.Possible, ", "))
}

// possible returns the names of fields, those that are generated with P for their prefix.
func possible(cols []column) []string {
	var names, suffixes []string
	for _, c := range cols {
		if c.kind != generated {
			names = append(names, c.key)
		} else if name := "P" + c.suffixes[0]; !slices.Contains(suffixes, name) {
			suffixes = append(suffixes, name)
		}
	}
	return append(names, suffixes...)
}
