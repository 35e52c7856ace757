package enrich

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What follows simulates kubelets: what they do with a pod's sandbox, and what they
// tell the API server of it. It is written from these files of kubernetes/kubernetes:
//
//   - pkg/kubelet/kubelet.go. SyncPod sends a status, and then lets the runtime make the
//     sandbox, pull images and start containers. The address is in the status of the next
//     turn. Since 1.36, OnPodSandboxReady sends the condition PodReadyToStartContainers
//     before the images are pulled, without the address. SyncTerminatingPod stops the
//     containers and the sandbox, and then sends the final status.
//   - pkg/kubelet/status/status_manager.go. Conditions change when they are sent; all times
//     are cut to seconds (normalizeStatus); the phase is terminal only when no container can
//     run (mergePodStatus); a pod that is deleted with grace is removed with a grace of 0
//     once it is terminal (canBeDeleted).
//   - pkg/kubelet/kuberuntime/kuberuntime_manager.go and pkg/kubelet/pod_workers.go. A
//     container that has ended is shown as terminated until the next turn finds it in its
//     back-off, 10 to 15 s later, and as waiting from then on. The back-off begins with 10 s and
//     doubles up to 5 min. The sandbox stays.
//   - pkg/kubelet/pod_workers.go, calculateEffectiveGracePeriod. A pod that is deleted by
//     force is gone from the API at once, and its containers have the grace period of its
//     spec.
//   - pkg/kubelet/eviction and convertToAPIContainerStatuses: a pod that is evicted fails
//     with DisruptionTarget, and the finishedAt of a container whose state is lost is null.
//   - staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go, BeforeDelete: a deletion
//     moves deletionTimestamp to the request plus the grace period.

// kubeletPace is what a simulated cluster does.
type kubeletPace struct {
	lives    [2]time.Duration // how long pods run, from and to
	reuse    time.Duration    // an address is used again at most so long after it is free
	crashing float64          // the part of the pods whose containers crash again and again
	late     float64          // the part of the pods whose images are to be pulled, for 4 to 20 s
	lag      time.Duration    // of watch events, at most
	api      time.Duration    // by so much the API server's clock is fast
	node     time.Duration    // by so much the nodes' clocks are wrong at most
	exporter time.Duration    // by so much the exporters' clocks are wrong at most
	noReady  bool             // kubelets do not send PodReadyToStartContainers, as before 1.29
	moves    bool             // sandboxes die, and their pods get other addresses
}

// kubelet simulates the life of a pod. Times are true ones, after epoch.
type kubelet struct {
	r       *rand.Rand
	pace    *kubeletPace
	clock   time.Duration // of the node, by so much it is fast
	early   bool          // PodReadyToStartContainers is sent before images are pulled
	pod     *corev1.Pod
	states  []churnObject
	last    time.Duration // when the last state was sent
	machine string        // the virtual machine that the pod is of
	target  bool          // it migrates to the pod
	bounds  ownershipBounds
}

// ownershipBounds is what the times of a pod's object say of its address. They are whole seconds, so
// they leave room even if all clocks agree.
type ownershipBounds struct {
	notBefore    time.Duration // it had no address
	certainFrom  time.Duration // it had the address from then on
	certainUntil time.Duration
	notAfter     time.Duration
}

// second returns the true time at which the second of a stamp begins.
func (k *kubelet) second(at time.Duration) time.Duration {
	return (at + k.clock).Truncate(time.Second) - k.clock
}

func (k *kubelet) upTo(d time.Duration) time.Duration { return time.Duration(k.r.Int64N(int64(d) + 1)) }

func (k *kubelet) between(a, b time.Duration) time.Duration { return a + k.upTo(b-a) }

// stamp is a time by the node's clock, as the API has it.
func (k *kubelet) stamp(at time.Duration) metav1.Time { return churnTime(at + k.clock) }

// apiStamp is a time by the API server's clock.
func (k *kubelet) apiStamp(at time.Duration) metav1.Time { return churnTime(at + k.pace.api) }

// tell sends the pod as it is.
func (k *kubelet) tell(at time.Duration) {
	at = max(at, k.last)
	k.last = at
	k.pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubelet", Time: new(k.apiStamp(at))}}
	p := k.pod.DeepCopy()
	k.states = append(k.states, churnObject{at: at, item: func() *object { return newPod(p) }})
}

