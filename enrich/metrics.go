package enrich

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// results are the values of the label result of lookups_total.
var results = [flow.NumStatus]string{
	flow.StatusNone: "none", flow.StatusLive: "pod", flow.StatusRetained: "retained",
	flow.StatusAmbiguous: "ambiguous", flow.StatusService: "service", flow.StatusNode: "node",
	flow.StatusEgressIP: "egressip", flow.StatusEndpoint: "endpoint",
}

// metrics are the metrics of an Enricher. What workers count is summed up when it is scraped.
type metrics struct {
	e           *Enricher
	heldForSync atomic.Int64 // records that wait for the first sync
	heldForPod  atomic.Int64 // records that wait for their pod

	mu      sync.Mutex
	workers []*lookups

	lookups, objects, synced, age *prometheus.Desc

	lags        *prometheus.HistogramVec
	relistsVec  *prometheus.CounterVec
	failuresVec *prometheus.CounterVec
	relists     [numKinds]prometheus.Counter
	failures    [numKinds]prometheus.Counter
	observers   [numKinds]prometheus.Observer
}

func newMetrics(e *Enricher) *metrics {
	const prefix = "kube_enricher_"
	byKind := []string{"kind"}
	m := &metrics{
		e:       e,
		lookups: prometheus.NewDesc(prefix+"lookups_total", "Addresses looked up, by what they were found to be.", []string{"result"}, nil),
		objects: prometheus.NewDesc(prefix+"kube_objects", "Kubernetes objects known.", byKind, nil),
		synced:  prometheus.NewDesc(prefix+"kube_synced", "1 if the objects of this kind have been listed. A kind that is optional and may not be listed has no series.", byKind, nil),
		age:     prometheus.NewDesc(prefix+"kube_event_age_seconds", "Time since the newest watch event or list of this kind arrived.", byKind, nil),
		lags: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: prefix + "kube_event_lag_seconds", Help: "Time from a change in the cluster to its arrival here, as far as objects tell it (in whole seconds).",
			Buckets: []float64{0.5, 1, 2, 3, 5, 10, 30, 60, 300},
		}, byKind),
		relistsVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "kube_relists_total", Help: "Full lists after the first one.",
		}, byKind),
		failuresVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "kube_watch_errors_total", Help: "Requests to list or watch that failed, or were not made because the right to list is missing. A kind that is optional and may not be listed has no series.",
		}, byKind),
	}
	for k := range numKinds {
		m.relists[k] = m.relistsVec.WithLabelValues(k.label())
		m.failures[k] = m.failuresVec.WithLabelValues(k.label())
		m.observers[k] = m.lags.WithLabelValues(k.label())
	}
	return m
}

func (m *metrics) register(reg prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m, heldCollector{m}, m.lags} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// addCounters adds the counters of a worker.
func (m *metrics) addCounters(w *lookups) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.workers = append(m.workers, w)
}

// observeLag observes how late a change arrived: it was made at then, which is 0 if unknown. Lags
// that cannot be right are left out, because clocks differ and an object's time may be of an older
// change.
func (m *metrics) observeLag(k kind, now, then int64) {
	const plausible = 10 * 60 * 1e9
	if d := now - then; then != 0 && d >= 0 && d <= plausible {
		m.observers[k].Observe(float64(d) / 1e9)
	}
}

// Describe implements [prometheus.Collector].
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.lookups
	ch <- m.objects
	ch <- m.synced
	ch <- m.age
	m.relistsVec.Describe(ch)
	m.failuresVec.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	var sums [flow.NumStatus]uint64
	m.mu.Lock()
	for _, w := range m.workers {
		for i := range w.n {
			sums[i] += w.n[i].Load()
		}
	}
	m.mu.Unlock()
	for i, n := range sums {
		ch <- prometheus.MustNewConstMetric(m.lookups, prometheus.CounterValue, float64(n), results[i])
	}
	for k, s := range m.e.store.stats() {
		if !s.read && s.objects == 0 {
			continue
		}
		ch <- prometheus.MustNewConstMetric(m.objects, prometheus.GaugeValue, float64(s.objects), kind(k).label())
		if !s.read {
			continue // its objects are fetched one by one
		}
		ch <- m.relists[k]
		ch <- m.failures[k]
		synced := 0.0
		if s.synced {
			synced = 1
		}
		ch <- prometheus.MustNewConstMetric(m.synced, prometheus.GaugeValue, synced, kind(k).label())
		if s.event != 0 {
			ch <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, time.Since(time.Unix(0, s.event)).Seconds(), kind(k).label())
		}
	}
}

// stats is the state of a kind as metrics show it.
type stats struct {
	objects int
	read    bool // it is asked for, and may be listed: otherwise nobody is to be alarmed
	synced  bool
	event   int64
}

// stats returns the state of each kind.
func (st *store) stats() (s [numKinds]stats) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for k := range numKinds {
		s[k].read, s[k].synced = st.feeds[k].started && !st.feeds[k].forbidden, st.feeds[k].watch.Listed()
		s[k].event = st.feeds[k].lastEvent
		switch {
		case k == kindPod:
			s[k].objects = len(st.pods)
		case k.isStatic():
			s[k].objects = len(st.staticOwners[k])
		default:
			s[k].objects = len(st.rootOwners[k])
		}
	}
	return s
}

// heldCollector exports records_held for the records that wait here. The outputs export the same
// metric for those that wait there. It describes nothing in advance, so that both fit into one
// registry.
type heldCollector struct{ m *metrics }

// Describe implements [prometheus.Collector].
func (heldCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c heldCollector) Collect(ch chan<- prometheus.Metric) {
	desc := prometheus.NewDesc("kube_enricher_records_held",
		"Records received and not yet written or dropped, by what they wait for.", []string{"why"}, nil)
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(c.m.heldForSync.Load()), "sync")
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(c.m.heldForPod.Load()), "pod")
}
