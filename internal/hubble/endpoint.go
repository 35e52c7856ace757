package hubble

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"
	"unique"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The kinds of objects that have something of their own in Hubble.
const (
	kindPod     = "Pod"
	kindService = "Service"
	kindNode    = "Node"
)

// Labels that Cilium itself gives to endpoints (pkg/labels and
// pkg/k8s/apis/cilium.io/const.go of github.com/cilium/cilium).
const (
	sourceKubernetes = "k8s"
	sourceReserved   = "reserved"
	sourceGenerated  = "gen"

	labelNamespace = "io.kubernetes.pod.namespace"
	labelCluster   = "io.cilium.k8s.policy.cluster"
	// labelWorkload is ours. Hubble UI takes the title of a card from it where no label names
	// the application.
	labelWorkload = "workload.name"
	// Ours, too: what the user's files say of addresses outside of the cluster.
	labelSubnet  = "subnet.label"
	labelCountry = "country"
	labelASName  = "as.name"
)

// GroupingLabels lists the labels of pods by which Hubble UI groups and titles its cards, and by
// which people select most. Nothing may change it.
var GroupingLabels = []string{
	"app", "app.kubernetes.io/name", "k8s-app", "name", "functionName",
	"app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/part-of", "component", "tier",
}

// titles are those of the labels that Hubble UI takes the title of a card from.
var titles = []string{"app", "app.kubernetes.io/name", "k8s-app", "name", "functionName"}

// label is a label of an endpoint, with its source in Cilium's sense.
type label struct{ source, key, value string }

// append appends the label as flows show it: k8s:app=shop, or reserved:world.
func (l *label) append(b []byte) []byte {
	b = append(append(append(b, l.source...), ':'), l.key...)
	if l.value == "" {
		return b
	}
	return append(append(b, '='), l.value...)
}

// endpoint is an end as Hubble describes it. Its texts are valid UTF-8. It is made anew for each
// record, since that costs less than to remember ends: traffic may be between all pods of a
// cluster. Labels and identity cost most, and are found out when they are asked for.
type endpoint struct {
	object                 *flow.Object // nil if nobody is known to own the address
	reserved               string       // the entity that Cilium reserves an identity for; empty for none
	namespace, pod         string
	service                string // name of the Service that the address belongs to
	place                  string // name of an end that nobody in the cluster has: the label of its network
	workload, workloadKind string

	identity uint32 // see identityOf
	labels   []label
	labelled bool // labels are known, see labelsOf
}

// fill makes ep the end of an object, nil if none is known, whatever ep was before. It takes ep's
// room for labels. A Node is local if it is the exporter's. An end is routed if it has an address
// that more than one link knows.
func (ep *endpoint) fill(o *flow.Object, local, routed bool) {
	*ep = endpoint{object: o, labels: ep.labels[:0]}
	switch {
	case o == nil || o.Place != nil:
		if o != nil {
			ep.place = valid(o.Place.SubnetLabel)
		}
		if routed {
			ep.reserve(identityWorld, "world")
		} else {
			ep.reserve(identityUnknown, "unknown")
		}
	case o.Kind == kindNode && local:
		ep.reserve(identityHost, "host")
	case o.Kind == kindNode:
		ep.reserve(identityRemoteNode, "remote-node")
	default: // in a namespace: a pod, a service, or an egress IP
		ep.namespace = valid(o.Namespace)
		switch o.Kind {
		case kindPod:
			ep.pod = valid(o.Name)
		case kindService:
			ep.service = valid(o.Name)
		}
	}
	if o != nil && o.Workload != "" {
		ep.workload, ep.workloadKind = valid(o.Workload), valid(o.WorkloadKind)
	}
}

// reserve makes ep one of the entities that Cilium reserves an identity for.
func (ep *endpoint) reserve(identity uint32, name string) { ep.identity, ep.reserved = identity, name }

// identityOf returns the identity of an end.
func (n *names) identityOf(ep *endpoint) uint32 {
	if ep.reserved == "" && ep.identity == identityUnknown {
		ep.identity = n.ids.of(ep.object)
	}
	return ep.identity
}

