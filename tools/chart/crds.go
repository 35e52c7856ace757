// Package chart pins what the tests of the chart use.
package chart

// The module whose example/prometheus-operator-crd has the definitions of
// ServiceMonitor, PodMonitor and PrometheusRule; the package is a small one of it.
import _ "github.com/prometheus-operator/prometheus-operator/pkg/versionutil"
