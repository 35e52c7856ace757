package filter

import "github.com/netobserv/goflow2-kube-enricher/flow"

// Next takes the records that are wanted, and is told of those that are not.
type Next interface {
	flow.Handler
	// Skip says that a record was not wanted.
	Skip()
}

// Stage hands the records on that the expression is true for. It is used by
// one goroutine at a time.
type Stage struct {
	f    *Filter
	next Next
	eval eval
}

// NewStage makes a worker's stage in front of next.
func (f *Filter) NewStage(next Next) *Stage { return &Stage{f: f, next: next} }

// HandleFlow hands r on, or skips it.
func (s *Stage) HandleFlow(r *flow.Record) {
	if s.wants(r) {
		s.next.HandleFlow(r)
	} else {
		s.next.Skip()
	}
}

// wants says whether the expression is true for r. Lines that are no objects
// have no fields that could be asked for, and are wanted.
func (s *Stage) wants(r *flow.Record) bool {
	s.eval.r = r
	if s.f.piped {
		if r.Line != nil && r.Line.Close < 0 {
			return true
		}
		s.eval.unknown = r.Msg.ProtoReflect().GetUnknown()
	}
	return s.f.wanted(&s.eval)
}

// Idle passes the call on.
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }
