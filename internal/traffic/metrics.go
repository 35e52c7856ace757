package traffic

import (
	"time"
	"unique"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const prefix = "kube_enricher_workload_"

// labelNames are the labels of the traffic, in the order of pair's labels.
var labelNames = []string{"src_namespace", "src_workload", "src_kind", "dst_namespace", "dst_workload", "dst_kind"}

// Kinds of what is no workload. Kubernetes' kinds begin with a capital letter.
const (
	kindNone  = "none"  // nobody is known to own the address
	kindOther = "other" // not worth a series of its own
)

// reference is any Desc with the labels of the traffic.
var reference = prometheus.NewDesc("labels", "", labelNames, nil)

func makeLabels(src, dst flow.Workload) []*dto.LabelPair {
	return prometheus.MakeLabelPairs(reference, []string{src.Namespace, src.Name, src.Kind, dst.Namespace, dst.Name, dst.Kind})
}

func labelPairs(p pair) []*dto.LabelPair { return makeLabels(workload(p.src), workload(p.dst)) }

var other = flow.Workload{Namespace: kindOther, Name: kindOther, Kind: kindOther}

func workload(h unique.Handle[flow.Workload]) flow.Workload {
	if h == (unique.Handle[flow.Workload]{}) {
		return flow.Workload{Kind: kindNone}
	}
	return h.Value()
}

var (
	noneHandle  = unique.Make(flow.Workload{Kind: kindNone})
	otherHandle = unique.Make(other)
)

// canonical returns the pair whose labels are those of p, and whether they are
// not those of the others. Objects of a snapshot can have any names, and two
// series with the same labels would fail the scrape.
func (p pair) canonical() (pair, bool) {
	if p.src == noneHandle {
		p.src = unique.Handle[flow.Workload]{}
	}
	if p.dst == noneHandle {
		p.dst = unique.Handle[flow.Workload]{}
	}
	return p, p.src != otherHandle || p.dst != otherHandle
}

// sample is one value of a series. Its labels are made once, not for each
// scrape.
type sample struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	value  uint64
}

// Desc implements prometheus.Metric.
func (s sample) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric.
func (s sample) Write(m *dto.Metric) error {
	m.Label = s.labels
	m.Counter = &dto.Counter{Value: new(float64(s.value))}
	return nil
}

func (c *Counter) describe() {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prefix+name, help, labels, nil)
	}
	c.descs = [numValues]*prometheus.Desc{
		valueBytes:   desc("bytes_total", "Bytes sent between workloads, each packet counted once and multiplied by the sampling rate. Pairs beyond -metrics.workloads are summed up as other.", labelNames...),
		valuePackets: desc("packets_total", "Packets sent between workloads, counted as bytes are.", labelNames...),
		valueFlows:   desc("flows_total", "Flow records that bytes and packets were taken from; not multiplied by the sampling rate.", labelNames...),
	}
	c.records = desc("records_total", "Flow records by whether they count as traffic between workloads: repeated ones have packets that another record has, too.", "result")
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

var otherLabels = makeLabels(other, other)

func (c *Counter) collect(now time.Time) []prometheus.Metric {
	c.mu.Lock()
	defer c.mu.Unlock()
	tables := make([]*table, 0, len(c.stages))
	var results [numResults]uint64
	for _, s := range c.stages {
		if t := s.take(); t != nil {
			tables = append(tables, t)
		}
		for r := range results {
			results[r] += s.results[r].Load()
		}
	}
	c.ranks.merge(now, tables)
	for _, t := range tables {
		t.clear()
	}
	metrics := make([]prometheus.Metric, 0, numValues*(len(c.ranks.shown)+1)+len(results)+2)
	for i, d := range c.descs {
		for _, e := range c.ranks.shown {
			metrics = append(metrics, sample{d, e.labels, e.total[i]})
		}
		metrics = append(metrics, sample{d, otherLabels, c.ranks.others[i]})
	}
	for r, n := range results {
		metrics = append(metrics, prometheus.MustNewConstMetric(c.records, prometheus.CounterValue, float64(n), resultNames[r]))
	}
	return append(metrics,
		prometheus.MustNewConstMetric(c.series, prometheus.GaugeValue, float64(len(c.ranks.shown))),
		prometheus.MustNewConstMetric(c.swaps, prometheus.CounterValue, float64(c.ranks.swaps)))
}
