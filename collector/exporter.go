package collector

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
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
	clock       exportClock
	// bytes is what the exporter is charged for: ownBytes and shapeBytes.
	bytes atomic.Int64
	// shared reports whether several exporters were found to send from the address.
	shared atomic.Bool
	// unsaved reports whether the templates file lacks something of it.
	unsaved atomic.Bool
	// numSessions is the number of ports that have sent templates.
	numSessions atomic.Int32

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
	// large reports whether the exporter is in exporters.large.
	large bool

	// held are the data sets that wait, by the template that they wait for.
	// heldDomains are the domains of those of IPFIX.
	held        map[portKey]*heldTemplate
	heldDomains map[portID][]uint32
	heldPorts   map[uint16]*heldPort
	heldBytes   int64
	numHeld     atomic.Int64
	// lending is of lend.go.
	lending
}

// knowledge is what the ports of an exporter's address have announced, each for itself.
type knowledge struct {
	// sessions are of the ports that have sent templates; sessionBytes is what they take.
	sessions     sizedMap[portNumber, *session]
	sessionBytes int64
	// lent are templates of other ports, lent to ports that have sent none.
	// lentTo counts them by their port.
	lent   sizedMap[portKey, learnedTemplate]
	lentTo sizedMap[portNumber, int32]
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

// portID names the templates of one id that a port sent in its observation domains.
// No template has id 0.
type portID struct{ port, id uint16 }

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
	s := e.session(port)
	var current *learnedTemplate
	if s != nil {
		current = s.templates.get(tmpl.key)
	}
	if current != nil && current.shape.id == tmpl.shape.id {
		if !sameSavedTime(current.refreshed, uint32(now)) {
			current.unsaved = true
			e.markUnsaved(s)
		}
		current.refreshed = uint32(now)
	} else {
		if s == nil {
			e.returnLent(port)
			s = e.addSession(port, now)
		}
		forgotten = e.putTemplate(s, tmpl, now)
		changed = true
		if e.refused { // sets may wait for this one
			e.all.lendBy(max((now+1)*int64(time.Second), e.notBefore))
		}
	}
	e.mu.Unlock()
	e.all.makeRoom(e)
	return changed, forgotten, true
}

// putTemplate adds a template to a session or replaces the one of its key. It returns how
// many others went for it. e.mu is held.
func (e *exporter) putTemplate(s *session, tmpl *template, now int64) (forgotten int) {
	if s.templates.get(tmpl.key) != nil {
		e.removeTemplate(s, tmpl.key)
	}
	sh := e.all.shareShape(tmpl.shape)
	more := func() int64 { return s.bytesWith(sh) - s.bytes() }
	for !e.hasRoomFor(sh, more()) {
		n := e.evictTemplate(s)
		if n == 0 {
			break
		}
		forgotten += n
	}
	before := s.bytes()
	s.put(tmpl.key, learnedTemplate{shape: sh, refreshed: uint32(now), first: e.useShape(sh), unsaved: true})
	e.markUnsaved(s)
	e.sessionBytes += s.bytes() - before
	e.all.numTemplates.Add(1)
	e.account()
	e.changed()
	return forgotten
}

// evictTemplate makes room for a template of a session: first templates go that were
// lent, then another session as a whole. If the session itself is the one to go, it loses
// the template that was not refreshed for longest, of a random few. evictTemplate returns
// how many templates went. e.mu is held.
func (e *exporter) evictTemplate(s *session) int {
	leastRefreshed := func(a, b learnedTemplate) bool { return a.refreshed < b.refreshed }
	if k, _, ok := victim(e.lent.all(), leastRefreshed); ok {
		e.removeLent(k)
		return 1
	}
	others := func(yield func(portNumber, *session) bool) {
		for port, other := range e.sessions.all() {
			if other != s && !yield(port, other) {
				return
			}
		}
	}
	port, other, ok := victim(others, sessionGoesBefore)
	if s.templates.len() > 0 && (!ok || sessionGoesBefore(s, other)) {
		k, _, _ := victim(s.templates.all(), leastRefreshed)
		e.removeTemplate(s, k)
		return 1
	}
	if !ok {
		return 0
	}
	n := other.templates.len()
	e.forgetSession(port)
	return n
}

// removeTemplate removes a template of a session, which is there. e.mu is held.
func (e *exporter) removeTemplate(s *session, k templateKey) {
	before := s.bytes()
	l := s.remove(k)
	e.sessionBytes += s.bytes() - before
	e.all.numTemplates.Add(-1)
	e.dropShape(l.shape)
}

