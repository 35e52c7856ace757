package collector

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Budgets of the caches of one worker, in bytes. What does not fit is evicted one
// by one: it can be derived again from the table of exporters, but for sequence
// numbers, which are then tracked anew.
const (
	// peersBudget is for the sources, with their bindings and sequence numbers: for
	// 4,096 sources with ten templates in use each.
	peersBudget = 24 << 20
	// peerBudget is for the bindings of one source: 64 observation domains of 89
	// templates take half of it. Beyond it the source evicts its own.
	peerBudget = 4 << 20
	// decodersBudget is for the record decoders. One of 50 fields takes about 10 KiB.
	decodersBudget = 16 << 20
)

// Sizes on the heap, in bytes. They include four slots of a Go map, of 8 slots and
// 8 control bytes a group (Go's internal/runtime/maps): a map is at least 7/16 full
// after it grew, and half as full if keys come and go.
const (
	// peerBytes has the exporter and session, too: a peer may be the last to refer to them.
	peerBytes    = int(unsafe.Sizeof(peer{})) + 2*int(unsafe.Sizeof(peerSlot{})) + int(unsafe.Sizeof(exporter{})) + int(unsafe.Sizeof(session{})) + 4*41 + 128
	bindingBytes = int(unsafe.Sizeof(templateBinding{})) + 4*17 + emptyDecoderBytes
	// trackerBytes has the room that a tracker keeps for gaps.
	rateCacheBytes = int(unsafe.Sizeof(rateCache{}))
	trackerBytes   = int(unsafe.Sizeof(sequence.Tracker{})) + 4*17 + sequence.IdleGapBytes
)

// peer is what a worker keeps of one source, an address and port.
type peer struct {
	exporter *exporter
	session  *session // nil if its port has sent no template
	source   netip.AddrPort
	address  []byte // SamplerAddress: 4 or 16 bytes
	bindings map[templateKey]*templateBinding
	// sampling is the rate that -sampling gives to exporters that send none.
	sampling  uint64
	rates     *rateCache // nil unless records decide on their rate
	sequences sequence.Source
	// work is what the peer has earned and not used, as in work.go.
	work int

	datagrams uint32
	slot      int32 // its place in Decoder.slots
	bytes     int   // of peersBudget; 0 once the peer was evicted
}

// peerSlot has what the choice of the peer to evict goes by: the peers themselves are all
// over memory.
type peerSlot struct {
	peer *peer
	// lastUsed is when a datagram came last, in Unix seconds.
	lastUsed uint32
	// worth is the magnitude of the datagrams that the peer has sent by what it takes. It is
	// brought up to date once a second, and when they grow.
	worth uint32
}

// peerSilent is for how long a peer may be silent before it goes before those that are
// not, in seconds.
const peerSilent = 30 * 60

// silent reports whether the peer has been silent for long at now, in Unix seconds.
func (s *peerSlot) silent(now uint32) bool { return int32(now-s.lastUsed) > peerSilent }

// goesBefore reports whether the peer is to be evicted before another one: one that has long
// been silent, else one that has sent clearly fewer datagrams for what it takes, as forged
// sources have. Where these are equal, it is the one that was silent for longer.
func (s *peerSlot) goesBefore(o *peerSlot, now uint32) bool {
	if x, y := s.silent(now), o.silent(now); x != y {
		return x
	}
	if s.worth != o.worth {
		return s.worth < o.worth
	}
	return int32(s.lastUsed-o.lastUsed) < 0
}

// updateSlot brings the peer's slot up to date.
func (d *Decoder) updateSlot(p *peer) {
	s := &d.slots[p.slot]
	s.lastUsed = uint32(d.received / 1e9)
	s.worth = uint32(bits.Len64(uint64(p.datagrams) << 20 / uint64(p.bytes)))
}

