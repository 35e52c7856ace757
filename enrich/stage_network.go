package enrich

import (
	"bytes"
	"net/netip"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Fields returns the fields of records that names depend on, beside the mapped addresses and the
// times.
func Fields() []flow.FieldID {
	return []flow.FieldID{
		flow.FieldSrcAddr, flow.FieldDstAddr, flow.FieldSrcMac, flow.FieldDstMac,
		flow.FieldSamplerAddress, flow.FieldExporterAddress,
		flow.FieldType, flow.FieldFlowDirection, flow.FieldInIf, flow.FieldOutIf, flow.FieldInIfName, flow.FieldOutIfName,
		flow.FieldProto, flow.FieldSrcPort, flow.FieldDstPort,
		flow.FieldTunnelType, flow.FieldTunnelSrcAddr, flow.FieldTunnelDstAddr,
	}
}

// decideNetwork decides which network a record is of, for ownerInNetwork. The entries are those of
// the mapping's addresses, nil where nothing is known of one.
func (s *Stage) decideNetwork(r *flow.Record, entries *[flow.MaxEnds]*entry, from, to int64) {
	d := &s.decider
	d.ix, d.from, d.to = s.e.store.index, from, to
	d.src = side{mac: r.Msg.SrcMac, port: portOf(r, flow.FieldSrcAddr)}
	d.dst = side{mac: r.Msg.DstMac, port: portOf(r, flow.FieldDstAddr)}
	hasSrc, hasDst := false, false
	for i, m := range s.e.cfg.Mapping {
		switch m.Field {
		case flow.FieldSrcAddr:
			d.src.entry, hasSrc = entries[i], true
		case flow.FieldDstAddr:
			d.dst.entry, hasDst = entries[i], true
		}
	}
	if a, ok := r.Addr(flow.FieldSrcAddr); ok && !hasSrc {
		d.src.entry = d.ix.find(a)
	}
	if a, ok := r.Addr(flow.FieldDstAddr); ok && !hasDst {
		d.dst.entry = d.ix.find(a)
	}
	d.src.static = d.src.entry.staticEnd(d.ix, d.src.port, from, to)
	d.dst.static = d.dst.entry.staticEnd(d.ix, d.dst.port, from, to)
	d.src.node, d.dst.node = s.nodesOfEnds(r, from, to)
	d.decide()
}

// staticEnd returns who had the address over the time [from, to] beside pods. It may be called for
// nil.
func (e *entry) staticEnd(ix *index, p port, from, to int64) flow.End {
	if e == nil {
		return flow.End{}
	}
	if g := e.static.find(from, to); g != nil {
		return e.static.at(g, &ix.nodePorts, p, from, to)
	}
	return flow.End{}
}

// nodesOfEnds returns the Nodes that the ends of a record are on if they are pods, as far as the
// record shows. A packet that enters a Node's bridge, and not from a tunnel, was sent by a pod of
// that Node. One that leaves it for a port is for a pod of that Node. A tunnel's addresses are those
// of the Nodes at its ends. Ports to other bridges tell nothing: behind them is the outside, and
// what OVN itself sends comes in by them, too. Open vSwitch samples sFlow where packets enter.
func (s *Stage) nodesOfEnds(r *flow.Record, from, to int64) (src, dst string) {
	const egress = 1
	x := &r.Extra
	exporter := s.exporterNode(r, from, to)
	switch {
	case x.FromTunnel || x.TunnelType != 0 || len(x.TunnelSrcAddr) > 0 || len(x.TunnelDstAddr) > 0 || isTunnelPort(x.InIfName) && x.FlowDirection != egress:
		src, dst = s.nodeOfBytes(x.TunnelSrcAddr, from, to), s.nodeOfBytes(x.TunnelDstAddr, from, to)
		if x.FlowDirection == egress && src == "" {
			src = exporter
		} else if x.FlowDirection != egress && dst == "" {
			dst = exporter
		}
	case x.FlowDirection == egress:
		if !isPatchPort(x.OutIfName) {
			dst = exporter
		}
	case x.HasDirection || r.Msg.Type == flowpb.FlowMessage_SFLOW_5:
		if !isPatchPort(x.InIfName) {
			src = exporter
		}
	case r.Msg.Type == flowpb.FlowMessage_IPFIX && r.Msg.OutIf != 0 && r.Msg.OutIf != r.Msg.InIf:
		// The direction is not known, as in goflow2's output. Open vSwitch only tells an output
		// interface where a packet leaves the bridge.
		dst = exporter
	}
	return src, dst
}

// amongNodes returns the owner of an address that several Nodes have: the exporter's, if it is one
// of them. Networks of users that share a range have each its management port's address on another
// Node. The exporter's own address tells nothing of itself.
func (s *Stage) amongNodes(r *flow.Record, e *entry, end flow.End, from, to int64) flow.End {
	g := e.static.find(from, to)
	if a, ok := r.Addr(flow.FieldSamplerAddress); g == nil || ok && a == e.addr {
		return end
	}
	exporter := s.exporterNode(r, from, to)
	for _, o := range g.nodes {
		if o.Node == exporter {
			return flow.End{Object: o, Status: flow.StatusNode}
		}
	}
	return end
}

// isPatchPort reports whether an interface leads to another bridge, by the name that OVN gives it.
func isPatchPort(name []byte) bool { return bytes.HasPrefix(name, []byte("patch-")) }

// isTunnelPort reports whether an interface is a tunnel's, by the names that Open vSwitch gives them
// (lib/dpif-netlink-rtnl.c there).
func isTunnelPort(name []byte) bool {
	return bytes.HasPrefix(name, []byte("genev_sys_")) || bytes.HasPrefix(name, []byte("vxlan_sys_"))
}

// exporterNode returns the Node that has the address of a record's exporter, empty if none has.
func (s *Stage) exporterNode(r *flow.Record, from, to int64) string {
	if n := s.nodeOfBytes(r.Msg.SamplerAddress, from, to); n != "" {
		return n
	}
	return s.nodeOfBytes(r.Extra.ExporterAddress, from, to)
}

func (s *Stage) nodeOfBytes(b []byte, from, to int64) string {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return ""
	}
	return s.e.store.index.nodeOf(a.Unmap(), from, to)
}

