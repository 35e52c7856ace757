package recent

import (
	"testing"

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
