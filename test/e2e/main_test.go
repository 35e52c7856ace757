// Package e2e tests the real binary against a real Kubernetes API server.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
)

const (
	root           = "../.." // of the project
	manifest       = root + "/examples/goflow-kube.yaml"
	legacyManifest = root + "/examples/goflow-kube-legacy.yaml"

	templatesDirectory = "/var/lib/kube-enricher" // in the manifests

	soon = 30 * time.Second // the deadline of what should take a second
)

var (
	dumpTo = flag.String("dump", "", "write the objects of the cluster of TestSnapshotOfCluster, as kubectl prints them, to `file`")

	kube   *cluster.Cluster // shared by all tests
	binary string           // the program under test
)

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if binary, err = buildBinary(dir); err != nil {
		return 0, err
	}
	if kube, err = cluster.Start(context.Background(), "bin", dir); err != nil {
		return 0, fmt.Errorf("%w\n(`make build` makes the servers)", err)
	}
	defer func() { err = errors.Join(err, kube.Stop()) }()
	if err := populate(context.Background()); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// buildBinary builds the program under test, unless KUBE_ENRICHER_BIN names one.
func buildBinary(dir string) (string, error) {
	if path := os.Getenv("KUBE_ENRICHER_BIN"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "kube-enricher")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/kube-enricher")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program under test: %w\n%s", err, out)
	}
	return path, nil
}

// eventually asks cond until it says true, and fails the test after timeout
// with what it said last.
func eventually(t *testing.T, timeout time.Duration, what string, cond func() (done bool, state any)) {
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
