package collector

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// maintenanceInterval is how often held sets are looked through and a changed
	// table is considered for writing. A first template is written at once.
	maintenanceInterval = 250 * time.Millisecond
	// restorePatience is how long the start waits for a templates file of which nothing
	// can be read.
	restorePatience = 10 * time.Second
	// saveTimeout is how long a stop waits for the templates file to be written.
	saveTimeout = 5 * time.Second
)

// runMaintenance lends templates, drops held sets that have waited for too long, and says
// what is odd about exporters, until done is closed. Then it drops all held sets.
func (c *Collector) runMaintenance(done <-chan struct{}) {
	tick := time.NewTicker(maintenanceInterval)
	defer tick.Stop()
	var shared sharing
	var full holdWarning
	for {
		select {
		case now := <-tick.C:
			c.exporters.lendTemplates(now.UnixNano(), false)
			c.exporters.expireHeld(now.UnixNano(), c.own)
			shared.check(c.exporters, now.UnixNano(), c.log)
			full.check(c, now.UnixNano())
		case <-done:
			c.exporters.expireHeld(0, c.own)
			full.check(c, time.Now().UnixNano())
			return
		}
	}
}

// keepTemplates reads the templates file, if one is configured, and writes it from then
// on, until done is closed; then once more. It returns when the file has been read, or
// ctx has ended, or nothing of it can be read. finished is closed when the file has been
// written for the last time. Until then a volume may hang.
func (c *Collector) keepTemplates(ctx context.Context, done <-chan struct{}) (finished <-chan struct{}) {
	closed := make(chan struct{})
	if c.cfg.TemplatesFile == "" {
		close(closed)
		return closed
	}
	f := newTemplatesFile(c.cfg.TemplatesFile)
	restored, abandoned := make(chan struct{}), make(chan struct{})
	close(abandoned)
	go func() {
		defer close(closed)
		err := c.restoreTemplates(f)
		close(restored)
		if err != nil && !errors.Is(err, errInUse) || f.abandoned.Load() {
			return
		}
		c.saveTemplates(f, done)
	}()
	tick := time.NewTicker(restorePatience)
	defer tick.Stop()
	for last := int64(-1); ; {
		select {
		case <-restored:
			return closed
		case <-ctx.Done():
			f.abandoned.Store(true)
			return abandoned
		case <-tick.C:
			n := f.progress.Load()
			if n == last {
				f.abandoned.Store(true)
				c.log.WithField("file", f.path).Error("the templates file cannot be read: its volume hangs. Data waits for new templates, and templates are not kept for the next start")
				return abandoned
			}
			last = n
		}
	}
}

// restoreTemplates reads the templates file at start. A file that cannot be used is
// renamed: it is never a reason not to start. The error is what keeps the file from being
// written.
func (c *Collector) restoreTemplates(f *templatesFile) error {
	n, err := f.load(c.exporters, time.Now())
	log := c.log.WithField("file", f.path)
	switch {
	case errors.Is(err, errForeign):
		bad := f.path + ".bad"
		if rerr := os.Rename(f.path, bad); rerr != nil {
			err = errors.Join(err, rerr)
		}
		log.WithError(err).Warnf("the templates file cannot be used and is set aside as %s; data waits for new templates", bad)
		return nil
	case errors.Is(err, errAbandoned):
		return err
	case errors.Is(err, errNotRegular):
		log.WithError(err).Error("templates are not kept for the next start; give -templates.file the name of a file")
		return err
	case errors.Is(err, errInUse):
		log.WithField("templates", n).Warn("another process uses the templates file: it was read, and is written once that process has ended. Give each process a file of its own")
	case err != nil:
		log.WithError(err).Warn("the templates file cannot be read; data waits for new templates")
		return nil
	default:
		log.WithField("templates", n).Debug("templates restored")
	}
	return err
}

// saveTemplates writes the templates file until done is closed, and then once more.
func (c *Collector) saveTemplates(f *templatesFile, done <-chan struct{}) {
	defer f.close()
	tick := time.NewTicker(maintenanceInterval)
	defer tick.Stop()
	var limiter ratelog.Limiter
	save := func(now time.Time, last bool) {
		err := f.save(c.exporters, now, last)
		if err == nil {
			return
		}
		log := limiter.Logger(c.log, now.UnixNano())
		if last {
			log = c.log
		}
		if log != nil {
			log.WithError(err).Error("templates are not kept for the next start")
		}
	}
	for {
		select {
		case now := <-tick.C:
			save(now, false)
		case <-done:
			save(time.Now(), true)
			return
		}
	}
}

// awaitTemplates waits until the templates file has been written for the last time, but not
// for long.
func (c *Collector) awaitTemplates(finished <-chan struct{}) {
	timeout := time.NewTimer(min(saveTimeout, c.cfg.DrainTimeout))
	defer timeout.Stop()
	select {
	case <-finished:
	case <-timeout.C:
		c.log.WithField("file", c.cfg.TemplatesFile).Error("templates are not kept for the next start: the volume of -templates.file hangs")
	}
}
