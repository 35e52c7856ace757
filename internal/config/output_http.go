package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// httpOutput is the output "http".
type httpOutput struct {
	transport.HTTPConfig
	headers       string // as they were given; there may be secrets in them
	batch, buffer int64
}

// httpFlags begins the names of its options.
const httpFlags = "transport.http."

func (h *httpOutput) name() string { return "http" }

func (h *httpOutput) tls() tlsFlags {
	return tlsFlags{flags: httpFlags, cert: "tls.cert", peer: oneServer, files: &h.TLS}
}

func (h *httpOutput) options() []option {
	return inGroup("HTTP", slices.Concat([]option{
		{
			name: httpFlags + "url", arg: "URL",
			usage: "where batches of records are sent, by POST. docs/outputs.md has examples, such as ClickHouse's. Put passwords into headers, not here: every user of the machine sees flags",
			set: func(_ *Config, v string) (err error) {
				h.URL, err = transport.ParseURL(v)
				return err
			},
		},
		{
			name: httpFlags + "headers", arg: "NAME=VALUE,...", usage: headersUsage,
			set: func(_ *Config, v string) error { h.headers = v; return nil }, // read by finish, with the environment
		},
		{
			name: httpFlags + "content-type", arg: "TYPE",
			usage: "header Content-Type; `application/x-ndjson` for JSON and `application/x-protobuf` for protobuf if it is not given",
			set: func(_ *Config, v string) error {
				if strings.ContainsAny(v, "\r\n\x00") || !strings.Contains(v, "/") {
					return fmt.Errorf("%s is not allowed; give a media type such as application/json", Quote(v))
				}
				h.ContentType = v
				return nil
			},
		},
		{
			name: httpFlags + "compression", arg: "NAME", def: transport.CompressionNone,
			usage: "`none`, `gzip` or `zstd`",
			set:   oneOf(func(*Config) *string { return &h.Compression }, transport.CompressionNone, transport.CompressionGzip, transport.CompressionZstd),
		},
		{
			name: httpFlags + "batch", arg: "SIZE", def: "1MiB",
			usage: "how much is sent in one request, before compression",
			set:   size(func(*Config) *int64 { return &h.batch }, 1, 1<<30),
		},
		{
			name: httpFlags + "flush", arg: "DURATION", def: transport.DefaultHTTPFlush.String(),
			usage: "how long a record may wait for its batch to fill up; `0s` for not at all",
			set:   duration(func(*Config) *time.Duration { return &h.Flush }),
		},
		{
			name: httpFlags + "timeout", arg: "DURATION", def: transport.DefaultHTTPTimeout.String(),
			usage: "how long a request may take, from connecting to the end of the answer",
			set:   positive(func(*Config) *time.Duration { return &h.Timeout }),
		},
		{
			name: httpFlags + "retry", def: "false",
			usage: "also send batches again that the server may have: after timeouts, connections that ended, and codes from 500 on. Records may be there twice then. After 429, 503 and failed connections, batches are sent again in any case",
			set:   boolean(func(*Config) *bool { return &h.Retry }),
		},
		{
			name: httpFlags + "buffer", arg: "SIZE", def: "64MiB",
			usage: "room for records that the server has not acknowledged, so that a short outage loses none. When it is full, new records are dropped and counted",
			set:   size(func(*Config) *int64 { return &h.buffer }, 128<<10, 1<<40),
		},
	}, h.tls().options()))
}

// headersUsage describes a list of headers.
const headersUsage = "headers of each request. Values may have references, so that secrets are not in flags: `${env:NAME}` or `${NAME}` is an environment variable, " +
	"`${file:PATH}` the content of a file, which is read for each request. A comma in a value is `%2C`, and a `%` is `%25`: `Authorization=Bearer ${file:/run/secrets/token}`"

// unused refuses options of an output that records don't go to. where names it in
// the error.
func (p *parser) unused(flags, where, transport string) error {
	for _, o := range p.options {
		if s, ok := p.given[o.name]; ok && strings.HasPrefix(o.name, flags) {
			return Usagef("%s: records don't go to %s; give -transport %s, or leave it out", s.flag(o.name), where, transport)
		}
	}
	return nil
}

// variable looks an environment variable up.
func (p *parser) variable(name string) (string, bool) {
	v, ok := p.variables[name]
	return v, ok
}

func (h *httpOutput) finish(p *parser, c *Config, chosen bool) error {
	if !chosen {
		return p.unused(httpFlags, "an HTTP server", h.name())
	}
	flag := func(name string) string { return p.given[httpFlags+name].flag(httpFlags + name) }
	if h.URL == nil {
		return Usagef("-%surl: is missing; give where records are sent", httpFlags)
	}
	for _, o := range c.Outputs {
		switch {
		case o.Transport != h.name():
		case o.Format == FormatText:
			return Usagef("%s: text is for people and files; give -format http:json or http:protobuf", p.given["format"].flag("format"))
		case h.ContentType != "":
		case o.Format == FormatProtobuf:
			h.ContentType = "application/x-protobuf"
		default:
			h.ContentType = "application/x-ndjson"
		}
	}
	var err error
	if h.Headers, err = transport.ParseHeaders(h.headers, p.variable); err != nil {
		return Usagef("%s: %v", flag("headers"), err)
	}
	h.BatchBytes, h.BufferBytes = int(h.batch), int(h.buffer)
	if h.batch > h.buffer/2 {
		return Usagef("%s: a batch of %d bytes is more than half of the buffer, %d; give a smaller one, or a larger -%sbuffer", flag("batch"), h.batch, h.buffer, httpFlags)
	}
	return h.tls().finish(p, h.URL.Scheme == "https", "give a URL that begins with https")
}

// check does nothing: build reads the files of TLS and headers.
func (h *httpOutput) check() error { return nil }

func (h *httpOutput) build(s outputSettings, enc transport.Encoder, d OutputDeps) (transport.Output, error) {
	cfg := h.HTTPConfig
	cfg.Block, cfg.Several, cfg.DrainTimeout = s.block, s.several, s.drainTimeout
	out, err := transport.NewHTTP(cfg, enc, d.Log, d.Reg)
	if err != nil {
		return nil, h.tls().usage(err)
	}
	return out, nil
}
