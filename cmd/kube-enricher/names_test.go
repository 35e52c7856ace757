package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	stockpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// nameCases holds a folder for each case: objects.yaml is a snapshot, flows.jsonl
// has flows as lines of JSON, and want.jsonl has for each flow the fields that its
// record must have. A field whose value is null must be absent or empty. The file
// flags has further arguments. Lines of flows are sent in all ways that flows come
// in, and must get the same names in all of them. Cases that need what only
// exporters send have flows-capture.jsonl instead.
const nameCases = "testdata/names"

// TestNameCases runs each case as lines of JSON, as goflow2's protobuf and as a
// capture of IPFIX, with a filter and without one.
func TestNameCases(t *testing.T) {
	dirs, err := os.ReadDir(nameCases)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		t.Run(d.Name(), func(t *testing.T) {
			runNameCase(t, filepath.Join(nameCases, d.Name()))
		})
	}
}

func runNameCase(t *testing.T, dir string) {
	args := []string{"-kube.snapshot", filepath.Join(dir, "objects.yaml"), "-fields", "default,+SrcNode,+SrcZone,+SrcStatus,+DstNode,+DstZone,+DstStatus"}
	if b, err := os.ReadFile(filepath.Join(dir, "flags")); err == nil {
		args = append(args, strings.Fields(string(b))...)
	}
	want := jsonLines(t, filepath.Join(dir, "want.jsonl"))
	ways := map[string]func(t *testing.T, flows []map[string]any, args ...string) string{
		"json": throughJSON, "protobuf": throughProtobuf, "capture": throughCapture,
	}
	file := filepath.Join(dir, "flows.jsonl")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(dir, "flows-capture.jsonl")
		ways = map[string]func(t *testing.T, flows []map[string]any, args ...string) string{"capture": throughCapture}
	}
	flows := jsonLines(t, file)
	if len(flows) != len(want) || len(flows) == 0 {
		t.Fatalf("%d flows, %d wanted", len(flows), len(want))
	}
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		for _, filter := range []string{"", `Bytes >= 0`} {
			t.Run(way+"/filter="+fmt.Sprint(filter != ""), func(t *testing.T) {
				args := args
				if filter != "" {
					args = append(slices.Clone(args), "-filter", filter)
				}
				got := records(t, ways[way](t, flows, args...))
				if len(got) != len(want) {
					t.Fatalf("%d records, want %d", len(got), len(want))
				}
				for i := range want {
					t.Run(fmt.Sprint(i), func(t *testing.T) { checkNames(t, flows[i], got[i], want[i]) })
				}
			})
		}
	}
}

// checkNames compares the fields that are wanted.
func checkNames(t *testing.T, sent, got, want map[string]any) {
	for _, field := range slices.Sorted(maps.Keys(want)) {
		g, w := got[field], want[field]
		if g == nil {
			g = ""
		}
		if w == nil {
			w = ""
		}
		if fmt.Sprint(g) != fmt.Sprint(w) {
			t.Errorf("%v: %s is %q, want %q", sent["_"], field, g, w)
		}
	}
}

// jsonLines reads a file of JSON objects.
func jsonLines(t *testing.T, file string) (list []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var m map[string]any
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&m); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, m)
	}
	return list
}

// through runs the program with an input, and returns what it prints.
func through(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	p := startWith(t, bytes.NewReader(stdin), nil, args...)
	if code := p.wait(); code != exitDone {
		t.Fatalf("exit code %d: %s", code, p.stderr())
	}
	return p.stdout.String()
}

func throughJSON(t *testing.T, flows []map[string]any, args ...string) string {
	t.Helper()
	var in bytes.Buffer
	for _, f := range flows {
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		in.Write(append(b, '\n'))
	}
	return through(t, in.Bytes(), append(args, "-")...)
}

