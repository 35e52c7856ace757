package enrich

import (
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// maxEndedPerAddress bounds the history of one address.
	maxEndedPerAddress = 256
	// maxEnded bounds the history of all addresses: some 40 MB.
	maxEnded = 1 << 16
	// maxSeen bounds the table of pods' ranges that nobody tells of.
	maxObservedCIDRs = 1 << 12
	// maxStrings bounds the table of strings that many objects share.
	maxInterned = 1 << 16
)

// store is what the index is made from. All changes pass through it, one at a
// time; look-ups don't.
type store struct {
	index       *index
	retain      int64
	keepEnded   bool // what the source holds is of interest, however long ago it ended
	fixed       bool // the source is a snapshot
	log         logrus.FieldLogger
	metrics     *metrics
	startKind   func(kind) // begins to feed a kind; must not block or call back
	fetchOwners func()     // an owner is missing; must not block or call back
	onSync      func()     // all kinds that were started are there; called once

	mu              sync.Mutex
	feeds           [numKinds]feed
	synced          bool
	pods            map[string]*pod
	staticOwners    [numKinds]map[string]*staticOwner  // services, nodes
	zones           map[string]string                  // by node
	rezonedNodes    map[string]bool                    // nodes whose pods are to be rendered again
	podCIDRsChanged bool                               // ranges of pods have changed
	observedCIDRs   map[netip.Prefix]bool              // where pods' addresses are
	rootOwners      [numKinds]map[string]rootOwner     // the owners' owners
	pendingOwners   [numKinds]map[string]*pendingOwner // pods whose owner has not been seen yet
	endedSpans      queue[*span]
	deletedOwners   queue[deletedOwner]
	interned        map[string]string
	builder         timelineBuilder
	scratch         entry
	listMark        uint32 // of the list that is being applied
}

func newState(retain time.Duration, keep, fixed bool, log logrus.FieldLogger, m *metrics) *store {
	st := &store{
		index: newIndex(), retain: int64(retain), keepEnded: keep, fixed: fixed, log: log, metrics: m,
		startKind: func(kind) {}, fetchOwners: func() {}, onSync: func() {},
		pods: map[string]*pod{}, zones: map[string]string{}, rezonedNodes: map[string]bool{}, observedCIDRs: map[netip.Prefix]bool{}, interned: map[string]string{},
	}
	for k := range numKinds {
		st.staticOwners[k] = map[string]*staticOwner{}
		st.rootOwners[k] = map[string]rootOwner{}
		st.pendingOwners[k] = map[string]*pendingOwner{}
	}
	return st
}

// feed is how a kind is doing.
type feed struct {
	started   bool
	synced    bool
	forbidden bool // no rights to it: nobody waits for it
	fetching  bool // its absence is being made up for: sync waits
	err       error

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

func (f *feed) done() bool { return !f.started || (f.synced || f.forbidden) && !f.fetching }

// begin marks a kind as one that sync waits for.
func (st *store) markStarted(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].started = true
}

// replace applies a full list of a kind.
func (st *store) replace(k kind, items []*object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &st.feeds[k]
	f.listing = true
	defer func() { f.listing = false }()
	st.listMark++
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
			st.noteMissedEnds(f.sure())
		}
		for _, p := range st.pods {
			if p.mark != st.listMark {
				st.removePod(p, now, f.sure())
			}
		}
	case kindService, kindNode:
		for key, h := range st.staticOwners[k] {
			if h.mark != st.listMark {
				st.removeStaticOwner(k, key)
			}
		}
	default:
		for key, t := range st.rootOwners[k] {
			if t.mark != st.listMark {
				st.removeOwner(k, key, now)
			}
		}
	}
	st.refreshZones()
	st.refreshPodCIDRs()
	if f.synced && !st.fixed {
		st.metrics.relists[k].Inc()
		if k == kindPod {
			st.index.addBlind(f.sure(), now+tolerance, now-st.retain)
		}
	}
	f.synced, f.forbidden, f.fetching, f.resuming, f.err = true, false, false, false, nil
	st.hear(k, now)
	if f.asked != 0 { // what it tells may be as old as that
		f.heard = f.asked
		if f.resuming = now-f.asked > int64(idleAfter); f.resuming && k == kindPod {
			st.index.told.Store(f.sure())
		}
		f.asked = 0
	}
	f.event, f.cut, f.connected = now, f.sure(), now
	st.checkSync()
	if k == kindPod && !st.synced {
		st.fetchOwners() // owners that are missing, or word that none is
	}
}

