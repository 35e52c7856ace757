package enrich

import (
	"net/netip"

	"go4.org/netipx"
)

// refreshPodCIDRs gives the index the pod ranges of all nodes. Without any, because nodes may not
// be listed or have none, it gives it those that were observed.
func (st *store) refreshPodCIDRs() {
	if !st.podCIDRsChanged {
		return
	}
	st.podCIDRsChanged = false
	var b netipx.IPSetBuilder
	found := false
	for _, node := range st.staticOwners[kindNode] {
		for _, p := range node.podCIDRs {
			b.AddPrefix(p)
			found = true
		}
	}
	if !found {
		for p := range st.observedCIDRs {
			b.AddPrefix(p)
		}
	}
	// Neighbours become one range, and few ranges are found fast: nodes have what the cluster's
	// range was cut into.
	set, err := b.IPSet()
	if err != nil { // a prefix that is not valid; none is kept
		st.log.WithError(err).Debug("pod ranges of nodes")
		return
	}
	st.index.podCIDRs.Store(set)
}

// observe notes the surroundings of a pod's address, where other pods' addresses are likely: 256
// addresses of IPv4, the subnet of IPv6.
func (st *store) observe(a netip.Addr) {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if !st.observedCIDRs[p] && len(st.observedCIDRs) < maxObservedCIDRs {
		st.observedCIDRs[p], st.podCIDRsChanged = true, true
	}
}
