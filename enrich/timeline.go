package enrich

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// span is the time over which a pod owns an address, in Unix nanoseconds.
type span struct {
	pod     *pod
	addr    netip.Addr
	network *network

	from       int64
	to         int64 // exclusive; never while the pod owns the address
	yieldsFrom int64 // from here on it only claims what nobody else does

	// The watch shows an address late. The pod may have had it from early on,
	// and it surely had it from firm on; these are not after from, unless that
	// is a time that the object tells in whole seconds: then firm is at its end.
	possibleFrom, certainFrom int64

	next    *span // of the same address
	sibling *span // of the same pod

	uncertain *uncertainty // nil for most

	soft      bool // the start may have been later than from
	final     bool // the end will not change any more
	inHistory bool // for removal
	dropped   bool
}

// gaps are what is left open by a list after an interruption of the watch, or by
// events that were told late.
type uncertainty struct {
	before int64 // the pod may have had the address not before that time
	from   int64 // from this time on it may not have had it any more; else never
}

// timeliner turns spans into segments. It keeps its scratch space.
type timelineBuilder struct {
	claims        []claim
	active        []*claim // those that count at the time looked at
	byCertainFrom []*claim
	boundaries    []int64
	rivals        []*claim
	segments      []segment
}

// claim is a span whose soft start has been resolved.
type claim struct {
	*span
	from          int64
	yieldsFrom    int64
	possibleFrom  int64 // it is among those who may own the address
	certainFrom   int64 // it surely does
	possibleUntil int64 // until here it may do so still
	supersededAt  int64 // from here on somebody else has had the address since it may have lost it
	unshared      bool  // nobody else is known to have had the address
}

// begins is the earliest time at which the claim counts.
func (c *claim) begins() int64 { return min(c.possibleFrom, c.certainFrom-2*tolerance) }

// firmly says whether the pod surely owns the address.
func (c *claim) certainAt(at int64) bool { return c.certainFrom <= at && at < c.yieldsFrom }

// within says whether it is the pod's time.
func (c *claim) within(at int64) bool { return c.from <= at && at < c.to }

// doubtful says whether another pod may have had the address in the pod's time,
// and have come and gone while no watch could see it. That is only expected of
// addresses that pass on.
func (c *claim) uncertainAt(at int64) bool {
	return !c.unshared && c.uncertain != nil && (at < c.uncertain.before || at >= c.uncertain.from)
}

// of returns who owned the address of the spans, and when. If a MAC is given,
// others don't count. The result is valid until the next call.
func (t *timelineBuilder) buildTimeline(first *span, mac uint64) []segment {
	t.segments = t.segments[:0]
	if first == nil {
		return nil
	}
	if first.next == nil {
		t.segments = append(t.segments, segment{from: first.from, to: first.to, end: flow.End{Object: first.pod.obj, Status: first.status()}})
		t.markProvisional(first)
		return t.segments
	}
	t.claims, t.boundaries = t.claims[:0], t.boundaries[:0]
	for s := first; s != nil; s = s.next {
		if mac != 0 && (s.network == nil || s.network.mac != mac) {
			continue
		}
		c := claim{span: s, from: s.from, yieldsFrom: min(s.yieldsFrom, s.to), possibleFrom: s.possibleFrom, certainFrom: s.certainFrom, possibleUntil: never}
		if s.soft {
			c.from = s.resolvedStart(first)
			c.possibleFrom, c.certainFrom = c.from, c.from
		}
		if s.to != never {
			c.possibleUntil = s.to + tolerance
		}
		if s.uncertain != nil {
			t.boundaries = append(t.boundaries, s.uncertain.before, s.uncertain.from)
		}
		t.claims = append(t.claims, c)
		t.boundaries = append(t.boundaries, c.possibleFrom, max(c.possibleFrom, c.from-tolerance), c.certainFrom, c.certainFrom-2*tolerance, c.from, max(c.certainFrom, c.yieldsFrom), s.to, c.possibleUntil)
	}
	t.findSuperseded()
	slices.SortFunc(t.claims, func(a, b claim) int { return cmp.Compare(a.begins(), b.begins()) })
	slices.Sort(t.boundaries)
	t.boundaries = slices.Compact(t.boundaries)
	t.active = t.active[:0]
	next := 0 // claim that is not active yet
	for i := range len(t.boundaries) - 1 {
		from, to := t.boundaries[i], t.boundaries[i+1]
		for ; next < len(t.claims) && t.claims[next].begins() <= from; next++ {
			t.active = append(t.active, &t.claims[next])
		}
		t.active = slices.DeleteFunc(t.active, func(c *claim) bool { return c.possibleUntil <= from })
		s := t.ownerAt(from)
		if s.end.Object == nil {
			continue
		}
		if n := len(t.segments); n > 0 && t.segments[n-1].to == from && t.segments[n-1].uncertain == s.uncertain && t.segments[n-1].inTolerance == s.inTolerance && sameEnd(t.segments[n-1].end, s.end) {
			t.segments[n-1].to = to
			continue
		}
		s.from, s.to = from, to
		t.segments = append(t.segments, s)
	}
	t.markProvisional(first)
	return t.segments
}

