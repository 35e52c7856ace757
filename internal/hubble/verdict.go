package hubble

import (
	flowpb "github.com/cilium/cilium/api/v1/flow"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Types of Cilium's events (pkg/monitor/api/types.go of github.com/cilium/cilium), and the
// points at which packets are traced.
const (
	eventDrop          = 1
	eventTrace         = 4
	eventPolicyVerdict = 5

	pointToEndpoint   = 0
	pointFromEndpoint = 5
	pointFromNetwork  = 10
	pointToNetwork    = 11
)

// firewallDenied is the value of IE 233 for traffic that was not let through.
const firewallDenied = 3

// Forwarding status (IE 89): the two highest of eight bits, and the whole value.
const (
	statusForwarded = 1
	statusDropped   = 2

	statusACLDeny = 129
	statusACLDrop = 130
	statusBadTTL  = 137
	statusPolicer = 138
)

// verdict returns what became of the packets, as far as the exporter tells: by what a network
// policy decided, by a firewall event, by the forwarding status, or by the interface that the
// packets left through.
func (v *view) verdict() flowpb.Verdict {
	switch string(v.r.Extra.Verdict) {
	case flow.VerdictAllowed:
		return flowpb.Verdict_FORWARDED
	case flow.VerdictDropped:
		return flowpb.Verdict_DROPPED
	}
	if v.r.Extra.FirewallEvent == firewallDenied {
		return flowpb.Verdict_DROPPED
	}
	switch v.r.Msg.ForwardingStatus >> 6 {
	case statusForwarded:
		return flowpb.Verdict_FORWARDED
	case statusDropped:
		return flowpb.Verdict_DROPPED
	}
	if v.r.Msg.OutIf != 0 && !v.r.Extra.Sampled {
		return flowpb.Verdict_FORWARDED
	}
	return flowpb.Verdict_VERDICT_UNKNOWN
}

// dropReason returns why packets were dropped, as far as the exporter tells.
func (v *view) dropReason() flowpb.DropReason {
	if v.verdict() != flowpb.Verdict_DROPPED {
		return flowpb.DropReason_DROP_REASON_UNKNOWN
	}
	if v.decided() && len(v.r.Extra.PolicyKind) > 0 || v.r.Extra.FirewallEvent == firewallDenied {
		return flowpb.DropReason_POLICY_DENIED
	}
	switch v.r.Msg.ForwardingStatus {
	case statusACLDeny, statusACLDrop:
		return flowpb.DropReason_POLICY_DENIED
	case statusBadTTL:
		return flowpb.DropReason_TTL_EXCEEDED
	case statusPolicer:
		return flowpb.DropReason_DROP_RATE_LIMITED
	}
	return flowpb.DropReason_DROP_REASON_UNKNOWN
}

// decided reports whether the record tells what a network policy decided.
func (v *view) decided() bool { return len(v.r.Extra.Verdict) > 0 }

// event returns Cilium's type and subtype of the event, and whether there is one: what a policy
// decided, a drop, or a trace at the interface of a pod, or else at that of an exporter which
// tells the direction.
func (v *view) event() (eventType, subType int32, ok bool) {
	if v.decided() && len(v.r.Extra.PolicyKind) > 0 {
		return eventPolicyVerdict, 0, true
	}
	if v.verdict() == flowpb.Verdict_DROPPED {
		return eventDrop, int32(v.dropReason()), true
	}
	switch local := v.local(); {
	case local == sideSource && v.onExporter(v.src.object):
		return eventTrace, pointFromEndpoint, true
	case local == sideDestination && v.onExporter(v.dst.object):
		return eventTrace, pointToEndpoint, true
	}
	if !v.r.Extra.HasDirection {
		return 0, 0, false
	}
	if v.egress() {
		return eventTrace, pointToNetwork, true
	}
	return eventTrace, pointFromNetwork, true
}

// policyDirection returns whose rules decided, those of the source or of the destination.
func (v *view) policyDirection() flowpb.TrafficDirection {
	switch string(v.r.Extra.PolicyDirection) {
	case "Ingress":
		return flowpb.TrafficDirection_INGRESS
	case "Egress":
		return flowpb.TrafficDirection_EGRESS
	}
	return flowpb.TrafficDirection_TRAFFIC_DIRECTION_UNKNOWN
}

// Fields of CiliumEventType and Policy.
const (
	eventTypeField = 1
	eventSubType   = 2

	policyName      = 1
	policyNamespace = 2
	policyKind      = 5
)

// appendEvent appends the event, if there is one, and where the packets were traced.
func (v *view) appendEvent(b []byte) []byte {
	eventType, subType, ok := v.event()
	if !ok {
		return b
	}
	b, at := open(b, flowEventType)
	b = appendUint(appendUint(b, eventTypeField, uint64(eventType)), eventSubType, uint64(subType))
	b = closed(b, at)
	if eventType != eventTrace {
		return b
	}
	point := uint64(subType)
	if subType == pointToEndpoint { // 0 is another one there
		point = uint64(flowpb.TraceObservationPoint_TO_ENDPOINT)
	}
	return appendUint(b, flowTraceObservationPoint, point)
}

// appendPolicy appends the policy that decided, if it is known.
func (v *view) appendPolicy(b []byte) []byte {
	x := &v.r.Extra
	if !v.decided() || len(x.PolicyKind) == 0 {
		return b
	}
	dropped := v.verdict() == flowpb.Verdict_DROPPED
	var field protowire.Number
	switch v.policyDirection() {
	case flowpb.TrafficDirection_INGRESS:
		if field = flowIngressAllowedBy; dropped {
			field = flowIngressDeniedBy
		}
	case flowpb.TrafficDirection_EGRESS:
		if field = flowEgressAllowedBy; dropped {
			field = flowEgressDeniedBy
		}
	default:
		return b
	}
	b, at := open(b, field)
	b = appendExported(b, policyKind, x.PolicyKind)
	b = appendExported(b, policyNamespace, x.PolicyNamespace)
	return closed(appendExported(b, policyName, x.PolicyName), at)
}
