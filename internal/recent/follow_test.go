package recent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestFollowReplay: who asks for what there is already hears of its end, even if nothing is.
func TestFollowReplay(t *testing.T) {
	for _, n := range []int{0, 5} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t, MinRoom)
			st := s.Stage(0, end{})
			for i := range n {
				st.HandleFlow(numbered(uint64(1+i), nil, nil))
			}
			ctx, cancel := context.WithCancel(t.Context())
			got, batches := 0, 0
			go func() {
				_ = s.Follow(ctx, Query{Since: time.Unix(0, 1), PerSecond: 1}, func(r *flow.Record, _ uint64) error {
					if r == nil {
						batches++
					} else {
						got++
					}
					return nil
				})
			}()
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if got != n || batches != 1 {
				t.Errorf("%d records in %d batches, want %d in 1", got, batches, n)
			}
			cancel()
			synctest.Wait()
		})
	}
}

// TestFollowGaps: what is skipped is exact, also if a segment leaves before an older one that
// somebody reads.
func TestFollowGaps(t *testing.T) {
	s := newStore(t, MinRoom)
	s.makeRoom()
	st := s.Stage(0, end{})
	sent := uint64(0)
	add := func() { sent++; st.HandleFlow(numbered(sent, nil, nil)) }
	w := s.newFollower(Query{})
	add()
	first := st.open
	for st.open == first {
		add()
	}
	kept := st.open
	for st.open == kept {
		add()
	}
	kept.pin()
	for range len(s.slots) * int(sent) {
		add()
	}
	kept.unpin()
	var got, skipped uint64
	if err := w.poll(context.Background(), func(r *flow.Record, n uint64) error {
		if skipped += n; r != nil {
			got++
		}
		return nil
	}); err != nil || got == 0 || skipped == 0 || got+skipped != sent {
		t.Errorf("%d records and %d skipped of %d: %v", got, skipped, sent, err)
	}
}

// TestFollowSeconds: no second has more records than there may be in one, however they come, and
// a long time has as many.
func TestFollowSeconds(t *testing.T) {
	const perSecond = 50
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, MinRoom)
		st := s.Stage(0, end{})
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Time
		go func() {
			_ = s.Follow(ctx, Query{PerSecond: perSecond}, func(r *flow.Record, _ uint64) error {
				if r != nil {
					at = append(at, time.Now())
				}
				return nil
			})
		}()
		sent := uint64(0)
		time.Sleep(5 * time.Second) // what was not used then is not for later
		for range 200 {
			for range 30 {
				sent++
				st.HandleFlow(numbered(sent, nil, nil))
			}
			time.Sleep(followEvery)
		}
		synctest.Wait()
		for i := range len(at) - perSecond {
			if d := at[i+perSecond].Sub(at[i]); d < time.Second {
				t.Fatalf("%d records in %v", perSecond+1, d)
			}
		}
		if n := len(at); n < 19*perSecond || n > 21*perSecond {
			t.Errorf("%d records in 20 s", n)
		}
		// Once it has become quiet, a burst of as many is handed on at once.
		time.Sleep(2 * time.Second)
		before := len(at)
		for range perSecond {
			sent++
			st.HandleFlow(numbered(sent, nil, nil))
		}
		time.Sleep(followEvery)
		synctest.Wait()
		if n := len(at) - before; n != perSecond {
			t.Errorf("%d records of a burst", n)
		}
		cancel()
		synctest.Wait()
	})
}

// TestFollowLater: who was told of skipped records is called once more after a second.
func TestFollowLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, MinRoom)
		st := s.Stage(0, end{})
		ctx, cancel := context.WithCancel(t.Context())
		var told time.Time
		calls := 0
		go func() {
			_ = s.Follow(ctx, Query{PerSecond: 1}, func(_ *flow.Record, skipped uint64) error {
				if calls++; skipped > 0 {
					told, calls = time.Now(), 0
				} else if d := time.Since(told); d < time.Second || d > 2*time.Second {
					t.Errorf("called %v later", d)
				}
				return nil
			})
		}()
		synctest.Wait()
		told = time.Now().Add(-time.Second) // the first record comes before it
		for i := range uint64(5) {
			st.HandleFlow(numbered(i+1, nil, nil))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls != 1 {
			t.Errorf("called %d times after that", calls)
		}
		cancel()
		synctest.Wait()
	})
}
