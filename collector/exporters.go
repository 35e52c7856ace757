package collector

import (
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Budgets of what exporters make us remember, in bytes of live heap: templates,
// sampling rates, boot times and the exporters themselves. Data sets that wait for
// a template have budgets of their own (pending.go), and so have the workers'
// caches (peers.go).
const (
	// defaultExporterBudget is for one exporter. It holds 64 observation domains
	// with the 89 templates that Open vSwitch has in each several times over.
	defaultExporterBudget = 4 << 20
	// defaultTotalBudget is for all exporters. It holds 4,096 of them with 4
	// domains of 88 templates each.
	defaultTotalBudget = 128 << 20
	// defaultSessionBudget is what an address has in addition for each further port
	// that sends templates: another exporter behind the same address.
	defaultSessionBudget = 64 << 10
)

// exporters is the table of known exporters, by address. Workers ask it only when
// they meet a source that is new to them.
//
// Locks are taken in this order: mu, an exporter's mu, largeMu, shapesMu or decodableMu.
type exporters struct {
	// exporterBudget, sessionBudget and totalBudget are in bytes.
	exporterBudget, sessionBudget, totalBudget int64
	// holdFor is how long data sets wait for their template; holdExporter and
	// holdTotal bound what they take, in bytes.
	holdFor                 time.Duration
	holdExporter, holdTotal int64
	metrics                 *workerMetrics // of what no worker does

	mu     sync.Mutex
	byAddr sizedMap[netip.Addr, *exporter]
	met    uint64 // exporters so far

	// large are the addresses that take more than exporterBudget: few fit into the total
	// budget.
	largeMu sync.Mutex
	large   []*exporter

	shapesMu sync.Mutex
	shapes   sizedMap[string, *shape] // by their id

	// bytes is what counts against the total budget: byAddr, the exporters, and
	// each shape once.
	bytes atomic.Int64
	// numTemplates counts the templates of all exporters.
	numTemplates atomic.Int64
	// heldBytes and numHeld are of the data sets that wait for a template.
	heldBytes, numHeld atomic.Int64
	// expireNotBefore is when expireHeld may look through all of them again, in Unix
	// nanoseconds.
	expireNotBefore int64
	// numShared is the number of addresses that several exporters share.
	numShared atomic.Int64
	// unsaved reports whether the templates file lacks something.
	unsaved atomic.Bool

	// lendUntil is until when, in Unix nanoseconds, a set that waits may have a
	// template lent to it (lend.go).
	lendUntil atomic.Int64
	// decodable are held sets whose template has been lent to them, for the worker
	// that comes first; numDecodable is their number.
	decodableMu  sync.Mutex
	decodable    []decodableSets
	numDecodable atomic.Int64
}

func newExporters(hold time.Duration, m *workerMetrics) *exporters {
	return &exporters{
		exporterBudget: defaultExporterBudget, sessionBudget: defaultSessionBudget, totalBudget: defaultTotalBudget,
		holdFor: hold, holdExporter: DefaultHoldExporter, holdTotal: MaxHold,
		metrics: m,
	}
}

// get returns the exporter of addr, which it creates if need be. now is the time of
// its last datagram, in Unix milliseconds.
func (t *exporters) get(addr netip.Addr, now int64) *exporter {
	steps.Add(steps.Lock)
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.byAddr.get(addr); known != nil {
		e := *known
		e.lastSeen.Store(max(now, e.lastSeen.Load()))
		return e
	}
	t.met++
	e := &exporter{all: t, addr: addr, number: t.met}
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

// evict forgets one exporter of a random few, but not the exception. Of an address with
// several exporters one goes. It returns false if there is no other. t.mu is held.
func (t *exporters) evict(except *exporter) bool {
	others := func(yield func(netip.Addr, *exporter) bool) {
		for a, e := range t.byAddr.all() {
			if e != except && !yield(a, e) {
				return
			}
		}
	}
	_, e, ok := victim(others, goesBefore)
	if !ok || e.templatesUsed.Load() {
		// Rather one of an address that takes more than an exporter may, be it the
		// exception.
		if large := t.largest(); large != nil {
			e, ok = large, true
		}
	}
	switch {
	case !ok:
	case e.numSessions.Load() > 1:
		e.mu.Lock()
		e.forgetOneSession()
		e.mu.Unlock()
	default:
		t.forget(e)
	}
	return ok
}

// noteSize notes whether an address takes more than one exporter may. e.mu is held.
func (t *exporters) noteSize(e *exporter) {
	if large := e.bytes.Load() > t.exporterBudget; large != e.large {
		e.large = large
		t.largeMu.Lock()
		defer t.largeMu.Unlock()
		if large {
			t.large = append(t.large, e)
		} else {
			t.large = slices.DeleteFunc(t.large, func(other *exporter) bool { return other == e })
		}
	}
}

// largest returns the address that takes most of those that take more than one exporter
// may, and has several of them; nil if there is none.
func (t *exporters) largest() (largest *exporter) {
	t.largeMu.Lock()
	defer t.largeMu.Unlock()
	for _, e := range t.large {
		if e.numSessions.Load() > 1 && (largest == nil || e.bytes.Load() > largest.bytes.Load()) {
			largest = e
		}
	}
	return largest
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
	for _, l := range e.allTemplates() {
		t.releaseShape(l.shape)
	}
	for _, l := range e.lent.all() {
		t.releaseShape(l.shape)
	}
	t.numTemplates.Add(-int64(e.countTemplates()))
	for _, s := range e.sessions.all() {
		s.clear()
	}
	e.numSessions.Store(0)
	t.bytes.Add(-e.ownBytes)
	e.evicted.Store(true)
	e.knowledge = knowledge{}
	e.names.clear()
	e.ownBytes, e.shapeBytes = 0, 0
	e.bytes.Store(0)
	t.noteSize(e)
	e.changed()
}

// shareShape returns the table's own copy of a shape, for one more template.
func (t *exporters) shareShape(s *shape) *shape {
	steps.Add(steps.Lock)
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
	steps.Add(steps.Lock)
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
