package collector

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime/debug"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Decoder turns datagrams into records. It belongs to one worker: only one
// goroutine may use it.
//
// Its methods are in one file for each job: decoder.go finds the protocol of a
// datagram, peers.go finds its source, netflow5.go, ipfix.go and sflow.go decode it,
// template_binding.go finds out how to read a data set, pending.go keeps those
// without a template, record_decoder.go reads records, options.go options data,
// sflow_structures.go reads what is in an sFlow sample and packet.go a sampled packet,
// emit.go hands records to the handler, and loss.go tracks sequence numbers.
type Decoder struct {
	_         [64]byte // keeps the workers' decoders out of each other's cache lines
	exporters *exporters
	metrics   *workerMetrics
	errors    *errorLog
	policy    *policy
	handler   flow.Handler
	// wantedNames says which names of options data somebody asks for.
	wantedNames naming
	// elements are those that the user has made fields of.
	elements *userElements

	rec flow.Record
	// packed and unpacked are buffers for data sets that wait.
	packed, unpacked []byte

	port    uint16   // that the datagram came to, for the log
	addrs   [12]byte // of a record of NetFlow v1, v5 or v7
	headers headerReader
	peers   map[netip.AddrPort]*peer
	slots   []peerSlot // of all peers
	gaps    []openGaps
	// recordDecoders are by shape of the template.
	recordDecoders map[string]*recordDecoder
	// peersBytes and decodersBytes are what the caches above take. The budgets are in
	// bytes, too.
	peersBytes, decodersBytes   int
	peersBudget, decodersBudget int

	// spareWork is what peers have earned for each other, and recent the bindings used of
	// late; see work.go.
	spareWork int
	recent    recentBindings

	// The fields below are of the datagram at hand.

	peer     *peer
	received int64 // Unix nanoseconds
	exported int64 // by its header, Unix nanoseconds; 0 if that does not say
	used     bool  // it gave records, options data or a template
	cut      bool  // its end is missing: the snap length of a capture cut it off
	// recordCount has the records of an IPFIX message, as its sequence number
	// counts them. recordsCounted reports whether all of them could be counted.
	recordCount    sequence.RecordCount
	recordsCounted bool

	_ [64]byte
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
			if p := d.peer; p != nil {
				d.forgetPeer(p)
			}
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
		d.metrics.drop(dropUnknownProtocol)
		d.errors.reportUnknown(proto, allowed, d.port, source, b, received)
	default:
		d.metrics.received(proto, len(b))
		d.peer, d.used, d.exported = d.peerOf(source), false, 0
		d.earn(max(len(b), minCostBytes))
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
		switch {
		case d.used:
			if e := d.peer.exporter; e.markSeconds(d.received/1e9) && d.exported != 0 {
				d.markClock(e)
			}
		case !ok && d.cut:
			d.drop(dropTruncated, source, b)
		case !ok:
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

// countBadSets counts the malformed sets or samples of a datagram, the last of which is
// cut if the datagram is. It returns false if nothing else was in it, and nothing in
// those either was of use: the datagram itself is malformed then, and counted as that.
func (d *Decoder) countBadSets(good, bad int) bool {
	if bad > 0 && good == 0 && !d.used {
		return false
	}
	for i := range bad {
		set, reason := setMalformed, dropMalformedSet
		if d.cut && i == bad-1 {
			set, reason = setTruncated, dropTruncatedSet
		}
		d.metrics.dropSet(set)
		d.errors.report(reason, d.peer.source, nil, d.received)
	}
	return true
}
