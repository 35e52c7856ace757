package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestExporterLabels floods a collector with forged exporters of every kind before,
// between and after datagrams of real ones. The real ones have series of their own, and
// these do not change from scrape to scrape.
func TestExporterLabels(t *testing.T) {
	forgedDatagrams := map[string]func(i int) []byte{
		"header only":     func(int) []byte { return v5Message(0) },
		"NetFlow v5":      func(int) []byte { return v5Message(1, v5Record(1)) },
		"template":        func(int) []byte { return ipfixMessage(0, 1, set(2, basicTemplate(256))) },
		"without its own": func(int) []byte { return ipfixMessage(0, 1, set(256, basicRecord(1))) },
		"sFlow": func(int) []byte {
			return sflowMessage(flowSample(1, 2, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))
		},
	}
	realDatagrams := map[string][]byte{
		"192.0.2.1": ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(1))),
		"192.0.2.2": v5Message(1, v5Record(1)),
		"192.0.2.3": ipfixMessage(0, 1, set(2, basicTemplate(256))),
	}
	for name, forgedDatagram := range forgedDatagrams {
		for _, begin := range []int{0, 2} { // the round in which the real ones begin
			t.Run(fmt.Sprintf("%s, real ones from round %d", name, begin), func(t *testing.T) {
				c, _ := newTestCollector(t)
				d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
				now := testTime
				seen := make(map[string]int)
				const rounds = 12
				for round := range rounds {
					for i := range 1500 {
						n := round*1500 + i
						if i == 700 && round >= begin {
							for addr, b := range realDatagrams {
								d.Datagram(netip.AddrPortFrom(netip.MustParseAddr(addr), 4739), AnyFlow, b, now)
							}
						}
						d.Datagram(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 4739), AnyFlow, forgedDatagram(n), now)
					}
					now += 10e9
					labels := labelsOf(c, now)
					if len(labels) > maxExporterLabels+1 {
						t.Fatalf("%d labels", len(labels))
					}
					for addr := range realDatagrams {
						// A second datagram shows that an exporter is there to stay.
						if round > begin && !slices.Contains(labels, addr) {
							t.Errorf("round %d: %s has no series", round, addr)
						}
					}
					for _, label := range labels {
						seen[label]++
					}
				}
				if len(seen) > maxExporterLabels+1+len(realDatagrams) {
					t.Errorf("%d labels in %d scrapes", len(seen), rounds)
				}
				// After two hours of silence the forged ones give their labels away.
				now += 7200e9
				for i := range 10 {
					d.Datagram(netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1), AnyFlow, v5Message(1, v5Record(1)), now)
				}
				if labels := labelsOf(c, now); !slices.Contains(labels, "198.51.100.9") || len(labels) != maxExporterLabels+1 {
					t.Errorf("%d labels, without those that are new", len(labels))
				}
			})
		}
	}
}

// labelsOf returns the values of the label exporter in a scrape at a time (Unix
// nanoseconds).
func labelsOf(c *Collector, now int64) (labels []string) {
	labelled, others := chooseLabelled(c.exporters.list(), now/1e6)
	for _, e := range labelled {
		labels = append(labels, e.addr.String())
	}
	if len(others) > 0 {
		labels = append(labels, "other")
	}
	return labels
}