// shake marks the segments of whose time it may turn out that the address had
// passed on: those of pods that are there still, if it has passed on before or
// a pod is being deleted; and those that end with a deletion that was seen, after
// which the pod may have gone without delay. Of other addresses that is not
// expected: most clusters use an address again only after all others.
func (t *timelineBuilder) markProvisional(first *span) {
	shaken, asked := false, int64(never)
	for s := first; s != nil; s = s.next {
		shaken = shaken || s.to != never || s.yieldsFrom != never
		if s.yieldsFrom < s.to {
			asked = min(asked, s.yieldsFrom)
		}
	}
	if !shaken {
		return
	}
	for i := range t.segments {
		s := &t.segments[i]
		s.provisional = s.end.Status != flow.StatusRetained || s.to > asked
	}
}

// lose finds out since when others have had the address of each claim.
func (t *timelineBuilder) findSuperseded() {
	t.byCertainFrom = t.byCertainFrom[:0]
	for i := range t.claims {
		t.byCertainFrom = append(t.byCertainFrom, &t.claims[i])
	}
	slices.SortFunc(t.byCertainFrom, func(a, b *claim) int { return cmp.Compare(a.certainFrom, b.certainFrom) })
	for i := range t.claims {
		c := &t.claims[i]
		c.supersededAt, c.unshared = never, !slices.ContainsFunc(t.byCertainFrom, func(o *claim) bool { return o != c && o.networkName() == c.networkName() })
		n, _ := slices.BinarySearchFunc(t.byCertainFrom, c.yieldsFrom, func(o *claim, at int64) int { return cmp.Compare(o.certainFrom, at) })
		for _, o := range t.byCertainFrom[n:] {
			if o != c && o.networkName() == c.networkName() {
				c.supersededAt = o.certainFrom
				break
			}
		}
	}
}

func (s *span) status() flow.Status {
	if s.to == never {
		return flow.StatusLive
	}
	return flow.StatusRetained
}

// hardened moves the start of a soft span behind the end of each owner that is
// known to have ended before it: two pods don't have one address at a time,
// and a soft start may be too early.
func (s *span) resolvedStart(first *span) int64 {
	from := s.from
	for o := first; o != nil; o = o.next {
		known := o.to != never && o.yieldsFrom >= o.to
		if o != s && o.networkName() == s.networkName() && known && o.to <= s.to && (o.to < s.to || o.from < s.from) {
			from = max(from, o.to)
		}
	}
	return from
}

