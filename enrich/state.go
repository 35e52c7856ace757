package enrich

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// maxEndedPerAddress bounds the history of one address.
	maxEndedPerAddress = 256
	// maxEnded bounds the history of all addresses: some 40 MB.
	maxEnded = 1 << 16
	// maxSeen bounds the table of pods' ranges that nobody tells of.
	maxSeen = 1 << 12
	// maxStrings bounds the table of strings that many objects share.
	maxStrings = 1 << 16
)

// state is what the index is made from. All changes pass through it, one at a
// time; look-ups don't.
type state struct {
	index   *index
	retain  int64
	keep    bool // what the source holds is of interest, however long ago it ended
	fixed   bool // the source is a snapshot
	log     logrus.FieldLogger
	metrics *metrics
	start   func(kind) // begins to feed a kind; must not block or call back
	fetch   func()     // an owner is missing; must not block or call back
	onSync  func()     // all kinds that were started are there; called once

	mu       sync.Mutex
	feeds    [numKinds]feed
	synced   bool
	pods     map[string]*pod
	holders  [numKinds]map[string]*holder // services, nodes
	zones    map[string]string            // by node
	rezoned  map[string]bool              // nodes whose pods are to be rendered again
	reranged bool                         // ranges of pods have changed
	seen     map[netip.Prefix]bool        // where pods' addresses are
	tops     [numKinds]map[string]top     // the owners' owners
	orphans  [numKinds]map[string]*orphan // pods whose owner has not been seen yet
	ended    queue[*span]
	gone     queue[goneOwner]
	strings  map[string]string
	timeline timeliner
	blank    entry
	mark     uint32 // of the list that is being applied
}

// feed is how a kind is doing.
type feed struct {
	started bool
	synced  bool
	denied  bool // no rights to it: nobody waits for it
	waiting bool // its absence is being made up for: sync waits
	err     error

	listing bool  // a list is being applied, not a watch event
	asked   int64 // when the list was asked for
	// heard is when the kind was last known to be up to date. A watch that was
	// connected after an interruption tells late what happened since cut.
	heard, cut, connected int64
	// resuming says that it is not certain yet that all that has happened since
	// heard is going to be told: a watch has just been connected.
	resuming bool
	event    int64 // when the newest change was told, or the newest list
	away     int64 // since when it cannot be reached; 0 if it can
}

// hear notes that a kind is up to date, as far as a watch resumes without a gap.
func (st *state) hear(k kind, now int64) {
	f := &st.feeds[k]
	if f.resuming {
		return
	}
	f.heard, f.away = now, 0
	if k == kindPod {
		st.index.told.Store(never)
	}
}

// lose notes that a kind cannot be reached.
func (st *state) lose(k kind) {
	f := &st.feeds[k]
	if f.away == 0 {
		f.away = time.Now().UnixNano()
	}
	if k == kindPod {
		st.index.told.Store(f.sure())
	}
}

// sure is up to when all is known that had happened before. The last news may
// have come late, and clocks differ.
func (f *feed) sure() int64 { return f.heard - tolerance }

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

// holder is a service or node.
type holder struct {
	kind    kind
	obj     *flow.Object
	addrs   []netip.Addr
	cluster int
	ranges  []netip.Prefix // of a node's pods
	mark    uint32
}

// holding is a list of the holders of one address.
type holding struct {
	*holder
	next *holding
}

// top is the owner of a pod's owner. It is empty for an owner that is itself
// the top.
type top struct {
	kind, name string
	mark       uint32
	gone       bool
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

func newState(retain time.Duration, keep, fixed bool, log logrus.FieldLogger, m *metrics) *state {
	st := &state{
		index: newIndex(), retain: int64(retain), keep: keep, fixed: fixed, log: log, metrics: m,
		start: func(kind) {}, fetch: func() {}, onSync: func() {},
		pods: map[string]*pod{}, zones: map[string]string{}, rezoned: map[string]bool{}, seen: map[netip.Prefix]bool{}, strings: map[string]string{},
	}
	for k := range numKinds {
		st.holders[k] = map[string]*holder{}
		st.tops[k] = map[string]top{}
		st.orphans[k] = map[string]*orphan{}
	}
	return st
}

// replace applies a full list of a kind.
func (st *state) replace(k kind, items []*item) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &st.feeds[k]
	f.listing = true
	defer func() { f.listing = false }()
	st.mark++
	now := time.Now().UnixNano()
	if k == kindPod {
		st.index.reserve(st.index.used + len(items)*5/4)
	}
	for _, it := range items {
		st.apply(it, now)
	}
	switch k {
	case kindPod:
		if f.synced && !st.fixed {
			st.miss(f.sure())
		}
		for _, p := range st.pods {
			if p.mark != st.mark {
				st.removePod(p, now, f.sure())
			}
		}
	case kindService, kindNode:
		for key, h := range st.holders[k] {
			if h.mark != st.mark {
				st.removeHolder(k, key)
			}
		}
	default:
		for key, t := range st.tops[k] {
			if t.mark != st.mark {
				st.removeTop(k, key, now)
			}
		}
	}
	st.rezone()
	st.rerange()
	if f.synced && !st.fixed {
		st.metrics.relists[k].Inc()
		if k == kindPod {
			st.index.addBlind(f.sure(), now+tolerance, now-st.retain)
		}
	}
	f.synced, f.denied, f.waiting, f.resuming, f.err = true, false, false, false, nil
	st.hear(k, now)
	if f.asked != 0 { // what it tells may be as old as that
		f.heard = f.asked
		if f.resuming = now-f.asked > int64(steadyAfter); f.resuming && k == kindPod {
			st.index.told.Store(f.sure())
		}
		f.asked = 0
	}
	f.event, f.cut, f.connected = now, f.sure(), now
	st.checkSync()
	if k == kindPod && !st.synced {
		st.fetch() // owners that are missing, or word that none is
	}
}

