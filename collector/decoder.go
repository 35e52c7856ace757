package collector

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Bounds on what a worker keeps of its sources. Beyond one of them it starts
// anew: all of it can be had again from the exporters' table.
const (
	maxPeers    = 8192
	maxBindings = 1 << 17
	maxSeqs     = 1 << 14
	// maxPlanCost is in fields of templates; a plan costs planCost on top.
	maxPlanCost = 1 << 17
	planCost    = 8
)

// Decoder turns datagrams into records, on one goroutine: it is a worker's own.
type Decoder struct {
	_         [64]byte // keeps the workers' decoders out of each other's cache lines
	exporters *exporters
	metrics   *workerMetrics
	faults    *faultLog
	policy    *policy
	handler   flow.Handler

	rec   flow.Record
	addrs [12]byte // of a v5 record
	// layerStack and layerSize are the room for the lists of an sFlow record.
	layerStack []flowpb.FlowMessage_LayerStack
	layerSize  []uint32
	peers      map[netip.AddrPort]*peer
	gaps       []openGap
	// plans are by shape of the template. Their cost is bounded, and so is the
	// number of bindings and sequences that all peers have together.
	plans                map[string]*plan
	planCost             int
	numBindings, numSeqs int

	// of the datagram at hand
	peer     *peer
	received int64 // Unix nanoseconds
	// units counts the data records of an IPFIX message, as its sequence number
	// does; unitsKnown says that all could be counted.
	units      units
	unitsKnown bool

	_ [64]byte
}

// peer is what a worker keeps of one source.
type peer struct {
	exporter *exporter
	source   netip.AddrPort
	address  []byte // SamplerAddress: 4 or 16 bytes
	bindings map[templateKey]*binding
	// sampling is the rate that -sampling gives to exporters that send none.
	sampling  uint64
	sequences sequences
}

func (d *Decoder) datagram(source netip.AddrPort, allowed Protocols, b []byte, received int64) {
	source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
	d.received = received
	if !d.policy.allows(source.Addr()) {
		d.metrics.received(protoUnknown, len(b))
		d.drop(dropNotAllowed, source, b)
		return
	}
	switch proto := protocolOf(b); {
	case proto == protoUnknown, proto == protoSFlow && allowed&SFlow == 0, proto != protoSFlow && allowed&NetFlow == 0:
		d.metrics.received(protoUnknown, len(b))
		d.drop(dropUnknownProtocol, source, b)
	default:
		d.metrics.received(proto, len(b))
		d.peer = d.peerOf(source)
		var ok bool
		switch proto {
		case protoNetFlow5:
			ok = d.netflow5(b)
		case protoNetFlow9:
			ok = d.netflow9(b)
		case protoIPFIX:
			ok = d.ipfix(b)
		case protoSFlow:
			ok = d.sflow5(b)
		}
		if !ok {
			d.drop(dropMalformed, source, b)
		}
	}
}

func (d *Decoder) drop(reason dropReason, source netip.AddrPort, b []byte) {
	d.metrics.drop(reason)
	d.faults.report(reason, source, b, d.received)
}

// protocolOf tells the protocol by the version at the start of the datagram:
// 16 bits in NetFlow and IPFIX, 32 in sFlow.
func protocolOf(b []byte) protocol {
	if len(b) < 4 {
		return protoUnknown
	}
	switch binary.BigEndian.Uint16(b) {
	case 5:
		return protoNetFlow5
	case 9:
		return protoNetFlow9
	case 10:
		return protoIPFIX
	case 0:
		if binary.BigEndian.Uint16(b[2:]) == 5 {
			return protoSFlow
		}
	}
	return protoUnknown
}

