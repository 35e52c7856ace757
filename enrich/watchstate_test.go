package enrich

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// Who has an address that passes on is named with a warning while the watch is
// interrupted: another pod may have it by now.
func TestStaleNames(t *testing.T) {
	waiting(t, Config{}, func(t *testing.T, e *Enricher) {
		a, b, c := podSpec{name: "a", ips: "10.0.0.1"}, podSpec{name: "b", ips: "10.0.0.1"}, podSpec{name: "c", ips: "10.0.0.2"}
		e.store.update(a.object(t))
		e.store.remove(a.object(t))
		after(9)
		e.store.update(b.object(t))
		e.store.update(c.object(t))
		after(10) // 20 s
		check := func(from, to float64, wantB, wantC string) {
			t.Helper()
			if gotB, gotC := e.show("10.0.0.1", from, to), e.show("10.0.0.2", from, to); gotB != wantB || gotC != wantC {
				t.Errorf("[%v, %v]: %q, %q, want %q, %q", from, to, gotB, gotC, wantB, wantC)
			}
		}
		e.store.onBookmark(kindPod)
		check(20, 21, "b live", "c live")
		e.store.markUnreachable(kindPod, errors.New("away"))
		after(10)
		check(17, 17.5, "b live", "c live")
		check(17, 25, "b live", "c live") // for a part of that for sure
		check(19, 25, "b ambiguous", "c live")
		end := e.Lookup(addr("10.0.0.1"), at(25), at(25))
		if want := "Watch was interrupted, perhaps another pod than: b.ns"; end.Object.Warn != want || end.Object.Name != "b" {
			t.Errorf("%+v, want warning %q", end.Object, want)
		}
		if x := e.Explain(addr("10.0.0.1"), time.Unix(0, at(25))); x.Status != "ambiguous" || x.Chosen.Name != "b" || !strings.Contains(x.Why, "interrupted") {
			t.Errorf("%+v", x)
		}
		if n := testing.AllocsPerRun(100, func() { e.Lookup(addr("10.0.0.1"), at(25), at(25)) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		e.store.onConnected(kindPod) // what happened is yet to be reported
		after(0.5)
		e.store.update(podSpec{name: "d", ips: "10.0.0.3"}.object(t))
		check(19, 25, "b ambiguous", "c live")
		e.store.onBookmark(kindPod)
		check(19, 25, "b live", "c live")
	})
}

// A pod that came and went while the watch was interrupted leaves no trace. Its
// flows are not given to who had the address shortly before or afterwards.
func TestUnseenPods(t *testing.T) {
	waiting(t, Config{}, func(t *testing.T, e *Enricher) {
		a, b := podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}, podSpec{name: "b", ips: "10.0.0.1", ready: rfc(28)}
		e.store.update(a.object(t))
		after(9) // 10 s
		e.store.remove(a.object(t))
		check := func(when string, from, to float64, want string) {
			t.Helper()
			if got := e.show("10.0.0.1", from, to); got != want {
				t.Errorf("%s, [%v, %v]: %q, want %q", when, from, to, got, want)
			}
		}
		check("up to date", 11, 11.5, "a retained")
		after(0.5)
		e.store.onBookmark(kindPod)
		e.store.markUnreachable(kindPod, errors.New("away"))
		check("away", 9, 9.5, "a retained") // the last event may have been late
		check("away", 10.2, 10.3, "none")
		check("away", 11, 11.5, "none")
		check("away", 5, 5, "a retained")
		after(19.5)
		e.store.replace(kindPod, []*object{b.object(t)})
		check("back", 5, 5, "a retained")
		check("back", 9, 9.5, "a ambiguous")
		check("back", 8, 9.5, "a retained") // it had it for a part of that for sure
		check("back", 10.2, 10.3, "none")
		check("back", 11, 11.5, "none")
		check("back", 27, 27.5, "none")
		check("back", 28.2, 28.4, "b ambiguous") // a condition tells whole seconds
		check("back", 29, 30, "b live")
		if x := e.Explain(addr("10.0.0.1"), time.Unix(0, at(9))); x.Rule != "overlap" || x.Chosen.Name != "a" || !strings.Contains(x.Why, "interrupted") {
			t.Errorf("%+v", x)
		}
		if x := e.Explain(addr("10.0.0.1"), time.Unix(0, at(15))); x.Rule != "none" || !strings.Contains(x.Why, "unseen") {
			t.Errorf("%+v", x)
		}
		after(10)
		e.store.remove(b.object(t))
		check("later", 41, 41.5, "b retained")
		for i := range 2 * maxGaps { // what is remembered is bounded
			after(1)
			e.store.onBookmark(kindPod)
			e.store.markUnreachable(kindPod, errors.New("away"))
			after(float64(i % 7))
			e.store.replace(kindPod, nil)
			if n := len(*e.store.index.watch.gaps.Load()); n > maxGaps {
				t.Fatalf("%d gaps", n)
			}
		}
	})
}

// twoOwners puts two pods with one address into the API, the first of which is
// to go.
func twoOwners(t *testing.T, a *api) {
	t.Helper()
	a.put(t, podSpec{name: "was", ips: "10.0.0.1", ready: rfc(-200)}.yaml())
	a.put(t, podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}.yaml())
}

