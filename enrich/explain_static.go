package enrich

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// String returns the port as users see it, such as 443/TCP.
func (p port) String() string {
	names := map[port]string{protoTCP: "TCP", protoUDP: "UDP", protoSCTP: "SCTP"}
	return strconv.Itoa(int(p&0xffff)) + "/" + names[p>>16]
}

// String returns what the address is for, in a word or two.
func (c class) String() string {
	return [...]string{
		"cluster IP", "service address", "egress IP", "node address", "host address", "address in the pod network",
		"endpoint", "address that each node has", "hairpin address that each node has",
	}[c]
}

// explainStatic notes which Service, egress IP, Node or endpoint is named and why, and returns it.
func (x *Explanation) explainStatic(ix *index, s *statics, r rule, p port, t int64) flow.End {
	g := s.find(t, t)
	if r == ruleStaticNear {
		g = s.near(t, t)
	}
	end := s.at(g, &ix.nodePorts, p, t, t)
	i, byPort := slices.BinarySearchFunc(g.ports, p, func(o portOwner, p port) int { return cmp.Compare(o.port, p) })
	switch {
	case byPort && g.ports[i].end.Status == flow.StatusEndpoint:
		x.Rule, x.Why = "endpoint", "no pod owned the address then, and it is an endpoint of the service at that port"
	case byPort:
		x.Rule, x.Why = "service", "no pod owned the address then, and the service has it at that port"
	case end.Status == flow.StatusService && g.node != nil && g.other.Status != flow.StatusService:
		x.Rule, x.Why = "service", "the address is a node's, and the port is a node port of the service"
	case end.Object.Kind == kindNode.String():
		x.Rule, x.Why = "node", "no pod and no service owned the address then, and a node has it"
	case end.Object.Kind == kindEgressIP.String():
		x.Rule, x.Why = "egressip", "no pod and no service owned the address then, and it is an egress IP"
	case end.Status == flow.StatusEndpoint:
		x.Rule, x.Why = "endpoint", "nobody else owned the address then, and it is an endpoint of the service"
	default:
		x.Rule, x.Why = "service", "no pod owned the address then, and a service has it"
	}
	if end.Status == flow.StatusAmbiguous {
		x.Why += "; several do, which the warning names"
	}
	if r == ruleStaticNear {
		x.Why += fmt.Sprintf(", within %v", time.Duration(tolerance))
	}
	return end
}

// explainShared explains an address that only a record can resolve.
func (x *Explanation) explainShared(s *statics, t int64) {
	g := s.find(t, t)
	if g == nil {
		return
	}
	switch g.shared {
	case sharedByNodes:
		x.Rule, x.Why = "shared", "each node has the address for itself: records name the node of their exporter"
	case sharedHairpin:
		x.Rule, x.Why = "shared", "each node has the address for pods that talk to themselves through a service: records name the pod at the other end"
	}
}

// staticClaimants returns all that own or owned an address beside pods: Services, then egress IPs,
// Nodes and endpoints. The function stamp makes a time of Unix nanoseconds.
func staticClaimants(first *staticSpan, stamp func(int64) *time.Time) (list []Claimant) {
	var spans []*staticSpan
	for s := first; s != nil; s = s.next {
		if s.obj != noObject {
			spans = append(spans, s)
		}
	}
	slices.SortStableFunc(spans, func(a, b *staticSpan) int {
		return cmp.Or(cmp.Compare(a.class, b.class), compareObjects(a.obj, b.obj), cmp.Compare(a.from, b.from))
	})
	for _, s := range spans {
		c := Claimant{
			Kind: s.owner.kind.String(), Namespace: s.obj.Namespace, Name: s.obj.Name, UID: s.obj.UID,
			From: stamp(s.from), To: stamp(s.to), As: s.class.String(),
		}
		for _, p := range s.ports {
			c.Ports = append(c.Ports, p.String())
		}
		list = append(list, c)
	}
	return list
}
