package hubble

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
)

// nodesOfTest knows the Nodes n1, 10.0.0.1, and n2, 10.0.0.2.
func nodesOfTest(a netip.Addr, _ int64) string {
	switch a.String() {
	case "10.0.0.1":
		return "n1"
	case "10.0.0.2":
		return "n2"
	}
	return ""
}

// flowOf returns the flow of a record.
func flowOf(t *testing.T, r *flow.Record) *flowpb.Flow {
	t.Helper()
	s := newServer(Config{Mapping: mapping(t), Labels: []string{"app", "tier"}, NodeOf: nodesOfTest, Cluster: "c1"}, nil)
	v := newView(&s.names)
	v.set(r)
	return decoded(t, v, "v1")
}

// decoded returns a view's flow, read with Cilium's types. It fails if the reference is another
// one.
func decoded(t *testing.T, v *view, version string) *flowpb.Flow {
	t.Helper()
	f := &flowpb.Flow{}
	if err := proto.Unmarshal(v.appendFlow(nil, version), f); err != nil {
		t.Fatal(err)
	}
	want := reference{v}.flow(version)
	if !proto.Equal(f, want) {
		t.Fatalf("got\n%s\nwant\n%s", protojson.Format(f), protojson.Format(want))
	}
	return f
}

// TestFlow has all that can be known of one record.
func TestFlow(t *testing.T) {
	r := flowtest.Reference()
	m, x := &r.Msg, &r.Extra
	m.SamplerAddress = []byte{10, 0, 0, 1}
	r.Ends[0], r.Ends[1] = clientPod, flow.End{Status: flow.StatusAmbiguous, Object: flow.NewObject(flow.Object{
		Kind: "Service", Namespace: "shop", Name: "web", Workload: "web", WorkloadKind: "Service", Warn: "Several services found for same IP: a,b",
	})}
	m.TcpFlags = flagSYN | flagACK | flagPSH
	m.SamplingRate = 400
	x.HasDirection = true
	x.InIfName = []byte("veth\xff")
	x.Verdict, x.PolicyKind, x.PolicyNamespace, x.PolicyName = []byte("dropped"), []byte("NetworkPolicy"), []byte("shop"), []byte("deny")
	x.PolicyDirection, x.PolicyRule = []byte("Egress"), []byte("2")
	x.TunnelType, x.TunnelKey, x.TunnelProto, x.TunnelSrcPort, x.TunnelDstPort = 7, 33, 17, 4000, 6081
	x.TunnelSrcAddr, x.TunnelDstAddr = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	x.PostNATSrcAddr = []byte{172, 18, 0, 2}
	want := &flowpb.Flow{}
	err := protojson.Unmarshal([]byte(`{
		"time": "2021-08-08T10:43:18.123456789Z",
		"emitter": {"name": "kube-enricher", "version": "v1"},
		"verdict": "DROPPED", "drop_reason": 133, "drop_reason_desc": "POLICY_DENIED",
		"ethernet": {"source": "0a:58:0a:f4:00:05", "destination": "0a:58:0a:f4:00:01"},
		"IP": {"source": "10.244.0.5", "source_xlated": "172.18.0.2", "destination": "10.96.0.1", "ipVersion": "IPv4"},
		"l4": {"TCP": {"source_port": 56144, "destination_port": 443, "flags": {"SYN": true, "ACK": true, "PSH": true}}},
		"tunnel": {"protocol": "GENEVE", "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
			"l4": {"UDP": {"source_port": 4000, "destination_port": 6081}}, "vni": 33},
		"source": {"namespace": "shop", "pod_name": "client-1", "cluster_name": "c1", "workloads": [{"name": "client", "kind": "Deployment"}],
			"labels": ["k8s:app=client", "k8s:io.cilium.k8s.policy.cluster=c1", "k8s:io.kubernetes.pod.namespace=shop", "k8s:tier=front"]},
		"destination": {"namespace": "shop", "cluster_name": "c1", "workloads": [{"name": "web", "kind": "Service"}],
			"labels": ["gen:workload.name=web", "k8s:io.cilium.k8s.policy.cluster=c1", "k8s:io.kubernetes.pod.namespace=shop"]},
		"destination_service": {"name": "web", "namespace": "shop"},
		"Type": "L3_L4", "node_name": "c1/n1", "is_reply": false, "traffic_direction": "EGRESS",
		"event_type": {"type": 5},
		"egress_denied_by": [{"name": "deny", "namespace": "shop", "kind": "NetworkPolicy"}],
		"interface": {"index": 12, "name": "veth\ufffd"},
		"Summary": "TCP Flags: SYN, ACK, PSH; 400 packets, 20800 bytes, sampled 1:400; rule 2; Several services found for same IP: a,b"
	}`), want)
	if err != nil {
		t.Fatal(err)
	}
	got := flowOf(t, r)
	for _, e := range []*flowpb.Endpoint{got.GetSource(), got.GetDestination()} {
		if e.GetIdentity() < identityMin || e.GetIdentity() > identityMax {
			t.Errorf("identity %d", e.GetIdentity())
		}
		e.Identity = 0
	}
	if ok := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(got.GetUuid()); !ok {
		t.Errorf("UUID %q", got.GetUuid())
	}
	got.Uuid = ""
	if !proto.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", protojson.Format(got), protojson.Format(want))
	}
}

