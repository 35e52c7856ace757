package filter

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/expr-lang/expr"
	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

func mapping(t testing.TB, s string) []flow.MapEntry {
	t.Helper()
	m, err := flow.ParseMapping(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func config(t testing.TB) Config {
	t.Helper()
	labels, err := flow.ParseLabels("app.kubernetes.io/name=App,tier=Tier")
	if err != nil {
		t.Fatal(err)
	}
	return Config{Mapping: mapping(t, "SrcAddr=Src,DstAddr=Dst,BgpNextHop=BgpNext"), Labels: labels, Cluster: "east"}
}

func addr(s string) []byte { return netip.MustParseAddr(s).AsSlice() }

// record is a flow from a pod to a service.
func record() *flow.Record {
	r := new(flow.Record)
	m := &r.Msg
	m.Type = flowpb.FlowMessage_IPFIX
	m.Bytes, m.Packets, m.SamplingRate = 20800, 400, math.MaxUint64
	m.SrcAddr, m.DstAddr, m.SamplerAddress = addr("10.244.0.5"), addr("::ffff:10.96.0.1"), addr("2001:db8::1")
	m.Etype, m.Proto, m.SrcPort, m.DstPort, m.TcpFlags = flow.EtypeIPv4, 6, 56144, 443, 0x12
	m.SrcMac = 0x0a580af40005
	m.AsPath = []uint32{65000, 65001}
	m.MplsIp = [][]byte{addr("192.0.2.7")}
	m.LayerStack = []flowpb.FlowMessage_LayerStack{flowpb.FlowMessage_Ethernet, flowpb.FlowMessage_IPv4}
	m.TimeReceivedNs, m.TimeFlowStartNs, m.TimeFlowEndNs = 1700000060_000000000, 1700000000_000000001, 1700000055_500000000
	r.Extra = flow.Extra{HasStart: true, HasEnd: true, OwnFields: flow.OwnFields{FlowDirection: 1, InIfName: []byte("veth0")}}
	r.Ends[0] = flow.End{Status: flow.StatusLive, Object: flow.NewObject(flow.Object{
		Kind: "Pod", Namespace: "prod", Name: "web-1", HostIP: "10.89.0.2", Workload: "web", WorkloadKind: "Deployment",
		Node: "node-1", Zone: "a", UID: "u1", Warn: "Several pods found", Labels: flow.JoinLabels([]string{"shop", "front"}),
	})}
	r.Ends[1] = flow.End{Status: flow.StatusService, Object: flow.NewObject(flow.Object{
		Kind: "Service", Namespace: "default", Name: "kubernetes", Workload: "kubernetes", WorkloadKind: "Service",
	})}
	return r
}

// sink counts.
type sink struct{ handled, skipped, idle int }

func (s *sink) HandleFlow(*flow.Record) { s.handled++ }
func (s *sink) Skip()                   { s.skipped++ }
func (s *sink) Idle() bool              { s.idle++; return true }

func compile(t testing.TB, expression string, cfg Config) *Filter {
	t.Helper()
	f, err := Compile(expression, cfg)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return f
}

func TestFilter(t *testing.T) {
	for _, test := range []struct {
		expression string
		want       bool
	}{
		{`SrcNamespace == "prod" && Bytes > 1000`, true},
		{`SrcNamespace == "prod" && Bytes > 100000`, false},
		{`src_namespace == "prod" and bytes > 1000`, true},
		{`SrcK8S_Namespace == "prod" and SrcK8S_Name == "web-1" and DstK8S_Type == "Service"`, true},
		{`not (SrcNamespace == "prod") or !(Bytes > 1000)`, false},
		{`true`, true}, {`!true`, false}, {`(Bytes > 1) == (Packets > 1)`, true}, {`(Bytes > 1) != true`, false},
		{`Bytes > 1 ? Packets == 400 : false`, true}, {`Bytes < 1 ? true : Packets < 400`, false},

		// Generated fields.
		{`SrcPod == "web-1" && SrcWorkload == "web" && SrcWorkloadKind == "Deployment" && SrcHostIP == "10.89.0.2"`, true},
		{`SrcNode == "node-1" && SrcZone == "a" && SrcPodUID == "u1" && SrcStatus == "live" && SrcWarn contains "Several"`, true},
		{`src_workload_kind == "Deployment" && src_host_ip == "10.89.0.2" && src_pod_uid == "u1"`, true},
		{`SrcApp == "shop" && SrcTier == "front" && src_app == "shop" && DstApp == ""`, true},
		{`DstPod == "" && DstWorkload == "kubernetes" && DstStatus == "service"`, true},
		{`BgpNextPod == "" && bgp_next_namespace == "" && BgpNextStatus == "none"`, true},
		{`Cluster == "east" && cluster != "west"`, true},

		// Numbers.
		{`Bytes > -1`, true}, {`Bytes < -1`, false}, {`Bytes == -20800`, false}, {`Bytes != -1`, true}, {`-1 < Bytes`, true},
		{`SamplingRate > 9223372036854775807`, true}, {`SamplingRate > -5`, true}, {`SamplingRate >= 1.8e19`, true},
		{`SamplingRate + 1 == SamplingRate`, true}, // stays at the largest
		{`Packets - Bytes == -20400`, true}, {`Packets - Bytes < 0`, true}, {`-Packets < 0`, true}, {`+Packets == 400`, true},
		{`Bytes / Packets == 52`, true}, {`Packets / Bytes < 0.02`, true}, {`Bytes / Packets > 51.9`, true},
		{`Bytes / IPTTL > 1e300`, true}, {`IPTTL / IPTTL == 0`, false}, {`IPTTL / IPTTL != 0`, true}, // by 0: infinity, no number
		{`Bytes % 1000 == 800`, true}, {`(Packets - Bytes) % 1000 == -400`, true}, {`Bytes % -1000 == 800`, true},
		{`Bytes > 20 * 1024`, true}, {`Bytes == 2 * (10000 + 400)`, true}, {`Bytes > 2.5 * 1e3`, true},
		{`1000 < Bytes < 30000`, true}, {`1000 < Bytes < 3000`, false}, {`Bytes >= 20800 && Bytes <= 20800`, true},
		{`Bytes > 20799.5 && Bytes < 20800.5 && Bytes != 20800.5 && Bytes == 20800.0`, true},
		{`0x12 == TCPFlags && bitand(TCPFlags, 2) != 0 && bitand(TCPFlags, 4) == 0`, true},
		{`TimeFlowEndNs - TimeFlowStartNs == 55499999999`, true}, {`TimeFlowEnd - TimeFlowStart > 54`, true},
		{`FlowDirection == 1`, true}, {`TimeReceived == 1700000060`, true},
		{`SrcPort in [443, 56144]`, true}, {`SrcPort in [443, -1]`, false}, {`SrcPort not in [443]`, true}, {`SrcPort in []`, false},
		{`DstPort in 1..1023 && SrcPort not in 1..1023`, true}, {`DstPort in 443..443`, true}, {`Packets - Bytes in -20400..0`, true},
		{`DstPort in [1, 2, 3, 4, 5, 6, 7, 8, 9, 443]`, true}, {`DstPort in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]`, false},
		{`443 in [SrcPort, DstPort]`, true}, {`444 in [SrcPort, DstPort]`, false}, {`Packets - Bytes in [-20400, 7]`, true},
		{`Bytes / Packets in [51.0, 52.0]`, true}, {`Bytes / Packets in 52..53`, true}, {`3 in [1, 2, 3]`, true},

		// Text.
		{`Type == "IPFIX" && EtypeName == "IPv4" && ProtoName == "TCP" && IcmpName == ""`, true},
		{`SrcPod startsWith "web-" && SrcPod endsWith "-1" && SrcPod contains "b-" && SrcPod matches "^web-[0-9]+$"`, true},
		{`SrcPod not startsWith "web-" || SrcPod not contains "b" || SrcPod not matches "w"`, false},
		{`SrcPod startsWith SrcWorkload`, true}, {`SrcNamespace != DstNamespace`, true}, {`"prod" == SrcNamespace`, true},
		{`SrcNamespace in ["default", "prod"]`, true}, {`SrcNamespace not in ["default", "prod"]`, false},
		{`SrcNamespace in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "prod"]`, true}, {`"prod" in [SrcNamespace, DstNamespace]`, true},
		{`SrcNamespace > "prob" && SrcNamespace < "proe" && SrcNamespace <= "prod" && SrcNamespace >= "prod"`, true},
		{`InIfName == "veth0" && OutIfName == ""`, true}, {`in_if_name startsWith "veth"`, true},

		// Addresses.
		{`SrcAddr == "10.244.0.5" && DstAddr == "10.96.0.1" && DstAddr == "::ffff:10.96.0.1"`, true},
		{`SamplerAddress == "2001:DB8:0:0::1" && sampler_address != "2001:db8::2"`, true},
		{`NextHop == "" && SrcAddr != "" && SrcAddr != DstAddr`, true},
		{`SrcAddr in ["10.244.0.6", "10.244.0.5"]`, true}, {`SrcAddr not in ["10.244.0.6"]`, true}, {`"10.96.0.1" in [SrcAddr, DstAddr]`, true},
		{`cidr(SrcAddr, "10.244.0.0/16") && !cidr(DstAddr, "10.244.0.0/16")`, true},
		{`cidr(DstAddr, "fd00::/8", "10.96.0.0/12") && cidr(DstAddr, ["fd00::/8", "::ffff:10.96.0.0/108"])`, true},
		{`cidr(NextHop, "0.0.0.0/0", "::/0")`, false}, {`SamplerAddress | cidr("2001:db8::/32")`, true},
		{`SrcAddr startsWith "10.244." && SrcAddr matches "[.]5$" && SamplerAddress contains "db8::"`, true},
		{`SrcAddr != SrcHostIP && SrcHostIP != SrcAddr`, true}, {`NextHop == OutIfName`, true},
		{`SrcMac == "0A:58:0a:f4:00:05" && SrcMac startsWith "0a:58:" && DstMac == "" && SrcMac != DstMac`, true},
		{`SrcMac in ["0a:58:0a:f4:00:05", ""]`, true}, {`SrcMac endsWith SrcPod`, false},

		// What is written.
		{"Bytes == 20_800 && Bytes == 0x5140 && TCPFlags == 0b10010 && Bytes == 208e2", true},
		{"SrcPod == 'web-1' && SrcPod == `web-1` && SrcPod matches `\\d` && SrcPod matches \"\\\\d\" && SrcPod == \"web\\x2d1\"", true},
		{"Bytes > 1 /* bytes */ &&\n  Packets > 1 // packets", true},
		{`"b" in ["a", 'b',]`, true},

		// Lists.
		{`65001 in AsPath && 65002 not in AsPath && SrcPort not in AsPath`, true},
		{`"192.0.2.7" in MplsIp && SrcAddr not in MplsIp`, true},
		{`"IPv4" in LayerStack && "TCP" not in LayerStack`, true},
	} {
		f := compile(t, test.expression, config(t))
		s := new(sink)
		f.NewStage(s).HandleFlow(record())
		if got := s.handled == 1; got != test.want || s.handled+s.skipped != 1 {
			t.Errorf("%s: %v, want %v", test.expression, got, test.want)
		}
	}
}

// TestNames checks that each field of the tables has its names.
func TestNames(t *testing.T) {
	cfg := config(t)
	for i := range flow.Fields {
		field := &flow.Fields[i]
		for _, name := range []string{field.Name, field.Snake} {
			if name == "" {
				continue
			}
			expression := name + ` == ""`
			switch field.Kind {
			case flow.KindUint:
				expression = name + " == 0"
			case flow.KindBool:
				expression = "not " + name
			case flow.KindUints:
				expression = "1 in " + name
			case flow.KindAddrs:
				expression = `"::1" in ` + name
			case flow.KindLayers:
				expression = `"TCP" in ` + name
			}
			if f := compile(t, expression, cfg); !slices.Contains(f.Fields(), field.ID) {
				t.Errorf("%s: reads %v", expression, f.Fields())
			}
		}
	}
	for i, e := range cfg.Mapping {
		for _, a := range flow.Attrs {
			for _, name := range []string{e.Prefix + a.Name, e.Snake + "_" + a.Snake} {
				f := compile(t, name+` == ""`, cfg)
				if want := []flow.AttrRef{{End: i, Attr: a.Attr}}; !slices.Equal(f.Attrs(), want) || len(f.Fields()) != 0 {
					t.Errorf("%s: reads %v", name, f.Attrs())
				}
			}
		}
	}
	if names := cfg.Names(); !slices.IsSorted(names) || !slices.Contains(names, "src_app") || !slices.Contains(names, "Bytes") {
		t.Errorf("names are %v", names)
	}
}

func TestMistakes(t *testing.T) {
	for _, test := range []struct {
		expression string
		line, col  int
		text       string // part of it
	}{
		{`Bytes > 1 && SrcNamspace == "x"`, 1, 14, "there is no field SrcNamspace"},
		{"Bytes > 1 &&\n  Foo == 1", 2, 3, "there is no field Foo"},
		{`"äöü" == SrcPod && Foo`, 1, 20, "there is no field Foo"},
		{`Bytes`, 1, 1, "Bytes is a number, and no condition"},
		{`SrcPod`, 1, 1, "SrcPod is text, and no condition"},
		{`cidr`, 1, 1, "there is no field cidr"},
		{`Bytes > "a"`, 1, 7, `Bytes is a number and "a" is text`},
		{`Bytes == "a"`, 1, 7, "they cannot be compared"},
		{`proto == "TCP"`, 1, 7, "ProtoName is text"},
		{`Etype == "IPv4"`, 1, 7, "EtypeName is text"},
		{`IcmpType == "Echo"`, 1, 10, "IcmpName is text"},
		{`SrcPod == 1`, 1, 8, "cannot be compared"},
		{`SrcAddr == 1`, 1, 9, "cannot be compared"},
		{`SrcAddr == "10.0.0"`, 1, 9, "is no IP address"},
		{`SrcAddr == "fe80::1%eth0"`, 1, 9, "is no IP address"},
		{`SrcAddr == "10.0.0.0/8"`, 1, 9, `write cidr(SrcAddr, "10.0.0.0/8")`},
		{`SrcAddr in ["10.0.0.1", "x"]`, 1, 25, "is no IP address"},
		{`SrcMac == "0a:58"`, 1, 8, "is no MAC address"},
		{`SrcMac == SrcPort`, 1, 8, "cannot be compared"},
		{`SrcAddr < "10.0.0.1"`, 1, 9, "numbers or text"},
		{`SrcAddr < DstAddr`, 1, 9, "numbers or text"},
		{`Bytes < true`, 1, 7, "cannot be compared"},
		{`Bytes && true`, 1, 7, "needs conditions on both sides"},
		{`!Bytes`, 1, 1, "needs a condition"},
		{`-SrcPod == "x"`, 1, 1, "needs a number"},
		{`Bytes + SrcPod > 1`, 1, 7, "needs numbers on both sides"},
		{`Bytes % 0 == 1`, 1, 7, "other than 0"},
		{`Bytes % Packets == 1`, 1, 7, "other than 0"},
		{`Bytes % 1.5 == 1`, 1, 7, "whole numbers"},
		{`Bytes > 1 / 0`, 1, 11, "is no number"},
		{`Bytes > 99999999999999999999`, 1, 28, "value out of range"},
		{`Bytes contains "x"`, 1, 7, "needs text on its left"},
		{`SrcPod contains 1`, 1, 8, "needs text on its right"},
		{`SrcPod contains SrcAddr`, 1, 8, "needs text on its right"},
		{`SrcPod matches "("`, 1, 16, "missing closing )"},
		{`SrcPod matches DstPod`, 1, 16, "regular expression in quotes"},
		{`SrcPort in 10..1`, 1, 14, "smaller number first"},
		{`SrcPort in 1..Bytes`, 1, 15, "whole numbers"},
		{`SrcPod in 1..2`, 1, 12, "a range is of numbers"},
		{`1..2 == 1`, 1, 2, "on the right of in"},
		{`[1] == 1`, 1, 1, "on the right of in"},
		{`SrcPort in ["a"]`, 1, 13, "cannot be compared"},
		{`SrcPort in [[1]]`, 1, 13, "on the right of in"},
		{`SrcPort in 5`, 1, 12, "needs a list or a range"},
		{`SrcPort in DstPort`, 1, 12, "DstPort is a number"},
		{`SrcPort in 1 + 2`, 1, 14, "needs a list or a range"},
		{`SrcPod in AsPath`, 1, 8, "whole and not negative"},
		{`-1 in AsPath`, 1, 4, "whole and not negative"},
		{`SrcPod in MplsIp`, 1, 8, "has addresses"},
		{`"x" in MplsIp`, 1, 5, "is no IP address"},
		{`SrcPod in LayerStack`, 1, 8, "names of layers"},
		{`"X" in LayerStack`, 1, 5, "no name of a layer"},
		{`AsPath == 1`, 1, 8, "cannot be compared"},
		{`cidr(SrcAddr)`, 1, 1, "needs an address and networks"},
		{`cidr(SrcPod, "10.0.0.0/8")`, 1, 6, "needs an address first"},
		{`cidr(SrcAddr, "10.0.0.1/8")`, 1, 15, "that would be 10.0.0.0/8"},
		{`cidr(SrcAddr, "10.0.0.1")`, 1, 15, "is no network"},
		{`cidr(SrcAddr, SrcPod)`, 1, 15, "in quotes"},
		{`bitand(Bytes) > 1`, 1, 1, "needs two numbers"},
		{`bitand(Bytes, -1) > 1`, 1, 15, "whole and not negative"},
		{`foo(1)`, 1, 1, "no function foo"},
		{`len(SrcPod) > 1`, 1, 1, "no function len"},
		{`any([1], # > 1)`, 1, 1, "no function any"},
		{`now() > 1`, 1, 1, "no function now"},
		{`Bytes ** 2 > 1`, 1, 7, "operator **"},
		{`Bytes ?? 2`, 1, 7, "operator ??"},
		{`SrcPod.x`, 1, 8, "not part of the language"},
		{`SrcPod[0:1] == "x"`, 1, 7, "not part of the language"},
		{`nil == SrcPod`, 1, 1, "not part of the language"},
		{`{"a": 1}`, 1, 1, "not part of the language"},
		{`let x = 1; true`, 1, 5, "not part of the language"},
		{`true; false`, 1, 1, "not part of the language"},
		{`Bytes ? true : false`, 1, 1, "three conditions"},
		{`true ? 1 : 2`, 1, 8, "three conditions"},
		{`Bytes >`, 1, 7, "something is missing at the end"},
		{`Bytes > 1)`, 1, 10, `")" is not expected here`},
		{`SrcPod == "x`, 1, 13, "a quotation mark is missing"},
		{`(Bytes > 1`, 1, 10, "a closing bracket is missing"},
		{`SrcPort = 443`, 1, 9, "there is no operator =; use =="},
		{`SrcPort === 443`, 1, 11, "there is no operator ===; use =="},
		{`SrcPod <> "x"`, 1, 9, "there is no operator <>; use !="},
		{`SrcPod =~ "x"`, 1, 8, "there is no operator =~; use matches"},
		{`SrcPort eq 443`, 1, 9, "there is no operator eq; use =="},
		{`SrcPort == 443 AND DstPort == 1`, 1, 16, "there is no operator AND; use &&"},
		{`SrcPort == 443 & DstPort == 1`, 1, 16, "there is no operator &; use &&"},
		{`SrcPod like "a%"`, 1, 8, "use matches, contains, startsWith or endsWith"},
		{`SrcAddr == 10.0.0.1`, 1, 12, `addresses go in quotes: "10.0.0.1"`},
		{`SrcAddr == fd00::1`, 1, 12, `addresses go in quotes: "fd00::1"`},
		{`SrcAddr == 10.0.0.0/8`, 1, 12, `write cidr(SrcAddr, "10.0.0.0/8")`},
		{`SrcMac == 0a:58:0a:f4:00:05`, 1, 11, `addresses go in quotes: "0a:58:0a:f4:00:05"`},
		{"Bytes > 1 &&\nSrcAddr == 10.0.0.1", 2, 12, `addresses go in quotes: "10.0.0.1"`},
		{`Bytes > 1k`, 1, 10, "1k is no number"},
		{`port 443`, 1, 6, `"443" is not expected here; an example is`},
		{`not SrcPort == 1`, 1, 1, "write not (...) around a comparison"},
		{``, 1, 1, "is empty"},
		{" \n", 1, 1, "is empty"},
		{"\xff", 1, 1, "UTF-8"},
		{strings.Repeat("!", MaxLength) + "true", 1, 1, "at most 32768"},
		{strings.Repeat("!", maxNodes+1) + "true", 1, 10005, "maximum allowed nodes"},
	} {
		f, err := Compile(test.expression, config(t))
		var mistake *Error
		if !errors.As(err, &mistake) || f != nil {
			t.Errorf("%.80s: no mistake", test.expression)
			continue
		}
		if mistake.Line != test.line || mistake.Column != test.col || !strings.Contains(mistake.Text, test.text) {
			t.Errorf("%.80s: %d:%d: %s, want %d:%d: %s", test.expression, mistake.Line, mistake.Column, mistake.Text, test.line, test.col, test.text)
		}
		at := fmt.Sprintf("column %d: ", test.col)
		if strings.Contains(test.expression, "\n") {
			at = fmt.Sprintf("line %d, column %d: ", test.line, test.col)
		}
		if !strings.HasPrefix(err.Error(), at) {
			t.Errorf("%.80s: %v", test.expression, err)
		}
		if strings.Contains(mistake.Text, "no field") != (mistake.Unknown != "") {
			t.Errorf("%.80s: unknown is %q", test.expression, mistake.Unknown)
		}
	}
}

// TestDeep checks that what is nested as deep as it can be is read, or refused
// in words.
func TestDeep(t *testing.T) {
	n := MaxLength/2 - 10
	compile(t, strings.Repeat("(", n)+"true"+strings.Repeat(")", n), Config{})
	long := "true" + strings.Repeat("&&true", 4000)
	s := new(sink)
	compile(t, long, Config{}).NewStage(s).HandleFlow(record())
	if s.handled != 1 {
		t.Error("not true")
	}
	for _, open := range []string{"[", "{", "if true {", "true?", "cidr(", "-(", "1<("} {
		if _, err := Compile(strings.Repeat(open, MaxLength/len(open)), Config{}); err == nil {
			t.Errorf("%s is closed by itself", open)
		}
	}
}

// TestPiped checks that what records came with counts more than what is known
// of their ends.
func TestPiped(t *testing.T) {
	cfg := config(t)
	cfg.Piped = true
	src, cluster := flow.AttrRef{End: 0, Attr: flow.AttrNamespace}, flow.AttrRef{End: flow.EndCluster}
	line := record()
	line.Line = &flow.Line{Close: 1, Attrs: []flow.LineAttr{{Ref: src, Text: []byte("line")}, {Ref: cluster, Text: []byte("west")}}}
	message := record()
	var b []byte
	for number, text := range map[protowire.Number]string{
		flow.NumberGenerated + protowire.Number(flow.AttrNamespace): "message", flow.NumberCluster: "north", 2105: "eth7",
	} {
		b = protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), text)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, 2108, protowire.VarintType), 77)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2109, protowire.BytesType), addr("192.0.2.1"))
	message.Msg.ProtoReflect().SetUnknown(b)
	other := record()
	other.Line = &flow.Line{Close: -1}
	for _, test := range []struct {
		r          *flow.Record
		expression string
	}{
		{line, `SrcNamespace == "line" && Cluster == "west" && SrcPod == "web-1" && DstNamespace == "default"`},
		{message, `SrcNamespace == "message" && Cluster == "north" && SrcPod == "web-1" && DstNamespace == "default"`},
		{message, `InIfName == "eth7" && TunnelKey == 77 && TunnelSrcAddr == "192.0.2.1" && OutIfName == "" && TunnelType == 0 && TunnelDstAddr == ""`},
		{record(), `SrcNamespace == "prod" && Cluster == "east" && InIfName == "veth0"`},
		{other, `false`}, // is no object
	} {
		s := new(sink)
		stage := compile(t, test.expression, cfg).NewStage(s)
		stage.HandleFlow(test.r)
		if s.handled != 1 || s.skipped != 0 {
			t.Errorf("%s: is not true", test.expression)
		}
		if !stage.Idle() || s.idle != 1 {
			t.Error("Idle is not passed on")
		}
	}
}

