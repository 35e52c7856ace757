package enrich

import "net/netip"

// maxHosts bounds the addresses of Nodes that are known from pods.
const maxHosts = 1 << 14

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
	for _, a := range o.moreHostIPs {
		st.noteHostAddr(a, o)
	}
}

func (st *store) noteHostAddr(a netip.Addr, o *object) {
	h := st.hosts[a]
	switch {
	case h == nil && len(st.hosts) < maxHosts:
		st.hosts[a] = &host{st.intern(o.node), o.created}
		st.hostsChanged = true
	case h == nil || o.created < h.created:
	default:
		if h.node != o.node {
			h.node, st.hostsChanged = st.intern(o.node), true
		}
		h.created = o.created
	}
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
