package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// record is one line of output.
type record map[string]any

// names are the generated fields of one end of a record, without their prefix.
type names map[string]string

var generated = []string{"Pod", "Namespace", "HostIP", "Workload", "WorkloadKind", "Warn"}

func (r record) names(prefix string) names {
	n := names{}
	for _, field := range generated {
		if v, ok := r[prefix+field]; ok {
			n[field] = fmt.Sprint(v)
		}
	}
	return n
}

// unformatted is the level of lines that are not as -logfmt says.
const unformatted = "unformatted"

// logLine is one line that the program wrote to stderr.
type logLine struct {
	Level, Msg string
	raw        string
}

func (l logLine) String() string { return l.raw }

// enricher is a running program under test.
type enricher struct {
	*proc.Process
	netflow, sflow, http string // host:port
	exporter             *exporter.Exporter

	mu      sync.Mutex
	records map[uint16]record // by source port
	logs    []logLine
	bad     []string // lines of output that are no records
	stdout  lineWriter
	stderr  lineWriter
	next    uint16
}

// lineWriter hands on whole lines.
type lineWriter struct {
	mu   *sync.Mutex
	line func([]byte)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.line(line)
		w.rest = rest
	}
}

// command is the program with an environment that knows of no cluster.
func command(t *testing.T, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	return cmd
}

// start starts the program, collecting and serving HTTP on ports of its own.
// The test's end ends it.
func start(t *testing.T, args ...string) *enricher {
	t.Helper()
	return startAs(t, command, args...)
}

// startAs is start for a program that command makes.
func startAs(t *testing.T, command func(t *testing.T, args ...string) *exec.Cmd, args ...string) *enricher {
	t.Helper()
	e := &enricher{records: map[uint16]record{}, next: 1024}
	for _, addr := range []*string{&e.netflow, &e.sflow, &e.http} {
		port := harness.FreePort(t)
		*addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	e.stdout = lineWriter{mu: &e.mu, line: e.addRecord}
	e.stderr = lineWriter{mu: &e.mu, line: e.addLog}
	cmd := command(t, append([]string{
		"-listen", "netflow://" + e.netflow + "?count=4,sflow://" + e.sflow, "-addr", e.http, "-logfmt", "json",
	}, args...)...)
	e.launch(t, cmd)
	e.exporter = dial(t, e.netflow)
	return e
}

// launch starts the program of a command. It ends with the test, and its log is shown if the
// test has failed. Where its output goes is set.
func (e *enricher) launch(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = &e.stdout, &e.stderr
	var err error
	if e.Process, err = proc.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(os.Kill, soon); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd, e.logText())
		}
	})
}

func dial(t *testing.T, addr string) *exporter.Exporter {
	t.Helper()
	x, err := exporter.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

func (e *enricher) addRecord(line []byte) {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		e.bad = append(e.bad, string(line))
		return
	}
	port, _ := r["SrcPort"].(float64)
	e.records[uint16(port)] = r
}

func (e *enricher) addLog(line []byte) {
	l := logLine{raw: string(line)}
	if err := json.Unmarshal(line, &l); err != nil {
		l.Level = unformatted
	}
	e.logs = append(e.logs, l)
}

// logged returns the lines of log for which match is true.
func (e *enricher) logged(match func(logLine) bool) []logLine {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []logLine
	for _, l := range e.logs {
		if match(l) {
			found = append(found, l)
		}
	}
	return found
}

// complaints are the lines of log that are worse than informational.
func (e *enricher) complaints() []logLine {
	return e.logged(func(l logLine) bool {
		return l.Level != "trace" && l.Level != "debug" && l.Level != "info"
	})
}

func (e *enricher) logText() string {
	var b strings.Builder
	for _, l := range e.logged(func(logLine) bool { return true }) {
		b.WriteString(l.raw)
		b.WriteByte('\n')
	}
	return b.String()
}

