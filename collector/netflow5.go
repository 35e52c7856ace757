package collector

import (
	"encoding/binary"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Lengths of NetFlow v5 in bytes.
const (
	netflow5HeaderLen = 24
	netflow5RecordLen = 48
)

// netflow5 decodes a NetFlow v5 datagram as goflow2 does
// (producer/proto/producer_nflegacy.go), but into the worker's record, and it checks
// the count against the bytes. It returns false if the header is wrong about the
// records. Those that are whole are used nevertheless.
func (d *Decoder) netflow5(b []byte) bool {
	if len(b) < netflow5HeaderLen {
		return false
	}
	be := binary.BigEndian
	count := int(be.Uint16(b[2:]))
	uptime, seconds, nanos, seq := be.Uint32(b[4:]), be.Uint32(b[8:]), be.Uint32(b[12:]), be.Uint32(b[16:])
	sampling := be.Uint16(b[22:]) & 0x3fff
	base := uint64(seconds)*1e9 + uint64(nanos)
	d.trackSequence(protoNetFlow5, uint32(be.Uint16(b[20:])), seq, sequence.RecordCount{Data: uint32(count)}, true, uptime)
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
		d.emit(protoNetFlow5, seq, d.peer.address)
	}
	return whole == count && count > 0
}
