package enrich

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
)

func TestNodeAnnotations(t *testing.T) {
	for _, c := range []struct {
		annotation, value string
		want              string // addresses beside that of the status
	}{
		{"k8s.ovn.org/node-subnets", `{"default":["10.128.0.0/23","fd01::/64"]}`, "10.128.0.1,10.128.0.2,10.128.0.3,fd01::1,fd01::2,fd01::3"},
		{"k8s.ovn.org/node-subnets", `{"default":"10.128.0.0/23","bad":7,"worse":["10.0.0.0/99",null,"10.129.0.0/24"]}`, "10.128.0.1,10.128.0.2,10.128.0.3,10.129.0.1,10.129.0.2,10.129.0.3"},
		{"k8s.ovn.org/node-subnets", `{"default":["10.128.0.0/31"]}`, "10.128.0.1"},
		{"k8s.ovn.org/node-subnets", `not JSON`, ""},
		{"k8s.ovn.org/hybrid-overlay-node-subnet", `10.132.1.0/24`, "10.132.1.1,10.132.1.2,10.132.1.3"},
		{"k8s.ovn.org/node-primary-ifaddr", `{"ipv4":"192.168.1.11/24","ipv6":"fd00:1::11/64"}`, "192.168.1.11,fd00:1::11"},
		{"k8s.ovn.org/host-cidrs", `["192.168.1.11/24","nonsense","fe80::1/64","127.0.0.1/8","169.254.0.2/17","172.22.0.11/24"]`, "172.22.0.11,192.168.1.11"},
		{"k8s.ovn.org/host-cidrs", `["192.168.1.11/24",`, ""},
		{
			"k8s.ovn.org/l3-gateway-config",
			`{"default":{"ip-addresses":["192.168.1.12/24",5],"ip-address":"192.168.1.12/24","exgw-ip-addresses":["172.23.0.11/24"],"next-hops":["192.168.1.254"],"next-hop":"192.168.1.254"}}`,
			"172.23.0.11,192.168.1.12",
		},
		{"k8s.ovn.org/l3-gateway-config", `{"default":"shared"}`, ""},
		{"k8s.ovn.org/node-gateway-router-lrp-ifaddrs", `{"default":{"ipv4":"100.64.0.4/16","ipv6":"fd98::4/64"},"blue":{"ipv4":"100.65.0.4/16"}}`, "100.64.0.4,100.65.0.4,fd98::4"},
		{"k8s.ovn.org/node-gateway-router-lrp-ifaddr", `{"ipv4":"100.64.0.4/16"}`, "100.64.0.4"},
		{"k8s.ovn.org/node-transit-switch-port-ifaddr", `{"ipv4":"100.88.0.4/16","ipv6":"fd97::4/64"}`, "100.88.0.4,fd97::4"},
		{"k8s.ovn.org/bridge-egress-ips", `["192.168.1.101"]`, "192.168.1.101"},
		{"k8s.ovn.org/secondary-host-egress-ips", `["172.22.0.101","::"]`, "172.22.0.101"},
		{"network.cilium.io/ipv4-cilium-host", `10.0.1.5`, "10.0.1.5"},
		{"network.cilium.io/ipv6-cilium-host", `fd02::5`, "fd02::5"},
		{"projectcalico.org/IPv4IPIPTunnelAddr", `10.42.0.1`, "10.42.0.1"},
		{"projectcalico.org/IPv4VXLANTunnelAddr", `10.42.0.0`, "10.42.0.0"},
		{"projectcalico.org/IPv6VXLANTunnelAddr", `fd03::1`, "fd03::1"},
	} {
		extra := fmt.Sprintf(", annotations: {%s: '%s'}", c.annotation, c.value)
		o := objectOf(t, node("n", extra, "192.0.2.1"))
		var got []netip.Addr
		got = append(got, o.addrs[1:]...)
		slices.SortFunc(got, netip.Addr.Compare)
		var text string
		for i, a := range got {
			if i > 0 {
				text += ","
			}
			text += a.String()
		}
		if text != c.want || o.addrs[0] != addr("192.0.2.1") {
			t.Errorf("%s: %s: %s, want %s", c.annotation, c.value, text, c.want)
		}
	}
	o := objectOf(t, `{apiVersion: v1, kind: Node, metadata: {name: n, labels: {failure-domain.beta.kubernetes.io/zone: old}}, spec: {podCIDRs: [10.1.0.0/24, "fd01::/64"]}}`)
	if o.zone != "old" || fmt.Sprint(o.addrs) != "[10.1.0.1 fd01::1]" || len(o.masquerade.subnets) != 0 {
		t.Errorf("zone %q, addresses %v, %v masqueraded", o.zone, o.addrs, o.masquerade.subnets)
	}
}

