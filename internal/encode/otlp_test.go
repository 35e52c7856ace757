package encode

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

func newOTLP(tb testing.TB, cfg OTLPConfig) *OTLP {
	tb.Helper()
	if cfg.Mapping == nil {
		cfg.Mapping = defaultMapping
	}
	e, err := NewOTLP(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// logRecords reads records with OpenTelemetry's own types. They must have no fields
// that these do not know.
func logRecords(tb testing.TB, b []byte) []*logspb.LogRecord {
	tb.Helper()
	scope := new(logspb.ScopeLogs)
	if err := proto.Unmarshal(b, scope); err != nil {
		tb.Fatal(err)
	}
	for _, r := range scope.LogRecords {
		if n := len(scope.ProtoReflect().GetUnknown()) + len(r.ProtoReflect().GetUnknown()); n > 0 {
			tb.Fatalf("%d bytes of fields that OpenTelemetry does not have", n)
		}
	}
	return scope.LogRecords
}

// attributes returns the attributes of a record, which has each once.
func attributes(tb testing.TB, r *logspb.LogRecord) map[string]any {
	tb.Helper()
	m := make(map[string]any)
	for _, a := range r.Attributes {
		if _, ok := m[a.Key]; ok {
			tb.Errorf("attribute %s is there twice", a.Key)
		}
		m[a.Key] = anyValue(tb, a.Value)
	}
	return m
}

func anyValue(tb testing.TB, v *commonpb.AnyValue) any {
	switch v := v.Value.(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_IntValue:
		return v.IntValue
	case *commonpb.AnyValue_BoolValue:
		return v.BoolValue
	case *commonpb.AnyValue_ArrayValue:
		var list []any
		for _, item := range v.ArrayValue.Values {
			list = append(list, anyValue(tb, item))
		}
		return fmt.Sprint(list)
	}
	tb.Errorf("value %v", v)
	return nil
}

// diff compares attributes.
func diff(tb testing.TB, got, want map[string]any) {
	tb.Helper()
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got[k] != want[k] {
			tb.Errorf("%s is %#v, want %#v", k, got[k], want[k])
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			tb.Errorf("%s is %#v, and should not be there", k, got[k])
		}
	}
}

// TestOTLPReference has the attributes of the reference record: those that the
// collector's receiver writes, those of Kubernetes, and others that are not 0.
func TestOTLPReference(t *testing.T) {
	r := reference()
	got := logRecords(t, newOTLP(t, OTLPConfig{}).AppendRecord(nil, r))[0]
	want := map[string]any{
		"source.address": "10.244.0.5", "source.port": int64(56144), "destination.address": "10.96.0.1", "destination.port": int64(443),
		"network.transport": "tcp", "network.type": "ipv4",
		"flow.io.bytes": int64(20800), "flow.io.packets": int64(400),
		"flow.type": "ipfix", "flow.sequence_num": int64(577), "flow.time_received": int64(1628419398123456789),
		"flow.sampling_rate": int64(0), "flow.sampler_address": "10.244.0.2",
		"flow.in_if": int64(12), "flow.src_mac": "0a:58:0a:f4:00:05", "flow.dst_mac": "0a:58:0a:f4:00:01",
		"source.k8s.namespace.name": "local-path-storage", "source.k8s.pod.name": "local-path-provisioner-78776bfc44-p2xkl", "source.k8s.node.ip": "10.89.0.2",
		"source.k8s.workload.name": "local-path-provisioner", "source.k8s.workload.kind": "Deployment", "source.k8s.deployment.name": "local-path-provisioner",
	}
	diff(t, attributes(t, got), want)
	if got.TimeUnixNano != 1628419398123456789 || got.ObservedTimeUnixNano != 1628419398123456789 || got.Body != nil {
		t.Errorf("time %d, observed %d, body %v", got.TimeUnixNano, got.ObservedTimeUnixNano, got.Body)
	}
	r.Extra.HasStart, r.Msg.TimeFlowStartNs = true, 1628419390_000000001
	got = logRecords(t, newOTLP(t, OTLPConfig{}).AppendRecord(nil, r))[0]
	if got.TimeUnixNano != 1628419390000000001 || attributes(t, got)["flow.start"] != int64(1628419390000000001) {
		t.Errorf("time %d, attributes %v", got.TimeUnixNano, attributes(t, got))
	}
}

// TestOTLPKinds has the attributes of workloads by their kinds.
func TestOTLPKinds(t *testing.T) {
	for kind, want := range map[string]string{
		"Deployment": "source.k8s.deployment.name", "StatefulSet": "source.k8s.statefulset.name", "CronJob": "source.k8s.cronjob.name",
		"Service": "source.k8s.service.name", "Node": "source.k8s.node.name", "EgressIP": "source.k8s.egressip.name", "Rollout": "source.k8s.rollout.name",
		"Weird\xffKind": "source.k8s.weird\ufffdkind.name", "Pod": "",
	} {
		for _, fields := range []string{"default", "default,+SrcNode"} {
			r := new(flow.Record)
			r.Ends[0] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Node", Name: "w\xff", Workload: "w\xff", WorkloadKind: kind, Node: "w\xff"})}
			got := attributes(t, logRecords(t, newOTLP(t, OTLPConfig{Fields: fields}).AppendRecord(nil, r))[0])
			if want != "" && got[want] != "w\ufffd" {
				t.Errorf("%s, %s: %v", kind, fields, got)
			}
			n := 0
			for k := range got {
				if strings.HasPrefix(k, "source.k8s.") && k != "source.k8s.workload.name" && k != "source.k8s.workload.kind" && k != want {
					n++
				}
			}
			if extra := strings.Contains(fields, "Node") && kind != "Node"; n > 0 != extra {
				t.Errorf("%s, %s: %v", kind, fields, got)
			}
		}
	}
}

// TestOTLPOther maps another address, and has labels and elements.
func TestOTLPOther(t *testing.T) {
	mapping, err := flow.ParseMapping("SrcAddr=A,NextHop=Nxt")
	noError(t, err)
	labels, err := flow.ParseLabels("app.kubernetes.io/name=App")
	noError(t, err)
	elements := []flow.ExtraElement{{Name: "user", Type: flow.ElementString}, {Name: "number", Type: flow.ElementUint}, {Name: "hex", Type: flow.ElementHex}}
	r := new(flow.Record)
	o := flow.NewObject(flow.Object{Kind: "Pod", Name: "p", Labels: flow.JoinLabels([]string{"web"})})
	r.Ends[0], r.Ends[1] = flow.End{Object: o}, flow.End{Object: o}
	r.Extra.Elements = []flow.ElementValue{{Index: 0, Value: []byte("u\xff")}, {Index: 1, Value: []byte{1, 0}}, {Index: 2, Value: bytes.Repeat([]byte{0xab}, 100)}}
	got := attributes(t, logRecords(t, newOTLP(t, OTLPConfig{Mapping: mapping, Labels: labels, Elements: elements}).AppendRecord(nil, r))[0])
	for k, want := range map[string]any{
		"source.k8s.pod.name": "p", "nxt.k8s.pod.name": "p",
		"source.k8s.pod.label.app.kubernetes.io/name": "web", "nxt.k8s.pod.label.app.kubernetes.io/name": "web",
		"user": "u\ufffd", "number": int64(256), "hex": strings.Repeat("ab", 100),
	} {
		if got[k] != want {
			t.Errorf("%s is %#v, want %#v", k, got[k], want)
		}
	}
}

// wantAttributes makes the attributes of all decoded fields from the values that JSON
// has to show.
func wantAttributes(r *flow.Record) map[string]any {
	want := make(map[string]any)
	for i := range flow.Fields {
		f := flow.Fields[i]
		key, _ := otlpKey(&f)
		if key == "" {
			continue
		}
		switch f.ID {
		case flow.FieldProto:
			want[key] = lowerOr(flow.ProtoName(r.Msg.Etype, r.Msg.Proto))
			continue
		case flow.FieldEtype:
			want[key] = lowerOr(flow.EtypeName(r.Msg.Etype))
			continue
		case flow.FieldType:
			want[key] = lowerOr(flow.TypeName(r.Msg.Type))
			continue
		}
		var list []any
		switch f.Kind {
		case flow.KindUint:
			if n := int64(r.Uint(f.ID)); n != 0 || otlpAlways[f.ID] {
				want[key] = n
			}
		case flow.KindBool:
			want[key] = r.Bool(f.ID)
		case flow.KindUints:
			for _, v := range r.Uints(f.ID) {
				list = append(list, int64(v))
			}
		case flow.KindAddrs:
			for _, v := range r.Addrs(f.ID) {
				list = append(list, addr(v))
			}
		case flow.KindLayers:
			for _, l := range r.Msg.LayerStack {
				list = append(list, l.String())
			}
		default:
			if v, ok := wantValue(r, f).(string); ok && v != "" {
				want[key] = v
			}
		}
		if list != nil {
			want[key] = fmt.Sprint(list)
		}
	}
	return want
}

func lowerOr(s string) string {
	if s == "" {
		return "unknown"
	}
	return strings.ToLower(s)
}

// TestOTLPValues has all fields at once.
func TestOTLPValues(t *testing.T) {
	for _, r := range []*flow.Record{new(flow.Record), full(), reference()} {
		got := attributes(t, logRecords(t, newOTLP(t, OTLPConfig{Fields: "all"}).AppendRecord([]byte{}, r))[0])
		maps.DeleteFunc(got, func(k string, _ any) bool {
			return strings.HasPrefix(k, "source.k8s") || strings.HasPrefix(k, "destination.k8s") || strings.Contains(k, "availability_zone")
		})
		diff(t, got, wantAttributes(r))
	}
}

// TestOTLPSeveral appends records to a buffer that is too small, as workers do.
func TestOTLPSeveral(t *testing.T) {
	e := newOTLP(t, OTLPConfig{Fields: "all"})
	long := reference()
	long.Ends[1] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Name: strings.Repeat("n", 20_000), Warn: strings.Repeat("\xff", 300)})}
	empty := newOTLP(t, OTLPConfig{Fields: "BgpNextHop"})
	var b []byte
	for range 20 {
		b = e.AppendRecord(b, reference())
		b = empty.AppendRecord(b, reference())
		b = e.AppendRecord(b, long)
	}
	all := logRecords(t, b)
	if len(all) != 60 {
		t.Fatalf("%d records", len(all))
	}
	for i, r := range all {
		got := attributes(t, r)
		switch i % 3 {
		case 0:
			if got["flow.io.bytes"] != int64(20800) {
				t.Errorf("record %d: %v", i, got)
			}
		case 1:
			if len(got) != 0 || r.TimeUnixNano == 0 {
				t.Errorf("record %d: %v", i, r)
			}
		case 2:
			if got["destination.k8s.pod.name"] != strings.Repeat("n", 20_000) || got["destination.k8s.warn"] != strings.Repeat("\ufffd", 300) {
				t.Errorf("record %d: %.200v", i, got)
			}
		}
	}
}

