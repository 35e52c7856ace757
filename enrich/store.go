package enrich

import (
	"errors"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxObservedCIDRs bounds the ranges that are guessed from pods' addresses.
	maxObservedCIDRs = 1 << 12
	// maxInterned bounds the table of strings that many objects share.
	maxInterned = 1 << 16
	// manyPods is from how many pods on a list leaves garbage that is worth a collection.
	manyPods = 2000
)

// store holds the objects of the cluster, and derives the [index] from them. All changes pass
// through it, one at a time; look-ups read the index and take no lock. Its methods are in the files
// named for what they keep: pods.go, owners.go, services.go, podcidrs.go, history.go.
type store struct {
	index     *index
	retain    int64 // how long ended spans are kept, in nanoseconds
	keepEnded bool  // pods that ended are of interest, however long ago that was
	fixed     bool  // the source is a snapshot
	// joinSubnets are those in which OVN-Kubernetes' gateway routers have their addresses.
	joinSubnets []netip.Prefix
	log         logrus.FieldLogger
	metrics     *metrics

	// These are called with the lock held: they must not block or call back.
	startKind   func(kind) // begins to feed a kind
	fetchOwners func()     // an owner has become pending
	onSync      func()     // every kind that was started is there; called once

	mu               sync.Mutex // guards all that follows
	feeds            [numKinds]feed
	synced           bool // onSync was called
	pods             map[string]*pod
	staticOwners     [numKinds]map[string]*staticOwner // by key; of the kinds that isStatic names
	masquerade       masqueradeSet
	endedStatics     queue[*staticSpan]
	networks         networkSet
	zones            map[string]string                  // by node
	nodesWithNewZone map[string]bool                    // nodes whose pods show an old zone
	podCIDRsChanged  bool                               // the index has old ones
	observedCIDRs    map[netip.Prefix]bool              // guessed from pods' addresses
	hosts            map[netip.Addr]*host               // Nodes by what pods say of them
	hostsChanged     bool                               // the index has old ones
	rootOwners       [numKinds]map[string]rootOwner     // by the key of the owner below
	pendingOwners    [numKinds]map[string]*pendingOwner // by key
	endedSpans       queue[*span]
	deletedOwners    queue[deletedOwner]
	chains           chains
	interned         map[string]string
	builder          timelineBuilder
	spareEntry       entry  // see entryToChange
	listMark         uint32 // number of the list that is being applied
}

func newStore(retain time.Duration, keepEnded, fixed bool, log logrus.FieldLogger, m *metrics) *store {
	st := &store{
		retain: int64(retain), keepEnded: keepEnded, fixed: fixed, log: log, metrics: m,
		startKind: func(kind) {}, fetchOwners: func() {}, onSync: func() {},
		pods: map[string]*pod{}, zones: map[string]string{}, nodesWithNewZone: map[string]bool{},
		observedCIDRs: map[netip.Prefix]bool{}, interned: map[string]string{}, networks: newNetworkSet(),
		masquerade: newMasqueradeSet(), hosts: map[netip.Addr]*host{},
	}
	for k := range numKinds {
		st.feeds[k].watch = newWatchState(fixed)
		st.staticOwners[k] = map[string]*staticOwner{}
		st.rootOwners[k] = map[string]rootOwner{}
		st.pendingOwners[k] = map[string]*pendingOwner{}
	}
	st.chains = newChains(nil)
	st.index = newIndex(st.feeds[kindPod].watch)
	return st
}

// feed is what is known of one kind's source.
type feed struct {
	started   bool
	forbidden bool // it may not be listed: the first sync does not wait for it
	fetching  bool // its objects are fetched one by one instead: the first sync waits for that
	listing   bool // a list is being applied, not a watch event
	watch     *watchState
	lastEvent int64 // when the newest event or list arrived, in Unix nanoseconds; 0: none
	err       error // why the kind is not up to date
}

// done reports whether the first sync need not wait for the kind.
func (f *feed) done() bool {
	return !f.started || (f.watch.Listed() || f.forbidden) && !f.fetching
}

// markStarted makes the first sync wait for a kind.
func (st *store) markStarted(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].started = true
}

