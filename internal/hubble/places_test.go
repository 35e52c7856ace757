package hubble

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestReservedEnds has the ends that Cilium reserves identities for: the numbers are those of its
// documentation (Documentation/gettingstarted/terminology.rst, "Special Identities"). What lies
// outside of the cluster is the world, whatever is known of it.
func TestReservedEnds(t *testing.T) {
	place := func(p flow.Place) *flow.Object { return flow.NewObject(flow.Object{Place: &p}) }
	node := func(name string) *flow.Object {
		return flow.NewObject(flow.Object{Kind: "Node", Name: name, Node: name, Workload: name, WorkloadKind: "Node"})
	}
	for _, tt := range []struct {
		name     string
		object   *flow.Object
		addr     []byte
		identity uint32
		labels   []string
		names    []string
	}{
		{"nobody's", nil, []byte{203, 0, 113, 1}, 2, []string{"reserved:world"}, nil},
		{"network", place(flow.Place{SubnetLabel: "office"}), []byte{10, 1, 0, 1}, 2, []string{"gen:subnet.label=office", "reserved:world"}, []string{"office"}},
		{
			"all that is known", place(flow.Place{SubnetLabel: "Büro \xff", Country: "DE", ASName: "Example Net", ASNumber: 64500}), []byte{10, 1, 0, 1}, 2,
			[]string{"gen:as.name=Example Net", "gen:country=DE", "gen:subnet.label=Büro \uFFFD", "reserved:world"}, []string{"Büro \uFFFD"},
		},
		{"country alone", place(flow.Place{Country: "DE"}), []byte{203, 0, 113, 1}, 2, []string{"gen:country=DE", "reserved:world"}, nil},
		{"exporter's Node", node("n1"), []byte{10, 0, 0, 1}, 1, []string{"reserved:host"}, nil},
		{"other Node", node("n2"), []byte{10, 0, 0, 2}, 6, []string{"reserved:remote-node"}, nil},
		{"single link", nil, []byte{169, 254, 0, 1}, 0, []string{"reserved:unknown"}, nil},
		{
			"single link with a label", place(flow.Place{SubnetLabel: "all"}), netip.MustParseAddr("fe80::1").AsSlice(), 0,
			[]string{"gen:subnet.label=all", "reserved:unknown"}, []string{"all"},
		},
		{"no address", nil, nil, 0, []string{"reserved:unknown"}, nil},
	} {
		r := record(0, 1)
		r.Msg.SamplerAddress = []byte{10, 0, 0, 1}
		r.Msg.SrcAddr, r.Msg.DstAddr = tt.addr, tt.addr
		r.Ends[0].Object, r.Ends[1].Object = tt.object, tt.object
		f := flowOf(t, r)
		for _, e := range []*flowpb.Endpoint{f.GetSource(), f.GetDestination()} {
			if e.GetIdentity() != tt.identity || !slices.Equal(e.GetLabels(), tt.labels) || e.GetNamespace() != "" || e.GetPodName() != "" {
				t.Errorf("%s: %v, want identity %d, labels %v", tt.name, e, tt.identity, tt.labels)
			}
		}
		if !slices.Equal(f.GetSourceNames(), tt.names) || !slices.Equal(f.GetDestinationNames(), tt.names) {
			t.Errorf("%s: names %v, %v", tt.name, f.GetSourceNames(), f.GetDestinationNames())
		}
	}
}

// TestPlaceFilters asks for ends outside of the cluster by what is known of them.
func TestPlaceFilters(t *testing.T) {
	m := newMemory()
	for i, p := range []flow.Place{{SubnetLabel: "Office.Berlin"}, {SubnetLabel: "vpn", Country: "DE"}, {Country: "FR"}} {
		r := record(i, uint32(i+1))
		r.Ends[0].Object = flow.NewObject(flow.Object{Place: &p})
		m.records = append(m.records, r)
	}
	c := client(t, serve(t, Config{}, m))
	for want, f := range map[string]*flowpb.FlowFilter{
		"1 2 3": {SourceLabel: []string{"reserved:world"}},
		"1":     {SourceFqdn: []string{"office.*"}},
		"2":     {SourceLabel: []string{"gen:subnet.label=vpn"}},
		"3":     {SourceLabel: []string{"country=FR"}},
		"1 2":   {SourceFqdn: []string{"*"}},
		"":      {DestinationFqdn: []string{"*"}},
	} {
		list, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{f}})
		if got := sources(list); err != nil || got != want {
			t.Errorf("%v: flows %q, want %q: %v", fmt.Sprint(f), got, want, err)
		}
	}
}