// get asks the program's HTTP server. Before that serves, status is 0.
func (e *enricher) get(t *testing.T, path string) (status int, body []byte) {
	t.Helper()
	client := http.Client{Timeout: soon}
	response, err := client.Get("http://" + e.http + path)
	if err != nil {
		e.checkAlive(t)
		return 0, []byte(err.Error())
	}
	defer func() { _ = response.Body.Close() }()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return response.StatusCode, body
}

func (e *enricher) checkAlive(t *testing.T) {
	t.Helper()
	if !e.Running() {
		t.Fatalf("the program ended by itself: %v", e.Err())
	}
}

// waitReady waits until /readyz says so.
func (e *enricher) waitReady(t *testing.T) {
	t.Helper()
	harness.Eventually(t, soon, "readiness", func() (bool, any) {
		status, body := e.get(t, "/readyz")
		return status == http.StatusOK, fmt.Sprintf("%d %s", status, body)
	})
}

// flow is a TCP flow with a source port that no other has.
func (e *enricher) flow(src, dst netip.Addr) exporter.Flow {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	n := uint64(e.next)
	return exporter.Flow{Src: src, Dst: dst, SrcPort: e.next, DstPort: 443, Proto: 6, Bytes: 100 + n, Packets: 1}
}

// record waits for the record of a flow.
func (e *enricher) record(t *testing.T, f exporter.Flow) record {
	t.Helper()
	var r record
	harness.Eventually(t, soon, fmt.Sprintf("record of %v", f), func() (bool, any) {
		e.checkAlive(t)
		e.mu.Lock()
		defer e.mu.Unlock()
		r = e.records[f.SrcPort]
		return r != nil, fmt.Sprintf("%d others", len(e.records))
	})
	if got, want := r["Bytes"], float64(f.Bytes); got != want {
		t.Errorf("record of %v: Bytes %v, want %v", f, got, want)
	}
	return r
}

// probe sends a flow over IPFIX and returns its record.
func (e *enricher) probe(t *testing.T, src, dst netip.Addr) record {
	t.Helper()
	f := e.flow(src, dst)
	if err := e.exporter.IPFIX(f); err != nil {
		t.Fatal(err)
	}
	return e.record(t, f)
}

// waitNames sends flows from addr until one is given the names in want.
func (e *enricher) waitNames(t *testing.T, timeout time.Duration, addr netip.Addr, want names) {
	t.Helper()
	harness.Eventually(t, timeout, fmt.Sprintf("%v for %s", want, addr), func() (bool, any) {
		got := e.probe(t, addr, nobody).names("Src")
		return maps.Equal(got, want), got
	})
}

// metrics scrapes /metrics; a counter or gauge is found by its name.
func (e *enricher) metrics(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	status, body := e.get(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", status, body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("/metrics: %v", err)
	}
	return families
}

// sum adds up all values of a counter or gauge; what is not there is zero.
func sum(families map[string]*dto.MetricFamily, name string) float64 {
	total := 0.0
	for _, m := range families["kube_enricher_"+name].GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return total
}

// terminate asks the program to stop and checks that it did so in good order:
// exit code 0, whole records only on stdout, and logs as asked for on stderr.
func (e *enricher) terminate(t *testing.T) {
	t.Helper()
	if err := e.Stop(syscall.SIGTERM, soon); err != nil {
		t.Fatal(err)
	}
	if err := e.Err(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.bad) > 0 || len(e.stdout.rest) > 0 {
		t.Errorf("output that is no record: %q, end %q", e.bad, e.stdout.rest)
	}
	for _, l := range e.logs {
		if l.Level == unformatted {
			t.Errorf("log that is not JSON: %s", l.raw)
		}
	}
}

// kubeconfig writes a kubeconfig of a service account.
func kubeconfig(t *testing.T, namespace, account string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := kube.Kubeconfig(t.Context(), file, namespace, account); err != nil {
		t.Fatal(err)
	}
	return file
}
