package enrich

import (
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// keeper keeps whether the last record was handed on as one that counts once.
type keeper struct{ counts bool }

func (k *keeper) HandleFlow(r *flow.Record) { k.counts = r.CountsOnce() }
func (k *keeper) Idle() bool                { return false }

// TestFromTunnel: what came in from a tunnel counts if no pod sent it, where the
// ranges of pods are known.
func TestFromTunnel(t *testing.T) {
	both := []*object{rangedNode("n1", "10.244.0.0/24", "fd00:10:244:1::/64"), rangedNode("n2", "10.244.1.0/24", "fd00:10:244:2::/64")}
	four := []*object{rangedNode("n1", "10.244.0.0/24"), rangedNode("n2", "10.244.1.0/24")}
	six := []*object{rangedNode("n1", "fd00:10:244:1::/64")}
	for name, test := range map[string]struct {
		nodes []*object
		src   string
		want  bool
	}{
		"a pod of the other node":            {both, "10.244.1.5", false},
		"a pod of the other node, IPv6":      {both, "fd00:10:244:2::5", false},
		"the other node's host":              {both, "10.244.1.2", false}, // its management port has an interface
		"a gateway router":                   {both, "100.64.0.3", true},
		"a gateway router, IPv6":             {both, "fd98::3", true},
		"the outside":                        {both, "172.18.0.50", true},
		"the outside, IPv6":                  {both, "2001:db8::1", true},
		"link-local":                         {both, "fe80::1", false},
		"link-local, IPv4":                   {both, "169.254.169.5", false},
		"no ranges":                          {nil, "172.18.0.50", false},
		"no ranges, nodes":                   {[]*object{rangedNode("n1")}, "172.18.0.50", false},
		"IPv4 only":                          {four, "172.18.0.50", true},
		"IPv4 only, IPv6":                    {four, "2001:db8::1", false},
		"IPv6 only":                          {six, "2001:db8::1", true},
		"IPv6 only, IPv4":                    {six, "172.18.0.50", false},
		"a pod whose address is in no range": {both, "10.99.0.1", false},
		"no address":                         {both, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			e, _, _ := newTest(t, Config{Unheld: true}, noSource{})
			e.store.replace(kindPod, []*object{podSpec{name: "wide", ips: "10.99.0.1"}.object(t)})
			e.store.replace(kindNode, slices.Clone(test.nodes))
			out := new(keeper)
			s := e.NewStage(out)
			r := record(1, test.src, "10.244.0.5")
			s.HandleFlow(r)
			if !out.counts {
				t.Error("a record that came in from no tunnel does not count")
			}
			r.Extra.FromTunnel, r.Extra.Duplicate = true, true
			s.HandleFlow(r)
			if out.counts != test.want {
				t.Errorf("counts: %v, want %v", out.counts, test.want)
			}
			r.Extra.FromTunnel, r.Extra.Duplicate = false, true // repeated for another reason
			s.HandleFlow(r)
			if out.counts {
				t.Error("a repeated record counts")
			}
		})
	}
}

// TestFromTunnelFollowsNodes: ranges that are known later, or no more, decide.
func TestFromTunnelFollowsNodes(t *testing.T) {
	e, _, _ := newTest(t, Config{Unheld: true}, noSource{})
	out := new(keeper)
	s := e.NewStage(out)
	check := func(want bool) {
		t.Helper()
		r := record(1, "10.244.1.5", "10.244.0.5")
		r.Extra.FromTunnel, r.Extra.Duplicate = true, true
		if s.HandleFlow(r); out.counts != want {
			t.Errorf("counts: %v, want %v", out.counts, want)
		}
	}
	check(false)
	e.store.update(rangedNode("n1", "10.244.0.0/24"))
	check(true)
	e.store.update(rangedNode("n2", "10.244.1.0/24"))
	check(false)
	e.store.remove(rangedNode("n2"))
	check(true)
	e.store.remove(rangedNode("n1"))
	check(false)
}
