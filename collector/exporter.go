package collector

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// exporter is what is known of one exporter's address. All workers share it. Fields
// that are not atomic and may change are guarded by mu.
//
// Several exporters may send from one address, behind a NAT, so all that they tell
// belongs to the source port that announced it. What the ports have in common counts for
// another port only under conditions (lend.go, options_data.go).
//
// An exporter is charged for each different shape of its templates in full, once,
// even if other exporters use it too. So what it is charged for does not depend on
// others, and it cannot leave its shapes to them. All exporters together are
// charged for a shape once.
type exporter struct {
	all  *exporters
	addr netip.Addr

	lastSeen atomic.Int64 // Unix milliseconds
	evicted  atomic.Bool
	// templatesUsed reports whether a data record was ever decoded.
	templatesUsed atomic.Bool
	sequenceLost  atomic.Uint64
	// number is in the order in which exporters were met. secondsUsed counts the seconds
	// with datagrams that were of use, lastUsed is the last of them, in Unix seconds.
	number      uint64
	secondsUsed atomic.Uint32
	lastUsed    atomic.Int64
	// bytes is what the exporter is charged for: ownBytes and shapeBytes.
	bytes atomic.Int64

	// generation changes when a template, sampling rate or boot time does.
	// Workers need no lock as long as it stays the same.
	generation atomic.Uint64

	mu sync.RWMutex
	knowledge
	// names are those of interfaces, VRFs and applications in options data. Readers
	// need no lock.
	names optionsTable
	// ownBytes is the size of this struct and its maps, shapeBytes that of the
	// shapes in use.
	ownBytes, shapeBytes int64

	// held are the data sets that wait, by the template that they wait for, oldest
	// first. order has them all, oldest first, and some that no longer wait.
	// heldDomains are the domains of those of IPFIX.
	held        map[portKey][]*heldSet
	heldDomains map[portID][]uint32
	order       []*heldSet
	heldBytes   int64
	numHeld     atomic.Int64
	// lending is of lend.go.
	lending
}

// knowledge is what the ports of an exporter's address have announced, each for itself.
type knowledge struct {
	templates sizedMap[portKey, learnedTemplate]
	// lent are templates of other ports, lent to ports that have sent none.
	lent sizedMap[portKey, learnedTemplate]
	// ports counts the templates that each port has sent.
	ports sizedMap[portNumber, int32]
	// openVSwitch has the templates of Open vSwitch, whatever their domain.
	openVSwitch sizedMap[portID, ovsTemplates]
	// shapeUses counts the templates of each shape.
	shapeUses sizedMap[*shape, int32]
	// rates are sampling rates, one in how many packets.
	rates optionsData
	// selectors are what a selection sequence is made of (IE 301 in options data),
	// and the selector whose rate counts for a whole domain.
	selectors sizedMap[optionKey, selectorList]
	// bootTimes are the Unix times in milliseconds that relative times of IPFIX
	// count from (IE 160 in options data).
	bootTimes optionsData
}

// portKey names a template as a source port sent it.
type portKey struct {
	templateKey
	port uint16
}

// portNumber is a source port plus 1: ports begin at 0, which is no key of a sizedMap.
type portNumber uint32

// portID names the templates of one id that a port sent in its observation domains.
// No template has id 0.
type portID struct{ port, id uint16 }

// learnedTemplate is a template of an exporter. Its key is that of the map.
type learnedTemplate struct {
	shape     *shape
	refreshed uint32 // when it was received last, in Unix seconds
}

// ovsTemplates are the templates of Open vSwitch under one id. Versions before 3.2
// send them in the first of their observation domains only.
type ovsTemplates struct {
	last *shape // of the template that came last
	n    int32
	sum  uint32 // of the hashes of all shapes
}

// shape returns the one shape that all templates have, nil if they differ.
func (o *ovsTemplates) shape() *shape {
	if o.sum != uint32(o.n)*o.last.hash {
		return nil
	}
	return o.last
}

// fallback says whose template it is that a data set is decoded with.
type fallback uint8

const (
	fallbackNone   fallback = iota // its port's, of its domain
	fallbackPort                   // of another port
	fallbackDomain                 // of another domain
	numFallbacks
)

var fallbackNames = [numFallbacks]string{fallbackPort: "port", fallbackDomain: "domain"}

// learnTemplate remembers a template that came from the given source port at the
// given time (Unix seconds). changed reports whether that is news, and forgotten is how
// many others went for it. ok is false if the exporter was evicted in the meantime.
func (e *exporter) learnTemplate(tmpl *template, port uint16, now int64) (changed bool, forgotten int, ok bool) {
	e.mu.Lock()
	if e.evicted.Load() {
		e.mu.Unlock()
		return false, 0, false
	}
	k := portKey{tmpl.key, port}
	l := learnedTemplate{tmpl.shape, uint32(now)}
	if current := e.templates.get(k); current != nil && current.shape.id == l.shape.id {
		current.refreshed = l.refreshed
	} else {
		e.returnLent(port)
		forgotten = e.putTemplate(&e.templates, k, l)
		changed = true
	}
	e.mu.Unlock()
	e.all.makeRoom(e)
	return changed, forgotten, true
}

