package enrich

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// waiting runs an Enricher that knows its cluster: a node with the pods of
// 10.0.0.0/16 and no pod.
func waiting(t *testing.T, cfg Config, test func(*testing.T, *Enricher)) {
	t.Helper()
	held(t, cfg, func(t *testing.T, e *Enricher) {
		e.store.replace(kindPod, nil)
		e.store.replace(kindNode, []*object{rangedNode("n1", "10.0.0.0/16", "fd00::/64")})
		after(1)
		test(t, e)
	})
}

func TestRecordsWaitForTheirPod(t *testing.T) {
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		src := addr("10.0.0.1").AsSlice()
		r := record(1, "10.0.0.1", "192.0.2.9")
		r.Msg.SrcAddr = src
		s.HandleFlow(r)
		clear(src) // the worker's buffer is used again
		s.HandleFlow(record(2, "10.0.0.2", "10.0.0.1"))
		s.HandleFlow(record(3, "192.0.2.8", "192.0.2.9")) // passes by
		s.HandleFlow(record(4, "10.0.0.1", ""))
		if !s.Idle() || !slices.Equal(out.numbers, []uint32{3}) {
			t.Fatalf("%v", out.numbers)
		}
		if err := testutil.CollectAndCompare(heldCollector{e.metrics}, strings.NewReader(`
# HELP kube_enricher_records_held Records received and not yet written or dropped, by what they wait for.
# TYPE kube_enricher_records_held gauge
kube_enricher_records_held{why="pod"} 3
kube_enricher_records_held{why="sync"} 0
`)); err != nil {
			t.Error(err)
		}
		after(1)
		e.store.update(podSpec{name: "a", ips: "10.0.0.1"}.object(t))
		if !s.Idle() || !slices.Equal(out.numbers, []uint32{3, 1, 4}) { // 2 waits for its source
			t.Errorf("a is known: %v", out.numbers)
		}
		after(0.5)
		e.store.update(podSpec{name: "b", ips: "10.0.0.2"}.object(t))
		if s.Idle() || !slices.Equal(out.numbers, []uint32{3, 1, 4, 2}) {
			t.Errorf("b is known: %v", out.numbers)
		}
		if want := []string{"none, none", "a live, none", "a live, none", "b live, a live"}; !slices.Equal(out.names, want) {
			t.Errorf("%q", out.names)
		}
		if n, room := e.metrics.heldForPod.Load(), e.room.Load(); n != 0 || room != e.cfg.HoldBytes {
			t.Errorf("%d held, room %d of %d", n, room, e.cfg.HoldBytes)
		}
		if n := s.counters.n[flow.StatusLive].Load(); n != 4 {
			t.Errorf("%d look-ups of live pods were counted, want 4", n)
		}
		if n := s.counters.n[flow.StatusNone].Load(); n != 3 {
			t.Errorf("%d look-ups in vain were counted, want 3", n)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.1", ""))
		after(1)
		s.HandleFlow(record(2, "fd00::1", ""))
		after(0.9)
		if !s.Idle() || len(out.numbers) != 0 {
			t.Errorf("before the deadline: %v", out.numbers)
		}
		after(0.2)
		if !s.Idle() || !slices.Equal(out.numbers, []uint32{1}) || out.names[0] != "none, none" {
			t.Errorf("at the first deadline: %v %v", out.numbers, out.names)
		}
		after(1)
		s.HandleFlow(record(3, "192.0.2.1", "")) // no Idle under load: the next record does it
		if !slices.Equal(out.numbers, []uint32{1, 2, 3}) || s.Idle() {
			t.Errorf("at the second deadline: %v", out.numbers)
		}
		s.HandleFlow(record(4, "10.0.0.1", ""))
		s.HandleFlow(record(5, "10.0.0.2", ""))
		s.Drain()
		if !slices.Equal(out.numbers, []uint32{1, 2, 3, 4, 5}) || e.metrics.heldForPod.Load() != 0 || e.room.Load() != e.cfg.HoldBytes {
			t.Errorf("drained: %v", out.numbers)
		}
	})
}

