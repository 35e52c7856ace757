package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// The values of KafkaConfig.SASL.
const (
	SASLNone   = "none"
	SASLPlain  = "plain"
	SASLSHA256 = "scram-sha256"
	SASLSHA512 = "scram-sha512"
)

// The values of KafkaConfig.Compression.
const (
	CompressionNone   = "none"
	CompressionGzip   = "gzip"
	CompressionSnappy = "snappy"
	CompressionLZ4    = "lz4"
	CompressionZstd   = "zstd"
)

// KafkaConfig has the settings of a Kafka output.
// The zero value of a field stands for its default.
type KafkaConfig struct {
	// Brokers has the addresses of some brokers, as HOST:PORT. The client learns the
	// others from them. [DefaultKafkaBrokers] if empty.
	Brokers []string
	// SRV is the name of a DNS record that lists the brokers. It replaces Brokers.
	SRV string
	// Topic is the topic that the records are written to. [DefaultKafkaTopic] if
	// empty.
	Topic string

	// UseTLS makes connections use TLS.
	UseTLS bool
	TLS    TLSFiles

	// SASL is SASLNone or another of these constants. User and Password are for SASL.
	SASL           string
	User, Password string

	// MaxMsgBytes bounds a batch before compression, and so a record, in bytes.
	MaxMsgBytes int
	// FlushBytes and FlushFrequency bound how long records wait for their batch to
	// fill up. They are sent when that many bytes wait, or when the first has waited
	// that long. They do not wait if FlushFrequency is negative.
	FlushBytes     int
	FlushFrequency time.Duration
	// Compression is CompressionNone or another of these constants.
	Compression string

	// Key makes the records' keys. They have none if it is nil.
	Key Keyer
	// Spread makes records go to each partition in turn. Without it, keys decide.
	Spread bool

	// BufferBytes bounds the records that are not acknowledged yet, in bytes.
	BufferBytes int
	// Block makes workers wait when the buffer is full, instead of dropping
	// the newest records: for inputs that can wait. Run then reports records
	// that could not be written as an error.
	Block bool
	// DrainTimeout is how long Run goes on after its context has ended. It is
	// [DefaultDrainTimeout] if 0.
	DrainTimeout time.Duration
	// Binary reports whether records are not lines. The newline at the end of a line is
	// not part of the message.
	Binary bool
	// Several reports whether this is one of several outputs. The metric records_held has
	// the transport as a label then.
	Several bool
}

func (c *KafkaConfig) setDefaults() {
	if len(c.Brokers) == 0 {
		c.Brokers = DefaultKafkaBrokers
	}
	if c.Topic == "" {
		c.Topic = DefaultKafkaTopic
	}
	if c.SASL == "" {
		c.SASL = SASLNone
	}
	if c.Compression == "" {
		c.Compression = CompressionNone
	}
	if c.MaxMsgBytes == 0 {
		c.MaxMsgBytes = DefaultKafkaMaxMsgBytes
	}
	if c.FlushBytes == 0 {
		c.FlushBytes = DefaultKafkaFlushBytes
	}
	if c.FlushFrequency == 0 {
		c.FlushFrequency = DefaultKafkaFlushFrequency
	}
	c.FlushFrequency = max(c.FlushFrequency, 0)
	if c.BufferBytes == 0 {
		c.BufferBytes = DefaultKafkaBuffer
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
}

// options returns the options of the client, but for the brokers.
func (c *KafkaConfig) options() ([]kgo.Opt, error) {
	var d dialer
	if c.UseTLS {
		d.files = &c.TLS
		if _, err := c.TLS.config(); err != nil {
			return nil, err
		}
	}
	opts := []kgo.Opt{
		kgo.ClientID("kube-enricher"),
		kgo.DisableClientMetrics(),
		kgo.DefaultProduceTopic(c.Topic),
		kgo.AllowAutoTopicCreation(), // if the brokers allow it, as in goflow2
		kgo.RequiredAcks(kgo.AllISRAcks()),
		// Records are never given up because brokers or the topic are missing.
		kgo.UnknownTopicRetries(-1),
		kgo.AlwaysRetryEOF(),
		kgo.MaxBufferedRecords(maxRecords),
		kgo.ProducerBatchMaxBytes(int32(c.MaxMsgBytes)),
		kgo.BrokerMaxWriteBytes(max(100<<20, int32(c.MaxMsgBytes)+1<<10)),
		kgo.ProducerLinger(c.FlushFrequency),
		kgo.RetryBackoffFn(backoff),
		kgo.MetadataMinAge(time.Second),
		kgo.Dialer(d.DialContext),
	}
	switch c.Compression {
	case CompressionNone:
		opts = append(opts, kgo.ProducerBatchCompression(kgo.NoCompression()))
	case CompressionGzip:
		opts = append(opts, kgo.ProducerBatchCompression(kgo.GzipCompression()))
	case CompressionSnappy:
		opts = append(opts, kgo.ProducerBatchCompression(kgo.SnappyCompression()))
	case CompressionLZ4:
		opts = append(opts, kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	case CompressionZstd:
		opts = append(opts, kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	default:
		return nil, fmt.Errorf("kafka: no compression is named %q", c.Compression)
	}
	if c.Spread {
		opts = append(opts, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	} else {
		opts = append(opts, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil))) // murmur2, as Java clients do
	}
	switch c.SASL {
	case SASLNone:
	case SASLPlain:
		opts = append(opts, kgo.SASL(plain.Auth{User: c.User, Pass: c.Password}.AsMechanism()))
	case SASLSHA256:
		opts = append(opts, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password}.AsSha256Mechanism()))
	case SASLSHA512:
		opts = append(opts, kgo.SASL(scram.Auth{User: c.User, Pass: c.Password}.AsSha512Mechanism()))
	default:
		return nil, fmt.Errorf("kafka: no SASL mechanism is named %q", c.SASL)
	}
	return opts, nil
}

// backoff returns how long the client waits before its attempt number n.
func backoff(n int) time.Duration {
	const shortest, longest = 100 * time.Millisecond, 2 * time.Second
	d := min(shortest<<min(n, 10), longest)
	return d/2 + rand.N(d/2) //nolint:gosec // it spreads clients and keeps no secret
}

// lookupSRV returns the addresses in a DNS SRV record, sorted by priority.
func lookupSRV(ctx context.Context, name string) ([]string, error) {
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
	if err != nil {
		return nil, fmt.Errorf("look up brokers: %w", err)
	}
	var seeds []string
	for _, r := range records {
		seeds = append(seeds, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	if len(seeds) == 0 {
		return nil, fmt.Errorf("look up brokers: SRV record %s names none", name)
	}
	return seeds, nil
}

// ParseBrokers reads a list of HOST:PORT separated by commas, and drops repeated
// ones. The port is 9092 if it is left out.
func ParseBrokers(list string) ([]string, error) {
	var brokers []string
	for b := range strings.SplitSeq(list, ",") {
		b = strings.TrimSpace(b)
		host, port, err := net.SplitHostPort(b)
		if addrErr := (*net.AddrError)(nil); errors.As(err, &addrErr) && addrErr.Err == "missing port in address" {
			host, port, err = strings.Trim(b, "[]"), "9092", nil
		}
		n, portErr := strconv.ParseUint(port, 10, 16)
		if err != nil || portErr != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ ") {
			return nil, fmt.Errorf("%q is no broker; give HOST:PORT,... such as kafka-0:9092,[fd00::1]:9092", b)
		}
		b = net.JoinHostPort(host, port)
		if !slices.Contains(brokers, b) {
			brokers = append(brokers, b)
		}
	}
	return brokers, nil
}
