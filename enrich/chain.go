package enrich

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Owners names resources whose objects may be the root owners of pods, however many owners are in
// between: VirtualMachines, Services of Knative. It is immutable; a nil one names none.
type Owners struct {
	listed []schema.GroupResource
}

// ParseOwners reads a list of resources: resource.group,... An error is a sentence that says what
// is allowed.
func ParseOwners(text string) (*Owners, error) {
	o := &Owners{}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		allowed := func(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' }
		gr := schema.ParseGroupResource(part)
		if part == "" || strings.ContainsFunc(part, func(r rune) bool { return !allowed(r) }) || gr.Resource == "" || strings.HasSuffix(part, ".") {
			return nil, fmt.Errorf("%q is no resource with its group; an example is virtualmachines.kubevirt.io", part)
		}
		if !slices.Contains(o.listed, gr) {
			o.listed = append(o.listed, gr)
		}
	}
	return o, nil
}

// lists reports whether a kind is that of a listed resource. Resources are plurals of kinds.
func (o *Owners) lists(group, kind string) bool {
	if o == nil {
		return false
	}
	name := strings.ToLower(kind)
	return slices.ContainsFunc(o.listed, func(gr schema.GroupResource) bool {
		r := gr.Resource
		stem, y := strings.CutSuffix(name, "y")
		return gr.Group == group && (r == name || r == name+"s" || r == name+"es" || y && r == stem+"ies")
	})
}

// follows reports whether objects of a kind may be between a pod and a listed owner: those of the
// listed groups, and Deployments, which many operators make.
func (o *Owners) follows(group, kind string) bool {
	if o == nil {
		return false
	}
	return group == "apps" && kind == "Deployment" ||
		slices.ContainsFunc(o.listed, func(gr schema.GroupResource) bool { return gr.Group == group && group != "" })
}

// maxChain bounds the owners above a pod.
const maxChain = 8

// link is an owner that was read for the sake of its own owner.
type link struct {
	up      *ownerRef // its owner; nil if it has none
	source  *linkSource
	mark    uint32 // of the last list of its source that had it
	deleted bool
}

// linkSource is what lists and watches a followed resource.
type linkSource struct {
	synced bool // it was listed, or cannot be
}

// chains is what is known of the owners above those that are always followed.
type chains struct {
	owners  *Owners
	links   map[string]*link           // by key
	pending map[string]map[string]bool // keys of pods, by that of the owner that they wait for
	sources []*linkSource
	dropped queue[string] // keys of links that were deleted
	start   func(*ownerRef)
}

func newChains(o *Owners) chains {
	return chains{owners: o, links: map[string]*link{}, pending: map[string]map[string]bool{}, start: func(*ownerRef) {}}
}

// synced reports whether all resources that are followed by now are known.
func (c *chains) synced() bool {
	return !slices.ContainsFunc(c.sources, func(s *linkSource) bool { return !s.synced })
}

// followChain makes o show the listed owner of a pod, if it has one, and reports whether it does.
// It notes the owner that the pod waits for, if that one has not been read.
func (st *store) followChain(p *pod, o *flow.Object) bool {
	owners := st.chains.owners
	var found *ownerRef
	ref := p.owner
	for range maxChain {
		if ref == nil {
			break
		}
		listed := owners.lists(ref.group, ref.kind)
		if listed {
			found = ref
		}
		next := st.ownerAbove(p, ref, o.Namespace)
		if listed && next != nil {
			found = next
		}
		ref = next
	}
	if found == nil || o.Workload == found.name && o.WorkloadKind == found.kind {
		return false
	}
	o.Workload, o.WorkloadKind = st.intern(found.name), st.intern(found.kind)
	return true
}

