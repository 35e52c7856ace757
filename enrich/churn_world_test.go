package enrich

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
	bounds         *ownershipBounds
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
