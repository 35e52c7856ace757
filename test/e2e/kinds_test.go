package e2e

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// kindsCluster is a cluster of its own, with kinds that few clusters have and an audit
// log.
type kindsCluster struct {
	*cluster.Cluster
	t *testing.T
}

// create makes an object with its status, in YAML.
func (c *kindsCluster) create(text string) *unstructured.Unstructured {
	c.t.Helper()
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(text), &fields); err != nil {
		c.t.Fatal(err)
	}
	o := &unstructured.Unstructured{Object: fields}
	gvk := o.GroupVersionKind()
	r := c.Dynamic.Resource(schema.GroupVersionResource{Group: gvk.Group, Version: gvk.Version, Resource: plural(gvk.Kind)})
	to := r.Namespace(o.GetNamespace())
	var made *unstructured.Unstructured
	// A kind that was defined just now is served a moment later.
	harness.Eventually(c.t, soon, gvk.Kind+" "+o.GetName(), func() (bool, any) {
		var err error
		if o.GetNamespace() == "" {
			made, err = r.Create(c.t.Context(), o, metav1.CreateOptions{})
		} else {
			made, err = to.Create(c.t.Context(), o, metav1.CreateOptions{})
		}
		return err == nil, err
	})
	if status, ok := fields["status"]; ok && made.Object["status"] == nil || gvk.Group == "" && ok {
		made.Object["status"] = status
		var err error
		if o.GetNamespace() == "" {
			_, err = r.UpdateStatus(c.t.Context(), made, metav1.UpdateOptions{})
		} else {
			_, err = to.UpdateStatus(c.t.Context(), made, metav1.UpdateOptions{})
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return made
}

// plural is what the API calls objects of a kind.
func plural(kind string) string {
	if kind == "NetworkAttachmentDefinition" {
		return "network-attachment-definitions"
	}
	return strings.ToLower(kind) + "s"
}

// define makes a kind known.
func (c *kindsCluster) define(group, kind, scope string) {
	c.create(`{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: ` + plural(kind) + "." + group + `},
  spec: {group: ` + group + `, scope: ` + scope + `, names: {plural: ` + plural(kind) + `, singular: ` + strings.ToLower(kind) + `, kind: ` + kind + `},
    versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]}}`)
}

// account makes a service account with rights everywhere, or in some namespaces alone, and
// returns a kubeconfig file of it.
func (c *kindsCluster) account(name string, rules []rbacv1.PolicyRule, namespaces ...string) string {
	c.t.Helper()
	ctx, create := c.t.Context(), metav1.CreateOptions{}
	meta := metav1.ObjectMeta{Name: name}
	subjects := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "default", Name: name}}
	_, err := c.Client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, create)
	errs := []error{err}
	if len(namespaces) == 0 {
		_, err1 := c.Client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, create)
		_, err2 := c.Client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}, Subjects: subjects,
		}, create)
		errs = append(errs, err1, err2)
	}
	for _, n := range namespaces {
		_, err1 := c.Client.RbacV1().Roles(n).Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: rules}, create)
		_, err2 := c.Client.RbacV1().RoleBindings(n).Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}, Subjects: subjects,
		}, create)
		errs = append(errs, err1, err2)
	}
	file := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := errors.Join(append(errs, c.Kubeconfig(ctx, file, "default", name))...); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// checkAudit checks that an account asked for nothing that is forbidden, and returns what
// it asked for.
func (c *kindsCluster) checkAudit(t *testing.T, account string) (asked map[string]bool) {
	t.Helper()
	requests, err := c.Requests("default", account)
	if err != nil || len(requests) == 0 {
		t.Fatalf("%d requests of %s: %v", len(requests), account, err)
	}
	asked = map[string]bool{}
	for i := range requests {
		if r := &requests[i]; r.Status.Code == 401 || r.Status.Code == 403 || r.Status.Code == 404 && r.Ref.Resource != "" { // discovery may find nothing
			t.Errorf("%s: %d for %s", account, r.Status.Code, r)
		} else if r.Verb == "list" || r.Verb == "watch" {
			asked[r.Ref.Resource] = true
		}
	}
	return asked
}

func rule(group string, resources ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"get", "list", "watch"}}
}

