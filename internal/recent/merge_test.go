package recent

import (
	"context"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestRelease: readers that wait have no pages if there are many of them, and read on where they
// were.
func TestRelease(t *testing.T) {
	s := newStore(t, 4*MinRoom)
	var stages []*Stage
	for w := range 3 {
		stages = append(stages, s.Stage(w, end{}))
	}
	const sent = 10_000 // some segments of each worker
	for i := range sent {
		stages[i%7%3].HandleFlow(numbered(uint64(1+i), nil, nil))
	}
	s.pages.Add(pagesKept) // of others
	for _, newest := range []bool{false, true} {
		var release func()
		var got []uint64
		err := s.Each(context.Background(), Query{Newest: newest, Waits: func(r func()) { release = r }}, func(r *flow.Record) bool {
			got = append(got, r.Msg.TimeReceivedNs)
			if len(got)%97 == 0 {
				if release(); s.pages.Load() != pagesKept {
					t.Fatalf("%d pages while it waits", s.pages.Load()-pagesKept)
				}
			}
			return true
		})
		if newest {
			slices.Reverse(got)
		}
		if err != nil || len(got) != sent || got[0] != 1 || got[sent-1] != sent || !slices.IsSorted(got) {
			t.Errorf("%d records, %v", len(got), err)
		}
	}
	// What leaves while one who follows waits is counted.
	var release func()
	var got, skipped uint64
	w := s.newFollower(Query{Waits: func(r func()) { release = r }})
	for i := range uint64(2 * sent) {
		stages[0].HandleFlow(numbered(sent+1+i, nil, nil))
	}
	for range 2 {
		if err := w.poll(context.Background(), func(r *flow.Record, n uint64) error {
			skipped += n
			if r == nil {
				return nil
			}
			if got++; got == 1000 {
				release()
				for i := range uint64(6 * sent) {
					stages[0].HandleFlow(numbered(3*sent+1+i, nil, nil))
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if skipped == 0 || got+skipped != 8*sent {
		t.Errorf("%d records and %d skipped, want %d in all", got, skipped, 8*sent)
	}
	if n := s.pages.Load(); n != pagesKept {
		t.Errorf("%d pages are in use", n-pagesKept)
	}
	// Few readers keep theirs.
	s.pages.Store(0)
	_ = s.Each(context.Background(), Query{Waits: func(r func()) { release = r }}, func(*flow.Record) bool {
		if release(); s.pages.Load() != 3 {
			t.Errorf("%d pages while it waits", s.pages.Load())
		}
		return false
	})
}
