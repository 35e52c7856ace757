package enrich

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// ovnMAC returns the MAC that OVN-Kubernetes derives from an address.
func ovnMAC(ip string) uint64 {
	b := addr(ip).As4()
	return 0x0a58<<32 | uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
}

// tenantPod returns a pod that has an address in the cluster's own network, and one in another
// network unless key is empty.
func tenantPod(namespace, name, node, own, key, ip, role string) *object {
	annotation := fmt.Sprintf(`"default":{"ip_addresses":["%s/24"],"mac_address":"%s"}`, own, flow.AppendMAC(nil, ovnMAC(own)))
	if key != "" {
		annotation += fmt.Sprintf(`,"%s":{"ip_addresses":["%s/24"],"mac_address":"%s","role":"%s"}`, key, ip, flow.AppendMAC(nil, ovnMAC(ip)), role)
	}
	return newPod(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(namespace + "-" + name),
			Annotations: map[string]string{podNetworks: "{" + annotation + "}"},
		},
		Spec: corev1.PodSpec{NodeName: node},
		Status: corev1.PodStatus{
			PodIPs:    []corev1.PodIP{{IP: own}},
			StartTime: &metav1.Time{Time: epoch},
		},
	})
}

func tenantNode(name, ip string) *object {
	return newNode(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
	})
}

