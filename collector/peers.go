package collector

import (
	"math/bits"
	"net/netip"
	"time"
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
	peerBytes    = int(unsafe.Sizeof(peer{})) + int(unsafe.Sizeof(exporter{})) + int(unsafe.Sizeof(session{})) + 4*41 + 128
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

	lastUsed  int64 // Unix nanoseconds
	datagrams uint32
	bytes     int // of peersBudget; 0 once the peer was evicted
}

// peerSilent is for how long a peer may be silent before it goes before those that are
// not, in nanoseconds.
const peerSilent = int64(30 * time.Minute)

// peerGoesBefore says which of two peers is to be evicted first: one that has long been
// silent, else one that has sent clearly fewer datagrams for what it takes, as forged
// sources have. Where these are equal, it is the one that was silent for longer.
func peerGoesBefore(a, b *peer, now int64) bool {
	if x, y := now-a.lastUsed > peerSilent, now-b.lastUsed > peerSilent; x != y {
		return x
	}
	if x, y := a.worth(), b.worth(); x != y {
		return x < y
	}
	return a.lastUsed < b.lastUsed
}

// worth returns the magnitude of the datagrams that the peer has sent by what it takes, 0 of
// one that was evicted.
func (p *peer) worth() int {
	if p.bytes == 0 {
		return 0
	}
	return bits.Len64(uint64(p.datagrams) << 20 / uint64(p.bytes))
}

// peerOf returns what the worker keeps of a source, and notes that a datagram of it
// has been received.
func (d *Decoder) peerOf(source netip.AddrPort) *peer {
	now := d.received / 1e6
	steps.Add(steps.Lookup)
	p := d.peers[source]
	if p != nil && !p.exporter.evicted.Load() {
		p.lastUsed = d.received
		p.datagrams++
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
		exporter: d.exporters.get(source.Addr(), now),
		source:   source,
		address:  source.Addr().AsSlice(),
		bindings: make(map[templateKey]*templateBinding),
		sampling: d.policy.samplingRate(source.Addr()),
		lastUsed: d.received, datagrams: 1,
		bytes: peerBytes,
	}
	d.peers[source] = p
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
	d.evictPeers(p)
}

// evictPeers evicts peers, but not the exception, until the budget is kept: of a random
// few the one that goes before the others, each time. If the exception should go before
// that one, or takes much, it loses bindings of its own instead.
func (d *Decoder) evictPeers(except *peer) {
	for d.peersBytes > d.peersBudget {
		others := func(yield func(netip.AddrPort, *peer) bool) {
			for source, p := range d.peers {
				if p != except && !yield(source, p) {
					return
				}
			}
		}
		_, p, ok := victim(others, func(a, b *peer) bool { return peerGoesBefore(a, b, d.received) })
		switch {
		case !ok:
			return
		case len(except.bindings) > 0 && (except.bytes > d.peersBudget/64 || except.worth() < p.worth()):
			d.forgetBinding(except)
		default:
			d.forgetPeer(p)
		}
	}
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
	}
}

// forgetPeer removes a peer from the cache, if it is there.
func (d *Decoder) forgetPeer(p *peer) {
	if p.bytes == 0 {
		return
	}
	delete(d.peers, p.source)
	d.peersBytes -= p.bytes
	p.bytes = 0
}
