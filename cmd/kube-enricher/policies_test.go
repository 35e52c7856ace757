package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
)

// Databases made by hand from the numbers in testdata/captures-ovn/README.md, with
// external_ids as OVN-Kubernetes writes them.
const (
	nbSamples = "../../internal/policy/testdata/nb-samples.json"
	nbDrops   = "../../internal/policy/testdata/nb-drops.json"
	ovnSample = "../../testdata/captures-ovn/ovn-sample.pcap.gz"
	ovnDrop   = "../../testdata/captures-ovn/ovn-drop-sample.pcap"
)

// dropsNeverHit has the tables of the drops' capture, and policies that none of its packets
// met.
func dropsNeverHit(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "nb.json")
	var all []byte
	for _, file := range []string{nbDrops, nbSamples} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(name, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// verdictFields are the fields of a verdict in schema v1 and v2.
var verdictFields = [][2]string{
	{"Verdict", "verdict"}, {"PolicyKind", "policy_kind"}, {"PolicyNamespace", "policy_namespace"}, {"PolicyName", "policy_name"},
	{"PolicyDirection", "policy_direction"}, {"PolicyRule", "policy_rule"}, {"PolicyWarn", "policy_warn"},
}

// decided has what each number stands for, by the README of the captures, and how many
// records have it.
var decided = map[string]struct {
	want    string
	records int
}{
	"43/4301": {"allowed NetworkPolicy shop allow-8080 Ingress 0 ", 1},
	"44/4302": {"allowed NetworkPolicy shop allow-8080 Ingress 0 ", 97},
	"43/4311": {"dropped EgressFirewall shop default Egress 3 ", 4},
	"43/4321": {"allowed NetpolNode  node1 Ingress  ", 2},
	"44/4322": {"allowed NetpolNode  node1 Ingress  ", 136},
	"43/4351": {"dropped NetworkPolicy shop  Ingress  ", 15},
	// The drop capture: the number is that of a logical flow, which names the ACL.
	"1/605235327": {"dropped NetworkPolicy shop  Ingress  ", 1},
}

// TestPolicies names the policies of two captures of real OVN, in all schemas, from captures
// and pipes.
func TestPolicies(t *testing.T) {
	raw := func(capture string, args ...string) string {
		t.Helper()
		out, stderr, code := runProgram(t, append(append([]string{"-kube.off"}, args...), capture)...)
		if code != exitDone {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		return out
	}
	for _, c := range []struct{ capture, nb string }{{ovnSample, nbSamples}, {ovnDrop, nbDrops}} {
		without := "default,+ObservationDomainId,+ObservationPointId,+TimeFlowStartNs,+TimeFlowEndNs"
		protobuf := raw(c.capture, "-format", "protobuf")
		for name, got := range map[string][]map[string]any{
			"v1":                    records(t, raw(c.capture, "-ovn.nb", c.nb, "-fields", "all")),
			"v2":                    records(t, raw(c.capture, "-ovn.nb", c.nb, "-fields", "all", "-schema", "v2")),
			"netobserv":             records(t, raw(c.capture, "-ovn.nb", c.nb, "-fields", "all", "-schema", "netobserv")),
			"filter":                records(t, raw(c.capture, "-ovn.nb", c.nb, "-fields", "all", "-filter", `Verdict != ""`)),
			"protobuf":              asJSON(t, raw(c.capture, "-ovn.nb", c.nb, "-format", "protobuf")),
			"JSON pipe":             records(t, through(t, []byte(raw(c.capture, "-fields", without)), "-kube.off", "-ovn.nb", c.nb, "-fields", "all", "-")),
			"protobuf pipe":         asJSON(t, through(t, []byte(protobuf), "-kube.off", "-ovn.nb", c.nb, "-format", "protobuf", "-input", "protobuf", "-")),
			"protobuf pipe to JSON": records(t, through(t, []byte(protobuf), "-kube.off", "-ovn.nb", c.nb, "-fields", "all", "-input", "protobuf", "-")),
		} {
			t.Run(filepath.Base(c.capture)+"/"+name, func(t *testing.T) { checkDecided(t, got) })
		}
	}
}

// asJSON reads messages, with the names of schema v2.
func asJSON(t *testing.T, out string) (list []map[string]any) {
	t.Helper()
	for _, m := range messages(t, out) {
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, records(t, string(text)+"\n")...)
	}
	return list
}

// checkDecided compares records with what their numbers stand for.
func checkDecided(t *testing.T, list []map[string]any) {
	t.Helper()
	either := func(r map[string]any, names [2]string) string {
		for _, name := range names {
			if v, ok := r[name]; ok {
				return fmt.Sprint(v)
			}
		}
		return ""
	}
	seen := make(map[string]int)
	for _, r := range list {
		domain, err := strconv.ParseUint(either(r, [2]string{"ObservationDomainId", "observation_domain_id"}), 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		number := fmt.Sprintf("%d/%s", domain>>24, either(r, [2]string{"ObservationPointId", "observation_point_id"}))
		seen[number]++
		var got []string
		for _, f := range verdictFields {
			got = append(got, either(r, f))
		}
		if want := decided[number].want; strings.Join(got, " ") != want {
			t.Errorf("%s: %q, not %q", number, strings.Join(got, " "), want)
		}
	}
	total := 0
	for number, n := range seen {
		total += n
		if n != decided[number].records {
			t.Errorf("%s: %d records, not %d", number, n, decided[number].records)
		}
	}
	if total != 255 && total != 1 {
		t.Errorf("%d records", total)
	}
}

// TestPoliciesBeside has the bridge's records and the samples of the same packets: samples
// do not count, and the bridge's records are as they are alone.
func TestPoliciesBeside(t *testing.T) {
	const bridge = "../../testdata/captures-ovn/ipfix1.pcap.gz"
	args := []string{"-kube.snapshot", "../../testdata/captures-ovn/snapshot.yaml", "-fields", "default,+CountsOnce,+ObservationPointId,+Verdict", "-ovn.nb", nbSamples}
	alone, stderr, code := runProgram(t, append(args, bridge)...)
	if code != exitDone {
		t.Fatal(stderr)
	}
	both, stderr, code := runProgram(t, append(args, bridge, ovnSample)...)
	if code != exitDone {
		t.Fatal(stderr)
	}
	rest, ok := strings.CutPrefix(both, alone)
	if !ok {
		t.Error("the bridge's records differ beside samples")
	}
	samples := records(t, rest)
	for _, r := range samples {
		if r["CountsOnce"] != false || fmt.Sprint(r["ObservationPointId"]) == "0" || r["Verdict"] == "" {
			t.Errorf("a sample counts, or has no verdict: %v", r)
		}
	}
	if len(samples) != 255 {
		t.Errorf("%d samples", len(samples))
	}
	for _, r := range records(t, alone) {
		if r["Verdict"] != "" {
			t.Fatalf("a record of the bridge has a verdict: %v", r)
		}
	}
}

// TestPoliciesWrong gives what cannot be used: exit code 2 and one line that says what to do.
func TestPoliciesWrong(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no file":       {[]string{"-ovn.nb", filepath.Join(dir, "none")}, "-ovn.nb: open"},
		"directory":     {[]string{"-ovn.nb", dir}, "is a directory; give a file"},
		"another table": {[]string{"-ovn.nb", file("ports.json", `{"data":[],"headings":["_uuid","ports"]}`)}, "ovn-nbctl --format=json list ACL"},
		"a table":       {[]string{"-ovn.nb", file("acl.txt", "_uuid : 1\n")}, "line 1: is no JSON of ovn-nbctl --format=json"},
		"empty":         {[]string{"-ovn.sb", file("empty", "")}, "-ovn.sb: "},
		"no port":       {[]string{"-ovn.nb", "tcp:10.0.0.1"}, "is no tcp:HOST:PORT"},
		"no authority":  {[]string{"-ovn.nb", "ssl:10.0.0.1:6641"}, "-ovn.tls.ca: is missing"},
		"key without":   {[]string{"-ovn.nb", "unix:/run/ovn/ovnnb_db.sock", "-ovn.tls.ca", "x"}, "is for databases by ssl:"},
		"dash":          {[]string{"-ovn.nb", "-"}, "- is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, stderr, code := runProgram(t, append(append([]string{"-kube.off"}, c.args...), ovnDrop)...)
			if code != exitUsage || !strings.Contains(stderr, c.want) || strings.Contains(strings.TrimSpace(stderr), "\n") {
				t.Errorf("exit code %d: %s", code, stderr)
			}
		})
	}
}
