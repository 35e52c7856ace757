package collector

import (
	"bytes"
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
}

func (h *heldSet) size() int64 { return int64(len(h.content)) + heldOverhead }

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
	s := heldSet{k, d.peer.source.Port(), *h, d.received, bytes.Clone(content)}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	if e.knows(k, s.port) {
		return false
	}
	drop := 0
	for drop < len(e.held) && (e.heldBytes+s.size() > t.holdExporter || t.heldBytes.Load()+s.size() > t.holdTotal) {
		e.account(-e.held[drop].size())
		d.metrics.dropSet(setHoldFull)
		drop++
	}
	e.held = slices.Delete(e.held, 0, drop)
	e.numHeld.Store(int64(len(e.held)))
	if e.heldBytes+s.size() > t.holdExporter || t.heldBytes.Load()+s.size() > t.holdTotal {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	e.held = append(e.held, s)
	e.numHeld.Store(int64(len(e.held)))
	e.account(s.size())
	return true
}

// account adds to what the exporter's held sets take. The lock is held.
func (e *exporter) account(n int64) {
	e.heldBytes += n
	e.table.heldBytes.Add(n)
	if n > 0 {
		e.table.numHeld.Add(1)
	} else {
		e.table.numHeld.Add(-1)
	}
}

// take removes the held sets that want says, and returns them in the order in
// which they came.
func (e *exporter) take(want func(*heldSet) bool) []heldSet {
	e.mu.Lock()
	defer e.mu.Unlock()
	var taken []heldSet
	e.held = slices.DeleteFunc(e.held, func(s heldSet) bool {
		if !want(&s) {
			return false
		}
		e.account(-s.size())
		taken = append(taken, s)
		return true
	})
	e.numHeld.Store(int64(len(e.held)))
	return taken
}

// release decodes the sets that waited for a template, with the time at which
// they were received.
func (d *Decoder) release(k templateKey) {
	e := d.peer.exporter
	if e.numHeld.Load() == 0 {
		return
	}
	peer, received, units, known := d.peer, d.received, d.units, d.unitsKnown
	defer func() { d.peer, d.received, d.units, d.unitsKnown = peer, received, units, known }()
	for _, s := range e.take(func(s *heldSet) bool { return s.key == k && e.knows(k, s.port) }) {
		d.received = s.received
		d.peer = d.peerOf(netip.AddrPortFrom(peer.source.Addr(), s.port))
		if !d.decodeHeld(&s) {
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
	return b != nil && d.records(b, s.content, &s.header)
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
	reason := setTimeout
	if now == 0 {
		reason = setShutdown
	}
	for _, e := range t.all() {
		for range e.take(func(s *heldSet) bool { return now == 0 || now-s.received >= int64(t.holdFor) }) {
			m.dropSet(reason)
		}
	}
}