func (d *Decoder) peerOf(source netip.AddrPort) *peer {
	now := d.received / 1e6
	p := d.peers[source]
	if p != nil && !p.exporter.evicted.Load() {
		if p.exporter.lastSeen.Load() < now {
			p.exporter.lastSeen.Store(now)
		}
		return p
	}
	if len(d.peers) >= maxPeers || d.numBindings >= maxBindings || d.numSeqs >= maxSeqs {
		clear(d.peers)
		d.numBindings, d.numSeqs = 0, 0
	}
	p = &peer{
		exporter: d.exporters.get(source.Addr(), now),
		source:   source,
		address:  source.Addr().AsSlice(),
		bindings: make(map[templateKey]*binding),
		sampling: d.policy.samplingRate(source.Addr()),
	}
	d.peers[source] = p
	return p
}

// emit hands a decoded record on, with what all records of its datagram share.
func (d *Decoder) emit(proto protocol, sequence uint32, sampler []byte) {
	m := &d.rec.Msg
	m.TimeReceivedNs = uint64(d.received)
	m.SequenceNum = sequence
	m.SamplerAddress = sampler
	d.handler.HandleFlow(&d.rec)
	// Counted behind the handler: a record lost to a panic in it was never received.
	d.metrics.record(proto)
}

const (
	netflow5HeaderLen = 24
	netflow5RecordLen = 48
)

// netflow5 decodes a NetFlow v5 datagram as goflow2 does
// (producer/proto/producer_nflegacy.go), but into the worker's record and with
// the count checked against the bytes. It returns false if the datagram is not
// what its header says; whole records are used all the same.
func (d *Decoder) netflow5(b []byte) bool {
	if len(b) < netflow5HeaderLen {
		return false
	}
	be := binary.BigEndian
	count := int(be.Uint16(b[2:]))
	uptime, seconds, nanos, sequence := be.Uint32(b[4:]), be.Uint32(b[8:]), be.Uint32(b[12:]), be.Uint32(b[16:])
	sampling := be.Uint16(b[22:]) & 0x3fff
	base := uint64(seconds)*1e9 + uint64(nanos)
	d.follow(stream{protoNetFlow5, uint32(be.Uint16(b[20:]))}, sequence, units{flows: uint32(count)}, true, uptime)
	rate := uint64(sampling)
	if rate == 0 {
		rate = d.peer.sampling
	}
	whole := min(count, (len(b)-netflow5HeaderLen)/netflow5RecordLen)
	for i := range whole {
		r := b[netflow5HeaderLen+i*netflow5RecordLen:][:netflow5RecordLen]
		d.rec.Reset()
		m := &d.rec.Msg
		copy(d.addrs[:], r[:12])
		m.SrcAddr, m.DstAddr, m.NextHop = d.addrs[0:4:4], d.addrs[4:8:8], d.addrs[8:12:12]
		m.Type = flowpb.FlowMessage_NETFLOW_V5
		m.TimeFlowStartNs = base - uint64(uptime-be.Uint32(r[24:]))*1e6
		m.TimeFlowEndNs = base - uint64(uptime-be.Uint32(r[28:]))*1e6
		d.rec.Extra.HasStart, d.rec.Extra.HasEnd = true, true
		m.Etype = flow.EtypeIPv4
		m.InIf, m.OutIf = uint32(be.Uint16(r[12:])), uint32(be.Uint16(r[14:]))
		m.Packets, m.Bytes = uint64(be.Uint32(r[16:])), uint64(be.Uint32(r[20:]))
		m.SrcPort, m.DstPort = uint32(be.Uint16(r[32:])), uint32(be.Uint16(r[34:]))
		m.TcpFlags, m.Proto, m.IpTos = uint32(r[37]), uint32(r[38]), uint32(r[39])
		m.SrcAs, m.DstAs = uint32(be.Uint16(r[40:])), uint32(be.Uint16(r[42:]))
		m.SrcNet, m.DstNet = uint32(r[44]), uint32(r[45])
		m.SamplingRate = rate
		d.emit(protoNetFlow5, sequence, d.peer.address)
	}
	return whole == count && count > 0
}

// header is what NetFlow v9 and IPFIX headers tell about their sets.
type header struct {
	proto      protocol
	version    uint16
	exportTime uint32 // Unix seconds
	uptime     uint32 // milliseconds, v9 only
	sequence   uint32
	domain     uint32 // observation domain or source id
}

