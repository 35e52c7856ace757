package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
	"sigs.k8s.io/yaml"
)

// placesFiles makes a list of networks, and a database of autonomous systems and countries.
func placesFiles(t *testing.T) (networks, geoip string) {
	dir := t.TempDir()
	networks = filepath.Join(dir, "networks.yaml")
	if err := os.WriteFile(networks, []byte("0.0.0.0/0: internet\n::/0: internet\n10.0.0.0/8: inside\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-Enterprise", IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	_, all, _ := net.ParseCIDR("::/0")
	if err := tree.Insert(all, mmdbtype.Map{
		"country":                        mmdbtype.Map{"iso_code": mmdbtype.String("DE")},
		"autonomous_system_number":       mmdbtype.Uint32(64500),
		"autonomous_system_organization": mmdbtype.String("Example"),
	}); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	geoip = filepath.Join(dir, "geoip.mmdb")
	if err := os.WriteFile(geoip, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return networks, geoip
}

// TestPlaces has the fields in all schemas, only for addresses that the cluster does not know.
func TestPlaces(t *testing.T) {
	networks, geoip := placesFiles(t)
	args := []string{"-kube.snapshot", demoSnapshot, "-networks", networks, "-geoip", geoip, "-fields", "default,+PSubnetLabel,+PCountry,+PASName,+PStatus"}
	for name, schema := range map[string]struct {
		args                                         []string
		label, country, as, workload, status, number string
	}{
		"v1":        {nil, "SrcSubnetLabel", "SrcCountry", "SrcASName", "SrcWorkload", "SrcStatus", "SrcAS"},
		"v2":        {[]string{"-schema", "v2"}, "src_subnet_label", "src_country", "src_as_name", "src_workload", "src_status", "src_as"},
		"netobserv": {[]string{"-schema", "netobserv", "-fields", "default,+PSubnetLabel,+PCountry,+PASName,+PStatus,+SrcAS"}, "SrcSubnetLabel", "SrcCountry", "SrcASName", "SrcK8S_OwnerName", "SrcK8S_Status", "SrcAS"},
	} {
		out := outputOf(t, append(append(append([]string{}, args...), schema.args...), namedCapture, kafkaCapture)...)
		known, unknown := 0, 0
		for line := range strings.Lines(out) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r["SrcAddr"] == "" || r["src_addr"] == "" { // ARP
				continue
			}
			if r[schema.status] == "none" {
				unknown++
				if label := r[schema.label]; label != "internet" && label != "inside" || r[schema.country] != "DE" || r[schema.as] != "Example" || r[schema.number] != 64500.0 || r[schema.workload] != nil {
					t.Fatalf("%s: %s", name, line)
				}
				continue
			}
			known++
			if r[schema.label] != nil || r[schema.country] != nil || r[schema.as] != nil || r[schema.number] != 0.0 {
				t.Fatalf("%s: %s", name, line)
			}
		}
		if known == 0 || unknown == 0 {
			t.Errorf("%s: %d ends of the cluster, %d of others", name, known, unknown)
		}
	}
	if out := outputOf(t, append(args, "-filter", `SrcSubnetLabel == "internet" && SrcCountry == "FR"`, namedCapture, kafkaCapture)...); out != "" {
		t.Errorf("the filter lets through %s", out)
	}
	if out := outputOf(t, append(args, "-filter", `SrcSubnetLabel != ""`, namedCapture, kafkaCapture)...); out == "" {
		t.Error("the filter lets nothing through")
	}
	text := outputOf(t, "-kube.off", "-networks", networks, "-format", "text", kafkaCapture)
	if !strings.Contains(text, "inside:") && !strings.Contains(text, "internet:") {
		t.Errorf("text has no labels: %.300s", text)
	}
}

// TestExplainPlaces: who asks why an address has a label or a country is told which file says so, also
// without a cluster. docs/openapi.yaml has what the answers have.
func TestExplainPlaces(t *testing.T) {
	networks, geoip := placesFiles(t)
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type schema struct {
		Properties map[string]struct{ Properties map[string]any }
	}
	var spec struct {
		Components struct{ Schemas map[string]schema }
	}
	if err := yaml.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	described := spec.Components.Schemas["Explanation"].Properties
	geo := `,"country":"DE","as_number":64500,"as_name":"Example"}`
	for _, names := range [][]string{{"-kube.off"}, {"-kube.snapshot", demoSnapshot}} {
		p := startProgram(t, append(names, "-ui.addr", "127.0.0.1:0", "-logfmt", "json", "-transport.file", os.DevNull, "-networks", networks, "-geoip", geoip, kafkaCapture)...)
		p.eventually("the page stays", func() bool { return strings.Contains(p.stderr(), "all captures are read") })
		base := fmt.Sprint("http://", started(t, p.stderr())["ui"], "/api/v1/explain?addr=")
		for addr, want := range map[string]string{
			"::ffff:10.250.0.1": `{"label":"inside","network":"10.0.0.0/8"` + geo,
			"fe80::1%25eth0":    `{"label":"internet","network":"::/0"` + geo,
			"10.244.0.5":        map[bool]string{true: `{"label":"inside","network":"10.0.0.0/8"` + geo}[names[0] == "-kube.off"],
		} {
			var answer map[string]json.RawMessage
			getJSON(t, base+addr, &answer)
			if got := string(answer["place"]); got != want || (want == "") != (string(answer["chosen"]) != "null") {
				t.Errorf("%v: %s has the place %s, want %s: %s", names, addr, got, want, answer["chosen"])
			}
			for name, value := range answer {
				if _, ok := described[name]; !ok {
					t.Errorf("docs/openapi.yaml does not have %s", name)
				}
				var object map[string]any
				if json.Unmarshal(value, &object) != nil {
					continue
				}
				for key := range object {
					if _, ok := described[name].Properties[key]; !ok {
						t.Errorf("docs/openapi.yaml does not have %s of %s", key, name)
					}
				}
			}
		}
	}
}

// TestPlacesOfLines names addresses in goflow2's output.
func TestPlacesOfLines(t *testing.T) {
	networks, geoip := placesFiles(t)
	for _, more := range [][]string{{"-kube.off"}, {"-kube.snapshot", demoSnapshot}} {
		cmd := command(t, append(append([]string{}, more...), "-networks", networks, "-geoip", geoip, "-fields", "default,+PSubnetLabel,+PCountry", "-")...)
		cmd.Stdin = strings.NewReader(`{"SrcAddr":"198.51.100.7","DstAddr":"10.250.0.1","Bytes":5}` + "\n")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var r map[string]any
		if err := json.Unmarshal(out, &r); err != nil || r["SrcSubnetLabel"] != "internet" || r["DstSubnetLabel"] != "inside" || r["SrcCountry"] != "DE" {
			t.Errorf("%v: %s, %v", more, out, err)
		}
	}
}

// TestPlacesErrors has files that are wrong.
func TestPlacesErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("10.0.0.0/8: a\n10.0.0.0/8: b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"kube-enricher: -networks: " + bad + ":2: 10.0.0.0/8 is in line 1, too; leave one out\n": {"-networks", bad},
		"kube-enricher: -geoip: " + bad + ": no database in the format mmdb":                     {"-geoip", bad},
	} {
		for _, check := range []string{"-check", "-loglevel=info"} {
			if _, stderr, code := runWith(t, nil, append([]string{check, "-kube.off"}, append(args, kafkaCapture)...)...); code != exitUsage || !strings.HasPrefix(stderr, want) {
				t.Errorf("%v: exit code %d, %s", args, code, stderr)
			}
		}
	}
}
