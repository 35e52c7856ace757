package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// FormatOTLP is the format of the output "otlp", which has no other one. It is no value
// of -format.
const FormatOTLP = "otlp"

// otlpOutput is the output "otlp".
type otlpOutput struct {
	transport.OTLPConfig
	endpoint, headers string // as they were given
	buffer            int64
	// found has the variables that stand for options, by the names of these without otlpFlags.
	found map[string]string
}

// otlpFlags begins the names of its options.
const otlpFlags = "transport.otlp."

func (o *otlpOutput) name() string { return "otlp" }

func (o *otlpOutput) tls() tlsFlags {
	return tlsFlags{flags: otlpFlags, cert: "tls.cert", peer: oneServer, files: &o.TLS, variables: o.found}
}

func (o *otlpOutput) options() []option {
	return inGroup("OTLP", append([]option{
		{
			name: otlpFlags + "endpoint", arg: "ADDRESS",
			usage: "where the receiver is: HOST:PORT for gRPC, a URL for HTTP, which gets `/v1/logs` if it has no path. If it is not given: `OTEL_EXPORTER_OTLP_ENDPOINT`, else `" + transport.DefaultOTLPEndpoint + "`, or `" + transport.DefaultOTLPHTTPEndpoint + "` with HTTP. " +
				"The other variables `OTEL_EXPORTER_OTLP_...` of OpenTelemetry stand for flags that are not given, too, and those for logs, `OTEL_EXPORTER_OTLP_LOGS_...`, come first. docs/outputs.md lists them",
			set: func(_ *Config, v string) error { o.endpoint = v; return nil }, // read by finish, with the protocol
		},
		{
			name: otlpFlags + "protocol", arg: "NAME", def: transport.OTLPGRPC,
			usage: "`grpc` or `http` (protobuf by POST)",
			set:   oneOf(func(*Config) *string { return &o.Protocol }, transport.OTLPGRPC, transport.OTLPHTTP),
		},
		{
			name: otlpFlags + "headers", arg: "NAME=VALUE,...", usage: headersUsage,
			set: func(_ *Config, v string) error { o.headers = v; return nil },
		},
		{
			name: otlpFlags + "compression", arg: "NAME", def: transport.CompressionNone,
			usage: "`none` or `gzip`",
			set:   oneOf(func(*Config) *string { return &o.Compression }, transport.CompressionNone, transport.CompressionGzip),
		},
		{
			name: otlpFlags + "timeout", arg: "DURATION", def: transport.DefaultHTTPTimeout.String(),
			usage: "how long a request may take, from connecting to the end of the answer",
			set:   positive(func(*Config) *time.Duration { return &o.Timeout }),
		},
		{
			name: otlpFlags + "buffer", arg: "SIZE", def: "64MiB",
			usage: "room for records that the receiver has not acknowledged, so that a short outage loses none. When it is full, new records are dropped and counted",
			set:   size(func(*Config) *int64 { return &o.buffer }, 128<<10, 1<<40),
		},
		{
			name: otlpFlags + "tls", def: "false",
			usage: "connect with TLS; an endpoint that begins with `https://` asks for it, too",
			set:   boolean(func(*Config) *bool { return &o.UseTLS }),
		},
	}, o.tls().options()...))
}

// otelVariables are the variables of OpenTelemetry's "Exporter Configuration" that
// stand for options, by what follows OTEL_EXPORTER_OTLP_. The endpoint has rules of
// its own.
var otelVariables = []struct {
	name, option string
	// value returns what the option takes for a variable's value.
	value func(v string) (string, error)
}{
	{"PROTOCOL", "protocol", func(v string) (string, error) {
		switch v {
		case "grpc":
			return transport.OTLPGRPC, nil
		case "http/protobuf":
			return transport.OTLPHTTP, nil
		}
		return "", fmt.Errorf("%s is not allowed; give grpc or http/protobuf", Quote(v))
	}},
	{"HEADERS", "headers", sameText},
	{"COMPRESSION", "compression", sameText},
	{"TIMEOUT", "timeout", func(v string) (string, error) {
		ms, err := strconv.ParseUint(v, 10, 31)
		if err != nil || ms == 0 {
			return "", fmt.Errorf("%s is not allowed; give milliseconds, such as 10000", Quote(v))
		}
		return (time.Duration(ms) * time.Millisecond).String(), nil
	}},
	{"CERTIFICATE", "tls.ca", sameText},
	{"CLIENT_CERTIFICATE", "tls.cert", sameText},
	{"CLIENT_KEY", "tls.key", sameText},
}

