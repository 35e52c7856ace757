package hubble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// reader is a client without a network: it takes an answer apart.
type reader struct {
	tb   testing.TB
	each func(*observerpb.GetFlowsResponse)
	sent int // how often something was sent
}

func (r *reader) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		size := prefix + int(binary.BigEndian.Uint32(rest[1:]))
		resp := &observerpb.GetFlowsResponse{}
		if err := proto.Unmarshal(rest[prefix:size], resp); err != nil || rest[0] != 0 {
			r.tb.Error(rest[0], err)
		}
		r.each(resp)
		rest = rest[size:]
	}
	return len(b), nil
}

func (r *reader) Flush() { r.sent++ }

// unserved is a server whose calls are made without a network.
func unserved(t *testing.T, source Source) *Server {
	t.Helper()
	s := newServer(Config{Mapping: mapping(t), Labels: GroupingLabels}, source)
	s.log, s.skipped = quiet(), prometheus.NewCounter(prometheus.CounterOpts{Name: "skipped"})
	return s
}

// steady is a source that has a record at each step, for ever, each with pods of its own.
type steady struct {
	memory
	step time.Duration
	made int
}

func (s *steady) Follow(ctx context.Context, _ Query, f func(*flow.Record, uint64) error) error {
	tick := time.NewTicker(s.step)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		s.made++
		r := record(s.made/100, uint32(s.made%50000))
		for i := range 2 {
			r.Ends[i].Object = flow.NewObject(flow.Object{
				Kind: kindPod, Namespace: "ns", Name: fmt.Sprintf("pod-%d-%d", s.made, i), Workload: fmt.Sprintf("workload-%d-%d", s.made, i), WorkloadKind: "Deployment",
				Labels: fmt.Sprintf("app-%d", s.made),
			})
		}
		r.Msg.SamplerAddress = []byte{10, byte(s.made >> 16), byte(s.made >> 8), byte(s.made)}
		var skipped uint64
		if s.made%1000 == 0 {
			skipped = 5
		}
		if err := f(r, skipped); err != nil {
			return err
		}
		if err := f(nil, 0); err != nil {
			return err
		}
	}
}

// TestHour follows for an hour, in which all pods, workloads and exporters are new all the time:
// a stream's memory ends growing.
func TestHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := unserved(t, &steady{step: 30 * time.Millisecond})
		s.nodeOf = nil
		ctx, cancel := context.WithCancel(t.Context())
		flows, lost := 0, uint64(0)
		ended := make(chan error, 1)
		go func() {
			ended <- s.getFlows(ctx, &observerpb.GetFlowsRequest{Follow: true}, &reader{tb: t, each: func(resp *observerpb.GetFlowsResponse) {
				if resp.GetFlow() != nil {
					flows++
				}
				lost += resp.GetLostEvents().GetNumEventsLost()
			}})
		}()
		used := func() (heap uint64, goroutines int) {
			var m runtime.MemStats
			runtime.GC()
			runtime.GC()
			runtime.ReadMemStats(&m)
			return m.HeapAlloc, runtime.NumGoroutine()
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		heap, goroutines := used()
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		heapAfter, goroutinesAfter := used()
		if goroutinesAfter > goroutines || heapAfter > heap+10<<20 {
			t.Errorf("%d goroutines and %d bytes after an hour, %d and %d after a third of it", goroutinesAfter, heapAfter, goroutines, heap)
		}
		cancel()
		if err := <-ended; status.Code(err) != codes.Canceled {
			t.Error(err)
		}
		if flows < 119_000 || lost != uint64(flows/1000*5) || testutil.ToFloat64(s.skipped) != float64(lost) {
			t.Errorf("%d flows, %d lost, %v counted", flows, lost, testutil.ToFloat64(s.skipped))
		}
	})
}

// lossy is a source that tells of skipped records twice in a second, as the store does it.
type lossy struct {
	memory
	ends bool // with a record after all that are asked for
}

func (s *lossy) Follow(ctx context.Context, _ Query, f func(*flow.Record, uint64) error) error {
	if err := errors.Join(f(record(0, 1), 5), f(nil, 7)); err != nil {
		return err
	}
	if s.ends {
		return f(record(100, 2), 0)
	}
	time.Sleep(lostInterval + lostInterval/2)
	if err := f(nil, 0); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestLastLost: what was lost last is told too, after a second, or at the stream's end.
func TestLastLost(t *testing.T) {
	for _, ends := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := unserved(t, &lossy{ends: ends})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			lost := uint64(0)
			r := &reader{tb: t, each: func(m *observerpb.GetFlowsResponse) { lost += m.GetLostEvents().GetNumEventsLost() }}
			until := timestamppb.New(time.Unix(0, int64(record(1, 1).Msg.TimeReceivedNs)))
			if err := s.getFlows(ctx, &observerpb.GetFlowsRequest{Follow: true, Until: until}, r); ends != (err == nil) || lost != 12 {
				t.Errorf("%d of 12 are told: %v", lost, err)
			}
		})
	}
}

// BenchmarkFollow is what a record costs that is not wanted, and one whose flow is made.
func BenchmarkFollow(b *testing.B) {
	s := newServer(Config{Mapping: mapping(b), Labels: GroupingLabels, NodeOf: nodesOfTest}, nil)
	records := variety()
	q, err := newQuery(&observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{{SourcePod: []string{"shop/nobody"}}, {DestinationLabel: []string{"app=none"}}}})
	if err != nil {
		b.Fatal(err)
	}
	v := newView(&s.names)
	b.Run("unwanted", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if v.set(records["a"]); q.selection.wants(v) {
				b.Fatal("wanted")
			}
		}
	})
	b.Run("unwanted of many", func(b *testing.B) {
		const pods = 50_000
		list := make([]flow.End, pods)
		for i := range list {
			list[i] = object("Pod", "ns", fmt.Sprintf("pod-%d", i), fmt.Sprintf("workload-%d", i/4), "Deployment", "n1", "app\ntier")
		}
		r := record(0, 1)
		n := uint32(0)
		b.ReportAllocs()
		for b.Loop() {
			n++
			r.Ends[0], r.Ends[1] = list[n*2654435761%pods], list[n*40503%pods]
			if v.set(r); q.selection.wants(v) {
				b.Fatal("wanted")
			}
		}
	})
	b.Run("flow", func(b *testing.B) {
		out := messages{}
		b.ReportAllocs()
		for b.Loop() {
			v.set(records["a"])
			if err := out.flow(v, "v1", nil); err != nil {
				b.Fatal(err)
			}
			out.b = out.b[:0]
		}
	})
}
