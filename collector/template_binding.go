package collector

// Bounds on the caches of one worker. Beyond one of them the worker empties the
// caches, and derives their content again from the table of exporters.
const (
	maxBindings = 1 << 17
	// maxDecodersCost is in fields of templates. A record decoder costs
	// recordDecoderCost on top.
	maxDecodersCost   = 1 << 17
	recordDecoderCost = 8
)

// templateBinding is a record decoder as one exporter's template uses it.
type templateBinding struct {
	*recordDecoder
	// generation is the exporter's, from which the rest was taken.
	generation   uint64
	tmpl         *template
	samplingRate uint64 // of the observation domain
	bootTime     uint64 // from options data, in Unix milliseconds; 0 if unknown
}

// bind returns how to read the data sets of a template, nil if the template is
// unknown. It takes a lock only when the exporter's templates changed.
func (d *Decoder) bind(k templateKey) *templateBinding {
	p, e := d.peer, d.peer.exporter
	b := p.bindings[k]
	// The generation is read before what depends on it.
	generation := e.generation.Load()
	if b != nil && b.generation == generation {
		return b
	}
	t := e.template(k, p.source.Port())
	if t == nil {
		if b != nil {
			delete(p.bindings, k)
			d.numBindings--
		}
		return nil
	}
	if b == nil {
		b = new(templateBinding)
		if d.numBindings < maxBindings { // else until the cache starts anew
			p.bindings[k] = b
			d.numBindings++
		}
	}
	if b.recordDecoder == nil || b.tmpl.id != t.id {
		b.recordDecoder = d.recordDecoderOf(t)
	}
	b.generation, b.tmpl = generation, t
	b.samplingRate = e.samplingRate(samplerKey{domain: k.domain, version: k.version})
	b.bootTime = e.boot(k.domain)
	return b
}

// recordDecoderOf returns the record decoder of a template's shape.
func (d *Decoder) recordDecoderOf(t *template) *recordDecoder {
	if rd := d.recordDecoders[t.id]; rd != nil {
		return rd
	}
	cost := recordDecoderCost + len(t.fields) + t.minLen/64 // its scratch buffer, in fields
	if d.decodersCost += cost; d.decodersCost > maxDecodersCost {
		// The bindings refer to their record decoders, so they are cleared, too.
		clear(d.recordDecoders)
		clear(d.peers)
		clear(d.peer.bindings)
		d.decodersCost, d.numBindings, d.numSeqs = cost, 0, 0
	}
	rd := newRecordDecoder(t)
	d.recordDecoders[t.id] = rd
	return rd
}