// From the end of a watch to the list that stands in for what it has missed,
// however long that takes, nobody is named for sure who may have gone.
func TestForgottenChanges(t *testing.T) {
	for _, old := range []bool{false, true} {
		t.Run(fmt.Sprint("old=", old), func(t *testing.T) {
			inBubble(t, func(a *api) {
				a.old = old
				twoOwners(t, a)
			}, func(t *testing.T, r *run) {
				r.api.remove(t, podSpec{name: "was"}.yaml())
				after(20)
				r.api.put(t, podSpec{name: "news", ips: "10.0.0.9", ready: rfc(20)}.yaml())
				after(0)
				lists := testutil.ToFloat64(r.metrics.relists[kindPod])
				r.api.set(func(a *api) { a.slow = 8 * time.Second })
				r.api.remove(t, podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}.yaml())
				r.api.compact()
				r.api.interrupt(false) // a new server, which knows nothing of before
				for range 82 {
					after(0.1)
					if got := r.show("10.0.0.1", 20.5, 20.5); got != "a ambiguous" && got != "none" {
						t.Fatalf("%v: %s", time.Since(epoch), got)
					}
				}
				if got := r.show("10.0.0.1", 10, 10); got != "a retained" && got != "a live" {
					t.Error(got)
				}
				after(0.1) // a list is not put off as an attempt to watch is
				if n := testutil.ToFloat64(r.metrics.relists[kindPod]) - lists; n != 1 {
					t.Errorf("%v lists", n)
				}
				r.api.set(func(a *api) { a.slow = 0 })
			})
		})
	}
}

func pods(st *store) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.pods)
}

// A list tells what was when it was asked for. What has happened since then is
// reported by the watch after it.
func TestSlowList(t *testing.T) {
	for _, old := range []bool{false, true} {
		inBubble(t, func(a *api) {
			a.old = old
			twoOwners(t, a)
		}, func(t *testing.T, r *run) {
			knownUntil := r.store.index.watch.KnownUntil
			r.api.remove(t, podSpec{name: "was"}.yaml())
			after(20)
			r.api.set(func(a *api) { a.slow, a.pace = 8*time.Second, 500*time.Millisecond })
			r.api.compact()
			r.api.interrupt(false)
			after(3)
			r.api.remove(t, podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}.yaml())
			r.api.put(t, podSpec{name: "b", ips: "10.0.0.1", ready: rfc(23)}.yaml())
			after(5.3) // listed, and what came after that is not reported yet
			if n := knownUntil(); n < at(17) || n > at(19) {
				t.Errorf("old=%v: known until %v", old, time.Unix(0, n))
			}
			if got := r.show("10.0.0.1", 25, 25); got != "a ambiguous" {
				t.Errorf("old=%v: %s", old, got)
			}
			after(3)
			if knownUntil() != never {
				t.Errorf("old=%v: known until %v", old, time.Unix(0, knownUntil()))
			}
			for when, want := range map[float64]string{10: "a retained", 21: "a retained", 25: "b live", 40: "b live"} {
				if got := r.show("10.0.0.1", when, when); got != want {
					t.Errorf("old=%v, at %v: %s, want %s", old, when, got, want)
				}
			}
			r.api.set(func(a *api) { a.slow, a.pace = 0, 0 })
		})
	}
}

// A server may take its time to tell that it has forgotten what happened.
func TestForgottenLate(t *testing.T) {
	inBubble(t, func(a *api) {
		a.old = true
		twoOwners(t, a)
	}, func(t *testing.T, r *run) {
		r.api.remove(t, podSpec{name: "was"}.yaml())
		after(10)
		r.api.set(func(a *api) { a.hesitates = 3 * time.Second })
		r.api.compact()
		r.api.interrupt(false)
		after(1)
		r.api.remove(t, podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}.yaml())
		after(10)
		if got := r.show("10.0.0.1", 11.5, 12); got != "a ambiguous" {
			t.Error(got)
		}
	})
}

