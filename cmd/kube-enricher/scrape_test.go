package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// TestCreated: all counters say when they were 0, to Prometheus, which asks for protobuf then, and
// in OpenMetrics' text, but for those with many series. The plain text is as it was.
func TestCreated(t *testing.T) {
	before := time.Now().Add(-time.Second)
	to, addr := freeAddr(t), freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+to+"?count=1", "-addr", addr, "-kube.snapshot", demoSnapshot)
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
	c, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	datagrams := captureDatagrams(t, captureDir+"/ovs-ipfix-2node-geneve.pcap")
	p.eventually("workloads have series", func() bool {
		for _, b := range datagrams {
			_, _ = c.Write(b)
		}
		body, _ := get(t, "http://"+addr+"/metrics")
		return strings.Contains(body, `kube_enricher_workload_bytes_total{dst_kind="Deployment"`)
	})
	scrape := func(accept string) (*http.Response, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, body
	}

	// As Prometheus asks with --enable-feature=created-timestamp-zero-ingestion.
	answer, body := scrape("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	format := expfmt.ResponseFormat(answer.Header)
	if format.FormatType() != expfmt.TypeProtoDelim {
		t.Fatalf("the answer is %s", format)
	}
	decoder := expfmt.NewDecoder(strings.NewReader(string(body)), format)
	counters := 0
	var names []string
	for {
		var f dto.MetricFamily
		if err := decoder.Decode(&f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, m := range f.GetMetric() {
			if f.GetType() != dto.MetricType_COUNTER {
				continue
			}
			counters++
			names = append(names, f.GetName())
			if at := m.GetCounter().GetCreatedTimestamp().AsTime(); at.Before(before) || at.After(time.Now()) {
				t.Errorf("%s %v was created at %v", f.GetName(), m.GetLabel(), at)
			}
		}
	}
	for _, name := range []string{"kube_enricher_workload_bytes_total", "kube_enricher_records_received_total", "kube_enricher_records_written_total", "kube_enricher_lookups_total"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s is missing among %d counters", name, counters)
		}
	}

	_, body = scrape("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3")
	if s := string(body); !strings.HasSuffix(s, "# EOF\n") || !strings.Contains(s, `kube_enricher_records_written_created{transport="file"} 1.`) ||
		!strings.Contains(s, "kube_enricher_workload_bytes_total{") || strings.Contains(s, "kube_enricher_workload_bytes_created") {
		t.Errorf("in OpenMetrics' text: %s", s)
	}
	_, body = scrape("text/plain;version=0.0.4")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if families, err := parser.TextToMetricFamilies(strings.NewReader(string(body))); err != nil || families["kube_enricher_records_written_total"] == nil || strings.Contains(string(body), "_created") {
		t.Errorf("in text: %v, %s", err, body)
	}
}
