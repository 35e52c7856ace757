package main

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version string

const goflow2Module = "github.com/netsampler/goflow2/v2"

// versions returns the versions of the program, of goflow2 and of Go, as -v
// and the metric build_info show them; "unknown" where the build does not tell.
func versions() (program, goflow2, goVersion string) {
	program, goflow2, goVersion = version, "unknown", runtime.Version()
	info, ok := debug.ReadBuildInfo()
	if ok {
		for _, m := range info.Deps {
			if m.Path != goflow2Module {
				continue
			}
			if m.Replace != nil {
				m = m.Replace
			}
			goflow2 = m.Version
		}
		if program == "" && info.Main.Version != "(devel)" {
			program = info.Main.Version // go install ...@v1.2.3
		}
	}
	if program == "" {
		program = "unknown"
	}
	return program, goflow2, goVersion
}

// buildInfo returns the metric with the versions.
func buildInfo() prometheus.Collector {
	program, goflow2, goVersion := versions()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "kube_enricher_build_info", Help: "1, with the versions of the program, of Go and of goflow2 as labels.",
		ConstLabels: prometheus.Labels{"version": program, "goversion": goVersion, "goflow2": goflow2},
	})
	g.Set(1)
	return g
}
