package collector

import (
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Budgets of what exporters make us remember, in bytes of live heap: templates,
// sampling rates, boot times and the exporters themselves. Data sets that wait for
// a template have budgets of their own (pending.go), and so have the workers'
// caches (peers.go).
const (
	// defaultExporterBudget is for one exporter. It holds 64 observation domains
	// with the 89 templates that Open vSwitch has in each eight times over.
	defaultExporterBudget = 4 << 20
	// defaultTotalBudget is for all exporters. It holds 4,096 of them with 4
	// domains of 88 templates each.
	defaultTotalBudget = 128 << 20
)

// exporters is the table of known exporters, by address. Workers ask it only when
// they meet a source that is new to them.
//
// Locks are taken in this order: mu, an exporter's mu, shapesMu.
type exporters struct {
	// exporterBudget and totalBudget are in bytes.
	exporterBudget, totalBudget int64
	// holdFor is how long data sets wait for their template; holdExporter and
	// holdTotal bound what they take, in bytes.
	holdFor                 time.Duration
	holdExporter, holdTotal int64
	metrics                 *workerMetrics // of what no worker does

	mu     sync.Mutex
	byAddr sizedMap[netip.Addr, *exporter]

	shapesMu sync.Mutex
	shapes   sizedMap[string, *shape] // by their id

	// bytes is what counts against the total budget: byAddr, the exporters, and
	// each shape once.
	bytes atomic.Int64
	// numTemplates counts the templates of all exporters.
	numTemplates atomic.Int64
	// heldBytes and numHeld are of the data sets that wait for a template.
	heldBytes, numHeld atomic.Int64
	// changes counts what is worth writing to the templates file.
	changes atomic.Uint64
}

func newExporters(hold time.Duration, m *workerMetrics) *exporters {
	return &exporters{
		exporterBudget: defaultExporterBudget, totalBudget: defaultTotalBudget,
		holdFor: hold, holdExporter: defaultHoldExporter, holdTotal: defaultHoldTotal,
		metrics: m,
	}
}

// get returns the exporter of addr, which it creates if need be. now is the time of
// its last datagram, in Unix milliseconds.
func (t *exporters) get(addr netip.Addr, now int64) *exporter {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.byAddr.get(addr); known != nil {
		e := *known
		e.lastSeen.Store(max(now, e.lastSeen.Load()))
		return e
	}
	e := &exporter{all: t, addr: addr}
	e.lastSeen.Store(now)
	e.generation.Store(1)
	e.account()
	// Room is made before the table grows, which it need not if an exporter goes.
	grows := func() int64 { return t.byAddr.bytesWithOneMore() - t.byAddr.bytes() }
	for t.bytes.Load()+grows() > t.totalBudget && t.evict(nil) {
	}
	before := t.byAddr.bytes()
	t.byAddr.put(addr, e)
	t.bytes.Add(t.byAddr.bytes() - before)
	return e
}

// makeRoom evicts exporters, but not the one that took the room, until the total
// budget is kept.
func (t *exporters) makeRoom(except *exporter) {
	if t.bytes.Load() <= t.totalBudget {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.bytes.Load() > t.totalBudget && t.evict(except) {
	}
}

// evict forgets one exporter of a random few, but not the exception. It returns false
// if there is no other. t.mu is held.
func (t *exporters) evict(except *exporter) bool {
	others := func(yield func(netip.Addr, *exporter) bool) {
		for a, e := range t.byAddr.all() {
			if e != except && !yield(a, e) {
				return
			}
		}
	}
	_, e, ok := victim(others, goesBefore)
	if ok {
		t.forget(e)
	}
	return ok
}

// goesBefore reports whether the exporter a is evicted rather than b. An exporter
// whose templates never gave a record goes first, so a flood of forged sources evicts
// its own entries. Exporters of NetFlow v5 and sFlow are among these: they have no
// templates that could be lost. Of two others the one of more bytes goes first. If
// these are equal, it is the one that was silent for longer.
func goesBefore(a, b *exporter) bool {
	if used := a.templatesUsed.Load(); used != b.templatesUsed.Load() {
		return !used
	}
	if x, y := a.bytes.Load(), b.bytes.Load(); x != y {
		return x > y
	}
	return a.lastSeen.Load() < b.lastSeen.Load()
}

// forget removes an exporter with all that it has, and counts the data sets that it
// holds as dropped. Workers may refer to the exporter for a while: it stays valid, but
// remembers nothing from then on. t.mu is held.
func (t *exporters) forget(e *exporter) {
	before := t.byAddr.bytes()
	t.byAddr.delete(e.addr)
	t.bytes.Add(t.byAddr.bytes() - before)
	e.mu.Lock()
	defer e.mu.Unlock()
	for range e.removeHeldUntil(math.MaxInt64) {
		t.metrics.dropSet(setHoldFull)
	}
	for _, l := range e.templates.all() {
		t.releaseShape(l.shape)
	}
	t.numTemplates.Add(-int64(e.templates.len()))
	t.bytes.Add(-e.ownBytes)
	e.evicted.Store(true)
	e.templates, e.shapeUses = sizedMap[portKey, learnedTemplate]{}, sizedMap[*shape, int32]{}
	e.rates, e.bootTimes = sizedMap[samplerKey, uint64]{}, sizedMap[domainKey, uint64]{}
	e.names.clear()
	e.ownBytes, e.shapeBytes = 0, 0
	e.changed()
}

// shareShape returns the table's own copy of a shape, for one more template.
func (t *exporters) shareShape(s *shape) *shape {
	t.shapesMu.Lock()
	defer t.shapesMu.Unlock()
	if known := t.shapes.get(s.id); known != nil {
		s = *known
	} else {
		before := t.shapes.bytes()
		t.shapes.put(s.id, s)
		t.bytes.Add(s.bytes() + t.shapes.bytes() - before)
	}
	s.templates++
	return s
}

// releaseShape notes that a shape has one template less.
func (t *exporters) releaseShape(s *shape) {
	t.shapesMu.Lock()
	defer t.shapesMu.Unlock()
	if s.templates--; s.templates == 0 {
		before := t.shapes.bytes()
		t.shapes.delete(s.id)
		t.bytes.Add(t.shapes.bytes() - before - s.bytes())
	}
}

func (t *exporters) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byAddr.len()
}

// list returns the exporters known now.
func (t *exporters) list() []*exporter {
	t.mu.Lock()
	defer t.mu.Unlock()
	es := make([]*exporter, 0, t.byAddr.len())
	for _, e := range t.byAddr.all() {
		es = append(es, e)
	}
	return es
}

// exporter is what is known of one exporter's address: templates, sampling rates
// and boot times. All workers share it. Fields that are not atomic and may change
// are guarded by mu.
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
	// bytes is what the exporter is charged for: ownBytes and shapeBytes.
	bytes atomic.Int64

	// generation changes when a template, sampling rate or boot time does.
	// Workers need no lock as long as it stays the same.
	generation atomic.Uint64

	mu sync.RWMutex
	// templates has those that all ports of the address share (port 0), and those of
	// a port that sent another shape under an id that was in use.
	templates sizedMap[portKey, learnedTemplate]
	// shapeUses counts the templates of each shape.
	shapeUses sizedMap[*shape, int32]
	// rates are sampling rates, one in how many packets.
	rates sizedMap[samplerKey, uint64]
	// bootTimes are the Unix times in milliseconds that relative times of IPFIX
	// count from (IE 160 in options data).
	bootTimes sizedMap[domainKey, uint64]
	// names are those of interfaces, VRFs and applications in options data. Readers
	// need no lock.
	names optionsTable
	// ownBytes is the size of this struct and its maps, shapeBytes that of the
	// shapes in use.
	ownBytes, shapeBytes int64

	// held are the data sets that wait, by the template that they wait for, oldest
	// first. order has them all, oldest first, and some that no longer wait.
	held      map[templateKey][]*heldSet
	order     []*heldSet
	heldBytes int64
	numHeld   atomic.Int64
}

