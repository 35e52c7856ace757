package transport

import (
	"time"

	"github.com/sirupsen/logrus"
)

// logEvery is the least time between two lines about an output's troubles.
const logEvery = 10 * time.Second

// problem is what is wrong with an output.
type problem struct {
	err error
	at  time.Duration // after the output's epoch
	// open says that the output could not be opened: that is tried again.
	open bool
}

// report logs an output's troubles, and that they are over. It is used by one
// goroutine.
type report struct {
	log logrus.FieldLogger
	buf *buffer

	// What was logged last.
	logged  time.Time
	drops   uint64
	problem bool
}

// watch logs a line if there is news, at most every ten seconds unless it is
// the last. The error says why the output is not ready.
func (r *report) watch(err error, last bool) {
	l := r.buf.ledger()
	drops := l.dropped[outputFull] + l.dropped[outputError] + l.dropped[shutdown]
	if drops == r.drops && (err != nil) == r.problem {
		return
	}
	if !last && !r.logged.IsZero() && time.Since(r.logged) < logEvery {
		return
	}
	log := r.log
	switch {
	case drops > r.drops:
		log = log.WithField("dropped", drops-r.drops)
		if err != nil {
			log = log.WithError(err)
		}
		log.Warn("records were dropped by the output")
	case err != nil:
		log.WithError(err).Warn("the output takes no records")
	default:
		log.Info("the output works again")
	}
	r.logged, r.drops, r.problem = time.Now(), drops, err != nil
}
