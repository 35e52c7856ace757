package enrich

import (
	"fmt"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// How the ends of a pod's time are known: the values of Claimant.FromBy and Claimant.ToBy. Users see
// them: they do not change.
const (
	byEvent     = "event"      // the watch showed it then
	byReady     = "ready"      // the condition PodReadyToStartContainers, or the start of a container
	byStartTime = "start_time" // status.startTime or the creation, which may be too early
	byFinished  = "finished"   // finishedAt of its last container
	byMigration = "migration"  // the virtual machine moved then
)

// explainOverlap returns why the pod of a segment is named for a time in it.
func explainOverlap(s *segment, spans *span, t int64) string {
	pod := findSpan(spans, s.end.Object, t)
	switch ambiguous := s.end.Status == flow.StatusAmbiguous; {
	case ambiguous && strings.HasPrefix(s.end.Object.Warn, interruptedWarning):
		return "the pod may have owned the address then, or one that came and went while the watch was interrupted"
	case ambiguous && s.uncertain:
		return "the address passed from pod to pod around then, and either may have owned it; the one that begins is named, if it was announced by then"
	case ambiguous:
		return "several pods claimed the address then; the one with the better known or the latest start is named"
	case s.inTolerance:
		return fmt.Sprintf("nobody is known to have owned the address then; the pod did within %v, and no other one may have", time.Duration(tolerance))
	case pod != nil && pod.pod.migration != nil && pod.pod.migration.ready != 0 && t >= pod.pod.migration.ready:
		return "the pod's virtual machine ran there then, since it had migrated to the pod"
	case pod != nil && pod.pod.migration != nil && spans.next != nil:
		return "the pod's virtual machine ran there then, and had not migrated to another pod"
	case pod != nil && t < pod.certainFrom:
		return "nobody else claimed the address then, and the pod may have had it before it was announced"
	}
	return "the pod owned the address then"
}

// findSpan returns the span in which an object is named at a time, nil if there is none.
func findSpan(first *span, o *flow.Object, t int64) *span {
	for s := first; s != nil; s = s.next {
		if n := s.owner(); n.UID == o.UID && n.Name == o.Name && n.Namespace == o.Namespace && s.from <= t && t < s.to {
			return s
		}
	}
	return nil
}

// explainTimes notes how the ends of a span are known, and what is not certain of them. First is the
// first span of the address.
func (c *Claimant) explainTimes(s, first *span, stamp func(int64) *time.Time) {
	switch {
	case s.soft || s.from < s.certainFrom && s.from < s.announced:
		c.FromBy = byStartTime
	case s.from < s.announced || s.from != s.certainFrom:
		c.FromBy = byReady
	default:
		c.FromBy = byEvent
	}
	if s.certainFrom > s.from && s.certainFrom < s.to {
		c.CertainFrom = stamp(s.certainFrom)
	}
	switch {
	case s.to == never:
	case s.exact:
		c.ToBy = byFinished
	default:
		c.ToBy = byEvent
	}
	m := s.pod.migration
	if m == nil {
		return
	}
	if m.target && m.ready != 0 {
		c.From, c.FromBy, c.CertainFrom = stamp(m.ready), byMigration, nil
	}
	to := s.to
	for o := first; o != nil; o = o.next { // the pod that the virtual machine moved to
		n := o.pod.migration
		if o.pod != s.pod && n != nil && n.machine == m.machine && n.target && n.ready > m.ready && n.ready < to {
			to, c.To, c.ToBy, c.YieldsFrom = n.ready, stamp(n.ready), byMigration, nil
		}
	}
}