// TestKinds names egress IPs, endpoints that are no pods and virtual machines, with rights
// everywhere, with Roles in two namespaces, and without the rights.
func TestKinds(t *testing.T) {
	t.Parallel()
	own, err := cluster.Start(t.Context(), "bin", t.TempDir(), cluster.WithAudit())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &kindsCluster{own, t}
	c.define("k8s.ovn.org", "EgressIP", "Cluster")
	for _, k := range networkKinds {
		c.define(k.group, k.kind, k.scope)
	}
	c.define("kubevirt.io", "VirtualMachine", "Namespaced")
	c.define("kubevirt.io", "VirtualMachineInstance", "Namespaced")
	for _, n := range []string{"shop", "web", "other"} {
		c.create(`{apiVersion: v1, kind: Namespace, metadata: {name: ` + n + `}}`)
	}
	c.create(`{apiVersion: v1, kind: Node, metadata: {name: n1, annotations: {k8s.ovn.org/node-id: "3"}}, status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}}`)
	c.create(`{apiVersion: k8s.ovn.org/v1, kind: EgressIP, metadata: {name: out}, spec: {egressIPs: [192.0.2.101], namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}, status: {items: [{node: n1, egressIP: 192.0.2.101}]}}`)
	c.create(`{apiVersion: v1, kind: Service, metadata: {name: db, namespace: shop}, spec: {ports: [{port: 5432}]}}`)
	c.create(`{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db, endpointslice.kubernetes.io/managed-by: staff}}, addressType: IPv4, ports: [{port: 5432}], endpoints: [{addresses: [198.51.100.7]}]}`)
	c.create(`{apiVersion: v1, kind: Service, metadata: {name: edge, namespace: web}, spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}}`)
	vm := c.create(`{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm, namespace: web}}`)
	vmi := c.create(`{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: vm, namespace: web, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: vm, controller: true, uid: ` + string(vm.GetUID()) + `}]}}`)
	inPod := func(namespace, name, ip, owner string) string {
		return `{apiVersion: v1, kind: Pod, metadata: {name: ` + name + `, namespace: ` + namespace + owner + `}, spec: {nodeName: n1, containers: [{name: c, image: example.org/c}]},
  status: {phase: Running, hostIP: 192.0.2.11, podIP: ` + ip + `, podIPs: [{ip: ` + ip + `}], startTime: "2020-01-01T00:00:00Z"}}`
	}
	c.create(inPod("web", "virt-launcher", "10.3.0.1", `, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: vm, controller: true, uid: `+string(vmi.GetUID())+`}]`))
	c.create(inPod("other", "stranger", "10.3.0.2", ""))
	c.create(`{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: {name: lan, namespace: web}, spec: {config: '{"cniVersion":"1.0.0","name":"cluster_udn_lan","type":"ovn-k8s-cni-overlay"}'}}`)
	c.create(`{apiVersion: k8s.ovn.org/v1, kind: ClusterUserDefinedNetwork, metadata: {name: lan}, spec: {network: {topology: Layer2}}}`)
	c.create(`{apiVersion: k8s.ovn.org/v1, kind: UserDefinedNetwork, metadata: {name: other, namespace: web}, spec: {topology: Layer2}}`)
	c.create(inPod("web", "tenant", "10.3.0.3", `, annotations: {k8s.ovn.org/pod-networks: '{"default":{"ip_addresses":["10.3.0.3/24"]},"web/lan":{"ip_addresses":["10.103.0.3/24"],"role":"primary"}}'}`))
	owned := func(kind, name string) names {
		return names{"Pod": "virt-launcher", "Namespace": "web", "HostIP": "192.0.2.11", "Workload": name, "WorkloadKind": kind}
	}
	stranger := names{"Pod": "stranger", "Namespace": "other", "HostIP": "192.0.2.11", "Workload": "stranger", "WorkloadKind": "Pod"}
	endpoint := names{"Namespace": "shop", "Workload": "db", "WorkloadKind": "Service"}
	node := names{"Workload": "n1", "WorkloadKind": "Node"}
	tenant := names{"Pod": "tenant", "Namespace": "web", "HostIP": "192.0.2.11", "Workload": "tenant", "WorkloadKind": "Pod"}
	few := []rbacv1.PolicyRule{rule("", "pods", "services"), rule("apps", "replicasets")}
	most := append(slices.Clone(few), rule("discovery.k8s.io", "endpointslices"), rule("kubevirt.io", "virtualmachines", "virtualmachineinstances"),
		rule("k8s.cni.cncf.io", "network-attachment-definitions"), rule("k8s.ovn.org", "userdefinednetworks"))
	for _, x := range []struct {
		account    string
		rules      []rbacv1.PolicyRule
		namespaces []string
		args       []string
		want       map[string]names // by address
		asked      []string
		complaints int
	}{
		{
			"all", append(slices.Clone(most), rule("", "nodes"), rule("k8s.ovn.org", "egressips", "clusteruserdefinednetworks")), nil, []string{"-kube.owners", "virtualmachines.kubevirt.io"},
			map[string]names{
				"192.0.2.101": {"Namespace": "shop", "Workload": "out", "WorkloadKind": "EgressIP"}, "198.51.100.7": endpoint, "192.0.2.11": node, "100.64.0.3": node,
				"10.3.0.1": owned("VirtualMachine", "vm"), "10.3.0.2": stranger,
				"10.103.0.3": tenant,
			},
			[]string{
				"clusteruserdefinednetworks", "egressips", "endpointslices", "network-attachment-definitions", "nodes", "pods", "replicasets", "services",
				"userdefinednetworks", "virtualmachineinstances", "virtualmachines",
			}, 0,
		},
		{
			"roles", most, []string{"shop", "web"}, []string{"-kube.namespaces", "shop,web", "-kube.owners", "virtualmachines.kubevirt.io"},
			map[string]names{"192.0.2.101": {}, "198.51.100.7": endpoint, "192.0.2.11": {}, "10.3.0.1": owned("VirtualMachine", "vm"), "10.3.0.2": {}, "10.103.0.3": tenant},
			[]string{
				"endpointslices", "network-attachment-definitions", "pods", "replicasets", "services", "userdefinednetworks", "virtualmachineinstances",
				"virtualmachines",
			}, 0,
		},
		{
			"few", few, nil, []string{"-kube.owners", "nosuch.example.org,virtualmachines.kubevirt.io"},
			map[string]names{"192.0.2.101": {}, "198.51.100.7": {}, "10.3.0.1": owned("VirtualMachineInstance", "vm"), "10.3.0.2": stranger, "10.103.0.3": tenant},
			[]string{"pods", "replicasets", "services"}, 3, // nodes, and both owners
		},
	} {
		t.Run(x.account, func(t *testing.T) {
			c.t = t
			e := readyAs(t, c.account(x.account, x.rules, x.namespaces...), x.args...)
			for addr, want := range x.want {
				e.waitNames(t, soon, netip.MustParseAddr(addr), want)
			}
			if x.account == "all" { // a port of the node's, and what comes later
				f := e.flow(nobody, netip.MustParseAddr("192.0.2.11"))
				f.DstPort = 30080
				if err := e.exporter.IPFIX(f); err != nil {
					t.Fatal(err)
				}
				if got := e.record(t, f).names("Dst"); got["Workload"] != "edge" || got["WorkloadKind"] != "Service" {
					t.Errorf("node port: %v", got)
				}
			}
			late := "10.3.1." + map[string]string{"all": "1", "roles": "2", "few": "3"}[x.account]
			c.create(inPod("web", "late-"+x.account, late, ""))
			e.waitNames(t, soon, netip.MustParseAddr(late), names{"Pod": "late-" + x.account, "Namespace": "web", "HostIP": "192.0.2.11", "Workload": "late-" + x.account, "WorkloadKind": "Pod"})
			e.terminate(t)
			if got := e.complaints(); len(got) != x.complaints {
				t.Errorf("complaints: %v", got)
			}
			asked := c.checkAudit(t, x.account)
			for _, r := range x.asked {
				if !asked[r] {
					t.Errorf("%s were not asked for", r)
				}
				delete(asked, r)
			}
			if len(asked) > 0 {
				t.Errorf("asked for %v", asked)
			}
		})
	}
}
