package enrich

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// The churn of the simulation. Each address goes from pod to pod.
const (
	churnAddrs   = 80
	churnPods    = 5000
	churnPerSet  = 5                // pods of a ReplicaSet
	churnLag     = 3 * time.Second  // of watch events, at most
	churnExport  = 60 * time.Second // of flows after their end, at most
	churnSettled = churnLag + time.Second
	churnCut     = 20 * time.Second         // without a watch, at most
	churnCutLag  = time.Duration(tolerance) // of watch events where watches are interrupted
)

// churnPace is how long pods live, and how soon their addresses are used again.
type churnPace struct {
	lives [][2]time.Duration // one of them, between these bounds
	reuse time.Duration      // an address is used again at most so long after it is free
	wait  time.Duration      // how long a record may wait for a pod
}

var (
	// Most pods live for some time, and flows are from any of it.
	churnMixed = churnPace{wait: 2 * time.Second, reuse: 5 * time.Second, lives: [][2]time.Duration{
		{2 * time.Second, 10 * time.Second}, {2 * time.Second, 10 * time.Second},
		{10 * time.Second, time.Minute}, {10 * time.Second, time.Minute}, {10 * time.Second, time.Minute}, {10 * time.Second, time.Minute}, {10 * time.Second, time.Minute},
		{time.Minute, 5 * time.Minute}, {time.Minute, 5 * time.Minute}, {time.Minute, 5 * time.Minute},
	}}
	// Pods come and go within the lag of the watch. Many records are ambiguous.
	churnExtreme = churnPace{wait: churnLag + time.Second, lives: [][2]time.Duration{{2 * time.Second, 6 * time.Second}}, reuse: 2 * time.Second}
)

// tenancy is the truth about a pod: it owned the address from up to down, in
// nanoseconds after epoch; down is exclusive.
type tenancy struct {
	name, workload string
	addr           netip.Addr
	up, down       time.Duration
	watched        bool          // the address was ever shown to the watch, or listed
	announced      time.Duration // when the API server had the address
	skew           time.Duration // of the exporter's clock
	removed        time.Duration // when it was gone from the API, if its containers ran on
}

// overlaps reports whether the pod owned the address at any time of [from, to].
func (o *tenancy) overlaps(from, to time.Duration) bool { return from < o.down && o.up <= to }

// near is the same for a flow of a time in which nobody owned the address: the
// pod's time ends when the watch tells so, and there is the tolerance.
func (o *tenancy) near(from, to time.Duration) bool {
	return from <= o.down+churnLag+time.Duration(tolerance) && o.up-time.Duration(tolerance) <= to
}

// churnEvent is something that happens to the enricher.
type churnEvent struct {
	at time.Duration
	do func()
}

// churnObject is a state of an object, at the API server since at.
type churnObject struct {
	at   time.Duration
	item func() *object
	gone bool
}

// churnInterval is from when to when there was no watch.
type churnInterval struct{ from, to time.Duration }

func (c churnInterval) overlaps(from, to time.Duration) bool { return from <= c.to && c.from <= to }

// churnFlow is a flow with the address of owner, nobody's if that is nil.
type churnFlow struct {
	owner    *tenancy
	addr     netip.Addr
	from, to time.Duration
	export   time.Duration
	skew     time.Duration // of the exporter's clock
}

// churnWorld is a simulated cluster.
type churnWorld struct {
	r       *rand.Rand
	pace    churnPace
	pods    []*tenancy
	history map[netip.Addr][]*tenancy
	objects [numKinds][][]churnObject // for each object, its states
	flows   []churnFlow
	cuts    []churnInterval // of the pods' watch

	kubelets *kubeletPace    // nil without their model
	renewals []churnInterval // of the pods' watch: it ends in time, and goes on
	resumes  bool            // a watch that was cut goes on where it ended; else pods are listed again
}

// cut interrupts the watch of pods again and again, once addresses are known
// to pass on.
func (w *churnWorld) cut() {
	var begin time.Duration
	for _, h := range w.history {
		begin = max(begin, h[1].up+churnSettled)
	}
	end := w.pods[len(w.pods)-1].down
	for at := begin; at < end; {
		back := at + w.between(time.Second, churnCut)
		w.cuts = append(w.cuts, churnInterval{at, back})
		at = back + w.between(10*time.Second, 2*time.Minute)
	}
}

// listed returns the pods as they are at a time.
func (w *churnWorld) listed(at time.Duration) []*object {
	var items []*object
	for _, states := range w.objects[kindPod] {
		n, _ := slices.BinarySearchFunc(states, at, func(o churnObject, at time.Duration) int {
			if o.at <= at {
				return -1
			}
			return 1
		})
		if n > 0 && !states[n-1].gone {
			items = append(items, states[n-1].item())
		}
	}
	return items
}

func (w *churnWorld) upTo(d time.Duration) time.Duration {
	return time.Duration(w.r.Int64N(int64(d) + 1))
}

func (w *churnWorld) between(a, b time.Duration) time.Duration { return a + w.upTo(b-a) }

func churnTime(d time.Duration) metav1.Time {
	return metav1.NewTime(epoch.Add(d).Truncate(time.Second))
}