// portKey names a template as a source port sent it. Port 0 stands for all ports.
type portKey struct {
	templateKey
	port uint16
}

// learnedTemplate is a template of an exporter. Its key is that of the map.
type learnedTemplate struct {
	shape     *shape
	refreshed uint32 // when it was received last, in Unix seconds
	port      uint16 // the source port that sent it first
}

// samplerKey names a sampling rate: sampler is IE 302 or 48, 0 for the domain's.
type samplerKey struct {
	domain  uint32
	version uint16 // 9 or 10
	sampler uint64
}

// domainKey names an observation domain of IPFIX. version is always 10: the zero
// key is not allowed in a sizedMap, while 0 is a domain.
type domainKey struct {
	domain  uint32
	version uint16
}

// learnTemplate remembers a template that came from the given source port at the
// given time (Unix seconds).
//
// An exporter keeps its templates when its source port changes. Two exporters may
// send from one address, behind a NAT. If they send different shapes under one id,
// the second one's are kept for its port alone.
//
// It returns false if the exporter was evicted in the meantime.
func (e *exporter) learnTemplate(tmpl *template, port uint16, now int64) bool {
	e.mu.Lock()
	if e.evicted.Load() {
		e.mu.Unlock()
		return false
	}
	shared, own := portKey{templateKey: tmpl.key}, portKey{tmpl.key, port}
	l := learnedTemplate{tmpl.shape, uint32(now), port}
	current := e.templates.get(shared)
	switch {
	case current == nil:
		e.putTemplate(shared, l)
	case current.shape.id == l.shape.id:
		current.refreshed = l.refreshed
		if e.templates.get(own) != nil {
			e.removeTemplate(own)
			e.account()
			e.changed()
		}
	case current.port == port:
		e.putTemplate(shared, l)
	default:
		if o := e.templates.get(own); o != nil && o.shape.id == l.shape.id {
			o.refreshed = l.refreshed
		} else {
			e.putTemplate(own, l)
		}
	}
	e.mu.Unlock()
	e.all.makeRoom(e)
	return true
}

