package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// The values of -transport.
const (
	transportFile  = "file"
	transportKafka = "kafka"
)

var transports = []string{transportFile, transportKafka}

// outputConfig is one place that records go to, and their format there.
type outputConfig struct{ transport, format string }

const severalOutputs = "file:json,kafka:protobuf"

// setTransport takes a list of transports, each alone or with its format.
func setTransport(c *config, v string) error {
	for part := range strings.SplitSeq(v, ",") {
		name, format, hasFormat := strings.Cut(strings.TrimSpace(part), ":")
		if !slices.Contains(transports, name) {
			return fmt.Errorf("%s is not allowed; give one of %s, or several such as %s", quote(name), strings.Join(transports, ", "), severalOutputs)
		}
		if slices.ContainsFunc(c.transport, func(o outputConfig) bool { return o.transport == name }) {
			return fmt.Errorf("%s is named twice; give it once", name)
		}
		if hasFormat {
			var err error
			if format, err = formatByName(format); err != nil {
				return err
			}
		}
		c.transport = append(c.transport, outputConfig{name, format})
	}
	return nil
}

// setFormat takes one format for all transports, or a list of those of some.
func setFormat(c *config, v string) error {
	if !strings.ContainsAny(v, ":,") {
		format, err := formatByName(v)
		c.format = append(c.format, outputConfig{"", format})
		return err
	}
	for part := range strings.SplitSeq(v, ",") {
		name, format, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok || !slices.Contains(transports, name) {
			return fmt.Errorf("%s is not allowed; give one format, or TRANSPORT:FORMAT,... such as %s", quote(part), severalOutputs)
		}
		if slices.ContainsFunc(c.format, func(o outputConfig) bool { return o.transport == name }) {
			return fmt.Errorf("%s is named twice; give it once", name)
		}
		format, err := formatByName(format)
		if err != nil {
			return err
		}
		c.format = append(c.format, outputConfig{name, format})
	}
	return nil
}

// finishOutputs brings transports and formats together.
func (p *parser) finishOutputs(c *config) error {
	s, given := p.given["format"]
	for _, o := range c.transport {
		for _, f := range c.format {
			switch {
			case f.transport != "" && f.transport != o.transport:
			case o.format == "":
				o.format = f.format
			case given && o.format != f.format:
				return usagef("%s: %s is not the format that -transport gives %s, %s; give it in one place", s.flag("format"), quote(f.format), o.transport, quote(o.format))
			}
		}
		if o.format == "" {
			o.format = formatJSON
		}
		c.outputs = append(c.outputs, o)
	}
	for _, f := range c.format {
		if f.transport != "" && !c.writesTo(f.transport) {
			return usagef("%s: there is no output %s; name it in -transport, too", s.flag("format"), f.transport)
		}
	}
	if s, ok := p.given["transport.file"]; ok && c.transportFile != "" && !c.writesTo(transportFile) {
		return usagef("%s: records don't go to a file with this -transport; give -transport file, or leave it out", s.flag("transport.file"))
	}
	return p.finishKafka(c)
}

func (c *config) writesTo(name string) bool {
	return slices.ContainsFunc(c.outputs, func(o outputConfig) bool { return o.transport == name })
}

// writesAs tells whether records are written in a format somewhere.
func (c *config) writesAs(format string) bool {
	return slices.ContainsFunc(c.outputs, func(o outputConfig) bool { return o.format == format })
}

// onlyAs tells whether records are written in no other format.
func (c *config) onlyAs(format string) bool {
	return !slices.ContainsFunc(c.outputs, func(o outputConfig) bool { return o.format != format })
}

const kafkaFlags = "transport.kafka."

