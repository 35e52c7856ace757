package collector

import (
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// timeElement is an absolute time and how it is read.
type timeElement struct {
	id uint16
	op extraOp
}

// The absolute times, which goflow2 reads in IPFIX only. The first one that is not 0
// counts.
var (
	startTimes = []timeElement{{ieFlowStartMilliseconds, opStartMillis}, {ieFlowStartSeconds, opStartSeconds},
		{ieFlowStartMicroseconds, opStartNTP}, {ieFlowStartNanoseconds, opStartNTP}}
	endTimes = []timeElement{{ieFlowEndMilliseconds, opEndMillis}, {ieFlowEndSeconds, opEndSeconds},
		{ieFlowEndMicroseconds, opEndNTP}, {ieFlowEndNanoseconds, opEndNTP}}
	// The finest one goes first, the others count where it is 0.
	observationTimes = []timeElement{{ieObservationTimeNanoseconds, opObservedNTP}, {ieObservationTimeMicroseconds, opObservedNTP},
		{ieObservationTimeMilliseconds, opObservedMillis}, {ieObservationTimeSeconds, opObservedSeconds}}
)

// addTimes adds the times that goflow2 does not read or misreads: those that count
// from the exporter's boot, absolute ones in NetFlow v9, durations, and times of
// observation.
func (c *compiler) addTimes() {
	if c.version == 9 {
		c.addAbsolute(startTimes)
		c.addAbsolute(endTimes)
	}
	boot := c.lastOf(ieSystemInitTimeMilliseconds)
	c.addUptime(opStartUptime, ieFlowStartSysUpTime, boot)
	c.addUptime(opEndUptime, ieFlowEndSysUpTime, boot)
	if i := c.lastOf(ieFlowDurationMicroseconds); i >= 0 {
		c.addExtra(extraField{op: opDurationMicros}, int(i))
	}
	if i := c.lastOf(ieFlowDurationMilliseconds); i >= 0 {
		c.addExtra(extraField{op: opDurationMillis}, int(i))
	}
	for _, t := range observationTimes {
		if i := c.lastOf(t.id); i >= 0 {
			c.direction.extra = append(c.direction.extra, extraField{op: t.op, index: uint16(i), other: -1})
		}
	}
}

// addUptime adds a time that counts from the exporter's boot, if the template has it.
// In NetFlow v9 the message's header says when the boot was, else an element of the
// record may, whose index is boot.
func (c *compiler) addUptime(op extraOp, id uint16, boot int16) {
	i := c.lastOf(id)
	if i < 0 {
		return
	}
	if c.version == 9 {
		boot = -1
	}
	c.direction.extra = append(c.direction.extra, extraField{op: op, index: uint16(i), other: boot})
}

// addAbsolute adds those of the times that the template has.
func (c *compiler) addAbsolute(times []timeElement) {
	for i, t := range times {
		if at := c.find(t.id); at >= 0 {
			c.addExtra(extraField{op: t.op, variant: uint8(i)}, at)
		}
	}
}

// applyTime sets the time that the element's value v says.
func (x *extraField) applyTime(r *flow.Record, t *templateBinding, record, v []byte, h *header) {
	m, e := &r.Msg, &r.Extra
	n := number(v)
	switch x.op {
	case opStartUptime:
		x.setUptime(&m.TimeFlowStartNs, &e.HasStart, t, record, uint32(n), h)
	case opEndUptime:
		x.setUptime(&m.TimeFlowEndNs, &e.HasEnd, t, record, uint32(n), h)
	case opStartSeconds:
		setTime(&m.TimeFlowStartNs, &e.HasStart, n, n*1e9)
	case opEndSeconds:
		setTime(&m.TimeFlowEndNs, &e.HasEnd, n, n*1e9)
	case opStartMillis:
		setTime(&m.TimeFlowStartNs, &e.HasStart, n, n*1e6)
	case opEndMillis:
		setTime(&m.TimeFlowEndNs, &e.HasEnd, n, n*1e6)
	case opStartNTP:
		setTime(&m.TimeFlowStartNs, &e.HasStart, n, protoproducer.ConvertNTPEpoch(n))
	case opEndNTP:
		setTime(&m.TimeFlowEndNs, &e.HasEnd, n, protoproducer.ConvertNTPEpoch(n))
	case opDurationMillis:
		addDuration(r, n*1e6)
	case opDurationMicros:
		addDuration(r, n*1e3)
	case opObservedSeconds:
		observed(r, n, n*1e9)
	case opObservedMillis:
		observed(r, n, n*1e6)
	case opObservedNTP:
		observed(r, n, protoproducer.ConvertNTPEpoch(n))
	}
}

// ntpZero is what goflow2 makes of an absolute time of 0 in NTP's format.
var ntpZero = protoproducer.ConvertNTPEpoch(0)

// isTime reports whether a record has a time: 0 is none.
func isTime(has bool, ns uint64) bool { return has && ns != 0 && ns != ntpZero }

// setTime sets a time that the record does not have yet. n is its value as it was sent.
func setTime(to *uint64, has *bool, n, ns uint64) {
	if isTime(*has, *to) {
		return
	}
	if n == 0 {
		ns = 0
	}
	*to, *has = ns, true
}

// setUptime sets a time by the exporter's uptime. In NetFlow v9 it goes before absolute
// times, unless it is 0, and in IPFIX they go before it.
func (x *extraField) setUptime(to *uint64, has *bool, t *templateBinding, record []byte, uptime uint32, h *header) {
	if (h.version != 9 || uptime == 0) && isTime(*has, *to) {
		return
	}
	if ns := x.sinceBoot(t, record, uptime, h); ns != 0 {
		*to, *has = ns, true
	}
}

// sinceBoot returns the Unix time in nanoseconds at which the exporter's uptime was
// uptime milliseconds, 0 if it is not known when the exporter booted.
func (x *extraField) sinceBoot(t *templateBinding, record []byte, uptime uint32, h *header) uint64 {
	exported := uint64(h.exportTime) * 1e9
	if h.version == 9 {
		return uptimeNs(exported, h.uptime, uptime)
	}
	boot := t.bootTime
	if x.other >= 0 {
		if own := number(t.value(record, int(x.other))); own != 0 {
			boot = own
		}
	}
	if boot == 0 {
		return 0
	}
	return uptimeNs(exported, uint32(uint64(h.exportTime)*1e3-boot), uptime)
}

// addDuration makes the end of a flow of its start, or its start of its end, where
// only one of them is known.
func addDuration(r *flow.Record, ns uint64) {
	m, e := &r.Msg, &r.Extra
	start, end := isTime(e.HasStart, m.TimeFlowStartNs), isTime(e.HasEnd, m.TimeFlowEndNs)
	switch {
	case start && !end:
		m.TimeFlowEndNs, e.HasEnd = m.TimeFlowStartNs+ns, true
	case end && !start && ns <= m.TimeFlowEndNs:
		m.TimeFlowStartNs, e.HasStart = m.TimeFlowEndNs-ns, true
	}
}

// observed sets the time of observation, which is that of the flow where no other time
// is, as in the records of events. n is its value as it was sent.
func observed(r *flow.Record, n, ns uint64) {
	m, e := &r.Msg, &r.Extra
	if n == 0 || e.ObservationTimeNs != 0 {
		return
	}
	e.ObservationTimeNs = ns
	if !isTime(e.HasStart, m.TimeFlowStartNs) && !isTime(e.HasEnd, m.TimeFlowEndNs) {
		m.TimeFlowStartNs, m.TimeFlowEndNs = ns, ns
		e.HasStart, e.HasEnd = true, true
	}
}
