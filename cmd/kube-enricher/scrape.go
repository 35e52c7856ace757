package main

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// metricsOf answers with the metrics, which it gathers for one request at a time. All counters
// have the time when they were 0: that of this call, unless they have another one.
//
// Prometheus asks for protobuf if it uses these times. OpenMetrics' text has them as series of their
// own, which doubles the series of a server that does not know what they are.
func metricsOf(g prometheus.Gatherer) http.Handler {
	gathering := make(chan struct{}, 1)
	began := timestamppb.New(time.Now())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case gathering <- struct{}{}:
		case <-r.Context().Done():
			return // the client has gone
		}
		families, err := func() ([]*dto.MetricFamily, error) {
			defer func() { <-gathering }() // also after a panic
			return g.Gather()
		}()
		text := expfmt.NegotiateAccept(r.Header, expfmt.DefaultOpenMetricsAcceptedFormats()...).FormatType() == expfmt.TypeOpenMetrics
		for _, f := range families {
			if f.GetType() == dto.MetricType_COUNTER {
				setCreated(f, began, text)
			}
		}
		gathered := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, err })
		promhttp.HandlerFor(gathered, promhttp.HandlerOpts{
			EnableOpenMetrics: true, EnableOpenMetricsTextCreatedSamples: true,
		}).ServeHTTP(w, r)
	})
}

// manySeries begin the names of counters with so many series that as many more are too much.
var manySeries = []string{"kube_enricher_workload_", "kube_enricher_policy_"}

// setCreated sets the time when the counters of a family were 0, unless they have one. In text it
// takes that of families with many series away.
func setCreated(f *dto.MetricFamily, began *timestamppb.Timestamp, text bool) {
	many := false
	for _, prefix := range manySeries {
		many = many || strings.HasPrefix(f.GetName(), prefix)
	}
	for _, m := range f.GetMetric() {
		c := m.GetCounter()
		switch {
		case text && many:
			c.CreatedTimestamp = nil
		case c.CreatedTimestamp == nil:
			c.CreatedTimestamp = began
		}
	}
}
