// Package places says what is known of addresses that nobody in the cluster has: a
// label by the user's list of networks, country and autonomous system by databases in
// the format mmdb.
//
// A [Lookup] has the tables, and a [Stage] for each worker remembers what it found. New
// tables take the place of the old ones at once. A file that cannot be read leaves the
// old ones in use.
package places

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// maxDatabases is how many files -geoip may have.
	maxDatabases = 4
	// maxDatabase bounds a file of -geoip, in bytes.
	maxDatabase = 1 << 30
	// watchEvery is how often files are looked at.
	watchEvery = 5 * time.Second
)

// Config has the settings of a [Lookup].
type Config struct {
	// Mapping has the address fields that a record's Ends belong to, by index of Ends.
	Mapping []flow.MapEntry
	// Networks is the file of networks and labels; empty for none.
	Networks string
	// GeoIP names the databases, at most four.
	GeoIP []string
	// Alone reports whether no stage before has filled in the Ends.
	Alone bool
}

// FileError is a mistake in a file that the configuration names.
type FileError struct {
	Networks bool // in that of the networks; else in a database
	Err      error
}

// Error implements error. It names the file.
func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// tables are the content of all files. Nothing changes them.
type tables struct {
	number    uint64    // tells them from those of before and after; never 0
	networks  *networks // nil without a file
	databases []*database
}

// Lookup has the tables of all workers. Any number of goroutines may use it.
type Lookup struct {
	cfg    Config
	log    logrus.FieldLogger
	tables atomic.Pointer[tables]
	reload chan struct{}
	files  []*file // used by New, then by Run

	reloads *prometheus.CounterVec
	badData ratelog.Limiter
}

// file is one of the files, as it was last looked at.
type file struct {
	name     string
	networks bool
	// read is what the file was when it was read, or when that failed; seen is what
	// it was when it was last looked at.
	read, seen stamp
}

// stamp tells whether a file has changed.
type stamp struct {
	size  int64
	time  time.Time
	inode uint64
}

// New reads the files and registers the metrics. Its error is a [*FileError] if a file
// is wrong.
func New(cfg Config, log logrus.FieldLogger, reg prometheus.Registerer) (*Lookup, error) {
	l := &Lookup{cfg: cfg, log: log, reload: make(chan struct{}, 1)}
	if len(cfg.GeoIP) > maxDatabases {
		return nil, &FileError{false, fmt.Errorf("%d files; at most %d are possible", len(cfg.GeoIP), maxDatabases)}
	}
	if cfg.Networks != "" {
		l.files = append(l.files, &file{name: cfg.Networks, networks: true})
	}
	for _, name := range cfg.GeoIP {
		l.files = append(l.files, &file{name: name})
	}
	l.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "kube_enricher", Name: "places_reloads_total",
		Help: "Files of -networks and -geoip that were read again, by whether that worked. After a failure the old content stays in use.",
	}, []string{"file", "result"})
	for _, f := range l.files {
		for _, result := range []string{"ok", "failed"} {
			l.reloads.WithLabelValues(f.flag(), result)
		}
	}
	if err := reg.Register(l.reloads); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	t := &tables{number: 1}
	for _, f := range l.files {
		f.read = f.stamp()
		if err := t.load(f); err != nil {
			return nil, &FileError{f.networks, err}
		}
	}
	l.tables.Store(t)
	return l, nil
}

// flag is the value of the metric's label.
func (f *file) flag() string {
	if f.networks {
		return "networks"
	}
	return "geoip"
}

// stamp looks at the file; the result is zero if it is not there.
func (f *file) stamp() stamp {
	info, err := os.Stat(f.name)
	if err != nil {
		return stamp{}
	}
	return stamp{info.Size(), info.ModTime(), inode(info)}
}

// load reads a file into its place in the tables, or appends it. On an error the tables
// are as they were. The error names the file.
func (t *tables) load(f *file, at ...int) error {
	data, err := readFile(f)
	if err != nil {
		return err
	}
	if f.networks {
		n, err := parseNetworks(f.name, data)
		if line := (*lineError)(nil); errors.As(err, &line) {
			return fmt.Errorf("%s:%w", f.name, err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		t.networks = n
		return nil
	}
	d, err := openDatabase(data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if len(at) > 0 {
		t.databases[at[0]] = d
	} else {
		t.databases = append(t.databases, d)
	}
	return nil
}

// readFile reads a regular file that is not too large.
func readFile(f *file) ([]byte, error) {
	info, err := os.Stat(f.name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", f.name)
	}
	limit := int64(maxDatabase)
	if f.networks {
		limit = maxNetworksFile
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", f.name, limit)
	}
	in, err := os.Open(f.name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	data := make([]byte, info.Size())
	n, err := io.ReadFull(in, data)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}

// Reload makes Run read all files again. It does not wait for that.
func (l *Lookup) Reload() {
	select {
	case l.reload <- struct{}{}:
	default: // one is due already, and will read the newest files
	}
}

// Run reads files again that were replaced, and all of them after Reload, until ctx
// ends.
func (l *Lookup) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.reload:
			l.renew(true)
		case <-tick.C:
			l.renew(false)
		}
	}
}

// renew reads the files that have changed, or all of them. A file that changes is read
// once it has stayed the same from one look to the next: who writes it may not be done.
func (l *Lookup) renew(all bool) {
	old := l.tables.Load()
	t := &tables{old.number + 1, old.networks, slices.Clone(old.databases)}
	changed := false
	database := -1
	for _, f := range l.files {
		if !f.networks {
			database++
		}
		now := f.stamp()
		settled := now == f.seen
		f.seen = now
		if !all && (now == f.read || !settled) {
			continue
		}
		f.read = now
		if err := t.load(f, max(database, 0)); err != nil {
			l.reloads.WithLabelValues(f.flag(), "failed").Inc()
			l.log.WithError(err).Errorf("the file of -%s was not read again; what was read of it before stays in use", f.flag())
			continue
		}
		l.reloads.WithLabelValues(f.flag(), "ok").Inc()
		l.log.WithField("file", f.name).Infof("the file of -%s was read again", f.flag())
		changed = true
	}
	if changed {
		l.tables.Store(t)
	}
}

// damaged logs that a record of a database cannot be read.
func (l *Lookup) damaged(err error) {
	if log := l.badData.Logger(l.log, time.Now().UnixNano()); log != nil {
		log.WithError(err).Warn("a record of -geoip cannot be read")
	}
}
