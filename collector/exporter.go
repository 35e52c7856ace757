package collector

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on what peers can make the collector remember.
const (
	defaultMaxExporters = 4096
	maxTemplates        = 4096    // per exporter
	maxExporterFields   = 1 << 15 // of all templates of one exporter
	maxAllTemplates     = 1 << 17 // of all exporters
	// maxShapeCost bounds the different shapes of all templates, in fields; a
	// shape costs shapeCost on top.
	maxShapeCost = 1 << 18
	shapeCost    = 16
	maxSamplers  = 64 // per exporter
)

// exporters is the table of known exporters, by address. Workers ask it only
// when they meet a source that is new to them.
type exporters struct {
	max int
	// holdFor is how long data sets wait for their template; holdExporter and
	// holdTotal bound what they take, in bytes.
	holdFor                 time.Duration
	holdExporter, holdTotal int64
	metrics                 *workerMetrics // of what no worker does

	mu     sync.Mutex
	byAddr map[netip.Addr]*exporter

	// numTemplates counts the templates of all exporters.
	numTemplates atomic.Int64
	shapesMu     sync.Mutex
	shapes       map[string]*shape
	shapesCost   int
	// heldBytes and numHeld are of the data sets that wait for a template.
	heldBytes, numHeld atomic.Int64
	// changes counts what is worth writing to the templates file.
	changes atomic.Uint64
}

func newExporters(limit int, hold time.Duration, m *workerMetrics) *exporters {
	return &exporters{
		max: limit, holdFor: hold, holdExporter: defaultHoldExporter, holdTotal: defaultHoldTotal,
		metrics: m, byAddr: make(map[netip.Addr]*exporter), shapes: make(map[string]*shape),
	}
}

// exporter is what is known of one exporter's address: templates, sampling
// rates and the boot time that relative times count from. The workers that
// hear from it share it.
type exporter struct {
	table *exporters
	addr  netip.Addr

	lastSeen     atomic.Int64 // Unix milliseconds
	evicted      atomic.Bool
	sequenceLost atomic.Uint64

	// generation changes when a template, sampling rate or boot time does.
	// Workers keep what they derived until then, and take no lock.
	generation atomic.Uint64

	mu sync.Mutex
	// templates holds those that all ports of the address share (port 0), and
	// those of a port that sent another shape under an id already taken.
	templates    map[portKey]*learned
	numTemplates atomic.Int64
	numFields    int
	// bootTime is the Unix time in milliseconds that relative times of IPFIX
	// count from (IE 160 in options data), by observation domain.
	bootTime   map[uint32]uint64
	samplingMu sync.RWMutex
	sampling   map[samplerKey]uint64
	// held are the data sets that wait, by the template that they wait for, oldest
	// first. order has them all, oldest first, and some that no longer wait.
	held      map[templateKey][]*heldSet
	order     []*heldSet
	heldBytes int64
	numHeld   atomic.Int64
}

type portKey struct {
	templateKey
	port uint16
}

type learned struct {
	*template
	port      uint16 // who sent it first
	refreshed int64  // Unix seconds
}

// samplerKey names a sampling rate: sampler is IE 302 or 48, 0 for the domain's.
type samplerKey struct {
	domain  uint32
	version uint16
	sampler uint64
}

// get returns the exporter of addr, heard from now (Unix milliseconds), which it
// creates if need be, at the cost of one that was not heard from for long where the table is full.
func (t *exporters) get(addr netip.Addr, now int64) *exporter {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byAddr[addr]
	if e == nil {
		if len(t.byAddr) >= t.max {
			t.evictLocked()
		}
		e = &exporter{table: t, addr: addr, templates: make(map[portKey]*learned), bootTime: make(map[uint32]uint64)}
		e.generation.Store(1)
		t.byAddr[addr] = e
	}
	e.lastSeen.Store(max(now, e.lastSeen.Load()))
	return e
}

// evictLocked forgets one exporter: of a random few the one without templates,
// else the one not heard from for longest. A flood of forged sources thus
// pushes out its own entries first.
func (t *exporters) evictLocked() {
	var victim *exporter
	victimHas := false
	n := 0
	for _, e := range t.byAddr {
		has := e.numTemplates.Load() > 0
		if victim == nil || victimHas && !has || victimHas == has && e.lastSeen.Load() < victim.lastSeen.Load() {
			victim, victimHas = e, has
		}
		if n++; n == 16 {
			break
		}
	}
	if victim != nil {
		t.forgetLocked(victim)
	}
}

// forgetLocked takes an exporter out of the table, with all that it has.
func (t *exporters) forgetLocked(victim *exporter) {
	delete(t.byAddr, victim.addr)
	for range victim.takeAll() {
		t.metrics.dropSet(setHoldFull)
	}
	victim.mu.Lock()
	defer victim.mu.Unlock()
	for k := range victim.templates {
		victim.remove(k)
	}
	victim.templates, victim.bootTime = nil, nil // workers may remember it for a while
	victim.evicted.Store(true)
	victim.samplingMu.Lock()
	victim.sampling = nil
	victim.samplingMu.Unlock()
	victim.changed()
}

// full tells whether all exporters together have as many templates, or shapes
// of templates, as they may.
func (t *exporters) full() bool {
	t.shapesMu.Lock()
	defer t.shapesMu.Unlock()
	return t.numTemplates.Load() >= maxAllTemplates || t.shapesCost+shapeCost+maxTemplateFields > maxShapeCost
}