// putTemplate adds a template or replaces the one of its key. If the exporter's
// budget is used up, the templates that were not refreshed for longest go, of a
// random few each time. e.mu is held.
func (e *exporter) putTemplate(k portKey, l learnedTemplate) {
	e.removeTemplate(k)
	l.shape = e.all.shareShape(l.shape)
	for e.templates.len() > 0 && !e.hasRoomFor(l.shape) {
		oldest, _, _ := victim(e.templates.all(), func(a, b learnedTemplate) bool { return a.refreshed < b.refreshed })
		e.removeTemplate(oldest)
	}
	if uses := e.shapeUses.get(l.shape); uses != nil {
		*uses++
	} else {
		e.shapeUses.put(l.shape, 1)
		e.shapeBytes += l.shape.bytes()
	}
	e.templates.put(k, l)
	e.all.numTemplates.Add(1)
	e.account()
	e.changed()
}

// removeTemplate forgets a template, if it is known. e.mu is held.
func (e *exporter) removeTemplate(k portKey) {
	l := e.templates.get(k)
	if l == nil {
		return
	}
	s := l.shape
	e.templates.delete(k)
	e.all.numTemplates.Add(-1)
	if uses := e.shapeUses.get(s); *uses > 1 {
		*uses--
	} else {
		e.shapeUses.delete(s)
		e.shapeBytes -= s.bytes()
	}
	e.all.releaseShape(s)
}

// template returns the template for a data set that came from the given port. It
// returns false if there is none.
func (e *exporter) template(k templateKey, port uint16) (template, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	l := e.findTemplate(k, port)
	if l == nil {
		return template{}, false
	}
	return template{k, l.shape}, true
}

// findTemplate returns the template for a source port, nil if there is none. It is
// valid until the templates change. e.mu is held.
func (e *exporter) findTemplate(k templateKey, port uint16) *learnedTemplate {
	if l := e.templates.get(portKey{k, port}); l != nil {
		return l
	}
	return e.templates.get(portKey{templateKey: k})
}