// kafkaOptions returns the part of the table of options that is about Kafka.
func kafkaOptions() []option {
	file := func(field func(*config) *string) func(*config, string) error { return path(field, "give a file") }
	return []option{
		{
			name: kafkaFlags + "brokers", group: groupKafka, arg: "HOST:PORT,...", def: strings.Join(transport.DefaultKafkaBrokers, ","),
			usage: "some of the brokers; they tell about the others",
			set: func(c *config, v string) (err error) {
				c.kafka.Brokers, err = transport.ParseBrokers(v)
				return err
			},
		},
		{
			name: kafkaFlags + "srv", group: groupKafka, arg: "NAME",
			usage: "DNS SRV record that lists brokers, in place of `-transport.kafka.brokers`: `_kafka._tcp.example.org`",
			set: func(c *config, v string) error {
				if strings.ContainsAny(v, " /:") {
					return fmt.Errorf("%s is no name in the DNS; give one such as _kafka._tcp.example.org", quote(v))
				}
				c.kafka.SRV = v
				return nil
			},
		},
		{
			name: kafkaFlags + "topic", group: groupKafka, arg: "NAME", def: transport.DefaultKafkaTopic,
			usage: "topic to write to. If it does not exist, the brokers may be set to create it; else it is waited for",
			set: func(c *config, v string) error {
				if !topicName.MatchString(v) {
					return fmt.Errorf("%s is no name of a topic; give up to 249 letters, digits, dots, dashes and underscores", quote(v))
				}
				c.kafka.Topic = v
				return nil
			},
		},
		{
			name: kafkaFlags + "key", group: groupKafka, arg: "FIELD,...", def: encode.DefaultKey,
			usage: "fields that a record's key is made of; empty for no key. Of fields of the source and the same of the destination, those of the lesser end come first, " +
				"so that both directions of a conversation have one key. docs/kafka.md tells more",
			set: func(c *config, v string) error { c.kafkaKey = v; return nil }, // checked by finishKafka, with the mapping
		},
		{
			name: kafkaFlags + "hashing", group: groupKafka, def: "true",
			usage: "records with the same key go to the same partition, by default. With `=false`, as in goflow2 by default, records go to the partitions by turns",
			set:   boolean(func(c *config) *bool { return &c.kafkaHashing }),
		},
		{
			name: kafkaFlags + "compression", group: groupKafka, arg: "NAME", def: transport.CompressionNone,
			usage: "`none`, `gzip`, `snappy`, `lz4` or `zstd`",
			set: func(c *config, v string) error {
				if v == "" {
					v = transport.CompressionNone // goflow2's word for it
				}
				return oneOf(func(c *config) *string { return &c.kafka.Compression }, transport.CompressionNone, transport.CompressionGzip,
					transport.CompressionSnappy, transport.CompressionLZ4, transport.CompressionZstd)(c, strings.ToLower(v))
			},
		},
		{
			name: kafkaFlags + "buffer", group: groupKafka, arg: "BYTES", def: strconv.Itoa(transport.DefaultKafkaBuffer),
			usage: "room for records that brokers have not acknowledged, so that none is lost while they are away for a while. When it is full, the newest are dropped and counted",
			set:   integer(func(c *config) *int { return &c.kafka.BufferBytes }, 128<<10, 1<<40),
		},
		{
			name: kafkaFlags + "flushfreq", group: groupKafka, arg: "DURATION", def: transport.DefaultKafkaFlushFrequency.String(),
			usage: "how long a record may wait for more to be sent along with, at most 1m; `0s` for not at all",
			set: func(c *config, v string) error {
				if err := duration(func(c *config) *time.Duration { return &c.kafka.FlushFrequency })(c, v); err != nil {
					return err
				}
				if c.kafka.FlushFrequency > transport.MaxKafkaFlushFrequency {
					return fmt.Errorf("%s is not allowed; give at most %v", quote(v), transport.MaxKafkaFlushFrequency)
				}
				if c.kafka.FlushFrequency == 0 {
					c.kafka.FlushFrequency = -1
				}
				return nil
			},
		},
		{
			name: kafkaFlags + "flushbytes", group: groupKafka, arg: "BYTES", def: strconv.Itoa(transport.DefaultKafkaFlushBytes),
			usage: "when so much has come together it is sent at once. A full batch, and records that take half of the buffer, are always",
			set:   integer(func(c *config) *int { return &c.kafka.FlushBytes }, 1, 1<<40),
		},
		{
			name: kafkaFlags + "maxmsgbytes", group: groupKafka, arg: "BYTES", def: strconv.Itoa(transport.DefaultKafkaMaxMsgBytes),
			usage: "how large a batch may be before compression, and thereby a record. The brokers' `message.max.bytes` must not be smaller",
			set:   integer(func(c *config) *int { return &c.kafka.MaxMsgBytes }, 1000, 1e9),
		},
		{
			name: kafkaFlags + "tls", group: groupKafka, def: "false",
			usage: "connect with TLS",
			set:   boolean(func(c *config) *bool { return &c.kafka.TLS }),
		},
		{
			name: kafkaFlags + "tls.ca", group: groupKafka, arg: "FILE",
			usage: "certificates of the authorities that vouch for the brokers (PEM), in place of the system's. This file and the next two are read at each connection, so that they may be exchanged",
			set:   file(func(c *config) *string { return &c.kafka.CA }),
		},
		{
			name: kafkaFlags + "tls.client", group: groupKafka, arg: "FILE",
			usage: "certificate that this program shows to brokers (PEM)",
			set:   file(func(c *config) *string { return &c.kafka.ClientCert }),
		},
		{
			name: kafkaFlags + "tls.key", group: groupKafka, arg: "FILE",
			usage: "its key (PEM)",
			set:   file(func(c *config) *string { return &c.kafka.ClientKey }),
		},
		{
			name: kafkaFlags + "tls.insecure", group: groupKafka, def: "false",
			usage: "don't check who the brokers are",
			set:   boolean(func(c *config) *bool { return &c.kafka.Insecure }),
		},
		{
			name: kafkaFlags + "sasl", group: groupKafka, arg: "MECHANISM", def: transport.SASLNone,
			usage: "how to log in to the brokers: `none`, `plain`, `scram-sha256` or `scram-sha512`, with the environment variables `KAFKA_SASL_USER` and `KAFKA_SASL_PASS`. Use it with TLS",
			set: func(c *config, v string) error {
				return oneOf(func(c *config) *string { return &c.kafka.SASL }, transport.SASLNone, transport.SASLPlain, transport.SASLSHA256, transport.SASLSHA512)(c, strings.ToLower(v))
			},
		},
	}
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// integer takes a whole number within bounds.
func integer(field func(*config) *int, least, most int) func(*config, string) error {
	return func(c *config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%s is not allowed; give a number from %d to %d", quote(v), least, most)
		}
		*field(c) = n
		return nil
	}
}