// A watch that resumes reports late a pod of which nothing shows since when it
// has had the address: it may be since it was created.
func TestGoneMeanwhile(t *testing.T) {
	waiting(t, Config{}, func(t *testing.T, e *Enricher) {
		e.store.update(podSpec{name: "was", ips: "10.0.0.1"}.object(t))
		e.store.remove(podSpec{name: "was"}.object(t))
		a, b := podSpec{name: "a", ips: "10.0.0.1"}.object(t), podSpec{name: "b", ips: "10.0.0.2"}.object(t)
		e.store.update(a)
		after(9)
		e.store.onBookmark(kindPod)
		e.store.markUnreachable(kindPod, errors.New("away"))
		after(20)
		e.store.onConnected(kindPod)
		e.store.remove(a)
		e.store.remove(b)
		next := podSpec{name: "next", ips: "10.0.0.1"}.object(t)
		next.created = at(13)
		e.store.update(next)
		after(1)
		e.store.onIdle(kindPod)
		for when, want := range map[float64]string{5: "a retained", 12: "a retained", 15: "a ambiguous", 28: "a ambiguous", 32: "next live"} {
			if got := e.show("10.0.0.1", when, when); got != want {
				t.Errorf("at %v: %s, want %s", when, got, want)
			}
		}
	})
}

// Servers end a watch every 5 to 10 minutes, and it is renewed at once. That is no
// interruption, however much happens. It is one if the next watch comes late.
func TestRenewedWatch(t *testing.T) {
	inBubble(t, func(a *api) {
		twoOwners(t, a)
	}, func(t *testing.T, r *run) {
		knownUntil := r.store.index.watch.KnownUntil
		r.api.remove(t, podSpec{name: "was"}.yaml())
		after(5)
		watches := r.api.asked("watch pods")
		for i := range 40 * 60 / 2 { // 40 minutes in a cluster where pods change all the time
			r.api.put(t, podSpec{name: "busy", ips: "10.0.0.9", extra: fmt.Sprintf("message: %q", fmt.Sprint(i))}.yaml())
			after(2)
			if knownUntil() != never {
				t.Fatalf("after %v: known until %v", time.Since(epoch), time.Unix(0, knownUntil()).UTC())
			}
		}
		if n := r.api.asked("watch pods") - watches; n < 4 || n > 8 {
			t.Errorf("%d watches", n)
		}
		if got := r.show("10.0.0.1", 1000, 1001); got != "a live" {
			t.Error(got)
		}
	})
	waiting(t, Config{}, func(t *testing.T, e *Enricher) {
		after(9)
		e.store.onBookmark(kindPod)
		e.store.onTimedOut(kindPod)
		if w := e.store.index.watch; w.KnownUntil() != never || w.phase != renewing {
			t.Errorf("phase %d", w.phase)
		}
		e.store.onRenewalLate(kindPod)
		if w := e.store.index.watch; w.KnownUntil() != at(8) || w.phase != interrupted {
			t.Errorf("phase %d, known until %v", w.phase, time.Unix(0, w.KnownUntil()))
		}
		e.store.onConnected(kindPod)
		e.store.onTimedOut(kindPod) // before it had caught up
		if w := e.store.index.watch; w.KnownUntil() != at(8) || w.phase != interrupted {
			t.Errorf("phase %d, known until %v", w.phase, time.Unix(0, w.KnownUntil()))
		}
	})
}

// The times at which anybody wrote to an object show that a watch has caught up.
func TestCaughtUpByWrites(t *testing.T) {
	waiting(t, Config{}, func(t *testing.T, e *Enricher) {
		after(9)
		e.store.onBookmark(kindPod)
		e.store.markUnreachable(kindPod, errors.New("away"))
		after(20)
		e.store.onConnected(kindPod) // at 30 s
		p := podSpec{name: "old", ips: "10.0.0.1", created: rfc(-1000)}.yaml()
		write := func(seconds int) string {
			return strings.Replace(p, "name: old", fmt.Sprintf("name: old, managedFields: [{time: %q}]", rfc(seconds)), 1)
		}
		for i, c := range []struct {
			written int
			want    int64
		}{{12, at(8)}, {30, at(8)}, {31, never}} {
			after(0.5)
			var pod corev1.Pod
			if err := yaml.Unmarshal([]byte(write(c.written)), &pod); err != nil {
				t.Fatal(err)
			}
			e.store.update(newPod(&pod))
			if got := e.store.index.watch.KnownUntil(); got != c.want {
				t.Errorf("event %d: known until %v", i, time.Unix(0, got))
			}
		}
	})
}

