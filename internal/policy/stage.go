package policy

import (
	"sync"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
)

// Stage says in a worker's records what OVN decided. It is a [flow.Handler], used by one
// goroutine at a time.
type Stage struct {
	p    *Policies
	next flow.Handler

	mu     sync.Mutex // guards counts; held for moments only, and never by another worker
	counts map[unique.Handle[Policy]]*counts

	_ [64]byte // keeps the workers' stages out of each other's cache lines
}

// NewStage makes a worker's stage that passes its records on to next.
func (p *Policies) NewStage(next flow.Handler) *Stage {
	s := &Stage{p: p, next: next, counts: make(map[unique.Handle[Policy]]*counts)}
	p.metrics.addStage(s)
	return s
}

// HandleFlow implements [flow.Handler]. It does not keep r.
func (s *Stage) HandleFlow(r *flow.Record) {
	if r.Msg.ObservationPointId != 0 {
		s.decide(r)
	}
	s.next.HandleFlow(r)
}

// Idle implements [flow.Handler].
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }

// decide fills in what is known of a sample.
func (s *Stage) decide(r *flow.Record) {
	role := s.p.apps.Load()[uint8(r.Msg.ObservationDomainId>>24)]
	if role == roleNone {
		return
	}
	from, to := r.Interval()
	if d := s.p.numbers.find(newKey(role, r.Msg.ObservationPointId), from, to); d != nil {
		d.write(&r.Extra)
		s.count(r, d.policy)
		return
	}
	// That a flow dropped packets is certain without the flow. What ovn-controller samples of
	// its own has no datapath; OVN 23.03 samples so what it sends to other nodes.
	if role == roleDrop && r.Msg.ObservationDomainId<<8 != 0 {
		s.p.metrics.unknownDrop.write(&r.Extra)
		s.count(r, s.p.metrics.unknownDrop.policy)
		return
	}
	s.count(r, s.p.metrics.unknown)
}

// count counts a sample by its policy. It allocates only for a policy that is new to the
// worker.
func (s *Stage) count(r *flow.Record, p unique.Handle[Policy]) {
	bytes, packets := traffic.Estimate(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[p]
	if c == nil {
		c = new(counts)
		s.counts[p] = c
	}
	c.packets += packets
	c.bytes += bytes
}
