package config

import (
	"errors"
	"fmt"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
)

// checkFilter compiles the filter, if there is one, and joins the short filters to it.
func (p *parser) checkFilter(c *Config) error {
	if err := p.compileFilter(c); err != nil {
		return err
	}
	short, err := c.short.expression(c.Mapping)
	if short == "" || err != nil {
		return err
	}
	if c.FilterText != "" {
		// It was compiled alone before, so that errors have the columns of what was typed.
		// The line break ends a comment.
		short = "(" + c.FilterText + "\n) && " + short
	}
	if c.Filter, err = filter.Compile(short, c.filterConfig()); err != nil {
		return Usagef("-filter, -n, -pod, -port, -ip: %v", err)
	}
	return nil
}

// filterConfig returns the names that a filter can use.
func (c *Config) filterConfig() filter.Config {
	return filter.Config{Mapping: c.Mapping, Labels: c.KubeLabels, Cluster: c.Cluster, Elements: c.Elements, Piped: c.Mode == Stdin}
}

// compileFilter compiles the expression of -filter, if there is one.
func (p *parser) compileFilter(c *Config) error {
	if c.FilterText == "" {
		return nil
	}
	name := p.given["filter"].flag("filter")
	cfg := c.filterConfig()
	var err error
	c.Filter, err = filter.Compile(c.FilterText, cfg)
	if mistake := (*filter.Error)(nil); errors.As(err, &mistake) && mistake.Unknown != "" {
		return Usagef("%s: %v%s", name, err, hint(mistake.Unknown, &cfg))
	}
	if err != nil {
		return Usagef("%s: %v", name, err)
	}
	if err := refuseLists(c.Filter); err != nil && c.Mode == Stdin && c.Input == FormatJSON {
		return Usagef("%s: %v", name, err)
	}
	return nil
}

// refuseLists returns an error if a filter reads fields that are lists. Those are
// not read from lines of JSON.
func refuseLists(f *filter.Filter) error {
	if f == nil {
		return nil
	}
	for _, id := range f.Fields() {
		if field := &flow.Fields[id]; field.Kind.List() {
			return fmt.Errorf("%s is a list, which is not read from lines of JSON; let goflow2 write protobuf (-format bin)", field.Name)
		}
	}
	return nil
}

// errNotAsProtobuf refuses lines of JSON as input for protobuf. The program looks up what
// it needs in a line and copies the rest, so it has no whole record to encode.
var errNotAsProtobuf = errors.New("lines of JSON on standard input can only be written as JSON or text; let goflow2 write protobuf (-format bin), or give -format json")

// errNotAsOTLP refuses it for OTLP, for the same reason.
var errNotAsOTLP = errors.New("lines of JSON on standard input can only be written as JSON or text, not by OTLP; let goflow2 write protobuf (-format bin)")

// RefuseJSON returns why lines of JSON cannot be taken from standard input with
// these settings, nil if they can. With -input auto that matters only once the
// first bytes are there.
func (c *Config) RefuseJSON() error {
	if c.WritesAs(FormatProtobuf) {
		return errNotAsProtobuf
	}
	if c.WritesAs(FormatOTLP) {
		return errNotAsOTLP
	}
	if err := refuseLists(c.Filter); err != nil {
		return Usagef("-filter: %v", err)
	}
	return nil
}

// isPlace reports whether a generated field is of addresses outside of the cluster.
func isPlace(a flow.Attr) bool {
	return a == flow.AttrSubnetLabel || a == flow.AttrCountry || a == flow.AttrASName
}

// FilterNeedsNames reports whether the filter reads fields that come from the
// cluster.
func (c *Config) FilterNeedsNames() bool {
	return c.Filter != nil && slices.ContainsFunc(c.Filter.Attrs(), func(r flow.AttrRef) bool { return r.End != flow.EndCluster && !isPlace(r.Attr) })
}
