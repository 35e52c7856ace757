package e2e

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// ovnLab is a cluster of two nodes with a real OVN, set up as OVN-Kubernetes sets it
// up in shared gateway mode: a switch for each node, a router for the cluster, a gateway
// router for each node, load balancers, an egress IP and policies. Nodes, pods and a host
// outside are network namespaces. All addresses are those of the captures and of the
// file of objects in testdata/captures-ovn.
type ovnLab struct {
	t     *testing.T
	lab   *lab.Lab
	ovn   *lab.OVN
	nodes []*ovnHost
	pods  []*ovnPod
}

// ovnHost is a node, n counted from 1.
type ovnHost struct {
	n    int
	sw   *lab.Switch
	wire wireTaps // of the management port
}

// ovnPod is a pod, whose namespace and interface on its node have its name.
type ovnPod struct {
	name string
	node *ovnHost
	host byte // last part of its addresses
	wire wireTaps
}

// wireTaps count what a pod or host sends to br-int, and what it gets from there.
type wireTaps struct{ sent, got *lab.Tap }

const (
	outside   = "ext"       // the namespace of a host that is no node
	collector = "collector" // and of the collector
	underlay  = "underlay"  // and of the bridge that joins all of them
	mgmtPort  = "ovn-k8s-mp0"
)

var (
	outside4, outside6 = netip.MustParseAddr("172.18.0.50"), netip.MustParseAddr("fd00:172:18::50")
	nextHop            = netip.MustParseAddr("172.18.0.1") // of the gateway routers, also outside
	collectorAddr      = netip.MustParseAddr("172.18.0.100")
	balancer           = netip.MustParseAddr("172.18.0.200")  // address of a load balancer
	masqueradeHost     = netip.MustParseAddr("169.254.169.2") // the host, to OVN
	masqueradeHop      = netip.MustParseAddr("169.254.169.4") // the way to Services, to the host
	masqueradeOVN      = netip.MustParseAddr("169.254.169.1") // OVN, to the host
	hairpinAddr        = netip.MustParseAddr("169.254.169.5") // a pod that talks to itself by a Service
	hairpinAddr6       = netip.MustParseAddr("fd69::5")       // the same
	clusterRouter4     = netip.MustParseAddr("100.64.0.1")    // in the join subnet
	clusterRouter6     = netip.MustParseAddr("fd98::1")       // the same
	nodePort           = uint16(30080)                        // of the Service web
)

func numbered(format string, args ...any) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf(format, args...))
}

func (n *ovnHost) ns() string        { return fmt.Sprintf("node%d", n.n) }
func (n *ovnHost) name() string      { return fmt.Sprintf("ovn-node%d", n.n) }
func (n *ovnHost) gateway() string   { return "GR_" + n.name() }
func (n *ovnHost) addr4() netip.Addr { return numbered("172.18.0.%d", n.n+1) }
func (n *ovnHost) addr6() netip.Addr { return numbered("fd00:172:18::%d", n.n+1) }
func (n *ovnHost) join4() netip.Addr { return numbered("100.64.0.%d", n.n+1) }
func (n *ovnHost) join6() netip.Addr { return numbered("fd98::%d", n.n+1) }

// pod4 and pod6 are addresses of the node's pod ranges: 1 is the router's, 2 the
// management port's.
func (n *ovnHost) pod4(host byte) netip.Addr { return numbered("10.244.%d.%d", n.n-1, host) }
func (n *ovnHost) pod6(host byte) netip.Addr { return numbered("fd00:10:244:%d::%d", n.n, host) }

func (p *ovnPod) v4() netip.Addr { return p.node.pod4(p.host) }
func (p *ovnPod) v6() netip.Addr { return p.node.pod6(p.host) }