// A watch that resumes has caught up once it tells of what happened after that.
func TestCatchingUp(t *testing.T) {
	waiting(t, Config{}, func(t *testing.T, e *Enricher) {
		knownUntil := e.store.index.watch.KnownUntil
		pod := func(name string, created float64) *object {
			it := podSpec{name: name, ips: "10.0.0.1"}.object(t)
			it.created, it.newest = at(created), at(created)
			return it
		}
		after(9)
		e.store.onBookmark(kindPod)
		e.store.markUnreachable(kindPod, errors.New("away"))
		after(20)
		e.store.onConnected(kindPod) // at 30 s
		for i := range 20 {
			after(0.2)
			e.store.update(pod(fmt.Sprint("p", i), 11+float64(i)/2))
			if knownUntil() != at(8) {
				t.Fatalf("known until %v", time.Unix(0, knownUntil()))
			}
		}
		e.store.update(pod("clock", 30.5)) // by a clock that is fast
		if knownUntil() != at(8) {
			t.Errorf("known until %v", time.Unix(0, knownUntil()))
		}
		e.store.update(pod("late", 31))
		if knownUntil() != never {
			t.Errorf("known until %v", time.Unix(0, knownUntil()))
		}
	})
}

// Without such an event, it has caught up when nothing more comes for a second.
func TestCatchingUpQuietly(t *testing.T) {
	inBubble(t, func(a *api) { a.old = true }, func(t *testing.T, r *run) {
		knownUntil := r.store.index.watch.KnownUntil
		after(20)
		r.api.interrupt(true)
		for i := range 6 {
			r.api.put(t, podSpec{name: fmt.Sprint("p", i), ips: "10.0.0.1"}.yaml())
		}
		after(1)
		r.api.set(func(a *api) { a.pace = 700 * time.Millisecond })
		r.api.interrupt(false)
		after(4)
		if n := pods(r.store); n < 3 || n == 6 || knownUntil() == never {
			t.Errorf("%d pods, known until %v", n, time.Unix(0, knownUntil()))
		}
		after(4)
		if n := pods(r.store); n != 6 || knownUntil() != never {
			t.Errorf("%d pods, known until %v", n, time.Unix(0, knownUntil()))
		}
	})
}

// A pod that began in the second in which the watch was cut has its address from
// then on, although that second had begun before.
func TestStartAtCut(t *testing.T) {
	inBubble(t, func(a *api) {}, func(t *testing.T, r *run) {
		after(9.7)
		r.api.put(t, podSpec{name: "news", ips: "10.0.0.9"}.yaml())
		after(1)
		r.api.put(t, podSpec{name: "news", ips: "10.0.0.9,10.0.0.8"}.yaml())
		after(0)
		r.api.interrupt(true)
		after(0.2)
		r.api.put(t, podSpec{name: "b", ips: "10.0.0.1", ready: rfc(10)}.yaml())
		after(20)
		r.api.interrupt(false)
		after(5)
		if got := r.show("10.0.0.1", 15, 16); got != "b live" {
			t.Error(got)
		}
	})
}

// A pod that a watch tells of after a list may have begun before that.
func TestBegunBeforeList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		e.store.update(podSpec{name: "a", ips: "10.0.0.1"}.object(t))
		e.store.remove(podSpec{name: "a", ips: "10.0.0.1"}.object(t))
		after(29)
		e.store.onBookmark(kindPod)
		e.store.markUnreachable(kindPod, errors.New("away"))
		after(10.5) // 40.5 s
		e.store.replace(kindPod, nil)
		after(0.7)
		e.store.update(podSpec{name: "b", ips: "10.0.0.1", ready: rfc(40)}.object(t))
		after(5)
		for when, want := range map[float64]string{38: "none", 40.2: "b ambiguous", 40.9: "b ambiguous", 41: "b live"} {
			if got := e.show("10.0.0.1", when, when); got != want {
				t.Errorf("at %v: %s, want %s", when, got, want)
			}
		}
	})
}

