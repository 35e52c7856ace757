// Package flowtest has records for the tests of several packages.
package flowtest

import (
	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Reference returns the record of the reference line of JSON: an IPFIX flow from
// a pod of a Deployment to an address that nobody owns. Each call makes a new
// one, which the caller may change.
func Reference() *flow.Record {
	r := new(flow.Record)
	m := &r.Msg
	m.Type = flowpb.FlowMessage_IPFIX
	m.TimeReceivedNs = 1628419398_123456789
	m.TimeFlowStartNs, m.TimeFlowEndNs = m.TimeReceivedNs, m.TimeReceivedNs // goflow2's default
	m.SequenceNum = 577
	m.SamplerAddress = []byte{10, 244, 0, 2}
	m.SrcAddr, m.DstAddr = []byte{10, 244, 0, 5}, []byte{10, 96, 0, 1}
	m.SrcMac, m.DstMac = 0x0a580af40005, 0x0a580af40001
	m.SrcPort, m.DstPort = 56144, 443
	m.Etype, m.Proto = 0x800, 6
	m.InIf = 12
	m.Bytes, m.Packets = 20800, 400
	r.Ends[0] = flow.End{Status: flow.StatusLive, Object: flow.NewObject(flow.Object{
		Kind: "Pod", Namespace: "local-path-storage", Name: "local-path-provisioner-78776bfc44-p2xkl", HostIP: "10.89.0.2",
		Workload: "local-path-provisioner", WorkloadKind: "Deployment",
		Node: "kind-worker", Zone: "eu-1a", UID: "8b1f0a52-3c1e-4f43-9d3f-6f2c8f1f4a11",
	})}
	return r
}
