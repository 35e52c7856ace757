package hubble

import (
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	goflowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// object returns an end that is a pod, Service or Node on a Node.
func object(kind, namespace, name, workload, workloadKind, node, labels string) flow.End {
	return flow.End{Object: flow.NewObject(flow.Object{
		Kind: kind, Namespace: namespace, Name: name, Workload: workload, WorkloadKind: workloadKind, Node: node, Labels: labels,
	})}
}

// The labels of ends are app and tier.
var (
	clientPod = object("Pod", "shop", "client-1", "client", "Deployment", "n1", "client\nfront")
	serverPod = object("Pod", "shop", "server-0", "server", "StatefulSet", "n2", "server")
	otherPod  = object("Pod", "bank", "client-7", "client", "DaemonSet", "n1", "\nback")
	service   = object("Service", "shop", "web", "web", "Service", "", "")
	node1     = object("Node", "", "n1", "n1", "Node", "n1", "")
	node2     = object("Node", "", "n2", "n2", "Node", "n2", "")
)

// variety has records that differ in all that filters ask for, each known by its letter.
func variety() map[string]*flow.Record {
	make := func(second int, src, dst flow.End, proto, srcPort, dstPort uint32) *flow.Record {
		r := record(second, srcPort)
		r.Msg.Proto, r.Msg.DstPort = proto, dstPort
		r.Ends[0], r.Ends[1] = src, dst
		r.Msg.SamplerAddress = []byte{10, 0, 0, 1} // of n1
		r.Msg.SrcAddr, r.Msg.DstAddr = []byte{10, 1, 0, 1}, []byte{10, 2, 0, 1}
		return r
	}
	list := map[string]*flow.Record{
		"a": make(0, clientPod, serverPod, protoTCP, 40000, 80), // egress of n1
		"b": make(1, serverPod, clientPod, protoTCP, 80, 40000), // its answer
		"c": make(2, clientPod, service, protoUDP, 40001, 53),
		"d": make(3, otherPod, node1, protoTCP, 40002, 10250),
		"e": make(4, node2, otherPod, protoSCTP, 40003, 9999),
		"f": make(5, flow.End{}, clientPod, protoICMP, 0, 0),
		"g": make(6, flow.End{}, flow.End{}, protoICMP6, 0, 0),
		"h": make(7, flow.End{}, flow.End{}, protoTCP, 9000, 9001),
	}
	list["a"].Msg.TcpFlags, list["b"].Msg.TcpFlags = flagSYN, flagSYN|flagACK
	list["a"].Msg.OutIf, list["a"].Extra.FlowDirection, list["a"].Extra.HasDirection = 7, 1, true
	list["a"].Extra.OutIfName = []byte("ovn-k8s")
	list["f"].Msg.IcmpType, list["f"].Msg.SrcAddr = 8, []byte{203, 0, 113, 5}
	list["g"].Msg.IcmpType = 129
	list["g"].Msg.SrcAddr, list["g"].Msg.DstAddr = []byte{0x20, 1, 0xd, 0xb8, 15: 1}, []byte{0x20, 1, 0xd, 0xb8, 15: 2}
	list["g"].Msg.SamplerAddress = []byte{192, 0, 2, 77}
	list["h"].Msg.ForwardingStatus, list["h"].Msg.Type = 130, goflowpb.FlowMessage_NETFLOW_V9
	list["h"].Extra.HasDirection = true
	list["h"].Extra.PostNATSrcAddr = []byte{198, 51, 100, 9}
	return list
}

// letters shows answers by the letters of variety.
func letters(list []*observerpb.GetFlowsResponse) string {
	var b strings.Builder
	for _, resp := range list {
		b.WriteByte(byte('a' + resp.GetFlow().GetTime().AsTime().Sub(epoch).Seconds()))
	}
	return b.String()
}

// TestFilters asks for flows by one filter after another. What they mean is in flow.proto of
// Cilium's API. "make e2e-hubble" compares more of them with Cilium's own.
func TestFilters(t *testing.T) {
	m := newMemory()
	records := variety()
	for letter := range strings.SplitSeq("abcdefgh", "") {
		m.add(records[letter])
	}
	c := client(t, serve(t, Config{Labels: []string{"app", "tier"}, NodeOf: nodesOfTest, Cluster: "c1"}, m))
	identity := newIdentities().of(clientPod.Object)
	type f = flowpb.FlowFilter
	for _, tt := range []struct {
		name   string
		filter *f
		want   string
	}{
		{"nothing", &f{}, "abcdefgh"},
		{"pod", &f{SourcePod: []string{"shop/client"}}, "ac"},
		{"pod, to", &f{DestinationPod: []string{"shop/client-1"}}, "bf"},
		{"pod, no prefix", &f{SourcePod: []string{"shop/lient"}}, ""},
		{"pod, any namespace", &f{SourcePod: []string{"/client"}}, "acd"},
		{"pod, namespace default", &f{SourcePod: []string{"client"}}, ""},
		{"namespace", &f{SourcePod: []string{"shop/"}}, "abc"},
		{"namespace, no prefix", &f{SourcePod: []string{"sho/"}}, ""},
		{"namespace of a Service", &f{DestinationPod: []string{"shop/"}}, "abcf"},
		{"namespaces", &f{DestinationPod: []string{"bank/", "shop/server"}}, "ae"},
		{"service", &f{DestinationService: []string{"shop/we"}}, "c"},
		{"service, from", &f{SourceService: []string{"shop/web"}}, ""},
		{"workload", &f{SourceWorkload: []*flowpb.Workload{{Name: "client"}}}, "acd"},
		{"workload and kind", &f{SourceWorkload: []*flowpb.Workload{{Name: "client", Kind: "DaemonSet"}, {Kind: "StatefulSet"}}}, "bd"},
		{"workload of a Node", &f{DestinationWorkload: []*flowpb.Workload{{Name: "n1", Kind: "Node"}}}, "d"},
		{"label", &f{SourceLabel: []string{"app=client"}}, "ac"},
		{"label, source", &f{SourceLabel: []string{"k8s:tier=back"}}, "d"},
		{"label, other source", &f{SourceLabel: []string{"reserved:tier=back"}}, ""},
		{"label, set", &f{SourceLabel: []string{"app in (server, web),tier notin (front)"}}, "b"},
		{"label, there", &f{SourceLabel: []string{"tier"}}, "acd"},
		{"label, not there", &f{SourceLabel: []string{"!tier"}}, "befgh"},
		{"label, not", &f{SourceLabel: []string{"k8s:tier, tier!=front"}}, "d"},
		{"labels, any", &f{SourceLabel: []string{"app=server", "tier=back"}}, "bd"},
		{"label, namespace", &f{SourceLabel: []string{"io.kubernetes.pod.namespace=bank"}}, "d"},
		{"label, cluster", &f{SourceLabel: []string{"io.cilium.k8s.policy.cluster=c1"}}, "abcd"},
		{"label, world", &f{SourceLabel: []string{"reserved:world"}}, "fgh"},
		{"label, host", &f{DestinationLabel: []string{"reserved:host"}}, "d"},
		{"label, other node", &f{SourceLabel: []string{"reserved:remote-node"}}, "e"},
		{"label, workload", &f{SourceLabel: []string{"workload.name=client"}}, "d"},
		{"label that no node has", &f{NodeLabels: []string{"a=b", "!a"}}, "abcdefgh"},
		{"identity", &f{SourceIdentity: []uint32{identity}}, "ac"},
		{"identities", &f{DestinationIdentity: []uint32{identityHost, identityWorld}}, "dgh"},
		{"ip", &f{SourceIp: []string{"203.0.113.5"}}, "f"},
		{"cidr", &f{SourceIp: []string{"203.0.0.0/16", "2001:db8::/64"}}, "fg"},
		{"ip behind a NAT", &f{SourceIpXlated: []string{"198.51.100.0/24"}}, "h"},
		{"ip version", &f{IpVersion: []flowpb.IPVersion{flowpb.IPVersion_IPv6}}, "g"},
		{"port", &f{DestinationPort: []string{"80", "53"}}, "ac"},
		{"port, from", &f{SourcePort: []string{"80"}}, "b"},
		{"port of what has none", &f{SourcePort: []string{"0"}}, ""},
		{"protocol", &f{Protocol: []string{"TCP"}}, "abdh"},
		{"protocols", &f{Protocol: []string{"sctp", "icmp"}}, "efg"},
		{"icmpv4", &f{Protocol: []string{"icmpv4"}}, "f"},
		{"http or tcp", &f{Protocol: []string{"http", "tcp"}}, "abdh"},
		{"flags", &f{TcpFlags: []*flowpb.TCPFlags{{SYN: true}}}, "ab"},
		{"flags, all", &f{TcpFlags: []*flowpb.TCPFlags{{SYN: true, ACK: true}}}, "b"},
		{"verdict", &f{Verdict: []flowpb.Verdict{flowpb.Verdict_FORWARDED}}, "a"},
		{"verdicts", &f{Verdict: []flowpb.Verdict{flowpb.Verdict_FORWARDED, flowpb.Verdict_DROPPED}}, "ah"},
		{"reason", &f{DropReasonDesc: []flowpb.DropReason{flowpb.DropReason_POLICY_DENIED}}, "h"},
		{"reply", &f{Reply: []bool{true}}, "bg"},
		{"no reply, and what was dropped", &f{Reply: []bool{false}}, "acdefh"},
		{"egress", &f{TrafficDirection: []flowpb.TrafficDirection{flowpb.TrafficDirection_EGRESS}}, "abcd"},
		{"ingress", &f{TrafficDirection: []flowpb.TrafficDirection{flowpb.TrafficDirection_INGRESS}}, "efh"},
		{"drops", &f{EventType: []*flowpb.EventTypeFilter{{Type: eventDrop}}}, "h"},
		{"from endpoints", &f{EventType: []*flowpb.EventTypeFilter{{Type: eventTrace, MatchSubType: true, SubType: pointFromEndpoint}}}, "acd"},
		{"node", &f{NodeName: []string{"n1"}}, "abcdefh"},
		{"node, cluster", &f{NodeName: []string{"c1/"}}, "abcdefgh"},
		{"node, other cluster", &f{NodeName: []string{"default/n1"}}, ""},
		{"node, pattern", &f{NodeName: []string{"192.*"}}, "g"},
		{"cluster", &f{SourceClusterName: []string{"c1"}}, "abcde"},
		{"interface", &f{Interface: []*flowpb.NetworkInterface{{Name: "ovn-k8s"}}}, "a"},
		{"interface, index", &f{Interface: []*flowpb.NetworkInterface{{Index: 7}, {Index: 8}}}, "a"},
		{"name", &f{DestinationFqdn: []string{"*.example.org"}}, ""},
		{"not encrypted", &f{Encrypted: []bool{false}}, "abcdefgh"},
		{"encrypted or not", &f{Encrypted: []bool{true, false}}, "abcdefgh"},
		{"all of several", &f{SourcePod: []string{"shop/"}, Protocol: []string{"tcp"}, Reply: []bool{false}}, "a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{tt.filter}})
			if got := letters(list); err != nil || got != tt.want {
				t.Errorf("white: %q, %v; want %q", got, err, tt.want)
			}
			rest := strings.Map(func(r rune) rune {
				if strings.ContainsRune(tt.want, r) {
					return -1
				}
				return r
			}, "abcdefgh")
			list, err = getFlows(t, c, &observerpb.GetFlowsRequest{Blacklist: []*flowpb.FlowFilter{tt.filter}})
			if got := letters(list); err != nil || got != rest {
				t.Errorf("black: %q, %v; want %q", got, err, rest)
			}
		})
	}
	all, err := getFlows(t, c, &observerpb.GetFlowsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i, resp := range all {
		list, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{{Uuid: []string{resp.GetFlow().GetUuid()}}}})
		if got := letters(list); err != nil || got != "abcdefgh"[i:i+1] {
			t.Errorf("by UUID: %q, %v", got, err)
		}
	}
}

