package enrich

import (
	"slices"
	"sync/atomic"
	"time"
)

const (
	// idleAfter is how long a watch that was connected sends nothing before it has caught up. It is
	// also how old a list may be when it is applied and still count as the present.
	idleAfter = time.Second
	// maxGaps bounds the gaps that are remembered of one kind.
	maxGaps = 64
)

// phase is where a watch stands. The transitions are at [watchState].
type phase uint8

const (
	relisting   phase = iota // a list is under way, or none has been requested yet
	synced                   // every change arrives
	resuming                 // a watch is connected and still reports what happened before
	interrupted              // no watch is connected and no list is under way
	renewing                 // a watch has ended in time, and the next one connects at once
)

// watchState is what is known of the watch of one kind: whether every change arrives, and if not,
// up to when it did. Only this type decides that, and no other file reads its fields. Spans,
// segments and entries keep what follows from its answers, in the fields uncertain and provisional.
//
// These are the usual ways:
//
//	               list applied          watch connected
//	--> relisting --------------> synced ---------------> resuming
//	        ^                      |  ^      caught up     |    ^
//	        |                      |  +--------------------+    |
//	        |          watch ended |                       |    |
//	        |                      v      watch ended      |    |
//	        +--------------- interrupted <-----------------+    |
//	         list requested        |                            |
//	                               +----------------------------+
//	                                      watch connected
//
// This table has all of them: the next phase for each phase and event, and what the event does to
// KnownUntil. A dash is an event that changes nothing.
//
//	              list       list applied           watch      caught up  watch ended, or
//	              requested  fresh      late        connected             server unreachable
//
//	relisting     relisting  synced     resuming    resuming   -          interrupted
//	synced        relisting  synced     resuming    resuming   -          interrupted
//	resuming      relisting  synced     resuming    resuming   synced     interrupted
//	interrupted   relisting  synced     resuming    resuming   -          interrupted
//	renewing      relisting  synced     resuming    synced     -          interrupted
//
//	KnownUntil    as before  MaxInt64   watermark   as before  MaxInt64   watermark
//
// Where watching is forbidden, the kind is listed again and again: it goes from synced to relisting
// and back.
//
// A watch is ended by the server every five to ten minutes, and renewed at once. That takes no longer
// than events do, and so it leaves no doubt: from synced the phase is renewing until the next watch
// is connected, or until idleAfter has passed. Then the watch has ended as in the table.
//
// A list is fresh if it is applied within idleAfter of its request, or if it is a snapshot, which
// is not requested. The watermark is two seconds before the last event that arrived in synced, or
// before the request of the last list.
//
// A watch that resumes has caught up when a bookmark comes, when an event comes that is newer than
// the connection, or when nothing comes for idleAfter.
//
// Readers get the answers of [watchState.KnownUntil] and [watchState.Gap] without a lock. All other
// methods need the lock of the [store]. Times are in Unix nanoseconds.
type watchState struct {
	phase   phase
	fixed   bool // the source is a snapshot: no change is missed between two of them
	listed  bool // a list has been applied
	expired bool // the server cannot resume the watch (410 Gone): only a list helps

	freshAt          int64 // when the kind was last known to be up to date
	listRequested    int64 // when the list that is under way was requested; 0 without one
	unreachableSince int64 // 0 while the server answers

	// Changes between the two were made while no watch was connected. Their events arrive late, so
	// their time is read from the objects.
	resumedFrom, resumedAt int64

	knownUntil atomic.Int64
	gaps       atomic.Pointer[[]watchGap] // oldest first; immutable
}

// watchGap is a period in which changes were missed: from <= t <= to, in Unix nanoseconds.
type watchGap struct{ from, to int64 }

func newWatchState(fixed bool) *watchState {
	w := &watchState{fixed: fixed}
	w.knownUntil.Store(never)
	return w
}