// What a list leaves open is said of addresses that pass on.
func TestGaps(t *testing.T) {
	const ip = "10.0.0.1"
	before := podSpec{name: "before", ips: ip, ready: rfc(-100)}
	for _, c := range []struct {
		name string
		then func(t *testing.T, e *Enricher) *object // what is listed at 60 s, after news at 30 s
		want map[float64]string
	}{
		{"a start that is soft", func(t *testing.T, e *Enricher) *object {
			it := podSpec{name: "b", ips: ip}.object(t)
			it.started = at(38)
			return it
		}, map[float64]string{27: "before retained", 33: "before ambiguous", 40: "b ambiguous", 59: "b ambiguous", 61: "b live"}},
		{"a start in the second before the news", func(t *testing.T, e *Enricher) *object {
			return podSpec{name: "b", ips: ip, ready: rfc(29)}.object(t)
		}, map[float64]string{27: "before retained", 29.5: "b ambiguous", 30.5: "b live", 61: "b live"}},
		{"a start in the second up to which all is known", func(t *testing.T, e *Enricher) *object {
			after(0.5)
			return podSpec{name: "b", ips: ip, ready: rfc(28)}.object(t)
		}, map[float64]string{27: "before retained", 28.7: "b ambiguous", 29.5: "b live"}},
		{"about to be deleted for long", func(t *testing.T, e *Enricher) *object {
			it := before.object(t)
			it.deleted = at(10)
			e.store.update(it)
			e.store.update(podSpec{name: "gone", ips: "10.0.0.2"}.object(t))
			return podSpec{name: "b", ips: ip, ready: rfc(50)}.object(t)
		}, map[float64]string{20: "before retained", 27: "before retained", 33: "before ambiguous", 55: "b live"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := watched(t)
				e.store.update(before.object(t))
				after(29)
				it := c.then(t, e)
				e.store.onBookmark(kindPod)
				e.store.markUnreachable(kindPod, errors.New("away"))
				after(30)
				e.store.replace(kindPod, []*object{it})
				after(5)
				for when, want := range c.want {
					if got := e.show(ip, when, when); got != want {
						t.Errorf("at %v: %s, want %s", when, got, want)
					}
				}
			})
		})
	}
}

// What is remembered of interruptions is bounded, and errs on the safe side.
func TestGapsAreBounded(t *testing.T) {
	w := newWatchState(false)
	for i := range int64(2 * maxGaps) {
		w.addGap(at(float64(10*i)), at(float64(10*i+5)), at(20))
	}
	if n := len(*w.gaps.Load()); n != maxGaps {
		t.Errorf("%d gaps", n)
	}
	for when, want := range map[float64]bool{19: false, 22: true, 28: true, 10*2*maxGaps - 8: true, 10*2*maxGaps - 2: false} {
		if got := w.Gap(at(when), at(when)); got != want {
			t.Errorf("at %v: %v, want %v", when, got, want)
		}
	}
}

// The usual ways of a watch through its phases, and what readers see on them.
func TestWatchState(t *testing.T) {
	const second = int64(time.Second)
	w := newWatchState(false)
	for i, step := range []struct {
		seconds float64
		do      func(now int64)
		phase   phase
		known   float64 // -1: all
	}{
		{0, func(now int64) { w.onListRequested(now) }, relisting, -1},
		{0.5, func(now int64) { w.onListApplied(now, 0) }, synced, -1},
		{1, func(now int64) { w.onConnected(now) }, resuming, -1}, // the list is fresh
		{1.5, func(now int64) { w.onIdle(now) }, resuming, -1},
		{2, func(now int64) { w.onIdle(now) }, synced, -1},
		{9, func(now int64) { w.onEvent(0, now) }, synced, -1},
		{10, func(int64) { w.onDisconnected(false) }, interrupted, 7},
		{10, func(now int64) { w.onEvent(now, now) }, interrupted, 7}, // it was on its way when the watch ended
		{11, func(now int64) { w.markUnreachable(false, now) }, interrupted, 7},
		{20, func(now int64) { w.onConnected(now) }, resuming, 7},
		{20.5, func(now int64) { w.onEvent(now-8*second, now) }, resuming, 7}, // an old one
		{21.5, func(now int64) { w.onEvent(now, now) }, synced, -1},
		{30, func(int64) { w.onDisconnected(true) }, interrupted, 19.5},
		{31, func(now int64) { w.onListRequested(now) }, relisting, 19.5},
		{32, func(now int64) { w.markUnreachable(false, now) }, interrupted, 19.5},
		{33, func(now int64) { w.onListRequested(now) }, relisting, 19.5},
		{40, func(now int64) { w.onListApplied(now, 0) }, resuming, 31}, // as old as its request
		{40.5, func(now int64) { w.onBookmark(now) }, synced, -1},
		{70, func(now int64) { w.onListRequested(now) }, relisting, -1}, // without the permission to watch
		{70, func(now int64) { w.onListApplied(now, 0) }, synced, -1},
	} {
		step.do(at(step.seconds))
		known := at(step.known)
		if step.known < 0 {
			known = never
		}
		if w.phase != step.phase || w.KnownUntil() != known {
			t.Errorf("step %d: phase %d, known until %v; want %d, %v", i, w.phase, time.Unix(0, w.KnownUntil()).UTC(), step.phase, step.known)
		}
	}
	for seconds, want := range map[float64]bool{8: false, 19: false, 19.5: true, 42: true, 71: true, 72.5: false} {
		if got := w.Gap(at(seconds), at(seconds)); got != want {
			t.Errorf("a gap at %v: %v, want %v", seconds, got, want)
		}
	}
	if !w.reportedLate(at(69)) || w.reportedLate(at(70)) || w.expired || !w.relisted() {
		t.Errorf("%+v", w)
	}
}

