package hubble

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	v1 "github.com/cilium/cilium/pkg/hubble/api/v1"
	"github.com/cilium/cilium/pkg/hubble/filters"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// getFlows returns the flows of an answer.
func getFlows(t *testing.T, c observerpb.ObserverClient, req *observerpb.GetFlowsRequest) []*flowpb.Flow {
	t.Helper()
	stream, err := c.GetFlows(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	var list []*flowpb.Flow
	for {
		resp, err := stream.Recv()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if f := resp.GetFlow(); f != nil {
			list = append(list, f)
		}
	}
}

// values collects what filters may ask for: what the flows of a capture have, and what they do
// not have.
type values struct {
	pods, services, ips, ports, labels, nodes, uuids []string
	workloads                                        []*flowpb.Workload
	identities                                       []uint32
}

func add[T comparable](list *[]T, v T) {
	if !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
}

func collect(flows []*flowpb.Flow) *values {
	v := &values{
		pods: []string{"client", "shop/", "/web", "nothing/", "shop/cl"}, services: []string{"shop/", "web"}, ips: []string{"10.244.0.0/16", "fd00::/8", "::/0", "0.0.0.0/0"},
		ports:  []string{"0", "8080", "65535"},
		labels: []string{"app", "!app", "k8s:app!=web", "app in (web, client)", "any:app notin (web),k8s:io.kubernetes.pod.namespace", "reserved:world", "!reserved:world", "reserved:host", "k8s:tier", "io.kubernetes.pod.namespace=shop"},
		nodes:  []string{"*", "ovn-node1", "ovn-*", "default/", "other/", "default/ovn-node2"},
		workloads: []*flowpb.Workload{
			{}, {Kind: "Deployment"}, {Name: "web"}, {Name: "web", Kind: "Node"},
		},
		identities: []uint32{0, 1, 2, 6},
	}
	for i, f := range flows {
		for _, e := range []*flowpb.Endpoint{f.GetSource(), f.GetDestination()} {
			if e.GetPodName() != "" {
				add(&v.pods, e.GetNamespace()+"/"+e.GetPodName())
			}
			for _, l := range e.GetLabels() {
				add(&v.labels, l)
			}
			v.workloads = append(v.workloads, e.GetWorkloads()...)
			add(&v.identities, e.GetIdentity())
		}
		for _, s := range []*flowpb.Service{f.GetSourceService(), f.GetDestinationService()} {
			if s != nil {
				add(&v.services, s.GetNamespace()+"/"+s.GetName())
			}
		}
		if i%7 == 0 && f.GetIP() != nil {
			add(&v.ips, f.GetIP().GetSource())
			add(&v.ips, f.GetIP().GetDestination())
			add(&v.uuids, f.GetUuid())
		}
		if tcp := f.GetL4().GetTCP(); tcp != nil {
			add(&v.ports, fmt.Sprint(tcp.GetSourcePort()))
			add(&v.ports, fmt.Sprint(tcp.GetDestinationPort()))
		}
	}
	slices.SortFunc(v.workloads, func(a, b *flowpb.Workload) int {
		return slices.Compare([]string{a.GetName(), a.GetKind()}, []string{b.GetName(), b.GetKind()})
	})
	v.workloads = slices.CompactFunc(v.workloads, func(a, b *flowpb.Workload) bool { return a.GetName() == b.GetName() && a.GetKind() == b.GetKind() })
	return v
}

// filtersOf makes filters that ask for one thing each.
func (v *values) filters() (list []*flowpb.FlowFilter) {
	for _, s := range v.pods {
		list = append(list, &flowpb.FlowFilter{SourcePod: []string{s}}, &flowpb.FlowFilter{DestinationPod: []string{s}})
	}
	for _, s := range v.services {
		list = append(list, &flowpb.FlowFilter{SourceService: []string{s}}, &flowpb.FlowFilter{DestinationService: []string{s}})
	}
	for _, s := range v.ips {
		list = append(list, &flowpb.FlowFilter{SourceIp: []string{s}}, &flowpb.FlowFilter{DestinationIp: []string{s}}, &flowpb.FlowFilter{SourceIpXlated: []string{s}})
	}
	for _, s := range v.ports {
		list = append(list, &flowpb.FlowFilter{SourcePort: []string{s}}, &flowpb.FlowFilter{DestinationPort: []string{s}})
	}
	for _, s := range v.labels {
		list = append(list, &flowpb.FlowFilter{SourceLabel: []string{s}}, &flowpb.FlowFilter{DestinationLabel: []string{s}}, &flowpb.FlowFilter{NodeLabels: []string{s}})
	}
	for _, s := range v.nodes {
		list = append(list, &flowpb.FlowFilter{NodeName: []string{s}})
	}
	for _, s := range v.uuids {
		list = append(list, &flowpb.FlowFilter{Uuid: []string{s}})
	}
	for _, w := range v.workloads {
		list = append(list, &flowpb.FlowFilter{SourceWorkload: []*flowpb.Workload{w}}, &flowpb.FlowFilter{DestinationWorkload: []*flowpb.Workload{w}})
	}
	for _, id := range v.identities {
		list = append(list, &flowpb.FlowFilter{SourceIdentity: []uint32{id}}, &flowpb.FlowFilter{DestinationIdentity: []uint32{id}})
	}
	for _, s := range []string{"tcp", "UDP", "sctp", "icmp", "icmpv4", "icmpv6", "vrrp", "igmp", "dns", "http"} {
		list = append(list, &flowpb.FlowFilter{Protocol: []string{s}})
	}
	for n := range flowpb.Verdict_name {
		list = append(list, &flowpb.FlowFilter{Verdict: []flowpb.Verdict{flowpb.Verdict(n)}})
	}
	for n := range flowpb.TrafficDirection_name {
		list = append(list, &flowpb.FlowFilter{TrafficDirection: []flowpb.TrafficDirection{flowpb.TrafficDirection(n)}})
	}
	for n := range flowpb.IPVersion_name {
		list = append(list, &flowpb.FlowFilter{IpVersion: []flowpb.IPVersion{flowpb.IPVersion(n)}})
	}
	for _, yes := range []bool{false, true} {
		list = append(list, &flowpb.FlowFilter{Reply: []bool{yes}}, &flowpb.FlowFilter{Encrypted: []bool{yes}})
	}
	for eventType := range int32(6) {
		list = append(list, &flowpb.FlowFilter{EventType: []*flowpb.EventTypeFilter{{Type: eventType}}})
		for subType := range int32(14) {
			list = append(list, &flowpb.FlowFilter{EventType: []*flowpb.EventTypeFilter{{Type: eventType, MatchSubType: true, SubType: subType}}})
		}
	}
	for index := range uint32(12) {
		list = append(list, &flowpb.FlowFilter{Interface: []*flowpb.NetworkInterface{{Index: index}}})
	}
	return append(list, v.others()...)
}

// others are filters of which each has values of its own.
func (v *values) others() []*flowpb.FlowFilter {
	return []*flowpb.FlowFilter{
		{},
		{Interface: []*flowpb.NetworkInterface{{Name: "client"}, {Name: "web", Index: 1}}},
		{TcpFlags: []*flowpb.TCPFlags{{SYN: true}}}, {TcpFlags: []*flowpb.TCPFlags{{SYN: true, ACK: true}, {FIN: true}}}, {TcpFlags: []*flowpb.TCPFlags{{}}},
		{DropReasonDesc: []flowpb.DropReason{flowpb.DropReason_POLICY_DENIED}},
		{SourceFqdn: []string{"*.cluster.local*"}}, {DestinationFqdn: []string{"*"}},
		{HttpMethod: []string{"GET"}}, {HttpStatusCode: []string{"5+"}}, {DnsQuery: []string{".*"}},
		{TraceId: []string{"1"}}, {IpTraceId: []uint64{1}},
		{SourceClusterName: []string{"default"}}, {DestinationClusterName: []string{"default"}},
		{SourcePod: []string{"shop/"}, Protocol: []string{"tcp", "udp"}, Reply: []bool{false}},
		{SourceLabel: []string{"app=client"}, DestinationPort: []string{"8080", "7000"}, TrafficDirection: []flowpb.TrafficDirection{flowpb.TrafficDirection_EGRESS}},
	}
}

// unknowable reports whether a filter asks for what no record tells.
func unknowable(f *flowpb.FlowFilter) bool {
	if len(f.GetHttpMethod())+len(f.GetHttpStatusCode())+len(f.GetDnsQuery())+len(f.GetTraceId())+len(f.GetIpTraceId()) > 0 {
		return true
	}
	for _, s := range f.GetProtocol() {
		if s == "dns" || s == "http" {
			return true
		}
	}
	for _, s := range f.GetNodeLabels() {
		if !slices.Contains([]string{"!app", "k8s:app!=web", "!reserved:world"}, s) { // true for no labels at all
			return true
		}
	}
	return slices.Contains(f.GetEncrypted(), true)
}

// refused makes a request that must be answered with an error that says why.
func refused(t *testing.T, c observerpb.ObserverClient, req *observerpb.GetFlowsRequest) {
	t.Helper()
	stream, err := c.GetFlows(t.Context(), req)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "no record tells") {
		t.Errorf("%v: %v", req, err)
	}
}

