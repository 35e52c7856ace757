package enrich

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// churnScore is what came of the flows.
type churnScore struct {
	all       int
	flows     int // whose owner the watch ever showed
	named     int // rightly
	wrong     int
	ambiguous int // and marked so, with the owner among those in the warning
	unnamed   int // and marked so
	nobodys   int // flows of an address that nobody owned, or nobody known
	steady    int // flows of 3 s from either end of a pod's time, exported after the pod was announced
	lost      int // and not named rightly and without doubt
	undecided int // flows whose owner does not follow from the times in the API, by any rule
	examples  []string
}

func (s *churnScore) String() string {
	part := func(n, of int) string { return fmt.Sprintf("%d (%.3f %%)", n, 100*float64(n)/float64(max(1, of))) }
	return fmt.Sprintf("%d flows, wrongly named %s; %d of pods that were ever seen: named rightly %s, ambiguous %s, unnamed %s",
		s.all, part(s.wrong, s.all), s.flows, part(s.named, s.flows), part(s.ambiguous, s.flows), part(s.unnamed, s.flows))
}

// add judges one answer. A record is wrong if it names, without a warning, a pod
// that did not own the address at any time of the flow. Only where nobody did,
// which is the contract's condition for the tolerance, a pod is right that had
// owned it shortly before, or did so soon after. It reports whether the answer is wrong.
func (s *churnScore) add(w *churnWorld, f *churnFlow, end flow.End) (wrong bool) {
	var owner, named *tenancy
	owned, watched := false, false // by anybody, by one that was ever shown
	for _, o := range w.history[f.addr] {
		if o.overlaps(f.from, f.to) {
			owner, owned, watched = o, true, watched || o.watched
		}
		if end.Object != nil && end.Object.Name == o.name {
			named = o
		}
	}
	s.all++
	if watched {
		s.flows++
		if w.undecided(f) {
			s.undecided++
		}
	}
	ambiguous := end.Status == flow.StatusAmbiguous
	right := named != nil && (named.overlaps(f.from, f.to) || !owned && (ambiguous || named.near(f.from, f.to)))
	switch {
	case !right && named != nil && !(ambiguous && (strings.Contains(end.Object.Warn, owner.name+".") || w.warnsRightly(end.Object.Warn, f))):
		s.wrong++
		wrong = true
		if len(s.examples) < 10 {
			s.examples = append(s.examples, fmt.Sprintf("%s, flow [%v, %v] exported %v: named %s %s [%v, %v), owned by %v",
				f.addr, f.from, f.to, f.export, named.name, end.Status, named.up, named.down, owner))
		}
	case !watched:
		s.nobodys++
	case named == nil:
		s.unnamed++
	case ambiguous:
		s.ambiguous++
	default:
		s.named++
	}
	if o := f.owner; w.kubelets != nil && len(w.cuts) == 0 && o != nil && f.steady(w.kubelets.lag) {
		s.steady++
		if ambiguous || named != o {
			s.lost++
			s.examples = append(s.examples, fmt.Sprintf("steady: %s, flow [%v, %v] exported %v, named %s, owned by %v", f.addr, f.from, f.to, f.export, show(end), o))
			return true
		}
	}
	return wrong
}

// steady reports whether a flow ran while nothing happened to its pod, and was exported
// after the pod was announced.
func (f *churnFlow) steady(lag time.Duration) bool {
	o, end := f.owner, f.owner.down
	if o.removed != 0 { // and what it did after it was deleted does not count
		end = o.removed
	}
	return f.from >= o.up+3*time.Second && f.to <= end-3*time.Second && f.export >= o.announced+lag+500*time.Millisecond
}

// warnsRightly reports whether a warning says, and rightly so, that the owner may be a pod that was
// not seen.
func (w *churnWorld) warnsRightly(warn string, f *churnFlow) bool {
	return strings.Contains(warn, "interrupted") && slices.ContainsFunc(w.cuts, func(c churnInterval) bool { return c.overlaps(f.from-churnCutLag, f.to+churnCutLag) })
}

// naive is what others do: the first pod in the index that has the address.
type naive map[netip.Addr][]*object

func (x naive) update(it *object) {
	for _, a := range it.addrs {
		if i := slices.IndexFunc(x[a], func(o *object) bool { return o.uid == it.uid }); i >= 0 {
			x[a][i] = it
		} else {
			x[a] = append(x[a], it)
		}
	}
}

