package enrich

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// staleAfter is how long a kind may be unreachable before Stale reports it.
const staleAfter = time.Minute

// Explanation is who owned an address at a time, and why. Its JSON is the answer of /explain, and
// is for users: names and values do not change.
type Explanation struct {
	Addr   string     `json:"addr"`           // unmapped, without a zone
	Time   time.Time  `json:"time"`           // in UTC
	Status string     `json:"status"`         // as in the field PStatus
	Port   string     `json:"port,omitempty"` // such as 443/TCP, if one was asked for
	Rule   string     `json:"rule"`           // overlap, service, egressip, node, endpoint, shared, network, before, after or none
	Why    string     `json:"why"`            // the rule as a sentence
	Chosen *NamedEnd  `json:"chosen"`         // null if nobody is named
	Owners []Claimant `json:"owners"`         // pods in order of their start, then Services and others
}

// NamedEnd is what records show of an owner. See [flow.Object] for the meaning of its fields.
type NamedEnd struct {
	Kind         string `json:"kind"`
	Namespace    string `json:"namespace,omitempty"`
	Name         string `json:"name"`
	UID          string `json:"uid,omitempty"`
	Workload     string `json:"workload,omitempty"`
	WorkloadKind string `json:"workload_kind,omitempty"`
	Node         string `json:"node,omitempty"`
	Network      string `json:"network,omitempty"` // of a pod
	Warn         string `json:"warn,omitempty"`
}

// Claimant is a pod, Service or Node that owns or owned the address.
type Claimant struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	// From and To bound the time over which it owned the address. Soft reports whether that may
	// have begun later than From. From is missing if it is not known, and To while it owns the
	// address.
	From *time.Time `json:"from,omitempty"`
	To   *time.Time `json:"to,omitempty"`
	Soft bool       `json:"soft"`
	// YieldsFrom is the time from which on the pod only claims what no other pod does: it was to be
	// deleted by then, or may have ended unseen. It is missing if there is no such time.
	YieldsFrom *time.Time `json:"yields_from,omitempty"`
	// CertainFrom is the time from which on a pod owned the address for certain, if that is later
	// than From. FromBy and ToBy are how From and To are known: event, ready, start_time, finished
	// or migration.
	CertainFrom *time.Time `json:"certain_from,omitempty"`
	FromBy      string     `json:"from_by,omitempty"`
	ToBy        string     `json:"to_by,omitempty"`
	// As is what a Service, EgressIP, Node or EndpointSlice has the address for: see class.
	As      string   `json:"as,omitempty"`
	Ports   []string `json:"ports,omitempty"`   // of a Service
	Network string   `json:"network,omitempty"` // other than the cluster's own
	MAC     string   `json:"mac,omitempty"`
}

// Explain returns who a flow at a time is attributed to by an address alone, without a MAC, and
// why. The address may be an IPv4-mapped one and have a zone. Explain takes the lock that changes
// of the cluster take; look-ups take none and do not wait for it. It is for any goroutine.
func (e *Enricher) Explain(addr netip.Addr, at time.Time) Explanation {
	return e.ExplainPort(addr, 0, 0, at)
}

// ExplainPort is Explain for a port of a protocol, which has the number that IP has for it. Both
// are 0 if they are not known.
func (e *Enricher) ExplainPort(addr netip.Addr, protocol, number uint32, at time.Time) Explanation {
	p := newPort(protocol, number)
	addr = addr.Unmap().WithZone("")
	t := at.UnixNano()
	x := Explanation{Addr: addr.String(), Time: at.UTC(), Status: flow.StatusNone.String(), Rule: "none", Owners: []Claimant{}}
	if p != 0 {
		x.Port = p.String()
	}
	x.Why = fmt.Sprintf("nobody is known to have owned the address then, nor within %v", time.Duration(tolerance))
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	found := e.store.index.find(addr)
	if found == nil {
		return x
	}
	var end flow.End
	if found.inSeveralNetworks() {
		end = x.explainNetworks(e.store.index, found, p, t)
	} else {
		end = x.explainTimeline(e.store.index, found, p, t)
	}
	x.Status = end.Status.String()
	if o := end.Object; o != nil {
		x.Chosen = &NamedEnd{o.Kind, o.Namespace, o.Name, o.UID, o.Workload, o.WorkloadKind, o.Node, o.Network, o.Warn}
	}
	x.Owners = found.claimants()
	return x
}