// The table of watchState, cell by cell.
func TestWatchTransitions(t *testing.T) {
	const before, now = 100 * int64(time.Second), 110 * int64(time.Second)
	reach := [...]func(w *watchState){ // the phases, from interrupted
		relisting:   func(w *watchState) { w.onListRequested(before) },
		synced:      func(w *watchState) { w.onConnected(before); w.onBookmark(before) },
		resuming:    func(w *watchState) { w.onConnected(before) },
		interrupted: func(*watchState) {},
		renewing:    func(w *watchState) { w.onConnected(before); w.onBookmark(before); w.onTimedOut() },
	}
	all := func(p phase) [5]phase { return [5]phase{p, p, p, p, p} }
	asIs := [5]phase{relisting, synced, resuming, interrupted, renewing}
	caughtUp := [5]phase{relisting, synced, synced, interrupted, renewing}
	const asBefore = -1
	for name, event := range map[string]struct {
		do    func(w *watchState)
		next  [5]phase
		known int64 // but for a dash of the table
	}{
		"list requested":     {func(w *watchState) { w.onListRequested(now) }, all(relisting), asBefore},
		"list, fresh":        {func(w *watchState) { w.listRequested = now - int64(idleAfter); w.onListApplied(now, 0) }, all(synced), never},
		"list, late":         {func(w *watchState) { w.listRequested = now - 5e9; w.onListApplied(now, 0) }, all(resuming), now - 5e9 - tolerance},
		"snapshot":           {func(w *watchState) { w.listRequested = 0; w.onListApplied(now, 0) }, all(synced), never},
		"connected":          {func(w *watchState) { w.onConnected(now) }, [5]phase{resuming, resuming, resuming, resuming, synced}, asBefore},
		"timed out":          {func(w *watchState) { w.onTimedOut() }, [5]phase{interrupted, renewing, interrupted, interrupted, renewing}, asBefore},
		"an old event":       {func(w *watchState) { w.onEvent(before, now) }, asIs, asBefore},
		"a new event":        {func(w *watchState) { w.onEvent(now, now) }, caughtUp, never},
		"bookmark":           {func(w *watchState) { w.onBookmark(now) }, caughtUp, never},
		"idle":               {func(w *watchState) { w.onIdle(now) }, caughtUp, never},
		"ended":              {func(w *watchState) { w.onDisconnected(false) }, all(interrupted), before - tolerance},
		"ended for good":     {func(w *watchState) { w.onDisconnected(true) }, all(interrupted), before - tolerance},
		"server unreachable": {func(w *watchState) { w.markUnreachable(false, now) }, all(interrupted), before - tolerance},
	} {
		for from, next := range event.next {
			w := newWatchState(false)
			w.onListApplied(before, 0)
			w.onDisconnected(false)
			reach[from](w)
			if w.phase != phase(from) {
				t.Fatalf("phase %d, want %d", w.phase, from)
			}
			known := w.KnownUntil()
			if dash := event.next == caughtUp && next != synced; !dash && event.known != asBefore {
				known = event.known
			}
			event.do(w)
			if w.phase != next || w.KnownUntil() != known {
				t.Errorf("%s in phase %d: phase %d, known until %d; want %d, %d", name, from, w.phase, w.KnownUntil(), next, known)
			}
		}
	}
}
