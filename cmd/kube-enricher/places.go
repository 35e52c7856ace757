package main

import (
	"errors"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/places"
)

// buildPlaces reads what names addresses outside of the cluster, if there is any. Its errors are
// of wrong usage.
func (a *app) buildPlaces() error {
	cfg := a.cfg
	if !cfg.HasPlaces() {
		return nil
	}
	alone := a.enricher == nil && cfg.Mode != config.Stdin
	l, err := places.New(places.Config{Mapping: cfg.Mapping, Networks: cfg.Networks, GeoIP: cfg.GeoIP, Alone: alone}, a.log, a.reg)
	if file := (*places.FileError)(nil); errors.As(err, &file) {
		flag := "geoip"
		if file.Networks {
			flag = "networks"
		}
		return config.Usagef("-%s: %v", flag, err)
	}
	a.places = l
	return err
}
