package enrich

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// pod is a pod that exists.
type pod struct {
	key        string
	obj        *flow.Object // what records show; immutable
	ownerKey   string       // of the owner whose own owner is to be named
	spans      *span        // the addresses that it has or had
	end        int64        // when its containers stopped; never while one runs
	mark       uint32       // of the last list that had it
	ownerKind  kind         // of that owner; noKind without one
	ownerKnown bool         // that owner has been seen
}

// owns reports whether the pod has an address.
func (p *pod) owns(a netip.Addr) bool {
	for s := p.spans; s != nil; s = s.sibling {
		if s.addr == a && !s.final {
			return true
		}
	}
	return false
}

// applyPod brings a pod and its spans up to date.
func (st *store) applyPod(o *object, now int64) {
	f := &st.feeds[kindPod]
	key := o.key()
	p := st.pods[key]
	fresh := p == nil
	if fresh {
		p = &pod{key: key, ownerKind: noKind, end: never}
		st.pods[key] = p
		if !f.listing {
			st.metrics.observeLag(kindPod, now, o.created)
		}
	}
	p.mark = st.listMark
	obj := st.renderPod(p, o)
	changed := fresh || *obj != *p.obj
	if changed {
		p.obj = obj
	}
	if end := st.containersEnd(p, o, now); end != p.end {
		if !f.listing && !fresh && end != never {
			st.metrics.observeLag(kindPod, now, o.finished)
		}
		p.end = end
	}
	yieldsFrom := int64(never)
	if o.deleted != 0 {
		yieldsFrom = o.deleted
	}
	st.updateSpans(p, o, changed, yieldsFrom, now)
	for _, a := range o.addrs {
		if !p.owns(a) {
			st.openSpan(p, a, o, yieldsFrom, now)
		}
	}
}

// updateSpans brings the spans up to date that a pod has already. The argument changed reports
// whether records show the pod in another way than before.
func (st *store) updateSpans(p *pod, o *object, changed bool, yieldsFrom, now int64) {
	for s := p.spans; s != nil; s = s.sibling {
		dirty := changed
		if !s.final && !s.dropped && slices.Contains(o.addrs, s.addr) && st.attach(s, o) {
			dirty = true
		}
		switch {
		case s.final:
		case !o.stopped && !slices.Contains(o.addrs, s.addr):
			s.to, s.yieldsFrom, s.final, dirty = min(s.to, now), yieldsFrom, true, true
			st.recordEnd(s)
		case s.to != p.end || s.yieldsFrom != yieldsFrom:
			s.to, s.yieldsFrom, dirty = p.end, yieldsFrom, true
			if s.to != never {
				st.recordEnd(s)
			}
		}
		if dirty && !s.dropped {
			st.publish(s)
		}
	}
}

// containersEnd returns when the pod's containers stopped, never while one runs.
func (st *store) containersEnd(p *pod, o *object, now int64) int64 {
	f := &st.feeds[kindPod]
	switch {
	case !o.stopped: // also after a stop: the kubelet restarts containers
		return never
	case o.finished != 0:
		return min(now, o.finished)
	case p.end != never:
		return p.end
	case f.listing:
		return min(now, max(o.lastTransition, f.watch.notBefore()))
	}
	return now
}

// spanStart returns since when a pod has had an address that is new, and whether that is soft: it
// may have been later. A watch event shows a start by its arrival. Lists do not, nor do events that
// come late; then the object's own times are the source.
func (st *store) spanStart(o *object, listing bool, now int64) (from int64, soft bool) {
	w := st.feeds[kindPod].watch
	if !listing {
		if w.reportedLate(o.ready) {
			return o.ready, false
		}
		return now, false
	}
	from = o.ready
	if from == 0 {
		from, soft = o.started, true
	}
	if from == 0 {
		from = o.created
	}
	return min(now, max(from, w.notBefore())), soft
}

