package hubble

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	goflowpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// record returns a record that was received so many seconds after epoch, from a port that tells
// it from others.
func record(second int, port uint32) *flow.Record {
	r := &flow.Record{}
	m := &r.Msg
	m.Type = goflowpb.FlowMessage_IPFIX
	m.TimeReceivedNs = uint64(epoch.Add(time.Duration(second) * time.Second).UnixNano())
	m.SamplerAddress = []byte{192, 0, 2, 9}
	m.SrcAddr, m.DstAddr = []byte{192, 0, 2, 1}, []byte{198, 51, 100, 1}
	m.Etype, m.Proto, m.SrcPort, m.DstPort = 0x800, protoUDP, port, 53
	m.Bytes, m.Packets = 100, 1
	return r
}

// sources shows answers by the flows' source ports.
func sources(list []*observerpb.GetFlowsResponse) string {
	var out []string
	for _, resp := range list {
		if lost := resp.GetLostEvents(); lost != nil {
			out = append(out, fmt.Sprintf("lost %d", lost.GetNumEventsLost()))
			continue
		}
		src, _ := ports(resp.GetFlow())
		out = append(out, fmt.Sprint(src))
	}
	return strings.Join(out, " ")
}

func after(second int) *timestamppb.Timestamp {
	return timestamppb.New(epoch.Add(time.Duration(second) * time.Second))
}

