package recent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// numbered returns a record that was received at a time, and says so.
func numbered(at uint64, src, dst *flow.Object) *flow.Record {
	r := new(flow.Record)
	r.Msg.TimeReceivedNs, r.Msg.SequenceNum = at, uint32(at)
	r.Msg.SrcAddr, r.Msg.DstAddr = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	r.Msg.Bytes, r.Msg.Packets = 100, 2
	r.Ends[0].Object, r.Ends[1].Object = src, dst
	return r
}

func object(namespace, workload string) *flow.Object {
	return flow.NewObject(flow.Object{Kind: "Pod", Namespace: namespace, Name: workload + "-1", Workload: workload, WorkloadKind: "Deployment"})
}

// times returns when the records that match were received.
func times(t *testing.T, s *Store, q Query) (list []uint64) {
	t.Helper()
	err := s.Each(context.Background(), q, func(r *flow.Record) bool {
		list = append(list, r.Msg.TimeReceivedNs)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestEach: records of several workers come by their times, either way, within an interval.
func TestEach(t *testing.T) {
	s := newStore(t, 8<<20)
	stages := []*Stage{s.Stage(0, end{}), s.Stage(1, end{}), s.Stage(2, end{})}
	rnd := rand.New(rand.NewPCG(1, 2))
	const n = 5000
	var want []uint64
	for i := range uint64(n) {
		stages[rnd.IntN(3)].HandleFlow(numbered(i+1, nil, nil))
		want = append(want, i+1)
	}
	if got := times(t, s, Query{}); !slices.Equal(got, want) {
		t.Errorf("oldest first: %d records, want %d in their order", len(got), n)
	}
	slices.Reverse(want)
	if got := times(t, s, Query{Newest: true}); !slices.Equal(got, want) {
		t.Errorf("newest first: %d records, want %d in their order", len(got), n)
	}
	q := Query{Since: time.Unix(0, 1000), Until: time.Unix(0, 1099), Match: func(r *flow.Record) bool { return r.Msg.SequenceNum%2 == 0 }}
	if got := times(t, s, q); len(got) != 50 || got[0] != 1000 || got[49] != 1098 {
		t.Errorf("an interval has %v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Each(ctx, Query{}, func(*flow.Record) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// TestShortRecord: a record that ends before its counters could is counted.
func TestShortRecord(t *testing.T) {
	s := newStore(t, 8<<20)
	r := new(flow.Record)
	r.Msg.SrcAddr, r.Msg.Bytes, r.Msg.Packets = []byte{1}, 7, 1<<32|3
	s.Stage(0, end{}).HandleFlow(r)
	answer, err := s.Pairs(context.Background(), Query{}, 1)
	if err != nil || len(answer.Pairs) != 1 {
		t.Fatal(answer, err)
	}
	if got := answer.Pairs[0].Counts; got != (Counts{Bytes: 7, Packets: 1<<32 | 3, Flows: 1}) {
		t.Error(got)
	}
}

// TestOldestLeave: a ring that is full has the newest records without a gap, and what has
// left is in the sums.
func TestOldestLeave(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	const n = 100_000
	o := object("a", "x")
	for i := range uint64(n) {
		st.HandleFlow(numbered(i+1, o, nil))
		if i%1000 == 0 {
			s.sums.mu.Lock()
			s.fold()
			s.sums.mu.Unlock()
		}
	}
	got := times(t, s, Query{})
	if len(got) < 5000 || len(got) == n || got[len(got)-1] != n || got[0] != uint64(n-len(got)+1) {
		t.Errorf("%d records from %d on", len(got), got[0])
	}
	a := s.About()
	if a.Records != n || a.Bytes != 100*n || a.InMemory != uint64(len(got)) {
		t.Errorf("%d records, %d bytes, %d in memory", a.Records, a.Bytes, a.InMemory)
	}
	p, err := s.Pairs(context.Background(), Query{}, 10)
	if err != nil || len(p.Pairs) != 1 || p.Pairs[0].Flows != n || p.Pairs[0].Src.Name != "x" || p.Pairs[0].Dst.Name != Outside {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestNothingIsMissed: what leaves before it was added to the sums is among the others.
func TestNothingIsMissed(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	const n = 50_000
	for i := range uint64(n) {
		st.HandleFlow(numbered(i+1, object("a", "x"), nil))
	}
	p, err := s.Pairs(context.Background(), Query{}, 10)
	if err != nil || p.Other.Flows == 0 || p.Pairs[0].Flows == 0 || p.Other.Flows+p.Pairs[0].Flows != n || p.Other.Bytes+p.Pairs[0].Bytes != 100*n {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestLost: records that the ring has no room for are counted, and are in the sums.
func TestLost(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	long := numbered(1, object("a", "x"), nil)
	long.Extra.ApplicationName = make([]byte, segmentBytes)
	st.HandleFlow(numbered(1, object("a", "x"), nil))
	st.HandleFlow(long)
	if n := testutil.ToFloat64(s.tooLong); n != 1 {
		t.Errorf("%v records are too long, want 1", n)
	}
	// Readers hold all segments but the worker's.
	for range 100_000 {
		st.HandleFlow(numbered(2, nil, nil))
	}
	for i := range s.slots {
		s.slots[i].Load().pin()
	}
	for testutil.ToFloat64(s.noRoom) < 10 {
		st.HandleFlow(numbered(3, nil, nil))
	}
	records := testutil.ToFloat64(s.tooLong) + testutil.ToFloat64(s.noRoom)
	for _, l := range s.glances() {
		records += float64(l.count)
	}
	for i := range s.slots {
		s.slots[i].Load().unpin()
	}
	seen := 0.0
	for _, n := range s.Size().Seen {
		seen = float64(n)
	}
	if a := s.About(); records < 1000 || float64(a.Records) != seen+11 || a.Bytes != 100*a.Records {
		t.Errorf("%+v, of which the ring has seen %v", a, seen)
	}
}

// TestLostFirst: a record that is lost before a segment was added to the sums is in those of its
// time, and not of 1970.
func TestLostFirst(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	const at = uint64(1_700_000_000_000_000_000)
	long := numbered(at, object("a", "x"), nil)
	long.Extra.ApplicationName = make([]byte, segmentBytes)
	st.HandleFlow(long)
	st.HandleFlow(numbered(at+1e9, object("a", "x"), nil))
	s.sums.mu.Lock()
	defer s.sums.mu.Unlock()
	s.fold()
	if b := s.sums.buckets; len(b) != 1 || b[0].start != at-at%2e9 || b[0].other.Flows != 1 {
		t.Errorf("%d intervals, the first at %d", len(b), b[0].start)
	}
}

// TestRoom: records, sums and objects that the cluster has lost take no more than the
// room, however many pods there are.
func TestRoom(t *testing.T) {
	const room = 8 << 20
	before := live()
	s := newStore(t, room)
	st := s.Stage(0, end{})
	for i := range uint64(100_000) {
		o := object("namespace", fmt.Sprint("workload-", i/100))
		st.HandleFlow(numbered(i*1e6, o, o))
		if i%1000 == 0 {
			s.sums.mu.Lock()
			s.fold()
			s.sums.mu.Unlock()
		}
	}
	checkRoom(t, s, room, before)
	if n := unsafe.Sizeof(segment{}); n%8192 != 0 && n%8192 < 8192-1024 {
		t.Errorf("a segment of %d bytes wastes a part of its last page", n)
	}
}

// checkRoom holds a store to its room, by the heap, and to some records in it.
func checkRoom(t *testing.T, s *Store, room, before int64) {
	t.Helper()
	took := live() - before
	// Handles that nobody has any more are taken away by a goroutine of the runtime, which may
	// come late on a busy machine. What the store keeps stays, however often this looks.
	for range 20 {
		if took <= room*102/100 {
			break
		}
		took = min(took, live()-before)
	}
	t.Logf("%d bytes of %d", took, room)
	if took > room*102/100 {
		t.Errorf("%d bytes are taken, want %d at most", took, room)
	}
	if n := len(times(t, s, Query{})); n < 1000 {
		t.Errorf("%d records are in memory", n)
	}
}

// TestRoomOfTheGone: pods that have lived long, each a workload of its own, take no more than
// the room either, once only records and sums know of them.
func TestRoomOfTheGone(t *testing.T) {
	const room, pods = 8 << 20, 4000
	before := live()
	s := newStore(t, room)
	st := s.Stage(0, end{})
	at := uint64(0)
	for generation := range 10 {
		var objects []*flow.Object
		for i := range pods {
			name := fmt.Sprintf("some-pod-without-an-owner-%d-%d", generation, i)
			objects = append(objects, flow.NewObject(flow.Object{
				Kind: "Pod", Namespace: "namespace", Name: name, UID: name, Workload: name, WorkloadKind: "Pod",
			}))
		}
		for i := range 100_000 { // several times what there is room for
			at += 1e5
			st.HandleFlow(numbered(at, objects[i%pods], objects[i*7%pods]))
			if i%1000 == 0 {
				s.sums.mu.Lock()
				s.fold()
				s.sums.mu.Unlock()
			}
		}
	}
	checkRoom(t, s, room, before)
}

// live returns how many bytes of the heap are in use.
func live() int64 {
	var m runtime.MemStats
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	s := newStore(t, MinRoom)
	st, tr := s.Stage(0, end{}), newTraffic()
	for s.gone.Load() == 0 {
		st.HandleFlow(tr.next())
	}
	if n := testing.AllocsPerRun(20_000, func() { st.HandleFlow(tr.next()) }); n > 0 {
		t.Errorf("%v allocations a record", n)
	}
}

// TestSeveralAtOnce: workers, readers and those who follow do not disturb each other. Each
// record that is read is whole.
func TestSeveralAtOnce(t *testing.T) {
	s := newStore(t, 2*MinRoom) // of the least, three workers and nine readers have all segments at times
	ctx, cancel := context.WithCancel(context.Background())
	var readers, workers sync.WaitGroup
	whole := func(r *flow.Record) bool {
		if r.Msg.SequenceNum != uint32(r.Msg.TimeReceivedNs) || r.Msg.Bytes != 100 || r.Ends[0].Object.Name != "x-1" {
			t.Errorf("a record is %v", r)
			return false
		}
		return true
	}
	readers.Go(func() { _ = s.Run(ctx) })
	for i := range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				_ = s.Each(ctx, Query{Newest: i%2 == 0}, whole)
				for _, q := range []Query{{}, {Match: whole}} {
					if _, err := s.Pairs(ctx, q, 10); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
				}
			}
		})
		readers.Go(func() {
			_ = s.Follow(ctx, Query{}, func(r *flow.Record, _ uint64) error {
				if r != nil {
					whole(r)
				}
				return nil
			})
		})
	}
	o := object("a", "x")
	var clock atomic.Uint64
	for w := range 3 {
		workers.Go(func() {
			st := s.Stage(w, end{})
			for range 60_000 {
				st.HandleFlow(numbered(clock.Add(1), o, nil))
			}
		})
	}
	workers.Wait()
	cancel()
	readers.Wait()
	lost := testutil.ToFloat64(s.noRoom) + testutil.ToFloat64(s.tooLong)
	if a := s.About(); a.Records != 180_000 || a.Bytes != 100*180_000 || lost > 0 {
		t.Errorf("%d records, %d bytes; %v were lost", a.Records, a.Bytes, lost)
	}
}

// TestNoPins: answers keep no segment from being written anew, even if a filter panics.
func TestNoPins(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	for i := range uint64(5000) {
		st.HandleFlow(numbered(i+1, object("a", "x"), nil))
	}
	ask := func(match func(*flow.Record) bool) {
		defer func() { _ = recover() }()
		_, _ = s.Pairs(context.Background(), Query{Match: match}, 10)
	}
	ask(nil)
	ask(func(*flow.Record) bool { return true })
	ask(func(*flow.Record) bool { panic("a filter") })
	s.About()
	for i := range s.slots {
		want := int64(0)
		g := s.slots[i].Load()
		if g == nil {
			continue
		}
		if g == st.open {
			want = 1
		}
		if n := g.pins.Load(); n != want {
			t.Errorf("segment %d has %d pins, want %d", i, n, want)
		}
	}
}

// TestFollow: who follows gets each record once and in order, or is told how many it did
// not get.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, MinRoom)
		st := s.Stage(0, end{})
		at := uint64(0)
		send := func(n int) {
			for range n {
				at++
				st.HandleFlow(numbered(at, nil, nil))
			}
		}
		send(10) // before anybody follows
		ctx, cancel := context.WithCancel(t.Context())
		var got, skipped uint64
		last := uint64(10)
		done := make(chan error)
		go func() {
			done <- s.Follow(ctx, Query{}, func(r *flow.Record, n uint64) error {
				skipped += n
				if r != nil {
					if r.Msg.TimeReceivedNs <= last {
						t.Errorf("%d comes after %d", r.Msg.TimeReceivedNs, last)
					}
					last = r.Msg.TimeReceivedNs
					got++
				}
				return nil
			})
		}()
		synctest.Wait()
		send(100)
		time.Sleep(time.Second)
		synctest.Wait()
		if got != 100 || skipped != 0 {
			t.Errorf("%d records, %d skipped; want 100 and 0", got, skipped)
		}
		send(100_000) // more than there is room for
		time.Sleep(time.Second)
		synctest.Wait()
		if got+skipped != 100_100 || skipped == 0 || last != at {
			t.Errorf("%d records, %d skipped up to %d; want %d in all", got, skipped, last, 100_100)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestFollowBound: no more records are handed on in a second than were asked for. The rest
// is skipped.
func TestFollowBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, MinRoom)
		st := s.Stage(0, end{})
		ctx, cancel := context.WithCancel(t.Context())
		var got, skipped, sent uint64
		go func() {
			_ = s.Follow(ctx, Query{PerSecond: 50, Match: func(*flow.Record) bool { return true }}, func(r *flow.Record, n uint64) error {
				skipped += n
				if r != nil {
					got++
				}
				return nil
			})
		}()
		synctest.Wait()
		for range 100 {
			for range 200 {
				sent++
				st.HandleFlow(numbered(sent, nil, nil))
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got < 400 || got > 550 || got+skipped != sent {
			t.Errorf("%d records and %d skipped of %d in 10 s", got, skipped, sent)
		}
		// One that is too slow hears of it.
		cancel()
		synctest.Wait()
	})
}

// TestFollowOldest: of more records than were asked for, the first ones by time are handed on,
// whichever worker has them, and the end of the batch is told.
func TestFollowOldest(t *testing.T) {
	const perSecond, workers = 4000, 3
	for _, match := range []func(*flow.Record) bool{nil, func(*flow.Record) bool { return true }} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t, 8*MinRoom)
			var stages []*Stage
			for w := range workers {
				stages = append(stages, s.Stage(w, end{}))
			}
			ctx, cancel := context.WithCancel(t.Context())
			var got []uint64
			skipped, batches := uint64(0), 0
			go func() {
				_ = s.Follow(ctx, Query{PerSecond: perSecond, Match: match}, func(r *flow.Record, n uint64) error {
					skipped += n
					if r == nil {
						batches++
					} else {
						got = append(got, r.Msg.TimeReceivedNs)
					}
					return nil
				})
			}()
			synctest.Wait()
			const sent = 30_000 // some segments of each worker
			for i := range sent {
				stages[i%7%workers].HandleFlow(numbered(uint64(1+i), nil, nil))
			}
			time.Sleep(followEvery)
			synctest.Wait()
			if len(got) != perSecond || got[0] != 1 || got[perSecond-1] != perSecond || !slices.IsSorted(got) {
				t.Errorf("%d records", len(got))
			}
			if skipped != sent-perSecond || batches != 1 {
				t.Errorf("%d skipped in %d batches", skipped, batches)
			}
			// With no record, there is no batch.
			time.Sleep(time.Second)
			synctest.Wait()
			stages[0].HandleFlow(numbered(sent+1, nil, nil))
			time.Sleep(followEvery)
			synctest.Wait()
			if n := len(got); n != perSecond+1 || got[n-1] != sent+1 || batches != 2 || skipped != sent-perSecond {
				t.Errorf("%d records and %d skipped in %d batches", n, skipped, batches)
			}
			cancel()
			synctest.Wait()
		})
	}
}

// TestFollowForHours: who follows for hours takes no memory for it.
func TestFollowForHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, MinRoom)
		st := s.Stage(0, end{})
		ctx, cancel := context.WithCancel(t.Context())
		got := 0
		go func() {
			_ = s.Follow(ctx, Query{PerSecond: 10}, func(r *flow.Record, _ uint64) error {
				if r != nil {
					got++
				}
				return nil
			})
		}()
		go func() { _ = s.Run(ctx) }()
		at := uint64(time.Now().UnixNano())
		hour := func() {
			for range 3600 {
				for range 20 {
					at += 5e7
					st.HandleFlow(numbered(at, nil, nil))
				}
				time.Sleep(time.Second)
			}
		}
		hour()
		before := live()
		hour()
		if grown := live() - before; grown > 256<<10 {
			t.Errorf("%d bytes more after another hour", grown)
		}
		synctest.Wait()
		if got < 50_000 { // of 72,000: some seconds of records come nine ticks after those before
			t.Errorf("%d records", got)
		}
		cancel()
		synctest.Wait()
	})
}

