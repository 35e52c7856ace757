package enrich

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// sink is the handler behind a stage.
type sink struct {
	numbers []uint32
	names   []string
	idle    int
	pending bool
}

func (s *sink) HandleFlow(r *flow.Record) {
	s.numbers = append(s.numbers, r.Msg.SequenceNum)
	s.names = append(s.names, show(r.Ends[0])+", "+show(r.Ends[1]))
}

func (s *sink) Idle() bool { s.idle++; return s.pending }

func record(number uint32, src, dst string) *flow.Record {
	r := &flow.Record{}
	r.Msg.SequenceNum = number
	r.Msg.TimeReceivedNs = uint64(time.Now().UnixNano())
	if src != "" {
		r.Msg.SrcAddr = addr(src).AsSlice()
	}
	if dst != "" {
		r.Msg.DstAddr = addr(dst).AsSlice()
	}
	return r
}

// held runs an Enricher on nothing, in a bubble.
func held(t *testing.T, cfg Config, test func(*testing.T, *Enricher)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e, _, _ := newTest(t, cfg, noSource{})
		e.store.markStarted(kindPod)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		test(t, e)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestStageHoldsUntilSynced(t *testing.T) {
	held(t, Config{SyncTimeout: time.Minute}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		src := addr("10.0.0.1").AsSlice()
		for i := range uint32(3) {
			r := record(i, "10.0.0.1", "10.0.0.9")
			r.Msg.SrcAddr = src
			s.HandleFlow(r)
			if !s.Idle() {
				t.Error("Idle: nothing is pending")
			}
			r.Reset()
		}
		clear(src) // the worker's buffer is used again
		if len(out.numbers) != 0 || out.idle != 3 {
			t.Errorf("before the sync: %v, idle %d times", out.numbers, out.idle)
		}
		if n := e.metrics.heldForSync.Load(); n != 3 {
			t.Errorf("%d held", n)
		}
		e.store.replace(kindPod, []*object{podSpec{name: "p", ips: "10.0.0.1", ready: rfc(-10)}.object(t)})
		s.HandleFlow(record(3, "", "10.0.0.1"))
		if s.Idle() {
			t.Error("Idle: something is pending")
		}
		if want := []uint32{0, 1, 2, 3}; !slices.Equal(out.numbers, want) {
			t.Errorf("order %v", out.numbers)
		}
		if want := []string{"p live, none", "p live, none", "p live, none", "none, p live"}; !slices.Equal(out.names, want) {
			t.Errorf("names %v", out.names)
		}
		if n, room := e.metrics.heldForSync.Load(), e.room.Load(); n != 0 || room != e.cfg.HoldBytes {
			t.Errorf("%d held, room %d of %d", n, room, e.cfg.HoldBytes)
		}
		out.pending = true
		if !s.Idle() {
			t.Error("what is pending behind the stage is not reported")
		}
	})
}

