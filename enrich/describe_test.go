package enrich

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// describe returns what is known of an address around a time, given after epoch,
// for the message of a failure.
func (e *Enricher) describe(a netip.Addr, at time.Duration) string {
	const around = 40 * time.Second
	entry := e.store.index.find(a)
	if entry == nil {
		return "nothing is known"
	}
	after := func(t int64) time.Duration { return time.Duration(t - epoch.UnixNano()).Round(time.Millisecond) }
	show := func(t int64) string {
		if t == never {
			return "never"
		}
		return after(t).String()
	}
	near := func(from, to int64) bool { return after(from) < at+around && (to == never || after(to) > at-around) }
	var b strings.Builder
	for s := entry.spans; s != nil; s = s.next {
		if near(s.from, s.to) {
			fmt.Fprintf(&b, "\n\t%s: possible %s, from %s, certain %s, announced %s, yields %s, to %s (soft %v, exact %v, grace %v)",
				s.pod.obj.Name, show(s.possibleFrom), show(s.from), show(s.certainFrom), show(s.announced), show(s.yieldsFrom), show(s.to),
				s.soft, s.exact, time.Duration(s.grace))
		}
	}
	for i := 0; i <= len(entry.past.older); i++ {
		if g := entry.segment(i); g.end.Object != nil && near(g.from, g.to) {
			fmt.Fprintf(&b, "\n\t[%s, %s) %s %s (uncertain %v, in tolerance %v)", show(g.from), show(g.to), g.end.Object.Name, g.end.Status, g.uncertain, g.inTolerance)
		}
	}
	return b.String()
}
