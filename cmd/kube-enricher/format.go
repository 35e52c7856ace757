package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// The values of -format.
const (
	formatJSON     = "json"
	formatProtobuf = "protobuf"
	formatText     = "text"
)

// formatAliases are other names of formats, goflow2's among them.
var formatAliases = map[string]string{"pb": formatProtobuf, "bin": formatProtobuf}

// formatByName returns the format that a user names.
func formatByName(v string) (format string, err error) {
	if name, ok := formatAliases[v]; ok {
		v = name
	}
	err = oneOf(func(*config) *string { return &format }, formatJSON, formatProtobuf, formatText)(nil, v)
	return format, err
}

// errNotFromJSON is why records that come as lines of JSON are written in no
// other format: the program looks up what it needs in a line and leaves the
// rest alone.
var errNotFromJSON = errors.New("lines of JSON on standard input can only be written as JSON; let goflow2 write protobuf (-format bin), or give -format json")

// newEncoder makes what turns records into bytes. The error begins with the
// name of the flag that is wrong.
func newEncoder(c *config, o outputConfig) (transport.Encoder, error) {
	if o.format == formatText {
		return encode.NewText(encode.TextConfig{Mapping: c.mapping, Cluster: c.cluster, Color: c.color && o.transport == transportFile}), nil
	}
	mapping := c.mapping
	if c.textOnly {
		mapping = mapping[:len(mapping)-1]
	}
	if o.format == formatProtobuf {
		return encode.NewProtobuf(encode.ProtobufConfig{Fields: c.fields, Mapping: mapping, Cluster: c.cluster, Labels: c.kubeLabels})
	}
	return encode.NewJSON(encode.JSONConfig{Schema: c.schema, Fields: c.fields, Mapping: mapping, Cluster: c.cluster, Labels: c.kubeLabels})
}

// colored says whether lines of text may have colours: on a terminal that knows
// them, unless the user wants none (no-color.org).
func colored(c *config, env []string, stdout *os.File) bool {
	if !slices.Contains(c.outputs, outputConfig{transportFile, formatText}) || c.transportFile != "" {
		return false
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return false
		}
	}
	return isTerminal(stdout)
}

// checkFormat refuses what does not go together with the formats, and what the
// encoders refuse.
func (p *parser) checkFormat(c *config) error {
	if s := p.given["kube.labels"]; c.onlyAs(formatText) && len(c.kubeLabels) > 0 {
		return usagef("%s: lines of text have no fields for labels; give -format json, or leave it out", s.flag("kube.labels"))
	}
	if s, ok := p.given["fields"]; ok && c.onlyAs(formatText) && c.fields != "default" {
		return usagef("%s: lines of text have fields of their own; leave it out, or give -format json", s.flag("fields"))
	}
	if c.writesAs(formatText) {
		// Lines name the exporter, too.
		exporter := func(e flow.MapEntry) bool { return e.Field == flow.FieldSamplerAddress }
		if !slices.ContainsFunc(c.mapping, exporter) && len(c.mapping) < flow.MaxEnds {
			c.mapping = append(c.mapping, flow.MapEntry{Field: flow.FieldSamplerAddress, Prefix: "Sampler", Snake: "sampler"})
			c.textOnly = true
		}
	}
	if c.input == formatJSON && !c.onlyAs(formatJSON) {
		return usagef("%s: %v", p.given["input"].flag("input"), errNotFromJSON)
	}
	if s, ok := p.given["schema"]; ok && !c.writesAs(formatJSON) && c.schema != "v1" {
		return usagef("%s: %s is for -format json; leave it out", s.flag("schema"), quote(c.schema))
	}
	for _, o := range c.outputs {
		if _, err := newEncoder(c, o); err != nil {
			name, text, _ := strings.Cut(err.Error(), ": ")
			if p.option(name) == nil {
				name, text = "fields", err.Error()
			}
			return usagef("%s: %s", p.given[name].flag(name), text)
		}
	}
	return nil
}
