package enrich

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
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
		{map[string]string{oldNetworkStatus: multus}, both},
		{map[string]string{oldNetworkStatus: `[{"name":"a/b","ips":["10.0.0.1"]}]`, networkStatus: `[{"name":"c/d","ips":["10.0.0.2"]}]`}, "10.0.0.2/c/d/000000000000 "},
		// A malformed entry costs no other.
		{map[string]string{networkStatus: `[{"name":"a/a","ips":"10.0.0.1"},{"name":["b"],"ips":["10.0.0.2"]},3,null,{"name":"c/c","ips":["10.0.0.3"]}]`}, "10.0.0.3/c/c/000000000000 "},
		{map[string]string{podNetworks: `{"a/a":{"ip_addresses":[1]},"b/b":[],"c/c":{"ip_addresses":["10.0.0.3/24"],"mac_address":7},"d/d":{"ip_addresses":["10.0.0.4/24"]}}`}, "10.0.0.4/d/d/000000000000 "},
		{map[string]string{networkStatus: `nonsense`, podNetworks: ovn}, both},
		// OVN-Kubernetes calls the interface of a user's network the default one in the other annotation.
		{map[string]string{
			networkStatus: `[{"name":"ovn-kubernetes","interface":"eth0","ips":["10.244.0.5"],"mac":"0a:58:0a:f4:00:05","dns":{}},{"name":"ovn-kubernetes","interface":"ovn-udn1","ips":["10.100.0.5"],"mac":"0a:58:0a:64:00:05","default":true,"dns":{}}]`,
			podNetworks:   `{"default":{"ip_addresses":["10.244.0.5/24"],"mac_address":"0a:58:0a:f4:00:05"},"t/net":{"ip_addresses":["10.100.0.5/16"],"mac_address":"0a:58:0a:64:00:05","role":"primary"}}`,
		}, "10.244.0.5//0a580af40005 10.100.0.5/t/net/0a580a640005 "},
		// Only the MAC is known.
		{map[string]string{networkStatus: `[{"name":"t/l2","mac":"02:00:00:00:00:01"},{"name":"t/none"},{"default":true,"mac":"02:00:00:00:00:02"}]`}, "::200:0:1%mac/t/l2/020000000001 "},
		{map[string]string{
			networkStatus: `[{"name":"t/l2","mac":"02:00:00:00:00:01"}]`,
			podNetworks:   `{"t/l2":{"ip_addresses":["10.0.0.9/24"],"mac_address":"02:00:00:00:00:01"}}`,
		}, "10.0.0.9/t/l2/020000000001 "},
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

// A pod has the address that OVN-Kubernetes announces, until its status speaks.
func TestEarlyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		pod := func(ips ...string) *object {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				Name: "p", Namespace: "ns", UID: "p",
				Annotations: map[string]string{podNetworks: `{"default":{"ip_addresses":["10.244.0.5/24","fd00::5/64"]},"t/net":{"ip_addresses":["10.100.0.5/16"],"role":"primary"}}`},
			}}
			for _, ip := range ips {
				p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
			}
			return newPod(p)
		}
		look := func(seconds float64) string {
			return e.show("10.244.0.5", seconds, seconds) + ", " + e.show("fd00::5", seconds, seconds) + ", " + e.show("10.100.0.5", seconds, seconds)
		}
		e.store.update(pod())
		after(10)
		if got := look(5); got != "p live, p live, p live" {
			t.Errorf("announced: %s", got)
		}
		e.store.update(pod("10.244.0.5")) // the other family is not the pod's after all
		after(10)
		if got := look(18); got != "p live, none, p live" {
			t.Errorf("told: %s", got)
		}
		e.store.remove(pod("10.244.0.5"))
		after(10)
		if got := look(28); got != "none, none, none" {
			t.Errorf("deleted: %s", got)
		}
	})
}

// An interface of which only the MAC is known is found by it, in its time, where nobody has the
// address.
func TestOwnerByMAC(t *testing.T) {
	const vmMAC, otherMAC = 0x020000000001, 0x020000000002
	pod := func(name string, mac int) *object {
		return networkPod(name, "", fmt.Sprintf(`[{"name":"vms/localnet","mac":"02:00:00:00:00:%02x"}]`, mac), false)
	}
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		e.store.update(pod("vm", 1)) // from 1 on
		e.store.update(networkPod("web", "10.244.0.5", multus, false))
		e.store.update(&object{kind: kindService, namespace: "ns", name: "s", uid: "s", addrs: []netip.Addr{addr("10.96.0.1")}, servicePart: &servicePart{clusterIPs: 1}})
		after(10)
		e.store.remove(pod("vm", 1)) // until 11
		after(10)
		e.store.update(pod("next", 1)) // from 21 on
		after(10)
		out := &sink{}
		s := e.NewStage(out)
		s.ready = true
		for _, tt := range []struct {
			at             float64
			src, dst       string
			srcMAC, dstMAC uint64
			want           string
		}{
			{5, "192.0.2.5", "198.51.100.1", vmMAC, otherMAC, "vm retained, none"},
			{5, "198.51.100.1", "192.0.2.5", otherMAC, vmMAC, "none, vm retained"},
			{16, "192.0.2.5", "198.51.100.1", vmMAC, 0, "none, none"},
			{25, "192.0.2.5", "198.51.100.1", vmMAC, 0, "next live, none"},
			{25, "10.244.0.5", "10.96.0.1", vmMAC, vmMAC, "web live, s service"}, // they have the addresses
			{25, "192.0.2.5", "198.51.100.1", 0x0a580af40005, 0, "none, none"},   // web's MAC, which has an address
			{25, "::200:0:1", "198.51.100.1", 0, 0, "none, none"},                // as macAddr, without its zone
		} {
			out.names = nil
			r := record(1, tt.src, tt.dst)
			r.Extra.HasEnd, r.Msg.TimeFlowEndNs = true, uint64(at(tt.at))
			r.Msg.SrcMac, r.Msg.DstMac = tt.srcMAC, tt.dstMAC
			s.HandleFlow(r)
			if out.names[0] != tt.want {
				t.Errorf("%s -> %s at %v: %s, want %s", tt.src, tt.dst, tt.at, out.names[0], tt.want)
			}
			if n := testing.AllocsPerRun(50, func() { s.fill(r) }); n != 0 && !race.Enabled {
				t.Errorf("%s -> %s at %v: %v allocations", tt.src, tt.dst, tt.at, n)
			}
		}
		e.store.remove(pod("next", 1))
		after(defaultRetain.Seconds() + 1)
		e.store.expire()
		if n := e.store.index.macs.Load(); n != 0 {
			t.Errorf("%d MACs are left", n)
		}
	})
}
