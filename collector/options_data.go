package collector

import (
	"hash/maphash"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

const (
	// announcedFor is for how many seconds what one port announced counts for others of its
	// address.
	announcedFor = 30 * 60
	// maxAnnouncers bounds the ports of an address that are asked for what other ports
	// did not tell. If more of them have announced different things, no other port gets it.
	maxAnnouncers = 16
)

// optionKind says what a value in options data is for.
type optionKind uint8

const (
	forDomain   optionKind = iota
	forSelector            // IE 302 or 48
	forSequence            // IE 301
	forIngress             // an interface: IE 10, or scope 2 of NetFlow v9
	forEgress              // an interface: IE 14, or scope 2 of NetFlow v9
	numOptionKinds
)

var optionKindNames = [numOptionKinds]string{"domain", "selector", "selection sequence", "ingress interface", "egress interface"}

// optionKey names a value that a port announced in options data.
type optionKey struct {
	id      uint64 // of the selector, selection sequence or interface
	domain  uint32
	version uint16 // 9 or 10
	port    uint16
	kind    optionKind
}

// ofDomain returns the key of the domain's own value.
func (k optionKey) ofDomain() optionKey {
	return optionKey{domain: k.domain, version: k.version, port: k.port}
}

// optionValue is a sampling rate or boot time.
type optionValue struct {
	value     uint64
	announced uint32 // when it was announced last, in Unix seconds
	unsaved   bool   // it differs from what the templates file has
}

// portValues sums up what one port or one of its domains announced.
type portValues struct {
	n         int32
	announced uint32 // when it announced something last, in Unix seconds
	last      uint64 // the value that was announced last
	sum       uint64 // of the hashes of all values
}

// optionsData are the sampling rates or the boot times that the ports of an address
// have announced.
type optionsData struct {
	values sizedMap[optionKey, optionValue]
	ports  sizedMap[portNumber, portValues]
	// domains sums up what each domain of a port announced for selectors, selection
	// sequences and interfaces. The key is that of the domain's own value.
	domains sizedMap[optionKey, portValues]
	// kinds counts the values of each kind.
	kinds [numOptionKinds]int32
	// announcers are the ports that announced something last. crowded is when there were too
	// many of them that announced different things, in Unix seconds.
	announcers []uint16
	crowded    uint32
	// unsaved reports whether the templates file lacks a value.
	unsaved bool
}

var valueSeed = maphash.MakeSeed()

func hashValue(v uint64) uint64 { return maphash.Comparable(valueSeed, v) }

func (o *optionsData) bytes() int64 {
	return o.values.bytes() + o.ports.bytes() + o.domains.bytes() + allocated(2*int64(cap(o.announcers)))
}

// bytesWith returns what bytes returns at most once a new key was added.
func (o *optionsData) bytesWith(k optionKey) int64 {
	ports := o.ports.bytes()
	if o.ports.get(portNumber(k.port)+1) == nil {
		ports = o.ports.bytesWithOneMore()
	}
	domains := o.domains.bytes()
	if k.kind != forDomain && o.domains.get(k.ofDomain()) == nil {
		domains = o.domains.bytesWithOneMore()
	}
	return o.values.bytesWithOneMore() + ports + domains + allocated(2*maxAnnouncers)
}

// set remembers a value, and reports whether it is another one than before.
// known is the value until now, nil if there is none.
func (o *optionsData) set(k optionKey, known *optionValue, v uint64, now uint32) (changed bool) {
	p := o.ports.getOrPut(portNumber(k.port) + 1)
	// What the values add up to changes by this, and their number by added.
	var sum uint64
	var added int32
	switch {
	case known == nil:
		sum, added = hashValue(v), 1
	case known.value != v:
		sum = hashValue(v) - hashValue(known.value)
	}
	p.note(v, sum, added)
	if k.kind != forDomain {
		domain := o.domains.getOrPut(k.ofDomain())
		domain.announced = now
		domain.note(v, sum, added)
	}
	switch {
	case known == nil:
		o.values.put(k, optionValue{v, now, true})
		o.kinds[k.kind]++
		changed = true
	case known.value != v:
		*known = optionValue{v, now, true}
		changed = true
	default:
		if !sameSavedTime(known.announced, now) {
			known.unsaved, o.unsaved = true, true
		}
		known.announced = now
	}
	o.unsaved = o.unsaved || changed
	if p.announced != now || changed {
		p.announced = now
		o.noteAnnouncer(k.port, now)
	}
	return changed
}

// note takes over a value that was announced, by which the sum and the number change.
func (p *portValues) note(v, sum uint64, added int32) {
	p.last = v
	p.sum += sum
	p.n += added
}

// forget takes a value away, and reports whether there is none left.
func (p *portValues) forget(v uint64) (empty bool) {
	p.n--
	p.sum -= hashValue(v)
	return p.n == 0
}

// noteAnnouncer notes that a port has announced something. Of too many ports the one goes
// that announced something longest ago.
func (o *optionsData) noteAnnouncer(port uint16, now uint32) {
	steps.Add(len(o.announcers))
	if slices.Contains(o.announcers, port) {
		return
	}
	if len(o.announcers) < maxAnnouncers {
		o.announcers = append(o.announcers, port)
		return
	}
	oldest, least := 0, uint32(1<<32-1)
	for i, other := range o.announcers {
		announced := uint32(0)
		if p := o.ports.get(portNumber(other) + 1); p != nil {
			announced = p.announced
		}
		if announced < least {
			oldest, least = i, announced
		}
	}
	if isRecent(least, now) {
		a, oneA := o.only(o.announcers[oldest])
		b, oneB := o.only(port)
		if !oneA || !oneB || a.value != b.value {
			o.crowded = now
		}
	}
	o.announcers[oldest] = port
}

// isRecent reports whether what was announced at a time still counts for other ports.
func isRecent(announced, now uint32) bool { return int64(now)-int64(announced) <= announcedFor }

// endOf returns until when it counts, in Unix nanoseconds.
func endOf(announced uint32) int64 { return (int64(announced) + announcedFor + 1) * 1e9 }

// forgetOne forgets a value, but not the one of a key: of a random few one of the port that
// has announced most. It returns false if there is no other.
func (o *optionsData) forgetOne(except optionKey) bool {
	others := func(yield func(optionKey, int32) bool) {
		for k := range o.values.all() {
			if k != except && !yield(k, o.ports.get(portNumber(k.port)+1).n) {
				return
			}
		}
	}
	k, _, ok := victim(others, func(a, b int32) bool { return a > b })
	if !ok {
		return false
	}
	v := o.values.get(k).value
	o.values.delete(k)
	o.kinds[k.kind]--
	if port := portNumber(k.port) + 1; o.ports.get(port).forget(v) {
		o.ports.delete(port)
	}
	if k.kind != forDomain && o.domains.get(k.ofDomain()).forget(v) {
		o.domains.delete(k.ofDomain())
	}
	return true
}

// get returns what a port announced.
func (o *optionsData) get(k optionKey) (optionValue, bool) {
	if v := o.values.get(k); v != nil {
		return *v, true
	}
	return optionValue{}, false
}

// only returns the value of a port that announced one value only, whatever for.
func (o *optionsData) only(port uint16) (optionValue, bool) {
	return o.ports.get(portNumber(port) + 1).only()
}

// onlyOfDomain returns the value of a domain that announced one value only for selectors,
// selection sequences and interfaces. k is the key of its own value.
func (o *optionsData) onlyOfDomain(k optionKey) (optionValue, bool) { return o.domains.get(k).only() }

// only returns the value if all are the same.
func (p *portValues) only() (optionValue, bool) {
	if p == nil || p.sum != uint64(p.n)*hashValue(p.last) {
		return optionValue{}, false
	}
	return optionValue{value: p.last, announced: p.announced}, true
}

// answer is what is known of a sampling rate or boot time: the value, whether anyone
// announced one, and until when, in Unix nanoseconds, the answer stays the same if nothing else
// is announced.
type answer struct {
	value     uint64
	announced bool
	own       bool // whether the port itself announced it
	until     int64
}

// forever is when an answer ends that depends on no time.
const forever = int64(1) << 62

// agreed returns what the ports of the address agree on that announced something of late.
// ask returns what one port announced.
func (o *optionsData) agreed(now uint32, ask func(port uint16) (optionValue, bool)) answer {
	a := answer{until: forever}
	if o.crowded != 0 && isRecent(o.crowded, now) {
		a.until = endOf(o.crowded)
		return a
	}
	differ := false
	steps.Add(len(o.announcers))
	for _, port := range o.announcers {
		v, ok := ask(port)
		if !ok || !isRecent(v.announced, now) {
			continue
		}
		a.until = min(a.until, endOf(v.announced))
		differ = differ || a.announced && a.value != v.value
		a.value, a.announced = v.value, true
	}
	if differ {
		a.value, a.announced = 0, false // until one of them changes, or has been silent for long
	}
	return a
}

// setBootTime remembers the boot time of an observation domain, in Unix milliseconds,
// as a port announced it at the given time (Unix seconds).
func (e *exporter) setBootTime(port uint16, domain uint32, ms uint64, now int64) {
	e.mu.Lock()
	k := optionKey{domain: domain, version: 10, port: port}
	e.setValue(&e.bootTimes, k, ms, now, func() bool {
		return e.fits(e.templateBytes(), e.rates.bytes()+e.selectors.bytes(), e.bootTimes.bytesWith(k))
	})
	e.mu.Unlock()
	e.all.makeRoom(e)
}

// setValue remembers a sampling rate or boot time. If there is no room for one
// more, a random one of its kind goes. e.mu is held.
func (e *exporter) setValue(o *optionsData, k optionKey, v uint64, now int64, hasRoom func() bool) {
	if e.evicted.Load() {
		return
	}
	known := o.values.get(k)
	if known == nil {
		for !hasRoom() && o.forgetOne(k) {
		}
	}
	before := o.bytes()
	changed := o.set(k, known, v, uint32(now))
	if o.bytes() != before {
		e.account()
	}
	if changed {
		e.changed()
	}
	if o.unsaved {
		e.markUnsaved(nil)
	}
}

// bootTime returns the boot time of an observation domain for a port: what it announced
// itself, else what the others agree on.
func (e *exporter) bootTime(port uint16, domain uint32, now int64) answer {
	steps.Add(steps.Lock)
	e.mu.RLock()
	defer e.mu.RUnlock()
	k := optionKey{domain: domain, version: 10, port: port}
	if v, ok := e.bootTimes.get(k); ok {
		return answer{v.value, true, true, forever}
	}
	return e.bootTimes.agreed(uint32(now), func(port uint16) (optionValue, bool) {
		k.port = port
		return e.bootTimes.get(k)
	})
}