// TestGetFlows asks for flows in all ways in which order and limits come together. What is
// wanted is what Cilium's observer does (newRingReader and eventsReader in
// pkg/hubble/observer/local_observer.go).
func TestGetFlows(t *testing.T) {
	// Several records have the same time, as those of one datagram.
	s := serve(t, Config{}, newMemory(
		record(0, 1), record(1, 2), record(1, 3), record(1, 4), record(2, 5), record(3, 6), record(3, 7), record(4, 8)))
	c := client(t, s)
	odd := []*flowpb.FlowFilter{{SourcePort: []string{"1", "3", "5", "7"}}}
	for _, tt := range []struct {
		name string
		req  *observerpb.GetFlowsRequest
		want string
	}{
		{"all", &observerpb.GetFlowsRequest{}, "1 2 3 4 5 6 7 8"},
		{"last", &observerpb.GetFlowsRequest{Number: 2}, "7 8"},
		{"last, within one time", &observerpb.GetFlowsRequest{Number: 6}, "3 4 5 6 7 8"},
		{"last, to the beginning of a time", &observerpb.GetFlowsRequest{Number: 7}, "2 3 4 5 6 7 8"},
		{"last, all there are", &observerpb.GetFlowsRequest{Number: 8}, "1 2 3 4 5 6 7 8"},
		{"last, more than there are", &observerpb.GetFlowsRequest{Number: 1<<64 - 1}, "1 2 3 4 5 6 7 8"},
		{"last of some", &observerpb.GetFlowsRequest{Number: 2, Whitelist: odd}, "5 7"},
		{"last of some, within one time", &observerpb.GetFlowsRequest{Number: 3, Whitelist: odd}, "3 5 7"},
		{"last of some, more than there are", &observerpb.GetFlowsRequest{Number: 7, Whitelist: odd}, "1 3 5 7"},
		{"last of others", &observerpb.GetFlowsRequest{Number: 3, Blacklist: odd}, "4 6 8"},
		{"first", &observerpb.GetFlowsRequest{Number: 3, First: true}, "1 2 3"},
		{"first of some", &observerpb.GetFlowsRequest{Number: 3, First: true, Whitelist: odd}, "1 3 5"},
		{"first, without a number", &observerpb.GetFlowsRequest{First: true}, "1 2 3 4 5 6 7 8"},
		{"since", &observerpb.GetFlowsRequest{Since: after(2)}, "5 6 7 8"},
		{"until", &observerpb.GetFlowsRequest{Until: after(1)}, "1 2 3 4"},
		{"since and until", &observerpb.GetFlowsRequest{Since: after(1), Until: after(2)}, "2 3 4 5"},
		{"since goes before number", &observerpb.GetFlowsRequest{Since: after(1), Number: 2}, "2 3"},
		{"since goes before first", &observerpb.GetFlowsRequest{Since: after(3), Number: 2, First: true}, "6 7"},
		{"last and until", &observerpb.GetFlowsRequest{Number: 3, Until: after(3)}, "6 7"},
		{"since of some", &observerpb.GetFlowsRequest{Since: after(1), Whitelist: odd}, "3 5 7"},
		{"since the beginning of time", &observerpb.GetFlowsRequest{Since: &timestamppb.Timestamp{Seconds: -1e9}, Number: 1}, "1"},
		{"until the end of time", &observerpb.GetFlowsRequest{Until: &timestamppb.Timestamp{Seconds: 250e9}, Number: 1}, "8"},
		{"nobody", &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{{DestinationPort: []string{"54"}}}, Number: 5}, ""},
		{"white and black", &observerpb.GetFlowsRequest{Whitelist: odd, Blacklist: []*flowpb.FlowFilter{{SourcePort: []string{"3"}}}}, "1 5 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := getFlows(t, c, tt.req)
			if got := sources(list); err != nil || got != tt.want {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// TestFollow follows from now, from the last flows, and from a time.
func TestFollow(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  *observerpb.GetFlowsRequest
		want string
	}{
		{"from now", &observerpb.GetFlowsRequest{Follow: true}, "5 6"},
		{"from the last", &observerpb.GetFlowsRequest{Follow: true, Number: 2}, "3 4 5 6"},
		{"from all", &observerpb.GetFlowsRequest{Follow: true, Number: 10_000}, "1 2 3 4 5 6"},
		{"from a time", &observerpb.GetFlowsRequest{Follow: true, Since: after(1)}, "2 3 4 5 6"},
		{"from the last until", &observerpb.GetFlowsRequest{Follow: true, Number: 1, Until: after(5)}, "4 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory(record(0, 1), record(1, 2), record(1, 3), record(1, 4))
			s := serve(t, Config{}, m)
			stream, err := client(t, s).GetFlows(t.Context(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Fields(tt.want)
			var list []*observerpb.GetFlowsResponse
			receive := func() {
				resp, err := stream.Recv()
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, resp)
			}
			for range len(want) - 2 {
				receive()
			}
			waitFor(t, func() bool { return len(s.streams) == 1 })
			m.add(record(5, 5)) // seen by those who follow already, and by those who begin now
			m.add(record(6, 6))
			if want[0] == "5" {
				// The stream may have begun after both.
				return
			}
			for len(list) < len(want) {
				receive()
			}
			if got := sources(list); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			if tt.req.GetUntil() != nil {
				if _, err := stream.Recv(); err != io.EOF {
					t.Errorf("%v after until", err)
				}
			}
		})
	}
}

// TestFollowLate: who follows from the last flows gets those that come late, too, and who follows
// from a time only if they are of that time.
func TestFollowLate(t *testing.T) {
	for want, req := range map[string]*observerpb.GetFlowsRequest{
		"3 4 9 10": {Follow: true, Number: 2},
		"3 4 10":   {Follow: true, Since: after(2)},
	} {
		m := newMemory(record(0, 1), record(1, 2), record(2, 3), record(3, 4))
		stream, err := client(t, serve(t, Config{}, m)).GetFlows(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		var list []*observerpb.GetFlowsResponse
		for len(list) < len(strings.Fields(want)) {
			resp, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			if list = append(list, resp); len(list) == 2 {
				m.add(record(1, 9), record(4, 10))
			}
		}
		if got := sources(list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// waitFor waits until something is true.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 10_000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it does not come true")
}

// TestLost tells a client what it was too slow for.
func TestLost(t *testing.T) {
	m := newMemory(record(0, 1), record(1, 2))
	m.skipped = 7
	s := serve(t, Config{}, m)
	stream, err := client(t, s).GetFlows(t.Context(), &observerpb.GetFlowsRequest{Follow: true, Number: 100})
	if err != nil {
		t.Fatal(err)
	}
	var list []*observerpb.GetFlowsResponse
	for range 3 {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, resp)
	}
	if got := sources(list); got != "lost 7 1 2" {
		t.Error(got)
	}
	lost := list[0].GetLostEvents()
	if lost.GetSource() != flowpb.LostEventSource_HUBBLE_RING_BUFFER || !lost.GetFirst().IsValid() || list[0].GetNodeName() != "enricher-0" {
		t.Error(list[0])
	}
	if n := testutil.ToFloat64(s.skipped); n != 7 {
		t.Errorf("%v counted as skipped", n)
	}
}

// TestFieldMask asks for parts of flows.
func TestFieldMask(t *testing.T) {
	s := serve(t, Config{}, newMemory(record(0, 1)))
	c := client(t, s)
	list, err := getFlows(t, c, &observerpb.GetFlowsRequest{
		FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"IP.source", "source.labels", "l4.UDP.destination_port", "l4.TCP", "l7"}},
	})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	const want = `IP:{source:"192.0.2.1"} l4:{UDP:{destination_port:53}} source:{labels:"reserved:world"}`
	if got := strings.ReplaceAll(fmt.Sprint(list[0].GetFlow()), "  ", " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestBadRequests(t *testing.T) {
	s := serve(t, Config{}, newMemory(record(0, 1)))
	c := client(t, s)
	filter := func(f *flowpb.FlowFilter) *observerpb.GetFlowsRequest {
		return &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{f}}
	}
	for _, tt := range []struct {
		req  *observerpb.GetFlowsRequest
		want string
	}{
		{&observerpb.GetFlowsRequest{First: true, Follow: true}, "first and follow"},
		{&observerpb.GetFlowsRequest{Since: &timestamppb.Timestamp{Nanos: -1}}, "since"},
		{&observerpb.GetFlowsRequest{Until: &timestamppb.Timestamp{Seconds: 1 << 60}}, "until"},
		{&observerpb.GetFlowsRequest{FieldMask: &fieldmaskpb.FieldMask{Paths: []string{"nothing"}}}, "field mask"},
		{filter(&flowpb.FlowFilter{SourcePort: []string{"http"}}), `"http"`},
		{filter(&flowpb.FlowFilter{DestinationPort: []string{"65536"}}), `"65536"`},
		{filter(&flowpb.FlowFilter{SourceIp: []string{"10.0.0"}}), `"10.0.0"`},
		{filter(&flowpb.FlowFilter{DestinationIp: []string{"10.0.0.0/33"}}), `"10.0.0.0/33"`},
		{filter(&flowpb.FlowFilter{Protocol: []string{"gre"}}), `"gre"`},
		{filter(&flowpb.FlowFilter{SourcePod: []string{""}}), "empty"},
		{filter(&flowpb.FlowFilter{SourceLabel: []string{"a in b"}}), `"a in b"`},
		{filter(&flowpb.FlowFilter{SourceFqdn: []string{"a b"}}), `"a b"`},
		{filter(&flowpb.FlowFilter{NodeName: []string{"a/b/c"}}), `"a/b/c"`},
		{filter(&flowpb.FlowFilter{SourceClusterName: []string{""}}), "cluster"},
		{filter(&flowpb.FlowFilter{Experimental: &flowpb.FlowFilter_Experimental{CelExpression: []string{"true"}}}), "CEL"},
		{filter(&flowpb.FlowFilter{Uuid: slices.Repeat([]string{"a"}, maxFilterValues)}), "at most 10000"},
		{&observerpb.GetFlowsRequest{Blacklist: []*flowpb.FlowFilter{{SourcePort: []string{"-1"}}}}, `"-1"`},
	} {
		_, err := getFlows(t, c, tt.req)
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
	_, err := getFlows(t, c, filter(&flowpb.FlowFilter{Uuid: []string{strings.Repeat("x", maxRequest)}}))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of more than %d bytes: %v", maxRequest, err)
	}
}

// TestOtherCalls makes the calls that are not GetFlows.
func TestOtherCalls(t *testing.T) {
	pod := func(namespace string) flow.End {
		return flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Namespace: namespace, Name: "p", Workload: "w", WorkloadKind: "Deployment"})}
	}
	old, young, other := record(0, 1), record(3601, 2), record(3602, 3)
	old.Ends[0], young.Ends[1], other.Ends[0] = pod("old"), pod("shop"), pod("bank")
	other.Msg.SamplerAddress = []byte{192, 0, 2, 10}
	m := newMemory()
	s := serve(t, Config{Cluster: "c1"}, m)
	c := client(t, s)
	ctx := t.Context()

	nodes, err := c.GetNodes(ctx, &observerpb.GetNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 1 || nodes.GetNodes()[0].GetName() != "c1/enricher-0" || nodes.GetNodes()[0].GetAddress() != s.Addr() {
		t.Errorf("without records: %v, %v", nodes, err)
	}
	m.add(old, young, other)
	waitFor(t, func() bool { // the answer before was given again for a moment
		nodes, err = c.GetNodes(ctx, &observerpb.GetNodesRequest{})
		return err != nil || len(nodes.GetNodes()) == 2
	})
	if n := nodes.GetNodes(); err != nil || n[0].GetName() != "c1/192.0.2.10" || n[1].GetName() != "c1/192.0.2.9" || n[1].GetNumFlows() != 2 {
		t.Errorf("%v, %v", nodes, err)
	}
	namespaces, err := c.GetNamespaces(ctx, &observerpb.GetNamespacesRequest{})
	if err != nil || fmt.Sprint(namespaces.GetNamespaces()) != `[cluster:"c1" namespace:"bank" cluster:"c1" namespace:"shop"]` && len(namespaces.GetNamespaces()) != 2 {
		t.Errorf("%v, %v", namespaces, err)
	}
	st, err := c.ServerStatus(ctx, &observerpb.ServerStatusRequest{})
	if err != nil || st.GetNumFlows() != 3 || st.GetMaxFlows() != 1000 || st.GetSeenFlows() != 3 || st.GetUptimeNs() == 0 || st.GetVersion() != "kube-enricher v1" {
		t.Errorf("%v, %v", st, err)
	}
	health := healthpb.NewHealthClient(dial(t, s.Addr()))
	for _, service := range []string{"", "hubble.server.Observer", "observer.Observer"} {
		h, err := health.Check(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, h, err)
		}
	}
	agent, err := c.GetAgentEvents(ctx, &observerpb.GetAgentEventsRequest{})
	if err == nil {
		_, err = agent.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	debug, err := c.GetDebugEvents(ctx, &observerpb.GetDebugEventsRequest{})
	if err == nil {
		_, err = debug.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

// TestRate measures a rate over the last minute, and over less after the start.
func TestRate(t *testing.T) {
	var r rate
	if r.perSecond() != 0 {
		t.Error(r.perSecond())
	}
	for i := range 11 {
		r.note(uint64(100 * i))
	}
	if got := r.perSecond(); got != 100 {
		t.Errorf("%v after 10 s of 100 a second", got)
	}
	for i := range 60 {
		r.note(1000 + uint64(5*(i+1)))
	}
	if got := r.perSecond(); got != 5 {
		t.Errorf("%v after a minute of 5 a second", got)
	}
}
