package ratelog

import (
	stdlog "log"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// TestStandard: what libraries print is logged, without quotations and not for each event.
func TestStandard(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	l := stdlog.New(Standard(log), "", 0)
	for range 3 {
		l.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "Bearer hunter2", nil)
	}
	l.Print("two\nlines")
	l.Print("all isn't well")
	want := []string{"Unsolicited response received on idle HTTP channel starting with ...", "two ...", "all isn't well"}
	entries := hook.AllEntries()
	if len(entries) != len(want) {
		t.Fatalf("%d lines, want %d", len(entries), len(want))
	}
	for i, e := range entries {
		if e.Message != want[i] || e.Level != logrus.WarnLevel {
			t.Errorf("%v %q, want %q", e.Level, e.Message, want[i])
		}
	}
}
