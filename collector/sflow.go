package collector

import (
	"bytes"
	"encoding/binary"

	"github.com/netsampler/goflow2/v2/decoders/sflow"
	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Formats of sFlow v5 (sflow.org, sflow_version_5.txt).
const (
	sflowFlowSample         = 1
	sflowExpandedFlowSample = 3
	// The header protocols of sampled packets.
	sflowEthernet = 1
	sflowIPv4     = 11
	sflowIPv6     = 12
	// maxSamples is goflow2's bound on the samples of a datagram and on the
	// records of a sample.
	maxSamples = 1000
	// interfaceFormat are the bits of an interface number with its kind (sFlow v5,
	// 5.3): an index, the reason of a discard, or a count.
	interfaceFormat = 0xc0000000
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
	d.trackSequence(protoSFlow, be.Uint32(rest), seq, sequence.RecordCount{Data: 1}, true, be.Uint32(rest[8:]))
	b = rest[16:]
	good, bad := 0, 0
	for range count {
		if len(b) < 8 || uint64(be.Uint32(b[4:])) > uint64(len(b)-8) {
			bad++
			break
		}
		format, length := be.Uint32(b), int(be.Uint32(b[4:]))
		sample := b[8 : 8+length]
		b = b[8+length:]
		if format != sflowFlowSample && format != sflowExpandedFlowSample {
			good++ // counters and discarded packets are no flows
			continue
		}
		if d.flowSample(format, sample, seq, agent) {
			good++
		} else {
			bad++
		}
	}
	if bad > 0 && good == 0 {
		return false
	}
	for range bad {
		d.metrics.dropSet(setMalformed)
		d.errors.report(dropMalformedSet, d.peer.source, nil, d.received)
	}
	return true
}

// sampleHeaderLen is where the count of a sample's records stands.
func sampleHeaderLen(format uint32) int {
	if format == sflowExpandedFlowSample {
		return 40
	}
	return 28
}

// flowSample decodes one flow sample. Samples of packets, which nearly all are, are
// read by hand, since goflow2's decoder allocates nine times for one. goflow2 reads
// the others. It does not bound the records of expanded samples, so their count is
// checked here against the bytes.
func (d *Decoder) flowSample(format uint32, b []byte, seq uint32, agent []byte) bool {
	n := sampleHeaderLen(format)
	if len(b) < n+4 {
		return false
	}
	records := binary.BigEndian.Uint32(b[n:])
	if records > maxSamples || int(records) > (len(b)-n-4)/8 {
		return false
	}
	if first := b[n+4:]; records > 0 && uint64(binary.BigEndian.Uint32(first[4:])) > uint64(len(first)-8) {
		return false // goflow2 makes an empty record of it
	}
	d.rec.Reset()
	m := &d.rec.Msg
	m.LayerStack, m.LayerSize = d.layerStack[:0], d.layerSize[:0]
	if readableByHand(b[n:]) {
		readSampleByHand(m, format, b, n)
	} else if !readSampleByGoflow2(m, format, b) {
		return false
	}
	d.layerStack, d.layerSize = m.LayerStack, m.LayerSize
	if m.SamplingRate == 0 {
		m.SamplingRate = d.peer.sampling
	}
	m.TimeFlowStartNs, m.TimeFlowEndNs = uint64(d.received), uint64(d.received)
	d.rec.Extra.HasStart, d.rec.Extra.HasEnd = true, true
	d.rec.Extra.Duplicate = fromOVSTunnel(b[n:])
	d.emit(protoSFlow, seq, agent)
	return true
}

// readableByHand reports whether the records of a sample, from their count on, are
// such that readSampleByHand reads them.
func readableByHand(b []byte) bool {
	be := binary.BigEndian
	records := be.Uint32(b)
	for b = b[4:]; records > 0 && len(b) >= 8; records-- {
		format, length := be.Uint32(b), be.Uint32(b[4:])
		if uint64(length) > uint64(len(b)-8) {
			break
		}
		switch format {
		case sflow.FLOW_TYPE_RAW, sflow.FLOW_TYPE_EXT_SWITCH:
			if length < 16 {
				return false // goflow2 rejects the sample
			}
		case sflow.FLOW_TYPE_ETH, sflow.FLOW_TYPE_IPV4, sflow.FLOW_TYPE_IPV6, sflow.FLOW_TYPE_EXT_ROUTER, sflow.FLOW_TYPE_EXT_GATEWAY,
			sflow.FLOW_TYPE_EGRESS_QUEUE, sflow.FLOW_TYPE_EXT_ACL, sflow.FLOW_TYPE_EXT_FUNCTION:
			return false
		}
		b = b[8+length:]
	}
	return true
}

// readSampleByHand reads a sample for which readableByHand is true, as goflow2 does
// (decoders/sflow/sflow.go, DecodeSample, and producer/proto/producer_sf.go).
func readSampleByHand(m *protoproducer.ProtoProducerMessage, format uint32, b []byte, n int) {
	be := binary.BigEndian
	m.Type = flowpb.FlowMessage_SFLOW_5
	m.Packets = 1
	if format == sflowExpandedFlowSample {
		m.SamplingRate = uint64(be.Uint32(b[12:]))
		m.InIf, m.OutIf = be.Uint32(b[28:]), be.Uint32(b[36:])
	} else {
		m.SamplingRate = uint64(be.Uint32(b[8:]))
		m.InIf, m.OutIf = be.Uint32(b[20:])&^interfaceFormat, be.Uint32(b[24:])&^interfaceFormat
	}
	records := be.Uint32(b[n:])
	for b = b[n+4:]; records > 0 && len(b) >= 8; records-- {
		format, length := be.Uint32(b), be.Uint32(b[4:])
		if uint64(length) > uint64(len(b)-8) {
			break
		}
		r := b[8 : 8+length : 8+length]
		b = b[8+length:]
		switch format {
		case sflow.FLOW_TYPE_RAW:
			m.Bytes = uint64(be.Uint32(r[4:]))
			sampledHeader(m, be.Uint32(r), r[16:])
		case sflow.FLOW_TYPE_EXT_SWITCH:
			m.SrcVlan, m.DstVlan = be.Uint32(r), be.Uint32(r[8:])
		}
	}
}

// sampledHeader reads the beginning of a packet of one of sFlow's header
// protocols.
func sampledHeader(m *protoproducer.ProtoProducerMessage, protocol uint32, data []byte) {
	switch protocol {
	case sflowEthernet:
		p := packet{m: m}
		p.ethernet(data)
	case sflowIPv4:
		parseIP(m, flow.EtypeIPv4, data)
	case sflowIPv6:
		parseIP(m, flow.EtypeIPv6, data)
	}
}

// readSampleByGoflow2 reads a sample with goflow2. It returns false if that fails.
func readSampleByGoflow2(m *protoproducer.ProtoProducerMessage, format uint32, b []byte) bool {
	h := sflow.SampleHeader{Format: format, Length: uint32(len(b))}
	sample, err := sflow.DecodeSample(&h, bytes.NewBuffer(b))
	if err != nil {
		return false
	}
	if err := protoproducer.SearchSFlowSampleConfig(m, sample, packetMapper{}); err != nil {
		return false
	}
	var list []sflow.FlowRecord
	switch s := sample.(type) {
	case sflow.FlowSample:
		list = s.Records
		m.InIf &^= interfaceFormat
		m.OutIf &^= interfaceFormat
	case sflow.ExpandedFlowSample:
		list = s.Records
	}
	for i := range list {
		// Ethernet has been read by goflow2's producer.
		if s, ok := list[i].Data.(sflow.SampledHeader); ok && s.Protocol != sflowEthernet {
			sampledHeader(m, s.Protocol, s.HeaderData)
		}
	}
	return true
}
