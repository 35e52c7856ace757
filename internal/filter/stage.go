package filter

import "github.com/netobserv/goflow2-kube-enricher/flow"

// Next accepts the records that are wanted. Its methods are called by one goroutine.
type Next interface {
	flow.Handler
	// Skip is called in place of HandleFlow for a record that is not wanted.
	Skip()
}

// Stage passes on the records for which the expression is true. It is a [flow.Handler],
// used by one goroutine at a time.
type Stage struct {
	f    *Filter
	next Next
	eval eval
}

// NewStage makes a worker's stage that passes its records on to next.
func (f *Filter) NewStage(next Next) *Stage { return &Stage{f: f, next: next} }

// HandleFlow implements [flow.Handler]. It does not change r and does not keep it.
func (s *Stage) HandleFlow(r *flow.Record) {
	if s.wants(r) {
		s.next.HandleFlow(r)
	} else {
		s.next.Skip()
	}
}

// wants reports whether the expression is true for r. Lines that are not JSON objects
// have no fields, and are wanted.
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

// Matcher returns a function that reports whether the expression is true for a record. One
// goroutine uses it at a time. It does not keep the record.
func (f *Filter) Matcher() func(*flow.Record) bool { return (&Stage{f: f}).wants }

// Idle implements [flow.Handler].
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }
