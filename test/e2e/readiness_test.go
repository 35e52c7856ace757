package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// testReadiness takes the Kafka broker away and gives it back. The chart's Service keeps its endpoint
// while the output's buffer has room, and only then.
func (c *chartCluster) testReadiness(t *testing.T) {
	const away = "away" // the release
	port := harness.FreePort(t)
	c.install(t, away, restricted, "fullnameOverride="+away, "kafka.enabled=true", "kafka.topic=flows",
		fmt.Sprintf("kafka.brokers={127.0.0.1:%d}", port), "kafka.config.buffer=1MiB")
	defer c.uninstall(t, away, restricted)
	e := c.startCollector(t, away)
	c.probe(t, e, away)

	state := func(want string, status int) {
		t.Helper()
		harness.Eventually(t, soon, want, func() (bool, any) {
			got, body := e.get(t, "/readyz")
			var r struct{ State string }
			err := json.Unmarshal(body, &r)
			return err == nil && r.State == want && got == status, fmt.Sprintf("%d %s", got, body)
		})
	}
	endpoints := func(ready bool) {
		t.Helper()
		harness.Eventually(t, soon, fmt.Sprintf("endpoint of the Service, ready: %v", ready), func() (bool, any) {
			slices, err := c.Client.DiscoveryV1().EndpointSlices(restricted).List(t.Context(), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + away})
			if err != nil {
				return false, err
			}
			n, all := 0, 0
			for _, s := range slices.Items {
				for _, p := range s.Endpoints {
					all++
					if p.Conditions.Ready != nil && *p.Conditions.Ready {
						n++
					}
				}
			}
			return all > 0 && (n == all) == ready && (n == 0) == !ready, fmt.Sprintf("%d of %d are ready", n, all)
		})
	}
	state("degraded", http.StatusOK)
	endpoints(true)

	// Some records: they find room.
	send := func(n int) {
		t.Helper()
		for range n {
			if err := e.exporter.IPFIX(e.flow(nobody, netip.MustParseAddr("192.0.2.7"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(100)
	harness.Eventually(t, soon, "records in the buffer", func() (bool, any) {
		m := e.metrics(t)
		return sum(m, "records_received_total") == 100 && sum(m, "records_held") == 100, sum(m, "records_held")
	})
	state("degraded", http.StatusOK)
	endpoints(true)

	// So many that the buffer is full.
	harness.Eventually(t, soon, "drops for want of room", func() (bool, any) {
		send(500)
		n := sum(e.metrics(t), "records_dropped_total")
		return n > 0, n
	})
	state("not ready", http.StatusServiceUnavailable)
	endpoints(false)

	// The broker is there. What was held is written.
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(4, "flows"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	state("ready", http.StatusOK)
	endpoints(true)
	harness.Eventually(t, soon, "an empty buffer", func() (bool, any) {
		m := e.metrics(t)
		return sum(m, "records_held") == 0 && sum(m, "records_written_total") > 0, sum(m, "records_held")
	})
	checkLedger(t, e, -1)
	said := e.logText()
	for _, want := range []string{
		"kafka: brokers unreachable: dial tcp 127.0.0.1:" + strconv.Itoa(port), "the buffer of 1 MiB is full",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the log does not say %q: %s", want, said)
		}
	}
	e.terminate(t)
}

// probe stands in for the kubelet, of which kwok has nothing but a start: it asks the program as the
// chart's readiness probe says, and writes the answer into the status of the release's pod.
func (c *chartCluster) probe(t *testing.T, e *enricher, release string) {
	t.Helper()
	ctx := t.Context()
	pods := c.Client.CoreV1().Pods(restricted)
	list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + release})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%d pods: %v", len(list.Items), err)
	}
	p := list.Items[0].Spec.Containers[0].ReadinessProbe
	_, port, _ := net.SplitHostPort(e.http)
	path := p.HTTPGet.Path
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		client := http.Client{Timeout: time.Duration(max(1, p.TimeoutSeconds)) * time.Second}
		ready, failures := true, 0
		tick := time.NewTicker(time.Duration(p.PeriodSeconds) * time.Second / 10) // the period is not what is tested
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			was := ready
			r, err := client.Get("http://127.0.0.1:" + port + path)
			if err == nil {
				_ = r.Body.Close()
			}
			if err == nil && r.StatusCode < 400 {
				ready, failures = true, 0
			} else if failures++; failures >= int(p.FailureThreshold) {
				ready = false
			}
			if ready == was {
				continue
			}
			o, err := pods.Get(ctx, list.Items[0].Name, metav1.GetOptions{})
			if err != nil {
				return // the release is gone
			}
			status := corev1.ConditionFalse
			if ready {
				status = corev1.ConditionTrue
			}
			for i := range o.Status.Conditions {
				if kind := o.Status.Conditions[i].Type; kind == corev1.PodReady || kind == corev1.ContainersReady {
					o.Status.Conditions[i].Status = status
				}
			}
			for i := range o.Status.ContainerStatuses {
				o.Status.ContainerStatuses[i].Ready = ready
			}
			if _, err := pods.UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
				ready = was // tried again
			}
		}
	}()
}
