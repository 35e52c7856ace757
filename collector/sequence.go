package collector

import "time"

const (
	// reorderWindow is how many messages a late one may be behind before what it
	// holds counts as lost.
	reorderWindow = 32
	// gapPatience is how long a gap may stay open when no more messages come.
	gapPatience = 5 * time.Second
	// maxJump is the largest gap that is taken for loss. Beyond it the exporter
	// started anew with another number.
	maxJump = 1 << 20
	// maxSequences bounds the counters that one source can make us follow.
	maxSequences = 256
	// maxGaps bounds the counters with open gaps of one worker. Beyond it they are
	// closed before their time.
	maxGaps = 4096
	// uptimeSlack is by how many milliseconds reordering may set an uptime back.
	uptimeSlack = 60_000
)

// sequence follows one exporter's sequence numbers and tells what is missing:
// records for IPFIX (RFC 7011, 3.1) and NetFlow v5, messages for NetFlow v9
// (RFC 3954, 5.1) and sFlow.
type sequence struct {
	started bool
	// counting is the set of ways of counting that fit all messages so far; the
	// lowest is taken.
	counting counting
	seq      uint32 // of the last message in order
	units    units
	// uncertain says that the last message held sets whose records could not be
	// counted, so that the number that should follow is not known.
	uncertain bool
	gaps      []gap // open ones, oldest first; at most reorderWindow
	uptime    uint32

	// candidate is the number that would follow a message from before the
	// window. A second one in line with it tells that the exporter restarted.
	candidate    uint32
	hasCandidate bool
	strays       int // messages in a row that fit neither
}

// units is what a message adds to its exporter's counter.
type units struct{ flows, options uint32 }

// counting is a set of ways in which exporters number their messages.
type counting uint8

// RFC 7011 numbers a message by the data records before it, those of options
// included. softflowd leaves options out and includes the message's own. Open
// vSwitch's NetFlow v5 has the number of the message's last record.
const (
	countAll counting = 1 << iota
	countFlows
	countAllIncluded
	countFlowsIncluded
	countLast
	countAny = countAll | countFlows | countAllIncluded | countFlowsIncluded
)

// span returns the first number of a message and of the one behind it.
func (c counting) span(seq uint32, u units) (first, next uint32) {
	n := u.flows
	if c&(countAll|countAllIncluded) != 0 {
		n += u.options
	}
	switch {
	case c&(countAll|countFlows) != 0:
		return seq, seq + n
	case c == countLast:
		return seq + 1 - n, seq + 1
	}
	return seq - n, seq
}

// lowest returns the way of counting that is taken.
func (c counting) lowest() counting { return c & -c }

// next returns the first number of the message that should follow.
func (s *sequence) next() uint32 {
	_, next := s.counting.lowest().span(s.seq, s.units)
	return next
}

// gap is a range of numbers not seen, from <= n < to.
type gap struct {
	from, to uint32
	messages int   // seen since
	opened   int64 // Unix nanoseconds
}

// message takes a message with sequence number seq that counts as u (known: all
// of it could be counted), and returns how many numbers are now known to be lost.
func (s *sequence) message(seq uint32, u units, known bool, uptime uint32, now int64) (lost uint64) {
	restarted := uptime != 0 && s.uptime > uptimeSlack && uptime < s.uptime-uptimeSlack
	s.uptime = max(uptime, s.uptime)
	if restarted {
		s.uptime = uptime
	}
	if s.started && !s.uncertain && known {
		s.learn(seq, u)
	}
	first, end := s.counting.lowest().span(seq, u)
	next := s.next()
	delta := int32(first - next)
	switch {
	case !s.started, restarted, delta > maxJump:
		lost = s.closeAll()
		s.started = true
	case delta == 0, delta > 0 && s.uncertain:
	case delta > 0:
		s.gaps = append(s.gaps, gap{from: next, to: first, opened: now})
	case s.fill(first, end-first):
		return s.expire(now, 1)
	case s.hasCandidate && first == s.candidate:
		lost = s.closeAll() // restarted
	default:
		s.candidate, s.hasCandidate = end, true
		s.strays++
		return s.expire(now, 1)
	}
	s.seq, s.units, s.uncertain = seq, u, !known
	s.hasCandidate, s.strays = false, 0
	return lost + s.expire(now, 1)
}

// learn narrows down how the exporter counts to the ways by which this message
// follows the last one, if there are any.
func (s *sequence) learn(seq uint32, u units) {
	var fits counting
	for c := countAll; c <= countLast; c <<= 1 {
		first, _ := c.span(seq, u)
		if _, next := c.span(s.seq, s.units); s.counting&c != 0 && first == next {
			fits |= c
		}
	}
	if fits != 0 {
		s.counting = fits
	}
}

// fill takes the numbers of a late message out of the gap that they are in. It
// returns false if they are in none.
func (s *sequence) fill(seq, n uint32) bool {
	for i := range s.gaps {
		g := &s.gaps[i]
		if int32(seq-g.from) < 0 || int32(seq-g.to) >= 0 {
			continue
		}
		rest := gap{from: seq + n, to: g.to, messages: g.messages, opened: g.opened}
		g.to = seq
		if int32(rest.to-rest.from) > 0 {
			if g.from == g.to {
				*g = rest
			} else {
				s.gaps = append(s.gaps, gap{})
				copy(s.gaps[i+2:], s.gaps[i+1:])
				s.gaps[i+1] = rest
			}
		}
		return true
	}
	return false
}