// finishKafka refuses contradictions, and sets what follows from other flags.
func (p *parser) finishKafka(c *config) error {
	flag := func(name string) string { return p.given[kafkaFlags+name].flag(kafkaFlags + name) }
	given := func(name string) bool { _, ok := p.given[kafkaFlags+name]; return ok }
	if !c.writesTo(transportKafka) {
		for _, o := range p.options {
			if s, ok := p.given[o.name]; ok && strings.HasPrefix(o.name, kafkaFlags) {
				return usagef("%s: records don't go to Kafka; give -transport kafka, or leave it out", s.flag(o.name))
			}
		}
		return nil
	}
	k := &c.kafka
	if k.SRV != "" && given("brokers") {
		return usagef("%s: cannot be used with %s; give one of the two", flag("srv"), flag("brokers"))
	}
	for _, name := range []string{"tls.ca", "tls.client", "tls.key", "tls.insecure"} {
		if given(name) && !k.TLS && p.given[kafkaFlags+name].value != "" && (name != "tls.insecure" || k.Insecure) {
			return usagef("%s: connections have no TLS; give -%stls, or leave it out", flag(name), kafkaFlags)
		}
	}
	switch {
	case k.ClientCert != "" && k.ClientKey == "":
		return usagef("%s: the key is missing; give -%stls.key, too", flag("tls.client"), kafkaFlags)
	case k.ClientKey != "" && k.ClientCert == "":
		return usagef("%s: the certificate is missing; give -%stls.client, too", flag("tls.key"), kafkaFlags)
	}
	if k.SASL != transport.SASLNone {
		k.User, k.Password = p.variables["KAFKA_SASL_USER"], p.variables["KAFKA_SASL_PASS"]
		if k.User == "" || k.Password == "" {
			return usagef("%s: %s needs the environment variables KAFKA_SASL_USER and KAFKA_SASL_PASS; set both", flag("sasl"), k.SASL)
		}
	}
	k.Spread = !c.kafkaHashing
	if strings.TrimSpace(c.kafkaKey) == "" {
		if given("hashing") && c.kafkaHashing {
			return usagef("%s: records have no key; give -%skey, or leave it out", flag("hashing"), kafkaFlags)
		}
		return nil
	}
	var err error
	if k.Key, err = encode.ParseKey(c.kafkaKey, c.mapping, c.kubeLabels...); err != nil {
		return usagef("%s: %v", flag("key"), err)
	}
	return nil
}

