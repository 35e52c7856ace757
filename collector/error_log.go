package collector

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// errorLog logs what is wrong with datagrams, with a limit of its own for each
// reason. Any goroutine may use it.
type errorLog struct {
	log      logrus.FieldLogger
	limiters [numLogReasons]ratelog.Limiter
}

var errorTexts = [numLogReasons]string{
	dropNotAllowed:         "datagram dropped: its source is not allowed to export to us",
	dropTruncated:          "datagram dropped: it is truncated",
	dropMalformed:          "datagram dropped: malformed",
	dropUnknownProtocol:    "datagram dropped: neither NetFlow v1, v5, v7, v9, IPFIX nor sFlow v5",
	dropPanic:              "datagram dropped: decoding it failed by a fault of this program; please report it",
	dropMalformedSet:       "a set in a datagram is malformed; the others are used",
	dropTruncatedSet:       "the snap length of the capture has cut off the end of a datagram; what is whole is used",
	dropMalformedStructure: "a structure of an sFlow sample is cut or malformed; the others are used",
	dropBudget:             "a set or record takes more work than its source may ask for by its bytes; it is dropped",
	clockOffset:            "the exporter's clock differs from ours by minutes, so its flows may get no name or a wrong one; set both clocks by NTP",
	dropNoTemplate:         "a data set waits for its template, which exporters repeat every few minutes",
}

// report logs what is wrong with a datagram that arrived at the given time (Unix
// nanoseconds), unless the same was logged just before. b is the datagram, or nil
// where its bytes do not help.
func (l *errorLog) report(reason dropReason, source netip.AddrPort, b []byte, now int64) {
	if suppressed, ok := l.limiters[reason].Allow(now); ok {
		l.write(reason, errorTexts[reason], suppressed, source, b)
	}
}

// protocolTexts are the protocols as people write them.
var protocolTexts = [numProtocols]string{"", "sFlow", "NetFlow v1", "NetFlow v5", "NetFlow v7", "NetFlow v9", "IPFIX"}

// reportUnknown logs that a datagram is of no known protocol, or of one that its port is not for.
func (l *errorLog) reportUnknown(p protocol, allowed Protocols, port uint16, source netip.AddrPort, b []byte, now int64) {
	suppressed, ok := l.limiters[dropUnknownProtocol].Allow(now)
	if !ok { // anybody may send such datagrams, and as many: nothing is formatted for them
		return
	}
	if p == protoUnknown {
		l.write(dropUnknownProtocol, errorTexts[dropUnknownProtocol], suppressed, source, b)
		return
	}
	others, scheme := "sFlow", "netflow"
	if allowed == NetFlow {
		others, scheme = "NetFlow and IPFIX", "sflow"
	}
	l.write(dropUnknownProtocol, fmt.Sprintf("datagram dropped: it is %s, and port %d is for %s; send it to a port of %s:// in -listen, or give -listen flow://:%[2]d for any protocol",
		protocolTexts[p], port, others, scheme), suppressed, source, b)
}

// write logs a text, and how many like it were not logged.
func (l *errorLog) write(reason dropReason, text string, suppressed uint64, source netip.AddrPort, b []byte) {
	fields := logrus.Fields{"exporter": source.String()}
	if suppressed > 0 {
		fields[ratelog.Suppressed] = suppressed
	}
	if b != nil {
		fields["length"] = len(b)
		fields["begins"] = hex.EncodeToString(b[:min(len(b), 64)])
	}
	switch log := l.log.WithFields(fields); reason {
	case dropPanic:
		log.Error(text)
	case dropNoTemplate:
		log.Info(text)
	default:
		log.Warn(text)
	}
}
