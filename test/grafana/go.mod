// Grafana's own types, generated from its schemas, for the test of the chart's
// dashboards alone.
module github.com/netobserv/goflow2-kube-enricher/test/grafana

go 1.26.0

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
