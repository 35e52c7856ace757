package enrich

import (
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	egressIPGroup   = "k8s.ovn.org"
	egressIPVersion = "v1"
	// namespaceName is the label that each Namespace has, with its name.
	namespaceName = "kubernetes.io/metadata.name"
)

// egressIP is the part of OVN-Kubernetes' EgressIP (k8s.ovn.org/v1) that is needed: addresses that
// Nodes translate the addresses of some pods to.
type egressIP struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
	} `json:"spec"`
	Status struct {
		Items []struct {
			Node     string `json:"node"`
			EgressIP string `json:"egressIP"`
		} `json:"items"`
	} `json:"status"`
}

// egressIPList is a list of them.
type egressIPList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`
	Items           []egressIP `json:"items"`
}

// DeepCopyObject implements [runtime.Object].
func (e *egressIP) DeepCopyObject() runtime.Object {
	c := *e
	c.ObjectMeta = *e.ObjectMeta.DeepCopy()
	c.Spec.NamespaceSelector = *e.Spec.NamespaceSelector.DeepCopy()
	c.Status.Items = slices.Clone(e.Status.Items)
	return &c
}

// DeepCopyObject implements [runtime.Object].
func (l *egressIPList) DeepCopyObject() runtime.Object {
	c := *l
	c.Items = make([]egressIP, len(l.Items))
	for i := range l.Items {
		c.Items[i] = *l.Items[i].DeepCopyObject().(*egressIP)
	}
	return &c
}

// addEgressIPs makes a scheme know the type.
func addEgressIPs(scheme *runtime.Scheme) {
	gv := schema.GroupVersion{Group: egressIPGroup, Version: egressIPVersion}
	scheme.AddKnownTypeWithName(gv.WithKind("EgressIP"), &egressIP{})
	scheme.AddKnownTypeWithName(gv.WithKind("EgressIPList"), &egressIPList{})
	metav1.AddToGroupVersion(scheme, gv)
}

// newEgressIP returns the object of an EgressIP, with the addresses that a Node has. Its namespace
// is the one whose pods have it, if the selector names one.
func newEgressIP(e *egressIP) *object {
	o := newObject(kindEgressIP, e)
	o.namespace = selectedNamespace(&e.Spec.NamespaceSelector)
	for _, i := range e.Status.Items {
		a, err := netip.ParseAddr(i.EgressIP)
		if err != nil || a.IsUnspecified() {
			continue
		}
		if a = a.Unmap().WithZone(""); !slices.Contains(o.addrs, a) {
			o.addrs, o.nodes = append(o.addrs, a), append(o.nodes, i.Node)
		}
	}
	return o
}

// selectedNamespace returns the one namespace that a selector selects by name, empty if it selects
// in another way.
func selectedNamespace(s *metav1.LabelSelector) string {
	name := s.MatchLabels[namespaceName]
	for _, r := range s.MatchExpressions {
		if r.Key == namespaceName && r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1 && name == "" {
			name = r.Values[0]
		}
	}
	return name
}
