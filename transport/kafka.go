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

// Defaults of [KafkaConfig]. Those of what goflow2 v2.2.6 has, too, are its own.
const (
	DefaultKafkaTopic          = "flow-messages"
	DefaultKafkaMaxMsgBytes    = 1000000
	DefaultKafkaFlushBytes     = 100 << 20
	DefaultKafkaFlushFrequency = 5 * time.Second
	DefaultKafkaBuffer         = 64 << 20
)

// MaxKafkaFlushFrequency is the longest time that the client lets records wait
// for more.
const MaxKafkaFlushFrequency = time.Minute

// DefaultKafkaBrokers are goflow2's.
var DefaultKafkaBrokers = []string{"127.0.0.1:9092", "[::1]:9092"}

const (
	// minKafkaBuffer is the smallest buffer that makes sense, in bytes.
	minKafkaBuffer = 128 << 10
	// recordOverhead is what the client needs for a record beside its key and
	// value, in bytes.
	recordOverhead = 256
	// probeEvery is how often the brokers are asked for the topic as long as
	// that fails, and probeIdle if no record was acknowledged for as long.
	probeEvery = time.Second
	probeIdle  = 5 * time.Second
	// probeTimeout is how long the answer may take.
	probeTimeout = 5 * time.Second
)

// Kafka writes records to a topic of Apache Kafka, or of what speaks its
// protocol.
//
// Workers encode records into chunks, as for a file. One goroutine hands these
// to the client, which is an idempotent producer: a record counts as written
// once all in-sync replicas have it, and a request that is sent again because
// its answer was lost makes no second record. The client gives no record up
// because brokers are out of reach, or the topic is not there yet. Meanwhile
// records stay in the buffer, and once that is full the newest are dropped.
type Kafka struct {
	cfg   KafkaConfig
	opts  []kgo.Opt
	srv   func(ctx context.Context, name string) (seeds []string, err error)
	log   logrus.FieldLogger
	buf   *buffer
	stats *outputStats

	finishOnce sync.Once
	finish     chan struct{} // no more records will come
	expired    chan struct{} // what is not acknowledged by now is dropped

	client atomic.Pointer[kgo.Client] // nil before brokers are known by name
	window int64                      // most records that the client may have
	// inClient counts the records that the client has, bytesInClient those of
	// their chunks.
	inClient, bytesInClient atomic.Int64
	failed                  atomic.Pointer[error] // the first error that cost records

	epoch    time.Time
	acked    atomic.Int64            // when the client last settled a record, after epoch
	waiting  atomic.Int64            // since when it has some and settles none; 0: it has none
	problem  atomic.Pointer[problem] // what is wrong, nil if nothing is known to be
	connect  atomic.Pointer[error]   // what came of the last attempt to connect
	report   report                  // of the goroutine of Run
	lossOnce sync.Once
}

// NewKafka returns an output that is inert until Run, and registers its
// metrics. It fails if the configuration is wrong or names files that cannot be
// used.
func NewKafka(cfg KafkaConfig, enc Encoder, log logrus.FieldLogger, reg prometheus.Registerer) (*Kafka, error) {
	cfg.setDefaults()
	if cfg.BufferBytes < minKafkaBuffer {
		return nil, fmt.Errorf("buffer of %d bytes is too small; it must have at least %d", cfg.BufferBytes, minKafkaBuffer)
	}
	// A part of the buffer is for what the client needs to hold records.
	overhead := cfg.BufferBytes / 4
	k := &Kafka{
		cfg:     cfg,
		srv:     lookupSRV,
		log:     log.WithField("output", "kafka"),
		buf:     newBuffer(enc, cfg.BufferBytes-overhead, cfg.Block),
		finish:  make(chan struct{}),
		expired: make(chan struct{}),
		window:  int64(overhead / recordOverhead),
		epoch:   time.Now(),
	}
	k.buf.key, k.buf.lazy = cfg.Key, true
	k.report = report{log: k.log, buf: k.buf}
	k.setProblem(errors.New("no broker was reached yet"), true)
	var err error
	if k.opts, err = cfg.options(); err != nil {
		return nil, err
	}
	k.opts = append(k.opts, kgo.WithHooks(hooks{k}), kgo.WithLogger(clientLog{k.log}), kgo.ProducerOnDataLossDetected(k.dataLoss))
	if err := kgo.ValidateOpts(k.opts...); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if k.stats, err = registerOutput(reg, "kafka", cfg.Several, k.buf); err != nil {
		return nil, err
	}
	return k, nil
}