// Under load Idle is not called: records that come find out by themselves.
func TestWaitUnderLoad(t *testing.T) {
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		e.store.update(podSpec{name: "a", ips: "10.0.0.1"}.object(t))
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.2", ""))
		s.HandleFlow(record(2, "10.0.0.1", ""))
		after(0.1)
		e.store.update(podSpec{name: "b", ips: "10.0.0.2"}.object(t))
		s.HandleFlow(record(3, "10.0.0.1", ""))
		if want := []uint32{2, 1, 3}; !slices.Equal(out.numbers, want) || out.names[1] != "b live, none" {
			t.Errorf("%v %q", out.numbers, out.names)
		}
	})
}

// Someone who had the address shortly before is named only when nobody else is
// announced in time.
func TestWaitAfterAnother(t *testing.T) {
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		a := podSpec{name: "a", ips: "10.0.0.1,10.0.0.2"}
		e.store.update(a.object(t))
		after(10)
		e.store.remove(a.object(t))
		after(1)
		out := &sink{}
		s := e.NewStage(out)
		early := record(0, "10.0.0.1", "")
		early.Extra.HasEnd, early.Msg.TimeFlowEndNs = true, early.Msg.TimeReceivedNs-5e9
		s.HandleFlow(early)
		s.HandleFlow(record(1, "10.0.0.1", ""))
		s.HandleFlow(record(2, "10.0.0.2", ""))
		after(0.5)
		e.store.update(podSpec{name: "b", ips: "10.0.0.1"}.object(t))
		s.Idle()
		after(2)
		s.Idle()
		if want := []string{"a retained, none", "b live, none", "a retained, none"}; !slices.Equal(out.names, want) {
			t.Errorf("%q", out.names)
		}
	})
}

// An address that changes hands may have passed on unseen: what just happened
// waits, although its owner is known.
func TestWaitForTheNextOne(t *testing.T) {
	pod := func(name, ip, deleted string) podSpec { return podSpec{name: name, ips: ip, deleted: deleted} }
	ended := func(number uint32, ip string, ago time.Duration) *flow.Record {
		r := record(number, ip, "")
		r.Extra.HasEnd, r.Msg.TimeFlowEndNs = true, r.Msg.TimeReceivedNs-uint64(ago)
		return r
	}
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		st := e.store
		st.update(pod("first", "10.0.0.1", "").object(t))
		after(10)
		st.remove(pod("first", "10.0.0.1", "").object(t))
		after(10)
		st.update(pod("a", "10.0.0.1", "").object(t))
		st.update(pod("leaves", "10.0.0.2", "").object(t))
		st.update(pod("stays", "10.0.0.3", "").object(t))
		after(60)
		st.update(pod("leaves", "10.0.0.2", rfc(120)).object(t))
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(ended(1, "10.0.0.1", 0))
		s.HandleFlow(ended(2, "10.0.0.2", 0))
		s.HandleFlow(ended(3, "10.0.0.3", 0))           // never passed on
		s.HandleFlow(ended(4, "10.0.0.1", time.Minute)) // long ago
		if want := []uint32{3, 4}; !slices.Equal(out.numbers, want) {
			t.Errorf("%v left at once, want %v", out.numbers, want)
		}
		after(1)
		gone := pod("a", "10.0.0.1", rfc(79)) // two seconds before the flow, as is known now
		st.remove(gone.object(t))
		next := pod("b", "10.0.0.1", "")
		next.ready = rfc(79)
		st.update(next.object(t))
		s.Idle()
		after(1.1)
		if s.Idle() {
			t.Error("held for longer than allowed")
		}
		if want := []string{"stays live, none", "a live, none", "b live, none", "leaves live, none"}; !slices.Equal(out.names, want) {
			t.Errorf("%q, want %q", out.names, want)
		}
	})
}