func TestOTLPAllocs(t *testing.T) {
	for _, fields := range []string{"default", "all"} {
		e := newOTLP(t, OTLPConfig{Fields: fields})
		for name, r := range map[string]*flow.Record{"reference": reference(), "full": full()} {
			b := e.AppendRecord(nil, r)
			if n := testing.AllocsPerRun(100, func() { b = e.AppendRecord(b[:0], r) }); n != 0 && !race.Enabled {
				t.Errorf("-fields %s, %s: %v allocations a record", fields, name, n)
			}
		}
	}
}

// FuzzOTLP compares the attributes of arbitrary records with those of JSON.
func FuzzOTLP(f *testing.F) {
	e := newOTLP(f, OTLPConfig{Fields: "all"})
	f.Add([]byte("some bytes that become a record, of which there is no lack here 0123456789"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := arbitrary(data)
		got := attributes(t, logRecords(t, e.AppendRecord(nil, r))[0])
		maps.DeleteFunc(got, func(k string, _ any) bool {
			return strings.Contains(k, ".k8s.") || strings.Contains(k, "availability_zone")
		})
		diff(t, got, wantAttributes(r))
	})
}

func BenchmarkOTLP(b *testing.B) {
	e := newOTLP(b, OTLPConfig{})
	r := reference()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendRecord(buf[:0], r)
	}
	b.SetBytes(int64(len(buf)))
}