// ownerAbove returns the owner of an owner of a pod; nil if it has none, or if that is not known.
func (st *store) ownerAbove(p *pod, ref *ownerRef, namespace string) *ownerRef {
	key := ref.key(namespace)
	switch {
	case ref.followed != noKind:
		return st.rootOwners[ref.followed][key].up
	case ref.group == "" && ref.kind == kindPod.String():
		if above := st.pods[key]; above != nil && above != p {
			return above.owner
		}
	case st.chains.owners.follows(ref.group, ref.kind):
		if l := st.chains.links[key]; l != nil {
			return l.up
		}
		st.chains.start(ref)
	default:
		return nil
	}
	waiting := st.chains.pending[key]
	if waiting == nil {
		waiting = map[string]bool{}
		st.chains.pending[key] = waiting
	}
	waiting[p.key] = true
	return nil
}

// keepRef returns a copy of a reference whose strings are shared, nil for nil.
func (st *store) keepRef(r *ownerRef) *ownerRef {
	if r == nil {
		return nil
	}
	c := *r
	c.name, c.kind, c.uid = st.intern(r.name), st.intern(r.kind), st.intern(r.uid)
	c.group, c.version = st.intern(r.group), st.intern(r.version)
	return &c
}

// applyLink notes the owner of an owner, and names it in the pods below.
func (st *store) applyLink(s *linkSource, o *object) {
	key := o.key()
	l := &link{source: s, mark: st.listMark}
	l.up = st.keepRef(chooseOwner(o.owners))
	old := st.chains.links[key]
	st.chains.links[key] = l
	if old != nil && !sameRef(old.up, l.up) { // rare: all pods are searched
		for _, p := range st.pods {
			st.renameByChain(p)
		}
	}
	st.linkArrived(key)
}

// linkArrived names the workloads of the pods that waited for an owner.
func (st *store) linkArrived(key string) {
	waiting := st.chains.pending[key]
	delete(st.chains.pending, key)
	for k := range waiting {
		if p := st.pods[k]; p != nil {
			st.renameByChain(p)
		}
	}
}

// forgetWaiting forgets the pods that have gone while they waited for an owner.
func (st *store) forgetWaiting() {
	for key, waiting := range st.chains.pending {
		for k := range waiting {
			if st.pods[k] == nil {
				delete(waiting, k)
			}
		}
		if len(waiting) == 0 {
			delete(st.chains.pending, key)
		}
	}
}

// renameByChain brings up to date what records show of a pod's workload.
func (st *store) renameByChain(p *pod) {
	o := p.obj.Copy()
	if st.followChain(p, &o) {
		st.setObject(p, o)
		st.linkArrived(p.key) // pods may be owned by this one
	}
}

// replaceLinks applies a full list of a source.
func (st *store) replaceLinks(s *linkSource, list []*object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.listMark++
	for _, o := range list {
		st.applyLink(s, o)
	}
	for key, l := range st.chains.links {
		if l.source == s && l.mark != st.listMark {
			st.dropLinkLater(key, l)
		}
	}
	st.linksSynced(s)
}

// updateLink applies a watch event of a source: an object is new or has changed.
func (st *store) updateLink(s *linkSource, o *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.applyLink(s, o)
}

// removeLink applies a watch event: an object was deleted. It is dropped after Config.Retain,
// because pods of it may be announced later than its end.
func (st *store) removeLink(o *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if key := o.key(); st.chains.links[key] != nil {
		st.dropLinkLater(key, st.chains.links[key])
	}
}

func (st *store) dropLinkLater(key string, l *link) {
	if l.deleted {
		return
	}
	l.deleted = true
	st.chains.dropped.push(key, time.Now().UnixNano())
	for st.chains.dropped.len() > maxEnded {
		st.dropLink(st.chains.dropped.pop())
	}
}

// dropLink forgets an owner, unless it has come back.
func (st *store) dropLink(key string) {
	if l := st.chains.links[key]; l != nil && l.deleted {
		delete(st.chains.links, key)
	}
}

// linksSynced ends the wait of the first sync for a source.
func (st *store) linksSynced(s *linkSource) {
	if !s.synced {
		s.synced = true
		st.checkSync()
	}
}

// addLinkSource makes the first sync wait for a source.
func (st *store) addLinkSource(s *linkSource) { st.chains.sources = append(st.chains.sources, s) }

// sameRef reports whether two owners are the same.
func sameRef(a, b *ownerRef) bool { return a == b || a != nil && b != nil && *a == *b }
