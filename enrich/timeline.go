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

	from      int64 // the pod owns the address from then on, where nobody else claims it
	announced int64 // when the watch showed the address, or from
	to        int64 // exclusive; never while the pod owns the address

	// The pod may have had the address from possibleFrom on. It had it for certain from certainFrom
	// to yieldsFrom: outside of that it only claims what no other pod does.
	possibleFrom, certainFrom, yieldsFrom int64
	grace                                 int64 // how long after to its containers may have run, in nanoseconds

	next    *span // of the same address
	sibling *span // of the same pod

	uncertain *uncertainty // nil for most

	soft      bool // from is only the earliest time: see resolveSoft
	exact     bool // to is the second in which the pod ended: it may have had the address until its end
	final     bool // the end will not change any more
	inHistory bool // it is in store.endedSpans
	dropped   bool // it is no longer in the index

	// Go's allocator puts objects of like sizes side by side. Without these bytes spans would lie
	// among the entries of the index, which every look-up reads, and be loaded with them.
	_ [8]byte
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

// resolveSoft moves the start of a soft claim to the latest end of the pods that are known to have
// ended before it: two pods do not have one address at a time, and a soft start may be too early.
func (c *claim) resolveSoft(first *span) {
	c.certainFrom = c.from
	for o := first; o != nil; o = o.next {
		before := o.to != never && o.to <= c.to && (o.to < c.to || o.from < c.span.from)
		if o == c.span || !before {
			continue
		}
		c.from = max(c.from, o.to)
		c.possibleFrom = max(c.possibleFrom, min(o.to, o.yieldsFrom))
		c.certainFrom = max(c.certainFrom, o.lastSecond())
	}
	c.possibleFrom = min(c.possibleFrom, c.from)
}

// lastSecond returns the end of the second in which the pod ended, or its end if that is not exact.
func (s *span) lastSecond() int64 {
	if s.exact {
		return s.to + second
	}
	return s.to
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

// claim is a span beside the others of its address.
type claim struct {
	*span
	from, to      int64
	yieldsFrom    int64
	possibleFrom  int64 // the pod may have owned the address from then on
	certainFrom   int64 // it owned the address for certain from then on
	possibleUntil int64 // it may have owned the address until then
	supersededAt  int64 // another pod has had the address since the pod may have lost it; or never
	doubtFrom     int64 // the pod is not known to have ended, and another had the address soon after
	doubtTo       int64
	soft          bool
	unshared      bool // no other pod is known to have had the address
	handedOver    bool // a virtual machine migrated away from the pod
}

// begins is the earliest time at which the claim counts.
func (c *claim) begins() int64 { return min(c.possibleFrom, c.from, c.certainFrom) }

// certainAt reports whether the pod owned the address for certain.
func (c *claim) certainAt(at int64) bool {
	return c.certainFrom <= at && at < c.yieldsFrom && (at < c.doubtFrom || at >= c.doubtTo)
}

// possibleAt reports whether the pod may have owned the address.
func (c *claim) possibleAt(at int64) bool {
	return c.possibleFrom <= at && at < c.possibleUntil && at < c.supersededAt
}

// within reports whether the time is one of the pod's span.
func (c *claim) within(at int64) bool { return c.from <= at && at < c.to }

// status is how records show the claim's pod.
func (c *claim) status() flow.Status {
	if c.handedOver {
		return flow.StatusRetained
	}
	return c.span.status()
}

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
	if a, b := c.within(at), o.within(at); a != b {
		return a
	}
	if a, b := c.to == never, o.to == never; a != b {
		return a
	}
	if c.announced != o.announced {
		return c.announced > o.announced
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
	t.handOverMachines()
	t.findSuperseded()
	t.addBoundaries()
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
		s.createdLater = !s.inTolerance && t.createdAfter(from-tolerance)
		t.segments = append(t.segments, s)
	}
	t.markProvisional(first)
	return t.segments
}

// createdAfter reports whether the owner that ownerAt returned last cannot have had the address as
// early as that.
func (t *timelineBuilder) createdAfter(at int64) bool {
	return !slices.ContainsFunc(t.rivals, func(c *claim) bool { return c.possibleFrom <= at || !c.dated() })
}

// dated reports whether it is known when the pod was created.
func (c *claim) dated() bool { return c.possibleFrom < c.announced }

// continues reports whether s and next, which begins at from, are one segment.
func (s *segment) continues(from int64, next *segment) bool {
	a, b := s.end, next.end
	return s.to == from && s.uncertain == next.uncertain && s.inTolerance == next.inTolerance &&
		a.Status == b.Status && (a.Object == b.Object || a.Object.Equal(b.Object))
}

