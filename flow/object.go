package flow

import (
	"fmt"
	"strings"
	"unique"
)

// Object is a Kubernetes pod, service or node as records show it. It is built
// when the cluster changes, never when a flow arrives, and is immutable from
// then on: any number of workers may read it at once.
type Object struct {
	// What records have by default comes first, so that it shares cache lines:
	// among many pods, most of the time goes into waiting for these.
	Kind         string // Pod, Service or Node
	Namespace    string // empty for a node
	Name         string
	HostIP       string // of a pod: its host's address
	Workload     string // top owner's name; an object without owner is its own workload
	WorkloadKind string // Deployment, StatefulSet, ..., Pod, Service, Node
	Warn         string // what was ambiguous, sentences joined by "; "

	safe bool // no attribute needs escaping in JSON
	// workload is interned, so that all pods of a workload, those to come as
	// well, have the same.
	workload unique.Handle[Workload]

	Node   string // node that the pod runs on; of a node: its name
	Zone   string // topology.kubernetes.io/zone of that node
	UID    string
	Labels string // those of -kube.labels, as [JoinLabels] makes it
}

// Workload says which workload an object belongs to. Its strings are valid
// UTF-8.
type Workload struct {
	Namespace string // empty for a node
	Name      string
	Kind      string
}

// pack copies the attributes into one string, so that they lie side by side.
func (o *Object) pack() {
	attrs := []*string{&o.HostIP, &o.Namespace, &o.Name, &o.Workload, &o.WorkloadKind, &o.Warn, &o.Node, &o.Zone, &o.UID, &o.Labels}
	n := 0
	for _, a := range attrs {
		n += len(*a)
	}
	var b strings.Builder
	b.Grow(n)
	for _, a := range attrs {
		b.WriteString(*a)
	}
	all := b.String()
	for _, a := range attrs {
		*a, all = all[:len(*a)], all[len(*a):]
	}
}

// NewObject seals o: attributes must not change afterwards.
func NewObject(o Object) *Object {
	o.workload = unique.Make(Workload{
		Namespace: strings.ToValidUTF8(o.Namespace, "\uFFFD"),
		Name:      strings.ToValidUTF8(o.Workload, "\uFFFD"),
		Kind:      strings.ToValidUTF8(o.WorkloadKind, "\uFFFD"),
	})
	o.pack()
	o.safe = plain(o.Name) && plain(o.Kind)
	for l := range strings.SplitSeq(o.Labels, "\n") {
		if !plain(l) {
			o.safe = false
		}
	}
	for a := range numAttrs {
		if !plain(o.Attr(a)) {
			o.safe = false
		}
	}
	return &o
}

// Plain says that no attribute needs escaping in JSON, so that encoders can
// copy them as they are. It is false for objects not made by [NewObject].
func (o *Object) Plain() bool { return o.safe }

// WorkloadID identifies the object's workload: handles are equal if and only if
// the workloads are, and comparing or hashing one costs no more than a pointer.
// It is the zero handle, whose Value must not be asked for, if o was not made
// by [NewObject].
func (o *Object) WorkloadID() unique.Handle[Workload] { return o.workload }

func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return true
}

// Attr names one generated field of a mapped address.
type Attr uint8

// The generated fields, in the order of the table [Attrs].
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
	numAttrs // those above are read from the Object
	// AttrStatus is read from the End, not from the Object.
	AttrStatus = numAttrs
	// AttrName and AttrKind are in the table [NetObservAttrs] alone.
	AttrName = numAttrs + 1
	AttrKind = numAttrs + 2
)

// AttrInfo describes a generated field.
type AttrInfo struct {
	Attr    Attr
	Name    string // behind the prefix, in schema v1: SrcPod
	Snake   string // behind the prefix, in schema v2: src_pod
	Default bool   // written unless -fields says otherwise
	Doc     string
}

// Attrs is the table of generated fields.
var Attrs = []AttrInfo{
	{AttrPod, "Pod", "pod", true, "name of the pod"},
	{AttrNamespace, "Namespace", "namespace", true, "namespace of the pod or service"},
	{AttrHostIP, "HostIP", "host_ip", true, "address of the host that the pod runs on"},
	{AttrWorkload, "Workload", "workload", true, "name of the top owner (a pod without owner, a service or a node is its own)"},
	{AttrWorkloadKind, "WorkloadKind", "workload_kind", true, "kind of the top owner: Deployment, StatefulSet, DaemonSet, CronJob, Job, any controller, Pod, Service, Node"},
	{AttrWarn, "Warn", "warn", true, "what was ambiguous, sentences joined by \"; \""},
	{AttrNode, "Node", "node", false, "name of the node that the pod runs on, or of the node itself"},
	{AttrZone, "Zone", "zone", false, "label topology.kubernetes.io/zone of that node"},
	{AttrPodUID, "PodUID", "pod_uid", false, "metadata.uid of the pod"},
	{AttrStatus, "Status", "status", false, "how the owner was found: live, retained, ambiguous, service, node or none"},
}

