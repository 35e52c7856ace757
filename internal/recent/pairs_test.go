package recent

import (
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestEnds has ends as the contract names them: workloads, and outside of the cluster the
// label of a network, else the country, else the outside.
func TestEnds(t *testing.T) {
	w := newWorkloads()
	for want, o := range map[End]*flow.Object{
		{"Deployment", "shop", "web"}: flow.NewObject(flow.Object{Kind: "Pod", Namespace: "shop", Name: "web-1", Workload: "web", WorkloadKind: "Deployment"}),
		{"none", "", "office"}:        flow.NewObject(flow.Object{Place: &flow.Place{SubnetLabel: "office", Country: "CH"}}),
		{"none", "", "CH"}:            flow.NewObject(flow.Object{Place: &flow.Place{Country: "CH", ASName: "Example"}}),
		{"none", "", "outside"}:       flow.NewObject(flow.Object{Place: &flow.Place{ASName: "Example"}}),
	} {
		if got := endOf(w.list[w.of(o)]); got != want {
			t.Errorf("%+v, not %+v", got, want)
		}
	}
	if got := endOf(w.list[w.of(nil)]); got.Name != Outside {
		t.Errorf("%+v", got)
	}
}
