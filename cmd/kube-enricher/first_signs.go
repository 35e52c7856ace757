package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector"
	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

const (
	// signsEvery is how often the counters are looked at, and patientEvery how often after
	// silentAfter.
	signsEvery   = time.Second
	patientEvery = 5 * time.Second
	// silentAfter is how long nothing may arrive before the log says what to check.
	silentAfter = time.Minute
)

// firstSigns logs what tells a new user that the program works: the first datagram, and the
// first record with a name; or that nothing has arrived. It looks at the metrics, so that
// the workers have nothing to do for it.
type firstSigns struct {
	log    logrus.FieldLogger
	gather func() ([]*dto.MetricFamily, error)
	// listen has the addresses that are bound.
	listen []collector.Listener
	// names reports whether records get names.
	names bool
}

// run looks until it has logged what there is to log, or ctx ends.
func (f *firstSigns) run(ctx context.Context) error {
	start := time.Now()
	every := signsEvery
	arrived, silent := false, false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
		families, err := f.gather()
		if err != nil {
			return nil //nolint:nilerr // whoever scrapes will see it
		}
		s := signsOf(families)
		if !arrived && s.protocol != "" {
			arrived = true
			f.log.WithFields(logrus.Fields{"exporter": s.exporter, "protocol": s.protocol, "templates": s.templates()}).Info("first datagram")
		}
		if arrived && (s.named > 0 || !f.names) {
			if f.names {
				f.log.WithField("records", s.records).Info("first record named")
			}
			return nil
		}
		if time.Since(start) >= silentAfter {
			every = patientEvery
			if !arrived && !silent {
				silent = true
				f.sayNothingCame(s)
			}
		}
	}
}

// sayNothingCame logs what to check when no datagram has come that could be read.
func (f *firstSigns) sayNothingCame(s signs) {
	log := f.log.WithField("send_to", strings.Join(targets(f.listen, hostAddresses()), ", "))
	if len(s.dropped) > 0 {
		log.WithField("dropped", strings.Join(s.dropped, ", ")).Warn("no datagram of an exporter in the first minute, but others that were dropped: see datagrams_dropped_total in " + config.Page("troubleshooting.md"))
		return
	}
	log.Warn("no datagram in the first minute: do exporters send to one of these addresses, and does a firewall or NetworkPolicy let UDP pass? See " + config.Page("troubleshooting.md"))
}

// signs is what the metrics say.
type signs struct {
	exporter  string // one of them
	protocol  string // of datagrams that were received; empty if there were none
	known     float64
	waiting   float64 // data sets without template
	records   float64
	named     float64
	dropped   []string // datagrams by reason
	needsThem bool     // the protocol has templates
}

// templates says whether the exporter's templates are known.
func (s *signs) templates() string {
	switch {
	case !s.needsThem:
		return "not needed"
	case s.waiting > 0:
		return "awaited: the data wait for them"
	case s.known > 0:
		return "known"
	}
	return "none yet"
}

func signsOf(families []*dto.MetricFamily) (s signs) {
	for _, family := range families {
		for _, m := range family.GetMetric() {
			v := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if v == 0 {
				continue
			}
			switch family.GetName() {
			case "kube_enricher_datagrams_received_total":
				if p := labelOf(m, "protocol"); p != "unknown" {
					s.protocol = p
					s.needsThem = s.needsThem || p == "ipfix" || p == "netflow_v9"
				}
			case "kube_enricher_exporter_last_seen_timestamp_seconds":
				s.exporter = labelOf(m, "exporter")
			case "kube_enricher_templates":
				s.known += v
			case "kube_enricher_sets_held":
				s.waiting += v
			case "kube_enricher_records_received_total":
				s.records += v
			case "kube_enricher_lookups_total":
				if labelOf(m, "result") != "none" {
					s.named += v
				}
			case "kube_enricher_datagrams_dropped_total":
				s.dropped = append(s.dropped, fmt.Sprintf("%.0f %s", v, labelOf(m, "reason")))
			}
		}
	}
	return s
}

// targets returns the addresses that exporters can send to: those that are bound, and for
// a listener on all addresses, the host's.
func targets(listen []collector.Listener, host []netip.Addr) []string {
	var all []string
	for _, l := range listen {
		if addr, err := netip.ParseAddr(l.Host); l.Host != "" && (err != nil || !addr.IsUnspecified()) {
			all = append(all, l.String())
			continue
		}
		for _, a := range host {
			all = append(all, netip.AddrPortFrom(a, l.Port).String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// hostAddresses returns the addresses of the host, or of the pod: at most four.
func hostAddresses() (addrs []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() && len(addrs) < 4 {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}
