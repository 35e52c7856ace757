package flowtest

import (
	"encoding/binary"
	"fmt"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Cluster makes records as bench/gen does: of 50,000 pods each sends to another one in turn, in
// a second. Four pods are a workload, and so hardly two records in a second are of the same pair.
type Cluster struct {
	pods   []*flow.Object
	record *flow.Record
	at     int
}

// NewCluster makes the pods.
func NewCluster() *Cluster {
	const pods = 50_000
	c := &Cluster{record: Reference()}
	for i := range pods {
		c.pods = append(c.pods, flow.NewObject(flow.Object{
			Kind: "Pod", Namespace: fmt.Sprintf("team-%d", i/4%100), Name: fmt.Sprintf("app-%d-7d4b9c-%05d", i/4, i),
			Workload: fmt.Sprintf("app-%d", i/4), WorkloadKind: "Deployment",
		}))
	}
	m := &c.record.Msg
	m.NextHop, m.SrcAddr, m.DstAddr = nil, make([]byte, 4), make([]byte, 4)
	m.ObservationDomainId, m.SamplingRate, m.IpTtl, m.TcpFlags = 2, 400, 64, 0x1b
	c.record.Extra.HasStart, c.record.Extra.HasEnd = true, true
	return c
}

// Next returns the next record, which is valid until the one after it.
func (c *Cluster) Next() *flow.Record {
	src, dst := c.at%len(c.pods), (7*c.at+1)%len(c.pods)
	c.at++
	r, m := c.record, &c.record.Msg
	m.TimeReceivedNs += 20_000
	m.TimeFlowStartNs, m.TimeFlowEndNs = m.TimeReceivedNs-10e9, m.TimeReceivedNs-1e9
	m.SrcPort, m.SequenceNum = 32768+uint32(c.at%3200), uint32(c.at/25*25)
	binary.BigEndian.PutUint32(m.SrcAddr, 10<<24|128<<16+uint32(src))
	binary.BigEndian.PutUint32(m.DstAddr, 10<<24|128<<16+uint32(dst))
	r.Ends[0] = flow.End{Object: c.pods[src], Status: flow.StatusLive}
	r.Ends[1] = flow.End{Object: c.pods[dst], Status: flow.StatusLive}
	return r
}