// replace applies a full list of a kind. It takes the objects out of the list one by one: what the
// store has of an object is smaller, and the two together are the most that the program needs.
func (st *store) replace(k kind, list []*object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &st.feeds[k]
	f.listing = true
	defer func() { f.listing = false }()
	st.listMark++
	now := time.Now().UnixNano()
	if k == kindPod {
		st.index.reserve(st.index.used + len(list)*5/4)
	}
	for i, o := range list {
		list[i] = nil
		st.apply(o, now)
	}
	st.removeUnlisted(k, now)
	st.refreshIndex()
	if f.watch.relisted() {
		st.metrics.relists[k].Inc()
	}
	f.watch.onListApplied(now, now-st.retain)
	f.forbidden, f.fetching, f.err = false, false, nil
	f.lastEvent = now
	st.checkSync()
	if k == kindPod && !st.synced {
		st.fetchOwners() // also if none is pending: the first sync waits for this call
	}
}

// removeUnlisted removes the objects of a kind that the list being applied does not have.
func (st *store) removeUnlisted(k kind, now int64) {
	w := st.feeds[k].watch
	switch {
	case k == kindPod:
		if w.relisted() {
			st.noteMissedEnds(w.watermark())
		}
		for _, p := range st.pods {
			if p.mark != st.listMark {
				st.removePod(p, now, w.watermark(), 0)
			}
		}
	case k.isStatic():
		for key, s := range st.staticOwners[k] {
			if s.mark != st.listMark {
				st.removeStaticOwner(k, key, now)
			}
		}
	case k.definesNetwork():
		for key, d := range st.networks.definitions[k] {
			if d.mark != st.listMark {
				st.removeNetworkDefinition(k, key)
			}
		}
	default:
		for key, root := range st.rootOwners[k] {
			if root.mark != st.listMark {
				st.removeOwner(k, key, now)
			}
		}
	}
}

// update applies a watch event: an object is new or has changed.
func (st *store) update(o *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now().UnixNano()
	st.apply(o, now)
	st.refreshIndex()
	f := &st.feeds[o.kind]
	f.watch.onEvent(o.newest, now)
	f.lastEvent = now
}

// remove applies a watch event: an object was deleted.
func (st *store) remove(o *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now().UnixNano()
	key := o.key()
	switch {
	case o.kind == kindPod:
		if p := st.pods[key]; p != nil {
			st.applyPod(o, now) // the last status may show when its containers ended
			gone := now
			if st.feeds[kindPod].watch.reportedLate(o.deleted) {
				gone = min(now, o.deleted+second)
			}
			st.removePod(p, gone, goneAfter(o, gone), int64(o.grace)*second)
		}
	case o.kind.isStatic():
		st.removeStaticOwner(o.kind, key, now)
	case o.kind.definesNetwork():
		st.removeNetworkDefinition(o.kind, o.networkKey())
	default:
		st.removeOwner(o.kind, key, now)
	}
	st.refreshIndex()
	f := &st.feeds[o.kind]
	f.watch.onEvent(o.newest, now)
	f.lastEvent = now
}

func (st *store) apply(o *object, now int64) {
	switch {
	case o.kind == kindPod:
		st.applyPod(o, now)
	case o.kind.isStatic():
		st.applyStaticOwner(o, now)
	case o.kind.definesNetwork():
		st.applyNetworkDefinition(o)
	default:
		st.applyOwner(o)
	}
}

// The following are what watchers report; see [watchState].

// onListRequested notes that a list of a kind is requested.
func (st *store) onListRequested(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].watch.onListRequested(time.Now().UnixNano())
}

// onConnected notes that a watch resumes where the last one ended.
func (st *store) onConnected(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].err = nil
	st.feeds[k].watch.onConnected(time.Now().UnixNano())
}

// onDisconnected notes that a watch has ended. The argument expired reports whether the server
// cannot resume it.
func (st *store) onDisconnected(k kind, expired bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].watch.onDisconnected(expired)
}

// onTimedOut notes that a watch has ended in time, and is about to be renewed.
func (st *store) onTimedOut(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].watch.onTimedOut()
}

// onRenewalLate notes that a watch that has ended should have been renewed by now.
func (st *store) onRenewalLate(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].watch.onRenewalLate()
}

// onBookmark notes that a kind is up to date, without a change.
func (st *store) onBookmark(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].watch.onBookmark(time.Now().UnixNano())
}

// onIdle notes that a watch has sent nothing for [idleAfter], and reports whether it has caught up.
func (st *store) onIdle(k kind) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.feeds[k].watch.onIdle(time.Now().UnixNano())
}

// markUnreachable notes why a kind is not up to date.
func (st *store) markUnreachable(k kind, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].err = err
	st.feeds[k].watch.markUnreachable(isExpired(err), time.Now().UnixNano())
}

// mustRelist reports whether the server cannot resume the watch of a kind.
func (st *store) mustRelist(k kind) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.feeds[k].watch.MustRelist()
}

