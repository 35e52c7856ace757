package ratelog

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
)

// TestPanics: the log has what a handler of net/http panicked with, and where, for both versions
// of HTTP, and nothing of a peer that speaks no HTTP.
func TestPanics(t *testing.T) {
	for _, two := range []bool{false, true} {
		log, hook := logtest.NewNullLogger()
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
		entries := hook.AllEntries()
		if len(entries) != 1 || !strings.Contains(entries[0].Message, "a fault") {
			t.Fatalf("HTTP/2 %t: logged %v", two, entries)
		}
		if stack, _ := entries[0].Data["stack"].(string); !strings.Contains(stack, "panics_test.go") {
			t.Errorf("HTTP/2 %t: stack %q", two, stack)
		}
	}
}
