package sequence

import (
	"encoding/binary"
	"hash/fnv"
	"slices"
)

const (
	// MaxTrackers bounds the streams of one source and protocol that are tracked.
	MaxTrackers = 256
	// certain is the number of messages that settle how a source counts, if none
	// says otherwise.
	certain = 8
)

// Stream names the messages of a source that are numbered together: it is their
// observation domain, source id or engine, or what [AgentStream] returns.
type Stream uint64

// AgentStream returns the stream of a sub-agent of an sFlow agent: a relay may send those
// of several agents from one source. An address of 16 bytes is hashed (FNV-1a).
func AgentStream(agent []byte, subAgent uint32) Stream {
	if len(agent) == 4 {
		return Stream(binary.BigEndian.Uint32(agent))<<32 | Stream(subAgent)
	}
	h := fnv.New64a()
	_, _ = h.Write(agent) // has no error
	return Stream(h.Sum64()) ^ Stream(subAgent)
}

// Source has the counters of one source, an address and port. Its zero value is ready
// for use.
type Source struct {
	counters [numProtocols]*Counters
}

// Len returns how many trackers the source has, and structs of about their size.
func (q *Source) Len() (n int) {
	for _, c := range q.counters {
		if c != nil {
			n += 1 + len(c.byStream)
			if c.shared != nil {
				n++
			}
		}
	}
	return n
}

// Counters returns those of a protocol.
func (q *Source) Counters(p Protocol) *Counters {
	c := q.counters[p]
	if c == nil {
		c = &Counters{protocol: p, byStream: make(map[Stream]*Tracker)}
		q.counters[p] = c
	}
	return c
}

// Counters tracks the messages of one protocol of a source. Each stream should have a
// counter of its own. But Open vSwitch has one for all observation domains of IPFIX,
// and some routers have one for all source ids of NetFlow v9 or engines of v5. So the
// messages are tracked both ways, by stream and all together, until it is clear which
// way they follow each other.
//
// Only messages count for that which follow another one by one way and not by the
// other. Of a source that counts by stream they never favour the other way but by
// chance, however much is lost, and the next messages correct that. A gap is counted
// by the way that leads when it closes.
type Counters struct {
	protocol Protocol
	byStream map[Stream]*Tracker
	shared   *Tracker // of all streams together; nil as long as there is one
	// score is above 0 if the messages follow each other all together.
	score int
	// open has those with open gaps, and some whose gaps were closed since.
	open []*Tracker
	// Listed is for the caller, to note that it is going to close gaps.
	Listed bool
}

// Message tracks a message of a stream. The other arguments and the result are those of
// [Tracker.Message].
func (c *Counters) Message(stream Stream, seq uint32, n RecordCount, counted bool, uptime uint32, now int64) (lost uint64) {
	t := c.tracker(stream)
	if c.shared == nil {
		if t != nil {
			lost = c.track(t, seq, n, counted, uptime, now)
		}
		return lost
	}
	c.compare(t, seq, n)
	if t != nil {
		if c.score < certain {
			lost += c.track(t, seq, n, counted, uptime, now)
		} else {
			t.follow(seq, n, counted)
		}
	}
	if c.score > -certain {
		// Streams may have uptimes of their own.
		lost += c.track(c.shared, seq, n, counted, 0, now)
	} else {
		c.shared.follow(seq, n, counted)
	}
	return lost
}

// tracker returns the tracker of a stream, which it makes if need be, or nil if the
// source has too many.
func (c *Counters) tracker(stream Stream) *Tracker {
	t := c.byStream[stream]
	if t != nil || len(c.byStream) >= MaxTrackers {
		return t
	}
	if c.shared == nil && c.protocol != SFlow {
		for _, first := range c.byStream { // the only one
			shared := *first
			shared.gaps, shared.uptime = slices.Clone(first.gaps), 0
			if c.shared = &shared; shared.HasGaps() {
				c.open = append(c.open, c.shared)
			}
		}
	}
	t = newTracker(c.protocol)
	c.byStream[stream] = t
	return t
}

// compare finds out which way a message follows another one. t is the tracker of its
// stream, which may be nil.
func (c *Counters) compare(t *Tracker, seq uint32, n RecordCount) {
	together, known := c.shared.fits(seq, n)
	if !known {
		return
	}
	apart, begun := false, false
	if t != nil {
		apart, begun = t.fits(seq, n)
		if t.started && !begun {
			return
		}
	}
	switch {
	case apart == together:
	case apart:
		c.score = max(c.score-1, -certain)
	case begun, seq != 0: // many counters begin at 0
		c.score = min(c.score+1, certain)
	}
}

// track has a tracker track a message, and returns what is to be counted as lost.
func (c *Counters) track(t *Tracker, seq uint32, n RecordCount, counted bool, uptime uint32, now int64) uint64 {
	hadGaps := t.HasGaps()
	lost := t.Message(seq, n, counted, uptime, now)
	if !hadGaps && t.HasGaps() && !slices.Contains(c.open, t) {
		c.open = append(c.open, t)
	}
	return c.leading(t, lost)
}

// leading returns what a tracker says is lost, if its way of counting leads, else 0.
func (c *Counters) leading(t *Tracker, lost uint64) uint64 {
	if (t == c.shared) != (c.score > 0) {
		return 0
	}
	return lost
}

// HasGaps reports whether there may be open gaps.
func (c *Counters) HasGaps() bool { return len(c.open) > 0 }

// CloseOld closes the gaps that have been open for too long at now (Unix
// nanoseconds), and returns how many numbers were lost in them.
func (c *Counters) CloseOld(now int64) (lost uint64) {
	return c.closeGaps(func(t *Tracker) uint64 { return t.CloseOld(now) })
}

// CloseAll closes all gaps, and returns how many numbers were lost in them.
func (c *Counters) CloseAll() (lost uint64) { return c.closeGaps((*Tracker).CloseAll) }

func (c *Counters) closeGaps(of func(*Tracker) uint64) (lost uint64) {
	for _, t := range c.open {
		lost += c.leading(t, of(t))
	}
	c.open = slices.DeleteFunc(c.open, func(t *Tracker) bool { return !t.HasGaps() })
	return lost
}
