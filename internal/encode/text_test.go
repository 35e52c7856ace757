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

func newText(t testing.TB, cfg TextConfig) *Text {
	t.Helper()
	e, err := NewText(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const textLine = "2021-08-08T10:04:05Z local-path-storage/local-path-provisioner:56144 → default/kubernetes:443 TCP   20.8 kB    400 p via node-1"

func TestText(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::1").AsSlice()
	for _, tc := range []struct {
		name string
		set  func(r *flow.Record)
		want string
	}{
		{"reference", func(*flow.Record) {}, textLine},
		{"nobody known", func(r *flow.Record) { r.Ends = [flow.MaxEnds]flow.End{} },
			"2021-08-08T10:04:05Z 10.244.0.5:56144      → 10.96.0.1:443         TCP   20.8 kB    400 p via 10.244.0.2"},
		{"IPv6", func(r *flow.Record) {
			r.Ends = [flow.MaxEnds]flow.End{}
			r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.SamplerAddress = v6, netip.MustParseAddr("::ffff:1.2.3.4").AsSlice(), v6
		}, "2021-08-08T10:04:05Z [2001:db8::1]:56144   → 1.2.3.4:443           TCP   20.8 kB    400 p via 2001:db8::1"},
		{"ICMPv6", func(r *flow.Record) {
			r.Ends = [flow.MaxEnds]flow.End{}
			r.Msg.SrcAddr, r.Msg.DstAddr, r.Msg.Proto, r.Msg.SrcPort, r.Msg.DstPort, r.Msg.Etype = v6, v6, 58, 0, 0, 0x86dd
		}, "2021-08-08T10:04:05Z 2001:db8::1           → 2001:db8::1           ICMP6 20.8 kB    400 p via 10.244.0.2"},
		{"ARP", func(r *flow.Record) {
			r.Ends[1], r.Ends[2] = flow.End{}, flow.End{}
			m := &r.Msg
			m.SrcAddr, m.DstAddr, m.Proto, m.SrcPort, m.DstPort, m.Etype, m.DstMac, m.Bytes, m.Packets = nil, nil, 0, 0, 0, 0x806, 0, 60, 1
		}, "2021-08-08T10:04:05Z 0a:58:0a:f4:00:05     → -                     ARP      60 B      1 p via node-1"},
		{"pod of no owner that is no node", func(r *flow.Record) {
			r.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: "a", Name: "b"})
		}, "2021-08-08T10:04:05Z a/b:56144             → default/kubernetes:443 TCP   20.8 kB    400 p via node-1"},
		{"hostile", func(r *flow.Record) {
			r.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: "a\x1b[2J", Name: "b\n", Workload: "\xff\u0085"})
		}, "2021-08-08T10:04:05Z a\ufffd[2J/\ufffd\ufffd:56144        → default/kubernetes:443 TCP   20.8 kB    400 p via node-1"},
		{"later fragment", func(r *flow.Record) { r.Msg.SrcPort, r.Msg.DstPort = 0, 0 },
			"2021-08-08T10:04:05Z local-path-storage/local-path-provisioner → default/kubernetes    TCP   20.8 kB    400 p via node-1"},
		{"no protocol", func(r *flow.Record) { r.Msg.Proto, r.Msg.Etype = 0, 0 }, strings.Replace(textLine, "TCP ", "-   ", 1)},
		{"ingress", func(r *flow.Record) { r.Extra.HasDirection = true }, textLine + " ingress"},
		{"egress, as protobuf has it", func(r *flow.Record) { r.Extra.FlowDirection = 1 }, textLine + " egress"},
		{"no such direction", func(r *flow.Record) { r.Extra.FlowDirection, r.Extra.HasDirection = 2, true }, textLine},
		{"verdict", func(r *flow.Record) { r.Extra.Verdict = []byte("allowed") }, textLine + " allowed"},
		{"dropped at ingress", func(r *flow.Record) { r.Extra.HasDirection, r.Extra.Verdict = true, []byte("dropped") }, textLine + " ingress dropped"},
		{"hostile verdict", func(r *flow.Record) { r.Extra.Verdict = []byte("\x1b[2J\n") }, textLine + " \ufffd[2J\ufffd"},
		{"unknown protocol", func(r *flow.Record) { r.Msg.Proto = 200 }, strings.Replace(textLine, "TCP ", "200 ", 1)},
	} {
		r := textReference()
		tc.set(r)
		if got := lineOf(newText(t, TextConfig{Mapping: textMapping, Location: time.UTC}), r); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// TestTextColumns checks that columns become as wide as what they have held.
func TestTextColumns(t *testing.T) {
	for _, color := range []bool{false, true} {
		e := newText(t, TextConfig{Mapping: textMapping, Location: time.UTC, Color: color, Cluster: "prod"})
		short, long, longer := textReference(), textReference(), textReference()
		short.Ends = [flow.MaxEnds]flow.End{}
		longer.Ends[1].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: strings.Repeat("n", 40), Workload: strings.Repeat("w", 40), Warn: "x"})
		var lines []string
		for _, r := range []*flow.Record{short, long, longer, short} {
			lines = append(lines, lineOf(e, r))
		}
		got := strings.Join(lines, "\n") + "\n"
		want := "2021-08-08T10:04:05Z 10.244.0.5:56144      → 10.96.0.1:443         TCP   20.8 kB    400 p via 10.244.0.2 in prod\n" +
			textLine + " in prod\n" +
			"2021-08-08T10:04:05Z " + strings.Repeat("n", 40) + "/" + strings.Repeat("w", 40) + ":56144 → default/kubernetes:443 TCP   20.8 kB    400 p via node-1 in prod\n" +
			"2021-08-08T10:04:05Z 10.244.0.5:56144                                → 10.96.0.1:443          TCP   20.8 kB    400 p via 10.244.0.2 in prod\n"
		if color {
			for _, seq := range []string{colorNone, colorDim, colorName, colorService, colorNode, colorUnsure} {
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

// TestTextTerminal checks that lines fit into a terminal, and that no name is cut at its
// end: there the hash of a pod is, and a port.
func TestTextTerminal(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666").AsSlice()
	for _, tc := range []struct {
		width int
		want  string
	}{
		{80, `2021-08-08, times in UTC (UTC+00:00), cluster prod
TIME     SOURCE                   DESTINATION            PROTO   BYTES  PACKETS
10:04:05 lo…ge/loca…ioner:56144 → default/kubernetes:443 TCP   20.8 kB    400 p
10:04:05 lo…ge/loca…ioner:56144 ↛ [2001:db…555:6666]:443 TCP   20.8 kB    400 p
`},
		{140, `2021-08-08, times in UTC (UTC+00:00), cluster prod
TIME     SOURCE                               DESTINATION                        PROTO   BYTES  PACKETS EXPORTER                 DIR VERDICT
10:04:05 loca…rage/local-pa…ovisioner:56144 → default/kubernetes:443             TCP   20.8 kB    400 p via node-1               in
10:04:05 loca…rage/local-pa…ovisioner:56144 ↛ [2001:db8:1111…4444:5555:6666]:443 TCP   20.8 kB    400 p via node-1               out dropped
`},
	} {
		e := newText(t, TextConfig{Mapping: textMapping, Location: time.UTC, Width: tc.width, Cluster: "prod"})
		outside := textReference()
		outside.Ends[2], outside.Msg.DstAddr = flow.End{}, v6
		outside.Extra.FlowDirection, outside.Extra.Verdict = 1, []byte("dropped")
		inside := textReference()
		inside.Extra.HasDirection = true
		got := lineOf(e, inside) + "\n" + lineOf(e, outside) + "\n"
		if got != tc.want {
			t.Errorf("got\n%swant\n%s", got, tc.want)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(line) - 1; n > tc.width {
				t.Errorf("%d characters of %d: %s", n, tc.width, line)
			}
		}
	}
	for width := 1; width < 300; width++ {
		e := newText(t, TextConfig{Mapping: textMapping, Location: time.UTC, Width: width})
		r := textReference()
		r.Msg.DstAddr, r.Ends[2] = v6, flow.End{}
		r.Msg.SamplerAddress, r.Ends[0] = v6, flow.End{}
		r.Extra.HasDirection, r.Extra.Verdict = true, []byte("a verdict that is too long")
		lines := strings.Split(lineOf(e, r), "\n")
		line := lines[len(lines)-1]
		if n := utf8.RuneCountInString(line); n > max(width, fixedWidth+2*leastEndWidth) || !utf8.ValidString(line) {
			t.Errorf("width %d: %d characters: %s", width, n, line)
		}
	}
}

// TestTextDays checks that the head names each day once, whatever workers do around
// midnight.
func TestTextDays(t *testing.T) {
	for _, tc := range []struct {
		midnight time.Time
		want     string
	}{
		{time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC), "2026-11-27 2026-11-28"},
		{time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), "2026-12-31 2027-01-01"},
		{time.Date(2026, 12, 1, 0, 0, 0, 0, time.FixedZone("X", -7*60*60)), "2026-11-30 2026-12-01"},
	} {
		if got := daysOf(t, tc.midnight); got != tc.want {
			t.Errorf("days %s, want %s", got, tc.want)
		}
	}
}

// daysOf returns the days that the head names for records around midnight.
func daysOf(t *testing.T, midnight time.Time) string {
	t.Helper()
	e := newText(t, TextConfig{Mapping: textMapping, Location: midnight.Location(), Width: 100})
	var days []string
	for _, seconds := range []int64{-2, -1, 1, -1, 2, 3} {
		r := textReference()
		r.Msg.TimeReceivedNs = uint64((midnight.Unix() + seconds) * 1e9)
		for line := range strings.Lines(lineOf(e, r)) {
			if day, _, found := strings.Cut(line, ", times in"); found {
				days = append(days, day)
			}
		}
	}
	return strings.Join(days, " ")
}

// TestTextMore checks fields that are asked for besides those of all lines: with their names,
// and on a terminal in columns with a head.
func TestTextMore(t *testing.T) {
	r := textReference()
	r.Msg.InIf = 12
	r.Extra.Elements = []flow.ElementValue{}
	r.Extra.InIfName = []byte("a \"b\"\u00e9\\\x07=")
	const fields = "default,+InIf,+SamplerNode,+InIfName,+DstNode,+InIf"
	e := newText(t, TextConfig{Mapping: textMapping, Location: time.UTC, Fields: fields})
	if got, want := lineOf(e, r), textLine+` InIf=12 SamplerNode=node-1 InIfName="a \"b\"é\\�=" DstNode=-`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, tc := range []struct {
		width        int
		fields, want string
	}{
		{160, fields, "TIME     SOURCE                            DESTINATION                     PROTO   BYTES  PACKETS       InIf SamplerNode      InIfName         DstNode\n" +
			"10:04:05 loc…rage/local-p…visioner:56144 → default/kubernetes:443          TCP   20.8 kB    400 p         12 node-1           a \"b\"é\\�=        -"},
		{80, "+InIf,+SamplerNode", "TIME     SOURCE         DESTINATION  PROTO   BYTES  PACKETS       InIf Sam…Node\n" +
			"10:04:05 …/l…er:56144 → …t/ku…es:443 TCP   20.8 kB    400 p         12 node-1"},
	} {
		e := newText(t, TextConfig{Mapping: textMapping, Location: time.UTC, Fields: tc.fields, Width: tc.width})
		_, got, _ := strings.Cut(lineOf(e, r), "\n") // the date
		if got != tc.want {
			t.Errorf("width %d: got\n%s\nwant\n%s", tc.width, got, tc.want)
		}
		for line := range strings.Lines(got) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > tc.width {
				t.Errorf("%d characters of %d: %s", n, tc.width, line)
			}
		}
	}
	for _, list := range []string{"InIf", "all", "-InIf", "+all", "+Nonsense", "default,InIf"} {
		if _, err := NewText(TextConfig{Mapping: textMapping, Fields: list}); err == nil || !strings.HasPrefix(err.Error(), "fields: ") {
			t.Errorf("%s: %v", list, err)
		}
	}
}