func TestStageReleasesWhenIdle(t *testing.T) {
	held(t, Config{SyncTimeout: time.Minute}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.1", ""))
		after(59)
		if err := e.Ready(); err == nil || err.Error() != "pods not synced" || !s.Idle() || len(out.numbers) != 0 {
			t.Errorf("before the timeout: ready %v, %d records", err, len(out.numbers))
		}
		after(2)
		if err := e.Ready(); err != nil || s.Idle() || len(out.numbers) != 1 {
			t.Errorf("after the timeout: ready %v, %d records", err, len(out.numbers))
		}
		if err := e.WaitSynced(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestStageDrain(t *testing.T) {
	held(t, Config{SyncTimeout: time.Minute}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.1", ""))
		s.HandleFlow(record(2, "10.0.0.1", ""))
		s.Drain()
		if want := []uint32{1, 2}; !slices.Equal(out.numbers, want) || e.metrics.heldForSync.Load() != 0 {
			t.Errorf("%v, %d held", out.numbers, e.metrics.heldForSync.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.WaitSynced(ctx); err == nil {
			t.Error("WaitSynced did not end with its context")
		}
	})
}

func TestStageBound(t *testing.T) {
	size := sizeOf(record(0, "10.0.0.1", ""))
	held(t, Config{SyncTimeout: time.Minute, HoldBytes: 3*size + size/2}, func(t *testing.T, e *Enricher) {
		e.store.update(podSpec{name: "p", ips: "10.0.0.1"}.object(t)) // known, though not all is
		a, b := &sink{}, &sink{}
		sa, sb := e.NewStage(a), e.NewStage(b)
		for i := range uint32(5) {
			sa.HandleFlow(record(i, "10.0.0.1", ""))
		}
		if want := []uint32{0, 1}; !slices.Equal(a.numbers, want) || a.names[0] != "p live, none" {
			t.Errorf("the oldest: %v %v", a.numbers, a.names)
		}
		sb.HandleFlow(record(9, "10.0.0.1", ""))
		if want := []uint32{9}; !slices.Equal(b.numbers, want) {
			t.Errorf("no room left by another worker: %v", b.numbers)
		}
		if n := e.metrics.heldForSync.Load(); n != 3 {
			t.Errorf("%d held", n)
		}
		sa.Drain()
		sb.Drain()
		if want := []uint32{0, 1, 2, 3, 4}; !slices.Equal(a.numbers, want) || e.room.Load() != e.cfg.HoldBytes {
			t.Errorf("%v, room %d", a.numbers, e.room.Load())
		}
	})
}

func TestStageCapture(t *testing.T) {
	held(t, Config{SyncTimeout: time.Minute, Unheld: true}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.1", ""))
		if len(out.numbers) != 1 || s.Idle() {
			t.Error("held")
		}
	})
}

func TestSizeCountsLines(t *testing.T) {
	r := record(1, "10.0.0.1", "")
	before := sizeOf(r)
	r.Line = &flow.Line{Text: []byte(strings.Repeat("x", 1<<20)), Keys: []string{"SrcPod"}}
	if n := sizeOf(r) - before; n < 1<<20 {
		t.Errorf("a line of 1 MiB counts %d bytes", n)
	}
}

func TestLookupsAreCounted(t *testing.T) {
	held(t, Config{Unheld: true}, func(t *testing.T, e *Enricher) {
		st := e.store
		st.replace(kindPod, nil)
		for _, p := range []podSpec{{name: "a", ips: "10.0.0.1"}, {name: "b", ips: "10.0.0.2"}, {name: "c", ips: "10.0.0.2"}, {name: "d", ips: "10.0.0.3"}} {
			st.update(p.object(t))
		}
		st.update(&object{kind: kindService, name: "s", uid: "s", addrs: []netip.Addr{addr("10.96.0.1")}, servicePart: &servicePart{}})
		st.update(&object{kind: kindNode, name: "n", uid: "n", addrs: []netip.Addr{addr("192.0.2.1")}, nodePart: &nodePart{}})
		after(1)
		early := record(0, "10.0.0.3", "")
		after(10)
		st.remove(podSpec{name: "d", ips: "10.0.0.3"}.object(t))
		stages := []*Stage{e.NewStage(&sink{}), e.NewStage(&sink{})}
		for i, r := range []*flow.Record{
			record(1, "10.0.0.1", "::ffff:10.0.0.1"), record(2, "10.0.0.2", "10.96.0.1"), record(3, "192.0.2.1", "192.0.2.99"), early,
			record(4, "", ""), record(5, "0.0.0.0", "::"), // no look-ups
		} {
			stages[i%2].HandleFlow(r)
			if i > 3 && r.Ends[0].Status != flow.StatusNone {
				t.Errorf("record %d: %s", i, show(r.Ends[0]))
			}
		}
		want := `
# HELP kube_enricher_lookups_total Addresses looked up, by what they were found to be.
# TYPE kube_enricher_lookups_total counter
kube_enricher_lookups_total{result="ambiguous"} 1
kube_enricher_lookups_total{result="egressip"} 0
kube_enricher_lookups_total{result="endpoint"} 0
kube_enricher_lookups_total{result="node"} 1
kube_enricher_lookups_total{result="none"} 1
kube_enricher_lookups_total{result="pod"} 2
kube_enricher_lookups_total{result="retained"} 1
kube_enricher_lookups_total{result="service"} 1
`
		if err := testutil.CollectAndCompare(e.metrics, strings.NewReader(want), "kube_enricher_lookups_total"); err != nil {
			t.Error(err)
		}
	})
}

func TestStageAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	e, addrs := big(t, 1000)
	e.store.update(&object{kind: kindPod, podPart: &podPart{}, name: "twin", uid: "twin", addrs: addrs[:1]}) // ambiguous
	s := e.NewStage(discard{})
	var records []*flow.Record
	for i := range addrs {
		r := record(uint32(i), addrs[i].String(), "192.0.2.1")
		r.Extra.HasStart, r.Extra.HasEnd = true, true
		r.Msg.TimeFlowStartNs, r.Msg.TimeFlowEndNs = r.Msg.TimeReceivedNs-1000, r.Msg.TimeReceivedNs+1e9
		records = append(records, r)
	}
	i := 0
	if n := testing.AllocsPerRun(2000, func() {
		s.HandleFlow(records[i%len(records)])
		s.Idle()
		i++
	}); n != 0 {
		t.Errorf("%v allocations per record", n)
	}
	if s.counters.n[flow.StatusLive].Load() == 0 || s.counters.n[flow.StatusAmbiguous].Load() == 0 {
		t.Error("no pod was found")
	}
}

type discard struct{}

func (discard) HandleFlow(*flow.Record) {}
func (discard) Idle() bool              { return false }

func BenchmarkStage(b *testing.B) {
	e, addrs := big(b, 50000)
	s := e.NewStage(discard{})
	r := record(1, addrs[1].String(), addrs[2].String())
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		r.Msg.SrcAddr[3], r.Msg.SrcAddr[2] = byte(i), byte(i>>8)
		s.HandleFlow(r)
		i++
	}
}

// BenchmarkNobody compares records of pods' addresses with records of addresses
// in a pod range that are nobody's, for which records have waited in vain.
func BenchmarkNobody(b *testing.B) {
	for _, c := range []struct {
		name  string
		third byte
	}{{"named", 0}, {"nobody", 250}} {
		b.Run(c.name, func(b *testing.B) {
			e, addrs := big(b, 50000)
			e.cfg.Wait = 2 * time.Second
			e.setReady()
			e.store.replace(kindNode, []*object{rangedNode("n1", "10.0.0.0/8")})
			s := e.NewStage(discard{})
			s.ready = true
			r := record(1, addrs[1].String(), addrs[2].String())
			r.Msg.SrcAddr[2] = c.third
			now := time.Now()
			for i := range 256 {
				r.Msg.SrcAddr[3] = byte(i)
				r.Msg.TimeReceivedNs = uint64(now.UnixNano())
				s.HandleFlow(r)
			}
			s.checkHeld(now.UnixNano() + int64(3*time.Second))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Msg.SrcAddr[3] = byte(i)
				s.HandleFlow(r)
				i++
			}
			if len(s.held) > 0 {
				b.Fatalf("%d records wait", len(s.held))
			}
		})
	}
}

// Input that is not held, such as a pipe's, may go on for good: pods that have ended
// are forgotten then, too, unless the input is of the past.
func TestUnheldForgets(t *testing.T) {
	for keep, want := range map[bool]string{false: "none", true: "a retained"} {
		inBubbleWith(t, Config{SyncTimeout: time.Minute, Retain: time.Minute, Unheld: true, KeepEnded: keep}, func(*api) {}, func(t *testing.T, r *run) {
			a := podSpec{name: "a", ips: "10.0.0.1"}
			r.api.put(t, a.yaml())
			after(10)
			r.api.remove(t, a.yaml())
			after(50)
			if got := r.show("10.0.0.1", 5, 5); got != "a retained" {
				t.Errorf("keep=%v: %s", keep, got)
			}
			after(40)
			if got := r.show("10.0.0.1", 5, 5); got != want {
				t.Errorf("keep=%v: %s, want %s", keep, got, want)
			}
		})
	}
}