// The network of a record decides who owns its addresses.
func TestRecordsNetworkDecides(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	e.store.replace(kindNode, []*object{tenantNode("n1", "192.168.1.11"), tenantNode("n2", "192.168.1.12")})
	e.store.replace(kindPod, []*object{
		tenantPod("blue", "cli", "n1", "10.244.0.21", "blue/net", "10.100.0.21", "primary"),
		tenantPod("blue", "srv", "n2", "10.244.1.22", "blue/net", "10.100.1.22", "primary"),
		tenantPod("blue", "only", "n1", "10.244.0.99", "blue/net", "10.100.0.99", "primary"),
		tenantPod("red", "job", "n2", "10.244.1.31", "red/net", "10.100.0.21", "primary"),
		tenantPod("red", "api", "n1", "10.244.0.32", "red/net", "10.100.1.22", "primary"),
		tenantPod("green", "one", "n1", "10.244.0.41", "green/net", "10.100.2.1", "primary"),
		tenantPod("pink", "two", "n1", "10.244.0.42", "pink/net", "10.100.2.2", "primary"),
		tenantPod("pink", "lan", "n1", "10.244.0.43", "pink/net", "192.168.1.12", "primary"),
		tenantPod("shop", "web", "n1", "10.244.0.50", "", "", ""),
		tenantPod("shop", "db", "n2", "10.244.1.51", "shop/storage", "10.200.0.1", "secondary"),
		tenantPod("shop", "vm", "n2", "10.244.1.52", "shop/lab", "10.200.0.1", "secondary"),
	})
	const (
		external  = "198.51.100.1"
		ambiguous = "Several pods found for same IP: cli.blue,job.red"
	)
	const (
		in = iota
		out
		unknown
		patch
		sflow
		sflowTunnel
	)
	for _, tt := range []struct {
		what     string
		src, dst string
		mac      uint64 // of the source
		exporter string
		way      int
		tunnel   string // its addresses, separated by a space
		want     string
	}{
		{"into n1's bridge", "10.100.0.21", "10.100.1.22", 0, "192.168.1.11", in, "", "cli live, srv live"},
		{"into n2's bridge", "10.100.0.21", "10.100.1.22", 0, "192.168.1.12", in, "", "job live, api live"},
		{"out to a port of n1", "10.100.0.21", "10.100.1.22", 0, "192.168.1.11", out, "", "job live, api live"},
		{"out to a port of n2", "10.100.0.21", "10.100.1.22", 0, "192.168.1.12", out, "", "cli live, srv live"},
		{"from a tunnel at n1", "10.100.0.21", "10.100.1.22", 0, "192.168.1.11", in, "192.168.1.12 192.168.1.11", "job live, api live"},
		{"from a tunnel at n2", "10.100.0.21", "10.100.1.22", 0, "192.168.1.12", in, "192.168.1.11 192.168.1.12", "cli live, srv live"},
		{"from a tunnel, by an exporter that is no node", "10.100.0.21", external, 0, "", in, "192.168.1.12 192.168.1.11", "job live, none"},
		{"into the bridge by a port to another one", "10.100.0.21", "10.100.0.99", 0, "192.168.1.12", patch, "", "cli live, only live"},
		{"a sample of sFlow", "10.100.0.21", external, 0, "192.168.1.12", sflow, "", "job live, none"},
		{"a sample of what came from a tunnel", "10.100.1.22", "10.100.0.21", 0, "192.168.1.12", sflowTunnel, "", "api live, job live"},
		{"to an external host", "10.100.0.21", external, 0, "192.168.1.12", in, "", "job live, none"},
		{"from an external host", external, "10.100.0.21", 0, "192.168.1.12", out, "", "none, job live"},
		{"no direction, no node", "10.100.0.21", external, 0, "", unknown, "", "cli ambiguous, none"},
		{"the MAC is the same in both", "10.100.0.21", external, ovnMAC("10.100.0.21"), "", unknown, "", "cli ambiguous, none"},
		{"the other end decides", "10.100.0.99", "10.100.1.22", 0, "", unknown, "", "only live, srv live"},
		{"and so it does backwards", "10.100.1.22", "10.100.0.99", 0, "", unknown, "", "srv live, only live"},
		{"the node counts more than the other end", "10.100.0.21", "10.100.0.99", 0, "192.168.1.12", in, "", "job live, none"},

		{"a primary network is not reached from the cluster's own", "10.244.0.50", "10.100.0.21", 0, "192.168.1.11", in, "", "web live, none"},
		{"nor without an exporter's node", "10.244.0.50", "10.100.2.1", 0, "", unknown, "", "web live, none"},
		{"the answer of the external host", "10.100.2.1", "10.244.0.50", 0, "", unknown, "", "none, web live"},
		{"the cluster's own is not reached from a primary one", "10.100.0.21", "10.244.0.50", 0, "192.168.1.12", in, "", "job live, none"},
		{"the MAC shows the primary one", "10.100.2.1", "10.244.0.50", ovnMAC("10.100.2.1"), "", unknown, "", "one live, none"},
		{"two primary networks, the MAC decides", "10.100.2.1", "10.100.2.2", ovnMAC("10.100.2.1"), "", unknown, "", "one live, none"},
		{"two primary networks, nothing decides", "10.100.2.1", "10.100.2.2", 0, "", unknown, "", "one ambiguous, two ambiguous"},
		{"a node whose address a tenant uses", "10.244.0.50", "192.168.1.12", 0, "", unknown, "", "web live, n2 node"},
		{"the same from outside", external, "192.168.1.12", 0, "", unknown, "", "none, n2 node"},
		{"the tenant itself", "192.168.1.12", "10.100.2.2", 0, "192.168.1.11", in, "", "lan live, two live"},
		{"an address of a node, by an exporter there", "10.100.0.21", external, 0, "10.244.1.51", in, "", "job live, none"},

		{"secondary networks, nothing decides", "10.200.0.1", "10.244.0.50", 0, "", unknown, "", "db ambiguous, web live"},
		{"a secondary network beside the cluster's own", "10.244.0.50", "10.244.1.51", 0, "", unknown, "", "web live, db live"},
	} {
		got := &sink{}
		s := e.NewStage(got)
		s.ready = true
		r := record(1, tt.src, tt.dst)
		r.Msg.Type, r.Msg.SrcMac = flowpb.FlowMessage_IPFIX, tt.mac
		if tt.exporter != "" {
			r.Msg.SamplerAddress = addr(tt.exporter).AsSlice()
		}
		switch tt.way {
		case in, out:
			r.Extra.HasDirection, r.Extra.FlowDirection = true, uint8(tt.way)
		case patch:
			r.Extra.HasDirection, r.Extra.InIfName = true, []byte("patch-br-int-to-br-ex")
		case sflow, sflowTunnel:
			r.Msg.Type, r.Extra.FromTunnel = flowpb.FlowMessage_SFLOW_5, tt.way == sflowTunnel
		}
		if from, to, ok := strings.Cut(tt.tunnel, " "); ok {
			r.Extra.TunnelSrcAddr, r.Extra.TunnelDstAddr = addr(from).AsSlice(), addr(to).AsSlice()
		}
		s.HandleFlow(r)
		if got.names[0] != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got.names[0], tt.want)
		}
		if o := r.Ends[0].Object; tt.src == "10.100.0.21" && r.Ends[0].Status == flow.StatusAmbiguous && o.Warn != ambiguous {
			t.Errorf("%s: warning %q", tt.what, o.Warn)
		}
		if race.Enabled {
			continue
		}
		if n := testing.AllocsPerRun(100, func() { s.fill(r) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.what, n)
		}
	}
}

// Pods have the name of the network that a record is of.
func TestNetworkName(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	e.store.replace(kindPod, []*object{tenantPod("blue", "cli", "n1", "10.244.0.21", "blue/net", "10.100.0.21", "primary")})
	for ip, want := range map[string]string{"10.244.0.21": "default", "10.100.0.21": "blue/net"} {
		end := e.Lookup(addr(ip), time.Now().UnixNano(), time.Now().UnixNano())
		if got := end.Attr(flow.AttrNetwork); got != want {
			t.Errorf("%s: network %q, want %q", ip, got, want)
		}
	}
}

