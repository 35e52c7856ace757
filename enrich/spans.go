package enrich

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// second is how long after a time of the API its event may have been: such times are rounded
	// down. It is in nanoseconds.
	second = int64(time.Second)
	// readyLag is how long before an event the condition PodReadyToStartContainers may have become
	// true if it became so with that event.
	readyLag = 3 * second
	// soonReady is how long it usually takes a kubelet to announce an address, if no image is to be
	// pulled. The tolerance covers it.
	soonReady = 4 * second
	// clockMargin is what clocks that are in step may differ by.
	clockMargin = second / 4
	// clocksDiffer is by how much a node's clock may be ahead of the API server's, as far as the start
	// of a pod is concerned.
	clocksDiffer = second / 2
)

// ending is when a pod's containers stopped. Times are in Unix nanoseconds.
type ending struct {
	at           int64 // never while one runs
	certainUntil int64 // the pod had its addresses until then
	grace        int32 // so long after at it may still have had them, in milliseconds
	exact        bool  // it ended in the second that begins at that time
}

// findEnd returns when the pod's containers stopped.
func (st *store) findEnd(p *pod, o *object, now int64) ending {
	f := &st.feeds[kindPod]
	switch {
	case !o.stopped: // also after a stop: the kubelet restarts containers
		certain := p.deadline
		if o.ready == 0 && p.ready != 0 && o.notReady >= p.ready { // its sandbox is gone
			certain = min(certain, o.notReady)
		}
		return ending{at: never, certainUntil: certain}
	case o.finished > now: // by a clock that is fast
		return ending{at: now, certainUntil: now - maxEventLag}
	case o.finished != 0 && o.finished == p.end.at:
		return p.end
	case o.finished != 0 && !(o.restartable && o.finished <= p.crashed):
		e := ending{at: o.finished, certainUntil: o.finished, exact: true}
		if !f.listing { // or the node's clock is slow
			e.grace = int32(min(now-o.finished, maxEventLag) / int64(time.Millisecond))
		}
		return e
	case p.end.at != never:
		return p.end
	case !f.listing:
		e := ending{at: now, certainUntil: max(goneAfter(o, now), min(o.lastExit, now)-clockMargin)} // it ran until its last exit
		if since, late := f.watch.lateSince(); late {
			e.certainUntil = min(e.certainUntil, since)
			if f.watch.reportedLate(o.notReady) {
				e.at = min(now, o.notReady+second)
			}
		}
		return e
	}
	at := o.notReady
	switch {
	case at != 0:
	case o.exitUnknown && o.lastTransition <= o.lastExit: // nothing else says when
		at = now
	default:
		at = max(o.lastTransition, o.lastExit)
	}
	notBefore := f.watch.notBefore()
	at = min(now, max(at, notBefore))
	return ending{at: at, certainUntil: min(at, max(o.lastExit, o.requested, o.disrupted, notBefore))}
}

// goneAfter returns until when a pod had its addresses for certain, if an event that arrives now
// shows that it has lost them, and nothing says when.
func goneAfter(o *object, now int64) int64 {
	switch {
	case o.deleted == 0 && o.created == 0: // there is no sign of when anything happened
		return now
	case o.deleted == 0:
		return now - maxEventLag
	case o.deleted > now: // with grace, or by a clock that is fast
		return min(o.requested, now-tolerance)
	}
	return o.deleted
}

// updateSpans brings the spans up to date that a pod has already. The argument changed reports
// whether records show the pod in another way than before.
func (st *store) updateSpans(p *pod, o *object, changed bool, now int64) {
	for s := p.spans; s != nil; s = s.sibling {
		dirty := changed || p.migration != nil
		if !s.final && !s.dropped && slices.Contains(o.addrs, s.addr) && st.attach(s, o) {
			dirty = true
		}
		switch {
		case s.final:
		case !o.stopped && !slices.Contains(o.addrs, s.addr):
			lost := now
			if p.ready != 0 && o.ready > p.ready { // with the last sandbox, before there was a new one
				lost = min(lost, o.ready)
			}
			s.to, s.final, s.exact, dirty = min(s.to, lost), true, false, true
			s.yieldsFrom = max(min(s.yieldsFrom, p.end.certainUntil, p.seen-tolerance, lost), s.possibleFrom)
			st.recordEnd(s)
		default:
			old := *s
			if s.setEnd(p.end); s.to != old.to || s.yieldsFrom != old.yieldsFrom {
				dirty = true
				if s.to != never {
					st.recordEnd(s)
				}
			}
		}
		if dirty && !s.dropped {
			st.publish(s)
		}
	}
}

