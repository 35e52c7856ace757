// Package sequence finds out what was lost on the way from an exporter by the
// sequence numbers of its messages: records of IPFIX (RFC 7011, 3.1), NetFlow v5
// and v7, messages of NetFlow v9 (RFC 3954, 5.1) and sFlow.
//
// A gap in the numbers is no loss yet: messages that arrive late fill it. What is
// still missing after 32 more messages or 5 s is lost.
//
// Nothing here is safe for use by several goroutines at once.
package sequence

import (
	"time"
	"unsafe"
)

const (
	// reorderWindow is how many messages may arrive before a late one, before what
	// the late one holds counts as lost.
	reorderWindow = 32
	// gapPatience is how long a gap may stay open when no more messages come.
	gapPatience = 5 * time.Second
	// maxJump is the largest gap that is taken for loss. Beyond it the exporter
	// started anew with another number.
	maxJump = 1 << 20
	// idleGaps is for how many gaps a tracker without open ones keeps memory.
	idleGaps = 8
	// IdleGapBytes is how much memory that is, in bytes.
	IdleGapBytes = idleGaps * int(unsafe.Sizeof(gap{}))
	// uptimeSlack is by how many milliseconds reordering may set an uptime back.
	uptimeSlack = 60_000
)

// Protocol selects how the messages of a stream may be numbered.
type Protocol uint8

// The protocols with sequence numbers.
const (
	SFlow Protocol = iota
	NetFlow5
	NetFlow9
	IPFIX
	NetFlow7
	numProtocols
)

// RecordCount is what a message adds to its exporter's counter. Where messages are
// counted, each has one data record.
type RecordCount struct{ Data, Options uint32 }

// Tracker tracks the sequence numbers of one stream.
type Tracker struct {
	started bool
	// numbering is the set of numberings that fit all messages so far. The lowest
	// one is used.
	numbering numbering
	seq       uint32 // of the last message in order
	count     RecordCount
	// uncertain reports whether the last message held sets whose records could not
	// be counted, so that the number that should follow is not known.
	uncertain bool
	gaps      []gap // open ones, oldest first; at most reorderWindow
	uptime    uint32

	// candidate is the number that would follow a message from before the window.
	// If the next message has that number, the exporter has restarted.
	candidate    uint32
	hasCandidate bool
}

func newTracker(p Protocol) *Tracker {
	t := &Tracker{numbering: byAll}
	switch p {
	case IPFIX:
		t.numbering = anyOfIPFIX
	case NetFlow5:
		t.numbering = byAll | byLast
	}
	return t
}

// numbering is a set of ways in which exporters number their messages.
type numbering uint8

// RFC 7011 numbers a message by the data records before it, those of options
// included. softflowd leaves options out and includes the message's own. Open
// vSwitch's NetFlow v5 has the number of the message's last record.
const (
	byAll numbering = 1 << iota
	byFlows
	byAllIncluded
	byFlowsIncluded
	byLast
	anyOfIPFIX = byAll | byFlows | byAllIncluded | byFlowsIncluded
)

// bounds returns the first number of a message and that of the message after it.
func (m numbering) bounds(seq uint32, n RecordCount) (first, next uint32) {
	records := n.Data
	if m&(byAll|byAllIncluded) != 0 {
		records += n.Options
	}
	switch {
	case m&(byAll|byFlows) != 0:
		return seq, seq + records
	case m == byLast:
		return seq + 1 - records, seq + 1
	}
	return seq - records, seq
}

// lowest returns the numbering that is used.
func (m numbering) lowest() numbering { return m & -m }

// next returns the first number of the message that should follow.
func (t *Tracker) next() uint32 {
	_, next := t.numbering.lowest().bounds(t.seq, t.count)
	return next
}

// gap is a range of numbers not seen, from <= n < to.
type gap struct {
	from, to uint32
	messages int   // seen since
	opened   int64 // Unix nanoseconds
}

