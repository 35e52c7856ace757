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
	obj        *flow.Object
	ownerKey   string // key of the owner that is followed
	spans      *span
	end        int64 // when its containers stopped; never while they run
	mark       uint32
	ownerKind  kind // of that owner, noKind without
	ownerKnown bool // that owner has been seen
}

func (p *pod) owns(a netip.Addr) bool {
	for s := p.spans; s != nil; s = s.sibling {
		if s.addr == a && !s.final {
			return true
		}
	}
	return false
}

// applyPod brings a pod and its spans up to date.
func (st *store) applyPod(it *object, now int64) {
	f := &st.feeds[kindPod]
	key := it.key()
	p := st.pods[key]
	fresh := p == nil
	if fresh {
		p = &pod{key: key, ownerKind: noKind, end: never}
		st.pods[key] = p
		if !f.listing {
			st.metrics.observeLag(kindPod, now, it.created)
		}
	}
	p.mark = st.listMark
	obj := st.renderPod(p, it)
	changed := fresh || *obj != *p.obj
	if changed {
		p.obj = obj
	}
	if end := st.containersEnd(p, it, now); end != p.end {
		if !f.listing && !fresh && end != never {
			st.metrics.observeLag(kindPod, now, it.finished)
		}
		p.end = end
	}
	sure := int64(never)
	if it.deleted != 0 {
		sure = it.deleted
	}
	for s := p.spans; s != nil; s = s.sibling {
		dirty := changed
		if n := it.network(s.addr); !s.final && slices.Contains(it.addrs, s.addr) && !sameNetwork(n, s.network) {
			s.network, dirty = n, true
		}
		switch {
		case s.final:
		case !it.stopped && !slices.Contains(it.addrs, s.addr):
			s.to, s.yieldsFrom, s.final, dirty = min(s.to, now), sure, true, true
			st.recordEnd(s)
		case s.to != p.end || s.yieldsFrom != sure:
			s.to, s.yieldsFrom, dirty = p.end, sure, true
			if s.to != never {
				st.recordEnd(s)
			}
		}
		if dirty && !s.dropped {
			st.publish(s.addr)
		}
	}
	for _, a := range it.addrs {
		if !p.owns(a) {
			st.openSpan(p, a, it, sure, now)
		}
	}
}

// end says when the pod's containers stopped.
func (st *store) containersEnd(p *pod, it *object, now int64) int64 {
	f := &st.feeds[kindPod]
	switch {
	case !it.stopped: // again, perhaps: containers that ended may be restarted
		return never
	case it.finished != 0:
		return min(now, it.finished)
	case p.end != never:
		return p.end
	case f.listing:
		return min(now, max(it.lastTransition, st.notBefore()))
	}
	return now
}

// floor is a time at which pods that are new in a list were not there yet.
func (st *store) notBefore() int64 {
	if f := &st.feeds[kindPod]; f.synced && !st.fixed {
		return f.sure()
	}
	return 0
}

// began says since when a pod has had an address that is new, and whether that
// is soft. Watch events tell it by their arrival; but for what happened while
// no watch was connected, and for lists, it is told from the object.
func (st *store) spanStart(it *object, now int64) (from int64, soft bool) {
	f := &st.feeds[kindPod]
	if !f.listing {
		if it.ready >= f.cut && it.ready < f.connected {
			return it.ready, false
		}
		return now, false
	}
	from = it.ready
	if from == 0 {
		from, soft = it.started, true
	}
	if from == 0 {
		from = it.created
	}
	return min(now, max(from, st.notBefore())), soft
}

// open begins a span.
func (st *store) openSpan(p *pod, a netip.Addr, it *object, sure, now int64) {
	f := &st.feeds[kindPod]
	from, soft := st.spanStart(it, now)
	if p.end < from { // it was over before it was first seen
		listing := f.listing
		f.listing = true
		from, soft = st.spanStart(it, now)
		f.listing = listing
	}
	if p.end < from || p.end != never && !st.keepEnded && p.end+st.retain <= now {
		return
	}
	if !f.listing {
		st.metrics.observeLag(kindPod, now, it.ready)
	}
	s := &span{
		pod: p, addr: a, network: it.network(a), from: from, to: p.end, yieldsFrom: sure, possibleFrom: from, certainFrom: from, soft: soft,
	}
	if it.created != 0 {
		s.possibleFrom = min(from, it.created)
	}
	switch { // conditions tell whole seconds
	case it.ready == 0:
	case from == it.ready || f.listing:
		s.certainFrom = max(from, min(now, it.ready+int64(time.Second)))
	default:
		s.certainFrom = min(from, max(it.ready+int64(time.Second), from-tolerance))
	}
	late := !f.listing && from == it.ready && st.index.missed(from, s.certainFrom)
	if late || f.listing && f.synced && !st.fixed {
		s.uncertain = &uncertainty{before: s.certainFrom, from: never}
		if soft {
			s.uncertain.before = now
		}
	}
	st.observe(a)
	s.sibling, p.spans = p.spans, s
	e := st.entry(a)
	if !f.listing && f.resuming && it.ready == 0 { // told late, and nothing says when it was
		since := max(f.sure(), it.created)
		for o := e.spans; o != nil; o = o.next {
			if o.to > since {
				o.mayHaveEndedAt(since)
			}
		}
	}
	s.next, e.spans = e.spans, s
	st.publishEntry(e)
	if s.to != never {
		st.recordEnd(s)
	}
}

