package hubble

import (
	"net/netip"
	"sync"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// names is what all requests share: how ends are named.
type names struct {
	src, dst int      // indexes of a record's Ends; flow.MaxEnds if there is none
	labels   []string // names of the labels in Object.Labels, in order
	cluster  string   // name of the cluster; empty if it has none
	ids      *identities
	// nodeOf returns the Node that has an address at a time, empty if there is none.
	nodeOf func(addr netip.Addr, at int64) string
	known  *endpoints
}

// What requests remember: maxEndpoints ends together, and each for itself mostNear of those that
// it saw last, and as many exporters.
const (
	maxEndpoints = 10_000
	mostNear     = 256
)

// endpoints has the ends that requests saw. Any number of goroutines may use it at once.
type endpoints struct {
	mu    sync.RWMutex
	byKey map[endpointKey]*endpoint
}

// get returns an end, made by create if it is not known. Of two that are made at once, the first
// one stays.
func (e *endpoints) get(key endpointKey, create func(endpointKey) *endpoint) *endpoint {
	e.mu.RLock()
	ep := e.byKey[key]
	e.mu.RUnlock()
	if ep != nil {
		return ep
	}
	made := create(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	if ep := e.byKey[key]; ep != nil {
		return ep
	}
	if e.byKey == nil || len(e.byKey) >= maxEndpoints {
		e.byKey = make(map[endpointKey]*endpoint) // costs less than to find out which are old
	}
	e.byKey[key] = made
	return made
}

// view is a record as Hubble sees it. What costs something is found out when it is first asked
// for. A request has one view and sets it to one record after another; one goroutine uses it.
type view struct {
	*names
	r        *flow.Record
	src, dst end

	endpoints map[endpointKey]*endpoint
	nodes     map[netip.Addr]nodeAt
	made      [2]endpoint // room for the ends of a flow

	node      string // see nodeName
	knowsNode bool
	nodeIsOne bool // node is a Node, not an address
	reply     reply
	knowsSide bool
	side      side
}

// end is one end of a record.
type end struct {
	object *flow.Object // nil if nobody is known to own the address
	addr   netip.Addr   // invalid if the record has none
	ep     *endpoint    // nil until it is asked for
}

// nodeAt is a Node that had an exporter's address, for records of the same second.
type nodeAt struct {
	second int64
	name   string
}

func newView(n *names) *view {
	return &view{names: n, endpoints: make(map[endpointKey]*endpoint), nodes: make(map[netip.Addr]nodeAt)}
}

// set makes v a view of r. The slices of r must stay as they are while v is used.
func (v *view) set(r *flow.Record) {
	v.r = r
	v.src = end{object: v.objectOf(v.names.src), addr: addrOf(r.Msg.SrcAddr)}
	v.dst = end{object: v.objectOf(v.names.dst), addr: addrOf(r.Msg.DstAddr)}
	v.knowsNode, v.knowsSide, v.reply = false, false, replyUnasked
}

func (v *view) objectOf(index int) *flow.Object {
	if index >= flow.MaxEnds {
		return nil
	}
	return v.r.Ends[index].Object
}

// addrOf returns an address of a record, invalid if there is none.
func addrOf(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a.Unmap()
}

// source returns the source as Hubble describes it. Nothing may change it.
func (v *view) source() *endpoint { return v.endpoint(&v.src) }

// destination returns the destination as Hubble describes it. Nothing may change it.
func (v *view) destination() *endpoint { return v.endpoint(&v.dst) }

func (v *view) endpoint(e *end) *endpoint {
	if e.ep != nil {
		return e.ep
	}
	key := v.keyOf(e)
	ep, ok := v.endpoints[key]
	if !ok {
		if len(v.endpoints) >= mostNear {
			clear(v.endpoints)
		}
		ep = v.known.get(key, v.newEndpoint)
		v.endpoints[key] = ep
	}
	e.ep = ep
	return ep
}

func (v *view) keyOf(e *end) endpointKey {
	key := endpointKey{object: e.object, routed: e.addr.IsGlobalUnicast()}
	if e.object != nil && e.object.Kind == kindNode {
		key.local = v.onExporter(e.object)
	}
	return key
}

// described returns an end as Hubble describes it: what a filter has found out, else it fills
// room, which costs less than to remember all ends that were sent.
func (v *view) described(e *end, room *endpoint) *endpoint {
	if e.ep != nil {
		return e.ep
	}
	v.fill(room, v.keyOf(e))
	return room
}

// onExporter reports whether a pod or Node is on the Node that has seen the packets.
func (v *view) onExporter(o *flow.Object) bool {
	node := v.nodeName()
	return v.nodeIsOne && o.Node == node
}

// nodeName returns the name of the Node that the record was exported by, or the exporter's
// address if it is none of the cluster's.
func (v *view) nodeName() string {
	if v.knowsNode {
		return v.node
	}
	v.knowsNode = true
	sampler, exporter := addrOf(v.r.Msg.SamplerAddress), addrOf(v.r.Extra.ExporterAddress)
	for _, a := range [...]netip.Addr{sampler, exporter} {
		if name := v.lookUpNode(a); name != "" {
			v.node, v.nodeIsOne = name, true
			return name
		}
	}
	v.node, v.nodeIsOne = "", false
	switch {
	case sampler.IsValid() && !sampler.IsUnspecified():
		v.node = sampler.String()
	case exporter.IsValid():
		v.node = exporter.String()
	}
	return v.node
}

// lookUpNode returns the Node that had an address when the record was received.
func (v *view) lookUpNode(a netip.Addr) string {
	if !a.IsValid() || v.nodeOf == nil {
		return ""
	}
	at := int64(v.r.Msg.TimeReceivedNs)
	second := at / 1e9
	if n, ok := v.nodes[a]; ok && n.second == second {
		return n.name
	}
	if len(v.nodes) >= mostNear {
		clear(v.nodes)
	}
	name := v.nodeOf(a, at)
	v.nodes[a] = nodeAt{second, name}
	return name
}

// inCluster returns a name of a Node with its cluster before it, as Cilium writes it.
func (n *names) inCluster(node string) string {
	if n.cluster == "" || node == "" {
		return node
	}
	return n.cluster + "/" + node
}
