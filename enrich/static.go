package enrich

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// port is a port and its protocol, as Services claim them: protocol<<16 | port, with the number
// that IP has for the protocol. 0 is an unknown port.
type port uint32

// The protocols that Services may have ports of.
const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// newPort returns a port; 0 if its number is 0, or if Services have no ports of the protocol.
func newPort(protocol, number uint32) port {
	if number == 0 || number > math.MaxUint16 || protocol != protoTCP && protocol != protoUDP && protocol != protoSCTP {
		return 0
	}
	return port(protocol<<16 | number)
}

// always begins what has no known beginning.
const always = math.MinInt64

// statics is who owns an address where no pod does: Services, egress IPs, Nodes and endpoints, by
// time and by port. It is immutable but for its cache.
type statics struct {
	segments []staticSegment // in order of time, apart from each other
	onNode   atomic.Pointer[map[*flow.Object]*flow.Object]
}

// staticSegment is who owns an address from one time to another, in Unix nanoseconds; to is
// exclusive.
type staticSegment struct {
	from, to int64
	other    flow.End     // for ports that are not among the following, and for unknown ones
	ports    []portOwner  // Services, in order of their ports
	node     *flow.Object // the Node that has the address; nil if none has
	// nodes are the Nodes among which other is ambiguous: the exporter's may be one of them.
	nodes []*flow.Object
	// nodePorts reports whether Services are reached by their node ports here.
	nodePorts bool
	shared    sharedAddr
}

// portOwner is the owner of a port of an address.
type portOwner struct {
	port port
	end  flow.End
}

// sharedAddr is how an address is resolved that all Nodes have, each for itself. Only the record
// says whose it is.
type sharedAddr uint8

const (
	notShared     sharedAddr = iota
	sharedByNodes            // the Node of the exporter has it
	sharedHairpin            // the pod at the other end talks to itself through a Service
)

// maxOnNode bounds the Services of one address that [statics.at] remembers with their Node.
const maxOnNode = 64

// find returns the segment that overlaps most with [from, to], the later one of equals; nil if none
// does. It may be called for nil.
func (s *statics) find(from, to int64) *staticSegment {
	if s == nil {
		return nil
	}
	var best *staticSegment
	most := int64(-1)
	for i := range s.segments {
		g := &s.segments[i]
		if g.to <= from || to < g.from {
			continue
		}
		if overlap := min(to, g.to) - max(from, g.from); overlap >= most {
			best, most = g, overlap
		}
	}
	return best
}

// near returns the segment that is nearest to [from, to], within the tolerance; nil if none is.
func (s *statics) near(from, to int64) *staticSegment {
	if s == nil {
		return nil
	}
	var best *staticSegment
	nearest := tolerance + 1
	for i := range s.segments {
		g := &s.segments[i]
		distance := tolerance + 1
		switch {
		case g.to <= from && from-g.to <= tolerance:
			distance = from - g.to
		case to < g.from && g.from-to <= tolerance:
			distance = g.from - to
		}
		if distance < nearest {
			best, nearest = g, distance
		}
	}
	return best
}

// at returns the owner of a port in a segment. A Service that is found on a Node's address is shown
// with that Node.
func (s *statics) at(g *staticSegment, table *nodePortTable, p port, from, to int64) flow.End {
	if p == 0 {
		return g.other
	}
	end := g.other
	if i, ok := slices.BinarySearchFunc(g.ports, p, func(o portOwner, p port) int { return int(o.port) - int(p) }); ok {
		end = g.ports[i].end
	} else if g.nodePorts {
		if o := table.find(p, from, to); o != nil {
			end = flow.End{Object: o, Status: flow.StatusService}
		}
	}
	if g.node != nil && end.Object != nil && end.Object.Kind == kindService.String() {
		end.Object = s.withNode(end.Object, g.node)
	}
	return end
}

// withNode returns a Service as records show it that find it on a Node's address. It is made when
// the first record asks for it, because most pairs of Services and Nodes are never seen.
func (s *statics) withNode(o, node *flow.Object) *flow.Object {
	for {
		old := s.onNode.Load()
		var known map[*flow.Object]*flow.Object
		if old != nil {
			known = *old
		}
		if with := known[o]; with != nil {
			return with
		}
		c := o.Copy()
		c.Node, c.Zone = node.Node, node.Zone
		with := flow.NewObject(c)
		if len(known) >= maxOnNode {
			known = nil
		}
		next := maps.Clone(known)
		if next == nil {
			next = map[*flow.Object]*flow.Object{}
		}
		next[o] = with
		if s.onNode.CompareAndSwap(old, &next) {
			return with
		}
	}
}

// nodePortTable has the Services by their node ports, which all Nodes have. Readers take no lock;
// the writer replaces a bucket as a whole.
type nodePortTable struct {
	buckets [256]atomic.Pointer[[]nodePortSpan]
}

// nodePortSpan is the time over which a Service has a node port.
type nodePortSpan struct {
	port     port
	from, to int64
	span     *staticSpan // for the writer
	obj      *flow.Object
}

// find returns the Service that had a port over most of [from, to], or was nearest within the
// tolerance; nil if none was.
func (t *nodePortTable) find(p port, from, to int64) *flow.Object {
	list := t.buckets[p%256].Load()
	if list == nil {
		return nil
	}
	var best *flow.Object
	most := -tolerance - 1
	for i := range *list {
		o := &(*list)[i]
		if o.port != p {
			continue
		}
		// The overlap is negative where there is none: it is then the distance.
		if overlap := min(to, o.to) - max(from, o.from); overlap > most || overlap == most && best != nil {
			best, most = o.obj, overlap
		}
	}
	return best
}

// put adds a span or replaces it. It is for the writer.
func (t *nodePortTable) put(s *staticSpan) {
	t.change(s, func(list []nodePortSpan) []nodePortSpan {
		return append(list, nodePortSpan{s.port, s.from, s.to, s, s.owner.obj})
	})
}

// remove removes a span. It is for the writer.
func (t *nodePortTable) remove(s *staticSpan) {
	t.change(s, func(list []nodePortSpan) []nodePortSpan { return list })
}

// change replaces the bucket of a span by what f makes of it without the span.
func (t *nodePortTable) change(s *staticSpan, f func([]nodePortSpan) []nodePortSpan) {
	b := &t.buckets[s.port%256]
	var list []nodePortSpan
	if old := b.Load(); old != nil {
		list = slices.DeleteFunc(slices.Clone(*old), func(o nodePortSpan) bool { return o.span == s })
	}
	list = f(list)
	slices.SortStableFunc(list, func(a, b nodePortSpan) int { return compareTimes(a.from, b.from) })
	b.Store(&list)
}

// compareTimes orders times.
func compareTimes(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// shared returns how an address is resolved that each Node has for itself.
func (ix *index) shared(addr netip.Addr, from, to int64) sharedAddr {
	if e := ix.find(addr); e != nil {
		if g := e.static.find(from, to); g != nil {
			return g.shared
		}
	}
	return notShared
}

// nodeAt returns the Node that had the address over the time [from, to]; nil if none is known. It
// neither locks nor allocates.
func (e *entry) nodeAt(from, to int64) *flow.Object {
	g := e.static.find(from, to)
	if g == nil {
		g = e.static.near(from, to)
	}
	if g == nil {
		return nil
	}
	return g.node
}
