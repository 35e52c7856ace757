package collector

import (
	"encoding/binary"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Formats of sFlow v5's samples (sflow.org, sflow_version_5.txt), and of discarded
// packets (sflow.org, sflow_drops.txt).
const (
	sflowFlowSample         = 1
	sflowExpandedFlowSample = 3
	sflowDiscardedPacket    = 5
	// maxSamples is goflow2's bound on the samples of a datagram.
	maxSamples = 1000
)

// sflow5 decodes an sFlow v5 datagram (sflow.org, version 5). It decodes each sample
// by itself: a bad one is counted, and the others are used. It returns false if
// nothing could be made of the datagram.
func (d *Decoder) sflow5(b []byte) bool {
	be := binary.BigEndian
	addrLen := 0
	if len(b) >= 8 {
		switch be.Uint32(b[4:]) {
		case 1:
			addrLen = 4
		case 2:
			addrLen = 16
		}
	}
	if addrLen == 0 || len(b) < 8+addrLen+16 {
		return false
	}
	agent := b[8 : 8+addrLen : 8+addrLen]
	rest := b[8+addrLen:]
	seq, count := be.Uint32(rest[4:]), be.Uint32(rest[12:])
	if count > maxSamples {
		return false
	}
	d.trackSequence(protoSFlow, sequence.AgentStream(agent, be.Uint32(rest)), seq, sequence.RecordCount{Data: 1}, true, be.Uint32(rest[8:]))
	b = rest[16:]
	good, bad := 0, 0
	for range count {
		steps.Add(1)
		if len(b) < 8 || uint64(be.Uint32(b[4:])) > uint64(len(b)-8) {
			bad++
			break
		}
		format, length := be.Uint32(b), int(be.Uint32(b[4:]))
		sample := b[8 : 8+length]
		b = b[8+length:]
		switch format {
		case sflowFlowSample, sflowExpandedFlowSample, sflowDiscardedPacket:
			reason, ok := d.flowSample(format, sample, seq, agent)
			if !ok && reason == setMalformed {
				bad++
				continue
			}
			if !ok {
				d.metrics.dropSet(reason)
			}
		}
		good++ // counters are no flows, and no fault
	}
	return d.countBadSets(good, bad)
}

// flowSample decodes a sample of one packet. It returns false, and why, if there is
// no record of it.
func (d *Decoder) flowSample(format uint32, b []byte, seq uint32, agent []byte) (setReason, bool) {
	n := sampleHeaderLen(format)
	if len(b) < n {
		return setMalformed, false
	}
	d.rec.Reset()
	steps.Add(steps.Record)
	m := &d.rec.Msg
	m.Type = flowpb.FlowMessage_SFLOW_5
	m.Packets = 1
	readSampleHeader(m, format, b)
	d.headers.begin(m)
	s := sampleReader{m: m, headers: &d.headers}
	s.read(b[n:], binary.BigEndian.Uint32(b[n-4:]))
	d.headers.end()
	if s.odd > 0 {
		d.metrics.structures.Add(uint64(s.odd))
		d.errors.report(dropMalformedStructure, d.peer.source, nil, d.received)
	}
	if !s.packet {
		if s.odd > 0 {
			return setMalformed, false
		}
		return setNoPacket, false
	}
	if m.SamplingRate == 0 {
		m.SamplingRate = d.peer.sampling
	}
	m.TimeFlowStartNs, m.TimeFlowEndNs = uint64(d.received), uint64(d.received)
	d.rec.Extra.HasStart, d.rec.Extra.HasEnd = true, true
	d.rec.Extra.HasICMP = d.headers.icmp
	if s.fromOVSTunnel() {
		d.rec.Extra.FromTunnel, d.rec.Extra.Duplicate = true, true
	}
	d.emit(protoSFlow, seq, agent)
	return 0, true
}

// sampleHeaderLen returns the length of a sample's header, which ends with the count
// of its structures.
func sampleHeaderLen(format uint32) int {
	if format == sflowExpandedFlowSample {
		return 44
	}
	return 32 // also of a discarded packet
}

// readSampleHeader reads what stands before a sample's structures.
func readSampleHeader(m *protoproducer.ProtoProducerMessage, format uint32, b []byte) {
	be := binary.BigEndian
	var in, out sflowInterface
	switch format {
	case sflowExpandedFlowSample:
		m.SamplingRate = uint64(be.Uint32(b[12:]))
		in = sflowInterface{be.Uint32(b[24:]), be.Uint32(b[28:])}
		out = sflowInterface{be.Uint32(b[32:]), be.Uint32(b[36:])}
	case sflowFlowSample:
		m.SamplingRate = uint64(be.Uint32(b[8:]))
		in, out = compactInterface(be.Uint32(b[20:])), compactInterface(be.Uint32(b[24:]))
	case sflowDiscardedPacket:
		// Each discarded packet is reported by itself, within a limit of their rate.
		m.SamplingRate = 1
		in, out = compactInterface(be.Uint32(b[16:])), compactInterface(be.Uint32(b[20:]))
		m.ForwardingStatus = discardStatus(be.Uint32(b[24:]))
	}
	m.InIf, m.OutIf = in.index(), out.index()
	if format != sflowDiscardedPacket && out.format == interfaceDiscarded {
		m.ForwardingStatus = discardStatus(out.value)
	}
}

// sflowInterface is how a sample names an interface (sFlow v5, 5.3): by an index, or
// in the other formats by the reason of a discard, or by how many they are.
type sflowInterface struct{ format, value uint32 }

const (
	interfaceIndex     = 0
	interfaceDiscarded = 1
	// interfaceInternal stands for packets that the device itself sends or receives.
	interfaceInternal = 0x3fffffff
	interfaceUnknown  = 0xffffffff
)

// compactInterface splits the format, in the upper two bits, from the value.
func compactInterface(v uint32) sflowInterface { return sflowInterface{v >> 30, v & 0x3fffffff} }

// index returns the number of the interface, 0 unless one interface is meant.
func (i sflowInterface) index() uint32 {
	if i.format != interfaceIndex || i.value == interfaceInternal || i.value == interfaceUnknown {
		return 0
	}
	return i.value
}

// statusDropped is forwardingStatus (IE 89) of a packet dropped for a reason that has
// no code of its own there.
const statusDropped = 128

// discardStatus returns the forwardingStatus (IE 89) for the reason of a discard. It
// is 0 for the unknown reason: Open vSwitch gives it for packets that were not dropped
// at all. A sample of a discarded packet that gives it has 0, too.
func discardStatus(reason uint32) uint32 {
	switch reason {
	case 256:
		return 0
	case 257:
		return 130
	case 259:
		return 139
	case 260:
		return 138
	case 261:
		return 133
	}
	return statusDropped
}
