package collector

import "github.com/netobserv/goflow2-kube-enricher/internal/steps"

// maxSelectors bounds the selectors of a selection sequence.
const maxSelectors = 4

// selectorList are the ids of the selectors that a selection sequence is made of.
type selectorList struct {
	ids [maxSelectors]uint64
	n   uint8
	// unsaved reports whether it differs from what the templates file has.
	unsaved bool
}

// rateQuery asks for the sampling rate of a record.
type rateQuery struct {
	selector uint64 // IE 302 or 48
	sequence uint64 // IE 301
	domain   uint32
	// iface is the interface that decides, and physical the one that it is part of, if
	// the record names both; 0 for none.
	iface, physical uint32

	version uint16
	port    uint16
	egress  bool // whether iface is where the packets go out
}

// rateStep is a step in the search for a sampling rate. The first step decides at
// which one was announced.
type rateStep uint8

const (
	rateOfInterface rateStep = iota
	rateOfSelector
	rateOfDomain   // its own, or that of all of its selectors and interfaces, if they agree
	rateOfExporter // if all that was announced agrees
)

// setRate remembers a sampling rate, one in how many packets, as it was announced at the
// given time (Unix seconds). 0 is a rate, too: packets are not sampled.
func (e *exporter) setRate(k optionKey, rate uint64, now int64) {
	e.mu.Lock()
	e.putRate(k, rate, now)
	e.mu.Unlock()
	e.all.makeRoom(e)
}

// putRate does the same. e.mu is held.
func (e *exporter) putRate(k optionKey, rate uint64, now int64) {
	e.setValue(&e.rates, k, rate, now, func() bool {
		return e.fits(e.templateBytes(), e.rates.bytesWith(k)+e.selectors.bytes(), e.bootTimes.bytes())
	})
}

// setSequence remembers the selectors of a selection sequence.
func (e *exporter) setSequence(k optionKey, selectors selectorList) {
	e.mu.Lock()
	e.putSelectors(k, selectors)
	e.mu.Unlock()
	e.all.makeRoom(e)
}

// putSelectors remembers a list of selectors. If there is no room for one more, a
// random one goes. e.mu is held.
func (e *exporter) putSelectors(k optionKey, l selectorList) {
	known := e.selectors.get(k)
	if l.unsaved = false; known != nil {
		l.unsaved = known.unsaved
	}
	if e.evicted.Load() || known != nil && *known == l {
		return
	}
	l.unsaved = true
	for known == nil && e.selectors.len() > 0 &&
		!e.fits(e.templateBytes(), e.rates.bytes()+e.selectors.bytesWithOneMore(), e.bootTimes.bytes()) {
		other, _, _ := victim(e.selectors.all(), func(selectorList, selectorList) bool { return false })
		e.selectors.delete(other)
	}
	e.selectors.put(k, l)
	e.account()
	e.changed()
	e.markUnsaved(nil)
}

// samplingRate returns the sampling rate that options data gives to the records of a
// domain that name no interface and no selector with a rate of its own: what their port
// announced, else what the ports of the address agree on. now is in Unix seconds.
func (e *exporter) samplingRate(q rateQuery, now int64) answer {
	steps.Add(steps.Lock)
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.findRate(&q, now, rateOfDomain, rateOfExporter)
}

// rateByRecord returns the sampling rate of a record that names an interface or
// selector. Other records of its domain have the rate base. ask reports whether the
// other ports of the address may be asked, which takes a while.
func (e *exporter) rateByRecord(q *rateQuery, base answer, now int64, ask func() bool) (a answer, ok bool) {
	steps.Add(steps.Lock)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if a, ok := e.ownRate(q, rateOfInterface, rateOfSelector); ok {
		return a, true
	}
	if base.own {
		return base, true
	}
	if !ask() {
		return base, false
	}
	a = e.findRate(q, now, rateOfInterface, rateOfSelector)
	base.until = min(base.until, a.until)
	if a.announced {
		return a, true
	}
	return base, true
}

// findRate looks for a sampling rate in two steps, first in what the port itself announced.
// e.mu is held.
func (e *exporter) findRate(q *rateQuery, now int64, first, second rateStep) answer {
	if e.rates.values.len() == 0 {
		return answer{until: forever}
	}
	if a, ok := e.ownRate(q, first, second); ok {
		return a
	}
	until := forever
	for step := first; step <= second; step++ {
		a := e.rates.agreed(uint32(now), func(port uint16) (optionValue, bool) { return e.portRate(q, port, step) })
		a.until = min(a.until, until)
		if until = a.until; a.announced {
			return a
		}
	}
	return answer{until: until}
}

// ownRate returns the sampling rate that the port itself announced. e.mu is held.
func (e *exporter) ownRate(q *rateQuery, first, second rateStep) (answer, bool) {
	for step := first; step <= second; step++ {
		if v, ok := e.portRate(q, q.port, step); ok {
			return answer{v.value, true, true, forever}, true
		}
	}
	return answer{}, false
}