func (x naive) remove(it *object) {
	for _, a := range it.addrs {
		x[a] = slices.DeleteFunc(x[a], func(o *object) bool { return o.uid == it.uid })
	}
}

func (x naive) lookup(a netip.Addr) flow.End {
	if list := x[a]; len(list) > 0 {
		return flow.End{Object: &flow.Object{Name: list[0].name}, Status: flow.StatusLive}
	}
	return flow.End{}
}

// churnSink takes the records that leave the stage.
type churnSink func(r *flow.Record)

func (s churnSink) HandleFlow(r *flow.Record) { s(r) }
func (churnSink) Idle() bool                  { return false }

// TestChurn lets pods come and go on few addresses, with watches that lag and
// flows that come late, and compares the names with the truth.
func TestChurn(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream bool // the events of a kind keep their order
		pace   churnPace
		cut    bool // the watch of pods is interrupted, and pods are listed again
		named  float64
		seeds  uint64
	}{
		{"a watch keeps the order of a kind", true, churnMixed, false, 0.995, 2},
		{"only the order of an object is kept", false, churnMixed, false, 0.995, 2},
		{"pods of seconds", true, churnExtreme, false, 0.8, 2},
		{"interrupted", true, churnMixed, true, 0.97, 2},
		{"pods of seconds, interrupted", true, churnExtreme, true, 0.6, 8},
	} {
		for seed := range c.seeds {
			t.Run(fmt.Sprint(c.name, "/", seed), func(t *testing.T) {
				w := newChurnWorld(seed, c.pace)
				if c.cut {
					w.cut()
				}
				synctest.Test(t, func(t *testing.T) {
					scores := runChurn(t, w, c.stream)
					for _, s := range scores[2:] {
						if s.wrong > 0 {
							t.Errorf("%d records name a pod that did not own the address:\n%s", s.wrong, strings.Join(s.examples, "\n"))
						}
						if float64(s.named) < c.named*float64(s.flows) {
							t.Errorf("%d of %d records are named", s.named, s.flows)
						}
					}
				})
			})
		}
	}
}

