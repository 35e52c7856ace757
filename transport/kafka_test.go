package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
	"github.com/netobserv/goflow2-kube-enricher/test/brokers"
)

const testTopic = "flows"

// kafkaBench is a Kafka output under test, with all that is around it.
type kafkaBench struct {
	*Kafka
	t      *testing.T
	reg    *prometheus.Registry
	log    *logtest.Hook
	handed atomic.Int64
	ended  chan error
	cancel context.CancelFunc
}

// newKafka returns an output to the given brokers that sends without delay.
func newKafka(t *testing.T, cfg KafkaConfig, enc Encoder, seeds ...string) *kafkaBench {
	t.Helper()
	cfg.Brokers, cfg.Topic = seeds, testTopic
	if cfg.FlushFrequency == 0 {
		cfg.FlushFrequency = time.Millisecond
	}
	log, hook := logtest.NewNullLogger()
	b := &kafkaBench{t: t, reg: prometheus.NewPedanticRegistry(), log: hook}
	var err error
	if b.Kafka, err = NewKafka(cfg, enc, log, b.reg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *kafkaBench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	b.ended = make(chan error, 1)
	go func() { b.ended <- b.Run(ctx) }()
}

func (b *kafkaBench) stop() error {
	b.cancel()
	return <-b.ended
}

func (b *kafkaBench) done() error {
	b.Finish()
	return <-b.ended
}

// hand gives a record of the given length.
func (b *kafkaBench) hand(w Writer, seq, bytes int) {
	r := new(flow.Record)
	r.Msg.SequenceNum, r.Msg.Bytes = uint32(seq), uint64(bytes)
	r.Msg.SrcAddr, r.Msg.DstAddr = []byte{10, 0, byte(seq >> 8), byte(seq)}, []byte{10, 1, 0, 1}
	w.HandleFlow(r)
	b.handed.Add(1)
}

// expect checks the ledger: what was handed over is written, dropped by the
// given reasons, or held, and the metrics say so.
func (b *kafkaBench) expect(written, full, failed, shut, held int) {
	b.t.Helper()
	m := b.scrape()
	for name, want := range map[string]int{
		"records_written_total kafka":              written,
		"records_dropped_total output_full kafka":  full,
		"records_dropped_total output_error kafka": failed,
		"records_dropped_total shutdown kafka":     shut,
		"records_held output":                      held,
	} {
		if int(m[name]) != want {
			b.t.Errorf("%s is %v, want %d", name, m[name], want)
		}
	}
}

// scrape returns all metrics by name and label values, and checks that the
// ledger balances.
func (b *kafkaBench) scrape() map[string]float64 {
	b.t.Helper()
	before := float64(b.handed.Load())
	m := gather(b.t, b.reg)
	sum := m["records_written_total kafka"] + m["records_held output"] + m["records_held output kafka"]
	for _, r := range dropReasonNames {
		sum += m["records_dropped_total "+r+" kafka"]
	}
	if after := float64(b.handed.Load()); sum < before || sum > after {
		b.t.Fatalf("the ledger does not balance: %v to %v handed over, %v", before, after, m)
	}
	return m
}

// until waits for something to become true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			t.Fatalf("after half a minute, still not: %s", what)
		}
	}
}

