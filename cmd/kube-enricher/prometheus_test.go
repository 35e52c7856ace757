package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// TestDashboardsOnPrometheus has a real Prometheus scrape the program while
// exporters send to it, and evaluate every expression of the dashboards.
func TestDashboardsOnPrometheus(t *testing.T) {
	prometheus := needs.Program(t, "prometheus")
	netflow, sflow, addr, web := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)
	p := startProgram(t, "-kube.snapshot", demoSnapshot, "-listen", "netflow://"+netflow+",sflow://"+sflow, "-addr", addr,
		"-transport.file", filepath.Join(t.TempDir(), "records.json"), "-ovn.nb", dropsNeverHit(t))
	p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == 200 })

	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\nscrape_configs:\n- job_name: kube-enricher\n  static_configs: [{targets: ['%s']}]\n", addr), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	server := exec.CommandContext(t.Context(), prometheus, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+web)
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()

	// Exporters send again and again, so that there are rates.
	send := func() {
		for to, names := range map[string][]string{netflow: {"ovs-ipfix-2node-geneve", "softflowd-v9", "../captures-ovn/ovn-drop-sample"}, sflow: {"ovs-sflow"}} {
			c, err := net.Dial("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				for _, b := range captureDatagrams(t, captureDir+"/"+name+".pcap") {
					_, _ = c.Write(b) // a full buffer is none of this test's business
				}
			}
			_ = c.Close()
		}
	}
	type expression struct{ where, expr string }
	var missing []expression
	for name, d := range readDashboards(t) {
		for _, panel := range d.Panels {
			for _, q := range panel.Targets {
				missing = append(missing, expression{name + ", panel " + panel.Title + ", " + q.RefID, withoutVariables(q.Expr)})
			}
		}
	}
	all := len(missing)
	defer func() {
		for _, e := range missing {
			t.Logf("no data: %s: %s", e.where, e.expr)
		}
	}()
	var last time.Time
	p.eventually("all panels have data", func() bool {
		if time.Since(last) < time.Second {
			return false
		}
		last = time.Now()
		send()
		left := missing[:0]
		for _, e := range missing {
			n, err := query(t, web, e.expr)
			if err != nil && strings.Contains(err.Error(), "refused") {
				return false // not up yet
			}
			if err != nil {
				t.Fatalf("%s: %v", e.where, err)
			}
			if n == 0 {
				left = append(left, e)
			}
		}
		missing = left
		return len(missing) == 0
	})
	for _, a := range readAlerts(t) {
		// An alert that is quiet has no data.
		if _, err := query(t, web, a.Expr); err != nil {
			t.Errorf("%s: %v", a.Alert, err)
		}
	}
	t.Logf("%d expressions have data", all)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// query asks Prometheus and returns the number of series of the answer.
func query(t *testing.T, web, expr string) (int, error) {
	t.Helper()
	body, code := get(t, "http://"+web+"/api/v1/query?query="+url.QueryEscape(expr))
	if code == 503 {
		return 0, fmt.Errorf("refused: %s", body)
	}
	if code == 0 {
		return 0, fmt.Errorf("%s", body)
	}
	var answer struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			Result []any `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		return 0, err
	}
	if answer.Status != "success" {
		return 0, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return len(answer.Data.Result), nil
}