// gone removes the pod from the API.
func (k *kubelet) gone(at time.Duration) {
	at = max(at, k.last)
	p := k.pod.DeepCopy()
	k.states = append(k.states, churnObject{at: at, item: func() *object { return newPod(p) }, gone: true})
	k.last = at
}

// condition sets a condition of the pod, whose time changes only with its status.
func (k *kubelet) condition(what corev1.PodConditionType, is bool, at time.Duration) {
	status := corev1.ConditionFalse
	if is {
		status = corev1.ConditionTrue
	}
	for i := range k.pod.Status.Conditions {
		if c := &k.pod.Status.Conditions[i]; c.Type == what {
			if c.Status != status {
				c.Status, c.LastTransitionTime = status, k.stamp(at)
			}
			return
		}
	}
	k.pod.Status.Conditions = append(k.pod.Status.Conditions, corev1.PodCondition{Type: what, Status: status, LastTransitionTime: k.stamp(at)})
}

// sandbox sets PodReadyToStartContainers, if the kubelet sends it.
func (k *kubelet) sandbox(is bool, at time.Duration) {
	if !k.pace.noReady {
		k.condition(corev1.PodReadyToStartContainers, is, at)
	}
}

func (k *kubelet) address(a netip.Addr) {
	k.pod.Status.PodIP, k.pod.Status.PodIPs = a.String(), []corev1.PodIP{{IP: a.String()}}
}

func (k *kubelet) running(at time.Duration) {
	for i := range k.pod.Status.ContainerStatuses {
		c := &k.pod.Status.ContainerStatuses[i]
		c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: k.stamp(at)}}
	}
}

// exited shows the containers as terminated, unless they are already.
func (k *kubelet) exited(at time.Duration, code int32) {
	for i := range k.pod.Status.ContainerStatuses {
		if c := &k.pod.Status.ContainerStatuses[i]; c.State.Terminated == nil {
			if c.LastTerminationState.Terminated != nil && c.State.Waiting != nil { // in its back-off
				c.State = c.LastTerminationState
				continue
			}
			t := &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: k.stamp(at)}
			if c.State.Running != nil {
				t.StartedAt = c.State.Running.StartedAt
			}
			c.State = corev1.ContainerState{Terminated: t}
		}
	}
}

// begin makes the pod, whose sandbox gets the address at up. It returns when the
// containers began to run.
func (k *kubelet) begin(name string, a netip.Addr, up time.Duration, policy corev1.RestartPolicy, late bool) (running time.Duration) {
	seen := up - k.between(300*time.Millisecond, 1500*time.Millisecond) // by the kubelet
	created := seen - k.between(30*time.Millisecond, 800*time.Millisecond)
	k.bounds.notBefore = k.second(seen)
	k.pod = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "churn", UID: types.UID("uid-" + name), CreationTimestamp: k.apiStamp(created)},
		Spec: corev1.PodSpec{
			RestartPolicy: policy, TerminationGracePeriodSeconds: new(int64(30)),
			Containers: []corev1.Container{{Name: "a"}, {Name: "b"}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if k.machine != "" {
		k.pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "kubevirt.io/v1", Kind: machineKind, Name: k.machine, UID: types.UID("uid-" + k.machine), Controller: new(true)}}
	}
	if k.target {
		k.pod.Labels = map[string]string{migrationJob: "job-" + name}
	}
	k.tell(created)
	k.pod.Spec.NodeName = "n1"
	k.pod.Status.StartTime = new(k.stamp(seen))
	for _, c := range k.pod.Spec.Containers {
		k.pod.Status.ContainerStatuses = append(k.pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		})
	}
	k.sandbox(false, seen)
	k.condition(corev1.PodReady, false, seen)
	k.tell(seen + k.upTo(100*time.Millisecond))
	if k.early {
		k.sandbox(true, up+50*time.Millisecond)
		k.tell(up + k.between(50*time.Millisecond, 150*time.Millisecond))
		k.bounds.certainFrom = k.last
	}
	running = up + k.between(100*time.Millisecond, 300*time.Millisecond)
	if late {
		running += k.between(4*time.Second, 19*time.Second)
	}
	turn := running + k.between(50*time.Millisecond, 1200*time.Millisecond) // the runtime is asked every second
	k.sandbox(true, turn)
	k.address(a)
	k.running(running)
	k.pod.Status.Phase = corev1.PodRunning
	k.condition(corev1.PodReady, true, turn)
	k.tell(turn)
	if !k.early {
		k.bounds.certainFrom = min(turn, k.second(running)+time.Second)
	}
	return running
}

