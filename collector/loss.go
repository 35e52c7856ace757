package collector

import (
	"math/rand/v2"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// maxGaps bounds the counters with open gaps of one worker. Beyond it the gaps of one
// source at a time are closed before their time.
const maxGaps = 4096

// sequenceProtocols maps protocols to those of package sequence.
var sequenceProtocols = [numProtocols]sequence.Protocol{
	protoSFlow: sequence.SFlow, protoNetFlow5: sequence.NetFlow5, protoNetFlow7: sequence.NetFlow7, protoNetFlow9: sequence.NetFlow9, protoIPFIX: sequence.IPFIX,
}

// trackSequence counts what is lost by the sequence number seq of the datagram at
// hand. counted reports whether n has all of its records. uptime is the exporter's in
// milliseconds, 0 if the datagram does not have it.
func (d *Decoder) trackSequence(proto protocol, stream sequence.Stream, seq uint32, n sequence.RecordCount, counted bool, uptime uint32) {
	steps.Add(3 * steps.Lookup)
	p := d.peer
	trackers := p.sequences.Len()
	c := p.sequences.Counters(sequenceProtocols[proto])
	if lost := c.Message(stream, seq, n, counted, uptime, d.received); lost > 0 {
		d.countLost(p, proto, lost)
	}
	if grown := p.sequences.Len() - trackers; grown != 0 {
		d.chargePeer(p, grown*trackerBytes)
	}
	if c.HasGaps() && !c.Listed {
		if len(d.gaps) >= maxGaps {
			d.closeOne()
		}
		c.Listed = true
		d.gaps = append(d.gaps, openGaps{p, c, proto})
	}
}

func (d *Decoder) countLost(p *peer, proto protocol, n uint64) {
	d.metrics.sequenceLost[proto].Add(n)
	p.exporter.sequenceLost.Add(n)
}

// openGaps are counters with open gaps.
type openGaps struct {
	peer     *peer
	counters *sequence.Counters
	proto    protocol
}

// closeOne closes the gaps of the source, of a random few, that would be evicted first. Those of
// a source that was evicted go before all.
func (d *Decoder) closeOne() {
	now := uint32(d.received / 1e9)
	i, best := 0, (*peerSlot)(nil)
	for n := range evictionChoice {
		steps.Add(steps.Miss)
		at := rand.IntN(len(d.gaps)) //nolint:gosec // no secret: chance only spreads evictions
		p := d.gaps[at].peer
		if p.bytes == 0 {
			i = at
			break
		}
		if s := &d.slots[p.slot]; n == 0 || s.goesBefore(best, now) {
			i, best = at, s
		}
	}
	g := d.gaps[i]
	if lost := g.counters.CloseAll(); lost > 0 {
		d.countLost(g.peer, g.proto, lost)
	}
	g.counters.Listed = false
	last := len(d.gaps) - 1
	d.gaps[i], d.gaps[last] = d.gaps[last], openGaps{}
	d.gaps = d.gaps[:last]
}

// closeGaps closes the gaps that have been open for long at now (Unix nanoseconds),
// or all of them, and counts what was lost in them. It reports whether any gap is
// still open.
func (d *Decoder) closeGaps(now int64, all bool) (pending bool) {
	kept := d.gaps[:0]
	for _, g := range d.gaps {
		var lost uint64
		if all {
			lost = g.counters.CloseAll()
		} else {
			lost = g.counters.CloseOld(now)
		}
		if lost > 0 {
			d.countLost(g.peer, g.proto, lost)
		}
		if g.counters.Listed = g.counters.HasGaps(); g.counters.Listed {
			kept = append(kept, g)
		}
	}
	clear(d.gaps[len(kept):])
	d.gaps = kept
	return len(kept) > 0
}
