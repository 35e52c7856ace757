package enrich

import (
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// top is the owner of a pod's owner. It is empty for an owner that is itself
// the top.
type rootOwner struct {
	kind, name string
	mark       uint32
	deleted    bool
}

// nameIn puts the top owner into o, if there is one above what it has.
func (t rootOwner) applyTo(o *flow.Object) {
	if t.name != "" {
		o.Workload, o.WorkloadKind = t.name, t.kind
	}
}

// orphan is a set of pods that wait for their owner to be seen.
type pendingOwner struct {
	namespace, name string
	requested       bool // it was asked for
	pods            []*pod
}

type deletedOwner struct {
	kind kind
	key  string
}

// wait notes that a pod is to be rendered again when its owner is seen.
func (st *store) awaitOwner(p *pod, ow *ownerRef, namespace string) {
	if f := &st.feeds[p.ownerKind]; !f.started {
		st.startKind(p.ownerKind)
	}
	w := st.pendingOwners[p.ownerKind][p.ownerKey]
	if w == nil {
		w = &pendingOwner{namespace: st.intern(namespace), name: st.intern(ow.name)}
		st.pendingOwners[p.ownerKind][p.ownerKey] = w
		st.fetchOwners()
	}
	w.pods = append(w.pods, p)
}

func (st *store) stopAwaitingOwner(p *pod) {
	if p.ownerKind == noKind || p.ownerKnown {
		return
	}
	w := st.pendingOwners[p.ownerKind][p.ownerKey]
	if w == nil {
		return
	}
	if i := slices.Index(w.pods, p); i >= 0 {
		w.pods = slices.Delete(w.pods, i, i+1)
	}
	if len(w.pods) == 0 {
		delete(st.pendingOwners[p.ownerKind], p.ownerKey)
	}
}

// applyOwner notes who owns an owner, and names it in the pods concerned.
func (st *store) applyOwner(it *object) {
	k, key := it.kind, it.key()
	t := rootOwner{mark: st.listMark}
	if ow := chooseOwner(it.owners); ow != nil {
		t.kind, t.name = st.intern(ow.kind), st.intern(ow.name)
	}
	old, had := st.rootOwners[k][key]
	if !had {
		if f := &st.feeds[k]; !f.listing && f.synced {
			st.metrics.observeLag(k, time.Now().UnixNano(), it.created)
		}
	}
	st.rootOwners[k][key] = t
	if w := st.pendingOwners[k][key]; w != nil {
		delete(st.pendingOwners[k], key)
		for _, p := range w.pods {
			p.ownerKnown = true
			st.setRootOwner(p, t, it.name)
		}
	}
	if had && (old.kind != t.kind || old.name != t.name) { // rare
		for _, p := range st.pods {
			if p.ownerKind == k && p.ownerKey == key {
				st.setRootOwner(p, t, it.name)
			}
		}
	}
}

// rename renders a pod again whose owner has become known.
func (st *store) setRootOwner(p *pod, t rootOwner, name string) {
	o := *p.obj
	o.Workload, o.WorkloadKind = st.intern(name), p.ownerKind.String()
	t.applyTo(&o)
	st.setObject(p, o)
}

// removeTop forgets an owner, after a while: its pods may be announced later.
func (st *store) removeOwner(k kind, key string, now int64) {
	if t, ok := st.rootOwners[k][key]; ok && !t.deleted {
		t.deleted = true
		st.rootOwners[k][key] = t
		st.deletedOwners.push(deletedOwner{k, key}, now)
		for st.deletedOwners.len() > maxEnded {
			if g := st.deletedOwners.pop(); st.rootOwners[g.kind][g.key].deleted {
				delete(st.rootOwners[g.kind], g.key)
			}
		}
	}
}
