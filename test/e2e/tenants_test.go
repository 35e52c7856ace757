package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
)

// tenantNode is a Node of a cluster with networks of users. Its exports come from its
// address, which is one of this machine.
type tenantNode struct {
	name    string
	addr    netip.Addr
	subnets string // by network, as the annotation has them
}

func (n *tenantNode) create(t *testing.T) {
	t.Helper()
	nodes := kube.Client.CoreV1().Nodes()
	o, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: n.name, Annotations: map[string]string{"k8s.ovn.org/node-subnets": n.subnets},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nodes.Delete(context.WithoutCancel(t.Context()), n.name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.addr.String()}}
	if _, err := nodes.UpdateStatus(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// dial makes the node's exporter.
func (n *tenantNode) dial(t *testing.T, e *enricher) *exporter.Exporter {
	t.Helper()
	x, err := exporter.DialFrom(n.addr, e.netflow)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// tenantPod is a pod whose primary network is a user's.
type tenantPod struct {
	namespace, name string
	node            *tenantNode
	cluster         netip.Addr // in the cluster's default network, as the status has it
	network         string     // its primary one
	addr            netip.Addr // there
	owner           *metav1.OwnerReference
	labels          map[string]string
}

// create makes the pod. OVN-Kubernetes derives a MAC from the address, so that it tells
// nothing of networks that share addresses.
func (p *tenantPod) create(t *testing.T) {
	t.Helper()
	pods := kube.Client.CoreV1().Pods(p.namespace)
	o, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: p.name, Labels: p.labels, OwnerReferences: []metav1.OwnerReference{*p.owner},
			Annotations: map[string]string{"k8s.ovn.org/pod-networks": fmt.Sprintf(
				`{"default":{"ip_addresses":["%s/24"],"mac_address":%q,"role":"infrastructure-locked"},"%s/%s":{"ip_addresses":["%s/24"],"mac_address":%q,"role":"primary"}}`,
				p.cluster, mac(p.cluster), p.namespace, p.network, p.addr, mac(p.addr))},
		},
		Spec: corev1.PodSpec{NodeName: p.node.name, Containers: containers},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := metav1.Now()
	o.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, HostIP: p.node.addr.String(), HostIPs: []corev1.HostIP{{IP: p.node.addr.String()}},
		PodIP: p.cluster.String(), PodIPs: []corev1.PodIP{{IP: p.cluster.String()}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: now}},
	}
	if _, err := pods.UpdateStatus(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// mac is the address that OVN-Kubernetes makes of an IPv4 address.
func mac(addr netip.Addr) string {
	b := addr.As4()
	return fmt.Sprintf("0a:58:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

func (p *tenantPod) names() names {
	return names{"Pod": p.name, "Namespace": p.namespace, "HostIP": p.node.addr.String(), "Workload": p.owner.Name, "WorkloadKind": p.owner.Kind}
}

// TestTenants has two networks of users with one range on two nodes. Who an address is
// of, is told by the node that exports: what enters its bridge was sent by a pod of it,
// and what leaves by a port is for a pod of it.
func TestTenants(t *testing.T) {
	t.Parallel()
	blue, red := testNamespace(t), testNamespace(t)
	subnets := func(cluster, ofBlue, ofRed byte) string {
		return fmt.Sprintf(`{"default":["10.247.%d.0/24"],"%s_net":["10.101.%d.0/24"],"%s_net":["10.101.%d.0/24"]}`, cluster, blue, ofBlue, red, ofRed)
	}
	n1 := &tenantNode{"tenants-1", netip.MustParseAddr("127.0.3.1"), subnets(0, 0, 1)}
	n2 := &tenantNode{"tenants-2", netip.MustParseAddr("127.0.3.2"), subnets(1, 1, 0)}
	left, right := netip.MustParseAddr("10.101.0.21"), netip.MustParseAddr("10.101.1.22")
	pod := func(namespace, workload string, node *tenantNode, cluster string, addr netip.Addr) *tenantPod {
		return &tenantPod{
			namespace: namespace, name: workload + "-0", node: node, cluster: netip.MustParseAddr(cluster), network: "net", addr: addr,
			owner: custom("apps/v1", "StatefulSet", workload),
		}
	}
	client := pod(blue, "client", n1, "10.247.0.21", left)
	server := pod(blue, "server", n2, "10.247.1.22", right)
	job := pod(red, "job", n2, "10.247.1.31", left)
	api := pod(red, "api", n1, "10.247.0.32", right)
	n1.create(t)
	n2.create(t)
	client.create(t)
	server.create(t)
	e := ready(t)
	job.create(t) // the other network has its address already
	api.create(t)
	e.waitNames(t, soon, api.cluster, api.names())
	e.waitNames(t, soon, job.cluster, job.names())
	const in, out = 0, 1
	for _, test := range []struct {
		what      string
		node      *tenantNode
		direction uint8
		src, dst  netip.Addr
		want      [2]names
	}{
		{"blue, sent", n1, in, left, right, [2]names{client.names(), server.names()}},
		{"blue, received", n2, out, left, right, [2]names{client.names(), server.names()}},
		{"blue, answered", n2, in, right, left, [2]names{server.names(), client.names()}},
		{"red, sent", n2, in, left, right, [2]names{job.names(), api.names()}},
		{"red, received", n1, out, left, right, [2]names{job.names(), api.names()}},
		{"red, answered", n1, in, right, left, [2]names{api.names(), job.names()}},
		{"a pod of the cluster's network", n1, in, api.cluster, nobody, [2]names{api.names(), {}}},
		{"from the cluster's network nobody there is reached", n1, in, client.cluster, right, [2]names{client.names(), {}}},
	} {
		f := e.flow(test.src, test.dst)
		f.Direction = test.direction
		if err := test.node.dial(t, e).IPFIX(f); err != nil {
			t.Fatal(err)
		}
		r := e.record(t, f)
		for i, prefix := range []string{"Src", "Dst"} {
			if got := r.names(prefix); !maps.Equal(got, test.want[i]) {
				t.Errorf("%s at %s: %s is %v, want %v", test.what, test.node.name, prefix, got, test.want[i])
			}
		}
	}
	e.terminate(t)
	checkNoComplaints(t, e)
}

// TestMigration moves a virtual machine of KubeVirt's from one node to another. Both of
// its pods have its address, and it is the target's once KubeVirt says that it runs there.
func TestMigration(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	n1 := &tenantNode{"migration-1", netip.MustParseAddr("127.0.3.3"), `{"default":["10.248.0.0/24"]}`}
	n2 := &tenantNode{"migration-2", netip.MustParseAddr("127.0.3.4"), `{"default":["10.248.1.0/24"]}`}
	n1.create(t)
	n2.create(t)
	vm := netip.MustParseAddr("10.151.0.9")
	launcher := func(name string, node *tenantNode, cluster string) *tenantPod {
		return &tenantPod{
			namespace: ns, name: "virt-launcher-vm1-" + name, node: node, cluster: netip.MustParseAddr(cluster), network: "l2", addr: vm,
			owner:  custom("kubevirt.io/v1", "VirtualMachineInstance", "vm1"),
			labels: map[string]string{"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": "vm1"},
		}
	}
	source, target := launcher("source", n1, "10.248.0.40"), launcher("target", n2, "10.248.1.41")
	target.labels["kubevirt.io/migrationJobUID"] = "migration-1"
	source.create(t)
	e := ready(t)
	e.waitNames(t, soon, vm, source.names())

	target.create(t)
	e.waitNames(t, soon, target.cluster, target.names()) // the program knows it now
	if got := e.probe(t, vm, nobody).names("Src"); !maps.Equal(got, source.names()) {
		t.Errorf("before the target is ready: %v, want %v", got, source.names())
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{"kubevirt.io/migration-target-ready-timestamp":%q}}}`, time.Now().UTC().Truncate(time.Second).String())
	pods := kube.Client.CoreV1().Pods(ns)
	if _, err := pods.Patch(t.Context(), target.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	e.waitNames(t, soon, vm, target.names())

	o, err := pods.Get(t.Context(), source.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Status.Phase = corev1.PodSucceeded
	if _, err := pods.UpdateStatus(t.Context(), o, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Delete(t.Context(), source.name, *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
	e.waitNames(t, soon, source.cluster, names{}) // nobody's any more
	if got := e.probe(t, vm, nobody).names("Src"); !maps.Equal(got, target.names()) {
		t.Errorf("after the source has gone: %v, want %v", got, target.names())
	}
	e.terminate(t)
	checkNoComplaints(t, e)
}
