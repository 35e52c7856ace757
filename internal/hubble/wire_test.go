package hubble

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	goflowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestLengths: fields whose length takes one, two and three bytes are those of protowire.
func TestLengths(t *testing.T) {
	for _, n := range []int{0, 1, 126, 127, 128, 129, 16383, 16384, 70000} {
		text := strings.Repeat("x", n)
		want := protowire.AppendString(protowire.AppendTag([]byte("before"), 1000, protowire.BytesType), text)
		for _, room := range []int{0, 6 + n, 1 << 20} { // with and without room for more
			b, at := open(slices.Grow([]byte("before"), room), 1000)
			if got := closed(append(b, text...), at); !bytes.Equal(got, want) {
				t.Errorf("%d bytes are %d in a field, want %d", n, len(got), len(want))
			}
		}
	}
}

// choices makes values of random bytes, those that mean something more often than others.
type choices []byte

func (c *choices) next() byte {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return b
}

func (c *choices) flag() bool { return c.next()&1 != 0 }

// number returns one of the usual values, or any other.
func (c *choices) number(usual ...uint32) uint32 {
	b := int(c.next())
	if b < 192 && len(usual) > 0 {
		return usual[b%len(usual)]
	}
	return uint32(c.next())<<24 | uint32(c.next())<<16 | uint32(c.next())<<8 | uint32(c.next())
}

func (c *choices) text(usual ...string) string {
	b := int(c.next())
	if b < 128 && len(usual) > 0 {
		return usual[b%len(usual)]
	}
	n := min(b%32, len(*c))
	s := string((*c)[:n])
	*c = (*c)[n:]
	return strings.Repeat(s, 1+b/224*20)
}

func (c *choices) addr() []byte {
	switch c.next() % 8 {
	case 0:
		return nil
	case 1:
		return make([]byte, 4)
	case 2:
		return make([]byte, 16)
	case 3:
		return []byte{10, 0, 0, 1 + c.next()%2} // of a Node
	case 4:
		return []byte{0xfe, 0x80, 15: c.next()}
	case 5:
		a := netip.AddrFrom4([4]byte{10, 1, 2, c.next()}).As16() // mapped
		return a[:]
	case 6:
		return []byte{0x20, 1, 0xd, 0xb8, 15: c.next()}
	}
	return []byte{192, 0, 2, c.next()}
}

func (c *choices) object() *flow.Object {
	o := flow.Object{
		Kind: c.text(kindPod, kindService, kindNode, "EgressIP"), Namespace: c.text("shop", "bank", ""), Name: c.text("web", "n1", ""),
		Workload: c.text("web", ""), WorkloadKind: c.text("Deployment", ""), Node: c.text("n1", "n2", ""),
		Labels: c.text("", "app\ntier", "\ntier", "app\n", "a\nb\nc"), Warn: c.text("", "in doubt"),
	}
	switch c.next() % 4 {
	case 0:
		return nil
	case 1:
		o.Place = &flow.Place{SubnetLabel: c.text("office", ""), Country: c.text("DE", ""), ASName: c.text("Net", "")}
	}
	return flow.NewObject(o)
}

