package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Defaults of [KafkaConfig]. For settings that goflow2 v2.2.6 has, they are
// goflow2's. Sizes are in bytes.
const (
	DefaultKafkaTopic          = "flow-messages"
	DefaultKafkaMaxMsgBytes    = 1000000
	DefaultKafkaFlushBytes     = 100 << 20
	DefaultKafkaFlushFrequency = 5 * time.Second
	DefaultKafkaBuffer         = 64 << 20
)

// MaxKafkaFlushFrequency is the largest FlushFrequency that the client accepts.
const MaxKafkaFlushFrequency = time.Minute

// DefaultKafkaBrokers are goflow2's.
var DefaultKafkaBrokers = []string{"127.0.0.1:9092", "[::1]:9092"}

const (
	// minKafkaBuffer is the smallest buffer that makes sense, in bytes.
	minKafkaBuffer = 128 << 10
	// recordOverhead is what the client needs for a record beside its key and
	// value, in bytes.
	recordOverhead = 256
	// probeEvery is how often the brokers are asked for the topic while that fails.
	probeEvery = time.Second
	// probeIdle is how long no record may be acknowledged before the brokers are
	// asked.
	probeIdle = 5 * time.Second
	// probeTimeout is how long the answer may take.
	probeTimeout = 5 * time.Second
	// maxRecords is how many records the client may have, in its own options. It is
	// no bound: Kafka.window and the buffer bound them.
	maxRecords = math.MaxInt32
)

// Kafka writes records to a topic of Apache Kafka, or of another system with the
// same protocol. It implements [Output], with the same rules for concurrent calls.
//
// Workers encode records into chunks, as for a file. One goroutine hands the chunks
// to the client, which is an idempotent producer. A record counts as written once
// all in-sync replicas have it. A request that is sent again because its answer was
// lost does not make a second record. The client never gives up a record because
// brokers cannot be reached or the topic does not exist yet. Meanwhile records stay
// in the buffer, and when that is full the newest are dropped.
type Kafka struct {
	runner
	cfg       KafkaConfig
	opts      []kgo.Opt // all but the brokers
	lookupSRV func(ctx context.Context, name string) (seeds []string, err error)

	client atomic.Pointer[kgo.Client] // nil until the brokers' names are known
	window int64                      // the most records that the client may have
	// inClient is the number of records that the client has, bytesInClient the
	// number of bytes in their chunks.
	inClient, bytesInClient atomic.Int64
	lastAck                 atomic.Int64 // when the client last completed a record, after epoch
	lossOnce                sync.Once
}

var (
	_ Output = (*Kafka)(nil)
	_ driver = (*Kafka)(nil)
)

// NewKafka returns an output that is inert until Run, and registers its metrics. It
// fails if the configuration is wrong, or if reg has the metrics of another Kafka
// output. The error is a [FileError] if a file that the configuration names cannot
// be used.
func NewKafka(cfg KafkaConfig, enc Encoder, log logrus.FieldLogger, reg prometheus.Registerer) (*Kafka, error) {
	cfg.setDefaults()
	if cfg.BufferBytes < minKafkaBuffer {
		return nil, fmt.Errorf("buffer of %d bytes is too small; it must have at least %d", cfg.BufferBytes, minKafkaBuffer)
	}
	// A part of the buffer is for what the client needs to hold records.
	overhead := cfg.BufferBytes / 4
	k := &Kafka{cfg: cfg, lookupSRV: lookupSRV, window: int64(overhead / recordOverhead)}
	k.init(runnerConfig{
		transport:    "kafka",
		name:         "kafka",
		block:        cfg.Block,
		several:      cfg.Several,
		drainTimeout: cfg.DrainTimeout,
		flushEvery:   flushEvery,
		stallAfter:   cfg.FlushFrequency + stallAfter,
		stallText:    "no record was acknowledged",
		away:         brokersAway,
		bufferBytes:  cfg.BufferBytes,
	}, newBuffer(enc, cfg.BufferBytes-overhead, cfg.Block), log, "no broker was reached yet")
	// Records that need not wait are handed over when their worker has nothing else to do.
	// To look for them often instead would wake the program up a thousand times a second.
	k.buf.key, k.buf.lazy = cfg.Key, cfg.FlushFrequency >= flushEvery
	var err error
	if k.opts, err = cfg.options(); err != nil {
		return nil, err
	}
	k.opts = append(k.opts, kgo.WithHooks(hooks{k}), kgo.WithLogger(clientLog{k.log}), kgo.ProducerOnDataLossDetected(k.dataLoss))
	if err := kgo.ValidateOpts(k.opts...); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if err := k.register(reg); err != nil {
		return nil, err
	}
	return k, nil
}

