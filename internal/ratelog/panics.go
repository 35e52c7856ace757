package ratelog

import (
	"bytes"
	stdlog "log"
	"time"

	"github.com/sirupsen/logrus"
)

// Panics returns what [net/http.Server.ErrorLog] should be, so that a fault of ours in a handler
// does not stay unknown: net/http recovers it and ends the request. What else the server says is
// left out, since peers that break off are no news.
func Panics(log logrus.FieldLogger) *stdlog.Logger {
	return stdlog.New(&panics{log: log}, "", 0)
}

type panics struct {
	log   logrus.FieldLogger
	limit Limiter
}

// Write implements [io.Writer]. Each call has one message.
func (p *panics) Write(b []byte) (int, error) {
	if _, text, ok := bytes.Cut(b, []byte(": panic serving ")); ok {
		if log := p.limit.Logger(p.log, time.Now().UnixNano()); log != nil {
			what, stack, _ := bytes.Cut(text, []byte("\n"))
			log.WithField("stack", string(stack)).
				Errorf("a request ended by a fault of this program; please report it: %s", what)
		}
	}
	return len(b), nil
}