// setEnd ends a span with its pod. A pod that ended in the second in which it had begun had the
// address in that second.
func (s *span) setEnd(e ending) {
	s.to, s.yieldsFrom, s.exact = e.at, e.certainUntil, e.exact
	s.grace = int64(e.grace) * int64(time.Millisecond)
	if s.exact && s.to <= s.from {
		s.to += second
		s.yieldsFrom, s.exact = s.to, false
	}
}

// start is when a pod got an address, in Unix nanoseconds. See the fields of span.
type start struct{ from, announced, possible, certain int64 }

// listedStart returns when a pod got an address that a list shows, by the object's own times, and
// whether that is soft. The pod did not have the address before notBefore.
func (o *object) listedStart(notBefore, now int64) (b start, soft bool) {
	from := o.ready
	if from == 0 {
		from, soft = o.started, true
	}
	if from == 0 {
		from = o.created
	}
	from = min(now, max(from, notBefore))
	b = start{from: from, announced: from, possible: from, certain: from}
	if o.created != 0 {
		b.possible = o.earliest(from)
	}
	if o.ready != 0 { // somewhen in that second
		b.certain = max(from, min(now, o.ready+second))
	}
	return b, soft
}

// earliest returns the earliest time at which the pod may have had an address, no later than from.
// Clocks differ, so it is the least of the object's times. Only a pod that waited for a node for
// long was created long before.
func (o *object) earliest(from int64) int64 {
	created := o.created
	if o.started != 0 {
		from = min(from, o.started)
		created = max(created, o.started-clocksDiffer)
	}
	if o.ready != 0 {
		from = min(from, o.ready)
	}
	if o.created != 0 {
		from = min(from, created)
	}
	return from
}

// watchedStart returns when a pod got an address that an event shows.
//
// Kubelets announce an address after they have pulled the images of the containers that are due
// (kubernetes/kubernetes, pkg/kubelet/kubelet.go, SyncPod: the status is made before the runtime's
// part, which takes that long). The condition PodReadyToStartContainers is as late, or is when the
// sandbox got the address (OnPodSandboxReady, since Kubernetes 1.36). So it bounds the start from
// above, and if it is from well before the event, it is the start.
func (st *store) watchedStart(p *pod, o *object, now int64) start {
	w := st.feeds[kindPod].watch
	b := start{from: now, announced: now, possible: now, certain: now}
	if p.addressed && (o.ready == 0 || o.ready == p.ready) { // an interface was added
		b.possible = min(now, max(p.seen-tolerance, p.lastEnd()))
		return b
	}
	margin := second + clockMargin
	if w.reportedLate(o.ready) {
		b.from, b.announced, margin = o.ready, o.ready, second
	}
	if o.ready != 0 {
		b.certain = min(now, max(o.ready+margin, o.created))
	}
	if !p.addressed && o.firstStart != 0 {
		b.certain = min(b.certain, max(o.firstStart+margin, o.created))
	}
	announced := b.from
	b.from = min(b.from, b.certain)
	if now-o.stamped > tolerance { // the event is late, or the node's clock is slow
		b.certain = max(b.certain, min(announced, now-tolerance))
	}
	if p.addressed { // a new sandbox
		b.possible = min(b.from, max(p.seen-tolerance, p.ready))
		return b
	}
	if o.started != 0 && (o.ready == 0 || now-o.ready <= readyLag && o.ready-o.started > soonReady) {
		b.from = min(b.from, o.started+second+tolerance) // with the tolerance, from the end of that second on
	}
	if b.possible = o.earliest(b.from); o.stamped > now { // the node's clock is fast
		b.possible = min(b.possible, max(o.created, b.from-maxEventLag))
	}
	return b
}

