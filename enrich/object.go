package enrich

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// kind is a kind of Kubernetes object that names are made of.
type kind uint8

const (
	kindPod kind = iota
	kindService
	kindNode
	kindReplicaSet
	kindJob
	kindReplicationController
	kindEgressIP
	kindEndpointSlice
	kindNetworkAttachment
	kindUserNetwork
	kindClusterUserNetwork
	numKinds
	noKind = numKinds
)

// kinds holds what the API and the metrics call the kinds. The label is the value of the metrics'
// label kind.
var kinds = [numKinds]struct{ name, label, group, resource string }{
	kindPod:                   {"Pod", "pod", "", "pods"},
	kindService:               {"Service", "service", "", "services"},
	kindNode:                  {"Node", "node", "", "nodes"},
	kindReplicaSet:            {"ReplicaSet", "replicaset", "apps", "replicasets"},
	kindJob:                   {"Job", "job", "batch", "jobs"},
	kindReplicationController: {"ReplicationController", "replicationcontroller", "", "replicationcontrollers"},
	kindEgressIP:              {"EgressIP", "egressip", egressIPGroup, "egressips"},
	kindEndpointSlice:         {"EndpointSlice", "endpointslice", discoveryv1.GroupName, "endpointslices"},
	kindNetworkAttachment:     {"NetworkAttachmentDefinition", "networkattachmentdefinition", attachmentGroup, "network-attachment-definitions"},
	kindUserNetwork:           {"UserDefinedNetwork", "userdefinednetwork", userNetworkGroup, "userdefinednetworks"},
	kindClusterUserNetwork:    {"ClusterUserDefinedNetwork", "clusteruserdefinednetwork", userNetworkGroup, "clusteruserdefinednetworks"},
}

// String returns the name that the Kubernetes API has for the kind, such as ReplicaSet. It must not
// be called for noKind.
func (k kind) String() string { return kinds[k].name }

func (k kind) label() string { return kinds[k].label }

func (k kind) resource() string { return kinds[k].resource }

// optional reports whether the program can work without this kind. Fewer names are found then.
func (k kind) optional() bool { return k != kindPod && k != kindService }

// mayBeAbsent reports whether a server may lack the kind, which is no reason for a warning.
func (k kind) mayBeAbsent() bool {
	return k == kindEgressIP || k == kindEndpointSlice || k.definesNetwork()
}

// clusterScoped reports whether objects of the kind are in no namespace.
func (k kind) clusterScoped() bool {
	return k == kindNode || k == kindEgressIP || k == kindClusterUserNetwork
}

// metadataOnly reports whether no more than the metadata of the kind is needed.
func (k kind) metadataOnly() bool {
	return k == kindReplicaSet || k == kindJob || k == kindReplicationController || k == kindUserNetwork || k == kindClusterUserNetwork
}

// selector returns the labels of the objects that are needed, empty for all.
func (k kind) selector() string {
	if k == kindEndpointSlice {
		return withoutPods
	}
	return ""
}

// object is the part of a Kubernetes object that the store needs. It is made as soon as the whole
// one has been decoded, so that a list never holds whole objects. It is a [runtime.Object], because
// that is what a reflector hands on. Objects are immutable. Times are in Unix nanoseconds, 0 if
// unknown.
//
// A first list holds all objects of a kind at once, and that is when the program needs the most
// memory. So what only some kinds have is apart.
type object struct {
	kind                 kind
	namespace, name, uid string
	created              int64
	newest               int64      // the newest time that the object holds
	deleted              int64      // metadata.deletionTimestamp: when the grace period ends
	owners               []ownerRef // of pods, and of the kinds that own pods

	addrs []netip.Addr // unmapped, without zones

	*podPart        // not nil for a Pod
	*servicePart    // not nil for a Service, an EndpointSlice or an EgressIP
	*nodePart       // not nil for a Node
	*definitionPart // not nil for what defines networks
}

