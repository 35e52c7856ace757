package hubble

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// mostHeld is what all clients together may hold, in bytes (the bound of many clients that the
// page's API has, too).
const mostHeld = 64 << 20

// heap returns how many bytes of the heap are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// rawClients opens as many connections as there may be.
func rawClients(t *testing.T, s *testServer, window uint32) (list []*rawClient) {
	t.Helper()
	for i := range maxConnections {
		list = append(list, newRawClient(t, dialFrom(t, s, i/maxConnectionsAt), window))
	}
	return list
}

// dialFrom connects from one address of loopback or another.
func dialFrom(t *testing.T, s *testServer, peer int) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+peer))}}
	conn, err := d.DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// settled waits until each call has ended, or holds one of the places.
func settled(t *testing.T, s *testServer, clients []*rawClient, calls int) {
	t.Helper()
	waitFor(t, func() bool {
		ended := 0
		for _, c := range clients {
			c.mu.Lock()
			ended += len(c.status)
			c.mu.Unlock()
		}
		return ended+len(s.calls) >= calls
	})
}

// TestHalfRequests: requests that come half hold little, however many they are.
func TestHalfRequests(t *testing.T) {
	s := serve(t, Config{}, newMemory())
	clients := rawClients(t, s, 0)
	half, before := halfRequest(), heap()
	for _, c := range clients {
		for range maxCallsEach {
			c.halfCall(half)
		}
	}
	settled(t, s, clients, len(clients)*maxCallsEach)
	after := heap()
	t.Logf("%d MiB before, %d after", before>>20, after>>20)
	if after > before+mostHeld && !race.Enabled {
		t.Errorf("%d half requests hold %d MiB", len(clients)*maxCallsEach, (after-before)>>20)
	}
	if len(s.calls) != maxCalls {
		t.Errorf("%d calls are waited for, want %d", len(s.calls), maxCalls)
	}
}

// TestUnreadAnswers: answers that nobody reads hold little, also once all of them has been sent.
func TestUnreadAnswers(t *testing.T) {
	var records []*flow.Record
	for i := range 200 {
		r := record(i, uint32(i))
		r.Msg.SamplerAddress = []byte{10, 0, byte(i >> 8), byte(i)}
		records = append(records, r)
	}
	s := serve(t, Config{}, newMemory(records...))
	clients := rawClients(t, s, 0)
	before := heap()
	for _, c := range clients {
		for i := range maxCallsEach {
			if i%2 == 0 {
				c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Number: 200})
			} else {
				c.call(observerpb.Observer_GetNodes_FullMethodName, &observerpb.GetNodesRequest{})
			}
		}
	}
	settled(t, s, clients, len(clients)*maxCallsEach)
	after := heap()
	t.Logf("%d MiB before, %d after", before>>20, after>>20)
	if after > before+mostHeld && !race.Enabled {
		t.Errorf("%d answers hold %d MiB", len(clients)*maxCallsEach, (after-before)>>20)
	}
}

// TestManyFilters: filters take much more room than their bytes, so there may be only so many.
func TestManyFilters(t *testing.T) {
	s := serve(t, Config{}, newMemory(record(0, 1)))
	c := client(t, s)
	filters := func(n int) []*flowpb.FlowFilter {
		list := make([]*flowpb.FlowFilter, n)
		for i := range list {
			list[i] = &flowpb.FlowFilter{}
		}
		return list
	}
	if list, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: filters(maxFilters)}); err != nil || len(list) != 1 {
		t.Errorf("%d flows, %v", len(list), err)
	}
	if _, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: filters(maxFilters), Blacklist: filters(1)}); status.Code(err) != codes.InvalidArgument {
		t.Error(err)
	}
}