func sameText(v string) (string, error) { return v, nil }

// otelVariable returns the value of a variable of OpenTelemetry's, and the name that it
// was found under: the one for logs comes first.
func (p *parser) otelVariable(name string) (value, found string) {
	for _, prefix := range []string{"OTEL_EXPORTER_OTLP_LOGS_", "OTEL_EXPORTER_OTLP_"} {
		if v := p.variables[prefix+name]; v != "" {
			return v, prefix + name
		}
	}
	return "", ""
}

// readVariables sets the options that are not given by OpenTelemetry's variables.
func (o *otlpOutput) readVariables(p *parser, c *Config) error {
	o.found = make(map[string]string)
	for _, from := range otelVariables {
		if _, given := p.given[otlpFlags+from.option]; given {
			continue
		}
		v, found := p.otelVariable(from.name)
		if found == "" {
			continue
		}
		v, err := from.value(v)
		if err == nil {
			err = p.option(otlpFlags+from.option).set(c, v)
		}
		if err != nil {
			return Usagef("environment variable %s: %v", found, err)
		}
		o.found[from.option] = found
	}
	return nil
}

// readInsecure has OpenTelemetry's variable decide about TLS where the specification has it decide:
// by gRPC, if the endpoint has no scheme.
func (o *otlpOutput) readInsecure(p *parser, endpoint string) error {
	v, found := p.otelVariable("INSECURE")
	_, given := p.given[otlpFlags+"tls"]
	if found == "" || given || o.Protocol == transport.OTLPHTTP || strings.Contains(endpoint, "://") {
		return nil
	}
	o.UseTLS = strings.EqualFold(v, "false")
	if !o.UseTLS && !strings.EqualFold(v, "true") {
		return Usagef("environment variable %s: %s is not allowed; give true or false", found, Quote(v))
	}
	return nil
}

func (o *otlpOutput) finish(p *parser, c *Config, chosen bool) error {
	if !chosen {
		return p.unused(otlpFlags, "a receiver of OTLP", o.name())
	}
	if err := o.readVariables(p, c); err != nil {
		return err
	}
	where := p.given[otlpFlags+"endpoint"].flag(otlpFlags + "endpoint")
	endpoint, path := o.endpoint, pathIfNone
	if endpoint == "" {
		v, found := p.otelVariable("ENDPOINT")
		if endpoint = v; found != "" {
			where = "environment variable " + found
			path = pathAdded
			if strings.Contains(found, "LOGS") {
				path = pathAsItIs
			}
		}
	}
	if err := o.readInsecure(p, endpoint); err != nil {
		return err
	}
	if err := o.setEndpoint(endpoint, path); err != nil {
		return Usagef("%s: %v", where, err)
	}
	if _, given := p.given[otlpFlags+"tls"]; o.Protocol == transport.OTLPHTTP && given && o.UseTLS && o.URL.Scheme == "http" {
		return Usagef("%s: the endpoint begins with http://; give one that begins with https://", p.given[otlpFlags+"tls"].flag(otlpFlags+"tls"))
	}
	var err error
	if o.Headers, err = transport.ParseHeaders(o.headers, p.variable); err == nil && o.Protocol != transport.OTLPHTTP {
		err = transport.CheckMetadata(o.Headers)
	}
	if err != nil {
		return Usagef("%s: %v", o.tls().where("headers", p.given[otlpFlags+"headers"]), err)
	}
	o.BufferBytes = int(o.buffer)
	if err := o.setResource(p, c); err != nil {
		return err
	}
	on := o.UseTLS || o.URL != nil && o.URL.Scheme == "https"
	return o.tls().finish(p, on, "give -"+otlpFlags+"tls or an endpoint that begins with https://")
}