// crash lets containers end and be started again from the time given until the
// other one. It returns when they ended last, or 0 if they run.
func (k *kubelet) crash(from, until time.Duration) (ended time.Duration) {
	backoff := time.Duration(0)
	for {
		exit := from + k.between(time.Second, 5*time.Second)
		if exit >= until {
			return 0
		}
		shown := exit + k.upTo(time.Second)
		k.exited(exit, 1)
		k.condition(corev1.PodReady, false, shown)
		restart := max(shown+k.upTo(500*time.Millisecond), exit+backoff)
		if shown < until {
			k.tell(shown)
		}
		if wait := shown + k.between(10*time.Second, 15*time.Second); wait < min(restart, until) {
			for i := range k.pod.Status.ContainerStatuses {
				c := &k.pod.Status.ContainerStatuses[i]
				c.LastTerminationState = c.State
				c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
				c.RestartCount++
			}
			k.tell(wait)
		}
		if restart >= until {
			return exit
		}
		for i := range k.pod.Status.ContainerStatuses {
			if c := &k.pod.Status.ContainerStatuses[i]; c.State.Terminated != nil {
				c.LastTerminationState = c.State
			}
		}
		k.running(restart)
		k.condition(corev1.PodReady, true, restart)
		k.tell(restart + k.upTo(time.Second))
		backoff = min(max(2*backoff, 10*time.Second), 5*time.Minute)
		from = restart
	}
}

// terminal sends the status of a pod whose sandbox was stopped at down.
func (k *kubelet) terminal(phase corev1.PodPhase, down time.Duration) {
	sent := max(down, k.last) + k.between(10*time.Millisecond, 300*time.Millisecond)
	k.bounds.notAfter = sent
	k.pod.Status.Phase = phase
	k.sandbox(false, sent)
	k.condition(corev1.PodReady, false, sent)
	k.tell(sent)
}

// finish lets the containers end by themselves at a time. It returns when the
// address is free.
func (k *kubelet) finish(stop time.Duration) (down time.Duration) {
	shown := stop + k.upTo(time.Second)
	k.bounds.certainUntil = k.second(stop)
	k.exited(stop, 0)
	k.tell(shown)
	down = max(shown, k.last) + k.between(50*time.Millisecond, 900*time.Millisecond)
	k.terminal(corev1.PodSucceeded, down)
	k.asked(k.last+k.upTo(2*time.Minute), 0)
	k.gone(k.last + k.upTo(300*time.Millisecond))
	return down
}

// asked sets what the API server notes of a deletion, by its clock.
func (k *kubelet) asked(at time.Duration, grace int64) {
	at = max(at, k.last)
	k.pod.DeletionTimestamp = new(k.apiStamp(at + time.Duration(grace)*time.Second))
	k.pod.DeletionGracePeriodSeconds = new(grace)
	k.last = at
}

// remove lets the pod be deleted with grace. The containers have ended at ended, or
// run if that is 0.
func (k *kubelet) remove(ask, ended time.Duration) (down time.Duration) {
	ask = max(ask, k.last)
	k.asked(ask, 30)
	request := k.pod.DeletionTimestamp.Add(-30 * time.Second)
	k.tell(ask)
	stop := ask + k.between(20*time.Millisecond, 200*time.Millisecond)
	if ended == 0 {
		stop += k.upTo(5 * time.Second)
		if k.r.IntN(10) == 0 {
			stop = ask + 30*time.Second
		}
		k.exited(stop, 143)
	} else {
		k.exited(ended, 1)
	}
	k.bounds.certainUntil = k.second(max(ask, ended))
	if ended == 0 {
		k.bounds.certainUntil = k.second(stop)
	}
	down = stop + k.between(50*time.Millisecond, 500*time.Millisecond)
	k.terminal(corev1.PodFailed, down)
	k.pod.DeletionTimestamp, k.pod.DeletionGracePeriodSeconds = &metav1.Time{Time: request}, new(int64)
	k.gone(k.last + k.between(150*time.Millisecond, 2*time.Second))
	return down
}