func (d *Decoder) netflow9(b []byte) bool {
	const headerLen = 20
	if len(b) < headerLen {
		return false
	}
	be := binary.BigEndian
	h := header{
		proto: protoNetFlow9, version: 9,
		uptime: be.Uint32(b[4:]), exportTime: be.Uint32(b[8:]), sequence: be.Uint32(b[12:]), domain: be.Uint32(b[16:]),
	}
	d.follow(stream{protoNetFlow9, h.domain}, h.sequence, units{flows: 1}, true, h.uptime)
	return d.sets(b[headerLen:], &h)
}

func (d *Decoder) ipfix(b []byte) bool {
	const headerLen = 16
	if len(b) < headerLen {
		return false
	}
	be := binary.BigEndian
	length := int(be.Uint16(b[2:]))
	if length < headerLen {
		return false
	}
	h := header{
		proto: protoIPFIX, version: 10,
		exportTime: be.Uint32(b[4:]), sequence: be.Uint32(b[8:]), domain: be.Uint32(b[12:]),
	}
	d.units, d.unitsKnown = units{}, true
	// A length beyond the datagram leaves its last set cut, which sets counts.
	ok := d.sets(b[headerLen:min(length, len(b))], &h)
	d.follow(stream{protoIPFIX, h.domain}, h.sequence, d.units, d.unitsKnown && length <= len(b), 0)
	return ok
}

