package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// unreachable writes a kubeconfig of a server that does not exist.
func unreachable(t *testing.T) string {
	t.Helper()
	port := harness.FreePort(t)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := cluster.WriteKubeconfig(file, fmt.Sprintf("http://127.0.0.1:%d", port), "", "token"); err != nil {
		t.Fatal(err)
	}
	return file
}

// With a cluster that cannot be reached the program is not ready and says why;
// after the timeout it writes what it has.
func TestUnreachableCluster(t *testing.T) {
	t.Parallel()
	const timeout = 3 * time.Second
	e := start(t, "-kubeconfig", unreachable(t), "-kube.sync-timeout", timeout.String())
	begin := time.Now()
	harness.Eventually(t, soon, "answer of /readyz", func() (bool, any) {
		status, body := e.get(t, "/readyz")
		if status == 0 {
			return false, string(body)
		}
		var answer map[string]any
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("/readyz: %v: %s", err, body)
		}
		if status != http.StatusServiceUnavailable {
			t.Fatalf("/readyz: %d %s, want %d", status, body, http.StatusServiceUnavailable)
		}
		return strings.Contains(string(body), "kube"), string(body)
	})
	if status, body := e.get(t, "/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d %s", status, body)
	}
	web := expected[slices.IndexFunc(expected, isDeploymentPod)]
	r := e.probe(t, web.addr, nobody)
	if got := r.names("Src"); len(got) > 0 {
		t.Errorf("names without a cluster: %v", got)
	}
	if took := time.Since(begin); took > timeout+5*time.Second {
		t.Errorf("the first record came after %s, with -kube.sync-timeout %s", took, timeout)
	}
	e.waitReady(t)
	checkLedger(t, e, -1)
	e.terminate(t)
}

// What waits for a cluster is not lost when the program is stopped.
func TestStopBeforeSync(t *testing.T) {
	t.Parallel()
	e := start(t, "-kubeconfig", unreachable(t), "-kube.sync-timeout", "10m")
	harness.Eventually(t, soon, "listening", func() (bool, any) {
		status, body := e.get(t, "/livez")
		return status == http.StatusOK, string(body)
	})
	send := func() {
		if err := e.exporter.IPFIX(e.flow(nobody, nobody)); err != nil {
			t.Log(err) // at first there may be no socket
		}
	}
	harness.Eventually(t, soon, "held records in /metrics", func() (bool, any) {
		send()
		held := sum(e.metrics(t), "records_held")
		return held > 0, held
	})
	for range 100 {
		send()
	}
	harness.Eventually(t, soon, "records in /metrics", func() (bool, any) {
		received := sum(e.metrics(t), "records_received_total")
		return received > 100, received
	})
	received := checkLedger(t, e, -1)
	e.terminate(t)
	if got := len(e.records); float64(got) != received {
		t.Errorf("%d records in the output, %v were received", got, received)
	}
}

// Without any cluster the program says how to go on.
func TestNoCluster(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	port := harness.FreePort(t)
	cmd := command(t, "-listen", fmt.Sprintf("netflow://127.0.0.1:%d", port), "-addr", "")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	p, err := proc.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(soon):
		if err := p.Stop(syscall.SIGKILL, soon); err != nil {
			t.Error(err)
		}
		t.Fatal("it runs without a cluster")
	}
	if p.ExitCode() != 2 {
		t.Errorf("exit code %d, want 2", p.ExitCode())
	}
	said := strings.TrimSuffix(stderr.String(), "\n")
	if strings.Contains(said, "\n") || stdout.Len() > 0 {
		t.Errorf("it said more than one line: %q, output %q", said, &stdout)
	}
	for _, way := range []string{"-kubeconfig", "-kube.snapshot", "-kube.off"} {
		if !strings.Contains(said, way) {
			t.Errorf("it said %q, without %s", said, way)
		}
	}
}

// What reached the socket before SIGTERM is in the output.
func TestDrain(t *testing.T) {
	t.Parallel()
	e := ready(t)
	const exporters, datagrams, each = 4, 20, 20 // fits into any socket's buffer
	web := expected[slices.IndexFunc(expected, isDeploymentPod)]
	send := func() {
		var group sync.WaitGroup
		for range exporters {
			x := dial(t, e.netflow)
			group.Go(func() {
				for range datagrams {
					var flows []exporter.Flow
					for range each {
						flows = append(flows, e.flow(web.addr, nobody))
					}
					if err := x.IPFIX(flows...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
	}
	const batch = exporters * datagrams * each
	send()
	harness.Eventually(t, soon, "records in /metrics", func() (bool, any) {
		received := sum(e.metrics(t), "records_received_total")
		return received >= batch, received
	})
	checkLedger(t, e, batch)

	send()
	e.terminate(t)
	if got, want := len(e.records), 2*batch; got != want {
		t.Errorf("%d records in the output, %d were sent before SIGTERM", got, want)
	}
	for port, r := range e.records {
		if r["Bytes"] != 100+float64(port) || r["SrcPod"] != web.want["Pod"] {
			t.Fatalf("record %d: %v", port, r)
		}
	}
	checkNoComplaints(t, e)
}

// checkLedger checks that no record got lost between the counters, and that
// want were received unless it is negative. It returns how many were.
func checkLedger(t *testing.T, e *enricher, want float64) float64 {
	t.Helper()
	var received float64
	harness.Eventually(t, soon, "balance in /metrics", func() (bool, any) {
		m := e.metrics(t)
		received = sum(m, "records_received_total")
		written, dropped, held := sum(m, "records_written_total"), sum(m, "records_dropped_total"), sum(m, "records_held")
		return received == written+dropped+held && (want < 0 || received == want),
			fmt.Sprintf("received %v (sent %v), written %v, dropped %v, held %v", received, want, written, dropped, held)
	})
	return received
}
