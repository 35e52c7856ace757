package transport

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// batchBench is an output of batches under test, with all that is around it.
type batchBench struct {
	*batchOutput
	t      *testing.T
	reg    *prometheus.Registry
	log    *logtest.Hook
	handed atomic.Int64
	ended  chan error
	cancel context.CancelFunc
}

func (b *batchBench) start() {
	ctx, cancel := context.WithCancel(b.t.Context())
	b.cancel = cancel
	b.ended = make(chan error, 1)
	go func() { b.ended <- b.Run(ctx) }()
}

func (b *batchBench) stop() error {
	b.cancel()
	return <-b.ended
}

func (b *batchBench) done() error {
	b.Finish()
	return <-b.ended
}

// hand gives records of the given length, numbered from one on.
func (b *batchBench) hand(w Writer, from, n, bytes int) {
	for i := range n {
		r := new(flow.Record)
		r.Msg.SequenceNum, r.Msg.Bytes = uint32(from+i), uint64(bytes)
		w.HandleFlow(r)
		b.handed.Add(1)
	}
}

// expect checks the ledger in the metrics.
func (b *batchBench) expect(written, full, failed, shut, held int) {
	b.t.Helper()
	m := b.scrape()
	for name, want := range map[string]int{
		"records_written_total " + b.transport:              written,
		"records_dropped_total output_full " + b.transport:  full,
		"records_dropped_total output_error " + b.transport: failed,
		"records_dropped_total shutdown " + b.transport:     shut,
		"records_held output":                               held,
	} {
		if int(m[name]) != want {
			b.t.Errorf("%s is %v, want %d", name, m[name], want)
		}
	}
}

// scrape returns all metrics by name and label values, and checks that the
// ledger balances.
func (b *batchBench) scrape() map[string]float64 {
	b.t.Helper()
	before := float64(b.handed.Load())
	m := gather(b.t, b.reg)
	sum := m["records_written_total "+b.transport] + m["records_held output"]
	for _, r := range dropReasonNames {
		sum += m["records_dropped_total "+r+" "+b.transport]
	}
	if after := float64(b.handed.Load()); sum < before || sum > after {
		b.t.Fatalf("the ledger does not balance: %v to %v handed over, %v", before, after, m)
	}
	return m
}

// counted waits until no record is held.
func (b *batchBench) counted() {
	b.t.Helper()
	until(b.t, "all records are counted", func() bool { return b.scrape()["records_held output"] == 0 })
}

// TestWakePerBatch has a goroutine that wants a whole batch. It is woken up once there is one, or
// when the room is half full, and not by each chunk.
func TestWakePerBatch(t *testing.T) {
	const room = 16 * minChunk
	queue := func(b *buffer, bytes int) (woken bool) {
		c := b.get(false)
		if c == nil {
			t.Fatal("no room")
		}
		c.buf = append(c.buf, make([]byte, bytes)...)
		b.enqueue(c)
		select {
		case <-b.wake:
			return true
		default:
			return false
		}
	}
	for name, test := range map[string]struct{ wanted, bytes, chunks int }{ // chunks until it is woken up
		"each":      {0, 1000, 1},
		"batch":     {3000, 1000, 3},
		"more":      {2500, 1000, 3},
		"half full": {room, 1000, 9},
	} {
		b := newBuffer(nil, room, false)
		if b.next(test.wanted) != nil {
			t.Fatal("a chunk from nowhere")
		}
		for i := 1; i <= test.chunks; i++ {
			if woken := queue(b, test.bytes); woken != (i == test.chunks) {
				t.Errorf("%s: woken up by chunk %d: %t", name, i, woken)
			}
		}
		for range test.chunks {
			b.release(b.next(test.wanted))
		}
		if b.next(test.wanted) != nil || queue(b, test.bytes) != (test.chunks == 1) {
			t.Errorf("%s: it is not counted anew", name)
		}
	}
}

// arrivals is a destination that notes when each record comes.
type arrivals struct {
	mu       sync.Mutex
	came     map[uint32]time.Time // by number
	requests int
}

func (a *arrivals) send(_ context.Context, b *batch) attempt {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	for _, p := range b.parts {
		for line := range bytes.Lines(p.bytes()) {
			n, err := strconv.ParseUint(string(bytes.TrimRight(line, "x\n")), 10, 32)
			if err != nil {
				return attempt{verdict: refused, err: err}
			}
			a.came[uint32(n)] = time.Now()
		}
	}
	return attempt{verdict: sentAll}
}

func (a *arrivals) probe(context.Context) error { return nil }
func (a *arrivals) close()                      {}

// TestBatchesLeaveInTime: no record waits longer for its batch than flush says, whatever the
// records before it were, and however many chunks they fill without making a batch.
func TestBatchesLeaveInTime(t *testing.T) {
	for name, test := range map[string]struct {
		every time.Duration
		bytes int
	}{
		"many chunks": {500 * time.Microsecond, 300},
		"few":         {3 * time.Millisecond, 600},
		"one":         {47 * time.Millisecond, 100},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newHTTP(t, HTTPConfig{Flush: time.Second}, "http://192.0.2.1/")
				a := &arrivals{came: make(map[uint32]time.Time)}
				b.sender = a
				b.start()
				w := b.NewWriter()
				handed := make(map[uint32]time.Time)
				for n := 1; time.Duration(n)*test.every < 5*time.Second; n++ {
					time.Sleep(test.every)
					handed[uint32(n)] = time.Now()
					b.hand(w, n, 1, test.bytes)
				}
				w.Idle()
				noError(t, b.done())
				longest := time.Duration(0)
				for n, at := range handed {
					longest = max(longest, a.came[n].Sub(at))
				}
				if len(a.came) != len(handed) || longest > time.Second {
					t.Errorf("%d of %d records, after %v at most", len(a.came), len(handed), longest)
				}
				if a.requests > 8 {
					t.Errorf("%d requests in five seconds", a.requests)
				}
			})
		})
	}
}
