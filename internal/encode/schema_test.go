package encode

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/netsampler/goflow2/v2/decoders/sflow"
	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// upstreamJSON returns a function that renders a record's message as goflow2 does
// with its default configuration.
func upstreamJSON(tb testing.TB) func(r *flow.Record) []byte {
	tb.Helper()
	cfg, err := (&protoproducer.ProducerConfig{}).Compile()
	if err != nil {
		tb.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(cfg, protoproducer.CreateSamplingSystem)
	if err != nil {
		tb.Fatal(err)
	}
	// Only the producer can make a message that renders itself.
	msgs, err := p.Produce(&sflow.Packet{Version: 5, Samples: []any{sflow.FlowSample{}}}, &producer.ProduceArgs{TimeReceived: time.Unix(0, 0)})
	if err != nil || len(msgs) != 1 {
		tb.Fatal(msgs, err)
	}
	m := msgs[0].(*protoproducer.ProtoProducerMessage)
	return func(r *flow.Record) []byte {
		proto.Reset(&m.FlowMessage)
		proto.Merge(&m.FlowMessage, &r.Msg.FlowMessage)
		b, err := json.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		return b
	}
}

func lineOf(e encoder, r *flow.Record) string {
	return strings.TrimSuffix(string(e.AppendRecord(nil, r)), "\n")
}

// TestSchemaV2Rendering compares single values with goflow2's rendering of the
// same message.
func TestSchemaV2Rendering(t *testing.T) {
	upstream := upstreamJSON(t)
	e := newJSON(t, JSONConfig{Schema: "v2"})
	addr := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	for name, set := range map[string]func(r *flow.Record){
		"empty":               func(*flow.Record) {},
		"types":               func(r *flow.Record) { r.Msg.Type = 4 },
		"unknown type":        func(r *flow.Record) { r.Msg.Type = 77 },
		"ARP":                 func(r *flow.Record) { r.Msg.Etype = 0x806 },
		"EtherType":           func(r *flow.Record) { r.Msg.Etype = 0x8847 },
		"unassigned protocol": func(r *flow.Record) { r.Msg.Proto = 200 },
		"experimental":        func(r *flow.Record) { r.Msg.Proto = 253 },
		"reserved":            func(r *flow.Record) { r.Msg.Proto = 255 },
		"no protocol":         func(r *flow.Record) { r.Msg.Proto = 1000 },
		"network":             func(r *flow.Record) { r.Msg.SrcAddr, r.Msg.SrcNet = addr("10.1.2.3"), 20 },
		"network of a host":   func(r *flow.Record) { r.Msg.SrcAddr, r.Msg.SrcNet = addr("10.1.2.3"), 32 },
		"network too long":    func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = addr("10.1.2.3"), 33 },
		"IPv6 network":        func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = addr("2001:db8:ffff::1"), 33 },
		"IPv6 host": func(r *flow.Record) {
			r.Msg.DstAddr, r.Msg.DstNet = addr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), 128
		},
		"IPv6 too long":       func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = addr("::1"), 129 },
		"mapped":              func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = addr("::ffff:10.1.2.3"), 104 },
		"mapped too long":     func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = addr("::ffff:10.1.2.3"), 130 },
		"mapped short":        func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = addr("::ffff:10.1.2.3"), 80 },
		"address of 3 bytes":  func(r *flow.Record) { r.Msg.DstAddr, r.Msg.DstNet = []byte{1, 2, 3}, 8 },
		"MAC of 8 bytes":      func(r *flow.Record) { r.Msg.SrcMac = 0xfedcba9876543210 },
		"addresses":           func(r *flow.Record) { r.Msg.MplsIp = [][]byte{addr("::ffff:1.2.3.4"), nil, addr("1.2.3.4")} },
		"layers":              func(r *flow.Record) { r.Msg.LayerStack = []upstreampb.FlowMessage_LayerStack{0, 99, 57} },
		"large":               func(r *flow.Record) { r.Msg.Bytes, r.Msg.TimeFlowStartNs = 1<<64-1, 1<<63+1 },
		"times that it lacks": func(r *flow.Record) { r.Msg.TimeFlowStartNs, r.Msg.TimeFlowEndNs = 5, 6 },
	} {
		r := new(flow.Record)
		set(r)
		if got, want := lineOf(e, r), string(upstream(r)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// TestSchemaV2Generated checks what follows goflow2's fields.
func TestSchemaV2Generated(t *testing.T) {
	upstream := upstreamJSON(t)
	r := full()
	want := strings.TrimSuffix(string(upstream(r)), "}")
	generated := `,"cluster":"c","dst_namespace":"b","dst_warn":"Several \"services\"","dst_workload":"a","dst_workload_kind":"Service",` +
		`"src_host_ip":"10.89.0.2","src_namespace":"local-path-storage","src_pod":"local-path-provisioner-78776bfc44-p2xkl","src_workload":"local-path-provisioner","src_workload_kind":"Deployment"}`
	if got := lineOf(newJSON(t, JSONConfig{Schema: "v2", Cluster: "c"}), r); got != want+generated {
		t.Errorf("got  %s\nwant %s", got, want+generated)
	}
	for fields, want := range map[string]string{
		"src_addr,DstPort,TimeReceived,ProtoName,PPod": `{"time_received_ns":1628419398123456789,"src_addr":"10.244.0.5","proto":"TCP","dst_port":443,"src_pod":"local-path-provisioner-78776bfc44-p2xkl"}`,
		"IcmpName,InIfName,bytes,PStatus":              `{"bytes":20800,"dst_status":"ambiguous","icmp_name":"unknown","in_if_name":"eth0","src_status":"live"}`,
		"proto,BiFlowDirection":                        `{"proto":"TCP","bi_flow_direction":1}`,
	} {
		if got := lineOf(newJSON(t, JSONConfig{Schema: "v2", Fields: fields}), r); got != want {
			t.Errorf("-fields %s:\n got %s\nwant %s", fields, got, want)
		}
	}
}

// FuzzSchemaV2 compares schema v2 of arbitrary messages with goflow2's
// rendering of them.
func FuzzSchemaV2(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 400))
	f.Add([]byte(referenceJSON))
	upstream := upstreamJSON(f)
	e := newJSON(f, JSONConfig{Schema: "v2"})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := arbitrary(data)
		if got, want := lineOf(e, r), string(upstream(r)); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	})
}

