package enrich

import (
	"fmt"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The objects that define networks are asked for once a pod is in another network than the cluster's
// own, where the server has them and the rights are there.
func TestClusterNetworks(t *testing.T) {
	pod := func(ns, ip string) string {
		return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: %[1]s, uid: %[1]s, annotations: {k8s.ovn.org/pod-networks: '{"%[1]s/tenant":{"ip_addresses":["%[2]s/16"],"role":"primary"}}'}}, status: {phase: Running}}`, ns, ip)
	}
	nad := func(ns string) string {
		return fmt.Sprintf(`{apiVersion: k8s.cni.cncf.io/v1, kind: NetworkAttachmentDefinition, metadata: {name: tenant, namespace: %s, uid: nad-%[1]s}, spec: {config: '{"name":"cluster_udn_tenant"}'}}`, ns)
	}
	const cudn = `{apiVersion: k8s.ovn.org/v1, kind: ClusterUserDefinedNetwork, metadata: {name: tenant, uid: c1}, spec: {network: {topology: Layer2}}}`
	resources := []string{"network-attachment-definitions", "userdefinednetworks", "clusteruserdefinednetworks"}
	for what, tt := range map[string]struct {
		setUp func(a *api)
		want  string // the network of the pods
		asked int    // how often each resource is listed or watched, at least
	}{
		"no such kinds": {func(a *api) {}, "t1/tenant t2/tenant", 0},
		"attachments": {func(a *api) {
			a.absent = map[string]bool{}
			a.put(t, nad("t1"))
			a.put(t, nad("t2"))
		}, "tenant tenant", 1},
		"a cluster-wide network": {func(a *api) {
			a.absent = map[string]bool{resources[0]: true}
			a.put(t, cudn)
		}, "tenant tenant", 0},
		"no right to attachments": {func(a *api) {
			a.absent = map[string]bool{}
			a.forbid("list "+resources[0], "watch "+resources[0])
			a.put(t, nad("t1"))
			a.put(t, cudn)
		}, "tenant tenant", 0},
		"no rights": {func(a *api) {
			a.absent = map[string]bool{}
			for _, r := range resources {
				a.forbid("list "+r, "watch "+r)
			}
			a.put(t, cudn)
		}, "t1/tenant t2/tenant", 0},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, tt.setUp, func(t *testing.T, r *run) {
				if err := r.Ready(); err != nil {
					t.Fatal(err)
				}
				for _, resource := range resources {
					if n := r.api.asked("list "+resource) + r.api.asked("watch "+resource); n != 0 {
						t.Errorf("%d requests for %s before there is a pod", n, resource)
					}
				}
				r.api.put(t, pod("t1", "10.150.0.1"))
				r.api.put(t, pod("t2", "10.150.0.2"))
				after(10)
				got := ""
				for i, ip := range []string{"10.150.0.1", "10.150.0.2"} {
					end := r.Lookup(addr(ip), at(9), at(9))
					if i > 0 {
						got += " "
					}
					got += end.Attr(flow.AttrNetwork)
				}
				if got != tt.want {
					t.Errorf("networks %s, want %s", got, tt.want)
				}
				if n := r.api.asked("list "+resources[0]) + r.api.asked("watch "+resources[0]); n < tt.asked || tt.asked == 0 && n > 0 {
					t.Errorf("%d requests for %s", n, resources[0])
				}
				if len(r.api.refused) > 0 || len(r.complaints()) > 0 {
					t.Errorf("refused: %q, complaints: %q", r.api.refused, r.complaints())
				}
			})
		})
	}
}
