package collector

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Budgets of the data sets that wait for their template, in bytes: of one exporter,
// that is, a source port, and of all. One address has at most half of the latter.
const (
	DefaultHoldExporter = 8 << 20
	MaxHold             = 256 << 20
	// heldOverhead is for the struct of a set and its places in exporter.held and
	// heldPort.order.
	heldOverhead = 80
	// heldKeyOverhead is for the first set that waits for a template.
	heldKeyOverhead = 248
	// heldPortOverhead is for the first set of a port.
	heldPortOverhead = 192
)

// heldSet is a data set that waits for its template.
type heldSet struct {
	received int64  // Unix nanoseconds
	packed   string // what is in the set (pack.go)
	header   header
	id       uint16
	port     uint16 // of the source
	// waits is false once the set was removed from exporter.held. It may still be in
	// heldPort.order then.
	waits bool
}

// key returns the key of the template that the set waits for.
func (h *heldSet) key() templateKey { return templateKey{h.header.domain, h.header.version, h.id} }

func (h *heldSet) portKey() portKey { return portKey{h.key(), h.port} }

// size returns what the set counts against the budgets, in bytes.
func (h *heldSet) size() int64 { return allocated(int64(len(h.packed))) + heldOverhead }

// heldTemplate has the sets that wait for one template, oldest first.
type heldTemplate struct {
	sets []*heldSet
	at   int // where its domain is in exporter.heldDomains, if it is of IPFIX
}

// heldPort has the sets of one port, in the order in which they came.
type heldPort struct {
	order []*heldSet // and some that no longer wait
	n     int        // that wait
	bytes int64
}

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
	steps.Add(2*steps.Allocation + 4*steps.Lookup + steps.Lock + len(content)/4)
	d.packed = appendPacked(d.packed[:0], content)
	steps.Copied(len(d.packed))
	s := &heldSet{d.received, string(d.packed), *h, k.id, d.peer.source.Port(), false}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	if s, _ := e.findTemplate(k, s.port); s != nil {
		return false
	}
	size := s.size() + heldKeyOverhead + heldPortOverhead // at most
	full := func() bool {
		p := e.heldPorts[s.port]
		return p != nil && p.bytes+size > t.holdExporter || size > t.holdExporter ||
			e.heldBytes+size > max(t.holdTotal/2, t.holdExporter) || t.heldBytes.Load()+size > t.holdTotal
	}
	for full() && e.removeOldestHeld(s.port) {
		d.metrics.dropSet(setHoldFull)
	}
	if full() {
		d.metrics.dropSet(setHoldFull)
		return true
	}
	e.addHeld(s)
	e.waitToBorrow(s)
	return true
}

// addHeld adds a set to those that wait. e.mu is held.
func (e *exporter) addHeld(s *heldSet) {
	if e.held == nil {
		e.held = make(map[portKey]*heldTemplate)
		e.heldDomains = make(map[portID][]uint32)
		e.heldPorts = make(map[uint16]*heldPort)
	}
	p := e.heldPorts[s.port]
	if p == nil {
		p = new(heldPort)
		e.heldPorts[s.port] = p
		e.chargeHeld(p, heldPortOverhead)
	}
	h := e.held[s.portKey()]
	if h == nil {
		e.chargeHeld(p, heldKeyOverhead)
		h = new(heldTemplate)
		e.held[s.portKey()] = h
		if s.header.version == 10 {
			id := portID{s.port, s.id}
			h.at = len(e.heldDomains[id])
			e.heldDomains[id] = append(e.heldDomains[id], s.header.domain)
		}
	}
	h.sets = append(h.sets, s)
	p.order = append(p.order, s)
	e.countHeld(p, s, 1)
}

// chargeHeld counts what the held sets of a port take. e.mu is held.
func (e *exporter) chargeHeld(p *heldPort, bytes int64) {
	p.bytes += bytes
	e.heldBytes += bytes
	e.all.heldBytes.Add(bytes)
}

// countHeld adds a set to the counts of held sets (n is 1) or takes it out of them
// (n is -1). e.mu is held.
func (e *exporter) countHeld(p *heldPort, s *heldSet, n int64) {
	s.waits = n > 0
	p.n += int(n)
	e.chargeHeld(p, n*s.size())
	e.numHeld.Add(n)
	e.all.numHeld.Add(n)
}

// removeOldestHeld removes the set of a port that has waited for longest. It returns
// false if none waits. e.mu is held.
func (e *exporter) removeOldestHeld(port uint16) bool {
	p := e.heldPorts[port]
	for p != nil && len(p.order) > 0 {
		steps.Add(2 * steps.Lookup)
		s := p.order[0]
		p.order[0] = nil
		p.order = p.order[1:]
		if s.waits {
			// Sets of one template are in order, so it is the first of its own.
			k := s.portKey()
			h := e.held[k]
			h.sets[0] = nil
			h.sets = h.sets[1:]
			e.countHeld(p, s, -1)
			if len(h.sets) == 0 {
				e.forgetHeld(p, k)
			}
			return true
		}
	}
	return false
}

