//go:build outputs

package outputs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"
)

// otelcol is OpenTelemetry's collector, which writes what it gets to files: a new one
// each time that it is started.
type otelcol struct {
	server
	grpc, http string // addresses
	dir        string
	starts     int
}

// newOtelcol returns a collector that is not started yet. It acknowledges records once
// they are written to the file.
func newOtelcol(t *testing.T) *otelcol {
	t.Helper()
	bin := receiver(t, "otelcol/bin/otelcol")
	c := &otelcol{grpc: fmt.Sprintf("127.0.0.1:%d", freePort(t)), http: fmt.Sprintf("127.0.0.1:%d", freePort(t)), dir: t.TempDir()}
	c.ready = accepts(c.http)
	c.command = func() *exec.Cmd {
		c.starts++
		// With rotation, the exporter has no buffer of its own.
		config := fmt.Sprintf(`
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %q}
      http: {endpoint: %q}
exporters:
  file:
    path: %q
    format: proto
    rotation: {max_megabytes: 100000}
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines:
    logs: {receivers: [otlp], exporters: [file]}
`, c.grpc, c.http, filepath.Join(c.dir, fmt.Sprintf("logs-%d", c.starts)))
		path := filepath.Join(c.dir, "config.yaml")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Error(err)
		}
		return exec.Command(bin, "--config", path)
	}
	t.Cleanup(func() { c.stop(os.Kill) })
	return c
}

// each calls f for each log record in the files. A message that the end of a file cuts
// off was never acknowledged.
func (c *otelcol) each(t *testing.T, f func(attributes map[string]any)) {
	t.Helper()
	for i := range c.starts {
		file, err := os.Open(filepath.Join(c.dir, fmt.Sprintf("logs-%d", i+1)))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for {
			var size uint32
			if err := binary.Read(file, binary.BigEndian, &size); err != nil {
				break
			}
			message := make([]byte, size)
			if _, err := io.ReadFull(file, message); errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				break
			}
			var data logspb.LogsData
			if err := proto.Unmarshal(message, &data); err != nil {
				t.Fatal(err)
			}
			eachLog(t, &data, f)
		}
	}
}

func eachLog(t *testing.T, data *logspb.LogsData, f func(attributes map[string]any)) {
	t.Helper()
	for _, resource := range data.GetResourceLogs() {
		if a := resource.GetResource().GetAttributes(); len(a) == 0 || a[0].GetKey() != "service.name" {
			t.Fatalf("the resource has attributes %v", a)
		}
		for _, scope := range resource.GetScopeLogs() {
			for _, r := range scope.GetLogRecords() {
				attributes := make(map[string]any, len(r.GetAttributes()))
				for _, a := range r.GetAttributes() {
					if s := a.GetValue().GetStringValue(); s != "" {
						attributes[a.GetKey()] = s
					} else {
						attributes[a.GetKey()] = uint64(a.GetValue().GetIntValue())
					}
				}
				f(attributes)
			}
		}
	}
}

// count counts what the collector has.
func (c *otelcol) count(t *testing.T, records int) *tally {
	t.Helper()
	counts := newTally(records)
	c.each(t, func(a map[string]any) {
		packets, _ := a["flow.io.packets"].(uint64)
		bytes, _ := a["flow.io.bytes"].(uint64)
		counts.add(packets, bytes)
	})
	return counts
}

// TestCollectorGRPC sends a million records to OpenTelemetry's collector.
func TestCollectorGRPC(t *testing.T) {
	const records = 1_000_020 // whole datagrams
	c := newOtelcol(t)
	c.start(t)
	run(t, "-kube.off", "-transport", "otlp", "-transport.otlp.endpoint", c.grpc, writeCapture(t, records))
	c.stop(syscall.SIGTERM)
	c.count(t, records).whole(t)
}

// TestCollectorHTTP sends fewer, by HTTP and with compression, by both protocols.
func TestCollectorHTTP(t *testing.T) {
	const records = 60_000
	for _, args := range [][]string{
		{"-transport.otlp.protocol", "http"},
		{"-transport.otlp.protocol", "http", "-transport.otlp.compression", "gzip"},
		{"-transport.otlp.compression", "gzip"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			c := newOtelcol(t)
			c.start(t)
			endpoint := c.grpc
			if args[0] == "-transport.otlp.protocol" {
				endpoint = "http://" + c.http + "/v1/logs"
			}
			run(t, append(args, "-kube.off", "-transport", "otlp", "-transport.otlp.endpoint", endpoint, writeCapture(t, records))...)
			c.stop(syscall.SIGTERM)
			c.count(t, records).whole(t)
		})
	}
}

// TestCollectorNames compares the names that the collector has with those in a file.
func TestCollectorNames(t *testing.T) {
	c := newOtelcol(t)
	c.start(t)
	file := filepath.Join(t.TempDir(), "flows.json")
	run(t, "-kube.snapshot", root+"/examples/demo/snapshot.yaml", "-transport", "file,otlp", "-transport.file", file, "-transport.otlp.endpoint", c.grpc,
		root+"/testdata/captures/ovs-ipfix-2node-geneve.pcap")
	c.stop(syscall.SIGTERM)
	want := make(map[string]int)
	for _, r := range readLines(t, file) {
		want[fmt.Sprint(r["SrcNamespace"], "/", r["SrcPod"], " ", r["DstNamespace"], "/", r["DstPod"], " ", r["Bytes"])]++
	}
	got := make(map[string]int)
	c.each(t, func(a map[string]any) {
		got[fmt.Sprint(a["source.k8s.namespace.name"], "/", a["source.k8s.pod.name"], " ",
			a["destination.k8s.namespace.name"], "/", a["destination.k8s.pod.name"], " ", a["flow.io.bytes"])]++
	})
	named := 0
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%s: the collector has %d, the file %d", key, got[key], n)
		}
		if !strings.HasPrefix(key, "<nil>") {
			named += n
		}
	}
	if len(got) != len(want) || named == 0 {
		t.Errorf("the collector has %d kinds of records, the file %d; %d records have a source's name", len(got), len(want), named)
	}
	t.Logf("%d kinds of records, %d with a source's name", len(got), named)
}
