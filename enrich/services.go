package enrich

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// staticOwner is a Service or Node. It owns its addresses at any time, where no pod does. It is
// immutable but for its mark.
type staticOwner struct {
	kind       kind
	obj        *flow.Object
	addrs      []netip.Addr
	clusterIPs int            // so many of addrs, the first, are cluster IPs of a Service
	podCIDRs   []netip.Prefix // of a Node
	mark       uint32         // of the last list that had it
}

// staticOwnerList is a linked list of the static owners of one address.
type staticOwnerList struct {
	*staticOwner
	next *staticOwnerList
}

// applyStaticOwner brings a Service or Node up to date.
func (st *store) applyStaticOwner(obj *object) {
	key := obj.key()
	o := flow.Object{
		Kind: obj.kind.String(), Namespace: st.intern(obj.namespace), Name: obj.name, UID: obj.uid,
		Workload: obj.name, WorkloadKind: obj.kind.String(), Node: st.intern(obj.node), Zone: st.intern(obj.zone),
	}
	if obj.kind == kindNode {
		if old, ok := st.zones[obj.name]; !ok || old != o.Zone {
			st.zones[obj.name] = o.Zone
			if old != o.Zone {
				st.nodesWithNewZone[obj.name] = true
			}
		}
	}
	s := &staticOwner{
		kind: obj.kind, obj: flow.NewObject(o), addrs: obj.addrs, clusterIPs: obj.clusterIPs, podCIDRs: obj.podCIDRs,
		mark: st.listMark,
	}
	old := st.staticOwners[obj.kind][key]
	if old == nil {
		if f := &st.feeds[obj.kind]; !f.listing && f.watch.Listed() {
			st.metrics.observeLag(obj.kind, time.Now().UnixNano(), obj.created)
		}
	} else {
		if old.equal(s) {
			old.mark = st.listMark
			return
		}
		st.unlinkStaticOwner(old)
	}
	if old == nil && len(s.podCIDRs) > 0 || old != nil && !slices.Equal(old.podCIDRs, s.podCIDRs) {
		st.podCIDRsChanged = true
	}
	st.staticOwners[obj.kind][key] = s
	for _, a := range s.addrs {
		e := st.entryToChange(a)
		e.staticOwners = &staticOwnerList{s, e.staticOwners}
		st.publishEntry(e)
	}
}

// equal reports whether nothing has changed but the mark.
func (s *staticOwner) equal(o *staticOwner) bool {
	return *s.obj == *o.obj && s.clusterIPs == o.clusterIPs && slices.Equal(s.addrs, o.addrs) && slices.Equal(s.podCIDRs, o.podCIDRs)
}

// removeStaticOwner removes a Service or Node.
func (st *store) removeStaticOwner(k kind, key string) {
	s := st.staticOwners[k][key]
	if s == nil {
		return
	}
	delete(st.staticOwners[k], key)
	st.podCIDRsChanged = st.podCIDRsChanged || len(s.podCIDRs) > 0
	if k == kindNode {
		delete(st.zones, s.obj.Name)
	}
	st.unlinkStaticOwner(s)
}

// unlinkStaticOwner removes a static owner from the entries of its addresses.
func (st *store) unlinkStaticOwner(s *staticOwner) {
	for _, a := range s.addrs {
		e := st.entryToChange(a)
		for l := &e.staticOwners; *l != nil; l = &(*l).next {
			if (*l).staticOwner == s {
				*l = (*l).next
				break
			}
		}
		st.publishEntry(e)
	}
}

// refreshZones renders the pods again whose node has another zone now.
func (st *store) refreshZones() {
	if len(st.nodesWithNewZone) == 0 {
		return
	}
	for _, p := range st.pods {
		if st.nodesWithNewZone[p.obj.Node] {
			o := *p.obj
			o.Zone = st.zones[o.Node]
			st.setObject(p, o)
		}
	}
	clear(st.nodesWithNewZone)
}

// chooseStaticOwner chooses among the static owners of an address: Services before Nodes, cluster
// IPs before other addresses, then by name. The others are named in a warning.
func chooseStaticOwner(a netip.Addr, list *staticOwnerList) flow.End {
	var best *staticOwner
	var services, nodes []*flow.Object
	for s := list; s != nil; s = s.next {
		if best == nil || s.beats(best, a) {
			best = s.staticOwner
		}
		if s.kind == kindService {
			services = append(services, s.obj)
		} else {
			nodes = append(nodes, s.obj)
		}
	}
	if best == nil {
		return flow.End{}
	}
	obj := best.obj
	if len(services) > 0 && len(nodes) > 0 { // a Service beats a Node: that is not ambiguous
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

// beats reports whether s is the better owner of an address.
func (s *staticOwner) beats(o *staticOwner, addr netip.Addr) bool {
	if s.kind != o.kind {
		return s.kind == kindService
	}
	if a, b := slices.Contains(s.addrs[:s.clusterIPs], addr), slices.Contains(o.addrs[:o.clusterIPs], addr); a != b {
		return a
	}
	return compareObjects(s.obj, o.obj) < 0
}