// forgetHeld notes that no set waits for a template of a port any longer. e.mu is held.
func (e *exporter) forgetHeld(p *heldPort, k portKey) {
	at := e.held[k].at
	delete(e.held, k)
	e.chargeHeld(p, -heldKeyOverhead)
	if k.version == 10 {
		id := portID{k.port, k.id}
		domains := e.heldDomains[id]
		last := len(domains) - 1
		if at != last {
			domains[at] = domains[last]
			e.held[portKey{templateKey{domains[last], k.version, k.id}, k.port}].at = at
		}
		if e.heldDomains[id] = domains[:last]; last == 0 {
			delete(e.heldDomains, id)
		}
	}
	if p.n > 0 {
		return
	}
	delete(e.heldPorts, k.port)
	e.chargeHeld(p, -heldPortOverhead)
	if len(e.heldPorts) == 0 { // a map does not shrink
		e.held, e.heldDomains, e.heldPorts = nil, nil, nil
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
	if sn := e.session(port); sn != nil && k.version == 10 {
		if o := sn.openVSwitch.get(k.id); o != nil && o.shape() != nil {
			for _, domain := range slices.Clone(e.heldDomains[portID{port, k.id}]) {
				ready = e.removeHeld(portKey{templateKey{domain, k.version, k.id}, port}, ready)
			}
			slices.SortStableFunc(ready, func(a, b *heldSet) int { return cmp.Compare(a.received, b.received) })
		}
	}
	if p := e.heldPorts[port]; p != nil && len(p.order) > 2*p.n+64 {
		p.order = slices.DeleteFunc(p.order, func(s *heldSet) bool { return !s.waits })
	}
	return ready
}

// removeHeld removes the sets that wait for a template, and appends them to ready.
// e.mu is held.
func (e *exporter) removeHeld(k portKey, ready []*heldSet) []*heldSet {
	h := e.held[k]
	if h == nil {
		return ready
	}
	p := e.heldPorts[k.port]
	for _, s := range h.sets {
		steps.Add(1)
		e.countHeld(p, s, -1)
	}
	e.forgetHeld(p, k)
	return append(ready, h.sets...)
}

// removeHeldUntil removes the held sets that came until the given time (Unix
// nanoseconds), and returns how many. e.mu is held.
func (e *exporter) removeHeldUntil(last int64) (n int) {
	for port, p := range e.heldPorts {
		for len(p.order) > 0 && (!p.order[0].waits || p.order[0].received <= last) {
			if p.order[0].waits {
				n++
				e.removeOldestHeld(port)
			} else {
				p.order = p.order[1:]
			}
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
		if !d.decodeHeldSet(s) {
			d.metrics.dropSet(setMalformed)
		}
	}
}

// decodeHeldSet decodes one set. It returns false if the set is malformed. A panic
// costs that set only.
func (d *Decoder) decodeHeldSet(s *heldSet) (ok bool) {
	d.unpacked = appendUnpacked(d.unpacked[:0], s.packed)
	b := d.unpacked
	d.earn(len(b))
	steps.Waited(len(b) + 4)
	defer func() {
		if r := recover(); r != nil {
			d.panicked(r, b)
			ok = false
		}
	}()
	switch t, found := d.bind(s.key(), len(b)); found {
	case bound:
		return d.decodeRecords(t, b, &s.header)
	case templateUnknown:
		return false
	case tooCostly:
		d.refuse()
	}
	return true
}

// expireHeld drops and counts the sets that have waited for longer than holdFor at
// the given time (Unix nanoseconds). If now is 0, it drops all sets, as the program
// shuts down. One goroutine may call it.
func (t *exporters) expireHeld(now int64, m *workerMetrics) {
	if t.numHeld.Load() == 0 {
		return
	}
	reason, last := setTimeout, now-int64(t.holdFor)
	if now == 0 {
		reason, last = setShutdown, math.MaxInt64
	}
	if now != 0 && rests(now, t.expireNotBefore) {
		return
	}
	looked := 0
	defer func() { t.expireNotBefore = now + int64(looked)*int64(restPerLook) }()
	for _, e := range t.list() {
		if looked++; e.numHeld.Load() == 0 {
			continue
		}
		e.mu.Lock()
		looked += len(e.heldPorts)
		n := e.removeHeldUntil(last)
		e.mu.Unlock()
		for range n {
			m.dropSet(reason)
		}
	}
}