// Open implements [Output]. Brokers are connected to by Run, which goes on trying.
func (k *Kafka) Open() error { return nil }

// Reopen implements [Output]: there is nothing to open anew.
func (k *Kafka) Reopen() {}

// NewWriter implements [Output].
func (k *Kafka) NewWriter() Writer { return k.buf.newWriter() }

// Finish says that no more records will be handed over. Run ends when those it
// has are acknowledged, however long that takes, unless its context ends.
func (k *Kafka) Finish() {
	k.finishOnce.Do(func() { close(k.finish) })
}

// Ready returns nil, or what keeps records from being written.
func (k *Kafka) Ready() error {
	now := time.Since(k.epoch)
	if p := k.problem.Load(); p != nil && (p.open || now-p.at < forgetAfter) {
		err := p.err
		if e := k.connect.Load(); p.open && e != nil {
			err = *e
		}
		return fmt.Errorf("output: kafka: %w", err)
	}
	if since := time.Duration(k.waiting.Load()); since != 0 && now-since > k.cfg.FlushFrequency+stallAfter {
		return fmt.Errorf("output: kafka: no record was acknowledged for %v", (now - since).Round(time.Second))
	}
	return nil
}

func (k *Kafka) setProblem(err error, open bool) {
	k.problem.Store(&problem{err: err, at: time.Since(k.epoch), open: open})
}

// Run implements [Output]. It returns nil after a clean end, and [ErrDrain] if
// the deadline passed before all was acknowledged; other errors are failures.
func (k *Kafka) Run(ctx context.Context) error {
	clientCtx, cancel := context.WithCancel(context.Background())
	var connecting sync.WaitGroup
	connecting.Go(func() { k.keepConnected(clientCtx) })
	defer func() {
		cancel()
		connecting.Wait()
		if cl := k.client.Load(); cl != nil {
			cl.Close()
		}
	}()
	done := make(chan error, 1)
	go func() { done <- k.loop() }()
	watch := time.NewTicker(time.Second)
	defer watch.Stop()
	stop := ctx.Done()
	var deadline <-chan time.Time
	for {
		select {
		case err := <-done:
			return k.end(err)
		case <-stop:
			stop = nil
			k.Finish()
			deadline = time.After(k.cfg.DrainTimeout)
		case <-deadline:
			close(k.expired)
			deadline = nil
		case <-watch.C:
			k.report.watch(k.Ready(), false)
		}
	}
}

// end settles what is left when the loop has ended. The client still has it.
func (k *Kafka) end(err error) error {
	left := k.buf.abandon(shutdown)
	if k.buf.ledger().handed > 0 { // else brokers were not needed
		k.report.watch(k.Ready(), true)
	}
	if err == errExpired && left > 0 {
		return fmt.Errorf("output: kafka: %d records are left: %w", left, ErrDrain)
	}
	if failed := k.failed.Load(); k.cfg.Block && failed != nil {
		return fmt.Errorf("output: kafka: %d records could not be written: %w", k.buf.ledger().dropped[outputError], *failed)
	}
	return nil
}

// loop hands chunks to the client until there will be no more and all records
// are settled. The only error is errExpired.
func (k *Kafka) loop() error {
	tick := time.NewTicker(min(flushEvery, max(k.cfg.FlushFrequency, time.Millisecond)))
	defer tick.Stop()
	finish := k.finish
	for {
		queued := k.handOver(finish == nil)
		if finish == nil && !queued && k.inClient.Load() == 0 {
			return nil
		}
		select {
		case <-k.buf.wake:
		case <-tick.C:
			k.buf.sweep(true)
			k.buf.trim()
		case <-finish:
			finish = nil
			k.buf.close(shutdown)
		case <-k.expired:
			return errExpired
		}
	}
}