// labelsOf returns the labels of an end, as flows order them. They are valid until ep is another
// end.
func (n *names) labelsOf(ep *endpoint) []label {
	if ep.labelled {
		return ep.labels
	}
	ep.labelled = true
	if ep.reserved == "" {
		n.describe(ep)
	} else {
		ep.label(sourceReserved, ep.reserved, "")
	}
	if ep.object != nil && ep.object.Place != nil {
		ep.locate(ep.object.Place)
	}
	slices.SortFunc(ep.labels, func(a, b label) int {
		if a.source != b.source {
			return cmp.Compare(a.source, b.source)
		}
		return cmp.Compare(a.key, b.key)
	})
	return ep.labels
}

// label adds a label.
func (ep *endpoint) label(source, key, value string) {
	ep.labels = append(ep.labels, label{source, key, value})
}

// locate adds what is known of a place outside of the cluster.
func (ep *endpoint) locate(p *flow.Place) {
	for _, l := range [...]label{
		{sourceGenerated, labelSubnet, ep.place}, {sourceGenerated, labelCountry, valid(p.Country)}, {sourceGenerated, labelASName, valid(p.ASName)},
	} {
		if l.value != "" {
			ep.labels = append(ep.labels, l)
		}
	}
}

// describe adds the labels of an object in a namespace.
func (n *names) describe(ep *endpoint) {
	titled, rest := false, ep.object.Labels
	for i := 0; rest != "" && i < len(n.labels); i++ {
		var value string
		if value, rest, _ = strings.Cut(rest, "\n"); value != "" {
			ep.label(sourceKubernetes, n.labels[i], valid(value))
			titled = titled || slices.Contains(titles, n.labels[i])
		}
	}
	if !titled {
		ep.label(sourceGenerated, labelWorkload, ep.workload)
	}
	if ep.namespace != "" {
		ep.label(sourceKubernetes, labelNamespace, ep.namespace)
	}
	if n.cluster != "" {
		ep.label(sourceKubernetes, labelCluster, n.cluster)
	}
}

// clusterOf returns the cluster that an endpoint is in, empty for none.
func (n *names) clusterOf(ep *endpoint) string {
	if ep.namespace != "" || ep.identity == identityHost || ep.identity == identityRemoteNode {
		return n.cluster
	}
	return ""
}

// Fields of Endpoint, Workload and Service.
const (
	endpointIdentity  = 2
	endpointNamespace = 3
	endpointLabels    = 4
	endpointPod       = 5
	endpointWorkloads = 6
	endpointCluster   = 7

	workloadName = 1
	workloadKind = 2

	serviceNameField = 1
	serviceNamespace = 2
)

// appendEndpoint appends an end.
func (n *names) appendEndpoint(b []byte, field protowire.Number, ep *endpoint) []byte {
	b, start := open(b, field)
	b = appendUint(b, endpointIdentity, uint64(n.identityOf(ep)))
	b = appendText(b, endpointNamespace, ep.namespace)
	labels := n.labelsOf(ep)
	for i := range labels {
		var at int
		b, at = open(b, endpointLabels)
		b = closed(labels[i].append(b), at)
	}
	b = appendText(b, endpointPod, ep.pod)
	if ep.workload != "" {
		var at int
		b, at = open(b, endpointWorkloads)
		b = closed(appendText(appendText(b, workloadName, ep.workload), workloadKind, ep.workloadKind), at)
	}
	return closed(appendText(b, endpointCluster, n.clusterOf(ep)), start)
}

// appendService appends the Service that an address belongs to, nothing if it belongs to none.
func appendService(b []byte, field protowire.Number, ep *endpoint) []byte {
	if ep.service == "" {
		return b
	}
	b, at := open(b, field)
	b = appendText(appendText(b, serviceNameField, ep.service), serviceNamespace, ep.namespace)
	return closed(b, at)
}

// valid returns s in valid UTF-8, which protobuf asks for.
func valid(s string) string {
	if utf8.ValidString(s) { // which is quicker to find out
		return s
	}
	return strings.ToValidUTF8(s, replacement)
}

// workloadOf returns the workload of an object.
func workloadOf(o *flow.Object) unique.Handle[flow.Workload] {
	if id := o.WorkloadID(); id != (unique.Handle[flow.Workload]{}) {
		return id
	}
	return unique.Make(flow.Workload{Namespace: o.Namespace, Name: o.Workload, Kind: o.WorkloadKind})
}
