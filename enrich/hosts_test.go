package enrich

import (
	"testing"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	corev1 "k8s.io/api/core/v1"
)

// Without the right to read Nodes, pods tell which Node an exporter is on.
func TestHostsStandInForNodes(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	pod := func(namespace, name, node, own, ip string, created float64, hosts ...string) *object {
		o := tenantPod(namespace, name, node, own, namespace+"/net", ip, "primary")
		o.created = at(created)
		full := &corev1.Pod{}
		full.Status.HostIP = hosts[0]
		for _, h := range hosts {
			full.Status.HostIPs = append(full.Status.HostIPs, corev1.HostIP{IP: h})
		}
		p := newPod(full)
		o.hostIP, o.moreHostIPs = p.hostIP, p.moreHostIPs
		return o
	}
	e.store.replace(kindPod, []*object{
		pod("blue", "cli", "n1", "10.244.0.21", "10.100.0.21", 10, "192.168.1.11", "fd00::11"),
		pod("red", "job", "n2", "10.244.1.31", "10.100.0.21", 10, "192.168.1.12", "fd00::12"),
		pod("red", "old", "n0", "10.244.2.31", "10.100.9.9", 5, "192.168.1.11"), // of a node that has gone
	})
	ask := func(exporter string) string {
		got := &sink{}
		s := e.NewStage(got)
		s.ready = true
		r := record(1, "10.100.0.21", "198.51.100.1")
		r.Msg.Type, r.Msg.SamplerAddress, r.Extra.HasDirection = flowpb.FlowMessage_IPFIX, addr(exporter).AsSlice(), true
		s.HandleFlow(r)
		return got.names[0]
	}
	check := func(want map[string]string) {
		t.Helper()
		for exporter, want := range want {
			if got := ask(exporter); got != want {
				t.Errorf("exporter %s: %s, want %s", exporter, got, want)
			}
		}
	}
	check(map[string]string{
		"192.168.1.11": "cli live, none", "fd00::11": "cli live, none",
		"192.168.1.12": "job live, none", "fd00::12": "job live, none",
		"192.168.1.13": "cli ambiguous, none",
	})
	e.store.update(pod("blue", "late", "n2", "10.244.1.40", "10.100.0.40", 20, "192.168.1.11")) // the address has passed on
	check(map[string]string{"192.168.1.11": "job live, none"})
	e.store.replace(kindNode, []*object{tenantNode("n1", "192.168.1.11")})
	check(map[string]string{"192.168.1.11": "cli live, none"}) // Nodes know better
}
