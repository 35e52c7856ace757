package encode

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

var defaultMapping = []flow.MapEntry{
	{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"},
	{Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"},
}

// reference is the record of which the contract shows the JSON.
func reference() *flow.Record { return flowtest.Reference() }

const referenceJSON = `{"BiFlowDirection":0,"Bytes":20800,"DstAS":0,"DstAddr":"10.96.0.1","DstMac":"0a:58:0a:f4:00:01","DstNet":0,"DstPort":443,"DstVlan":0,"EgressVrfID":0,"Etype":2048,"EtypeName":"IPv4","ForwardingStatus":0,"FragmentId":0,"FragmentOffset":0,"IPTTL":0,"IPTos":0,"IPv6FlowLabel":0,"IcmpCode":0,"IcmpName":"","IcmpType":0,"InIf":12,"IngressVrfID":0,"NextHop":"","NextHopAS":0,"OutIf":0,"Packets":400,"Proto":6,"ProtoName":"TCP","SamplerAddress":"10.244.0.2","SamplingRate":0,"SequenceNum":577,"SrcAS":0,"SrcAddr":"10.244.0.5","SrcHostIP":"10.89.0.2","SrcMac":"0a:58:0a:f4:00:05","SrcNamespace":"local-path-storage","SrcNet":0,"SrcPod":"local-path-provisioner-78776bfc44-p2xkl","SrcPort":56144,"SrcVlan":0,"SrcWorkload":"local-path-provisioner","SrcWorkloadKind":"Deployment","TCPFlags":0,"TimeFlowEnd":0,"TimeFlowStart":0,"TimeReceived":1628419398,"Type":"IPFIX","VlanId":0}` + "\n"

func newJSON(t testing.TB, cfg JSONConfig) *JSON {
	t.Helper()
	cfg.Schema = cmp.Or(cfg.Schema, "v1")
	if cfg.Mapping == nil {
		cfg.Mapping = defaultMapping
	}
	e, err := NewJSON(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestJSONReference(t *testing.T) {
	for _, fields := range []string{"", "default", " default , ", "all,-PNode,-PZone,-PPodUID,-PStatus," + optIn()} {
		e := newJSON(t, JSONConfig{Fields: fields})
		if got := string(e.AppendRecord(nil, reference())); got != referenceJSON {
			t.Errorf("-fields %q:\n got %s\nwant %s", fields, got, referenceJSON)
		}
	}
	// What comes before is kept, whatever room there is.
	e := newJSON(t, JSONConfig{})
	for _, extra := range []int{0, 1, 100, 4000, 10000} {
		got := string(e.AppendRecord(append(make([]byte, 0, 6+extra), "before"...), reference()))
		if got != "before"+referenceJSON {
			t.Errorf("with room for %d bytes: %s", extra, got)
		}
	}
}

// optIn returns a list that removes the opt-in fields.
func optIn() string {
	var b strings.Builder
	for _, f := range flow.Fields {
		if !f.Default {
			b.WriteString(",-" + f.Name)
		}
	}
	return b.String()
}

func TestSelectColumns(t *testing.T) {
	nxt := append(slices.Clone(defaultMapping), flow.MapEntry{Field: flow.FieldNextHop, Prefix: "Nxt", Snake: "nxt"})
	for _, tc := range []struct {
		list    string
		want    string // names, or those of the default set if it begins with ...
		wantErr string
	}{
		{list: "Bytes", want: "Bytes Cluster"},
		{list: "SrcAddr,Bytes", want: "Bytes Cluster SrcAddr"},
		{list: "Bytes,+SrcPod", want: "Bytes Cluster SrcPod"},
		{list: "Bytes,-Cluster", want: "Bytes"},
		{list: "src_addr,src_pod,cluster", want: "Cluster SrcAddr SrcPod"},
		{list: "Bytes,PNode", want: "Bytes Cluster DstNode NxtNode SrcNode"},
		{list: "Bytes,Packets,-Bytes", want: "Cluster Packets"},
		{list: "Bytes,-Bytes,Bytes", want: "Bytes Cluster"},
		{list: "default,+TimeFlowStartNs", want: "... TimeFlowStartNs"},
		{list: "default,TimeFlowStartNs", want: "... TimeFlowStartNs"},
		{list: "+TimeFlowStartNs", want: "... TimeFlowStartNs"},
		{list: "-Bytes", want: "... -Bytes"},
		{list: "default,-PPod", want: "... -DstPod -NxtPod -SrcPod"},
		{list: "default,+SrcStatus,-SrcPod", want: "... SrcStatus -SrcPod"},
		{list: "Byte", wantErr: `fields: no field is named "Byte"; possible are default, all, ApplicationId, ApplicationName, AsPath`},
		{list: "default,+OtherPod", wantErr: `"OtherPod"`},
		{list: "default,+", wantErr: `""`},
		{list: "+-Bytes", wantErr: `"-Bytes"`},
		{list: "default Bytes", wantErr: `"default Bytes"`},
		{list: "Bytes,-Bytes", wantErr: "leaves no field"},
		{list: "-all", wantErr: "leaves no field"},
	} {
		cols, err := selectColumns(dialectV1, tc.list, nxt, nil)
		if tc.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: error %v, want %q", tc.list, err, tc.wantErr)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", tc.list, err)
			continue
		}
		var got []string
		for _, c := range cols {
			got = append(got, c.key)
		}
		want := strings.Fields(tc.want)
		if want[0] == "..." {
			base, err := selectColumns(dialectV1, "default", nxt, nil)
			if err != nil {
				t.Fatal(err)
			}
			want = want[1:]
			for _, c := range base {
				if !slices.Contains(want, "-"+c.key) {
					want = append(want, c.key)
				}
			}
			want = slices.DeleteFunc(want, func(s string) bool { return s[0] == '-' })
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", tc.list, got, want)
		}
	}
}

func TestNewJSONErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg  JSONConfig
		want string
	}{
		{JSONConfig{Schema: "v3", Mapping: defaultMapping}, `schema: "v3" is none of v1, v2, netobserv`},
		{JSONConfig{Schema: "", Mapping: defaultMapping}, `schema: "" is none of v1, v2, netobserv`},
		{JSONConfig{Schema: "v1", Fields: "x", Mapping: defaultMapping}, `fields: no field is named "x"`},
		{JSONConfig{Schema: "v1", Mapping: []flow.MapEntry{{Field: flow.FieldSrcAddr, Prefix: "Forwarding", Snake: "forwarding"}}}, "mapping: two fields would have the name ForwardingStatus"},
		{JSONConfig{Schema: "v1", Mapping: []flow.MapEntry{{Field: flow.FieldSrcAddr, Prefix: "A", Snake: "a"}, {Field: flow.FieldDstAddr, Prefix: "a", Snake: "a"}}}, "mapping: two fields would have the name a_pod"},
		{JSONConfig{Schema: "v1", Mapping: make([]flow.MapEntry, flow.MaxEnds+1)}, "mapping: 9 entries"},
	} {
		_, err := NewJSON(tc.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want %q", tc.cfg, err, tc.want)
		}
	}
}