// While the watch is interrupted, what happens meanwhile waits for it.
func TestWaitForTheWatch(t *testing.T) {
	a, b := podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}, podSpec{name: "b", ips: "10.0.0.1", ready: rfc(22)}
	inBubble(t, func(api *api) {
		api.put(t, podSpec{name: "was", ips: "10.0.0.1", ready: rfc(-200)}.yaml())
		api.put(t, a.yaml())
	}, func(t *testing.T, r *run) {
		r.api.remove(t, podSpec{name: "was"}.yaml())
		after(10)
		knownUntil := r.store.index.watch.KnownUntil
		if knownUntil() != never {
			t.Error("not up to date")
		}
		r.api.put(t, podSpec{name: "news", ips: "10.0.0.9"}.yaml())
		after(0)
		r.api.interrupt(true)
		after(10)
		if n := knownUntil(); n < at(7) || n > at(10) {
			t.Errorf("away, and known until %v", time.Unix(0, n))
		}
		r.api.remove(t, a.yaml())
		r.api.put(t, b.yaml())
		r.api.interrupt(false)
		after(3) // a tenth of the time it was away
		if knownUntil() != never || r.show("10.0.0.1", 23, 23) != "b live" {
			t.Errorf("back, and known until %v; %s", time.Unix(0, knownUntil()), r.show("10.0.0.1", 23, 23))
		}
	})
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		e.store.update(a.object(t))
		e.store.update(podSpec{name: "leaves", ips: "10.0.0.2", deleted: rfc(100)}.object(t))
		after(30)
		e.store.onBookmark(kindPod)
		e.store.markUnreachable(kindPod, errors.New("away"))
		after(30)
		out := &sink{}
		s := e.NewStage(out)
		for i, c := range []struct {
			ip  string
			ago uint64
		}{{"10.0.0.1", 20e9}, {"10.0.0.2", 20e9}, {"10.0.0.2", 60e9}} {
			r := record(uint32(i), c.ip, "")
			r.Extra.HasEnd, r.Msg.TimeFlowEndNs = true, r.Msg.TimeReceivedNs-c.ago
			s.HandleFlow(r)
		}
		if want := []uint32{0, 2}; !slices.Equal(out.numbers, want) {
			t.Errorf("%v left at once, want %v", out.numbers, want)
		}
		s.Drain()
	})
}

func TestWaitIsBounded(t *testing.T) {
	size := sizeOf(record(0, "10.0.0.1", ""))
	waiting(t, Config{Wait: 2e9, HoldBytes: 3*size + size/2}, func(t *testing.T, e *Enricher) {
		a, b := &sink{}, &sink{}
		sa, sb := e.NewStage(a), e.NewStage(b)
		for i := range uint32(5) {
			sa.HandleFlow(record(i, "10.0.0.1", ""))
		}
		sb.HandleFlow(record(9, "10.0.0.1", ""))
		if !slices.Equal(a.numbers, []uint32{0, 1}) || !slices.Equal(b.numbers, []uint32{9}) || e.metrics.heldForPod.Load() != 3 {
			t.Errorf("%v, %v, %d held", a.numbers, b.numbers, e.metrics.heldForPod.Load())
		}
		if n := sb.counters.n[flow.StatusNone].Load(); n != 1 {
			t.Errorf("%d look-ups were counted for one", n)
		}
		sa.Drain()
	})
}

// What waited for the first sync waits for its pod only for what is left.
func TestWaitAfterSync(t *testing.T) {
	held(t, Config{SyncTimeout: 60e9, Wait: 2e9}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.1", ""))
		after(3)
		s.HandleFlow(record(2, "10.0.0.1", ""))
		s.HandleFlow(record(3, "192.0.2.1", ""))
		e.store.replace(kindNode, []*object{rangedNode("n1", "10.0.0.0/16")})
		e.store.replace(kindPod, nil)
		if !s.Idle() || !slices.Equal(out.numbers, []uint32{1, 3}) || e.metrics.heldForPod.Load() != 1 || e.metrics.heldForSync.Load() != 0 {
			t.Errorf("synced: %v", out.numbers)
		}
		after(1)
		e.store.update(podSpec{name: "a", ips: "10.0.0.1"}.object(t))
		if s.Idle() || !slices.Equal(out.numbers, []uint32{1, 3, 2}) || out.names[2] != "a live, none" {
			t.Errorf("announced: %v %q", out.numbers, out.names)
		}
	})
}

