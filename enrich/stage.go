package enrich

import (
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Stage fills in the owners of a worker's records and hands them on. It holds records that come
// before the first sync, and those whose pod the cluster has not announced yet. It implements
// [flow.Handler], and is used by one goroutine at a time.
type Stage struct {
	_          [64]byte // keeps the workers' stages out of each other's cache lines
	e          *Enricher
	next       flow.Handler
	counters   *lookups
	maxWait    int64        // how long a record waits for its pod, in nanoseconds; 0: not at all
	ready      bool         // Enricher.ready has been seen, or does not matter
	readySince int64        // when it was seen, in Unix nanoseconds; 0: from the beginning
	held       []heldRecord // in order of arrival, from first on
	first      int
	additions  uint64 // index.additions when the held records were checked last
	lookedUp   uint   // the entries of the mapping that were looked up last, as bits
	decider    decider
	// macDecider is for look-ups by the MAC, between two of the decider.
	macDecider decider
	vain       vainTable // lazily made
	nextCheck  int64     // not before then are they checked again, in Unix nanoseconds

	_ [64]byte
}

// heldRecord is a copy of a record that waits.
type heldRecord struct {
	record *flow.Record
	size   int64 // its part of Enricher.room, in bytes
	until  int64 // when it goes on without its pod, in Unix nanoseconds
}

// lookups counts one worker's look-ups by result. No other worker's counters
// share its cache lines.
type lookups struct {
	_ [64]byte
	n [flow.NumStatus]atomic.Uint64
	_ [64]byte
}

const (
	// maxEventLag is how late the watch reports that an address has passed on, but for rare cases.
	// It is in nanoseconds.
	maxEventLag = int64(5 * time.Second)
	// checkEvery is the least time between two checks of the held records, and checkCost is added
	// to it for each of them, so that checks take a tenth of the worker's time at most. Both are in
	// nanoseconds.
	checkEvery = int64(10 * time.Millisecond)
	checkCost  = int64(2 * time.Microsecond)
)

// NewStage returns the stage of a worker, which hands records on to next. Each worker needs one.
func (e *Enricher) NewStage(next flow.Handler) *Stage {
	s := &Stage{e: e, next: next, counters: new(lookups), ready: e.cfg.Unheld, maxWait: int64(e.cfg.Wait)}
	e.metrics.addCounters(s.counters)
	return s
}

// HandleFlow fills in r.Ends and hands r on, or holds a copy of r until the cluster, or the pod, is
// known. It keeps neither r nor what r refers to. It allocates only for records that it holds.
func (s *Stage) HandleFlow(r *flow.Record) {
	switch {
	case s.ready:
		if len(s.held) > s.first {
			s.checkHeld(int64(r.Msg.TimeReceivedNs)) // about the present, and no call of a clock
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

// fill fills in the owners of a record, and reports whether they are settled: none of them may
// still be announced.
func (s *Stage) fill(r *flow.Record) (settled bool) {
	settled, s.lookedUp = true, 0
	from, to := r.Interval()
	ix := s.e.store.index
	// The entries of all addresses are loaded before one is read. They are rarely in the CPU's
	// cache, and this way their cache misses overlap.
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
	several := false
	shared := uint(0) // the entries whose address each Node has for itself, as bits
	for i := range mapping {
		if s.lookedUp&(1<<i) != 0 {
			entries[i] = entries[i].find(addrs[i])
			several = several || entries[i].inSeveralNetworks()
		}
	}
	if several {
		s.decideNetwork(r, &entries, from, to)
	}
	for i := range mapping {
		if s.lookedUp&(1<<i) == 0 {
			continue
		}
		end, known := flow.End{}, false
		switch e := entries[i]; {
		case several:
			end, known = s.ownerInNetwork(e, mapping[i].Field)
		case e != nil:
			end, known = ix.at(e, from, to, portOf(r, mapping[i].Field))
		}
		if end.Object == nil && ix.macs.Load() > 0 {
			if byMAC := s.ownerByMAC(r, mapping[i].Field, from, to); byMAC.Object != nil {
				end, known = byMAC, true
			}
		}
		if end.Object == nil && entries[i] != nil && entries[i].static != nil {
			shared |= 1 << i
		}
		if end.Status == flow.StatusAmbiguous && end.Object.Kind == kindNode.String() {
			end = s.amongNodes(r, entries[i], end, from, to)
		}
		r.Ends[i] = end
		if !known && s.maxWait > 0 && s.mayStillBeAnnounced(addrs[i], entries[i], end.Status, from, int64(r.Msg.TimeReceivedNs)) {
			settled = false
		}
	}
	if shared != 0 {
		s.fillShared(r, shared, from, to)
	}
	return settled
}

// fillShared fills in the owners of addresses that each Node has for itself: the Node of the
// exporter, or the pod at the other end, which talks to itself. The entries of the mapping are
// given as bits.
func (s *Stage) fillShared(r *flow.Record, shared uint, from, to int64) {
	ix := s.e.store.index
	for i, m := range s.e.cfg.Mapping {
		addr, ok := r.Addr(m.Field)
		if shared&(1<<i) == 0 || !ok {
			continue
		}
		switch ix.shared(addr, from, to) {
		case sharedByNodes:
			if node := s.exporterObject(r, from, to); node != nil {
				r.Ends[i] = flow.End{Object: node, Status: flow.StatusNode}
			}
		case sharedHairpin:
			for j, other := range s.e.cfg.Mapping {
				if end := r.Ends[j]; oppositeFields(m.Field, other.Field) && end.Object != nil && end.Object.Kind == kindPod.String() {
					r.Ends[i] = end
				}
			}
		}
	}
}

// exporterObject returns the Node that has the address of a record's exporter; nil if none has.
func (s *Stage) exporterObject(r *flow.Record, from, to int64) *flow.Object {
	for _, b := range [][]byte{r.Msg.SamplerAddress, r.Extra.ExporterAddress} {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			continue
		}
		if e := s.e.store.index.find(a.Unmap()); e != nil {
			if node := e.nodeAt(from, to); node != nil {
				return node
			}
		}
	}
	return nil
}

// oppositeFields reports whether two fields are the two ends of a flow.
func oppositeFields(a, b flow.FieldID) bool {
	return a == flow.FieldSrcAddr && b == flow.FieldDstAddr || a == flow.FieldDstAddr && b == flow.FieldSrcAddr
}

// portOf returns the port that a record has beside an address field, 0 if it has none.
func portOf(r *flow.Record, field flow.FieldID) port {
	switch field {
	case flow.FieldSrcAddr:
		return newPort(r.Msg.Proto, r.Msg.SrcPort)
	case flow.FieldDstAddr:
		return newPort(r.Msg.Proto, r.Msg.DstPort)
	}
	return 0
}

// mayStillBeAnnounced reports whether the cluster may announce another owner of an address, whose
// owner is not settled, and whose entry may be nil. If nobody is known to have owned it, that may
// happen if the address is in a pod range, and no record has waited for that in vain. If somebody
// is, a next owner may have followed unseen within the lag of the watch, or since the watch was
// interrupted.
func (s *Stage) mayStillBeAnnounced(addr netip.Addr, e *entry, known flow.Status, from, received int64) bool {
	ix := s.e.store.index
	if known == flow.StatusNone {
		return ix.podRanges.Load().contains(addr) && !(s.vain != nil && s.vain.has(addr, e, ix.hash(addr), received))
	}
	return from > received-maxEventLag || from > ix.watch.KnownUntil()
}

// pass hands on the record that was filled last, and counts its look-ups. It is then that the
// record is known to count or to be repeated.
func (s *Stage) pass(r *flow.Record) {
	for i := range s.e.cfg.Mapping {
		if s.lookedUp&(1<<i) != 0 {
			s.counters.n[r.Ends[i].Status].Add(1)
		}
	}
	if r.Extra.FromTunnel {
		r.Extra.Duplicate = s.duplicateFromTunnel(r)
	}
	s.next.HandleFlow(r)
}

// Idle hands on the records that need not wait any more, and calls Idle of the next handler. It
// reports whether records are still held here or there.
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

// Drain hands on all records that are held, with the owners that are known by now. It is for the
// end, when the worker calls HandleFlow no more.
func (s *Stage) Drain() {
	for len(s.held) > s.first {
		s.passOldest(0)
	}
	s.held, s.first = nil, 0
	s.ready = s.ready || s.e.ready.Load()
}

// passSynced hands on the records that waited for the first sync, but for those whose pod may still
// be announced.
func (s *Stage) passSynced() {
	s.ready = true
	s.readySince = time.Now().UnixNano()
	n := int64(len(s.held) - s.first)
	s.e.metrics.heldForSync.Add(-n)
	s.e.metrics.heldForPod.Add(n)
	s.recheckHeld(s.readySince)
}

// checkHeld hands on the records that have waited long enough, and those whose owners have become
// known.
func (s *Stage) checkHeld(now int64) {
	if now >= s.nextCheck && s.e.store.index.additions.Load() != s.additions {
		s.recheckHeld(now)
	}
	for len(s.held) > s.first && s.held[s.first].until <= now {
		s.passOldest(now)
	}
}

// recheckHeld looks up all records that are held, and hands on those that are settled.
func (s *Stage) recheckHeld(now int64) {
	s.additions = s.e.store.index.additions.Load()
	kept := s.held[:0]
	for i, p := range s.held[s.first:] {
		i += s.first
		if settled := s.fill(p.record); !settled && p.until > now {
			s.held[i] = heldRecord{}
			kept = append(kept, p)
			continue
		} else if !settled {
			s.noteInVain(p, now)
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

// hold keeps a copy of r. To make room for it, the oldest records go on with the owners that are
// known by now.
func (s *Stage) hold(r *flow.Record) {
	size := sizeOf(r)
	for s.e.room.Add(-size) < 0 {
		s.e.room.Add(size)
		if len(s.held) == s.first { // other workers have all the room
			s.fill(r)
			s.pass(r)
			return
		}
		s.passOldest(0)
	}
	s.held = append(s.held, heldRecord{r.Clone(), size, time.Now().UnixNano() + s.maxWait})
	s.heldGauge().Add(1)
}

// heldGauge returns the gauge that counts the records that are held.
func (s *Stage) heldGauge() *atomic.Int64 {
	if s.ready {
		return &s.e.metrics.heldForPod
	}
	return &s.e.metrics.heldForSync
}

// passOldest hands on the oldest record that is held, at a time in Unix nanoseconds, or at 0 if it
// has to go before its time.
func (s *Stage) passOldest(now int64) {
	p := s.held[s.first]
	s.held[s.first] = heldRecord{}
	s.first++
	if s.first > len(s.held)/2 {
		n := copy(s.held, s.held[s.first:])
		clear(s.held[n:])
		s.held, s.first = s.held[:n], 0
	}
	if !s.fill(p.record) && p.until <= now {
		s.noteInVain(p, now)
	}
	s.passHeld(p)
}

// passHeld hands on a record that was held and has been filled.
func (s *Stage) passHeld(p heldRecord) {
	s.e.room.Add(p.size)
	s.heldGauge().Add(-1)
	s.pass(p.record)
}

// sizeOf estimates the memory that a copy of r takes, in bytes.
func sizeOf(r *flow.Record) int64 {
	m := &r.Msg
	n := int(unsafe.Sizeof(*r)) + 64 + // 64: the heldRecord and rounding
		len(m.SrcAddr) + len(m.DstAddr) + len(m.NextHop) + len(m.SamplerAddress) + len(m.BgpNextHop) +
		4*(len(m.AsPath)+len(m.BgpCommunities)+len(m.MplsLabel)+len(m.MplsTtl)+len(m.LayerStack)+len(m.LayerSize)) +
		40*(len(m.MplsIp)+len(m.Ipv6RoutingHeaderAddresses)) +
		r.Extra.Size()
	if r.Line != nil {
		n += int(unsafe.Sizeof(*r.Line)) + len(r.Line.Text)
		for _, k := range r.Line.Keys {
			n += 16 + len(k)
		}
	}
	return int64(n)
}
