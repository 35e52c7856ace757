package enrich

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// span is the time over which a pod owns an address, in Unix nanoseconds.
type span struct {
	pod      *pod
	addr     netip.Addr
	attached *attachment // nil in the cluster's own network

	from       int64
	to         int64 // exclusive; never while the pod owns the address
	yieldsFrom int64 // from this time on the pod only claims what no other pod does

	// The watch shows an address late. The pod may have had it from possibleFrom on, and it had it
	// for certain from certainFrom on. Neither is after from, with one exception: if from is a time
	// in whole seconds, certainFrom is the end of that second.
	possibleFrom, certainFrom int64

	next    *span // of the same address
	sibling *span // of the same pod

	uncertain *uncertainty // nil for most

	soft      bool // the start may have been later than from
	final     bool // the end will not change any more
	inHistory bool // it is in store.endedSpans
	dropped   bool // it is no longer in the index
}

// status is how records show the span's pod.
func (s *span) status() flow.Status {
	if s.to == never {
		return flow.StatusLive
	}
	return flow.StatusRetained
}

// owner returns what records show of the pod in the span's network.
func (s *span) owner() *flow.Object {
	if s.attached != nil {
		return s.attached.object
	}
	return s.pod.obj
}

// network returns the network that the address is in.
func (s *span) network() *network {
	if s.attached != nil {
		return s.attached.network
	}
	return &clusterNetwork
}

// resolvedStart moves the start of a soft span to the latest end of the owners that are known to
// have ended before it: two pods do not have one address at a time, and a soft start may be too
// early.
func (s *span) resolvedStart(first *span) int64 {
	from := s.from
	for o := first; o != nil; o = o.next {
		known := o.to != never && o.yieldsFrom >= o.to
		if o != s && known && o.to <= s.to && (o.to < s.to || o.from < s.from) {
			from = max(from, o.to)
		}
	}
	return from
}

// timelineBuilder turns the spans of an address into segments. It keeps its scratch space, and is
// for the writer.
type timelineBuilder struct {
	claims        []claim
	active        []*claim // those that count at the time looked at
	byCertainFrom []*claim
	boundaries    []int64 // times at which the owner may change
	rivals        []*claim
	segments      []segment
}

// claim is a span whose soft start has been resolved.
type claim struct {
	*span
	from          int64
	yieldsFrom    int64
	possibleFrom  int64 // the pod may have owned the address from then on
	certainFrom   int64 // it owned the address for certain from then on
	possibleUntil int64 // it may have owned the address until then
	supersededAt  int64 // another pod has had the address since the pod may have lost it; or never
	unshared      bool  // no other pod is known to have had the address
}

// begins is the earliest time at which the claim counts.
func (c *claim) begins() int64 { return min(c.possibleFrom, c.certainFrom-2*tolerance) }

// certainAt reports whether the pod owned the address for certain.
func (c *claim) certainAt(at int64) bool { return c.certainFrom <= at && at < c.yieldsFrom }

// possibleAt reports whether the pod may have owned the address.
func (c *claim) possibleAt(at int64) bool {
	return c.possibleFrom <= at && at < c.possibleUntil && at < c.supersededAt
}

// within reports whether the time is one of the pod's span.
func (c *claim) within(at int64) bool { return c.from <= at && at < c.to }

// uncertainAt reports whether another pod may have had the address in the pod's time, and have come
// and gone while no watch was connected. That is only expected of addresses that pass on.
func (c *claim) uncertainAt(at int64) bool { return !c.unshared && c.uncertain.at(at) }

// beats reports whether c is the better owner of the address at a time.
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
	return compareObjects(c.owner(), o.owner()) < 0
}

// buildTimeline returns who owned the address of the spans, and when: segments in order of time,
// apart from each other. All spans are in one network. The result is valid until the next call.
func (t *timelineBuilder) buildTimeline(first *span) []segment {
	t.segments = t.segments[:0]
	if first == nil {
		return nil
	}
	if first.next == nil {
		t.segments = append(t.segments, segment{from: first.from, to: first.to, end: flow.End{Object: first.owner(), Status: first.status()}})
		t.markProvisional(first)
		return t.segments
	}
	t.addClaims(first)
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
		if n := len(t.segments); n > 0 && t.segments[n-1].continues(from, &s) {
			t.segments[n-1].to = to
			continue
		}
		s.from, s.to = from, to
		t.segments = append(t.segments, s)
	}
	t.markProvisional(first)
	return t.segments
}

// continues reports whether s and next, which begins at from, are one segment.
func (s *segment) continues(from int64, next *segment) bool {
	a, b := s.end, next.end
	return s.to == from && s.uncertain == next.uncertain && s.inTolerance == next.inTolerance &&
		a.Status == b.Status && (a.Object == b.Object || *a.Object == *b.Object)
}