// update applies a watch event: an object is new or has changed.
func (st *state) update(it *item) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now().UnixNano()
	st.apply(it, now)
	st.rezone()
	st.rerange()
	f := &st.feeds[it.kind]
	if f.resuming && max(it.created, it.ready, it.finished) >= f.connected+int64(steadyAfter) { // clocks differ
		f.resuming = false // it has caught up
	}
	st.hear(it.kind, now)
	f.event = now
}

// remove applies a watch event: an object was deleted.
func (st *state) remove(it *item) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now().UnixNano()
	key := it.key()
	switch it.kind {
	case kindPod:
		if p := st.pods[key]; p != nil {
			st.applyPod(it, now) // the last status may tell when its containers ended
			st.removePod(p, now, never)
		}
	case kindService, kindNode:
		st.removeHolder(it.kind, key)
	default:
		st.removeTop(it.kind, key, now)
	}
	st.rerange()
	st.hear(it.kind, now)
	st.feeds[it.kind].event = now
}

// alive says that a kind is up to date, without a change.
func (st *state) alive(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].resuming = false
	st.hear(k, time.Now().UnixNano())
}

// quiet says that a watch that was connected tells no more for now: it has caught
// up. It returns false if that is not for long, or a list is to come of it, which
// has not been applied.
func (st *state) quiet(k kind) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &st.feeds[k]
	if f.asked != 0 || time.Now().UnixNano()-f.connected < int64(steadyAfter) {
		return false
	}
	f.resuming = false
	if k == kindPod {
		st.index.told.Store(never)
	}
	return true
}

// connected says that a watch resumes where the last one ended, or, if it begins
// anew, that a list is to follow. What has happened since the last one ended is
// yet to be told, or that it has been forgotten and a list must do.
func (st *state) connected(k kind, anew bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &st.feeds[k]
	f.resuming = f.synced
	if !anew {
		f.err, f.away = nil, 0
		f.cut, f.connected = f.sure(), time.Now().UnixNano()
	}
}

// disconnected says that a watch has ended. How long it had been able to tell
// anything is not known.
func (st *state) disconnected(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if k == kindPod {
		st.index.told.Store(st.feeds[k].sure())
	}
}

// ask says that a list is asked for.
func (st *state) ask(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].asked = time.Now().UnixNano()
}