// sequences returns the sequence numbers of what lineEncoder wrote, and how
// often each is there.
func sequences(t *testing.T, records []*kgo.Record) map[int]int {
	t.Helper()
	seqs := make(map[int]int, len(records))
	for _, r := range records {
		n, err := strconv.Atoi(strings.TrimRight(string(r.Value), "x"))
		if err != nil {
			t.Fatal(err)
		}
		seqs[n]++
	}
	return seqs
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKafka writes from several workers at once and reads all of it.
func TestKafka(t *testing.T) {
	const workers, each = 4, 5000
	c := brokers.New(t, testTopic, kfake.NumBrokers(3))
	key, err := encode.ParseKey(encode.DefaultKey, nil)
	noError(t, err)
	b := newKafka(t, KafkaConfig{Key: key, Compression: CompressionLZ4, Block: true, BufferBytes: 1 << 20}, lineEncoder{}, c.ListenAddrs()...)
	if b.Problem() == nil {
		t.Error("ready before any broker was reached")
	}
	b.start()
	var wg sync.WaitGroup
	for id := range workers {
		w := b.NewWriter()
		wg.Go(func() {
			for i := range each {
				b.hand(w, id*each+i, i%300)
				if i%97 == 0 && w.Idle() {
					t.Error("asks to be called again")
				}
			}
		})
	}
	wg.Wait()
	b.scrape()
	noError(t, b.done())
	b.expect(workers*each, 0, 0, 0, 0)
	noError(t, b.Problem())
	m := b.scrape()
	if m["output_bytes_total kafka"] == 0 || m["output_batches_total kafka"] == 0 || m["output_write_seconds kafka"] == 0 || m["output_errors_total kafka"] != 0 || m["output_buffered_bytes kafka"] != 0 {
		t.Errorf("metrics: %v", m)
	}
	records := brokers.Consume(t, testTopic, workers*each, c.ListenAddrs())
	for seq, n := range sequences(t, records) {
		if n != 1 {
			t.Errorf("record %d is there %d times", seq, n)
		}
	}
	last := make(map[[2]any]int) // by partition and worker
	for _, r := range records {
		seq, _ := strconv.Atoi(strings.TrimRight(string(r.Value), "x"))
		if want := fmt.Sprintf("10.0.%d.%d,10.1.0.1", byte(seq>>8), byte(seq)); string(r.Key) != want {
			t.Fatalf("record %d has key %q, want %q", seq, r.Key, want)
		}
		at := [2]any{r.Partition, seq / each}
		if seq < last[at] {
			t.Fatalf("record %d of partition %d comes after %d", seq, r.Partition, last[at])
		}
		last[at] = seq
	}
	if len(last) != 8*workers {
		t.Errorf("records of %d workers in partitions, want %d", len(last), 8*workers)
	}
}

// TestKafkaValues checks what a message is: the record, without what ends a
// line.
func TestKafkaValues(t *testing.T) {
	protobuf, err := encode.NewProtobuf(encode.ProtobufConfig{})
	noError(t, err)
	for name, enc := range map[string]Encoder{"json": newJSON(t), "protobuf": protobuf} {
		t.Run(name, func(t *testing.T) {
			c := brokers.New(t, testTopic)
			b := newKafka(t, KafkaConfig{Binary: name == "protobuf"}, enc, c.ListenAddrs()...)
			b.start()
			b.NewWriter().HandleFlow(flowtest.Reference())
			noError(t, b.done())
			want := enc.AppendRecord(nil, flowtest.Reference())
			if name == "json" {
				want = bytes.TrimSuffix(want, []byte("\n"))
			}
			r := brokers.Consume(t, testTopic, 1, c.ListenAddrs())[0]
			if !bytes.Equal(r.Value, want) || r.Key != nil {
				t.Errorf("key %q, value\n%q, want\n%q", r.Key, r.Value, want)
			}
		})
	}
}

// TestKafkaPartitions checks that both directions of a conversation meet in a
// partition, unless records are to be spread.
func TestKafkaPartitions(t *testing.T) {
	key, err := encode.ParseKey(encode.DefaultKey, nil)
	noError(t, err)
	for _, spread := range []bool{false, true} {
		t.Run(fmt.Sprintf("spread=%v", spread), func(t *testing.T) {
			c := brokers.New(t, testTopic)
			b := newKafka(t, KafkaConfig{Key: key, Spread: spread}, lineEncoder{}, c.ListenAddrs()...)
			b.start()
			w := b.NewWriter()
			const conversations, each = 50, 4
			for i := range conversations * each {
				r := new(flow.Record)
				r.Msg.SequenceNum = uint32(i)
				ends := [2][]byte{{10, 0, 0, byte(i % conversations)}, {192, 0, 2, byte(i % conversations)}}
				r.Msg.SrcAddr, r.Msg.DstAddr = ends[i/conversations%2], ends[1-i/conversations%2]
				w.HandleFlow(r)
				b.handed.Add(1)
			}
			noError(t, b.done())
			counts := make(map[int32]int)
			partitions := make(map[string][]int32)
			for _, r := range brokers.Consume(t, testTopic, conversations*each, c.ListenAddrs()) {
				counts[r.Partition]++
				if !slices.Contains(partitions[string(r.Key)], r.Partition) {
					partitions[string(r.Key)] = append(partitions[string(r.Key)], r.Partition)
				}
			}
			if len(partitions) != conversations || len(counts) != 8 {
				t.Errorf("%d keys in %d partitions, want %d in 8", len(partitions), len(counts), conversations)
			}
			for key, in := range partitions {
				if len(in) > 1 != spread {
					t.Errorf("records with key %s are in partitions %v", key, in)
				}
			}
			for p, n := range counts {
				if spread && n != conversations*each/8 {
					t.Errorf("%d records are in partition %d, want %d", n, p, conversations*each/8)
				}
			}
		})
	}
}

// TestKafkaCompression checks what is on the wire.
func TestKafkaCompression(t *testing.T) {
	for name, codec := range map[string]int16{
		"": 0, CompressionNone: 0, CompressionGzip: 1, CompressionSnappy: 2, CompressionLZ4: 3, CompressionZstd: 4,
	} {
		t.Run(name, func(t *testing.T) {
			c := brokers.New(t, testTopic, kfake.SeedTopics(1, testTopic))
			seen := make(chan int16, 10)
			c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				var batch kmsg.RecordBatch
				if err := batch.ReadFrom(r.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records); err != nil {
					t.Error(err)
				}
				seen <- batch.Attributes & 7
				return nil, nil, false
			})
			b := newKafka(t, KafkaConfig{Compression: name}, lineEncoder{}, c.ListenAddrs()...)
			b.start()
			b.hand(b.NewWriter(), 7, 3000)
			noError(t, b.done())
			if got := <-seen; got != codec {
				t.Errorf("codec %d, want %d", got, codec)
			}
			if v := brokers.Consume(t, testTopic, 1, c.ListenAddrs())[0].Value; len(v) != 3001 {
				t.Errorf("%d bytes arrived", len(v))
			}
		})
	}
}

