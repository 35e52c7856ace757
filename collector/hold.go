package collector

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
)

// What data sets whose template is unknown may take, in bytes.
const (
	defaultHoldExporter = 1 << 20
	defaultHoldTotal    = 64 << 20
	heldOverhead        = 160 // of a set's bookkeeping
)

// heldSet is a data set that waits for its template.
type heldSet struct {
	key      templateKey
	port     uint16 // of the source
	header   header
	received int64 // Unix nanoseconds
	content  []byte
	waits    bool
}

func (h *heldSet) size() int64 { return int64(cap(h.content)) + heldOverhead }

// hold keeps a copy of a data set until its template comes. It counts what is
// dropped instead: the exporter's oldest sets where its share is full, this one
// where all is full of others'. It returns false, and does neither, if another
// worker has learned the template in the meantime.
func (d *Decoder) hold(k templateKey, content []byte, h *header) bool {
	t, e := d.exporters, d.peer.exporter
	if t.holdFor == 0 {
		d.metrics.dropSet(setTimeout)
		return true
	}
	s := &heldSet{k, d.peer.source.Port(), *h, d.received, bytes.Clone(content), false}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	if e.knows(k, s.port) {
		return false
	}
	full := func() bool {
		return e.heldBytes+s.size() > t.holdExporter || t.heldBytes.Load()+s.size() > t.holdTotal
	}
	for full() && e.dropOldest() {
		d.metrics.dropSet(setHoldFull)
	}
	if full() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	if e.held == nil {
		e.held = make(map[templateKey][]*heldSet)
	}
	e.held[k] = append(e.held[k], s)
	e.order = append(e.order, s)
	e.account(s, 1)
	return true
}

// account adds a set to what the exporter holds, or takes it away with n -1. The
// lock is held.
func (e *exporter) account(s *heldSet, n int64) {
	s.waits = n > 0
	e.heldBytes += n * s.size()
	e.numHeld.Add(n)
	e.table.heldBytes.Add(n * s.size())
	e.table.numHeld.Add(n)
}

// dropOldest takes out the set that has waited for longest. It returns false if
// none waits. The lock is held.
func (e *exporter) dropOldest() bool {
	for len(e.order) > 0 {
		s := e.order[0]
		e.order[0] = nil
		e.order = e.order[1:]
		if s.waits {
			// Sets of one template are in order, so it is the first of its own.
			sets := e.held[s.key]
			sets[0] = nil
			e.setHeld(s.key, sets[1:])
			e.account(s, -1)
			return true
		}
	}
	e.order = nil
	return false
}

func (e *exporter) setHeld(k templateKey, sets []*heldSet) {
	if len(sets) == 0 {
		delete(e.held, k)
	} else {
		e.held[k] = sets
	}
}

// take removes the held sets of a template that is known for their ports, and
// returns them in the order in which they came.
func (e *exporter) take(k templateKey) []*heldSet {
	e.mu.Lock()
	defer e.mu.Unlock()
	var taken, kept []*heldSet
	for _, s := range e.held[k] {
		if e.knows(k, s.port) {
			e.account(s, -1)
			taken = append(taken, s)
		} else {
			kept = append(kept, s)
		}
	}
	if len(taken) > 0 {
		e.setHeld(k, kept)
		if int64(len(e.order)) > 2*e.numHeld.Load()+64 {
			e.order = slices.DeleteFunc(e.order, func(s *heldSet) bool { return !s.waits })
		}
	}
	return taken
}

// takeUntil removes the held sets that came before the given time (Unix
// nanoseconds), and returns how many.
func (e *exporter) takeUntil(before int64) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.order) > 0 && (!e.order[0].waits || e.order[0].received <= before) {
		if e.order[0].waits {
			n++
			e.dropOldest()
		} else {
			e.order = e.order[1:]
		}
	}
	return n
}

// takeAll removes all held sets, and returns how many.
func (e *exporter) takeAll() int { return e.takeUntil(math.MaxInt64) }

// release decodes the sets that waited for a template, with the time at which
// they were received.
func (d *Decoder) release(k templateKey) {
	e := d.peer.exporter
	if e.numHeld.Load() == 0 {
		return
	}
	peer, received, count, counted := d.peer, d.received, d.recordCount, d.recordsCounted
	defer func() { d.peer, d.received, d.recordCount, d.recordsCounted = peer, received, count, counted }()
	for _, s := range e.take(k) {
		d.received = s.received
		d.peer = d.peerOf(netip.AddrPortFrom(peer.source.Addr(), s.port))
		if !d.decodeHeld(s) {
			d.metrics.dropSet(setMalformed)
		}
	}
}

// decodeHeld decodes one set. A panic costs that set only.
func (d *Decoder) decodeHeld(s *heldSet) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			d.panicked(r, s.content)
			ok = false
		}
	}()
	b := d.bind(s.key)
	return b != nil && d.decodeRecords(b, s.content, &s.header)
}

// knows tells whether a template is known for a port. The lock is held.
func (e *exporter) knows(k templateKey, port uint16) bool {
	return e.templates[portKey{k, port}] != nil || e.templates[portKey{templateKey: k}] != nil
}

// expireHeld drops the sets that have waited for longer than the hold, as of
// now (Unix nanoseconds), and those of all exporters if now is 0.
func (t *exporters) expireHeld(now int64, m *workerMetrics) {
	if t.numHeld.Load() == 0 {
		return
	}
	reason, before := setTimeout, now-int64(t.holdFor)
	if now == 0 {
		reason, before = setShutdown, math.MaxInt64
	}
	for _, e := range t.all() {
		if e.numHeld.Load() == 0 {
			continue
		}
		for range e.takeUntil(before) {
			m.dropSet(reason)
		}
	}
}