// TestTextUncounted checks that a record whose packets another record counts is dim, and
// has no other colours.
func TestTextUncounted(t *testing.T) {
	r := textReference()
	r.Extra.Duplicate = true
	got := lineOf(newText(t, TextConfig{Mapping: textMapping, Location: time.UTC, Color: true}), r)
	if want := colorDim + textLine + colorNone; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAppendBytes(t *testing.T) {
	for v, want := range map[uint64]string{
		0: "    0 B", 999: "  999 B", 1000: " 1.0 kB", 1099: " 1.0 kB", 20800: "20.8 kB", 99999: "99.9 kB", 100000: " 100 kB", 999999: " 999 kB",
		1000000: " 1.0 MB", 1e9: " 1.0 GB", 123456789012: " 123 GB", 1e15: " 1.0 PB", 1<<64 - 1: "18.4 EB",
	} {
		if got := string(AppendBytes(nil, v)); got != want {
			t.Errorf("%d: %q, want %q", v, got, want)
		}
	}
}

func TestTextAllocs(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	for _, color := range []bool{false, true} {
		e := newText(t, TextConfig{Mapping: textMapping, Color: color, Width: 80, Fields: "+InIf,+SrcNode,+DstMac,+Verdict"})
		r, other := textReference(), full()
		other.Ends = [flow.MaxEnds]flow.End{}
		other.Msg.TimeReceivedNs = r.Msg.TimeReceivedNs // the same day
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
		got := lineOf(newText(t, TextConfig{Mapping: textMapping, Cluster: name, Fields: "+SrcPod,+InIfName", Width: int(r.Msg.SrcPort) % 200}), r)
		got = got[strings.LastIndexByte(got, '\n')+1:] // without the head
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) && r != utf8.RuneError }) {
			t.Fatalf("%q", got)
		}
	})
}

func BenchmarkText(b *testing.B) {
	e := newText(b, TextConfig{Mapping: textMapping})
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
