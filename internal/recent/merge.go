package recent

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// cursor is where a reader is among the segments of one worker.
type cursor struct {
	list []*glance // that are still to be read, in the order in which they are
	from int       // where to begin in the first one, in bytes
	now  glance    // of the page

	page    *page   // nil if there are no further records
	offsets []int32 // of the records in the page that are still to be read
	time    uint64  // of receipt, of the first of them, as the merger orders them
}

// merger reads records of all workers, by the time of receipt. Those of one worker that have the
// same time stay in the order in which they came.
type merger struct {
	s            *Store
	list         []glance
	since, until uint64
	arrived      bool   // all records of a worker stay in this order
	newest       bool   // the newest records come first, all in the opposite order
	flip         uint64 // what times are read with, so that the least is the next: all bits, if newest
	cursors      []*cursor
	late         lates
	outside      int // records that were left out, as they are not of the interval
	most         int // records of each segment that are wanted at most, the first ones; 0 for all
	released     bool
	record       flow.Record
	unpacker     unpacker
}

// pagesKept is how many pages those who wait may keep, all together: some 4 MiB. To copy what is in a
// page once more takes as long as to make some of its flows.
const pagesKept = 32

// bounds returns an interval as times of records.
func (q *Query) bounds() (since, until uint64) {
	until = math.MaxUint64
	if !q.Since.IsZero() {
		since = uint64(max(q.Since.UnixNano(), 0))
	}
	if !q.Until.IsZero() {
		until = uint64(max(q.Until.UnixNano(), 0))
	}
	return since, until
}

// newMerger returns a merger of what the segments had at a glance. arrived is whether the records
// of a worker stay in the order in which they came.
func (s *Store) newMerger(list []glance, q *Query, arrived bool) *merger {
	m := &merger{s: s, list: list, arrived: arrived, newest: q.Newest}
	m.since, m.until = q.bounds()
	if m.newest {
		m.flip = math.MaxUint64
	}
	of := make(map[int]*cursor)
	for i := range list {
		if m.newest {
			i = len(list) - 1 - i
		}
		l := &list[i]
		if l.outside(m.since, m.until) {
			m.outside += l.unread
			continue
		}
		c := of[l.worker]
		if c == nil {
			c = new(cursor)
			of[l.worker] = c
			m.cursors = append(m.cursors, c)
		}
		c.list = append(c.list, l)
		if l.late && !arrived {
			m.late.in = append(m.late.in, i)
		}
	}
	// The same order both ways: of records of the same time, the first worker's are the older ones.
	slices.SortFunc(m.cursors, func(a, b *cursor) int {
		return cmp.Compare(uint64(a.list[0].worker)^m.flip, uint64(b.list[0].worker)^m.flip)
	})
	m.beginLate()
	return m
}

// free gives the pages back.
func (m *merger) free() {
	for _, c := range m.cursors {
		m.freePage(c)
	}
}

func (m *merger) freePage(c *cursor) {
	if c.page != nil {
		c.page.free()
		c.page = nil
		m.s.pages.Add(-1)
	}
}

func (m *merger) needPage(c *cursor) {
	if c.page == nil {
		c.page = pages.Get().(*page)
		m.s.pages.Add(1)
	}
}

// release gives the pages back while somebody waits for long, if many are in use.
func (m *merger) release() {
	if m.s.pages.Load() > pagesKept {
		m.free()
		m.late.free()
		m.released = true
	}
}

// restore copies again what is still to be read. What has left since is lost.
func (m *merger) restore() {
	m.released = false
	for _, c := range m.cursors {
		if len(c.offsets) > 0 {
			m.needPage(c)
			if !c.now.copyTo(c.page, int(c.offsets[0])) {
				c.offsets = c.offsets[:0]
			}
		}
		m.load(c)
	}
}

// load finds the next record of a cursor.
func (m *merger) load(c *cursor) {
	for len(c.offsets) == 0 {
		if len(c.list) == 0 {
			m.freePage(c)
			return
		}
		m.needPage(c)
		l := *c.list[0]
		c.list = c.list[1:]
		from := c.from
		c.from, l.most = 0, m.most
		if !l.copyTo(c.page, from) {
			continue
		}
		c.now, c.now.most = l, 0
		c.offsets = c.offsets[:0]
		newest := l.before
		for at := from; at < l.used; at += c.page.lengthAt(at) {
			t := c.page.receivedAt(at)
			isLate := t < newest
			newest = max(newest, t)
			switch {
			case t < m.since || t > m.until:
				m.outside++
			case !isLate || m.arrived:
				c.offsets = append(c.offsets, int32(at))
			}
		}
	}
	m.time(c)
}

// time notes when the next record of a cursor was received.
func (m *merger) time(c *cursor) {
	c.time = c.page.receivedAt(int(c.offsets[m.at(c)])) ^ m.flip
}

// at returns the index of the next record in the offsets of a cursor.
func (m *merger) at(c *cursor) int {
	if m.newest {
		return len(c.offsets) - 1
	}
	return 0
}

// each calls f with all records, until it returns false. Records are valid until f
// returns.
func (m *merger) each(ctx context.Context, f func(*flow.Record) bool) error {
	for _, c := range m.cursors {
		m.load(c)
	}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		var next *cursor
		for _, c := range m.cursors {
			if c.page != nil && (next == nil || c.time < next.time) {
				next = c
			}
		}
		switch {
		case m.lateFirst(next):
			if !m.unpackLate() {
				continue
			}
			next = nil
		case next == nil:
			return nil
		default:
			i := m.at(next)
			m.unpacker.unpack(&next.page.view, &m.record, int(next.offsets[i]), m.s.mapped.n)
			if m.newest {
				next.offsets = next.offsets[:i]
			} else {
				next.offsets = next.offsets[1:]
			}
		}
		if !f(&m.record) {
			return nil
		}
		switch {
		case m.released:
			m.restore()
		case next == nil: // the record was late
		case len(next.offsets) > 0:
			m.time(next)
		default:
			m.load(next)
		}
	}
}

// Each calls f with the records that were received in the interval of q and match it, in the
// order of the times of receipt, until f returns false. Those of a worker that have the same time
// stay in the order in which they came. A record is valid until f returns. Each fails only if ctx
// ends. What leaves while f waits is left out.
func (s *Store) Each(ctx context.Context, q Query, f func(*flow.Record) bool) error {
	m := s.newMerger(s.glances(), &q, false)
	defer m.free()
	if q.Waits != nil {
		q.Waits(m.release)
	}
	return m.each(ctx, func(r *flow.Record) bool {
		if q.Match != nil && !q.Match(r) {
			return true
		}
		return f(r)
	})
}