// A warning names three, and counts the others.
func TestWarningsAreBounded(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	var pods []*object
	for i := range 200 {
		ns := fmt.Sprintf("t%03d", i)
		pods = append(pods, tenantPod(ns, "p", "n1", fmt.Sprintf("10.244.0.%d", i), ns+"/net", "10.0.0.1", "primary"))
	}
	e.store.replace(kindPod, pods)
	end := e.Lookup(addr("10.0.0.1"), time.Now().UnixNano(), time.Now().UnixNano())
	if want := "Several pods found for same IP: p.t000,p.t001,p.t002 and 197 more"; end.Object == nil || end.Object.Warn != want {
		t.Errorf("%+v", end.Object)
	}
}

// tenants returns pods of so many tenants. Those of one range have the same addresses in all.
func tenants(n, pods int, oneRange bool) []*object {
	var list []*object
	for i := range n {
		for j := range pods {
			ip := netip.AddrFrom4([4]byte{10, 0, 0, byte(j)})
			if !oneRange {
				ip = netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)})
			}
			ns := fmt.Sprint("tenant-", i)
			own := netip.AddrFrom4([4]byte{172, byte(16 + i>>8), byte(i), byte(j)})
			list = append(list, tenantPod(ns, fmt.Sprint("pod-", j), fmt.Sprint("node-", (i+j)%50), own.String(), ns+"/net", ip.String(), "primary"))
		}
	}
	return list
}

// BenchmarkTenants is the cost of networks that share addresses, beside that of others: 200 tenants
// of ten pods.
func BenchmarkTenants(b *testing.B) {
	for _, oneRange := range []bool{false, true} {
		name := "apart"
		if oneRange {
			name = "overlapping"
		}
		pods := tenants(200, 10, oneRange)
		b.Run("list/"+name, func(b *testing.B) {
			for b.Loop() {
				e, _, _ := newTest(b, Config{}, noSource{})
				e.store.replace(kindPod, slices.Clone(pods))
			}
		})
		b.Run("replace/"+name, func(b *testing.B) {
			e, _, _ := newTest(b, Config{}, noSource{})
			e.store.replace(kindPod, slices.Clone(pods))
			i := 0
			for b.Loop() {
				old := *pods[i%len(pods)]
				e.store.remove(&old)
				old.uid = fmt.Sprint("new-", i)
				e.store.update(&old)
				pods[i%len(pods)] = &old
				i++
			}
		})
		b.Run("lookup/"+name, func(b *testing.B) {
			e, _, _ := newTest(b, Config{}, noSource{keep: true})
			e.store.replace(kindNode, []*object{tenantNode("node-1", "192.168.1.11")})
			e.store.replace(kindPod, tenants(200, 10, oneRange))
			s := e.NewStage(discard{})
			s.ready = true
			r := record(1, "10.0.0.1", "10.0.0.2")
			r.Msg.SamplerAddress, r.Extra.HasDirection = addr("192.168.1.11").AsSlice(), true
			b.ReportAllocs()
			for b.Loop() {
				s.HandleFlow(r)
			}
		})
	}
}

func networkObject(k kind, namespace, name, config string) *object {
	n := &networkAttachment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	n.Spec.Config = config
	o := newNetworkAttachment(n)
	o.kind = k
	return o
}