// portRate returns the sampling rate that a port announced, as far as one step finds it.
// e.mu is held.
func (e *exporter) portRate(q *rateQuery, port uint16, step rateStep) (optionValue, bool) {
	k := optionKey{domain: q.domain, version: q.version, port: port}
	switch step {
	case rateOfInterface:
		if q.iface == 0 || e.rates.kinds[forIngress]+e.rates.kinds[forEgress] == 0 {
			break
		}
		kinds := [2]optionKind{forIngress, forEgress}
		if q.egress {
			kinds = [2]optionKind{forEgress, forIngress}
		}
		for _, iface := range [...]uint32{q.iface, q.physical} {
			if iface == 0 {
				break
			}
			k.id = uint64(iface)
			for _, k.kind = range kinds {
				if v, ok := e.rates.get(k); ok {
					return v, true
				}
			}
		}
	case rateOfSelector:
		if q.sequence != 0 {
			if v, ok := e.sequenceRate(k, q.sequence); ok {
				return v, true
			}
		}
		if q.selector != 0 {
			k.kind, k.id = forSelector, q.selector
			return e.rates.get(k)
		}
	case rateOfDomain:
		if v, ok := e.rates.get(k); ok {
			return v, true
		}
		return e.rates.onlyOfDomain(k)
	case rateOfExporter:
		return e.rates.only(port)
	}
	return optionValue{}, false
}

// sequenceRate returns the rate of a selection sequence: its own, or the product of
// those that its selectors have. k is of its domain and port. e.mu is held.
func (e *exporter) sequenceRate(k optionKey, sequence uint64) (optionValue, bool) {
	k.kind, k.id = forSequence, sequence
	if v, ok := e.rates.get(k); ok {
		return v, true
	}
	l := e.selectors.get(k)
	if l == nil {
		return optionValue{}, false
	}
	rate, ok := optionValue{value: 1}, false
	for _, id := range l.ids[:l.n] {
		k.kind, k.id = forSelector, id
		if v, known := e.rates.get(k); known {
			rate.value *= v.value
			rate.announced, ok = max(rate.announced, v.announced), true
		}
	}
	return rate, ok
}

// rateCache has the answers for the interfaces, selectors and selection sequences that
// records of one source named last, so that they need no lock.
type rateCache [64]cachedRate

type cachedRate struct {
	query      rateQuery
	generation uint64 // of the exporter; never 0
	answer     answer
}

// samplingRate returns the sampling rate of a record that has been decoded but for it.
// The first source decides that announced one: the record itself (announced is what it says, 0 if
// nothing), options data, -sampling. ok is false if to find out takes work that the peer has not
// earned.
func (d *Decoder) samplingRate(t *templateBinding, record []byte, announced uint64) (rate uint64, ok bool) {
	if announced != 0 {
		return announced, true
	}
	a := &t.optionsRate
	if t.rateByRecord {
		if a = d.recordRate(t, record); a == nil {
			return 0, false
		}
	}
	if a.announced {
		return a.value, true
	}
	return d.peer.sampling, true
}

// recordRate returns the sampling rate of the selector or interface of a record, nil if to find
// out takes work that the peer has not earned.
func (d *Decoder) recordRate(t *templateBinding, record []byte) *answer {
	p, m := d.peer, &d.rec.Msg
	q := rateQuery{domain: t.key.domain, version: t.key.version, port: p.source.Port(), iface: m.InIf}
	const egress = 1
	physical := t.physical[0]
	if d.rec.Extra.FlowDirection == egress {
		q.iface, q.egress, physical = m.OutIf, true, t.physical[1]
	}
	if physical >= 0 {
		q.physical = uint32(number(t.value(record, int(physical))))
	}
	if t.sampler >= 0 {
		q.selector = number(t.value(record, t.sampler))
	}
	if t.sequence >= 0 {
		q.sequence = number(t.value(record, t.sequence))
	}
	steps.Add(2)
	if p.rates == nil {
		p.rates = new(rateCache)
		d.chargePeer(p, rateCacheBytes)
	}
	h := (q.selector*31+q.sequence)*31 + uint64(q.iface) + uint64(q.domain)*7
	c := &p.rates[(h^h>>6^h>>12)%uint64(len(p.rates))]
	if c.generation == t.generation && c.query == q && d.received < c.answer.until {
		return &c.answer
	}
	if !d.mayWork(workOfRate) {
		return nil
	}
	a, ok := p.exporter.rateByRecord(&q, t.optionsRate, d.received/1e9, func() bool { return d.mayWork(workOfQuestion) })
	if !ok {
		return nil
	}
	*c = cachedRate{q, t.generation, a}
	return &c.answer
}
