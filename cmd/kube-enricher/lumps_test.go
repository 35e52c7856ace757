package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
)

const (
	lumpsRun   = 80 * time.Minute // how long exporters send
	lumpsRange = time.Hour        // the time shown by the dashboards, the end of the run
	lumpsPhase = time.Minute / 2  // when in a minute exporters send
	// tolerated is how far a sum may be off.
	tolerated = 0.02
)

// lumpsScrapes are intervals between two scrapes, one a job.
var lumpsScrapes = map[string]time.Duration{"each15s": 15 * time.Second, "each30s": 30 * time.Second, "each60s": time.Minute}

// lumpSender is a workload that sends once in a minute.
type lumpSender struct {
	name     string
	from, to int // first and last minute
}

// lumpSenders have those that always send, one that begins in the time shown, and one that sends a
// single time, whose series appears with all that it will ever count.
//
// Prometheus extrapolates to the end of the time shown, by up to an interval between scrapes. A
// series that is young then is off by more than tolerated, whatever a program does.
var lumpSenders = []lumpSender{{"web", 0, 999}, {"db", 0, 999}, {"batch", 0, 999}, {"late", 30, 999}, {"once", 25, 25}}

// TestLumps has a real Prometheus answer what the dashboards ask, about exporters that send what
// they have seen once in a minute. No curve drops to 0, and curves and tables add up to what was
// sent. Traffic is counted by the program's own code, at times that are not waited for.
func TestLumps(t *testing.T) {
	start := time.Now().Add(-2 * time.Hour).Truncate(time.Minute)
	end := start.Add(lumpsRun)
	sent := make(map[string]map[string]float64) // bytes of the time shown, by job and namespace
	web := runPrometheus(t, func(w io.Writer) {
		for job, interval := range lumpsScrapes {
			sent[job] = writeLumps(t, w, job, interval, start)
		}
	})

	for job := range lumpsScrapes {
		curves := 0
		for name, d := range readDashboards(t) {
			for _, p := range d.Panels {
				for _, q := range p.Targets {
					where := fmt.Sprintf("%s, %s, panel %s", job, name, p.Title)
					expr := strings.NewReplacer("$__range", "1h", "$job", job).Replace(q.Expr)
					expr = withoutVariables(expr)
					switch {
					case p.Type == "timeseries" && strings.Contains(expr, "rate(") && !strings.Contains(expr, "_policy_"):
						checkCurves(t, where, askRange(t, web, expr, end.Add(-lumpsRange), end))
						curves++
					case strings.Contains(q.Expr, "$__range") && strings.HasPrefix(q.Expr, "topk(15, sum by (src_namespace, src_workload"):
						checkSums(t, where, sent[job], askRange(t, web, expr, end, end), 1)
					case strings.Contains(q.Expr, "$__range") && strings.HasPrefix(q.Expr, "8 * sum by (src_namespace, dst_namespace)"):
						checkSums(t, where, sent[job], askRange(t, web, expr, end, end), lumpsRange.Seconds()/8)
					}
				}
			}
			if d.UID == "kube-enricher-traffic" {
				expr := fmt.Sprintf("sum by (src_namespace) (rate(kube_enricher_workload_bytes_total{job=%q}[5m]))", job)
				sums := make(map[string]float64)
				for _, c := range askRange(t, web, expr, end.Add(-lumpsRange+15*time.Second), end) {
					for _, v := range c.values {
						sums[c.labels["src_namespace"]] += 15 * v
					}
				}
				compareSums(t, job+", area under curves", sent[job], sums)
			}
		}
		if curves < 20 {
			t.Errorf("%d curves", curves)
		}
	}
}