func TestJSONValues(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1").AsSlice()
	for _, tc := range []struct {
		field string
		set   func(*flow.Record)
		want  string
	}{
		{"Bytes", func(r *flow.Record) { r.Msg.Bytes = 18446744073709551615 }, `18446744073709551615`},
		{"SrcAddr", func(r *flow.Record) {}, `""`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = []byte{} }, `""`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = []byte{0, 0, 0, 0} }, `"0.0.0.0"`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = []byte{255, 99, 10, 9} }, `"255.99.10.9"`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = []byte{1, 2, 3} }, `""`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = append(v6, 1) }, `""`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = v6 }, `"2001:db8::1"`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = make([]byte, 16) }, `"::"`},
		{"SrcAddr", func(r *flow.Record) {
			r.Msg.SrcAddr = netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").AsSlice()
		}, `"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"`},
		{"SrcAddr", func(r *flow.Record) { r.Msg.SrcAddr = netip.MustParseAddr("::ffff:10.0.0.1").AsSlice() }, `"10.0.0.1"`},
		{"SrcMac", func(r *flow.Record) {}, `""`},
		{"SrcMac", func(r *flow.Record) { r.Msg.SrcMac = 0xfedcba987654 }, `"fe:dc:ba:98:76:54"`},
		{"SrcMac", func(r *flow.Record) { r.Msg.SrcMac = 1 }, `"00:00:00:00:00:01"`},
		{"TimeReceived", func(r *flow.Record) { r.Msg.TimeReceivedNs = 1628419398_999999999 }, `1628419398`},
		{"TimeFlowStart", func(r *flow.Record) { r.Msg.TimeFlowStartNs = 5e9 }, `0`},
		{"TimeFlowStart", func(r *flow.Record) { r.Msg.TimeFlowStartNs = 5e9; r.Extra.HasStart = true }, `5`},
		{"TimeFlowEndNs", func(r *flow.Record) { r.Msg.TimeFlowEndNs = 5e9 + 1; r.Extra.HasEnd = true }, `5000000001`},
		{"Type", func(r *flow.Record) { r.Msg.Type = flowpb.FlowMessage_SFLOW_5 }, `"SFLOW_5"`},
		{"IcmpName", func(r *flow.Record) { r.Msg.Proto, r.Msg.IcmpType = 1, 3 }, `"Destination Unreachable"`},
		{"InIfName", func(r *flow.Record) {}, `""`},
		{"InIfName", func(r *flow.Record) { r.Extra.InIfName = []byte("veth\"\\\x00\n\t\r\x7f<&>é\xff\xe2\x82€\xf0") },
			`"veth\"\\\u0000\n\t\r` + "\x7f<&>é\ufffd\ufffd\ufffd€\ufffd" + `"`},
		{"TunnelSrcAddr", func(r *flow.Record) { r.Extra.TunnelSrcAddr = []byte{192, 168, 0, 1} }, `"192.168.0.1"`},
		{"MplsLabel", func(r *flow.Record) {}, `[]`},
		{"MplsLabel", func(r *flow.Record) { r.Msg.MplsLabel = []uint32{16, 4294967295} }, `[16,4294967295]`},
		{"AsPath", func(r *flow.Record) { r.Msg.AsPath = make([]uint32, 5000) }, `[` + strings.Repeat("0,", 4999) + `0]`},
		{"MplsIp", func(r *flow.Record) { r.Msg.MplsIp = [][]byte{{10, 0, 0, 1}, nil, v6} }, `["10.0.0.1","","2001:db8::1"]`},
		{"LayerStack", func(r *flow.Record) {
			r.Msg.LayerStack = []flowpb.FlowMessage_LayerStack{flowpb.FlowMessage_Ethernet, flowpb.FlowMessage_IPv6HeaderFragment, flowpb.FlowMessage_Custom, 57}
		}, `["Ethernet","IPv6HeaderFragment","Custom","57"]`},
		{"SrcStatus", func(r *flow.Record) {}, `"none"`},
		{"SrcStatus", func(r *flow.Record) { r.Ends[0].Status = flow.StatusRetained }, `"retained"`},
		{"SrcWarn", func(r *flow.Record) {
			r.Ends[0].Object = flow.NewObject(flow.Object{Kind: "Pod", Warn: "a \"b\"\xff"})
		}, `"a \"b\"` + "\ufffd" + `"`},
		{"SrcPod", func(r *flow.Record) {
			r.Ends[0].Object = flow.NewObject(flow.Object{Kind: "Pod", Name: strings.Repeat("x", 9999)})
		}, `"` + strings.Repeat("x", 9999) + `"`},
	} {
		r := new(flow.Record)
		tc.set(r)
		e := newJSON(t, JSONConfig{Fields: tc.field})
		want := `{"` + tc.field + `":` + tc.want + "}\n"
		if got := string(e.AppendRecord(nil, r)); got != want {
			t.Errorf("got %s want %s", got, want)
		}
	}
}

