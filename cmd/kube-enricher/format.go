package main

import (
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
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

func setFormat(c *config, v string) error {
	if name, ok := formatAliases[v]; ok {
		v = name
	}
	return oneOf(func(c *config) *string { return &c.format }, formatJSON, formatProtobuf, formatText)(c, v)
}

// errNotFromJSON is why records that come as lines of JSON are written in no
// other format: the program looks up what it needs in a line and leaves the
// rest alone.
var errNotFromJSON = errors.New("lines of JSON on standard input can only be written as JSON; let goflow2 write protobuf (-format bin), or give -format json")

// newEncoder makes what turns records into bytes. The error begins with the
// name of the flag that is wrong.
func newEncoder(c *config) (transport.Encoder, error) {
	switch c.format {
	case formatText:
		return transport.NewText(transport.TextConfig{Mapping: c.mapping, Cluster: c.cluster, Color: c.color}), nil
	case formatProtobuf:
		return transport.NewProtobuf(transport.ProtobufConfig{Fields: c.fields, Mapping: c.mapping, Cluster: c.cluster, Labels: c.kubeLabels})
	}
	return transport.NewJSON(transport.JSONConfig{Schema: c.schema, Fields: c.fields, Mapping: c.mapping, Cluster: c.cluster, Labels: c.kubeLabels})
}

// colored says whether lines of text may have colours: on a terminal that knows
// them, unless the user wants none (no-color.org).
func colored(c *config, env []string, stdout *os.File) bool {
	if c.format != formatText || c.transportFile != "" {
		return false
	}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return false
		}
	}
	info, err := stdout.Stat()
	// A terminal is a character device. So is /dev/null, where nobody sees it.
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// checkFormat refuses what does not go together with the format, and what the
// encoder refuses.
func (p *parser) checkFormat(c *config) error {
	if s := p.given["kube.labels"]; c.format == formatText && len(c.kubeLabels) > 0 {
		return usagef("%s: lines of text have no fields for labels; give -format json, or leave it out", s.flag("kube.labels"))
	}
	if c.format == formatText {
		if s, ok := p.given["fields"]; ok && c.fields != "default" {
			return usagef("%s: lines of text have fields of their own; leave it out, or give -format json", s.flag("fields"))
		}
		// Lines name the exporter, too.
		exporter := func(e flow.MapEntry) bool { return e.Field == flow.FieldSamplerAddress }
		if !slices.ContainsFunc(c.mapping, exporter) && len(c.mapping) < flow.MaxEnds {
			c.mapping = append(c.mapping, flow.MapEntry{Field: flow.FieldSamplerAddress, Prefix: "Sampler", Snake: "sampler"})
		}
	}
	if c.format != formatJSON {
		if c.input == formatJSON {
			return usagef("%s: %v", p.given["input"].flag("input"), errNotFromJSON)
		}
		if s, ok := p.given["schema"]; ok && c.schema != "v1" {
			return usagef("%s: %s is for -format json; leave it out", s.flag("schema"), quote(c.schema))
		}
	}
	if _, err := newEncoder(c); err != nil {
		name, text, _ := strings.Cut(err.Error(), ": ")
		if p.option(name) == nil {
			name, text = "fields", err.Error()
		}
		return usagef("%s: %s", p.given[name].flag(name), text)
	}
	return nil
}