// TestSums: sums tell the same as records, but for when exactly; they are bounded, and say
// what they have no room for.
func TestSums(t *testing.T) {
	s := newStore(t, 4*MinRoom) // its objects take most of one
	st := s.Stage(0, end{})
	var objects []*flow.Object
	for i := range 2000 {
		objects = append(objects, object(fmt.Sprint("ns-", i%7), fmt.Sprint("w-", i)))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var all Counts
	var sent []bool // whether a record counts
	for i := range uint64(200_000) {
		r := numbered(1e15+i*1e8, objects[rnd.IntN(len(objects))], objects[rnd.IntN(3)])
		switch rnd.IntN(10) {
		case 0:
			r.Extra.Duplicate = true
		case 1:
			r.Msg.SamplingRate = 10
			all.add(Counts{1000, 20, 1})
		default:
			all.add(Counts{100, 2, 1})
		}
		st.HandleFlow(r)
		sent = append(sent, r.CountsOnce())
		if i%1000 == 0 {
			s.sums.mu.Lock()
			s.fold()
			s.sums.mu.Unlock()
		}
		if n := s.sums.size(); n > s.sums.room {
			t.Fatalf("sums take %d bytes with room for %d", n, s.sums.room)
		}
	}
	if a := s.About(); a.Counts != all {
		t.Errorf("%+v, want %+v", a.Counts, all)
	}
	p, err := s.Pairs(context.Background(), Query{}, 5)
	if err != nil {
		t.Fatal(err)
	}
	sum := p.Other.Counts
	for _, d := range p.Pairs {
		sum.add(d.Counts)
	}
	since := uint64(p.Start.UnixNano())
	want := uint64(0)
	for at, counted := range sent {
		if 1e15+uint64(at)*1e8 >= since {
			want += uint64(bit(counted))
		}
	}
	if len(p.Pairs) != 5 || p.Other.Pairs == 0 || sum.Flows != want || want < 1000 {
		t.Errorf("%d pairs, others %+v, %d flows since %d, want %d", len(p.Pairs), p.Other, sum.Flows, since, want)
	}
	line, err := s.Series(context.Background(), Query{}, ByNamespace, 50, 3)
	if err != nil {
		t.Fatal(err)
	}
	bytes := line.Other.total()
	for i := range line.Series {
		bytes += line.Series[i].total()
	}
	if bytes != sum.Bytes || len(line.Series) != 3 || len(line.Other.Bytes) > 50 {
		t.Errorf("%d series of %d buckets have %d bytes, pairs have %d", len(line.Series), len(line.Other.Bytes), bytes, sum.Bytes)
	}
	// Only records can be asked for by a filter.
	q := Query{Match: func(r *flow.Record) bool { return r.Ends[1].Object == objects[1] }}
	p, err = s.Pairs(context.Background(), q, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	flows := uint64(0)
	for _, d := range p.Pairs {
		if d.Dst.Name != "w-1" {
			t.Fatalf("%+v", d)
		}
		flows += d.Flows
	}
	want = 0
	_ = s.Each(context.Background(), q, func(r *flow.Record) bool {
		want += uint64(bit(r.CountsOnce()))
		return true
	})
	if flows != want || flows == 0 {
		t.Errorf("%d flows match, want %d", flows, want)
	}
}

// TestNobodyLooks: who looks first after hours sees what came since the beginning, though most
// records have left, and nothing was done for anybody who looks.
func TestNobodyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, 4*MinRoom)
		st := s.Stage(0, end{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = s.Run(ctx) }()
		var objects []*flow.Object
		for i := range 20 {
			objects = append(objects, object("a", fmt.Sprint("w-", i)))
		}
		begin := time.Now()
		sent := 0
		for range 3 * 3600 {
			for range 20 {
				st.HandleFlow(numbered(uint64(time.Now().UnixNano()), objects[sent%20], objects[sent%7]))
				sent++
			}
			time.Sleep(time.Second)
		}
		cancel()
		synctest.Wait()
		if n := s.Size().Records; n == 0 || n > uint64(sent)/2 {
			t.Errorf("%d of %d records are in memory, want less than half", n, sent)
		}
		p, err := s.Pairs(t.Context(), Query{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		flows := p.Other.Flows
		for _, d := range p.Pairs {
			flows += d.Flows
		}
		if flows != uint64(sent) || len(p.Pairs) != 140 || p.Other.Flows > 0 || p.Start.After(begin) {
			t.Errorf("%d flows of %d pairs since %v, others %+v; want %d of 140 since %v", flows, len(p.Pairs), p.Start, p.Other, sent, begin)
		}
	})
}

// TestSumsNeverWrap: what an exporter claims cannot make sums small.
func TestSumsNeverWrap(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	for i := range uint64(1 << 17) {
		r := numbered(i+1, nil, nil)
		r.Msg.Bytes, r.Msg.SamplingRate = math.MaxUint64, math.MaxUint64
		st.HandleFlow(r)
	}
	p, err := s.Pairs(context.Background(), Query{}, 5)
	if err != nil || p.Pairs[0].Bytes < 1<<62 && p.Other.Bytes < 1<<62 {
		t.Errorf("%+v, %v", p, err)
	}
}
