package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// networkKinds are the kinds that define networks, with the smallest schemas.
var networkKinds = []struct{ group, kind, plural, scope string }{
	{"k8s.cni.cncf.io", "NetworkAttachmentDefinition", "network-attachment-definitions", "Namespaced"},
	{"k8s.ovn.org", "UserDefinedNetwork", "userdefinednetworks", "Namespaced"},
	{"k8s.ovn.org", "ClusterUserDefinedNetwork", "clusteruserdefinednetworks", "Cluster"},
}

// post creates an object by its path.
func post(t *testing.T, path string, o any) {
	t.Helper()
	body, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	rest := kube.Client.Discovery().RESTClient()
	harness.Eventually(t, soon, "creation at "+path, func() (bool, any) { // a kind that is new is served a moment later
		err := rest.Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body(body).Do(t.Context()).Error()
		return err == nil, err
	})
}

// createNetworkKinds makes the API server know the kinds.
func createNetworkKinds(t *testing.T) {
	t.Helper()
	const path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	for _, k := range networkKinds {
		name := k.plural + "." + k.group
		post(t, path, map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": name},
			"spec": map[string]any{
				"group": k.group, "scope": k.scope, "names": map[string]any{"kind": k.kind, "plural": k.plural},
				"versions": []any{map[string]any{
					"name": "v1", "served": true, "storage": true,
					"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
				}},
			},
		})
		t.Cleanup(func() {
			err := kube.Client.Discovery().RESTClient().Delete().AbsPath(path, name).Do(context.WithoutCancel(t.Context())).Error()
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNetworkDefinitions has a network of a ClusterUserDefinedNetwork in two namespaces. Its
// definitions tell that it is one, each where the program may read it.
func TestNetworkDefinitions(t *testing.T) {
	t.Parallel()
	createNetworkKinds(t)
	first, second := testNamespace(t), testNamespace(t)
	node := &tenantNode{"networks-1", netip.MustParseAddr("127.0.3.5"), `{"default":["10.249.0.0/24"]}`}
	node.create(t)
	name := "tenant-" + first
	post(t, "/apis/k8s.ovn.org/v1/clusteruserdefinednetworks", map[string]any{
		"apiVersion": "k8s.ovn.org/v1", "kind": "ClusterUserDefinedNetwork", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"network": map[string]any{"topology": "Layer2"}},
	})
	pods := make([]*tenantPod, 2)
	for i, ns := range []string{first, second} {
		post(t, "/apis/k8s.cni.cncf.io/v1/namespaces/"+ns+"/network-attachment-definitions", map[string]any{
			"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "metadata": map[string]any{"name": name, "namespace": ns},
			"spec": map[string]any{"config": fmt.Sprintf(`{"cniVersion":"1.0.0","name":"cluster_udn_%s","type":"ovn-k8s-cni-overlay"}`, name)},
		})
		pods[i] = &tenantPod{
			namespace: ns, name: "server-0", node: node, network: name, owner: custom("apps/v1", "StatefulSet", "server"),
			cluster: netip.AddrFrom4([4]byte{10, 249, 0, byte(21 + i)}), addr: netip.AddrFrom4([4]byte{10, 152, 0, byte(30 + i)}),
		}
		pods[i].create(t)
	}
	may := func(group string, resources ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: []string{"get", "list", "watch"}}
	}
	for _, x := range []struct {
		what   string
		rules  []rbacv1.PolicyRule
		shared bool
	}{
		{"everything", []rbacv1.PolicyRule{may("k8s.cni.cncf.io", networkKinds[0].plural), may("k8s.ovn.org", networkKinds[1].plural, networkKinds[2].plural)}, true},
		{"attachments", []rbacv1.PolicyRule{may("k8s.cni.cncf.io", networkKinds[0].plural)}, true},
		{"definitions", []rbacv1.PolicyRule{may("k8s.ovn.org", networkKinds[1].plural, networkKinds[2].plural)}, true},
		{"none", nil, false},
	} {
		t.Run(x.what, func(t *testing.T) {
			ns := testNamespace(t)
			e := readyAs(t, serviceAccount(t, ns, slices.Concat(exampleRules(t), x.rules)), "-fields", "default,+SrcNetwork")
			for _, p := range pods {
				want := name
				if !x.shared {
					want = p.namespace + "/" + name
				}
				e.waitNames(t, soon, p.addr, p.names())
				if got := e.probe(t, p.addr, nobody)["SrcNetwork"]; got != want {
					t.Errorf("network %v, want %s", got, want)
				}
			}
			e.terminate(t)
			checkNoComplaints(t, e)
		})
	}
}
