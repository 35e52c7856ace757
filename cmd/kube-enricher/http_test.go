package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func TestQuestion(t *testing.T) {
	q, err := parseQuestion("addr=10.0.0.1&time=2026-01-02T03:04:05Z&port=53&proto=UDP")
	if err != nil || q.addr.String() != "10.0.0.1" || !q.at.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || q.protocol != 17 || q.port != 53 {
		t.Errorf("%v %v", q, err)
	}
	if q, err := parseQuestion("addr=fd00%3A%3A1&port=443"); err != nil || q.addr.String() != "fd00::1" || time.Since(q.at) > time.Minute || q.protocol != 6 {
		t.Errorf("%v %v", q, err)
	}
	if q, err := parseQuestion("addr=::1&time=2026-01-02T03:04:05+01:00"); err != nil || q.at.UTC().Hour() != 2 || q.port != 0 {
		t.Errorf("%v %v", q, err)
	}
	for query, want := range map[string]string{
		"":                                   "addr is missing; ask /explain?addr=IP",
		"addr=":                              `addr "" is no IP address`,
		"addr=pod-1":                         `addr "pod-1" is no IP address`,
		"addr=10.0.0.1/24":                   "is no IP address",
		"addr=::1&addr=::2":                  "addr is given twice",
		"addr=::1&when=now":                  `there is no parameter "when"`,
		"addr=::1&time=":                     `time "" is no time`,
		"addr=::1&time=1700000000":           `time "1700000000" is no time of RFC 3339`,
		"addr=::1&time=9999-01-01T0:0:0":     "is no time",
		"addr=::1&time=9999-01-01T00:00:00Z": "is no time of RFC 3339 from 1970 to 2200",
		"addr=%zz":                           "the query cannot be read",
		"addr=::1&port=0":                    `port "0" is no number from 1 to 65535`,
		"addr=::1&port=80&proto=icmp":        `proto "icmp" is not tcp, udp or sctp`,
		"addr=::1&proto=tcp":                 "proto is given without port",
	} {
		if _, err := parseQuestion(query); err == nil || !strings.HasPrefix(err.Error()+" ", want) && !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", query, err, want)
		}
	}
}

// TestExplainParameters: docs/openapi.yaml has the parameters that /explain takes, and their
// values.
func TestExplainParameters(t *testing.T) {
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type parameter struct {
		Name     string
		Required bool
		Schema   struct {
			Enum             []string
			Default          string
			Minimum, Maximum int
		}
	}
	var spec struct {
		Paths map[string]struct {
			Get struct{ Parameters []parameter }
		}
	}
	if err := yaml.Unmarshal(b, &spec); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, p := range spec.Paths["/api/v1/explain"].Get.Parameters {
		listed = append(listed, p.Name)
		values, wrong := p.Schema.Enum, []string{"", "x"}
		others := "addr=::1&"
		switch p.Name {
		case "addr":
			values, others = []string{"10.0.0.1", "::1"}, ""
		case "time":
			values = []string{"2026-01-02T15:04:05Z"}
		case "port":
			values = []string{fmt.Sprint(p.Schema.Minimum), fmt.Sprint(p.Schema.Maximum)}
			wrong = append(wrong, fmt.Sprint(p.Schema.Minimum-1), fmt.Sprint(p.Schema.Maximum+1))
		case "proto":
			wrong, others = wrong[1:], "addr=::1&port=80&"
			with, err1 := parseQuestion(others + "proto=" + p.Schema.Default)
			without, err2 := parseQuestion(others)
			if with.protocol != without.protocol || err1 != nil || err2 != nil {
				t.Errorf("%q is not the default of proto", p.Schema.Default)
			}
		}
		for _, v := range values {
			if _, err := parseQuestion(others + p.Name + "=" + v); err != nil {
				t.Errorf("%s=%s: %v", p.Name, v, err)
			}
		}
		for _, v := range wrong {
			if _, err := parseQuestion(others + p.Name + "=" + v); err == nil {
				t.Errorf("%s=%s is taken", p.Name, v)
			}
		}
		if _, err := parseQuestion(others); (err != nil) != p.Required {
			t.Errorf("without %s: %v", p.Name, err)
		}
		if len(values) == 0 {
			t.Errorf("%s has no value", p.Name)
		}
	}
	var taken []string
	for _, m := range regexp.MustCompile(`[?&](\w+)=`).FindAllStringSubmatch(explainUsage, -1) {
		taken = append(taken, m[1])
	}
	slices.Sort(listed)
	slices.Sort(taken)
	if !slices.Equal(listed, taken) {
		t.Errorf("docs/openapi.yaml has %v, /explain takes %v", listed, taken)
	}
}

