package enrich

import (
	"fmt"
	"net/netip"
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

// Nodes come and go, and a pod tells of more addresses than a Node can have. The table has bounds,
// and the Nodes of today are in it.
func TestHostsAreBounded(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	host := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, byte(i >> 16), byte(i >> 8), byte(i)}) }
	const all = 3 * maxHosts
	var list []*object
	for i := range all {
		list = append(list, &object{kind: kindPod, name: fmt.Sprint("p", i), created: at(float64(i)), podPart: &podPart{
			node: fmt.Sprint("n", i), hostIP: host(i).String(),
		}})
	}
	e.store.replace(kindPod, list)
	if n := len(e.store.hosts); n > maxHosts || n < maxHosts*3/4 {
		t.Errorf("%d hosts", n)
	}
	for _, i := range []int{all - 1, all - maxHosts/2} {
		if got := e.store.index.nodeOf(host(i), at(0), at(0)); got != fmt.Sprint("n", i) {
			t.Errorf("host %d: %q", i, got)
		}
	}
	if got := e.store.index.nodeOf(host(0), at(0), at(0)); got != "" {
		t.Errorf("the first host is still %q", got)
	}

	liar := &object{kind: kindPod, name: "liar", created: at(all), podPart: &podPart{node: "n", hostIP: "192.0.2.1"}}
	for i := range 1000 {
		liar.moreHostIPs = append(liar.moreHostIPs, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
	}
	e.store.update(liar)
	told := 0
	for _, a := range append(liar.moreHostIPs, addr("192.0.2.1")) {
		if e.store.hosts[a] != nil {
			told++
		}
	}
	if told != maxHostsPerPod {
		t.Errorf("one pod told of %d hosts", told)
	}
}
