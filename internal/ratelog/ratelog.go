// Package ratelog limits how often the same thing is logged: one line for each
// kind of event in [Interval], with the number of those left out in the field
// [Suppressed].
package ratelog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// Interval is the least time between two lines of one kind.
	Interval = 10 * time.Second
	// Suppressed is the log field with the number of events of the same kind that
	// were not logged since the last line.
	Suppressed = "suppressed"
	// maxKinds bounds the kinds that a Set remembers. Texts of other programs are
	// among them.
	maxKinds = 1000
)

// Limiter limits one kind of event. Its zero value is ready for use, any number
// of goroutines may use it at once, and it takes no lock: datagrams of hostile
// peers are counted here.
type Limiter struct {
	next       atomic.Int64 // Unix nanoseconds before which nothing is logged
	suppressed atomic.Uint64
}

// Allow reports whether an event at the given time (Unix nanoseconds) is to be
// logged, and how many were suppressed since the last one that was. Times may
// come from a capture, so they may go back: an event far before the last one is
// allowed.
func (l *Limiter) Allow(now int64) (suppressed uint64, ok bool) {
	next := l.next.Load()
	if now < next && next-now <= int64(Interval) || !l.next.CompareAndSwap(next, now+int64(Interval)) {
		l.suppressed.Add(1)
		return 0, false
	}
	return l.suppressed.Swap(0), true
}

// Logger returns log for an event at the given time (Unix nanoseconds), with the
// field [Suppressed] where there is something to tell, or nil if the event is
// not to be logged.
func (l *Limiter) Logger(log logrus.FieldLogger, now int64) logrus.FieldLogger {
	suppressed, ok := l.Allow(now)
	switch {
	case !ok:
		return nil
	case suppressed > 0:
		return log.WithField(Suppressed, suppressed)
	}
	return log
}

// Set limits events of kinds that are known only when they happen. Its zero
// value is ready for use, and any number of goroutines may use it at once.
type Set struct {
	mu    sync.Mutex
	kinds map[string]*Limiter
}

// Logger returns log for an event of a kind that happens now, as
// [Limiter.Logger] does.
func (s *Set) Logger(log logrus.FieldLogger, kind string) logrus.FieldLogger {
	s.mu.Lock()
	l := s.kinds[kind]
	if l == nil {
		if s.kinds == nil || len(s.kinds) >= maxKinds {
			s.kinds = make(map[string]*Limiter)
		}
		l = new(Limiter)
		s.kinds[kind] = l
	}
	s.mu.Unlock()
	return l.Logger(log, time.Now().UnixNano())
}