// TestKafkaBatches checks when records are sent that wait for more to go along
// with: when there are enough of them, at the end, or when they fill a batch.
func TestKafkaBatches(t *testing.T) {
	for name, test := range map[string]struct {
		cfg   KafkaConfig
		after int  // records of 1,000 bytes
		sent  bool // at once, before the output ends
		most  int  // bytes of a batch
	}{
		"wait":         {KafkaConfig{FlushFrequency: time.Minute}, 500, false, 1e6},
		"flush bytes":  {KafkaConfig{FlushFrequency: time.Minute, FlushBytes: 100e3}, 500, true, 1e6},
		"full batches": {KafkaConfig{FlushFrequency: time.Minute, MaxMsgBytes: 50e3}, 500, true, 50e3},
		"little room":  {KafkaConfig{FlushFrequency: time.Minute, BufferBytes: 200e3}, 100, true, 1e6},
		"no delay":     {KafkaConfig{FlushFrequency: -1}, 10, true, 1e6},
	} {
		t.Run(name, func(t *testing.T) {
			c := brokers.New(t, testTopic, kfake.SeedTopics(1, testTopic))
			var largest atomic.Int64
			c.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
				c.KeepControl()
				for _, p := range r.(*kmsg.ProduceRequest).Topics[0].Partitions {
					largest.Store(max(largest.Load(), int64(len(p.Records))))
				}
				return nil, nil, false
			})
			test.cfg.Block = true
			b := newKafka(t, test.cfg, lineEncoder{}, c.ListenAddrs()...)
			b.start()
			w := b.NewWriter()
			for i := range test.after {
				b.hand(w, i, 1000)
			}
			if test.sent {
				until(t, "records are written", func() bool { return b.scrape()["records_written_total kafka"] > 0 })
			} else {
				until(t, "the client has the records", func() bool { return b.inClient.Load() >= int64(test.after)*9/10 })
				b.expect(0, 0, 0, 0, test.after)
			}
			noError(t, b.stop())
			b.expect(test.after, 0, 0, 0, 0)
			if n := largest.Load(); n > int64(test.most) {
				t.Errorf("a batch has %d bytes, want at most %d", n, test.most)
			}
		})
	}
}

