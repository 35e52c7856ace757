package recent

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// one is a record of a test: the numbers of its worker are from 0 on.
type one struct {
	time   uint64
	worker int
	number uint64
}

func byTime(a, b one) int { return cmp.Compare(a.time, b.time) }

func (o one) record() *flow.Record {
	r := numbered(o.time, nil, nil)
	r.Msg.SequenceNum, r.Msg.SrcPort = uint32(o.number), uint32(o.worker)
	return r
}

func oneOf(r *flow.Record) one {
	return one{r.Msg.TimeReceivedNs, int(r.Msg.SrcPort), uint64(r.Msg.SequenceNum)}
}

// filler fills a store with records whose times are not in the order in which they come.
type filler struct {
	s      *Store
	stages []*Stage
	sent   [][]one // by worker
}

func newFiller(t *testing.T, room int64, workers int) *filler {
	f := &filler{s: newStore(t, room), sent: make([][]one, workers)}
	for w := range workers {
		f.stages = append(f.stages, f.s.Stage(w, end{}))
	}
	return f
}

func (f *filler) add(worker int, time uint64) {
	o := one{time, worker, uint64(len(f.sent[worker]))}
	f.sent[worker] = append(f.sent[worker], o)
	f.stages[worker].HandleFlow(o.record())
}

// kept returns the records that have not left, in the order of q: sorted, and nothing else.
func (f *filler) kept(q Query) (list []one) {
	in := make([][]one, len(f.sent))
	for _, l := range f.s.glances() {
		in[l.worker] = append(in[l.worker], f.sent[l.worker][l.first:l.first+uint64(l.count)]...)
	}
	list = slices.Concat(in...)
	slices.SortStableFunc(list, byTime)
	list = slices.DeleteFunc(list, func(o one) bool {
		at := time.Unix(0, int64(o.time))
		return at.Before(q.Since) || !q.Until.IsZero() && at.After(q.Until) || q.Match != nil && !q.Match(o.record())
	})
	if q.Newest {
		slices.Reverse(list)
	}
	return list
}