func (st *state) apply(it *item, now int64) {
	switch it.kind {
	case kindPod:
		st.applyPod(it, now)
	case kindService, kindNode:
		st.applyHolder(it)
	default:
		st.applyOwner(it)
	}
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

func (p *pod) owns(a netip.Addr) bool {
	for s := p.spans; s != nil; s = s.sib {
		if s.addr == a && !s.final {
			return true
		}
	}
	return false
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

// noteEnd notes that a span has ended, and keeps history within its bounds.
func (st *state) noteEnd(s *span) {
	if st.keep && !s.final {
		return
	}
	if !s.queued {
		s.queued = true
		st.ended.push(s, time.Now().UnixNano())
	}
	for st.ended.len() > maxEnded {
		st.retire(st.ended.pop())
	}
	e := st.index.find(s.addr)
	if e == nil {
		return
	}
	var oldest *span
	n := 0
	for o := e.spans; o != nil; o = o.next {
		if o.to != never {
			n++
			if oldest == nil || o.to < oldest.to {
				oldest = o
			}
		}
	}
	if n > maxEndedPerAddress {
		st.drop(oldest)
	}
}

// expire removes spans that ended so long ago that no flow of their time is
// expected any more.
func (st *state) expire() {
	st.mu.Lock()
	defer st.mu.Unlock()
	before := time.Now().UnixNano() - st.retain
	for st.ended.before(before) {
		s := st.ended.pop()
		if s.to != never && s.to > before { // it went on, and ended later
			st.ended.push(s, s.to)
			continue
		}
		st.retire(s)
	}
	for st.gone.before(before) {
		g := st.gone.pop()
		if st.tops[g.kind][g.key].gone {
			delete(st.tops[g.kind], g.key)
		}
	}
}

// retire drops a span that was queued, unless it came back to life.
func (st *state) retire(s *span) {
	s.queued = false
	if s.to != never && !s.dropped {
		st.drop(s)
	}
}

// drop forgets a span.
func (st *state) drop(s *span) {
	s.dropped = true
	e := st.entry(s.addr)
	for l := &s.pod.spans; *l != nil; l = &(*l).sib {
		if *l == s {
			*l = s.sib
			break
		}
	}
	for l := &e.spans; *l != nil; l = &(*l).next {
		if *l == s {
			*l = s.next
			break
		}
	}
	st.publishSince(e, max(e.past.forgotten, s.to))
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

// nameIn puts the top owner into o, if there is one above what it has.
func (t top) nameIn(o *flow.Object) {
	if t.name != "" {
		o.Workload, o.WorkloadKind = t.name, t.kind
	}
}

func severalOwners(it *item) string {
	var b strings.Builder
	b.WriteString("Several owners found for pod ")
	b.WriteString(it.name)
	sep := ": "
	for i := range it.owners {
		b.WriteString(sep)
		b.WriteString(it.owners[i].kind)
		b.WriteByte('/')
		b.WriteString(it.owners[i].name)
		sep = ","
	}
	return b.String()
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

func (st *state) setObject(p *pod, o flow.Object) {
	if o == *p.obj {
		return
	}
	p.obj = flow.NewObject(o)
	for s := p.spans; s != nil; s = s.sib {
		st.publish(s.addr)
	}
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

// applyHolder brings a service or node up to date.
func (st *state) applyHolder(it *item) {
	key := it.key()
	o := flow.Object{
		Kind: it.kind.String(), Namespace: st.intern(it.namespace), Name: it.name, UID: it.uid,
		Workload: it.name, WorkloadKind: it.kind.String(), Node: st.intern(it.node), Zone: st.intern(it.zone),
	}
	if it.kind == kindNode {
		if old, ok := st.zones[it.name]; !ok || old != o.Zone {
			st.zones[it.name] = o.Zone
			if old != o.Zone {
				st.rezoned[it.name] = true
			}
		}
	}
	h := &holder{kind: it.kind, obj: flow.NewObject(o), addrs: it.addrs, cluster: it.cluster, ranges: it.ranges, mark: st.mark}
	old := st.holders[it.kind][key]
	if old == nil {
		if f := &st.feeds[it.kind]; !f.listing && f.synced {
			st.metrics.lag(it.kind, time.Now().UnixNano(), it.created)
		}
	} else {
		if *old.obj == *h.obj && old.cluster == h.cluster && slices.Equal(old.addrs, h.addrs) && slices.Equal(old.ranges, h.ranges) {
			old.mark = st.mark
			return
		}
		st.release(old)
	}
	if old == nil && len(h.ranges) > 0 || old != nil && !slices.Equal(old.ranges, h.ranges) {
		st.reranged = true
	}
	st.holders[it.kind][key] = h
	for _, a := range h.addrs {
		e := st.entry(a)
		e.holders = &holding{h, e.holders}
		st.publishEntry(e)
	}
}

func (st *state) removeHolder(k kind, key string) {
	h := st.holders[k][key]
	if h == nil {
		return
	}
	delete(st.holders[k], key)
	st.reranged = st.reranged || len(h.ranges) > 0
	if k == kindNode {
		delete(st.zones, h.obj.Name)
	}
	st.release(h)
}

// release takes the addresses from a holder.
func (st *state) release(h *holder) {
	for _, a := range h.addrs {
		e := st.entry(a)
		for l := &e.holders; *l != nil; l = &(*l).next {
			if (*l).holder == h {
				*l = (*l).next
				break
			}
		}
		st.publishEntry(e)
	}
}

// rezone renders the pods again that run on nodes whose zone has changed.
func (st *state) rezone() {
	if len(st.rezoned) == 0 {
		return
	}
	for _, p := range st.pods {
		if st.rezoned[p.obj.Node] {
			o := *p.obj
			o.Zone = st.zones[o.Node]
			st.setObject(p, o)
		}
	}
	clear(st.rezoned)
}

// rerange tells readers about changed ranges of pods.
func (st *state) rerange() {
	if !st.reranged {
		return
	}
	st.reranged = false
	var all []netip.Prefix
	for _, h := range st.holders[kindNode] {
		all = append(all, h.ranges...)
	}
	if len(all) == 0 { // no right to nodes, or they don't tell
		all = slices.Collect(maps.Keys(st.seen))
	}
	st.index.ranges.Store(newRanges(all))
}

// see notes where a pod's address is: others nearby are likely to be pods', too.
func (st *state) see(a netip.Addr) {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p := netip.PrefixFrom(a, bits).Masked()
	if !st.seen[p] && len(st.seen) < maxSeen {
		st.seen[p], st.reranged = true, true
	}
}

// entry returns the entry of an address to be changed and published at once, a
// scratch one if there is none.
func (st *state) entry(a netip.Addr) *entry {
	if e := st.index.find(a); e != nil {
		return e
	}
	st.blank = entry{addr: a, past: &noPast}
	return &st.blank
}

func (st *state) publish(a netip.Addr) { st.publishEntry(st.entry(a)) }

// publishEntry puts into the index what follows from e's spans and holders.
func (st *state) publishEntry(e *entry) { st.publishSince(e, e.past.forgotten) }

// publishSince also notes until when owners are forgotten.
func (st *state) publishSince(e *entry, forgotten int64) {
	if e.spans == nil && e.holders == nil {
		st.index.remove(e.addr)
		return
	}
	n := newEntry(e.addr, st.timeline.of(e.spans, 0), forgotten)
	if severalNetworks(e.spans) {
		older := n.past.older // out of the reach of hasty readers
		if n.last.end.Object != nil {
			older = append(older, n.last)
		}
		n.past = &past{
			older: older, forgotten: forgotten,
			macs: st.timeline.macs(e.addr, e.spans, forgotten),
		}
		n.last = segment{}
	}
	n.fallback, n.spans, n.holders = fallback(e.addr, e.holders), e.spans, e.holders
	st.index.put(n)
}

// fallback chooses among services and nodes: services before nodes, cluster
// addresses before others, then by name. Who loses is named in a warning.
func fallback(a netip.Addr, list *holding) flow.End {
	var best *holder
	var services, nodes []*flow.Object
	for h := list; h != nil; h = h.next {
		if best == nil || h.beats(best, a) {
			best = h.holder
		}
		if h.kind == kindService {
			services = append(services, h.obj)
		} else {
			nodes = append(nodes, h.obj)
		}
	}
	if best == nil {
		return flow.End{}
	}
	obj := best.obj
	if len(services) > 0 && len(nodes) > 0 { // no rivals, by their order
		slices.SortFunc(nodes, compareObjects)
		obj = warn(obj, "Service and node found for same IP: ", append([]*flow.Object{obj}, nodes...))
	}
	switch {
	case len(services) > 1:
		return flow.End{Object: ambiguous(obj, "Several services found for same IP: ", services), Status: flow.StatusAmbiguous}
	case len(services) == 1:
		return flow.End{Object: obj, Status: flow.StatusService}
	case len(nodes) > 1:
		return flow.End{Object: ambiguous(obj, "Several nodes found for same IP: ", nodes), Status: flow.StatusAmbiguous}
	}
	return flow.End{Object: obj, Status: flow.StatusNode}
}

func (h *holder) beats(o *holder, addr netip.Addr) bool {
	if h.kind != o.kind {
		return h.kind == kindService
	}
	if a, b := slices.Contains(h.addrs[:h.cluster], addr), slices.Contains(o.addrs[:o.cluster], addr); a != b {
		return a
	}
	return compareObjects(h.obj, o.obj) < 0
}

// intern returns a string that equal ones share.
func (st *state) intern(s string) string {
	if s == "" {
		return ""
	}
	if t, ok := st.strings[s]; ok {
		return t
	}
	if len(st.strings) >= maxStrings {
		clear(st.strings)
	}
	s = strings.Clone(s)
	st.strings[s] = s
	return s
}

// queue holds values until some time after they were put in.
type queue[T any] struct {
	list []queued[T]
	head int
}

type queued[T any] struct {
	value T
	at    int64
}

func (q *queue[T]) len() int { return len(q.list) - q.head }

func (q *queue[T]) push(v T, at int64) { q.list = append(q.list, queued[T]{v, at}) }

// before says whether the first value was put in at that time or earlier.
func (q *queue[T]) before(at int64) bool { return q.len() > 0 && q.list[q.head].at <= at }

func (q *queue[T]) pop() T {
	v := q.list[q.head].value
	q.list[q.head] = queued[T]{}
	if q.head++; q.head > len(q.list)/2 {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	return v
}
