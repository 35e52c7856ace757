package pipe

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/netsampler/goflow2/v2/decoders/netflow"
	"github.com/netsampler/goflow2/v2/decoders/netflowlegacy"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/collector/capture"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// goflow2 returns the messages that goflow2 makes of the real captures, ready
// for its formatters.
func goflow2(t testing.TB, cfg *protoproducer.ProducerConfig) []*protoproducer.ProtoProducerMessage {
	t.Helper()
	compiled, err := cfg.Compile()
	if err != nil {
		t.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(compiled, protoproducer.CreateSamplingSystem)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../capture/testdata/*.pcap")
	if err != nil || len(files) == 0 {
		t.Fatal("no captures", err)
	}
	var messages []*protoproducer.ProtoProducerMessage
	for _, file := range files {
		templates := netflow.CreateTemplateSystem()
		_, err := capture.Read(t.Context(), file, func(d *capture.Datagram) {
			payload := slices.Clone(d.Payload) // messages alias it
			var v5 netflowlegacy.PacketNetFlowV5
			var v9 netflow.NFv9Packet
			var ipfix netflow.IPFIXPacket
			var packet any
			switch payload[1] {
			case 5:
				if netflowlegacy.DecodeMessageVersion(bytes.NewBuffer(payload), &v5) == nil {
					packet = &v5
				}
			case 10:
				// Sets without template are an error, beside good ones.
				_ = netflow.DecodeMessageVersion(bytes.NewBuffer(payload), templates, &v9, &ipfix)
				packet = &ipfix
			}
			produced, err := p.Produce(packet, &producer.ProduceArgs{Src: d.Src, Dst: d.Dst, SamplerAddress: d.Src.Addr(), TimeReceived: d.Time})
			if err != nil {
				t.Error(err)
			}
			for _, m := range produced {
				messages = append(messages, m.(*protoproducer.ProtoProducerMessage))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return messages
}

// goflow2Lines returns them as goflow2 prints them (format/json).
func goflow2Lines(t testing.TB, messages []*protoproducer.ProtoProducerMessage) []byte {
	t.Helper()
	var in []byte
	for _, m := range messages {
		line, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		in = append(append(in, line...), '\n')
	}
	return in
}

func TestGoflow2JSON(t *testing.T) {
	render := &protoproducer.ProducerConfig{Formatter: protoproducer.FormatterConfig{
		Render: map[string]protoproducer.RendererID{"time_received_ns": protoproducer.RendererDateTimeNano},
	}}
	for name, cfg := range map[string]*protoproducer.ProducerConfig{"upstream": {}, "times as text": render} {
		t.Run(name, func(t *testing.T) {
			messages := goflow2(t, cfg)
			if len(messages) != 225+38+22 {
				t.Errorf("%d records in the captures", len(messages))
			}
			in := goflow2Lines(t, messages)
			if strings.Contains(string(in), `"time_received_ns":"20`) != (cfg == render) {
				t.Errorf("times are not rendered as meant: %.200s", in)
			}
			got := runReader(t, Config{Mapping: mapping(t, allAddresses)}, bytes.NewReader(in))
			if got.err != nil || got.passed > 0 || len(got.records) != len(messages) || got.output() != string(in) {
				t.Fatalf("%v, %d records of %d, %d passed through", got.err, len(got.records), len(messages), got.passed)
			}
			for i, rec := range got.records {
				m, want := &rec.Msg, messages[i]
				if m.TimeReceivedNs != want.TimeReceivedNs || m.TimeFlowStartNs != want.TimeFlowStartNs || m.TimeFlowEndNs != want.TimeFlowEndNs {
					t.Errorf("record %d has times %d, %d, %d of %v", i, m.TimeReceivedNs, m.TimeFlowStartNs, m.TimeFlowEndNs, want)
				}
				for what, b := range map[string][2][]byte{
					"source": {m.SrcAddr, want.SrcAddr}, "destination": {m.DstAddr, want.DstAddr},
					"next hop": {m.NextHop, want.NextHop}, "sampler": {m.SamplerAddress, want.SamplerAddress},
				} {
					got, _ := netip.AddrFromSlice(b[0])
					want, _ := netip.AddrFromSlice(b[1])
					if got != want {
						t.Errorf("record %d has %s %v, want %v", i, what, got, want)
					}
				}
				if l := rec.Line; !l.Snake || l.Close != len(l.Text)-1 || l.Empty || len(l.Keys) > 0 {
					t.Errorf("record %d has line %+v", i, l)
				}
			}
		})
	}
}

func TestGoflow2Protobuf(t *testing.T) {
	// A field that the user has goflow2 map is unknown to its FlowMessage.
	custom := &protoproducer.ProducerConfig{
		Formatter: protoproducer.FormatterConfig{Protobuf: []protoproducer.ProtobufFormatterConfig{{Name: "flow_direction", Index: 42, Type: "varint"}}},
		IPFIX:     protoproducer.IPFIXProducerConfig{Mapping: []protoproducer.NetFlowMapField{{Type: 61, Destination: "flow_direction"}}},
	}
	for name, cfg := range map[string]*protoproducer.ProducerConfig{"upstream": {}, "mapped": custom} {
		messages := goflow2(t, cfg)
		for _, separator := range []string{"\n", ""} { // -transport.file.sep
			var in []byte
			for _, m := range messages {
				b, err := m.MarshalBinary() // format/binary
				if err != nil {
					t.Fatal(err)
				}
				in = append(append(in, b...), separator...)
			}
			for how, r := range inPieces(in) {
				got := runReader(t, Config{}, r)
				if got.err != nil || got.protobuf != len(messages) || got.malformed+got.passed > 0 {
					t.Fatalf("%s, separator %q, %s: %v, %d messages of %d", name, separator, how, got.err, got.protobuf, len(messages))
				}
				unknown := 0
				for i, rec := range got.records {
					if !proto.Equal(&rec.Msg.FlowMessage, &messages[i].FlowMessage) {
						t.Errorf("%s, separator %q: message %d is %v, want %v", name, separator, i, &rec.Msg.FlowMessage, &messages[i].FlowMessage)
					}
					unknown += len(rec.Msg.ProtoReflect().GetUnknown())
				}
				if (unknown > 0) != (cfg == custom) {
					t.Errorf("%s: %d bytes of unknown fields", name, unknown)
				}
			}
		}
	}
}

// discard is a handler that does nothing.
type discard struct{ n int }

func (d *discard) HandleFlow(*flow.Record) { d.n++ }
func (d *discard) Idle() bool              { return false }

// v1Line is the reference record of schema v1, and a line of goflow2 v1.
const v1Line = `{"BiFlowDirection":0,"Bytes":20800,"DstAS":0,"DstAddr":"10.96.0.1","DstMac":"0a:58:0a:f4:00:01","DstNet":0,"DstPort":443,"DstVlan":0,"EgressVrfID":0,"Etype":2048,"EtypeName":"IPv4","ForwardingStatus":0,"FragmentId":0,"FragmentOffset":0,"IPTTL":0,"IPTos":0,"IPv6FlowLabel":0,"IcmpCode":0,"IcmpName":"","IcmpType":0,"InIf":12,"IngressVrfID":0,"NextHop":"","NextHopAS":0,"OutIf":0,"Packets":400,"Proto":6,"ProtoName":"TCP","SamplerAddress":"10.244.0.2","SamplingRate":0,"SequenceNum":577,"SrcAS":0,"SrcAddr":"10.244.0.5","SrcMac":"0a:58:0a:f4:00:05","SrcNet":0,"SrcPort":56144,"SrcVlan":0,"TCPFlags":0,"TimeFlowEnd":0,"TimeFlowStart":0,"TimeReceived":1628419398,"Type":"IPFIX","VlanId":0}`

func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	lines := goflow2Lines(t, goflow2(t, &protoproducer.ProducerConfig{}))
	lines = append(lines, v1Line+"\n"...)
	// What comes rarely must not allocate either.
	lines = append(lines, `{"src_addr":"fd00::1","dst_addr":"::ffff:\u0031.2.3.4","time_received_ns":"2021-08-08T10:43:18.5Z","src_pod":"a","TimeFlowStart":1.5,"a":[{"b":[]}]}`+"\nbad\n"...)
	r, done := newReader(t, Config{}, nil, &collect{})
	d := &discard{}
	r.h = d
	r.buf, r.input = lines, InputJSON
	n := testing.AllocsPerRun(100, func() {
		r.begin, r.end = 0, len(lines)
		r.lines()
	})
	if want := bytes.Count(lines, []byte("\n")); n != 0 || d.n != 101*want || done(nil).passed != 101 {
		t.Errorf("%v allocations for %d lines", n, want)
	}
}

func BenchmarkLines(b *testing.B) {
	for name, lines := range map[string][]byte{
		"goflow2 v2": goflow2Lines(b, goflow2(b, &protoproducer.ProducerConfig{})),
		"schema v1":  bytes.Repeat([]byte(v1Line+"\n"), 300),
	} {
		b.Run(name, func(b *testing.B) {
			r, _ := newReader(b, Config{}, nil, &collect{})
			d := &discard{}
			r.h = d
			r.buf, r.input = lines, InputJSON
			b.SetBytes(int64(len(lines)))
			b.ReportAllocs()
			for b.Loop() {
				r.begin, r.end = 0, len(lines)
				r.lines()
			}
			b.ReportMetric(float64(d.n)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}

func BenchmarkMessages(b *testing.B) {
	var in []byte
	for _, m := range goflow2(b, &protoproducer.ProducerConfig{}) {
		buf, err := m.MarshalBinary()
		if err != nil {
			b.Fatal(err)
		}
		in = append(append(in, buf...), '\n')
	}
	r, _ := newReader(b, Config{}, nil, &collect{})
	d := &discard{}
	r.h = d
	r.buf, r.input = in, InputProtobuf
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		r.begin, r.end = 0, len(in)
		if err := r.messages(false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(d.n)/b.Elapsed().Seconds(), "messages/s")
}