// check holds what is read to a plain sort. Records of several workers that have the same time are
// in any order, but the opposite one the other way.
func (f *filler) check(t *testing.T, q Query, each func(*flow.Record)) {
	t.Helper()
	read := func() (list []one) {
		if err := f.s.Each(context.Background(), q, func(r *flow.Record) bool {
			list = append(list, oneOf(r))
			if each != nil {
				each(r)
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	q.Newest = true
	backward := read()
	q.Newest = false
	got, want := read(), f.kept(q)
	slices.Reverse(backward)
	if !slices.Equal(got, backward) {
		t.Errorf("%d records forward, %d backward, or not in the opposite order", len(got), len(backward))
	}
	if !slices.IsSortedFunc(got, byTime) {
		t.Errorf("%d records are not in order", len(got))
	}
	slices.SortStableFunc(got, func(a, b one) int { return cmp.Or(byTime(a, b), cmp.Compare(a.worker, b.worker)) })
	if !slices.Equal(got, want) {
		t.Errorf("%d records, want %d, or they differ", len(got), len(want))
	}
}

// lateKinds are ways in which records come late. Each returns the time of the i-th of n.
var lateKinds = map[string]func(rnd *rand.Rand, i, n uint64) uint64{
	"none":     func(_ *rand.Rand, i, _ uint64) uint64 { return i },
	"the same": func(_ *rand.Rand, _, n uint64) uint64 { return n },
	"waited": func(rnd *rand.Rand, i, _ uint64) uint64 { // for a pod, some of them
		if rnd.IntN(20) == 0 {
			return i - min(i, 500)
		}
		return i
	},
	"held": func(_ *rand.Rand, i, n uint64) uint64 { // for a template, all at once
		if n/2 < i && i < n/2+n/10 {
			return i - n/3
		}
		return i
	},
	"wrong order": func(_ *rand.Rand, i, n uint64) uint64 { return (i + n/2) % n },
	"backward":    func(_ *rand.Rand, i, n uint64) uint64 { return n - i },
	"any":         func(rnd *rand.Rand, _, n uint64) uint64 { return rnd.Uint64N(n) },
	"few times":   func(rnd *rand.Rand, i, n uint64) uint64 { return (i + rnd.Uint64N(n/10)) * 7 / n },
	"a wrong one": func(_ *rand.Rand, i, _ uint64) uint64 {
		if i == 3 {
			return 1 << 62
		}
		return i
	},
}

// TestLate: records come in the order of their times, either way, however late some of them are,
// also if many are, and if the oldest segments leave.
func TestLate(t *testing.T) {
	for name, timeOf := range lateKinds {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprint(name, workers), func(t *testing.T) {
				const n = 5 * lateKnown // a small store keeps less
				for _, room := range []int64{MinRoom, 16 * MinRoom} {
					rnd := rand.New(rand.NewPCG(1, 2))
					f := newFiller(t, room, workers)
					for i := range uint64(n) {
						f.add(rnd.IntN(workers), 1000+timeOf(rnd, i, n))
					}
					f.check(t, Query{}, nil)
					f.check(t, Query{Since: time.Unix(0, n/3), Until: time.Unix(0, n/2)}, nil)
					f.check(t, Query{Since: time.Unix(0, n/3), Match: func(r *flow.Record) bool { return r.Msg.SequenceNum%3 == 0 }}, nil)
				}
			})
		}
	}
}

// TestLateAndRelease: readers that wait read on where they were, also among late records.
func TestLateAndRelease(t *testing.T) {
	const n = 5 * lateKnown
	rnd := rand.New(rand.NewPCG(1, 2))
	f := newFiller(t, 16*MinRoom, 3)
	for i := range uint64(n) {
		f.add(rnd.IntN(3), 1+lateKinds["any"](rnd, i, n))
	}
	f.s.pages.Add(pagesKept) // of others
	var release func()
	looked := 0
	f.check(t, Query{Waits: func(r func()) { release = r }}, func(*flow.Record) {
		if looked++; looked%997 == 0 {
			release()
		}
	})
	if n := f.s.pages.Load(); n != pagesKept {
		t.Errorf("%d pages are in use", n-pagesKept)
	}
}

// TestLateLeave: late records that leave before their turn are left out. What is read is whole, and
// in order.
func TestLateLeave(t *testing.T) {
	const n = 20_000
	for _, newest := range []bool{false, true} {
		rnd := rand.New(rand.NewPCG(1, 2))
		f := newFiller(t, 4*MinRoom, 2)
		for i := range uint64(n) {
			f.add(rnd.IntN(2), 1+lateKinds["any"](rnd, i, n))
		}
		seen := make(map[one]bool)
		var last one
		if err := f.s.Each(context.Background(), Query{Newest: newest}, func(r *flow.Record) bool {
			o := oneOf(r)
			if o != f.sent[o.worker][o.number] || seen[o] {
				t.Fatalf("%+v is not what was sent, or comes again", o)
			}
			if c := byTime(last, o); len(seen) > 0 && (c > 0 && !newest || c < 0 && newest) {
				t.Fatalf("%+v comes after %+v", o, last)
			}
			seen[o], last = true, o
			if len(seen) < n/2 {
				for range 3 {
					f.add(rnd.IntN(2), n+uint64(len(seen)))
				}
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if len(seen) < 100 || len(seen) == n {
			t.Errorf("%d records of %d, of which some have left", len(seen), n)
		}
	}
}

// TestFollowLate: who follows since a time gets what there is in the order of the times, and then
// what comes in the order in which it comes.
func TestFollowLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFiller(t, 2*MinRoom, 1)
		for _, at := range []uint64{5, 9, 2, 7, 3, 9, 8} {
			f.add(0, at)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var got []uint64
		go func() {
			_ = f.s.Follow(ctx, Query{Since: time.Unix(0, 3)}, func(r *flow.Record, _ uint64) error {
				if r != nil {
					got = append(got, r.Msg.TimeReceivedNs)
				}
				return nil
			})
		}()
		synctest.Wait()
		for _, at := range []uint64{12, 4, 1, 11, 6} {
			f.add(0, at)
		}
		time.Sleep(followEvery)
		synctest.Wait()
		if want := []uint64{3, 5, 7, 8, 9, 9, 12, 4, 1, 11, 6}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		cancel()
		synctest.Wait()
	})
}