// TestKafkaTooLarge checks that a record that no batch can hold is the only one
// that is lost.
func TestKafkaTooLarge(t *testing.T) {
	c := brokers.New(t, testTopic)
	b := newKafka(t, KafkaConfig{MaxMsgBytes: 10000}, lineEncoder{}, c.ListenAddrs()...)
	b.start()
	w := b.NewWriter()
	for i := range 10 {
		b.hand(w, i, 100)
	}
	b.hand(w, 10, 20000)
	until(t, "the record is lost", func() bool { return b.scrape()["records_dropped_total output_error kafka"] > 0 })
	noError(t, b.stop())
	b.expect(10, 0, 1, 0, 0)

	b = newKafka(t, KafkaConfig{MaxMsgBytes: 10000, Block: true}, lineEncoder{}, c.ListenAddrs()...)
	b.start()
	b.hand(b.NewWriter(), 11, 20000)
	if err := b.done(); !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("error %v, want one that says the message is too large", err)
	}
}

// TestKafkaRefused checks that records are counted that the brokers refuse, and
// that those that come when they no longer do are written.
func TestKafkaRefused(t *testing.T) {
	c := brokers.New(t, testTopic)
	fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	b := newKafka(t, KafkaConfig{}, lineEncoder{}, c.ListenAddrs()...)
	b.start()
	until(t, "ready", func() bool { return b.Problem() == nil })
	w := b.NewWriter()
	for i := range 100 {
		b.hand(w, i, 10)
	}
	until(t, "all are lost", func() bool { return b.scrape()["records_dropped_total output_error kafka"] == 100 })
	if err := b.Problem(); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("Ready: %v", err)
	}
	fault.Remove()
	for i := range 100 {
		b.hand(w, i, 10)
	}
	until(t, "what comes later is written", func() bool { return b.scrape()["records_written_total kafka"] == 100 })
	noError(t, b.Problem())
	noError(t, b.stop())
	b.expect(100, 0, 100, 0, 0)
}

// TestKafkaTopic starts before the topic is there.
func TestKafkaTopic(t *testing.T) {
	for _, auto := range []bool{false, true} {
		t.Run(fmt.Sprintf("auto=%v", auto), func(t *testing.T) {
			opts := []kfake.Opt{kfake.SeedTopics(1, "other")}
			if auto {
				opts = append(opts, kfake.AllowAutoTopicCreation())
			}
			c, err := kfake.NewCluster(opts...)
			noError(t, err)
			t.Cleanup(c.Close)
			b := newKafka(t, KafkaConfig{}, lineEncoder{}, c.ListenAddrs()...)
			b.start()
			b.hand(b.NewWriter(), 1, 1)
			if !auto {
				until(t, "the topic is missed", func() bool { return errors.Is(b.Problem(), kerr.UnknownTopicOrPartition) })
				b.expect(0, 0, 0, 0, 1)
				noError(t, c.CreateTopic(testTopic, 1, nil))
			}
			until(t, "written", func() bool { return b.scrape()["records_written_total kafka"] == 1 && b.Problem() == nil })
			noError(t, b.stop())
		})
	}
}

// TestKafkaAwayAtStart starts before the brokers do.
func TestKafkaAwayAtStart(t *testing.T) {
	g, _ := brokers.NewGated(t, testTopic)
	g.Shut()
	b := newKafka(t, KafkaConfig{}, lineEncoder{}, g.Address())
	b.start()
	w := b.NewWriter()
	for i := range 1000 {
		b.hand(w, i, 50)
	}
	until(t, "it says what is wrong", func() bool {
		err := b.Problem()
		return err != nil && strings.HasPrefix(err.Error(), "kafka: brokers unreachable: dial tcp 127.0.0.1:") && strings.HasSuffix(err.Error(), "connection refused")
	})
	until(t, "it is logged", func() bool { return len(b.log.AllEntries()) > 0 })
	e := b.log.AllEntries()[0]
	if ok, _ := regexp.MatchString(`^kafka: brokers unreachable; buffering [0-9.]+ of 64 MiB$`, e.Message); !ok || e.Data[logrus.ErrorKey] == nil {
		t.Errorf("logged: %s %v", e.Message, e.Data)
	}
	b.expect(0, 0, 0, 0, 1000)
	g.Open(t)
	until(t, "all is written", func() bool { return b.scrape()["records_written_total kafka"] == 1000 })
	noError(t, b.Problem())
	noError(t, b.stop())
	b.expect(1000, 0, 0, 0, 0)
	for seq, n := range sequences(t, brokers.Consume(t, testTopic, 1000, []string{g.Address()})) {
		if n != 1 {
			t.Errorf("record %d is there %d times", seq, n)
		}
	}
}

