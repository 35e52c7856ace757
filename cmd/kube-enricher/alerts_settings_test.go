package main

import (
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/collector"
)

// quietSettings are documented settings with which all is well, by the job that stands for them.
// What a right that is not granted does to the metrics is tested in package enrich
// (TestClusterWithOldRights and others), what follows from it in test/alerts.
var quietSettings = map[string][]string{
	"as_it_is":      {"-kube.snapshot", demoSnapshot},
	"without_names": {"-kube.off"},
	"no_workloads":  {"-kube.snapshot", demoSnapshot, "-metrics.workloads", "0"},
	"few_workloads": {"-kube.snapshot", demoSnapshot, "-metrics.workloads", "5000"},
	"filter":        {"-kube.snapshot", demoSnapshot, "-filter", "SrcPort == 1"},
	"no_hold":       {"-kube.snapshot", demoSnapshot, "-templates.hold", "0"},
	"no_wait":       {"-kube.snapshot", demoSnapshot, "-kube.wait", "0"},
	"sampling":      {"-kube.snapshot", demoSnapshot, "-sampling", "0.0.0.0/0=400"},
	"protobuf":      {"-kube.snapshot", demoSnapshot, "-format", "protobuf"},
}

// TestQuietSettings: no alert fires with documented settings while an exporter sends once in a
// minute, by the program's metrics and a real Prometheus.
func TestQuietSettings(t *testing.T) {
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Minute)
	const minutes = 70
	web := runPrometheus(t, func(w io.Writer) {
		for job, args := range quietSettings {
			writeMinutes(t, w, job, args, start, minutes)
		}
	})
	end := start.Add(minutes * time.Minute)
	if all := askRange(t, web, `sum by (job) (increase(kube_enricher_records_received_total[1h])) > 0`, end, end); len(all) != len(quietSettings) {
		t.Fatalf("records of %d of %d programs: %v", len(all), len(quietSettings), all)
	}
	for _, a := range readAlerts(t) {
		for _, c := range askRange(t, web, a.Expr, end.Add(-time.Hour), end) {
			t.Errorf("%s is true of %v at %d points in an hour", a.Alert, c.labels, len(c.values))
		}
	}
}

// writeMinutes writes what would have been scraped of a program, whose exporter sends once in
// a minute.
func writeMinutes(t *testing.T, w io.Writer, job string, args []string, began time.Time, minutes int) {
	t.Helper()
	a := inert(t, append([]string{"-listen", "netflow://127.0.0.1:0", "-transport.file", os.DevNull}, args...)...)
	if a.enricher != nil {
		names := start(a.enricher.Run)
		defer names.stop() //nolint:errcheck // Run has no errors
		if err := a.enricher.WaitSynced(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	outputs := a.startOutputs(func(error) {})
	defer outputs.stop() //nolint:errcheck // nothing can go wrong with what is thrown away
	handler := a.newChain(0)
	decoder := a.collector.NewDecoder(handler)
	message := referenceMessage() // of one record
	sequence := uint32(0)
	up := &dto.MetricFamily{Name: new("up"), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: new(1.0)}}}}
	for m := range minutes {
		at := began.Add(time.Duration(m) * time.Minute)
		for range 20 {
			binary.BigEndian.PutUint32(message[8:], sequence)
			sequence++
			decoder.Datagram(netip.MustParseAddrPort("192.0.2.1:1"), collector.AnyFlow, message, at.UnixNano())
		}
		handler.Idle()
		families, err := a.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		scrape := lineWriter{w, job, at.Add(7 * time.Second)}
		for _, f := range append(families, up) {
			scrape.family(f)
		}
	}
}
