package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// TestProtocDecode has protoc decode, by flow.proto, what is written of every
// capture.
func TestProtocDecode(t *testing.T) {
	protoc := needs.Program(t, "protoc")
	dir := t.TempDir()
	// A record with the tag of such a field before it is an element of the list.
	if err := os.WriteFile(filepath.Join(dir, "records.proto"), []byte(`syntax = "proto3";
import "flow/flow.proto";
message Records { repeated flowpb.EnrichedFlow record = 1; }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := parseArgs(t, "-format", "pb", "-fields", "all", "-cluster", "c", "-mapping", "SrcAddr=Src,DstAddr=Dst,SamplerAddress=Sampler")
	enc, err := c.NewEncoder(c.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range captures(t) {
		var in []byte
		var want []*flowpb.EnrichedFlow
		decodeCapture(t, file, c, func(r *flow.Record) {
			in = append(in, 1<<3|2)
			n := len(in)
			in = enc.AppendRecord(in, r)
			m := new(flowpb.EnrichedFlow)
			if err := protodelim.UnmarshalFrom(bytes.NewReader(in[n:]), m); err != nil {
				t.Fatal(err)
			}
			want = append(want, m)
		})
		cmd := exec.CommandContext(t.Context(), protoc, "-I", dir, "-I", "../..", "--decode", "Records", "records.proto")
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for part := range strings.SplitSeq(strings.TrimPrefix(string(out), "record {\n"), "\n}\nrecord {\n") {
			got := new(flowpb.EnrichedFlow)
			if err := prototext.Unmarshal([]byte(strings.TrimSuffix(part, "\n}\n")), got); err != nil {
				t.Fatalf("%s, record %d: %v in %s", file, n, err, part)
			}
			if n >= len(want) || !proto.Equal(got, want[n]) {
				t.Fatalf("%s, record %d is %v", file, n, got)
			}
			n++
		}
		if n != len(want) || n == 0 {
			t.Errorf("%s: %d records, want %d", file, n, len(want))
		}
	}
}

// TestJQ has jq read each schema.
func TestJQ(t *testing.T) {
	jq := needs.Program(t, "jq")
	type sums [4]uint64 // records, bytes, packets, records from namespace shop
	var want sums
	c := parseArgs(t)
	decodeCapture(t, namedCapture, c, func(r *flow.Record) {
		want[0]++
		want[1] += r.Msg.Bytes
		want[2] += r.Msg.Packets
		if o := r.Ends[0].Object; o != nil && o.Namespace == "shop" {
			want[3]++
		}
	})
	for schema, names := range map[string][3]string{
		"v1":        {"Bytes", "Packets", "SrcNamespace"},
		"v2":        {"bytes", "packets", "src_namespace"},
		"netobserv": {"Bytes", "Packets", "SrcK8S_Namespace"},
	} {
		cmd := exec.CommandContext(t.Context(), jq, "-s", `[length, (map(.`+names[0]+`) | add), (map(.`+names[1]+`) | add), (map(select(.`+names[2]+` == "shop")) | length)]`)
		cmd.Stdin = strings.NewReader(outputOf(t, "-kube.snapshot", demoSnapshot, "-schema", schema, "-fields", "all", namedCapture))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var got sums
		if err := json.Unmarshal(out, &got); err != nil || got != want || want[3] == 0 {
			t.Errorf("%s: jq sums up %s, want %v", schema, out, want)
		}
	}
}

// recordNames returns all names that a record can have in a schema, with the
// default mapping.
func recordNames(t *testing.T, schema string) map[string]bool {
	t.Helper()
	c := parseArgs(t, "-schema", schema, "-fields", "all")
	enc, err := encode.NewJSON(encode.JSONConfig{Schema: schema, Fields: "all", Mapping: c.Mapping, Cluster: "c"})
	if err != nil {
		t.Fatal(err)
	}
	r := new(flow.Record)
	for i := range c.Mapping {
		r.Ends[i].Object = flow.NewObject(flow.Object{
			Kind: "Pod", Namespace: "x", Name: "x", HostIP: "x", Workload: "x", WorkloadKind: "x", Node: "x", Zone: "x", UID: "x", Warn: "x",
		})
	}
	names := make(map[string]bool)
	for name := range object(t, enc.AppendRecord(nil, r)) {
		names[name] = true
	}
	if len(names) < 80 {
		t.Fatal(slices.Sorted(maps.Keys(names)))
	}
	return names
}

func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestExampleNames checks that the fields that the examples for consumers name
// are there, under these names.
func TestExampleNames(t *testing.T) {
	messages := make(map[string]bool)
	fields := (*flowpb.EnrichedFlow)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		messages[string(fields.Get(i).Name())] = true
	}
	v1, netobserv := recordNames(t, "v1"), recordNames(t, "netobserv")
	for _, tc := range []struct {
		file  string
		find  string // the first group is a name
		known map[string]bool
		least int
	}{
		{"clickhouse/table.sql", `(?m)^    (\w+) +(?:DateTime|U?Int|String|LowCard)`, v1, 30},
		{"clickhouse/protobuf.sql", `(?m)^    (\w+) +(?:U?Int|String)`, messages, 30},
		{"clickhouse/protobuf.sql", `\bAS (\w+),?\n`, v1, 30},
		{"clickhouse/queries.sql", `\b((?:Src|Dst|Bytes|Packets|Time)\w*)\b`, v1, 10},
		{"otel/collector.yaml", `(?:from: |parse_from: |if: ')attributes\.(\w+)`, v1, 12},
		{"loki/collector.yaml", `attributes\.flow\.(\w+)`, netobserv, 5},
		{"loki/promtail.yaml", `(?m)^ +(\w+):$`, netobserv, 14},
		{"loki/config.alloy", `(?m)^ +(\w+) += "",$`, netobserv, 14},
		{"vector/vector.toml", `\.((?:Src|Dst)[A-Z]\w*)`, v1, 4},
	} {
		found := regexp.MustCompile(tc.find).FindAllStringSubmatch(example(t, tc.file), -1)
		for _, f := range found {
			switch f[1] {
			case "pipeline_stages", "expressions", "json", "labels", "clients", "scrape_configs", "static_configs", "SrcKubernetes", "DstKubernetes":
				continue // the consumer's own words
			}
			if !tc.known[f[1]] {
				t.Errorf("%s: there is no field %s", tc.file, f[1])
			}
		}
		if len(found) < tc.least {
			t.Errorf("%s: %d names found by %s", tc.file, len(found), tc.find)
		}
	}
	// What the view selects from a message is what the table has.
	columns := regexp.MustCompile(`(?m)^    (\w+) +(?:DateTime|U?Int|String|LowCard)`)
	var table, view []string
	for _, m := range columns.FindAllStringSubmatch(example(t, "clickhouse/table.sql"), -1) {
		table = append(table, m[1])
	}
	for _, m := range regexp.MustCompile(`\bAS (\w+),?\n`).FindAllStringSubmatch(example(t, "clickhouse/protobuf.sql"), -1) {
		view = append(view, m[1])
	}
	if slices.Sort(view); !slices.Equal(view, slices.Sorted(slices.Values(table))) {
		t.Errorf("the table has %v, the view %v", table, view)
	}
	for _, file := range []string{"otel/collector.yaml", "otel/collector-kafka.yaml", "loki/collector.yaml", "loki/promtail.yaml"} {
		if err := yaml.Unmarshal([]byte(example(t, file)), new(any)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestExampleProtocols checks that the names of protocols that the ClickHouse
// example knows are those of the records.
func TestExampleProtocols(t *testing.T) {
	text := example(t, "clickhouse/protobuf.sql")
	for field, name := range map[string]func(n uint32) string{
		"etype": flow.EtypeName,
		"proto": func(n uint32) string { return flow.ProtoName(flow.EtypeIPv4, n) },
	} {
		m := regexp.MustCompile(`transform\(` + field + `, \[([^]]+)\], \['([^]]+)'\]`).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("no %s", field)
		}
		numbers, names := strings.Split(m[1], ", "), strings.Split(m[2], "', '")
		if len(numbers) != len(names) {
			t.Fatalf("%d numbers, %d names of %s", len(numbers), len(names), field)
		}
		for i := range numbers {
			if n, err := strconv.ParseUint(numbers[i], 10, 32); err != nil || name(uint32(n)) != names[i] {
				t.Errorf("%s %s is %s, not %s", field, numbers[i], name(uint32(n)), names[i])
			}
		}
	}
}
