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
	// oldNetworkStatus is what they called it before.
	networkStatus    = "k8s.v1.cni.cncf.io/network-status"
	oldNetworkStatus = "k8s.v1.cni.cncf.io/networks-status"
	// podNetworks is written by OVN-Kubernetes, before the pod's status has its addresses.
	podNetworks = "k8s.ovn.org/pod-networks"
)

// address is an address of a pod in a network, as the pod's annotations tell it.
type address struct {
	addr    netip.Addr // or what macAddr returns
	network string     // the network's key; empty for the cluster's own
	mac     uint64     // the six bytes in the order of the wire, as in flow records; 0 if unknown
	primary bool       // the network takes the place of the cluster's own for the pod's traffic
}

// macAddr stands for the address of an interface of which only the MAC is known. It has a zone,
// which no address of a record has.
func macAddr(mac uint64) netip.Addr {
	return netip.AddrFrom16([16]byte{
		10: byte(mac >> 40), 11: byte(mac >> 32), 12: byte(mac >> 24), 13: byte(mac >> 16), 14: byte(mac >> 8), 15: byte(mac),
	}).WithZone("mac")
}

// isMACAddr reports whether macAddr made the address.
func isMACAddr(a netip.Addr) bool { return a.Zone() != "" }

// attachedNetwork is an entry of an annotation.
type attachedNetwork struct {
	key     string
	ips     []string
	mac     string
	primary bool
}

// networks returns the addresses in the annotations of a pod, in order of the networks' keys. An
// entry that cannot be read costs no other. What pod-networks tells of an address counts more: for
// a pod in a network of a user's, network-status calls that one the default, too.
func networks(annotations map[string]string) []address {
	if len(annotations) == 0 {
		return nil
	}
	var list []address
	entries := append(readPodNetworks(annotations[podNetworks]), readNetworkStatus(annotations)...)
	for _, n := range entries {
		mac, _ := flow.ParseMAC(n.mac)
		for _, ip := range n.ips {
			ip, _, _ = strings.Cut(ip, "/")
			a, err := netip.ParseAddr(ip)
			if err != nil || a.IsUnspecified() {
				continue
			}
			a = a.Unmap().WithZone("")
			if i := slices.IndexFunc(list, func(o address) bool { return o.addr == a }); i < 0 {
				list = append(list, address{a, n.key, mac, n.primary})
			} else if list[i].mac == 0 {
				list[i].mac = mac
			}
		}
	}
	for _, n := range entries { // interfaces without addresses that are known, such as those of VMs
		mac, _ := flow.ParseMAC(n.mac)
		if mac != 0 && n.key != "" && len(n.ips) == 0 && !slices.ContainsFunc(list, func(o address) bool { return o.mac == mac }) {
			list = append(list, address{macAddr(mac), n.key, mac, n.primary})
		}
	}
	slices.SortStableFunc(list, func(a, b address) int { return cmp.Or(cmp.Compare(a.network, b.network), a.addr.Compare(b.addr)) })
	return list
}

// readPodNetworks reads the annotation podNetworks: an object whose members are named by the
// networks' keys.
func readPodNetworks(annotation string) (list []attachedNetwork) {
	var byKey map[string]json.RawMessage
	if annotation == "" || json.Unmarshal([]byte(annotation), &byKey) != nil {
		return nil
	}
	for key, raw := range byKey {
		var n struct {
			IPs     []string `json:"ip_addresses"`
			IP      string   `json:"ip_address"`
			MAC     string   `json:"mac_address"`
			Role    string   `json:"role"`
			Primary bool     `json:"primary"` // before there were roles
		}
		if json.Unmarshal(raw, &n) != nil {
			continue
		}
		if n.IP != "" {
			n.IPs = append(n.IPs, n.IP)
		}
		if key == "default" {
			key = ""
		}
		list = append(list, attachedNetwork{key, n.IPs, n.MAC, key != "" && (n.Role == "primary" || n.Primary)})
	}
	slices.SortFunc(list, func(a, b attachedNetwork) int { return cmp.Compare(a.key, b.key) })
	return list
}

// readNetworkStatus reads the annotation networkStatus, or the one that it replaced: a list.
func readNetworkStatus(annotations map[string]string) (list []attachedNetwork) {
	var entries []json.RawMessage
	annotation := cmp.Or(annotations[networkStatus], annotations[oldNetworkStatus])
	if annotation == "" || json.Unmarshal([]byte(annotation), &entries) != nil {
		return nil
	}
	for _, raw := range entries {
		var n struct {
			Name    string   `json:"name"`
			IPs     []string `json:"ips"`
			MAC     string   `json:"mac"`
			Default bool     `json:"default"`
		}
		if json.Unmarshal(raw, &n) != nil {
			continue
		}
		if n.Default {
			n.Name = ""
		}
		list = append(list, attachedNetwork{key: n.Name, ips: n.IPs, mac: n.MAC})
	}
	return list
}

// addNetworks adds the addresses that a pod has in other networks than the cluster's own, and the
// MACs of those in that one. The addresses in the cluster's own are those of the pod's status. Until
// that has one, they are those that OVN-Kubernetes has announced.
func (o *object) addNetworks(annotations map[string]string) {
	own := len(o.addrs)
	early := own == 0 && annotations[podNetworks] != ""
	for _, a := range networks(annotations) {
		if i := slices.Index(o.addrs[:own], a.addr); i >= 0 {
			a.network, a.primary = "", false
		} else if a.network == "" && !early {
			continue
		}
		if !slices.Contains(o.addrs, a.addr) {
			o.addrs = append(o.addrs, a.addr)
		}
		o.networks = append(o.networks, a)
	}
}

// attachment returns what the annotations tell of one of the pod's addresses, nil if that is
// nothing.
func (o *object) attachment(a netip.Addr) *address {
	for i := range o.networks {
		if o.networks[i].addr == a {
			return &o.networks[i]
		}
	}
	return nil
}

// mac returns the MAC that the pod has in the cluster's own network, 0 if it is not known.
func (o *object) mac() uint64 {
	for i := range o.networks {
		if n := &o.networks[i]; n.network == "" && n.mac != 0 {
			return n.mac
		}
	}
	return 0
}
