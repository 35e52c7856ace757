package collector

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

type protocol uint8

const (
	protoUnknown protocol = iota
	protoSFlow
	protoNetFlow1
	protoNetFlow5
	protoNetFlow7
	protoNetFlow9
	protoIPFIX
	numProtocols
)

var protocolNames = [numProtocols]string{"unknown", "sflow_5", "netflow_v1", "netflow_v5", "netflow_v7", "netflow_v9", "ipfix"}

// dropReason is the reason why a datagram was dropped, a value of the label reason.
// Those behind numDropReasons are for log lines only.
type dropReason uint8

const (
	dropKernel          dropReason = iota // the socket's buffer was full
	dropNotAllowed                        // the source is not in the allow-list
	dropTruncated                         // longer than the receive buffer
	dropMalformed                         // nothing could be made of it
	dropUnknownProtocol                   // no version that the socket's scheme admits
	dropPanic                             // a bug of this program
	numDropReasons
	dropMalformedSet
	dropTruncatedSet
	dropNoTemplate
	clockOffset
	dropMalformedStructure
	dropBudget
	numLogReasons
)

var dropNames = [numDropReasons]string{"kernel", "not_allowed", "truncated", "malformed", "unknown_protocol", "panic"}

// setReason is the reason why a data set or sFlow sample was dropped, a value of the
// label reason.
type setReason uint8

const (
	setMalformed setReason = iota // its length or content is not what its header or template says
	setTimeout                    // its template did not come in time
	setHoldFull                   // there was no room for it to wait
	setShutdown                   // it waited when the program ended
	setNoPacket                   // an sFlow sample of something else than a packet
	setTruncated                  // the snap length of a capture cut it off
	setBudget                     // its source had not earned the work that it takes
	numSetReasons
)

var setNames = [numSetReasons]string{"malformed", "template_timeout", "hold_full", "shutdown", "no_packet", "truncated", "budget"}

// workerMetrics are the counters of one worker, which is the only one to write to
// them. Any goroutine may read them.
type workerMetrics struct {
	_                 [64]byte // no cache line is shared with another worker's
	datagrams         [numProtocols]atomic.Uint64
	bytes             [numProtocols]atomic.Uint64
	records           [numProtocols]atomic.Uint64
	drops             [numDropReasons]atomic.Uint64
	sets              [numSetReasons]atomic.Uint64
	sequenceLost      [numProtocols]atomic.Uint64
	templatesRejected atomic.Uint64
	structures        atomic.Uint64 // left out of sFlow samples
	fallbacks         [numFallbacks]atomic.Uint64
	_                 [64]byte
}

func (m *workerMetrics) received(p protocol, bytes int) {
	m.datagrams[p].Add(1)
	m.bytes[p].Add(uint64(bytes))
}

func (m *workerMetrics) drop(r dropReason)   { m.drops[r].Add(1) }
func (m *workerMetrics) dropSet(r setReason) { m.sets[r].Add(1) }
func (m *workerMetrics) fallback(f fallback) { m.fallbacks[f].Add(1) }
func (m *workerMetrics) record(p protocol)   { m.records[p].Add(1) }

const namespace = "kube_enricher_"

// metrics exports the sums of all workers' counters.
type metrics struct {
	c *Collector

	datagrams, bytes, records, drops, sets, rejected, structures *prometheus.Desc
	templates, fallbacks, exporters, shared, lastSeen            *prometheus.Desc
	clockOffset                                                  *prometheus.Desc
	held, sequenceLost, passedOver                               *prometheus.Desc
}

