package ratelog

import (
	"bytes"
	"io"

	"github.com/sirupsen/logrus"
)

// Standard returns where package log of the standard library should write: what libraries say
// becomes a warning of log, at most once in [Interval] for each kind. Quotations are left out with
// what is after them: net/http quotes what a server has sent, and servers repeat secrets of the
// request.
func Standard(log logrus.FieldLogger) io.Writer {
	return &standard{log: log.WithField("from", "a library")}
}

type standard struct {
	log   logrus.FieldLogger
	limit Set
}

// Write implements [io.Writer]. Each call has one message.
func (s *standard) Write(b []byte) (int, error) {
	text := bytes.TrimSpace(b)
	if i := bytes.IndexAny(text, "\"`\n"); i >= 0 {
		text = append(bytes.TrimSpace(text[:i:i]), " ..."...)
	}
	if log := s.limit.Logger(s.log, string(text)); log != nil {
		log.Warn(string(text))
	}
	return len(b), nil
}