// output is a running output, as the program sees it.
type output struct {
	transport.Output
	name string
}

// newOutput makes an output that is inert.
func (a *app) newOutput(o outputConfig) (*output, error) {
	enc, err := newEncoder(a.cfg, o)
	if err != nil {
		return nil, usagef("-%v", err)
	}
	block, binary, several := a.cfg.mode != modeCollect, o.format == formatProtobuf, len(a.cfg.outputs) > 1
	// Half of the time is for the sockets, half for the output.
	drain := max(a.cfg.drainTimeout/2, 1)
	if o.transport == transportFile {
		f, err := transport.NewFile(transport.FileConfig{
			Path: a.cfg.transportFile, Stdout: a.stdout, Block: block, Binary: binary, Several: several, DrainTimeout: drain,
		}, enc, a.log, a.reg)
		if err != nil {
			return nil, err
		}
		return &output{f, o.transport}, nil
	}
	cfg := a.cfg.kafka
	cfg.Block, cfg.Binary, cfg.Several, cfg.DrainTimeout = block, binary, several, drain
	k, err := transport.NewKafka(cfg, enc, a.log, a.reg)
	if file := (*transport.FileError)(nil); errors.As(err, &file) {
		flag := "tls.client"
		if file.Name == cfg.CA {
			flag = "tls.ca"
		}
		return nil, usagef("-%s%s: %v", kafkaFlags, flag, err)
	}
	if err != nil {
		return nil, err
	}
	return &output{k, o.transport}, nil
}

// openOutputs opens what can be opened at once.
func (a *app) openOutputs() error {
	for _, o := range a.outputs {
		if err := o.Open(); err != nil {
			return fmt.Errorf("open the output (-transport.%s): %w", o.name, err)
		}
	}
	return nil
}

// newWriter returns a writer for one worker, to all outputs.
func (a *app) newWriter() transport.Writer {
	var ws []transport.Writer
	for _, o := range a.outputs {
		ws = append(ws, o.NewWriter())
	}
	return transport.Fanout(ws...)
}

// runningOutputs are the outputs at work.
type runningOutputs struct {
	outputs []*output
	parts   []*part
}

// startOutputs starts the outputs. An output that ends by itself ends the input:
// a program that does half of its work would look fine for too long.
func (a *app) startOutputs(end context.CancelCauseFunc) *runningOutputs {
	r := &runningOutputs{outputs: a.outputs}
	for _, o := range a.outputs {
		p := start(o.Run)
		r.parts = append(r.parts, p)
		go func() {
			err := <-p.done
			p.done <- err
			end(err)
		}()
	}
	return r
}

// cancel makes the outputs end within their deadlines.
func (r *runningOutputs) cancel() {
	for _, p := range r.parts {
		p.cancel()
	}
}

// finish waits until all is written, however long that takes, unless ctx ends.
func (r *runningOutputs) finish(ctx context.Context) {
	for _, o := range r.outputs {
		o.Finish()
	}
	for _, p := range r.parts {
		p.wait(ctx)
	}
}

// stop ends the outputs and returns their errors. With more outputs than one, a
// reader of standard output that has gone is none.
func (r *runningOutputs) stop() error {
	r.cancel()
	var errs []error
	for _, p := range r.parts {
		err := p.stop()
		if len(r.parts) > 1 && errors.Is(err, transport.ErrClosed) {
			continue
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// outputReady adds what the outputs lack to what is missing.
func (a *app) outputReady(note func(part string, err error)) {
	for _, o := range a.outputs {
		name := "output"
		if len(a.outputs) > 1 {
			name += "." + o.name
		}
		note(name, o.Ready())
	}
}

// isTerminal tells whether f is one. A terminal is a character device. So is
// /dev/null, where nobody sees it.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
