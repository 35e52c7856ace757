package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// commands collects commands of ovn-nbctl, which one call runs together.
type commands []string

func (c *commands) add(args ...string) { *c = append(append(*c, "--"), args...) }

// routerPort joins a logical switch to a router.
func (c *commands) routerPort(sw, port, router, peer string, mac string, addrs ...string) {
	c.add(slices.Concat([]string{"lrp-add", router, peer, mac}, addrs)...)
	c.add("lsp-add", sw, port)
	c.add("lsp-set-type", port, "router")
	c.add("lsp-set-addresses", port, "router")
	c.add("lsp-set-options", port, "router-port="+peer)
}

// topology is the logical network, as OVN-Kubernetes lays it out in shared gateway mode
// with one zone.
func (c *ovnLab) topology() []string {
	var nb commands
	nb.add("lr-add", "ovn_cluster_router")
	nb.add("ls-add", "join")
	nb.routerPort("join", "jtor-ovn_cluster_router", "ovn_cluster_router", "rtoj-ovn_cluster_router", mac(clusterRouter4), clusterRouter4.String()+"/16", clusterRouter6.String()+"/64")
	for _, n := range c.nodes {
		c.nodeSwitch(&nb, n)
		c.gatewayRouter(&nb, n)
		c.nodeRoutes(&nb, n)
	}
	for _, to := range []string{"10.244.0.0/16", "172.18.0.2/31", "100.64.0.0/16"} {
		nb.add("lr-policy-add", "ovn_cluster_router", "102", "ip4.src == 10.244.0.0/16 && ip4.dst == "+to, "allow")
	}
	for _, p := range c.pods {
		c.podPort(&nb, p)
	}
	c.balancers(&nb)
	return nb[1:] // without the first "--"
}

func (c *ovnLab) nodeSwitch(nb *commands, n *ovnHost) {
	sw := n.name()
	nb.add("ls-add", sw)
	nb.add("set", "logical_switch", sw, fmt.Sprintf("other_config:subnet=%s/24", n.pod4(0)), "other_config:exclude_ips="+n.pod4(2).String())
	nb.routerPort(sw, "stor-"+sw, "ovn_cluster_router", "rtos-"+sw, mac(n.pod4(1)), n.pod4(1).String()+"/24", n.pod6(1).String()+"/64")
	nb.add("lrp-set-gateway-chassis", "rtos-"+sw, fmt.Sprintf("chassis%d", n.n), "1")
	nb.add("lsp-add", sw, "k8s-"+sw)
	nb.add("lsp-set-addresses", "k8s-"+sw, fmt.Sprintf("%s %s %s", mac(n.pod4(2)), n.pod4(2), n.pod6(2)))
}

// gatewayRouter makes a node's way to the outside.
func (c *ovnLab) gatewayRouter(nb *commands, n *ovnHost) {
	gr, sw := n.gateway(), n.name()
	nb.add("lr-add", gr)
	nb.add("set", "logical_router", gr, fmt.Sprintf("options:chassis=chassis%d", n.n), "options:lb_force_snat_ip=router_ip", "options:snat-ct-zone=0",
		"options:always_learn_from_arp_request=false", "options:dynamic_neigh_routers=true")
	nb.routerPort("join", "jtor-"+gr, gr, "rtoj-"+gr, mac(n.join4()), n.join4().String()+"/16", n.join6().String()+"/64")
	nb.add("ls-add", "ext_"+sw)
	nb.add("lsp-add", "ext_"+sw, "br-ex_"+sw)
	nb.add("lsp-set-type", "br-ex_"+sw, "localnet")
	nb.add("lsp-set-addresses", "br-ex_"+sw, "unknown")
	nb.add("lsp-set-options", "br-ex_"+sw, "network_name=physnet")
	nb.add("lrp-add", gr, "rtoe-"+gr, mac(n.addr4()), n.addr4().String()+"/16", n.addr6().String()+"/64")
	nb.add("lsp-add", "ext_"+sw, "etor-"+gr)
	nb.add("lsp-set-type", "etor-"+gr, "router")
	nb.add("lsp-set-addresses", "etor-"+gr, mac(n.addr4()))
	nb.add("lsp-set-options", "etor-"+gr, "router-port=rtoe-"+gr, "nat-addresses=router", "exclude-lb-vips-from-garp=true")
}

func (c *ovnLab) nodeRoutes(nb *commands, n *ovnHost) {
	gr, sw := n.gateway(), n.name()
	nb.add("lr-route-add", gr, "10.244.0.0/16", clusterRouter4.String())
	nb.add("lr-route-add", gr, "fd00:10:244::/48", clusterRouter6.String())
	nb.add("lr-route-add", gr, "0.0.0.0/0", nextHop.String(), "rtoe-"+gr)
	nb.add("lr-route-add", gr, "::/0", outside6.String(), "rtoe-"+gr)
	// Masquerade addresses stand for the host.
	nb.add("lr-route-add", gr, "169.254.169.0/29", masqueradeHop.String(), "rtoe-"+gr)
	nb.add("static-mac-binding-add", "rtoe-"+gr, masqueradeHop.String(), mac(masqueradeHop))
	nb.add("static-mac-binding-add", "rtoe-"+gr, masqueradeHost.String(), mac(n.addr4()))
	// What comes from a node's pods leaves by its own gateway router.
	nb.add("--policy=src-ip", "lr-route-add", "ovn_cluster_router", fmt.Sprintf("%s/24", n.pod4(0)), n.join4().String())
	nb.add("--policy=src-ip", "lr-route-add", "ovn_cluster_router", fmt.Sprintf("%s/64", n.pod6(0)), n.join6().String())
	nb.add("lr-route-add", "ovn_cluster_router", n.join4().String(), n.join4().String())
	nb.add("lr-route-add", "ovn_cluster_router", n.join6().String(), n.join6().String())
	// A pod reaches its own node by the management port.
	nb.add("lr-policy-add", "ovn_cluster_router", "1004", fmt.Sprintf(`inport == "rtos-%s" && ip4.dst == %s`, sw, n.addr4()), "reroute", n.pod4(2).String())
	nb.add("lr-policy-add", "ovn_cluster_router", "1004", fmt.Sprintf(`inport == "rtos-%s" && ip6.dst == %s`, sw, n.addr6()), "reroute", n.pod6(2).String())
}