// peerOf returns what the worker keeps of a source, and notes that a datagram of it
// has been received.
func (d *Decoder) peerOf(source netip.AddrPort) *peer {
	now := d.received / 1e6
	steps.Add(steps.Lookup)
	p := d.peers[source]
	if p != nil && !p.exporter.evicted.Load() {
		if p.datagrams < math.MaxUint32 { // a peer that wraps would look like a new one
			p.datagrams++
		}
		if p.datagrams&(p.datagrams-1) == 0 || d.slots[p.slot].lastUsed != uint32(d.received/1e9) {
			d.updateSlot(p)
		}
		if p.exporter.lastSeen.Load() < now {
			p.exporter.lastSeen.Store(now)
		}
		if s := p.session; s != nil && s.lastSeen.Load() < now/1e3 {
			s.lastSeen.Store(now / 1e3)
		}
		return p
	}
	if p != nil {
		d.forgetPeer(p)
	}
	steps.Add(3*steps.Allocation + steps.Lookup)
	steps.Copied(peerBytes)
	p = &peer{
		exporter:  d.exporters.get(source.Addr(), now),
		source:    source,
		address:   source.Addr().AsSlice(),
		bindings:  make(map[templateKey]*templateBinding),
		sampling:  d.policy.samplingRate(source.Addr()),
		datagrams: 1, slot: int32(len(d.slots)), bytes: peerBytes,
	}
	d.peers[source] = p
	d.slots = append(d.slots, peerSlot{peer: p})
	d.updateSlot(p)
	p.findSession()
	d.peersBytes += peerBytes
	d.evictPeers(p)
	return p
}

// findSession looks up what the peer's port has sent.
func (p *peer) findSession() {
	p.exporter.mu.RLock()
	defer p.exporter.mu.RUnlock()
	p.session = p.exporter.session(p.source.Port())
}

// markUsed notes that a data set of the peer was decoded by its template.
func (p *peer) markUsed() {
	p.exporter.markUsed()
	if s := p.session; s != nil && !s.used.Load() {
		s.used.Store(true)
	}
}

// setProcess notes which exporting process the peer is.
func (p *peer) setProcess(id uint32) {
	if s := p.session; s != nil && s.process.Load() != id {
		s.process.Store(id)
	}
}

// chargePeer adds to what a peer takes, in bytes; it may be less than 0. If the budget
// is used up, other peers go.
func (d *Decoder) chargePeer(p *peer, bytes int) {
	if p.bytes == 0 {
		return // evicted, and in use for the datagram at hand
	}
	p.bytes += bytes
	d.peersBytes += bytes
	d.updateSlot(p)
	d.evictPeers(p)
}

// evictPeers evicts peers, but not the exception, until the budget is kept: of a random
// few the one that goes before the others, each time. If the exception should go before
// that one, or takes much, it loses bindings of its own instead.
func (d *Decoder) evictPeers(except *peer) {
	for d.peersBytes > d.peersBudget {
		p := d.peerToEvict(except)
		switch {
		case p == nil:
			return
		case len(except.bindings) > 0 && (except.bytes > d.peersBudget/64 || d.slots[except.slot].worth < d.slots[p.slot].worth):
			d.forgetBinding(except)
		default:
			d.forgetPeer(p)
		}
	}
}

// peerToEvict chooses the peer to evict of a random few, but not the exception; nil if there is
// no other. As long as all are worth more than the exception, it looks at some more of them: that
// is likely a forged source, and others like it are there.
func (d *Decoder) peerToEvict(except *peer) *peer {
	if len(d.slots) < 2 {
		return nil
	}
	now, asks := uint32(d.received/1e9), &d.slots[except.slot]
	var chosen *peerSlot
	for n := range 4 * evictionChoice {
		if n%evictionChoice == 0 && chosen != nil && (chosen.worth <= asks.worth || chosen.silent(now)) {
			break
		}
		steps.Add(1)
		i := rand.IntN(len(d.slots) - 1) //nolint:gosec // no secret: chance only spreads evictions
		if i >= int(except.slot) {
			i++
		}
		if s := &d.slots[i]; chosen == nil || s.goesBefore(chosen, now) {
			chosen = s
		}
	}
	steps.Add(steps.Miss)
	return chosen.peer
}

// forgetBinding removes a random binding of a peer that has one.
func (d *Decoder) forgetBinding(p *peer) {
	for k := range p.bindings { // begins with a random one
		delete(p.bindings, k)
		break
	}
	if p.bytes > 0 {
		p.bytes -= bindingBytes
		d.peersBytes -= bindingBytes
		d.updateSlot(p)
	}
}

// forgetPeer removes a peer from the cache, if it is there.
func (d *Decoder) forgetPeer(p *peer) {
	if p.bytes == 0 {
		return
	}
	delete(d.peers, p.source)
	last := len(d.slots) - 1
	d.slots[p.slot] = d.slots[last]
	d.slots[p.slot].peer.slot = p.slot
	d.slots[last] = peerSlot{}
	d.slots = d.slots[:last]
	d.peersBytes -= p.bytes
	p.bytes = 0
}
