package hubble

import (
	"io"
	"testing"

	observerpb "github.com/cilium/cilium/api/v1/observer"
)

// BenchmarkAnswer is what it costs to send a flow over loopback, and to read it.
func BenchmarkAnswer(b *testing.B) {
	const flows = 10_000
	m := newMemory()
	for i := range flows {
		m.records = append(m.records, record(i, uint32(i)))
	}
	c := client(b, serve(b, Config{}, m))
	for b.Loop() {
		stream, err := c.GetFlows(b.Context(), &observerpb.GetFlowsRequest{Number: flows})
		if err != nil {
			b.Fatal(err)
		}
		for {
			if _, err := stream.Recv(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/flows, "ns/flow")
}
