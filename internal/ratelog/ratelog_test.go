package ratelog

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
)

func TestLimiter(t *testing.T) {
	log, hook := test.NewNullLogger()
	var l Limiter
	second := int64(time.Second)
	for _, c := range []struct {
		at   int64 // seconds
		want string
	}{
		{1000, "map[]"},
		{1000, ""},
		{1009, ""},
		{1010, "map[suppressed:2]"},
		{1019, ""},
		{900, "map[suppressed:1]"}, // another capture
		{909, ""},
		{2000, "map[suppressed:1]"},
		{3000, "map[]"},
	} {
		hook.Reset()
		got := ""
		if logger := l.Logger(log, c.at*second); logger != nil {
			logger.Warn("x")
			got = fmt.Sprint(hook.LastEntry().Data)
		}
		if got != c.want {
			t.Errorf("at %d s: %q, want %q", c.at, got, c.want)
		}
	}
}

func TestSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := test.NewNullLogger()
		var s Set
		lines := func(kind string) int {
			hook.Reset()
			if l := s.Logger(log, kind); l != nil {
				l.Warn(kind)
			}
			return len(hook.Entries)
		}
		if lines("a") != 1 || lines("a") != 0 || lines("b") != 1 {
			t.Error("each kind has one line in the interval")
		}
		time.Sleep(Interval)
		if lines("a") != 1 || hook.LastEntry().Data[Suppressed] != uint64(1) {
			t.Errorf("after the interval: %v", hook.Entries)
		}
		for i := range 3 * maxKinds {
			s.Logger(log, fmt.Sprint(i))
		}
		if len(s.kinds) > maxKinds {
			t.Errorf("%d kinds are remembered", len(s.kinds))
		}
	})
}
