package main

import (
	"encoding/csv"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// trafficKey says what a value of the metrics of traffic is of.
type trafficKey struct{ metric, src, dst string }

// gather runs the program's parts with its metrics on, until its input ends, and
// returns the metrics.
func gather(t *testing.T, args ...string) []*dto.MetricFamily {
	t.Helper()
	cfg, err := config.Parse(append([]string{"-addr", "127.0.0.1:0"}, args...), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	out, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	a := &app{cfg: cfg, log: log, stdout: out, reg: prometheus.NewRegistry()}
	if err := a.build(); err != nil {
		t.Fatal(err)
	}
	if err := a.run(); err != nil {
		t.Fatal(err)
	}
	families, err := a.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// trafficOf reads a capture and returns its metrics of traffic. Who sends and receives
// is written as NAMESPACE/WORKLOAD/KIND.
func trafficOf(t *testing.T, capture string, args ...string) map[trafficKey]float64 {
	t.Helper()
	values := make(map[trafficKey]float64)
	for _, f := range gather(t, append(args, "-kube.snapshot", demoSnapshot, captureDir+"/"+capture+".pcap")...) {
		name, ok := strings.CutPrefix(f.GetName(), "kube_enricher_workload_")
		if !ok {
			continue
		}
		for _, m := range f.GetMetric() {
			l := make(map[string]string)
			for _, p := range m.GetLabel() {
				l[p.GetName()] = p.GetValue()
			}
			if _, ok := l["src_kind"]; !ok {
				continue
			}
			k := trafficKey{name, l["src_namespace"] + "/" + l["src_workload"] + "/" + l["src_kind"], l["dst_namespace"] + "/" + l["dst_workload"] + "/" + l["dst_kind"]}
			if v := m.GetCounter().GetValue(); v > 0 {
				values[k] = v
			}
		}
	}
	return values
}

// rowsOf reads a table beside a capture.
func rowsOf(t *testing.T, name string) []map[string]string {
	t.Helper()
	f, err := os.Open(captureDir + "/" + name + ".csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, row := range rows[1:] {
		m := make(map[string]string)
		for i, v := range row {
			m[rows[0][i]] = v
		}
		all = append(all, m)
	}
	return all
}

func float(t *testing.T, s string) float64 {
	t.Helper()
	if s == "" {
		return 0
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// workloadsOfDemo says whose the addresses in Open vSwitch's captures are.
var workloadsOfDemo = map[string]string{
	"10.244.0.5": "shop/frontend/Deployment", "fd00:10:244::5": "shop/frontend/Deployment",
	"10.244.0.7": "shop/report/CronJob", "fd00:10:244::7": "shop/report/CronJob",
	"10.244.0.6": "control-plane/apiserver/StatefulSet", "fd00:10:244::6": "control-plane/apiserver/StatefulSet",
	"10.244.1.7": "kube-system/coredns/Deployment", "fd00:10:244:1::7": "kube-system/coredns/Deployment",
	"10.96.0.1": "default/kubernetes/Service", "fd00:10:96::1": "default/kubernetes/Service",
	"10.96.0.10": "kube-system/kube-dns/Service",
	"10.96.0.99": "//none", "ff02::1:ff00:5": "//none", "ff02::1:ff00:6": "//none", "ff02::1:ff00:7": "//none",
}

// senders are the interfaces that tables of what was sent have rows of.
var senders = map[string][]string{
	"pod-a": {"10.244.0.5", "fd00:10:244::5"},
	"pod-b": {"10.244.0.6", "fd00:10:244::6"},
	"pod-c": {"10.244.1.7", "fd00:10:244:1::7"},
	"pod-d": {"10.244.0.7", "fd00:10:244::7"},
}

// TestTraffic holds the metrics of traffic between workloads to what the pods
// really sent, as counted on their interfaces: each packet once, although up to
// four records have it.
func TestTraffic(t *testing.T) {
	for capture, test := range map[string]struct {
		nodes   string // whose exports are in the capture
		args    []string
		bytes   string // column
		trailer float64
	}{
		"ovs-ipfix-2node-geneve": {nodes: "both"},
		"ovs-ipfix":              {nodes: "first"},
		// Counters are scaled up by Open vSwitch, whatever rate is given for it.
		"ovs-ipfix-nocache": {nodes: "first", args: []string{"-sampling", "0.0.0.0/0=400"}},
		"ovs-sflow":         {nodes: "first", bytes: "l2_bytes", trailer: 4},
	} {
		t.Run(capture, func(t *testing.T) {
			want := make(map[trafficKey]float64)
			for _, row := range rowsOf(t, capture+".wire") {
				if !slices.Contains(senders[row["point"]], row["src"]) || test.nodes == "first" && row["point"] == "pod-c" {
					continue
				}
				src, dst := workloadsOfDemo[row["src"]], workloadsOfDemo[row["dst"]]
				if src == "" || dst == "" {
					t.Fatalf("whose are %s and %s?", row["src"], row["dst"])
				}
				column := "ip_bytes"
				if test.bytes != "" {
					column = test.bytes
				}
				want[trafficKey{"packets_total", src, dst}] += float(t, row["packets"])
				want[trafficKey{"bytes_total", src, dst}] += float(t, row[column]) + test.trailer*float(t, row["packets"])
			}
			got := trafficOf(t, capture, test.args...)
			maps.DeleteFunc(got, func(k trafficKey, _ float64) bool { return k.metric == "flows_total" })
			if len(want) < 10 {
				t.Errorf("only %d sums to compare", len(want))
			}
			for k, v := range want {
				if got[k] != v {
					t.Errorf("%v is %v, sent were %v", k, got[k], v)
				}
			}
			for k, v := range got {
				if _, ok := want[k]; !ok {
					t.Errorf("%v is %v, and nothing was sent", k, v)
				}
			}
		})
	}
}

// TestTrafficOfOthers: each record of other exporters counts, multiplied by
// their sampling rate.
func TestTrafficOfOthers(t *testing.T) {
	for capture, test := range map[string]struct {
		args []string
		rate float64
	}{
		"softflowd-v5":           {rate: 1},
		"softflowd-v9":           {rate: 1},
		"softflowd-v10":          {rate: 1},
		"softflowd-v9-sampled10": {rate: 10},
		"pmacctd-v10":            {rate: 1},
		"pmacctd-sflow-s10":      {rate: 10},
		"fprobe-v5":              {rate: 20, args: []string{"-sampling", "127.0.0.0/8=5,0.0.0.0/0=20,127.0.0.1=20"}},
	} {
		t.Run(capture, func(t *testing.T) {
			var bytes, packets, flows float64
			for _, row := range rowsOf(t, capture+".truth") {
				if row["kind"] == "flow" || row["kind"] == "sample" {
					bytes += test.rate * float(t, row["bytes"])
					packets += test.rate * float(t, row["packets"])
					flows++
				}
			}
			sums := make(map[string]float64)
			for k, v := range trafficOf(t, capture, test.args...) {
				sums[k.metric] += v
			}
			if sums["bytes_total"] != bytes || sums["packets_total"] != packets || sums["flows_total"] != flows {
				t.Errorf("sums %v, want %v bytes, %v packets, %v flows", sums, bytes, packets, flows)
			}
		})
	}
}

// TestTrafficOff: no such metrics where they are not wanted or cannot be.
func TestTrafficOff(t *testing.T) {
	for name, args := range map[string][]string{
		"off":              {"-metrics.workloads", "0", "-kube.snapshot", demoSnapshot},
		"no names":         {"-kube.off"},
		"no address":       {"-addr", "", "-kube.snapshot", demoSnapshot},
		"capture":          {"-kube.snapshot", demoSnapshot, captureDir + "/ovs-ipfix.pcap"},
		"standard input":   {"-addr", ":0", "-kube.snapshot", demoSnapshot, "-"},
		"metrics and pods": {"-kube.snapshot", demoSnapshot},
	} {
		a := inert(t, args...)
		if on := a.traffic != nil; on != (name == "metrics and pods") {
			t.Errorf("%s: traffic is counted: %v", name, on)
		}
	}
}
