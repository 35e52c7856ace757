package collector

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// A template belongs to the port that sent it (RFC 7011, 8: to the transport session).
// Data from a port that has sent no template waits for one. If none has come for a
// while, and there is no doubt which template of the address is meant, that is lent to
// the port, until it sends a template itself.
const (
	// lendAfter is how long data waits before.
	lendAfter = 10 * time.Second
	// lendRefreshed is how many seconds ago the template may have been refreshed.
	lendRefreshed = 30 * 60
	// maxLent bounds the templates that an address lends to its ports.
	maxLent = 4096
	// restPerLook is how long the sets of an address, or the ports of all, are not looked
	// through again for each that was looked at: at most some hundredths of the time go there.
	restPerLook = 20 * time.Microsecond
)

// rests reports whether it is before the given time, but not so long that a clock must have
// gone back. Both are in Unix nanoseconds.
func rests(now, until int64) bool { return now < until && until-now < int64(time.Minute) }

// lending is what an exporter needs to lend templates. The exporter's mu guards it.
type lending struct {
	// lendAt is when the next set that waits has waited for long enough, in Unix
	// nanoseconds.
	lendAt int64
	// refused reports whether sets have waited for long enough for which there was no
	// template to lend; refusedAt is the exporter's generation then.
	refused   bool
	refusedAt uint64
	// notBefore is when the sets may be looked through again, in Unix nanoseconds.
	notBefore int64
}

// decodableSets are held sets of one port whose template has been lent to it.
type decodableSets struct {
	exporter *exporter
	key      portKey
}

// loan is a template that may be lent: the one shape that the ports of an address
// have under its key.
type loan struct {
	shape     *shape
	several   bool
	refreshed uint32
}

// waitToBorrow notes that a set waits, to which a template may be lent if its port
// sends none. e.mu is held.
func (e *exporter) waitToBorrow(s *heldSet) {
	if e.session(s.port) != nil {
		return
	}
	at := s.received + int64(lendAfter)
	e.lendAt = min(e.lendAt, at)
	e.all.lendBy(at)
}

// lendBy has workers look for sets to decode until soon after the given time (Unix
// nanoseconds), at which a template may be lent. A worker that has no datagrams sleeps
// otherwise.
func (t *exporters) lendBy(at int64) {
	until := at + int64(time.Second)
	for old := t.lendUntil.Load(); old < until && !t.lendUntil.CompareAndSwap(old, until); {
		old = t.lendUntil.Load()
	}
}

// returnLent ends what was lent to a port, which now sends its first template. e.mu is
// held.
func (e *exporter) returnLent(port uint16) {
	if e.lentTo.get(portNumber(port)+1) == nil {
		return
	}
	var ended []portKey
	for k := range e.lent.all() {
		steps.Add(1)
		if k.port == port {
			ended = append(ended, k)
		}
	}
	for _, k := range ended {
		e.removeLent(k)
	}
}

// lendTemplates lends templates to the ports whose data has waited for long enough at
// the given time (Unix nanoseconds), or to all if no more can come.
func (t *exporters) lendTemplates(now int64, last bool) {
	if t.numHeld.Load() == 0 {
		return
	}
	for _, e := range t.list() {
		if e.numHeld.Load() > 0 {
			e.lendTemplates(now, last)
			t.makeRoom(e)
		}
	}
}

func (e *exporter) lendTemplates(now int64, last bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	generation := e.generation.Load()
	if !last && (now < e.lendAt && !(e.refused && e.refusedAt != generation) || rests(now, e.notBefore)) {
		return
	}
	looked := 0
	defer func() {
		e.notBefore = now + int64(looked)*int64(restPerLook)
		if e.lendAt != math.MaxInt64 {
			e.all.lendBy(max(e.lendAt, e.notBefore))
		}
	}()
	until := now - int64(lendAfter)
	if last {
		until = math.MaxInt64
	}
	e.lendAt, e.refused, e.refusedAt = math.MaxInt64, false, generation
	candidates := make(map[templateKey]*loan)
	var waiting []portKey // the one that waits for longest first
	since := make(map[portKey]int64)
	for port, p := range e.heldPorts {
		if e.session(port) != nil {
			continue // a port that sends templates will send this one, too
		}
		looked++
		for _, s := range p.order {
			looked++
			k := s.portKey()
			if _, known := since[k]; known || !s.waits || e.lent.get(k) != nil {
				continue // the last: a worker will decode it
			}
			if s.received > until {
				e.lendAt = min(e.lendAt, s.received+int64(lendAfter))
				break
			}
			since[k], candidates[s.key()] = s.received, new(loan)
			waiting = append(waiting, k)
		}
	}
	slices.SortFunc(waiting, func(a, b portKey) int { return cmp.Compare(since[a], since[b]) })
	if len(waiting) == 0 {
		return
	}
	for k, l := range e.allTemplates() {
		looked++
		if c := candidates[k.templateKey]; c != nil {
			c.several = c.several || c.shape != nil && c.shape.id != l.shape.id
			c.shape, c.refreshed = l.shape, max(c.refreshed, l.refreshed)
		}
	}
	for _, k := range waiting {
		c := candidates[k.templateKey]
		if c.shape == nil || c.several || now/1e9-int64(c.refreshed) > lendRefreshed {
			e.refused = true
			continue
		}
		e.putLent(k, c.shape, c.refreshed)
		e.all.metrics.fallback(fallbackPort)
		e.all.addDecodable(decodableSets{e, k})
	}
	e.refusedAt = e.generation.Load()
}

func (t *exporters) addDecodable(s decodableSets) {
	t.decodableMu.Lock()
	defer t.decodableMu.Unlock()
	t.decodable = append(t.decodable, s)
	t.numDecodable.Store(int64(len(t.decodable)))
}

// decodeLent decodes the sets whose template has been lent to their port.
func (d *Decoder) decodeLent() {
	t := d.exporters
	if t.numDecodable.Load() == 0 {
		return
	}
	t.decodableMu.Lock()
	all := t.decodable
	t.decodable = nil
	t.numDecodable.Store(0)
	t.decodableMu.Unlock()
	for len(all) > 0 {
		e := all[0].exporter
		var sets []*heldSet
		for len(all) > 0 && all[0].exporter == e {
			sets = append(sets, e.removeDecodable(all[0].key.templateKey, all[0].key.port)...)
			all = all[1:]
		}
		slices.SortStableFunc(sets, func(a, b *heldSet) int { return cmp.Compare(a.received, b.received) })
		d.decodeHeld(e, sets)
	}
}

// waitsToLend reports whether templates may soon be lent to data that waits, so that
// somebody should call decodeLent.
func (t *exporters) waitsToLend(now int64) bool {
	return t.numDecodable.Load() > 0 || t.numHeld.Load() > 0 && now < t.lendUntil.Load()
}
