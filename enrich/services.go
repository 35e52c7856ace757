package enrich

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// holder is a service or node.
type holder struct {
	kind    kind
	obj     *flow.Object
	addrs   []netip.Addr
	cluster int
	ranges  []netip.Prefix // of a node's pods
	mark    uint32
}

// holding is a list of the holders of one address.
type holding struct {
	*holder
	next *holding
}

// applyHolder brings a service or node up to date.
func (st *state) applyHolder(it *item) {
	key := it.key()
	o := flow.Object{
		Kind: it.kind.String(), Namespace: st.intern(it.namespace), Name: it.name, UID: it.uid,
		Workload: it.name, WorkloadKind: it.kind.String(), Node: st.intern(it.node), Zone: st.intern(it.zone),
	}
	if it.kind == kindNode {
		if old, ok := st.zones[it.name]; !ok || old != o.Zone {
			st.zones[it.name] = o.Zone
			if old != o.Zone {
				st.rezoned[it.name] = true
			}
		}
	}
	h := &holder{kind: it.kind, obj: flow.NewObject(o), addrs: it.addrs, cluster: it.cluster, ranges: it.ranges, mark: st.mark}
	old := st.holders[it.kind][key]
	if old == nil {
		if f := &st.feeds[it.kind]; !f.listing && f.synced {
			st.metrics.lag(it.kind, time.Now().UnixNano(), it.created)
		}
	} else {
		if *old.obj == *h.obj && old.cluster == h.cluster && slices.Equal(old.addrs, h.addrs) && slices.Equal(old.ranges, h.ranges) {
			old.mark = st.mark
			return
		}
		st.release(old)
	}
	if old == nil && len(h.ranges) > 0 || old != nil && !slices.Equal(old.ranges, h.ranges) {
		st.reranged = true
	}
	st.holders[it.kind][key] = h
	for _, a := range h.addrs {
		e := st.entry(a)
		e.holders = &holding{h, e.holders}
		st.publishEntry(e)
	}
}

func (st *state) removeHolder(k kind, key string) {
	h := st.holders[k][key]
	if h == nil {
		return
	}
	delete(st.holders[k], key)
	st.reranged = st.reranged || len(h.ranges) > 0
	if k == kindNode {
		delete(st.zones, h.obj.Name)
	}
	st.release(h)
}

// release takes the addresses from a holder.
func (st *state) release(h *holder) {
	for _, a := range h.addrs {
		e := st.entry(a)
		for l := &e.holders; *l != nil; l = &(*l).next {
			if (*l).holder == h {
				*l = (*l).next
				break
			}
		}
		st.publishEntry(e)
	}
}

// rezone renders the pods again that run on nodes whose zone has changed.
func (st *state) rezone() {
	if len(st.rezoned) == 0 {
		return
	}
	for _, p := range st.pods {
		if st.rezoned[p.obj.Node] {
			o := *p.obj
			o.Zone = st.zones[o.Node]
			st.setObject(p, o)
		}
	}
	clear(st.rezoned)
}

// fallback chooses among services and nodes: services before nodes, cluster
// addresses before others, then by name. Who loses is named in a warning.
func fallback(a netip.Addr, list *holding) flow.End {
	var best *holder
	var services, nodes []*flow.Object
	for h := list; h != nil; h = h.next {
		if best == nil || h.beats(best, a) {
			best = h.holder
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

func (h *holder) beats(o *holder, addr netip.Addr) bool {
	if h.kind != o.kind {
		return h.kind == kindService
	}
	if a, b := slices.Contains(h.addrs[:h.cluster], addr), slices.Contains(o.addrs[:o.cluster], addr); a != b {
		return a
	}
	return compareObjects(h.obj, o.obj) < 0
}