// KnownUntil returns the time up to which every change has been seen, in Unix nanoseconds;
// math.MaxInt64 while the watch is healthy. It is for any goroutine, and neither locks nor
// allocates.
func (w *watchState) KnownUntil() int64 { return w.knownUntil.Load() }

// Gap reports whether objects may have come and gone unseen at any time of [from, to]: in a gap
// that a list has closed, or after what is known by now. It is for any goroutine, and neither locks
// nor allocates.
func (w *watchState) Gap(from, to int64) bool {
	return to >= w.KnownUntil() || w.mayHaveMissed(from, to)
}

// mayHaveMissed reports whether changes at any time of [from, to] were missed for good: a list has
// closed the gap, and no event will report them any more.
func (w *watchState) mayHaveMissed(from, to int64) bool {
	if list := w.gaps.Load(); list != nil {
		for _, g := range *list {
			if from <= g.to && to >= g.from {
				return true
			}
		}
	}
	return false
}

// Listed reports whether a list of the kind has been applied.
func (w *watchState) Listed() bool { return w.listed }

// MustRelist reports whether the server cannot resume the watch (410 Gone).
func (w *watchState) MustRelist() bool { return w.expired }

// UnreachableSince returns since when requests to list or to watch have failed, in Unix
// nanoseconds; 0 if they do not.
func (w *watchState) UnreachableSince() int64 { return w.unreachableSince }

// watermark is the time up to which every change has been seen even if the watch breaks now. The
// last event may have come late, and clocks differ.
func (w *watchState) watermark() int64 { return w.freshAt - tolerance }

// relisted reports whether a list that is applied now closes a gap: it is not the first one, and
// not a snapshot.
func (w *watchState) relisted() bool { return w.listed && !w.fixed }

// notBefore is a time at which an object that is new in a list did not exist yet; 0 if nothing is
// known of the time before the list.
func (w *watchState) notBefore() int64 {
	if w.relisted() {
		return w.watermark()
	}
	return 0
}

// reportedLate reports whether the event of a change at t came late, because no watch was connected
// then.
func (w *watchState) reportedLate(t int64) bool { return t >= w.resumedFrom && t < w.resumedAt }

// lateSince reports whether the events that arrive may be late, and since when what they report may
// have happened.
func (w *watchState) lateSince() (since int64, late bool) {
	return w.resumedFrom, w.phase == resuming
}

// onListRequested begins a list. The list shows the cluster as it is now, however long it takes.
func (w *watchState) onListRequested(now int64) { w.phase, w.listRequested = relisting, now }

// onListApplied ends a list. Changes since the watermark that the list does not show were missed:
// that time becomes a gap. Gaps that ended before expiry are forgotten.
func (w *watchState) onListApplied(now, expiry int64) {
	if w.relisted() {
		w.addGap(w.watermark(), now+tolerance, expiry)
	}
	w.phase, w.listed, w.expired = synced, true, false
	w.freshAt, w.unreachableSince = now, 0
	known := int64(never)
	if w.listRequested != 0 {
		w.freshAt = w.listRequested
		if now-w.listRequested > int64(idleAfter) { // the watch reports first what came meanwhile
			w.phase, known = resuming, w.watermark()
		}
		w.listRequested = 0
	}
	w.resumedFrom, w.resumedAt = w.watermark(), now
	w.knownUntil.Store(known)
}

// onConnected begins a watch where the last one ended. What happened in between is reported first.
func (w *watchState) onConnected(now int64) {
	if w.phase == renewing {
		w.phase, w.freshAt, w.unreachableSince = synced, now, 0
		return
	}
	w.phase, w.expired, w.unreachableSince = resuming, false, 0
	w.resumedFrom, w.resumedAt = w.watermark(), now
}

// onEvent notes a watch event. The argument newest is the latest time that its object holds, by the
// clock of the cluster; 0 if it holds none.
func (w *watchState) onEvent(newest, now int64) {
	if w.phase == resuming && newest >= w.resumedAt+int64(idleAfter) { // clocks differ
		w.phase = synced
	}
	w.markFresh(now)
}

