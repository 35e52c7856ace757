package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// kafkaOutput is the output "kafka".
type kafkaOutput struct {
	transport.KafkaConfig
	key     string // the fields of a record's key, as they were given
	hashing bool   // keys decide which partition a record goes to
}

// kafkaFlags begins the names of its options.
const kafkaFlags = "transport.kafka."

func (k *kafkaOutput) name() string { return "kafka" }

func (k *kafkaOutput) tls() tlsFlags {
	return tlsFlags{flags: kafkaFlags, cert: "tls.client", peer: someBrokers, files: &k.TLS}
}

func (k *kafkaOutput) options() []option {
	return inGroup("Kafka", slices.Concat(k.topicOptions(), k.batchOptions(), k.connectionOptions()))
}

// fields returns the fields of the flow that keys are made of.
func (k *kafkaOutput) fields() (fields flow.FieldSet) {
	if key, ok := k.Key.(*encode.Key); ok {
		fields = key.Fields()
	}
	return fields
}

// topicOptions returns the options of brokers, topic and keys.
func (k *kafkaOutput) topicOptions() []option {
	return []option{
		{
			name: kafkaFlags + "brokers", arg: "HOST:PORT,...", def: strings.Join(transport.DefaultKafkaBrokers, ","),
			usage: "some of the brokers; the program learns of the others from them",
			set: func(_ *Config, v string) (err error) {
				k.Brokers, err = transport.ParseBrokers(v)
				return err
			},
		},
		{
			name: kafkaFlags + "srv", arg: "NAME",
			usage: "DNS SRV record that lists brokers, in place of `-transport.kafka.brokers`: `_kafka._tcp.example.org`",
			set: func(_ *Config, v string) error {
				if strings.ContainsAny(v, " /:") {
					return fmt.Errorf("%s is no name in the DNS; give one such as _kafka._tcp.example.org", Quote(v))
				}
				k.SRV = v
				return nil
			},
		},
		{
			name: kafkaFlags + "topic", arg: "NAME", def: transport.DefaultKafkaTopic,
			usage: "topic to write to. If it does not exist, the program waits until somebody creates it, or the brokers do",
			set: func(_ *Config, v string) error {
				if !topicName.MatchString(v) {
					return fmt.Errorf("%s is no name of a topic; give up to 249 letters, digits, dots, dashes and underscores", Quote(v))
				}
				k.Topic = v
				return nil
			},
		},
		{
			name: kafkaFlags + "key", arg: "FIELD,...", def: encode.DefaultKey,
			usage: "fields that a record's key is made of; empty for no key. If a field of the source and the same field of the destination are both named, the lesser value comes first, " +
				"so both directions of a conversation have one key. docs/outputs.md describes it",
			set: func(_ *Config, v string) error { k.key = v; return nil }, // checked by finish, with the mapping
		},
		{
			name: kafkaFlags + "hashing", def: "true",
			usage: "send records with the same key to the same partition. With `=false`, goflow2's default, records go to the partitions in turn",
			set:   boolean(func(*Config) *bool { return &k.hashing }),
		},
	}
}

