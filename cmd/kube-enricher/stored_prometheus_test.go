package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// lineWriter writes samples of one scrape.
type lineWriter struct {
	w   io.Writer
	job string
	at  time.Time
}

func (l lineWriter) write(name string, m *dto.Metric, le string, v float64) {
	fmt.Fprintf(l.w, `%s{job=%q,instance="a:8080"`, name, l.job)
	for _, p := range m.GetLabel() {
		fmt.Fprintf(l.w, ",%s=%q", p.GetName(), p.GetValue())
	}
	if le != "" {
		fmt.Fprintf(l.w, ",le=%q", le)
	}
	fmt.Fprintf(l.w, "} %v %d\n", v, l.at.Unix())
}

// family writes a family.
func (l lineWriter) family(f *dto.MetricFamily) {
	for _, m := range f.GetMetric() {
		h := m.GetHistogram()
		if h == nil {
			l.write(f.GetName(), m, "", m.GetCounter().GetValue()+m.GetGauge().GetValue())
			continue
		}
		for _, b := range h.GetBucket() {
			l.write(f.GetName()+"_bucket", m, strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64), float64(b.GetCumulativeCount()))
		}
		l.write(f.GetName()+"_bucket", m, "+Inf", float64(h.GetSampleCount()))
	}
}

// runPrometheus starts a Prometheus that has stored samples, and scrapes nothing. It returns its
// address.
func runPrometheus(t *testing.T, samples func(io.Writer)) (web string) {
	t.Helper()
	server, promtool := needs.Program(t, "prometheus"), needs.Program(t, "promtool")
	dir := t.TempDir()
	text, err := os.Create(filepath.Join(dir, "samples.txt"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(text)
	samples(w)
	_, _ = io.WriteString(w, "# EOF\n")
	if err := w.Flush(); err != nil || text.Close() != nil {
		t.Fatal(err)
	}
	data, config := filepath.Join(dir, "data"), filepath.Join(dir, "prometheus.yml")
	if out, err := exec.CommandContext(t.Context(), promtool, "tsdb", "create-blocks-from", "openmetrics", text.Name(), data).CombinedOutput(); err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	if err := os.WriteFile(config, []byte("global: {scrape_interval: 15s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	web = freeAddr(t)
	var log strings.Builder
	cmd := exec.CommandContext(t.Context(), server, "--config.file="+config, "--storage.tsdb.path="+data, "--web.listen-address="+web)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	deadline := time.Now().Add(time.Minute)
	for {
		if _, code := get(t, "http://"+web+"/-/ready"); code == 200 {
			return web
		}
		if time.Now().After(deadline) {
			t.Fatal("Prometheus is not ready")
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// curve is a series of an answer.
type curve struct {
	labels map[string]string
	values []float64
}

// askRange asks for the values of an expression from one time to another, in steps of 15 s.
func askRange(t *testing.T, web, expr string, from, to time.Time) []curve {
	t.Helper()
	body, _ := get(t, fmt.Sprintf("http://%s/api/v1/query_range?query=%s&start=%d&end=%d&step=15", web, url.QueryEscape(expr), from.Unix(), to.Unix()))
	var answer struct {
		Status string `json:"status"`
		Data   struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Values [][2]any          `json:"values"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		t.Fatalf("%s: %v: %s", expr, err, body)
	}
	var curves []curve
	for _, r := range answer.Data.Result {
		c := curve{labels: r.Metric}
		for _, v := range r.Values {
			f, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil {
				t.Fatalf("%s: %v", expr, err)
			}
			c.values = append(c.values, f)
		}
		curves = append(curves, c)
	}
	return curves
}