// TestStalledRequest: a request that stalls half way is ended, and its place is free again.
func TestStalledRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := servePipes(t, newMemory(record(0, 1)))
		c := newRawClient(t, p.dial(), 1<<20)
		id := c.halfCall(halfRequest())
		time.Sleep(requestTimeout - time.Millisecond)
		synctest.Wait()
		if code, reset := c.outcome(id); code != "" || reset || len(s.calls) != 1 {
			t.Errorf("status %q, reset %v, %d calls before the time is over", code, reset, len(s.calls))
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if code, _ := c.outcome(id); code != fmt.Sprint(uint32(codes.DeadlineExceeded)) || len(s.calls) != 0 {
			t.Errorf("status %q, %d calls", code, len(s.calls))
		}
		_ = c.conn.Close()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestStall cuts off a client that reads nothing for a minute, and not one that reads slowly.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records []*flow.Record
		for i := range 1000 {
			records = append(records, record(i, uint32(i)))
		}
		s, p := servePipes(t, newMemory(records...))
		c := newRawClient(t, p.dial(), 0)
		id := c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Number: 1000})
		for range 5 {
			time.Sleep(stallTimeout - time.Second)
			c.open(id, answerPart)
			synctest.Wait()
		}
		if code, reset := c.outcome(id); code != "" || reset || len(s.streams) != 1 || testutil.ToFloat64(s.cut) != 0 || c.got != 5*answerPart {
			t.Errorf("status %q, reset %v, %d requests, %d bytes of a slow client", code, reset, len(s.streams), c.got)
		}
		time.Sleep(stallTimeout + time.Millisecond)
		synctest.Wait()
		if _, reset := c.outcome(id); !reset || len(s.streams) != 0 || len(s.calls) != 0 || testutil.ToFloat64(s.cut) != 1 {
			t.Errorf("reset %v, %d requests, %d calls, %v counted as cut", reset, len(s.streams), len(s.calls), testutil.ToFloat64(s.cut))
		}
		// A client that only has nothing to read is not cut off.
		id = c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Follow: true, Number: 1})
		c.open(id, 1<<20)
		time.Sleep(time.Hour)
		synctest.Wait()
		if code, reset := c.outcome(id); code != "" || reset || len(s.streams) != 1 {
			t.Errorf("status %q, reset %v, %d requests of one who waits", code, reset, len(s.streams))
		}
		_ = c.conn.Close()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestStallOfShortAnswers cuts off a client that does not read an answer of a few bytes either. Its
// places are taken until then, so that there are not more of them than places.
func TestStallOfShortAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := servePipes(t, newMemory(record(0, 1)))
		c := newRawClient(t, p.dial(), 0)
		id := c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Number: 1})
		time.Sleep(stallTimeout - time.Second)
		synctest.Wait()
		if _, reset := c.outcome(id); reset || len(s.streams) != 1 || len(s.calls) != 1 {
			t.Errorf("reset %v, %d requests, %d calls before the time is over", reset, len(s.streams), len(s.calls))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, reset := c.outcome(id); !reset || len(s.streams) != 0 || len(s.calls) != 0 || testutil.ToFloat64(s.cut) != 1 {
			t.Errorf("reset %v, %d requests, %d calls, %v cut", reset, len(s.streams), len(s.calls), testutil.ToFloat64(s.cut))
		}
		_ = c.conn.Close()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestStopAtOnce: Run ends at once, whatever clients do: half a request, an answer that nobody
// reads, one that follows. Nobody reads from the source any more then.
func TestStopAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for i := range 1000 {
			m.records = append(m.records, record(i, uint32(i)))
		}
		reading := &counted{memory: m}
		s, p := servePipes(t, reading)
		c := newRawClient(t, p.dial(), 0)
		c.halfCall(halfRequest())
		c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Number: 1000})
		c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Follow: true, Number: 1})
		c.call(observerpb.Observer_GetFlows_FullMethodName, &observerpb.GetFlowsRequest{Follow: true})
		synctest.Wait()
		if n := reading.now.Load(); len(s.calls) != 4 || n != 3 {
			t.Errorf("%d calls, %d of them read", len(s.calls), n)
		}
		begun := time.Now()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %v to stop", took)
		}
		if n := reading.now.Load(); n != 0 {
			t.Errorf("%d calls still read when Run has returned", n)
		}
	})
}

// counted counts those who read from a source now.
type counted struct {
	*memory
	now atomic.Int64
}

func (c *counted) Each(ctx context.Context, q Query, f func(*flow.Record) bool) error {
	c.now.Add(1)
	defer c.now.Add(-1)
	return c.memory.Each(ctx, q, f)
}

func (c *counted) Follow(ctx context.Context, q Query, f func(*flow.Record, uint64) error) error {
	c.now.Add(1)
	defer c.now.Add(-1)
	return c.memory.Follow(ctx, q, f)
}