// miss notes of the pods that are not in a list any more, and of those of which
// the last news told that they had gone, that it may have been any time after
// sure, and who came then was perhaps never seen.
func (st *store) noteMissedEnds(sure int64) {
	for _, p := range st.pods {
		for s := p.spans; s != nil; s = s.sibling {
			if p.mark != st.listMark && !s.final && s.to > sure {
				s.mayHaveEndedAt(sure)
			}
		}
	}
	for _, q := range st.endedSpans.list[st.endedSpans.head:] {
		if s := q.value; s.final && !s.dropped && s.to > sure && (s.uncertain == nil || s.uncertain.from == never) {
			s.mayHaveEndedAt(sure)
			s.yieldsFrom = max(min(s.yieldsFrom, sure), s.possibleFrom)
			st.publish(s.addr)
		}
	}
}

// miss notes that the pod may have lost the address any time after sure.
func (s *span) mayHaveEndedAt(sure int64) {
	if s.uncertain == nil {
		s.uncertain = &uncertainty{before: s.possibleFrom}
	}
	s.uncertain.from = max(sure, s.possibleFrom)
}

// removePod ends what the pod still owned. From the time sure on, it may not
// have owned it any more.
func (st *store) removePod(p *pod, now, sure int64) {
	delete(st.pods, p.key)
	st.stopAwaitingOwner(p)
	for s := p.spans; s != nil; s = s.sibling {
		if s.final {
			continue
		}
		s.to, s.final = min(s.to, now), true
		s.yieldsFrom = max(min(s.yieldsFrom, sure), s.possibleFrom)
		st.recordEnd(s)
		if !s.dropped {
			st.publish(s.addr)
		}
	}
}

// render makes the object that records show for a pod.
func (st *store) renderPod(p *pod, it *object) *flow.Object {
	o := flow.Object{
		Kind: kindPod.String(), Namespace: st.intern(it.namespace), Name: it.name, UID: it.uid,
		HostIP: st.intern(it.hostIP), Node: st.intern(it.node),
		Workload: it.name, WorkloadKind: kindPod.String(), Labels: st.intern(it.labels),
	}
	zone, ok := st.zones[it.node]
	if !ok && p.obj != nil && p.obj.Node == it.node {
		zone = p.obj.Zone
	}
	o.Zone = zone
	ow := chooseOwner(it.owners)
	if ow == nil || ow.kind == kindNode.String() { // a static pod is its own workload
		st.stopAwaitingOwner(p)
		p.ownerKey, p.ownerKind = "", noKind
		return flow.NewObject(o)
	}
	if len(it.owners) > 1 && !ow.controller {
		o.Warn = severalOwners(it)
	}
	o.Workload, o.WorkloadKind = st.intern(ow.name), st.intern(ow.kind)
	if ow.followed == noKind {
		st.stopAwaitingOwner(p)
		p.ownerKey, p.ownerKind = "", noKind
		return flow.NewObject(o)
	}
	key := ow.key(it.namespace)
	if p.ownerKind == ow.followed && p.ownerKey == key {
		if p.ownerKnown { // also when the owner is gone by now
			o.Workload, o.WorkloadKind = p.obj.Workload, p.obj.WorkloadKind
		}
		return flow.NewObject(o)
	}
	st.stopAwaitingOwner(p)
	p.ownerKey, p.ownerKind = st.intern(key), ow.followed
	t, found := st.rootOwners[ow.followed][key]
	if p.ownerKnown = found; found {
		t.applyTo(&o)
	} else {
		st.awaitOwner(p, ow, it.namespace)
	}
	return flow.NewObject(o)
}

func (st *store) setObject(p *pod, o flow.Object) {
	if o == *p.obj {
		return
	}
	p.obj = flow.NewObject(o)
	for s := p.spans; s != nil; s = s.sibling {
		st.publish(s.addr)
	}
}
