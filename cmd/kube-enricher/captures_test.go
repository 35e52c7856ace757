package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	reportsDir = "../../testdata/captures-reports"
	ovnDir     = "../../testdata/captures-ovn"
)

// complain fails the test if something is wrong with a capture.
func complain(t *testing.T, wrong []string) {
	t.Helper()
	const most = 20
	if len(wrong) > 0 {
		t.Errorf("%d wrong values:\n%s", len(wrong), strings.Join(wrong[:min(most, len(wrong))], "\n"))
	}
}

// readTable reads a CSV file: its header, and a row for each record.
func readTable(t *testing.T, file string) (header []string, rows [][]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %v", file, err)
	}
	return all[0], all[1:]
}

// view is a way to write records. Its columns have other names and renderings than
// those of v1, in which tables of right values are written.
type view struct {
	name string
	args []string
	read func(t *testing.T, out string) []map[string]any
	// value returns what the view has for a field of v1, in v1's rendering. ok is
	// false if it has no such field, or none that could tell what v1 tells.
	value func(r map[string]any, column, want string) (got string, ok bool)
}

var views = []view{
	{name: "v1", args: []string{"-schema", "v1"}, read: records, value: valueV1},
	{name: "v2", args: []string{"-schema", "v2"}, read: records, value: valueV2},
	{name: "netobserv", args: []string{"-schema", "netobserv"}, read: records, value: valueNetObserv},
	{name: "protobuf", args: []string{"-format", "protobuf"}, read: protobufRecords, value: valueProtobuf},
}

// compare runs the program on a capture in one view, and returns the values that
// are not as in the table.
func (v *view) compare(t *testing.T, capture string, args, header []string, rows [][]string) (wrong []string) {
	t.Helper()
	args = slices.Concat(args, v.args, []string{"-fields", "all", "-loglevel", "error", capture})
	got := v.align(v.read(t, outputOf(t, args...)), header, rows)
	if len(got) != len(rows) {
		wrong = append(wrong, fmt.Sprintf("%s: %d records, want %d", v.name, len(got), len(rows)))
	}
	for i := range min(len(got), len(rows)) {
		for c, column := range header {
			want := rows[i][c]
			if s, ok := v.value(got[i], column, want); ok && !sameValue(s, want) {
				wrong = append(wrong, fmt.Sprintf("%s: record %d: %s is %q, want %q", v.name, i, column, s, want))
			}
		}
	}
	return wrong
}

// align leaves out records that are not in the table, which may end before the last
// sample of a datagram of sFlow: tshark reads no further than it knows.
func (v *view) align(got []map[string]any, header []string, rows [][]string) []map[string]any {
	column := slices.Index(header, "SequenceNum")
	if kind := slices.Index(header, "Type"); column < 0 || kind < 0 || len(rows) == 0 || rows[0][kind] != "SFLOW_5" {
		return got
	}
	left := make(map[string]int) // rows of each datagram
	for _, row := range rows {
		left[row[column]]++
	}
	return slices.DeleteFunc(got, func(r map[string]any) bool {
		datagram, _ := v.value(r, "SequenceNum", "")
		left[datagram]--
		return left[datagram] < 0
	})
}

// sameValue reports whether two texts are equal, lists by their elements.
func sameValue(a, b string) bool {
	if a == b {
		return true
	}
	var x, y []any
	if b == "" {
		b = "[]"
	}
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && (len(x) == 0 && len(y) == 0 || reflect.DeepEqual(x, y))
}

// text renders a value of JSON as tables do.
func text(value any) string {
	switch v := value.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	b, _ := json.Marshal(value)
	return string(b)
}

func valueV1(r map[string]any, column, _ string) (string, bool) { return text(r[column]), true }

// inNs has the fields of seconds whose value other schemas have in nanoseconds.
var inNs = map[string]string{"TimeFlowStart": "TimeFlowStartNs", "TimeFlowEnd": "TimeFlowEndNs", "TimeReceived": "TimeReceivedNs"}

// divided returns a number divided by another.
func divided(s string, by uint64) string {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return s
	}
	return strconv.FormatUint(n/by, 10)
}

// unknownTime reports whether a time is one that only v1 shows as unknown: the
// others have the export time there, as goflow2 has.
func unknownTime(column, want string) bool {
	return want == "0" && strings.HasPrefix(column, "TimeFlow")
}

