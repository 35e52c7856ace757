package traffic

import (
	"slices"
	"time"
	"unique"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const prefix = "kube_enricher_workload_"

// labelNames are the labels of the series of a pair, in the order of makeLabels.
var labelNames = []string{"src_namespace", "src_workload", "src_kind", "dst_namespace", "dst_workload", "dst_kind"}

// Values of the label kind that are not kinds of Kubernetes, which begin with a
// capital letter.
const (
	kindNone  = flow.KindNone // the workload of the address is not known
	kindOther = "other"       // all pairs without a series of their own
)

// zoneNames are further labels, with zones.
var zoneNames = []string{"src_zone", "dst_zone"}

// The labels of a pair. MakeLabelPairs needs a Desc, and the name does not matter to it.
var (
	labelsDesc = prometheus.NewDesc("labels", "", labelNames, nil)
	zonedDesc  = prometheus.NewDesc("labels", "", slices.Concat(labelNames, zoneNames), nil)
)

// makeLabels returns the labels of a pair, in a form that is shared by scrapes.
func makeLabels(src, dst flow.Workload, zones bool) []*dto.LabelPair {
	values := []string{src.Namespace, src.Name, src.Kind, dst.Namespace, dst.Name, dst.Kind}
	if zones {
		return prometheus.MakeLabelPairs(zonedDesc, append(values, src.Zone, dst.Zone))
	}
	return prometheus.MakeLabelPairs(labelsDesc, values)
}

func labelPairs(p pair, zones bool) []*dto.LabelPair {
	return makeLabels(workload(p.src), workload(p.dst), zones)
}

// other returns the workload that stands for both ends of all other pairs.
func other(zones bool) flow.Workload {
	w := flow.Workload{Namespace: kindOther, Name: kindOther, Kind: kindOther}
	if zones {
		w.Zone = kindOther
	}
	return w
}

func workload(h unique.Handle[flow.Workload]) flow.Workload {
	if h == (unique.Handle[flow.Workload]{}) {
		return flow.Workload{Kind: kindNone}
	}
	return h.Value()
}

var (
	noneHandle   = unique.Make(flow.Workload{Kind: kindNone})
	otherHandles = [...]unique.Handle[flow.Workload]{unique.Make(other(false)), unique.Make(other(true))}
)

// canonical returns the one pair that stands for all pairs with the labels of p. It
// returns ok false if these are the labels of the shared series. Objects of a
// snapshot can have any names, even "other", and two series with the same labels would
// make the scrape fail.
func (p pair) canonical() (c pair, ok bool) {
	if p.src == noneHandle {
		p.src = unique.Handle[flow.Workload]{}
	}
	if p.dst == noneHandle {
		p.dst = unique.Handle[flow.Workload]{}
	}
	for _, h := range otherHandles {
		if p.src == h && p.dst == h {
			return p, false
		}
	}
	return p, true
}

// sample is one value of a series. The labels are shared by all scrapes, and are not
// changed.
type sample struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  uint64
	since  time.Time // when the value was 0; zero if that was when the program started
}

// Desc implements prometheus.Metric.
func (s sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric.
func (s sample) Write(m *dto.Metric) error {
	m.Label = s.labels
	m.Counter = &dto.Counter{Value: new(float64(s.value))}
	if !s.since.IsZero() {
		m.Counter.CreatedTimestamp = timestamppb.New(s.since)
	}
	return nil
}

func (c *Counter) describe() {
	pairLabels := labelNames
	if c.zones {
		pairLabels = slices.Concat(labelNames, zoneNames)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, labels, nil)
	}
	c.descs = [numValues]*prometheus.Desc{
		valueBytes:   desc("bytes_total", "Bytes sent between workloads, each packet counted once and multiplied by the sampling rate. Pairs beyond -metrics.workloads are summed up as other.", pairLabels...),
		valuePackets: desc("packets_total", "Packets sent between workloads, counted as bytes are.", pairLabels...),
		valueFlows:   desc("flows_total", "Flow records that bytes and packets were taken from; not multiplied by the sampling rate.", pairLabels...),
	}
	c.records = desc("records_total", "Flow records by whether they count as traffic between workloads: repeated ones, and samples of OVN, have packets that another record has, too.", "result")
	c.series = desc("series", "Pairs of workloads that have series of their own.")
	c.swaps = desc("series_replaced_total", "Pairs of workloads that lost their series to one with more traffic.")
}

// Describe implements prometheus.Collector.
func (c *Counter) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
	ch <- c.records
	ch <- c.series
	ch <- c.swaps
}

// Collect implements prometheus.Collector.
func (c *Counter) Collect(ch chan<- prometheus.Metric) {
	for _, m := range c.collect(time.Now()) {
		ch <- m
	}
}

// collect merges what the workers counted and returns all metrics.
func (c *Counter) collect(now time.Time) []prometheus.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	tables := make([]*table, 0, len(c.stages))
	var results [numResults]uint64
	for _, s := range c.stages {
		if t := s.swapTable(); t != nil {
			tables = append(tables, t)
		}
		for r := range results {
			results[r] += s.results[r].Load()
		}
	}
	c.ranking.merge(now, tables)
	for _, t := range tables {
		t.clear()
	}
	otherLabels := makeLabels(other(c.zones), other(c.zones), c.zones)
	metrics := make([]prometheus.Metric, 0, numValues*(len(c.ranking.shown)+1)+len(results)+2)
	for i, d := range c.descs {
		for _, e := range c.ranking.shown {
			metrics = append(metrics, sample{d, e.labels, e.total[i], e.since})
		}
		metrics = append(metrics, sample{d, otherLabels, c.ranking.others[i], time.Time{}})
	}
	for r, n := range results {
		metrics = append(metrics, prometheus.MustNewConstMetric(c.records, prometheus.CounterValue, float64(n), resultNames[r]))
	}
	return append(metrics,
		prometheus.MustNewConstMetric(c.series, prometheus.GaugeValue, float64(len(c.ranking.shown))),
		prometheus.MustNewConstMetric(c.swaps, prometheus.CounterValue, float64(c.ranking.swaps)))
}