// TestFilters compares what the program sends with what Cilium's own filters let through of all
// its flows, for filters of all kinds, as white and as black ones.
func TestFilters(t *testing.T) {
	list := filters.DefaultFilters(slog.New(slog.DiscardHandler))
	for _, capture := range []struct {
		name  string
		flows uint64
	}{{"ovs4-ipfix1.pcap.gz", 235}, {"sflow1.pcap.gz", 3430}} {
		t.Run(capture.name, func(t *testing.T) {
			c := client(t, captured(t, capture.name, capture.flows))
			all := getFlows(t, c, &observerpb.GetFlowsRequest{})
			if len(all) != int(capture.flows) {
				t.Fatalf("%d flows", len(all))
			}
			some := 0
			for _, f := range collect(all).filters() {
				if f.GetProtocol() == nil && len(f.GetInterface()) == 0 && capture.flows > 1000 && f.GetUuid() == nil && f.GetEventType() != nil {
					continue // the smaller capture has them all
				}
				for _, black := range []bool{false, true} {
					req := &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{f}}
					if black {
						req = &observerpb.GetFlowsRequest{Blacklist: []*flowpb.FlowFilter{f}}
					}
					white, err := filters.BuildFilterList(t.Context(), req.GetWhitelist(), list)
					if err != nil {
						t.Fatalf("%v: %v", f, err)
					}
					not, err := filters.BuildFilterList(t.Context(), req.GetBlacklist(), list)
					if err != nil {
						t.Fatalf("%v: %v", f, err)
					}
					want := slices.DeleteFunc(slices.Clone(all), func(f *flowpb.Flow) bool { return !filters.Apply(white, not, &v1.Event{Event: f}) })
					if !black && unknowable(f) {
						refused(t, c, req)
						continue
					}
					got := getFlows(t, c, req)
					if len(got) != len(want) || !slices.EqualFunc(got, want, func(a, b *flowpb.Flow) bool { return a.GetUuid() == b.GetUuid() }) {
						t.Errorf("%v (black: %v): %d flows, want %d", f, black, len(got), len(want))
					}
					if len(want) > 0 && len(want) < len(all) {
						some++
					}
				}
			}
			if some < 100 {
				t.Errorf("only %d filters let through some flows and not others", some)
			}
		})
	}
}