// update applies a watch event: an object is new or has changed.
func (st *store) update(it *object) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now().UnixNano()
	st.apply(it, now)
	st.refreshZones()
	st.refreshPodCIDRs()
	f := &st.feeds[it.kind]
	if f.resuming && max(it.created, it.ready, it.finished) >= f.connected+int64(idleAfter) { // clocks differ
		f.resuming = false // it has caught up
	}
	st.hear(it.kind, now)
	f.event = now
}

// remove applies a watch event: an object was deleted.
func (st *store) remove(it *object) {
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
		st.removeStaticOwner(it.kind, key)
	default:
		st.removeOwner(it.kind, key, now)
	}
	st.refreshPodCIDRs()
	st.hear(it.kind, now)
	st.feeds[it.kind].event = now
}

func (st *store) apply(it *object, now int64) {
	switch it.kind {
	case kindPod:
		st.applyPod(it, now)
	case kindService, kindNode:
		st.applyStaticOwner(it)
	default:
		st.applyOwner(it)
	}
}

// failed notes why a kind is not up to date.
func (st *store) markUnreachable(k kind, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].err = err
	st.lose(k)
}

// deny notes that there are no rights to a kind. If it is waiting, its absence
// is still being made up for.
func (st *store) setForbidden(k kind, waiting bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].forbidden, st.feeds[k].fetching = true, waiting
	st.checkSync()
}

// checkSync opens the way for records once nothing is missing.
func (st *store) checkSync() {
	if st.synced || !st.feeds[kindPod].started {
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
		return // a snapshot says itself what it holds
	}
	st.log.WithFields(logrus.Fields{
		"pods": len(st.pods), "services": len(st.staticOwners[kindService]), "nodes": len(st.staticOwners[kindNode]),
	}).Info("the cluster is known")
}

// missing says what the first sync waits for, nil if nothing.
func (st *store) missing() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.synced {
		return nil
	}
	var why []string
	for k := range numKinds {
		f := &st.feeds[k]
		if f.done() {
			continue
		}
		s := k.resource() + " not synced"
		if f.err != nil {
			s += ": " + f.err.Error()
		}
		why = append(why, s)
	}
	if len(why) == 0 {
		return errors.New("not started")
	}
	return errors.New(strings.Join(why, "; "))
}

// entry returns the entry of an address to be changed and published at once, a
// scratch one if there is none.
func (st *store) entry(a netip.Addr) *entry {
	if e := st.index.find(a); e != nil {
		return e
	}
	st.scratch = entry{addr: a, past: &noPast}
	return &st.scratch
}

func (st *store) publish(a netip.Addr) { st.publishEntry(st.entry(a)) }

// publishEntry puts into the index what follows from e's spans and holders.
func (st *store) publishEntry(e *entry) { st.publishSince(e, e.past.forgottenUntil) }

// publishSince also notes until when owners are forgotten.
func (st *store) publishSince(e *entry, forgotten int64) {
	if e.spans == nil && e.staticOwners == nil {
		st.index.remove(e.addr)
		return
	}
	n := newEntry(e.addr, st.builder.buildTimeline(e.spans, 0), forgotten)
	if severalNetworks(e.spans) {
		older := n.past.older // out of the reach of hasty readers
		if n.last.end.Object != nil {
			older = append(older, n.last)
		}
		n.past = &past{
			older: older, forgottenUntil: forgotten,
			macs: st.builder.buildMACEntries(e.addr, e.spans, forgotten),
		}
		n.last = segment{}
	}
	n.static, n.spans, n.staticOwners = chooseStaticOwner(e.addr, e.staticOwners), e.spans, e.staticOwners
	st.index.put(n)
}

// intern returns a string that equal ones share.
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
