package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// withInput is outputOf with standard input.
func withInput(t *testing.T, in string, args ...string) string {
	t.Helper()
	cmd := command(t, append(args, "-")...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out)
}

// TestMessagesKeepNames writes all captures as protobuf, and reads them without a cluster: what is
// written then is what the program writes of the captures themselves. A message does not say
// whether an ICMP type of 0 was sent, so the name of that type is left out.
func TestMessagesKeepNames(t *testing.T) {
	captures, err := filepath.Glob(filepath.Join(captureDir, "*.pcap"))
	if err != nil || len(captures) < 10 {
		t.Fatalf("%v, %v", captures, err)
	}
	for _, tc := range []struct {
		name string
		args []string
		out  []string // of the output, which has other names than protobuf
	}{
		{"default", nil, nil},
		{"v1", []string{"-fields", "all"}, nil},
		{"v2", []string{"-fields", "all"}, []string{"-schema", "v2"}},
		{"netobserv", []string{"-fields", "all"}, []string{"-schema", "netobserv"}},
		{"other ends and labels", []string{"-fields", "all", "-mapping", "SrcAddr=Src,DstAddr=Dst,SamplerAddress=Exp,NextHop=Nxt", "-kube.labels", "none=None,app=App"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			named := append([]string{"-kube.snapshot", demoSnapshot}, tc.args...)
			want := outputOf(t, slices.Concat(named, tc.out, captures)...)
			sent := outputOf(t, slices.Concat(named, []string{"-format", "protobuf"}, captures)...)
			got := withInput(t, sent, slices.Concat([]string{"-kube.off", "-input", "protobuf"}, tc.args, tc.out)...)
			if again := withInput(t, sent, append([]string{"-kube.off", "-input", "protobuf", "-format", "protobuf"}, tc.args...)...); len(messages(t, again)) != len(messages(t, sent)) {
				t.Error("protobuf is not as long as before")
			}
			lines, wanted := strings.Split(got, "\n"), strings.Split(want, "\n")
			if len(lines) != len(wanted) || len(lines) < 8000 {
				t.Fatalf("%d records, want %d", len(lines)-1, len(wanted)-1)
			}
			unlike := 0
			for i := range lines {
				if lines[i] == wanted[i] {
					continue
				}
				if unlike++; unlike > 3 || withoutICMPName(lines[i]) != withoutICMPName(wanted[i]) {
					t.Fatalf("%s\nwant\n%s", lines[i], wanted[i])
				}
			}
		})
	}
}

// withoutICMPName removes the names of type 0.
func withoutICMPName(line string) string {
	return strings.NewReplacer(`"IcmpName":"Echo Reply"`, `"IcmpName":""`, `"icmp_name":"EchoReply"`, `"icmp_name":""`).Replace(line)
}

// TestMessagesAsLines has names in messages and in lines of JSON. They win over what is found for
// the addresses, for all that reads records.
func TestMessagesAsLines(t *testing.T) {
	networks, geoip := placesFiles(t)
	fields := []string{"-fields", "default,+PSubnetLabel,+PCountry,+PStatus"}
	places := []string{"-networks", networks, "-geoip", geoip}
	first := slices.Concat([]string{"-kube.snapshot", demoSnapshot}, places, fields)
	inputs := map[string]string{
		"protobuf": outputOf(t, append(first, "-format", "protobuf", namedCapture)...),
		"json":     outputOf(t, append(first, namedCapture)...),
	}
	for _, filter := range []string{
		`SrcWorkload == "frontend"`, `SrcStatus == "live" && DstStatus == "service"`, `DstSubnetLabel == "inside"`, `DstCountry == "DE"`, `SrcPod == ""`,
	} {
		want := outputOf(t, append(first, "-filter", filter, namedCapture)...)
		for input, in := range inputs {
			got := withInput(t, in, slices.Concat([]string{"-kube.off", "-input", input, "-filter", filter}, fields)...)
			if strings.Count(got, "\n") != strings.Count(want, "\n") || want == "" {
				t.Errorf("%s of %s: %d records, want %d", filter, input, strings.Count(got, "\n"), strings.Count(want, "\n"))
			}
			// Files that name everything change nothing: all ends have a name or a label.
			if more := withInput(t, in, slices.Concat([]string{"-kube.off", "-input", input, "-filter", filter}, places, fields)...); input == "protobuf" && more != got {
				t.Errorf("%s: with -networks there is another output", filter)
			}
		}
	}
	// Another cluster, which has pods of its own at these addresses, adds what is missing.
	other := withInput(t, inputs["protobuf"], slices.Concat([]string{"-kube.snapshot", "testdata/names/owners/objects.yaml", "-input", "protobuf"}, fields)...)
	if want := outputOf(t, append(first, namedCapture)...); other != want {
		for i, line := range strings.Split(want, "\n") {
			if l := strings.Split(other, "\n")[i]; l != line {
				t.Fatalf("with another cluster\n%s\nwant\n%s", l, line)
			}
		}
	}
	text := withInput(t, inputs["protobuf"], "-kube.off", "-input", "protobuf", "-format", "text")
	if !strings.Contains(text, "shop/frontend") || !strings.Contains(text, "default/kubernetes") {
		t.Errorf("no names in text: %.300s", text)
	}
	// goflow2's own messages have none, and take none over from the record before.
	plain := outputOf(t, "-kube.off", "-fields", "SrcAddr,Type", "-format", "protobuf", namedCapture)
	var r map[string]any
	lines := strings.Split(withInput(t, inputs["protobuf"]+plain, "-kube.off", "-input", "protobuf"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-2]), &r); err != nil || r["SrcPod"] != nil || r["SrcWorkload"] != nil {
		t.Errorf("%v, %v", r, err)
	}
}