// podPort makes a pod's port. Its node's gateway router translates its address, but for
// the pod with an egress IP, which leaves by the other node.
func (c *ovnLab) podPort(nb *commands, p *ovnPod) {
	sw, port := p.node.name(), "shop_"+p.name
	addrs := fmt.Sprintf("%s %s %s", mac(p.v4()), p.v4(), p.v6())
	nb.add("lsp-add", sw, port)
	nb.add("lsp-set-addresses", port, addrs)
	nb.add("lsp-set-port-security", port, addrs)
	if p.name == "egress" {
		other := c.nodes[1]
		nb.add("lr-policy-add", "ovn_cluster_router", "100", "ip4.src == "+p.v4().String(), "reroute", other.join4().String())
		nb.add("lr-nat-add", other.gateway(), "snat", "172.18.0.77", p.v4().String())
	}
	nb.add("lr-nat-add", p.node.gateway(), "snat", p.node.addr4().String(), p.v4().String())
	nb.add("lr-nat-add", p.node.gateway(), "snat", p.node.addr6().String(), p.v6().String())
}

// The lab's Services. Those of the captures' objects have the same addresses.
var (
	serviceKubernetes = netip.MustParseAddrPort("10.96.0.1:443")
	serviceServer     = netip.MustParseAddrPort("10.96.0.81:80")
	serviceWeb        = netip.MustParseAddrPort("10.96.0.82:80")
	serviceWeb6       = netip.MustParseAddrPort("[fd00:10:96::82]:80")
	serviceDNS        = netip.MustParseAddrPort("10.96.0.10:53")
	serviceEmpty      = netip.MustParseAddrPort("10.96.0.99:80")
)

// balancers are the Services: load balancers of the nodes' switches and gateway routers.
func (c *ovnLab) balancers(nb *commands) {
	web := netip.AddrPortFrom(c.pod("web").v4(), 8080)
	for _, lb := range []struct {
		name     string
		address  netip.AddrPort
		backend  string
		protocol string
	}{
		{"kubernetes", serviceKubernetes, netip.AddrPortFrom(c.nodes[0].addr4(), 6443).String(), "tcp"},
		{"server", serviceServer, netip.AddrPortFrom(c.pod("server").v4(), 8080).String(), "tcp"},
		{"web", serviceWeb, web.String(), "tcp"},
		{"web6", serviceWeb6, netip.AddrPortFrom(c.pod("web").v6(), 8080).String(), "tcp"},
		{"dns", serviceDNS, netip.AddrPortFrom(c.pod("dns").v4(), 5353).String(), "udp"},
		{"empty", serviceEmpty, "", "tcp"},
		{"web-lb", netip.AddrPortFrom(balancer, 80), web.String(), "tcp"},
	} {
		nb.add("lb-add", lb.name, lb.address.String(), lb.backend, lb.protocol)
		nb.add("set", "load_balancer", lb.name, fmt.Sprintf(`options:hairpin_snat_ip="%s %s"`, hairpinAddr, hairpinAddr6), "options:reject=true", "options:skip_snat=false")
		for _, n := range c.nodes {
			nb.add("ls-lb-add", n.name(), lb.name)
			nb.add("lr-lb-add", n.gateway(), lb.name)
		}
	}
	for _, n := range c.nodes {
		name := "web-nodeport" + strconv.Itoa(n.n)
		nb.add("lb-add", name, netip.AddrPortFrom(n.addr4(), nodePort).String(), web.String(), "tcp")
		nb.add("set", "load_balancer", name, "options:hairpin_snat_ip="+hairpinAddr.String())
		for _, m := range c.nodes {
			nb.add("ls-lb-add", m.name(), name)
		}
		nb.add("lr-lb-add", n.gateway(), name)
	}
}

func (c *ovnLab) pod(name string) *ovnPod {
	i := slices.IndexFunc(c.pods, func(p *ovnPod) bool { return p.name == name })
	return c.pods[i]
}

// policies are a NetworkPolicy, which lets only port 8080 through to one pod, and an
// egress firewall for another. Rules that keep state have the switches track connections.
func (c *ovnLab) policies() {
	c.ovn.Nbctl("pg-add", "a_denied", "shop_denied")
	rule := func(args ...string) { c.ovn.Nbctl(args...) }
	rule("--type=port-group", "acl-add", "a_denied", "to-lport", "1000", "outport == @a_denied", "drop")
	rule("--type=port-group", "acl-add", "a_denied", "to-lport", "1001", "outport == @a_denied && (arp || nd)", "allow")
	rule("--type=port-group", "acl-add", "a_denied", "to-lport", "1001", "outport == @a_denied && tcp.dst == 8080", "allow-related")
	rule("acl-add", c.nodes[1].name(), "from-lport", "1000", fmt.Sprintf("ip4.src == %s && ip4.dst == %s && tcp.dst == 9999", c.pod("batch").v4(), outside4), "drop")
	for _, n := range c.nodes {
		rule("acl-add", n.name(), "to-lport", "1001", "ip4.src == "+n.pod4(2).String(), "allow-related")
	}
}
