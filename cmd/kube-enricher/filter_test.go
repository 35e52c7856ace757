package main

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// TestFilterMistakes checks that a wrong expression is refused at once, in one
// line that says where it is wrong.
func TestFilterMistakes(t *testing.T) {
	for _, tc := range []struct {
		args []string
		env  []string
		want string
	}{
		{[]string{"-filter", `Bytes > 1 && SrcNamspace == "x"`}, nil, "-filter: column 14: there is no field SrcNamspace; did you mean SrcNamespace?"},
		{[]string{"-filter", `src_namspace == "x"`}, nil, "-filter: column 1: there is no field src_namspace; did you mean src_namespace?"},
		{[]string{"-filter", "Zebra"}, nil, "-filter: column 1: there is no field Zebra; text goes in quotes (\"Zebra\"), and https://github.com/netobserv/goflow2-kube-enricher/blob/main/docs/fields.md lists the fields"},
		{[]string{"-filter", "Bytes > 1 &&\n  Byte > 2"}, nil, "-filter: line 2, column 3: there is no field Byte; did you mean Bytes?"},
		{[]string{"-filter", "SrcPod"}, nil, "-filter: column 1: SrcPod is text, and no condition; an example of one is Bytes > 1000"},
		{[]string{"-check", "-filter", "Bytes >"}, nil, "-filter: column 7: something is missing at the end"},
		{[]string{"-filter", " "}, nil, `-filter: column 1: the expression is empty; an example is SrcNamespace == "prod" && Bytes > 1000`},
		{nil, []string{"KUBE_ENRICHER_FILTER=Bytes"}, "-filter (from environment variable KUBE_ENRICHER_FILTER): column 1: Bytes is a number, and no condition; an example of one is Bytes > 1000"},
		// The names there are depend on other flags.
		{[]string{"-filter", `NxtPod == "x"`}, nil, "-filter: column 1: there is no field NxtPod; did you mean DstPod?"},
		{[]string{"-filter", `SrcApp == "x"`}, nil, "-filter: column 1: there is no field SrcApp; did you mean SrcAS?"},
		{[]string{"-filter", `65000 in AsPath`, "-input", "json", "-"}, nil, "-filter: AsPath is a list, which is not read from lines of JSON; let goflow2 write protobuf (-format bin)"},
	} {
		_, err := config.Parse(tc.args, tc.env, false)
		if _, ok := errors.AsType[*config.UsageError](err); !ok {
			t.Errorf("%q: %v", tc.args, err)
			continue
		}
		oneLine(t, err.Error())
		if err.Error() != tc.want {
			t.Errorf("%q:\n got %s\nwant %s", tc.args, err, tc.want)
		}
	}
	for _, args := range [][]string{
		{"-filter", ""},
		{"-filter", `NxtPod == "x" && SrcApp == "y" && Cluster == "c"`, "-mapping", "SrcAddr=Src,NextHop=Nxt", "-kube.labels", "app=App"},
		{"-filter", `65000 in AsPath`, "-"},
	} {
		if _, err := config.Parse(args, nil, false); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, args := range [][]string{{"-filter", "Bytes", "-kube.off"}, {"-check", "-filter", "Bytes", "-kube.off"}} {
		stdout, stderr, code := runProgram(t, args...)
		if code != exitUsage || stdout != "" || strings.Contains(stderr, "\n") || !strings.Contains(stderr, "-filter: column 1") {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// TestFilterCapture checks which records of a capture are written, and that the
// others are counted.
func TestFilterCapture(t *testing.T) {
	all := records(t, outputOf(t, "-kube.snapshot", demoSnapshot, namedCapture))
	for _, tc := range []struct {
		expression string
		want       func(r map[string]any) bool
	}{
		{`SrcNamespace == "shop" && Bytes > 1000`, func(r map[string]any) bool { return r["SrcNamespace"] == "shop" && number(r, "Bytes") > 1000 }},
		{`DstPort in 1..1023 or src_workload_kind == "Service"`, func(r map[string]any) bool {
			return number(r, "DstPort") > 0 && number(r, "DstPort") < 1024 || r["SrcWorkloadKind"] == "Service"
		}},
		{`cidr(SrcAddr, "10.244.0.0/16") and not (ProtoName == "TCP")`, func(r map[string]any) bool {
			return strings.HasPrefix(r["SrcAddr"].(string), "10.244.") && r["ProtoName"] != "TCP"
		}},
		{`SrcPod == ""`, func(r map[string]any) bool { return r["SrcPod"] == nil }},
		{"true", func(map[string]any) bool { return true }},
		{"false", func(map[string]any) bool { return false }},
	} {
		want := 0
		for _, r := range all {
			if tc.want(r) {
				want++
			}
		}
		p := startWith(t, nil, nil, "-kube.snapshot", demoSnapshot, "-logfmt", "json", "-filter", tc.expression, namedCapture)
		code := p.wait()
		got := records(t, p.stdout.String())
		for _, r := range got {
			if !tc.want(r) {
				t.Errorf("%s: wrote %v", tc.expression, r)
			}
		}
		done := object(t, []byte(lastLine(strings.TrimSpace(p.stderr()))))
		if code != exitDone || len(got) != want || number(done, "received") != uint64(len(all)) || number(done, "written") != uint64(want) ||
			number(done, "dropped_filter") != uint64(len(all)-want) || number(done, "held") != 0 {
			t.Errorf("%s: exit code %d, %d records of %d, want %d: %s", tc.expression, code, len(got), len(all), want, p.stderr())
		}
	}
}

// TestFilterCollect checks the ledger of filtered records.
func TestFilterCollect(t *testing.T) {
	p, flows, base := collect(t, "-filter", "Bytes > 1000")
	sendCapture(t, flows, "ovs-ipfix")
	var metrics string
	p.eventually("all records", func() bool {
		metrics, _ = get(t, base+"/metrics")
		// The ledger balances only while no datagram is being worked on.
		return metric(metrics, "kube_enricher_records_received_total", "") == 105 &&
			metric(metrics, "kube_enricher_records_written_total", "")+metric(metrics, "kube_enricher_records_dropped_total", "") == 105
	})
	checkLedger(t, metrics, 105)
	if n := metric(metrics, "kube_enricher_records_dropped_total", `reason="filter",transport="file"`); n == 0 || n == 105 {
		t.Errorf("%v records filtered", n)
	}
	p.signal(os.Interrupt)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestFilterOutputs checks that each of several outputs counts what is filtered,
// also one that cannot be reached.
func TestFilterOutputs(t *testing.T) {
	flows, addr := freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+flows+"?count=1", "-addr", addr, "-kube.off", "-filter", "Bytes > 1000", "-drain-timeout", "1s",
		"-transport", "file,kafka", "-transport.kafka.brokers", "127.0.0.1:1", "-transport.kafka.topic", "flows")
	p.eventually("alive", func() bool { _, code := get(t, "http://"+addr+"/livez"); return code == http.StatusOK })
	sendCapture(t, flows, "ovs-ipfix")
	var metrics string
	p.eventually("all records", func() bool {
		metrics, _ = get(t, "http://"+addr+"/metrics")
		return metric(metrics, "kube_enricher_records_received_total", "") == 105
	})
	metrics, _ = get(t, "http://"+addr+"/metrics") // that one may have looked at the outputs first
	file := metric(metrics, "kube_enricher_records_dropped_total", `reason="filter",transport="file"`)
	if kafka := metric(metrics, "kube_enricher_records_dropped_total", `reason="filter",transport="kafka"`); kafka != file || file == 0 || file == 105 {
		t.Errorf("%v and %v records filtered", file, kafka)
	}
	p.signal(os.Interrupt)
	p.wait()
}

// TestFilterPipe checks filters on what comes over a pipe: lines of both
// styles, lines that are none, and protobuf; names that are found and names
// that the records have already.
func TestFilterPipe(t *testing.T) {
	const in = `{"type":"IPFIX","src_addr":"10.244.0.5","dst_addr":"10.96.0.1","proto":"TCP","bytes":18446744073709551615}
{"Type":"IPFIX","SrcAddr":"10.244.0.5","DstAddr":"10.96.0.1","Proto":6,"Bytes":999}
not json
{"SrcAddr":"192.0.2.1","SrcNamespace":"shop","Proto":6,"Bytes":5000}
{"SrcAddr":"10.244.0.5","SrcNamespace":"other","Proto":6,"Bytes":5000}
{"src_addr":"10.244.0.5","proto":"UDP","bytes":5000}
`
	line := strings.SplitAfter(in, "\n")
	pipeTo := func(input string, args ...string) string {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(w, input); w.Close() }()
		p := startWith(t, r, nil, append(args, "-logfmt", "json")...)
		if code := p.wait(); code != exitDone {
			t.Fatalf("exit code %d: %s", code, p.stderr())
		}
		return p.stdout.String()
	}
	got := strings.SplitAfter(pipeTo(in, "-kube.snapshot", demoSnapshot, "-filter", `SrcNamespace == "shop" && ProtoName == "TCP" && Bytes > 1000`), "\n")
	if len(got) != 4 || !strings.HasPrefix(got[0], strings.TrimSuffix(line[0], "}\n")) || !strings.Contains(got[0], `"src_namespace":"shop"`) || got[1] != line[2] || got[2] != line[3] {
		t.Errorf("wrote %q", got)
	}
	// Records with names, to a second program that knows none.
	enriched := outputOf(t, "-kube.snapshot", demoSnapshot, "-cluster", "east", namedCapture)
	want := strings.Count(enriched, `"SrcNamespace":"shop"`)
	if out := pipeTo(enriched, "-kube.off", "-filter", `SrcNamespace == "shop" && Cluster == "east" && EtypeName != ""`); want == 0 || strings.Count(out, "\n") != want {
		t.Errorf("%d lines, want %d", strings.Count(out, "\n"), want)
	}
	enriched = outputOf(t, "-kube.snapshot", demoSnapshot, "-cluster", "east", "-format", "pb", namedCapture)
	for _, args := range [][]string{{"-format", "json"}, {"-format", "protobuf"}} {
		out := pipeTo(enriched, append(args, "-kube.off", "-filter", `SrcNamespace == "shop" && Cluster == "east" && EtypeName != ""`)...)
		n := strings.Count(out, "\n")
		if args[1] == "protobuf" {
			n = len(messages(t, out))
		}
		if n != want {
			t.Errorf("%q: %d records, want %d", args, n, want)
		}
	}
	// A list is known to be out of reach only when the lines come.
	p := startWith(t, strings.NewReader(in), nil, "-kube.off", "-filter", "1 in AsPath", "-")
	if code := p.wait(); code != exitUsage || !strings.Contains(p.stderr(), "kube-enricher: -filter: AsPath is a list") || p.stdout.Len() > 0 {
		t.Errorf("exit code %d, %q, %q", code, p.stdout.String(), p.stderr())
	}
}

// TestFilterWarning checks that names that are never known are not asked for in
// silence.
func TestFilterWarning(t *testing.T) {
	for expression, warned := range map[string]bool{`SrcPod == "x"`: true, `Bytes > 1 && Cluster == ""`: false} {
		_, stderr, code := runProgram(t, "-check", "-kube.off", "-filter", expression)
		if code != exitDone || strings.Contains(stderr, "-kube.off") != warned {
			t.Errorf("%s: exit code %d, %q", expression, code, stderr)
		}
	}
}