// runChurn runs a simulation, and returns the scores of the first pod in the index,
// at arrival, as written, and when the watch has caught up.
func runChurn(t *testing.T, w *churnWorld, stream bool) (scores [4]churnScore) {
	e, _, _ := newTest(t, Config{Wait: w.pace.wait}, noSource{})
	e.store.markStarted(kindPod)
	e.store.markStarted(kindNode)
	e.store.markStarted(kindReplicaSet)
	e.store.replace(kindNode, []*object{{kind: kindNode, name: "n1", nodePart: &nodePart{podCIDRs: []netip.Prefix{
		netip.MustParsePrefix("10.128.0.0/15"), netip.MustParsePrefix("fd00::/64"),
	}}}})
	e.store.replace(kindReplicaSet, nil)
	e.store.replace(kindPod, nil)
	time.Sleep(time.Second) // what comes is news, not a belated first list

	var events []churnEvent
	peers := naive{}
	owners := map[string]*tenancy{}
	for _, o := range w.pods {
		owners[o.name] = o
	}
	for k := range numKinds {
		var sent []churnObject
		for _, states := range w.objects[k] {
			var last time.Duration
			for _, o := range states {
				last = max(last, o.at)
				if !stream {
					last = max(last, o.at+w.upTo(churnLag))
				}
				o.at = last
				sent = append(sent, o)
			}
		}
		slices.SortStableFunc(sent, func(a, b churnObject) int { return cmp.Compare(a.at, b.at) })
		var last time.Duration
		lag, turn := time.Duration(0), time.Duration(0)
		for _, o := range sent {
			at := o.at
			if stream { // the lag comes and goes
				if at >= turn {
					most := churnLag
					if w.kubelets != nil {
						most = w.kubelets.lag
					} else if len(w.cuts) > 0 {
						most = churnCutLag
					}
					lag, turn = w.upTo(most), at+w.upTo(2*time.Second)
				}
				last = max(last, at+lag)
				at = last
				if k == kindPod && w.resumes {
					for _, c := range slices.Concat(w.cuts, w.renewals) {
						if c.overlaps(at, at) {
							at = c.to + time.Millisecond + w.upTo(100*time.Millisecond)
							last = at
						}
					}
				} else if k == kindPod && slices.ContainsFunc(w.cuts, func(c churnInterval) bool { return o.at <= c.to && c.from <= at }) {
					continue // it is in the list, or was not seen
				}
			}
			events = append(events, churnEvent{at, func() {
				it := o.item()
				if o.gone {
					e.store.remove(it)
					peers.remove(it)
					return
				}
				e.store.update(it)
				if k == kindPod {
					peers.update(it)
					owners[it.name].watched = owners[it.name].watched || len(it.addrs) > 0
				}
			}})
		}
	}
	for _, c := range w.renewals {
		events = append(events,
			churnEvent{c.from, func() { e.store.onTimedOut(kindPod) }}, churnEvent{c.to, func() { e.store.onConnected(kindPod) }})
	}
	for _, c := range w.cuts {
		if w.resumes {
			events = append(events,
				churnEvent{c.from, func() { e.store.onDisconnected(kindPod, false) }}, churnEvent{c.to, func() { e.store.onConnected(kindPod) }},
				churnEvent{c.to + 5*time.Second, func() { e.store.onIdle(kindPod) }})
			continue
		}
		events = append(events,
			churnEvent{c.from + w.upTo(time.Second), func() { e.store.markUnreachable(kindPod, errors.New("interrupted")) }},
			churnEvent{c.to, func() {
				items := w.listed(c.to)
				e.store.replace(kindPod, slices.Clone(items))
				clear(peers)
				for _, it := range items {
					peers.update(it)
					owners[it.name].watched = owners[it.name].watched || len(it.addrs) > 0
				}
			}})
	}
	type answer struct {
		flow                            *churnFlow
		naive, arrived, waited, settled flow.End
		known                           string // what was known, if the name is wrong
	}
	answers := make([]answer, len(w.flows))
	left := 0
	stage := e.NewStage(churnSink(func(r *flow.Record) {
		answers[r.Msg.SequenceNum].waited = r.Ends[0]
		left++
	}))
	for i := range w.flows {
		f, a := &w.flows[i], &answers[i]
		a.flow = f
		from, to := epoch.Add(f.from+f.skew).UnixNano(), epoch.Add(f.to+f.skew).UnixNano()
		look := func(end *flow.End) func() { return func() { *end = e.Lookup(f.addr, from, to) } }
		events = append(events,
			churnEvent{f.export, func() {
				a.naive = peers.lookup(f.addr)
				look(&a.arrived)()
				r := &flow.Record{}
				r.Msg.SequenceNum, r.Msg.SrcAddr = uint32(i), f.addr.AsSlice()
				r.Msg.TimeReceivedNs = uint64(epoch.Add(f.export).UnixNano())
				r.Extra.HasStart, r.Msg.TimeFlowStartNs = true, uint64(from)
				r.Extra.HasEnd, r.Msg.TimeFlowEndNs = true, uint64(to)
				stage.HandleFlow(r)
			}},
			churnEvent{f.export + w.pace.wait, func() { stage.Idle() }},
			churnEvent{f.export + churnSettled, func() {
				look(&a.settled)()
				for _, end := range []flow.End{a.waited, a.settled} {
					if a.known == "" && new(churnScore).add(w, f, end) {
						a.known = e.describe(f.addr, f.from)
					}
				}
			}})
	}
	slices.SortStableFunc(events, func(a, b churnEvent) int { return cmp.Compare(a.at, b.at) })
	var swept time.Duration
	for _, ev := range events {
		for ; swept+sweepEvery < ev.at; swept += sweepEvery {
			e.store.expire()
		}
		time.Sleep(time.Until(epoch.Add(ev.at)))
		ev.do()
	}
	if left != len(answers) {
		t.Errorf("%d records left the stage, want %d", left, len(answers))
	}
	unsettled := map[string]int{}
	for i := range answers {
		a := &answers[i]
		for k, end := range []flow.End{a.naive, a.arrived, a.waited, a.settled} {
			if s := &scores[k]; s.add(w, a.flow, end) && len(s.examples) <= 8 {
				s.examples[len(s.examples)-1] += a.known
			}
		}
		if o := a.settled.Object; o != nil && o.Workload != owners[o.Name].workload {
			unsettled[o.Workload]++
		}
	}
	for k, what := range []string{"first pod in the index, at arrival", "at arrival", "as written, after -kube.wait", "when the watch has caught up"} {
		t.Logf("%-35s %s", what, &scores[k])
	}
	if len(unsettled) > 0 {
		t.Errorf("wrong workloads: %v", slices.Sorted(maps.Keys(unsettled)))
	}
	return scores
}
