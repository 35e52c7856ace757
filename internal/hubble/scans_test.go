package hubble

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/protobuf/types/known/timestamppb"

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

// replays is a source that tells how many replay at a time, and lets them wait in there.
type replays struct {
	*memory
	entered, goOn chan struct{}
}

func (s *replays) Follow(ctx context.Context, q Query, f func(*flow.Record, uint64) error) error {
	s.entered <- struct{}{}
	<-s.goOn
	return s.memory.Follow(ctx, q, f)
}

// TestReplays: who asks for what there is already, and follows then, has to wait for a place too. It
// is free once that has been read, whether or not anything of it was wanted.
func TestReplays(t *testing.T) {
	const clients = 5
	for name, req := range map[string]*observerpb.GetFlowsRequest{
		"all":          {},
		"nothing":      {Whitelist: []*flowpb.FlowFilter{{SourcePort: []string{"9"}}}},
		"not that old": {Since: timestamppb.New(time.Unix(1<<33, 0))},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				source := &replays{memory: newMemory(record(0, 1)), entered: make(chan struct{}, clients), goOn: make(chan struct{})}
				if req.Follow = true; req.Since == nil {
					req.Since = timestamppb.New(time.Unix(1, 0))
				}
				s := unserved(t, source)
				ctx, cancel := context.WithCancel(t.Context())
				var calls sync.WaitGroup
				for range clients {
					calls.Go(func() { _ = s.getFlows(ctx, req, &reader{tb: t, each: func(*observerpb.GetFlowsResponse) {}}) })
				}
				synctest.Wait()
				if n := len(source.entered); n != maxScans {
					t.Errorf("%d replay at a time, want %d", n, maxScans)
				}
				close(source.goOn)
				synctest.Wait()
				if n := len(source.entered); n != clients || len(s.scans) != 0 {
					t.Errorf("%d of %d have followed, %d places are taken", n, clients, len(s.scans))
				}
				cancel()
				calls.Wait()
			})
		})
	}
}

// rival takes one turn as soon as it can while held has the only place. It returns how far held was
// then, which may be read once all wait (see [synctest.Wait]).
func rival(t *testing.T, held *turn) (at *int) {
	t.Helper()
	held.begin(t.Context())
	other := turn{places: held.places}
	at = new(int)
	go func() {
		if other.begin(t.Context()) {
			*at = held.looked
			other.end()
		}
	}()
	synctest.Wait()
	return at
}

// TestStartInTurns: the look for the newest wanted records gives its place to others, too.
func TestStartInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for i := range 4 * scanTurn {
			m.records = append(m.records, record(i, uint32(i)))
		}
		s := unserved(t, m)
		st := &stream{s: s, v: newView(&s.names), turn: turn{places: make(chan struct{}, 1)}}
		var err error
		if st.q, err = newQuery(&observerpb.GetFlowsRequest{Number: 1, Whitelist: []*flowpb.FlowFilter{{SourcePort: []string{"9"}}}}); err != nil {
			t.Fatal(err)
		}
		at := rival(t, &st.turn)
		if _, err := st.start(t.Context()); err != nil {
			t.Error(err)
		}
		st.turn.end()
		synctest.Wait()
		if *at == 0 || *at > scanTurn {
			t.Errorf("the other one's turn came after %d records", *at)
		}
	})
}

// TestReplayInTurns: a replay gives its place to others, whether or not its records are wanted.
func TestReplayInTurns(t *testing.T) {
	for _, filters := range [][]*flowpb.FlowFilter{nil, {{SourcePort: []string{"9"}}}} {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			for i := range 4 * scanTurn {
				m.records = append(m.records, record(i, uint32(i)))
			}
			s := unserved(t, m)
			st := &stream{s: s, v: newView(&s.names), out: messages{w: devNull{}}, turn: turn{places: make(chan struct{}, 1)}}
			var err error
			if st.q, err = newQuery(&observerpb.GetFlowsRequest{Since: timestamppb.New(time.Unix(1, 0)), Follow: true, Whitelist: filters}); err != nil {
				t.Fatal(err)
			}
			at := rival(t, &st.turn)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- st.run(ctx) }()
			synctest.Wait()
			cancel()
			if err := <-done; *at == 0 || *at > scanTurn || !errors.Is(err, context.Canceled) {
				t.Errorf("the other one's turn came after %d records: %v", *at, err)
			}
		})
	}
}

// devNull is a client that takes all.
type devNull struct{}

func (devNull) Write(b []byte) (int, error) { return len(b), nil }
func (devNull) Flush()                      {}

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
