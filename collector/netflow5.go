package collector

import (
	"encoding/binary"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// Lengths in bytes of the versions of NetFlow whose records have one fixed format
// (Cisco, NetFlow Services Solutions Guide: NetFlow Export Datagram Format).
const (
	netflow1HeaderLen = 16
	netflow5HeaderLen = 24 // v7's, too
	netflow5RecordLen = 48
	netflow7RecordLen = 52
	// Records of v1 have 52 bytes in Cisco's first description and 48 in the later
	// ones. What differs is padding at their end.
	netflow1RecordLen     = 48
	netflow1LongRecordLen = 52
)

// netflow1, netflow5 and netflow7 decode a datagram as goflow2 does v5
// (producer/proto/producer_nflegacy.go), but into the worker's record, and they check
// the count against the bytes. If the header is wrong about the records, those that are
// whole are used, and the others count as one malformed set. They return false if there
// is no whole one.

func (d *Decoder) netflow1(b []byte) bool {
	if len(b) < netflow1HeaderLen {
		return false
	}
	recordLen := netflow1RecordLenOf(b)
	if recordLen == 0 { // only where the first record is can be known
		recordLen = netflow1RecordLen
		b = b[:netflow1HeaderLen+recordLen]
	}
	return d.fixedRecords(b, protoNetFlow1, netflow1HeaderLen, recordLen)
}

// netflow1RecordLenOf returns the length of the records of a v1 datagram. Their padding
// says it, or if that does not, the datagram's own length, which may also be that of other
// records that are more or fewer than the count. It returns 0 if there are several records
// of which neither says it.
func netflow1RecordLenOf(b []byte) int {
	count, records := int(binary.BigEndian.Uint16(b[2:])), b[netflow1HeaderLen:]
	short, long := netflow1Padded(records, count, netflow1RecordLen), netflow1Padded(records, count, netflow1LongRecordLen)
	several := min(count, len(records)/netflow1RecordLen) > 1
	switch {
	case several && short && !long:
		return netflow1RecordLen
	case several && long && !short:
		return netflow1LongRecordLen
	case len(records) == count*netflow1LongRecordLen:
		return netflow1LongRecordLen
	case len(records) == count*netflow1RecordLen, !several:
		return netflow1RecordLen
	}
	return 0
}

// netflow1Padded reports whether up to count whole records of v1 have zeros where
// padding is, if they are so long.
func netflow1Padded(b []byte, count, recordLen int) bool {
	for range min(count, len(b)/recordLen) {
		steps.Add(1)
		if !allZero(b[36:38]) || !allZero(b[41:recordLen]) {
			return false
		}
		b = b[recordLen:]
	}
	return true
}

func (d *Decoder) netflow5(b []byte) bool {
	if len(b) < netflow5HeaderLen {
		return false
	}
	return d.fixedRecords(b, protoNetFlow5, netflow5HeaderLen, netflow5RecordLen)
}

func (d *Decoder) netflow7(b []byte) bool {
	if len(b) < netflow5HeaderLen {
		return false
	}
	return d.fixedRecords(b, protoNetFlow7, netflow5HeaderLen, netflow7RecordLen)
}

// fixedRecords decodes the records of a datagram whose header is whole.
func (d *Decoder) fixedRecords(b []byte, proto protocol, headerLen, recordLen int) bool {
	be := binary.BigEndian
	count := int(be.Uint16(b[2:]))
	h := fixedHeader{uptime: be.Uint32(b[4:]), base: uint64(be.Uint32(b[8:]))*1e9 + uint64(be.Uint32(b[12:]))}
	d.exported = int64(h.base)
	switch proto {
	case protoNetFlow1:
		h.flowType = flow.TypeNetFlowV1
	case protoNetFlow5:
		h.flowType, h.sequence, h.rate = flowpb.FlowMessage_NETFLOW_V5, be.Uint32(b[16:]), uint64(be.Uint16(b[22:])&0x3fff)
		d.trackSequence(proto, sequence.Stream(be.Uint16(b[20:])), h.sequence, sequence.RecordCount{Data: uint32(count)}, true, h.uptime)
	case protoNetFlow7:
		h.flowType, h.sequence = flow.TypeNetFlowV7, be.Uint32(b[16:])
		d.trackSequence(proto, 0, h.sequence, sequence.RecordCount{Data: uint32(count)}, true, h.uptime)
	}
	if h.rate == 0 {
		h.rate = d.peer.sampling
	}
	whole := min(count, (len(b)-headerLen)/recordLen)
	for i := range whole {
		d.rec.Reset()
		steps.Add(1 + steps.Record)
		steps.Copied(recordLen)
		h.fill(&d.rec, &d.addrs, b[headerLen+i*recordLen:][:recordLen])
		d.emit(proto, h.sequence, d.peer.address)
	}
	missing := 0
	if whole < count || count == 0 {
		missing = 1
	}
	return d.countBadSets(whole, missing)
}

// fixedHeader is what the header of a datagram says about its records.
type fixedHeader struct {
	flowType flowpb.FlowMessage_FlowType
	uptime   uint32 // milliseconds
	base     uint64 // time of export, Unix nanoseconds
	sequence uint32 // not in v1
	rate     uint64
}

// fill makes the message of a record, whose addresses it copies to addrs. Up to the
// ports the records of all versions are alike.
func (h *fixedHeader) fill(rec *flow.Record, addrs *[12]byte, r []byte) {
	be := binary.BigEndian
	m := &rec.Msg
	copy(addrs[:], r[:12])
	m.SrcAddr, m.DstAddr, m.NextHop = addrs[0:4:4], addrs[4:8:8], addrs[8:12:12]
	m.Type = h.flowType
	m.TimeFlowStartNs = uptimeNs(h.base, h.uptime, be.Uint32(r[24:]))
	m.TimeFlowEndNs = uptimeNs(h.base, h.uptime, be.Uint32(r[28:]))
	rec.Extra.HasStart, rec.Extra.HasEnd = true, true
	m.Etype = flow.EtypeIPv4
	m.InIf, m.OutIf = uint32(be.Uint16(r[12:])), uint32(be.Uint16(r[14:]))
	m.Packets, m.Bytes = uint64(be.Uint32(r[16:])), uint64(be.Uint32(r[20:]))
	m.SrcPort, m.DstPort = uint32(be.Uint16(r[32:])), uint32(be.Uint16(r[34:]))
	m.Proto, m.IpTos = uint32(r[38]), uint32(r[39])
	if h.flowType == flow.TypeNetFlowV1 {
		m.TcpFlags = uint32(r[40])
	} else {
		m.TcpFlags = uint32(r[37])
		m.SrcAs, m.DstAs = uint32(be.Uint16(r[40:])), uint32(be.Uint16(r[42:]))
		m.SrcNet, m.DstNet = uint32(r[44]), uint32(r[45])
	}
	m.SamplingRate = h.rate
	icmpFromPort(rec)
}

// uptimeNs returns the Unix time, in nanoseconds, at which the exporter's uptime was
// t milliseconds, when base is the time at which it was uptime. The numbers have 32
// bits and begin anew after 49.7 days. A flow may also begin before the uptime does,
// or end after the header was made. So what lies within 24.8 days is right.
func uptimeNs(base uint64, uptime, t uint32) uint64 {
	return base - uint64(int64(int32(uptime-t))*1e6)
}
