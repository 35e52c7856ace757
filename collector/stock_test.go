package collector

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	"github.com/netsampler/goflow2/v2/decoders/sflow"
	flowpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// stock decodes datagrams as goflow2's own program does.
type stock struct {
	producer  producer.ProducerInterface
	templates map[netip.AddrPort]netflow.NetFlowTemplateSystem
}

func newStock(tb testing.TB) *stock {
	tb.Helper()
	cfg, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		tb.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(cfg, protoproducer.CreateSamplingSystem)
	if err != nil {
		tb.Fatal(err)
	}
	return &stock{p, make(map[netip.AddrPort]netflow.NetFlowTemplateSystem)}
}

func (s *stock) decode(g datagram) ([]*flowpb.FlowMessage, error) {
	b := bytes.NewBuffer(bytes.Clone(g.payload))
	if s.templates[g.source] == nil {
		s.templates[g.source] = netflow.CreateTemplateSystem()
	}
	var packet any
	var err error
	switch protocolOf(g.payload) {
	case protoSFlow:
		p := new(sflow.Packet)
		packet, err = p, sflow.DecodeMessageVersion(b, p)
	case protoNetFlow5:
		p := new(netflowlegacy.PacketNetFlowV5)
		packet, err = p, netflowlegacy.DecodeMessageVersion(b, p)
	case protoNetFlow9, protoIPFIX:
		var v9 netflow.NFv9Packet
		var ipfix netflow.IPFIXPacket
		err = netflow.DecodeMessageVersion(b, s.templates[g.source], &v9, &ipfix)
		packet = &v9
		if ipfix.Version == 10 {
			packet = &ipfix
		}
	default:
		return nil, errors.New("unknown version")
	}
	if err != nil && !errors.Is(err, netflow.ErrorTemplateNotFound) {
		return nil, err
	}
	msgs, err := s.producer.Produce(packet, &producer.ProduceArgs{
		Src: g.source, SamplerAddress: g.source.Addr(), TimeReceived: time.Unix(0, g.received),
	})
	var out []*flowpb.FlowMessage
	for _, m := range msgs {
		out = append(out, &m.(*protoproducer.ProtoProducerMessage).FlowMessage)
	}
	return out, err
}

// differing names the fields in which two messages differ.
func differing(a, b *flowpb.FlowMessage) []string {
	var names []string
	fields := a.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !a.ProtoReflect().Get(f).Equal(b.ProtoReflect().Get(f)) {
			names = append(names, string(f.Name()))
		}
	}
	return names
}

func value(m *flowpb.FlowMessage, name string) any {
	return m.ProtoReflect().Get(m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))).Interface()
}

// filled lists, by field, where we may differ from stock goflow2: what it drops
// or misreads. Each function tells whether a difference is of that kind.
var filled = map[string]func(stock, ours *flowpb.FlowMessage) bool{
	// IE 192: goflow2 reads IE 52 only.
	"ip_ttl": func(s, _ *flowpb.FlowMessage) bool { return s.IpTtl == 0 && s.Type != flowpb.FlowMessage_SFLOW_5 },
	// IE 256 of records without IP addresses.
	"etype": func(s, _ *flowpb.FlowMessage) bool { return s.Etype == 0 },
	// Payload of non-first fragments read as ports.
	"src_port": laterFragment,
	"dst_port": laterFragment,
	// Format bits of sFlow interfaces.
	"in_if": func(s, o *flowpb.FlowMessage) bool {
		return s.Type == flowpb.FlowMessage_SFLOW_5 && s.InIf&0x3fffffff == o.InIf
	},
	"out_if": func(s, o *flowpb.FlowMessage) bool {
		return s.Type == flowpb.FlowMessage_SFLOW_5 && s.OutIf&0x3fffffff == o.OutIf
	},
	// Times that count from the exporter's boot.
	"time_flow_start_ns": func(s, o *flowpb.FlowMessage) bool {
		return s.TimeFlowStartNs%1e9 == 0 && o.TimeFlowStartNs <= s.TimeFlowStartNs
	},
	"time_flow_end_ns": func(s, o *flowpb.FlowMessage) bool {
		return s.TimeFlowEndNs%1e9 == 0 && o.TimeFlowEndNs <= s.TimeFlowEndNs
	},
}

func laterFragment(s, o *flowpb.FlowMessage) bool {
	return s.Type == flowpb.FlowMessage_SFLOW_5 && s.FragmentOffset != 0 && o.SrcPort == 0 && o.DstPort == 0
}

// TestStock compares our message with stock goflow2's, record by record and
// field by field, on every capture.
func TestStock(t *testing.T) {
	for _, name := range captureNames(t) {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			var ours []*flowpb.FlowMessage
			d := c.NewDecoder(&sink{f: func(r *flow.Record) {
				ours = append(ours, proto.Clone(&r.Msg.FlowMessage).(*flowpb.FlowMessage))
			}})
			s := newStock(t)
			compared, failed := 0, 0
			seen := make(map[string]int)
			for i, g := range readCapture(t, name) {
				ours = ours[:0]
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
				want, err := s.decode(g)
				if err != nil {
					failed++
					continue
				}
				if len(want) != len(ours) {
					t.Fatalf("datagram %d: %d records, stock has %d", i, len(ours), len(want))
				}
				for j := range want {
					compared++
					for _, f := range differing(want[j], ours[j]) {
						if ok := filled[f]; ok == nil || !ok(want[j], ours[j]) {
							t.Errorf("datagram %d record %d: %s is %v, stock has %v", i, j, f, value(ours[j], f), value(want[j], f))
						}
						seen[f]++
					}
				}
			}
			if compared == 0 {
				t.Error("nothing compared")
			}
			var list []string
			for _, f := range slices.Sorted(maps.Keys(seen)) {
				list = append(list, fmt.Sprintf("%s %d", f, seen[f]))
			}
			t.Logf("%d records compared, stock failed on %d datagrams; filled by us: %v", compared, failed, list)
		})
	}
}
