package collector

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
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

// upstream decodes datagrams as goflow2's own program does.
type upstream struct {
	producer  producer.ProducerInterface
	templates map[netip.AddrPort]netflow.NetFlowTemplateSystem
}

func newUpstream(tb testing.TB) *upstream {
	tb.Helper()
	cfg, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		tb.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(cfg, protoproducer.CreateSamplingSystem)
	if err != nil {
		tb.Fatal(err)
	}
	return &upstream{p, make(map[netip.AddrPort]netflow.NetFlowTemplateSystem)}
}

func (s *upstream) decode(g datagram) ([]*flowpb.FlowMessage, error) {
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

// filled lists, by field, where we may differ from upstream goflow2: what it drops
// or misreads. Each function reports whether a difference is of that kind.
var filled = map[string]func(upstream, ours *flowpb.FlowMessage) bool{
	// IE 192: goflow2 reads IE 52 only.
	"ip_ttl": func(s, _ *flowpb.FlowMessage) bool { return s.IpTtl == 0 && s.Type != flowpb.FlowMessage_SFLOW_5 },
	// IE 256 of records without IP addresses, or with zeros for them.
	"etype": func(s, _ *flowpb.FlowMessage) bool {
		return s.Etype == 0 || allZero(s.SrcAddr) && allZero(s.DstAddr)
	},
	// Payload of non-first fragments read as ports.
	"src_port": laterFragment,
	"dst_port": laterFragment,
	// Interfaces of sFlow that are not one interface.
	"in_if": func(s, o *flowpb.FlowMessage) bool {
		return s.Type == flowpb.FlowMessage_SFLOW_5 && s.InIf >= 0x3fffffff && o.InIf == 0
	},
	"out_if": func(s, o *flowpb.FlowMessage) bool {
		return s.Type == flowpb.FlowMessage_SFLOW_5 && s.OutIf >= 0x3fffffff && o.OutIf == 0
	},
	"forwarding_status": func(s, o *flowpb.FlowMessage) bool {
		return s.Type == flowpb.FlowMessage_SFLOW_5 && s.OutIf>>30 == 1 && o.ForwardingStatus >= 128
	},
	// goflow2 reads type and code neither in sampled packets nor in the destination port.
	"icmp_type": icmpUnread,
	"icmp_code": icmpUnread,
	// The protocol behind IPv6 extension headers.
	"proto": func(s, o *flowpb.FlowMessage) bool {
		return s.Type == flowpb.FlowMessage_SFLOW_5 && (s.Proto == 43 || s.Proto == 44) && o.Proto == 17
	},
	// Times that count from the exporter's boot: goflow2 has the export time in IPFIX,
	// and what is a multiple of 2^32 ms off in NetFlow v5 and v9.
	"time_flow_start_ns": func(s, o *flowpb.FlowMessage) bool {
		return s.TimeFlowStartNs%1e9 == 0 && o.TimeFlowStartNs <= s.TimeFlowStartNs || rolledOver(s, s.TimeFlowStartNs, o.TimeFlowStartNs)
	},
	"time_flow_end_ns": func(s, o *flowpb.FlowMessage) bool {
		return s.TimeFlowEndNs%1e9 == 0 && o.TimeFlowEndNs <= s.TimeFlowEndNs || rolledOver(s, s.TimeFlowEndNs, o.TimeFlowEndNs)
	},
	// IE 352 of frames that are not of IP.
	"bytes": func(s, o *flowpb.FlowMessage) bool { return s.Bytes == 0 && len(s.SrcAddr) == 0 },
	// IE 195, which is the upper six bits.
	"ip_tos": func(s, o *flowpb.FlowMessage) bool { return s.IpTos == 0 && o.IpTos&3 == 0 && o.IpTos < 256 },
	// Priority bits.
	"vlan_id":  func(s, o *flowpb.FlowMessage) bool { return s.VlanId&0xfff == o.VlanId },
	"src_vlan": func(s, o *flowpb.FlowMessage) bool { return s.SrcVlan&0xfff == o.SrcVlan },
	"dst_vlan": func(s, o *flowpb.FlowMessage) bool { return s.DstVlan&0xfff == o.DstVlan },
	// Sections that are empty or absent.
	"mpls_label": func(s, o *flowpb.FlowMessage) bool {
		return slices.Equal(slices.DeleteFunc(slices.Clone(s.MplsLabel), zero), slices.DeleteFunc(slices.Clone(o.MplsLabel), zero)) &&
			len(o.MplsLabel) <= len(s.MplsLabel)
	},
}

func zero(v uint32) bool { return v == 0 }

func rolledOver(s *flowpb.FlowMessage, theirs, ours uint64) bool {
	return s.Type != flowpb.FlowMessage_IPFIX && (theirs-ours)%(1<<32*1e6) == 0
}

func icmpUnread(s, o *flowpb.FlowMessage) bool {
	if s.IcmpType|s.IcmpCode != 0 {
		return false
	}
	if s.Type == flowpb.FlowMessage_SFLOW_5 {
		return slices.Contains(o.LayerStack, flowpb.FlowMessage_ICMP) || slices.Contains(o.LayerStack, flowpb.FlowMessage_ICMPv6)
	}
	return (s.Proto == 1 || s.Proto == 58) && o.SrcPort == 0 && o.DstPort == o.IcmpType<<8|o.IcmpCode
}

func laterFragment(s, o *flowpb.FlowMessage) bool {
	return s.Type == flowpb.FlowMessage_SFLOW_5 && s.FragmentOffset != 0 && o.SrcPort == 0 && o.DstPort == 0
}

// TestUpstream compares our message with upstream goflow2's, record by record and
// field by field, on every capture.
func TestUpstream(t *testing.T) {
	for _, name := range captureNames(t) {
		t.Run(name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			var ours []*flowpb.FlowMessage
			d := c.NewDecoder(&sink{f: func(r *flow.Record) {
				ours = append(ours, proto.Clone(&r.Msg.FlowMessage).(*flowpb.FlowMessage))
			}})
			s := newUpstream(t)
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
					t.Fatalf("datagram %d: %d records, upstream has %d", i, len(ours), len(want))
				}
				for j := range want {
					compared++
					for _, f := range differing(want[j], ours[j]) {
						if ok := filled[f]; ok == nil || !ok(want[j], ours[j]) {
							t.Errorf("datagram %d record %d: %s is %v, upstream has %v", i, j, f, value(ours[j], f), value(want[j], f))
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
			t.Logf("%d records compared, upstream failed on %d datagrams; filled by us: %v", compared, failed, list)
		})
	}
}

// rivals are the elements that goflow2 takes for the same, by what they are called here.
// TestRivals has templates with several of one kind: there we differ.
var rivals = map[uint16]string{
	8: "ipv4", 12: "ipv4", 27: "ipv6", 28: "ipv6", 47: "ipv4", 140: "ipv6", 9: "ipv4", 13: "ipv4", 29: "ipv6", 30: "ipv6", 15: "ipv4", 62: "ipv6", 18: "ipv4", 63: "ipv6",
	32: "ICMP32", 139: "ICMP139", 176: "ICMP4", 177: "ICMP4", 178: "ICMP6", 179: "ICMP6", 56: "MAC", 80: "MAC", 57: "post MAC", 81: "post MAC",
	150: "seconds", 151: "seconds", 152: "milliseconds", 153: "milliseconds", 154: "NTP", 155: "NTP", 158: "delta", 159: "delta",
}

// rivalKinds has which of [rivals] exclude each other.
var rivalKinds = [][]string{{"ipv4", "ipv6"}, {"ICMP32", "ICMP139", "ICMP4", "ICMP6"}, {"MAC", "post MAC"}, {"seconds", "milliseconds", "NTP", "delta"}}

// withoutRivals leaves out the fields that are rivals of an earlier one.
func withoutRivals(fields []ie) []ie {
	chosen := make(map[int]string)
	return slices.DeleteFunc(fields, func(f ie) bool {
		kind := rivals[f.typ]
		i := slices.IndexFunc(rivalKinds, func(kinds []string) bool { return slices.Contains(kinds, kind) })
		if i >= 0 && chosen[i] == "" {
			chosen[i] = kind
		}
		return i >= 0 && chosen[i] != kind
	})
}

// counting leaves one field of each element, with its value: the last one that is not 0,
// else the last one. One without bytes is as if it were not there. In a tunnel the last header counts, whatever it says.
// Addresses of MPLS labels are a list.
func counting(fields []ie, values [][]byte) (template []ie, record []byte) {
	of := make(map[uint16][]int) // those that have bytes
	for i, f := range fields {
		if f.length > 0 {
			of[f.typ] = append(of[f.typ], i)
		}
	}
	tunnel := false
	for _, id := range []uint16{8, 12, 27, 28} {
		if all := of[id]; len(all) > 1 {
			first, last := values[all[0]], values[all[len(all)-1]]
			tunnel = tunnel || !allZero(first) && !allZero(last) && !bytes.Equal(first, last)
		}
	}
	for i, f := range fields {
		all, counts := of[f.typ], i
		if f.length == 0 {
			continue
		}
		if f.typ != 47 && f.typ != 140 {
			counts = all[len(all)-1]
			for _, j := range slices.Backward(all) {
				if !allZero(values[j]) && !(tunnel && slices.Contains([]uint16{8, 12, 27, 28, 4, 7, 11}, f.typ)) {
					counts = j
					break
				}
			}
		}
		if counts == i {
			template, record = append(template, f), append(record, values[i]...)
		}
	}
	return template, record
}

// Templates may name an element more than once, and give it no bytes at all. A zero never
// replaces a value. goflow2, for which the last one counts, is shown that one alone.
func TestUpstreamRepeatedFields(t *testing.T) {
	numbers := []uint16{1, 2, 7, 11, 4, 16, 17, 10, 14, 89, 5, 6, 52, 9, 13, 29, 30, 32, 139, 176, 177, 178, 179,
		56, 57, 80, 81, 58, 59, 54, 88, 197, 31, 70, 71, 72, 138, 150, 151, 152, 153, 154, 155, 158, 159}
	addresses := map[uint16]uint16{8: 4, 12: 4, 15: 4, 18: 4, 47: 4, 27: 16, 28: 16, 62: 16, 63: 16, 140: 16, 60: 1}
	r := rand.New(rand.NewPCG(1, 2))
	compared := 0
	for n := range 3000 {
		fields := []ie{{1, 1, 0}} // a record has a byte at least
		values := [][]byte{{1}}
		few := r.IntN(6) + 1 // elements, so that they repeat
		var pool []ie
		for range few {
			f := ie{numbers[r.IntN(len(numbers))], 8, 0}
			if v9 := n%2 == 0; v9 && f.typ >= 150 && f.typ <= 159 {
				f.typ = 21 + f.typ%2 // the times that goflow2 reads in v9
			}
			if r.IntN(2) == 0 {
				keys := slices.Sorted(maps.Keys(addresses))
				f.typ = keys[r.IntN(len(keys))]
				f.length = addresses[f.typ]
			}
			pool = append(pool, f)
		}
		if pool = withoutRivals(pool); len(pool) == 0 {
			continue
		}
		for range r.IntN(12) + 1 {
			f := pool[r.IntN(len(pool))]
			if addresses[f.typ] == 0 {
				f.length = uint16(r.IntN(9))
			} else if r.IntN(3) == 0 {
				f.length = 0
			}
			v := make([]byte, f.length)
			for zero, i := r.IntN(3) == 0, 0; i < len(v) && !zero; i++ {
				v[i] = byte(r.IntN(3) * r.IntN(256))
			}
			fields, values = append(fields, f), append(values, v)
		}
		message := func(fields []ie, record []byte) []byte {
			if n%2 == 0 {
				return v9Message(0, 1, set(0, templateRecord(256, fields...)), set(256, record))
			}
			return ipfixMessage(0, 1, set(2, templateRecord(256, fields...)), set(256, record))
		}
		g := datagram{testSource, message(fields, bytes.Join(values, nil)), testTime}
		c, _ := newTestCollector(t)
		var ours []*flowpb.FlowMessage
		d := c.NewDecoder(&sink{f: func(r *flow.Record) {
			ours = append(ours, proto.Clone(&r.Msg.FlowMessage).(*flowpb.FlowMessage))
		}})
		d.Datagram(g.source, AnyFlow, g.payload, g.received)
		g.payload = message(counting(fields, values))
		want, err := newUpstream(t).decode(g)
		if err != nil || len(want) != 1 || len(ours) != 1 {
			t.Fatalf("%v: %d records, upstream has %d (%v)", fields, len(ours), len(want), err)
		}
		compared++
		for _, f := range differing(want[0], ours[0]) {
			if ok := filled[f]; ok == nil || !ok(want[0], ours[0]) {
				t.Errorf("%v: %s is %v, upstream has %v", fields, f, value(ours[0], f), value(want[0], f))
			}
		}
	}
	t.Logf("%d records compared", compared)
}
