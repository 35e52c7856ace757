package enrich

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// staticOwner is a Service, an EgressIP, a Node or an EndpointSlice. It owns its addresses where no
// pod does. It is for the writer.
type staticOwner struct {
	kind        kind
	obj         *flow.Object
	created     int64
	masqueraded masquerade    // what is counted of it
	spans       []*staticSpan // those that have not ended
	mark        uint32        // of the last list that had it
	*nodePart                 // of a Node, else nil
}

// staticSpan is the time over which a static owner has an address or a node port, in Unix
// nanoseconds.
type staticSpan struct {
	owner    *staticOwner
	addr     netip.Addr   // not valid for a node port
	port     port         // a node port, else 0
	obj      *flow.Object // what records show
	ports    []port       // of a Service or endpoint that others may share the address with
	class    class
	from, to int64       // to is exclusive; never while the owner has it
	next     *staticSpan // of the same address
}

// staticClaim is an address or a node port that an object has.
type staticClaim struct {
	addr  netip.Addr
	port  port
	class class
	ports []port
	node  string // of an egress IP: where it is
}

// of reports whether a claim is that of a span.
func (c *staticClaim) of(s *staticSpan) bool {
	return c.addr == s.addr && c.port == s.port && slices.Equal(c.ports, s.ports)
}

// isStatic reports whether the objects of a kind are static owners.
func (k kind) isStatic() bool {
	return k == kindService || k == kindNode || k == kindEgressIP || k == kindEndpointSlice
}

// claims returns the addresses and node ports of an object.
func (o *object) claims() []staticClaim {
	list := make([]staticClaim, 0, len(o.addrs))
	for i, a := range o.addrs {
		c := staticClaim{addr: a, class: o.classOf(i)}
		switch c.class {
		case classEgressIP:
			c.node = o.nodes[i]
		case classService, classEndpoint:
			c.ports = o.ports
		}
		list = append(list, c)
	}
	if o.kind == kindService {
		for _, p := range o.nodePorts {
			list = append(list, staticClaim{port: p, class: classService})
		}
	}
	return list
}

// classOf returns what an object has its i-th address for.
func (o *object) classOf(i int) class {
	switch o.kind {
	case kindEgressIP:
		return classEgressIP
	case kindEndpointSlice:
		return classEndpoint
	case kindNode:
		switch {
		case i < o.statusAddrs:
			return classNode
		case i < o.hostAddrs:
			return classNodeHost
		}
		return classNodeOther
	default:
		if i < o.clusterIPs {
			return classClusterIP
		}
		return classService
	}
}

// renderStatic returns what records show of a static owner.
func (st *store) renderStatic(obj *object) flow.Object {
	o := flow.Object{
		Kind: obj.kind.String(), Namespace: st.intern(obj.namespace), Name: obj.name, UID: obj.uid,
		Workload: obj.name, WorkloadKind: obj.kind.String(),
	}
	switch obj.kind {
	case kindNode:
		o.Node, o.Zone = st.intern(obj.name), st.intern(obj.zone)
		if obj.statusAddrs > 0 {
			o.HostIP = st.intern(obj.addrs[0].String())
		}
	case kindEndpointSlice: // records show the Service
		o.Kind, o.WorkloadKind, o.UID = kindService.String(), kindService.String(), ""
		o.Name, o.Workload = obj.service, obj.service
	}
	return o
}

// applyStaticOwner brings a static owner up to date.
func (st *store) applyStaticOwner(obj *object, now int64) {
	key := obj.key()
	o := st.renderStatic(obj)
	if obj.kind == kindNode {
		if old, ok := st.zones[obj.name]; !ok || old != o.Zone {
			st.zones[obj.name] = o.Zone
			if old != o.Zone {
				st.nodesWithNewZone[obj.name] = true
			}
		}
	}
	s := st.staticOwners[obj.kind][key]
	fresh := s == nil
	if fresh {
		if f := &st.feeds[obj.kind]; !f.listing && f.watch.Listed() {
			st.metrics.observeLag(obj.kind, time.Now().UnixNano(), obj.created)
		}
		s = &staticOwner{kind: obj.kind}
		st.staticOwners[obj.kind][key] = s
	}
	s.mark = st.listMark
	changed := fresh || !sameStatic(s.obj, &o)
	claims := obj.claims()
	if obj.kind == kindNode {
		changed = changed || s.isReady != obj.isReady
		claims = append(claims, obj.joinClaims(st.joinSubnets)...)
		st.updateNode(s, obj)
	}
	if changed {
		s.obj = flow.NewObject(o)
	}
	s.created = obj.created
	st.updateStaticSpans(s, claims, changed, st.staticStart(obj, fresh, now), now)
}

// updateNode brings up to date what only Nodes have.
func (st *store) updateNode(s *staticOwner, obj *object) {
	if s.nodePart == nil || !slices.Equal(s.podCIDRs, obj.podCIDRs) {
		st.podCIDRsChanged = true
	}
	s.nodePart = obj.nodePart
	st.updateMasquerade(s, s.masquerade)
}