// Message tracks a message with sequence number seq that was received at now (Unix
// nanoseconds), and returns how many numbers are now known to be lost. counted
// reports whether n has all of its records. uptime is the exporter's, in
// milliseconds, 0 if the message does not say.
func (t *Tracker) Message(seq uint32, n RecordCount, counted bool, uptime uint32, now int64) (lost uint64) {
	restarted := uptime != 0 && t.uptime > uptimeSlack && uptime < t.uptime-uptimeSlack
	t.uptime = max(uptime, t.uptime)
	if restarted {
		t.uptime = uptime
	}
	if t.started && !t.uncertain && counted {
		t.learn(seq, n)
	}
	first, after := t.numbering.lowest().bounds(seq, n)
	next := t.next()
	delta := int32(first - next)
	switch {
	case !t.started, restarted, delta > maxJump:
		lost = t.CloseAll()
		t.started = true
	case delta == 0, delta > 0 && t.uncertain:
	case delta > 0:
		t.gaps = append(t.gaps, gap{from: next, to: first, opened: now})
	case t.fill(first, after-first):
		return t.closeOld(now, 1)
	case t.hasCandidate && first == t.candidate:
		lost = t.CloseAll() // restarted
	default:
		t.candidate, t.hasCandidate = after, true
		return t.closeOld(now, 1)
	}
	t.seq, t.count, t.uncertain = seq, n, !counted
	t.hasCandidate = false
	return lost + t.closeOld(now, 1)
}

// learn removes the numberings by which this message does not follow the last one,
// unless that would remove them all.
func (t *Tracker) learn(seq uint32, n RecordCount) {
	var fits numbering
	for m := byAll; m <= byLast; m <<= 1 {
		first, _ := m.bounds(seq, n)
		if _, next := m.bounds(t.seq, t.count); t.numbering&m != 0 && first == next {
			fits |= m
		}
	}
	if fits != 0 {
		t.numbering = fits
	}
}

// fits reports whether a message with this number follows the last one. known is false
// if there is none, or its records could not be counted.
func (t *Tracker) fits(seq uint32, n RecordCount) (fits, known bool) {
	if !t.started || t.uncertain {
		return false, false
	}
	for m := byAll; m <= byLast; m <<= 1 {
		first, _ := m.bounds(seq, n)
		if _, next := m.bounds(t.seq, t.count); t.numbering&m != 0 && first == next {
			return true, true
		}
	}
	return false, true
}

// follow goes on to a message without looking for gaps before it.
func (t *Tracker) follow(seq uint32, n RecordCount, counted bool) {
	if t.started && !t.uncertain && counted {
		t.learn(seq, n)
	}
	t.started, t.hasCandidate = true, false
	t.seq, t.count, t.uncertain = seq, n, !counted
	t.keep(t.gaps[:0])
}

// fill removes the numbers of a late message, n from seq on, from the gap that
// they are in. It returns false if they are in none.
func (t *Tracker) fill(seq, n uint32) bool {
	for i := range t.gaps {
		g := &t.gaps[i]
		if int32(seq-g.from) < 0 || int32(seq-g.to) >= 0 {
			continue
		}
		rest := gap{from: seq + n, to: g.to, messages: g.messages, opened: g.opened}
		g.to = seq
		if int32(rest.to-rest.from) > 0 {
			if g.from == g.to {
				*g = rest
			} else {
				t.gaps = append(t.gaps, gap{})
				copy(t.gaps[i+2:], t.gaps[i+1:])
				t.gaps[i+1] = rest
			}
		}
		return true
	}
	return false
}

// HasGaps reports whether there are open gaps.
func (t *Tracker) HasGaps() bool { return len(t.gaps) > 0 }

// CloseOld closes the gaps that have been open for too long at now (Unix
// nanoseconds), and returns how many numbers were lost in them.
func (t *Tracker) CloseOld(now int64) (lost uint64) { return t.closeOld(now, 0) }

// closeOld closes the gaps that have been open for too many messages, of which so
// many came now, or for too long.
func (t *Tracker) closeOld(now int64, messages int) (lost uint64) {
	if len(t.gaps) == 0 {
		return 0
	}
	kept := t.gaps[:0]
	for _, g := range t.gaps {
		g.messages += messages
		switch {
		case g.from == g.to:
		case g.messages > reorderWindow || now-g.opened >= int64(gapPatience) || len(kept) >= 2*reorderWindow:
			lost += uint64(g.to - g.from)
		default:
			kept = append(kept, g)
		}
	}
	t.keep(kept)
	return lost
}

// keep sets the open gaps, and returns the memory of many once they are closed.
func (t *Tracker) keep(open []gap) {
	if len(open) == 0 && cap(open) > idleGaps {
		open = nil
	}
	t.gaps = open
}

// CloseAll closes all gaps, and returns how many numbers were lost in them.
func (t *Tracker) CloseAll() (lost uint64) {
	for _, g := range t.gaps {
		lost += uint64(g.to - g.from)
	}
	t.keep(t.gaps[:0])
	return lost
}
