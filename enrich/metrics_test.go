package enrich

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// gathered returns a metric as it is scraped.
func gathered(reg *prometheus.Registry, name string) (string, error) {
	families, err := reg.Gather()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, f := range families {
		if f.GetName() == name {
			if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

const heldHelp = "Records received and not yet written or dropped, by what they wait for."

// The outputs export records_held too; whichever way they describe it, both fit
// into one registry, in either order.
func TestRecordsHeldIsShared(t *testing.T) {
	const name = "kube_enricher_records_held"
	for shape, output := range map[string]func() prometheus.Collector{
		"variable label": func() prometheus.Collector {
			g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: heldHelp}, []string{"why"})
			g.WithLabelValues("output").Set(5)
			return g
		},
		"constant label": func() prometheus.Collector {
			g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: heldHelp, ConstLabels: prometheus.Labels{"why": "output"}})
			g.Set(5)
			return g
		},
	} {
		for _, first := range []bool{false, true} {
			reg := prometheus.NewRegistry()
			if first {
				reg.MustRegister(output())
			}
			log, _ := logtest.NewNullLogger()
			e, err := New(Config{}, noSource{}, log, reg)
			if err != nil {
				t.Fatalf("%s: %v", shape, err)
			}
			if !first {
				reg.MustRegister(output())
			}
			e.metrics.heldForSync.Store(7)
			want := "# HELP " + name + " " + heldHelp + "\n# TYPE " + name + " gauge\n" +
				name + "{why=\"output\"} 5\n" + name + "{why=\"pod\"} 0\n" + name + "{why=\"sync\"} 7\n"
			if err := testutil.GatherAndCompare(reg, strings.NewReader(want), name); err != nil {
				t.Errorf("%s: %v", shape, err)
			}
		}
	}
}

func TestKubeMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, reg, _ := newTest(t, Config{}, noSource{})
		st := e.store
		for _, k := range []kind{kindPod, kindService} {
			st.markStarted(k)
		}
		after(5)
		st.replace(kindPod, []*object{{kind: kindPod, podPart: &podPart{}, name: "a", uid: "a"}, {kind: kindPod, podPart: &podPart{}, name: "b", uid: "b"}})
		st.replace(kindPod, []*object{{kind: kindPod, podPart: &podPart{}, name: "a", uid: "a"}})
		st.update(&object{kind: kindPod, podPart: &podPart{}, name: "c", uid: "c", created: at(2)})
		st.update(&object{kind: kindPod, podPart: &podPart{}, name: "d", uid: "d", created: at(-3600)}) // the creation was not what happened now
		for name, want := range map[string]string{
			"kube_enricher_kube_objects":       `kube_enricher_kube_objects{kind="pod"} 3` + "\n" + `kube_enricher_kube_objects{kind="service"} 0`,
			"kube_enricher_kube_synced":        `kube_enricher_kube_synced{kind="pod"} 1` + "\n" + `kube_enricher_kube_synced{kind="service"} 0`,
			"kube_enricher_kube_relists_total": `kube_enricher_kube_relists_total{kind="pod"} 1`,
		} {
			text, err := gathered(reg, name)
			if err != nil || !strings.Contains(text, want) {
				t.Errorf("%s: %v\n%s\nwant %s", name, err, text, want)
			}
		}
		text, err := gathered(reg, "kube_enricher_kube_event_lag_seconds")
		if err != nil || !strings.Contains(text, `_sum{kind="pod"} 3`) || !strings.Contains(text, `_count{kind="pod"} 1`) {
			t.Errorf("lag: %v\n%s", err, text)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("lint: %v %v", problems, err)
		}
	})
}
