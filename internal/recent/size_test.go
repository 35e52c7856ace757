package recent

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestSize counts what two workers have kept and have had.
func TestSize(t *testing.T) {
	s := newStore(t, MinRoom)
	if size := s.Size(); size.Records != 0 || size.Bytes != 0 || len(size.Seen) != 0 || size.Room == 0 || size.Room > MinRoom {
		t.Errorf("%+v of nothing", size)
	}
	r := &flow.Record{}
	r.Msg.TimeReceivedNs = 1
	few, many := s.Stage(0, end{}), s.Stage(1, end{})
	for range 3 {
		few.HandleFlow(r)
	}
	const records = 200_000
	for range records {
		many.HandleFlow(r)
	}
	size := s.Size()
	if size.Seen[1] != records || size.Records == 0 || size.Records >= records || size.Bytes > size.Room || size.Bytes < size.Room/2 {
		t.Errorf("%+v", size)
	}
}

// TestLeastRoom: with the least room that so many workers need, none of them lacks room, and the
// newest record of each is in memory. The default is enough for two addresses with 64 sockets each.
func TestLeastRoom(t *testing.T) {
	for _, workers := range []int{1, 8, 64} {
		s := newStore(t, LeastRoom(workers))
		var stages []*Stage
		for w := range workers {
			stages = append(stages, s.Stage(w, end{}))
		}
		at := uint64(0)
		for range 5000 {
			for _, st := range stages {
				at++
				st.HandleFlow(numbered(at, nil, nil))
			}
		}
		if n := testutil.ToFloat64(s.noRoom); n > 0 {
			t.Errorf("%d workers had no room for %v records", workers, n)
		}
		got := times(t, s, Query{Since: time.Unix(0, int64(at)-int64(workers)+1)})
		if len(got) != workers {
			t.Errorf("of the newest records of %d workers %d are in memory", workers, len(got))
		}
	}
	if least := LeastRoom(128); least > 64<<20 {
		t.Errorf("128 workers need %d bytes", least)
	}
}
