package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	stockpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/enrich"
	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// handle is a function that is a handler.
type handle func(*flow.Record)

func (h handle) HandleFlow(r *flow.Record) { h(r) }
func (handle) Idle() bool                  { return false }

func captures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(captureDir, "*.pcap"))
	if err != nil || len(files) < 14 {
		t.Fatal(files, err)
	}
	return files
}

// decodeCapture hands the records of a capture to h, enriched from the demo's
// snapshot.
func decodeCapture(t *testing.T, file string, c *config.Config, h func(*flow.Record)) {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	reg := prometheus.NewRegistry()
	source, err := enrich.LoadSnapshot(demoSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	names, err := enrich.New(enrich.Config{Mapping: c.Mapping, Unheld: true, KeepEnded: true}, source, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	running := start(names.Run)
	defer func() {
		if err := running.stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := names.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	col, err := collector.New(collector.Config{Listeners: c.Listen}, nil, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	stage := names.NewStage(handle(h))
	if err := col.ReadCapture(t.Context(), file, stage); err != nil {
		t.Fatal(err)
	}
	stage.Drain()
}

func parseArgs(t *testing.T, args ...string) *config.Config {
	t.Helper()
	c, err := config.Parse(args, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProtobufStock has goflow2's own message read what is written of every
// capture: each of its fields is what our decoder has, whatever else is there.
func TestProtobufStock(t *testing.T) {
	c := parseArgs(t, "-format", "pb", "-fields", "all", "-cluster", "c", "-mapping", "SrcAddr=Src,DstAddr=Dst,SamplerAddress=Sampler")
	enc, err := c.NewEncoder(c.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range captures(t) {
		n, named := 0, 0
		var b []byte
		decodeCapture(t, file, c, func(r *flow.Record) {
			n++
			b = enc.AppendRecord(b[:0], r)
			got := new(stockpb.FlowMessage)
			if err := protodelim.UnmarshalFrom(bytes.NewReader(b), got); err != nil {
				t.Fatal(err)
			}
			got.ProtoReflect().SetUnknown(nil)
			if !proto.Equal(got, &r.Msg.FlowMessage) {
				t.Fatalf("record %d: goflow2 reads %v\nwant %v", n, got, &r.Msg.FlowMessage)
			}
			ours := new(flowpb.EnrichedFlow)
			if err := protodelim.UnmarshalFrom(bytes.NewReader(b), ours); err != nil {
				t.Fatal(err)
			}
			if ours.SrcPod != "" {
				named++
			}
			if unknown := ours.ProtoReflect().GetUnknown(); len(unknown) > 0 || ours.SrcStatus != r.Ends[0].Status.String() || ours.Cluster != "c" {
				t.Fatalf("record %d: %v, unknown %x", n, ours, unknown)
			}
		})
		if n == 0 || file == namedCapture && named == 0 {
			t.Errorf("%s: %d records, %d with the name of a pod", file, n, named)
		}
	}
}

// messages reads the program's protobuf output.
func messages(t *testing.T, out string) []*flowpb.EnrichedFlow {
	t.Helper()
	var list []*flowpb.EnrichedFlow
	for r := bufio.NewReader(strings.NewReader(out)); ; {
		m := new(flowpb.EnrichedFlow)
		err := protodelim.UnmarshalFrom(r, m)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, m)
	}
}

const namedCapture = captureDir + "/ovs-ipfix-2node-geneve.pcap"

// TestProtobufProgram compares the program's protobuf with its JSON, under all
// names of the format.
func TestProtobufProgram(t *testing.T) {
	out, stderr, code := runProgram(t, "-kube.snapshot", demoSnapshot, "-cluster", "c", namedCapture)
	if code != exitDone {
		t.Fatal(stderr)
	}
	want := records(t, out)
	for _, format := range []string{"protobuf", "pb", "bin"} {
		file := filepath.Join(t.TempDir(), "flows")
		_, stderr, code := runProgram(t, "-kube.snapshot", demoSnapshot, "-cluster", "c", "-format", format, "-transport.file", file, namedCapture)
		if code != exitDone {
			t.Fatal(stderr)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got := messages(t, string(b))
		if len(got) != len(want) {
			t.Fatalf("-format %s: %d records, want %d", format, len(got), len(want))
		}
		for i, w := range want {
			name := func(key string) string { s, _ := w[key].(string); return s }
			g := got[i]
			if g.SrcPod != name("SrcPod") || g.DstWorkload != name("DstWorkload") || g.DstNamespace != name("DstNamespace") || g.Cluster != "c" ||
				w["Bytes"].(json.Number).String() != strconv.FormatUint(g.Bytes, 10) {
				t.Fatalf("-format %s: record %d is %v, want %v", format, i, g, w)
			}
		}
	}
}

// TestProtobufPipe gives the program goflow2's protobuf, as goflow2 prints it
// with and without its separator, and wants each message back with names.
func TestProtobufPipe(t *testing.T) {
	pod := records(t, outputOf(t, "-kube.snapshot", demoSnapshot, "-fields", "SrcAddr,SrcPod,TimeReceivedNs", namedCapture))
	var addr, name string
	for _, r := range pod {
		if s, _ := r["SrcPod"].(string); s != "" {
			addr, name = r["SrcAddr"].(string), s
			break
		}
	}
	var out []byte
	decodeCapture(t, namedCapture, parseArgs(t), func(r *flow.Record) {
		if r.Ends[0].Object != nil && out == nil {
			m := proto.Clone(&r.Msg.FlowMessage).(*stockpb.FlowMessage)
			// A field of goflow2's -mapping file.
			m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 42, protowire.VarintType), 1))
			b, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			out = protowire.AppendBytes(nil, b)
		}
	})
	if addr == "" || out == nil {
		t.Fatal("the demo has no named source")
	}
	stock := new(stockpb.FlowMessage)
	if err := protodelim.UnmarshalFrom(bytes.NewReader(out), stock); err != nil {
		t.Fatal(err)
	}
	for _, separator := range []string{"", "\n"} {
		in := strings.Repeat(string(out)+separator, 100)
		p := startWith(t, strings.NewReader(in), nil, "-kube.snapshot", demoSnapshot, "-format", "protobuf", "-")
		if code := p.wait(); code != exitDone {
			t.Fatal(p.stderr())
		}
		got := messages(t, p.stdout.String())
		if len(got) != 100 {
			t.Fatalf("%d records", len(got))
		}
		for _, g := range got {
			if g.SrcPod != name {
				t.Fatalf("source is %q, want %q: %v", g.SrcPod, name, g)
			}
			b, err := proto.Marshal(g)
			if err != nil {
				t.Fatal(err)
			}
			back := new(stockpb.FlowMessage)
			if err := proto.Unmarshal(b, back); err != nil {
				t.Fatal(err)
			}
			if !bytes.HasSuffix(back.ProtoReflect().GetUnknown(), stock.ProtoReflect().GetUnknown()) {
				t.Fatalf("field 42 is lost: %x", back.ProtoReflect().GetUnknown())
			}
			back.ProtoReflect().SetUnknown(stock.ProtoReflect().GetUnknown())
			if !proto.Equal(back, stock) {
				t.Fatalf("got %v, want %v", back, stock)
			}
		}
		p = startWith(t, strings.NewReader(in), nil, "-kube.snapshot", demoSnapshot, "-")
		if code := p.wait(); code != exitDone {
			t.Fatal(p.stderr())
		}
		if rs := records(t, p.stdout.String()); len(rs) != 100 || rs[0]["SrcAddr"] != addr || rs[0]["SrcPod"] != name {
			t.Errorf("as JSON: %d records, %v", len(rs), rs[0])
		}
	}
}

// TestProtobufPipeOwn checks that what goflow2 has no fields for comes through a
// pipe of protobuf into JSON.
func TestProtobufPipeOwn(t *testing.T) {
	args := []string{"-kube.off", "-fields", "all"}
	want := records(t, outputOf(t, append(args, namedCapture)...))
	p := startWith(t, strings.NewReader(outputOf(t, append(args, "-format", "pb", namedCapture)...)), nil, append(args, "-")...)
	if code := p.wait(); code != exitDone {
		t.Fatal(p.stderr())
	}
	got, named := records(t, p.stdout.String()), 0
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		for _, name := range differ(got[i], want[i]) {
			// goflow2's message does not say whether the exporter sent a time.
			if !strings.HasPrefix(name, "TimeFlow") {
				t.Errorf("record %d: %s is %v, want %v", i, name, got[i][name], want[i][name])
			}
		}
		if want[i]["InIfName"] != "" && number(want[i], "FlowDirection") == 1 {
			named++
		}
	}
	if named == 0 {
		t.Error("no record has what is looked for")
	}
}

// outputOf returns what the program prints.
func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, code := runProgram(t, args...)
	if code != exitDone {
		t.Fatal(stderr)
	}
	return stdout
}

// TestLinesAsProtobuf checks that lines of JSON are refused when they cannot be
// written: at once where that is known, else when they come.
func TestLinesAsProtobuf(t *testing.T) {
	for _, tc := range []struct {
		args []string
		code int
	}{
		{[]string{"-format", "pb", "-kube.off", "-"}, exitFailed},
		{[]string{"-format", "pb", "-kube.off", "-input", "json", "-"}, exitUsage},
	} {
		p := startWith(t, strings.NewReader(`{"SrcAddr":"192.0.2.1"}`+"\n"), nil, tc.args...)
		code := p.wait()
		var said []string
		for line := range strings.Lines(p.stderr()) {
			if strings.HasPrefix(line, "kube-enricher: ") {
				said = append(said, line)
			}
		}
		if code != tc.code || p.stdout.Len() > 0 || len(said) != 1 || !strings.Contains(said[0], "JSON") || !strings.Contains(said[0], "-format") {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", tc.args, code, p.stdout.String(), p.stderr())
		}
	}
}

// TestGolden compares what is written of each capture, in each format, with
// what was written before: some records in full, all of them by their hash.
// Differences are changes that users see: they belong into the changelog.
func TestGolden(t *testing.T) {
	var sums []byte
	for _, tc := range []struct {
		file string
		args []string
	}{
		{"v1.json", nil},
		{"v2.json", []string{"-schema", "v2"}},
		{"netobserv.json", []string{"-schema", "netobserv"}},
		{"text.txt", []string{"-format", "text"}},
		{"protobuf.bin", []string{"-format", "protobuf"}},
	} {
		c := parseArgs(t, append(tc.args, "-cluster", "demo")...)
		// An encoder of text aligns its columns with those it wrote before.
		var encoders [2]transport.Encoder
		for i := range encoders {
			var err error
			if encoders[i], err = c.NewEncoder(c.Outputs[0]); err != nil {
				t.Fatal(err)
			}
			if c.WritesAs(config.FormatText) {
				if encoders[i], err = encode.NewText(encode.TextConfig{Mapping: c.Mapping, Cluster: c.Cluster, Location: time.UTC}); err != nil {
					t.Fatal(err)
				}
			}
		}
		some, all := encoders[0], encoders[1]
		var got, record []byte
		for _, file := range captures(t) {
			n, hash := uint(0), sha256.New()
			decodeCapture(t, file, c, func(r *flow.Record) {
				record = all.AppendRecord(record[:0], r)
				hash.Write(record)
				if bits.OnesCount(n) <= 1 && bits.Len(n)%4 == 0 { // 0, 8, 128, ...
					got = some.AppendRecord(got, r)
				}
				n++
			})
			sums = fmt.Appendf(sums, "%x  %s %s, %d records\n", hash.Sum(nil), filepath.Base(file), tc.file, n)
		}
		golden(t, tc.file, got)
	}
	golden(t, "sums.txt", sums)
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	name := filepath.Join("testdata", "golden", file)
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		i := 0
		for i < min(len(got), len(want)) && got[i] == want[i] {
			i++
		}
		t.Errorf("%s differs from byte %d on:\n got %.200q\nwant %.200q", name, i, got[i:], want[i:])
	}
}

// TestTextOfLines reads stored records, of both naming styles, and shows them as text. Names
// that a record has already are shown, whether or not there is a cluster.
func TestTextOfLines(t *testing.T) {
	const in = `{"type":"IPFIX","time_received_ns":1795399200000000000,"src_addr":"10.244.0.5","dst_addr":"fd00::1","bytes":1234,"packets":5,"proto":"IPv6-ICMP","etype":"IPv6","sampler_address":"10.0.0.1"}
{"TimeReceived":1795399201,"SrcAddr":"10.244.0.6","DstAddr":"203.0.113.9","SrcNamespace":"shop","SrcWorkload":"cart","SrcWorkloadKind":"Deployment","SrcPod":"cart-1","SrcPort":5,"DstPort":53,"Proto":17,"ProtoName":"UDP","Etype":2048,"Bytes":100,"Packets":1,"CountsOnce":false,"SamplerAddress":"10.0.0.2","InIf":7}
no record
`
	const want = `2026-11-23T02:00:00Z 10.244.0.5            → fd00::1               ICMP6  1.2 kB      5 p via 10.0.0.1 InIf=0
2026-11-23T02:00:01Z shop/cart:5           → 203.0.113.9:53        UDP     100 B      1 p via 10.0.0.2 InIf=7
no record
`
	for _, args := range [][]string{{"-kube.off"}, {"-kube.off", "-input", "json"}, {"-kube.snapshot", demoSnapshot}} {
		cmd := command(t, append(args, "-format", "text", "-fields", "+InIf", "-")...)
		cmd.Env = append(cmd.Env, "TZ=UTC")
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.Output()
		expected := want
		if slices.Contains(args, demoSnapshot) {
			expected = strings.Replace(want, "10.244.0.5   ", "shop/frontend", 1) // the snapshot's pod
		}
		if err != nil || string(out) != expected {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
