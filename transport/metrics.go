package transport

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const namespace = "kube_enricher"

// outputStats has the counters of an output's writes. Any number of goroutines may
// count. The records are counted by the buffer.
type outputStats struct {
	buf       *buffer
	transport string
	// several reports whether records_held has the transport as a label, too.
	several bool

	batches, bytes, errors atomic.Uint64
	seconds                prometheus.Histogram
}

// observeBatch counts one write of a number of bytes.
func (s *outputStats) observeBatch(bytes int, took time.Duration) {
	s.batches.Add(1)
	s.bytes.Add(uint64(bytes))
	s.seconds.Observe(took.Seconds())
}

// registerOutput registers the metrics of an output.
//
// They go into two collectors. The numbers of the ledger have to come from one
// look at the buffer, to add up at every scrape; but records_held has a label
// of which other packages report other values, and two collectors cannot
// describe one metric. So the collector of the ledger describes nothing, and
// the other one makes sure that a transport registers only once.
func registerOutput(reg prometheus.Registerer, transport string, several bool, buf *buffer) (*outputStats, error) {
	s := &outputStats{buf: buf, transport: transport, several: several}
	s.seconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace:   namespace,
		Name:        "output_write_seconds",
		Help:        "Time of single writes; for networks, from a request to its answer.",
		ConstLabels: prometheus.Labels{"transport": transport},
		Buckets:     []float64{1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1, 10},
	})
	label := prometheus.Labels{"transport": transport}
	for _, c := range []prometheus.Collector{
		s.seconds,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "output_batches_total", ConstLabels: label,
			Help: "Writes of any number of records; for networks, batches that were acknowledged.",
		}, func() float64 { return float64(s.batches.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "output_bytes_total", ConstLabels: label,
			Help: "Bytes written; for networks, of acknowledged batches after compression.",
		}, func() float64 { return float64(s.bytes.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: namespace, Name: "output_errors_total", ConstLabels: label,
			Help: "Writes and requests that failed, failed attempts to open the output or to connect, and records that Kafka refused.",
		}, func() float64 { return float64(s.errors.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: "output_buffered_bytes", ConstLabels: label,
			Help: "Bytes encoded and not yet written, keys excluded.",
		}, func() float64 { return float64(buf.ledger().buffered) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Name: "output_buffer_fill_ratio", ConstLabels: label,
			Help: "How much of the buffer's room is taken, from 0 to 1. When it is full, the newest records are dropped.",
		}, buf.fill),
		ledgerCollector{s},
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of transport %s: %w", transport, err)
		}
	}
	return s, nil
}

const heldHelp = "Records received and not yet written or dropped, by what they wait for."

var (
	writtenDesc = prometheus.NewDesc(namespace+"_records_written_total",
		"Records written.", []string{"transport"}, nil)
	droppedDesc = prometheus.NewDesc(namespace+"_records_dropped_total",
		"Records that were not written, by reason.", []string{"transport", "reason"}, nil)
	heldDesc = prometheus.NewDesc(namespace+"_records_held", heldHelp, []string{"why"}, nil)
	// Records in an output's buffer are held there alone.
	heldByDesc = prometheus.NewDesc(namespace+"_records_held", heldHelp, []string{"why", "transport"}, nil)
)

// ledgerCollector reports where the records are. It describes no metrics, so that
// the registry does not check them.
type ledgerCollector struct{ *outputStats }

func (ledgerCollector) Describe(chan<- *prometheus.Desc) {}

func (c ledgerCollector) Collect(ch chan<- prometheus.Metric) {
	l := c.buf.ledger()
	ch <- prometheus.MustNewConstMetric(writtenDesc, prometheus.CounterValue, float64(l.written), c.transport)
	for i, n := range l.dropped {
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.CounterValue, float64(n), c.transport, dropReasonNames[i])
	}
	if c.several {
		ch <- prometheus.MustNewConstMetric(heldByDesc, prometheus.GaugeValue, float64(l.held), "output", c.transport)
		return
	}
	ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(l.held), "output")
}
