package transport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// asServer in the environment turns a test into a server that takes what is sent: by gRPC
// if it is "grpc".
const asServer = "KUBE_ENRICHER_TEST_AS_SERVER"

// serveAs serves until standard input ends, and says where.
func serveAs(t *testing.T, protocol string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	noError(t, err)
	fmt.Printf("%s %s\n", asServer, l.Addr())
	if protocol == "grpc" {
		go func() {
			_ = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
				var request []byte
				if err := s.RecvMsg(&request); err != nil {
					return err
				}
				return s.SendMsg(mem.BufferSlice{})
			}), grpc.ForceServerCodecV2(rawCodec{})).Serve(l)
		}()
	} else {
		server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })}
		go func() { _ = server.Serve(l) }()
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startServer runs this test in another process, as a server, and returns its address.
func startServer(t *testing.T, protocol string) string {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBatchAllocs$")
	cmd.Env = append(os.Environ(), asServer+"="+protocol)
	in, err := cmd.StdinPipe()
	noError(t, err)
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	noError(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), asServer+" ")
	if !ok {
		t.Fatalf("the server says %q", line)
	}
	return addr
}

// TestBatchAllocs counts what is allocated for a record on its whole way to a server,
// which is in another process: at most 2, and nothing by the worker.
func TestBatchAllocs(t *testing.T) {
	if protocol := os.Getenv(asServer); protocol != "" {
		serveAs(t, protocol)
		return
	}
	if race.Enabled {
		t.Skip("allocations mean nothing under the race detector")
	}
	mapping := []flow.MapEntry{{Field: flow.FieldSrcAddr, Prefix: "Src", Snake: "src"}, {Field: flow.FieldDstAddr, Prefix: "Dst", Snake: "dst"}}
	lines, err := encode.NewJSON(encode.JSONConfig{Schema: "v1", Mapping: mapping})
	noError(t, err)
	logs, err := encode.NewOTLP(encode.OTLPConfig{Mapping: mapping})
	noError(t, err)
	for _, test := range []struct {
		name, protocol string
		enc            Encoder
		output         func(b *batchBench, addr string, u *url.URL, enc Encoder) (*batchOutput, error)
	}{
		{"http", "http", lines, func(b *batchBench, _ string, u *url.URL, enc Encoder) (*batchOutput, error) {
			h, err := NewHTTP(HTTPConfig{URL: u, Block: true}, enc, nullLog(), b.reg)
			return &h.batchOutput, err
		}},
		{"otlp by grpc", "grpc", logs, func(b *batchBench, addr string, _ *url.URL, enc Encoder) (*batchOutput, error) {
			o, err := NewOTLP(OTLPConfig{Address: addr, Block: true}, enc, nullLog(), b.reg)
			return &o.batchOutput, err
		}},
		{"otlp by http", "http", logs, func(b *batchBench, _ string, u *url.URL, enc Encoder) (*batchOutput, error) {
			o, err := NewOTLP(OTLPConfig{Protocol: OTLPHTTP, URL: u, Block: true}, enc, nullLog(), b.reg)
			return &o.batchOutput, err
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := startServer(t, test.protocol)
			u, err := ParseURL("http://" + addr)
			noError(t, err)
			b := &batchBench{t: t, reg: prometheus.NewRegistry()}
			b.batchOutput, err = test.output(b, addr, u, test.enc)
			noError(t, err)
			b.start()
			checkAllocs(t, b.NewWriter(), func(n int) {
				b.handed.Add(int64(n))
				until(t, "written", func() bool { return b.scrape()["records_held output"] == 0 })
			})
			noError(t, b.stop())
		})
	}
}

// checkAllocs holds what the program allocates for a record, until all outputs have it, to 2. The
// argument written waits until the last n records are written.
func checkAllocs(t *testing.T, w flow.Handler, written func(n int)) {
	t.Helper()
	r := flowtest.Reference()
	write := func(n int) {
		for i := range n {
			r.Msg.SequenceNum, r.Msg.SrcAddr[3] = uint32(i), byte(i)
			w.HandleFlow(r)
		}
		written(n)
	}
	write(20_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const records = 100_000
	write(records)
	runtime.ReadMemStats(&after)
	perRecord := float64(after.Mallocs-before.Mallocs) / records
	t.Logf("%.3f allocations and %.0f bytes a record", perRecord, float64(after.TotalAlloc-before.TotalAlloc)/records)
	if perRecord > 2 {
		t.Errorf("%.2f allocations a record, want at most 2", perRecord)
	}
}
