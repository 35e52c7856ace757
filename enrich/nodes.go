package enrich

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Annotations of Nodes by OVN-Kubernetes (go-controller/pkg/util/node_annotations.go there).
const (
	ovnPrefix = "k8s.ovn.org/"
	// nodeSubnets has the subnets of a Node for each network. The second address of each is the
	// Node's management port, from which Open vSwitch exports. The first is the gateway, and the
	// third the port of a hybrid overlay.
	nodeSubnets = ovnPrefix + "node-subnets"
	// hybridSubnet is the same for a Node that OVN does not run on.
	hybridSubnet = ovnPrefix + "hybrid-overlay-node-subnet"
	l3Gateway    = ovnPrefix + "l3-gateway-config"
	// nodeID is the host part of the Node's addresses in the join subnets.
	nodeID = ovnPrefix + "node-id"
	// gatewayRouterPorts has the Node's address in the join subnet for each network.
	gatewayRouterPorts = ovnPrefix + "node-gateway-router-lrp-ifaddrs"
	gatewayRouterPort  = ovnPrefix + "node-gateway-router-lrp-ifaddr"
	masqueradeSubnet   = ovnPrefix + "node-masquerade-subnet"
	networkIDs         = ovnPrefix + "network-ids"
	// networkNumber is of a NetworkAttachmentDefinition: the number of its network.
	networkNumber = ovnPrefix + "network-id"
)

// hostAnnotations have addresses of a Node's host, podNetworkAnnotations those that it has in the
// pods' network or for pods: of OVN-Kubernetes, Cilium and Calico.
var (
	hostAnnotations = []string{
		ovnPrefix + "node-primary-ifaddr", ovnPrefix + "host-cidrs", ovnPrefix + "host-addresses", ovnPrefix + "node-encap-ips",
		"projectcalico.org/IPv4Address", "projectcalico.org/IPv6Address",
	}
	podNetworkAnnotations = []string{
		gatewayRouterPorts, gatewayRouterPort,
		ovnPrefix + "node-transit-switch-port-ifaddr", ovnPrefix + "hybrid-overlay-distributed-router-gateway-ip",
		ovnPrefix + "bridge-egress-ips", ovnPrefix + "secondary-host-egress-ips",
		"network.cilium.io/ipv4-cilium-host", "network.cilium.io/ipv6-cilium-host",
		"projectcalico.org/IPv4IPIPTunnelAddr", "projectcalico.org/IPv4VXLANTunnelAddr", "projectcalico.org/IPv6VXLANTunnelAddr",
		"projectcalico.org/IPv4WireguardInterfaceAddr", "projectcalico.org/IPv6WireguardInterfaceAddr",
	}
)

// nodePart is what only Nodes have.
type nodePart struct {
	zone     string
	podCIDRs []netip.Prefix
	isReady  bool // the condition Ready is true
	// So many of the addresses, the first, are of the status, and so many of the host. The others
	// are in the pods' network.
	statusAddrs, hostAddrs int
	id                     uint64 // of the annotation nodeID; 0: none
	joinIPv4, joinIPv6     bool   // annotations have the addresses in the join subnets
	masquerade             masquerade
}

// newNode returns the object of a Node.
func newNode(n *corev1.Node) *object {
	o := newObject(kindNode, n)
	o.zone = cmp.Or(n.Labels[corev1.LabelTopologyZone], n.Labels[corev1.LabelFailureDomainBetaZone])
	for i := range n.Status.Addresses {
		o.addAddr(n.Status.Addresses[i].Address) // host names are no addresses, and left out
	}
	o.statusAddrs = len(o.addrs)
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady {
			o.isReady = c.Status == corev1.ConditionTrue
		}
	}
	for _, name := range hostAnnotations {
		o.addAddrs(addrsIn(n.Annotations[name]))
	}
	o.addAddrs(gatewayAddrs(n.Annotations[l3Gateway]))
	o.hostAddrs = len(o.addrs)
	for _, p := range slices.Concat(subnets(n.Annotations[nodeSubnets]), subnets(n.Annotations[hybridSubnet])) {
		o.addPodCIDR(p)
		for i := range uint64(3) {
			o.addAddrs([]netip.Addr{addrAt(p, i+1)})
		}
	}
	for _, name := range podNetworkAnnotations {
		o.addAddrs(addrsIn(n.Annotations[name]))
	}
	for _, s := range append([]string{n.Spec.PodCIDR}, n.Spec.PodCIDRs...) {
		if p, err := netip.ParsePrefix(s); err == nil {
			o.addPodCIDR(p.Masked())
			o.addAddrs([]netip.Addr{addrAt(p.Masked(), 1)}) // of the bridge of most plugins
		}
	}
	o.addJoin(n.Annotations)
	o.masquerade = masqueradeOf(n.Annotations)
	return o
}

