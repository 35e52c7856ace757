package collector

import (
	"encoding/hex"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// faultLog logs what is wrong with datagrams: at most one line in ten seconds
// for each reason, with the number of those not logged.
type faultLog struct {
	log    logrus.FieldLogger
	states [numFaults]faultState
}

type faultState struct {
	next    atomic.Int64 // Unix nanoseconds before which nothing is logged
	skipped atomic.Uint64
}

const faultInterval = 10 * time.Second

var faultTexts = [numFaults]string{
	dropNotAllowed:      "datagram dropped: its source is not allowed to export to us",
	dropTruncated:       "datagram dropped: it is truncated",
	dropMalformed:       "datagram dropped: malformed",
	dropUnknownProtocol: "datagram dropped: neither NetFlow v5, v9, IPFIX nor sFlow v5, or not what its port is for",
	dropPanic:           "datagram dropped: decoding it failed by a fault of this program; please report it",
	dropMalformedSet:    "a set in a datagram is malformed; the others are used",
	dropNoTemplate:      "a data set waits for its template, which exporters repeat every few minutes",
}

// report logs a fault of a datagram that arrived at the given time (Unix
// nanoseconds), unless one of its kind was logged just before.
func (f *faultLog) report(reason dropReason, source netip.AddrPort, b []byte, now int64) {
	s := &f.states[reason]
	next := s.next.Load()
	if now < next && next-now <= int64(faultInterval) || !s.next.CompareAndSwap(next, now+int64(faultInterval)) {
		s.skipped.Add(1)
		return
	}
	fields := logrus.Fields{"exporter": source.String()}
	if n := s.skipped.Swap(0); n > 0 {
		fields["not_logged"] = n
	}
	if b != nil {
		fields["length"] = len(b)
		fields["begins"] = hex.EncodeToString(b[:min(len(b), 64)])
	}
	switch l := f.log.WithFields(fields); reason {
	case dropPanic:
		l.Error(faultTexts[reason])
	case dropNoTemplate:
		l.Info(faultTexts[reason])
	default:
		l.Warn(faultTexts[reason])
	}
}
