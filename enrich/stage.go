package enrich

import (
	"sync/atomic"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Handler takes enriched records.
type Handler interface {
	// HandleFlow takes a record, which is valid only during the call.
	HandleFlow(r *flow.Record)
	// Idle is called when no datagram is waiting. It returns true to be called
	// again soon even if none comes.
	Idle() (pending bool)
}

// Stage fills in the owners of a worker's records and hands them on. It is used
// by one goroutine at a time.
type Stage struct {
	e     *Enricher
	next  Handler
	count *lookups
	open  bool     // nothing is held nor will be
	held  []parcel // in order of arrival, from first on
	first int
}

// parcel is a record that is held, with its share of the room.
type parcel struct {
	record *flow.Record
	size   int64
}

// lookups counts one worker's look-ups by result. No other worker's counters
// share its cache lines.
type lookups struct {
	_ [64]byte
	n [flow.NumStatus]atomic.Uint64
	_ [64]byte
}

// NewStage makes a worker's stage in front of next.
func (e *Enricher) NewStage(next Handler) *Stage {
	s := &Stage{e: e, next: next, count: new(lookups), open: e.cfg.Capture}
	e.metrics.add(s.count)
	return s
}

// HandleFlow fills in r.Ends and hands r on, or holds a copy of r until the
// cluster is known.
func (s *Stage) HandleFlow(r *flow.Record) {
	if !s.open {
		if !s.e.open.Load() {
			s.hold(r)
			return
		}
		s.Drain() // what came before r goes before it
	}
	s.handle(r)
}

func (s *Stage) handle(r *flow.Record) {
	from, to := r.Interval()
	for i := range s.e.cfg.Mapping {
		addr, ok := r.Addr(s.e.cfg.Mapping[i].Field)
		if !ok || addr.IsUnspecified() {
			r.Ends[i] = flow.End{}
			continue
		}
		r.Ends[i] = s.e.Lookup(addr, from, to)
		s.count.n[r.Ends[i].Status].Add(1)
	}
	s.next.HandleFlow(r)
}

// Idle hands on what is held once the cluster is known, and passes the call on.
func (s *Stage) Idle() (pending bool) {
	if !s.open && s.e.open.Load() {
		s.Drain()
	}
	held := len(s.held) > s.first
	return s.next.Idle() || held
}

// Drain hands on whatever is held, with what is known by now.
func (s *Stage) Drain() {
	for len(s.held) > s.first {
		s.pass()
	}
	s.held, s.first = nil, 0
	s.open = s.open || s.e.open.Load()
}

// hold keeps a copy of r. If there is no room for it, the oldest go on as they
// are.
func (s *Stage) hold(r *flow.Record) {
	size := sizeOf(r)
	for s.e.room.Add(-size) < 0 {
		s.e.room.Add(size)
		if len(s.held) == s.first { // other workers have it all
			s.handle(r)
			return
		}
		s.pass()
	}
	s.held = append(s.held, parcel{r.Clone(), size})
	s.e.metrics.held.Add(1)
}

// pass hands on the oldest record that is held.
func (s *Stage) pass() {
	p := s.held[s.first]
	s.held[s.first] = parcel{}
	s.first++
	if s.first > len(s.held)/2 {
		n := copy(s.held, s.held[s.first:])
		clear(s.held[n:])
		s.held, s.first = s.held[:n], 0
	}
	s.e.room.Add(p.size)
	s.e.metrics.held.Add(-1)
	s.handle(p.record)
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
