package collector

import (
	"bytes"
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Budgets of the data sets that wait for their template, in bytes: of one exporter
// and of all.
const (
	defaultHoldExporter = 1 << 20
	defaultHoldTotal    = 64 << 20
	// heldOverhead is for the struct of a set and its places in exporter.held,
	// exporter.heldDomains and exporter.order.
	heldOverhead = 208
)

// heldSet is a data set that waits for its template.
type heldSet struct {
	key      templateKey
	port     uint16 // of the source
	header   header
	received int64  // Unix nanoseconds
	content  []byte // a copy
	// waits is false once the set was ready out of exporter.held. It may still be
	// in exporter.order then.
	waits bool
}

func (h *heldSet) portKey() portKey { return portKey{h.key, h.port} }

// size returns what the set counts against the budgets, in bytes.
func (h *heldSet) size() int64 { return int64(cap(h.content)) + heldOverhead }

// hold keeps a copy of a data set until its template comes. If there is no room,
// the oldest sets of the same exporter are dropped and counted. If the exporter
// has none, this set is dropped and counted. hold returns false without doing any
// of this if another worker has learned the template in the meantime.
func (d *Decoder) hold(k templateKey, content []byte, h *header) bool {
	t, e := d.exporters, d.peer.exporter
	if t.holdFor == 0 {
		d.metrics.dropSet(setTimeout)
		return true
	}
	steps.Add(2*steps.Allocation + 4*steps.Lookup + steps.Lock)
	steps.Copied(len(content))
	s := &heldSet{k, d.peer.source.Port(), *h, d.received, bytes.Clone(content), false}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	if s, _ := e.findTemplate(k, s.port); s != nil {
		return false
	}
	full := func() bool {
		return e.heldBytes+s.size() > t.holdExporter || t.heldBytes.Load()+s.size() > t.holdTotal
	}
	for full() && e.removeOldestHeld() {
		d.metrics.dropSet(setHoldFull)
	}
	if full() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	if e.held == nil {
		e.held = make(map[portKey][]*heldSet)
		e.heldDomains = make(map[portID][]uint32)
	}
	waiting := e.held[s.portKey()]
	if id := (portID{s.port, k.id}); len(waiting) == 0 && k.version == 10 {
		e.heldDomains[id] = append(e.heldDomains[id], k.domain)
	}
	e.held[s.portKey()] = append(waiting, s)
	e.waitToBorrow(s)
	e.order = append(e.order, s)
	e.countHeld(s, 1)
	return true
}

// countHeld adds a set to the counts of held sets (n is 1) or takes it out of them
// (n is -1). e.mu is held.
func (e *exporter) countHeld(s *heldSet, n int64) {
	s.waits = n > 0
	e.heldBytes += n * s.size()
	e.numHeld.Add(n)
	e.all.heldBytes.Add(n * s.size())
	e.all.numHeld.Add(n)
}

// removeOldestHeld removes the set that has waited for longest. It returns false if
// none waits. e.mu is held.
func (e *exporter) removeOldestHeld() bool {
	for len(e.order) > 0 {
		steps.Add(2 * steps.Lookup)
		s := e.order[0]
		e.order[0] = nil
		e.order = e.order[1:]
		if s.waits {
			// Sets of one template are in order, so it is the first of its own.
			sets := e.held[s.portKey()]
			sets[0] = nil
			e.setHeld(s.portKey(), sets[1:])
			e.countHeld(s, -1)
			return true
		}
	}
	e.order = nil
	return false
}

// setHeld replaces the sets that wait for a template. e.mu is held.
func (e *exporter) setHeld(k portKey, sets []*heldSet) {
	if len(sets) > 0 {
		e.held[k] = sets
		return
	}
	delete(e.held, k)
	id := portID{k.port, k.id}
	domains := e.heldDomains[id]
	i := slices.Index(domains, k.domain)
	steps.Add(max(i, 0))
	if i >= 0 && k.version == 10 {
		domains[i] = domains[len(domains)-1]
		if domains = domains[:len(domains)-1]; len(domains) > 0 {
			e.heldDomains[id] = domains
		} else {
			delete(e.heldDomains, id)
		}
	}
}

// removeDecodable removes the held sets of a port whose template is now known, and
// returns them in the order in which they came. These are sets of the template's
// domain and, if it is one of Open vSwitch's, perhaps those of others.
func (e *exporter) removeDecodable(k templateKey, port uint16) (ready []*heldSet) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, _ := e.findTemplate(k, port); s == nil {
		return nil // evicted in the meantime
	}
	ready = e.removeHeld(portKey{k, port}, ready)
	if k.version == 10 {
		if o := e.openVSwitch.get(portID{port, k.id}); o != nil && o.shape() != nil {
			for _, domain := range slices.Clone(e.heldDomains[portID{port, k.id}]) {
				ready = e.removeHeld(portKey{templateKey{domain, k.version, k.id}, port}, ready)
			}
			slices.SortStableFunc(ready, func(a, b *heldSet) int { return cmp.Compare(a.received, b.received) })
		}
	}
	if len(ready) > 0 && int64(len(e.order)) > 2*e.numHeld.Load()+64 {
		e.order = slices.DeleteFunc(e.order, func(s *heldSet) bool { return !s.waits })
	}
	return ready
}