// expire closes the gaps that have been open for too many messages or too
// long, and returns how many numbers were lost in them.
func (s *sequence) expire(now int64, messages int) (lost uint64) {
	if len(s.gaps) == 0 {
		return 0
	}
	kept := s.gaps[:0]
	for _, g := range s.gaps {
		g.messages += messages
		switch {
		case g.from == g.to:
		case g.messages > reorderWindow || now-g.opened >= int64(gapPatience) || len(kept) >= 2*reorderWindow:
			lost += uint64(g.to - g.from)
		default:
			kept = append(kept, g)
		}
	}
	s.gaps = kept
	return lost
}

// closeAll closes all gaps.
func (s *sequence) closeAll() (lost uint64) {
	for _, g := range s.gaps {
		lost += uint64(g.to - g.from)
	}
	s.gaps = s.gaps[:0]
	return lost
}

// sequences follows the counters of one source.
type sequences struct {
	byStream map[stream]*sequence
	last     *sequence // of the last IPFIX message, of any domain
	// across says that the source counts its IPFIX records across observation
	// domains, as Open vSwitch does, against RFC 7011.
	across bool
	// next is the number behind the last IPFIX message, of any domain; hits counts
	// messages in a row that follow that one, and not the last of their own.
	next uint32
	hits int
}

// stream names what has a counter of its own: an observation domain, a v9
// source id, a v5 engine, an sFlow sub-agent.
type stream struct {
	proto protocol
	id    uint32
}

// of returns the counter for a message, nil if the source has too many. fresh
// says that the counter is new.
func (q *sequences) of(k stream, seq uint32, u units) (s *sequence, fresh bool) {
	if k.proto == protoIPFIX && q.across {
		if q.last.strays < reorderWindow {
			return q.last, false
		}
		*q = sequences{} // it was chance that one domain's number followed another's
	}
	s = q.byStream[k]
	if s == nil {
		if k.proto == protoIPFIX && q.last != nil && seq != 0 {
			if ahead := int32(seq - q.last.next()); ahead >= 0 && ahead <= reorderWindow {
				q.across = true
				return q.last, false
			}
		}
		if len(q.byStream) >= maxSequences {
			return nil, false
		}
		if q.byStream == nil {
			q.byStream = make(map[stream]*sequence)
		}
		s, fresh = &sequence{counting: countAll}, true
		switch k.proto {
		case protoIPFIX:
			s.counting = countAny
		case protoNetFlow5:
			s.counting = countAll | countLast
		}
		q.byStream[k] = s
	}
	if k.proto == protoIPFIX {
		first, next := s.counting.lowest().span(seq, u)
		if s.started && first != s.next() && q.last != s && first == q.next {
			q.hits++
		} else if first != q.next || first == s.next() {
			q.hits = 0
		}
		if q.next = next; q.hits >= 2 {
			// What the domains' own counters took for gaps was in the other ones.
			for _, o := range q.byStream {
				o.gaps = nil
			}
			*s = sequence{counting: countAny}
			*q = sequences{byStream: map[stream]*sequence{k: s}, across: true}
		}
		q.last = s
	}
	return s, fresh
}

// follow counts what the sequence number of the datagram at hand says is lost.
func (d *Decoder) follow(k stream, seq uint32, u units, known bool, uptime uint32) {
	p := d.peer
	s, fresh := p.sequences.of(k, seq, u)
	if s == nil {
		return
	}
	if fresh {
		if d.numSeqs++; d.numSeqs > maxSeqs {
			clear(d.peers)
			d.numBindings, d.numSeqs = 0, 0
		}
	}
	open := len(s.gaps) > 0
	if lost := s.message(seq, u, known, uptime, d.received); lost > 0 {
		d.lost(p, k.proto, lost)
	}
	if !open && len(s.gaps) > 0 {
		if len(d.gaps) >= maxGaps {
			d.tick(d.received, true)
		}
		d.gaps = append(d.gaps, openGap{p, s, k.proto})
	}
}

func (d *Decoder) lost(p *peer, proto protocol, n uint64) {
	d.metrics.sequenceLost[proto].Add(n)
	p.exporter.sequenceLost.Add(n)
}

// openGap is a counter with open gaps.
type openGap struct {
	peer  *peer
	seq   *sequence
	proto protocol
}

// tick closes the gaps that have been open for long, or all of them, and tells
// whether any is still open.
func (d *Decoder) tick(now int64, all bool) (pending bool) {
	kept := d.gaps[:0]
	for _, g := range d.gaps {
		var lost uint64
		if all {
			lost = g.seq.closeAll()
		} else {
			lost = g.seq.expire(now, 0)
		}
		if lost > 0 {
			d.lost(g.peer, g.proto, lost)
		}
		if len(g.seq.gaps) > 0 {
			kept = append(kept, g)
		}
	}
	clear(d.gaps[len(kept):])
	d.gaps = kept
	return len(kept) > 0
}
