package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"
	"golang.org/x/term"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// logStarted logs the one line of the start. The sockets and HTTP addresses are
// bound, so ports are those that the kernel chose for port 0. The keys are always
// there; those that a capture or standard input has no use for are empty or 0.
func (a *app) logStarted(h *httpServers) {
	version, _, _ := versions()
	var listen []string
	sockets, rcvbuf := 0, 0
	for _, l := range a.collector.Bound() {
		listen = append(listen, l.URL())
		sockets += l.Sockets
		if rcvbuf == 0 || l.ReceiveBuffer < rcvbuf {
			rcvbuf = l.ReceiveBuffer
		}
	}
	log := logrus.FieldLogger(a.log)
	if a.hubble != nil {
		log = log.WithField("hubble", a.hubble.Addr())
	}
	log.WithFields(logrus.Fields{
		"version": version,
		"mode":    a.cfg.Mode.String(),
		"listen":  strings.Join(listen, ","),
		"addr":    h.address("-addr"),
		"debug":   h.address("-debug.addr"),
		"ui":      h.address("-ui.addr"),
		"sockets": sockets,
		"rcvbuf":  rcvbuf, // bytes that the kernel granted, in the smallest of the sockets
		"names":   namesFrom(a.cfg),
		"outputs": outputNames(a.cfg.Outputs),
	}).Info("started")
}

// namesFrom returns where names come from: cluster, snapshot or off.
func namesFrom(cfg *config.Config) string {
	switch {
	case cfg.KubeOff:
		return "off"
	case cfg.KubeSnapshot != "":
		return "snapshot"
	}
	return "cluster"
}

// logDone logs the one line of the end: what became of the records.
func (a *app) logDone(level logrus.Level) {
	totals, err := ledger(a.reg)
	if err != nil {
		a.log.WithError(err).Error("the metrics cannot be read")
		return
	}
	a.log.WithFields(totals).Log(level, "done")
}

// summarizes reports whether a summary is printed at the end: records are few enough to be
// counted one by one, and somebody looks.
func (a *app) summarizes() bool {
	return a.cfg.Summary && a.cfg.Mode != config.Collect && term.IsTerminal(int(a.stderr.Fd()))
}

// writeSummary prints the summary, if there is one.
func (a *app) writeSummary() {
	if a.summary == nil {
		return
	}
	totals, err := ledger(a.reg)
	if err != nil {
		return // logDone has said it
	}
	var drops []string
	for name, v := range totals {
		if n, ok := v.(float64); ok && n > 0 && strings.Contains(name, "dropped_") {
			drops = append(drops, fmt.Sprintf("%.0f %s", n, strings.Replace(name, "dropped_", "", 1)))
		}
	}
	slices.Sort(drops)
	if err := a.summary.Write(a.stderr, strings.Join(drops, ", ")); err != nil {
		a.log.WithError(err).Debug("the summary was not printed")
	}
}

// ledger sums up the records received, written, dropped and held, and the drops by
// reason, also of what never became records. With several outputs, their sums have the
// transport's name before them.
func ledger(g prometheus.Gatherer) (logrus.Fields, error) {
	families, err := g.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	totals := logrus.Fields{"received": 0.0}
	add := func(name string, v float64) {
		sum, _ := totals[name].(float64)
		totals[name] = sum + v
	}
	outputs := 0
	for _, f := range families {
		if f.GetName() == "kube_enricher_records_written_total" {
			outputs = len(f.GetMetric())
		}
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			prefix := ""
			if transport := labelOf(m, "transport"); outputs > 1 && transport != "" {
				prefix = transport + "_"
			}
			switch name := f.GetName(); {
			case name == "kube_enricher_records_written_total":
				add(prefix+"written", v)
				add(prefix+"dropped", 0)
			case v == 0:
			case name == "kube_enricher_records_received_total":
				add("received", v)
			case name == "kube_enricher_records_held":
				add(prefix+"held", v)
			case name == "kube_enricher_records_dropped_total":
				add(prefix+"dropped", v)
				add(prefix+"dropped_"+labelOf(m, "reason"), v)
			case name == "kube_enricher_datagrams_dropped_total":
				add("datagrams_dropped_"+labelOf(m, "reason"), v)
			case name == "kube_enricher_sets_dropped_total":
				add("sets_dropped_"+labelOf(m, "reason"), v)
			case name == "kube_enricher_capture_passed_over_total":
				add("passed_over_"+labelOf(m, "reason"), v)
			case name == "kube_enricher_lines_dropped_total":
				add("lines_dropped_"+labelOf(m, "reason"), v)
			case name == "kube_enricher_lines_passed_through_total":
				add("lines_passed_through", v)
			}
		}
	}
	return totals, nil
}

// labelOf returns the value of a metric's label, "" if it has none.
func labelOf(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