// logsPath says when the URL of an endpoint gets the path of logs.
type logsPath int

const (
	pathIfNone logsPath = iota // if it has no path: that of the flag
	pathAdded                  // always: OpenTelemetry's variable for all signals
	pathAsItIs                 // if it is no URL: its variable for logs
)

// setEndpoint reads the endpoint, for the protocol.
func (o *otlpOutput) setEndpoint(v string, path logsPath) error {
	scheme, _, hasScheme := strings.Cut(v, "://")
	if o.Protocol == transport.OTLPHTTP {
		switch {
		case v == "":
			v = transport.DefaultOTLPHTTPEndpoint
		case !hasScheme && o.UseTLS:
			v = "https://" + v
		case !hasScheme:
			v = "http://" + v
		}
		var err error
		if o.URL, err = transport.ParseURL(v); err != nil {
			return err
		}
		if path == pathAdded || o.URL.Path == "" && (path == pathIfNone || !hasScheme) {
			if o.URL.Path == "" {
				o.URL.Path = "/" // else the request would not begin with it
			}
			o.URL = o.URL.JoinPath("v1", "logs")
		}
		return nil
	}
	switch {
	case v == "":
		v = transport.DefaultOTLPEndpoint
	case hasScheme:
		u, err := url.Parse(v)
		if err != nil || scheme != "http" && scheme != "https" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
			return fmt.Errorf("this is no address for gRPC; give HOST:PORT, or a URL without a path such as https://collector:4317")
		}
		o.UseTLS = o.UseTLS || scheme == "https"
		if v = u.Host; u.Port() == "" {
			v = net.JoinHostPort(u.Hostname(), "4317")
		}
	}
	host, port, err := net.SplitHostPort(v)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ @?") {
		return fmt.Errorf("this is no address for gRPC; give HOST:PORT such as collector:4317")
	}
	o.Address = v
	return nil
}

// setResource sets the attributes of the resource that records are of.
func (o *otlpOutput) setResource(p *parser, c *Config) error {
	attributes := [][2]string{{"service.name", "kube-enricher"}}
	put := func(name, value string) {
		for i := range attributes {
			if attributes[i][0] == name {
				attributes[i][1] = value
				return
			}
		}
		attributes = append(attributes, [2]string{name, value})
	}
	for part := range strings.SplitSeq(p.variables["OTEL_RESOURCE_ATTRIBUTES"], ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || name == "" || err != nil {
			return Usagef("environment variable OTEL_RESOURCE_ATTRIBUTES: %s is not allowed; give NAME=VALUE,...", Quote(part))
		}
		put(name, value)
	}
	if name := p.variables["OTEL_SERVICE_NAME"]; name != "" {
		put("service.name", name)
	}
	if c.Cluster != "" {
		put("k8s.cluster.name", c.Cluster)
	}
	for i := range attributes {
		for j := range attributes[i] {
			attributes[i][j] = strings.ToValidUTF8(attributes[i][j], "\uFFFD")
		}
	}
	o.Resource = attributes
	return nil
}

// check does nothing: build reads the files of TLS and headers.
func (o *otlpOutput) check() error { return nil }

func (o *otlpOutput) build(s outputSettings, enc transport.Encoder, d OutputDeps) (transport.Output, error) {
	cfg := o.OTLPConfig
	cfg.Block, cfg.Several, cfg.DrainTimeout = s.block, s.several, s.drainTimeout
	out, err := transport.NewOTLP(cfg, enc, d.Log, d.Reg)
	if err != nil {
		return nil, o.tls().usage(err)
	}
	return out, nil
}