// podPart is what only Pods have.
type podPart struct {
	node           string       // the Node that it runs on
	hostIP         string       // the first address of that one
	moreHostIPs    []netip.Addr // the others
	networks       []address    // what annotations tell of addrs
	labels         string       // as in flow.Object
	started        int64        // status.startTime: when the kubelet of its node first saw it
	ready          int64        // since when the condition PodReadyToStartContainers is true
	firstStart     int64        // when the first of its containers started that is not waiting
	notReady       int64        // since when it is false
	lastTransition int64        // the latest of any condition
	disrupted      int64        // when the condition DisruptionTarget became true: an eviction began
	requested      int64        // when the deletion was requested
	lastExit       int64        // the latest finishedAt of its containers, also of those that have run since
	finished       int64        // when the last container ended, if the pod has stopped and that is known
	stamped        int64        // the newest time that its kubelet noted
	migration      *migration
	grace          int32 // how long its containers may take to stop, in seconds
	stopped        bool  // the phase is terminal, or all containers have ended and none will be restarted
	restartable    bool  // they would have been restarted: only an order from outside ends the pod
	exitUnknown    bool  // a container has ended, and nothing says when
}

// servicePart is what only Services, EndpointSlices and EgressIPs have.
type servicePart struct {
	clusterIPs int      // of a Service: so many of addrs, the first, are cluster IPs
	ports      []port   // of a Service or EndpointSlice, in order
	nodePorts  []port   // of a Service
	service    string   // of an EndpointSlice: its Service
	nodes      []string // of an EgressIP: the Node of each address
}

// definitionPart is what only objects that define networks have.
type definitionPart struct {
	config    string // of a NetworkAttachmentDefinition: the network's name in its configuration
	networkID uint64 // of one that OVN-Kubernetes made: the network's number; 0: none
}

// ownerRef is an entry of metadata.ownerReferences.
type ownerRef struct {
	// followed is the kind of an owner whose own owner is to be named, noKind for others.
	followed        kind
	kind, name, uid string
	controller      bool
	group, version  string // of its API
}

// GetObjectKind implements [runtime.Object].
func (*object) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements [runtime.Object].
func (o *object) DeepCopyObject() runtime.Object { c := *o; return &c }

// objectList is a page of a list.
type objectList struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []runtime.Object
}

// DeepCopyObject implements [runtime.Object].
func (l *objectList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = slices.Clone(l.Items)
	return &c
}

// key identifies the object: its UID, which is unique over time, or its name if a snapshot that was
// written by hand has no UID.
func (o *object) key() string {
	if o.uid != "" {
		return o.uid
	}
	return o.namespace + "/" + o.name
}

// key is the key of the owner. The namespace is that of the object that has the reference.
func (o *ownerRef) key(namespace string) string {
	if o.uid != "" {
		return o.uid
	}
	return namespace + "/" + o.name
}

// chooseOwner returns the controller, or without one the first owner; nil if there is none.
func chooseOwner(owners []ownerRef) *ownerRef {
	for i := range owners {
		if owners[i].controller {
			return &owners[i]
		}
	}
	if len(owners) > 0 {
		return &owners[0]
	}
	return nil
}

// allocate returns an object with the parts that its kind has, which are one piece of memory.
func allocate(k kind) *object {
	switch k {
	case kindPod:
		o := &struct {
			object
			part podPart
		}{}
		o.kind, o.podPart = k, &o.part
		return &o.object
	case kindService, kindEndpointSlice, kindEgressIP:
		o := &struct {
			object
			part servicePart
		}{}
		o.kind, o.servicePart = k, &o.part
		return &o.object
	case kindNode:
		return &object{kind: k, nodePart: &nodePart{}}
	case kindNetworkAttachment, kindUserNetwork, kindClusterUserNetwork:
		return &object{kind: k, definitionPart: &definitionPart{}}
	default:
		return &object{kind: k}
	}
}

