package e2e

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// TestOVN has two nodes with a real OVN export all kinds of traffic by IPFIX and sFlow,
// and compares the records with what the interfaces of pods and hosts counted: packets and bytes of each
// conversation, the names of both ends, and which records count once.
func TestOVN(t *testing.T) {
	c := newOVNLab(t)
	c.serve()
	e := c.collect()
	c.export()
	before := c.wires(t)
	c.talk()
	var sent map[atInterface]lab.Count
	harness.Eventually(t, soon, "records of all that was sent", func() (bool, any) {
		sent = c.wires(t)
		for k, n := range before {
			d := lab.Count{Packets: sent[k].Packets - n.Packets, Bytes: sent[k].Bytes - n.Bytes}
			if sent[k] = d; d == (lab.Count{}) {
				delete(sent, k)
			}
		}
		wrong := append(c.compare(sent, c.byIPFIX(e)), c.compare(onlySent(sent), c.bySFlow(e))...)
		return len(wrong) == 0, strings.Join(wrong, "\n")
	})
	if len(sent) < 100 {
		t.Errorf("only %d conversations", len(sent))
	}
	c.checkEnds(e)
	c.checkOnce(e, sent)
	checkLedger(t, e.enricher, -1)
	m := e.metrics(t)
	for _, name := range []string{"sequence_lost_total", "sets_held", "sets_dropped_total", "datagrams_dropped_total", "records_dropped_total"} {
		if n := sum(m, name); n != 0 {
			t.Errorf("%s is %v", name, n)
		}
	}
	checkNoComplaints(t, e.enricher)
	e.terminate(t)
}

// atInterface is a conversation as the interface of a pod or a host sees it.
type atInterface struct {
	who  string
	sent bool
	lab.Conversation
}

// steady reports whether a conversation is of the test: neighbours and listeners of
// multicast are announced at any time, before and after it, too.
func steady(x lab.Conversation) bool {
	return !(x.Proto == 58 && (x.Src.IsLinkLocalUnicast() || x.Dst.IsMulticast() || x.Src.IsUnspecified()))
}

// wires is what all interfaces counted so far.
func (c *ovnLab) wires(t *testing.T) map[atInterface]lab.Count {
	t.Helper()
	sums := map[atInterface]lab.Count{}
	add := func(who string, w wireTaps) {
		for _, tap := range []*lab.Tap{w.sent, w.got} {
			var counts map[lab.Conversation]lab.Count
			harness.Eventually(t, soon, "packets of "+who, func() (complete bool, _ any) {
				counts, complete = tap.Counts()
				return complete, counts
			})
			for k, n := range counts {
				sums[atInterface{who, tap == w.sent, k}] = lab.Count{Packets: n.Packets, Bytes: n.Bytes}
			}
		}
	}
	for _, p := range c.pods {
		add(p.name, p.wire)
	}
	for _, n := range c.nodes {
		add(n.ns(), n.wire)
	}
	return sums
}

// onlySent is what pods and hosts sent.
func onlySent(wires map[atInterface]lab.Count) map[atInterface]lab.Count {
	sent := maps.Clone(wires)
	maps.DeleteFunc(sent, func(k atInterface, _ lab.Count) bool { return !k.sent })
	return sent
}

// byIPFIX sums records up by the interface of a pod or host that they were taken at.
func (c *ovnLab) byIPFIX(e *ovnCollector) map[atInterface]lab.Count {
	got := map[atInterface]lab.Count{}
	for _, r := range e.records(ipfix) {
		if r.tunnel || strings.HasPrefix(r.port, "patch-") || strings.HasPrefix(r.port, "ovn-chassi") {
			continue
		}
		k := atInterface{r.port, !r.egress, r.Conversation}
		if r.port == mgmtPort {
			k.who = c.exporterOf(r).ns()
		}
		n := got[k]
		n.Add(r.count)
		got[k] = n
	}
	return got
}

