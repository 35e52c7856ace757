package enrich

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// While the watch lags, an address that changes hands is given to nobody for
// sure who may not have had it any more, or not yet.
func TestHandover(t *testing.T) {
	pod := func(name string, created, ready float64) *object {
		return &object{
			kind: kindPod, namespace: "ns", name: name, uid: "uid-" + name, created: at(created),
			podPart: &podPart{ready: at(ready)}, addrs: []netip.Addr{addr("10.0.0.1")},
		}
	}
	sleep := func(seconds float64) { time.Sleep(time.Until(time.Unix(0, at(seconds)))) }
	for _, c := range []struct {
		name   string
		events func(e *Enricher)
		at     float64
		want   string
	}{
		{"deleted by force at 10, which is seen late; the next one had the address at 11 at the latest", func(e *Enricher) {
			sleep(13)
			gone := pod("a", 1, 2)
			gone.deleted = at(10)
			e.store.remove(gone)
			e.store.update(pod("b", 9, 10))
		}, 11.5, "b live"},
		{"finished in the second that begins at 10; the next one is seen at 11.2", func(e *Enricher) {
			sleep(11)
			done := pod("a", 1, 2)
			done.stopped, done.finished = true, at(10)
			e.store.update(done)
			sleep(11.2)
			e.store.update(pod("b", 9, 11))
		}, 10.8, "b ambiguous"},
		{"evicted at 12; the next one was created at 8, but the containers ran until the second that begins at 11", func(e *Enricher) {
			sleep(13)
			evicted := pod("a", 1, 2)
			evicted.stopped, evicted.restartable, evicted.lastExit, evicted.disrupted = true, true, at(11), at(12)
			e.store.update(evicted)
			sleep(14)
			e.store.update(pod("b", 8, 13))
		}, 10, "a retained"},
		{"gone from a list at 14, seen last at 10; the next one had the address in the second that begins at 12", func(e *Enricher) {
			sleep(10)
			e.store.onBookmark(kindPod)
			sleep(14)
			e.store.replace(kindPod, []*object{pod("b", 11, 12)})
		}, 12.5, "b ambiguous"},
		{"and after that second", func(e *Enricher) {
			sleep(10)
			e.store.onBookmark(kindPod)
			sleep(14)
			e.store.replace(kindPod, []*object{pod("b", 11, 12)})
		}, 13.1, "b live"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, _, _ := newTest(t, Config{}, noSource{})
				e.store.markStarted(kindPod)
				e.store.replace(kindPod, nil)
				sleep(3)
				e.store.update(pod("a", 1, 2))
				c.events(e)
				if got := e.show("10.0.0.1", c.at, c.at); got != c.want {
					t.Errorf("at %v: %s, want %s", c.at, got, c.want)
				}
			})
		})
	}
}
