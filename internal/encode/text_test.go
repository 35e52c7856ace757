package encode

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

var textMapping = []flow.MapEntry{
	{Field: flow.FieldSamplerAddress, Prefix: "Sampler", Snake: "sampler"},
	{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"},
	{Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"},
}

// textReference is the reference record as textMapping has its ends.
func textReference() *flow.Record {
	r := reference()
	r.Msg.TimeReceivedNs = uint64(time.Date(2021, 8, 8, 10, 4, 5, 0, time.UTC).UnixNano())
	r.Ends[1] = r.Ends[0]
	r.Ends[0] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Node", Name: "node-1", Node: "node-1", Workload: "node-1", WorkloadKind: "Node"})}
	r.Ends[2] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Service", Namespace: "default", Name: "kubernetes", Workload: "kubernetes", WorkloadKind: "Service"})}
	return r
}

const textLine = "10:04:05 local-path-storage/local-path-provisioner:56144 → default/kubernetes:443 TCP  20.8 kB    400 p via node-1"

func TestText(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1").AsSlice()
	for _, tc := range []struct {
		name string
		set  func(r *flow.Record)
		want string
	}{
		{"reference", func(*flow.Record) {}, textLine},
		{"nobody known", func(r *flow.Record) { r.Ends = [flow.MaxEnds]flow.End{} },
			"10:04:05 10.244.0.5:56144      → 10.96.0.1:443         TCP  20.8 kB    400 p via 10.244.0.2"},
		{"IPv6", func(r *flow.Record) {
			r.Ends = [flow.MaxEnds]flow.End{}
			r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.SamplerAddress = v6, netip.MustParseAddr("::ffff:1.2.3.4").AsSlice(), v6
		}, "10:04:05 [2001:db8::1]:56144   → 1.2.3.4:443           TCP  20.8 kB    400 p via 2001:db8::1"},
		{"ICMPv6", func(r *flow.Record) {
			r.Ends = [flow.MaxEnds]flow.End{}
			r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.Proto, r.Msg.SrcPort, r.Msg.DstPort, r.Msg.Etype = v6, v6, 58, 0, 0, 0x86dd
		}, "10:04:05 2001:db8::1           → 2001:db8::1           IPv6-ICMP 20.8 kB    400 p via 10.244.0.2"},
		{"ARP", func(r *flow.Record) {
			r.Ends[1], r.Ends[2] = flow.End{}, flow.End{}
			m := &r.Msg
			m.SrcAddr, m.DstAddr, m.Proto, m.SrcPort, m.DstPort, m.Etype, m.DstMac, m.Bytes, m.Packets = nil, nil, 0, 0, 0, 0x806, 0, 60, 1
		}, "10:04:05 0a:58:0a:f4:00:05     → -                     ARP     60 B      1 p via node-1"},
		{"pod of no owner that is no node", func(r *flow.Record) {
			r.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: "a", Name: "b"})
		}, "10:04:05 a/b:56144             → default/kubernetes:443 TCP  20.8 kB    400 p via node-1"},
		{"hostile", func(r *flow.Record) {
			r.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: "a\x1b[2J", Name: "b\n", Workload: "\xff\u0085"})
		}, "10:04:05 a\ufffd[2J/\ufffd\ufffd:56144        → default/kubernetes:443 TCP  20.8 kB    400 p via node-1"},
		{"later fragment", func(r *flow.Record) { r.Msg.SrcPort, r.Msg.DstPort = 0, 0 },
			"10:04:05 local-path-storage/local-path-provisioner → default/kubernetes    TCP  20.8 kB    400 p via node-1"},
		{"no protocol", func(r *flow.Record) { r.Msg.Proto, r.Msg.Etype = 0, 0 }, strings.Replace(textLine, "TCP ", "-   ", 1)},
		{"unknown protocol", func(r *flow.Record) { r.Msg.Proto = 200 }, strings.Replace(textLine, "TCP ", "200 ", 1)},
	} {
		r := textReference()
		tc.set(r)
		if got := lineOf(NewText(TextConfig{Mapping: textMapping, Location: time.UTC}), r); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// TestTextColumns checks that columns become as wide as what they have held.
func TestTextColumns(t *testing.T) {
	for _, color := range []bool{false, true} {
		e := NewText(TextConfig{Mapping: textMapping, Location: time.UTC, Color: color, Cluster: "prod"})
		short, long, longer := textReference(), textReference(), textReference()
		short.Ends = [flow.MaxEnds]flow.End{}
		longer.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: strings.Repeat("n", 40), Workload: strings.Repeat("w", 40), Warn: "x"})
		var lines []string
		for _, r := range []*flow.Record{short, long, longer, short} {
			lines = append(lines, lineOf(e, r))
		}
		got := strings.Join(lines, "\n") + "\n"
		want := "10:04:05 10.244.0.5:56144      → 10.96.0.1:443         TCP  20.8 kB    400 p via 10.244.0.2 in prod\n" +
			textLine + " in prod\n" +
			"10:04:05 " + strings.Repeat("n", 40) + "/" + strings.Repeat("w", 40) + ":56144 → default/kubernetes:443 TCP  20.8 kB    400 p via node-1 in prod\n" +
			"10:04:05 10.244.0.5:56144                                → 10.96.0.1:443          TCP  20.8 kB    400 p via 10.244.0.2 in prod\n"
		if color {
			for _, seq := range []string{colorNone, colorDim, colorName, colorUnsure} {
				if !strings.Contains(got, seq) {
					t.Errorf("no %q in %q", seq, got)
				}
				got = strings.ReplaceAll(got, seq, "")
			}
		}
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}

func TestAppendBytes(t *testing.T) {
	for v, want := range map[uint64]string{
		0: "    0 B", 999: "  999 B", 1000: " 1.0 kB", 1099: " 1.0 kB", 20800: "20.8 kB", 99999: "99.9 kB", 100000: " 100 kB", 999999: " 999 kB",
		1000000: " 1.0 MB", 1e9: " 1.0 GB", 123456789012: " 123 GB", 1e15: " 1.0 PB", 1<<64 - 1: "18.4 EB",
	} {
		if got := string(appendBytes(nil, v)); got != want {
			t.Errorf("%d: %q, want %q", v, got, want)
		}
	}
}

func TestTextAllocs(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for _, color := range []bool{false, true} {
		e := NewText(TextConfig{Mapping: textMapping, Color: color})
		r, other := textReference(), full()
		other.Ends = [flow.MaxEnds]flow.End{}
		var b []byte
		if n := testing.AllocsPerRun(100, func() {
			b = e.AppendRecord(b[:0], r)
			b = e.AppendRecord(b, other)
		}); n != 0 {
			t.Errorf("%v allocations a record", n)
		}
	}
}

// FuzzText checks that a line is one line of printable characters.
func FuzzText(f *testing.F) {
	f.Add([]byte{}, "", "")
	f.Add([]byte(referenceJSON), "a b", "\u2028\x00\x9b")
	f.Fuzz(func(t *testing.T, data []byte, name, namespace string) {
		r := arbitrary(data)
		r.Ends[1] = flow.End{Object: flow.NewObject(flow.Object{Kind: "Pod", Name: name, Namespace: namespace})}
		got := lineOf(NewText(TextConfig{Mapping: textMapping, Cluster: name}), r)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Fatalf("%q", got)
		}
	})
}

func BenchmarkText(b *testing.B) {
	e := NewText(TextConfig{Mapping: textMapping})
	r := textReference()
	buf := make([]byte, 0, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		if len(buf) > 48<<10 {
			buf = buf[:0]
		}
		buf = e.AppendRecord(buf, r)
	}
}