// TestJSONUnknown checks that generated fields are left out when unknown, also
// where they are the first, the last or the only ones.
func TestJSONUnknown(t *testing.T) {
	pod := flow.NewObject(flow.Object{Kind: "Pod", Name: "p"})
	for _, tc := range []struct{ fields, unknown, known string }{
		{"SrcPod", "{}\n", `{"SrcPod":"p"}` + "\n"},
		{"SrcPod,Type", `{"Type":"FLOWUNKNOWN"}` + "\n", `{"SrcPod":"p","Type":"FLOWUNKNOWN"}` + "\n"},
		{"Bytes,SrcPod", `{"Bytes":0}` + "\n", `{"Bytes":0,"SrcPod":"p"}` + "\n"},
		{"Bytes,SrcPod,MplsLabel,SrcNode", `{"Bytes":0,"MplsLabel":[]}` + "\n", `{"Bytes":0,"MplsLabel":[],"SrcPod":"p"}` + "\n"},
	} {
		e := newJSON(t, JSONConfig{Fields: tc.fields})
		r := new(flow.Record)
		if got := string(e.AppendRecord(nil, r)); got != tc.unknown {
			t.Errorf("%s unknown: %s", tc.fields, got)
		}
		r.Ends[0].Object = pod
		if got := string(e.AppendRecord(nil, r)); got != tc.known {
			t.Errorf("%s known: %s", tc.fields, got)
		}
	}
}

