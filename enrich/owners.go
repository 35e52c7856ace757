package enrich

import (
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// top is the owner of a pod's owner. It is empty for an owner that is itself
// the top.
type top struct {
	kind, name string
	mark       uint32
	gone       bool
}

// nameIn puts the top owner into o, if there is one above what it has.
func (t top) nameIn(o *flow.Object) {
	if t.name != "" {
		o.Workload, o.WorkloadKind = t.name, t.kind
	}
}

// orphan is a set of pods that wait for their owner to be seen.
type orphan struct {
	namespace, name string
	tried           bool // it was asked for
	pods            []*pod
}

type goneOwner struct {
	kind kind
	key  string
}

// wait notes that a pod is to be rendered again when its owner is seen.
func (st *state) wait(p *pod, ow *owner, namespace string) {
	if f := &st.feeds[p.kind]; !f.started {
		st.start(p.kind)
	}
	w := st.orphans[p.kind][p.owner]
	if w == nil {
		w = &orphan{namespace: st.intern(namespace), name: st.intern(ow.name)}
		st.orphans[p.kind][p.owner] = w
		st.fetch()
	}
	w.pods = append(w.pods, p)
}

func (st *state) unwait(p *pod) {
	if p.kind == noKind || p.found {
		return
	}
	w := st.orphans[p.kind][p.owner]
	if w == nil {
		return
	}
	if i := slices.Index(w.pods, p); i >= 0 {
		w.pods = slices.Delete(w.pods, i, i+1)
	}
	if len(w.pods) == 0 {
		delete(st.orphans[p.kind], p.owner)
	}
}

// applyOwner notes who owns an owner, and names it in the pods concerned.
func (st *state) applyOwner(it *item) {
	k, key := it.kind, it.key()
	t := top{mark: st.mark}
	if ow := chooseOwner(it.owners); ow != nil {
		t.kind, t.name = st.intern(ow.kind), st.intern(ow.name)
	}
	old, had := st.tops[k][key]
	if !had {
		if f := &st.feeds[k]; !f.listing && f.synced {
			st.metrics.lag(k, time.Now().UnixNano(), it.created)
		}
	}
	st.tops[k][key] = t
	if w := st.orphans[k][key]; w != nil {
		delete(st.orphans[k], key)
		for _, p := range w.pods {
			p.found = true
			st.rename(p, t, it.name)
		}
	}
	if had && (old.kind != t.kind || old.name != t.name) { // rare
		for _, p := range st.pods {
			if p.kind == k && p.owner == key {
				st.rename(p, t, it.name)
			}
		}
	}
}

// rename renders a pod again whose owner has become known.
func (st *state) rename(p *pod, t top, name string) {
	o := *p.obj
	o.Workload, o.WorkloadKind = st.intern(name), p.kind.String()
	t.nameIn(&o)
	st.setObject(p, o)
}

// removeTop forgets an owner, after a while: its pods may be announced later.
func (st *state) removeTop(k kind, key string, now int64) {
	if t, ok := st.tops[k][key]; ok && !t.gone {
		t.gone = true
		st.tops[k][key] = t
		st.gone.push(goneOwner{k, key}, now)
		for st.gone.len() > maxEnded {
			if g := st.gone.pop(); st.tops[g.kind][g.key].gone {
				delete(st.tops[g.kind], g.key)
			}
		}
	}
}
