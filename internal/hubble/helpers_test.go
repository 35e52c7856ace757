package hubble

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const capturesDir = "../../testdata/captures-ovn/"

// memory is a [Source] of a list of records.
type memory struct {
	mu      sync.Mutex
	records []*flow.Record
	more    chan struct{} // closed when there are more
	skipped uint64        // what the next record that is followed tells
	// scans counts the calls of Each.
	scans int
}

func newMemory(records ...*flow.Record) *memory {
	return &memory{records: records, more: make(chan struct{})}
}

func (m *memory) add(records ...*flow.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, records...)
	close(m.more)
	m.more = make(chan struct{})
}

func (m *memory) now() ([]*flow.Record, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records, m.more
}

func (q *Query) within(r *flow.Record) bool {
	at := time.Unix(0, int64(r.Msg.TimeReceivedNs))
	return !at.Before(q.Since) && (q.Until.IsZero() || !at.After(q.Until))
}

// byTime compares records by their times of receipt.
func byTime(a, b *flow.Record) int { return cmp.Compare(a.Msg.TimeReceivedNs, b.Msg.TimeReceivedNs) }

func (m *memory) Each(ctx context.Context, q Query, f func(*flow.Record) bool) error {
	list, _ := m.now()
	m.mu.Lock()
	m.scans++
	m.mu.Unlock()
	list = slices.Clone(list)
	slices.SortStableFunc(list, byTime)
	if q.Newest {
		slices.Reverse(list)
	}
	for _, r := range list {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if q.within(r) && !f(r) {
			return nil
		}
	}
	return nil
}

func (m *memory) Follow(ctx context.Context, q Query, f func(*flow.Record, uint64) error) error {
	list, more := m.now()
	at, first := len(list), !q.Since.IsZero()
	if first {
		at = 0
		list = slices.Clone(list)
		slices.SortStableFunc(list, byTime)
	}
	for {
		for _, r := range list[at:] {
			if first && !q.within(r) || q.Match != nil && !q.Match(r) {
				continue
			}
			m.mu.Lock()
			skipped := m.skipped
			m.skipped = 0
			m.mu.Unlock()
			if err := f(r, skipped); err != nil {
				return err
			}
		}
		if first || at < len(list) {
			first = false
			if err := f(nil, 0); err != nil {
				return err
			}
		}
		at = len(list)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		}
		list, more = m.now()
	}
}

func (m *memory) Stats() Stats {
	list, _ := m.now()
	return Stats{Records: uint64(len(list)), Capacity: 1000, Seen: uint64(len(list))}
}

// keep is the end of a chain. It keeps the records.
type keep struct{ records []*flow.Record }

func (k *keep) HandleFlow(r *flow.Record) { k.records = append(k.records, r.Clone()) }

func (*keep) Idle() bool { return false }

// mapping is the default one.
func mapping(tb testing.TB) []flow.MapEntry {
	tb.Helper()
	m, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// read returns the records of a capture, named by a snapshot, and who knows the Nodes.
func read(tb testing.TB, file, snapshot string, labels ...string) ([]*flow.Record, *enrich.Enricher) {
	tb.Helper()
	log := quiet()
	source, err := enrich.LoadSnapshot(snapshot, labels...)
	if err != nil {
		tb.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	names, err := enrich.New(enrich.Config{Mapping: mapping(tb), Unheld: true, KeepEnded: true}, source, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = names.Run(ctx) })
	tb.Cleanup(func() { stop(); running.Wait() })
	if err := names.WaitSynced(ctx); err != nil {
		tb.Fatal(err)
	}
	listen, err := collector.ParseListen("netflow://:2055,sflow://:6343")
	if err != nil {
		tb.Fatal(err)
	}
	var fields flow.FieldSet
	for i := range flow.Fields {
		fields.Add(flow.Fields[i].ID)
	}
	c, err := collector.New(collector.Config{Listeners: listen, Fields: fields}, nil, log, reg)
	if err != nil {
		tb.Fatal(err)
	}
	end := &keep{}
	if err := c.ReadCapture(ctx, file, names.NewStage(end)); err != nil || len(end.records) == 0 {
		tb.Fatal(len(end.records), err)
	}
	slices.SortStableFunc(end.records, func(a, b *flow.Record) int { return int(int64(a.Msg.TimeReceivedNs - b.Msg.TimeReceivedNs)) })
	return end.records, names
}

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// nodesOf makes Config.NodeOf of an enricher.
func nodesOf(names *enrich.Enricher) func(netip.Addr, int64) string {
	return func(a netip.Addr, at int64) string {
		if o := names.Lookup(a, at, at).Object; o != nil {
			return o.Node
		}
		return ""
	}
}

// testServer is a server under test.
type testServer struct {
	*Server
	skipped prometheus.Counter
	stop    func() error // ends it, once
}

// serve runs a server on a free port of loopback.
func serve(tb testing.TB, cfg Config, source Source) *testServer {
	tb.Helper()
	cfg.Addr = "127.0.0.1:0"
	if cfg.Mapping == nil {
		cfg.Mapping = mapping(tb)
	}
	if cfg.Name == "" {
		cfg.Name, cfg.Version = "enricher-0", "v1"
	}
	skipped := prometheus.NewCounter(prometheus.CounterOpts{Name: "skipped"})
	s, err := New(cfg, source, skipped, quiet(), prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	tb.Cleanup(func() {
		if err := stop(); err != nil {
			tb.Error(err)
		}
	})
	return &testServer{s, skipped, stop}
}

// dial connects to a server.
func dial(tb testing.TB, addr string, opts ...grpc.DialOption) *grpc.ClientConn {
	tb.Helper()
	if len(opts) == 0 {
		opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	conn, err := grpc.NewClient(addr, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// client returns Cilium's client of a server.
func client(tb testing.TB, s *testServer) observerpb.ObserverClient {
	tb.Helper()
	return observerpb.NewObserverClient(dial(tb, s.Addr()))
}

// getFlows returns all answers to a request, and how it ended.
func getFlows(tb testing.TB, c observerpb.ObserverClient, req *observerpb.GetFlowsRequest) ([]*observerpb.GetFlowsResponse, error) {
	tb.Helper()
	stream, err := c.GetFlows(tb.Context(), req)
	if err != nil {
		return nil, err
	}
	var list []*observerpb.GetFlowsResponse
	for {
		resp, err := stream.Recv()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, resp)
	}
}
