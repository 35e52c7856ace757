package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// outputType is one kind of place that records can go to. It holds the settings
// that its options fill in, so each [Config] has values of its own.
type outputType interface {
	// name is the name in -transport. The names of its options begin with
	// "transport." and this name.
	name() string
	// options returns its part of the table of options. Their setters fill in the
	// receiver.
	options() []option
	// finish refuses contradictions among its options, and sets what follows from
	// other options. chosen reports whether records go here. If they do not,
	// finish refuses options that were given for nothing.
	finish(p *parser, c *Config, chosen bool) error
	// check looks at the files that the options name, for -check.
	check() error
	// build makes the output, which is inert.
	build(s outputSettings, enc transport.Encoder, d OutputDeps) (transport.Output, error)
}

// outputTypes returns the table of outputs, in the order of the usage. An output
// is one line here, its options in a file of their own, and its code in package
// transport. The table is here rather than in the command because the parser, the
// usage and docs/flags.md need it, too.
func outputTypes() []outputType {
	return []outputType{
		new(fileOutput),
		new(kafkaOutput),
		new(httpOutput),
		new(otlpOutput),
	}
}

// Output is one place that records go to, in one format.
type Output struct {
	Transport string // a name from the table of outputs, such as "file"
	Format    string // FormatJSON, FormatProtobuf, FormatText or FormatOTLP
}

const severalOutputs = "file:json,kafka:protobuf"

// typeNames returns the values of -transport.
func typeNames(types []outputType) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.name()
	}
	return names
}

func namesOutput(list []Output, name string) bool {
	return slices.ContainsFunc(list, func(o Output) bool { return o.Transport == name })
}

// setTransport takes a list of transports, each alone or with its format.
func setTransport(types []outputType) func(*Config, string) error {
	names := typeNames(types)
	return func(c *Config, v string) error {
		for part := range strings.SplitSeq(v, ",") {
			name, format, hasFormat := strings.Cut(strings.TrimSpace(part), ":")
			if !slices.Contains(names, name) {
				return fmt.Errorf("%s is not allowed; give one of %s, or several such as %s", Quote(name), strings.Join(names, ", "), severalOutputs)
			}
			if namesOutput(c.transports, name) {
				return fmt.Errorf("%s is named twice; give it once", name)
			}
			if hasFormat {
				var err error
				if format, err = formatByName(format); err != nil {
					return err
				}
			}
			c.transports = append(c.transports, Output{name, format})
		}
		return nil
	}
}

// setFormat takes one format for all transports, or a list with a format for
// each of some transports.
func setFormat(types []outputType) func(*Config, string) error {
	names := typeNames(types)
	return func(c *Config, v string) error {
		if !strings.ContainsAny(v, ":,") {
			format, err := formatByName(v)
			c.formats = append(c.formats, Output{"", format})
			return err
		}
		for part := range strings.SplitSeq(v, ",") {
			name, format, ok := strings.Cut(strings.TrimSpace(part), ":")
			if !ok || !slices.Contains(names, name) {
				return fmt.Errorf("%s is not allowed; give one format, or TRANSPORT:FORMAT,... such as %s", Quote(part), severalOutputs)
			}
			if namesOutput(c.formats, name) {
				return fmt.Errorf("%s is named twice; give it once", name)
			}
			format, err := formatByName(format)
			if err != nil {
				return err
			}
			c.formats = append(c.formats, Output{name, format})
		}
		return nil
	}
}

// finishOutputs joins transports and formats, and has each output check its
// options.
func (p *parser) finishOutputs(c *Config) error {
	s, given := p.given["format"]
	for _, o := range c.transports {
		if o.Transport == FormatOTLP {
			if o.Format != "" || namesOutput(c.formats, o.Transport) {
				return Usagef("%s: otlp has a format of its own; leave its format out", p.given["transport"].flag("transport"))
			}
			c.Outputs = append(c.Outputs, Output{o.Transport, FormatOTLP})
			continue
		}
		for _, f := range c.formats {
			switch {
			case f.Transport != "" && f.Transport != o.Transport:
			case o.Format == "":
				o.Format = f.Format
			case given && o.Format != f.Format:
				return Usagef("%s: %s is not the format that -transport gives %s, %s; give it in one place", s.flag("format"), Quote(f.Format), o.Transport, Quote(o.Format))
			}
		}
		if o.Format == "" {
			o.Format = FormatJSON
		}
		c.Outputs = append(c.Outputs, o)
	}
	if given && c.OnlyAs(FormatOTLP) {
		return Usagef("%s: otlp has a format of its own; leave it out", s.flag("format"))
	}
	for _, f := range c.formats {
		if f.Transport != "" && !namesOutput(c.Outputs, f.Transport) {
			return Usagef("%s: there is no output %s; name it in -transport, too", s.flag("format"), f.Transport)
		}
	}
	for _, t := range c.types {
		if err := t.finish(p, c, namesOutput(c.Outputs, t.name())); err != nil {
			return err
		}
	}
	return nil
}

// WritesAs reports whether an output has the given format.
func (c *Config) WritesAs(format string) bool {
	return slices.ContainsFunc(c.Outputs, func(o Output) bool { return o.Format == format })
}

// OnlyAs reports whether all outputs have the given format.
func (c *Config) OnlyAs(format string) bool {
	return !slices.ContainsFunc(c.Outputs, func(o Output) bool { return o.Format != format })
}

// outputSettings are the settings that every output has.
type outputSettings struct {
	block        bool // a full buffer makes workers wait; without it, records are dropped
	binary       bool // records are not lines
	several      bool // there are other outputs, too
	drainTimeout time.Duration
}

// OutputDeps is what outputs need of the running program.
type OutputDeps struct {
	Stdout *os.File // where the output "file" writes if no file is named
	Log    logrus.FieldLogger
	Reg    prometheus.Registerer
}

// NewOutput makes one of c.Outputs with its encoder. It does nothing until it is
// opened or run. The error is a [*UsageError] if a setting is wrong.
func (c *Config) NewOutput(o Output, d OutputDeps) (transport.Output, error) {
	enc, err := c.NewEncoder(o)
	if err != nil {
		return nil, Usagef("-%v", err)
	}
	s := outputSettings{
		block: c.Mode != Collect, binary: o.Format == FormatProtobuf, several: len(c.Outputs) > 1,
		drainTimeout: max(c.DrainTimeout/2, 1), // the sockets have the other half
	}
	for _, t := range c.types {
		if t.name() == o.Transport {
			return t.build(s, enc, d)
		}
	}
	return nil, fmt.Errorf("there is no output %s", o.Transport)
}