var allocExpressions = []string{
	`SrcNamespace == "prod" && Bytes > 1000`,
	`SrcPod matches "^web-[0-9]+$" && SrcAddr matches "^10[.]244[.]" && SrcMac startsWith "0a:"`,
	`cidr(SrcAddr, "10.0.0.0/8") && SrcAddr in ["10.244.0.5"] && SrcApp == "shop" && SrcStatus == "live" && SrcAddr contains "244"`,
	`Bytes / Packets > 1.5 && Bytes * 2 - Packets > 7 && Bytes % 3 < 3 && 443 in [SrcPort, DstPort] && 65000 in AsPath`,
	`SrcNamespace in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "prod"] && ProtoName == "TCP" && "192.0.2.7" in MplsIp`,
}

func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for _, piped := range []bool{false, true} {
		cfg := config(t)
		cfg.Piped = piped
		for _, expression := range allocExpressions {
			s := new(sink)
			stage := compile(t, expression, cfg).NewStage(s)
			r := record()
			if n := testing.AllocsPerRun(100, func() { stage.HandleFlow(r) }); n != 0 {
				t.Errorf("%s: %v allocations", expression, n)
			}
			if s.skipped > 0 {
				t.Errorf("%s: is not true", expression)
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	const most = math.MaxUint64
	values := []integer{{0, false}, {1, false}, {1, true}, {5, true}, {7, false}, {1 << 53, false}, {1<<53 + 1, false}, {most - 1, false}, {most, false}, {most, true}}
	clamp := func(f func(a, b integer) integer, a, b integer, exact func(x, y int64) int64) {
		if a.mag < 1<<30 && b.mag < 1<<30 {
			x, y := int64(a.float()), int64(b.float())
			if got := f(a, b); int64(got.float()) != exact(x, y) || got.mag == 0 && got.neg {
				t.Errorf("%v and %v: %v, want %d", a, b, got, exact(x, y))
			}
		}
	}
	for _, a := range values {
		for _, b := range values {
			clamp(integer.add, a, b, func(x, y int64) int64 { return x + y })
			clamp(integer.sub, a, b, func(x, y int64) int64 { return x - y })
			clamp(integer.mul, a, b, func(x, y int64) int64 { return x * y })
			if b.mag != 0 {
				clamp(integer.mod, a, b, func(x, y int64) int64 { return x % y })
			}
			if a.compare(b) != -b.compare(a) || (a.compare(b) == 0) != (a == b) {
				t.Errorf("compare %v and %v: %d", a, b, a.compare(b))
			}
		}
	}
	for _, test := range []struct {
		a    integer
		f    float64
		want int
	}{
		{integer{1<<53 + 1, false}, 1 << 53, 1}, {integer{most, false}, 1 << 64, -1}, {integer{most, true}, -(1 << 64), 1},
		{integer{most, false}, math.Inf(1), -1}, {integer{most, true}, math.Inf(-1), 1}, {integer{2, false}, 2.5, -1}, {integer{2, true}, -2.5, 1},
		{integer{3, false}, 2.5, 1}, {integer{0, false}, -0.5, 1}, {integer{0, false}, math.Copysign(0, -1), 0},
	} {
		if got, ok := test.a.compareFloat(test.f); got != test.want || !ok {
			t.Errorf("compare %v and %v: %d, want %d", test.a, test.f, got, test.want)
		}
	}
	if _, ok := (integer{}).compareFloat(math.NaN()); ok {
		t.Error("NaN compares")
	}
	if got := (integer{most, false}).mul(integer{most, true}); got != (integer{most, true}) {
		t.Errorf("product is %v", got)
	}
}

// vmEnv is what expr's own virtual machine works with, in TestExpr.
func vmEnv(r *flow.Record) map[string]any {
	attr := func(end int, a flow.Attr) string {
		if o := r.Ends[end].Object; o != nil {
			return o.Attr(a)
		}
		return ""
	}
	return map[string]any{
		"Bytes": int(r.Msg.Bytes), "Packets": int(r.Msg.Packets), "SrcPort": int(r.Msg.SrcPort), "IPTTL": int(r.Msg.IpTtl),
		"SrcNamespace": attr(0, flow.AttrNamespace), "DstNamespace": attr(1, flow.AttrNamespace), "SrcPod": attr(0, flow.AttrPod),
		"ProtoName": r.Name(flow.FieldProtoName),
	}
}

// generator makes expressions that mean the same to expr.
type generator struct{ *rand.Rand }

func (g generator) pick(s ...string) string { return s[g.IntN(len(s))] }

func (g generator) condition(depth int) string {
	if depth > 0 {
		switch g.IntN(8) {
		case 0, 1:
			return "(" + g.condition(depth-1) + g.pick(" && ", " and ", " || ", " or ") + g.condition(depth-1) + ")"
		case 2:
			return g.pick("!", "not ") + "(" + g.condition(depth-1) + ")"
		case 3:
			return "(" + g.condition(depth-1) + " ? " + g.condition(depth-1) + " : " + g.condition(depth-1) + ")"
		}
	}
	switch g.IntN(7) {
	case 0, 1:
		return g.number(2) + g.pick(" < ", " <= ", " > ", " >= ", " == ", " != ") + g.number(2)
	case 2:
		return g.text() + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + g.text()
	case 3:
		return g.text() + g.pick(" contains ", " startsWith ", " endsWith ", " not contains ", " not startsWith ") + g.text()
	case 4:
		return g.text() + g.pick(" matches ", " not matches ") + g.pick(`"^p"`, `"o.$"`, `"^[a-z]*$"`, `"web-[0-9]+"`)
	case 5:
		list := make([]string, g.IntN(12))
		for i := range list {
			list[i] = g.literal()
		}
		return g.pick("Bytes", "SrcPort", "IPTTL") + g.pick(" in ", " not in ") + "[" + strings.Join(list, ", ") + "]"
	default:
		from := g.IntN(20)
		return g.pick("Bytes", "SrcPort", "IPTTL") + g.pick(" in ", " not in ") + fmt.Sprintf("%d..%d", from, from+g.IntN(40))
	}
}

func (g generator) number(depth int) string {
	if depth > 0 && g.IntN(2) == 0 {
		switch g.IntN(4) {
		case 0:
			return "(" + g.pick("Bytes", "SrcPort", "(Packets - Bytes)") + " % " + fmt.Sprint(1+g.IntN(9)) + ")"
		case 1:
			return "-" + g.pick("Bytes", "SrcPort")
		default:
			return "(" + g.number(depth-1) + g.pick(" + ", " - ", " * ", " / ") + g.number(depth-1) + ")"
		}
	}
	if g.IntN(2) == 0 {
		return g.literal()
	}
	return g.pick("Bytes", "Packets", "SrcPort", "IPTTL")
}

func (g generator) literal() string { return fmt.Sprint(g.IntN(40) - 5) }

func (g generator) text() string {
	return g.pick("SrcNamespace", "DstNamespace", "SrcPod", "ProtoName", `"prod"`, `"p"`, `"o"`, `"TCP"`, `""`, `"web-1"`)
}

// TestExpr compares filters with expr's own virtual machine.
func TestExpr(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	var compared, trues int
	for range 5000 {
		expression := g.condition(3)
		r := record()
		r.Msg.Bytes, r.Msg.Packets, r.Msg.SrcPort = g.Uint64N(40), g.Uint64N(40), g.Uint32N(40)
		if g.IntN(3) == 0 {
			r.Ends[0] = flow.End{}
		}
		f, err := Compile(expression, config(t))
		if err != nil {
			// Constants that are divided by 0 are refused, and nothing else.
			if !strings.Contains(err.Error(), "is no number") {
				t.Fatalf("%s: %v", expression, err)
			}
			continue
		}
		env := vmEnv(r)
		program, err := expr.Compile(expression, expr.Env(env), expr.AsBool())
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		want, err := expr.Run(program, env)
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		s := new(sink)
		f.NewStage(s).HandleFlow(r)
		if got := s.handled == 1; got != want.(bool) {
			t.Errorf("%s: %v, expr says %v (%v)", expression, got, want, env)
		}
		compared++
		trues += s.handled
	}
	if compared < 4500 || trues < 1000 || trues > compared-1000 {
		t.Errorf("%d compared, %d true", compared, trues)
	}
}

func FuzzCompile(f *testing.F) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	for range 50 {
		f.Add(g.condition(3))
	}
	for _, s := range allocExpressions {
		f.Add(s)
	}
	cfg := config(f)
	cfg.Piped = true
	f.Fuzz(func(t *testing.T, expression string) {
		filter, err := Compile(expression, cfg)
		var mistake *Error
		switch {
		case err == nil:
			s := new(sink)
			filter.NewStage(s).HandleFlow(record())
			if s.handled+s.skipped != 1 {
				t.Errorf("%d handled, %d skipped", s.handled, s.skipped)
			}
		case !errors.As(err, &mistake) || mistake.Line < 1 || mistake.Column < 1 || mistake.Text == "":
			t.Errorf("%#v", err)
		}
	})
}

// BenchmarkFilter has closures and, for comparison, expr's virtual machine on
// an environment that is filled already.
func BenchmarkFilter(b *testing.B) {
	for _, expression := range allocExpressions {
		b.Run(expression[:20], func(b *testing.B) {
			stage := compile(b, expression, config(b)).NewStage(new(sink))
			r := record()
			b.ReportAllocs()
			for b.Loop() {
				stage.HandleFlow(r)
			}
		})
	}
}

func BenchmarkExpr(b *testing.B) {
	env := &struct {
		SrcNamespace string
		Bytes        uint64
	}{"prod", 20800}
	program, err := expr.Compile(allocExpressions[0], expr.Env(env), expr.AsBool())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := expr.Run(program, env); err != nil || v != true {
			b.Fatal(v, err)
		}
	}
}

// TestExamples compiles the examples of the documentation.
func TestExamples(t *testing.T) {
	b, err := os.ReadFile("../../docs/filter.md")
	if err != nil {
		t.Fatal(err)
	}
	_, examples, _ := strings.Cut(string(b), "```expr\n")
	examples, _, _ = strings.Cut(examples, "```\n")
	n := 0
	for expression := range strings.Lines(examples) {
		compile(t, strings.TrimSpace(expression), config(t))
		n++
	}
	if n < 10 {
		t.Errorf("%d examples", n)
	}
}
