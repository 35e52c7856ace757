package main

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/netobserv/goflow2-kube-enricher/collector"
)

// TestFirstSigns lets counters grow as those of the program do, and reads the log.
func TestFirstSigns(t *testing.T) {
	const hint = "do exporters send to one of these addresses"
	type at struct {
		after  time.Duration
		metric string // without the prefix
		label  string
		value  float64
	}
	for _, tc := range []struct {
		name   string
		names  bool
		events []at
		want   []string // parts of the lines of two hours
	}{
		{"nothing", true, nil, []string{hint}},
		{"named", true, []at{
			{2 * time.Second, "datagrams_received_total", "ipfix", 1}, {2 * time.Second, "templates", "", 88}, {2 * time.Second, "exporter_last_seen_timestamp_seconds", "192.0.2.1", 1},
			{10 * time.Second, "lookups_total", "none", 10}, {20 * time.Second, "lookups_total", "pod", 1},
		}, []string{`first datagram exporter=192.0.2.1 protocol=ipfix templates=known`, "first record named"}},
		{"without names", false, []at{{time.Second, "datagrams_received_total", "sflow_5", 1}, {time.Second, "exporter_last_seen_timestamp_seconds", "192.0.2.1", 1}},
			[]string{"first datagram exporter=192.0.2.1 protocol=sflow_5 templates=not needed"}},
		{"templates missing", false, []at{{time.Second, "datagrams_received_total", "netflow_v9", 1}, {time.Second, "sets_held", "", 3}},
			[]string{"templates=awaited: the data wait for them"}},
		{"not allowed", true, []at{{time.Second, "datagrams_received_total", "unknown", 5}, {time.Second, "datagrams_dropped_total", "not_allowed", 5}},
			[]string{"others that were dropped"}},
		{"late", false, []at{{time.Hour, "datagrams_received_total", "netflow_v5", 1}}, []string{hint, "protocol=netflow_v5 templates=not needed"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reg := prometheus.NewRegistry()
				var mu sync.Mutex // of gauges: events of one moment happen at once
				gauges := make(map[string]*prometheus.GaugeVec)
				labels := map[string]string{"datagrams_received_total": "protocol", "exporter_last_seen_timestamp_seconds": "exporter", "lookups_total": "result", "datagrams_dropped_total": "reason"}
				log, hook := logtest.NewNullLogger()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
				defer cancel()
				f := &firstSigns{log: log, gather: reg.Gather, names: tc.names, listen: []collector.Listener{{Host: "127.0.0.1", Port: 2055}}}
				done := make(chan error, 1)
				go func() { done <- f.run(ctx) }()
				for _, e := range tc.events {
					time.AfterFunc(e.after-time.Millisecond, func() {
						mu.Lock()
						defer mu.Unlock()
						g := gauges[e.metric]
						if g == nil {
							label := labels[e.metric]
							if label == "" {
								label = "x"
							}
							g = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kube_enricher_" + e.metric}, []string{label})
							gauges[e.metric] = g
							reg.MustRegister(g)
						}
						g.WithLabelValues(e.label).Set(e.value)
					})
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				var lines []string
				for _, e := range hook.AllEntries() {
					line := e.Message
					for _, k := range []string{"exporter", "protocol", "templates", "send_to"} {
						if v, ok := e.Data[k]; ok {
							line += " " + k + "=" + v.(string)
						}
					}
					lines = append(lines, line)
				}
				if len(lines) != len(tc.want) {
					t.Fatalf("lines %q, want %q", lines, tc.want)
				}
				for i, want := range tc.want {
					if !strings.Contains(lines[i], want) || strings.Contains(lines[i], hint) && !strings.Contains(lines[i], "send_to=127.0.0.1:2055") {
						t.Errorf("%q, want %q", lines[i], want)
					}
				}
			})
		})
	}
}

func TestTargets(t *testing.T) {
	host := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	got := targets([]collector.Listener{{Port: 2055}, {Host: "::", Port: 6343}, {Host: "10.0.0.1", Port: 1}, {Host: "node", Port: 2}}, host)
	want := []string{"10.0.0.1:1", "192.0.2.1:2055", "192.0.2.1:6343", "[2001:db8::1]:2055", "[2001:db8::1]:6343", "node:2"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestFirstSignsLive sends a capture to the program, which says that it came.
func TestFirstSignsLive(t *testing.T) {
	flows := freeAddr(t)
	p := startProgram(t, "-listen", "flow://"+flows, "-addr", "", "-kube.snapshot", demoSnapshot)
	p.eventually("started", func() bool { return strings.Contains(p.stderr(), "msg=started") })
	sendCapture(t, flows, "ovs-ipfix")
	p.eventually("first signs", func() bool {
		return strings.Contains(p.stderr(), `msg="first datagram" exporter=127.0.0.1 protocol=ipfix templates=known`) &&
			strings.Contains(p.stderr(), `msg="first record named"`)
	})
	p.signal(os.Interrupt)
	if code := p.wait(); code != exitDone {
		t.Errorf("exit code %d: %s", code, p.stderr())
	}
}