// lastEnd returns the latest time at which the pod lost an address, 0 without one.
func (p *pod) lastEnd() (last int64) {
	for s := p.spans; s != nil; s = s.sibling {
		if s.to != never {
			last = max(last, s.to)
		}
	}
	return last
}

// openSpan begins a span.
func (st *store) openSpan(p *pod, a netip.Addr, o *object, now int64) {
	f := &st.feeds[kindPod]
	var b start
	soft := false
	if f.listing {
		b, soft = o.listedStart(f.watch.notBefore(), now)
	} else if b = st.watchedStart(p, o, now); p.end.at < b.announced { // it was over before it was seen
		b, soft = o.listedStart(0, now)
	}
	if p.end.at <= b.from && o.started != 0 && o.started < b.from { // and before it was ready, in the kubelet's view
		b.from, soft = o.started, true
		b.possible = min(b.possible, b.from)
	}
	s := &span{
		pod: p, addr: a, from: b.from, announced: b.announced,
		possibleFrom: b.possible, certainFrom: b.certain, soft: soft,
	}
	if s.setEnd(p.end); s.to < s.from || s.to != never && !st.keepEnded && s.to+st.retain <= now {
		return
	}
	if !f.listing {
		st.metrics.observeLag(kindPod, now, o.ready)
	}
	s.uncertain = f.watch.startUncertainty(s, f.listing, now)
	if !isMACAddr(a) {
		st.observe(a)
	}
	s.sibling, p.spans = p.spans, s
	s.attached = st.newAttachment(s, o)
	e := st.timelineToChange(a, s.network())
	if since, missed := f.watch.mayHaveMissedStart(o.ready, o.created); missed && !f.listing {
		for other := e.spans; other != nil; other = other.next {
			if other.to > since {
				other.mayHaveEndedAt(since)
			}
		}
	}
	s.next, e.spans = e.spans, s
	st.publishEntry(e)
	if s.to != never {
		st.recordEnd(s)
	}
}

// noteMissedEnds notes which pods may have lost their addresses while no watch was connected: those
// that the list being applied does not have, and those whose end was seen after the watermark. Each
// may have ended at any time after it, and the next owner may have come and gone unseen.
func (st *store) noteMissedEnds(watermark int64) {
	for _, p := range st.pods {
		for s := p.spans; s != nil; s = s.sibling {
			if p.mark != st.listMark && !s.final && s.to > watermark {
				s.mayHaveEndedAt(watermark)
			}
		}
	}
	for s := range st.endedSpans.all() {
		if s.final && !s.dropped && s.to > watermark && (s.uncertain == nil || s.uncertain.from == never) {
			s.mayHaveEndedAt(watermark)
			s.yieldsFrom = max(min(s.yieldsFrom, watermark), s.possibleFrom)
			st.publish(s)
		}
	}
}

// mayHaveEndedAt notes that the pod may have lost the address at t or at any time after it.
func (s *span) mayHaveEndedAt(t int64) {
	if s.uncertain == nil {
		s.uncertain = &uncertainty{before: s.possibleFrom}
	}
	s.uncertain.from = max(t, s.possibleFrom)
}

// removePod ends the spans that a pod still has. From yieldsFrom on, it may not have had the
// addresses any more. If its containers ran, their kubelet may take as long as grace to stop them.
func (st *store) removePod(p *pod, now, yieldsFrom, grace int64) {
	delete(st.pods, p.key)
	st.stopAwaitingOwner(p)
	for s := p.spans; s != nil; s = s.sibling {
		if s.final {
			continue
		}
		if s.to > now {
			s.to, s.exact, s.grace = now, false, grace
			s.yieldsFrom = min(s.yieldsFrom, yieldsFrom)
		}
		s.yieldsFrom, s.final = max(min(s.yieldsFrom, s.to), s.possibleFrom), true
		st.recordEnd(s)
		if !s.dropped {
			st.publish(s)
		}
	}
}