// bySFlow does the same for samples, which are of what comes in. A sample's bytes are
// those of an Ethernet frame with its checksum.
func (c *ovnLab) bySFlow(e *ovnCollector) map[atInterface]lab.Count {
	type port struct {
		node    *ovnHost
		ifindex int
	}
	ports := map[port]string{}
	for _, n := range c.nodes {
		ports[port{n, c.lab.Ifindex(n.ns(), mgmtPort)}] = n.ns()
	}
	for _, p := range c.pods {
		ports[port{p.node, c.lab.Ifindex(p.node.ns(), p.name)}] = p.name
	}
	got := map[atInterface]lab.Count{}
	for _, r := range e.records(sflow) {
		who, known := ports[port{c.exporterOf(r), r.inIf}]
		if !known {
			continue // from a tunnel, or from no port
		}
		k := atInterface{who, true, r.Conversation}
		n := got[k]
		n.Add(lab.Count{Packets: r.count.Packets, Bytes: r.count.Bytes - 18*r.count.Packets})
		got[k] = n
	}
	return got
}

// compare says where sums of records differ from what the interfaces counted.
func (c *ovnLab) compare(want, got map[atInterface]lab.Count) (wrong []string) {
	all := maps.Clone(got)
	maps.Copy(all, want)
	for k := range all {
		if steady(k.Conversation) && got[k] != want[k] {
			wrong = append(wrong, fmt.Sprintf("%v: %v, want %v", k, got[k], want[k]))
		}
	}
	slices.Sort(wrong)
	return wrong
}

// exporterOf is the node that a record comes from.
func (c *ovnLab) exporterOf(r *ovnRecord) *ovnHost {
	i := slices.IndexFunc(c.nodes, func(n *ovnHost) bool { return n.addr4() == r.exporter || n.pod4(2) == r.exporter })
	if i < 0 {
		c.t.Fatalf("nobody exports from %s: %v", r.exporter, r.record)
	}
	return c.nodes[i]
}

// checkEnds compares the names of both ends of all records with whose addresses they are.
func (c *ovnLab) checkEnds(e *ovnCollector) {
	c.t.Helper()
	wrong := map[string]int{}
	named := map[string]int{}
	for _, r := range e.records(ipfix, sflow) {
		for prefix, addr := range map[string]netip.Addr{"Src": r.Src, "Dst": r.Dst} {
			want, known := c.owner(r, addr)
			if !known {
				continue
			}
			got := r.names(prefix)
			if node, ok := r.record[prefix+"Node"]; ok {
				got["Node"] = fmt.Sprint(node)
			}
			named[want["WorkloadKind"]]++
			if !maps.Equal(got, want) {
				wrong[fmt.Sprintf("%s of %v is %v, want %v", prefix, addr, got, want)]++
			}
		}
	}
	for what, n := range wrong {
		c.t.Errorf("%d records: %s", n, what)
	}
	for _, kind := range []string{"Deployment", "Service", "Node", ""} {
		if named[kind] == 0 {
			c.t.Errorf("no record has an end of kind %q: %v", kind, named)
		}
	}
}

// owner is what is to be said of an address in a record. It is unknown of addresses that
// stand for nobody in particular.
func (c *ovnLab) owner(r *ovnRecord, addr netip.Addr) (names, bool) {
	for _, p := range c.pods {
		// A pod that talks to itself by a Service gets an address for that.
		if addr == p.v4() || addr == p.v6() || addr == hairpinAddr && p.name == "server" {
			return names{
				"Pod": p.name + "-7d9c5b8f6-abcde", "Namespace": "shop", "HostIP": p.node.addr4().String(),
				"Workload": p.name, "WorkloadKind": "Deployment", "Node": p.node.name(),
			}, true
		}
	}
	for _, n := range c.nodes {
		// The routers of a node are the node.
		if slices.Contains([]netip.Addr{
			n.addr4(), n.addr6(), n.pod4(1), n.pod6(1), n.pod4(2), n.pod6(2), n.join4(), n.join6(),
		}, addr) {
			return names{"Workload": n.name(), "WorkloadKind": "Node", "Node": n.name()}, true
		}
	}
	for name, addrs := range map[string][]netip.Addr{
		"default/kubernetes": {serviceKubernetes.Addr()}, "shop/server": {serviceServer.Addr()}, "shop/dns": {serviceDNS.Addr()},
		"shop/web": {serviceWeb.Addr(), serviceWeb6.Addr(), balancer}, "shop/empty": {serviceEmpty.Addr()},
	} {
		if slices.Contains(addrs, addr) {
			namespace, workload, _ := strings.Cut(name, "/")
			return names{"Namespace": namespace, "Workload": workload, "WorkloadKind": "Service"}, true
		}
	}
	if addr == outside4 || addr == outside6 || addr.IsMulticast() {
		return names{}, true
	}
	return nil, false
}

