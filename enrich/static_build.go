package enrich

import (
	"cmp"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// class is what an owner other than a pod has an address for. The better ones come first.
type class uint8

const (
	classClusterIP class = iota // of a Service, which owns all ports of it
	classService                // a load balancer's or external address of a Service
	classEgressIP
	classNode      // a Node's address by its status
	classNodeHost  // an address of a Node's host, by an annotation
	classNodeOther // an address that a Node has in the pods' network
	classEndpoint  // of a Service, and no pod's
	classShared    // an address that all Nodes have, each for itself
	classHairpin   // the same, which pods show that talk to themselves
)

// buildStatics returns the owners of an address by time, nil if there are none.
func buildStatics(first *staticSpan) *statics {
	if first == nil {
		return nil
	}
	if first.next == nil {
		if g := staticSegmentOf([]*staticSpan{first}); first.from < first.to {
			g.from, g.to = first.from, first.to
			return &statics{segments: []staticSegment{g}}
		}
		return nil
	}
	var times []int64
	for s := first; s != nil; s = s.next {
		times = append(times, s.from, s.to)
	}
	slices.Sort(times)
	times = slices.Compact(times)
	list := &statics{}
	var active []*staticSpan
	for i := range len(times) - 1 {
		from, to := times[i], times[i+1]
		active = active[:0]
		for s := first; s != nil; s = s.next {
			if s.from <= from && to <= s.to {
				active = append(active, s)
			}
		}
		if len(active) == 0 {
			continue
		}
		g := staticSegmentOf(active)
		g.from, g.to = from, to
		list.segments = append(list.segments, g)
	}
	return list
}

// staticSegmentOf returns a segment, without its times, of the owners of an address. It sorts them.
func staticSegmentOf(active []*staticSpan) (g staticSegment) {
	slices.SortFunc(active, compareStatics)
	of := func(from, to class) []*staticSpan {
		i := slices.IndexFunc(active, func(s *staticSpan) bool { return s.class >= from })
		if i < 0 {
			return nil
		}
		list := active[i:]
		if n := slices.IndexFunc(list, func(s *staticSpan) bool { return s.class > to }); n >= 0 {
			list = list[:n]
		}
		return list
	}
	services, nodes := of(classClusterIP, classService), of(classNode, classNodeOther)
	if len(nodes) > 0 {
		g.node, g.nodePorts = nodes[0].obj, nodes[0].class != classNodeOther
	}
	egress, endpoints := of(classEgressIP, classEgressIP), of(classEndpoint, classEndpoint)
	byPort := services
	switch {
	case len(services) > 0 && services[0].class == classClusterIP:
		byPort, g.nodePorts = nil, false
		g.other = chooseService(services, nodes)
	case len(egress) > 0:
		g.other = chooseAmong(egress, flow.StatusEgressIP, "Several egress IPs found for same IP: ")
	case len(nodes) > 0:
		if g.other = chooseNode(nodes); g.other.Status == flow.StatusAmbiguous {
			g.nodes = objectsOf(nodes)
		}
	case len(services) > 0:
		g.other = chooseService(services, nil)
	case len(endpoints) > 0:
		byPort = endpoints
		g.other = chooseAmong(endpoints, flow.StatusEndpoint, severalServices)
	default:
		g.shared = sharedByNodes
		if active[0].class == classHairpin {
			g.shared = sharedHairpin
		}
	}
	if len(byPort) != 1 || g.other.Object != byPort[0].obj { // else all ports have that owner
		g.ports = ownersByPort(byPort)
	}
	return g
}

// severalServices begins a warning.
const severalServices = "Several services found for same IP: "

// compareStatics orders the owners of an address: by class, Nodes that are ready first, then the
// newer ones, then by name.
func compareStatics(a, b *staticSpan) int {
	if c := cmp.Compare(a.class, b.class); c != 0 {
		return c
	}
	if a.owner.kind == kindNode {
		if c := compareNodes(a.owner, b.owner); c != 0 {
			return c
		}
		if c := cmp.Compare(b.owner.created, a.owner.created); c != 0 {
			return c
		}
	}
	return compareObjects(a.obj, b.obj)
}

// compareNodes orders Nodes that are ready before others.
func compareNodes(a, b *staticOwner) int {
	switch {
	case a.isReady == b.isReady:
		return 0
	case a.isReady:
		return -1
	}
	return 1
}

// chooseService returns the first one of the Services. The others are named in a warning, as are
// the Nodes.
func chooseService(services, nodes []*staticSpan) flow.End {
	obj := services[0].obj
	if len(nodes) > 0 { // a Service beats a Node: that is not ambiguous
		list := objectsOf(nodes)
		slices.SortFunc(list, compareObjects)
		obj = warn(obj, "Service and node found for same IP: ", append([]*flow.Object{obj}, list...))
	}
	list := objectsOf(services)
	if len(list) > 1 {
		return flow.End{Object: ambiguous(obj, severalServices, list), Status: flow.StatusAmbiguous}
	}
	return flow.End{Object: obj, Status: flow.StatusService}
}

// chooseNode returns the first one of the Nodes. It is ambiguous if another one is as good. A newer
// Node that has an older one's address in its status was given it after the older one had gone. An
// address that annotations of both have may have moved to either.
func chooseNode(nodes []*staticSpan) flow.End {
	best := nodes[0]
	rivals := nodes
	for i, s := range nodes {
		newer := best.class == classNode && best.owner.created != s.owner.created && s.owner.created != 0
		if s.class != best.class || compareNodes(s.owner, best.owner) != 0 || newer {
			rivals = nodes[:i]
			break
		}
	}
	return chooseAmong(rivals, flow.StatusNode, "Several nodes found for same IP: ")
}

// chooseAmong returns the first one of the owners. The others are named in a warning.
func chooseAmong(list []*staticSpan, status flow.Status, sentence string) flow.End {
	if objects := objectsOf(list); len(objects) > 1 {
		return flow.End{Object: ambiguous(list[0].obj, sentence, objects), Status: flow.StatusAmbiguous}
	}
	return flow.End{Object: list[0].obj, Status: status}
}

// objectsOf returns what records show of the owners. Endpoints of one Service may be in several
// slices: each object is there once.
func objectsOf(list []*staticSpan) []*flow.Object {
	var objects []*flow.Object
	for _, s := range list {
		if !slices.ContainsFunc(objects, func(o *flow.Object) bool {
			return o.Kind == s.obj.Kind && o.Namespace == s.obj.Namespace && o.Name == s.obj.Name
		}) {
			objects = append(objects, s.obj)
		}
	}
	return objects
}

// ownersByPort returns the owners of the ports that Services have on an address.
func ownersByPort(services []*staticSpan) []portOwner {
	var claims []struct {
		port port
		span *staticSpan
	}
	for _, s := range services {
		for _, p := range s.ports {
			claims = append(claims, struct {
				port port
				span *staticSpan
			}{p, s})
		}
	}
	slices.SortStableFunc(claims, func(a, b struct {
		port port
		span *staticSpan
	}) int {
		return cmp.Compare(a.port, b.port)
	})
	var list []portOwner
	var rivals []*staticSpan
	for i, c := range claims {
		rivals = append(rivals, c.span)
		if i+1 < len(claims) && claims[i+1].port == c.port {
			continue
		}
		status := flow.StatusService
		if c.span.class == classEndpoint {
			status = flow.StatusEndpoint
		}
		list = append(list, portOwner{c.port, chooseAmong(rivals, status, severalServices)})
		rivals = nil
	}
	return list
}
