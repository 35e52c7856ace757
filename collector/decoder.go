package collector

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime/debug"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Bounds on what a worker keeps of its sources. Beyond one of them it forgets all
// sources, and looks them up again in the table of exporters.
const (
	maxPeers = 8192
	maxSeqs  = 1 << 14
)

// Decoder turns datagrams into records. It belongs to one worker: only one
// goroutine may use it.
//
// Its methods are in one file for each job: decoder.go finds the protocol of a
// datagram, netflow5.go, ipfix.go and sflow.go decode it, template_binding.go finds
// out how to read a data set, record_decoder.go reads its records, options.go its
// options data, emit.go hands records to the handler, and loss.go tracks sequence
// numbers.
type Decoder struct {
	_         [64]byte // keeps the workers' decoders out of each other's cache lines
	exporters *exporters
	metrics   *workerMetrics
	errors    *errorLog
	policy    *policy
	handler   flow.Handler

	rec   flow.Record
	addrs [12]byte // of a record of NetFlow v1, v5 or v7
	// layerStack and layerSize are the room for the lists of an sFlow record.
	layerStack []flowpb.FlowMessage_LayerStack
	layerSize  []uint32
	peers      map[netip.AddrPort]*peer
	gaps       []openGap
	// recordDecoders are by shape of the template. Their cost is bounded, and so
	// are the numbers of bindings and of trackers that all peers have together.
	recordDecoders       map[string]*recordDecoder
	decodersCost         int
	numBindings, numSeqs int

	// The fields below are of the datagram at hand.

	peer     *peer
	received int64 // Unix nanoseconds
	// recordCount has the records of an IPFIX message, as its sequence number
	// counts them. recordsCounted reports whether all of them could be counted.
	recordCount    sequence.RecordCount
	recordsCounted bool

	_ [64]byte
}

// peer is what a worker keeps of one source.
type peer struct {
	exporter *exporter
	source   netip.AddrPort
	address  []byte // SamplerAddress: 4 or 16 bytes
	bindings map[templateKey]*templateBinding
	// sampling is the rate that -sampling gives to exporters that send none.
	sampling  uint64
	sequences sequence.Source
}

// Datagram decodes one datagram that arrived from source at the given time (Unix
// nanoseconds), and calls the handler for each of its records. allowed are the
// protocols that may arrive at its port. b is not kept, but records alias it: they
// are valid during the handler's call. If decoding panics, only this datagram is
// lost.
func (d *Decoder) Datagram(source netip.AddrPort, allowed Protocols, b []byte, received int64) {
	defer func() {
		if r := recover(); r != nil {
			d.panicked(r, b)
			d.metrics.drop(dropPanic)
			delete(d.peers, source)
		}
	}()
	d.datagram(source, allowed, b, received)
}

// panicked logs a panic and what caused it.
func (d *Decoder) panicked(r any, b []byte) {
	d.errors.log.WithFields(logrus.Fields{"panic": fmt.Sprint(r), "stack": string(debug.Stack())}).Debug("decoding panicked")
	var source netip.AddrPort
	if d.peer != nil {
		source = d.peer.source
	}
	d.errors.report(dropPanic, source, b, d.received)
}

// datagram checks who sent a datagram and passes it to the decoder of its protocol.
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
		case protoNetFlow1:
			ok = d.netflow1(b)
		case protoNetFlow5:
			ok = d.netflow5(b)
		case protoNetFlow7:
			ok = d.netflow7(b)
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

// drop counts and logs a datagram of which nothing is used.
func (d *Decoder) drop(reason dropReason, source netip.AddrPort, b []byte) {
	d.metrics.drop(reason)
	d.errors.report(reason, source, b, d.received)
}

// protocolOf returns the protocol by the version at the start of the datagram:
// 16 bits in NetFlow and IPFIX, 32 in sFlow.
func protocolOf(b []byte) protocol {
	if len(b) < 4 {
		return protoUnknown
	}
	switch binary.BigEndian.Uint16(b) {
	case 1:
		return protoNetFlow1
	case 5:
		return protoNetFlow5
	case 7:
		return protoNetFlow7
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

// peerOf returns what the worker keeps of a source, and records that the exporter
// was heard from now.
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
		bindings: make(map[templateKey]*templateBinding),
		sampling: d.policy.samplingRate(source.Addr()),
	}
	d.peers[source] = p
	return p
}
