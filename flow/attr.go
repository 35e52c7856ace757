package flow

// Attr names one generated field of a mapped address: what is known of the
// Kubernetes object that owns the address.
type Attr uint8

// The generated fields.
const (
	AttrPod Attr = iota
	AttrNamespace
	AttrHostIP
	AttrWorkload
	AttrWorkloadKind
	AttrWarn
	AttrNode
	AttrZone
	AttrPodUID
	AttrNetwork
	AttrSubnetLabel
	AttrCountry
	AttrASName
	numAttrs // those above are read from the Object
	// AttrStatus is read from the End, not from the Object.
	AttrStatus = numAttrs
	// These are in schema netobserv alone. AttrHost is the address of a pod's host, or
	// of a node. AttrNetworkName calls the cluster's own network as NetObserv does.
	AttrName = numAttrs + 1
	AttrKind = numAttrs + 2
	AttrHost = numAttrs + 3

	AttrNetworkName = numAttrs + 4
)

// AttrInfo describes a generated field. It is a row of the table [Attrs].
type AttrInfo struct {
	Attr Attr
	// Number is the field's number in flow.proto, counted from the first one of a
	// prefix: from [NumberGenerated], [NumberDst], or [NumberObject]. 10 is that of
	// the labels, see [NumberLabels]; 15 to 19 are reserved for new rows.
	Number  int32
	Name    string // after the prefix, in schema v1: Pod in SrcPod
	Snake   string // after the prefix, in schema v2 and flow.proto: pod in src_pod
	Default bool   // written unless -fields asks for something else
	// NetObserv is the name after the prefix in schema netobserv. There the row of
	// AttrPod shows AttrName, the name of any object: see [NetObservAttrs].
	NetObserv        string
	NetObservDefault bool
	Doc              string
}

// Attrs is the one table of generated fields. Nothing may change it.
var Attrs = []AttrInfo{
	{AttrPod, 0, "Pod", "pod", true, "K8S_Name", true, "name of the pod"},
	{AttrNamespace, 1, "Namespace", "namespace", true, "K8S_Namespace", true, "namespace of the pod or service, or of the pods that use an egress IP"},
	{AttrHostIP, 2, "HostIP", "host_ip", true, "K8S_HostIP", true, "address of the host that the pod runs on"},
	{AttrWorkload, 3, "Workload", "workload", true, "K8S_OwnerName", true, "name of the top owner (a pod without owner, a service, an egress IP or a node is its own)"},
	{AttrWorkloadKind, 4, "WorkloadKind", "workload_kind", true, "K8S_OwnerType", true, "kind of the top owner: Deployment, StatefulSet, DaemonSet, CronJob, Job, any controller, Pod, Service, EgressIP, Node"},
	{AttrWarn, 5, "Warn", "warn", true, "K8S_Warn", true, "what was ambiguous, sentences joined by \"; \""},
	{AttrNode, 6, "Node", "node", false, "K8S_HostName", true, "name of the node that the pod runs on, that has the egress IP or the address at which a service was found, or of the node itself"},
	{AttrZone, 7, "Zone", "zone", false, "K8S_Zone", true, "label topology.kubernetes.io/zone of that node"},
	{AttrPodUID, 8, "PodUID", "pod_uid", false, "K8S_UID", false, "metadata.uid of the pod"},
	{AttrStatus, 9, "Status", "status", false, "K8S_Status", false, "how the owner was found: live, retained, ambiguous, service, egressip, node, endpoint or none"},
	{AttrNetwork, 11, "Network", "network", false, "K8S_NetworkName", false, "network that the pod has the address in: default for the cluster's own, namespace/name for one of a user's or an attachment, name for a cluster-wide one"},
	{AttrSubnetLabel, 12, "SubnetLabel", "subnet_label", false, "SubnetLabel", false, "label of -networks for an address that nobody in the cluster has"},
	{AttrCountry, 13, "Country", "country", false, "Country", false, "country of such an address by -geoip, two letters of ISO 3166"},
	{AttrASName, 14, "ASName", "as_name", false, "ASName", false, "organization that has the autonomous system of such an address, by -geoip"},
}

