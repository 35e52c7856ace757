package encode

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	upstreampb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

func newProtobuf(tb testing.TB, cfg ProtobufConfig) *Protobuf {
	tb.Helper()
	if cfg.Mapping == nil {
		cfg.Mapping = defaultMapping
	}
	e, err := NewProtobuf(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// message takes the length off a record and returns the rest.
func message(tb testing.TB, b []byte) []byte {
	tb.Helper()
	length, n := binary.Uvarint(b)
	if n <= 0 || uint64(len(b)-n) != length || n != protowire.SizeVarint(length) {
		tb.Fatalf("length %d in %d bytes, then %d bytes", length, n, len(b)-n)
	}
	return b[n:]
}

// wantMessage makes the message of all fields of a record by reflection.
func wantMessage(r *flow.Record, mapping []flow.MapEntry, cluster string) *flowpb.EnrichedFlow {
	want := new(flowpb.EnrichedFlow)
	w := want.ProtoReflect()
	fields := w.Descriptor().Fields()
	r.Msg.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		to := fields.ByNumber(f.Number())
		if !f.IsList() {
			w.Set(to, v)
			return true
		}
		for i := range v.List().Len() {
			w.Mutable(to).List().Append(v.List().Get(i))
		}
		return true
	})
	for i := range flow.Fields {
		f := &flow.Fields[i]
		if f.Number < flow.NumberOwn {
			continue
		}
		to := fields.ByNumber(protowire.Number(f.Number))
		switch to.Kind() {
		case protoreflect.Uint32Kind:
			w.Set(to, protoreflect.ValueOfUint32(uint32(r.Uint(f.ID))))
		case protoreflect.Uint64Kind:
			w.Set(to, protoreflect.ValueOfUint64(r.Uint(f.ID)))
		case protoreflect.BoolKind:
			w.Set(to, protoreflect.ValueOfBool(r.Bool(f.ID)))
		case protoreflect.BytesKind:
			w.Set(to, protoreflect.ValueOfBytes(r.Bytes(f.ID)))
		case protoreflect.StringKind:
			w.Set(to, protoreflect.ValueOfString(valid(string(r.Bytes(f.ID)))))
		}
	}
	for i, e := range mapping {
		m, prefix := w, strings.ToLower(e.Prefix)+"_"
		var object *flowpb.KubeObject
		if e.Prefix != "Src" && e.Prefix != "Dst" {
			object = &flowpb.KubeObject{Prefix: e.Prefix}
			want.Other = append(want.Other, object)
			m, prefix = object.ProtoReflect(), ""
		}
		for _, a := range flow.Attrs {
			f := m.Descriptor().Fields().ByName(protoreflect.Name(prefix + a.Snake))
			m.Set(f, protoreflect.ValueOfString(valid(r.Ends[i].Attr(a.Attr))))
		}
	}
	want.Cluster = cluster
	return want
}

func TestProtobufReference(t *testing.T) {
	r := reference()
	for _, tc := range []struct {
		fields string
		change func(*flowpb.EnrichedFlow)
	}{
		{"default", func(m *flowpb.EnrichedFlow) {
			m.SrcNode, m.SrcZone, m.SrcPodUid, m.SrcStatus, m.DstStatus = "", "", "", "", ""
			m.CountsOnce = nil
		}},
		{"all", func(*flowpb.EnrichedFlow) {}},
		{"all,-TimeReceived,-EtypeName,-PStatus,-SrcMac", func(m *flowpb.EnrichedFlow) {
			m.TimeReceivedNs, m.Etype, m.SrcStatus, m.DstStatus, m.SrcMac = 0, 0, "", "", 0
		}},
		{"SrcPod,bytes,time_received_ns,Cluster", func(m *flowpb.EnrichedFlow) {
			all := proto.Clone(m).(*flowpb.EnrichedFlow)
			proto.Reset(m)
			m.SrcPod, m.Bytes, m.TimeReceivedNs, m.Cluster = all.SrcPod, all.Bytes, all.TimeReceivedNs, all.Cluster
		}},
	} {
		want := wantMessage(r, defaultMapping, "c")
		tc.change(want)
		e := newProtobuf(t, ProtobufConfig{Fields: tc.fields, Cluster: "c"})
		got := new(flowpb.EnrichedFlow)
		if err := proto.Unmarshal(message(t, e.AppendRecord(nil, r)), got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("-fields %s:\n got %v\nwant %v", tc.fields, got, want)
		}
	}
	// What comes before is kept, whatever room there is.
	e := newProtobuf(t, ProtobufConfig{})
	want := e.AppendRecord(nil, r)
	for _, extra := range []int{0, 1, 100, 4000, 10000} {
		got := e.AppendRecord(append(make([]byte, 0, 6+extra), "before"...), r)
		if string(got) != "before"+string(want) {
			t.Errorf("with room for %d bytes: %x", extra, got)
		}
	}
}

