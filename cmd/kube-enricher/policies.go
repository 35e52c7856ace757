package main

import (
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
	"github.com/netobserv/goflow2-kube-enricher/internal/policy"
)

// policyWait is how long a capture or a pipe waits for OVN's databases. What arrives in
// real time does not wait.
const policyWait = 10 * time.Second

// buildPolicies makes what says which policy decided, if there is a database of OVN. It reads
// those that are files. Its errors are of wrong usage.
func (a *app) buildPolicies() error {
	cfg := a.cfg
	if !cfg.OVN.On() {
		return nil
	}
	if cfg.OVN.Keys.CA != "" {
		if err := cfg.OVN.Keys.Check(); err != nil {
			return config.Usagef("%v", err)
		}
	}
	p, err := policy.New(policy.Config{
		Northbound: cfg.OVN.Northbound, Southbound: cfg.OVN.Southbound, Keys: cfg.OVN.Keys, MaxSeries: cfg.MetricsWorkloads,
	}, a.log, a.reg)
	if err != nil {
		return err
	}
	if err := p.Load(); err != nil {
		return config.Usagef("%v", err)
	}
	a.policies = p
	return nil
}

// reloadPolicies reads those of OVN's tables again that are files.
func (a *app) reloadPolicies() {
	if a.policies == nil {
		return
	}
	if err := a.policies.Load(); err != nil {
		a.log.WithError(err).Error("OVN's tables were not read again; the old ones stay in use")
	}
}
