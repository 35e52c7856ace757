package collector

import (
	"bytes"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Open vSwitch sees a packet up to four times: where it enters the sender's
// bridge, where it leaves that for a port (not for a tunnel), and the same on
// the receiver's node. The record that counts is of the place where the packet
// is first seen. docs/traffic-metrics.md says why. A record of what came in from a tunnel
// counts if its sender is no pod, which [flow.Extra.FromTunnel] leaves to enrichment.

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

// classifyOVSRecord notes in a record of Open vSwitch's IPFIX how its counters are to be
// taken. What OVN samples has an observation point, a bridge's records have 0.
func classifyOVSRecord(r *flow.Record) {
	x := &r.Extra
	x.Scaled = true
	x.Sampled = r.Msg.ObservationPointId != 0
	x.FromTunnel = x.FlowDirection != egress && !fromPatchPort(x) && (x.TunnelType != 0 || len(x.TunnelSrcAddr) > 0)
	x.Duplicate = x.FromTunnel || duplicateOVSRecord(x)
}

// egress is the flowDirection (IE 61) of a record that was taken where packets leave.
const egress = 1

// duplicateOVSRecord reports whether another of Open vSwitch's IPFIX records has
// the packets of this one, which is not of packets that came in from a tunnel.
func duplicateOVSRecord(x *flow.Extra) bool {
	if x.FlowDirection != egress {
		// No port has sent what ovn-controller puts into the bridge: a packet that it
		// held, or an answer of its own. It counts where it leaves.
		return fromPatchPort(x)
	}
	// A packet that leaves the bridge has entered it through one of its ports,
	// where it was recorded. One that came from another bridge over a patch port
	// was not recorded: Open vSwitch then knows no ingress interface. Versions that
	// send no names of interfaces do not show the difference.
	return len(x.InIfName) > 0 && !fromPatchPort(x) || len(x.OutIfName) == 0
}

// fromPatchPort reports whether a record names one of OVN's patch ports as the one that
// the packets came in by. That stands for no port: patch ports have no number in the
// datapath, and so a packet from another bridge is recorded without a name. Only what
// ovn-controller puts into the bridge is recorded with one.
func fromPatchPort(x *flow.Extra) bool { return bytes.HasPrefix(x.InIfName, patchPrefix) }

var patchPrefix = []byte("patch-")

// fromOVSTunnel reports whether the sample is of a packet that Open vSwitch has
// received from a tunnel: it adds two structures to such a sample.
func (s *sampleReader) fromOVSTunnel() bool { return s.tunnel && s.vni }