// TestKafkaWakeUps looks at how records that need not wait get under way: when their
// worker is idle, not by looking for them all the time.
func TestKafkaWakeUps(t *testing.T) {
	for frequency, atOnce := range map[time.Duration]bool{-1: true, time.Nanosecond: true, 20 * time.Millisecond: true, 5 * time.Second: false} {
		b := newKafka(t, KafkaConfig{FlushFrequency: frequency}, lineEncoder{}, "127.0.0.1:1")
		if b.flushEvery < flushEvery {
			t.Errorf("%v: it wakes up every %v", frequency, b.flushEvery)
		}
		w := b.NewWriter()
		w.HandleFlow(new(flow.Record))
		w.Idle()
		if queued := b.buf.head != nil; queued != atOnce {
			t.Errorf("%v: queued at once: %v", frequency, queued)
		}
	}
}

// TestKafkaHangsUp has a broker that takes connections and closes them at once,
// as a load balancer does whose brokers are away: before anything is known of
// it, and once records were written. None is given up.
func TestKafkaHangsUp(t *testing.T) {
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprintf("at start=%v", early), func(t *testing.T) {
			g, _ := brokers.NewGated(t, testTopic)
			b := newKafka(t, KafkaConfig{}, lineEncoder{}, g.Address())
			g.HangUp(early)
			b.start()
			w := b.NewWriter()
			all := 0
			hand := func() {
				for range 1000 {
					b.hand(w, all, 50)
					all++
				}
			}
			if !early {
				hand()
				until(t, "the first are written", func() bool { return b.scrape()["records_written_total kafka"] == 1000 })
				g.HangUp(true)
			}
			hand()
			until(t, "it says what is wrong", func() bool {
				err := b.Problem()
				return err != nil && strings.Contains(err.Error(), "closes connections without an answer")
			})
			g.HangUp(false)
			until(t, "all is written", func() bool { return b.scrape()["records_written_total kafka"] == float64(all) && b.Problem() == nil })
			noError(t, b.stop())
			for seq, n := range sequences(t, brokers.Consume(t, testTopic, all, []string{g.Address()})) {
				if n != 1 {
					t.Errorf("record %d is there %d times", seq, n)
				}
			}
		})
	}
}

// TestKafkaPassword has brokers that refuse the password once records were
// written, as when it is changed there first. None is given up.
func TestKafkaPassword(t *testing.T) {
	g, c := brokers.NewGated(t, testTopic, kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	b := newKafka(t, KafkaConfig{SASL: SASLPlain, User: "u", Password: "p"}, lineEncoder{}, g.Address())
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 50)
	until(t, "the first is written", func() bool { return b.scrape()["records_written_total kafka"] == 1 })
	refused := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, Err: kerr.SaslAuthenticationFailed, TopLevel: true, Count: -1})
	g.Break()
	b.hand(w, 1, 50)
	until(t, "it says what is wrong", func() bool { return errors.Is(b.Problem(), kerr.SaslAuthenticationFailed) })
	b.expect(1, 0, 0, 0, 1)
	refused.Remove()
	until(t, "all is written", func() bool { return b.scrape()["records_written_total kafka"] == 2 && b.Problem() == nil })
	noError(t, b.stop())
}