// putLent lends a template to a port. e.mu is held.
func (e *exporter) putLent(k portKey, sh *shape, refreshed uint32) {
	sh = e.all.shareShape(sh)
	more := func() int64 {
		return e.lent.bytesWithOneMore() - e.lent.bytes() + e.lentTo.bytesWithOneMore() - e.lentTo.bytes()
	}
	for e.lent.len() > 0 && (e.lent.len() >= maxLent || !e.hasRoomFor(sh, more())) {
		other, _, _ := victim(e.lent.all(), func(a, b learnedTemplate) bool { return a.refreshed < b.refreshed })
		e.removeLent(other)
	}
	if e.lent.get(k) == nil {
		if n := e.lentTo.get(portNumber(k.port) + 1); n != nil {
			*n++
		} else {
			e.lentTo.put(portNumber(k.port)+1, 1)
		}
	}
	e.lent.put(k, learnedTemplate{shape: sh, refreshed: refreshed, first: e.useShape(sh)})
	e.account()
	e.changed()
}

// removeLent ends a loan. e.mu is held.
func (e *exporter) removeLent(k portKey) {
	sh := e.lent.get(k).shape
	e.lent.delete(k)
	port := portNumber(k.port) + 1
	if n := e.lentTo.get(port); *n > 1 {
		*n--
	} else {
		e.lentTo.delete(port)
	}
	e.dropShape(sh)
}

// useShape counts one more template of a shape, and reports whether it is the first one.
// e.mu is held.
func (e *exporter) useShape(sh *shape) (first bool) {
	if uses := e.shapeUses.get(sh); uses != nil {
		*uses++
		return false
	}
	e.shapeUses.put(sh, 1)
	e.shapeBytes += sh.bytes()
	return true
}

// dropShape counts one template less of a shape. e.mu is held.
func (e *exporter) dropShape(sh *shape) {
	if uses := e.shapeUses.get(sh); *uses > 1 {
		*uses--
	} else {
		e.shapeUses.delete(sh)
		e.shapeBytes -= sh.bytes()
	}
	e.all.releaseShape(sh)
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
	if s := e.session(port); s != nil {
		return s.find(k)
	}
	if l := e.lent.get(portKey{k, port}); l != nil {
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
func (e *exporter) changed() { e.generation.Add(1) }

// account brings the exporter's size and that of all up to date after a change. e.mu
// is held.
func (e *exporter) account() {
	own := allocated(int64(unsafe.Sizeof(*e))) + e.templateMapBytes() + e.shapeUses.bytes() +
		e.rates.bytes() + e.selectors.bytes() + e.bootTimes.bytes() + e.names.bytes()
	e.all.bytes.Add(own - e.ownBytes)
	e.ownBytes = own
	e.bytes.Store(own + e.shapeBytes)
	e.all.noteSize(e)
}

// templateMapBytes returns the size of sessions and lent templates without their shapes.
// e.mu is held.
func (e *exporter) templateMapBytes() int64 {
	return e.sessions.bytes() + e.sessionBytes + e.lent.bytes() + e.lentTo.bytes()
}

// templateBytes returns the size of the exporter's templates. e.mu is held.
func (e *exporter) templateBytes() int64 {
	return e.templateMapBytes() + e.shapeUses.bytes() + e.shapeBytes
}

// hasRoomFor reports whether the exporter's budget holds one more template, whose place
// takes so many bytes. e.mu is held.
func (e *exporter) hasRoomFor(sh *shape, more int64) bool {
	n := e.templateBytes() + more
	if e.shapeUses.get(sh) == nil {
		n += e.shapeUses.bytesWithOneMore() - e.shapeUses.bytes() + sh.bytes()
	}
	return e.fits(n, e.rates.bytes()+e.selectors.bytes(), e.bootTimes.bytes())
}

// budget returns what the address may take, in bytes. It is the budget of an exporter, and
// more for each further port that sends templates of its own: thousands of exporters may be
// behind one address. One address never takes more than seven eighths of what there is for
// all: 4,096 ports with 4 domains of 88 templates each fit.
func (e *exporter) budget() int64 {
	further := max(int64(e.sessions.len())-1, 0)
	return min(e.all.exporterBudget+further*e.all.sessionBudget, max(e.all.totalBudget/8*7, e.all.exporterBudget))
}

// maxKept and maxNames bound what is kept of a large budget.
const (
	maxKept  = 4 << 20
	maxNames = 8 << 20
)

// nameBudget returns what names of the address may take, in bytes.
func (e *exporter) nameBudget() int64 { return min(e.budget()/8, maxNames) }

// fits reports whether the exporter's budget holds templates, sampling rates and
// boot times of the given sizes. An eighth of it is kept for each of the three, so
// that no kind can leave another without room, and one for names. Of a large budget less
// is kept for rates, boot times and names, and more for templates: of these each of
// many exporters has most.
func (e *exporter) fits(templates, rates, bootTimes int64) bool {
	budget := e.budget()
	kept := min(budget/8, maxKept)
	keptTemplates := max(kept, budget-7*maxKept)
	return int64(unsafe.Sizeof(*e))+e.nameBudget()+max(templates, keptTemplates)+max(rates, kept)+max(bootTimes, kept) <= budget
}