// Run implements [Output]. It returns nil after a clean end, and [ErrDrain] if the
// deadline passed before all was acknowledged. Other errors are failures. Brokers
// that cannot be reached are none: Run goes on trying.
func (k *Kafka) Run(ctx context.Context) error {
	clientCtx, cancel := context.WithCancel(context.Background())
	var connecting sync.WaitGroup
	connecting.Go(func() { k.keepConnected(clientCtx) })
	// The client is closed when all records are counted. Closing it fails those that
	// it still has.
	defer func() {
		cancel()
		connecting.Wait()
		if cl := k.client.Load(); cl != nil {
			cl.Close()
		}
	}()
	return k.run(ctx, k)
}

// step implements [driver]. It hands chunks to the client.
func (k *Kafka) step(finishing bool) (progress, error) {
	if queued := k.handOver(finishing); !queued && k.inClient.Load() == 0 {
		return progressIdle, nil
	}
	return progressWaiting, nil
}

// check implements [driver]. keepConnected looks after the brokers.
func (k *Kafka) check() {}

// interrupt implements [driver]. No step blocks.
func (k *Kafka) interrupt() {}

// close implements [driver]. Run closes the client later.
func (k *Kafka) close() error { return nil }

// handOver gives chunks to the client until it has as many records as it may have.
// It reports whether chunks are left. The client is made to send what it has if now
// is set, or if it has much. This is repeated at each call, because the client
// sends nothing before it knows the topic's partitions.
func (k *Kafka) handOver(now bool) (queued bool) {
	cl := k.client.Load()
	if cl == nil {
		return true
	}
	for k.inClient.Load() < k.window {
		c := k.buf.next(0)
		if c == nil {
			if (now || k.bytesInClient.Load() >= int64(k.cfg.FlushBytes) || k.buf.halfFull()) && k.inClient.Load() > 0 {
				k.send(cl)
			}
			return false
		}
		k.produce(cl, c)
	}
	k.send(cl)
	return true
}

// send makes the client send the records that wait for their batch to fill up.
func (k *Kafka) send(cl *kgo.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // so that Flush does not wait for the answers
	_ = cl.Flush(ctx)
}

// delivery is a chunk whose records the client has.
type delivery struct {
	k    *Kafka
	c    *chunk
	left int // records that are not completed; used by the goroutine that calls promise
}

// produce gives the records of a chunk to the client.
func (k *Kafka) produce(cl *kgo.Client, c *chunk) {
	c = k.buf.shrink(c)
	k.bytesInClient.Add(int64(len(c.buf)))
	d := &delivery{k, c, len(c.ends)}
	promise := d.promise
	records := make([]kgo.Record, len(c.ends))
	now := time.Now()
	if k.inClient.Add(int64(len(records))) == int64(len(records)) {
		k.waitingSince.Store(int64(k.now()))
	}
	var from, keyFrom int32
	for i := range records {
		r := &records[i]
		end := c.ends[i]
		r.Value = c.buf[from:end:end]
		from = end
		if n := len(r.Value); !k.cfg.Binary && n > 0 && r.Value[n-1] == '\n' {
			r.Value = r.Value[:n-1]
		}
		if len(c.keyEnds) > 0 {
			if end := c.keyEnds[i]; end > keyFrom {
				r.Key = c.keys[keyFrom:end:end]
				keyFrom = end
			}
		}
		r.Timestamp = now
		cl.Produce(context.Background(), r, promise)
	}
}

// promise completes a record. The client calls it for one record at a time.
func (d *delivery) promise(_ *kgo.Record, err error) {
	k := d.k
	now := int64(k.now())
	k.lastAck.Store(now)
	switch {
	case err == nil:
		k.buf.complete(1, 0, dropOutputError)
		if k.problem.Load() != nil {
			k.problem.Store(nil)
		}
	case errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, kgo.ErrAborting):
		k.buf.complete(0, 1, dropShutdown)
	default:
		k.fail(err)
		k.buf.complete(0, 1, dropOutputError)
	}
	if k.inClient.Add(-1) > 0 {
		k.waitingSince.Store(now)
	} else {
		k.waitingSince.Store(0)
	}
	if d.left--; d.left == 0 {
		k.bytesInClient.Add(-int64(len(d.c.buf)))
		k.buf.release(d.c)
		k.buf.wakeUp()
	}
}

