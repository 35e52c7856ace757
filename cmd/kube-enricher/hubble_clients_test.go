package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/hubble"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
)

// TestManyHubbleClients: 50 clients that follow and ask for all flows at once, each of other pods
// than those before, and 46 that read nothing of eight workers' records, take 64 MiB at most, and
// keep no record from the ring.
func TestManyHubbleClients(t *testing.T) {
	const most = 64 << 20
	const workers = 8
	clients, silent, pods := 50, 46, 20_000
	if race.Enabled { // each takes many times as long, and a few are enough for races
		clients, silent, pods = 3, 3, 1000
	}
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	store, err := recent.New(recent.Config{Room: 16 << 20, Mapping: mapping}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	var objects []*flow.Object
	for i := range pods {
		objects = append(objects, flow.NewObject(flow.Object{
			Kind: "Pod", Namespace: "ns", Name: fmt.Sprintf("pod-%d", i), Workload: fmt.Sprintf("workload-%d", i/4), WorkloadKind: "Deployment",
			Labels: strings.Repeat(fmt.Sprintf("value-%d\n", i/4), len(hubble.GroupingLabels)-1),
		}))
	}
	var stages []*recent.Stage
	for w := range workers {
		stages = append(stages, store.Stage(w, nowhere{}))
	}
	r, kept := flowtest.Reference(), uint64(0)
	keep := func(n int) {
		for range n {
			r.Msg.TimeReceivedNs += 1e6
			r.Ends[0].Object, r.Ends[1].Object = objects[kept%uint64(pods)], objects[(kept+kept/uint64(pods)+1)%uint64(pods)]
			waited := kept / workers % 2 * 20e9 // half of the records, for a template
			r.Msg.TimeReceivedNs -= waited
			stages[kept%workers].HandleFlow(r)
			r.Msg.TimeReceivedNs += waited
			kept++
		}
	}
	for range 10 { // until the ring and its sums are full: they are not the clients'
		keep(50_000)
		store.About()
	}
	s, err := hubble.New(hubble.Config{Addr: "127.0.0.1:0", Mapping: mapping, Labels: hubble.GroupingLabels},
		&recentSource{store: store, seen: make(map[int]uint64)}, store.Skipped(recent.ClientHubble), logrus.New(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()

	live := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	// As the program does. What is made while garbage is looked for counts as live, and that is less.
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	runtime.GC()
	before, peak := live(), uint64(0)
	var asking sync.WaitGroup
	ask := func(c observerpb.ObserverClient, req *observerpb.GetFlowsRequest) {
		stream, err := c.GetFlows(ctx, req)
		for n := 0; err == nil; n++ {
			if _, err = stream.Recv(); req.GetFollow() && n == 2000 {
				return
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}} // an address has a share of the places
	for i := range silent {
		c := hubbleClient(t, s.Addr(), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", addr)
		}))
		stream, err := c.GetFlows(ctx, &observerpb.GetFlowsRequest{Follow: i%2 == 0, Since: timestamppb.New(time.Unix(1, 0))})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil { // one message, and nothing after it
			t.Fatal(err)
		}
	}
	for i := range clients {
		c := hubbleClient(t, s.Addr())
		request := &observerpb.GetFlowsRequest{Number: 20_000, Whitelist: []*flowpb.FlowFilter{{SourceLabel: []string{"app=value-1", "k8s:app"}}}}
		if i%2 == 0 {
			request.Follow = true
		}
		asking.Go(func() { ask(c, request) })
	}
	done := make(chan struct{})
	go func() { asking.Wait(); close(done) }()
	for asked := false; !asked; {
		select {
		case <-done:
			asked = true
		default:
			keep(1000)
			peak = max(peak, live())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := store.About().Records; n != kept {
		t.Errorf("%d records are known of %d", n, kept)
	}
	if peak > before+most && !race.Enabled {
		t.Errorf("%d MiB more with %d clients, want %d at most", (peak-before)>>20, clients, most>>20)
	}
	t.Logf("%d MiB before, %d at most; %d records", before>>20, peak>>20, kept)
}