// force lets the pod be deleted by force.
func (k *kubelet) force(ask time.Duration) (down time.Duration) {
	ask = max(ask, k.last)
	k.bounds.certainUntil, k.bounds.notAfter = k.second(ask), ask+30*time.Second
	k.asked(ask, 0)
	k.gone(ask)
	down = ask + k.between(100*time.Millisecond, 3*time.Second)
	if k.r.IntN(5) == 0 {
		down = ask + k.between(3*time.Second, 30*time.Second)
	}
	return down
}

// evict lets the node's kubelet evict the pod.
func (k *kubelet) evict(at time.Duration) (down time.Duration) {
	at = max(at, k.last)
	stop := at + k.between(50*time.Millisecond, time.Second)
	k.bounds.certainUntil = k.second(stop)
	k.exited(stop, 137)
	if k.r.IntN(3) == 0 { // its state was lost
		k.pod.Status.ContainerStatuses[1].State = corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "ContainerStatusUnknown"},
		}
	}
	down = stop + k.between(50*time.Millisecond, 500*time.Millisecond)
	k.condition(corev1.DisruptionTarget, true, down+20*time.Millisecond)
	k.pod.Status.Reason = "Evicted"
	k.terminal(corev1.PodFailed, down)
	k.asked(k.last+k.between(time.Second, 2*time.Minute), 0)
	k.gone(k.last + k.upTo(300*time.Millisecond))
	return down
}

// move lets the sandbox die at a time, and makes a new one with another address. It
// returns when that one got it. Until then the status shows the old address.
func (k *kubelet) move(at time.Duration, to netip.Addr) (up time.Duration) {
	at = max(at, k.last)
	shown := at + k.between(100*time.Millisecond, 1200*time.Millisecond)
	k.exited(at, 137)
	k.sandbox(false, shown)
	k.condition(corev1.PodReady, false, shown)
	k.tell(shown)
	up = shown + k.between(300*time.Millisecond, 2*time.Second)
	turn := up + k.between(200*time.Millisecond, 1500*time.Millisecond)
	k.sandbox(true, turn)
	k.address(to)
	k.running(up + 100*time.Millisecond)
	k.condition(corev1.PodReady, true, turn)
	k.tell(turn)
	return up
}

// newKubeletWorld simulates a cluster of so many pods, with few addresses of which
// each goes from pod to pod.
func newKubeletWorld(seed uint64, pace kubeletPace, pods int) *churnWorld {
	const addrs = 60
	w := &churnWorld{r: rand.New(rand.NewPCG(seed, 2)), pace: churnPace{wait: 2 * time.Second}, history: map[netip.Addr][]*tenancy{}, kubelets: &pace}
	clocks := make([]time.Duration, 6)
	exporters := make([]time.Duration, len(clocks))
	for i := range clocks {
		clocks[i] = w.between(-pace.node, pace.node)
		exporters[i] = w.between(-pace.exporter, pace.exporter)
	}
	free := make([]time.Duration, addrs)
	for i := range free {
		free[i] = 5*time.Second + w.upTo(20*time.Second)
	}
	for i := range pods {
		n := 0
		for k := range free { // the address that is free first
			if free[k] < free[n] {
				n = k
			}
		}
		o := &tenancy{
			name: fmt.Sprint("pod-", i), workload: fmt.Sprint("pod-", i), addr: netip.AddrFrom4([4]byte{10, 128, 0, byte(n)}),
			up: free[n] + w.upTo(pace.reuse), skew: exporters[n%len(clocks)],
		}
		k := &kubelet{r: w.r, pace: &pace, clock: clocks[n%len(clocks)], early: n%2 == 0}
		w.runPod(k, o, i)
		free[n] = o.down
		w.pods = append(w.pods, o)
		w.history[o.addr] = append(w.history[o.addr], o)
		w.talk(o)
		w.objects[kindPod] = append(w.objects[kindPod], k.states)
	}
	w.talkToNobody()
	return w
}

