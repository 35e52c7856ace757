package collector

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds on what peers can make the collector remember.
const (
	defaultMaxExporters = 4096
	maxTemplates        = 4096    // per exporter
	maxExporterFields   = 1 << 16 // of all templates of one exporter
	maxFields           = 1 << 20 // of all templates of all exporters
	maxSamplers         = 256     // per exporter
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

	// numTemplates and numFields count what all exporters hold together.
	numTemplates, numFields atomic.Int64
	// heldBytes and numHeld are of the data sets that wait for a template.
	heldBytes, numHeld atomic.Int64
	// changes counts what is worth writing to the templates file.
	changes atomic.Uint64
}

func newExporters(limit int, hold time.Duration, m *workerMetrics) *exporters {
	return &exporters{
		max: limit, holdFor: hold, holdExporter: defaultHoldExporter, holdTotal: defaultHoldTotal,
		metrics: m, byAddr: make(map[netip.Addr]*exporter),
	}
}

// exporter is what is known of one exporter's address: templates, sampling
// rates and the boot time that relative times count from. The workers that
// hear from it share it.
type exporter struct {
	table *exporters
	addr  netip.Addr

	lastSeen     atomic.Int64 // Unix seconds
	evicted      atomic.Bool
	sequenceLost atomic.Uint64

	// generation changes when a template, sampling rate or boot time does.
	// Workers keep what they derived until then, and take no lock.
	generation atomic.Uint64

	mu sync.Mutex
	// templates holds those that all ports of the address share (port 0), and
	// those of a port that sent another shape under an id already taken.
	templates map[portKey]*learned
	numFields int
	// sampling is replaced, never changed: readers take no lock.
	sampling atomic.Pointer[map[samplerKey]uint64]
	// bootTime is the Unix time in milliseconds that relative times of IPFIX
	// count from (IE 160 in options data), by observation domain.
	bootTime map[uint32]uint64
	// held are the data sets that wait for a template, oldest first.
	held      []heldSet
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

// get returns the exporter of addr, which it creates if need be, at the cost of
// one that was not heard from for long where the table is full.
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
		e.mu.Lock()
		has := len(e.templates) > 0
		e.mu.Unlock()
		if victim == nil || victimHas && !has || victimHas == has && e.lastSeen.Load() < victim.lastSeen.Load() {
			victim, victimHas = e, has
		}
		if n++; n == 16 {
			break
		}
	}
	if victim == nil {
		return
	}
	delete(t.byAddr, victim.addr)
	for range victim.take(func(*heldSet) bool { return true }) {
		t.metrics.dropSet(setHoldFull)
	}
	victim.mu.Lock()
	t.numTemplates.Add(-int64(len(victim.templates)))
	t.numFields.Add(-int64(victim.numFields))
	clear(victim.templates)
	victim.numFields = 0
	victim.evicted.Store(true)
	victim.generation.Add(1)
	victim.mu.Unlock()
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
func (e *exporter) addTemplate(tmpl *template, port uint16, now int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted.Load() {
		return // the worker looks the exporter up again for its next datagram
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
}

// changed makes the workers look again at what they derived. The lock is held.
func (e *exporter) changed() {
	e.generation.Add(1)
	e.table.changes.Add(1)
}

func (e *exporter) put(k portKey, tmpl *template, port uint16, now int64) {
	e.remove(k)
	for len(e.templates) > 0 && (len(e.templates) >= maxTemplates || e.numFields+len(tmpl.fields) > maxExporterFields ||
		e.table.numFields.Load()+int64(len(tmpl.fields)) > maxFields) {
		e.removeOldest()
	}
	if e.table.numFields.Load()+int64(len(tmpl.fields)) > maxFields {
		return // others hold all there is; the caller's data sets stay unknown and are counted
	}
	e.templates[k] = &learned{template: tmpl, port: port, refreshed: now}
	e.numFields += len(tmpl.fields)
	e.table.numTemplates.Add(1)
	e.table.numFields.Add(int64(len(tmpl.fields)))
	e.changed()
}

func (e *exporter) remove(k portKey) {
	if old := e.templates[k]; old != nil {
		delete(e.templates, k)
		e.numFields -= len(old.fields)
		e.table.numTemplates.Add(-1)
		e.table.numFields.Add(-int64(len(old.fields)))
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
	e.mu.Lock()
	defer e.mu.Unlock()
	next := make(map[samplerKey]uint64)
	if cur := e.sampling.Load(); cur != nil {
		if (*cur)[k] == rate {
			return
		}
		if _, known := (*cur)[k]; !known && len(*cur) >= maxSamplers {
			return
		}
		next = maps.Clone(*cur)
	}
	next[k] = rate
	e.sampling.Store(&next)
	e.changed()
}

// samplingRate returns the rate of a sampler, else the one of its domain, else 0.
func (e *exporter) samplingRate(k samplerKey) uint64 {
	m := e.sampling.Load()
	if m == nil {
		return 0
	}
	if rate, ok := (*m)[k]; ok || k.sampler == 0 {
		return rate
	}
	k.sampler = 0
	return (*m)[k]
}

func (e *exporter) setBootTime(domain uint32, ms uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bootTime[domain] == ms || len(e.bootTime) >= maxSamplers {
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