// batchOptions returns the options of how records are gathered and sent.
func (k *kafkaOutput) batchOptions() []option {
	return []option{
		{
			name: kafkaFlags + "compression", arg: "NAME", def: transport.CompressionNone,
			usage: "`none`, `gzip`, `snappy`, `lz4` or `zstd`",
			set: func(c *Config, v string) error {
				if v == "" {
					v = transport.CompressionNone // goflow2's word for it
				}
				return oneOf(func(*Config) *string { return &k.Compression }, transport.CompressionNone, transport.CompressionGzip,
					transport.CompressionSnappy, transport.CompressionLZ4, transport.CompressionZstd)(c, strings.ToLower(v))
			},
		},
		{
			name: kafkaFlags + "buffer", arg: "SIZE", def: "64MiB",
			usage: "room for records that the brokers have not acknowledged, so that a short outage loses none. When it is full, new records are dropped and counted",
			set: func(c *Config, v string) error {
				n := int64(0)
				err := size(func(*Config) *int64 { return &n }, 128<<10, 1<<40)(c, v)
				k.BufferBytes = int(n)
				return err
			},
		},
		{
			name: kafkaFlags + "flushfreq", arg: "DURATION", def: transport.DefaultKafkaFlushFrequency.String(),
			usage: "how long a record may wait so that more are sent with it, at most 1m; `0s` for not at all",
			set: func(c *Config, v string) error {
				if err := duration(func(*Config) *time.Duration { return &k.FlushFrequency })(c, v); err != nil {
					return err
				}
				if k.FlushFrequency > transport.MaxKafkaFlushFrequency {
					return fmt.Errorf("%s is not allowed; give at most %v", Quote(v), transport.MaxKafkaFlushFrequency)
				}
				if k.FlushFrequency == 0 {
					k.FlushFrequency = -1
				}
				return nil
			},
		},
		{
			name: kafkaFlags + "flushbytes", arg: "BYTES", def: strconv.Itoa(transport.DefaultKafkaFlushBytes),
			usage: "how much may gather before it is sent. A full batch, and records that take half of the buffer, are sent in any case",
			set:   integer(func(*Config) *int { return &k.FlushBytes }, 1, 1<<40),
		},
		{
			name: kafkaFlags + "maxmsgbytes", arg: "BYTES", def: strconv.Itoa(transport.DefaultKafkaMaxMsgBytes),
			usage: "size limit of a batch before compression, and so of a record. The brokers' `message.max.bytes` must not be smaller",
			set:   integer(func(*Config) *int { return &k.MaxMsgBytes }, 1000, 1e9),
		},
	}
}

// connectionOptions returns the options of TLS and SASL.
func (k *kafkaOutput) connectionOptions() []option {
	return slices.Concat([]option{{
		name: kafkaFlags + "tls", def: "false",
		usage: "connect with TLS",
		set:   boolean(func(*Config) *bool { return &k.UseTLS }),
	}}, k.tls().options(), []option{
		{
			name: kafkaFlags + "sasl", arg: "MECHANISM", def: transport.SASLNone,
			usage: "how to log in to the brokers: `none`, `plain`, `scram-sha256` or `scram-sha512`, with the environment variables `KAFKA_SASL_USER` and `KAFKA_SASL_PASS`. Use it with TLS",
			set: func(c *Config, v string) error {
				return oneOf(func(*Config) *string { return &k.SASL }, transport.SASLNone, transport.SASLPlain, transport.SASLSHA256, transport.SASLSHA512)(c, strings.ToLower(v))
			},
		},
	})
}

var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func (k *kafkaOutput) finish(p *parser, c *Config, chosen bool) error {
	flag := func(name string) string { return p.given[kafkaFlags+name].flag(kafkaFlags + name) }
	given := func(name string) bool { _, ok := p.given[kafkaFlags+name]; return ok }
	if !chosen {
		return p.unused(kafkaFlags, "Kafka", k.name())
	}
	if k.SRV != "" && given("brokers") {
		return Usagef("%s: cannot be used with %s; give one of the two", flag("srv"), flag("brokers"))
	}
	if err := k.tls().finish(p, k.UseTLS, "give -"+kafkaFlags+"tls"); err != nil {
		return err
	}
	if k.SASL != transport.SASLNone {
		k.User, k.Password = p.variables["KAFKA_SASL_USER"], p.variables["KAFKA_SASL_PASS"]
		if k.User == "" || k.Password == "" {
			return Usagef("%s: %s needs the environment variables KAFKA_SASL_USER and KAFKA_SASL_PASS; set both", flag("sasl"), k.SASL)
		}
	}
	k.Spread = !k.hashing
	if strings.TrimSpace(k.key) == "" {
		if given("hashing") && k.hashing {
			return Usagef("%s: records have no key; give -%skey, or leave it out", flag("hashing"), kafkaFlags)
		}
		return nil
	}
	var err error
	if k.Key, err = encode.ParseKey(k.key, c.Mapping, c.KubeLabels...); err != nil {
		return Usagef("%s: %v", flag("key"), err)
	}
	return nil
}

// check does nothing: build reads the files of TLS.
func (k *kafkaOutput) check() error { return nil }

func (k *kafkaOutput) build(s outputSettings, enc transport.Encoder, d OutputDeps) (transport.Output, error) {
	cfg := k.KafkaConfig
	cfg.Block, cfg.Binary, cfg.Several, cfg.DrainTimeout = s.block, s.binary, s.several, s.drainTimeout
	out, err := transport.NewKafka(cfg, enc, d.Log, d.Reg)
	if err != nil {
		return nil, k.tls().usage(err)
	}
	return out, nil
}
