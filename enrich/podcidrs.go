package enrich

import (
	"maps"
	"net/netip"
	"slices"
)

// rerange tells readers about changed ranges of pods.
func (st *store) refreshPodCIDRs() {
	if !st.podCIDRsChanged {
		return
	}
	st.podCIDRsChanged = false
	var all []netip.Prefix
	for _, h := range st.staticOwners[kindNode] {
		all = append(all, h.podCIDRs...)
	}
	if len(all) == 0 { // no right to nodes, or they don't tell
		all = slices.Collect(maps.Keys(st.observedCIDRs))
	}
	st.index.ranges.Store(newRanges(all))
}

// see notes where a pod's address is: others nearby are likely to be pods', too.
func (st *store) observe(a netip.Addr) {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if !st.observedCIDRs[p] && len(st.observedCIDRs) < maxObservedCIDRs {
		st.observedCIDRs[p], st.podCIDRsChanged = true, true
	}
}

// ranges are sets of addresses, by their first one and apart from each other.
// They are immutable.
type ranges []addrRange

type addrRange struct{ first, last netip.Addr }

// newRanges unites prefixes, which it sorts.
func newRanges(prefixes []netip.Prefix) *ranges {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Masked().Addr().Compare(b.Masked().Addr()) })
	var r ranges
	for _, p := range prefixes {
		first, last := p.Masked().Addr(), lastAddr(p)
		if n := len(r); n > 0 {
			// Neighbours become one: nodes have what a cluster's range was cut into.
			if l := &r[n-1].last; l.BitLen() == first.BitLen() && (first.Compare(*l) <= 0 || first == l.Next()) {
				if last.Compare(*l) > 0 {
					*l = last
				}
				continue
			}
		}
		r = append(r, addrRange{first, last})
	}
	return &r
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(b); i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (r ranges) contain(a netip.Addr) bool {
	low, high := 0, len(r)
	for low < high {
		if mid := (low + high) / 2; r[mid].last.Less(a) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low < len(r) && !a.Less(r[low].first)
}
