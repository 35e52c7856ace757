package enrich

import (
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Stage fills in the owners of a worker's records and hands them on. Records
// that come before the cluster is known wait in it, and so do those whose pod
// the cluster has not announced yet. It is used by one goroutine at a time.
type Stage struct {
	_         [64]byte // keeps the workers' stages out of each other's cache lines
	e         *Enricher
	next      flow.Handler
	counters  *lookups
	maxWait   int64        // nanoseconds; 0: for no pod
	ready     bool         // the cluster is known, or was waited for long enough
	held      []heldRecord // in order of arrival, from first on
	first     int
	additions uint64 // changes of the index that held records have been checked against
	lookedUp  uint   // the entries of the mapping that were looked up last, as bits
	nextCheck int64  // when to check next, if there are others

	_ [64]byte
}

// parcel is a record that is held, with its share of the room.
type heldRecord struct {
	record *flow.Record
	size   int64
	until  int64 // when it has waited long enough for a pod, in Unix nanoseconds
}

// lookups counts one worker's look-ups by result. No other worker's counters
// share its cache lines.
type lookups struct {
	_ [64]byte
	n [flow.NumStatus]atomic.Uint64
	_ [64]byte
}

// justNow is how late the watch may tell that an address has passed on. It is
// seldom later.
const maxEventLag = int64(5 * time.Second)

// checkEvery is how often held records are checked at most, in nanoseconds, and
// checkCost what is added for each of them, so that it takes up a tenth of the
// worker's time at most.
const (
	checkEvery = int64(10 * time.Millisecond)
	checkCost  = int64(2 * time.Microsecond)
)

// NewStage makes a worker's stage in front of next.
func (e *Enricher) NewStage(next flow.Handler) *Stage {
	s := &Stage{e: e, next: next, counters: new(lookups), ready: e.cfg.Capture, maxWait: int64(e.cfg.Wait)}
	e.metrics.addCounters(s.counters)
	return s
}

// HandleFlow fills in r.Ends and hands r on, or holds a copy of r until the
// cluster, or the pod, is known.
func (s *Stage) HandleFlow(r *flow.Record) {
	switch {
	case s.ready:
		if len(s.held) > s.first {
			s.checkHeld(int64(r.Msg.TimeReceivedNs)) // near enough, and for nothing
		}
	case s.e.ready.Load():
		s.passSynced()
	default:
		s.hold(r)
		return
	}
	if s.fill(r) || s.maxWait == 0 {
		s.pass(r)
		return
	}
	s.hold(r)
}

// fill fills in the owners. It returns false if one may be announced yet.
func (s *Stage) fill(r *flow.Record) (settled bool) {
	settled, s.lookedUp = true, 0
	from, to := r.Interval()
	ix := s.e.store.index
	// The entries of all addresses are asked for before one is looked at: they
	// are rarely in the cache, and so are waited for together.
	var entries [flow.MaxEnds]*entry
	var addrs [flow.MaxEnds]netip.Addr
	mapping := s.e.cfg.Mapping
	for i := range mapping {
		addr, ok := r.Addr(mapping[i].Field)
		if !ok || addr.IsUnspecified() {
			r.Ends[i] = flow.End{}
			continue
		}
		s.lookedUp |= 1 << i
		addrs[i], entries[i] = addr, ix.first(addr)
	}
	for i := range mapping {
		if s.lookedUp&(1<<i) == 0 {
			continue
		}
		end, known := flow.End{}, false
		if e := entries[i].find(addrs[i]); e != nil {
			end, known = ix.at(e, from, to, s.mac(r, i))
		}
		r.Ends[i] = end
		if !known && s.maxWait > 0 && s.mayStillBeAnnounced(addrs[i], end.Status, from, int64(r.Msg.TimeReceivedNs)) {
			settled = false
		}
	}
	return settled
}

// expects says whether the owner of an address may be announced yet, of which no
// settled one is known. It may if the address is a pod's and nobody is known to
// have owned it when the flow ran. If somebody is, the next one may have had it
// only if that was just now, or since the watch has been interrupted.
func (s *Stage) mayStillBeAnnounced(addr netip.Addr, known flow.Status, from, received int64) bool {
	if known == flow.StatusNone {
		return s.e.store.index.podRanges.Load().contains(addr)
	}
	return from > received-maxEventLag || from > s.e.store.index.watch.KnownUntil()
}

// mac returns the MAC that a record has beside a mapped address, 0 if none.
func (s *Stage) mac(r *flow.Record, entry int) uint64 {
	switch s.e.cfg.Mapping[entry].Field {
	case flow.FieldSrcAddr:
		return r.Msg.SrcMac
	case flow.FieldDstAddr:
		return r.Msg.DstMac
	}
	return 0
}

// pass counts the look-ups of the record that was filled last, and hands it on.
func (s *Stage) pass(r *flow.Record) {
	for i := range s.e.cfg.Mapping {
		if s.lookedUp&(1<<i) != 0 {
			s.counters.n[r.Ends[i].Status].Add(1)
		}
	}
	s.next.HandleFlow(r)
}

// Idle hands on what need not wait any more, and passes the call on.
func (s *Stage) Idle() (pending bool) {
	switch {
	case s.ready:
		if len(s.held) > s.first {
			s.checkHeld(time.Now().UnixNano())
		}
	case s.e.ready.Load():
		s.passSynced()
	}
	held := len(s.held) > s.first
	return s.next.Idle() || held
}

// Drain hands on whatever is held, with what is known by now.
func (s *Stage) Drain() {
	for len(s.held) > s.first {
		s.passOldest()
	}
	s.held, s.first = nil, 0
	s.ready = s.ready || s.e.ready.Load()
}

// opened hands on what waited for the cluster, but for what may be named yet.
func (s *Stage) passSynced() {
	s.ready = true
	n := int64(len(s.held) - s.first)
	s.e.metrics.heldForSync.Add(-n)
	s.e.metrics.heldForPod.Add(n)
	s.recheckHeld(time.Now().UnixNano())
}

// check hands on the records that have waited long enough, and those whose
// owners have become known.
func (s *Stage) checkHeld(now int64) {
	if now >= s.nextCheck && s.e.store.index.additions.Load() != s.additions {
		s.recheckHeld(now)
	}
	for len(s.held) > s.first && s.held[s.first].until <= now {
		s.passOldest()
	}
}

// settle looks up all that is held.
func (s *Stage) recheckHeld(now int64) {
	s.additions = s.e.store.index.additions.Load()
	kept := s.held[:0]
	for i, p := range s.held[s.first:] {
		if i += s.first; !s.fill(p.record) && p.until > now {
			s.held[i] = heldRecord{}
			kept = append(kept, p)
			continue
		}
		s.held[i] = heldRecord{}
		s.passHeld(p)
	}
	s.held, s.first = kept, 0
	if len(kept) == 0 {
		s.held = nil
	}
	s.nextCheck = now + checkEvery + checkCost*int64(len(kept))
}

// hold keeps a copy of r. If there is no room for it, the oldest go on as they
// are.
func (s *Stage) hold(r *flow.Record) {
	size := sizeOf(r)
	for s.e.room.Add(-size) < 0 {
		s.e.room.Add(size)
		if len(s.held) == s.first { // other workers have it all
			s.fill(r)
			s.pass(r)
			return
		}
		s.passOldest()
	}
	s.held = append(s.held, heldRecord{r.Clone(), size, time.Now().UnixNano() + s.maxWait})
	s.heldGauge().Add(1)
}

// gauge counts what is held.
func (s *Stage) heldGauge() *atomic.Int64 {
	if s.ready {
		return &s.e.metrics.heldForPod
	}
	return &s.e.metrics.heldForSync
}

// passFirst hands on the oldest record that is held.
func (s *Stage) passOldest() {
	p := s.held[s.first]
	s.held[s.first] = heldRecord{}
	s.first++
	if s.first > len(s.held)/2 {
		n := copy(s.held, s.held[s.first:])
		clear(s.held[n:])
		s.held, s.first = s.held[:n], 0
	}
	s.fill(p.record)
	s.passHeld(p)
}

// leave hands on a record that was held, with its owners.
func (s *Stage) passHeld(p heldRecord) {
	s.e.room.Add(p.size)
	s.heldGauge().Add(-1)
	s.pass(p.record)
}

// sizeOf estimates the memory that a copy of r takes.
func sizeOf(r *flow.Record) int64 {
	m := &r.Msg
	n := int(unsafe.Sizeof(*r)) + 64 + // 64: the parcel and rounding
		len(m.SrcAddr) + len(m.DstAddr) + len(m.NextHop) + len(m.SamplerAddress) + len(m.BgpNextHop) +
		4*(len(m.AsPath)+len(m.BgpCommunities)+len(m.MplsLabel)+len(m.MplsTtl)+len(m.LayerStack)+len(m.LayerSize)) +
		40*(len(m.MplsIp)+len(m.Ipv6RoutingHeaderAddresses)) +
		len(r.Extra.InIfName) + len(r.Extra.OutIfName) + len(r.Extra.TunnelSrcAddr) + len(r.Extra.TunnelDstAddr)
	if r.Line != nil {
		n += int(unsafe.Sizeof(*r.Line)) + len(r.Line.Text)
		for _, k := range r.Line.Keys {
			n += 16 + len(k)
		}
	}
	return int64(n)
}