// explainTimeline notes who is named by a timeline and why, and returns it.
func (x *Explanation) explainTimeline(ix *index, found *entry, p port, t int64) (end flow.End) {
	s, rule := ix.findOwner(found, t, t)
	switch rule {
	case ruleNone:
		x.explainShared(found.static, t)
	case ruleGap:
		x.Why = "nobody is known to have owned the address then, and a pod may have had it unseen while the watch was interrupted"
	case ruleStatic, ruleStaticNear:
		end = x.explainStatic(ix, found.static, rule, p, t)
	case ruleInterrupted:
		end = found.asUncertain(s.end.Object)
		x.Rule, x.Why = "overlap", "the pod owned the address when the watch was interrupted; another one may do so by now"
	case ruleOverlap:
		end = s.end
		x.Rule, x.Why = "overlap", explainOverlap(s, found.spans, t)
	case ruleBefore:
		end = s.end
		x.Rule, x.Why = "before", fmt.Sprintf("nobody owned the address then; the pod did from %v on, within %v", clock(s.from), time.Duration(tolerance))
	case ruleAfter:
		end = s.end
		x.Rule, x.Why = "after", fmt.Sprintf("nobody owned the address then; the pod did until %v, within %v", clock(s.to), time.Duration(tolerance))
	}
	return end
}

// explainNetworks is explainTimeline for an address that is in other networks than the cluster's
// own.
func (x *Explanation) explainNetworks(ix *index, found *entry, p port, t int64) flow.End {
	d := decider{ix: ix, from: t, to: t}
	d.src = side{entry: found, port: p, static: found.staticEnd(ix, p, t, t)}
	d.decide()
	end, _ := d.owner(&d.src)
	won, n := d.only(&d.src, d.hasWon)
	switch {
	case n > 1:
		x.Rule = "network"
		x.Why = "pods have the address in several networks: a record names the one of its own, by the node of its exporter, its other end, or its MAC addresses"
	case n == 1 && end.Object != nil && end.Object.Kind == kindPod.String():
		x.explainTimeline(ix, won, p, t)
		x.Why += "; in network " + end.Object.Network + ", which records of another network do not reach"
		if !won.inNetwork().primary {
			x.Why = strings.TrimSuffix(x.Why, ", which records of another network do not reach")
		}
	case end.Object != nil:
		x.explainStatic(ix, found.static, staticRule(found.static, t), p, t)
	default:
		x.explainShared(found.static, t)
	}
	return end
}

// staticRule returns by which rule a Service or the like is named.
func staticRule(s *statics, t int64) rule {
	if s.find(t, t) == nil {
		return ruleStaticNear
	}
	return ruleStatic
}

// clock returns a time for a sentence, in UTC.
func clock(t int64) string { return time.Unix(0, t).UTC().Format(time.RFC3339Nano) }

// claimants returns all that own or owned an address. It is for the writer.
func (e *entry) claimants() []Claimant {
	list := []Claimant{}
	stamp := func(t int64) *time.Time {
		if t == never || t == always {
			return nil
		}
		u := time.Unix(0, t).UTC()
		return &u
	}
	for s := range e.allSpans() {
		o := s.owner()
		c := Claimant{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, UID: o.UID, From: stamp(s.from), To: stamp(s.to), Soft: s.soft}
		if s.yieldsFrom < s.to {
			c.YieldsFrom = stamp(s.yieldsFrom)
		}
		c.explainTimes(s, e.spans, stamp)
		if o.MAC != 0 {
			c.MAC = string(flow.AppendMAC(nil, o.MAC))
		}
		if s.attached != nil {
			c.Network = o.Network
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b Claimant) int { return a.From.Compare(*b.From) })
	return append(list, staticClaimants(e.staticSpans, stamp)...)
}

// allSpans yields the spans of an address in all networks. It is for the writer.
func (e *entry) allSpans() iter.Seq[*span] {
	return func(yield func(*span) bool) {
		for s := e.spans; s != nil; s = s.next {
			if !yield(s) {
				return
			}
		}
		for _, n := range e.past.networks {
			for s := n.spans; s != nil; s = s.next {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Stale returns a sentence that names the kinds that have been unreachable for more than a minute,
// and since when; it is empty if there is none. Flows from before that time still get the right
// names. It is for any goroutine.
func (e *Enricher) Stale() string {
	st := e.store
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now().UnixNano()
	var kinds []string
	for k := range numKinds {
		f := &st.feeds[k]
		since := f.watch.UnreachableSince()
		if !f.started || f.forbidden || since == 0 || now-since <= int64(staleAfter) {
			continue
		}
		s := fmt.Sprintf("%s not up to date since %s", k.resource(), time.Unix(0, since).UTC().Format(time.RFC3339))
		if f.err != nil {
			s += ": " + plain(f.err).Error()
		}
		kinds = append(kinds, s)
	}
	return strings.Join(kinds, "; ")
}