func newChurnWorld(seed uint64, pace churnPace) *churnWorld {
	w := &churnWorld{r: rand.New(rand.NewPCG(seed, 1)), pace: pace, history: map[netip.Addr][]*tenancy{}}
	free := make([]time.Duration, churnAddrs)
	for i := range free {
		free[i] = w.upTo(20 * time.Second)
	}
	pods := churnPods
	if race.Enabled {
		pods /= 5
	}
	for i := range pods {
		n := 0
		for k := range free { // the address that is free first
			if free[k] < free[n] {
				n = k
			}
		}
		addr := netip.AddrFrom4([4]byte{10, 128, byte(n >> 8), byte(n)})
		if n%4 == 0 {
			addr = netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(n >> 8), 15: byte(n)})
		}
		up := free[n] + 3*time.Second // room for what comes before the address
		if i >= churnAddrs {
			up = free[n] + w.upTo(pace.reuse)
		}
		o := &tenancy{
			name: fmt.Sprintf("pod-%d", i), workload: fmt.Sprintf("app-%d", i/churnPerSet), addr: addr, up: up,
		}
		w.live(o, i)
		free[n] = o.down
		w.pods = append(w.pods, o)
		w.history[addr] = append(w.history[addr], o)
		w.talk(o)
	}
	w.talkToNobody()
	return w
}

// talkToNobody makes flows of addresses that nobody owns.
func (w *churnWorld) talkToNobody() {
	for _, addr := range slices.SortedFunc(maps.Keys(w.history), netip.Addr.Compare) {
		h := w.history[addr]
		for i, o := range h[1:] {
			if gap := o.up - h[i].down; gap > 0 && w.r.IntN(4) == 0 {
				from := w.between(h[i].down, o.up-1)
				to := w.between(from, o.up-1)
				w.flows = append(w.flows, churnFlow{nil, o.addr, from, to, to + w.upTo(churnExport), o.skew})
			}
		}
	}
}

// live decides on the life of a pod: what happens on its node, and what its
// kubelet and others tell the API server of it, and when.
func (w *churnWorld) live(o *tenancy, number int) {
	bounds := w.pace.lives[w.r.IntN(len(w.pace.lives))]
	length := w.between(bounds[0], bounds[1])
	var (
		set     = fmt.Sprintf("app-%d-5d9c7b8f64", number/churnPerSet)
		created = o.up - w.between(200*time.Millisecond, 2*time.Second)
		shown   = o.up + w.upTo(300*time.Millisecond) // the kubelet tells
		stop    = o.up + length                       // of the containers
		states  []churnObject
		pod     = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: o.name, Namespace: "churn", UID: types.UID("uid-" + o.name), CreationTimestamp: churnTime(created),
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set, UID: types.UID("uid-" + set), Controller: new(true)}},
			},
			Spec:   corev1.PodSpec{NodeName: "n1"},
			Status: corev1.PodStatus{Phase: corev1.PodPending},
		}
	)
	tell := func(at time.Duration, change func()) {
		change()
		p := pod.DeepCopy()
		states = append(states, churnObject{at: at, item: func() *object { return newPod(p) }})
	}
	tell(created, func() {})
	tell(shown, func() {
		start, ready := churnTime(created), churnTime(o.up)
		pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &start
		pod.Status.PodIP = o.addr.String()
		pod.Status.PodIPs = []corev1.PodIP{{IP: o.addr.String()}}
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: ready}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	})
	finished := func() {
		pod.Status.Phase = corev1.PodSucceeded
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{FinishedAt: churnTime(stop)},
		}}}
	}
	var reported, gone time.Duration
	switch w.r.IntN(10) {
	case 0, 1, 2, 3: // it finishes, and is deleted when somebody tidies up
		o.down = stop + w.upTo(time.Second)
		reported = max(shown, stop+w.upTo(time.Second))
		tell(reported, finished)
		gone = max(reported, o.down) + w.upTo(2*time.Minute)
	case 4, 5, 6, 7: // it is deleted, with grace
		asked := max(shown, stop-w.upTo(5*time.Second))
		tell(asked, func() {
			deadline := churnTime(asked + 30*time.Second)
			pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &deadline, new(int64(30))
		})
		o.down = stop + w.upTo(500*time.Millisecond)
		reported = max(asked, stop+w.upTo(time.Second))
		tell(reported, finished)
		gone = max(reported, o.down) + w.upTo(time.Second)
	default: // it is deleted by force, and its address is free at once
		gone = max(shown, stop)
		o.down = gone
		now := churnTime(gone)
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &now, new(int64)
	}
	p := pod.DeepCopy()
	states = append(states, churnObject{at: gone, item: func() *object { return newPod(p) }, gone: true})
	w.objects[kindPod] = append(w.objects[kindPod], states)
	if number%churnPerSet == 0 {
		rs := &object{
			kind: kindReplicaSet, namespace: "churn", name: set, uid: "uid-" + set,
			owners: []ownerRef{{noKind, "Deployment", o.workload, "uid-" + o.workload, true, "", ""}},
		}
		// It is there before its pods, but its watch may tell later.
		w.objects[kindReplicaSet] = append(w.objects[kindReplicaSet], []churnObject{{at: max(0, o.up-10*time.Second), item: func() *object { return rs }}})
	}
}

// talk makes the flows of a pod, about one in four seconds.
func (w *churnWorld) talk(o *tenancy) {
	for n := 1 + int((o.down-o.up)/(4*time.Second)); n > 0; n-- {
		from := w.between(o.up, o.down-1)
		to := from
		if w.r.IntN(4) > 0 {
			to = w.between(from, min(o.down-1, from+churnExport))
		}
		w.flows = append(w.flows, churnFlow{o, o.addr, from, to, to + w.upTo(churnExport), o.skew})
	}
}

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