// nodeOf returns the Node that has an address outside of the networks of users, or whose pod has it;
// empty if there is none. Without the right to read Nodes it is the one that pods have as their
// host.
func (ix *index) nodeOf(a netip.Addr, from, to int64) string {
	e := ix.find(a)
	if e == nil {
		return (*ix.hosts.Load())[a]
	}
	if !e.inSeveralNetworks() {
		if end, _ := ix.at(e, from, to, 0); end.Object != nil && end.Object.Node != "" {
			return end.Object.Node
		}
	}
	if node := e.nodeAt(from, to); node != nil {
		return node.Node
	}
	return (*ix.hosts.Load())[a]
}

// ownerInNetwork returns who owns one of the addresses of the record that decideNetwork was called
// for, and whether that is settled.
func (s *Stage) ownerInNetwork(e *entry, field flow.FieldID) (end flow.End, settled bool) {
	d := &s.decider
	switch field {
	case flow.FieldSrcAddr:
		return d.owner(&d.src)
	case flow.FieldDstAddr:
		return d.owner(&d.dst)
	case flow.FieldSamplerAddress, flow.FieldExporterAddress, flow.FieldTunnelSrcAddr, flow.FieldTunnelDstAddr:
		if e.inSeveralNetworks() { // exporters and tunnels are in none of these
			own := (&side{entry: e}).in(&clusterNetwork)
			if own == nil {
				end = e.staticEnd(d.ix, 0, d.from, d.to)
				return end, end.Object != nil
			}
			e = own
		}
		if e == nil {
			return flow.End{}, false
		}
		return d.ix.at(e, d.from, d.to, 0)
	}
	other := side{entry: e, static: e.staticEnd(d.ix, 0, d.from, d.to)}
	return d.owner(&other)
}

// ownerByMAC returns the pod that has the MAC beside an address field, if nothing but the MAC is
// known of one of its interfaces. That of a router is no pod's.
func (s *Stage) ownerByMAC(r *flow.Record, field flow.FieldID, from, to int64) flow.End {
	var mac uint64
	switch field {
	case flow.FieldSrcAddr:
		mac = r.Msg.SrcMac
	case flow.FieldDstAddr:
		mac = r.Msg.DstMac
	}
	if mac == 0 {
		return flow.End{}
	}
	d := &s.macDecider
	e := s.e.store.index.find(macAddr(mac))
	if e == nil {
		return flow.End{}
	}
	d.ix, d.from, d.to, d.src, d.dst = s.e.store.index, from, to, side{entry: e, mac: mac}, side{}
	d.decide()
	end, _ := d.owner(&d.src)
	return end
}
