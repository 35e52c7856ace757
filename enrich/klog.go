package enrich

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// RouteKlog makes the Kubernetes client library log to log instead of standard error: its errors as
// warnings, other messages for debugging, and each message at most once in [ratelog.Interval]. It
// changes a setting of the whole process. Call it once, before anything else of the library runs.
func RouteKlog(log logrus.FieldLogger) {
	klog.SetLogger(logr.New(&klogSink{log: log, limited: new(ratelog.Set)}))
}

// klogSink is a [logr.LogSink] that writes to a logrus logger.
type klogSink struct {
	log     logrus.FieldLogger
	limited *ratelog.Set
}

// Init implements [logr.LogSink].
func (*klogSink) Init(logr.RuntimeInfo) {}

// Enabled implements [logr.LogSink].
func (*klogSink) Enabled(level int) bool { return level == 0 }

// Info implements [logr.LogSink].
func (k *klogSink) Info(_ int, msg string, values ...any) {
	if log := k.limited.Logger(k.log, msg); log != nil {
		log.WithFields(fields(values)).Debug("Kubernetes client: " + msg)
	}
}

// Error implements [logr.LogSink].
func (k *klogSink) Error(err error, msg string, values ...any) {
	if log := k.limited.Logger(k.log, msg); log != nil {
		log.WithFields(fields(values)).WithError(err).Warn("Kubernetes client: " + msg)
	}
}

// WithValues implements [logr.LogSink].
func (k *klogSink) WithValues(values ...any) logr.LogSink {
	return &klogSink{k.log.WithFields(fields(values)), k.limited}
}

// WithName implements [logr.LogSink].
func (k *klogSink) WithName(name string) logr.LogSink {
	return &klogSink{k.log.WithField("from", name), k.limited}
}

// fields makes fields of keys and values in turn. A key without a value is left out.
func fields(values []any) logrus.Fields {
	f := logrus.Fields{}
	for i := 0; i+1 < len(values); i += 2 {
		f[fmt.Sprint(values[i])] = values[i+1]
	}
	return f
}
