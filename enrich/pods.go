package enrich

import (
	"net/netip"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// pod is a pod that exists.
type pod struct {
	key   string
	obj   *flow.Object
	owner string // key of the owner that is followed
	spans *span
	end   int64 // when its containers stopped; never while they run
	mark  uint32
	kind  kind // of that owner, noKind without
	found bool // that owner has been seen
}

func (p *pod) owns(a netip.Addr) bool {
	for s := p.spans; s != nil; s = s.sib {
		if s.addr == a && !s.final {
			return true
		}
	}
	return false
}

// applyPod brings a pod and its spans up to date.
func (st *state) applyPod(it *item, now int64) {
	f := &st.feeds[kindPod]
	key := it.key()
	p := st.pods[key]
	fresh := p == nil
	if fresh {
		p = &pod{key: key, kind: noKind, end: never}
		st.pods[key] = p
		if !f.listing {
			st.metrics.lag(kindPod, now, it.created)
		}
	}
	p.mark = st.mark
	obj := st.render(p, it)
	changed := fresh || *obj != *p.obj
	if changed {
		p.obj = obj
	}
	if end := st.end(p, it, now); end != p.end {
		if !f.listing && !fresh && end != never {
			st.metrics.lag(kindPod, now, it.finished)
		}
		p.end = end
	}
	sure := int64(never)
	if it.deleted != 0 {
		sure = it.deleted
	}
	for s := p.spans; s != nil; s = s.sib {
		dirty := changed
		if n := it.network(s.addr); !s.final && slices.Contains(it.addrs, s.addr) && !sameNetwork(n, s.network) {
			s.network, dirty = n, true
		}
		switch {
		case s.final:
		case !it.stopped && !slices.Contains(it.addrs, s.addr):
			s.to, s.sure, s.final, dirty = min(s.to, now), sure, true, true
			st.noteEnd(s)
		case s.to != p.end || s.sure != sure:
			s.to, s.sure, dirty = p.end, sure, true
			if s.to != never {
				st.noteEnd(s)
			}
		}
		if dirty && !s.dropped {
			st.publish(s.addr)
		}
	}
	for _, a := range it.addrs {
		if !p.owns(a) {
			st.open(p, a, it, sure, now)
		}
	}
}

// end says when the pod's containers stopped.
func (st *state) end(p *pod, it *item, now int64) int64 {
	f := &st.feeds[kindPod]
	switch {
	case !it.stopped: // again, perhaps: containers that ended may be restarted
		return never
	case it.finished != 0:
		return min(now, it.finished)
	case p.end != never:
		return p.end
	case f.listing:
		return min(now, max(it.changed, st.floor()))
	}
	return now
}

// floor is a time at which pods that are new in a list were not there yet.
func (st *state) floor() int64 {
	if f := &st.feeds[kindPod]; f.synced && !st.fixed {
		return f.sure()
	}
	return 0
}

// began says since when a pod has had an address that is new, and whether that
// is soft. Watch events tell it by their arrival; but for what happened while
// no watch was connected, and for lists, it is told from the object.
func (st *state) began(it *item, now int64) (from int64, soft bool) {
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
	return min(now, max(from, st.floor())), soft
}

// open begins a span.
func (st *state) open(p *pod, a netip.Addr, it *item, sure, now int64) {
	f := &st.feeds[kindPod]
	from, soft := st.began(it, now)
	if p.end < from { // it was over before it was first seen
		listing := f.listing
		f.listing = true
		from, soft = st.began(it, now)
		f.listing = listing
	}
	if p.end < from || p.end != never && !st.keep && p.end+st.retain <= now {
		return
	}
	if !f.listing {
		st.metrics.lag(kindPod, now, it.ready)
	}
	s := &span{
		pod: p, addr: a, network: it.network(a), from: from, to: p.end, sure: sure, early: from, firm: from, soft: soft,
	}
	if it.created != 0 {
		s.early = min(from, it.created)
	}
	switch { // conditions tell whole seconds
	case it.ready == 0:
	case from == it.ready || f.listing:
		s.firm = max(from, min(now, it.ready+int64(time.Second)))
	default:
		s.firm = min(from, max(it.ready+int64(time.Second), from-tolerance))
	}
	late := !f.listing && from == it.ready && st.index.missed(from, s.firm)
	if late || f.listing && f.synced && !st.fixed {
		s.gaps = &gaps{until: s.firm, since: never}
		if soft {
			s.gaps.until = now
		}
	}
	st.see(a)
	s.sib, p.spans = p.spans, s
	e := st.entry(a)
	if !f.listing && f.resuming && it.ready == 0 { // told late, and nothing says when it was
		since := max(f.sure(), it.created)
		for o := e.spans; o != nil; o = o.next {
			if o.to > since {
				o.miss(since)
			}
		}
	}
	s.next, e.spans = e.spans, s
	st.publishEntry(e)
	if s.to != never {
		st.noteEnd(s)
	}
}

// miss notes of the pods that are not in a list any more, and of those of which
// the last news told that they had gone, that it may have been any time after
// sure, and who came then was perhaps never seen.
func (st *state) miss(sure int64) {
	for _, p := range st.pods {
		for s := p.spans; s != nil; s = s.sib {
			if p.mark != st.mark && !s.final && s.to > sure {
				s.miss(sure)
			}
		}
	}
	for _, q := range st.ended.list[st.ended.head:] {
		if s := q.value; s.final && !s.dropped && s.to > sure && (s.gaps == nil || s.gaps.since == never) {
			s.miss(sure)
			s.sure = max(min(s.sure, sure), s.early)
			st.publish(s.addr)
		}
	}
}

// miss notes that the pod may have lost the address any time after sure.
func (s *span) miss(sure int64) {
	if s.gaps == nil {
		s.gaps = &gaps{until: s.early}
	}
	s.gaps.since = max(sure, s.early)
}

// removePod ends what the pod still owned. From the time sure on, it may not
// have owned it any more.
func (st *state) removePod(p *pod, now, sure int64) {
	delete(st.pods, p.key)
	st.unwait(p)
	for s := p.spans; s != nil; s = s.sib {
		if s.final {
			continue
		}
		s.to, s.final = min(s.to, now), true
		s.sure = max(min(s.sure, sure), s.early)
		st.noteEnd(s)
		if !s.dropped {
			st.publish(s.addr)
		}
	}
}

// render makes the object that records show for a pod.
func (st *state) render(p *pod, it *item) *flow.Object {
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
		st.unwait(p)
		p.owner, p.kind = "", noKind
		return flow.NewObject(o)
	}
	if len(it.owners) > 1 && !ow.controller {
		o.Warn = severalOwners(it)
	}
	o.Workload, o.WorkloadKind = st.intern(ow.name), st.intern(ow.kind)
	if ow.follow == noKind {
		st.unwait(p)
		p.owner, p.kind = "", noKind
		return flow.NewObject(o)
	}
	key := ow.key(it.namespace)
	if p.kind == ow.follow && p.owner == key {
		if p.found { // also when the owner is gone by now
			o.Workload, o.WorkloadKind = p.obj.Workload, p.obj.WorkloadKind
		}
		return flow.NewObject(o)
	}
	st.unwait(p)
	p.owner, p.kind = st.intern(key), ow.follow
	t, found := st.tops[ow.follow][key]
	if p.found = found; found {
		t.nameIn(&o)
	} else {
		st.wait(p, ow, it.namespace)
	}
	return flow.NewObject(o)
}

func (st *state) setObject(p *pod, o flow.Object) {
	if o == *p.obj {
		return
	}
	p.obj = flow.NewObject(o)
	for s := p.spans; s != nil; s = s.sib {
		st.publish(s.addr)
	}
}