// A network has one timeline, whatever its key in each namespace.
func TestNetworkIdentity(t *testing.T) {
	nad := func(namespace, name, config string) *object {
		return networkObject(kindNetworkAttachment, namespace, name, fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"type":"ovn-k8s-cni-overlay"}`, config))
	}
	cudn := networkObject(kindClusterUserNetwork, "", "tenant", "")
	for _, tt := range []struct {
		what        string
		definitions []*object
		want        string // the networks of the pods in t1 and t2
		one         bool   // they are one
	}{
		{"nothing is known", nil, "t1/tenant t2/tenant", false},
		{"a ClusterUserDefinedNetwork", []*object{cudn}, "tenant tenant", true},
		{"another one", []*object{networkObject(kindClusterUserNetwork, "", "other", "")}, "t1/tenant t2/tenant", false},
		{"a UserDefinedNetwork of the same name", []*object{cudn, networkObject(kindUserNetwork, "t2", "tenant", "")}, "tenant t2/tenant", false},
		{"one in another namespace", []*object{cudn, networkObject(kindUserNetwork, "t3", "tenant", "")}, "tenant tenant", true},
		{"attachments", []*object{nad("t1", "tenant", "cluster_udn_tenant"), nad("t2", "tenant", "cluster_udn_tenant")}, "tenant tenant", true},
		{"attachments of older versions", []*object{nad("t1", "tenant", "cluster.udn.tenant"), nad("t2", "tenant", "cluster.udn.tenant")}, "tenant tenant", true},
		{"an attachment, and the other's network", []*object{nad("t1", "tenant", "cluster_udn_tenant"), cudn}, "tenant tenant", true},
		{"attachments of two networks", []*object{cudn, nad("t1", "tenant", "t1_tenant"), nad("t2", "tenant", "t2.tenant")}, "t1/tenant t2/tenant", false},
		{"a network that is shared by its name", []*object{nad("t1", "tenant", "lab"), nad("t2", "tenant", "lab")}, "lab lab", true},
		{"attachments without a name", []*object{networkObject(kindNetworkAttachment, "t1", "tenant", "{}"), networkObject(kindNetworkAttachment, "t2", "tenant", "[")}, "t1/tenant t2/tenant", false},
	} {
		for _, late := range []bool{false, true} {
			e, _, _ := newTest(t, Config{}, noSource{})
			apply := func() {
				for _, o := range tt.definitions {
					e.store.update(o)
				}
			}
			if !late {
				apply()
			}
			for i, ns := range []string{"t1", "t2"} {
				e.store.update(tenantPod(ns, "p", "n1", fmt.Sprintf("10.244.0.%d", i), ns+"/tenant", "10.150.0.30", "primary"))
			}
			if late {
				apply()
			}
			networks := map[string]string{}
			seen := map[*network]bool{}
			for _, p := range e.store.pods {
				for s := p.spans; s != nil; s = s.sibling {
					if s.attached != nil {
						networks[p.obj.Namespace] = s.owner().Network
						seen[s.attached.network] = true
					}
				}
			}
			if got := networks["t1"] + " " + networks["t2"]; got != tt.want || (len(seen) == 1) != tt.one {
				t.Errorf("%s, late %v: %s in %d networks, want %s", tt.what, late, got, len(seen), tt.want)
			}
			e.store.mu.Lock()
			if n := len(e.store.index.find(addr("10.150.0.30")).past.networks); n != len(seen) {
				t.Errorf("%s, late %v: %d timelines of %d networks", tt.what, late, n, len(seen))
			}
			e.store.mu.Unlock()
		}
	}
}

// Networks of users that share a range have a Node's management port with another address each: it
// is the exporter's.
func TestManagementPortsOfNetworks(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	node := func(name, ip, blue, red string) *object {
		return newNode(&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
				nodeSubnets: fmt.Sprintf(`{"blue_net":[%q],"red_net":[%q]}`, blue, red),
			}},
			Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}}},
		})
	}
	e.store.replace(kindNode, []*object{
		node("n1", "192.168.1.11", "10.100.0.0/24", "10.100.1.0/24"), node("n2", "192.168.1.12", "10.100.1.0/24", "10.100.0.0/24"),
	})
	for exporter, want := range map[string]string{
		"192.168.1.11": "n1 node, none", "192.168.1.12": "n2 node, none",
		"198.51.100.9": "n1 ambiguous, none", "10.100.0.2": "n1 ambiguous, none",
	} {
		got := &sink{}
		s := e.NewStage(got)
		s.ready = true
		r := record(1, "10.100.0.2", "198.51.100.1")
		r.Msg.SamplerAddress = addr(exporter).AsSlice()
		s.HandleFlow(r)
		if got.names[0] != want {
			t.Errorf("%s: %s, want %s", exporter, got.names[0], want)
		}
	}
}

// Readers see whole lists of networks while pods, Nodes and definitions come and go.
func TestNetworksChangeBesideReaders(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	const ip = "10.150.0.30"
	stays := tenantPod("t0", "stays", "n1", "10.244.0.1", "t0/net", ip, "primary")
	e.store.update(stays)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			s := e.NewStage(discard{})
			s.ready = true
			r := record(1, ip, "10.244.0.1")
			r.Extra.HasDirection, r.Msg.SamplerAddress = true, addr("192.168.1.11").AsSlice()
			for !stop.Load() {
				s.HandleFlow(r)
				if end, _ := e.store.index.lookup(addr(ip), int64(r.Msg.TimeReceivedNs), int64(r.Msg.TimeReceivedNs), ovnMAC(ip), 0); end.Object == nil {
					t.Error("nobody has the address")
					return
				}
			}
		})
	}
	e.store.update(tenantNode("n1", "192.168.1.11"))
	for i := range 60 {
		ns := fmt.Sprint("t", 1+i%20)
		pod := tenantPod(ns, "p", "n2", fmt.Sprint("10.244.1.", i%20), ns+"/net", ip, "primary")
		e.store.update(pod)
		lan := tenantNode("lan", ip) // the address is a Node's, too, for a while
		e.store.update(lan)
		e.store.update(networkObject(kindClusterUserNetwork, "", "net", ""))
		e.store.remove(networkObject(kindClusterUserNetwork, "", "net", ""))
		if i%2 == 0 {
			e.store.remove(pod)
		}
		e.store.remove(lan)
	}
	stop.Store(true)
	wg.Wait()
}
