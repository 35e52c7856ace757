package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// startedKeys are the keys of the line that the program logs when it starts.
var startedKeys = []string{"addr", "debug", "listen", "mode", "names", "outputs", "rcvbuf", "sockets", "ui", "version"}

// started returns that line of a program with -logfmt json.
func started(t *testing.T, stderr string) map[string]any {
	t.Helper()
	var line map[string]any
	for text := range strings.Lines(stderr) {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if l["msg"] != "started" {
			continue
		}
		if line != nil {
			t.Errorf("started twice: %s", stderr)
		}
		line = l
	}
	for _, k := range []string{"level", "msg", "time"} {
		delete(line, k)
	}
	if keys := slices.Sorted(maps.Keys(line)); !slices.Equal(keys, startedKeys) {
		t.Fatalf("keys %q: %s", keys, stderr)
	}
	return line
}

// TestStarted compares the line of the start in each mode.
func TestStarted(t *testing.T) {
	idle := map[string]any{"listen": "", "addr": "", "debug": "", "ui": "", "sockets": 0.0, "rcvbuf": 0.0}
	capture := filepath.Join(captureDir, "pmacctd-v10.pcap")
	for _, tc := range []struct {
		name, stdin string
		args        []string
		want        map[string]any
	}{
		{"capture", "", []string{"-kube.off", capture}, map[string]any{"mode": "capture", "names": "off", "outputs": "file:json"}},
		{"text", "", []string{"-kube.snapshot", demoSnapshot, "-format", "text", capture}, map[string]any{"mode": "capture", "names": "snapshot", "outputs": "file:text"}},
		{"standard input", "{}\n", []string{"-kube.snapshot", demoSnapshot, "-"}, map[string]any{"mode": "stdin", "names": "snapshot", "outputs": "file:json"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := startWith(t, strings.NewReader(tc.stdin), nil, append([]string{"-logfmt", "json"}, tc.args...)...)
			if code := p.wait(); code != exitDone {
				t.Fatalf("exit code %d: %s", code, p.stderr())
			}
			got := started(t, p.stderr())
			want := maps.Clone(idle)
			maps.Copy(want, tc.want)
			want["version"] = got["version"]
			if !maps.Equal(got, want) || got["version"] == "" {
				t.Errorf("\ngot  %v\nwant %v", got, want)
			}
		})
	}
}

// TestStartedPorts has the kernel choose every port: the line names them.
func TestStartedPorts(t *testing.T) {
	p := startProgram(t, "-kube.off", "-logfmt", "json", "-loglevel", "debug", "-addr", "127.0.0.1:0", "-debug.addr", "localhost:0",
		"-listen", "netflow://:0?count=2&rcvbuf=65536,sflow://127.0.0.1:0?count=1&rcvbuf=32768")
	p.eventually("started", func() bool { return strings.Contains(p.stderr(), `"msg":"started"`) })
	got := started(t, p.stderr())
	m := regexp.MustCompile(`^netflow://:(\d+),sflow://127\.0\.0\.1:(\d+)$`).FindStringSubmatch(fmt.Sprint(got["listen"]))
	if m == nil || m[1] == "0" || m[2] == "0" || got["mode"] != "collect" || got["names"] != "off" || got["outputs"] != "file:json" {
		t.Fatalf("%v", got)
	}
	if runtime.GOOS == "linux" && (got["sockets"] != 3.0 || got["rcvbuf"] != 32768.0) {
		t.Errorf("sockets %v, rcvbuf %v", got["sockets"], got["rcvbuf"])
	}
	if _, code := get(t, fmt.Sprintf("http://%v/livez", got["addr"])); code != http.StatusOK {
		t.Errorf("addr %v: status %d", got["addr"], code)
	}
	if _, code := get(t, fmt.Sprintf("http://%v/exporters", got["debug"])); code != http.StatusOK {
		t.Errorf("debug %v: status %d", got["debug"], code)
	}
	if n := sendCapture(t, net.JoinHostPort("127.0.0.1", m[1]), "pmacctd-v10"); n == 0 {
		t.Error("nothing was sent")
	}
	p.eventually("received", func() bool {
		text, _ := get(t, fmt.Sprintf("http://%v/metrics", got["addr"]))
		return metric(text, "kube_enricher_records_written_total", "") > 0
	})
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}

// TestHugePages: one debug line tells what was done, none without huge pages.
func TestHugePages(t *testing.T) {
	for _, on := range []bool{true, false} {
		addr := freeAddr(t)
		p := startProgram(t, fmt.Sprintf("-huge-pages=%v", on), "-kube.snapshot", demoSnapshot, "-loglevel", "debug", "-listen", "flow://127.0.0.1:0", "-addr", addr)
		lines := func() int { return strings.Count(p.stderr(), "the heap ") }
		if on {
			p.eventually("huge pages", func() bool { return lines() > 0 })
		} else {
			p.eventually("ready", func() bool { _, code := get(t, "http://"+addr+"/readyz"); return code == http.StatusOK })
		}
		p.signal(os.Interrupt)
		if code := p.wait(); code != exitDone {
			t.Errorf("exit code %d: %s", code, p.stderr())
		}
		if n := lines(); on && n != 1 || !on && n != 0 {
			t.Errorf("huge pages %v: %d lines: %s", on, n, p.stderr())
		}
	}
}
