package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// The values of -format.
const (
	FormatJSON     = "json"
	FormatProtobuf = "protobuf"
	FormatText     = "text"
)

// formatAliases are other names of formats, goflow2's among them.
var formatAliases = map[string]string{"pb": FormatProtobuf, "bin": FormatProtobuf}

// formatByName returns the format that a user names.
func formatByName(v string) (format string, err error) {
	if name, ok := formatAliases[v]; ok {
		v = name
	}
	err = oneOf(func(*Config) *string { return &format }, FormatJSON, FormatProtobuf, FormatText)(nil, v)
	return format, err
}

// NewEncoder makes the encoder of one of c.Outputs. The error begins with the
// name of the flag that is wrong.
func (c *Config) NewEncoder(o Output) (transport.Encoder, error) {
	if o.Format == FormatText {
		return c.newText(o)
	}
	mapping := c.GivenMapping()
	if o.Format == FormatOTLP {
		return encode.NewOTLP(encode.OTLPConfig{Fields: c.Fields, Mapping: mapping, Labels: c.KubeLabels, Elements: c.Elements})
	}
	if o.Format == FormatProtobuf {
		return encode.NewProtobuf(encode.ProtobufConfig{Fields: c.Fields, Mapping: mapping, Cluster: c.Cluster, Labels: c.KubeLabels, Elements: c.Elements})
	}
	return encode.NewJSON(encode.JSONConfig{Schema: c.Schema, Fields: c.Fields, Mapping: mapping, Cluster: c.Cluster, Labels: c.KubeLabels, Elements: c.Elements})
}

// ReadOfLines returns what is read of records that come as lines of JSON: by the filter, and
// by lines of text. Lines that are written as JSON are copied.
func (c *Config) ReadOfLines() (fields []flow.FieldID, attrs []flow.AttrRef) {
	fields, attrs = slices.Clone(c.Filter.Fields()), slices.Clone(c.Filter.Attrs())
	for _, o := range c.Outputs {
		if o.Format != FormatText {
			continue
		}
		enc, err := c.newText(o)
		if err != nil {
			continue // it was made before
		}
		read := enc.Fields()
		for i := range flow.Fields {
			if f := &flow.Fields[i]; read.Has(f.ID) && !f.Kind.List() && !slices.Contains(fields, f.ID) {
				fields = append(fields, f.ID)
			}
		}
		for _, ref := range enc.Attrs() {
			if !slices.Contains(attrs, ref) {
				attrs = append(attrs, ref)
			}
		}
	}
	return fields, attrs
}

// newText makes the encoder of text for one of c.Outputs.
func (c *Config) newText(o Output) (*encode.Text, error) {
	cfg := encode.TextConfig{Mapping: c.Mapping, Cluster: c.Cluster, Labels: c.KubeLabels, Elements: c.Elements}
	if c.OnlyAs(FormatText) {
		cfg.Fields = c.Fields // else it is for the other format
	}
	if o.Transport == "file" {
		cfg.Color, cfg.Width = c.Color, c.Width
	}
	return encode.NewText(cfg)
}

// FieldsRead returns the fields of the flow that somebody reads: outputs, the filter,
// or who looks an address up.
func (c *Config) FieldsRead() (fields flow.FieldSet) {
	for _, o := range c.Outputs {
		if enc, err := c.NewEncoder(o); err == nil {
			if f, ok := enc.(interface{ Fields() flow.FieldSet }); ok {
				fields.Union(f.Fields())
			}
		}
	}
	for _, t := range c.types {
		if f, ok := t.(interface{ fields() flow.FieldSet }); ok && namesOutput(c.Outputs, t.name()) {
			fields.Union(f.fields())
		}
	}
	for _, e := range c.Mapping {
		fields.Add(e.Field)
	}
	fields.Add(c.Filter.Fields()...)
	if c.KeepsRecent() {
		// All of them are shown, and any of them may be asked for.
		for i := range flow.Fields {
			fields.Add(flow.Fields[i].ID)
		}
	}
	return fields
}

// allowsColor reports whether the environment allows colours (no-color.org).
func (p *parser) allowsColor() bool {
	return p.variables["NO_COLOR"] == "" && p.variables["TERM"] != "dumb"
}

// checkFormat refuses settings that no output's format has a use for, and those
// that an encoder refuses.
func (p *parser) checkFormat(c *Config) error {
	if c.WritesAs(FormatText) {
		c.addTextEntry()
	}
	if c.Input == FormatJSON && c.WritesAs(FormatProtobuf) {
		return Usagef("%s: %v", p.given["input"].flag("input"), errNotAsProtobuf)
	}
	if c.Input == FormatJSON && c.WritesAs(FormatOTLP) {
		return Usagef("%s: %v", p.given["input"].flag("input"), errNotAsOTLP)
	}
	if s, ok := p.given["schema"]; ok && !c.WritesAs(FormatJSON) && c.Schema != "v1" {
		return Usagef("%s: %s is for -format json; leave it out", s.flag("schema"), Quote(c.Schema))
	}
	for _, o := range c.Outputs {
		if _, err := c.NewEncoder(o); err != nil {
			if unknown := (*encode.UnknownFieldError)(nil); errors.As(err, &unknown) {
				if near := nearest(unknown.Name, unknown.Possible); near != "" {
					return Usagef("%s: no field is named %s; did you mean %s?", p.given["fields"].flag("fields"), Quote(unknown.Name), near)
				}
			}
			name, text, _ := strings.Cut(err.Error(), ": ")
			if p.option(name) == nil {
				name, text = "fields", err.Error()
			}
			return Usagef("%s: %s", p.given[name].flag(name), text)
		}
	}
	return nil
}

// addTextEntry adds the exporter's address to the mapping, since lines of text
// name the exporter.
func (c *Config) addTextEntry() {
	exporter := func(e flow.MapEntry) bool { return e.Field == flow.FieldSamplerAddress }
	if !slices.ContainsFunc(c.Mapping, exporter) && len(c.Mapping) < flow.MaxEnds {
		c.Mapping = append(c.Mapping, flow.MapEntry{Field: flow.FieldSamplerAddress, Prefix: "Sampler", Snake: "sampler"})
		c.textEntry = true
	}
}
