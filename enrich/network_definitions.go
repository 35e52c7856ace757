package enrich

import (
	"encoding/json"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// API groups of networks: of the Network Plumbing Working Group, and of OVN-Kubernetes.
const (
	attachmentGroup  = "k8s.cni.cncf.io"
	userNetworkGroup = egressIPGroup
)

// networkAttachment is the part of a NetworkAttachmentDefinition (k8s.cni.cncf.io/v1) that is
// needed.
type networkAttachment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Config string `json:"config"` // of CNI, as JSON
	} `json:"spec"`
}

// networkAttachmentList is a list of them.
type networkAttachmentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []networkAttachment `json:"items"`
}

// DeepCopyObject implements [runtime.Object].
func (n *networkAttachment) DeepCopyObject() runtime.Object {
	c := *n
	c.ObjectMeta = *n.ObjectMeta.DeepCopy()
	return &c
}

// DeepCopyObject implements [runtime.Object].
func (l *networkAttachmentList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = make([]networkAttachment, len(l.Items))
	for i := range l.Items {
		c.Items[i] = l.Items[i]
		c.Items[i].ObjectMeta = *l.Items[i].ObjectMeta.DeepCopy()
	}
	return &c
}

// addNetworkAttachments makes a scheme know the type.
func addNetworkAttachments(scheme *runtime.Scheme) {
	gv := schema.GroupVersion{Group: attachmentGroup, Version: "v1"}
	scheme.AddKnownTypeWithName(gv.WithKind("NetworkAttachmentDefinition"), &networkAttachment{})
	scheme.AddKnownTypeWithName(gv.WithKind("NetworkAttachmentDefinitionList"), &networkAttachmentList{})
	metav1.AddToGroupVersion(scheme, gv)
}

// newNetworkAttachment returns the object of a NetworkAttachmentDefinition.
func newNetworkAttachment(n *networkAttachment) *object {
	o := newObject(kindNetworkAttachment, n)
	var config struct {
		Name string `json:"name"`
	}
	if json.Unmarshal([]byte(n.Spec.Config), &config) == nil {
		o.config = config.Name
	}
	if id, err := strconv.ParseUint(n.Annotations[networkNumber], 10, 32); err == nil && id < maxNetworks {
		o.networkID = id
	}
	return o
}

// definesNetwork reports whether the objects of a kind tell which network a key means.
func (k kind) definesNetwork() bool {
	return k == kindNetworkAttachment || k == kindUserNetwork || k == kindClusterUserNetwork
}

// networkDefinition is what is known of an object that tells which network a key means.
type networkDefinition struct {
	config string // of a NetworkAttachmentDefinition: the name in its configuration
	id     uint64 // and the network's number
	mark   uint32 // of the last list that had it
}

// networkKey returns the key that pods' annotations have for the network that an object defines.
func (o *object) networkKey() string {
	if o.namespace == "" {
		return o.name
	}
	return o.namespace + "/" + o.name
}

// applyNetworkDefinition brings an object that tells which network a key means up to date.
func (st *store) applyNetworkDefinition(o *object) {
	list := st.networks.definitions[o.kind]
	key := o.networkKey()
	old, known := list[key]
	list[st.intern(key)] = networkDefinition{st.intern(o.config), o.networkID, st.listMark}
	st.networks.count(o.networkID, 1)
	st.networks.count(old.id, -1)
	if !known || old.config != o.config {
		st.networks.forget(o.kind, key)
	}
}

// removeNetworkDefinition removes one. Keys mean what they meant, for pods that were in the network.
func (st *store) removeNetworkDefinition(k kind, key string) {
	st.networks.count(st.networks.definitions[k][key].id, -1)
	delete(st.networks.definitions[k], key)
}

// count notes how many more definitions there are of the network of a number.
func (n *networkSet) count(id uint64, more int) {
	if id == 0 {
		return
	}
	before := n.ids[id]
	n.ids[id] += more
	if n.ids[id] <= 0 {
		delete(n.ids, id)
	}
	if (before > 0) != (n.ids[id] > 0) {
		n.changedIDs[id] = true
	}
}

// forget makes the keys be resolved again that a definition may tell of.
func (n *networkSet) forget(k kind, key string) {
	for id := range n.resolved {
		_, name, _ := strings.Cut(id.id, "/")
		if id.id == key || k == kindClusterUserNetwork && name == key {
			delete(n.resolved, id)
			n.changed = true
		}
	}
}

// startNetworkKinds begins to ask for the objects that define networks, which most clusters do not
// have.
func (st *store) startNetworkKinds() {
	if st.networks.started {
		return
	}
	st.networks.started = true
	for _, k := range []kind{kindNetworkAttachment, kindUserNetwork, kindClusterUserNetwork} {
		if !st.feeds[k].started {
			st.startKind(k)
		}
	}
}
