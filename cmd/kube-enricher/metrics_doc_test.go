package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/collector/pipe"
)

const metricsDocHead = `<!-- Generated from the metrics that the program exports; "make docs" writes it anew. -->

# Metrics

` + "`/metrics`" + ` on ` + "`-addr`" + ` is for Prometheus. It also has the metrics of the Go runtime and of the
process (` + "`go_*`" + `, ` + "`process_*`" + `).

**The ledger.** For each transport, ` + "`records_received_total`" + ` = ` + "`records_written_total`" + ` + the sum of
` + "`records_dropped_total`" + ` + ` + "`records_held`" + `, whenever no datagram is being worked on. With several
outputs, the records held in an output's buffer have the transport as a label (` + "`why=\"output\"`" + `),
because they are held for that output alone. With one output there is no such label.

| metric | type | labels | meaning |
|---|---|---|---|
`

// TestMetricsDoc compares docs/metrics.md with what the program exports. With
// -update it writes the page anew.
func TestMetricsDoc(t *testing.T) {
	const name = "../../docs/metrics.md"
	got := metricsDocHead + metricsTable(t)
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("docs/metrics.md is not what the program exports; run: go test ./cmd/kube-enricher -run TestMetricsDoc -update")
	}
}

// exportedMetrics are those of a program that has received something, so that
// labels have values.
func exportedMetrics(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	networks, geoip := placesFiles(t)
	a := inert(t, "-kube.snapshot", demoSnapshot, "-transport", "file,kafka,otlp,http", "-transport.http.url", "http://127.0.0.1/", "-ui.addr", "127.0.0.1:0", "-hubble.addr", "127.0.0.1:0",
		"-ovn.nb", nbSamples, "-ovn.sb", "unix:/nobody", "-networks", networks, "-geoip", geoip)
	names := start(a.enricher.Run)
	defer names.stop() //nolint:errcheck // Run has no errors
	if err := a.enricher.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.collector.NewDecoder(a.newChain(0)).Datagram(netip.MustParseAddrPort("192.0.2.1:1"), collector.AnyFlow, referenceMessage(), time.Now().UnixNano())
	// Standard input has metrics of its own.
	if _, err := pipe.New(pipe.Config{}, nil, a.newChain(0), a.log, a.reg); err != nil {
		t.Fatal(err)
	}
	families, err := a.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	// So has a northbound database that is no file.
	others, err := inert(t, "-kube.snapshot", demoSnapshot, "-ovn.nb", "unix:/nobody", "-ovn.sb", "unix:/nobody").reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range families {
		if strings.HasPrefix(f.GetName(), "kube_enricher_ovn_") {
			families[i] = others[slices.IndexFunc(others, func(o *dto.MetricFamily) bool { return o.GetName() == f.GetName() })]
		}
	}
	return families
}

// metricsTable has a row for each metric.
func metricsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, f := range exportedMetrics(t) {
		if !strings.HasPrefix(f.GetName(), "kube_enricher_") {
			continue
		}
		var labels []string
		values := make(map[string][]string)
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(labels, l.GetName()) {
					labels = append(labels, l.GetName())
				}
				if v := l.GetValue(); !slices.Contains(values[l.GetName()], v) {
					values[l.GetName()] = append(values[l.GetName()], "`"+v+"`")
				}
			}
		}
		var shown []string
		for _, l := range labels {
			text := "`" + l + "`"
			switch l {
			case "exporter", "version", "goversion", "goflow2", "src_namespace", "src_workload", "src_kind", "dst_namespace", "dst_workload", "dst_kind":
			default:
				slices.Sort(values[l])
				text += ": " + strings.Join(slices.Compact(values[l]), " ")
			}
			shown = append(shown, text)
		}
		help := strings.ReplaceAll(f.GetHelp(), "|", `\|`)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(shown, ", "), help)
	}
	return b.String()
}
