package enrich

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// holder is a service or node.
type staticOwner struct {
	kind       kind
	obj        *flow.Object
	addrs      []netip.Addr
	clusterIPs int
	podCIDRs   []netip.Prefix // of a node's pods
	mark       uint32
}

// holding is a list of the holders of one address.
type staticOwnerList struct {
	*staticOwner
	next *staticOwnerList
}

// applyHolder brings a service or node up to date.
func (st *store) applyStaticOwner(it *object) {
	key := it.key()
	o := flow.Object{
		Kind: it.kind.String(), Namespace: st.intern(it.namespace), Name: it.name, UID: it.uid,
		Workload: it.name, WorkloadKind: it.kind.String(), Node: st.intern(it.node), Zone: st.intern(it.zone),
	}
	if it.kind == kindNode {
		if old, ok := st.zones[it.name]; !ok || old != o.Zone {
			st.zones[it.name] = o.Zone
			if old != o.Zone {
				st.rezonedNodes[it.name] = true
			}
		}
	}
	h := &staticOwner{kind: it.kind, obj: flow.NewObject(o), addrs: it.addrs, clusterIPs: it.clusterIPs, podCIDRs: it.podCIDRs, mark: st.listMark}
	old := st.staticOwners[it.kind][key]
	if old == nil {
		if f := &st.feeds[it.kind]; !f.listing && f.synced {
			st.metrics.observeLag(it.kind, time.Now().UnixNano(), it.created)
		}
	} else {
		if *old.obj == *h.obj && old.clusterIPs == h.clusterIPs && slices.Equal(old.addrs, h.addrs) && slices.Equal(old.podCIDRs, h.podCIDRs) {
			old.mark = st.listMark
			return
		}
		st.unlinkStaticOwner(old)
	}
	if old == nil && len(h.podCIDRs) > 0 || old != nil && !slices.Equal(old.podCIDRs, h.podCIDRs) {
		st.podCIDRsChanged = true
	}
	st.staticOwners[it.kind][key] = h
	for _, a := range h.addrs {
		e := st.entry(a)
		e.staticOwners = &staticOwnerList{h, e.staticOwners}
		st.publishEntry(e)
	}
}

func (st *store) removeStaticOwner(k kind, key string) {
	h := st.staticOwners[k][key]
	if h == nil {
		return
	}
	delete(st.staticOwners[k], key)
	st.podCIDRsChanged = st.podCIDRsChanged || len(h.podCIDRs) > 0
	if k == kindNode {
		delete(st.zones, h.obj.Name)
	}
	st.unlinkStaticOwner(h)
}

// release takes the addresses from a holder.
func (st *store) unlinkStaticOwner(h *staticOwner) {
	for _, a := range h.addrs {
		e := st.entry(a)
		for l := &e.staticOwners; *l != nil; l = &(*l).next {
			if (*l).staticOwner == h {
				*l = (*l).next
				break
			}
		}
		st.publishEntry(e)
	}
}

// rezone renders the pods again that run on nodes whose zone has changed.
func (st *store) refreshZones() {
	if len(st.rezonedNodes) == 0 {
		return
	}
	for _, p := range st.pods {
		if st.rezonedNodes[p.obj.Node] {
			o := *p.obj
			o.Zone = st.zones[o.Node]
			st.setObject(p, o)
		}
	}
	clear(st.rezonedNodes)
}

// fallback chooses among services and nodes: services before nodes, cluster
// addresses before others, then by name. Who loses is named in a warning.
func chooseStaticOwner(a netip.Addr, list *staticOwnerList) flow.End {
	var best *staticOwner
	var services, nodes []*flow.Object
	for h := list; h != nil; h = h.next {
		if best == nil || h.beats(best, a) {
			best = h.staticOwner
		}
		if h.kind == kindService {
			services = append(services, h.obj)
		} else {
			nodes = append(nodes, h.obj)
		}
	}
	if best == nil {
		return flow.End{}
	}
	obj := best.obj
	if len(services) > 0 && len(nodes) > 0 { // no rivals, by their order
		slices.SortFunc(nodes, compareObjects)
		obj = warn(obj, "Service and node found for same IP: ", append([]*flow.Object{obj}, nodes...))
	}
	switch {
	case len(services) > 1:
		return flow.End{Object: ambiguous(obj, "Several services found for same IP: ", services), Status: flow.StatusAmbiguous}
	case len(services) == 1:
		return flow.End{Object: obj, Status: flow.StatusService}
	case len(nodes) > 1:
		return flow.End{Object: ambiguous(obj, "Several nodes found for same IP: ", nodes), Status: flow.StatusAmbiguous}
	}
	return flow.End{Object: obj, Status: flow.StatusNode}
}

func (h *staticOwner) beats(o *staticOwner, addr netip.Addr) bool {
	if h.kind != o.kind {
		return h.kind == kindService
	}
	if a, b := slices.Contains(h.addrs[:h.clusterIPs], addr), slices.Contains(o.addrs[:o.clusterIPs], addr); a != b {
		return a
	}
	return compareObjects(h.obj, o.obj) < 0
}
