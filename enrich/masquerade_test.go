package enrich

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// masqueradeNode returns a Node of OVN-Kubernetes that tells of networks by their numbers.
func masqueradeNode(i int, subnet string, networks []int) *object {
	ids := []string{`"default":"0"`}
	for _, n := range networks {
		ids = append(ids, fmt.Sprintf(`"n%d":"%d"`, n, n))
	}
	return newNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprint("n", i), UID: types.UID(fmt.Sprint("u", i)),
		Annotations: map[string]string{
			networkIDs:       "{" + strings.Join(ids, ",") + "}",
			masqueradeSubnet: fmt.Sprintf(`{"ipv4":"%s","ipv6":"fd69::/112"}`, subnet),
		},
	}})
}

func masqueradeDefinition(i int) *object {
	return newNetworkAttachment(&networkAttachment{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ns", Name: fmt.Sprint("n", i), Annotations: map[string]string{networkNumber: fmt.Sprint(i)},
	}})
}

// Nodes and networks come and go. The shared addresses are those of the Nodes' subnets, and two in
// each of them for every network that a definition, or a Node with the subnet, tells of: the
// 2n+9th and the 2n+10th (OVN-Kubernetes, go-controller/pkg/util/udn/masqueradeips.go).
func TestMasqueradeComesAndGoes(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	st := e.store
	r := rand.New(rand.NewPCG(1, 2))
	subnets := []string{"169.254.0.0/17", "169.254.128.0/24"}
	nodes, told, definitions := map[int]string{}, map[int][]int{}, map[int]bool{}
	for step := range 2000 {
		switch i := r.IntN(6); r.IntN(4) {
		case 0:
			delete(nodes, i)
			st.remove(masqueradeNode(i, subnets[0], nil))
		case 1:
			definitions[i+1] = true
			st.update(masqueradeDefinition(i + 1))
		case 2:
			delete(definitions, i+1)
			st.remove(masqueradeDefinition(i + 1))
		case 3:
			nodes[i], told[i] = subnets[r.IntN(2)], []int{1 + r.IntN(8), 9 + r.IntN(3)}
			st.update(masqueradeNode(i, nodes[i], told[i]))
		}
		want := map[netip.Addr]bool{}
		for i, subnet := range nodes {
			for _, p := range []netip.Prefix{netip.MustParsePrefix(subnet), netip.MustParsePrefix("fd69::/112")} {
				add := func(n int) {
					a := p.Addr()
					for range n {
						a = a.Next()
					}
					want[a] = true
				}
				for n := range 5 {
					add(n + 1)
				}
				for id := range 12 {
					if definitions[id] || slices.Contains(told[i], id) {
						add(2*id + 9)
						add(2*id + 10)
					}
				}
			}
		}
		for a := range st.masquerade.addrs {
			if !want[a.addr] || st.index.find(a.addr) == nil {
				t.Fatalf("step %d: %s is shared", step, a.addr)
			}
		}
		if len(st.masquerade.addrs) != len(want) {
			t.Fatalf("step %d: %d addresses, want %d", step, len(st.masquerade.addrs), len(want))
		}
	}
}

// A network more, or a Node, costs about as much among many networks and Nodes as among few.
func BenchmarkMasquerade(b *testing.B) {
	for _, size := range []int{20, 200, 2000} {
		b.Run(fmt.Sprintf("networks=%d", size), func(b *testing.B) {
			e, _, _ := newTest(b, Config{}, noSource{keep: true})
			var networks []int
			for n := range size {
				networks = append(networks, n+1)
				e.store.update(masqueradeDefinition(n + 1))
			}
			var nodes []*object
			for i := range 200 {
				nodes = append(nodes, masqueradeNode(i, "169.254.0.0/17", networks))
			}
			e.store.replace(kindNode, nodes)
			more := masqueradeDefinition(size + 1)
			for b.Loop() {
				e.store.update(more)
				e.store.remove(more)
			}
		})
	}
}