// NetObservAttrs is the table of generated fields in schema netobserv, as
// flowlogs-pipeline's transform_network names and fills them
// (pkg/pipeline/transform/kubernetes/enrich.go), and what it has no names for.
// Snake is the field's name behind the prefix in schema v1, for -fields.
var NetObservAttrs = []AttrInfo{
	{AttrName, "K8S_Name", "Pod", true, "name of the pod, service or node"},
	{AttrKind, "K8S_Type", "", true, "Pod, Service or Node"},
	{AttrNamespace, "K8S_Namespace", "Namespace", true, "namespace of the pod or service"},
	{AttrWorkload, "K8S_OwnerName", "Workload", true, "name of the top owner"},
	{AttrWorkloadKind, "K8S_OwnerType", "WorkloadKind", true, "kind of the top owner"},
	{AttrHostIP, "K8S_HostIP", "HostIP", true, "address of the host that the pod runs on"},
	{AttrNode, "K8S_HostName", "Node", true, "name of the node that the pod runs on, or of the node itself"},
	{AttrZone, "K8S_Zone", "Zone", true, "zone of that node"},
	{AttrWarn, "K8S_Warn", "Warn", true, "what was ambiguous; not in flowlogs-pipeline's output"},
	{AttrPodUID, "K8S_UID", "PodUID", false, "metadata.uid of the pod; not in flowlogs-pipeline's output"},
	{AttrStatus, "K8S_Status", "Status", false, "how the owner was found; not in flowlogs-pipeline's output"},
}

// Attr returns the object's value of a generated field, empty if it has none.
// AttrStatus is not an attribute of the object and gives "".
func (o *Object) Attr(a Attr) string {
	switch a {
	case AttrPod:
		if o.Kind == "Pod" {
			return o.Name
		}
	case AttrNamespace:
		return o.Namespace
	case AttrHostIP:
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
		if o.Kind == "Pod" {
			return o.UID
		}
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

// MapEntry says that the owner of the address in Field is shown in generated
// fields whose names begin with Prefix.
type MapEntry struct {
	Field  FieldID
	Prefix string // as in SrcPod
	Snake  string // as in src_pod, without the underscore
}

// ParseMapping reads the value of -mapping, such as
// "SrcAddr=Src,DstAddr=Dst". Fields may be named in either style.
func ParseMapping(s string) ([]MapEntry, error) {
	var entries []MapEntry
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, prefix, ok := strings.Cut(part, "=")
		if !ok || prefix == "" {
			return nil, fmt.Errorf("%q is not FIELD=PREFIX", part)
		}
		for i := 0; i < len(prefix); i++ {
			c := prefix[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && ('0' <= c && c <= '9' || c == '_')) {
				return nil, fmt.Errorf("prefix %q is not a name of letters, digits and underscores", prefix)
			}
		}
		f, ok := FieldByName(name)
		if !ok || f.Kind != KindAddr {
			return nil, fmt.Errorf("%q is not an address field (one of %s)", name, strings.Join(addrFields(), ", "))
		}
		for _, e := range entries {
			if e.Field == f.ID {
				return nil, fmt.Errorf("field %s is mapped twice", f.Name)
			}
			if e.Prefix == prefix {
				return nil, fmt.Errorf("prefix %s is used twice", prefix)
			}
		}
		entries = append(entries, MapEntry{Field: f.ID, Prefix: prefix, Snake: snake(prefix)})
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("empty; an example is SrcAddr=Src,DstAddr=Dst")
	}
	if len(entries) > MaxEnds {
		return nil, fmt.Errorf("%d entries; at most %d are possible", len(entries), MaxEnds)
	}
	return entries, nil
}

func addrFields() []string {
	var names []string
	for i := range Fields {
		if Fields[i].Kind == KindAddr {
			names = append(names, Fields[i].Name)
		}
	}
	return names
}

// snake turns a prefix such as Src or BgpNext into src or bgp_next.
func snake(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			if i > 0 && !('A' <= s[i-1] && s[i-1] <= 'Z') && s[i-1] != '_' {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteByte(c)
	}
	return strings.Trim(b.String(), "_")
}