func TestNobodyWaits(t *testing.T) {
	for name, cfg := range map[string]Config{"off": {}, "capture": {Unheld: true, Wait: 2e9}} {
		waiting(t, cfg, func(t *testing.T, e *Enricher) {
			out := &sink{}
			s := e.NewStage(out)
			s.HandleFlow(record(1, "10.0.0.1", ""))
			if len(out.numbers) != 1 || s.Idle() {
				t.Errorf("%s: held", name)
			}
		})
	}
	e, _, _ := newTest(t, Config{Wait: 2e9}, noSource{keep: true})
	if e.cfg.Wait != 0 {
		t.Error("records wait for a snapshot")
	}
}

// For an address that is nobody's, nobody waits twice, until a pod has it.
func TestWaitInVain(t *testing.T) {
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		out := &sink{}
		s := e.NewStage(out)
		s.HandleFlow(record(1, "10.0.0.1", "192.0.2.9"))
		after(1)
		s.HandleFlow(record(2, "10.0.0.1", "192.0.2.9")) // it is not in vain yet
		after(1)
		s.Idle()
		for i := range uint32(20) { // of an hour
			s.HandleFlow(record(10+i, "10.0.0.1", "10.0.0.1"))
			after(180)
		}
		if s.Idle() || len(out.numbers) != 22 || out.numbers[1] != 2 && out.numbers[1] != 10 {
			t.Errorf("in vain: %v", out.numbers)
		}
		a := podSpec{name: "a", ips: "10.0.0.1"}
		e.store.update(a.object(t))
		e.store.remove(a.object(t))
		after(10)
		out.numbers = nil
		s.HandleFlow(record(4, "10.0.0.1", "")) // the next pod may have it by now
		if !s.Idle() || len(out.numbers) != 0 {
			t.Error("a record did not wait after a pod")
		}
		after(2)
		s.Idle()
		after(700) // nobody asked for it
		s.HandleFlow(record(5, "10.0.0.2", ""))
		if len(out.numbers) != 1 || !s.Idle() {
			t.Errorf("another address: %v", out.numbers)
		}
		s.Drain()
		if race.Enabled {
			return
		}
		s = e.NewStage(discard{})
		r := record(6, "10.0.0.3", "192.0.2.9")
		s.HandleFlow(r)
		after(2)
		s.Idle()
		if n := testing.AllocsPerRun(1000, func() { s.HandleFlow(r) }); s.Idle() || n != 0 {
			t.Errorf("%v allocations per record of an address that is nobody's", n)
		}
	})
}

// The memory of what was waited for is bounded, and forgets.
func TestVainTable(t *testing.T) {
	var v vainTable
	a, b := addr("10.0.0.1"), addr("10.0.0.2")
	if v.has(a, nil, 7, 0) {
		t.Error("an empty table has an address")
	}
	v.add(a, nil, 7, at(0))
	for i, c := range []struct {
		addr  netip.Addr
		entry *entry
		at    float64
		want  bool
	}{{a, nil, 599, true}, {a, nil, 1198, true}, {b, nil, 1198, false}, {a, &entry{}, 1198, false}, {a, nil, 1798, false}} {
		if got := v.has(c.addr, c.entry, 7, at(c.at)); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
	v.add(a, nil, 7, at(0))
	v.add(b, nil, 7+vainSlots, at(0))
	if v.has(a, nil, 7, at(1)) || !v.has(b, nil, 7, at(1)) || len(v) != vainSlots {
		t.Error("the later one does not stay")
	}
}

func TestWaitAllocatesNothingForOthers(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		e.store.update(podSpec{name: "a", ips: "10.0.0.1"}.object(t))
		s := e.NewStage(discard{})
		s.HandleFlow(record(1, "10.0.0.2", "")) // one that waits
		r := record(2, "10.0.0.1", "192.0.2.1")
		if n := testing.AllocsPerRun(1000, func() { s.HandleFlow(r) }); n != 0 {
			t.Errorf("%v allocations per record", n)
		}
		s.Drain()
	})
}