// TestVerdicts has what exporters tell of what became of packets.
func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name    string
		set     func(r *flow.Record)
		verdict flowpb.Verdict
		reason  flowpb.DropReason
	}{
		{"nothing", func(*flow.Record) {}, flowpb.Verdict_VERDICT_UNKNOWN, 0},
		{"allowed", func(r *flow.Record) { r.Extra.Verdict = []byte("allowed") }, flowpb.Verdict_FORWARDED, 0},
		{"dropped by something", func(r *flow.Record) { r.Extra.Verdict = []byte("dropped") }, flowpb.Verdict_DROPPED, 0},
		{"dropped, though it has an interface", func(r *flow.Record) { r.Extra.Verdict, r.Msg.OutIf = []byte("dropped"), 1 }, flowpb.Verdict_DROPPED, 0},
		{"denied by a firewall", func(r *flow.Record) { r.Extra.FirewallEvent = 3 }, flowpb.Verdict_DROPPED, flowpb.DropReason_POLICY_DENIED},
		{"let through by a firewall", func(r *flow.Record) { r.Extra.FirewallEvent = 1 }, flowpb.Verdict_VERDICT_UNKNOWN, 0},
		{"forwarding status", func(r *flow.Record) { r.Msg.ForwardingStatus = 64 }, flowpb.Verdict_FORWARDED, 0},
		{"ACL", func(r *flow.Record) { r.Msg.ForwardingStatus = 129 }, flowpb.Verdict_DROPPED, flowpb.DropReason_POLICY_DENIED},
		{"TTL", func(r *flow.Record) { r.Msg.ForwardingStatus = 137 }, flowpb.Verdict_DROPPED, flowpb.DropReason_TTL_EXCEEDED},
		{"policer", func(r *flow.Record) { r.Msg.ForwardingStatus = 138 }, flowpb.Verdict_DROPPED, flowpb.DropReason_DROP_RATE_LIMITED},
		{"consumed", func(r *flow.Record) { r.Msg.ForwardingStatus = 192 }, flowpb.Verdict_VERDICT_UNKNOWN, 0},
		{"left by an interface", func(r *flow.Record) { r.Msg.OutIf = 3 }, flowpb.Verdict_FORWARDED, 0},
		{"sampled by OVN", func(r *flow.Record) { r.Msg.OutIf, r.Extra.Sampled = 3, true }, flowpb.Verdict_VERDICT_UNKNOWN, 0},
	} {
		r := record(0, 1)
		tt.set(r)
		if f := flowOf(t, r); f.GetVerdict() != tt.verdict || f.GetDropReasonDesc() != tt.reason {
			t.Errorf("%s: %v, %v", tt.name, f.GetVerdict(), f.GetDropReasonDesc())
		}
	}
}