// addClaims makes claims of the spans.
func (t *timelineBuilder) addClaims(first *span) {
	t.claims, t.boundaries = t.claims[:0], t.boundaries[:0]
	for s := first; s != nil; s = s.next {
		c := claim{
			span: s, from: s.from, to: s.to, yieldsFrom: min(s.yieldsFrom, s.to), possibleFrom: s.possibleFrom,
			certainFrom: s.certainFrom, possibleUntil: never, doubtFrom: never, doubtTo: never, soft: s.soft,
		}
		if s.soft {
			c.resolveSoft(first)
		}
		if s.to != never {
			c.possibleUntil = max(s.lastSecond()+tolerance, s.to+s.grace)
		}
		t.claims = append(t.claims, c)
	}
}

// addBoundaries notes the times at which the owner may change.
func (t *timelineBuilder) addBoundaries() {
	t.boundaries = t.boundaries[:0]
	for i := range t.claims {
		c := &t.claims[i]
		if c.uncertain != nil {
			t.boundaries = append(t.boundaries, c.uncertain.before, c.uncertain.from)
		}
		t.boundaries = append(t.boundaries, c.possibleFrom, c.from, c.certainFrom, max(c.certainFrom, c.yieldsFrom),
			c.to, c.lastSecond(), c.possibleUntil, c.doubtFrom, max(c.possibleFrom, c.from-tolerance))
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
		rival := func(o *claim) bool { return o.pod != c.pod }
		c.supersededAt, c.unshared = never, !slices.ContainsFunc(t.byCertainFrom, rival)
		if c.unshared {
			continue
		}
		if o := t.nextCertain(max(c.yieldsFrom, c.certainFrom+1), rival); o != nil {
			c.supersededAt = o.certainFrom
			if !c.exact && c.grace > tolerance { // o's network is set up soon after its kubelet has seen it
				c.possibleUntil = min(c.possibleUntil, max(c.to+tolerance, o.possibleFrom+readyLag))
			}
		}
		if c.to == never && !c.handedOver {
			if o := t.nextCertain(c.certainFrom+1, rival); o != nil && !o.soft && !c.sameMachine(o) {
				c.doubtFrom, c.doubtTo = max(c.certainFrom, o.possibleFrom), o.certainFrom
			}
		}
	}
}

// nextCertain returns the first claim that counts and is certain from a time on, nil if none is.
func (t *timelineBuilder) nextCertain(from int64, counts func(*claim) bool) *claim {
	n, _ := slices.BinarySearchFunc(t.byCertainFrom, from, func(o *claim, at int64) int { return cmp.Compare(o.certainFrom, at) })
	for _, o := range t.byCertainFrom[n:] {
		if counts(o) {
			return o
		}
	}
	return nil
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
	if best != nil {
		t.rivals = slices.DeleteFunc(t.rivals, func(c *claim) bool { return c != best && !c.contradicts(best) })
	} else if best = t.choose(at, (*claim).possibleAt); best != nil {
		ended := !slices.ContainsFunc(t.rivals, func(c *claim) bool { return at < c.to })
		if len(t.rivals) == 1 && !best.within(at) && !t.mayBeNamed(best, at) || len(t.rivals) > 1 && ended {
			return segment{}
		}
		t.rivals = slices.DeleteFunc(t.rivals, func(c *claim) bool { return c != best && c.pod == best.pod })
		s.uncertain = len(t.rivals) > 1
		s.inTolerance = !slices.ContainsFunc(t.rivals, func(c *claim) bool { return c.within(at) })
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

// contradicts reports whether c and best cannot both have owned the address, though both did for
// certain: both still exist, or clocks differ. A soft start gives way, and so does an end that is
// only known by the event that showed it.
func (c *claim) contradicts(best *claim) bool {
	return c.pod != best.pod && (c.to == never && best.to == never || !c.soft && (c.exact || best.exact))
}

// mayBeNamed reports whether the only pod that may have owned the address at a time out of its span
// is named: it soon had the address, or had just ended, in that second or before the next pod was
// there. What is left is for the tolerance of look-ups.
func (t *timelineBuilder) mayBeNamed(c *claim, at int64) bool {
	switch {
	case at < c.from:
		return at >= c.from-tolerance
	case at >= c.lastSecond()+tolerance:
		return false
	}
	return at < c.lastSecond() || slices.ContainsFunc(t.byCertainFrom, func(o *claim) bool {
		return o.pod != c.pod && o.possibleFrom > at && o.dated() && o.possibleFrom-at <= 2*tolerance
	})
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
