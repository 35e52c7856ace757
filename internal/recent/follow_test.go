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
