package enrich

import (
	"iter"
	"time"
)

const (
	// maxEndedPerAddress bounds the spans of one address that have ended.
	maxEndedPerAddress = 256
	// maxEnded bounds those of all addresses. They take about 40 MB.
	maxEnded = 1 << 16
)

// recordEnd puts a span that has ended into the history, and keeps that within its bounds.
func (st *store) recordEnd(s *span) {
	if st.keepEnded && !s.final {
		return
	}
	if !s.inHistory {
		s.inHistory = true
		st.endedSpans.push(s, time.Now().UnixNano())
	}
	for st.endedSpans.len() > maxEnded {
		st.expireSpan(st.endedSpans.pop())
	}
	e := st.timelineToChange(s.addr, s.network())
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
		st.dropSpan(oldest)
	}
}

// expire drops spans and owners that ended longer ago than Config.Retain.
func (st *store) expire() {
	st.mu.Lock()
	defer st.mu.Unlock()
	before := time.Now().UnixNano() - st.retain
	for st.endedSpans.before(before) {
		s := st.endedSpans.pop()
		if s.to != never && s.to > before { // the pod's containers were restarted, and ended later
			st.endedSpans.push(s, s.to)
			continue
		}
		st.expireSpan(s)
	}
	for st.endedStatics.before(before) {
		st.dropStatic(st.endedStatics.pop())
	}
	st.forgetWaiting()
	for st.chains.dropped.before(before) {
		st.dropLink(st.chains.dropped.pop())
	}
	for st.deletedOwners.before(before) {
		st.dropOwner(st.deletedOwners.pop())
	}
}

// expireSpan drops a span that leaves the history, unless it goes on again.
func (st *store) expireSpan(s *span) {
	s.inHistory = false
	if s.to != never && !s.dropped {
		st.dropSpan(s)
	}
}

// dropSpan removes a span from its pod and from the index.
func (st *store) dropSpan(s *span) {
	s.dropped = true
	e := st.timelineToChange(s.addr, s.network())
	for l := &s.pod.spans; *l != nil; l = &(*l).sibling {
		if *l == s {
			*l = s.sibling
			break
		}
	}
	for l := &e.spans; *l != nil; l = &(*l).next {
		if *l == s {
			*l = s.next
			break
		}
	}
	st.publishForgetting(e, max(e.past.forgottenUntil, s.to))
}

// queue holds values in the order of the times that they were put in with. Its zero value is empty.
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

// before reports whether the first value was put in at that time or earlier.
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

// all yields the values that are in the queue when it is called, first to last.
func (q *queue[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, v := range q.list[q.head:] {
			if !yield(v.value) {
				return
			}
		}
	}
}