// addMachines adds virtual machines that migrate again and again. It is written from these
// files of kubevirt/kubevirt:
//
//   - pkg/virt-controller/watch/migration/migration.go. A migration creates a pod for the target,
//     with the label migrationJobUID, and the annotation migration-target-ready-timestamp once
//     the target's node has told since when the machine runs there.
//   - pkg/virt-handler: it tells so when it sees the machine run, in whole seconds
//     (TargetNodeDomainReadyTimestamp of the VirtualMachineInstance's status).
//
// OVN-Kubernetes gives the target the address of the source.
func (w *churnWorld) addMachines(machines, migrations int, stay [2]time.Duration) {
	pace := *w.kubelets
	for m := range machines {
		addr := netip.AddrFrom4([4]byte{10, 128, 1, byte(m)})
		var source *kubelet
		at := w.between(5*time.Second, 60*time.Second)
		for n := range migrations {
			k := &kubelet{r: w.r, pace: &pace, clock: w.between(-pace.node, pace.node), early: m%2 == 0}
			o := &tenancy{name: fmt.Sprintf("vm-%d-%d", m, n), addr: addr, up: at, skew: w.between(-pace.exporter, pace.exporter)}
			o.workload = fmt.Sprint("vm-", m)
			k.machine, k.target = o.workload, n > 0
			k.begin(o.name, addr, at, corev1.RestartPolicyNever, false)
			failed := n > 0 && n < migrations-1 && w.r.IntN(5) == 0 // the machine stays where it is
			if n > 0 {
				moved := k.last + w.between(5*time.Second, 30*time.Second)
				if failed {
					o.up, o.down = moved, moved // it never has the address
					w.pods = append(w.pods, o)
					k.finish(moved)
					at = k.last
					w.objects[kindPod] = append(w.objects[kindPod], k.states)
					continue
				}
				told := moved + w.upTo(300*time.Millisecond)
				o.up = moved
				k.pod.Annotations = map[string]string{migrationReady: k.apiStamp(told).UTC().String()}
				k.tell(told + w.between(200*time.Millisecond, 2*time.Second))
				last := w.history[addr][len(w.history[addr])-1]
				last.down = moved
				source.finish(moved + w.between(time.Second, 10*time.Second))
				w.objects[kindPod] = append(w.objects[kindPod], source.states)
				w.talk(last)
			}
			w.history[addr] = append(w.history[addr], o)
			w.pods = append(w.pods, o)
			source = k
			at = k.last + w.between(stay[0], stay[1])
		}
		last := w.history[addr][len(w.history[addr])-1]
		last.down = source.remove(at, 0)
		w.objects[kindPod] = append(w.objects[kindPod], source.states)
		w.talk(last)
	}
	slices.SortStableFunc(w.pods, func(a, b *tenancy) int { return cmp.Compare(a.down, b.down) })
}

// runPod decides on the life of a pod.
func (w *churnWorld) runPod(k *kubelet, o *tenancy, number int) {
	pace := k.pace
	end := w.r.IntN(10)
	policy := corev1.RestartPolicyAlways
	if end < 3 {
		policy = []corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure}[w.r.IntN(2)]
	}
	late := w.r.Float64() < pace.late
	running := k.begin(o.name, o.addr, o.up, policy, late)
	o.announced, o.bounds = k.last, &k.bounds
	stop := max(running, k.last) + w.between(pace.lives[0], pace.lives[1])
	if pace.moves && w.r.IntN(4) == 0 { // the rest of its life is elsewhere
		o.down = max(k.last, stop)
		to := netip.AddrFrom4([4]byte{10, 129, byte(number >> 8), byte(number)})
		second := &tenancy{name: o.name, workload: o.workload, addr: to, skew: o.skew, watched: true, up: k.move(o.down, to)}
		second.announced = k.last
		second.down = k.remove(k.last+w.between(pace.lives[0], pace.lives[1]), 0)
		w.history[to] = append(w.history[to], second)
		w.talk(second)
		return
	}
	ended := time.Duration(0)
	if policy == corev1.RestartPolicyAlways && w.r.Float64() < pace.crashing {
		ended = k.crash(running, stop)
	}
	switch {
	case policy != corev1.RestartPolicyAlways:
		o.down = k.finish(max(stop, k.last))
	case end < 7:
		o.down = k.remove(stop, ended)
	case end < 9:
		o.down = k.evict(stop)
	default:
		o.down = k.force(stop)
		o.removed = k.last
	}
}