// TestKafkaFull loses the brokers for so long that the buffer fills up: the
// newest records are dropped, all are accounted for, and those counted as
// written are there once.
func TestKafkaFull(t *testing.T) {
	g, _ := brokers.NewGated(t, testTopic)
	b := newKafka(t, KafkaConfig{BufferBytes: minKafkaBuffer}, lineEncoder{}, g.Address())
	b.start()
	w := b.NewWriter()
	for i := range 100 {
		b.hand(w, i, 100)
	}
	until(t, "the first are written", func() bool { return b.scrape()["records_written_total kafka"] == 100 })
	g.Shut()
	const last = 3000
	for i := 100; i < last; i++ {
		b.hand(w, i, 100)
		if i%100 == 0 {
			if n := b.scrape()["output_buffered_bytes kafka"]; n > minKafkaBuffer {
				t.Errorf("%v bytes are buffered", n)
			}
		}
	}
	m := b.scrape()
	full := int(m["records_dropped_total output_full kafka"])
	held := int(m["records_held output"])
	if full == 0 || held == 0 || full+held != last-100 {
		t.Fatalf("%d dropped, %d held", full, held)
	}
	g.Open(t)
	until(t, "what was held is written", func() bool { return b.scrape()["records_held output"] == 0 })
	noError(t, b.stop())
	b.expect(last-full, full, 0, 0, 0)
	seqs := sequences(t, brokers.Consume(t, testTopic, last-full, []string{g.Address()}))
	for seq := range 100 + held {
		if seqs[seq] != 1 {
			t.Errorf("record %d is there %d times: the newest are those to drop", seq, seqs[seq])
		}
	}
}

// TestKafkaDeadline stops while the brokers are away.
func TestKafkaDeadline(t *testing.T) {
	g, _ := brokers.NewGated(t, testTopic)
	b := newKafka(t, KafkaConfig{DrainTimeout: time.Millisecond, Block: true}, lineEncoder{}, g.Address())
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 0)
	until(t, "the first is written", func() bool { return b.scrape()["records_written_total kafka"] == 1 })
	g.Shut()
	for i := range 500 {
		b.hand(w, i+1, 100)
	}
	until(t, "the client has some", func() bool { return b.inClient.Load() > 0 })
	if err := b.stop(); !errors.Is(err, ErrDrain) {
		t.Errorf("error %v, want ErrDrain", err)
	}
	b.expect(1, 0, 0, 500, 0)
	b.hand(w, 0, 0)
	b.expect(1, 0, 0, 501, 0)
}

// TestKafkaSRV finds the brokers by a record in the DNS, which is not to be had
// at first.
func TestKafkaSRV(t *testing.T) {
	c := brokers.New(t, testTopic)
	b := newKafka(t, KafkaConfig{SRV: "_kafka._tcp.example.org"}, lineEncoder{})
	var lookups atomic.Int64
	b.lookupSRV = func(_ context.Context, name string) ([]string, error) {
		if name != "_kafka._tcp.example.org" {
			t.Errorf("looked up %q", name)
		}
		if lookups.Add(1) == 1 {
			return nil, errors.New("no such name")
		}
		return c.ListenAddrs(), nil
	}
	b.start()
	b.hand(b.NewWriter(), 1, 1)
	until(t, "the name is missed", func() bool { return strings.Contains(fmt.Sprint(b.Problem()), "no such name") })
	b.expect(0, 0, 0, 0, 1)
	until(t, "written", func() bool { return b.scrape()["records_written_total kafka"] == 1 })
	noError(t, b.stop())
}

// TestKafkaCuts breaks connections again and again while records come in: each
// is there once, and in the order of its key.
func TestKafkaCuts(t *testing.T) {
	const between, cuts = 1000, 40
	g, _ := brokers.NewGated(t, testTopic)
	key, err := encode.ParseKey("SamplerAddress", nil)
	noError(t, err)
	b := newKafka(t, KafkaConfig{Key: key, Block: true, Compression: CompressionSnappy}, lineEncoder{}, g.Address())
	b.start()
	w := b.NewWriter()
	failed := func() bool { return b.scrape()["output_errors_total kafka"] > 0 }
	// On a busy machine all cuts may fall between two requests: it goes on until
	// one has not.
	records := 0
	for n := 0; n < cuts || n < 20*cuts && !failed(); n++ {
		for range between {
			r := new(flow.Record)
			r.Msg.SequenceNum, r.Msg.SamplerAddress = uint32(records), []byte{192, 0, 2, byte(records % 50)}
			w.HandleFlow(r)
			b.handed.Add(1)
			records++
		}
		until(t, "requests are under way", func() bool { return b.inClient.Load() > 0 || b.scrape()["records_held output"] == 0 })
		g.Break()
	}
	noError(t, b.done())
	b.expect(records, 0, 0, 0, 0)
	if !failed() {
		t.Error("no request failed")
	}
	last := make(map[string]int)
	seen := make(map[int]bool)
	for _, r := range brokers.Consume(t, testTopic, records, []string{g.Address()}) {
		seq, err := strconv.Atoi(string(r.Value))
		noError(t, err)
		if seen[seq] || seq < last[string(r.Key)] {
			t.Fatalf("record %d is there twice, or after %d", seq, last[string(r.Key)])
		}
		seen[seq], last[string(r.Key)] = true, seq
	}
}