// addClaims makes claims of the spans, and notes the times at which their owner may change.
func (t *timelineBuilder) addClaims(first *span) {
	t.claims, t.boundaries = t.claims[:0], t.boundaries[:0]
	for s := first; s != nil; s = s.next {
		c := claim{
			span: s, from: s.from, yieldsFrom: min(s.yieldsFrom, s.to),
			possibleFrom: s.possibleFrom, certainFrom: s.certainFrom, possibleUntil: never,
		}
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
		t.boundaries = append(t.boundaries, c.possibleFrom, max(c.possibleFrom, c.from-tolerance), c.certainFrom,
			c.certainFrom-2*tolerance, c.from, max(c.certainFrom, c.yieldsFrom), s.to, c.possibleUntil)
	}
}

// findSuperseded finds out since when other pods have had the address of each claim.
func (t *timelineBuilder) findSuperseded() {
	t.byCertainFrom = t.byCertainFrom[:0]
	for i := range t.claims {
		t.byCertainFrom = append(t.byCertainFrom, &t.claims[i])
	}
	slices.SortFunc(t.byCertainFrom, func(a, b *claim) int { return cmp.Compare(a.certainFrom, b.certainFrom) })
	for i := range t.claims {
		c := &t.claims[i]
		c.supersededAt, c.unshared = never, len(t.claims) == 1
		n, _ := slices.BinarySearchFunc(t.byCertainFrom, c.yieldsFrom, func(o *claim, at int64) int { return cmp.Compare(o.certainFrom, at) })
		for _, o := range t.byCertainFrom[n:] {
			if o != c {
				c.supersededAt = o.certainFrom
				break
			}
		}
	}
}

// markProvisional marks the segments that a later event may correct, because the address may have
// passed on by then. Only addresses that pass on are concerned, since most clusters use an address
// again only after all others: a pod that had the address has ended, or one that has it is being
// deleted. Of these it marks the segments of pods that still exist, and those that end with a
// deletion, because a pod may go at once when it is deleted.
//
// The marks follow from the spans. Whether they matter is for the watch to say: a look-up compares
// its time with [watchState.KnownUntil].
func (t *timelineBuilder) markProvisional(first *span) {
	passesOn, deletedFrom := false, int64(never)
	for s := first; s != nil; s = s.next {
		passesOn = passesOn || s.to != never || s.yieldsFrom != never
		if s.yieldsFrom < s.to {
			deletedFrom = min(deletedFrom, s.yieldsFrom)
		}
	}
	if !passesOn {
		return
	}
	for i := range t.segments {
		s := &t.segments[i]
		s.provisional = s.end.Status != flow.StatusRetained || s.to > deletedFrom
	}
}

// ownerAt returns a segment, without its times, for the owner of the address at a time: a pod that
// owned it for certain, or else one that may have. The owner's warning names the others, and adds a
// note if another pod may have come and gone unseen. The segment is empty if there is no owner.
func (t *timelineBuilder) ownerAt(at int64) (s segment) {
	best := t.choose(at, (*claim).certainAt)
	if best == nil && t.handover(at) {
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
	if best == nil {
		return segment{}
	}
	s.end = flow.End{Object: best.owner(), Status: best.status()}
	if best.uncertainAt(at) || slices.ContainsFunc(t.rivals, func(c *claim) bool { return c.uncertainAt(at) }) {
		s.uncertain, s.end = true, asUncertain(s.end.Object)
	}
	if len(t.rivals) > 1 {
		objects := make([]*flow.Object, len(t.rivals))
		for i, c := range t.rivals {
			objects[i] = c.owner()
		}
		s.end = flow.End{Object: ambiguous(s.end.Object, "Several pods found for same IP: ", objects), Status: flow.StatusAmbiguous}
	}
	return s
}

// choose returns the best claim for which test is true at a time, or nil. rivals then has all
// such claims.
func (t *timelineBuilder) choose(at int64, test func(*claim, int64) bool) (best *claim) {
	t.rivals = t.rivals[:0]
	for _, c := range t.active {
		if !test(c, at) {
			continue
		}
		t.rivals = append(t.rivals, c)
		if best == nil || c.beats(best, at) {
			best = c
		}
	}
	return best
}

// handover reports whether the address is between two owners: a next one is known to have had it
// soon after, and may have had it before.
func (t *timelineBuilder) handover(at int64) bool {
	return slices.ContainsFunc(t.active, func(c *claim) bool {
		return c.possibleFrom < c.certainFrom && at < c.certainFrom && c.certainFrom-at <= 2*tolerance
	})
}