const referenceNetObserv = `{"AgentIP":"10.244.0.2","Bytes":20800,"Dscp":46,"DstAddr":"10.96.0.1","DstMac":"0a:58:0a:f4:00:01","DstPort":443,"Etype":2048,"Flags":18,` +
	`"FlowDirection":1,"IcmpCode":0,"IcmpType":0,"IfDirections":[0,1],"Interfaces":["eth0","\"` + "\ufffd" + `"],"K8S_ClusterName":"c","Packets":400,"Proto":6,"Sampling":400,` +
	`"SrcAddr":"10.244.0.5","SrcK8S_HostIP":"10.89.0.2","SrcK8S_HostName":"kind-worker","SrcK8S_Name":"local-path-provisioner-78776bfc44-p2xkl","SrcK8S_Namespace":"local-path-storage",` +
	`"SrcK8S_OwnerName":"local-path-provisioner","SrcK8S_OwnerType":"Deployment","SrcK8S_Type":"Pod","SrcK8S_Zone":"eu-1a","SrcMac":"0a:58:0a:f4:00:05","SrcPort":56144,` +
	`"TimeFlowEndMs":1628419398123,"TimeFlowStartMs":1628419398123,"TimeReceived":1628419398,"_RecordType":"flowLog"}`

func TestSchemaNetObserv(t *testing.T) {
	r := full()
	r.Ends[1] = flow.End{}
	r.Msg.IpTos, r.Msg.TcpFlags, r.Extra.FlowDirection = 46<<2|3, 18, 1
	got := lineOf(newJSON(t, JSONConfig{Schema: "netobserv", Cluster: "c"}), r)
	if got != referenceNetObserv {
		t.Errorf("got  %s\nwant %s", got, referenceNetObserv)
	}
	// Where the exporter sends no times they are goflow2's: Loki goes by them.
	r.Extra.HasStart, r.Extra.HasEnd = false, false
	if again := lineOf(newJSON(t, JSONConfig{Schema: "netobserv", Cluster: "c"}), r); again != got {
		t.Errorf("without times: %s", again)
	}

	service := flow.NewObject(flow.Object{Kind: "Service", Namespace: "default", Name: "kubernetes", Workload: "kubernetes", WorkloadKind: "Service"})
	node := flow.NewObject(flow.Object{Kind: "Node", Name: "n1", Workload: "n1", WorkloadKind: "Node", Node: "n1", Zone: "z"})
	r.Ends = [flow.MaxEnds]flow.End{{Object: node, Status: flow.StatusNode}, {Object: service, Status: flow.StatusService}}
	for _, tc := range []struct{ fields, want string }{
		{"PPod,PWorkloadKind,src_node,PZone", `{"DstK8S_Name":"kubernetes","DstK8S_OwnerType":"Service","SrcK8S_HostName":"n1","SrcK8S_Name":"n1","SrcK8S_OwnerType":"Node","SrcK8S_Zone":"z"}`},
		{"PK8S_Type,SrcK8S_Namespace,DstNamespace,PStatus", `{"DstK8S_Namespace":"default","DstK8S_Status":"service","DstK8S_Type":"Service","SrcK8S_Status":"node","SrcK8S_Type":"Node"}`},
		{"Flags,TCPFlags,IPTos,TimeFlowEnd,OutIfName,Bytes,-IfDirections", `{"Bytes":20800,"Dscp":46,"Flags":18,"TimeFlowEndMs":1628419398123}`},
		{"EtypeName,ProtoName,TimeFlowEndNs,in_if,_RecordType", `{"EtypeName":"IPv4","InIf":12,"ProtoName":"TCP","TimeFlowEndNs":0,"_RecordType":"flowLog"}`},
	} {
		if got := lineOf(newJSON(t, JSONConfig{Schema: "netobserv", Fields: tc.fields}), r); got != tc.want {
			t.Errorf("-fields %s:\n got %s\nwant %s", tc.fields, got, tc.want)
		}
	}
	for _, tc := range []struct {
		in, out []byte
		want    string
	}{
		{nil, nil, `{"IfDirections":[],"Interfaces":[]}`},
		{[]byte("a"), nil, `{"IfDirections":[0],"Interfaces":["a"]}`},
		{nil, []byte("b"), `{"IfDirections":[1],"Interfaces":["b"]}`},
		{[]byte("a"), bytes.Repeat([]byte("b"), 9000), `{"IfDirections":[0,1],"Interfaces":["a","` + strings.Repeat("b", 9000) + `"]}`},
	} {
		r := new(flow.Record)
		r.Extra.InIfName, r.Extra.OutIfName = tc.in, tc.out
		if got := lineOf(newJSON(t, JSONConfig{Schema: "netobserv", Fields: "Interfaces"}), r); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
	// Lines of either style get the names of the schema.
	e := newJSON(t, JSONConfig{Schema: "netobserv", Fields: "PPod,PK8S_Type,Cluster", Cluster: "c"})
	for text, want := range map[string]string{
		`{"SrcAddr":"1"}`:  `{"SrcAddr":"1","DstK8S_Name":"kubernetes","DstK8S_Type":"Service","K8S_ClusterName":"c","SrcK8S_Name":"n1","SrcK8S_Type":"Node"}`,
		`{"src_addr":"1"}`: `{"src_addr":"1","DstK8S_Name":"kubernetes","DstK8S_Type":"Service","K8S_ClusterName":"c","SrcK8S_Name":"n1","SrcK8S_Type":"Node"}`,
	} {
		r.Line = &flow.Line{Text: []byte(text), Close: len(text) - 1, Snake: strings.Contains(text, "_")}
		if got := lineOf(e, r); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// encoder is what the encoders of this package have in common.
type encoder interface {
	AppendRecord(dst []byte, r *flow.Record) []byte
}
