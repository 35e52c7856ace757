package page

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/tracing"
)

// trace gathers what the browser traces.
type trace struct {
	mu     sync.Mutex
	events []traced
	done   chan struct{} // has a value once all of a trace is there
}

// traced is an event of a trace. Times are in microseconds.
type traced struct {
	Name     string
	Ph       string
	Pid, Tid int
	Ts, Dur  float64
	Tdur     float64 // processor time of the thread
}

func (t *trace) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = nil
}

// event takes an event of the protocol.
func (t *trace) event(ev any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e := ev.(type) {
	case *tracing.EventDataCollected:
		for _, content := range e.Value {
			var one traced
			if err := json.Unmarshal(content, &one); err != nil {
				return err
			}
			t.events = append(t.events, one)
		}
	case *tracing.EventTracingComplete:
		t.done <- struct{}{}
	}
	return nil
}

// frame is what the page's thread does from one picture to the next.
type frame struct {
	work, wall time.Duration
	parts      map[string]time.Duration // of work
}

// kinds are what the work of events counts as. That of other events counts as that of the event
// they are in.
var kinds = map[string]string{
	"FunctionCall": "script", "FireAnimationFrame": "script", "EventDispatch": "script", "TimerFire": "script", "EvaluateScript": "script",
	"RunMicrotasks": "script", "MinorGC": "memory", "MajorGC": "memory", "UpdateLayoutTree": "style", "Layout": "layout",
	"PrePaint": "paint", "Paint": "paint", "Layerize": "paint", "Commit": "paint",
}

// frames returns the frames of a trace. Each ends with the task in which the page's scripts are
// asked for a frame, and in which style, layout and paint follow.
func (t *trace) frames() (list []frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	isMain := func(e traced) bool { return e.Name == "FireAnimationFrame" }
	first := slices.IndexFunc(t.events, isMain)
	if first < 0 {
		return nil
	}
	main := t.events[first]
	events := slices.DeleteFunc(slices.Clone(t.events), func(e traced) bool { return e.Ph != "X" || e.Pid != main.Pid || e.Tid != main.Tid })
	slices.SortStableFunc(events, func(a, b traced) int { return cmp.Or(cmp.Compare(a.Ts, b.Ts), cmp.Compare(b.Dur, a.Dur)) })
	now := frame{parts: map[string]time.Duration{}}
	type open struct {
		end  float64
		kind string
	}
	var inside []open
	ends := false
	for _, e := range events {
		for len(inside) > 0 && inside[len(inside)-1].end <= e.Ts {
			inside = inside[:len(inside)-1]
		}
		work := time.Duration(e.Tdur * 1000)
		if len(inside) == 0 {
			if e.Name != "RunTask" {
				continue // the trace began or ended within its task
			}
			if ends {
				list = append(list, now)
				now, ends = frame{parts: map[string]time.Duration{}}, false
			}
			now.work += work
			now.wall += time.Duration(e.Dur * 1000)
			now.parts["other"] += work
			inside = append(inside, open{e.Ts + e.Dur, "other"})
			continue
		}
		outer := inside[len(inside)-1].kind
		kind := cmp.Or(kinds[e.Name], outer)
		now.parts[outer] -= work
		now.parts[kind] += work
		inside = append(inside, open{e.Ts + e.Dur, kind})
		ends = ends || isMain(e)
	}
	if ends {
		list = append(list, now)
	}
	return list
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1000) }

func (f frame) String() string {
	var parts []string
	for _, kind := range []string{"script", "style", "layout", "paint", "memory", "other"} {
		parts = append(parts, fmt.Sprintf("%s %.1f", kind, f.parts[kind].Seconds()*1000))
	}
	return fmt.Sprintf("%s (%s; %s by the clock)", ms(f.work), strings.Join(parts, ", "), ms(f.wall))
}
