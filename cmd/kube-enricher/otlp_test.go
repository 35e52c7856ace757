package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
)

// logsReceiver keeps what is sent to it, by OpenTelemetry's own protocol code.
type logsReceiver struct {
	collogspb.UnimplementedLogsServiceServer
	mu       sync.Mutex
	records  []*logspb.LogRecord
	resource []*commonpb.KeyValue
}

// Export implements the service.
func (s *logsReceiver) Export(_ context.Context, req *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, rl := range req.ResourceLogs {
		s.resource = rl.Resource.Attributes
		for _, sl := range rl.ScopeLogs {
			s.records = append(s.records, sl.LogRecords...)
		}
	}
	return new(collogspb.ExportLogsServiceResponse), nil
}

func newLogsReceiver(t *testing.T) (*logsReceiver, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := new(logsReceiver)
	server := grpc.NewServer()
	collogspb.RegisterLogsServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return s, l.Addr().String()
}

// TestOTLPOutput sends a capture to a receiver and compares what it gets with JSON.
func TestOTLPOutput(t *testing.T) {
	s, addr := newLogsReceiver(t)
	out := outputOf(t, "-kube.snapshot", demoSnapshot, "-cluster", "east", "-transport", "file,otlp", "-transport.otlp.endpoint", addr, kafkaCapture)
	var want, got []string
	for line := range strings.Lines(out) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(r["SrcAddr"], r["SrcPort"], r["DstAddr"], r["DstPort"], strings.ToLower(fmt.Sprint(r["ProtoName"])), r["Bytes"], r["Packets"], strings.ToLower(fmt.Sprint(r["Type"])), orNothing(r["SrcPod"]), orNothing(r["DstNamespace"]), orNothing(r["DstWorkload"])))
	}
	for _, r := range s.records {
		a := make(map[string]any)
		for _, kv := range r.Attributes {
			switch v := kv.Value.Value.(type) {
			case *commonpb.AnyValue_StringValue:
				a[kv.Key] = v.StringValue
			case *commonpb.AnyValue_IntValue:
				a[kv.Key] = float64(v.IntValue)
			}
		}
		got = append(got, fmt.Sprint(a["source.address"], a["source.port"], a["destination.address"], a["destination.port"], a["network.transport"], a["flow.io.bytes"], a["flow.io.packets"], a["flow.type"], orNothing(a["source.k8s.pod.name"]), orNothing(a["destination.k8s.namespace.name"]), orNothing(a["destination.k8s.workload.name"])))
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(got) != kafkaRecords || !slices.Equal(got, want) {
		t.Errorf("%d records, want %d; the first is\n%s, want\n%s", len(got), len(want), got[0], want[0])
	}
	if text := fmt.Sprint(s.resource); !strings.Contains(text, "kube-enricher") || !strings.Contains(text, "east") {
		t.Errorf("resource %s", text)
	}
	// Lines of JSON are no whole records.
	if _, stderr, code := runWith(t, nil, "-kube.off", "-transport", "otlp", "-transport.otlp.endpoint", addr, "-input", "json", "-"); code != exitUsage || !strings.Contains(stderr, "not by OTLP") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// TestOTLPPipeOwn has a pipe of protobuf with what goflow2 has no fields for. It comes
// through, also beside an output in protobuf, which has each message as it came.
func TestOTLPPipeOwn(t *testing.T) {
	want := records(t, outputOf(t, "-kube.off", "-fields", "all", namedCapture))
	in := outputOf(t, "-kube.off", "-fields", "all", "-format", "pb", namedCapture)
	for _, transports := range []string{"otlp", "otlp,file:protobuf"} {
		s, addr := newLogsReceiver(t)
		p := startWith(t, strings.NewReader(in), nil, "-kube.off", "-fields", "all", "-transport", transports, "-transport.otlp.endpoint", addr, "-")
		if code := p.wait(); code != exitDone {
			t.Fatal(p.stderr())
		}
		if transports != "otlp" && !slices.Equal(sortedMessages(t, p.stdout.Bytes()), sortedMessages(t, []byte(in))) {
			t.Errorf("%s: the messages are not those that came", transports)
		}
		names := make(map[string]int)
		for _, r := range want {
			if name := r["InIfName"]; name != "" {
				names[fmt.Sprint(name)]++
			}
		}
		for _, r := range s.records {
			for _, kv := range r.Attributes {
				if kv.Key == "flow.in_if_name" {
					names[kv.Value.GetStringValue()]--
				}
			}
		}
		if len(s.records) != len(want) || len(names) == 0 {
			t.Errorf("%s: %d records, want %d, of %d interfaces", transports, len(s.records), len(want), len(names))
		}
		for name, n := range names {
			if n != 0 {
				t.Errorf("%s: %d records more have the interface %s in JSON than by OTLP", transports, n, name)
			}
		}
	}
}

func orNothing(v any) any {
	if v == nil {
		return "-"
	}
	return v
}