// flowValue returns a number of a flow, 0 if it has none.
func flowValue(t *testing.T, f map[string]any, name string) uint64 {
	t.Helper()
	v, ok := f[name]
	if !ok {
		return 0
	}
	n, err := v.(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return uint64(n)
}

// flowAddr returns an address of a flow, the zero one if it has none.
func flowAddr(t *testing.T, f map[string]any, name string) netip.Addr {
	t.Helper()
	s, ok := f[name].(string)
	if !ok {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// flowMAC returns a MAC of a flow, 0 if it has none.
func flowMAC(f map[string]any, name string) uint64 {
	s, _ := f[name].(string)
	m, _ := flow.ParseMAC(s)
	return m
}

func throughProtobuf(t *testing.T, flows []map[string]any, args ...string) string {
	t.Helper()
	var in bytes.Buffer
	for _, f := range flows {
		m := &stockpb.FlowMessage{
			SrcAddr: flowAddr(t, f, "SrcAddr").AsSlice(), DstAddr: flowAddr(t, f, "DstAddr").AsSlice(),
			SamplerAddress: flowAddr(t, f, "SamplerAddress").AsSlice(),
			SrcMac:         flowMAC(f, "SrcMac"), DstMac: flowMAC(f, "DstMac"),
			Proto: uint32(flowValue(t, f, "Proto")), SrcPort: uint32(flowValue(t, f, "SrcPort")), DstPort: uint32(flowValue(t, f, "DstPort")),
			TimeReceivedNs:  1e9 * flowValue(t, f, "TimeReceived"),
			TimeFlowStartNs: 1e9 * flowValue(t, f, "TimeFlowStart"), TimeFlowEndNs: 1e9 * flowValue(t, f, "TimeFlowEnd"),
		}
		if _, err := protodelim.MarshalTo(&in, m); err != nil {
			t.Fatal(err)
		}
	}
	return through(t, in.Bytes(), append(args, "-input", "protobuf", "-")...)
}

// throughCapture makes a datagram of each flow, with its own template, from the
// address of its sampler.
func throughCapture(t *testing.T, flows []map[string]any, args ...string) string {
	t.Helper()
	var file []byte
	for i, f := range flows {
		source := flowAddr(t, f, "SamplerAddress")
		if !source.IsValid() {
			source = netip.MustParseAddr("192.0.2.254")
		}
		p := pcap(uint32(flowValue(t, f, "TimeReceived")), netip.AddrPortFrom(source, 40000), flowMessage(t, f, i))
		if i > 0 {
			p = p[24:] // one header a file
		}
		file = append(file, p...)
	}
	name := filepath.Join(t.TempDir(), "flows.pcap")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return outputOf(t, append(args, name)...)
}

// flowElements are the elements that flows of the cases may have beside addresses
// and MACs.
var flowElements = []struct {
	name       string
	id, length uint16
}{
	{"Proto", 4, 1}, {"SrcPort", 7, 2}, {"DstPort", 11, 2}, {"TimeFlowStart", 150, 4}, {"TimeFlowEnd", 151, 4},
	{"FlowDirection", 61, 1}, {"InIf", 10, 4}, {"OutIf", 14, 4},
}

// flowMessage returns an IPFIX message of a template and the flow.
func flowMessage(t *testing.T, f map[string]any, i int) []byte {
	t.Helper()
	var template []uint16
	var data []byte
	fields := uint16(0)
	add := func(id uint16, value []byte) {
		fields++
		template = append(template, id, uint16(len(value)))
		data = append(data, value...)
	}
	src, dst := flowAddr(t, f, "SrcAddr"), flowAddr(t, f, "DstAddr")
	if src.Is4() {
		add(8, src.AsSlice())
	} else {
		add(27, src.AsSlice())
	}
	if dst.Is4() {
		add(12, dst.AsSlice())
	} else {
		add(28, dst.AsSlice())
	}
	for name, id := range map[string]uint16{"SrcMac": 56, "DstMac": 80} {
		if m := flowMAC(f, name); m != 0 {
			add(id, be(m)[2:])
		}
	}
	for _, e := range flowElements {
		if _, ok := f[e.name]; ok {
			add(e.id, be(flowValue(t, f, e.name))[8-e.length:])
		}
	}
	for name, id := range map[string]uint16{"TunnelSrcAddr": 893, "TunnelDstAddr": 894} {
		if a := flowAddr(t, f, name); a.IsValid() {
			template = append(template, 0x8000|id, 4, 0, uint16(flow.PENVMware))
			data = append(data, a.AsSlice()...)
			fields++
		}
	}
	received, id := uint32(flowValue(t, f, "TimeReceived")), uint16(256+i)
	body := slices.Concat(set(2, id, fields, template), set(id, data))
	return be(uint16(10), uint16(16+len(body)), received, uint32(i), uint32(0), body)
}
