package config

import (
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// fileOutput is the output "file", which is also standard output.
type fileOutput struct {
	path string // empty: standard output
}

func (f *fileOutput) name() string { return "file" }

func (f *fileOutput) options() []option {
	return []option{
		{
			name: "transport.file", group: groupOutput, arg: "FILE", writes: "the records",
			usage: "file that records are appended to; empty for standard output. SIGHUP reopens it",
			set:   path(func(*Config) *string { return &f.path }, "leave it empty for standard output"),
		},
	}
}

func (f *fileOutput) finish(p *parser, c *Config, chosen bool) error {
	if f.path == "" {
		c.TextToStdout = slices.Contains(c.Outputs, Output{f.name(), FormatText})
		c.Color = c.TextToStdout && p.allowsColor()
		return nil
	}
	if !chosen {
		flag := p.given["transport.file"].flag("transport.file")
		return Usagef("%s: records don't go to a file with this -transport; give -transport file, or leave it out", flag)
	}
	return nil
}

func (f *fileOutput) check() error {
	if f.path == "" {
		return nil
	}
	if err := appendable(f.path); err != nil {
		return Usagef("-transport.file: %v", err)
	}
	return nil
}

func (f *fileOutput) build(s outputSettings, enc transport.Encoder, d OutputDeps) (transport.Output, error) {
	out, err := transport.NewFile(transport.FileConfig{
		Path: f.path, Stdout: d.Stdout, Block: s.block, Binary: s.binary, Several: s.several, DrainTimeout: s.drainTimeout,
	}, enc, d.Log, d.Reg)
	if err != nil {
		return nil, err
	}
	return out, nil
}
