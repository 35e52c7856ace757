package enrich

import (
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Pods are owned by ReplicaSets, Jobs and ReplicationControllers, and these by the workloads that
// records name: Deployments, CronJobs, DeploymentConfigs and others.

// rootOwner is the owner of a pod's owner. Its name is empty if the pod's owner has none.
type rootOwner struct {
	kind, name string
	mark       uint32    // of the last list that had the pod's owner
	deleted    bool      // the pod's owner was deleted, or nothing reports when it is
	up         *ownerRef // the owner itself, if chains of owners are followed; else nil
}

// applyTo makes o show the owner as its workload, unless it is empty.
func (r rootOwner) applyTo(o *flow.Object) {
	if r.name != "" {
		o.Workload, o.WorkloadKind = r.name, r.kind
	}
}

// pendingOwner is an owner that pods have and that has not been seen.
type pendingOwner struct {
	namespace, name string
	requested       bool // a fetch was tried and found nothing
	pods            []*pod
}

// deletedOwner is the key of an owner that was deleted.
type deletedOwner struct {
	kind kind
	key  string
}

// awaitOwner makes a pod wait for its owner, which names its workload when it is seen.
func (st *store) awaitOwner(p *pod, ref *ownerRef, namespace string) {
	if f := &st.feeds[p.ownerKind]; !f.started {
		st.startKind(p.ownerKind)
	}
	w := st.pendingOwners[p.ownerKind][p.ownerKey]
	if w == nil {
		w = &pendingOwner{namespace: st.intern(namespace), name: st.intern(ref.name)}
		st.pendingOwners[p.ownerKind][p.ownerKey] = w
		st.fetchOwners()
	}
	w.pods = append(w.pods, p)
}

// stopAwaitingOwner undoes awaitOwner, if that was called.
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

// applyOwner notes the owner of an owner, and names it in the pods below.
func (st *store) applyOwner(o *object) {
	k, key := o.kind, o.key()
	root := rootOwner{mark: st.listMark}
	if ref := chooseOwner(o.owners); ref != nil {
		root.kind, root.name = st.intern(ref.kind), st.intern(ref.name)
		if st.chains.owners != nil {
			root.up = st.keepRef(ref)
		}
	}
	old, known := st.rootOwners[k][key]
	if !known {
		if f := &st.feeds[k]; !f.listing && f.watch.Listed() {
			st.metrics.observeLag(k, time.Now().UnixNano(), o.created)
		}
	}
	st.rootOwners[k][key] = root
	if w := st.pendingOwners[k][key]; w != nil {
		delete(st.pendingOwners[k], key)
		for _, p := range w.pods {
			p.ownerKnown = true
			st.setRootOwner(p, root, o.name)
		}
	}
	if known && (old.kind != root.kind || old.name != root.name) { // rare: all pods are searched
		for _, p := range st.pods {
			if p.ownerKind == k && p.ownerKey == key {
				st.setRootOwner(p, root, o.name)
			}
		}
	}
}

// setRootOwner names the workload of a pod whose owner, which has the given name, is known.
func (st *store) setRootOwner(p *pod, root rootOwner, name string) {
	o := p.obj.Copy()
	o.Workload, o.WorkloadKind = st.intern(name), p.ownerKind.String()
	root.applyTo(&o)
	if st.chains.owners != nil {
		st.followChain(p, &o)
	}
	st.setObject(p, o)
}

// removeOwner marks an owner as deleted. It is dropped after Config.Retain, because pods of it may
// be announced later than its end.
func (st *store) removeOwner(k kind, key string, now int64) {
	if root, ok := st.rootOwners[k][key]; ok && !root.deleted {
		root.deleted = true
		st.rootOwners[k][key] = root
		st.deletedOwners.push(deletedOwner{k, key}, now)
		for st.deletedOwners.len() > maxEnded {
			st.dropOwner(st.deletedOwners.pop())
		}
	}
}

// dropOwner forgets an owner, unless it has come back.
func (st *store) dropOwner(d deletedOwner) {
	if st.rootOwners[d.kind][d.key].deleted {
		delete(st.rootOwners[d.kind], d.key)
	}
}