// checkOnce compares the records that count once with what was sent, by pair: what left
// the interfaces of pods and hosts, and what they got from who has none on br-int. At
// most 1 % of the packets may be off: docs/traffic-metrics.md says which.
func (c *ovnLab) checkOnce(e *ovnCollector, wires map[atInterface]lab.Count) {
	c.t.Helper()
	type pair struct{ src, dst netip.Addr }
	sent, left, answered := map[pair]int{}, map[lab.Conversation]bool{}, map[lab.Conversation]bool{}
	for k := range wires {
		if k.sent {
			left[k.Conversation] = true
			answered[lab.Conversation{Dst: k.Dst, Proto: k.Proto, DstPort: k.DstPort}] = true
		}
	}
	for k, n := range wires {
		if !k.sent && (c.onBridge(k.Src) || left[k.Conversation] || c.answerOfService(k.Conversation, answered)) {
			continue
		}
		if steady(k.Conversation) && !k.Dst.IsMulticast() {
			sent[pair{k.Src, k.Dst}] += n.Packets
		}
	}
	got := map[pair]int{}
	for _, r := range e.records(ipfix) {
		if r.once && !r.Dst.IsMulticast() && steady(r.Conversation) {
			got[pair{r.Src, r.Dst}] += r.count.Packets
		}
	}
	total, off := 0, 0
	var wrong []string
	for k := range got {
		sent[k] += 0
	}
	for k, n := range sent {
		total += n
		if d := got[k] - n; d != 0 {
			off += max(d, -d)
			wrong = append(wrong, fmt.Sprintf("%v > %v: %d, sent were %d", k.src, k.dst, got[k], n))
		}
	}
	slices.Sort(wrong)
	c.t.Logf("%d of %d packets are off:\n%s", off, total, strings.Join(wrong, "\n"))
	if total < 2000 || off*100 > total {
		c.t.Errorf("%d of %d packets do not count once, want 1 %% at most", off, total)
	}
}

// onBridge reports whether an address is of a pod or of a host's management port, whose
// interface has seen what it sent.
func (c *ovnLab) onBridge(addr netip.Addr) bool {
	return addr.IsLinkLocalUnicast() || addr.IsUnspecified() ||
		slices.ContainsFunc(c.pods, func(p *ovnPod) bool { return addr == p.v4() || addr == p.v6() }) ||
		slices.ContainsFunc(c.nodes, func(n *ovnHost) bool { return addr == n.pod4(2) || addr == n.pod6(2) })
}

// answerOfService reports whether a conversation that arrives is what a backend on br-int
// has sent, before its source was translated. A pod's answer to itself went to another
// address.
func (c *ovnLab) answerOfService(k lab.Conversation, answered map[lab.Conversation]bool) bool {
	s := k.Src.String()
	if !strings.HasPrefix(s, "10.96.") && !strings.HasPrefix(s, "fd00:10:96:") {
		return false
	}
	to := lab.Conversation{Dst: k.Dst, Proto: k.Proto, DstPort: k.DstPort}
	toItself := to
	toItself.Dst = hairpinAddr
	return answered[to] || answered[toItself]
}
