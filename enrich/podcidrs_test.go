package enrich

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func rangedNode(name string, prefixes ...string) *object {
	it := &object{kind: kindNode, name: name, uid: name, nodePart: &nodePart{}}
	for _, p := range prefixes {
		it.podCIDRs = append(it.podCIDRs, netip.MustParsePrefix(p))
	}
	return it
}

func TestRangesFollowNodes(t *testing.T) {
	e, _, _ := newTest(t, Config{Wait: 2e9}, noSource{})
	st := e.store
	check := func(want ...string) {
		t.Helper()
		var got []string
		for _, r := range *st.index.podRanges.Load() {
			got = append(got, fmt.Sprint(r.first, "-", r.last))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
	check()
	st.replace(kindNode, []*object{rangedNode("a", "10.0.1.0/24"), rangedNode("b", "10.0.0.0/24", "fd00:0:0:1::/64"), rangedNode("c", "10.0.3.0/24", "10.0.0.128/25")})
	check("10.0.0.0-10.0.1.255", "10.0.3.0-10.0.3.255", "fd00:0:0:1::-fd00::1:ffff:ffff:ffff:ffff")
	st.update(rangedNode("d", "10.0.2.0/24"))
	check("10.0.0.0-10.0.3.255", "fd00:0:0:1::-fd00::1:ffff:ffff:ffff:ffff")
	st.update(rangedNode("b"))
	check("10.0.0.128-10.0.3.255")
	st.remove(rangedNode("a"))
	check("10.0.0.128-10.0.0.255", "10.0.2.0-10.0.3.255")
	for a, want := range map[string]bool{"10.0.0.127": false, "10.0.0.128": true, "10.0.1.0": false, "10.0.2.0": true, "10.0.3.255": true, "10.0.4.0": false, "::1": false, "ffff::": false, "1.0.0.0": false} {
		if got := st.index.podRanges.Load().contains(addr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
}

// Pods may be in the ranges of nodes, and where pods have been seen: some network plugins leave
// the ranges of nodes alone.
func TestRangesOfPods(t *testing.T) {
	waiting(t, Config{Wait: 2e9}, func(t *testing.T, e *Enricher) {
		contain := func() string {
			r := e.store.index.podRanges.Load()
			return fmt.Sprint(r.contains(addr("10.0.9.9")), r.contains(addr("10.7.0.9")), r.contains(addr("10.7.1.9")), r.contains(addr("fd00:7::9")))
		}
		e.store.update(podSpec{name: "a", ips: "10.7.0.1,fd00:7::1"}.object(t))
		if got := contain(); got != "true true false true" {
			t.Errorf("a node tells: %s", got)
		}
		e.store.replace(kindNode, []*object{rangedNode("n1")})
		if got := contain(); got != "false true false true" {
			t.Errorf("none tells: %s", got)
		}
		e.store.update(podSpec{name: "b", ips: "10.7.1.1"}.object(t))
		if got := contain(); got != "false true true true" {
			t.Errorf("another pod: %s", got)
		}
	})
}

func TestNodeRanges(t *testing.T) {
	for text, want := range map[string]string{
		`{spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.0.0/24, "fd00:10:244::/64"]}}`:                                                     "[10.244.0.0/24 fd00:10:244::/64]",
		`{spec: {podCIDR: "", podCIDRs: [nonsense, 0.0.0.0/0]}}`:                                                                              "[]",
		`{metadata: {annotations: {k8s.ovn.org/node-subnets: '{"default":["10.128.2.0/23","fd01:0:0:3::/64"]}'}}}`:                            "[10.128.2.0/23 fd01:0:0:3::/64]",
		`{metadata: {annotations: {k8s.ovn.org/node-subnets: '{"default":"10.128.2.0/23","tenant":["10.200.0.0/24"]}'}}, spec: {podCIDR: x}}`: "[10.128.2.0/23 10.200.0.0/24]",
	} {
		var n corev1.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(newNode(&n).podCIDRs); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