// newOVNLab makes the cluster. It skips the test where that cannot be done.
func newOVNLab(t *testing.T) *ovnLab {
	t.Helper()
	l := lab.New(t, append(append(lab.SwitchPrograms, lab.OVNPrograms...), "ping")...)
	c := &ovnLab{t: t, lab: l}
	c.lab.Add(underlay, outside, collector, "node1", "node2")
	c.lab.IP(underlay, "link", "add", "wire", "type", "bridge", "mcast_snooping", "0")
	c.lab.IP(underlay, "link", "set", "wire", "up")
	for _, ns := range []string{outside, collector, "node1", "node2"} {
		c.plug(ns)
	}
	c.lab.IP(outside, "addr", "add", outside4.String()+"/16", "dev", "eth0")
	c.lab.IP(outside, "addr", "add", outside6.String()+"/64", "dev", "eth0", "nodad")
	c.lab.IP(outside, "addr", "add", nextHop.String()+"/16", "dev", "eth0")
	c.lab.IP(collector, "addr", "add", collectorAddr.String()+"/16", "dev", "eth0")
	c.nodes = []*ovnHost{{n: 1}, {n: 2}}
	c.lab.IP(outside, "route", "add", balancer.String()+"/32", "via", c.nodes[0].addr4().String())
	for _, p := range []struct {
		name string
		node int
		host byte
	}{
		{"client", 1, 5}, {"server", 1, 6}, {"egress", 1, 7}, {"denied", 1, 8}, {"web", 2, 5}, {"dns", 2, 6}, {"batch", 2, 7},
	} {
		c.pods = append(c.pods, &ovnPod{name: p.name, node: c.nodes[p.node-1], host: p.host})
	}
	c.ovn = c.lab.StartOVN("node1")
	for _, n := range c.nodes {
		c.startNode(n)
	}
	c.ovn.Nbctl(c.topology()...)
	c.policies()
	for _, n := range c.nodes {
		c.managementPort(n)
	}
	for _, p := range c.pods {
		c.startPod(p)
	}
	c.ovn.Nbctl("--wait=hv", "sync")
	for _, n := range c.nodes {
		c.externalBridge(n)
	}
	return c
}

// plug joins a namespace to the others by an interface eth0.
func (c *ovnLab) plug(ns string) {
	c.lab.Pair(ns, "eth0", underlay, "to-"+ns, 1500)
	c.lab.IP(underlay, "link", "set", "to-"+ns, "master", "wire", "up")
	c.lab.IP(ns, "link", "set", "eth0", "up")
}

// startNode starts a node's switch, with its bridges, and its ovn-controller.
func (c *ovnLab) startNode(n *ovnHost) {
	// What the switch has no time to read at once would be lost. Older kernels have one
	// number for all namespaces, which is left alone.
	_ = c.lab.Write(n.ns(), "core/rmem_default", "67108864")
	n.sw = c.lab.StartSwitch(n.ns())
	n.sw.Vsctl("add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev", "fail-mode=standalone",
		"other-config:hwaddr=\""+mac(n.addr4())+"\"", "--", "br-set-external-id", "br-ex", "bridge-id", "br-ex", "--", "add-port", "br-ex", "eth0")
	c.lab.IP(n.ns(), "link", "set", "br-ex", "up")
	c.lab.IP(n.ns(), "addr", "add", n.addr4().String()+"/16", "dev", "br-ex")
	c.lab.IP(n.ns(), "addr", "add", n.addr6().String()+"/64", "dev", "br-ex", "nodad")
	c.plain(n.ns(), "br-ex")
	n.sw.Vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=netdev", "fail-mode=secure")
	n.sw.StartController(c.ovn, fmt.Sprintf("chassis%d", n.n), map[string]string{
		"encap-type": "geneve", "encap-ip": n.addr4().String(), "bridge-mappings": "physnet:br-ex",
		"bridge-datapath-type": "netdev", "monitor-all": "true",
	})
}