// sameStatic reports whether records show the same.
func sameStatic(a *flow.Object, b *flow.Object) bool {
	return a.Namespace == b.Namespace && a.Name == b.Name && a.UID == b.UID && a.HostIP == b.HostIP && a.Node == b.Node && a.Zone == b.Zone
}

// staticStart returns since when an object has had the addresses that are new.
func (st *store) staticStart(obj *object, fresh bool, now int64) int64 {
	f := &st.feeds[obj.kind]
	switch {
	case f.listing && f.watch.relisted(): // at any time since the last news
		return max(obj.created, f.watch.notBefore())
	case !fresh:
		return now
	case obj.created == 0: // a snapshot that was written by hand
		return always
	}
	return min(now, obj.created)
}

// updateStaticSpans begins and ends the spans of an owner. The argument changed reports whether
// records show it in another way than before.
func (st *store) updateStaticSpans(s *staticOwner, claims []staticClaim, changed bool, from, now int64) {
	kept := s.spans[:0]
	for _, p := range s.spans {
		i := slices.IndexFunc(claims, func(c staticClaim) bool { return c.of(p) })
		if i < 0 {
			p.to = max(now, p.from)
			st.endStatic(p)
			continue
		}
		kept = append(kept, p)
		c := claims[i]
		claims = slices.Delete(claims, i, i+1)
		if st.showOnNode(p, s, c) || changed || p.class != c.class {
			p.class = c.class
			st.publishStatic(p)
		}
	}
	s.spans = kept
	for _, c := range claims {
		p := &staticSpan{owner: s, addr: c.addr, port: c.port, ports: c.ports, class: c.class, from: from, to: never}
		st.showOnNode(p, s, c)
		s.spans = append(s.spans, p)
		if p.port == 0 {
			e := st.entryToChange(p.addr)
			p.next, e.staticSpans = e.staticSpans, p
			st.publishEntry(e)
			continue
		}
		st.index.nodePorts.put(p)
	}
}

// showOnNode brings up to date what records show of an owner's address, and reports whether that
// has changed. An egress IP is on a Node.
func (st *store) showOnNode(p *staticSpan, s *staticOwner, c staticClaim) (changed bool) {
	o := s.obj
	if c.node == "" {
		changed = p.obj != o
		p.obj = o
		return changed
	}
	on := o.Copy()
	on.Node, on.Zone = st.intern(c.node), st.zones[c.node]
	if p.obj != nil && p.obj.Equal(&on) {
		return false
	}
	p.obj = flow.NewObject(on)
	return true
}

// publishStatic brings the index up to date after a span has changed.
func (st *store) publishStatic(p *staticSpan) {
	if p.port == 0 {
		st.publishEntry(st.entryToChange(p.addr))
		return
	}
	st.index.nodePorts.put(p)
}

// endStatic puts a span that has ended into the history, and keeps that within its bounds.
func (st *store) endStatic(p *staticSpan) {
	st.publishStatic(p)
	st.endedStatics.push(p, p.to)
	for st.endedStatics.len() > maxEnded {
		st.dropStatic(st.endedStatics.pop())
	}
}

// dropStatic removes a span from the index.
func (st *store) dropStatic(p *staticSpan) {
	if p.port != 0 {
		st.index.nodePorts.remove(p)
		return
	}
	e := st.entryToChange(p.addr)
	for l := &e.staticSpans; *l != nil; l = &(*l).next {
		if *l == p {
			*l = p.next
			break
		}
	}
	st.publishEntry(e)
}

// removeStaticOwner ends what a static owner has.
func (st *store) removeStaticOwner(k kind, key string, now int64) {
	s := st.staticOwners[k][key]
	if s == nil {
		return
	}
	delete(st.staticOwners[k], key)
	if k == kindNode {
		st.podCIDRsChanged = st.podCIDRsChanged || len(s.podCIDRs) > 0
		delete(st.zones, s.obj.Name)
	}
	st.updateMasquerade(s, masquerade{})
	st.updateStaticSpans(s, nil, false, now, now)
}

// noObject stands for the object of a shared address, which no record shows.
var noObject = &flow.Object{}

// refreshZones renders the pods and egress IPs again whose node has another zone now.
func (st *store) refreshZones() {
	if len(st.nodesWithNewZone) == 0 {
		return
	}
	for _, p := range st.pods {
		if st.nodesWithNewZone[p.obj.Node] {
			o := p.obj.Copy()
			o.Zone = st.zones[o.Node]
			st.setObject(p, o)
		}
	}
	for _, s := range st.staticOwners[kindEgressIP] {
		for _, p := range s.spans {
			if st.nodesWithNewZone[p.obj.Node] {
				st.showOnNode(p, s, staticClaim{node: p.obj.Node})
				st.publishStatic(p)
			}
		}
	}
	clear(st.nodesWithNewZone)
}
