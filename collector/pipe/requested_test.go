package pipe

import (
	"math"
	"slices"
	"strings"
	"testing"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// TestRequestedFields checks what is read of lines for a handler that asks for it: names
// of both styles, and how goflow2 and this program render values.
func TestRequestedFields(t *testing.T) {
	var fields []flow.FieldID
	for i := range flow.Fields {
		switch flow.Fields[i].Kind {
		case flow.KindUints, flow.KindAddrs, flow.KindLayers:
		default:
			fields = append(fields, flow.Fields[i].ID)
		}
	}
	labels, err := flow.ParseLabels("app=App")
	if err != nil {
		t.Fatal(err)
	}
	attrs := []flow.AttrRef{{End: 0, Attr: flow.AttrNamespace}, {End: 1, Attr: flow.AttrName}, {End: 0, Attr: flow.AttrLabel}, {End: flow.EndCluster}}
	cfg := Config{Fields: fields, Attrs: attrs, Labels: labels}
	no := false
	type uints map[flow.FieldID]uint64
	for _, test := range []struct {
		line  string
		uints uints
		texts map[flow.FieldID]string // addresses and names, too
		attrs string
		once  *bool // CountsOnce, true if it is nil
	}{
		{line: `{"CountsOnce":false,"SrcPort":5}`, uints: uints{flow.FieldSrcPort: 5}, once: &no},
		{line: `{"counts_once":true}`}, {line: `{"CountsOnce":"x"}`},
		{
			line: `{"Type":"IPFIX","Bytes":18446744073709551615,"Packets":7,"Etype":2048,"EtypeName":"IPv4","Proto":6,"ProtoName":"TCP","SrcPort":443,"SrcMac":"0a:58:0A:f4:00:05","NextHop":"192.0.2.1","SrcNet":24,"InIfName":"a\u0062c","TunnelKey":9007199254740993,"FlowDirection":1}`,
			uints: uints{
				flow.FieldBytes: math.MaxUint64, flow.FieldPackets: 7, flow.FieldEtype: 2048, flow.FieldProto: 6, flow.FieldSrcPort: 443,
				flow.FieldSrcMac: 0x0a580af40005, flow.FieldSrcNet: 24, flow.FieldTunnelKey: 1<<53 + 1, flow.FieldFlowDirection: 1,
			},
			texts: map[flow.FieldID]string{flow.FieldInIfName: "abc", flow.FieldNextHop: "192.0.2.1", flow.FieldType: "IPFIX", flow.FieldProtoName: "TCP"},
		},
		{
			line:  `{"type":"SFLOW_5","bytes":7,"etype":"IPv6","proto":"IPv6-ICMP","src_mac":"0a:58:0a:f4:00:05","next_hop":"2001:db8::1","src_net":"10.0.0.0/24","dst_net":"invalid Prefix","icmp_type":128,"icmp_name":"x"}`,
			uints: uints{flow.FieldBytes: 7, flow.FieldEtype: 0x86dd, flow.FieldProto: 58, flow.FieldSrcMac: 0x0a580af40005, flow.FieldSrcNet: 24, flow.FieldIcmpType: 128},
			texts: map[flow.FieldID]string{flow.FieldType: "SFLOW_5", flow.FieldEtypeName: "IPv6", flow.FieldProtoName: "IPv6-ICMP", flow.FieldIcmpName: "Echo Request", flow.FieldNextHop: "2001:db8::1"},
		},
		// Nothing stays from the line before.
		{line: `{}`}, {line: `not json`},
		{line: `{"EtypeName":"ARP","ProtoName":"","Type":4}`, uints: uints{flow.FieldEtype: 0x806}, texts: map[flow.FieldID]string{flow.FieldType: "IPFIX"}},
		{line: `{"ProtoName":"IPv6-ICMP","Proto":58,"SrcPort":"80","Bytes":1e3,"Packets":20.0}`, uints: uints{flow.FieldProto: 58, flow.FieldSrcPort: 80, flow.FieldBytes: 1000, flow.FieldPackets: 20}},
		{line: `{"Bytes":-1,"Packets":1.5,"SrcPort":null,"DstPort":true,"InIf":[1],"OutIf":{"a":1},"SrcMac":"x","DstMac":7,"NextHop":"x","InIfName":5,"Type":"x","Etype":"x","Proto":"unknown"}`},
		// What there is no room for is the largest there is.
		{line: `{"Bytes":18446744073709551616,"SrcPort":4294967296,"FlowDirection":256}`, uints: uints{flow.FieldBytes: math.MaxUint64, flow.FieldSrcPort: math.MaxUint32, flow.FieldFlowDirection: 255}},
		{line: `{"SrcNamespace":"pr\u006fd","DstK8S_Name":"b","SrcApp":"shop","Cluster":"c"}`, attrs: "prod b shop c"},
		{line: `{"src_namespace":"prod","DstK8S_Name":"b","cluster":"c"}`, attrs: "prod b - c"},
		{line: `{"SrcK8S_Namespace":"prod","src_app":5,"K8S_ClusterName":""}`, attrs: "prod -  "},
	} {
		// The line before leaves nothing behind.
		in := `{"Bytes":1,"SrcMac":"0a:58:0a:f4:00:05","InIfName":"x\u0062","Type":"IPFIX","NextHop":"192.0.2.9","SrcNamespace":"x","FlowDirection":1}` + "\n" + test.line + "\n"
		got := runReader(t, cfg, strings.NewReader(in))
		if len(got.records) != 2 || got.output() != in {
			t.Fatalf("%s: %d records, %q", test.line, len(got.records), got.output())
		}
		r := got.records[1]
		for _, id := range fields {
			f := &flow.Fields[id]
			if strings.HasPrefix(f.Name, "Time") {
				continue
			}
			switch f.Kind {
			case flow.KindBool:
				if want := test.once == nil || *test.once; r.Bool(id) != want {
					t.Errorf("%s: %s is %v", test.line, f.Name, r.Bool(id))
				}
			case flow.KindUint, flow.KindMAC:
				if r.Uint(id) != test.uints[id] {
					t.Errorf("%s: %s is %d, want %d", test.line, f.Name, r.Uint(id), test.uints[id])
				}
			case flow.KindAddr:
				want := test.texts[id]
				if a, ok := r.Addr(id); ok != (want != "") || ok && a.String() != want {
					t.Errorf("%s: %s is %v, want %q", test.line, f.Name, a, want)
				}
			case flow.KindText:
				if s := string(r.Bytes(id)); s != test.texts[id] {
					t.Errorf("%s: %s is %q, want %q", test.line, f.Name, s, test.texts[id])
				}
			case flow.KindString:
				if want, ok := test.texts[id]; ok && r.Name(id) != want {
					t.Errorf("%s: %s is %q, want %q", test.line, f.Name, r.Name(id), want)
				}
			}
		}
		if _, ok := test.texts[flow.FieldType]; !ok && r.Msg.Type != flowpb.FlowMessage_FLOWUNKNOWN {
			t.Errorf("%s: type is %v", test.line, r.Msg.Type)
		}
		var values []string
		for _, ref := range attrs {
			i := slices.IndexFunc(r.Line.Attrs, func(a flow.LineAttr) bool { return a.Ref == ref })
			if i < 0 {
				values = append(values, "-")
			} else {
				values = append(values, string(r.Line.Attrs[i].Text))
			}
		}
		if s := strings.Join(values, " "); test.attrs != "" && s != test.attrs || test.attrs == "" && len(r.Line.Attrs) > 0 {
			t.Errorf("%s: generated fields are %q, want %q", test.line, s, test.attrs)
		}
	}
}

// TestRequestedFieldsStyle checks that what is asked for has no say in how generated
// fields are named.
func TestRequestedFieldsStyle(t *testing.T) {
	cfg := Config{Fields: []flow.FieldID{flow.FieldNextHop, flow.FieldSrcAddr, flow.FieldBytes}}
	got := runReader(t, cfg, strings.NewReader(`{"NextHop":"192.0.2.1","Bytes":1,"src_addr":"192.0.2.2","SrcPort":1}`))
	if r := got.records[0]; !r.Line.Snake {
		t.Error("not in the style of the address that is mapped")
	}
}

func TestRequestedFieldsAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	cfg := Config{
		Fields: []flow.FieldID{flow.FieldBytes, flow.FieldProto, flow.FieldSrcMac, flow.FieldInIfName, flow.FieldNextHop, flow.FieldType},
		Attrs:  []flow.AttrRef{{End: 0, Attr: flow.AttrNamespace}},
	}
	r, _ := newReader(t, cfg, strings.NewReader(""), &collect{})
	r.h = nothing{}
	line := []byte(`{"Type":"IPFIX","Bytes":18446744073709551615,"Proto":"TCP","SrcMac":"0a:58:0a:f4:00:05","InIfName":"a\u0062c","NextHop":"192.0.2.1","SrcNamespace":"pr\u006fd"}`)
	if n := testing.AllocsPerRun(100, func() { r.handleLine(line) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type nothing struct{}

func (nothing) HandleFlow(*flow.Record) {}
func (nothing) Idle() bool              { return false }
