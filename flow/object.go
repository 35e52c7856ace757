package flow

import (
	"strings"
	"sync/atomic"
	"unique"
	"unsafe"
)

// Object is a Kubernetes pod, service or node as records show it. It is built
// when the cluster changes, never when a flow arrives, and its attributes are immutable
// from then on: any number of workers may read it at once. What it keeps beside them
// changes at any time: make others of it by [Object.Copy], and compare it by
// [Object.Equal].
type Object struct {
	// What most records show comes first, in the 128 bytes of two cache lines. With many
	// pods, waiting for these lines takes most of the time.
	Namespace    string // empty for a node
	Name         string
	HostIP       string // of a pod: its host's address; of a node: its first one
	Workload     string // name of the root owner; an object without owner is its own workload
	WorkloadKind string // Deployment, StatefulSet, ..., Pod, Service, EgressIP, Node
	Warn         string // what was ambiguous, sentences joined by "; "
	// Place is set for an address that nobody in the cluster has. The object has no
	// other attributes then, unless a message came with both. It is not changed.
	Place *Place
	// workload and zoned are interned: all pods of a workload have the same ones, also
	// those that are created later. They may be read once the state says so.
	workload unique.Handle[Workload]
	// state has the bits below. It is for atomic access.
	state uint32
	// hint is for atomic access, see [Object.Hint].
	hint uint32
	// present is what [End.Present] returns.
	present uint32
	plain   bool       // no attribute needs escaping in JSON
	kind    objectKind // what Kind is; unknownKind if [NewObject] has not made the object

	zoned  unique.Handle[Workload]
	Kind   string // Pod, Service, EgressIP or Node
	Node   string // node that the pod runs on; of a node: its name
	Zone   string // topology.kubernetes.io/zone of that node
	UID    string
	Labels string // those of -kube.labels, as [JoinLabels] makes it
	// Network is the name of the network that a pod has its address in, and MAC its MAC
	// there, in the order of the wire; 0 if that is not known. No record shows the MAC.
	Network string
	MAC     uint64

	_ [16]byte // makes it 256 bytes, which the allocator puts where a cache line begins
}

// objectKind is what fields ask of an object's kind, in one byte: the name of the kind is
// in another cache line than what most records show.
type objectKind uint8

const (
	unknownKind objectKind = iota
	otherKind
	podKind
	nodeKind
)

// kindOf returns what a name of a kind stands for.
func kindOf(name string) objectKind {
	switch name {
	case "Pod":
		return podKind
	case "Node":
		return nodeKind
	}
	return otherKind
}

// is reports whether the object is of a kind.
func (o *Object) is(kind objectKind) bool {
	if o.kind == unknownKind {
		return kindOf(o.Kind) == kind
	}
	return o.kind == kind
}

// The bits of an object's state. Whoever sets one of the first of a pair writes the handle.
const (
	stateIdentifying uint32 = 1 << iota
	stateIdentified         // workload may be read
	stateZoning
	stateZoned // zoned may be read
)

// Place is what networks and databases of the user's say of an address outside of the
// cluster.
type Place struct {
	SubnetLabel string // of -networks
	Country     string // ISO 3166-1 alpha-2
	ASName      string
	ASNumber    uint32 // 0 if it is not known
}

// KindNone is the kind of a workload that stands for a network outside of the cluster.
const KindNone = "none"

// ClusterNetwork is the name of the network that pods are in unless they ask for
// another one.
const ClusterNetwork = "default"

// Workload names the workload that an object belongs to. Its strings are valid
// UTF-8, as labels of metrics must be.
type Workload struct {
	Namespace string // empty for a node
	Name      string
	Kind      string
	// Zone is the zone of the object, in the handles of [Object.ZonedWorkloadID] alone.
	Zone string
}

// pack copies texts into one string, so that they lie side by side.
func pack(texts ...*string) {
	n := 0
	for _, t := range texts {
		n += len(*t)
	}
	var b strings.Builder
	b.Grow(n)
	for _, t := range texts {
		b.WriteString(*t)
	}
	all := b.String()
	for _, t := range texts {
		*t, all = all[:len(*t)], all[len(*t):]
	}
}

// NewObject returns o in the form that records use. Its attributes must not change
// afterwards.
func NewObject(o Object) *Object {
	o.kind, o.state, o.hint = kindOf(o.Kind), 0, 0
	o.workload, o.zoned = unique.Handle[Workload]{}, unique.Handle[Workload]{}
	// Those that few records show stay where they are, shared with other objects.
	pack(&o.HostIP, &o.Namespace, &o.Name, &o.Workload, &o.WorkloadKind, &o.Warn)
	o.plain = plain(o.Name) && plain(o.Kind)
	for l := range strings.SplitSeq(o.Labels, "\n") {
		if !plain(l) {
			o.plain = false
		}
	}
	o.present = AttrStatus.Bit()
	if o.Labels != "" {
		o.present |= AttrLabel.Bit()
	}
	for a := range AttrNetworkName + 1 {
		v := o.Attr(a)
		if v != "" {
			o.present |= a.Bit()
		}
		if a < numAttrs && !plain(v) {
			o.plain = false
		}
	}
	return &o
}

