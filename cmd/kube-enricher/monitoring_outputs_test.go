package main

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestOutputsMonitored checks that what dashboards and alerts ask of outputs is there for
// each of them: they have no row for one output alone.
func TestOutputsMonitored(t *testing.T) {
	metric := regexp.MustCompile(`kube_enricher_(output_\w+|records_written_total|records_dropped_total)`)
	asked := make(map[string]bool)
	ask := func(expr string) {
		for _, name := range metric.FindAllString(expr, -1) {
			asked[name] = true
		}
	}
	for _, d := range readDashboards(t) {
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				ask(q.Expr)
			}
		}
	}
	for _, a := range readAlerts(t) {
		ask(a.Expr)
	}
	_, server := newPosts(t, http.StatusOK)
	_, receiver := newLogsReceiver(t)
	addr := freeAddr(t)
	p := startProgram(t, append(kafkaArgs("127.0.0.1:1"), "-transport", "file,kafka,http,otlp", "-transport.http.url", server, "-transport.otlp.endpoint", receiver,
		"-kube.off", "-listen", "flow://"+freeAddr(t), "-addr", addr)...)
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	text, _ := get(t, "http://"+addr+"/metrics")
	has := make(map[string][]string) // transports, by metric
	for line := range strings.Lines(text) {
		name, labels, _ := strings.Cut(line, "{")
		if m := regexp.MustCompile(`transport="(\w+)"`).FindStringSubmatch(labels); m != nil && !slices.Contains(has[name], m[1]) {
			has[name] = append(has[name], m[1])
		}
	}
	if len(asked) < 5 {
		t.Errorf("dashboards and alerts ask for %v only", asked)
	}
	for name := range asked {
		got := slices.Sorted(slices.Values(has[name]))
		if !slices.Equal(got, []string{"file", "http", "kafka", "otlp"}) {
			t.Errorf("%s is there for %v", name, got)
		}
	}
}