// removeHeld removes the sets that wait for a template, and appends them to ready.
// e.mu is held.
func (e *exporter) removeHeld(k portKey, ready []*heldSet) []*heldSet {
	sets := e.held[k]
	if len(sets) == 0 {
		return ready
	}
	for _, s := range sets {
		steps.Add(1)
		e.countHeld(s, -1)
	}
	e.setHeld(k, nil)
	return append(ready, sets...)
}

// removeHeldUntil removes the held sets that came until the given time (Unix
// nanoseconds), and returns how many. e.mu is held.
func (e *exporter) removeHeldUntil(last int64) (n int) {
	for len(e.order) > 0 && (!e.order[0].waits || e.order[0].received <= last) {
		if e.order[0].waits {
			n++
			e.removeOldestHeld()
		} else {
			e.order = e.order[1:]
		}
	}
	return n
}

// decodeHeld decodes sets that waited for a template. Their records have the time at
// which the sets were received.
func (d *Decoder) decodeHeld(e *exporter, sets []*heldSet) {
	if len(sets) == 0 {
		return
	}
	peer, received, count, counted := d.peer, d.received, d.recordCount, d.recordsCounted
	defer func() { d.peer, d.received, d.recordCount, d.recordsCounted = peer, received, count, counted }()
	for _, s := range sets {
		d.received = s.received
		d.peer = d.peerOf(netip.AddrPortFrom(e.addr, s.port))
		d.earn(len(s.content))
		if !d.decodeHeldSet(s) {
			d.metrics.dropSet(setMalformed)
		}
	}
}

// decodeHeldSet decodes one set. It returns false if the set is malformed. A panic
// costs that set only.
func (d *Decoder) decodeHeldSet(s *heldSet) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			d.panicked(r, s.content)
			ok = false
		}
	}()
	switch b, found := d.bind(s.key, len(s.content)); found {
	case bound:
		return d.decodeRecords(b, s.content, &s.header)
	case templateUnknown:
		return false
	case tooCostly:
		d.refuse()
	}
	return true
}

// expireHeld drops and counts the sets that have waited for longer than holdFor at
// the given time (Unix nanoseconds). If now is 0, it drops all sets, as the program
// shuts down.
func (t *exporters) expireHeld(now int64, m *workerMetrics) {
	if t.numHeld.Load() == 0 {
		return
	}
	reason, last := setTimeout, now-int64(t.holdFor)
	if now == 0 {
		reason, last = setShutdown, math.MaxInt64
	}
	for _, e := range t.list() {
		if e.numHeld.Load() == 0 {
			continue
		}
		e.mu.Lock()
		n := e.removeHeldUntil(last)
		e.mu.Unlock()
		for range n {
			m.dropSet(reason)
		}
	}
}
