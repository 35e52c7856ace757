package flow

import (
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

// Attr returns the object's value of a generated field, empty if it has none.
// AttrStatus is not an attribute of the object and gives "".
func (o *Object) Attr(a Attr) string {
	if a == AttrStatus {
		return ""
	}
	e := End{Object: o}
	return e.attr(a)
}
