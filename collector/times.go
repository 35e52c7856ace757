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

// The absolute times, which goflow2 reads in IPFIX only. The first one that is
// there counts.
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
	d := &c.direction
	boot := c.lastOf(ieSystemInitTimeMilliseconds)
	if !d.hasStart && c.addUptime(opStartUptime, ieFlowStartSysUpTime, boot) {
		d.hasStart = c.version == 9
	}
	if !d.hasEnd && c.addUptime(opEndUptime, ieFlowEndSysUpTime, boot) {
		d.hasEnd = c.version == 9
	}
	if c.version == 9 {
		d.hasStart = c.addTime(d.hasStart, startTimes)
		d.hasEnd = c.addTime(d.hasEnd, endTimes)
	}
	if !d.hasStart || !d.hasEnd {
		if i := c.lastOf(ieFlowDurationMicroseconds); i >= 0 {
			c.addExtra(extraField{op: opDurationMicros}, int(i))
		}
		if i := c.lastOf(ieFlowDurationMilliseconds); i >= 0 {
			c.addExtra(extraField{op: opDurationMillis}, int(i))
		}
	}
	for _, t := range observationTimes {
		if i := c.lastOf(t.id); i >= 0 {
			d.extra = append(d.extra, extraField{op: t.op, index: uint16(i), other: -1})
		}
	}
}

// addUptime adds a time that counts from the exporter's boot, and reports whether the
// template has it. In NetFlow v9 the message's header tells when the boot was, else an
// element of the record may, whose index is boot.
func (c *compiler) addUptime(op extraOp, id uint16, boot int16) bool {
	i, ok := c.last[id]
	if !ok {
		if i, ok = c.lastOther[id]; !ok {
			return false
		}
	}
	if c.version == 9 {
		boot = -1
	}
	c.direction.extra = append(c.direction.extra, extraField{op: op, index: uint16(i), other: boot})
	return true
}

// addTime adds the first of the times that is there, unless the template has
// another time. It reports whether the template now has one.
func (c *compiler) addTime(has bool, times []timeElement) bool {
	for _, t := range times {
		if has {
			break
		}
		if i := c.find(t.id); i >= 0 {
			c.addExtra(extraField{op: t.op}, i)
			has = true
		}
	}
	return has
}

// applyTime sets the time that the element's value v tells.
func (x *extraField) applyTime(r *flow.Record, t *templateBinding, record, v []byte, h *header) {
	m, e := &r.Msg, &r.Extra
	n := number(v)
	switch x.op {
	case opStartUptime:
		if ns := x.sinceBoot(t, record, uint32(n), h); ns != 0 {
			m.TimeFlowStartNs, e.HasStart = ns, true
		}
	case opEndUptime:
		if ns := x.sinceBoot(t, record, uint32(n), h); ns != 0 {
			m.TimeFlowEndNs, e.HasEnd = ns, true
		}
	case opStartSeconds:
		m.TimeFlowStartNs = n * 1e9
	case opEndSeconds:
		m.TimeFlowEndNs = n * 1e9
	case opStartMillis:
		m.TimeFlowStartNs = n * 1e6
	case opEndMillis:
		m.TimeFlowEndNs = n * 1e6
	case opStartNTP:
		m.TimeFlowStartNs = protoproducer.ConvertNTPEpoch(n)
	case opEndNTP:
		m.TimeFlowEndNs = protoproducer.ConvertNTPEpoch(n)
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
	switch {
	case e.HasStart && !e.HasEnd:
		m.TimeFlowEndNs, e.HasEnd = m.TimeFlowStartNs+ns, true
	case e.HasEnd && !e.HasStart && ns <= m.TimeFlowEndNs:
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
	if !e.HasStart && !e.HasEnd {
		m.TimeFlowStartNs, m.TimeFlowEndNs = ns, ns
		e.HasStart, e.HasEnd = true, true
	}
}
