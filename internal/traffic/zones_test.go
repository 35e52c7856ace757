package traffic

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// zonedObject is a pod of one Deployment, in a zone.
func zonedObject(zone string) *flow.Object {
	return flow.NewObject(flow.Object{Kind: "Pod", Namespace: "shop", Name: "p", Workload: "web", WorkloadKind: "Deployment", Zone: zone})
}

// TestZones counts the same pair of workloads by its zones, only where that is asked for,
// and networks outside of the cluster by their labels.
func TestZones(t *testing.T) {
	office := flow.NewObject(flow.Object{Place: &flow.Place{SubnetLabel: "office", Country: "DE"}})
	abroad := flow.NewObject(flow.Object{Place: &flow.Place{Country: "FR"}})
	for _, zones := range []bool{false, true} {
		mapping, err := flow.ParseMapping("NextHop=Nxt,DstAddr=Dst,SrcAddr=Src")
		if err != nil {
			t.Fatal(err)
		}
		reg := prometheus.NewPedanticRegistry()
		c, err := New(Config{Mapping: mapping, MaxSeries: 100, Zones: zones}, reg)
		if err != nil {
			t.Fatal(err)
		}
		s := c.NewStage(new(end))
		s.HandleFlow(record(zonedObject("a"), zonedObject("b"), 1, 1))
		s.HandleFlow(record(zonedObject("a"), zonedObject("a"), 2, 1))
		s.HandleFlow(record(zonedObject("a"), office, 4, 1))
		s.HandleFlow(record(zonedObject("b"), abroad, 8, 1))
		s.HandleFlow(record(zonedObject("b"), nil, 16, 1))
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, f := range families {
			if f.GetName() != prefix+"bytes_total" {
				continue
			}
			for _, m := range f.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetName()+"="+l.GetValue())
				}
				if v := m.GetCounter().GetValue(); v > 0 {
					got[strings.Join(labels, ",")] = v
				}
			}
		}
		shop, none := "_kind=Deployment,_namespace=shop,_workload=web", "dst_kind=none,dst_namespace=,dst_workload="
		series := func(dst, dstZone, srcZone string) string {
			src := strings.ReplaceAll(shop, "_", "src_")
			if zones {
				dst, src = dst+",dst_zone="+dstZone, src+",src_zone="+srcZone
			}
			return dst + "," + src
		}
		dst := strings.ReplaceAll(shop, "_", "dst_")
		want := map[string]float64{series(dst, "b", "a"): 1}
		want[series(dst, "a", "a")] += 2
		want[series(none+"office", "", "a")] += 4
		want[series(none, "", "b")] += 24
		if !zones {
			want = map[string]float64{series(dst, "", ""): 3, series(none+"office", "", ""): 4, series(none, "", ""): 24}
		}
		if !maps.Equal(got, want) {
			t.Errorf("zones %v: %v\nwant %v", zones, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
	}
}
