// Package e2e tests the real binary against a real Kubernetes API server.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
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
	harness.Main("e2e", func(dir string) (int, error) { return run(m, dir) })
}

func run(m *testing.M, dir string) (code int, err error) {
	if binary, err = harness.Binary(root, dir); err != nil {
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
