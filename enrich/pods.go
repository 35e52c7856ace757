package enrich

import (
	"net/netip"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// pod is a pod that exists. Times are in Unix nanoseconds.
type pod struct {
	key        string
	obj        *flow.Object // what records show; immutable
	ownerKey   string       // of the owner whose own owner is to be named
	owner      *ownerRef    // the owner, if chains of owners are followed; else nil
	spans      *span        // the addresses that it has or had
	migration  *migration   // nil for most
	end        ending
	seen       int64  // when its last event or list arrived
	ready      int64  // object.ready of its last sandbox; 0 without one
	crashed    int64  // the latest exit of a container that it was shown to outlive
	deadline   int64  // the latest metadata.deletionTimestamp; never without one
	mark       uint32 // of the last list that had it
	ownerKind  kind   // of that owner; noKind without one
	ownerKnown bool   // that owner has been seen
	addressed  bool   // it has been shown with an address

	_ [16]byte // keeps pods out from among the entries of the index, as in span
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
		p = &pod{key: key, ownerKind: noKind, end: ending{at: never, certainUntil: never}, deadline: never}
		st.pods[key] = p
		if !f.listing {
			st.metrics.observeLag(kindPod, now, o.created)
		}
	}
	p.mark = st.listMark
	st.noteHost(o)
	obj := st.renderPod(p, o)
	changed := fresh || !obj.Equal(p.obj)
	if changed {
		p.obj = flow.NewObject(obj)
	}
	if fresh {
		st.linkArrived(key)
	}
	p.migration = o.migration
	if o.deleted != 0 && (p.deadline == never || o.deleted > p.deadline) {
		p.deadline = o.deleted
	}
	end := st.findEnd(p, o, now)
	if !f.listing && !fresh && end.at != p.end.at && end.at != never {
		st.metrics.observeLag(kindPod, now, o.finished)
	}
	p.end = end
	st.updateSpans(p, o, changed, now)
	for _, a := range o.addrs {
		if !p.owns(a) {
			st.openSpan(p, a, o, now)
		}
	}
	p.seen, p.addressed = now, p.addressed || len(o.addrs) > 0
	if o.ready != 0 {
		p.ready = o.ready
	}
	if !o.stopped {
		p.crashed = max(p.crashed, o.lastExit)
	}
}

// renderPod returns what records show of a pod. It notes which owner the pod waits for, if that one
// has not been seen.
func (st *store) renderPod(p *pod, obj *object) flow.Object {
	o := st.renderOwned(p, obj)
	if st.chains.owners != nil {
		p.owner = st.keepRef(chooseOwner(obj.owners))
		st.followChain(p, &o)
	}
	return o
}

// renderOwned is renderPod with the owners that are always followed.
func (st *store) renderOwned(p *pod, obj *object) flow.Object {
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
		return o
	}
	if len(obj.owners) > 1 && !ref.controller {
		o.Warn = warnSeveralOwners(obj)
	}
	o.Workload, o.WorkloadKind = st.intern(ref.name), st.intern(ref.kind)
	if ref.followed == noKind {
		st.stopAwaitingOwner(p)
		p.ownerKey, p.ownerKind = "", noKind
		return o
	}
	key := ref.key(obj.namespace)
	if p.ownerKind == ref.followed && p.ownerKey == key {
		if p.ownerKnown { // also if the owner has been deleted since
			o.Workload, o.WorkloadKind = p.obj.Workload, p.obj.WorkloadKind
		}
		return o
	}
	st.stopAwaitingOwner(p)
	p.ownerKey, p.ownerKind = st.intern(key), ref.followed
	root, known := st.rootOwners[ref.followed][key]
	if p.ownerKnown = known; known {
		root.applyTo(&o)
	} else {
		st.awaitOwner(p, ref, obj.namespace)
	}
	return o
}

// setObject changes what records show of a pod.
func (st *store) setObject(p *pod, o flow.Object) {
	if o.Equal(p.obj) {
		return
	}
	p.obj = flow.NewObject(o)
	for s := p.spans; s != nil; s = s.sibling {
		st.publish(s)
	}
}