// markUsed notes that a data set of the exporter was decoded by its template.
func (e *exporter) markUsed() {
	if !e.templatesUsed.Load() {
		e.templatesUsed.Store(true)
	}
}

// setSampling remembers a sampling rate, one in how many packets.
func (e *exporter) setSampling(k samplerKey, rate uint64) {
	setValue(e, &e.rates, k, rate, func() bool { return e.fits(e.templateBytes(), e.rates.bytesWithOneMore(), e.bootTimes.bytes()) })
}

// samplingRate returns the rate of a sampler, else the one of its domain, else 0.
func (e *exporter) samplingRate(k samplerKey) uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	rate := e.rates.get(k)
	if rate == nil && k.sampler != 0 {
		k.sampler = 0
		rate = e.rates.get(k)
	}
	if rate == nil {
		return 0
	}
	return *rate
}

// setBootTime remembers the boot time of an observation domain, in Unix
// milliseconds.
func (e *exporter) setBootTime(domain uint32, ms uint64) {
	setValue(e, &e.bootTimes, domainKey{domain, 10}, ms, func() bool { return e.fits(e.templateBytes(), e.rates.bytes(), e.bootTimes.bytesWithOneMore()) })
}

// bootTime returns the boot time of an observation domain, 0 if it is unknown.
func (e *exporter) bootTime(domain uint32) uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if ms := e.bootTimes.get(domainKey{domain, 10}); ms != nil {
		return *ms
	}
	return 0
}

// setValue remembers a sampling rate or boot time. If there is no room for one
// more, a random one of its kind goes.
func setValue[K comparable](e *exporter, m *sizedMap[K, uint64], k K, v uint64, hasRoom func() bool) {
	e.mu.Lock()
	known := m.get(k)
	if e.evicted.Load() || known != nil && *known == v {
		e.mu.Unlock()
		return
	}
	for known == nil && m.len() > 0 && !hasRoom() {
		other, _, _ := victim(m.all(), func(uint64, uint64) bool { return false })
		m.delete(other)
	}
	m.put(k, v)
	e.account()
	e.changed()
	e.mu.Unlock()
	e.all.makeRoom(e)
}

// changed makes the workers look again at what they derived.
func (e *exporter) changed() {
	e.generation.Add(1)
	e.all.changes.Add(1)
}

// account brings the exporter's size and that of all up to date after a change. e.mu
// is held.
func (e *exporter) account() {
	own := allocated(int64(unsafe.Sizeof(*e))) + e.templates.bytes() + e.shapeUses.bytes() + e.rates.bytes() + e.bootTimes.bytes() + e.names.bytes()
	e.all.bytes.Add(own - e.ownBytes)
	e.ownBytes = own
	e.bytes.Store(own + e.shapeBytes)
}

// templateBytes returns the size of the exporter's templates. e.mu is held.
func (e *exporter) templateBytes() int64 {
	return e.templates.bytes() + e.shapeUses.bytes() + e.shapeBytes
}

// hasRoomFor reports whether the exporter's budget holds one more template. e.mu is
// held.
func (e *exporter) hasRoomFor(s *shape) bool {
	n := e.templates.bytesWithOneMore() + e.shapeBytes
	if e.shapeUses.get(s) == nil {
		n += e.shapeUses.bytesWithOneMore() + s.bytes()
	} else {
		n += e.shapeUses.bytes()
	}
	return e.fits(n, e.rates.bytes(), e.bootTimes.bytes())
}

// fits reports whether the exporter's budget holds templates, sampling rates and
// boot times of the given sizes. An eighth of it is kept for each of the three, so
// that no kind can leave another without room, and one for names (learnName).
func (e *exporter) fits(templates, rates, bootTimes int64) bool {
	kept := e.all.exporterBudget / 8
	return int64(unsafe.Sizeof(*e))+kept+max(templates, kept)+max(rates, kept)+max(bootTimes, kept) <= e.all.exporterBudget
}
