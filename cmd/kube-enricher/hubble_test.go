package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const ovnSnapshot = ovnDir + "/snapshot.yaml"

// hubbleClient is Cilium's client of the program.
func hubbleClient(t *testing.T, addr string, opts ...grpc.DialOption) observerpb.ObserverClient {
	t.Helper()
	conn, err := grpc.NewClient(addr, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return observerpb.NewObserverClient(conn)
}

// hubbleFlows returns the flows of an answer.
func hubbleFlows(t *testing.T, c observerpb.ObserverClient, req *observerpb.GetFlowsRequest) []*flowpb.Flow {
	t.Helper()
	stream, err := c.GetFlows(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var list []*flowpb.Flow
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, resp.GetFlow())
	}
}

// TestHubbleCapture asks for the flows of a capture, after the program has read it. It stays
// until a signal, and then ends as planned.
func TestHubbleCapture(t *testing.T) {
	const records = 235
	addr := freeAddr(t)
	p := startProgram(t, "-hubble.addr", addr, "-kube.snapshot", ovnSnapshot, "-cluster", "lab", "-kube.labels", "tier=Tier", "-transport.file", "/dev/null",
		"-filter", `SrcPod == "nobody"`, ovnDir+"/ovs4-ipfix1.pcap.gz")
	c := hubbleClient(t, addr)
	p.eventually("all records", func() bool {
		st, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return err == nil && st.GetNumFlows() == records && st.GetSeenFlows() == records && st.GetMaxFlows() > 100_000
	})
	all := hubbleFlows(t, c, &observerpb.GetFlowsRequest{Number: 1 << 40})
	if len(all) != records || !slices.IsSortedFunc(all, func(a, b *flowpb.Flow) int { return a.GetTime().AsTime().Compare(b.GetTime().AsTime()) }) {
		t.Errorf("%d flows, or not in order", len(all))
	}
	some := hubbleFlows(t, c, &observerpb.GetFlowsRequest{Number: 3, Whitelist: []*flowpb.FlowFilter{{
		SourcePod: []string{"shop/client"}, DestinationLabel: []string{"app=server"}, Protocol: []string{"tcp"}, NodeName: []string{"lab/ovn-node1"},
	}}})
	if len(some) != 3 {
		t.Fatalf("%d flows", len(some))
	}
	f := some[0]
	if f.GetDestination().GetWorkloads()[0].GetName() != "server" || f.GetSource().GetClusterName() != "lab" || f.GetIsReply() == nil {
		t.Errorf("%v", f)
	}
	nodes, err := c.GetNodes(t.Context(), &observerpb.GetNodesRequest{})
	if err != nil || len(nodes.GetNodes()) != 2 || nodes.GetNodes()[0].GetName() != "lab/ovn-node1" {
		t.Errorf("%v, %v", nodes, err)
	}
	namespaces, err := c.GetNamespaces(t.Context(), &observerpb.GetNamespacesRequest{})
	if err != nil || len(namespaces.GetNamespaces()) != 2 || namespaces.GetNamespaces()[1].GetNamespace() != "shop" {
		t.Errorf("%v, %v", namespaces, err)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestHubbleVerdicts shows what OVN's policies decided of the lab's traffic: pod denied lets in
// port 8080 only.
func TestHubbleVerdicts(t *testing.T) {
	addr := freeAddr(t)
	p := startProgram(t, "-hubble.addr", addr, "-kube.snapshot", ovnSnapshot, "-transport.file", "/dev/null",
		"-ovn.nb", "../../internal/policy/testdata/nb-samples.json", ovnDir+"/ovn-sample.pcap.gz")
	c := hubbleClient(t, addr)
	p.eventually("all records", func() bool {
		st, err := c.ServerStatus(t.Context(), &observerpb.ServerStatusRequest{})
		return err == nil && st.GetNumFlows() == 255
	})
	dropped, allowed := 0, 0
	for _, f := range hubbleFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{{DestinationPod: []string{"shop/denied"}}}}) {
		if f.GetL4().GetTCP() == nil || f.GetEventType().GetType() != 5 {
			continue
		}
		want := flowpb.Verdict_DROPPED
		if f.GetL4().GetTCP().GetDestinationPort() == 8080 {
			want = flowpb.Verdict_FORWARDED
		}
		if f.GetVerdict() != want || f.GetTrafficDirection() != flowpb.TrafficDirection_INGRESS {
			t.Errorf("want %v: %v", want, f)
		}
		switch {
		case want == flowpb.Verdict_DROPPED && len(f.GetIngressDeniedBy()) == 1 && f.GetDropReasonDesc() == flowpb.DropReason_POLICY_DENIED:
			dropped++
		case want == flowpb.Verdict_FORWARDED && len(f.GetIngressAllowedBy()) == 1 && f.GetIngressAllowedBy()[0].GetName() == "allow-8080":
			allowed++
		default:
			t.Errorf("no policy: %v", f)
		}
	}
	if dropped == 0 || allowed == 0 {
		t.Errorf("%d flows dropped, %d allowed", dropped, allowed)
	}
}

// TestHubbleAddress: an address that is in use ends the program.
func TestHubbleAddress(t *testing.T) {
	addr := freeAddr(t)
	p := startProgram(t, "-hubble.addr", addr, "-addr", addr, "-kube.off", ovnDir+"/ovn-drop-sample.pcap")
	if code := p.wait(); code != exitUsage || !strings.Contains(p.stderr(), "-hubble.addr") {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// followHubble follows all flows until stop, which returns how many there were, or how it ended
// before.
func followHubble(t *testing.T, addr string) (stop func() (flows, lost uint64)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var flows, lost atomic.Uint64
	stream, err := hubbleClient(t, addr).GetFlows(ctx, &observerpb.GetFlowsRequest{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				done <- err
				return
			}
			if resp.GetFlow() != nil {
				flows.Add(1)
			}
			lost.Add(resp.GetLostEvents().GetNumEventsLost())
		}
	}()
	return func() (uint64, uint64) {
		select {
		case err := <-done:
			t.Errorf("the stream of Hubble's client has ended: %v", err)
		default:
			cancel()
			<-done
		}
		return flows.Load(), lost.Load()
	}
}