func TestJSONCluster(t *testing.T) {
	e := newJSON(t, JSONConfig{Fields: "Bytes,DstAddr", Cluster: "a\"b"})
	if got, want := string(e.AppendRecord(nil, new(flow.Record))), `{"Bytes":0,"Cluster":"a\"b","DstAddr":""}`+"\n"; got != want {
		t.Errorf("got %s want %s", got, want)
	}
	e = newJSON(t, JSONConfig{Fields: "-Cluster", Cluster: "c"})
	if got := string(e.AppendRecord(nil, reference())); got != referenceJSON {
		t.Errorf("got %s", got)
	}
}

// TestJSONLongNames uses a prefix so long that keys don't fit their steps.
func TestJSONLongNames(t *testing.T) {
	long := strings.Repeat("Prefix", 20)
	e := newJSON(t, JSONConfig{Fields: "all", Mapping: []flow.MapEntry{{Field: flow.FieldSrcAddr, Prefix: long, Snake: "l"}}})
	r := reference()
	var m map[string]any
	if err := json.Unmarshal(e.AppendRecord(nil, r), &m); err != nil {
		t.Fatal(err)
	}
	if m[long+"Pod"] != r.Ends[0].Object.Name || m[long+"Status"] != "live" {
		t.Errorf("%v", m)
	}
}