// putTemplate adds a template to a map or replaces the one of its key. If the
// exporter's budget is used up, first templates go that were lent, then those that
// were not refreshed for longest, of a random few each time. It returns how many. e.mu is
// held.
func (e *exporter) putTemplate(m *sizedMap[portKey, learnedTemplate], k portKey, l learnedTemplate) (forgotten int) {
	e.removeTemplate(m, k)
	l.shape = e.all.shareShape(l.shape)
	for !e.hasRoomFor(m, l.shape) {
		from := &e.lent
		if from.len() == 0 {
			from = &e.templates
		}
		oldest, _, ok := victim(from.all(), func(a, b learnedTemplate) bool { return a.refreshed < b.refreshed })
		if !ok {
			break
		}
		e.removeTemplate(from, oldest)
		forgotten++
	}
	if uses := e.shapeUses.get(l.shape); uses != nil {
		*uses++
	} else {
		e.shapeUses.put(l.shape, 1)
		e.shapeBytes += l.shape.bytes()
	}
	m.put(k, l)
	if m == &e.templates {
		e.all.numTemplates.Add(1)
		e.countTemplate(k, l.shape, 1)
	}
	e.account()
	e.changed()
	return forgotten
}

// removeTemplate removes a template from a map, if it is there. e.mu is held.
func (e *exporter) removeTemplate(m *sizedMap[portKey, learnedTemplate], k portKey) {
	l := m.get(k)
	if l == nil {
		return
	}
	s := l.shape
	m.delete(k)
	if m == &e.templates {
		e.all.numTemplates.Add(-1)
		e.countTemplate(k, s, -1)
	}
	if uses := e.shapeUses.get(s); *uses > 1 {
		*uses--
	} else {
		e.shapeUses.delete(s)
		e.shapeBytes -= s.bytes()
	}
	e.all.releaseShape(s)
}

// countTemplate notes that a port has one template more (n is 1) or less (n is -1).
// e.mu is held.
func (e *exporter) countTemplate(k portKey, s *shape, n int32) {
	port := portNumber(k.port) + 1
	if count := e.ports.get(port); count == nil {
		e.ports.put(port, n)
	} else if *count += n; *count == 0 {
		e.ports.delete(port)
	}
	if !s.openVSwitch {
		return
	}
	id := portID{k.port, k.id}
	o := e.openVSwitch.get(id)
	if o == nil {
		e.openVSwitch.put(id, ovsTemplates{s, 1, s.hash})
		return
	}
	o.sum += uint32(n) * s.hash // modulo 2^32
	if o.n += n; o.n == 0 {
		e.openVSwitch.delete(id)
	} else if n > 0 {
		o.last = s
	}
}

// template returns the template for a data set that came from the given port, and
// whose it is. ok is false if there is none.
func (e *exporter) template(k templateKey, port uint16) (t template, whose fallback, ok bool) {
	steps.Add(steps.Lock)
	e.mu.RLock()
	defer e.mu.RUnlock()
	s, whose := e.findTemplate(k, port)
	return template{k, s}, whose, s != nil
}

// findTemplate returns the shape of the template for a source port, and whose it is;
// nil if there is none. e.mu is held.
func (e *exporter) findTemplate(k templateKey, port uint16) (*shape, fallback) {
	own := portKey{k, port}
	if l := e.templates.get(own); l != nil {
		return l.shape, fallbackNone
	}
	if k.version == 10 {
		if o := e.openVSwitch.get(portID{port, k.id}); o != nil {
			return o.shape(), fallbackDomain
		}
	}
	if l := e.lent.get(own); l != nil {
		return l.shape, fallbackPort
	}
	return nil, fallbackNone
}

// markUsed notes that a data set of the exporter was decoded by its template.
func (e *exporter) markUsed() {
	if !e.templatesUsed.Load() {
		e.templatesUsed.Store(true)
	}
}

// changed makes the workers look again at what they derived.
func (e *exporter) changed() {
	e.generation.Add(1)
	e.all.changes.Add(1)
}

// account brings the exporter's size and that of all up to date after a change. e.mu
// is held.
func (e *exporter) account() {
	own := allocated(int64(unsafe.Sizeof(*e))) + e.templateMapBytes() + e.shapeUses.bytes() +
		e.rates.bytes() + e.selectors.bytes() + e.bootTimes.bytes() + e.names.bytes()
	e.all.bytes.Add(own - e.ownBytes)
	e.ownBytes = own
	e.bytes.Store(own + e.shapeBytes)
}

// templateMapBytes returns the size of the maps of templates. e.mu is held.
func (e *exporter) templateMapBytes() int64 {
	return e.templates.bytes() + e.lent.bytes() + e.ports.bytes() + e.openVSwitch.bytes()
}

// templateBytes returns the size of the exporter's templates. e.mu is held.
func (e *exporter) templateBytes() int64 {
	return e.templateMapBytes() + e.shapeUses.bytes() + e.shapeBytes
}

// hasRoomFor reports whether the exporter's budget holds one more template in a map.
// e.mu is held.
func (e *exporter) hasRoomFor(m *sizedMap[portKey, learnedTemplate], s *shape) bool {
	n := e.templateMapBytes() - m.bytes() + m.bytesWithOneMore() + e.shapeBytes
	n += e.ports.bytesWithOneMore() - e.ports.bytes()
	if s.openVSwitch {
		n += e.openVSwitch.bytesWithOneMore() - e.openVSwitch.bytes()
	}
	if e.shapeUses.get(s) == nil {
		n += e.shapeUses.bytesWithOneMore() + s.bytes()
	} else {
		n += e.shapeUses.bytes()
	}
	return e.fits(n, e.rates.bytes()+e.selectors.bytes(), e.bootTimes.bytes())
}

// fits reports whether the exporter's budget holds templates, sampling rates and
// boot times of the given sizes. An eighth of it is kept for each of the three, so
// that no kind can leave another without room, and one for names (learnName).
func (e *exporter) fits(templates, rates, bootTimes int64) bool {
	kept := e.all.exporterBudget / 8
	return int64(unsafe.Sizeof(*e))+kept+max(templates, kept)+max(rates, kept)+max(bootTimes, kept) <= e.all.exporterBudget
}