// NewPlace returns an object that stands for a place. Its texts lie side by side.
func NewPlace(p Place) *Object {
	pack(&p.SubnetLabel, &p.Country, &p.ASName)
	return NewObject(Object{Place: &p})
}

// Copy returns the attributes of the object, for [NewObject] to make another one of.
func (o *Object) Copy() Object {
	return Object{
		Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, HostIP: o.HostIP,
		Workload: o.Workload, WorkloadKind: o.WorkloadKind, Warn: o.Warn,
		Node: o.Node, Zone: o.Zone, UID: o.UID, Labels: o.Labels,
		Network: o.Network, MAC: o.MAC, Place: o.Place,
	}
}

// Equal reports whether two objects have the same attributes.
func (o *Object) Equal(p *Object) bool {
	return o == p || o.UID == p.UID && o.Name == p.Name && o.Namespace == p.Namespace &&
		o.Kind == p.Kind && o.HostIP == p.HostIP && o.Workload == p.Workload &&
		o.WorkloadKind == p.WorkloadKind && o.Warn == p.Warn && o.Node == p.Node && o.Zone == p.Zone && o.Labels == p.Labels &&
		o.Network == p.Network && o.MAC == p.MAC && o.Place == p.Place
}

// Hint returns the number that [Object.SetHint] has left. It may be somebody else's.
func (o *Object) Hint() uint32 { return atomic.LoadUint32(&o.hint) }

// SetHint leaves a number at the object. Who numbers objects finds one again by it without a
// search, if the number proves to be right.
func (o *Object) SetHint(n uint32) { atomic.StoreUint32(&o.hint, n) }

// Size returns how many bytes the object takes in memory, with its texts, but without its
// workload, which the pods of a workload share.
func (o *Object) Size() int {
	const rounded = 32 // what allocations are rounded up by
	n := int(unsafe.Sizeof(*o)) + len(o.Labels) + len(o.UID) + rounded
	for _, s := range [...]string{o.HostIP, o.Namespace, o.Name, o.Workload, o.WorkloadKind, o.Warn} {
		n += len(s)
	}
	if p := o.Place; p != nil {
		n += int(unsafe.Sizeof(*p)) + len(p.SubnetLabel) + len(p.Country) + len(p.ASName)
	}
	return n
}

// Plain reports whether encoders can copy all attributes to JSON and protobuf as
// they are. It is false for objects not made by [NewObject].
func (o *Object) Plain() bool { return o.plain }

// WorkloadID identifies the object's workload. Handles are equal if and only if the
// workloads are. Comparing or hashing a handle costs no more than a pointer. If o
// was not made by [NewObject], or is a place without a label, the handle is zero and its
// Value panics.
//
// The handle is made at the first call, and kept. Only then does it allocate, if no object
// of the workload was asked before: a handle takes some 440 bytes, and in most clusters
// many workloads are never seen in a flow.
func (o *Object) WorkloadID() unique.Handle[Workload] {
	if atomic.LoadUint32(&o.state)&stateIdentified != 0 {
		return o.workload
	}
	return o.identify(&o.workload, stateIdentifying, stateIdentified, "")
}

// ZonedWorkloadID is like [Object.WorkloadID] and also tells zones apart.
func (o *Object) ZonedWorkloadID() unique.Handle[Workload] {
	if atomic.LoadUint32(&o.state)&stateZoned != 0 {
		return o.zoned
	}
	return o.identify(&o.zoned, stateZoning, stateZoned, strings.ToValidUTF8(o.Zone, "\uFFFD"))
}

// identify makes a handle. It keeps it as one of the object's, unless another goroutine is
// about to.
func (o *Object) identify(
	kept *unique.Handle[Workload], begin, done uint32, zone string,
) (h unique.Handle[Workload]) {
	if o.kind == unknownKind || o.Place != nil && o.Place.SubnetLabel == "" && o.Workload == "" {
		return h
	}
	w := Workload{
		Namespace: strings.ToValidUTF8(o.Namespace, "\uFFFD"),
		Name:      strings.ToValidUTF8(o.Workload, "\uFFFD"),
		Kind:      strings.ToValidUTF8(o.WorkloadKind, "\uFFFD"),
		Zone:      zone,
	}
	if o.Place != nil && o.Workload == "" {
		w = Workload{Name: strings.ToValidUTF8(o.Place.SubnetLabel, "\uFFFD"), Kind: KindNone, Zone: zone}
	}
	h = unique.Make(w)
	if atomic.OrUint32(&o.state, begin)&begin == 0 {
		*kept = h
		atomic.OrUint32(&o.state, done)
	}
	return h
}

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