func TestJSONLine(t *testing.T) {
	end := reference().Ends[0]
	quoted := flow.End{Object: flow.NewObject(flow.Object{Kind: "Service", Name: "s", Workload: "\"", WorkloadKind: "Service"})}
	for _, tc := range []struct {
		name    string
		fields  string
		cluster string
		text    string
		line    flow.Line
		ends    [2]flow.End
		want    string
	}{
		{name: "v1", text: `{"SrcAddr":"1.2.3.4","N":1.0e400}`, ends: [2]flow.End{end},
			want: `{"SrcAddr":"1.2.3.4","N":1.0e400,"SrcHostIP":"10.89.0.2","SrcNamespace":"local-path-storage","SrcPod":"local-path-provisioner-78776bfc44-p2xkl","SrcWorkload":"local-path-provisioner","SrcWorkloadKind":"Deployment"}`},
		{name: "v2", text: `{"src_addr":"1.2.3.4"}`, line: flow.Line{Snake: true}, ends: [2]flow.End{quoted, end}, cluster: "c",
			want: `{"src_addr":"1.2.3.4","cluster":"c","dst_host_ip":"10.89.0.2","dst_namespace":"local-path-storage","dst_pod":"local-path-provisioner-78776bfc44-p2xkl","dst_workload":"local-path-provisioner","dst_workload_kind":"Deployment","src_workload":"\"","src_workload_kind":"Service"}`},
		{name: "nobody", text: ` { "a" : 1 } `, want: ` { "a" : 1 } `},
		{name: "space", fields: "SrcPod", text: ` { "a" : 1 } ` + "\r", line: flow.Line{Close: 11}, ends: [2]flow.End{end}, want: ` { "a" : 1 ,"SrcPod":"local-path-provisioner-78776bfc44-p2xkl"} ` + "\r"},
		{name: "empty", text: `{}`, fields: "PStatus", line: flow.Line{Empty: true}, want: `{"DstStatus":"none","SrcStatus":"none"}`},
		{name: "collision", fields: "PPod,PStatus", text: `{"SrcPod":"mine","Cluster":"x"}`, cluster: "y", line: flow.Line{Keys: []string{"SrcPod", "Cluster"}}, ends: [2]flow.End{end},
			want: `{"SrcPod":"mine","Cluster":"x","DstStatus":"none","SrcStatus":"live"}`},
		{name: "broken", text: `{"SrcAddr":`, line: flow.Line{Close: -1}, ends: [2]flow.End{end}, cluster: "y", want: `{"SrcAddr":`},
		{name: "no bytes", text: ``, line: flow.Line{Close: -1}, want: ``},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newJSON(t, JSONConfig{Fields: tc.fields, Cluster: tc.cluster})
			tc.line.Text = []byte(tc.text)
			if tc.line.Close == 0 {
				tc.line.Close = strings.LastIndexByte(tc.text, '}')
			}
			r := &flow.Record{Line: &tc.line}
			copy(r.Ends[:], tc.ends[:])
			if got := string(e.AppendRecord([]byte("x"), r)); got != "x"+tc.want+"\n" {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestPutUint(t *testing.T) {
	var b [maxUint]byte
	check := func(v uint64) {
		if got, want := string(b[:putUint(b[:], 0, v)]), strconv.FormatUint(v, 10); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, p := range append(pow10[:], 1<<63, 1<<64-1) {
		for d := range uint64(3) {
			check(p + d)
			check(p - d)
		}
	}
	for shift := range 64 {
		check(1<<shift - 1)
		check(1 << shift)
		check(0x9e3779b97f4a7c15 >> shift)
	}
	for v := range uint64(70000) {
		check(v)
	}
}

func TestJSONAllocs(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	r := full()
	line := &flow.Record{Ends: r.Ends, Line: &flow.Line{Text: []byte(`{"SrcAddr":"1.2.3.4"}`), Close: 20, Keys: []string{"SrcPod"}}}
	var b []byte
	for _, schema := range Schemas {
		for _, fields := range []string{"default", "all"} {
			e := newJSON(t, JSONConfig{Schema: schema, Fields: fields, Cluster: "c"})
			if n := testing.AllocsPerRun(100, func() {
				b = e.AppendRecord(b[:0], r)
				b = e.AppendRecord(b, line)
			}); n != 0 {
				t.Errorf("-schema %s -fields %s: %v allocations a record", schema, fields, n)
			}
		}
	}
}

// full returns a record in which every field has a value.
func full() *flow.Record {
	r := reference()
	m := &r.Msg
	v6 := netip.MustParseAddr("2001:db8::1").AsSlice()
	m.NextHop, m.BgpNextHop = v6, v6
	m.SamplingRate = 400
	m.ObservationDomainId, m.ObservationPointId = 1, 2
	m.AsPath, m.BgpCommunities, m.LayerSize, m.MplsLabel, m.MplsTtl = []uint32{1}, []uint32{2}, []uint32{3}, []uint32{4}, []uint32{5}
	m.MplsIp, m.Ipv6RoutingHeaderAddresses = [][]byte{v6}, [][]byte{v6, v6}
	m.LayerStack = []flowpb.FlowMessage_LayerStack{flowpb.FlowMessage_Ethernet, flowpb.FlowMessage_IPv6}
	r.Extra = flow.Extra{HasStart: true, HasEnd: true}
	r.Extra.BiFlowDirection = 1
	r.Extra.InIfName, r.Extra.OutIfName, r.Extra.TunnelSrcAddr = []byte("eth0"), []byte("\"\xff"), []byte{1, 2, 3, 4}
	r.Ends[1] = flow.End{Status: flow.StatusAmbiguous, Object: flow.NewObject(flow.Object{Kind: "Service", Name: "a", Namespace: "b", Workload: "a", WorkloadKind: "Service", Warn: "Several \"services\""})}
	return r
}

// FuzzJSON makes records of arbitrary bytes and checks that their JSON is one
// valid line, sorted by name, from which every value comes back.
func FuzzJSON(f *testing.F) {
	f.Add([]byte{}, "", "")
	f.Add(bytes.Repeat([]byte{0xff}, 400), "name", "\xff\"\\")
	f.Add([]byte(referenceJSON), "a b", "\u2028\x00")
	cluster := "cl\"uster"
	e := newJSON(f, JSONConfig{Fields: "all", Cluster: cluster})
	others := []*JSON{newJSON(f, JSONConfig{Schema: "v2", Fields: "all", Cluster: cluster}), newJSON(f, JSONConfig{Schema: "netobserv", Fields: "all", Cluster: cluster})}
	f.Fuzz(func(t *testing.T, data []byte, name, warn string) {
		r := arbitrary(data)
		r.Ends[0] = flow.End{Status: flow.Status(len(data) % 8), Object: flow.NewObject(flow.Object{Kind: "Pod", Name: name, Warn: warn})}
		got := e.AppendRecord(nil, r)
		if bytes.IndexByte(got, '\n') != len(got)-1 || !utf8.Valid(got) {
			t.Fatalf("no line of UTF-8: %q", got)
		}
		d := json.NewDecoder(bytes.NewReader(got))
		d.UseNumber()
		if tok, err := d.Token(); tok != json.Delim('{') || err != nil {
			t.Fatal(tok, err)
		}
		values := make(map[string]any)
		last := ""
		for d.More() {
			key, err := d.Token()
			if err != nil {
				t.Fatalf("%v in %s", err, got)
			}
			if key.(string) <= last {
				t.Fatalf("key %s after %s", key, last)
			}
			last = key.(string)
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatalf("%v in %s", err, got)
			}
			values[last] = v
		}
		want := map[string]any{"Cluster": cluster, "SrcStatus": r.Ends[0].Status.String(), "DstStatus": "none"}
		if name != "" {
			want["SrcPod"] = valid(name)
		}
		if warn != "" {
			want["SrcWarn"] = valid(warn)
		}
		for _, f := range flow.Fields {
			want[f.Name] = wantValue(r, f)
		}
		for k, w := range want {
			v, ok := values[k]
			if !ok {
				t.Fatalf("%s is missing in %s", k, got)
			}
			if l, ok := v.([]any); ok {
				var parts []string
				for _, v := range l {
					parts = append(parts, str(v))
				}
				v = strings.Join(parts, ",")
			}
			if str(v) != str(w) {
				t.Fatalf("%s is %v, want %v", k, v, w)
			}
			delete(values, k)
		}
		if len(values) > 0 {
			t.Fatalf("unexpected: %v", values)
		}
		for _, e := range others {
			got := e.AppendRecord(nil, r)
			if bytes.IndexByte(got, '\n') != len(got)-1 || !utf8.Valid(got) || !json.Valid(got) {
				t.Fatalf("no line of JSON: %q", got)
			}
		}
	})
}

func str(v any) string {
	switch v := v.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	}
	return "?"
}

func valid(s string) string {
	var b strings.Builder
	for _, r := range s { // a byte that is no UTF-8 reads as U+FFFD
		b.WriteRune(r)
	}
	return b.String()
}

func addr(b []byte) string {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return ""
	}
	return a.Unmap().String()
}

func wantValue(r *flow.Record, f flow.Field) any {
	var parts []string
	switch f.Kind {
	case flow.KindBool:
		return r.Bool(f.ID)
	case flow.KindUint:
		return strconv.FormatUint(r.Uint(f.ID), 10)
	case flow.KindMAC:
		v := r.Uint(f.ID) & (1<<48 - 1)
		if v == 0 {
			return ""
		}
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], v)
		for _, o := range b[2:] {
			parts = append(parts, string(flow.HexDigits[o>>4])+string(flow.HexDigits[o&15]))
		}
		return strings.Join(parts, ":")
	case flow.KindAddr:
		return addr(r.Bytes(f.ID))
	case flow.KindText:
		return valid(string(r.Bytes(f.ID)))
	case flow.KindString:
		return r.Name(f.ID)
	case flow.KindUints:
		for _, v := range r.Uints(f.ID) {
			parts = append(parts, strconv.FormatUint(uint64(v), 10))
		}
	case flow.KindAddrs:
		for _, v := range r.Addrs(f.ID) {
			parts = append(parts, addr(v))
		}
	case flow.KindLayers:
		for _, l := range r.Msg.LayerStack {
			parts = append(parts, l.String())
		}
	}
	return strings.Join(parts, ",")
}

