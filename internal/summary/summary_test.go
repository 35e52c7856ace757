package summary

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

type count int

func (n *count) HandleFlow(*flow.Record) { *n++ }
func (n *count) Idle() bool              { return false }

var mapping = []flow.MapEntry{
	{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"},
	{Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"},
}

// TestSummary counts records, a repeated one and a sampled one among them.
func TestSummary(t *testing.T) {
	var passed count
	s := NewStage(mapping, false, &passed)
	send := func(src, dst, exporter string, bytes, packets, rate uint64, names ...string) *flow.Record {
		r := &flow.Record{}
		m := &r.Msg
		m.Type = flowpb.FlowMessage_IPFIX
		m.SrcAddr, m.DstAddr = netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice()
		m.SamplerAddress = netip.MustParseAddr(exporter).AsSlice()
		m.Bytes, m.Packets, m.SamplingRate = bytes, packets, rate
		for i, name := range names {
			if namespace, workload, found := strings.Cut(name, "/"); found {
				r.Ends[i].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: namespace, Name: workload + "-1", Workload: workload, WorkloadKind: "Deployment"})
			}
		}
		return r
	}
	for _, r := range []*flow.Record{
		send("10.0.0.1", "10.0.0.2", "192.0.2.1", 1000, 10, 0, "shop/cart", "shop/db"),
		send("10.0.0.3", "10.0.0.2", "192.0.2.1", 500, 5, 400, "shop/cart", "shop/db"), // another pod of the same workload
		send("10.0.0.1", "198.51.100.7", "192.0.2.2", 100, 1, 1, "shop/cart"),
		send("2001:db8::1", "198.51.100.7", "192.0.2.2", 1, 1, 1),
	} {
		s.HandleFlow(r)
	}
	repeated := send("10.0.0.1", "10.0.0.2", "192.0.2.1", 7777, 7, 0, "shop/cart", "shop/db")
	repeated.Extra.Duplicate = true
	s.HandleFlow(repeated)
	s.HandleFlow(&flow.Record{Line: &flow.Line{Text: []byte("no record"), Close: -1}})
	if passed != 6 {
		t.Errorf("%d records passed on", passed)
	}
	var b strings.Builder
	if err := s.Write(&b, "3 filter"); err != nil {
		t.Fatal(err)
	}
	const want = `
5 records: 5 IPFIX
names: both ends 60.0 %, one end 20.0 %, none 20.0 %
exporters, with their records: 192.0.2.1 (3), 192.0.2.2 (2)
most bytes, each packet counted once:
   201 kB        2,010 packets  shop/cart → shop/db
    100 B            1 packets  shop/cart → 198.51.100.7
      1 B            1 packets  2001:db8::1 → 198.51.100.7
dropped: 3 filter
`
	if b.String() != want {
		t.Errorf("got %s\nwant %s", b.String(), want)
	}
}

// TestBounds sends more pairs and exporters than are kept apart. Nothing is lost from the sums.
func TestBounds(t *testing.T) {
	s := NewStage(mapping, true, new(count))
	for i := range uint32(maxPairs + 1000) {
		r := &flow.Record{}
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).AsSlice()
		r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.SamplerAddress, r.Msg.Bytes, r.Msg.Packets = addr, addr, addr, 1, 1
		s.HandleFlow(r)
	}
	if len(s.pairs) != maxPairs || len(s.exporters) != maxExporters {
		t.Errorf("%d pairs and %d exporters", len(s.pairs), len(s.exporters))
	}
	var b strings.Builder
	if err := s.Write(&b, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"51,000 records", "and more than 990 more", "most bytes, by all records:",
		fmt.Sprintf("%s packets  of %s other pairs", thousands(maxPairs+1000-shown), thousands(maxPairs-shown)), "dropped: nothing",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %s", want, b.String())
		}
	}
}

// TestPlaces: a label of a network takes the place of its addresses, and is no name. A country
// alone does not.
func TestPlaces(t *testing.T) {
	s := NewStage(mapping, false, new(count))
	for i, p := range []flow.Place{{SubnetLabel: "office", Country: "DE"}, {Country: "FR"}} {
		r := &flow.Record{}
		r.Msg.SrcAddr, r.Msg.DstAddr = []byte{10, 0, 0, 1}, []byte{198, 51, 100, 7}
		r.Msg.Bytes, r.Msg.Packets = uint64(100-i), 1
		r.Ends[0].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: "shop", Workload: "cart", WorkloadKind: "Deployment"})
		r.Ends[1].Object = flow.NewPlace(p)
		s.HandleFlow(r)
	}
	var b strings.Builder
	if err := s.Write(&b, ""); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"both ends 0.0 %, one end 100.0 %", "100 B            1 packets  shop/cart → office\n", "99 B            1 packets  shop/cart → 198.51.100.7\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in %s", want, b.String())
		}
	}
}

func TestHostileNames(t *testing.T) {
	s := NewStage(mapping, false, new(count))
	r := &flow.Record{}
	r.Msg.SrcAddr = netip.MustParseAddr("10.0.0.1").AsSlice()
	r.Ends[0].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: "a\x1b[2J", Workload: "b\n"})
	s.HandleFlow(r)
	var b strings.Builder
	if err := s.Write(&b, ""); err != nil || strings.ContainsAny(b.String(), "\x1b") || !strings.Contains(b.String(), "a\ufffd[2J/b\ufffd") {
		t.Errorf("%v: %q", err, b.String())
	}
}
