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
	_     [64]byte // keeps the workers' stages out of each other's cache lines
	e     *Enricher
	next  flow.Handler
	count *lookups
	wait  int64    // nanoseconds; 0: for no pod
	open  bool     // the cluster is known, or was waited for long enough
	held  []parcel // in order of arrival, from first on
	first int
	puts  uint64 // changes of the index that held records have been checked against
	asked uint   // the entries of the mapping that were looked up last, as bits
	again int64  // when to check next, if there are others

	_ [64]byte
}

// parcel is a record that is held, with its share of the room.
type parcel struct {
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
const justNow = int64(5 * time.Second)

// checkEvery is how often held records are checked at most, in nanoseconds, and
// checkCost what is added for each of them, so that it takes up a tenth of the
// worker's time at most.
const (
	checkEvery = int64(10 * time.Millisecond)
	checkCost  = int64(2 * time.Microsecond)
)

// NewStage makes a worker's stage in front of next.
func (e *Enricher) NewStage(next flow.Handler) *Stage {
	s := &Stage{e: e, next: next, count: new(lookups), open: e.cfg.Capture, wait: int64(e.cfg.Wait)}
	e.metrics.add(s.count)
	return s
}

// HandleFlow fills in r.Ends and hands r on, or holds a copy of r until the
// cluster, or the pod, is known.
func (s *Stage) HandleFlow(r *flow.Record) {
	switch {
	case s.open:
		if len(s.held) > s.first {
			s.check(int64(r.Msg.TimeReceivedNs)) // near enough, and for nothing
		}
	case s.e.open.Load():
		s.opened()
	default:
		s.hold(r)
		return
	}
	if s.fill(r) || s.wait == 0 {
		s.pass(r)
		return
	}
	s.hold(r)
}

// fill fills in the owners. It returns false if one may be announced yet.
func (s *Stage) fill(r *flow.Record) (settled bool) {
	settled, s.asked = true, 0
	from, to := r.Interval()
	ix := s.e.state.index
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
		s.asked |= 1 << i
		addrs[i], entries[i] = addr, ix.first(addr)
	}
	for i := range mapping {
		if s.asked&(1<<i) == 0 {
			continue
		}
		end, known := flow.End{}, false
		if e := entries[i].find(addrs[i]); e != nil {
			end, known = ix.at(e, from, to, s.mac(r, i))
		}
		r.Ends[i] = end
		if !known && s.wait > 0 && s.expects(addrs[i], end.Status, from, int64(r.Msg.TimeReceivedNs)) {
			settled = false
		}
	}
	return settled
}

// expects says whether the owner of an address may be announced yet, of which no
// settled one is known. It may if the address is a pod's and nobody is known to
// have owned it when the flow ran. If somebody is, the next one may have had it
// only if that was just now, or since the watch has been interrupted.
func (s *Stage) expects(addr netip.Addr, known flow.Status, from, received int64) bool {
	if known == flow.StatusNone {
		return s.e.state.index.ranges.Load().contain(addr)
	}
	return from > received-justNow || from > s.e.state.index.told.Load()
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
		if s.asked&(1<<i) != 0 {
			s.count.n[r.Ends[i].Status].Add(1)
		}
	}
	s.next.HandleFlow(r)
}

// Idle hands on what need not wait any more, and passes the call on.
func (s *Stage) Idle() (pending bool) {
	switch {
	case s.open:
		if len(s.held) > s.first {
			s.check(time.Now().UnixNano())
		}
	case s.e.open.Load():
		s.opened()
	}
	held := len(s.held) > s.first
	return s.next.Idle() || held
}

// Drain hands on whatever is held, with what is known by now.
func (s *Stage) Drain() {
	for len(s.held) > s.first {
		s.passFirst()
	}
	s.held, s.first = nil, 0
	s.open = s.open || s.e.open.Load()
}

// opened hands on what waited for the cluster, but for what may be named yet.
func (s *Stage) opened() {
	s.open = true
	n := int64(len(s.held) - s.first)
	s.e.metrics.held.Add(-n)
	s.e.metrics.late.Add(n)
	s.settle(time.Now().UnixNano())
}

// check hands on the records that have waited long enough, and those whose
// owners have become known.
func (s *Stage) check(now int64) {
	if now >= s.again && s.e.state.index.puts.Load() != s.puts {
		s.settle(now)
	}
	for len(s.held) > s.first && s.held[s.first].until <= now {
		s.passFirst()
	}
}

// settle looks up all that is held.
func (s *Stage) settle(now int64) {
	s.puts = s.e.state.index.puts.Load()
	kept := s.held[:0]
	for i, p := range s.held[s.first:] {
		if i += s.first; !s.fill(p.record) && p.until > now {
			s.held[i] = parcel{}
			kept = append(kept, p)
			continue
		}
		s.held[i] = parcel{}
		s.leave(p)
	}
	s.held, s.first = kept, 0
	if len(kept) == 0 {
		s.held = nil
	}
	s.again = now + checkEvery + checkCost*int64(len(kept))
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
		s.passFirst()
	}
	s.held = append(s.held, parcel{r.Clone(), size, time.Now().UnixNano() + s.wait})
	s.gauge().Add(1)
}

// gauge counts what is held.
func (s *Stage) gauge() *atomic.Int64 {
	if s.open {
		return &s.e.metrics.late
	}
	return &s.e.metrics.held
}

// passFirst hands on the oldest record that is held.
func (s *Stage) passFirst() {
	p := s.held[s.first]
	s.held[s.first] = parcel{}
	s.first++
	if s.first > len(s.held)/2 {
		n := copy(s.held, s.held[s.first:])
		clear(s.held[n:])
		s.held, s.first = s.held[:n], 0
	}
	s.fill(p.record)
	s.leave(p)
}

// leave hands on a record that was held, with its owners.
func (s *Stage) leave(p parcel) {
	s.e.room.Add(p.size)
	s.gauge().Add(-1)
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
