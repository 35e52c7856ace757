package encode

import (
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// otlpNames has the attributes of fields whose names don't follow from the fields'.
// They are those of OpenTelemetry's semantic conventions, and of the netflow receiver
// of its collector (receiver/netflowreceiver/parser.go). The receiver calls all other
// fields "flow." and goflow2's name, and so does [dialect.key].
var otlpNames = map[flow.FieldID]string{
	flow.FieldSrcAddr:         "source.address",
	flow.FieldSrcPort:         "source.port",
	flow.FieldDstAddr:         "destination.address",
	flow.FieldDstPort:         "destination.port",
	flow.FieldProto:           "network.transport",
	flow.FieldEtype:           "network.type",
	flow.FieldBytes:           "flow.io.bytes",
	flow.FieldPackets:         "flow.io.packets",
	flow.FieldTimeReceivedNs:  "flow.time_received",
	flow.FieldTimeFlowStartNs: "flow.start",
	flow.FieldTimeFlowEndNs:   "flow.end",
}

// otlpAlways are the fields that the receiver writes also if they are 0. Those that
// have no value otherwise are left out.
var otlpAlways = map[flow.FieldID]bool{
	flow.FieldSrcPort: true, flow.FieldDstPort: true, flow.FieldProto: true, flow.FieldEtype: true,
	flow.FieldBytes: true, flow.FieldPackets: true, flow.FieldType: true, flow.FieldSequenceNum: true,
	flow.FieldTimeReceivedNs: true, flow.FieldSamplingRate: true,
}

// otlpDefault are the fields that the receiver writes and that are not in the default
// set of schema v1.
var otlpDefault = map[flow.FieldID]bool{
	flow.FieldTimeReceivedNs: true, flow.FieldTimeFlowStartNs: true, flow.FieldTimeFlowEndNs: true,
	flow.FieldIPFlags: true, flow.FieldBgpNextHop: true,
	flow.FieldObservationDomainID: true, flow.FieldObservationPointID: true,
}

// otlpKey returns the name of a field's attribute, empty if another field has the
// value, and whether it is in the default set.
func otlpKey(f *flow.Field) (key string, def bool) {
	if _, ok := within[f.ID]; ok {
		return "", false
	}
	def = f.Default || otlpDefault[f.ID]
	if name, ok := otlpNames[f.ID]; ok {
		return name, def
	}
	return "flow." + f.Snake, def
}

// otlpAttrs has the names of generated fields after "source." and the like: those of
// the semantic conventions for Kubernetes where these have one.
var otlpAttrs = map[flow.Attr]string{
	flow.AttrPod:          "k8s.pod.name",
	flow.AttrNamespace:    "k8s.namespace.name",
	flow.AttrHostIP:       "k8s.node.ip",
	flow.AttrWorkload:     "k8s.workload.name",
	flow.AttrWorkloadKind: "k8s.workload.kind",
	flow.AttrWarn:         "k8s.warn",
	flow.AttrNode:         "k8s.node.name",
	flow.AttrZone:         "cloud.availability_zone",
	flow.AttrPodUID:       "k8s.pod.uid",
	flow.AttrStatus:       "k8s.status",
	flow.AttrNetwork:      "k8s.network.name",
	flow.AttrSubnetLabel:  "subnet.label",
	flow.AttrCountry:      "geo.country.iso_code",
	flow.AttrASName:       "as.organization.name",
}

// otlpEnd returns what the attributes of one prefix begin with.
func otlpEnd(e flow.MapEntry) string {
	switch e.Field {
	case flow.FieldSrcAddr:
		return "source."
	case flow.FieldDstAddr:
		return "destination."
	}
	return e.Snake + "."
}

// otlpAttr returns the name of a generated field's attribute.
func otlpAttr(e flow.MapEntry, a *flow.AttrInfo) string {
	name, ok := otlpAttrs[a.Attr]
	if !ok {
		name = "k8s." + strings.ReplaceAll(a.Snake, "_", ".")
	}
	return otlpEnd(e) + name
}

// otlpLabel returns the name of a label's attribute.
func otlpLabel(e flow.MapEntry, l *flow.Label) string { return otlpEnd(e) + "k8s.pod.label." + l.Name }