// TestOtherRecords: the summary of what other records have, too, says so: repeated records and samples
// of OVN. Records without an address do not count either, but no other one has their packets.
func TestOtherRecords(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(r *flow.Record)
		want string
	}{
		{"counts", func(*flow.Record) {}, "UDP; 1 packet, 0 bytes"},
		{"repeated", func(r *flow.Record) { r.Extra.Duplicate = true }, "UDP; 1 packet, 0 bytes, also in another record"},
		{"sampled by OVN", func(r *flow.Record) { r.Extra.Sampled = true }, "UDP; 1 packet, 0 bytes, also in another record"},
		{"no address", func(r *flow.Record) { r.Msg.SrcAddr, r.Msg.DstAddr = nil, nil }, "UDP; 1 packet, 0 bytes"},
	} {
		r := record(0, 1)
		tt.set(r)
		r.Msg.Proto, r.Msg.Packets, r.Msg.Bytes = protoUDP, 1, 0
		if got := flowOf(t, r).GetSummary(); got != tt.want { //nolint:staticcheck // it is what clients show
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestReplies has what tells answers from questions.
func TestReplies(t *testing.T) {
	tcp := func(flags uint32, packets uint64) func(*flow.Record) {
		return func(r *flow.Record) {
			r.Msg.Proto, r.Msg.TcpFlags, r.Msg.Packets, r.Msg.SrcPort, r.Msg.DstPort = protoTCP, flags, packets, 5000, 5001
		}
	}
	icmp := func(proto, icmpType uint32) func(*flow.Record) {
		return func(r *flow.Record) { r.Msg.Proto, r.Msg.IcmpType, r.Extra.HasICMP = proto, icmpType, true }
	}
	portsOf := func(src, dst uint32) func(*flow.Record) {
		return func(r *flow.Record) { r.Msg.SrcPort, r.Msg.DstPort = src, dst }
	}
	for _, tt := range []struct {
		name string
		set  func(r *flow.Record)
		want string
	}{
		{"biflow, initiator", func(r *flow.Record) { r.Extra.BiFlowDirection, r.Msg.SrcPort, r.Msg.DstPort = 1, 53, 40000 }, "no"},
		{"biflow, reverse", func(r *flow.Record) { r.Extra.BiFlowDirection, r.Msg.SrcPort, r.Msg.DstPort = 2, 40000, 53 }, "yes"},
		{"SYN", tcp(flagSYN, 1), "no"},
		{"SYN and ACK of a packet", tcp(flagSYN|flagACK, 1), "yes"},
		{"SYN and ACK of a flow", tcp(flagSYN|flagACK, 9), "unknown"},
		{"echo", icmp(protoICMP, 8), "no"},
		{"echo reply", icmp(protoICMP, 0), "yes"},
		{"echo of IPv6", icmp(protoICMP6, 128), "no"},
		{"echo reply of IPv6", icmp(protoICMP6, 129), "yes"},
		{"unreachable", icmp(protoICMP, 3), "unknown"},
		{"ICMP of which no type is known", func(r *flow.Record) { r.Msg.Proto, r.Msg.SrcPort = protoICMP, 0 }, "unknown"},
		{"to a Service", func(r *flow.Record) { r.Ends[1] = service; r.Msg.SrcPort, r.Msg.DstPort = 500, 40000 }, "no"},
		{"from a Service", func(r *flow.Record) { r.Ends[0] = service; r.Msg.SrcPort, r.Msg.DstPort = 40000, 500 }, "yes"},
		{"to a low port", portsOf(32768, 32767), "no"},
		{"to a high port", portsOf(32767, 32768), "yes"},
		{"both low", portsOf(123, 124), "unknown"},
		{"both high", portsOf(50000, 40000), "unknown"},
		{"no port", portsOf(40000, 0), "unknown"},
		{"GRE", func(r *flow.Record) { r.Msg.Proto = 47; r.Msg.SrcPort = 40000 }, "unknown"},
	} {
		r := record(0, 1)
		tt.set(r)
		got := "unknown"
		if is := flowOf(t, r).GetIsReply(); is != nil {
			got = map[bool]string{true: "yes", false: "no"}[is.GetValue()]
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestIdentities: workloads are never mixed up, and have the same numbers in each process.
func TestIdentities(t *testing.T) {
	a, b := newIdentities(), newIdentities()
	seen := make(map[uint32]string)
	for i := range 20_000 {
		name := strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("y", i/26)
		o := object("Pod", "ns", name, name, "Deployment", "", "").Object
		id := a.of(o)
		if other, ok := seen[id]; ok && other != name || id < identityMin || id > identityMax {
			t.Fatalf("%s and %s have %d", name, other, id)
		}
		seen[id] = name
		if i < 100 && b.of(o) != id {
			t.Errorf("%s has %d, and %d elsewhere", name, id, b.of(o))
		}
	}
	// The second one of two with the same hash has the next number.
	o := object("Pod", "ns", "new", "new", "Deployment", "", "").Object
	taken := newIdentities()
	taken.taken[hashed(workloadOf(o).Value())] = true
	if id := taken.of(o); id != hashed(workloadOf(o).Value())+1 {
		t.Error(id)
	}
}

// TestText: whatever exporters send, flows can be sent: their texts are valid UTF-8.
func TestText(t *testing.T) {
	const bad = "a\xff"
	r := record(0, 1)
	r.Ends[0].Object = flow.NewObject(flow.Object{
		Kind: "Pod", Namespace: bad, Name: bad, Workload: bad, WorkloadKind: bad, Node: bad, Labels: bad + "\n" + bad, Warn: bad,
	})
	r.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Service", Namespace: bad, Name: bad, Workload: bad, WorkloadKind: bad})
	x := &r.Extra
	x.InIfName, x.OutIfName = []byte(bad), []byte(bad)
	x.Verdict, x.PolicyKind, x.PolicyName, x.PolicyNamespace, x.PolicyRule, x.PolicyWarn = []byte("allowed"), []byte(bad), []byte(bad), []byte(bad), []byte(bad), []byte(bad)
	x.PolicyDirection = []byte("Ingress")
	f := flowOf(t, r)
	if b, err := proto.Marshal(f); err != nil || !utf8.ValidString(f.String()) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