// TestKafkaAllocs counts what is allocated for a record on its whole way to a
// broker, which is in another process: at most 2, and nothing by the worker.
func TestKafkaAllocs(t *testing.T) {
	if os.Getenv(asBroker) != "" {
		fmt.Printf("%s %s\n", asBroker, brokers.New(t, testTopic, kfake.BlackholeProduce()).ListenAddrs()[0])
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	if race.Enabled {
		t.Skip("allocations mean nothing under the race detector")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKafkaAllocs$")
	cmd.Env = append(os.Environ(), asBroker+"=1")
	in, err := cmd.StdinPipe()
	noError(t, err)
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	defer func() { in.Close(); _ = cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	noError(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), asBroker+" ")
	if !ok {
		t.Fatalf("the broker says %q", line)
	}

	mapping := []flow.MapEntry{{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"}, {Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"}}
	enc, err := encode.NewProtobuf(encode.ProtobufConfig{Mapping: mapping})
	noError(t, err)
	key, err := encode.ParseKey("SrcAddr,DstAddr,SrcPort,DstPort,SrcNamespace,DstNamespace,Proto", mapping)
	noError(t, err)
	b := newKafka(t, KafkaConfig{Key: key, Binary: true, Block: true, Compression: CompressionLZ4}, enc, addr)
	b.start()
	checkAllocs(t, b.NewWriter(), func(n int) {
		b.handed.Add(int64(n))
		until(t, "written", func() bool { return b.scrape()["records_held output"] == 0 })
	})
	noError(t, b.stop())

	// The worker alone, into chunks that are there.
	b = newKafka(t, KafkaConfig{Key: key, Binary: true}, enc, addr)
	w, r := b.NewWriter(), flowtest.Reference()
	n := testing.AllocsPerRun(1000, func() {
		w.HandleFlow(r)
		if c := b.buf.next(0); c != nil {
			b.buf.release(c)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations by the worker", n)
	}
}

// asBroker in the environment turns a test into a broker.
const asBroker = "KUBE_ENRICHER_TEST_AS_BROKER"

// TestKafkaMemory fills the buffer while brokers are away: what the process
// takes stays near the bound.
func TestKafkaMemory(t *testing.T) {
	if race.Enabled {
		t.Skip("memory means nothing under the race detector")
	}
	const room = 16 << 20
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for name, bytes := range map[string]int{"tiny records": 1, "usual records": 150, "large records": 5000} {
		t.Run(name, func(t *testing.T) {
			g, _ := brokers.NewGated(t, testTopic)
			key, err := encode.ParseKey(encode.DefaultKey, nil)
			noError(t, err)
			b := newKafka(t, KafkaConfig{Key: key, BufferBytes: room, DrainTimeout: time.Millisecond}, lineEncoder{}, g.Address())
			b.start()
			w := b.NewWriter()
			b.hand(w, 0, bytes)
			until(t, "the first is written", func() bool { return b.scrape()["records_written_total kafka"] == 1 })
			before := heap()
			g.Shut()
			full := "records_dropped_total output_full kafka"
			for i := 1; b.scrape()[full] == 0; i++ {
				for range 1000 {
					b.hand(w, i, bytes)
				}
			}
			until(t, "the client has what it may", func() bool { return b.inClient.Load() >= b.window || b.buf.head == nil })
			held := b.scrape()["records_held output"]
			grown := heap() - before
			t.Logf("%.0f records held in %.1f MiB, %.0f bytes each; the bound is %d MiB", held, float64(grown)/(1<<20), float64(grown)/held, room>>20)
			if grown > room*5/4 {
				t.Errorf("the heap grew by %d bytes, want at most a quarter more than %d", grown, room)
			}
			if err := b.stop(); !errors.Is(err, ErrDrain) {
				t.Error(err)
			}
			b.scrape()
		})
	}
}
