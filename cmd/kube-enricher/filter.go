package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
)

// checkFilter compiles the filter, if there is one.
func (p *parser) checkFilter(c *config) error {
	if c.filterText == "" {
		return nil
	}
	name := p.given["filter"].flag("filter")
	cfg := filter.Config{Mapping: c.mapping, Labels: c.kubeLabels, Cluster: c.cluster, Piped: c.mode == modeStdin}
	var err error
	c.filter, err = filter.Compile(c.filterText, cfg)
	if mistake := (*filter.Error)(nil); errors.As(err, &mistake) && mistake.Unknown != "" {
		if near := nearest(mistake.Unknown, cfg.Names()); near != "" {
			return usagef("%s: %v; did you mean %s?", name, err, near)
		}
		return usagef("%s: %v; docs/fields.md lists those there are", name, err)
	}
	if err != nil {
		return usagef("%s: %v", name, err)
	}
	if err := filterNotFromJSON(c.filter); err != nil && c.mode == modeStdin && c.input == formatJSON {
		return usagef("%s: %v", name, err)
	}
	return nil
}

// filterNotFromJSON says why a filter cannot be used on lines of JSON, nil if it
// can.
func filterNotFromJSON(f *filter.Filter) error {
	if f == nil {
		return nil
	}
	for _, id := range f.Fields() {
		switch field := &flow.Fields[id]; field.Kind {
		case flow.KindUints, flow.KindAddrs, flow.KindLayers:
			return fmt.Errorf("%s is a list, which is not read from lines of JSON; let goflow2 write protobuf (-format bin)", field.Name)
		}
	}
	return nil
}

// warnFilter says what is odd about a filter.
func (a *app) warnFilter() {
	if f := a.cfg.filter; f != nil && a.cfg.kubeOff && a.cfg.mode != modeStdin &&
		slices.ContainsFunc(f.Attrs(), func(r flow.AttrRef) bool { return r.End != flow.EndCluster }) {
		a.log.Warn("-filter asks for names, which are all empty with -kube.off")
	}
}
