package collector

import (
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

const (
	// clockWarning is the offset of an exporter's clock from which on it is logged.
	clockWarning = 2 * time.Minute
	// clockRight is the offset below which it may be logged again.
	clockRight = time.Minute
)

// exportClock is what the headers of an exporter's datagrams say about its clock. Any
// goroutine may use it.
type exportClock struct {
	// offset is the time of export minus that of receipt, in nanoseconds: above 0 if the
	// exporter's clock is ahead. It is 0 if it is not known. It holds for the address: of
	// several exporters behind one, the last counts.
	offset atomic.Int64
	warned atomic.Bool
}

// markClock notes the offset of the exporter's clock, as the datagram at hand shows it. It is
// called once a second for an exporter, if its datagrams say when they were exported. There
// is no correction: nobody knows which of the two clocks is right.
func (d *Decoder) markClock(e *exporter) {
	offset := time.Duration(d.exported - d.received)
	if offset == 0 {
		offset = 1
	}
	e.clock.offset.Store(int64(offset))
	switch {
	case offset.Abs() < clockRight:
		e.clock.warned.Store(false)
	case offset.Abs() >= clockWarning && !e.clock.warned.Load():
		if suppressed, ok := d.errors.limiters[clockOffset].Allow(d.received); ok {
			e.clock.warned.Store(true)
			fields := logrus.Fields{"exporter": d.peer.source.String(), "offset": offset.Round(time.Second).String()}
			if suppressed > 0 {
				fields[ratelog.Suppressed] = suppressed
			}
			d.errors.log.WithFields(fields).Warn(errorTexts[clockOffset])
		}
	}
}
