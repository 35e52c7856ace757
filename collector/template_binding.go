package collector

import (
	"maps"
	"unsafe"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// templateBinding is a record decoder as one exporter's template uses it.
type templateBinding struct {
	*recordDecoder
	key templateKey
	// generation is the exporter's, from which the rest was taken.
	generation uint64
	whose      fallback // whose template it is
	// optionsRate is the sampling rate that options data gives to records that name no
	// interface and no selector with a rate of its own. rateByRecord reports whether
	// there are such rates.
	optionsRate  answer
	rateByRecord bool
	bootTime     uint64 // from options data, in Unix milliseconds; 0 if unknown
	// until is how long optionsRate and bootTime stay the same, in Unix nanoseconds.
	until int64
}

// bindResult is what became of binding a data set to its template.
type bindResult uint8

const (
	bound           bindResult = iota
	templateUnknown            // the template is not known
	tooShort                   // the set is too short for a record
	tooCostly                  // its peer has not earned the work of making a record decoder
)

// bind returns how to read a data set of so many bytes. There is no record decoder for a
// set that is too short for a record: one takes long to make, and many short sets fit
// into a datagram.
//
// A lock is taken only if the exporter's templates, sampling rates or boot times have
// changed, or for such a short set.
func (d *Decoder) bind(k templateKey, length int) (b *templateBinding, result bindResult) {
	p, e := d.peer, d.peer.exporter
	steps.Add(steps.Lookup)
	b = p.bindings[k]
	// The generation is read before what depends on it.
	generation := e.generation.Load()
	if b != nil && b.generation == generation && b.tmpl.shape != nil && d.received < b.until {
		if !d.mayUse(b) {
			return nil, tooCostly
		}
		b.lastUsed = d.received
		return b, bound
	}
	t, whose, ok := e.template(k, p.source.Port())
	if !ok {
		if b != nil {
			delete(p.bindings, k)
			d.chargePeer(p, -bindingBytes)
		}
		return nil, templateUnknown
	}
	if length < t.minLen {
		return nil, tooShort
	}
	var rd *recordDecoder
	if !d.owes() && d.mayWork(workOfColdSet) {
		rd = d.recordDecoderOf(&t)
	}
	if rd == nil {
		return nil, tooCostly
	}
	if b == nil {
		steps.Add(steps.Allocation + 2*steps.Lookup)
		b = &templateBinding{key: k}
		d.makeRoomForBinding(p)
		p.bindings[k] = b
		d.chargePeer(p, bindingBytes)
	}
	if whose == fallbackDomain && b.whose != fallbackDomain {
		d.metrics.fallback(whose)
	}
	b.whose, b.recordDecoder = whose, rd
	b.lastUsed = d.received
	b.generation = generation
	if b.askExporter(e, p.source.Port(), d.received/1e9) {
		d.spend(workOfQuestion)
	}
	return b, bound
}

// askExporter finds out what options data says, at the given time (Unix seconds). It reports
// whether other ports had to be asked.
func (b *templateBinding) askExporter(e *exporter, port uint16, now int64) bool {
	k := b.key
	b.optionsRate = e.samplingRate(rateQuery{domain: k.domain, version: k.version, port: port}, now)
	boot := e.bootTime(port, k.domain, now)
	b.bootTime, b.until = boot.value, min(b.optionsRate.until, boot.until)
	e.mu.RLock()
	defer e.mu.RUnlock()
	kinds := &e.rates.kinds
	b.rateByRecord = kinds[forIngress]+kinds[forEgress] > 0 ||
		(b.sampler >= 0 || b.sequence >= 0) && kinds[forSelector]+kinds[forSequence] > 0
	return !b.optionsRate.own && len(e.rates.announcers) > 0 || !boot.own && len(e.bootTimes.announcers) > 0
}

// makeRoomForBinding evicts random bindings of a peer until its budget holds one
// more.
func (d *Decoder) makeRoomForBinding(p *peer) {
	for (len(p.bindings)+1)*bindingBytes > peerBudget {
		d.forgetBinding(p)
	}
}

// recordDecoderOf returns the record decoder of a template's shape, nil if the peer has
// not earned the work of making it. If the budget of record decoders is used up, others
// go: of a random few the one not used for longest, each time.
func (d *Decoder) recordDecoderOf(t *template) *recordDecoder {
	steps.Add(steps.Lookup + len(t.id)/16)
	if rd := d.recordDecoders[t.id]; rd != nil {
		return rd
	}
	fields := len(t.fields)
	if !d.mayWork(workOfDecoder + fields*workOfField) {
		return nil
	}
	rd := newRecordDecoder(t)
	if rd.reverse != nil {
		d.spend(fields * workOfField)
	}
	rd.setNames(d.wantedNames)
	rd.setElements(d.elements)
	rd.canonicalAt = nil
	rd.bytes = rd.size()
	for len(d.recordDecoders) > 0 && d.decodersBytes+rd.bytes > d.decodersBudget {
		id, old, _ := victim(maps.All(d.recordDecoders), func(a, b *recordDecoder) bool { return a.lastUsed < b.lastUsed })
		delete(d.recordDecoders, id)
		d.decodersBytes -= old.bytes
		*old = recordDecoder{} // bindings that refer to it look up another one
	}
	d.recordDecoders[t.id] = rd
	d.decodersBytes += rd.bytes
	return rd
}

// emptyDecoderBytes is what a record decoder takes that was evicted, but that a
// binding refers to.
const emptyDecoderBytes = int(unsafe.Sizeof(recordDecoder{}))

// size returns what a record decoder takes on the heap, in bytes: with a place in
// Decoder.recordDecoders and the shape, to which it may be the last to refer.
func (rd *recordDecoder) size() int {
	n := emptyDecoderBytes + int(rd.tmpl.bytes()) + 4*25 +
		cap(rd.scratch) + 128 + // lines of cache around it
		cap(rd.at)*int(unsafe.Sizeof(valueBounds{})) + cap(rd.repeats)*int(unsafe.Sizeof(repeatedElement{})) +
		cap(rd.reverseCounters)*2 + cap(rd.applicationID) + cap(rd.elementValues)*int(unsafe.Sizeof(flow.ElementValue{}))
	if rd.rate != nil {
		n += int(unsafe.Sizeof(*rd.rate)) + cap(rd.rate.rates)*int(unsafe.Sizeof(rateField{}))
	}
	for i := range rd.repeats {
		n += cap(rd.repeats[i].fields) * 2
	}
	for _, d := range []*direction{&rd.forward, rd.reverse} {
		if d != nil {
			const boxedValue = 24 // the header of a slice in an interface
			n += cap(d.fields)*(int(unsafe.Sizeof(netflow.DataField{}))+boxedValue) +
				cap(d.variable)*int(unsafe.Sizeof(variableField{})) +
				cap(d.extra)*int(unsafe.Sizeof(extraField{})) +
				cap(d.choices)*int(unsafe.Sizeof(choice{})) +
				cap(d.family.addresses)*int(unsafe.Sizeof(candidate{})) +
				cap(d.mpls)*2 +
				cap(d.elements)*int(unsafe.Sizeof(elementField{})) +
				int(unsafe.Sizeof(direction{})) + int(unsafe.Sizeof(outerHeader{})) + 4*4 + 2*2*2
			for _, c := range d.choices {
				n += cap(c) * int(unsafe.Sizeof(candidate{}))
			}
		}
	}
	return n + n/8 // size classes
}