// openSpan begins a span.
func (st *store) openSpan(p *pod, a netip.Addr, o *object, yieldsFrom, now int64) {
	f := &st.feeds[kindPod]
	from, soft := st.spanStart(o, f.listing, now)
	if p.end < from { // it was over before it was first seen
		from, soft = st.spanStart(o, true, now)
	}
	if p.end < from || p.end != never && !st.keepEnded && p.end+st.retain <= now {
		return
	}
	if !f.listing {
		st.metrics.observeLag(kindPod, now, o.ready)
	}
	s := &span{
		pod: p, addr: a, from: from, to: p.end, yieldsFrom: yieldsFrom,
		possibleFrom: from, certainFrom: from, soft: soft,
	}
	if o.created != 0 {
		s.possibleFrom = min(from, o.created)
	}
	switch { // the time of a condition has whole seconds
	case o.ready == 0:
	case from == o.ready || f.listing:
		s.certainFrom = max(from, min(now, o.ready+int64(time.Second)))
	default:
		s.certainFrom = min(from, max(o.ready+int64(time.Second), from-tolerance))
	}
	s.uncertain = f.watch.startUncertainty(s, f.listing, o.ready, now)
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
// addresses any more.
func (st *store) removePod(p *pod, now, yieldsFrom int64) {
	delete(st.pods, p.key)
	st.stopAwaitingOwner(p)
	for s := p.spans; s != nil; s = s.sibling {
		if s.final {
			continue
		}
		s.to, s.final = min(s.to, now), true
		s.yieldsFrom = max(min(s.yieldsFrom, yieldsFrom), s.possibleFrom)
		st.recordEnd(s)
		if !s.dropped {
			st.publish(s)
		}
	}
}

// renderPod returns what records show of a pod. It notes which owner the pod waits for, if that one
// has not been seen.
func (st *store) renderPod(p *pod, obj *object) *flow.Object {
	o := flow.Object{
		Kind: kindPod.String(), Namespace: st.intern(obj.namespace), Name: obj.name, UID: obj.uid,
		HostIP: st.intern(obj.hostIP), Node: st.intern(obj.node),
		Workload: obj.name, WorkloadKind: kindPod.String(), Labels: st.intern(obj.labels),
		Network: clusterNetwork.name, MAC: obj.mac(),
	}
	zone, ok := st.zones[obj.node]
	if !ok && p.obj != nil && p.obj.Node == obj.node { // the node is gone: keep what it had
		zone = p.obj.Zone
	}
	o.Zone = zone
	ref := chooseOwner(obj.owners)
	if ref == nil || ref.kind == kindNode.String() { // a static pod is its own workload
		st.stopAwaitingOwner(p)
		p.ownerKey, p.ownerKind = "", noKind
		return flow.NewObject(o)
	}
	if len(obj.owners) > 1 && !ref.controller {
		o.Warn = warnSeveralOwners(obj)
	}
	o.Workload, o.WorkloadKind = st.intern(ref.name), st.intern(ref.kind)
	if ref.followed == noKind {
		st.stopAwaitingOwner(p)
		p.ownerKey, p.ownerKind = "", noKind
		return flow.NewObject(o)
	}
	key := ref.key(obj.namespace)
	if p.ownerKind == ref.followed && p.ownerKey == key {
		if p.ownerKnown { // also if the owner has been deleted since
			o.Workload, o.WorkloadKind = p.obj.Workload, p.obj.WorkloadKind
		}
		return flow.NewObject(o)
	}
	st.stopAwaitingOwner(p)
	p.ownerKey, p.ownerKind = st.intern(key), ref.followed
	root, known := st.rootOwners[ref.followed][key]
	if p.ownerKnown = known; known {
		root.applyTo(&o)
	} else {
		st.awaitOwner(p, ref, obj.namespace)
	}
	return flow.NewObject(o)
}

// setObject changes what records show of a pod.
func (st *store) setObject(p *pod, o flow.Object) {
	if o == *p.obj {
		return
	}
	p.obj = flow.NewObject(o)
	for s := p.spans; s != nil; s = s.sibling {
		st.publish(s)
	}
}
