package policy

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
)

// role is what a sampling application samples (ovn-nb(5), Sampling_App.type).
type role uint8

const (
	roleNone        role = iota
	roleDrop             // packets that a logical flow drops
	roleNew              // packets of new connections, by ACL.sample_new
	roleEstablished      // packets of established connections, by ACL.sample_est
)

// key is an observation point within a role.
type key uint64

func newKey(r role, point uint32) key { return key(r)<<32 | key(point) }

func (k key) role() role { return role(k >> 32) }

const (
	// forever is the end of a span that has not ended, and -forever the start of one that
	// began before the database was read.
	forever = math.MaxInt64
	// tolerance is how far apart the clocks of nodes and the moment at which a node takes a
	// change over may be, in nanoseconds.
	tolerance = int64(2e9)
	// maxSpans bounds what is kept for one number.
	maxSpans = 8
	// maxGone bounds the ended spans of all numbers.
	maxGone = 1 << 16
	// connectionLife is how long after the end of a span a connection that began within it
	// may still be sampled by its number, although another ACL has the number now.
	connectionLife = int64(20 * 60 * 1e9)
)

// span is the time over which one or more ACLs with one decision had a number.
type span struct {
	shown    *shown
	from, to int64 // Unix nanoseconds
	acls     int32 // that have the number now; 0 if the span has ended
}

// timeline is who had a number, by the start of the spans. Only mixed changes once it is
// published.
type timeline struct {
	spans []span
	mixed atomic.Pointer[mixture]
}

// mixture is what several spans of a timeline have in common.
type mixture struct {
	spans uint16 // a bit for each
	shown *shown
}

const numShards = 256

// numbers finds decisions by number and time. Readers take no lock. One goroutine writes.
type numbers struct {
	shards [numShards]atomic.Pointer[map[key]*timeline]
	fresh  map[uint8]map[key]*timeline // shards that have changed since the last publish
	gone   []ended                     // spans that have ended, oldest first
}

type ended struct {
	key key
	at  int64
}

// shard returns the shard that a key is in. Numbers may be consecutive or hashes.
func (k key) shard() uint8 { return uint8(uint64(k) * 0x9e3779b97f4a7c15 >> 56) }

// current returns the shard of k as it will be published.
func (n *numbers) current(k key) map[key]*timeline {
	i := k.shard()
	if m, ok := n.fresh[i]; ok {
		return m
	}
	m := make(map[key]*timeline)
	if old := n.shards[i].Load(); old != nil {
		maps.Copy(m, *old)
	}
	if n.fresh == nil {
		n.fresh = make(map[uint8]map[key]*timeline)
	}
	n.fresh[i] = m
	return m
}

// publish makes all changes visible to readers.
func (n *numbers) publish() {
	n.forget()
	for i, m := range n.fresh {
		n.shards[i].Store(&m)
	}
	n.fresh = nil
}

// add says that an ACL with a decision has a number from a time on.
func (n *numbers) add(k key, s *shown, from int64) {
	m := n.current(k)
	var spans []span
	if t := m[k]; t != nil {
		spans = slices.Clone(t.spans)
	}
	for i := range spans {
		if o := &spans[i]; o.acls > 0 && o.shown.Decision == s.Decision {
			o.acls++
			m[k] = &timeline{spans: spans}
			return
		}
	}
	for i := range spans {
		// Rows that were made anew, by a server that was, are the same to a user.
		if o := &spans[i]; o.shown.Decision == s.Decision && o.to >= from {
			o.acls, o.to = 1, forever
			m[k] = &timeline{spans: spans}
			return
		}
	}
	spans = append(spans, span{shown: s, from: from, to: forever, acls: 1})
	if len(spans) > maxSpans {
		spans = slices.Delete(spans, 0, 1)
	}
	m[k] = &timeline{spans: spans}
}

// remove says that an ACL with a decision has a number no longer, from a time on.
func (n *numbers) remove(k key, d Decision, at int64) {
	m := n.current(k)
	t := m[k]
	if t == nil {
		return
	}
	spans := slices.Clone(t.spans)
	for i := range spans {
		o := &spans[i]
		if o.acls == 0 || o.shown.Decision != d {
			continue
		}
		if o.acls--; o.acls == 0 {
			o.to = at
			n.gone = append(n.gone, ended{k, at})
		}
		break
	}
	m[k] = &timeline{spans: spans}
}

// forget drops the spans that ended first, if there are too many.
func (n *numbers) forget() {
	for len(n.gone) > maxGone {
		e := n.gone[0]
		n.gone = n.gone[1:]
		m := n.current(e.key)
		t := m[e.key]
		if t == nil {
			continue
		}
		spans := slices.DeleteFunc(slices.Clone(t.spans), func(s span) bool { return s.acls == 0 && s.to <= e.at })
		if len(spans) == 0 {
			delete(m, e.key)
			continue
		}
		m[e.key] = &timeline{spans: spans}
	}
}

// find returns the decision that a number stood for while a flow ran, nil if it is not
// known. Where several come into question, it returns what they have in common.
func (n *numbers) find(k key, from, to int64) *shown {
	m := n.shards[k.shard()].Load()
	if m == nil {
		return nil
	}
	t := (*m)[k]
	if t == nil {
		return nil
	}
	if len(t.spans) == 1 && t.spans[0].from <= to { // it answers also when it has ended
		return t.spans[0].shown
	}
	return t.find(k.role(), from, to)
}

func (t *timeline) find(r role, from, to int64) *shown {
	found := t.overlapping(from, to)
	if found == 0 {
		found = t.overlapping(from-tolerance, to+tolerance)
	}
	if found == 0 {
		found = t.last(from)
	}
	if r == roleEstablished {
		found |= t.overlapping(from-connectionLife, from)
	}
	return t.decision(found)
}

// overlapping returns the spans that overlap a time, a bit for each.
func (t *timeline) overlapping(from, to int64) (found uint16) {
	for i := range t.spans {
		if s := &t.spans[i]; s.from <= to && from <= s.to {
			found |= 1 << i
		}
	}
	return found
}

// last returns the span that ended last before a time.
func (t *timeline) last(before int64) (found uint16) {
	at := int64(math.MinInt64)
	for i := range t.spans {
		if s := &t.spans[i]; s.to < before && s.to >= at {
			found, at = 1<<i, s.to
		}
	}
	return found
}

// decision returns the decision of some spans.
func (t *timeline) decision(found uint16) *shown {
	var first *shown
	several := false
	for i := range t.spans {
		if found&(1<<i) == 0 {
			continue
		}
		s := t.spans[i].shown
		if first == nil {
			first = s
		}
		several = several || s.Decision != first.Decision
	}
	if !several {
		return first
	}
	if known := t.mixed.Load(); known != nil && known.spans == found {
		return known.shown
	}
	var all []*shown
	for i := range t.spans {
		if s := t.spans[i].shown; found&(1<<i) != 0 && !slices.ContainsFunc(all, func(o *shown) bool { return o.Decision == s.Decision }) {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *shown) int { return cmp.Compare(a.String(), b.String()) })
	s := mix(all)
	t.mixed.Store(&mixture{found, s})
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }
