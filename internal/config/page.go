package config

import (
	"errors"
	"fmt"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// KeepsRecent reports whether somebody looks at the newest records.
func (c *Config) KeepsRecent() bool { return c.UIAddr != "" || c.Hubble.Addr != "" }

// LeastRecent returns the least -recent with which no worker of -listen lacks room for the
// newest records, in bytes, and how many workers these are.
func (c *Config) LeastRecent() (bytes int64, workers int) {
	if c.Mode == Collect {
		for _, l := range c.Listen {
			workers += l.Sockets
		}
	}
	return recent.LeastRoom(workers), workers
}

// GivenMapping returns the entries of -mapping, without one that the program has added.
func (c *Config) GivenMapping() []flow.MapEntry {
	if c.textEntry {
		return c.Mapping[:len(c.Mapping)-1]
	}
	return c.Mapping
}

// NewPageEncoder makes the encoder of the records that the page shows: JSON with all fields,
// in schema v1 whatever the outputs have.
func (c *Config) NewPageEncoder() (*encode.JSON, error) {
	return encode.NewJSON(encode.JSONConfig{Schema: "v1", Fields: "all", Mapping: c.GivenMapping(), Cluster: c.Cluster, Labels: c.KubeLabels, Elements: c.Elements})
}

// CompileFilter compiles an expression as -filter does. The error is a [*filter.Error], which
// says what may have been meant.
func (c *Config) CompileFilter(expression string) (*filter.Filter, error) {
	cfg := c.filterConfig()
	f, err := filter.Compile(expression, cfg)
	if mistake := (*filter.Error)(nil); errors.As(err, &mistake) && mistake.Unknown != "" {
		mistake.Text += hint(mistake.Unknown, &cfg)
	}
	return f, err
}

// hint returns the end of an error about a field that does not exist.
func hint(name string, cfg *filter.Config) string {
	if near := nearest(name, cfg.Names()); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return fmt.Sprintf("; text goes in quotes (%q), and %sfields.md lists the fields", name, pages)
}

// FilterField is a field that an expression can use.
type FilterField struct {
	Name string // in schema v1
	Kind string // number, text, address, mac, bool or list
}

// kindNames are the kinds of fields, as docs/filter.md calls them.
var kindNames = [...]string{
	flow.KindUint: "number", flow.KindAddr: "address", flow.KindMAC: "mac", flow.KindText: "text", flow.KindString: "text",
	flow.KindUints: "list", flow.KindAddrs: "list", flow.KindLayers: "list", flow.KindBool: "bool",
}

// elementKinds are the kinds of elements of the user's list.
var elementKinds = [...]string{
	flow.ElementUint: "number", flow.ElementString: "text", flow.ElementIPAddr: "address", flow.ElementMAC: "mac", flow.ElementHex: "text",
}

// FilterFields lists the fields that an expression can use, by their names in schema v1.
func (c *Config) FilterFields() []FilterField {
	var list []FilterField
	for i := range flow.Fields {
		f := &flow.Fields[i]
		list = append(list, FilterField{f.Name, kindNames[f.Kind]})
	}
	for _, e := range c.Mapping {
		for _, a := range flow.Attrs {
			list = append(list, FilterField{e.Prefix + a.Name, "text"})
		}
		for _, l := range c.KubeLabels {
			list = append(list, FilterField{e.Prefix + l.Field, "text"})
		}
	}
	for i := range c.Elements {
		list = append(list, FilterField{c.Elements[i].Name, elementKinds[c.Elements[i].Type]})
	}
	if c.Cluster != "" {
		list = append(list, FilterField{"Cluster", "text"})
	}
	slices.SortFunc(list, func(a, b FilterField) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return list
}
