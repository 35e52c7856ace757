package hubble

import (
	"net/netip"

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
}

// mostNear is how many exporters a request remembers the Nodes of.
const mostNear = 256

// view is a record as Hubble sees it. What costs something is found out when it is first asked
// for. A request has one view and sets it to one record after another; one goroutine uses it.
type view struct {
	*names
	r        *flow.Record
	src, dst end

	nodes map[netip.Addr]nodeAt

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
	ep     endpoint
	known  bool // ep is this end's
}

// nodeAt is a Node that had an exporter's address, for records of the same second.
type nodeAt struct {
	second int64
	name   string
}

func newView(n *names) *view {
	return &view{names: n, nodes: make(map[netip.Addr]nodeAt)}
}

// set makes v a view of r. The slices of r must stay as they are while v is used.
func (v *view) set(r *flow.Record) {
	v.r = r
	v.src.object, v.src.addr, v.src.known = v.objectOf(v.names.src), addrOf(r.Msg.SrcAddr), false
	v.dst.object, v.dst.addr, v.dst.known = v.objectOf(v.names.dst), addrOf(r.Msg.DstAddr), false
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

// source returns the source as Hubble describes it, until v is set to another record.
func (v *view) source() *endpoint { return v.endpoint(&v.src) }

// destination returns the destination as Hubble describes it, until v is set to another record.
func (v *view) destination() *endpoint { return v.endpoint(&v.dst) }

func (v *view) endpoint(e *end) *endpoint {
	if !e.known {
		local := e.object != nil && e.object.Kind == kindNode && v.onExporter(e.object)
		e.ep.fill(e.object, local, e.addr.IsGlobalUnicast())
		e.known = true
	}
	return &e.ep
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
