package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/config"
)

// gcPercent is Go's GOGC, unless that is set. Records allocate nothing, so
// collecting garbage early costs little. It limits the memory that a burst of
// changes in the cluster, or of hostile templates, takes for a moment.
const gcPercent = 25

// syncGCPercent is GOGC until the cluster is known. The first lists take more memory
// than anything later: they are decoded while what is kept of them grows.
const syncGCPercent = 15

// memoryShare is how much of its cgroup's memory the Go heap and what belongs to it may
// take, before the garbage collector works harder. The rest is for socket buffers, stacks
// of C libraries and the page cache, which Go does not count.
const memoryShare = 0.9

// limitMemory sets Go's targets of memory by the limit that the container has, unless
// GOGC and GOMEMLIMIT say otherwise. A program without such a limit has no target: then
// the kernel ends it when it takes too much.
func limitMemory(log logrus.FieldLogger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare))
	if err != nil {
		// There are no cgroups, or they cannot be read: as outside of a container.
		log.WithError(err).Debug("the memory limit of the cgroup is not known")
		return
	}
	log.WithField("gomemlimit", limit).Debug("memory limit")
}

// collectOften keeps the heap small until the cluster is known, or ctx ends.
func (a *app) collectOften(ctx context.Context) error {
	if os.Getenv("GOGC") != "" || a.enricher == nil || a.cfg.Mode != config.Collect {
		return nil
	}
	debug.SetGCPercent(syncGCPercent)
	defer debug.SetGCPercent(gcPercent)
	return a.enricher.WaitSynced(ctx)
}
