package enrich

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// withoutPods selects EndpointSlices that the controller for pods did not write. Those that were
// mirrored from Endpoints written by hand are among them.
const withoutPods = discoveryv1.LabelManagedBy + "!=endpointslice-controller.k8s.io"

// newService returns the object of a Service. It has no addresses if it is headless.
func newService(s *corev1.Service) *object {
	o := newObject(kindService, s)
	if s.Spec.Type == corev1.ServiceTypeExternalName || s.Spec.ClusterIP == corev1.ClusterIPNone {
		return o
	}
	o.addAddr(s.Spec.ClusterIP)
	for _, a := range s.Spec.ClusterIPs {
		o.addAddr(a)
	}
	o.clusterIPs = len(o.addrs)
	for i := range s.Status.LoadBalancer.Ingress {
		o.addAddr(s.Status.LoadBalancer.Ingress[i].IP)
	}
	for _, a := range s.Spec.ExternalIPs {
		o.addAddr(a)
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		o.ports = addPort(o.ports, p.Protocol, p.Port)
		o.nodePorts = addPort(o.nodePorts, p.Protocol, p.NodePort)
	}
	return o
}

// newEndpointSlice returns the object of an EndpointSlice. Its addresses are those of what is no
// Kubernetes object: hosts outside of the cluster that somebody listed by hand, or API servers.
func newEndpointSlice(s *discoveryv1.EndpointSlice) *object {
	o := newObject(kindEndpointSlice, s)
	o.service = s.Labels[discoveryv1.LabelServiceName]
	if o.service == "" || s.Labels[discoveryv1.LabelManagedBy] == "endpointslice-controller.k8s.io" {
		return o
	}
	for i := range s.Endpoints {
		if s.Endpoints[i].TargetRef != nil {
			continue
		}
		for _, a := range s.Endpoints[i].Addresses {
			o.addAddr(a)
		}
	}
	for _, p := range s.Ports {
		if p.Port == nil {
			continue
		}
		protocol := corev1.ProtocolTCP
		if p.Protocol != nil {
			protocol = *p.Protocol
		}
		o.ports = addPort(o.ports, protocol, *p.Port)
	}
	return o
}

// addPort adds a port to a list in order, unless it is 0.
func addPort(list []port, protocol corev1.Protocol, number int32) []port {
	n := uint32(protoTCP)
	switch protocol {
	case corev1.ProtocolUDP:
		n = protoUDP
	case corev1.ProtocolSCTP:
		n = protoSCTP
	}
	p := newPort(n, uint32(max(number, 0)))
	if p == 0 {
		return list
	}
	i, found := slices.BinarySearch(list, p)
	if found {
		return list
	}
	return slices.Insert(list, i, p)
}
