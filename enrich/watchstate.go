package enrich

import (
	"slices"
	"time"
)

// hear notes that a kind is up to date, as far as a watch resumes without a gap.
func (st *store) hear(k kind, now int64) {
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
func (st *store) lose(k kind) {
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

// alive says that a kind is up to date, without a change.
func (st *store) onBookmark(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].resuming = false
	st.hear(k, time.Now().UnixNano())
}

// quiet says that a watch that was connected tells no more for now: it has caught
// up. It returns false if that is not for long, or a list is to come of it, which
// has not been applied.
func (st *store) onIdle(k kind) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &st.feeds[k]
	if f.asked != 0 || time.Now().UnixNano()-f.connected < int64(idleAfter) {
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
func (st *store) connected(k kind, anew bool) {
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
func (st *store) disconnected(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if k == kindPod {
		st.index.told.Store(st.feeds[k].sure())
	}
}

// ask says that a list is asked for.
func (st *store) ask(k kind) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.feeds[k].asked = time.Now().UnixNano()
}

// period is from <= t <= to, in Unix nanoseconds.
type period struct{ from, to int64 }

// maxBlind is how many periods are remembered.
const maxBlind = 64

// unseen says whether a pod may have had an address during [from, to], or a part
// of it, of which nothing was ever seen.
func (ix *index) unseen(from, to int64) bool {
	return to >= ix.told.Load() || ix.missed(from, to)
}

// missed says whether what happened during [from, to], or a part of it, has not
// been told, and will not be.
func (ix *index) missed(from, to int64) bool {
	if list := ix.blind.Load(); list != nil {
		for _, b := range *list {
			if from <= b.to && to >= b.from {
				return true
			}
		}
	}
	return false
}

// addBlind adds a period, and forgets what is of no interest since before. It is
// for the writer.
func (ix *index) addBlind(from, to, before int64) {
	var list []period
	if old := ix.blind.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = slices.DeleteFunc(list, func(p period) bool { return p.to < before })
	if n := len(list); n > 0 && from <= list[n-1].to {
		list[n-1].to = to
	} else {
		list = append(list, period{from, to})
	}
	if len(list) > maxBlind { // rather too much than too little
		list[1].from = list[0].from
		list = list[1:]
	}
	ix.blind.Store(&list)
}
