package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write generated documentation anew")

func oneLine(t *testing.T, s string) {
	t.Helper()
	if s == "" || strings.ContainsAny(s, "\n\r\v\f\x00\x1b\u0085\u2028\u2029") {
		t.Errorf("not one line: %q", s)
	}
}

// write makes a file in a directory of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestIsPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	file, err := os.Open(write(t, "f", "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if !isPipe(r) || isPipe(null) || isPipe(file) {
		t.Errorf("pipe %v, %s %v, file %v", isPipe(r), os.DevNull, isPipe(null), isPipe(file))
	}
}

func TestVersions(t *testing.T) {
	program, goflow2, goVersion := versions()
	if program == "" || !regexp.MustCompile(`^v2\.\d+\.\d+$`).MatchString(goflow2) || !strings.HasPrefix(goVersion, "go1.") {
		t.Errorf("%q, %q, %q", program, goflow2, goVersion)
	}
}

// TestCheckReadsOnce gives -check a snapshot that can be read only once.
func TestCheckReadsOnce(t *testing.T) {
	snapshot, err := os.ReadFile(demoSnapshot)
	if err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(t.TempDir(), "snapshot.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, "-check", "-kube.snapshot", fifo)
	if err := os.WriteFile(fifo, snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(); code != exitDone || p.stderr() != "" {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}