func TestExplainOverHTTP(t *testing.T) {
	addr, debugAddr := freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+freeAddr(t)+"?count=1", "-addr", addr, "-debug.addr", debugAddr, "-kube.snapshot", demoSnapshot)
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	body, code := get(t, "http://"+debugAddr+"/explain?addr=10.244.0.5")
	var x struct {
		Addr, Status, Rule string
		Chosen             *struct{ Name string }
		Owners             []struct{ Kind, Name, From string }
	}
	if err := json.Unmarshal([]byte(body), &x); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s", code, body)
	}
	if x.Status != "live" || x.Rule != "overlap" || x.Chosen == nil || len(x.Owners) == 0 || x.Owners[0].Kind != "Pod" || x.Owners[0].From == "" {
		t.Errorf("%s", body)
	}
	if body, code := get(t, "http://"+debugAddr+"/explain?addr=nobody"); code != http.StatusBadRequest || !strings.Contains(body, "is no IP address") {
		t.Errorf("%d %s", code, body)
	}
	if _, code := get(t, "http://"+addr+"/explain?addr=10.244.0.5"); code != http.StatusNotFound {
		t.Error("/explain is on -addr")
	}
}

// TestIndex reads what / lists on both addresses, and asks for each page of it. Names in JSON are
// of one style, but for those of /templates, which are goflow2's.
func TestIndex(t *testing.T) {
	flows, addr, debugAddr := freeAddr(t), freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+flows, "-addr", addr, "-debug.addr", debugAddr, "-kube.snapshot", demoSnapshot)
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	sendCapture(t, flows, "ovs-ipfix")
	p.eventually("received", func() bool {
		text, _ := get(t, "http://"+addr+"/metrics")
		return metric(text, "kube_enricher_records_received_total", "") > 0
	})
	for _, tc := range []struct{ addr, paths string }{
		{addr, "/livez /readyz /metrics"},
		{debugAddr, "/templates /exporters /explain?addr=IP /debug/pprof/"},
	} {
		text, code := get(t, "http://"+tc.addr+"/")
		var paths []string
		for _, m := range regexp.MustCompile(`(?m)^(/\S+)  +\S`).FindAllStringSubmatch(text, -1) {
			paths = append(paths, m[1])
		}
		if code != http.StatusOK || strings.Join(paths, " ") != tc.paths || !strings.Contains(text, "/docs/http.md") {
			t.Errorf("%d %s", code, text)
		}
		for _, path := range paths {
			body, code := get(t, "http://"+tc.addr+strings.Replace(path, "IP", "10.244.0.5", 1))
			if code != http.StatusOK || body == "" {
				t.Errorf("%s: %d %s", path, code, body)
			}
			if bad := regexp.MustCompile(`"[a-z_]*[A-Z]\w*":`).FindString(body); bad != "" && path != "/templates" {
				t.Errorf("%s: %s", path, bad)
			}
		}
		if body, code := get(t, "http://"+tc.addr+"/nothing"); code != http.StatusNotFound || !strings.Contains(body, "/ lists what there is") {
			t.Errorf("%d %s", code, body)
		}
	}
}
