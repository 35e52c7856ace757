package enrich

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

const (
	// maxHosts bounds the addresses of Nodes that are known from pods: three for each of the 5,000
	// Nodes that a cluster may have, and some that have gone.
	maxHosts = 1 << 14
	// maxHostsPerPod bounds those that one pod tells of: one of each family, as the API server has
	// it (kubernetes/kubernetes, pkg/apis/core/validation, validateHostIPs).
	maxHostsPerPod = 2
)

// host is the Node that has an address, by what a pod on it says.
type host struct {
	node    string
	created int64 // when the newest pod was created that says so, in Unix nanoseconds
}

// noteHost notes the addresses of the Node that a pod runs on, as the pod's status has them. They
// stand in for Nodes that may not be read, where it only matters which Node an exporter or the end
// of a tunnel is on: records do not name them. An address passes on with the newest pod.
func (st *store) noteHost(o *object) {
	if o.node == "" {
		return
	}
	if a, err := netip.ParseAddr(o.hostIP); err == nil {
		st.noteHostAddr(a.Unmap().WithZone(""), o)
	}
	for _, a := range o.moreHostIPs[:min(len(o.moreHostIPs), maxHostsPerPod-1)] {
		st.noteHostAddr(a, o)
	}
}

func (st *store) noteHostAddr(a netip.Addr, o *object) {
	h := st.hosts[a]
	switch {
	case h == nil:
		if len(st.hosts) >= maxHosts {
			st.forgetHosts()
		}
		st.hosts[a] = &host{st.intern(o.node), o.created}
		st.hostsChanged = true
	case o.created < h.created:
	default:
		if h.node != o.node {
			h.node, st.hostsChanged = st.intern(o.node), true
		}
		h.created = o.created
	}
}

// forgetHosts forgets the eighth of the addresses for which no pod has spoken for longest: they are
// likely of Nodes that have gone.
func (st *store) forgetHosts() {
	oldest := slices.SortedFunc(maps.Keys(st.hosts), func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(st.hosts[a].created, st.hosts[b].created), a.Compare(b))
	})
	for _, a := range oldest[:maxHosts/8] {
		delete(st.hosts, a)
	}
	st.hostsChanged = true
}

// refreshHosts gives the index the Nodes by their addresses, if they have changed.
func (st *store) refreshHosts() {
	if !st.hostsChanged {
		return
	}
	st.hostsChanged = false
	nodes := make(map[netip.Addr]string, len(st.hosts))
	for a, h := range st.hosts {
		nodes[a] = h.node
	}
	st.index.hosts.Store(&nodes)
}