func newMetrics(c *Collector) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(namespace+name, help, labels, nil)
	}
	return &metrics{
		c:            c,
		datagrams:    desc("datagrams_received_total", "Datagrams received, dropped ones included unless the kernel dropped them.", "protocol"),
		bytes:        desc("datagram_bytes_received_total", "Bytes of the datagrams received.", "protocol"),
		records:      desc("records_received_total", "Flow records received: decoded from datagrams, or read from the input.", "protocol"),
		drops:        desc("datagrams_dropped_total", "Datagrams of which nothing was used.", "reason"),
		sets:         desc("sets_dropped_total", "Data sets and sFlow samples that never became records.", "reason"),
		rejected:     desc("templates_rejected_total", "Templates received that describe no record, such as withdrawals."),
		structures:   desc("sflow_structures_dropped_total", "Structures of sFlow samples that are cut or malformed, and were left out of the sample's record."),
		templates:    desc("templates", "NetFlow v9 and IPFIX templates known."),
		fallbacks:    desc("templates_fallback_total", "Templates of another source port of the address, or of another observation domain of the source, that data is decoded with for want of its own.", "why"),
		exporters:    desc("exporters", "Exporters known, by address."),
		shared:       desc("exporters_sharing_address", "Addresses from which several exporters send, because they were translated on the way."),
		held:         desc("sets_held", "Data sets that wait for their template."),
		sequenceLost: desc("sequence_lost_total", "What sequence numbers say was lost on the way: records of IPFIX and NetFlow v5 and v7, datagrams of NetFlow v9 and sFlow.", "protocol"),
		passedOver:   desc("capture_passed_over_total", "Packets and datagrams of captures that may be of exporters and could not be read.", "reason"),
		clockOffset:  desc("exporter_clock_offset_seconds", "How far the exporter's clock is ahead of this one, by the time of export in its last header: below 0 if it is behind.", "exporter"),
		lastSeen:     desc("exporter_last_seen_timestamp_seconds", "When the last datagram of the exporter was received.", "exporter"),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.datagrams, m.bytes, m.records, m.drops, m.sets, m.rejected, m.structures, m.templates, m.fallbacks, m.exporters, m.shared, m.lastSeen, m.held, m.sequenceLost, m.passedOver, m.clockOffset} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.c.countKernelDrops()
	workers := m.c.allMetrics()
	sum := func(of func(*workerMetrics) *atomic.Uint64) float64 {
		var n uint64
		for _, w := range workers {
			n += of(w).Load()
		}
		return float64(n)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	for p := range numProtocols {
		counter(m.datagrams, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.datagrams[p] }), protocolNames[p])
		counter(m.bytes, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.bytes[p] }), protocolNames[p])
		if p != protoUnknown {
			counter(m.records, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.records[p] }), protocolNames[p])
		}
		if p != protoUnknown && p != protoNetFlow1 { // v1 has no sequence numbers
			counter(m.sequenceLost, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.sequenceLost[p] }), protocolNames[p])
		}
	}
	for _, format := range inputFormats {
		var input dto.Metric
		if err := m.c.inputs[format].Write(&input); err == nil {
			counter(m.records, input.GetCounter().GetValue(), format)
		}
	}
	for r := range numDropReasons {
		counter(m.drops, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.drops[r] }), dropNames[r])
	}
	for r := range numSetReasons {
		counter(m.sets, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.sets[r] }), setNames[r])
	}
	for why := range numPassedOver {
		counter(m.passedOver, float64(m.c.passedOver[why].Load()), passedOverNames[why])
	}
	counter(m.rejected, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.templatesRejected }))
	counter(m.structures, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.structures }))
	for f := fallbackPort; f < numFallbacks; f++ {
		counter(m.fallbacks, sum(func(w *workerMetrics) *atomic.Uint64 { return &w.fallbacks[f] }), fallbackNames[f])
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.held, float64(m.c.exporters.numHeld.Load()))
	gauge(m.templates, float64(m.c.exporters.numTemplates.Load()))
	all := m.c.exporters.list()
	gauge(m.exporters, float64(len(all)))
	gauge(m.shared, float64(m.c.exporters.numShared.Load()))
	m.collectExporters(all, gauge)
}

// collectExporters exports what is by exporter. The value of the others is that of the one
// that was seen last, and the largest offset of a clock.
func (m *metrics) collectExporters(all []*exporter, gauge func(*prometheus.Desc, float64, ...string)) {
	labelled, others := chooseLabelled(all, time.Now().UnixMilli())
	offset := func(ns int64, label string) {
		if ns != 0 {
			gauge(m.clockOffset, float64(ns)/1e9, label)
		}
	}
	for _, e := range labelled {
		name := e.addr.String()
		gauge(m.lastSeen, float64(e.lastSeen.Load())/1e3, name)
		offset(e.clock.offset.Load(), name)
	}
	if len(others) == 0 {
		return
	}
	var last, largest int64
	for _, e := range others {
		last = max(last, e.lastSeen.Load())
		if ns := e.clock.offset.Load(); max(ns, -ns) > max(largest, -largest) {
			largest = ns
		}
	}
	gauge(m.lastSeen, float64(last)/1e3, "other")
	offset(largest, "other")
}
