package enrich

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Annotations with a pod's addresses in other networks than the cluster's own.
const (
	// networkStatus is written by Multus and other delegating plugins (Kubernetes Network Custom
	// Resource Definition De-facto Standard of the Network Plumbing Working Group, section 5).
	networkStatus = "k8s.v1.cni.cncf.io/network-status"
	// podNetworks is written by OVN-Kubernetes.
	podNetworks = "k8s.ovn.org/pod-networks"
)

// network is the network of an address, and the MAC that a pod has there. A nil one is the
// cluster's own without a MAC.
type network struct {
	name string // empty for the cluster's own
	mac  uint64 // the six bytes in the order of the wire, as in flow records; 0 if unknown
}

// address is an address of a pod in a network.
type address struct {
	addr netip.Addr
	network
}

// networks returns the addresses in both annotations of a pod, in order of the networks' names. It
// leaves out what it cannot read.
func networks(annotations map[string]string) []address {
	var list []address
	add := func(ip string, n network) {
		ip, _, _ = strings.Cut(ip, "/")
		a, err := netip.ParseAddr(ip)
		if err != nil || a.IsUnspecified() {
			return
		}
		a = a.Unmap().WithZone("")
		if !slices.ContainsFunc(list, func(o address) bool { return o.addr == a && o.name == n.name && o.mac != 0 }) {
			list = append(list, address{a, n})
		}
	}
	var status []struct {
		Name    string   `json:"name"`
		IPs     []string `json:"ips"`
		MAC     string   `json:"mac"`
		Default bool     `json:"default"`
	}
	if s := annotations[networkStatus]; s != "" && json.Unmarshal([]byte(s), &status) == nil {
		for _, s := range status {
			n := network{name: s.Name}
			n.mac, _ = flow.ParseMAC(s.MAC)
			if s.Default {
				n.name = ""
			}
			for _, ip := range s.IPs {
				add(ip, n)
			}
		}
	}
	var byName map[string]struct {
		IPs []string `json:"ip_addresses"`
		IP  string   `json:"ip_address"`
		MAC string   `json:"mac_address"`
	}
	if s := annotations[podNetworks]; s != "" && json.Unmarshal([]byte(s), &byName) == nil {
		for name, s := range byName {
			n := network{name: name}
			n.mac, _ = flow.ParseMAC(s.MAC)
			if name == "default" {
				n.name = ""
			}
			for _, ip := range append(s.IPs, s.IP) {
				add(ip, n)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b address) int { return cmp.Or(cmp.Compare(a.name, b.name), a.addr.Compare(b.addr)) })
	return list
}

// addNetworks adds the addresses that a pod has in other networks than the cluster's own. Of the
// addresses in that one, which the pod's status has, it only adds the MACs.
func (o *object) addNetworks(annotations map[string]string) {
	for _, a := range networks(annotations) {
		if a.name != "" {
			o.addAddr(a.addr.String())
		}
		if slices.Contains(o.addrs, a.addr) && o.network(a.addr) == nil {
			o.networks = append(o.networks, a)
		}
	}
}

// network returns the network of one of the pod's addresses.
func (o *object) network(a netip.Addr) *network {
	for i := range o.networks {
		if o.networks[i].addr == a {
			return &o.networks[i].network
		}
	}
	return nil
}

// sameNetwork reports whether name and MAC are the same.
func sameNetwork(a, b *network) bool { return a == b || a != nil && b != nil && *a == *b }