// addAddrs adds addresses that annotations have. Link-local and loopback addresses are on every
// Node.
func (o *object) addAddrs(list []netip.Addr) {
	for _, a := range list {
		if a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !slices.Contains(o.addrs, a) {
			o.addrs = append(o.addrs, a)
		}
	}
}

// addPodCIDR adds a range of pods' addresses. One that holds every address would be a mistake, and
// is left out.
func (o *object) addPodCIDR(p netip.Prefix) {
	if p.Bits() > 0 && !slices.Contains(o.podCIDRs, p) {
		o.podCIDRs = append(o.podCIDRs, p)
	}
}

// addJoin notes what is known of the Node's addresses in the join subnets.
func (o *object) addJoin(annotations map[string]string) {
	o.id, _ = strconv.ParseUint(annotations[nodeID], 10, 32)
	known := addrsIn(annotations[gatewayRouterPort])
	var byNetwork map[string]json.RawMessage
	if json.Unmarshal([]byte(annotations[gatewayRouterPorts]), &byNetwork) == nil {
		known = append(known, addrsIn(string(byNetwork["default"]))...)
	}
	for _, a := range known {
		o.joinIPv4, o.joinIPv6 = o.joinIPv4 || a.Is4(), o.joinIPv6 || a.Is6()
	}
}

// joinClaims returns the Node's addresses in the join subnets, which are made of its number where
// no annotation has them.
func (o *object) joinClaims(subnets []netip.Prefix) (list []staticClaim) {
	if o.kind != kindNode || o.id == 0 {
		return nil
	}
	for _, p := range subnets {
		a := addrAt(p.Masked(), o.id)
		if !a.IsValid() || a.Is4() && o.joinIPv4 || a.Is6() && o.joinIPv6 || slices.Contains(o.addrs, a) {
			continue
		}
		list = append(list, staticClaim{addr: a, class: classNodeOther})
	}
	return list
}

// gatewayAddrs returns the Node's addresses in the annotation l3Gateway. Those of its next hops are
// not the Node's.
func gatewayAddrs(annotation string) (list []netip.Addr) {
	var byNetwork map[string]map[string]json.RawMessage
	if annotation == "" || json.Unmarshal([]byte(annotation), &byNetwork) != nil {
		return nil
	}
	for _, g := range byNetwork {
		for _, name := range []string{"ip-addresses", "ip-address", "exgw-ip-addresses", "exgw-ip-address"} {
			list = append(list, addrsIn(string(g[name]))...)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// addrsIn returns the addresses in an annotation: one, or several separated by commas, or all that
// are values in JSON. Each may have the length of its subnet. What cannot be read is left out.
func addrsIn(annotation string) (list []netip.Addr) {
	for _, s := range textsIn(annotation) {
		s, _, _ = strings.Cut(strings.TrimSpace(s), "/")
		if a, err := netip.ParseAddr(s); err == nil {
			list = append(list, a.Unmap().WithZone(""))
		}
	}
	return list
}

// prefixesIn is addrsIn for subnets.
func prefixesIn(annotation string) (list []netip.Prefix) {
	for _, s := range textsIn(annotation) {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil && p.Bits() > 0 {
			list = append(list, p.Masked())
		}
	}
	return list
}

// textsIn returns the strings in an annotation, those of JSON in order of the keys.
func textsIn(annotation string) (list []string) {
	if annotation == "" {
		return nil
	}
	var v any
	if json.Unmarshal([]byte(annotation), &v) != nil {
		return strings.Split(annotation, ",")
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			list = append(list, v)
		case []any:
			for _, w := range v {
				walk(w)
			}
		case map[string]any:
			keys := make([]string, 0, len(v))
			for k := range v {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			for _, k := range keys {
				walk(v[k])
			}
		}
	}
	walk(v)
	return list
}

// subnets returns the subnets in an annotation, sorted. The values of nodeSubnets are one subnet or
// a list of them for each network. What cannot be read is left out.
func subnets(annotation string) []netip.Prefix {
	list := prefixesIn(annotation)
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return list
}

// addrAt returns the n-th address of a subnet, the zero one if the subnet has fewer. The subnet is
// masked.
func addrAt(p netip.Prefix, n uint64) netip.Addr {
	b := p.Addr().As16()
	low := binary.BigEndian.Uint64(b[8:])
	if low+n < low {
		return netip.Addr{}
	}
	binary.BigEndian.PutUint64(b[8:], low+n)
	a := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		a = a.Unmap()
	}
	if !p.Contains(a) {
		return netip.Addr{}
	}
	return a
}
