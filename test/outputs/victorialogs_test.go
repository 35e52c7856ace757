//go:build outputs

package outputs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// victorialogs is a server of VictoriaLogs.
type victorialogs struct {
	server
	base string
}

func newVictorialogs(t *testing.T) *victorialogs {
	t.Helper()
	bin := receiver(t, "victorialogs/bin/victoria-logs")
	addr, dir := fmt.Sprintf("127.0.0.1:%d", freePort(t)), t.TempDir()
	v := &victorialogs{base: "http://" + addr}
	v.ready = answers(v.base + "/health")
	v.command = func() *exec.Cmd {
		return exec.Command(bin, "-storageDataPath="+dir, "-httpListenAddr="+addr, "-retentionPeriod=100y", "-inmemoryDataFlushInterval=1s", "-loggerLevel=WARN")
	}
	t.Cleanup(func() { v.stop(os.Kill) })
	return v
}

// query calls f for each log that a query in LogsQL finds.
func (v *victorialogs) query(t *testing.T, query string, f func(log map[string]string)) {
	t.Helper()
	resp, err := http.PostForm(v.base+"/select/logsql/query", url.Values{"query": {query}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", query, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		log := make(map[string]string)
		if err := json.NewDecoder(bytes.NewReader(lines.Bytes())).Decode(&log); err != nil {
			t.Fatal(err)
		}
		f(log)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// count counts the logs, by the names of the fields with packets and bytes.
func (v *victorialogs) count(t *testing.T, records int, packets, bytes string) *tally {
	t.Helper()
	number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }
	counts := newTally(records)
	v.query(t, fmt.Sprintf("* | fields %q, %q", packets, bytes), func(log map[string]string) {
		counts.add(number(log[packets]), number(log[bytes]))
	})
	return counts
}

// TestVictoriaLogs sends lines of JSON, with each compression, and queries them back,
// also after the server was started anew.
func TestVictoriaLogs(t *testing.T) {
	const records = 60_000
	for _, compression := range []string{"none", "gzip", "zstd"} {
		t.Run(compression, func(t *testing.T) {
			v := newVictorialogs(t)
			v.start(t)
			run(t, "-kube.off", "-transport", "http", "-transport.http.compression", compression,
				"-transport.http.url", v.base+"/insert/jsonline?_stream_fields=SamplerAddress&_time_field=TimeReceived&_msg_field=SrcAddr", writeCapture(t, records))
			v.stop(syscall.SIGTERM)
			v.start(t)
			v.count(t, records, "Packets", "Bytes").whole(t)
			v.query(t, `_time:1h SrcPort:=17 | stats count() n`, func(log map[string]string) {
				if log["n"] != "1" {
					t.Errorf("%s records of the last hour have the source port 17", log["n"])
				}
			})
		})
	}
}

// TestVictoriaLogsOTLP sends log records of OpenTelemetry by HTTP.
func TestVictoriaLogsOTLP(t *testing.T) {
	const records = 60_000
	v := newVictorialogs(t)
	v.start(t)
	run(t, "-kube.off", "-transport", "otlp", "-transport.otlp.protocol", "http", "-transport.otlp.compression", "gzip",
		"-transport.otlp.endpoint", v.base+"/insert/opentelemetry/v1/logs", writeCapture(t, records))
	v.stop(syscall.SIGTERM)
	v.start(t)
	v.count(t, records, "flow.io.packets", "flow.io.bytes").whole(t)
}
