package collector

import (
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/collector/udp"
)

// worker receives and decodes on one socket, on one goroutine.
type worker struct {
	socket  *socket
	decoder *Decoder
	log     logrus.FieldLogger
	// giveUp closes the socket, which has failed.
	giveUp  func(*socket)
	stopped <-chan struct{} // closed when the collector stops
}

// idleEvery is how often the handler of a worker that has no socket any more is asked for
// the records that it holds.
const idleEvery = 50 * time.Millisecond

// run receives until the socket is stopped and drained, or fails.
func (w *worker) run() {
	s, d := w.socket, w.decoder
	for {
		n, err := s.Receive()
		now := time.Now().UnixNano()
		for i := range n {
			b, source, truncated := s.Datagram(i)
			if truncated {
				d.received = now
				d.metrics.received(protoUnknown, len(b))
				d.drop(dropTruncated, source, b)
				continue
			}
			d.Datagram(source, s.listener.Protocols, b, now)
		}
		d.decodeLent()
		switch {
		case errors.Is(err, udp.ErrDrained):
			d.closeGaps(now, true)
			d.handler.Idle()
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.WakeAfter(w.idle(now))
			continue
		case err != nil:
			w.log.WithError(err).WithField("address", s.Address()).Error("receiving failed; this socket is given up")
			w.giveUp(s)
			d.closeGaps(now, true)
			w.releaseHeld()
			return
		case n < udp.BatchSize:
			s.WakeAfter(w.idle(now))
		}
		s.Coalesce(n, now)
	}
}

// releaseHeld has the handler hand on what it holds, as records become ready, until it has
// none left or the collector stops.
func (w *worker) releaseHeld() {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for w.decoder.handler.Idle() {
		select {
		case <-tick.C:
		case <-w.stopped:
			return
		}
	}
}

// idle does what is left for a pause, and reports whether to be called again soon.
func (w *worker) idle(now int64) (pending bool) {
	pending = w.decoder.closeGaps(now, false) || w.decoder.exporters.waitsToLend(now)
	return w.decoder.handler.Idle() || pending
}