// writeLumps writes what a job's scrapes would have seen, and returns how much each namespace
// sent in the time shown.
func writeLumps(t *testing.T, w io.Writer, job string, interval time.Duration, start time.Time) map[string]float64 {
	t.Helper()
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	counter, err := traffic.New(traffic.Config{Mapping: mapping, MaxSeries: 100}, reg)
	if err != nil {
		t.Fatal(err)
	}
	stage := counter.NewStage(lumpsEnd{})
	rnd := rand.New(rand.NewPCG(1, 2))
	sent := make(map[string]float64)
	others := exportedMetrics(t)
	target := flow.NewObject(flow.Object{Kind: "Pod", Namespace: "target", Name: "api-1", Workload: "api", WorkloadKind: "Deployment"})
	lumps := 0
	for at := 7 * time.Second; at <= lumpsRun+interval; at += interval {
		for ; time.Duration(lumps)*time.Minute+lumpsPhase <= at; lumps++ {
			for _, s := range lumpSenders {
				if lumps < s.from || lumps > s.to {
					continue
				}
				r := new(flow.Record)
				r.Msg.SrcAddr, r.Msg.DstAddr = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
				r.Msg.Packets, r.Msg.Bytes = 10, 8_000+rnd.Uint64N(4_000)
				r.Ends[0].Object = flow.NewObject(flow.Object{Kind: "Pod", Namespace: s.name, Name: s.name + "-1", Workload: s.name, WorkloadKind: "Deployment"})
				r.Ends[1].Object = target
				stage.HandleFlow(r)
				if m := time.Duration(lumps) * time.Minute; m >= lumpsRun-lumpsRange && m < lumpsRun {
					sent[s.name] += float64(r.Msg.Bytes)
				}
			}
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		sample := lineWriter{w, job, start.Add(at)}
		for _, f := range families {
			sample.family(f)
		}
		for _, f := range others {
			if !strings.HasPrefix(f.GetName(), "kube_enricher_workload_") {
				sample.family(steady(f, float64(10*lumps)))
			}
		}
	}
	return sent
}

// lumpsEnd is the end of a chain.
type lumpsEnd struct{}

func (lumpsEnd) HandleFlow(*flow.Record) {}
func (lumpsEnd) Idle() bool              { return false }

// steady sets the counters of a family.
func steady(f *dto.MetricFamily, v float64) *dto.MetricFamily {
	for _, m := range f.GetMetric() {
		if c := m.GetCounter(); c != nil {
			c.Value = &v
		}
		for _, b := range m.GetHistogram().GetBucket() {
			b.CumulativeCount = new(uint64(v))
		}
		if h := m.GetHistogram(); h != nil {
			h.SampleCount = new(uint64(v))
		}
	}
	return f
}

// checkCurves checks that a panel's curves are there and do not drop to 0, but for those of
// workloads that do not always send.
func checkCurves(t *testing.T, where string, curves []curve) {
	t.Helper()
	steady := 0
	for _, c := range curves {
		if c.labels["src_namespace"] == "late" || c.labels["src_namespace"] == "once" || c.labels["src_kind"] == "other" ||
			c.labels["src_namespace"] == "other" || c.labels["dst_namespace"] == "other" {
			continue
		}
		if r := c.labels["result"]; r == "repeated" || r == "sample" || r == "no_address" {
			if strings.Contains(where, "whether they count") {
				continue
			}
		}
		steady++
		if i := slices.IndexFunc(c.values, func(v float64) bool { return v <= 0 || math.IsNaN(v) }); i >= 0 && !strings.HasSuffix(where, "Series that changed hands") {
			t.Errorf("%s: %v is %v at point %d", where, c.labels, c.values[i], i)
		}
		if want := int(lumpsRange/(15*time.Second)) + 1; len(c.values) != want {
			t.Errorf("%s: %v has %d points, want %d", where, c.labels, len(c.values), want)
		}
	}
	// Nothing was sent to Services, and all ends are known.
	if steady == 0 && !strings.HasSuffix(where, "To Services") && !strings.HasSuffix(where, "unknown addresses") {
		t.Errorf("%s: no curve among %v", where, curves)
	}
}

// checkSums compares values by namespace, times a factor, with what was sent.
func checkSums(t *testing.T, where string, sent map[string]float64, curves []curve, factor float64) {
	t.Helper()
	sums := make(map[string]float64)
	for _, c := range curves {
		sums[c.labels["src_namespace"]] += factor * c.values[len(c.values)-1]
	}
	compareSums(t, where, sent, sums)
}

func compareSums(t *testing.T, where string, sent, sums map[string]float64) {
	t.Helper()
	for _, s := range lumpSenders {
		if strings.HasSuffix(where, "curves") && s.from > 0 {
			continue // a curve shows what was sent throughout the five minutes after it
		}
		off := sums[s.name]/sent[s.name] - 1
		t.Logf("%s, %s: %.2f %% off", where, s.name, 100*off)
		if math.Abs(off) > tolerated || math.IsNaN(off) {
			t.Errorf("%s: %s sent %v bytes, shown are %v", where, s.name, sent[s.name], sums[s.name])
		}
	}
}
