package collector

import (
	"cmp"
	"slices"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// sharingInterval is how often it is looked for addresses that several exporters
	// share, in nanoseconds.
	sharingInterval = int64(2 * time.Second)
	// activeFor is how many seconds after its last datagram an exporter counts as there.
	activeFor = 10 * 60
	// sessionLife is how many seconds a port may be silent before its templates are
	// forgotten, if its address has others.
	sessionLife = int64(maxTemplateAge / time.Second)
)

// sharing watches for addresses that several exporters share: their source addresses were
// translated. Then records cannot be distinguished by SamplerAddress, nodes have no names by
// it, and -allow admits all of them or none. One goroutine uses it.
type sharing struct {
	checked int64 // Unix nanoseconds
	limiter ratelog.Limiter
}

// holdWarning says what to do once data sets find no room to wait. One goroutine uses it.
type holdWarning struct {
	dropped uint64
	limiter ratelog.Limiter
}

// check logs, with a limit, that sets were dropped since the last call. now is in Unix
// nanoseconds.
func (w *holdWarning) check(c *Collector, now int64) {
	dropped := uint64(0)
	for _, m := range c.allMetrics() {
		dropped += m.sets[setHoldFull].Load()
	}
	if dropped == w.dropped {
		return
	}
	if log := w.limiter.Logger(c.log, now); log != nil {
		log.WithField("sets", dropped-w.dropped).Warn("data sets were dropped that waited for their template: there was no more room. " +
			"Raise -templates.hold-size, keep templates across restarts with -templates.file, or have exporters send templates more often")
		w.dropped = dropped
	}
}

// check counts the addresses that several exporters share at the given time (Unix
// nanoseconds), and logs those that are new, with a limit. It also forgets the templates of
// ports that were silent for long.
func (w *sharing) check(t *exporters, now int64, log logrus.FieldLogger) {
	if now-w.checked < sharingInterval {
		return
	}
	w.checked = now
	n := int64(0)
	for _, e := range t.list() {
		if e.numSessions.Load() < 2 {
			e.shared.Store(false)
			continue
		}
		e.expireSessions(now / 1e9)
		shared := e.isShared(now / 1e9)
		if shared {
			n++
		}
		if !e.shared.Swap(shared) && shared {
			if log := w.limiter.Logger(log, now); log != nil {
				log.WithFields(logrus.Fields{"exporter": e.addr, "ports": e.numSessions.Load()}).Warn(
					"several exporters send from one address: it was translated on the way. Their records have the same SamplerAddress, and -allow cannot tell them apart; " +
						"have them send to an address that keeps the sender's, such as the nodes' own")
			}
		}
	}
	t.numShared.Store(n)
}

// sharingKey is what two exporters have in common that cannot be one: one Exporting
// Process announces an observation domain over one transport session. Open vSwitch has one
// process for each bridge and set of collectors. It numbers them, so that the several
// ports of one Open vSwitch have different numbers, while two of them count alike.
type sharingKey struct {
	domain  uint32
	process uint32
	version uint16
}

// isShared reports whether several exporters send from the address at the given time
// (Unix seconds): two ports announced the same observation domain by templates of their own,
// and the one that came first went on after the other came. A restarted exporter that has
// another port is silent on its old one.
func (e *exporter) isShared(now int64) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var active []*session
	for _, s := range e.sessions.all() {
		if now-s.lastSeen.Load() <= activeFor {
			active = append(active, s)
		}
	}
	slices.SortFunc(active, func(a, b *session) int { return cmp.Compare(a.began, b.began) })
	last := make(map[sharingKey]int64) // when those before were seen last
	for _, s := range active {
		if s.willTellProcess() {
			continue
		}
		own := make(map[sharingKey]bool)
		for k := range s.templates.all() {
			key := sharingKey{k.domain, s.process.Load(), k.version}
			if own[key] {
				continue
			}
			own[key] = true
			before, known := last[key]
			if known && min(before, s.lastSeen.Load()) > s.began+1 {
				return true
			}
			last[key] = max(before, s.lastSeen.Load())
		}
	}
	return false
}

// willTellProcess reports whether the session has not yet announced which Exporting Process
// it is, but has sent the options template for it.
func (s *session) willTellProcess() bool {
	if s.process.Load() != 0 {
		return false
	}
	for _, l := range s.templates.all() {
		if l.shape.options && slices.ContainsFunc(l.shape.fields[:l.shape.scopes], func(f netflow.Field) bool {
			return !f.PenProvided && f.Type == ieExportingProcessID
		}) {
			return true
		}
	}
	return false
}

// expireSessions forgets the templates of ports that were silent for long. Those of one port
// stay. now is in Unix seconds.
func (e *exporter) expireSessions(now int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var expired []portNumber
	for port, s := range e.sessions.all() {
		if now-s.lastSeen.Load() > sessionLife {
			expired = append(expired, port)
		}
	}
	for _, port := range expired {
		if e.sessions.len() > 1 {
			e.forgetSession(port)
		}
	}
}