// newObject returns an object with what the metadata holds.
func newObject(k kind, m metav1.Object) *object {
	o := allocate(k)
	o.namespace, o.name, o.uid = m.GetNamespace(), m.GetName(), string(m.GetUID())
	created := m.GetCreationTimestamp()
	o.created = unix(&created)
	o.deleted = unix(m.GetDeletionTimestamp())
	o.newest = o.created
	for _, f := range m.GetManagedFields() {
		o.newest = max(o.newest, unix(f.Time))
	}
	switch k {
	case kindService, kindNode, kindEgressIP, kindEndpointSlice, kindNetworkAttachment, kindUserNetwork, kindClusterUserNetwork, noKind:
		return o
	default:
	}
	o.readOwners(m.GetOwnerReferences())
	return o
}

// readOwners takes over owner references.
func (o *object) readOwners(refs []metav1.OwnerReference) {
	if len(refs) > 0 {
		o.owners = make([]ownerRef, len(refs))
	}
	for i := range refs {
		r := &refs[i]
		o.owners[i] = ownerRef{
			followed: followedKind(r.APIVersion, r.Kind), kind: r.Kind, name: r.Name, uid: string(r.UID),
			controller: r.Controller != nil && *r.Controller,
		}
		if gv, err := schema.ParseGroupVersion(r.APIVersion); err == nil {
			o.owners[i].group, o.owners[i].version = gv.Group, gv.Version
		}
	}
}

// newLink returns the object of an owner that is read for the sake of its owner.
func newLink(m metav1.Object) *object {
	o := newObject(noKind, m)
	o.readOwners(m.GetOwnerReferences())
	return o
}

// followedKind returns the kind of an owner whose own owner is to be named, noKind for others.
// Other API groups have kinds of the same names: a Job of Volcano is not a batch Job.
func followedKind(apiVersion, name string) kind {
	gv, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return noKind
	}
	for _, k := range []kind{kindReplicaSet, kindJob, kindReplicationController} {
		// Snapshots written by hand may leave the version out.
		if kinds[k].name == name && (kinds[k].group == gv.Group || apiVersion == "") {
			return k
		}
	}
	return noKind
}

// unix returns a time in Unix nanoseconds, 0 if there is none.
func unix(t *metav1.Time) int64 {
	if t == nil || t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// addAddr adds an address, unless s is not one or the object has it already.
func (o *object) addAddr(s string) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() {
		return
	}
	if a = a.Unmap().WithZone(""); !slices.Contains(o.addrs, a) {
		o.addrs = append(o.addrs, a)
	}
}

// newPod returns the object of a Pod. Labels are the names of the labels to keep.
func newPod(p *corev1.Pod, labels ...string) *object {
	o := newObject(kindPod, p)
	s := &p.Status
	o.hostIP, o.node = s.HostIP, p.Spec.NodeName
	for i := range s.HostIPs {
		if a, err := netip.ParseAddr(s.HostIPs[i].IP); err == nil && s.HostIPs[i].IP != s.HostIP {
			o.moreHostIPs = append(o.moreHostIPs, a.Unmap().WithZone(""))
		}
	}
	if !p.Spec.HostNetwork { // otherwise the addresses are the Node's
		o.addAddr(s.PodIP)
		for i := range s.PodIPs {
			o.addAddr(s.PodIPs[i].IP)
		}
		o.addNetworks(p.Annotations)
	}
	if len(labels) > 0 {
		values := make([]string, len(labels))
		for i, name := range labels {
			values[i] = p.Labels[name]
		}
		o.labels = flow.JoinLabels(values)
	}
	o.readLife(p)
	return o
}

// toObject returns the object of a whole one as it was decoded: a typed one, or the metadata of
// kinds of which no more is needed. Labels are the names of the pods' labels to keep.
func toObject(k kind, o any, labels ...string) (*object, error) {
	switch o := o.(type) {
	case *object:
		return o, nil
	case *corev1.Pod:
		return newPod(o, labels...), nil
	case *corev1.Service:
		return newService(o), nil
	case *corev1.Node:
		return newNode(o), nil
	case *egressIP:
		return newEgressIP(o), nil
	case *discoveryv1.EndpointSlice:
		return newEndpointSlice(o), nil
	case *networkAttachment:
		return newNetworkAttachment(o), nil
	case *metav1.PartialObjectMetadata:
		return newObject(k, o), nil
	}
	return nil, fmt.Errorf("unexpected object of type %T among %s", o, k.resource())
}
