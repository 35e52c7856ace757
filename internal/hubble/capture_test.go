package hubble

import (
	"fmt"
	"os"
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// labPods reads the pods of the lab's snapshot by their addresses: the truth about names.
func labPods(t *testing.T) map[string]*corev1.Pod {
	t.Helper()
	b, err := os.ReadFile(capturesDir + "snapshot.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []corev1.Pod `json:"items"`
	}
	if err := yaml.Unmarshal(b, &list); err != nil {
		t.Fatal(err)
	}
	pods := make(map[string]*corev1.Pod)
	for i := range list.Items {
		p := &list.Items[i]
		if p.Kind != "Pod" || p.Spec.HostNetwork {
			continue
		}
		for _, ip := range p.Status.PodIPs {
			pods[ip.IP] = p
		}
	}
	if len(pods) < 8 {
		t.Fatalf("%d addresses of pods", len(pods))
	}
	return pods
}

// flowsOf returns the flows of a capture.
func flowsOf(t *testing.T, capture string) ([]*flow.Record, []*flowpb.Flow) {
	t.Helper()
	records, names := read(t, capturesDir+capture, capturesDir+"snapshot.yaml", GroupingLabels...)
	s := newServer(Config{Mapping: mapping(t), Labels: GroupingLabels, NodeOf: nodesOf(names)}, nil)
	v := newView(&s.names)
	var flows []*flowpb.Flow
	for _, r := range records {
		v.set(r)
		flows = append(flows, decoded(t, v, "v"))
	}
	return records, flows
}

// TestCaptures holds the flows of the lab's captures to what was sent and to the cluster's
// objects: names of ends by the pods' addresses, and which packets are answers by the ports of
// the clients, from 40001 on.
func TestCaptures(t *testing.T) {
	pods := labPods(t)
	for _, capture := range []string{"ovs4-ipfix1.pcap.gz", "ipfix1.pcap.gz", "sflow1.pcap.gz", "netflow.pcap.gz", "ovn-sample.pcap.gz"} {
		t.Run(capture, func(t *testing.T) {
			records, flows := flowsOf(t, capture)
			named, told, uuids := 0, 0, make(map[string]int)
			for i, f := range flows {
				for _, e := range []struct {
					ip string
					ep *flowpb.Endpoint
				}{{f.GetIP().GetSource(), f.GetSource()}, {f.GetIP().GetDestination(), f.GetDestination()}} {
					if wrong := wrongEnd(e.ip, e.ep, pods[e.ip]); wrong != "" {
						t.Fatalf("record %d: %s: %s\n%v", i, e.ip, wrong, f)
					}
					if e.ep.GetPodName() != "" {
						named++
					}
				}
				src, dst := ports(f)
				fromClient, toClient := 40000 < src && src < 40100, 40000 < dst && dst < 40100
				if fromClient != toClient && records[i].Msg.Etype != 0 {
					if f.GetIsReply() == nil || f.GetIsReply().GetValue() != toClient {
						t.Fatalf("record %d: reply is %v, and the client's port is %d or %d", i, f.GetIsReply(), src, dst)
					}
					told++
				}
				uuids[f.GetUuid()]++
				if f.GetNodeName() == "" || !f.GetTime().IsValid() {
					t.Fatalf("record %d: %v", i, f)
				}
			}
			if named < 20 || told < 10 {
				t.Errorf("%d ends have names, of %d it is known whether they are answers", named, told)
			}
			if len(uuids) < len(flows)*8/10 {
				t.Errorf("%d UUIDs of %d flows", len(uuids), len(flows))
			}
		})
	}
}

// wrongEnd returns what is wrong with an end, by the pod that had its address.
func wrongEnd(ip string, ep *flowpb.Endpoint, pod *corev1.Pod) string {
	labels := strings.Join(ep.GetLabels(), " ")
	switch {
	case pod != nil:
		if ep.GetNamespace() != pod.Namespace || ep.GetPodName() != pod.Name {
			return fmt.Sprintf("want pod %s/%s", pod.Namespace, pod.Name)
		}
		if !strings.Contains(labels, "k8s:io.kubernetes.pod.namespace="+pod.Namespace) || ep.GetIdentity() < 256 {
			return "no label for the namespace, or no identity"
		}
		for _, name := range GroupingLabels {
			if v := pod.Labels[name]; v != "" && !strings.Contains(labels, "k8s:"+name+"="+v) {
				return "no label " + name
			}
		}
		if len(ep.GetWorkloads()) != 1 || ep.GetWorkloads()[0].GetName() == "" {
			return "no workload"
		}
	case strings.HasPrefix(ip, "169.254.169.") || strings.HasPrefix(ip, "fd69::"): // OVN's, in place of a pod's own
	case ep.GetPodName() != "":
		return "nobody has the address"
	case labels == "", (ip == "" || strings.HasPrefix(ip, "fe80:") || strings.HasPrefix(ip, "ff02:")) && labels != "reserved:unknown":
		return "labels " + labels
	}
	return ""
}

func ports(f *flowpb.Flow) (src, dst uint32) {
	switch l4 := f.GetL4(); {
	case l4.GetTCP() != nil:
		return l4.GetTCP().GetSourcePort(), l4.GetTCP().GetDestinationPort()
	case l4.GetUDP() != nil:
		return l4.GetUDP().GetSourcePort(), l4.GetUDP().GetDestinationPort()
	case l4.GetSCTP() != nil:
		return l4.GetSCTP().GetSourcePort(), l4.GetSCTP().GetDestinationPort()
	}
	return 0, 0
}

// TestDirectionOfCaptures holds directions to where the lab's pods are: a connection is egress at
// the client's node and ingress at the server's.
func TestDirectionOfCaptures(t *testing.T) {
	pods := labPods(t)
	seen := make(map[string]int)
	_, flows := flowsOf(t, "ovs4-ipfix1.pcap.gz")
	for i, f := range flows {
		client, server := pods[f.GetIP().GetSource()], pods[f.GetIP().GetDestination()]
		src, dst := ports(f)
		if toClient := 40000 < dst && dst < 40100; toClient {
			client, server = server, client
		} else if src <= 40000 || src >= 40100 {
			continue
		}
		if client == nil || server == nil || client.Spec.NodeName == server.Spec.NodeName {
			continue
		}
		want := flowpb.TrafficDirection_INGRESS
		if f.GetNodeName() == client.Spec.NodeName {
			want = flowpb.TrafficDirection_EGRESS
		}
		if f.GetTrafficDirection() != want {
			t.Fatalf("record %d: %v, want %v\n%v", i, f.GetTrafficDirection(), want, f)
		}
		seen[fmt.Sprint(want, f.GetEventType().GetSubType())]++
	}
	if len(seen) < 4 { // both directions, both ends
		t.Error(seen)
	}
}
