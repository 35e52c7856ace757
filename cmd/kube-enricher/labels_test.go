package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLabels copies labels from a snapshot into records.
func TestLabels(t *testing.T) {
	stdout, stderr, code := runProgram(t, "-kube.snapshot", demoSnapshot, "-kube.labels", "app=App,none=None", filepath.Join(captureDir, "ovs-ipfix-2node-geneve.pcap"))
	if code != exitDone || !strings.Contains(stdout, `"SrcApp":"frontend"`) || !strings.Contains(stdout, `"DstApp":"`) || strings.Contains(stdout, "SrcNone") {
		t.Errorf("capture: exit code %d, %s\n%.1000s", code, stderr, stdout)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	const line = `{"src_addr":"10.244.0.5","src_app":"mine","dst_addr":"10.244.0.5"}`
	go func() { _, _ = w.WriteString(line + "\n"); w.Close() }()
	p := startWith(t, r, nil, "-kube.snapshot", demoSnapshot, "-kube.labels", "app=App", "-fields", "PApp", "-")
	if code := p.wait(); code != exitDone || p.stdout.String() != strings.TrimSuffix(line, "}")+`,"dst_app":"frontend"}`+"\n" {
		t.Errorf("pipe: exit code %d, %s\n%s", code, p.stderr(), p.stdout.String())
	}
	r.Close()
}
