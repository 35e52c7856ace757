package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/needs"
)

// TestFullFileSystem fills the file system that the output is on, and makes room
// again: what was written is whole records, what was not is counted.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	needs.OK(t, "a small file system of its own", syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=700"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "flows.json")
	p, flows, base := collect(t, "-transport.file", file)
	count := func(name, labels string) float64 {
		text, _ := get(t, base+"/metrics")
		return metric(text, "kube_enricher_"+name, labels)
	}
	sent := 0.0
	send := func() {
		sendCapture(t, flows, "softflowd-v5")
		sent += 744
		p.eventually("settled", func() bool {
			return count("records_received_total", "") == sent && count("records_held", "") <= 1 // one may be written in part
		})
	}
	for count("records_dropped_total", `reason="output_error"`) == 0 {
		if send(); sent > 10_000 {
			t.Fatal("the file system is not full")
		}
	}
	p.eventually("degraded", func() bool {
		s, body := state(t, base)
		return s == "degraded" && strings.Contains(body, "no space")
	})
	before := count("records_written_total", "")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	send()
	p.eventually("ready", func() bool { s, _ := state(t, base); return s == "ready" })
	text := p.balances(base, sent)
	written := metric(text, "kube_enricher_records_written_total", "")
	if written < before+100 {
		t.Errorf("%v records written, %v before there was room again", written, before)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, string(b))); float64(n) != written {
		t.Errorf("%d whole records in the file, %v are counted as written", n, written)
	}
	if n := strings.Count(p.stderr(), "records were dropped"); n < 1 || n > 3 {
		t.Errorf("%d log lines: %s", n, p.stderr())
	}
}

// TestRemovedDirectory takes the output's directory away and puts another one in
// its place.
func TestRemovedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "flows.json")
	p, flows, base := collect(t, "-transport.file", file)
	count := func(name string) float64 {
		text, _ := get(t, base+"/metrics")
		return metric(text, "kube_enricher_"+name, "")
	}
	sendCapture(t, flows, "fprobe-v5")
	p.eventually("written", func() bool { return count("records_written_total") == 225 })
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	p.eventually("degraded", func() bool {
		s, body := state(t, base)
		return s == "degraded" && strings.Contains(body, "output")
	})
	sendCapture(t, flows, "fprobe-v5") // waits in the buffer
	p.eventually("received", func() bool { return count("records_received_total") == 450 })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	p.eventually("written", func() bool { return count("records_written_total") == 450 })
	p.eventually("ready", func() bool { s, _ := state(t, base); return s == "ready" })
	p.balances(base, 450)
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(records(t, string(b))); n != 225 {
		t.Errorf("%d records in the new file, want those that waited", n)
	}
}
