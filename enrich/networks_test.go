package enrich

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	multus = `[{"name":"ovn-kubernetes","interface":"eth0","ips":["10.244.0.5","fd00::5"],"mac":"0a:58:0a:f4:00:05","default":true,"dns":{}},` +
		`{"name":"tenant/blue","interface":"net1","ips":["10.200.0.9"],"mac":"02:00:00:00:00:01","dns":{}},{"name":"tenant/l2","interface":"net2","dns":{}}]`
	ovn = `{"default":{"ip_addresses":["10.244.0.5/24","fd00::5/64"],"mac_address":"0a:58:0a:f4:00:05","gateway_ips":["10.244.0.1"],"ip_address":"10.244.0.5/24"},` +
		`"tenant/blue":{"ip_addresses":["10.200.0.9/24"],"mac_address":"02:00:00:00:00:01"}}`
)

func TestNetworks(t *testing.T) {
	const both = "10.244.0.5//0a580af40005 fd00::5//0a580af40005 10.200.0.9/tenant/blue/020000000001 "
	for _, c := range []struct {
		annotations map[string]string
		want        string
	}{
		{nil, ""},
		{map[string]string{networkStatus: multus}, both},
		{map[string]string{podNetworks: ovn}, both},
		{map[string]string{networkStatus: multus, podNetworks: ovn}, both},
		{map[string]string{networkStatus: `{"name": 1}`, podNetworks: `[`}, ""},
		{map[string]string{networkStatus: `[{"name":"a","ips":["nonsense","0.0.0.0",""],"mac":"x"},{"name":"a","ips":["::ffff:10.0.0.1"],"mac":"x"}]`}, "10.0.0.1/a/000000000000 "},
		{map[string]string{podNetworks: `{"default":{"ip_address":"10.0.0.1/16"}}`}, "10.0.0.1//000000000000 "},
	} {
		got := ""
		for _, a := range networks(c.annotations) {
			got += fmt.Sprintf("%s/%s/%012x ", a.addr, a.network, a.mac)
		}
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.annotations, got, c.want)
		}
	}
}

func networkPod(name, primary, annotation string, hostNetwork bool) *object {
	return newPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", Annotations: map[string]string{networkStatus: annotation}},
		Spec:       corev1.PodSpec{HostNetwork: hostNetwork},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: primary}}},
	})
}

func TestPodsOwnSecondaryAddresses(t *testing.T) {
	it := networkPod("p", "10.244.0.5", multus, false)
	if got := fmt.Sprint(it.addrs); got != "[10.244.0.5 10.200.0.9]" { // the status tells the cluster's addresses
		t.Error(got)
	}
	if it := networkPod("p", "192.0.2.1", multus, true); len(it.addrs) != 0 || it.networks != nil {
		t.Errorf("host network: %v", it.addrs)
	}
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		e.store.update(it)
		for _, ip := range []string{"10.244.0.5", "10.200.0.9"} {
			if got := e.show(ip, 2, 2); got != "p live" {
				t.Errorf("%s: %s", ip, got)
			}
		}
		after(1)
		e.store.update(networkPod("p", "10.244.0.5", "", false)) // detached at 2
		after(10)
		if got := e.show("10.200.0.9", 1.5, 1.5) + ", " + e.show("10.200.0.9", 9, 9); got != "p retained, none" {
			t.Error(got)
		}
	})
}

func TestMACDecides(t *testing.T) {
	status := func(name, ip string, mac int) string {
		return fmt.Sprintf(`[{"name":"ns/%s","ips":["%s"],"mac":"02:00:00:00:00:%02x"}]`, name, ip, mac)
	}
	const ip, macA, macB = "10.0.0.1", 0x020000000001, 0x020000000002
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		a, b := networkPod("a", "10.1.0.1", status("red", ip, 1), false), networkPod("b", "10.1.0.2", status("blue", ip, 2), false)
		e.store.update(a) // [1, 31)
		after(10)
		e.store.update(b) // [11, 21)
		after(10)
		e.store.remove(b)
		after(10)
		e.store.remove(a)
		c := networkPod("c", ip, "", false) // in the cluster's network, from 31 on
		e.store.update(c)
		after(10)
		e.store.index.grow(4096) // entries keep what they have
		for _, tt := range []struct {
			at   float64
			mac  uint64
			want string
		}{
			{5, 0, "a retained"}, {5, macA, "a retained"}, {5, macB, "a retained"}, {5, 99, "a retained"},
			{15, 0, "b ambiguous"}, {15, macA, "a retained"}, {15, macB, "b retained"}, {15, 99, "b ambiguous"},
			{25, 0, "a retained"}, {25, macA, "a retained"}, {25, macB, "a retained"},
			{22, macB, "b retained"}, // within the tolerance
			{35, 0, "c live"}, {35, macA, "c live"}, {-5, macA, "none"},
		} {
			end, _ := e.store.index.lookup(netip.MustParseAddr(ip), at(tt.at), at(tt.at), tt.mac, 0)
			if got := show(end); got != tt.want {
				t.Errorf("at %v with %x: %s, want %s", tt.at, tt.mac, got, tt.want)
			}
			if end.Status == flow.StatusAmbiguous && end.Object.Warn != "Several pods found for same IP: a.ns,b.ns" {
				t.Errorf("warning %q", end.Object.Warn)
			}
		}
		out := &sink{}
		s := e.NewStage(out)
		s.ready = true
		for _, macs := range [][2]uint64{{macA, macB}, {macB, macA}, {0, 0}, {macA, 0}} {
			for _, ends := range [][2]string{{ip, "198.51.100.1"}, {"198.51.100.1", ip}} {
				r := record(1, ends[0], ends[1])
				r.Extra.HasEnd, r.Msg.TimeFlowEndNs = true, uint64(at(15))
				r.Msg.SrcMac, r.Msg.DstMac = macs[0], macs[1]
				s.HandleFlow(r)
			}
		}
		if got := fmt.Sprint(out.names); got != "[a retained, none none, b retained b retained, none none, a retained b ambiguous, none none, b ambiguous a retained, none none, b ambiguous]" {
			t.Error(got)
		}
		after(defaultRetain.Seconds())
		e.store.expire()
		e.store.remove(c)
		after(defaultRetain.Seconds())
		e.store.expire()
		if n := e.store.index.used; n != 0 {
			t.Errorf("%d addresses are left", n)
		}
	})
}
