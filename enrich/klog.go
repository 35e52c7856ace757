package enrich

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

// RouteKlog makes the Kubernetes client library log to log instead of standard
// error: its errors as warnings, the rest as debug messages, each kind of
// message at most once in ten seconds. It changes a setting of the whole
// process, and is to be called once, before anything else of the library runs.
func RouteKlog(log logrus.FieldLogger) {
	klog.SetLogger(logr.New(&klogSink{log: log, quiet: &limiter{}}))
}

// klogSink is a [logr.LogSink].
type klogSink struct {
	log   logrus.FieldLogger
	quiet *limiter
}

// Init implements [logr.LogSink].
func (*klogSink) Init(logr.RuntimeInfo) {}

// Enabled implements [logr.LogSink].
func (*klogSink) Enabled(level int) bool { return level == 0 }

// Info implements [logr.LogSink].
func (k *klogSink) Info(_ int, msg string, values ...any) {
	if k.quiet.allow(msg) {
		k.log.WithFields(fields(values)).Debug(msg)
	}
}

// Error implements [logr.LogSink].
func (k *klogSink) Error(err error, msg string, values ...any) {
	if k.quiet.allow(msg) {
		k.log.WithFields(fields(values)).WithError(err).Warn(msg)
	}
}

// WithValues implements [logr.LogSink].
func (k *klogSink) WithValues(values ...any) logr.LogSink {
	return &klogSink{k.log.WithFields(fields(values)), k.quiet}
}

// WithName implements [logr.LogSink].
func (k *klogSink) WithName(name string) logr.LogSink {
	return &klogSink{k.log.WithField("from", name), k.quiet}
}

func fields(values []any) logrus.Fields {
	f := logrus.Fields{}
	for i := 0; i+1 < len(values); i += 2 {
		f[fmt.Sprint(values[i])] = values[i+1]
	}
	return f
}

// limiter allows one log line per reason in ten seconds. Its zero value is
// ready for use.
type limiter struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (l *limiter) allow(reason string) bool {
	const every, reasons = 10 * time.Second, 1000
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if last, ok := l.last[reason]; ok && now.Sub(last) < every {
		return false
	}
	if l.last == nil || len(l.last) >= reasons {
		l.last = map[string]time.Time{}
	}
	l.last[reason] = now
	return true
}
