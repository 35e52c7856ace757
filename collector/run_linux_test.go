package collector

import (
	"context"
	"errors"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// freePort returns a UDP port of the loopback that is free.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

// counter is a handler that counts and waits at a gate.
type counter struct {
	gate    chan struct{}
	records *atomic.Int64
	pending func() bool
}

func (c *counter) HandleFlow(*flow.Record) {
	<-c.gate
	c.records.Add(1)
}

func (c *counter) Idle() bool { return c.pending != nil && c.pending() }

// running is a collector that receives on loopback.
type running struct {
	*Collector
	listener Listener
	cancel   context.CancelFunc
	done     chan error
	gate     chan struct{}
	records  atomic.Int64
}

func startCollector(t *testing.T, sockets, rcvbuf int, pending func() bool) *running {
	t.Helper()
	r := &running{gate: make(chan struct{}), done: make(chan error, 1)}
	r.listener = Listener{Protocols: AnyFlow, Host: "127.0.0.1", Port: freePort(t), Sockets: sockets, ReceiveBuffer: rcvbuf}
	log, _ := logtest.NewNullLogger()
	var err error
	r.Collector, err = New(Config{Listeners: []Listener{r.listener}}, func(int) flow.Handler {
		return &counter{gate: r.gate, records: &r.records, pending: pending}
	}, log, prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	t.Cleanup(cancel)
	go func() { r.done <- r.Run(ctx) }()
	r.eventually(t, func() bool { return r.Ready() == nil })
	return r
}

func (r *running) eventually(t *testing.T, f func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case err := <-r.done:
			t.Fatal("ended: ", err)
		case <-deadline:
			t.Fatal("not in 20 s")
		}
	}
}

func (r *running) send(t *testing.T, n int, b []byte) {
	t.Helper()
	c, err := net.Dial("udp", r.listener.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range n {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *running) sum(of func(*workerMetrics) uint64) (n uint64) {
	for _, m := range r.allMetrics() {
		n += of(m)
	}
	return n
}

// TestRunDrains sends datagrams over many source ports to two sockets whose
// workers are held up, stops the collector, and wants every record.
func TestRunDrains(t *testing.T) {
	r := startCollector(t, 2, 1<<20, nil)
	const ports, each = 20, 30
	for range ports {
		r.send(t, each, v5Message(1, v5Record(1)))
	}
	r.cancel()
	close(r.gate)
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	if n := r.records.Load(); n != ports*each {
		t.Errorf("%d records of %d", n, ports*each)
	}
	if n := r.sum(func(m *workerMetrics) uint64 { return m.records[protoNetFlow5].Load() }); n != ports*each {
		t.Errorf("%d records counted", n)
	}
}

// breakFirst makes the first socket fail, once all workers have something to do and wait at
// the gate, and then opens the gate.
func (r *running) breakFirst(t *testing.T) {
	t.Helper()
	sockets := len(r.sockets)
	r.eventually(t, func() bool {
		r.send(t, 1, v5Message(1, v5Record(1)))
		waiting := 0
		for _, m := range r.allMetrics() {
			if m.datagrams[protoNetFlow5].Load() > 0 {
				waiting++
			}
		}
		return waiting == sockets
	})
	epoll := int(reflect.ValueOf(r.sockets[0].Socket).Elem().FieldByName("epfd").Int())
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Dup3(null, epoll, unix.O_CLOEXEC), unix.Close(null)); err != nil {
		t.Fatal(err)
	}
	close(r.gate)
}

// TestRunGivesUpSocket breaks one of two sockets. The other one gets all datagrams from
// then on.
func TestRunGivesUpSocket(t *testing.T) {
	r := startCollector(t, 2, 1<<20, nil)
	r.breakFirst(t)
	r.eventually(t, func() bool { return r.failed.Load() == 1 })
	if err := r.Ready(); err == nil {
		t.Error("ready, though a socket has failed")
	}
	const ports = 100
	for range ports {
		r.send(t, 1, v7Message(1, v7Record(1)))
	}
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if n := r.sum(func(m *workerMetrics) uint64 { return m.records[protoNetFlow7].Load() }); n != ports {
		t.Errorf("%d records of %d", n, ports)
	}
}

// TestRunGivesUpLastSocket breaks the only socket. The records that its worker still holds
// are handed on before the collector ends.
func TestRunGivesUpLastSocket(t *testing.T) {
	var pending atomic.Int64
	pending.Store(5)
	r := startCollector(t, 1, 1<<20, func() bool { return pending.Add(-1) > 0 })
	r.breakFirst(t)
	if err := <-r.done; err == nil || !strings.Contains(err.Error(), "all sockets failed") {
		t.Error(err)
	}
	if n := pending.Load(); n > 0 {
		t.Errorf("%d more times the handler was to be asked", n)
	}
}

// TestRunRefusesAfterStop stops under load: what comes later is not taken, and
// the drain ends although the sender goes on.
func TestRunRefusesAfterStop(t *testing.T) {
	r := startCollector(t, 1, 1<<20, nil)
	close(r.gate)
	stop := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		c, err := net.Dial("udp", r.listener.String())
		if err != nil {
			return
		}
		defer c.Close()
		b := v5Message(1, v5Record(1))
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = c.Write(b) // refused once the socket is closed
			}
		}
	}()
	r.eventually(t, func() bool { return r.records.Load() > 1000 })
	r.cancel()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the drain did not end")
	}
	close(stop)
	<-sent
}