// arbitrary fills a record's fields from data, as far as it goes.
func arbitrary(data []byte) *flow.Record {
	r := new(flow.Record)
	m, x := &r.Msg, &r.Extra
	take := func(n int) []byte {
		n = min(n, len(data))
		b := data[:n]
		data = data[n:]
		return b
	}
	num := func() uint64 {
		// As many bytes as the first says: small numbers are as likely as large ones.
		var v uint64
		for _, b := range take(1) {
			for _, c := range take(int(b % 9)) {
				v = v<<8 | uint64(c)
			}
		}
		return v
	}
	u32 := func() uint32 { return uint32(num()) }
	some := func() []byte {
		for _, b := range take(1) {
			return take([]int{0, 4, 16, 4, 16, 3, int(b)}[b%7])
		}
		return nil
	}
	nums := func() (v []uint32) {
		for _, b := range take(1) {
			for range b % 4 {
				v = append(v, u32())
			}
		}
		return v
	}
	m.Type = flowpb.FlowMessage_FlowType(u32() % 7)
	for _, p := range []*uint64{&m.Bytes, &m.Packets, &m.SamplingRate, &m.SrcMac, &m.DstMac, &m.TimeReceivedNs, &m.TimeFlowStartNs, &m.TimeFlowEndNs} {
		*p = num()
	}
	for _, p := range []*uint32{
		&m.SequenceNum, &m.Etype, &m.Proto, &m.SrcPort, &m.DstPort, &m.InIf, &m.OutIf, &m.SrcVlan, &m.DstVlan, &m.VlanId, &m.IpTos,
		&m.ForwardingStatus, &m.IpTtl, &m.IpFlags, &m.TcpFlags, &m.IcmpType, &m.IcmpCode, &m.Ipv6FlowLabel, &m.FragmentId, &m.FragmentOffset, &m.SrcAs,
		&m.DstAs, &m.NextHopAs, &m.SrcNet, &m.DstNet, &m.ObservationDomainId, &m.ObservationPointId, &m.Ipv6RoutingHeaderSegLeft,
	} {
		*p = u32()
	}
	x.HasStart, x.HasEnd = u32()%2 == 1, u32()%2 == 1
	for _, p := range []*[]byte{&m.SrcAddr, &m.DstAddr, &m.NextHop, &m.SamplerAddress, &m.BgpNextHop} {
		*p = some()
	}
	for i := range flow.Fields {
		switch f := &flow.Fields[i]; {
		case !f.Own():
		case f.Kind == flow.KindUint || f.Kind == flow.KindMAC:
			r.SetUint(f.ID, num())
		default:
			r.SetBytes(f.ID, some())
		}
	}
	for _, p := range []*[]uint32{&m.AsPath, &m.BgpCommunities, &m.LayerSize, &m.MplsLabel, &m.MplsTtl} {
		*p = nums()
	}
	for _, p := range []*[][]byte{&m.MplsIp, &m.Ipv6RoutingHeaderAddresses} {
		*p = [][]byte{some(), some()}
	}
	for _, v := range nums() {
		m.LayerStack = append(m.LayerStack, flowpb.FlowMessage_LayerStack(v))
	}
	return r
}