// makeRoom forgets exporters until there is room for another template, except
// the one that wants it: of a random few with templates the one not heard from
// for longest, each time.
func (t *exporters) makeRoom(except *exporter) {
	for t.full() {
		t.mu.Lock()
		var victim *exporter
		n := 0
		for _, e := range t.byAddr {
			if e == except || e.numTemplates.Load() == 0 {
				continue
			}
			if victim == nil || e.lastSeen.Load() < victim.lastSeen.Load() {
				victim = e
			}
			if n++; n == 16 {
				break
			}
		}
		if victim != nil {
			t.forgetLocked(victim)
		}
		t.mu.Unlock()
		if victim == nil {
			return // it has all by itself
		}
	}
}

// intern returns the table's own copy of a shape, for one more template.
func (t *exporters) intern(s *shape) *shape {
	t.shapesMu.Lock()
	defer t.shapesMu.Unlock()
	if known := t.shapes[s.id]; known != nil {
		s = known
	} else {
		t.shapes[s.id] = s
		t.shapesCost += shapeCost + len(s.fields)
	}
	s.refs++
	return s
}

// release says that one template less has the shape.
func (t *exporters) release(s *shape) {
	t.shapesMu.Lock()
	defer t.shapesMu.Unlock()
	if s.refs--; s.refs == 0 {
		delete(t.shapes, s.id)
		t.shapesCost -= shapeCost + len(s.fields)
	}
}

func (t *exporters) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byAddr)
}

// all returns the exporters known now.
func (t *exporters) all() []*exporter {
	t.mu.Lock()
	defer t.mu.Unlock()
	es := make([]*exporter, 0, len(t.byAddr))
	for _, e := range t.byAddr {
		es = append(es, e)
	}
	return es
}

// addTemplate remembers a template that came from the given source port.
//
// An exporter keeps its templates when its source port changes. Two exporters
// behind one address are told apart when they send different shapes under one
// id: the second one's are then kept for its port alone.
//
// It returns false if the exporter was forgotten in the meantime.
func (e *exporter) addTemplate(tmpl *template, port uint16, now int64) bool {
	if e.table.full() {
		e.table.makeRoom(e)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() {
		return false
	}
	shared, own := portKey{templateKey: tmpl.key}, portKey{tmpl.key, port}
	cur := e.templates[shared]
	switch {
	case cur == nil:
		e.put(shared, tmpl, port, now)
	case cur.sameShape(tmpl):
		cur.refreshed = now
		if _, ok := e.templates[own]; ok {
			e.remove(own)
			e.changed()
		}
	case cur.port == port:
		e.put(shared, tmpl, port, now)
	default:
		if o := e.templates[own]; o != nil && o.sameShape(tmpl) {
			o.refreshed = now
		} else {
			e.put(own, tmpl, port, now)
		}
	}
	return true
}

// changed makes the workers look again at what they derived.
func (e *exporter) changed() {
	e.generation.Add(1)
	e.table.changes.Add(1)
}

func (e *exporter) put(k portKey, tmpl *template, port uint16, now int64) {
	e.remove(k)
	for len(e.templates) > 0 && (len(e.templates) >= maxTemplates || e.numFields+len(tmpl.fields) > maxExporterFields || e.table.full()) {
		e.removeOldest()
	}
	e.templates[k] = &learned{template: &template{tmpl.key, e.table.intern(tmpl.shape)}, port: port, refreshed: now}
	e.numFields += len(tmpl.fields)
	e.numTemplates.Add(1)
	e.table.numTemplates.Add(1)
	e.changed()
}

func (e *exporter) remove(k portKey) {
	if old := e.templates[k]; old != nil {
		delete(e.templates, k)
		e.numFields -= len(old.fields)
		e.numTemplates.Add(-1)
		e.table.numTemplates.Add(-1)
		e.table.release(old.shape)
	}
}

// removeOldest forgets, of a random few, the template not refreshed for longest.
func (e *exporter) removeOldest() {
	var victim portKey
	oldest := int64(1<<63 - 1)
	n := 0
	for k, l := range e.templates {
		if l.refreshed < oldest {
			victim, oldest = k, l.refreshed
		}
		if n++; n == 16 {
			break
		}
	}
	e.remove(victim)
}

// template finds the template for a data set that came from the given port.
func (e *exporter) template(k templateKey, port uint16) *template {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l := e.templates[portKey{k, port}]; l != nil {
		return l.template
	}
	if l := e.templates[portKey{templateKey: k}]; l != nil {
		return l.template
	}
	return nil
}

// setSampling remembers a sampling rate, one in how many packets.
func (e *exporter) setSampling(k samplerKey, rate uint64) {
	e.samplingMu.Lock()
	defer e.samplingMu.Unlock()
	known, ok := e.sampling[k]
	if ok && known == rate || !ok && len(e.sampling) >= maxSamplers || e.evicted.Load() {
		return
	}
	if e.sampling == nil {
		e.sampling = make(map[samplerKey]uint64)
	}
	e.sampling[k] = rate
	e.changed()
}

// samplingRate returns the rate of a sampler, else the one of its domain, else 0.
func (e *exporter) samplingRate(k samplerKey) uint64 {
	e.samplingMu.RLock()
	defer e.samplingMu.RUnlock()
	if rate, ok := e.sampling[k]; ok || k.sampler == 0 {
		return rate
	}
	k.sampler = 0
	return e.sampling[k]
}

func (e *exporter) setBootTime(domain uint32, ms uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() || e.bootTime[domain] == ms || len(e.bootTime) >= maxSamplers {
		return
	}
	e.bootTime[domain] = ms
	e.changed()
}

func (e *exporter) boot(domain uint32) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bootTime[domain]
}