// TestProtobufFields writes each field alone.
func TestProtobufFields(t *testing.T) {
	r := arbitrary(bytes.Repeat([]byte{0xff}, 4000))
	r.Msg.Type = upstreampb.FlowMessage_IPFIX
	all := wantMessage(r, defaultMapping, "")
	for i := range flow.Fields {
		f := &flow.Fields[i]
		if f.Number == 0 {
			continue
		}
		want := new(flowpb.EnrichedFlow).ProtoReflect()
		number := want.Descriptor().Fields().ByNumber(protowire.Number(f.Number))
		if !all.ProtoReflect().Has(number) {
			t.Fatalf("%s is empty", f.Name)
		}
		want.Set(number, all.ProtoReflect().Get(number))
		for _, name := range []string{f.Name, f.Snake} {
			got := new(flowpb.EnrichedFlow)
			if err := proto.Unmarshal(message(t, newProtobuf(t, ProtobufConfig{Fields: name}).AppendRecord(nil, r)), got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want.Interface()) {
				t.Errorf("%s: got %v, want %v", name, got, want)
			}
		}
	}
}

// TestProtobufLength goes through the sizes at which the length takes up one
// byte more.
func TestProtobufLength(t *testing.T) {
	e := newProtobuf(t, ProtobufConfig{Fields: "InIfName"})
	for _, n := range []int{0, 1, 100, 123, 124, 125, 126, 127, 128, 129, 1000, 16378, 16379, 16380, 16381, 16382, 16383, 16384, 16385, 1 << 21, 1<<21 + 10} {
		r := new(flow.Record)
		r.Extra.InIfName = bytes.Repeat([]byte("x"), n)
		got := new(flowpb.EnrichedFlow)
		if err := proto.Unmarshal(message(t, e.AppendRecord(nil, r)), got); err != nil || len(got.InIfName) != n {
			t.Errorf("%d bytes: %d, %v", n, len(got.InIfName), err)
		}
	}
}

var otherMapping = []flow.MapEntry{
	{Field: flow.FieldNextHop, Prefix: "Nxt", Snake: "nxt"},
	{Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"},
	{Field: flow.FieldSamplerAddress, Prefix: "Sampler", Snake: "sampler"},
	{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"},
}

// TestProtobufOther checks the objects of prefixes that have no fields of
// their own, and that fields are in the order that the standard library has
// them in.
func TestProtobufOther(t *testing.T) {
	r := full()
	r.Ends[2] = r.Ends[0]
	r.Ends[3] = flow.End{Status: flow.StatusNode, Object: flow.NewObject(flow.Object{Kind: "Node", Name: "n\xff\xfe", Workload: "n\xff", WorkloadKind: "Node", Node: "n\xff\xe2\x82"})}
	r.Ends[0] = r.Ends[3]
	e := newProtobuf(t, ProtobufConfig{Fields: "all", Mapping: otherMapping, Cluster: "c"})
	got := message(t, e.AppendRecord(nil, r))
	want, err := proto.MarshalOptions{Deterministic: true}.Marshal(wantMessage(r, otherMapping, "c"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	// Without an owner there is no object.
	m := new(flowpb.EnrichedFlow)
	e = newProtobuf(t, ProtobufConfig{Mapping: otherMapping})
	if err := proto.Unmarshal(message(t, e.AppendRecord(nil, new(flow.Record))), m); err != nil || len(m.Other) > 0 {
		t.Errorf("%v, %v", m, err)
	}
}

// TestProtobufLabels checks that labels are in the map of their prefix.
func TestProtobufLabels(t *testing.T) {
	labels, err := flow.ParseLabels("app.kubernetes.io/name=App,tier=Tier")
	if err != nil {
		t.Fatal(err)
	}
	pod := func(values ...string) flow.End {
		return flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Name: "p", Labels: flow.JoinLabels(values)})}
	}
	r := new(flow.Record)
	copy(r.Ends[:], []flow.End{pod("a", "\xff"), pod("", "b"), pod(), pod("c", strings.Repeat("x", 20000))})
	for fields, want := range map[string]*flowpb.EnrichedFlow{
		"default": {
			Other:  []*flowpb.KubeObject{{Prefix: "Nxt", Pod: "p", Labels: map[string]string{"App": "a", "Tier": "\ufffd"}}, {Prefix: "Sampler", Pod: "p"}},
			DstPod: "p", DstLabels: map[string]string{"Tier": "b"}, SrcPod: "p", SrcLabels: map[string]string{"App": "c", "Tier": strings.Repeat("x", 20000)},
		},
		"PTier,-DstTier,SrcApp": {
			Other:     []*flowpb.KubeObject{{Prefix: "Nxt", Labels: map[string]string{"Tier": "\ufffd"}}},
			SrcLabels: map[string]string{"App": "c", "Tier": strings.Repeat("x", 20000)},
		},
	} {
		e := newProtobuf(t, ProtobufConfig{Fields: fields, Mapping: otherMapping, Labels: labels})
		got := new(flowpb.EnrichedFlow)
		b := e.AppendRecord(nil, r)
		if err := proto.Unmarshal(message(t, b), got); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("-fields %s: got %.500v\nwant %.500v", fields, got, want)
		}
		if n := testing.AllocsPerRun(100, func() { b = e.AppendRecord(b[:0], r) }); n != 0 && !race.Enabled {
			t.Errorf("-fields %s: %v allocations a record", fields, n)
		}
	}
}

