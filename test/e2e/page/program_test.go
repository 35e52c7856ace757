package page

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// program is a running kube-enricher with its page.
type program struct {
	base   string // URL of the page
	listen string // where it takes datagrams, if it collects
	output string // file of the records of a capture as JSON
}

// read starts the program with its page on a capture, and waits until it has read all of it.
// The records come from a run of their own.
func read(t *testing.T, snapshot, capture string, args ...string) *program {
	t.Helper()
	output := filepath.Join(t.TempDir(), "flows.json")
	args = append([]string{"-kube.snapshot", snapshot}, append(args, capture)...)
	out, err := exec.Command(binary, append([]string{"-fields", "all", "-transport.file", output, "-loglevel", "warning"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := &program{output: output}
	p.start(t, len(p.records(t)), append([]string{"-transport.file", os.DevNull}, args...)...)
	return p
}

// collect starts the program with its page as a collector.
func collect(t *testing.T, snapshot string, args ...string) *program {
	t.Helper()
	p := &program{listen: fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t))}
	p.start(t, 0, append([]string{"-kube.snapshot", snapshot, "-transport.file", os.DevNull, "-listen", "netflow://" + p.listen + "?count=1"}, args...)...)
	return p
}

// start starts the program and waits until it has so many records.
func (p *program) start(t *testing.T, records int, args ...string) {
	t.Helper()
	port := harness.FreePort(t)
	p.base = fmt.Sprintf("http://127.0.0.1:%d", port)
	cmd := exec.Command(binary, append([]string{"-ui.addr", fmt.Sprintf("127.0.0.1:%d", port), "-addr", "", "-loglevel", "warning"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	child, err := proc.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := child.Stop(syscall.SIGTERM, soon); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of the program:\n%s", stderr.Bytes())
		}
	})
	harness.Eventually(t, soon, fmt.Sprintf("page with %d records", records), func() (bool, any) {
		if !child.Running() {
			t.Fatalf("the program has ended:\n%s", stderr.Bytes())
		}
		var summary struct{ Records int }
		err := p.get("/api/v1/summary", &summary)
		return err == nil && summary.Records == records, fmt.Sprint(summary.Records, " records, ", err)
	})
}

// get reads an answer of the API.
func (p *program) get(path string, into any) error {
	answer, err := http.Get(p.base + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// record is what the tests read of a line of the output.
type record struct {
	SrcNamespace, SrcWorkload, SrcWorkloadKind, SrcPod, SrcAddr string
	DstNamespace, DstWorkload, DstWorkloadKind, DstPod, DstAddr string
	Bytes                                                       uint64
	CountsOnce                                                  bool
	SamplingRate                                                uint64
	DstPort                                                     int
	Verdict, PolicyKind                                         string
}

// records reads the output. The captures here are not sampled, so that the counters of a
// record are what the page has to show.
func (p *program) records(t *testing.T) (list []record) {
	t.Helper()
	content, err := os.ReadFile(p.output)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		if r.SamplingRate > 1 {
			t.Fatalf("a record is sampled: %s", line)
		}
		list = append(list, r)
	}
	return list
}

// pair is two ends, each as kind/namespace/name.
type pair struct{ src, dst string }

// sums adds up the bytes of the records that count, by pair.
func sums(list []record, wanted func(*record) bool) map[pair]uint64 {
	m := make(map[pair]uint64)
	for i := range list {
		if r := &list[i]; r.CountsOnce && wanted(r) {
			m[r.pair()] += r.Bytes
		}
	}
	return m
}

func (r *record) pair() pair {
	end := func(kind, namespace, name string) string {
		if name == "" {
			return "none//outside"
		}
		return kind + "/" + namespace + "/" + name
	}
	return pair{end(r.SrcWorkloadKind, r.SrcNamespace, r.SrcWorkload), end(r.DstWorkloadKind, r.DstNamespace, r.DstWorkload)}
}
