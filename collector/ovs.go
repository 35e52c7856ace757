package collector

import (
	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Open vSwitch sees a packet up to four times: where it enters the sender's
// bridge, where it leaves that for a port (not for a tunnel), and the same on
// the receiver's node. The record that counts is of the place where the packet
// is first seen. docs/traffic-metrics.md says why.

// ovsElements are the first elements of all of Open vSwitch's IPFIX templates for
// packets, and of no other exporter's that we know of (ofproto/ofproto-dpif-ipfix.c,
// struct ipfix_data_record_flow_key_common).
var ovsElements = [...]uint16{
	ieObservationPointID,
	ieFlowDirection,
	ieSourceMacAddress,
	ieDestinationMacAddress,
	ieEthernetType,
	ieEthernetHeaderLength,
}

// isOpenVSwitch reports whether a template is one of Open vSwitch's for packets.
func isOpenVSwitch(elements []element) bool {
	if len(elements) < len(ovsElements) {
		return false
	}
	for i, id := range ovsElements {
		if elements[i].Element != (flow.Element{ID: id}) {
			return false
		}
	}
	return true
}

// fromOpenVSwitch reports the same of the fields of a template.
func fromOpenVSwitch(fields []netflow.Field) bool {
	if len(fields) < len(ovsElements) {
		return false
	}
	for i, id := range ovsElements {
		if fields[i].PenProvided || fields[i].Type != id {
			return false
		}
	}
	return true
}

// duplicateOVSRecord reports whether another of Open vSwitch's IPFIX records has
// the packets of this one.
func duplicateOVSRecord(x *flow.Extra) bool {
	const egress = 1
	if x.FlowDirection != egress {
		// From a tunnel: the node at its other end has seen the packets first.
		return x.TunnelType != 0 || len(x.TunnelSrcAddr) > 0
	}
	// A packet that leaves the bridge has entered it through one of its ports,
	// where it was recorded. One that came from another bridge over a patch port
	// was not recorded: Open vSwitch then knows no ingress interface. Versions that
	// send no names of interfaces do not show the difference.
	return len(x.InIfName) > 0 || len(x.OutIfName) == 0
}

// fromOVSTunnel reports whether the sample is of a packet that Open vSwitch has
// received from a tunnel: it adds two structures to such a sample.
func (s *sampleReader) fromOVSTunnel() bool { return s.tunnel && s.vni }
