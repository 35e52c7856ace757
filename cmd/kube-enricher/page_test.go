package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/recent"
	"github.com/netobserv/goflow2-kube-enricher/transport"
)

// allEncoders write all fields in all ways.
func allEncoders(t *testing.T, cfg *config.Config) []transport.Encoder {
	t.Helper()
	var all []transport.Encoder
	for _, schema := range encode.Schemas {
		e, err := encode.NewJSON(encode.JSONConfig{Schema: schema, Fields: "all", Mapping: cfg.Mapping, Labels: cfg.KubeLabels})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	p, err := encode.NewProtobuf(encode.ProtobufConfig{Fields: "all", Mapping: cfg.Mapping, Labels: cfg.KubeLabels})
	if err != nil {
		t.Fatal(err)
	}
	return append(all, p)
}

// recorder keeps what outputs would write of records, and the records.
type recorder struct {
	encoders []transport.Encoder
	written  [][]byte
	records  []*flow.Record
}

func (r *recorder) HandleFlow(rec *flow.Record) {
	r.written = append(r.written, r.encode(rec))
	r.records = append(r.records, rec.Clone())
}

func (r *recorder) Idle() bool { return false }

func (r *recorder) encode(rec *flow.Record) (b []byte) {
	for _, e := range r.encoders {
		b = e.AppendRecord(b, rec)
	}
	return b
}

// nowhere is the end of a chain.
type nowhere struct{}

func (nowhere) HandleFlow(*flow.Record) {}
func (nowhere) Idle() bool              { return false }

// captureFiles returns all captures that there are.
func captureFiles(t *testing.T) (files []string) {
	t.Helper()
	for _, dir := range []string{captureDir, ovnDir, reportsDir} {
		for _, pattern := range []string{"*.pcap", "*.pcap.gz"} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, found...)
		}
	}
	if len(files) < 20 {
		t.Fatalf("there are only %d captures", len(files))
	}
	return files
}

// recordsOf reads a capture with names through the stage of recent records.
func recordsOf(t *testing.T, file string) (*app, *recorder) {
	t.Helper()
	snapshot := demoSnapshot
	if strings.HasPrefix(file, ovnDir) {
		snapshot = filepath.Join(ovnDir, "snapshot.yaml")
	}
	a := inert(t, "-kube.snapshot", snapshot, "-ui.addr", "127.0.0.1:0", "-kube.labels", "app=App", "-recent", "16MiB", file)
	names := start(a.enricher.Run)
	t.Cleanup(func() { _ = names.stop() })
	if err := a.enricher.WaitSynced(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := &recorder{encoders: allEncoders(t, a.cfg)}
	c := a.enricher.NewStage(a.recent.Stage(0, end))
	_ = a.collector.ReadCapture(t.Context(), file, c) // some captures are damaged
	c.Drain()
	return a, end
}

// TestRecentIsLossless: what the ring has of the records of all captures is written as the
// outputs write it, byte for byte, in every schema.
func TestRecentIsLossless(t *testing.T) {
	all := 0
	var replay []*flow.Record
	for _, file := range captureFiles(t) {
		a, end := recordsOf(t, file)
		i := 0
		// The times of a capture may go back; the ring goes by them, and so does this.
		err := a.recent.Each(context.Background(), recent.Query{}, func(r *flow.Record) bool {
			if i < len(end.written) && !bytes.Equal(end.encode(r), end.written[i]) {
				t.Errorf("%s: record %d is\n%s\nwant\n%s", file, i, end.encode(r), end.written[i])
			}
			i++
			return !t.Failed()
		})
		if err != nil || i != len(end.written) {
			t.Errorf("%s: %d records, want %d; %v", file, i, len(end.written), err)
		}
		all += i
		replay = append(replay, end.records...)
	}
	if all < 5000 {
		t.Errorf("only %d records were compared", all)
	}
	checkSize(t, replay)
}

// checkSize: the records of all captures take at most 200 bytes on average, with all that
// belongs to them: a store's whole room is divided by the records that it has when it is full.
func checkSize(t *testing.T, records []*flow.Record) {
	t.Helper()
	const room, most = 16 << 20, 200
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	s, err := recent.New(recent.Config{Room: room, Mapping: mapping}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	stage := s.Stage(0, nowhere{})
	for n := 0; n < 2*room/100; {
		for _, r := range records {
			stage.HandleFlow(r)
			n++
		}
	}
	if n := s.About().InMemory; n == 0 || room/n > most {
		t.Errorf("%d records fit into %d bytes: %d bytes a record, want %d at most", n, room, room/max(n, 1), most)
	} else {
		t.Logf("%d bytes a record", room/n)
	}
}

// getJSON asks the program's API.
func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	body, status := get(t, url)
	if err := json.Unmarshal([]byte(body), v); err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d, %v: %s", url, status, err, body)
	}
}