// NetObservAttr describes a generated field of schema netobserv.
type NetObservAttr struct {
	Attr    Attr
	Name    string // after the prefix: K8S_Name
	Default bool   // written unless -fields asks for something else
	// Row is the row of [Attrs] that the field was made of, whose names -fields
	// accepts for it, too; nil for K8S_Type, which other schemas do not have.
	Row *AttrInfo
}

// NetObservAttrs lists the generated fields of schema netobserv, as
// flowlogs-pipeline's transform_network names and fills them
// (pkg/pipeline/transform/kubernetes/enrich.go), and what it has no names for:
// K8S_Warn, K8S_UID and K8S_Status. Nothing may change it.
var NetObservAttrs = func() []NetObservAttr {
	list := []NetObservAttr{{Attr: AttrKind, Name: "K8S_Type", Default: true}}
	for i := range Attrs {
		row := &Attrs[i]
		attr := row.Attr
		if attr == AttrPod {
			attr = AttrName // of services and nodes, too
		}
		if attr == AttrHostIP {
			attr = AttrHost
		}
		if attr == AttrNetwork {
			attr = AttrNetworkName
		}
		list = append(list, NetObservAttr{Attr: attr, Name: row.NetObserv, Default: row.NetObservDefault, Row: row})
	}
	return list
}()

// AttrNumber returns the number of a generated field in flow.proto, counted as
// [AttrInfo].Number is. Labels share one number. It returns false for
// those that schema netobserv alone has.
func AttrNumber(a Attr) (number int32, ok bool) {
	if a >= AttrLabel {
		return NumberLabels, true
	}
	for i := range Attrs {
		if Attrs[i].Attr == a {
			return Attrs[i].Number, true
		}
	}
	return 0, false
}

// Attr returns the end's value of a generated field, empty if it is not known. It
// is the one place that knows where generated fields are read from, and small
// enough for the compiler to make the check part of an encoder's loop.
func (e *End) Attr(a Attr) string {
	if e.Object == nil && a != AttrStatus {
		return ""
	}
	return e.attr(a)
}

// Has reports whether [End.Attr] may give more than "". Of an object that [NewObject] has
// made it reads one cache line, and costs no call. The encoder of protobuf asks it before it
// calls Attr, which may still give "": of labels, and of other objects.
func (e *End) Has(a Attr) bool { return e.Present()&a.Bit() != 0 }

// Bit is the attribute's bit in [End.Present]. All labels share one.
func (a Attr) Bit() uint32 {
	const labels = 31
	if a >= AttrLabel {
		a = labels
	}
	return 1 << a
}

// Present returns the bits of all attributes for which [End.Has] is true: an encoder with many
// attributes asks an end once.
func (e *End) Present() uint32 {
	switch o := e.Object; {
	case o == nil:
		return 1 << AttrStatus
	case o.kind == unknownKind:
		return ^uint32(0)
	default:
		return o.present
	}
}

func (e *End) attr(a Attr) string {
	o := e.Object
	switch a {
	case AttrPod:
		if o.is(podKind) {
			return o.Name
		}
	case AttrNamespace:
		return o.Namespace
	case AttrHostIP:
		if !o.is(nodeKind) {
			return o.HostIP
		}
	case AttrHost:
		return o.HostIP
	case AttrWorkload:
		return o.Workload
	case AttrWorkloadKind:
		return o.WorkloadKind
	case AttrWarn:
		return o.Warn
	case AttrNode:
		return o.Node
	case AttrZone:
		return o.Zone
	case AttrPodUID:
		if o.is(podKind) {
			return o.UID
		}
	case AttrNetwork:
		return o.Network
	case AttrSubnetLabel:
		if o.Place != nil {
			return o.Place.SubnetLabel
		}
	case AttrCountry:
		if o.Place != nil {
			return o.Place.Country
		}
	case AttrASName:
		if o.Place != nil {
			return o.Place.ASName
		}
	case AttrNetworkName:
		if o.Network == ClusterNetwork {
			return "primary"
		}
		return o.Network
	case AttrStatus:
		return e.Status.String()
	case AttrName:
		return o.Name
	case AttrKind:
		return o.Kind
	default:
		if a >= AttrLabel && o.Labels != "" {
			return o.label(int(a - AttrLabel))
		}
	}
	return ""
}