// anyRecord makes a record of random bytes.
func anyRecord(data []byte) *flow.Record {
	c, r := choices(data), &flow.Record{}
	m, x := &r.Msg, &r.Extra
	m.Proto = c.number(protoTCP, protoUDP, protoSCTP, protoICMP, protoICMP6, protoVRRP, protoIGMP, 47, 0)
	m.Etype = c.number(0x800, 0x86dd, 0x806)
	r.Ends[0].Object, r.Ends[1].Object = c.object(), c.object()
	m.SrcAddr, m.DstAddr, m.SamplerAddress, x.ExporterAddress = c.addr(), c.addr(), c.addr(), c.addr()
	m.TimeReceivedNs = uint64(c.number(0, 1))<<32 | uint64(c.number(0, 1))
	m.SrcMac, m.DstMac = uint64(c.number(0, 1))<<16, uint64(c.number(0, 1))
	m.SrcPort, m.DstPort = c.number(0, 53, 40000), c.number(0, 443, 50000)
	m.TcpFlags, m.IcmpType, m.IcmpCode = c.number(0, 2, 18, 511, 512), c.number(0, 3, 8, 128, 129), c.number(0, 1)
	m.InIf, m.OutIf, m.ForwardingStatus = c.number(0, 1), c.number(0, 1), c.number(0, 64, 128, 129, 130, 137, 138, 192)
	m.Bytes, m.Packets, m.SamplingRate = uint64(c.number(0, 1))<<20, uint64(c.number(0, 1, 2)), uint64(c.number(0, 1, 400))
	m.Type = goflowpb.FlowMessage_FlowType(c.number(uint32(goflowpb.FlowMessage_IPFIX), uint32(goflowpb.FlowMessage_SFLOW_5)))
	x.HasDirection, x.HasICMP, x.Scaled, x.Duplicate, x.Sampled = c.flag(), c.flag(), c.flag(), c.flag(), c.flag()
	x.FlowDirection, x.BiFlowDirection = c.next()%3, c.next()%4
	x.FirewallEvent = c.next() % 5
	x.InIfName, x.OutIfName = []byte(c.text("", "eth0")), []byte(c.text("", "eth1"))
	x.Verdict, x.PolicyKind = []byte(c.text("", flow.VerdictAllowed, flow.VerdictDropped)), []byte(c.text("", "NetworkPolicy"))
	x.PolicyNamespace, x.PolicyName = []byte(c.text("", "shop")), []byte(c.text("", "deny"))
	x.PolicyDirection, x.PolicyRule, x.PolicyWarn = []byte(c.text("", "Ingress", "Egress")), []byte(c.text("", "1")), []byte(c.text("", "old"))
	x.TunnelSrcAddr, x.TunnelDstAddr, x.PostNATSrcAddr = c.addr(), c.addr(), c.addr()
	x.TunnelType, x.TunnelProto = uint8(c.number(1, 7, 2)), uint8(c.number(protoUDP, 47))
	x.TunnelKey = uint64(c.number(0, 33)) << 8
	return r
}

// FuzzFlow: whatever a record has, its flow is the one that Cilium's generated types make of it.
func FuzzFlow(f *testing.F) {
	for i := range 256 {
		f.Add(bytes.Repeat([]byte{byte(i)}, 160), i%2 == 0)
		f.Add(bytes.Repeat([]byte{byte(i), byte(3 * i), byte(5 * i), byte(7 * i), byte(i / 2)}, 40), i%2 == 0)
	}
	cluster := newServer(Config{Mapping: mapping(f), Labels: []string{"app", "tier"}, NodeOf: nodesOfTest, Cluster: "c1"}, nil)
	single := newServer(Config{Mapping: mapping(f), Labels: []string{"x"}, NodeOf: nodesOfTest}, nil)
	f.Fuzz(func(t *testing.T, data []byte, inCluster bool) {
		s := single
		if inCluster {
			s = cluster
		}
		v := newView(&s.names)
		v.set(anyRecord(data))
		b := v.appendFlow(nil, "v1")
		got, want := &flowpb.Flow{}, reference{v}.flow("v1")
		if err := proto.Unmarshal(b, got); err != nil || !proto.Equal(got, want) {
			t.Fatalf("%v: got\n%s\nwant\n%s", err, protojson.Format(got), protojson.Format(want))
		}
		if len(got.ProtoReflect().GetUnknown()) > 0 || len(b) != proto.Size(got) {
			t.Errorf("%d bytes, want %d", len(b), proto.Size(got))
		}
		// What a filter has found out before changes nothing.
		v.set(anyRecord(data))
		v.labelsOf(v.source())
		v.identityOf(v.destination())
		if again := v.appendFlow(nil, "v1"); !bytes.Equal(again, b) {
			t.Errorf("got %x, then %x", b, again)
		}
	})
}

// TestFlowAllocations: a flow that is sent allocates nothing.
func TestFlowAllocations(t *testing.T) {
	node := func(netip.Addr, int64) string { return "n1" }
	s := newServer(Config{Mapping: mapping(t), Labels: []string{"app", "tier"}, NodeOf: node, Cluster: "c1"}, nil)
	v := newView(&s.names)
	out := messages{}
	records := variety()
	n := testing.AllocsPerRun(100, func() {
		for _, r := range records {
			v.set(r)
			if err := out.flow(v, "v1", nil); err != nil {
				t.Fatal(err)
			}
		}
		out.b = out.b[:0]
	})
	if n != 0 {
		t.Errorf("%v allocations for %d flows", n, len(records))
	}
}