// setForbidden notes that a kind may not be listed, or that the server does not have it. The
// argument fetching reports whether its objects are being fetched one by one instead.
func (st *store) setForbidden(k kind, fetching bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].forbidden, st.feeds[k].fetching = true, fetching
	st.checkSync()
}

// checkSync ends the first sync once no kind is missing.
func (st *store) checkSync() {
	if st.synced || !st.feeds[kindPod].started || !st.chains.synced() {
		return
	}
	for k := range numKinds {
		if !st.feeds[k].done() {
			return
		}
	}
	st.synced = true
	defer st.onSync()
	if st.fixed {
		return // a snapshot logs what it holds
	}
	st.log.WithFields(logrus.Fields{
		"pods": len(st.pods), "services": len(st.staticOwners[kindService]), "nodes": len(st.staticOwners[kindNode]),
	}).Info("the cluster is known")
}

// missing returns what the first sync waits for as an error, nil if it is over.
func (st *store) missing() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.synced {
		return nil
	}
	var why []string
	waiting := map[string][]string{} // resources by what is wrong
	for k := range numKinds {
		f := &st.feeds[k]
		if f.done() {
			continue
		}
		s := ""
		if f.err != nil {
			s = ": " + plain(f.err).Error()
		}
		if len(waiting[s]) == 0 {
			why = append(why, s)
		}
		waiting[s] = append(waiting[s], k.resource())
	}
	for i, s := range why {
		why[i] = strings.Join(waiting[s], ", ") + " not synced" + s
	}
	if !st.chains.synced() {
		why = append(why, "owners of -kube.owners not synced")
	}
	if len(why) == 0 {
		return errors.New("not started")
	}
	return errors.New(strings.Join(why, "; "))
}

// refreshIndex brings up to date what depends on more than the object that has changed.
func (st *store) refreshIndex() {
	st.refreshZones()
	st.refreshPodCIDRs()
	st.refreshNetworks()
	st.refreshMasquerade()
	st.refreshHosts()
}

// entryToChange returns the entry of an address, to be changed and then published before the next
// call. If the index has none, it is spareEntry, emptied.
func (st *store) entryToChange(a netip.Addr) *entry {
	if e := st.index.find(a); e != nil {
		return e
	}
	st.spareEntry = entry{addr: a, past: &noPast}
	return &st.spareEntry
}

// timelineToChange is entryToChange for the entry that has the spans of an address in a network.
func (st *store) timelineToChange(a netip.Addr, n *network) *entry {
	e := st.entryToChange(a)
	if n == &clusterNetwork && e.past.networks == nil {
		return e
	}
	if e = (&side{entry: e}).in(n); e != nil && e.network != nil {
		return e
	}
	st.spareEntry = entry{addr: a, past: &noPast, network: n}
	return &st.spareEntry
}

// publish brings the index up to date after a span has changed.
func (st *store) publish(s *span) {
	if s.attached != nil {
		s.attached.show(s.pod.obj)
	}
	st.publishEntry(st.timelineToChange(s.addr, s.network()))
}

// publishEntry replaces an entry of the index by one made of e's spans and static owners.
func (st *store) publishEntry(e *entry) { st.publishForgetting(e, e.past.forgottenUntil) }

// publishForgetting is publishEntry for an address whose pods up to a time are not known any more.
func (st *store) publishForgetting(e *entry, until int64) {
	switch {
	case e.network != nil:
		st.publishInNetwork(e, until)
	case e.past.networks != nil: // a static owner has changed
		n := &entry{addr: e.addr, staticSpans: e.staticSpans, static: buildStatics(e.staticSpans)}
		st.publishNetworks(n, slices.Clone(e.past.networks)) // readers have the old list
	case e.spans == nil && e.staticSpans == nil:
		st.index.remove(e.addr)
	default:
		n := newEntry(e.addr, st.builder.buildTimeline(e.spans), until)
		n.static, n.spans, n.staticSpans = buildStatics(e.staticSpans), e.spans, e.staticSpans
		st.index.put(n)
	}
}

// freeGarbage gives memory back to the system after a list: reading it takes several times what is
// kept of it, and without further work it would be minutes until the next collection.
func (st *store) freeGarbage() {
	st.mu.Lock()
	many := len(st.pods) > manyPods
	st.mu.Unlock()
	if many {
		debug.FreeOSMemory()
	}
}

// intern returns a string that all equal ones share.
func (st *store) intern(s string) string {
	if s == "" {
		return ""
	}
	if t, ok := st.interned[s]; ok {
		return t
	}
	if len(st.interned) >= maxInterned {
		clear(st.interned)
	}
	s = strings.Clone(s)
	st.interned[s] = s
	return s
}