// TestProtobufUnknown checks that what a message has besides goflow2's fields
// survives, and that generated fields among it are not added again.
func TestProtobufUnknown(t *testing.T) {
	e := newProtobuf(t, ProtobufConfig{Mapping: otherMapping, Cluster: "ours"})
	for _, tc := range []struct {
		name string
		read *flowpb.EnrichedFlow
		more []byte // fields that flow.proto does not have
	}{
		{name: "custom mapping", read: &flowpb.EnrichedFlow{Bytes: 1}, more: protowire.AppendVarint(protowire.AppendTag(nil, 42, protowire.VarintType), 1)},
		{name: "generated", read: &flowpb.EnrichedFlow{SrcPod: "theirs", Cluster: "theirs", FlowDirection: 1, InIfName: "eth0"}},
		{name: "other", read: &flowpb.EnrichedFlow{Other: []*flowpb.KubeObject{{Prefix: "Nxt", Pod: "theirs"}, {Prefix: "Samp", Pod: "theirs"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in, err := proto.Marshal(tc.read)
			if err != nil {
				t.Fatal(err)
			}
			r := new(flow.Record)
			if err := proto.Unmarshal(append(in, tc.more...), &r.Msg.FlowMessage); err != nil {
				t.Fatal(err)
			}
			for i := range otherMapping {
				r.Ends[i] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Name: "ours"})}
			}
			want := proto.Clone(tc.read).(*flowpb.EnrichedFlow)
			if want.SrcPod == "" {
				want.SrcPod = "ours"
			}
			if want.Cluster == "" {
				want.Cluster = "ours"
			}
			want.DstPod = "ours"
			var ours []*flowpb.KubeObject
			for _, prefix := range []string{"Nxt", "Sampler"} {
				if !slices.ContainsFunc(want.Other, func(o *flowpb.KubeObject) bool { return o.Prefix == prefix }) {
					ours = append(ours, &flowpb.KubeObject{Prefix: prefix, Pod: "ours"})
				}
			}
			want.Other = append(ours, want.Other...)
			want.ProtoReflect().SetUnknown(tc.more)
			got := new(flowpb.EnrichedFlow)
			if err := proto.Unmarshal(message(t, e.AppendRecord(nil, r)), got); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// TestProtobufOwnOnce has a message of another of our programs, whose own fields the reader
// has put into the record, too. They are written once, as they came, with what is new.
func TestProtobufOwnOnce(t *testing.T) {
	e := newProtobuf(t, ProtobufConfig{Mapping: defaultMapping, Fields: "all,-CountsOnce"})
	read := &flowpb.EnrichedFlow{FlowDirection: 1, InIfName: "eth0", TunnelSrcAddr: []byte{192, 0, 2, 1}, Verdict: "dropped"}
	in, err := proto.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	r := new(flow.Record)
	if err := proto.Unmarshal(in, &r.Msg.FlowMessage); err != nil {
		t.Fatal(err)
	}
	r.Extra.FlowDirection, r.Extra.InIfName, r.Extra.TunnelSrcAddr = 1, []byte("eth0"), []byte{192, 0, 2, 1}
	r.Extra.Verdict, r.Extra.PolicyName, r.Extra.EgressVrfID = []byte("allowed"), []byte("new"), 7
	out := message(t, e.AppendRecord(nil, r))
	seen := make(map[protowire.Number]int)
	for rest := out; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		if seen[number]++; seen[number] > 1 {
			t.Errorf("field %d is there %d times", number, seen[number])
		}
		rest = rest[n:]
	}
	got := new(flowpb.EnrichedFlow)
	if err := proto.Unmarshal(out, got); err != nil {
		t.Fatal(err)
	}
	if got.FlowDirection != 1 || got.InIfName != "eth0" || !bytes.Equal(got.TunnelSrcAddr, read.TunnelSrcAddr) || got.Verdict != "dropped" || got.PolicyName != "new" || got.EgressVrfId != 7 {
		t.Errorf("%v", got)
	}
}

func TestNewProtobufErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg  ProtobufConfig
		want string
	}{
		{ProtobufConfig{Fields: "x", Mapping: defaultMapping}, `fields: no field is named "x"`},
		{ProtobufConfig{Mapping: make([]flow.MapEntry, flow.MaxEnds+1)}, "mapping: 9 entries"},
	} {
		_, err := NewProtobuf(tc.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%+v: error %v, want %q", tc.cfg, err, tc.want)
		}
	}
}