func mac(s string) string {
	if s == "00:00:00:00:00:00" {
		return ""
	}
	return s
}

// protocolNames has the names that schema v2 gives to the protocols of the tables.
var protocolNames = map[string]string{
	"0": "HOPOPT", "1": "ICMP", "4": "IPv4", "6": "TCP", "17": "UDP", "47": "GRE", "58": "IPv6-ICMP", "89": "OSPFIGP", "132": "SCTP",
}

func valueV2(r map[string]any, column, want string) (string, bool) {
	if unknownTime(column, want) {
		return "", false
	}
	if ns := inNs[column]; ns != "" {
		field, _ := flow.FieldByName(ns)
		return divided(text(r[field.Snake]), 1e9), true
	}
	switch column {
	case "EtypeName":
		return text(r["etype"]), true
	case "Proto": // by name
		if text(r["proto"]) == protocolNames[want] {
			return want, true
		}
		return text(r["proto"]), true
	case "Etype":
		return "", false // EtypeName is the same
	case "IcmpName":
		return "", false // goflow2's own names; type and code are compared
	case "SrcNet", "DstNet": // "10.0.0.0/8"
		_, length, ok := strings.Cut(text(r[map[string]string{"SrcNet": "src_net", "DstNet": "dst_net"}[column]]), "/")
		return length, ok || want != "0"
	}
	field, ok := flow.FieldByName(column)
	if !ok { // a generated one
		key := snakeCase(column)
		return text(r[key]), true
	}
	s := text(r[field.Snake])
	if field.Kind == flow.KindMAC {
		s = mac(s)
	}
	return s, true
}

// snakeCase makes src_pod of SrcPod.
func snakeCase(s string) string {
	var b strings.Builder
	for i, c := range s {
		if c >= 'A' && c <= 'Z' {
			if i > 0 {
				b.WriteByte('_')
			}
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}

func valueNetObserv(r map[string]any, column, want string) (string, bool) {
	field, ok := flow.FieldByName(column)
	switch {
	case column == "SrcPod":
		return text(r["SrcK8S_Name"]), true
	case column == "DstPod":
		return text(r["DstK8S_Name"]), true
	case !ok, unknownTime(column, want), column == "IPTos", column == "InIfName", column == "OutIfName":
		return "", false // not there, or not the same value
	case column == "TimeFlowStart", column == "TimeFlowEnd":
		return divided(text(r[field.NetObserv]), 1e3), true
	}
	key := field.NetObserv
	if key == "" {
		key = column
	}
	s := text(r[key])
	if field.Kind == flow.KindMAC {
		s = mac(s)
	}
	return s, true
}

// TestReports compares what comes of each capture that was made from a public bug
// report with the right values, column by column, in every schema and format.
func TestReports(t *testing.T) {
	tables, err := filepath.Glob(filepath.Join(reportsDir, "*.truth.csv"))
	if err != nil || len(tables) < 44 {
		t.Fatalf("%d tables: %v", len(tables), err)
	}
	for _, table := range tables {
		base := strings.TrimSuffix(table, ".truth.csv")
		t.Run(filepath.Base(base), func(t *testing.T) {
			t.Parallel()
			args := []string{"-kube.off"}
			if _, err := os.Stat(base + ".snapshot.yaml"); err == nil {
				args = []string{"-kube.snapshot", base + ".snapshot.yaml"}
			}
			header, rows := readTable(t, table)
			var wrong []string
			for _, v := range views {
				wrong = append(wrong, v.compare(t, base+".pcap", args, header, rows)...)
			}
			complain(t, wrong)
		})
	}
}

// TestTshark compares what comes of each capture with what tshark reads in it,
// column by column, in every schema and format. test/truth made the tables.
func TestTshark(t *testing.T) {
	ovn, err := filepath.Glob(filepath.Join(ovnDir, "*.pcap*"))
	if err != nil || len(ovn) < 8 {
		t.Fatal(ovn, err)
	}
	for _, file := range slices.Concat(captures(t), ovn) {
		base, _, _ := strings.Cut(filepath.Base(file), ".pcap")
		t.Run(base, func(t *testing.T) {
			t.Parallel()
			header, rows := readTable(t, filepath.Join(filepath.Dir(file), base+".tshark.csv"))
			var wrong []string
			for _, v := range views {
				wrong = append(wrong, v.compare(t, file, []string{"-kube.off"}, header, rows)...)
			}
			complain(t, wrong)
		})
	}
}