// What a status has beats what an annotation has. A Node that is ready beats one that is not, and
// then the newer one.
func TestNodesThatShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		made := func(name, created, ready, address string) string {
			return fmt.Sprintf(`{apiVersion: v1, kind: Node, metadata: {name: %s, uid: u-%s, creationTimestamp: %q}, status: {addresses: [{type: InternalIP, address: %s}], conditions: [{type: Ready, status: %q}]}}`, name, name, created, address, ready)
		}
		e.store.update(objectOf(t, node("vip", `, annotations: {k8s.ovn.org/host-cidrs: '["192.0.2.7/24","192.0.2.9/24"]'}`, "192.0.2.6")))
		e.store.update(objectOf(t, node("real", "", "192.0.2.7")))
		e.store.update(objectOf(t, node("vip2", `, annotations: {k8s.ovn.org/host-cidrs: '["192.0.2.9/24"]'}`, "192.0.2.5")))
		e.store.update(objectOf(t, made("old", rfc(-1000), "Unknown", "192.0.2.8")))
		e.store.update(objectOf(t, made("new", rfc(-500), "True", "192.0.2.8")))
		e.store.update(objectOf(t, made("older", rfc(-1000), "True", "192.0.2.10")))
		e.store.update(objectOf(t, made("newer", rfc(-500), "True", "192.0.2.10")))
		for _, c := range []struct {
			ip   string
			at   float64
			want string
		}{
			{"192.0.2.7", 2, "real node"}, {"192.0.2.9", 2, "vip ambiguous"}, {"192.0.2.8", 2, "new node"},
			{"192.0.2.8", -700, "old node"}, {"192.0.2.10", 2, "newer node"}, {"192.0.2.10", -700, "older node"},
		} {
			if got := e.show(c.ip, c.at, c.at); got != c.want {
				t.Errorf("%s at %v: %s, want %s", c.ip, c.at, got, c.want)
			}
		}
		// The new one is not ready any more, and the old one is again.
		e.store.update(objectOf(t, made("new", rfc(-500), "Unknown", "192.0.2.8")))
		e.store.update(objectOf(t, made("old", rfc(-1000), "True", "192.0.2.8")))
		if got := e.show("192.0.2.8", 2, 2); got != "old node" {
			t.Error(got)
		}
	})
}

// Today's OVN-Kubernetes only writes the number of a Node.
func TestJoinAddresses(t *testing.T) {
	subnets := []netip.Prefix{netip.MustParsePrefix("100.64.0.0/16"), netip.MustParsePrefix("fd98::/64")}
	synctest.Test(t, func(t *testing.T) {
		e, _, _ := newTest(t, Config{JoinSubnets: subnets}, noSource{})
		e.store.update(objectOf(t, node("n3", `, annotations: {k8s.ovn.org/node-id: "3"}`, "192.0.2.3")))
		e.store.update(objectOf(t, node("n4", `, annotations: {k8s.ovn.org/node-id: "4", k8s.ovn.org/node-gateway-router-lrp-ifaddrs: '{"default":{"ipv4":"100.64.0.9/16"}}'}`, "192.0.2.4")))
		e.store.update(objectOf(t, node("n5", `, annotations: {k8s.ovn.org/node-id: "70000"}`, "192.0.2.5")))
		e.store.update(objectOf(t, node("n6", `, annotations: {k8s.ovn.org/node-id: "x"}`, "192.0.2.6")))
		for ip, want := range map[string]string{
			"100.64.0.3": "n3 node", "fd98::3": "n3 node", "100.64.0.9": "n4 node", "fd98::4": "n4 node", "100.64.0.4": "none",
			"fd98::1:1170": "n5 node", "100.64.0.0": "none", "fd98::": "none",
		} {
			if got := e.show(ip, 2, 2); got != want {
				t.Errorf("%s: %s, want %s", ip, got, want)
			}
		}
	})
}

// Masquerade addresses are the same on all Nodes: the exporter's Node has them.
func TestSharedAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		subnets := `k8s.ovn.org/node-subnets: '{"default":["10.128.%d.0/24"]}'`
		e.store.update(objectOf(t, node("n1", ", annotations: {"+fmt.Sprintf(subnets, 1)+`, k8s.ovn.org/node-masquerade-subnet: '{"ipv4":"169.254.0.0/17"}', k8s.ovn.org/network-ids: '{"default":"0","blue":"2"}'}`, "192.0.2.1")))
		e.store.update(objectOf(t, node("n2", ", annotations: {"+fmt.Sprintf(subnets, 2)+"}", "192.0.2.2")))
		e.store.update(objectOf(t, podSpec{name: "p", ips: "10.128.1.9"}.yaml()))
		after(10)
		s := e.NewStage(nothing{})
		s.ready, s.maxWait = true, 0
		for _, c := range []struct{ sampler, src, dst, want string }{
			{"10.128.1.2", "169.254.0.2", "10.128.1.9", "n1 node, p live"},
			{"192.0.2.2", "169.254.0.2", "10.128.1.9", "n2 node, p live"},
			{"10.128.2.2", "169.254.169.2", "198.51.100.1", "n2 node, none"}, // of the subnet before
			{"192.0.2.1", "fd69::3", "198.51.100.1", "n1 node, none"},
			{"192.0.2.1", "169.254.0.13", "169.254.0.14", "n1 node, n1 node"}, // of the network blue
			{"192.0.2.1", "169.254.0.11", "169.254.0.6", "none, none"},
			{"198.51.100.9", "169.254.0.2", "10.128.1.9", "none, p live"},
			{"192.0.2.1", "169.254.0.5", "10.128.1.9", "p live, p live"}, // a pod talks to itself
			{"192.0.2.1", "10.128.1.9", "169.254.0.5", "p live, p live"},
			{"192.0.2.1", "169.254.0.5", "198.51.100.1", "none, none"},
		} {
			r := record(1, c.src, c.dst)
			r.Msg.SamplerAddress = addr(c.sampler).AsSlice()
			s.HandleFlow(r)
			if got := show(r.Ends[0]) + ", " + show(r.Ends[1]); got != c.want {
				t.Errorf("%s to %s by %s: %s, want %s", c.src, c.dst, c.sampler, got, c.want)
			}
		}
		if x := e.Explain(addr("169.254.0.2"), epoch.Add(5e9)); x.Rule != "shared" || len(x.Owners) != 0 {
			t.Errorf("%+v", x)
		}
		// They go with the last Node that has them.
		e.store.remove(objectOf(t, node("n1", "", "192.0.2.1")))
		e.store.remove(objectOf(t, node("n2", "", "192.0.2.2")))
		if len(e.store.masquerade.addrs) != 0 || e.store.index.find(addr("169.254.0.2")) != nil {
			t.Error("shared addresses are left")
		}
	})
}