func BenchmarkJSON(b *testing.B) {
	r, unknown := reference(), reference()
	unknown.Ends = [flow.MaxEnds]flow.End{}
	for _, bm := range []struct {
		name, schema, fields string
		r                    *flow.Record
	}{
		{"enriched", "v1", "default", r},
		{"unknown", "v1", "default", unknown},
		{"all", "v1", "all", full()},
		{"v2", "v2", "default", r},
		{"netobserv", "netobserv", "default", r},
		{"line", "v1", "default", &flow.Record{Ends: r.Ends, Line: &flow.Line{Text: []byte(referenceJSON[:len(referenceJSON)-1]), Close: len(referenceJSON) - 2}}},
	} {
		b.Run(bm.name, func(b *testing.B) {
			e := newJSON(b, JSONConfig{Schema: bm.schema, Fields: bm.fields})
			buf := make([]byte, 0, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				if len(buf) > 48<<10 {
					buf = buf[:0]
				}
				buf = e.AppendRecord(buf, bm.r)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// TestCountsOnce writes whether a record counts, and in netobserv its opposite.
func TestCountsOnce(t *testing.T) {
	counts, repeated, sample := reference(), reference(), reference()
	repeated.Extra.Duplicate, sample.Extra.Sampled = true, true
	for _, tc := range []struct {
		schema, fields string
		r              *flow.Record
		want           string
	}{
		{"v1", "CountsOnce", counts, `{"CountsOnce":true}`},
		{"v1", "counts_once", repeated, `{"CountsOnce":false}`},
		{"v1", "CountsOnce", sample, `{"CountsOnce":false}`},
		{"v1", "CountsOnce", new(flow.Record), `{"CountsOnce":false}`},
		{"v2", "CountsOnce", repeated, `{"counts_once":false}`},
		{"netobserv", "CountsOnce,Duplicate", counts, `{"CountsOnce":true,"Duplicate":false}`},
		{"netobserv", "Duplicate", repeated, `{"Duplicate":true}`},
		{"netobserv", "Duplicate", sample, `{"Duplicate":true}`},
	} {
		if got := string(newJSON(t, JSONConfig{Schema: tc.schema, Fields: tc.fields}).AppendRecord(nil, tc.r)); got != tc.want+"\n" {
			t.Errorf("%s, %s: got %s, want %s", tc.schema, tc.fields, got, tc.want)
		}
	}
}
