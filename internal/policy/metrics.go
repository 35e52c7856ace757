package policy

import (
	"slices"
	"sync"
	"unique"

	"github.com/prometheus/client_golang/prometheus"
)

const prefix = "kube_enricher_"

// Values of the label kind that are no owner types of OVN-Kubernetes, which begin with a
// capital letter.
const (
	kindNone  = "none"  // no policy is known
	kindOther = "other" // policies without series of their own
)

// counts are what was sampled for one policy.
type counts struct{ packets, bytes uint64 }

// total has a policy's series.
type total struct {
	counts
	shown bool // it was in a scrape
}

// metrics has the metrics of this package.
type metrics struct {
	p           *Policies
	unknownDrop *shown // of a drop whose policy is not known
	unknown     unique.Handle[Policy]

	packets, bytes, rules *prometheus.Desc
	connection            *prometheus.GaugeVec
	failures              *prometheus.CounterVec

	mu      sync.Mutex // held by scrapes and by NewStage, never by a worker with records
	stages  []*Stage
	totals  map[unique.Handle[Policy]]*total
	scraped bool
}

func newMetrics(p *Policies) *metrics {
	labels := []string{"verdict", "kind", "namespace", "name", "direction"}
	desc := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, labels, nil)
	}
	return &metrics{
		p:           p,
		unknownDrop: show(Decision{unique.Make(Policy{Verdict: verdict("drop")}), unique.Make("")}, ""),
		unknown:     unique.Make(Policy{}),
		packets:     desc("policy_packets_total", "Packets that OVN sampled because a policy allowed or dropped them, multiplied by the sampling rate. Policies beyond -metrics.workloads are summed up as other.", labels),
		bytes:       desc("policy_bytes_total", "Bytes of those packets.", labels),
		rules:       desc("policy_rules", "ACLs in OVN's northbound database that are sampled, by what they decide and the policy that they are of.", labels),
		connection: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "ovn_connected", Help: "Whether the view of OVN's database is up to date: 1 or 0.",
		}, []string{"database"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "ovn_connection_failures_total", Help: "Connections to OVN's database that failed or ended.",
		}, []string{"database"}),
		// What no policy is known for has a series from the start.
		totals: map[unique.Handle[Policy]]*total{unique.Make(Policy{}): new(total)},
	}
}

func (m *metrics) addStage(s *Stage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stages = append(m.stages, s)
}

func (m *metrics) connected(database string, yes bool) {
	v := 0.0
	if yes {
		v = 1
	}
	m.connection.WithLabelValues(database).Set(v)
}

// acls returns how many ACLs are known.
func (p *Policies) acls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for range p.db.all() {
		n++
	}
	return n
}

// listed returns how many ACLs are sampled, by their policy.
func (p *Policies) listed() map[Policy]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	listed := make(map[Policy]int)
	for a := range p.db.all() {
		if len(a.keys) > 0 {
			listed[a.shown.policy.Value()]++
		}
	}
	return listed
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- m.packets
	ch <- m.bytes
	ch <- m.rules
	m.connection.Describe(ch)
	m.failures.Describe(ch)
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.connection.Collect(ch)
	m.failures.Collect(ch)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.collectTotals(ch)
	m.collectRules(ch)
}

var other = Policy{Verdict: kindOther, Kind: kindOther, Namespace: kindOther, Name: kindOther, Direction: kindOther}

// labels returns the values of the labels.
func (p Policy) labels() []string {
	if p.Kind == "" && p.Name == "" {
		p.Kind = kindNone
	}
	return []string{p.Verdict, p.Kind, p.Namespace, p.Name, p.Direction}
}

// collectTotals adds up what the workers have counted. A series that appears after the
// first scrape is 0 once, so that what it begins with shows as an increase.
func (m *metrics) collectTotals(ch chan<- prometheus.Metric) {
	if m.p.cfg.MaxSeries == 0 {
		return
	}
	for _, s := range m.stages {
		s.mu.Lock()
		for h, c := range s.counts {
			t := m.total(h)
			t.packets += c.packets
			t.bytes += c.bytes
			*c = counts{}
		}
		if len(s.counts) > m.p.cfg.MaxSeries {
			clear(s.counts) // policies come and go
		}
		s.mu.Unlock()
	}
	for h, t := range m.totals {
		show := t.counts
		if !t.shown && m.scraped {
			show = counts{}
		}
		t.shown = true
		labels := h.Value().labels()
		ch <- prometheus.MustNewConstMetric(m.packets, prometheus.CounterValue, float64(show.packets), labels...)
		ch <- prometheus.MustNewConstMetric(m.bytes, prometheus.CounterValue, float64(show.bytes), labels...)
	}
	m.scraped = true
}

// total returns the totals of a policy, or those of all others if there are too many.
func (m *metrics) total(h unique.Handle[Policy]) *total {
	if t := m.totals[h]; t != nil {
		return t
	}
	if len(m.totals) >= m.p.cfg.MaxSeries-1 {
		h = unique.Make(other)
	}
	t := m.totals[h]
	if t == nil {
		t = new(total)
		m.totals[h] = t
	}
	return t
}

// collectRules shows which policies are sampled: one without packets was never hit.
func (m *metrics) collectRules(ch chan<- prometheus.Metric) {
	listed := m.p.listed()
	policies := make([]Policy, 0, len(listed))
	for p := range listed {
		policies = append(policies, p)
	}
	slices.SortFunc(policies, func(a, b Policy) int { return slices.Compare(a.labels(), b.labels()) })
	rest := 0
	for i, p := range policies {
		if i >= m.p.cfg.MaxSeries-1 {
			rest += listed[p]
			continue
		}
		ch <- prometheus.MustNewConstMetric(m.rules, prometheus.GaugeValue, float64(listed[p]), p.labels()...)
	}
	if rest > 0 {
		ch <- prometheus.MustNewConstMetric(m.rules, prometheus.GaugeValue, float64(rest), other.labels()...)
	}
}