// onBookmark notes that the server has sent every change up to now.
func (w *watchState) onBookmark(now int64) {
	if w.phase == resuming {
		w.phase = synced
	}
	w.markFresh(now)
}

// markFresh notes that the kind is up to date. An event of a watch that has ended by now does not
// show that, and one of a watch that resumes may be old.
func (w *watchState) markFresh(now int64) {
	if w.phase != synced {
		return
	}
	w.freshAt, w.unreachableSince = now, 0
	w.knownUntil.Store(never)
}

// onIdle notes that the watch has sent nothing for idleAfter, and reports whether it has caught up.
// It has not caught up if it connected less than idleAfter ago, or if its list has not been applied
// yet.
func (w *watchState) onIdle(now int64) bool {
	if w.phase == resuming && now-w.resumedAt >= int64(idleAfter) {
		w.phase = synced
		w.knownUntil.Store(never)
	}
	return w.phase == synced
}

// onDisconnected ends a watch. How long it had been broken is not known. The argument reports
// whether the server cannot resume it.
func (w *watchState) onDisconnected(expired bool) {
	w.phase, w.expired = interrupted, expired
	w.knownUntil.Store(w.watermark())
}

// onTimedOut ends a watch that lasted as long as was agreed, or one that was at work until now.
func (w *watchState) onTimedOut() {
	if w.phase == synced || w.phase == renewing {
		w.phase = renewing
		return
	}
	w.onDisconnected(false)
}

// onRenewalLate ends a renewal that takes too long.
func (w *watchState) onRenewalLate() {
	if w.phase == renewing {
		w.onDisconnected(false)
	}
}

// markUnreachable notes that a request to list or to watch has failed. The argument reports whether
// the server cannot resume the watch.
func (w *watchState) markUnreachable(expired bool, now int64) {
	w.onDisconnected(w.expired || expired)
	if w.unreachableSince == 0 {
		w.unreachableSince = now
	}
}

// addGap adds a gap, and forgets those that ended before expiry. If there are too many, the oldest
// two become one: rather too long than too short.
func (w *watchState) addGap(from, to, expiry int64) {
	var list []watchGap
	if old := w.gaps.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = slices.DeleteFunc(list, func(g watchGap) bool { return g.to < expiry })
	if n := len(list); n > 0 && from <= list[n-1].to {
		list[n-1].to = to
	} else {
		list = append(list, watchGap{from, to})
	}
	if len(list) > maxGaps {
		list[1].from = list[0].from
		list = list[1:]
	}
	w.gaps.Store(&list)
}

// mayHaveMissedStart reports whether a pod that an event shows for the first time may have started
// at any time from since on. The event came late, and ready, which would show the start, is 0. The
// start is not before the watermark, nor before the pod was created.
func (w *watchState) mayHaveMissedStart(ready, created int64) (since int64, missed bool) {
	if w.phase != resuming || ready != 0 {
		return 0, false
	}
	return max(w.watermark(), created), true
}

// uncertainty is what a gap leaves open of one span. It is derived from the watch's state when the
// span begins or ends, because gaps are forgotten before spans are.
type uncertainty struct {
	before int64 // before this time, another pod may have had the address, unseen
	from   int64 // from this time on, the pod may not have had the address any more; else never
}

// at reports whether another pod may have had the address at t, and have come and gone unseen.
func (u *uncertainty) at(t int64) bool { return u != nil && (t < u.before || t >= u.from) }

// startUncertainty returns what is uncertain of the start of a span, nil if nothing is: the span is
// new in a list that closes a gap, or its event reports a start in a gap that was closed before.
func (w *watchState) startUncertainty(s *span, listing bool, now int64) *uncertainty {
	late := !listing && s.from < s.certainFrom && w.mayHaveMissed(s.from, s.certainFrom)
	if !late && !(listing && w.relisted()) {
		return nil
	}
	u := &uncertainty{before: s.certainFrom, from: never}
	if s.soft {
		u.before = now
	}
	return u
}
