package collector

import (
	"cmp"
	"encoding/binary"
	"math"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// scopeInterface9 is the type of a scope of NetFlow v9 that names an interface
// (RFC 3954, 6.1).
const scopeInterface9 = 2

// Values of selectorAlgorithm (IANA's registry of PSAMP parameters). Exporters that
// select n out of N at random may send an interval of 1 beside size and population,
// which is none. Size and population without an algorithm mean it, too.
const (
	selectByCount   = 1
	selectUniformly = 4 // with a probability
)

// samplingOption is what a record of options data says about sampling.
type samplingOption struct {
	announced bool // whether it has an element for a rate

	interval, randomInterval  uint64 // IE 34, 50: one in how many packets
	packetInterval, space     uint64 // IE 305, 306
	hasSpace                  bool
	size, population          uint64  // IE 309, 310
	probability               float64 // IE 311
	algorithm                 uint64  // IE 304
	selectors                 selectorList
	sequence, ingress, egress uint64 // IE 301; 10, else 252; 14, else 253
	noInterface               bool   // it is about an interface whose index is 0
	domain                    uint32 // that it is about
}

// decodeOptions reads a record of options data: sampling rates, what selection
// sequences are made of, the boot time, and names.
func (d *Decoder) decodeOptions(t *templateBinding, b []byte) {
	d.used = true
	o := samplingOption{domain: t.key.domain}
	var boot uint64
	steps.Add(len(t.tmpl.fields))
	var process uint32
	for i := range t.tmpl.fields {
		f := &t.tmpl.fields[i]
		if f.PenProvided {
			continue
		}
		v := t.value(b, i)
		if i < t.tmpl.scopes && t.tmpl.key.version == 9 {
			if f.Type == scopeInterface9 {
				o.ingress, o.egress = number(v), number(v)
				o.noInterface = o.ingress == 0
			}
			continue // v9 has numbers of their own for scopes
		}
		switch f.Type {
		case ieSystemInitTimeMilliseconds:
			boot = number(v)
		case ieExportingProcessID:
			if n := number(v); i < t.tmpl.scopes && n <= math.MaxUint32 {
				process = uint32(n)
			}
		case ieObservationDomainID:
			// Data about another observation domain. Some exporters leave it 0.
			if n := number(v); i < t.tmpl.scopes && n > 0 && n <= math.MaxUint32 {
				o.domain = uint32(n)
			}
		case ieIngressInterface, ieEgressInterface, ieIngressPhysicalInterface, ieEgressPhysicalInterface:
			o.noInterface = o.noInterface || i < t.tmpl.scopes && number(v) == 0
			o.add(f.Type, v)
		default:
			o.add(f.Type, v)
		}
	}
	if t.hasNames {
		d.decodeNames(t, b, o.domain)
	}
	if process != 0 {
		d.peer.setProcess(process)
	}
	e, port, now := d.peer.exporter, d.peer.source.Port(), d.received/1e9
	if boot != 0 && d.mayChange(1) {
		e.setBootTime(port, o.domain, boot, now)
	}
	k := optionKey{domain: o.domain, version: t.key.version, port: port}
	if o.announced && d.mayChange(max(int(o.selectors.n), 1)) {
		e.setRates(k, &o, now)
	} else if !o.announced && o.sequence != 0 && o.selectors.n > 0 && d.mayChange(1) {
		k.kind, k.id = forSequence, o.sequence
		e.setSequence(k, o.selectors)
	}
}

// mayChange reports whether the peer has earned n changes of what options data says.
func (d *Decoder) mayChange(n int) bool {
	if d.mayWork(n * workOfOption) {
		return true
	}
	d.refuse()
	return false
}

// add takes over the value of an element, unless it is a 0 that comes behind another one.
func (o *samplingOption) add(id uint16, value []byte) {
	if len(value) == 0 {
		return
	}
	v := number(value)
	switch id {
	case ieSamplerID, ieSelectorID:
		if v != 0 && o.selectors.n < maxSelectors {
			o.selectors.ids[o.selectors.n] = v
			o.selectors.n++
		}
	case ieSelectionSequenceID:
		o.sequence = cmp.Or(v, o.sequence)
	case ieIngressInterface:
		o.ingress = cmp.Or(v, o.ingress)
	case ieEgressInterface:
		o.egress = cmp.Or(v, o.egress)
	case ieIngressPhysicalInterface:
		o.ingress = cmp.Or(o.ingress, v)
	case ieEgressPhysicalInterface:
		o.egress = cmp.Or(o.egress, v)
	case ieSelectorAlgorithm:
		o.algorithm = cmp.Or(v, o.algorithm)
	case ieSamplingInterval:
		o.interval, o.announced = cmp.Or(v, o.interval), true
	case ieSamplerRandomInterval:
		o.randomInterval, o.announced = cmp.Or(v, o.randomInterval), true
	case ieSamplingPacketInterval:
		o.packetInterval, o.announced = cmp.Or(v, o.packetInterval), true
	case ieSamplingPacketSpace:
		o.space, o.hasSpace = v, true
	case ieSamplingSize:
		o.size = cmp.Or(v, o.size)
	case ieSamplingPopulation:
		o.population, o.announced = cmp.Or(v, o.population), true
	case ieSamplingProbability:
		o.addProbability(value)
	}
}

// addProbability takes over samplingProbability, a float64 that may be sent as a
// float32 (RFC 7011, 6.2).
func (o *samplingOption) addProbability(value []byte) {
	var p float64
	switch len(value) {
	case 4:
		p = float64(math.Float32frombits(binary.BigEndian.Uint32(value)))
	case 8:
		p = math.Float64frombits(binary.BigEndian.Uint64(value))
	default:
		return
	}
	if p >= 0 && p <= 1 {
		o.probability, o.announced = p, true
	}
}

// rate returns the sampling rate, 0 if there is no sampling.
func (o *samplingOption) rate() uint64 {
	switch {
	case o.algorithm == selectUniformly && o.probability > 0:
		return uint64(min(math.Round(1/o.probability), math.MaxUint32))
	case o.size > 0 && o.population >= o.size && !(o.algorithm == selectByCount && o.packetInterval > 0):
		return rounded(o.population, o.size)
	case o.packetInterval > 0 && o.hasSpace: // RFC 5477, 8.2: interval packets of interval + space
		return rounded(o.packetInterval+o.space, o.packetInterval)
	case o.packetInterval > 0: // exporters that send the interval alone mean the rate
		return o.packetInterval
	case o.probability > 0:
		return uint64(min(math.Round(1/o.probability), math.MaxUint32))
	case o.interval > 0:
		return o.interval
	}
	return o.randomInterval
}

// rounded returns a/b, rounded.
func rounded(a, b uint64) uint64 {
	q, rest := a/b, a%b
	if rest >= b-rest {
		q++
	}
	return q
}

// setRates remembers the rate of an option for what it is announced for. k is of its
// domain.
func (e *exporter) setRates(k optionKey, o *samplingOption, now int64) {
	defer e.all.makeRoom(e)
	steps.Add(steps.Lock)
	e.mu.Lock()
	defer e.mu.Unlock()
	rate := o.rate()
	switch {
	case o.ingress != 0 || o.egress != 0:
		if o.ingress != 0 {
			k.kind, k.id = forIngress, o.ingress
			e.putRate(k, rate, now)
		}
		if o.egress != 0 {
			k.kind, k.id = forEgress, o.egress
			e.putRate(k, rate, now)
		}
	case o.sequence != 0:
		k.kind, k.id = forSequence, o.sequence
		e.putRate(k, rate, now)
	case o.selectors.n > 0:
		for _, id := range o.selectors.ids[:o.selectors.n] {
			k.kind, k.id = forSelector, id
			e.putRate(k, rate, now)
		}
	case o.noInterface:
		// It is not the rate of the domain, and no record names such an interface.
		k.kind = forIngress
		e.putRate(k, rate, now)
	default:
		e.putRate(k, rate, now)
	}
}