// handOver gives the client what it may have, and tells whether there is more.
// With now, or when much has come together, the client sends what it has. It is
// told again and again, because it may not know the topic's partitions yet.
func (k *Kafka) handOver(now bool) (queued bool) {
	cl := k.client.Load()
	if cl == nil {
		return true
	}
	for k.inClient.Load() < k.window {
		c := k.buf.next()
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

// send makes the client send what it lets wait for more.
func (k *Kafka) send(cl *kgo.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // don't wait for the answers
	_ = cl.Flush(ctx)
}

// delivery is a chunk whose records the client has.
type delivery struct {
	k    *Kafka
	c    *chunk
	left int // records not settled; of the client's goroutine that calls promises
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
		k.waiting.Store(max(int64(now.Sub(k.epoch)), 1))
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

// promise settles a record. The client calls it for one record at a time.
func (d *delivery) promise(_ *kgo.Record, err error) {
	k := d.k
	now := max(int64(time.Since(k.epoch)), 1)
	k.acked.Store(now)
	switch {
	case err == nil:
		k.buf.settle(1, 0, outputError)
		if k.problem.Load() != nil {
			k.problem.Store(nil)
		}
	case errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, kgo.ErrAborting):
		k.buf.settle(0, 1, shutdown)
	default:
		k.stats.errors.Add(1)
		k.failed.CompareAndSwap(nil, &err)
		k.setProblem(err, false)
		k.buf.settle(0, 1, outputError)
	}
	if k.inClient.Add(-1) > 0 {
		k.waiting.Store(now)
	} else {
		k.waiting.Store(0)
	}
	if d.left--; d.left == 0 {
		k.bytesInClient.Add(-int64(len(d.c.buf)))
		k.buf.release(d.c)
		k.wake()
	}
}

func (k *Kafka) wake() {
	select {
	case k.buf.wake <- struct{}{}:
	default:
	}
}

// keepConnected makes the client, and asks the brokers for the topic from time
// to time, so that Ready knows of troubles before there are records to send.
func (k *Kafka) keepConnected(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		p := k.problem.Load()
		idle := time.Since(k.epoch) - time.Duration(k.acked.Load())
		if (p != nil && p.open) || idle >= probeIdle {
			switch err := k.probe(ctx); {
			case ctx.Err() != nil:
				return
			case err != nil:
				k.setProblem(err, true)
			default:
				k.acked.Store(int64(time.Since(k.epoch)))
				k.connect.Store(nil)
				if p != nil && p.open {
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

// probe asks for the topic, once there is a client.
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

// bootstrap makes the client once the brokers' names are known, and looks
// these up again while brokers don't answer.
func (k *Kafka) bootstrap(ctx context.Context) error {
	cl := k.client.Load()
	if cl != nil && k.cfg.SRV == "" {
		return nil
	}
	seeds := k.cfg.Brokers
	if k.cfg.SRV != "" {
		p := k.problem.Load()
		if cl != nil && (p == nil || !p.open) {
			return nil
		}
		var err error
		if seeds, err = k.srv(ctx, k.cfg.SRV); err != nil {
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
	k.wake()
	return nil
}

// dataLoss hears of acknowledged records that the brokers have lost.
func (k *Kafka) dataLoss(topic string, partition int32) {
	k.stats.errors.Add(1)
	k.lossOnce.Do(func() {
		k.log.WithFields(logrus.Fields{"topic": topic, "partition": partition}).
			Warn("the brokers have lost records that they had acknowledged; this is said once")
	})
}

// errHungUp is what is known if connections end before there is an answer.
var errHungUp = errors.New("the broker closes connections without an answer; it may be starting, or want TLS or SASL")

// hooks hears of what the client does.
type hooks struct{ k *Kafka }

// OnBrokerConnect implements [kgo.HookBrokerConnect].
func (h hooks) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		if e := h.k.connect.Load(); e != nil && !errors.Is(*e, errHungUp) {
			h.k.connect.CompareAndSwap(e, nil)
		}
		return
	}
	if errors.Is(err, context.Canceled) {
		return
	}
	h.k.stats.errors.Add(1)
	h.k.connect.Store(&err)
}

// OnBrokerE2E implements [kgo.HookBrokerE2E].
func (h hooks) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	switch err := e2e.Err(); {
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		h.k.connect.Store(&errHungUp)
	case err == nil && key != int16(kmsg.ApiVersions):
		h.k.connect.Store(nil)
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

// clientLog writes the client's warnings at level debug: what they mean for
// records is logged anyway.
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

// maxRecords is the most records that the client is told to take; what it gets
// is bounded by the buffer.
const maxRecords = math.MaxInt32
