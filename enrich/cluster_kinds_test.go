package enrich

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
)

const (
	shopEgress = `{apiVersion: k8s.ovn.org/v1, kind: EgressIP, metadata: {name: shop, uid: e1}, spec: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}, status: {items: [{node: n1, egressIP: 192.0.2.101}]}}`
	dbSlice    = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: shop, uid: es1, labels: {kubernetes.io/service-name: db}}, addressType: IPv4, ports: [{port: 5432, protocol: TCP}], endpoints: [{addresses: [198.51.100.7]}, {addresses: [198.51.100.8], targetRef: {kind: Pod, name: p}}]}`
)

// Egress IPs and endpoints are asked for where the server has them, and only by label.
func TestClusterOptionalKinds(t *testing.T) {
	for _, old := range []bool{false, true} {
		inBubble(t, func(a *api) {
			a.old, a.absent = old, map[string]bool{}
			a.put(t, shopEgress)
			a.put(t, dbSlice)
			a.put(t, `{apiVersion: v1, kind: Node, metadata: {name: n1, uid: n1, labels: {topology.kubernetes.io/zone: z1}}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}`)
		}, func(t *testing.T, r *run) {
			if err := r.Ready(); err != nil {
				t.Fatal(err)
			}
			for ip, want := range map[string]string{"192.0.2.101": "shop egressip", "198.51.100.7": "db endpoint", "198.51.100.8": "none"} {
				if got := r.show(ip, 1, 1); got != want {
					t.Errorf("old=%v: %s is %s, want %s", old, ip, got, want)
				}
			}
			o := r.Lookup(addr("192.0.2.101"), at(1), at(1)).Object
			if o.Namespace != "shop" || o.Node != "n1" || o.Zone != "z1" || o.WorkloadKind != "EgressIP" {
				t.Errorf("%+v", o)
			}
			if old && r.api.selectors["endpointslices"] != "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io" {
				t.Errorf("slices are selected by %q", r.api.selectors["endpointslices"])
			}
			// The address moves to another node, and away.
			after(99)
			r.api.put(t, strings.ReplaceAll(shopEgress, "node: n1", "node: n2"))
			after(100)
			r.api.remove(t, shopEgress)
			after(10)
			if got := r.show("192.0.2.101", 150, 150); got != "shop egressip" || r.Lookup(addr("192.0.2.101"), at(150), at(150)).Object.Node != "n2" {
				t.Errorf("in its time it is %s", got)
			}
			if got := r.show("192.0.2.101", 205, 205); got != "none" {
				t.Errorf("after its deletion it is %s", got)
			}
			after(defaultRetain.Seconds() + sweepEvery.Seconds())
			if got := r.show("192.0.2.101", 150, 150); got != "none" {
				t.Errorf("after the retention it is %s", got)
			}
		})
	}
}

// A kind that the server does not have is no matter to mention. It is found when it comes.
func TestClusterAbsentKind(t *testing.T) {
	inBubble(t, func(a *api) { a.absent = map[string]bool{"egressips": true, "endpointslices": true} }, func(t *testing.T, r *run) {
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		after(1000)
		if c := r.complaints(); len(c) > 0 {
			t.Error(c)
		}
		if n := r.api.asked("list egressips") + r.api.asked("watch egressips") + r.api.asked("list endpointslices") + r.api.asked("watch endpointslices"); n != 0 {
			t.Errorf("%d requests for what is not there", n)
		}
		if s := r.store.stats(); s[kindEgressIP].read || s[kindEndpointSlice].read {
			t.Error("metrics have what is not there")
		}
		r.api.set(func(a *api) { a.absent = map[string]bool{} })
		r.api.put(t, shopEgress)
		after(2 * maxAccessRetry.Seconds())
		if got := r.show("192.0.2.101", 1600, 1600); got != "shop egressip" {
			t.Errorf("after the kind came: %s", got)
		}
	})
}

// Without the rights nothing is refused, and nothing is warned of.
func TestClusterOptionalRights(t *testing.T) {
	inBubble(t, func(a *api) {
		a.absent = map[string]bool{}
		a.forbid("list egressips", "watch egressips", "list endpointslices", "watch endpointslices")
		a.put(t, shopEgress)
	}, func(t *testing.T, r *run) {
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		after(1000)
		if len(r.api.refused) > 0 || len(r.complaints()) > 0 {
			t.Errorf("refused: %q, complaints: %q", r.api.refused, r.complaints())
		}
		var said []string
		for _, e := range r.logs.AllEntries() {
			if e.Level == logrus.InfoLevel && strings.Contains(e.Message, "no right") {
				said = append(said, e.Message)
			}
		}
		if len(said) != 2 {
			t.Errorf("said: %q", said)
		}
		if s := r.store.stats(); s[kindEgressIP].read || s[kindEndpointSlice].read || testutil.ToFloat64(r.metrics.failures[kindEgressIP]) != 0 {
			t.Error("metrics would raise an alert for what need not be read")
		}
	})
}

// With Roles in some namespaces, nothing is asked of others, and nodes are not asked for.
func TestClusterNamespaces(t *testing.T) {
	pod := func(name, ns, ip string) string {
		return podSpec{name: name, ns: ns, uid: ns + name, ips: ip, owner: "ReplicaSet/" + name + "-5d/rs" + ns, ready: rfc(-100)}.yaml()
	}
	rs := func(name, ns string) string {
		return `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: ` + name + `-5d, namespace: ` + ns + `, uid: rs` + ns + `, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: ` + name + `, uid: d1, controller: true}]}}`
	}
	inBubble(t, func(a *api) {
		a.namespaces = []string{"b", "a", "b", "c"}
		a.forbid("all namespaces", "list nodes", "watch nodes", "list pods in c", "watch pods in c")
		for i, ns := range []string{"a", "b", "c", "other"} {
			a.put(t, pod("p", ns, "10.0.0."+string(rune('1'+i))))
			a.put(t, rs("p", ns))
		}
		a.put(t, `{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b, uid: s1}, spec: {type: ClusterIP, clusterIP: 10.96.0.1}}`)
	}, func(t *testing.T, r *run) {
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		for ip, want := range map[string]string{"10.0.0.1": "p live", "10.0.0.2": "p live", "10.0.0.3": "none", "10.0.0.4": "none", "10.96.0.1": "s service"} {
			if got := r.show(ip, 0, 0); got != want {
				t.Errorf("%s is %s, want %s", ip, got, want)
			}
		}
		if o := r.Lookup(addr("10.0.0.2"), at(0), at(0)).Object; o.Namespace != "b" || o.Workload != "p" || o.WorkloadKind != "Deployment" {
			t.Errorf("%+v", o)
		}
		if n := r.api.asked("list nodes") + r.api.asked("watch nodes"); n != 0 {
			t.Errorf("%d requests for nodes", n)
		}
		if c := r.complaints(); len(c) != 1 || !strings.Contains(c[0], "pods in namespace c") {
			t.Errorf("complaints: %q", c)
		}
		// Changes of each arrive, also after watches were renewed and cut.
		for round := range 3 {
			late := pod("late", "a", "10.0.1.1")
			last := pod("last", "b", "10.0.1.2")
			r.api.put(t, late)
			r.api.put(t, last)
			after(10)
			now := time.Since(epoch).Seconds()
			if a, b := r.show("10.0.1.1", now, now), r.show("10.0.1.2", now, now); a != "late live" || b != "last live" {
				t.Errorf("round %d: %s, %s", round, a, b)
			}
			r.api.remove(t, late)
			r.api.remove(t, last)
			after(10)
			now = time.Since(epoch).Seconds()
			if a, b := r.show("10.0.1.1", now, now), r.show("10.0.1.2", now, now); a != "none" || b != "none" {
				t.Errorf("round %d, deleted: %s, %s", round, a, b)
			}
			if round == 0 {
				after(1800)
			} else {
				r.api.interrupt(false)
				after(30)
			}
		}
		if n := r.api.asked("list pods"); n > 4 {
			t.Errorf("pods were listed %d times: watches are not resumed", n)
		}
		r.api.allow("list pods in c")
		r.api.allow("watch pods in c")
		after(700)
		if got := r.show("10.0.0.3", 3000, 3000); got != "p live" {
			t.Errorf("after the Role was bound: %s", got)
		}
		if len(r.api.refused) > 0 {
			t.Errorf("refused: %q", r.api.refused)
		}
	})
}

// One namespace is listed and watched as all are.
func TestClusterOneNamespace(t *testing.T) {
	for _, old := range []bool{false, true} {
		inBubble(t, func(a *api) {
			a.namespaces, a.old = []string{"a"}, old
			a.forbid("all namespaces")
			a.put(t, podSpec{name: "p", ns: "a", ips: "10.0.0.1"}.yaml())
			a.put(t, podSpec{name: "q", ns: "b", ips: "10.0.0.2"}.yaml())
		}, func(t *testing.T, r *run) {
			if a, b := r.show("10.0.0.1", 0, 0), r.show("10.0.0.2", 0, 0); a != "p live" || b != "none" || len(r.api.refused) > 0 || len(r.complaints()) > 0 {
				t.Errorf("%s, %s, refused %q, complaints %q", a, b, r.api.refused, r.complaints())
			}
			if slices.Contains(r.api.requests, "list nodes") {
				t.Error("nodes are asked for")
			}
		})
	}
}
