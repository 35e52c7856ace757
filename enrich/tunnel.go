package enrich

import (
	"net/netip"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// duplicateFromTunnel reports whether the node at the other end of a tunnel has a record of the
// packets that a record says came in from it. It has one if it saw them come in from a pod or from
// its own host's management port, whose addresses are of its pod range too. What a gateway router
// sends on came to it over a patch port, where nothing is recorded: traffic to a NodePort or load
// balancer, of hosts to Services, and answers to an egress IP. Then the record at hand is the first.
//
// Where no range of the address's family is known, nothing tells them apart, and all of it is taken
// for repeated: too little is better than twice.
func (s *Stage) duplicateFromTunnel(r *flow.Record) bool {
	src, ok := r.Addr(flow.FieldSrcAddr)
	if !ok || src.IsLinkLocalUnicast() {
		return true
	}
	ranges := *s.e.store.index.nodeRanges.Load()
	return !ranges.hasFamily(src) || ranges.contains(src) || s.isPod(r)
}

// isPod reports whether a record's source is named as a pod. Pods of a network that spans all nodes
// have addresses that are in no node's range.
func (s *Stage) isPod(r *flow.Record) bool {
	for i := range s.e.cfg.Mapping {
		if s.e.cfg.Mapping[i].Field == flow.FieldSrcAddr {
			o := r.Ends[i].Object
			return o != nil && o.Kind == "Pod"
		}
	}
	return false
}

// hasFamily reports whether any range is of the address's family. Those of IPv4 come first.
func (r podRanges) hasFamily(a netip.Addr) bool {
	if len(r) == 0 {
		return false
	}
	if a.Is4() {
		return r[0].first.Is4()
	}
	return r[len(r)-1].last.Is6()
}