// owner chooses among those who own the address at a time: who surely does,
// else who may do so. It says so if there are several, or others may have come
// and gone unseen. The segment that it returns has no times.
func (t *timelineBuilder) ownerAt(at int64) (s segment) {
	best := t.choose(at, (*claim).within)
	if !t.severalNetworks() {
		if best = t.choose(at, (*claim).certainAt); best == nil && t.handover(at) {
			best, s.uncertain = t.choose(at, (*claim).possibleAt), true
			if len(t.rivals) == 1 && at < best.from-tolerance {
				return segment{}
			}
			s.inTolerance = !slices.ContainsFunc(t.rivals, func(c *claim) bool { return c.within(at) })
		} else {
			if best == nil {
				best = t.choose(at, func(c *claim, at int64) bool { return c.within(at) && at < c.supersededAt })
			}
			t.rivals = slices.DeleteFunc(t.rivals, func(c *claim) bool { return c.to != never })
		}
	}
	if best == nil {
		return segment{}
	}
	s.end = flow.End{Object: best.pod.obj, Status: best.status()}
	if best.uncertainAt(at) || slices.ContainsFunc(t.rivals, func(c *claim) bool { return c.uncertainAt(at) }) {
		s.uncertain, s.end = true, asUncertain(s.end.Object)
	}
	if len(t.rivals) > 1 {
		objects := make([]*flow.Object, len(t.rivals))
		for i, c := range t.rivals {
			objects[i] = c.pod.obj
		}
		s.end = flow.End{Object: ambiguous(s.end.Object, "Several pods found for same IP: ", objects), Status: flow.StatusAmbiguous}
	}
	return s
}

// choose returns the best of those for whom is is true at a time, and puts all
// into rivals.
func (t *timelineBuilder) choose(at int64, is func(*claim, int64) bool) (best *claim) {
	t.rivals = t.rivals[:0]
	for _, c := range t.active {
		if !is(c, at) {
			continue
		}
		t.rivals = append(t.rivals, c)
		if best == nil || c.beats(best, at) {
			best = c
		}
	}
	return best
}

// mixed says whether the rivals have the address in several networks, of which
// none is better.
func (t *timelineBuilder) severalNetworks() bool {
	return slices.ContainsFunc(t.rivals, func(c *claim) bool { return c.networkName() != t.rivals[0].networkName() })
}

// handover says whether the time is one at which nobody surely owns the address
// and there is a next owner, of whom it is known since when it may have had it.
func (t *timelineBuilder) handover(at int64) bool {
	return slices.ContainsFunc(t.active, func(c *claim) bool {
		return c.possibleFrom < c.certainFrom && at < c.certainFrom && c.certainFrom-at <= 2*tolerance
	})
}

// perhaps says whether the pod may own the address: from when it may have had
// it to when it may have lost it.
func (c *claim) possibleAt(at int64) bool {
	return c.possibleFrom <= at && at < c.possibleUntil && at < c.supersededAt
}

func (c *claim) beats(o *claim, at int64) bool {
	if a, b := at < c.yieldsFrom, at < o.yieldsFrom; a != b {
		return a
	}
	if c.soft != o.soft {
		return o.soft
	}
	if a, b := c.to == never, o.to == never; a != b {
		return a
	}
	if c.from != o.from {
		return c.from > o.from
	}
	return compareObjects(c.pod.obj, o.pod.obj) < 0
}

func sameEnd(a, b flow.End) bool {
	return a.Status == b.Status && (a.Object == b.Object || *a.Object == *b.Object)
}

// in returns the name of the network that a span is in.
func (s *span) networkName() string {
	if s.network == nil {
		return ""
	}
	return s.network.name
}

// severalNetworks says whether spans are in more than one network.
func severalNetworks(first *span) bool {
	for s := first; s != nil; s = s.next {
		if s.networkName() != first.networkName() {
			return true
		}
	}
	return false
}

// macs returns an entry for each MAC of the spans.
func (t *timelineBuilder) buildMACEntries(addr netip.Addr, first *span, forgotten int64) []macEntry {
	var list []macEntry
	for s := first; s != nil; s = s.next {
		if s.network == nil || s.network.mac == 0 || slices.ContainsFunc(list, func(m macEntry) bool { return m.mac == s.network.mac }) {
			continue
		}
		list = append(list, macEntry{s.network.mac, newEntry(addr, t.buildTimeline(first, s.network.mac), forgotten)})
	}
	return list
}