// TestKernelDrops fills a small socket buffer: received and dropped add up to
// what was sent.
func TestKernelDrops(t *testing.T) {
	r := startCollector(t, 1, 8192, nil)
	const sent = 2000
	r.send(t, sent, v5Message(1, v5Record(1)))
	close(r.gate)
	total := func() uint64 {
		r.countKernelDrops()
		return uint64(r.records.Load()) + r.sum(func(m *workerMetrics) uint64 { return m.drops[dropKernel].Load() })
	}
	r.eventually(t, func() bool { return total() >= sent })
	if n := total(); n != sent {
		t.Errorf("%d received or dropped of %d", n, sent)
	}
	if r.sum(func(m *workerMetrics) uint64 { return m.drops[dropKernel].Load() }) == 0 {
		t.Error("no drop: the test proves nothing")
	}
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// TestIdlePending calls Idle again without a datagram as long as it asks for it.
func TestIdlePending(t *testing.T) {
	var calls atomic.Int64
	r := startCollector(t, 1, 1<<20, func() bool { return calls.Add(1) < 4 })
	close(r.gate)
	r.send(t, 1, v5Message(1, v5Record(1)))
	r.eventually(t, func() bool { return calls.Load() == 4 })
	r.send(t, 1, v5Message(1, v5Record(1)))
	r.eventually(t, func() bool { return calls.Load() == 5 })
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// TestPortInUse fails at once when the port is taken, also by another instance
// that would share it.
func TestPortInUse(t *testing.T) {
	first := startCollector(t, 2, 1<<20, nil)
	log, _ := logtest.NewNullLogger()
	second, err := New(Config{Listeners: []Listener{first.listener}}, func(int) flow.Handler { return nil }, log, prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	err = second.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	first.cancel()
	<-first.done
}

// TestIPv6AndMapped receives over IPv6, and over IPv4 on a socket of both
// families, whose sources are IPv4.
func TestIPv6AndMapped(t *testing.T) {
	r := &running{gate: make(chan struct{}), done: make(chan error, 1)}
	close(r.gate)
	port := freePort(t)
	log, _ := logtest.NewNullLogger()
	var samplers atomic.Pointer[[]string]
	samplers.Store(new([]string))
	c, err := New(Config{Listeners: []Listener{{Protocols: AnyFlow, Port: port, Sockets: 1, ReceiveBuffer: 1 << 20}}}, func(int) flow.Handler {
		return &sink{f: func(rec *flow.Record) {
			a, _ := rec.Addr(flow.FieldSamplerAddress)
			all := append(append([]string(nil), *samplers.Load()...), a.String())
			samplers.Store(&all)
		}}
	}, log, prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	r.Collector = c
	ctx, cancel := context.WithCancel(t.Context())
	go func() { r.done <- c.Run(ctx) }()
	r.eventually(t, func() bool { return r.Ready() == nil })
	for i, host := range []string{"127.0.0.1", "::1"} {
		r.listener = Listener{Host: host, Port: port}
		probe, err := net.Dial("udp", r.listener.String())
		if err != nil {
			t.Logf("%s: %v", host, err)
			continue
		}
		probe.Close()
		r.send(t, 1, v5Message(1, v5Record(1)))
		r.eventually(t, func() bool { return len(*samplers.Load()) == i+1 })
		if got := (*samplers.Load())[i]; got != host {
			t.Errorf("sampler %s, want %s", got, host)
		}
	}
	cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// TestBound wants the port that the kernel chose for port 0.
func TestBound(t *testing.T) {
	listeners, err := ParseListen("netflow://127.0.0.1:0?count=2,sflow://localhost:0?count=1")
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logtest.NewNullLogger()
	c, err := New(Config{Listeners: listeners}, nil, log, prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if bound := c.Bound(); bound != nil {
		t.Errorf("before Open: %v", bound)
	}
	if err := c.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.closeSockets()
	bound := c.Bound()
	if len(bound) != 2 || bound[0].Sockets != 2 || bound[1].Sockets != 1 {
		t.Fatalf("bound to %+v", bound)
	}
	for i, prefix := range []string{"netflow://127.0.0.1:", "sflow://localhost:"} {
		l := bound[i]
		if l.Port == 0 || l.URL() != prefix+strconv.Itoa(int(l.Port)) {
			t.Errorf("bound to %s, port %d", l.URL(), l.Port)
		}
	}
}
