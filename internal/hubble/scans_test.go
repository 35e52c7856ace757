package hubble

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// slowSource is a source whose readers wait until they may go on.
type slowSource struct {
	*memory
	now, most atomic.Int64 // those who read
	entered   chan struct{}
	goOn      chan struct{} // closed when they may
}

func (s *slowSource) Each(ctx context.Context, q Query, f func(*flow.Record) bool) error {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	s.entered <- struct{}{}
	<-s.goOn
	return s.memory.Each(ctx, q, f)
}

// TestScans: few read at a time, as each takes a core from those who receive. The others wait.
func TestScans(t *testing.T) {
	const clients = 8
	source := &slowSource{memory: newMemory(record(0, 1), record(1, 2)), entered: make(chan struct{}, 2*clients), goOn: make(chan struct{})}
	s := serve(t, Config{}, source)
	done := make(chan error, clients)
	for i := range clients {
		c := client(t, s)
		go func() {
			var err error
			if i%4 == 3 {
				_, err = c.GetNamespaces(t.Context(), &observerpb.GetNamespacesRequest{})
			} else {
				_, err = getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{{SourcePort: []string{"9"}}}}) // nothing to send
			}
			done <- err
		}()
	}
	for range maxScans {
		<-source.entered
	}
	waitFor(t, func() bool { return len(s.calls) == clients })
	close(source.goOn)
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := source.most.Load(); n > maxScans {
		t.Errorf("%d read at a time", n)
	}
	if len(s.scans) != 0 {
		t.Errorf("%d places are taken", len(s.scans))
	}
}

// TestScansOfSlowClients: a client that does not read keeps no place from others.
func TestScansOfSlowClients(t *testing.T) {
	m := newMemory()
	for i := range 1000 {
		m.records = append(m.records, record(i, uint32(i)))
	}
	s := serve(t, Config{}, m)
	for _, c := range rawClients(t, s, 0)[:2*maxScans] {
		c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Number: 1000})
	}
	waitFor(t, func() bool { return len(s.streams) == 2*maxScans && len(s.scans) == 0 })
}

// TestTurns: who reads many records lets another one read before the end.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := make(chan struct{}, 1)
		long, short := turn{places: places}, turn{places: places}
		if !long.begin(t.Context()) {
			t.Fatal("no place")
		}
		var at int // how far the long one was when the short one got its turn
		go func() {
			if short.begin(t.Context()) {
				at = long.looked
				short.end()
			}
		}()
		synctest.Wait() // it waits
		for range 10 * scanTurn {
			if err := long.next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		long.end()
		if at != scanTurn || len(places) != 0 {
			t.Errorf("the turn came after %d records; %d places are taken", at, len(places))
		}
	})
}
