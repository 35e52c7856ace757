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
