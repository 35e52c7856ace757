package enrich

import (
	"time"
)

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