// TestPageOfCapture: with a page the program stays after a capture, until a signal. All
// was written before, and what the page shows is what was written.
func TestPageOfCapture(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	p := startProgram(t, "-kube.snapshot", filepath.Join(ovnDir, "snapshot.yaml"), "-fields", "all", "-logfmt", "json", "-transport.file", out,
		"-ui.addr", "127.0.0.1:0", filepath.Join(ovnDir, "ovn-sample.pcap.gz"), filepath.Join(ovnDir, "ipfix1.pcap.gz"))
	p.eventually("the page stays", func() bool { return strings.Contains(p.stderr(), "all captures are read") })
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	base := fmt.Sprint("http://", started(t, p.stderr())["ui"])
	var answer struct {
		Flows []json.RawMessage `json:"flows"`
	}
	getJSON(t, base+"/api/v1/flows?limit=2000", &answer)
	lines := bytes.Split(bytes.TrimSuffix(written, []byte("\n")), []byte("\n"))
	if len(answer.Flows) != len(lines) {
		t.Fatalf("%d records, want %d", len(answer.Flows), len(lines))
	}
	shown := make(map[string]int)
	for _, r := range answer.Flows {
		shown[string(r)]++
	}
	for _, l := range lines {
		if shown[string(l)]--; shown[string(l)] < 0 {
			t.Fatalf("a record is not shown: %s", l)
		}
	}
	comparePairs(t, base, records(t, string(written)))
	if body, status := get(t, base+"/"); status != http.StatusOK || !strings.Contains(body, "<html") {
		t.Errorf("the page: status %d", status)
	}
	var summary struct{ Ready readiness }
	if getJSON(t, base+"/api/v1/summary", &summary); summary.Ready.State != "ready" {
		t.Errorf("the page says that the program is %+v", summary.Ready)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestPageWithoutReader has an output whose reader has gone, as that of "| head" does: it ends the
// input, and the page stays, and is ready.
func TestPageWithoutReader(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	p := startWith(t, nil, w, "-kube.off", "-ui.addr", "127.0.0.1:0", "-logfmt", "json", "../../testdata/captures/ovs-sflow.pcap")
	w.Close()
	p.eventually("the page stays", func() bool { return strings.Contains(p.stderr(), "all captures are read") })
	var summary struct{ Ready readiness }
	if getJSON(t, fmt.Sprint("http://", started(t, p.stderr())["ui"], "/api/v1/summary"), &summary); summary.Ready.State != "ready" {
		t.Errorf("the page says that the program is %+v", summary.Ready)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestPageFilters: a filter as long as it may be is taken, however its characters are written. One
// that is too long is refused by what reads filters, or by HTTP. docs/api.md quotes what is said of a
// wrong one.
func TestPageFilters(t *testing.T) {
	p := startProgram(t, "-kube.off", "-ui.addr", "127.0.0.1:0", "-logfmt", "json", "-transport.file", os.DevNull, "../../testdata/captures/ovs-sflow.pcap")
	p.eventually("the page stays", func() bool { return strings.Contains(p.stderr(), "all captures are read") })
	base := fmt.Sprint("http://", started(t, p.stderr())["ui"], "/api/v1/pairs?filter=")
	for _, tt := range []struct {
		length, status int
		want           string
	}{
		{32<<10 - 1, http.StatusOK, `"pairs"`}, {32<<10 + 1, http.StatusBadRequest, `"position"`}, {64 << 10, http.StatusRequestHeaderFieldsTooLarge, "431"},
	} {
		const head = `InIfName!="`
		filter := head + strings.Repeat("ÿ", (tt.length-len(head))/2) + `"`
		if body, status := get(t, base+url.QueryEscape(filter)); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("a filter of %d bytes: status %d, %.200s", tt.length, status, body)
		}
	}
	page, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := get(t, base+url.QueryEscape(`SrcNamespac == "shop"`)); !strings.Contains(string(page), "\n"+body) {
		t.Errorf("docs/api.md does not have %s", body)
	}
}

// comparePairs: the bytes of pairs are those of the records that count once.
func comparePairs(t *testing.T, base string, records []map[string]any) {
	t.Helper()
	number := func(r map[string]any, field string) float64 {
		n, err := r[field].(json.Number).Float64()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	name := func(r map[string]any, prefix string) string {
		if r[prefix+"Workload"] == nil {
			return "none//outside"
		}
		return fmt.Sprintf("%v/%v/%v", r[prefix+"WorkloadKind"], text(r[prefix+"Namespace"]), r[prefix+"Workload"])
	}
	want, total := make(map[string]float64), 0.0
	for _, r := range records {
		if r["CountsOnce"] != true {
			continue
		}
		bytes := number(r, "Bytes")
		if rate := number(r, "SamplingRate"); rate > 0 && r["Type"] == "SFLOW_5" {
			bytes *= rate // Open vSwitch's counters of IPFIX are estimates already
		}
		want[name(r, "Src")+">"+name(r, "Dst")] += bytes
		total += bytes
	}
	var answer recent.Pairs
	getJSON(t, base+"/api/v1/pairs", &answer)
	for _, p := range answer.Pairs {
		key := fmt.Sprintf("%s/%s/%s>%s/%s/%s", p.Src.Kind, p.Src.Namespace, p.Src.Name, p.Dst.Kind, p.Dst.Namespace, p.Dst.Name)
		if float64(p.Bytes) != want[key] {
			t.Errorf("%s has %d bytes, want %v", key, p.Bytes, want[key])
		}
		delete(want, key)
	}
	if len(want) > 0 || answer.Other.Pairs > 0 || total == 0 {
		t.Errorf("pairs that are not shown: %v, others %+v", want, answer.Other)
	}
	var series recent.Series
	getJSON(t, base+"/api/v1/series?by=namespace&buckets=10", &series)
	for _, s := range series.Series {
		for _, n := range s.Bytes {
			total -= float64(n)
		}
	}
	if total != 0 {
		t.Errorf("%v bytes are in no series", total)
	}
}

// TestLittleRecent: too little room for the sockets is said at start and by -check, and stops
// nothing: how many sockets there are may depend on the machine.
func TestLittleRecent(t *testing.T) {
	listen := "netflow://:2055?count=6,sflow://:6343?count=2"
	for recent, want := range map[string]string{
		"3MiB": "-recent: 3145728 bytes are too few for 8 sockets (count in -listen): many records will be in sums only; give at least 4MiB",
		"4MiB": "",
	} {
		_, stderr, code := runProgram(t, "-check", "-kube.off", "-ui.addr", "127.0.0.1:8082", "-listen", listen, "-recent", recent)
		if code != 0 || strings.Contains(stderr, "-recent") != (want != "") || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s", recent, code, stderr)
		}
	}
}
