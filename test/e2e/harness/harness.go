// Package harness is what the packages of tests here have in common. Those of test/outputs and
// test/hubble are in other modules, which do not require this one, and have small helpers of
// their own.
package harness

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// Main is for TestMain. It calls run with a directory that is removed at the end, and exits with
// the code that run returns, or with 1 after it has said what the error is.
func Main(name string, run func(dir string) (code int, err error)) {
	flag.Parse()
	code, err := within(name, run)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		code = 1
	}
	os.Exit(code)
}

func within(name string, run func(dir string) (int, error)) (code int, err error) {
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return run(dir)
}

// Binary returns the path of the program under test: what KUBE_ENRICHER_BIN names, else it is
// built into dir from the project in root.
func Binary(root, dir string) (string, error) {
	if path := os.Getenv("KUBE_ENRICHER_BIN"); path != "" {
		_ = os.Unsetenv("KUBE_ENRICHER_BIN") // the program takes it for a flag's
		return filepath.Abs(path)
	}
	return Build(root, dir, "./cmd/kube-enricher")
}

// Build builds a program of the project in root into dir, and returns its path.
func Build(root, dir, source string) (string, error) {
	path := filepath.Join(dir, filepath.Base(source))
	cmd := exec.Command("go", "build", "-o", path, source)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", source, err, out)
	}
	return path, nil
}

// FreePort finds a port on 127.0.0.1 that is free for both TCP and UDP.
func FreePort(t *testing.T) int {
	t.Helper()
	port, err := proc.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Eventually asks cond until it says true, and fails the test after timeout with what it said
// last.
func Eventually(t *testing.T, timeout time.Duration, what string, cond func() (done bool, state any)) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		done, state := cond()
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %s; last seen: %v", what, timeout, state)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-t.Context().Done():
			timer.Stop()
			t.Fatalf("%s: %v", what, t.Context().Err())
		}
	}
}