// TestUnknowable: who asks for what no record tells gets to know that, and who wants to leave it
// out leaves out nothing.
func TestUnknowable(t *testing.T) {
	type f = flowpb.FlowFilter
	c := client(t, serve(t, Config{}, newMemory(record(0, 1))))
	for _, tt := range []struct {
		filter *f
		want   string
	}{
		{&f{HttpMethod: []string{"GET"}}, "HTTP"},
		{&f{HttpStatusCode: []string{"5+"}}, "HTTP"},
		{&f{HttpPath: []string{"/"}}, "HTTP"},
		{&f{HttpUrl: []string{"http://.*"}}, "HTTP"},
		{&f{HttpHeader: []*flowpb.HTTPHeader{{Key: "a", Value: "b"}}}, "HTTP"},
		{&f{DnsQuery: []string{".*"}}, "DNS"},
		{&f{Protocol: []string{"http"}}, "HTTP"},
		{&f{Protocol: []string{"dns"}, SourcePort: []string{"1"}}, "DNS"},
		{&f{Encrypted: []bool{true}}, "encrypted"},
		{&f{TraceId: []string{"1"}}, "traces"},
		{&f{IpTraceId: []uint64{1}}, "traces"},
		{&f{NodeLabels: []string{"a=b"}}, "labels of nodes"},
	} {
		_, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*f{{}, tt.filter}})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %s", tt.filter, err, tt.want)
		}
		if list, err := getFlows(t, c, &observerpb.GetFlowsRequest{Blacklist: []*f{tt.filter}}); err != nil || len(list) != 1 {
			t.Errorf("black %v: %d flows, %v", tt.filter, len(list), err)
		}
	}
}