// keepConnected makes the client. While no records are acknowledged it asks the
// brokers for the topic from time to time, so that Ready knows of troubles before
// there are records to send.
func (k *Kafka) keepConnected(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		p := k.problem.Load()
		idle := k.now() - time.Duration(k.lastAck.Load())
		if (p != nil && p.unreachable) || idle >= probeIdle {
			switch err := k.probe(ctx); {
			case ctx.Err() != nil:
				return
			case err != nil:
				k.setProblem(err, true)
			default:
				k.lastAck.Store(int64(k.now()))
				k.connectErr.Store(nil)
				if p != nil && p.unreachable {
					k.problem.CompareAndSwap(p, nil)
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// probe makes the client if there is none, and asks the brokers for the topic.
func (k *Kafka) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := k.bootstrap(ctx); err != nil {
		return err
	}
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &k.cfg.Topic
	req.Topics = append(req.Topics, topic)
	req.AllowAutoTopicCreation = true
	resp, err := req.RequestWith(ctx, k.client.Load())
	if err != nil {
		return fmt.Errorf("no broker answers: %w", err)
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("topic %q: %w", k.cfg.Topic, err)
		}
	}
	return nil
}

// bootstrap makes the client, when the brokers' names are known. While the brokers
// do not answer it looks the names up again.
func (k *Kafka) bootstrap(ctx context.Context) error {
	cl := k.client.Load()
	if cl != nil && k.cfg.SRV == "" {
		return nil
	}
	seeds := k.cfg.Brokers
	if k.cfg.SRV != "" {
		p := k.problem.Load()
		if cl != nil && (p == nil || !p.unreachable) {
			return nil
		}
		var err error
		if seeds, err = k.lookupSRV(ctx, k.cfg.SRV); err != nil {
			k.stats.errors.Add(1)
			return err
		}
		if cl != nil {
			return cl.UpdateSeedBrokers(seeds...)
		}
	}
	cl, err := kgo.NewClient(append(k.opts, kgo.SeedBrokers(seeds...))...)
	if err != nil {
		return err
	}
	k.client.Store(cl)
	k.buf.wakeUp()
	return nil
}

// dataLoss is called by the client when brokers have lost records that they had
// acknowledged.
func (k *Kafka) dataLoss(topic string, partition int32) {
	k.stats.errors.Add(1)
	k.lossOnce.Do(func() {
		k.log.WithFields(logrus.Fields{"topic": topic, "partition": partition}).
			Warn("the brokers have lost records that they had acknowledged; this is logged once")
	})
}

// errHungUp is the error if connections end before there is an answer.
var errHungUp = errors.New("the broker closes connections without an answer; it may be starting, or want TLS or SASL")

// hooks is called by the client, by any of its goroutines.
type hooks struct{ k *Kafka }

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (h hooks) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		if e := h.k.connectErr.Load(); e != nil && !errors.Is(*e, errHungUp) {
			h.k.connectErr.CompareAndSwap(e, nil)
		}
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	h.k.stats.errors.Add(1)
	op := (*net.OpError)(nil)
	switch {
	case hungUp(err):
		// The client asks for the broker's versions as a part of connecting.
		err = errHungUp
	case errors.As(err, &op):
		err = op // without the client's own words
	}
	h.k.connectErr.Store(&err)
}

// brokersAway says in a few words what is wrong while nothing can be written.
func brokersAway(err error) string {
	if refused := (*kerr.Error)(nil); errors.As(err, &refused) {
		return "refused by the brokers"
	}
	return "brokers unreachable"
}

// hungUp reports whether an error is that the broker has closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// OnBrokerE2E implements [kgo.HookBrokerE2E].
func (h hooks) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	switch err := e2e.Err(); {
	case hungUp(err):
		h.k.connectErr.Store(&errHungUp)
	case err == nil && key != int16(kmsg.ApiVersions):
		h.k.connectErr.Store(nil)
	}
	if key != int16(kmsg.Produce) {
		return
	}
	h.k.stats.seconds.Observe(e2e.DurationE2E().Seconds())
	if e2e.Err() != nil {
		h.k.stats.errors.Add(1)
	}
}

// OnProduceBatchWritten implements [kgo.HookProduceBatchWritten].
func (h hooks) OnProduceBatchWritten(_ kgo.BrokerMetadata, _ string, _ int32, m kgo.ProduceBatchMetrics) {
	h.k.stats.batches.Add(1)
	h.k.stats.bytes.Add(uint64(m.CompressedBytes))
}

// clientLog writes the client's warnings at level debug. Their consequences for the
// records are logged anyway.
type clientLog struct{ log logrus.FieldLogger }

// Level implements [kgo.Logger].
func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelWarn }

// Log implements [kgo.Logger].
func (l clientLog) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	fields := make(logrus.Fields, len(keyvals)/2)
	for i := 0; i+1 < len(keyvals); i += 2 {
		fields[fmt.Sprint(keyvals[i])] = keyvals[i+1]
	}
	l.log.WithFields(fields).Debug("kafka client: " + msg)
}
