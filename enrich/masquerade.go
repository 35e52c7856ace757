package enrich

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// OVN-Kubernetes gives each Node the same addresses in masquerade subnets, and each has them for
// itself: some for the Node, and two for each network of a user's. There may be thousands of
// networks, and a thousand Nodes: what is counted here are subnets and networks, and the addresses
// follow from those.

const (
	// masqueradeAddrs is how many addresses of a masquerade subnet a Node has for itself: of OVN,
	// the host, the host for Services whose backends are local, a next hop that answers to nobody,
	// and, the last one, hairpin traffic.
	masqueradeAddrs = 5
	// Two addresses of each user-defined network follow, from this one on: those of the network
	// numbered n are at masqueradeNetworks + 2n - 1 and the next.
	masqueradeNetworks = 10
	maxNetworks        = 1 << 12
)

// masquerade is what the annotations of a Node tell of its masquerade addresses.
type masquerade struct {
	subnets  []netip.Prefix // in order; none if OVN-Kubernetes does not run there
	networks []uint64       // numbers of networks of users, in order
}

// equal reports whether two Nodes have the same addresses.
func (m *masquerade) equal(o *masquerade) bool {
	return slices.Equal(m.subnets, o.subnets) && slices.Equal(m.networks, o.networks)
}

// sharedNodeAddr is an address that each Node has for itself.
type sharedNodeAddr struct {
	addr    netip.Addr
	hairpin bool
}

// sharedUse counts what makes a shared address one.
type sharedUse struct {
	span *staticSpan
	uses int
}

// subnetNetwork is a network of a user's in a masquerade subnet.
type subnetNetwork struct {
	subnet  netip.Prefix
	network uint64
}

// masqueradeSet counts what the masquerade addresses of all Nodes follow from.
type masqueradeSet struct {
	subnets   map[netip.Prefix]int  // Nodes that have the subnet
	announced map[subnetNetwork]int // Nodes that announce the network in it
	networks  map[uint64]bool       // those whose definitions tell their numbers
	addrs     map[sharedNodeAddr]*sharedUse
}

func newMasqueradeSet() masqueradeSet {
	return masqueradeSet{
		subnets: map[netip.Prefix]int{}, announced: map[subnetNetwork]int{}, networks: map[uint64]bool{},
		addrs: map[sharedNodeAddr]*sharedUse{},
	}
}

// masqueradeOf reads the annotations of a Node. Without the one that tells the subnets, they are
// those that OVN-Kubernetes uses by default, or used before.
func masqueradeOf(annotations map[string]string) (m masquerade) {
	ovn := false
	for name := range annotations {
		ovn = ovn || strings.HasPrefix(name, ovnPrefix)
	}
	if !ovn {
		return m
	}
	list := prefixesIn(annotations[masqueradeSubnet])
	is4 := func(p netip.Prefix) bool { return p.Addr().Is4() }
	if !slices.ContainsFunc(list, is4) {
		list = append(list, netip.MustParsePrefix("169.254.0.0/17"), netip.MustParsePrefix("169.254.169.0/29"))
	}
	if !slices.ContainsFunc(list, func(p netip.Prefix) bool { return !is4(p) }) {
		list = append(list, netip.MustParsePrefix("fd69::/112"))
	}
	slices.SortFunc(list, netip.Prefix.Compare)
	return masquerade{slices.Compact(list), userNetworks(annotations)}
}

// userNetworks returns the numbers of the user-defined networks. Where no annotation has them, they
// are counted.
func userNetworks(annotations map[string]string) (ids []uint64) {
	var byName map[string]any
	if json.Unmarshal([]byte(annotations[networkIDs]), &byName) == nil {
		for _, v := range byName {
			s, _ := v.(string)
			if n, err := strconv.ParseUint(s, 10, 32); err == nil && n > 0 && n < maxNetworks {
				ids = append(ids, n)
			}
		}
	}
	if ids == nil {
		names := map[string]bool{}
		for _, a := range []string{nodeSubnets, gatewayRouterPorts} {
			var byName map[string]json.RawMessage
			if json.Unmarshal([]byte(annotations[a]), &byName) == nil {
				for name := range byName {
					names[name] = true
				}
			}
		}
		delete(names, "default")
		for n := range min(len(names), maxNetworks) {
			ids = append(ids, uint64(n)+1)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// updateMasquerade brings up to date what a Node has. What stays is counted before what goes.
func (st *store) updateMasquerade(s *staticOwner, m masquerade) {
	if s.masqueraded.equal(&m) {
		return
	}
	st.countMasquerade(&m, 1)
	st.countMasquerade(&s.masqueraded, -1)
	s.masqueraded = m
}

// countMasquerade counts one Node more, or less. The first and the last one that has a subnet, or
// tells of a network in it, change the index.
func (st *store) countMasquerade(m *masquerade, more int) {
	set := &st.masquerade
	for _, p := range m.subnets {
		if countUp(set.subnets, p, more) {
			for n := range uint64(masqueradeAddrs) {
				st.useShared(p, n+1, n+1 == masqueradeAddrs, more)
			}
			for id := range set.networks {
				st.usePair(p, id, more)
			}
		}
		for _, id := range m.networks {
			if countUp(set.announced, subnetNetwork{p, id}, more) {
				st.usePair(p, id, more)
			}
		}
	}
}

// countUp adds 1 or -1 to a count, and reports whether that was 0 or has become 0.
func countUp[K comparable](counts map[K]int, k K, more int) (changed bool) {
	before := counts[k]
	if before+more == 0 {
		delete(counts, k)
		return true
	}
	counts[k] = before + more
	return before == 0
}

// usePair counts a use of the addresses that a Node has for the network of a number.
func (st *store) usePair(p netip.Prefix, id uint64, more int) {
	st.useShared(p, masqueradeNetworks+2*id-1, false, more)
	st.useShared(p, masqueradeNetworks+2*id, false, more)
}

// useShared counts a use of the n-th address of a subnet, if it has so many.
func (st *store) useShared(p netip.Prefix, n uint64, hairpin bool, more int) {
	a := sharedNodeAddr{addrAt(p, n), hairpin}
	if !a.addr.IsValid() {
		return
	}
	u := st.masquerade.addrs[a]
	if u == nil {
		c := classShared
		if hairpin {
			c = classHairpin
		}
		owner := &staticOwner{kind: kindNode, nodePart: &nodePart{}}
		u = &sharedUse{span: &staticSpan{owner: owner, addr: a.addr, obj: noObject, class: c, from: always, to: never}}
		st.masquerade.addrs[a] = u
		e := st.entryToChange(a.addr)
		u.span.next, e.staticSpans = e.staticSpans, u.span
		st.publishEntry(e)
	}
	if u.uses += more; u.uses == 0 {
		delete(st.masquerade.addrs, a)
		st.dropStatic(u.span)
	}
}

// refreshMasquerade brings the addresses up to date that each Node has for networks whose
// definitions have come or gone.
func (st *store) refreshMasquerade() {
	for id := range st.networks.changedIDs {
		defined := st.networks.ids[id] > 0
		if defined == st.masquerade.networks[id] {
			continue
		}
		more := 1
		if defined {
			st.masquerade.networks[id] = true
		} else {
			delete(st.masquerade.networks, id)
			more = -1
		}
		for p := range st.masquerade.subnets {
			st.usePair(p, id, more)
		}
	}
	clear(st.networks.changedIDs)
}
