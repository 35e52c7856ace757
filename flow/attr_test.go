package flow_test

import (
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func TestEndAttr(t *testing.T) {
	pod := flow.NewObject(flow.Object{Kind: "Pod", Namespace: "ns", Name: "p", UID: "u", Workload: "w", WorkloadKind: "Deployment", HostIP: "h", Node: "n", Zone: "z", Warn: "!", Labels: "a\nb", Network: "default"})
	service := flow.NewObject(flow.Object{Kind: "Service", Name: "s", UID: "u"})
	for _, tc := range []struct {
		end  flow.End
		want map[flow.Attr]string
	}{
		{flow.End{}, map[flow.Attr]string{flow.AttrStatus: "none"}},
		{flow.End{Object: service, Status: flow.StatusService}, map[flow.Attr]string{flow.AttrName: "s", flow.AttrKind: "Service", flow.AttrStatus: "service"}},
		{flow.End{Object: pod, Status: flow.StatusLive}, map[flow.Attr]string{
			flow.AttrPod: "p", flow.AttrNamespace: "ns", flow.AttrHostIP: "h", flow.AttrWorkload: "w", flow.AttrWorkloadKind: "Deployment",
			flow.AttrWarn: "!", flow.AttrNode: "n", flow.AttrZone: "z", flow.AttrPodUID: "u", flow.AttrStatus: "live",
			flow.AttrName: "p", flow.AttrKind: "Pod", flow.AttrHost: "h", flow.AttrNetwork: "default", flow.AttrNetworkName: "primary", flow.AttrLabel: "a", flow.AttrLabel + 1: "b",
		}},
		// Only schema netobserv has the address of a node as its host's.
		{flow.End{Object: flow.NewObject(flow.Object{Kind: "Node", Name: "n", HostIP: "h", Node: "n"}), Status: flow.StatusNode}, map[flow.Attr]string{
			flow.AttrName: "n", flow.AttrKind: "Node", flow.AttrNode: "n", flow.AttrHost: "h", flow.AttrStatus: "node",
		}},
	} {
		for a := range flow.AttrLabel + flow.MaxLabels {
			if got := tc.end.Attr(a); got != tc.want[a] {
				t.Errorf("%v: attribute %d is %q, want %q", tc.end, a, got, tc.want[a])
			}
		}
	}
	if got := pod.Attr(flow.AttrStatus); got != "" {
		t.Errorf("the status of an object is %q", got)
	}
}

// TestAttrNumbers pins the numbers of generated fields: they are never changed.
func TestAttrNumbers(t *testing.T) {
	for i, name := range []string{"Pod", "Namespace", "HostIP", "Workload", "WorkloadKind", "Warn", "Node", "Zone", "PodUID", "Status"} {
		a := flow.Attrs[i]
		if n, ok := flow.AttrNumber(a.Attr); a.Name != name || n != int32(i) || !ok {
			t.Errorf("%s has number %d", a.Name, n)
		}
	}
	if n, ok := flow.AttrNumber(flow.AttrLabel + 3); n != flow.NumberLabels || !ok {
		t.Errorf("labels have number %d", n)
	}
	for _, a := range []flow.Attr{flow.AttrName, flow.AttrKind, flow.AttrHost, flow.AttrNetworkName} {
		if n, ok := flow.AttrNumber(a); ok {
			t.Errorf("attribute %d has number %d", a, n)
		}
	}
}
