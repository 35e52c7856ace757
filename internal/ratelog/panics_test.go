package ratelog

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// entries is a hook of logrus that hands on what is logged.
type entries chan *logrus.Entry

func (entries) Levels() []logrus.Level           { return logrus.AllLevels }
func (e entries) Fire(entry *logrus.Entry) error { e <- entry; return nil }

// TestPanics: the log has what a handler of net/http panicked with, and where, for both versions
// of HTTP, and nothing of a peer that speaks no HTTP.
func TestPanics(t *testing.T) {
	for _, two := range []bool{false, true} {
		log, _ := logtest.NewNullLogger()
		logged := make(entries, 10)
		log.AddHook(logged)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a fault") }))
		s.Config.ErrorLog = Panics(log)
		s.EnableHTTP2 = two
		s.StartTLS()
		if resp, err := s.Client().Get(s.URL); err == nil {
			resp.Body.Close()
			t.Errorf("an answer with status %d", resp.StatusCode)
		}
		if resp, err := http.Get("http" + strings.TrimPrefix(s.URL, "https")); err == nil {
			resp.Body.Close() // "http: TLS handshake error from ..."
		}
		s.Close()
		entry := <-logged // with HTTP/2 the peer may know first
		if !strings.Contains(entry.Message, "a fault") || len(logged) > 0 {
			t.Errorf("HTTP/2 %t: logged %q and %d more", two, entry.Message, len(logged))
		}
		if stack, _ := entry.Data["stack"].(string); !strings.Contains(stack, "panics_test.go") {
			t.Errorf("HTTP/2 %t: stack %q", two, stack)
		}
	}
}