// sets decodes the sets of a NetFlow v9 or IPFIX message, each by itself: a bad
// one is counted and costs no other. It returns false if nothing could be made
// of the message.
func (d *Decoder) sets(b []byte, h *header) bool {
	good, bad := 0, 0
	for len(b) >= 4 {
		id, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if id == 0 && length == 0 && allZero(b) {
			break // a tail of zeros
		}
		if length < 4 || length > len(b) {
			bad++
			break
		}
		content := b[4:length]
		b = b[length:]
		ok := false
		switch {
		case id >= 256:
			ok = d.dataSet(id, content, h)
		case h.version == 9 && id == 0, h.version == 10 && id == 2:
			ok = d.templateSet(content, h)
		case h.version == 9 && id == 1:
			ok = d.optionsTemplateSet9(content, h)
		case h.version == 10 && id == 3:
			ok = d.optionsTemplateSet(content, h)
		}
		if ok {
			good++
		} else {
			bad++
			d.unitsKnown = false
		}
	}
	if bad > 0 && good == 0 {
		return false
	}
	for range bad {
		d.metrics.dropSet(setMalformed)
		d.faults.report(dropMalformedSet, d.peer.source, nil, d.received)
	}
	return true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// wholeTemplates returns how many bytes at the start of a template set hold
// whole template records whose counts fit the bytes, given the length of a
// record's header and, by count, the number of its fields. ok is false if more
// than padding remains.
func wholeTemplates(b []byte, headerLen int, pen bool, count func(header []byte) int) (n int, ok bool) {
	for len(b)-n >= headerLen {
		if binary.BigEndian.Uint16(b[n:]) < 256 {
			return n, allZero(b[n:])
		}
		fields := count(b[n:])
		at := n + headerLen
		if fields < 0 || fields > (len(b)-at)/4 {
			return n, false
		}
		for range fields {
			if len(b)-at < 4 {
				return n, false
			}
			enterprise := pen && b[at]&0x80 != 0
			at += 4
			if enterprise {
				if len(b)-at < 4 {
					return n, false
				}
				at += 4
			}
		}
		n = at
	}
	return n, true
}

func (d *Decoder) learn(h *header, id uint16, scopes, fields []netflow.Field, options bool) {
	t := newTemplate(templateKey{h.domain, h.version, id}, scopes, fields, options)
	if t == nil {
		d.metrics.templatesRejected.Add(1)
		return
	}
	// An exporter just met has no templates, which makes it the first to go when
	// another worker needs room; then it is met again.
	for range 3 {
		if d.peer.exporter.addTemplate(t, d.peer.source.Port(), d.received/1e9) {
			break
		}
		d.peer = d.peerOf(d.peer.source)
	}
	d.release(t.key)
}

func (d *Decoder) templateSet(b []byte, h *header) bool {
	n, ok := wholeTemplates(b, 4, h.version == 10, func(b []byte) int { return int(binary.BigEndian.Uint16(b[2:])) })
	records, err := netflow.DecodeTemplateSet(h.version, bytes.NewBuffer(b[:n]))
	for i := range records {
		d.learn(h, records[i].TemplateId, nil, records[i].Fields, false)
	}
	return ok && err == nil
}

func (d *Decoder) optionsTemplateSet(b []byte, h *header) bool {
	n, ok := wholeTemplates(b, 6, true, func(b []byte) int {
		fields, scopes := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
		if scopes > fields {
			return -1
		}
		return int(fields)
	})
	records, err := netflow.DecodeIPFIXOptionsTemplateSet(bytes.NewBuffer(b[:n]))
	for i := range records {
		d.learn(h, records[i].TemplateId, records[i].Scopes, records[i].Options, true)
	}
	return ok && err == nil
}

func (d *Decoder) optionsTemplateSet9(b []byte, h *header) bool {
	n, ok := wholeTemplates(b, 6, false, func(b []byte) int {
		return int(binary.BigEndian.Uint16(b[2:])/4) + int(binary.BigEndian.Uint16(b[4:])/4)
	})
	records, err := netflow.DecodeNFv9OptionsTemplateSet(bytes.NewBuffer(b[:n]))
	for i := range records {
		d.learn(h, records[i].TemplateId, records[i].Scopes, records[i].Options, true)
	}
	return ok && err == nil
}

// bind returns how to read the data sets of a template, nil if the template is
// unknown. It takes a lock only when the exporter's templates changed.
func (d *Decoder) bind(k templateKey) *binding {
	p, e := d.peer, d.peer.exporter
	b := p.bindings[k]
	// The generation is read before what depends on it.
	generation := e.generation.Load()
	if b != nil && b.generation == generation {
		return b
	}
	t := e.template(k, p.source.Port())
	if t == nil {
		if b != nil {
			delete(p.bindings, k)
			d.numBindings--
		}
		return nil
	}
	if b == nil {
		b = new(binding)
		if d.numBindings < maxBindings { // else until the cache starts anew
			p.bindings[k] = b
			d.numBindings++
		}
	}
	if b.plan == nil || b.tmpl.id != t.id {
		b.plan = d.planOf(t)
	}
	b.generation, b.tmpl = generation, t
	b.rate = e.samplingRate(samplerKey{domain: k.domain, version: k.version})
	b.boot = e.boot(k.domain)
	return b
}

// planOf returns the plan of a template's shape.
func (d *Decoder) planOf(t *template) *plan {
	if p := d.plans[t.id]; p != nil {
		return p
	}
	cost := planCost + len(t.fields) + t.minLen/64 // its scratch buffer, in fields
	if d.planCost += cost; d.planCost > maxPlanCost {
		// The bindings hold on to their plans, so they go, too.
		clear(d.plans)
		clear(d.peers)
		clear(d.peer.bindings)
		d.planCost, d.numBindings, d.numSeqs = cost, 0, 0
	}
	p := newPlan(t)
	d.plans[t.id] = p
	return p
}

func (d *Decoder) dataSet(id uint16, b []byte, h *header) bool {
	k := templateKey{h.domain, h.version, id}
	p := d.bind(k)
	if p == nil {
		d.unitsKnown = false
		if !d.hold(k, b, h) {
			// Another worker learned the template just now.
			return d.dataSet(id, b, h)
		}
		d.faults.report(dropNoTemplate, d.peer.source, nil, d.received)
		return true
	}
	return d.records(p, b, h)
}

// records decodes the records of a data set. It returns false if it ends with
// something else.
func (d *Decoder) records(p *binding, b []byte, h *header) bool {
	// What follows the last byte that is not 0 is padding, or the tail of zeros
	// that some exporters fill their datagrams with, if no record reaches into it.
	tail := len(b)
	for tail > 0 && b[tail-1] == 0 {
		tail--
	}
	for len(b) >= p.tmpl.minLen && tail > 0 {
		n := p.locate(b)
		if n == 0 {
			return false
		}
		if p.tmpl.options {
			d.option(p, b[:n])
			d.units.options++
		} else {
			d.dataRecord(p, b[:n], h)
			d.units.flows++
		}
		b, tail = b[n:], tail-n
	}
	return true
}

func (d *Decoder) dataRecord(p *binding, b []byte, h *header) {
	rate := p.rate
	if p.sampler >= 0 {
		s := p.at[p.sampler]
		rate = d.peer.exporter.samplingRate(samplerKey{h.domain, h.version, number(b[s.offset : s.offset+s.length])})
	}
	d.half(p, &p.forward, b, h, rate)
	if p.reverse != nil && p.hasReverse(b) {
		d.half(p, p.reverse, b, h, rate)
	}
}

// hasReverse tells whether a biflow saw traffic in the other direction.
func (p *plan) hasReverse(b []byte) bool {
	for _, i := range p.counters {
		s := p.at[i]
		if number(b[s.offset:s.offset+s.length]) != 0 {
			return true
		}
	}
	return false
}

func (d *Decoder) half(p *binding, dir *direction, b []byte, h *header, rate uint64) {
	d.rec.Reset()
	if err := dir.fill(&d.rec, p, b, h.exportTime, h.uptime); err != nil {
		// goflow2 fails on numbers of more than 8 bytes only, which the plan
		// leaves out; should it find another reason, the record is lost alone.
		d.metrics.dropSet(setMalformed)
		return
	}
	if rate == 0 {
		rate = d.peer.sampling
	}
	d.rec.Msg.SamplingRate = rate
	d.rec.Msg.ObservationDomainId = h.domain
	d.emit(h.proto, h.sequence, d.peer.address)
}

// option reads a record of options data: sampling rates and the boot time.
func (d *Decoder) option(p *binding, b []byte) {
	var sampler, rate, interval, space, size, population uint64
	for i := range p.tmpl.fields {
		f := &p.tmpl.fields[i]
		if f.PenProvided || i < p.tmpl.scopes && p.tmpl.key.version == 9 {
			continue // v9 numbers its scopes apart (RFC 3954, 6.1)
		}
		v := number(b[p.at[i].offset : p.at[i].offset+p.at[i].length])
		switch f.Type {
		case 48, netflow.IPFIX_FIELD_selectorId:
			sampler = v
		case 34, 50:
			rate = v
		case netflow.IPFIX_FIELD_samplingPacketInterval:
			interval = v
		case netflow.IPFIX_FIELD_samplingPacketSpace:
			space = v
		case netflow.IPFIX_FIELD_samplingSize:
			size = v
		case netflow.IPFIX_FIELD_samplingPopulation:
			population = v
		case netflow.IPFIX_FIELD_systemInitTimeMilliseconds:
			if v != 0 {
				d.peer.exporter.setBootTime(p.tmpl.key.domain, v)
			}
		}
	}
	switch {
	case interval > 0 && space > 0: // RFC 5477, 8.2: interval packets of interval + space
		rate = (interval + space) / interval
	case interval > 0 && p.tmpl.has(netflow.IPFIX_FIELD_samplingPacketSpace):
		rate = 1 // no packet is left out
	case interval > 0: // exporters that send the interval alone mean the rate
		rate = interval
	case rate == 0 && size > 0:
		rate = population / size
	}
	if rate != 0 {
		// Records that name no sampler get the rate that came last.
		k := samplerKey{domain: p.tmpl.key.domain, version: p.tmpl.key.version}
		d.peer.exporter.setSampling(k, rate)
		if k.sampler = sampler; sampler != 0 {
			d.peer.exporter.setSampling(k, rate)
		}
	}
}
