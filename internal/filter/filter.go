// Package filter decides which records are wanted, by an expression such as
//
//	SrcNamespace == "prod" && Bytes > 1000
//
// The expression is parsed by expr-lang/expr, and compiled once to functions of Go,
// which do not allocate. docs/filter.md describes the language.
package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/conf"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// MaxLength bounds an expression, in bytes, and so how deep the parser recurses.
	MaxLength = 32 << 10
	// maxNodes bounds the names, values and operators of an expression.
	maxNodes = 10000
)

// Config has the names that an expression can use.
type Config struct {
	// Mapping has the prefixes of the generated fields, by index of
	// [flow.Record].Ends.
	Mapping []flow.MapEntry
	// Labels has the labels of the objects, in the order of the objects' labels.
	Labels []flow.Label
	// Cluster is the value of the field Cluster.
	Cluster string
	// Elements has the elements that became fields, by the index in
	// [flow.ElementValue].
	Elements []flow.ExtraElement
	// Piped reports whether records come over a pipe, where they may have generated fields
	// already. These are preferred to the attributes of the record's Ends, as the
	// encoders do.
	Piped bool
}

// Error is a mistake in an expression.
type Error struct {
	Line, Column int    // from 1 on; the column is in characters
	Text         string // what is wrong
	// Unknown is the name of a field that does not exist, if that is the mistake.
	Unknown string

	oneLine bool // the expression has one line only
}

// Error implements error. It leaves the line out if there is only one.
func (e *Error) Error() string {
	if e.oneLine {
		return fmt.Sprintf("column %d: %s", e.Column, e.Text)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Text)
}

// Filter is a compiled expression. It is immutable: any number of goroutines
// may use it, each through a [Stage] of its own.
type Filter struct {
	wanted func(*eval) bool
	fields []flow.FieldID
	attrs  []flow.AttrRef
	piped  bool
}

// Fields returns the fields of the flow that the expression reads, including those from
// which others are derived (Proto for ProtoName). A nil filter reads none. The caller
// must not change the slice.
func (f *Filter) Fields() []flow.FieldID {
	if f == nil {
		return nil
	}
	return f.fields
}

// Attrs returns the generated fields that the expression reads. A nil filter reads none.
// The caller must not change the slice.
func (f *Filter) Attrs() []flow.AttrRef {
	if f == nil {
		return nil
	}
	return f.attrs
}

// Compile parses and compiles an expression. Its error is an *[Error].
func Compile(expression string, cfg Config) (*Filter, error) {
	c := &compiler{cfg: cfg, names: cfg.names(), source: file.NewSource(expression)}
	if err := c.compile(expression); err != nil {
		err.oneLine = !strings.Contains(expression, "\n")
		return nil, err
	}
	return &Filter{wanted: c.result, fields: c.fields, attrs: c.attrs, piped: cfg.Piped}, nil
}

// compile sets c.result.
func (c *compiler) compile(expression string) *Error {
	if len(expression) > MaxLength {
		return &Error{Line: 1, Column: 1, Text: fmt.Sprintf("the expression has %d bytes; at most %d are possible", len(expression), MaxLength)}
	}
	if !utf8.ValidString(expression) {
		return &Error{Line: 1, Column: 1, Text: "the expression is not in UTF-8"}
	}
	if strings.TrimSpace(expression) == "" {
		return &Error{Line: 1, Column: 1, Text: `the expression is empty; an example is SrcNamespace == "prod" && Bytes > 1000`}
	}
	// There is no environment and there are no builtins: the compiler here looks up
	// names, and is stricter than expr's own.
	tree, err := parser.ParseWithConfig(expression, &conf.Config{MaxNodes: maxNodes})
	if err != nil {
		var at *file.Error
		if !errors.As(err, &at) {
			return &Error{Line: 1, Column: 1, Text: err.Error()}
		}
		return advise(expression, at)
	}
	o, e := c.node(tree.Node)
	if e != nil {
		return e
	}
	if o.kind != kindBool {
		return c.errorf(tree.Node, "%s is %s, and no condition; an example of one is Bytes > 1000", o, o.kind)
	}
	c.result = o.b
	return nil
}

func lowerFirst(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToLower(r)) + s[n:]
}

// errorf returns an error with the place of a node.
func (c *compiler) errorf(n ast.Node, format string, args ...any) *Error {
	at := (&file.Error{Location: n.Location()}).Bind(c.source)
	return &Error{Line: at.Line, Column: at.Column + 1, Text: fmt.Sprintf(format, args...)}
}

// name is the field that a name stands for.
type name struct {
	field   *flow.Field  // nil for a generated field and an element
	attr    flow.AttrRef // of a generated field
	element int          // index of an element from 1 on, 0 for none
}

// names returns all names of fields. A name of the flow's own fields wins over one of
// the generated fields.
func (cfg *Config) names() map[string]name {
	names := make(map[string]name)
	add := func(s string, n name) {
		if s != "" {
			names[s] = n
		}
	}
	cluster := name{attr: flow.AttrRef{End: flow.EndCluster}}
	for _, s := range []string{"Cluster", "cluster", "K8S_ClusterName"} {
		add(s, cluster)
	}
	for i, e := range cfg.Mapping {
		for _, a := range flow.Attrs {
			n := name{attr: flow.AttrRef{End: i, Attr: a.Attr}}
			add(e.Prefix+a.Name, n)
			add(e.Snake+"_"+a.Snake, n)
		}
		for _, a := range flow.NetObservAttrs {
			add(e.Prefix+a.Name, name{attr: flow.AttrRef{End: i, Attr: a.Attr}})
		}
		for j, l := range cfg.Labels {
			n := name{attr: flow.AttrRef{End: i, Attr: flow.AttrLabel + flow.Attr(j)}}
			add(e.Prefix+l.Field, n)
			add(e.Snake+"_"+l.Snake, n)
		}
	}
	for i := range cfg.Elements {
		add(cfg.Elements[i].Name, name{element: i + 1})
	}
	for i := range flow.Fields {
		n := name{field: &flow.Fields[i]}
		add(n.field.Name, n)
		add(n.field.Snake, n)
	}
	return names
}

// Names returns the names of fields that an expression can use, sorted.
func (cfg *Config) Names() []string {
	var names []string
	for n := range cfg.names() {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
