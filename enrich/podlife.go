package enrich

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultGrace is spec.terminationGracePeriodSeconds where it is absent, in seconds.
const defaultGrace = 30

// readLife reads what a Pod says of its life.
func (o *object) readLife(p *corev1.Pod) {
	s := &p.Status
	o.started, o.grace, o.migration = unix(s.StartTime), defaultGrace, newMigration(p)
	if g := p.Spec.TerminationGracePeriodSeconds; g != nil && *g >= 0 && *g < int64(24*time.Hour/time.Second) {
		o.grace = int32(*g)
	}
	if o.requested = o.deleted; o.requested != 0 {
		if g := p.DeletionGracePeriodSeconds; g != nil {
			o.requested -= *g * int64(time.Second)
		} else { // a snapshot that was written by hand
			o.requested -= int64(o.grace) * second
		}
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		t := unix(&c.LastTransitionTime)
		o.lastTransition = max(o.lastTransition, t)
		switch isTrue := c.Status == corev1.ConditionTrue; {
		case c.Type == corev1.PodReadyToStartContainers && isTrue:
			o.ready = t
		case c.Type == corev1.PodReadyToStartContainers:
			o.notReady = t
		case c.Type == corev1.DisruptionTarget && isTrue:
			o.disrupted = t
		}
	}
	o.readContainers(p)
	o.stamped = max(o.stamped, o.started, o.lastTransition, o.lastExit)
	o.newest = max(o.newest, o.stamped)
}

// readContainers finds out whether the pod has stopped, and when.
//
// A kubelet shows a container that it is about to restart as terminated, too, and the pod's sandbox
// and address stay (kubernetes/kubernetes, pkg/kubelet/container/helpers.go,
// ShouldContainerBeRestarted, and pkg/kubelet/kubelet_pods.go, getPhase). So all containers must
// have ended, and none may be restarted: because of its restart policy, or because the pod is being
// deleted. In the latter case finishedAt is when the pod stopped only if it is from after the second
// of the request: else it may be that of a crash.
func (o *object) readContainers(p *corev1.Pod) {
	s := &p.Status
	all, known, regular := true, true, 0
	count := func(c *corev1.ContainerStatus, spec *corev1.Container, sidecar bool) {
		if r := c.State.Running; r != nil {
			all = false
			o.noteStart(unix(&r.StartedAt))
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			o.lastExit = max(o.lastExit, unix(&t.FinishedAt))
		}
		t := c.State.Terminated
		if t == nil {
			return
		}
		o.noteStart(unix(&t.StartedAt))
		at := unix(&t.FinishedAt)
		o.lastExit = max(o.lastExit, at)
		known = known && at != 0
		if !sidecar && isRestarted(p, spec, t) {
			o.restartable = true
		}
	}
	for i := range s.InitContainerStatuses {
		c := &s.InitContainerStatuses[i]
		spec := findContainer(p.Spec.InitContainers, c.Name)
		sidecar := spec != nil && spec.RestartPolicy != nil && *spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
		if t := c.State.Terminated; t != nil && !sidecar { // it ended before the others began
			o.noteStart(unix(&t.StartedAt))
			o.lastExit = max(o.lastExit, unix(&t.FinishedAt))
			continue
		}
		count(c, spec, true) // a sidecar ends after the others, and is not restarted then
	}
	for i := range s.EphemeralContainerStatuses {
		count(&s.EphemeralContainerStatuses[i], nil, true)
	}
	for i := range s.ContainerStatuses {
		c := &s.ContainerStatuses[i]
		all = all && c.State.Terminated != nil
		regular++
		count(c, findContainer(p.Spec.Containers, c.Name), false)
	}
	all = all && regular > 0 && regular >= len(p.Spec.Containers)
	phaseEnded := s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed
	crash := o.restartable && o.lastExit <= max(o.requested, o.disrupted)
	o.stopped = phaseEnded || all && (!o.restartable || o.requested != 0 && !crash && known)
	if o.exitUnknown = !known; o.stopped && all && known && !crash {
		o.finished = o.lastExit
	}
}

// noteStart notes when a container started, 0 if that is unknown.
func (o *object) noteStart(at int64) {
	o.stamped = max(o.stamped, at)
	if at != 0 && (o.firstStart == 0 || at < o.firstStart) {
		o.firstStart = at
	}
}

func findContainer(list []corev1.Container, name string) *corev1.Container {
	if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}

// isRestarted reports whether a container that has ended so would be restarted while its pod is not
// being deleted. The container's spec may be nil.
func isRestarted(p *corev1.Pod, c *corev1.Container, t *corev1.ContainerStateTerminated) bool {
	policy := cmp.Or(p.Spec.RestartPolicy, corev1.RestartPolicyAlways)
	if c != nil {
		for i := range c.RestartPolicyRules { // the first that applies decides
			if e := c.RestartPolicyRules[i].ExitCodes; e != nil &&
				slices.Contains(e.Values, t.ExitCode) == (e.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
				return true // the API has no rule that forbids it
			}
		}
		if c.RestartPolicy != nil {
			policy = corev1.RestartPolicy(*c.RestartPolicy)
		}
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return t.ExitCode != 0
	}
	return true
}

const (
	// migrationJob is a label of KubeVirt, on the pods that a virtual machine migrates to. All
	// labels and annotations are in kubevirt/kubevirt, staging/src/kubevirt.io/api/core/v1/types.go.
	migrationJob = "kubevirt.io/migrationJobUID"
	// migrationReady is an annotation of KubeVirt on such a pod: when the virtual machine runs
	// there, as [time.Time.String] prints it.
	migrationReady = "kubevirt.io/migration-target-ready-timestamp"
	// machineKind is the owner of a virtual machine's pods.
	machineKind = "VirtualMachineInstance"
)

// migration is about the pods of one virtual machine: they have the same addresses, one after
// another.
type migration struct {
	machine string // key of the VirtualMachineInstance
	target  bool   // a virtual machine migrates to this pod
	ready   int64  // since when it runs there, in Unix nanoseconds; 0: it does not yet
}

// newMigration returns what a Pod says of a migration, nil if it is no virtual machine's.
func newMigration(p *corev1.Pod) *migration {
	owner := metav1.GetControllerOfNoCopy(p)
	if owner == nil || owner.Kind != machineKind {
		return nil
	}
	m := &migration{machine: cmp.Or(string(owner.UID), p.Namespace+"/"+owner.Name), target: p.Labels[migrationJob] != ""}
	if s := p.Annotations[migrationReady]; s != "" {
		layout := time.RFC3339Nano
		if f := strings.Fields(s); len(f) > 3 { // the zone's name, and perhaps a monotonic clock, follow
			s, layout = strings.Join(f[:3], " "), "2006-01-02 15:04:05.999999999 -0700"
		}
		if t, err := time.Parse(layout, s); err == nil && t.Unix() > 0 {
			m.ready = t.UnixNano()
		}
	}
	return m
}