// plain has an interface's packets be those that a wire would carry.
func (c *ovnLab) plain(ns, dev string) {
	// An interface that cannot do some of it has it off.
	_ = c.lab.Try(ns, "ethtool", "-K", dev, "tx", "off", "sg", "off", "tso", "off", "gso", "off", "gro", "off")
}

// managementPort makes the host's way into the cluster's network, and to Services: by
// br-ex, with an address that stands for the host.
func (c *ovnLab) managementPort(n *ovnHost) {
	own := n.pod4(2)
	n.sw.Vsctl("add-port", "br-int", mgmtPort, "--", "set", "interface", mgmtPort, "type=internal", fmt.Sprintf("mtu_request=%d", podMTU),
		`mac="`+mac(own)+`"`, "external-ids:iface-id=k8s-"+n.name())
	ns := n.ns()
	c.lab.IP(ns, "link", "set", mgmtPort, "address", mac(own))
	c.plain(ns, mgmtPort)
	n.wire = wireTaps{c.lab.TapSent(ns, mgmtPort), c.lab.Tap(ns, mgmtPort)} // before the first packet
	c.lab.IP(ns, "link", "set", mgmtPort, "up")
	c.lab.IP(ns, "addr", "add", own.String()+"/24", "dev", mgmtPort)
	c.lab.IP(ns, "addr", "add", n.pod6(2).String()+"/64", "dev", mgmtPort, "nodad")
	c.lab.IP(ns, "route", "add", "10.244.0.0/16", "via", n.pod4(1).String(), "dev", mgmtPort)
	c.lab.IP(ns, "route", "add", "fd00:10:244::/48", "via", n.pod6(1).String(), "dev", mgmtPort)
	c.lab.IP(ns, "addr", "add", masqueradeHost.String()+"/29", "dev", "br-ex")
	for _, addr := range []netip.Addr{masqueradeHop, masqueradeOVN} {
		c.lab.IP(ns, "neigh", "replace", addr.String(), "lladdr", mac(n.addr4()), "dev", "br-ex", "nud", "permanent")
	}
	c.lab.IP(ns, "route", "add", "10.96.0.0/16", "via", masqueradeHop.String(), "dev", "br-ex", "src", n.addr4().String(), "mtu", fmt.Sprint(podMTU))
	c.lab.IP(ns, "route", "add", masqueradeOVN.String()+"/32", "dev", "br-ex")
}

// startPod makes a pod's network and announces it to OVN.
func (c *ovnLab) startPod(p *ovnPod) {
	node := p.node.ns()
	c.lab.Add(p.name)
	c.lab.Pair(p.name, "eth0", node, p.name, podMTU)
	// The node has no business on the pod's wire.
	if err := c.lab.Write(node, "ipv6/conf/"+p.name+"/disable_ipv6", "1"); err != nil {
		c.t.Fatal(err)
	}
	if err := c.lab.Write(p.name, "ipv6/conf/eth0/router_solicitations", "0"); err != nil {
		c.t.Fatal(err)
	}
	p.wire = wireTaps{c.lab.Tap(node, p.name), c.lab.Tap(p.name, "eth0")}
	c.lab.IP(p.name, "link", "set", "eth0", "address", mac(p.v4()), "up")
	c.lab.IP(node, "link", "set", p.name, "up")
	c.lab.IP(p.name, "addr", "add", p.v4().String()+"/24", "dev", "eth0")
	c.lab.IP(p.name, "addr", "add", p.v6().String()+"/64", "dev", "eth0", "nodad")
	c.lab.IP(p.name, "route", "add", "0.0.0.0/0", "via", p.node.pod4(1).String())
	c.lab.IP(p.name, "route", "add", "::/0", "via", p.node.pod6(1).String())
	p.node.sw.Vsctl("add-port", "br-int", p.name, "--", "set", "interface", p.name, "external-ids:iface-id=shop_"+p.name,
		`external-ids:attached_mac="`+mac(p.v4())+`"`, "external-ids:ip_addresses="+p.v4().String()+"/24")
}