// TestProtobufDecode has protoc read records, if it is there.
func TestProtobufDecode(t *testing.T) {
	protoc := needs.Program(t, "protoc")
	r := full()
	e := newProtobuf(t, ProtobufConfig{Fields: "all"})
	cmd := exec.CommandContext(t.Context(), protoc, "--decode", "flowpb.EnrichedFlow", "flow/flow.proto")
	cmd.Dir = "../.."
	cmd.Stdin = bytes.NewReader(message(t, e.AppendRecord(nil, r)))
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got, want := new(flowpb.EnrichedFlow), wantMessage(r, defaultMapping, "")
	if err := prototext.Unmarshal(text, got); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestProtobufAllocs(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	r := full()
	r.Ends[2], r.Ends[3] = r.Ends[0], r.Ends[1]
	read := &flow.Record{Ends: r.Ends}
	in, err := proto.Marshal(wantMessage(r, otherMapping, ""))
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(in, &read.Msg.FlowMessage); err != nil {
		t.Fatal(err)
	}
	var b []byte
	for _, fields := range []string{"default", "all"} {
		e := newProtobuf(t, ProtobufConfig{Fields: fields, Mapping: otherMapping, Cluster: "c"})
		if n := testing.AllocsPerRun(100, func() {
			b = e.AppendRecord(b[:0], r)
			b = e.AppendRecord(b, read)
		}); n != 0 {
			t.Errorf("-fields %s: %v allocations a record", fields, n)
		}
	}
}

// FuzzProtobuf makes records of arbitrary bytes and checks that goflow2's
// message and ours come back from the encoded form, and that it has the bytes
// that the standard library makes of our message.
func FuzzProtobuf(f *testing.F) {
	f.Add([]byte{}, "", "")
	f.Add(bytes.Repeat([]byte{0xff}, 400), "name", "\xff\"\\")
	f.Add([]byte(referenceJSON), "a b", "\u2028\x00")
	e := newProtobuf(f, ProtobufConfig{Fields: "all", Mapping: otherMapping, Cluster: "c"})
	f.Fuzz(func(t *testing.T, data []byte, name, warn string) {
		r := arbitrary(data)
		for i := range otherMapping {
			r.Ends[i] = flow.End{Status: flow.Status((len(data) + i) % 8), Object: flow.NewObject(flow.Object{Kind: "Pod", Name: name, Warn: warn})}
		}
		got := e.AppendRecord(nil, r)
		want := wantMessage(r, otherMapping, "c")
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(message(t, got), b) {
			t.Fatalf("got  %x\nwant %x", message(t, got), b)
		}
		ours := new(flowpb.EnrichedFlow)
		if err := protodelim.UnmarshalFrom(bytes.NewReader(got), ours); err != nil || !proto.Equal(ours, want) {
			t.Fatalf("got %v\nwant %v (%v)", ours, want, err)
		}
		upstream := new(upstreampb.FlowMessage)
		if err := protodelim.UnmarshalFrom(bytes.NewReader(got), upstream); err != nil {
			t.Fatal(err)
		}
		upstream.ProtoReflect().SetUnknown(nil)
		if !proto.Equal(upstream, &r.Msg.FlowMessage) {
			t.Fatalf("goflow2 reads %v\nwant %v", upstream, &r.Msg.FlowMessage)
		}
	})
}

// TestProtobufGolden compares a record that has all fields with the bytes that
// were written before: what consumers have stored must stay readable.
func TestProtobufGolden(t *testing.T) {
	file := filepath.Join("testdata", "full.pb")
	r := full()
	r.Ends[2], r.Ends[3] = r.Ends[0], r.Ends[1]
	got := newProtobuf(t, ProtobufConfig{Fields: "all", Mapping: otherMapping, Cluster: "c"}).AppendRecord(nil, r)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func BenchmarkProtobuf(b *testing.B) {
	r, unknown := reference(), reference()
	unknown.Ends = [flow.MaxEnds]flow.End{}
	both := reference()
	both.Ends[1] = both.Ends[0]
	for _, bm := range []struct {
		name, fields string
		r            *flow.Record
	}{
		{"enriched", "default", r},
		{"both", "default", both},
		{"unknown", "default", unknown},
		{"all", "all", full()},
	} {
		b.Run(bm.name, func(b *testing.B) {
			e := newProtobuf(b, ProtobufConfig{Fields: bm.fields})
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
