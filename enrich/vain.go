package enrich

import (
	"net/netip"
	"time"
)

const (
	// vainSlots is the size of a vainTable. It takes 160 KiB for each worker, once it is used.
	vainSlots = 1 << 12
	// vainFor is for how long nobody waits for an address's pod after the last record of it that
	// could have waited. It is in nanoseconds.
	vainFor = 10 * int64(time.Minute)
	// passedOn is how long after the end of its last pod an address counts as one that will not soon
	// have another. It is in nanoseconds.
	passedOn = int64(time.Minute)
)

// vainTable remembers addresses for whose pods records have waited in vain: gateways, neighbours
// outside of the cluster, and whatever else has an address in a pod range and is no pod. Addresses
// share slots, and the latest stays: one that is forgotten is waited for again. It is for one
// goroutine. Times are in Unix nanoseconds.
type vainTable []vainSlot

type vainSlot struct {
	addr  netip.Addr
	entry *entry // of the address; it is another as soon as something is announced
	until int64
}

// add notes that a record waited in vain.
func (t *vainTable) add(addr netip.Addr, e *entry, hash uint64, now int64) {
	if *t == nil {
		*t = make(vainTable, vainSlots)
	}
	(*t)[hash%vainSlots] = vainSlot{addr, e, now + vainFor}
}

// has reports whether records have waited in vain, and nothing has been announced since then. The
// address is remembered for longer then.
func (t vainTable) has(addr netip.Addr, e *entry, hash uint64, now int64) bool {
	if t == nil {
		return false
	}
	s := &t[hash%vainSlots]
	if s.addr != addr || s.entry != e || now >= s.until {
		return false
	}
	s.until = now + vainFor
	return true
}

// noteInVain notes the addresses of a record that has been filled, and waited for as long as it may.
// One that waited for the first sync does not count.
func (s *Stage) noteInVain(p heldRecord, now int64) {
	if p.until-s.maxWait < s.readySince {
		return
	}
	r, ix := p.record, s.e.store.index
	ranges := ix.podRanges.Load()
	from, _ := r.Interval()
	for i, m := range s.e.cfg.Mapping {
		if s.lookedUp&(1<<i) == 0 || r.Ends[i].Object != nil {
			continue
		}
		addr, ok := r.Addr(m.Field)
		if !ok || !ranges.contains(addr) {
			continue
		}
		if e := ix.find(addr); e.unlikelyToPassOn(from) {
			s.vain.add(addr, e, ix.hash(addr), now)
		}
	}
}

// unlikelyToPassOn reports whether an address has had no pod lately, so that nothing hints at
// another one. It may be called for nil.
func (e *entry) unlikelyToPassOn(from int64) bool {
	return e == nil || e.past.networks == nil && e.last.to < from-passedOn
}
