package enrich

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// lifeOf reads a Pod whose times are given as seconds after epoch: T12 is one.
func lifeOf(t *testing.T, text string) *object {
	t.Helper()
	var p corev1.Pod
	if err := yaml.Unmarshal([]byte(expandTimes(text)), &p); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return newPod(&p)
}

// expandTimes puts a time for each T that a number follows.
func expandTimes(text string) (out string) {
	for i := 0; i < len(text); i++ {
		n := 0
		if k, err := fmt.Sscanf(text[i:], "T%d", &n); k == 1 && err == nil && (i == 0 || text[i-1] == ' ') {
			out += `"` + rfc(n) + `"`
			i += len(fmt.Sprint("T", n)) - 1
			continue
		}
		out += text[i : i+1]
	}
	return out
}

// A pod has stopped by its phase, or when its containers have ended and none will be
// restarted (kubernetes/kubernetes, pkg/kubelet/container/helpers.go).
func TestStopped(t *testing.T) {
	const (
		a0      = `{name: a, state: {terminated: {exitCode: 0, finishedAt: T20}}}`
		a1      = `{name: a, state: {terminated: {exitCode: 1, finishedAt: T20}}}`
		b1      = `{name: b, state: {terminated: {exitCode: 1, finishedAt: T30}}}`
		b0      = `{name: b, state: {terminated: {exitCode: 0, finishedAt: T30}}}`
		bRuns   = `{name: b, state: {running: {startedAt: T10}}}`
		bLost   = `{name: b, state: {terminated: {exitCode: 137, reason: ContainerStatusUnknown, finishedAt: null}}}`
		bWaits  = `{name: b, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: T30}}}`
		pod     = `{metadata: {%s}, spec: {%s}, status: {phase: %s, %s}}`
		deleted = `deletionTimestamp: T55, deletionGracePeriodSeconds: 30` // asked for at 25
	)
	containers := func(list ...string) string {
		s := ""
		for _, c := range list {
			s += c + ", "
		}
		return "containerStatuses: [" + s + "]"
	}
	for _, c := range []struct {
		name                   string
		meta, spec, phase, ext string
		stopped                bool
		finished               int // seconds, 0 if unknown
	}{
		{"a crash loop: Always is the default", "", "", "Running", containers(a1), false, 0},
		{"Always, and a success", "", "restartPolicy: Always", "Running", containers(a0), false, 0},
		{"Never", "", "restartPolicy: Never", "Running", containers(a1, b0), true, 30},
		{"Never, and one runs", "", "restartPolicy: Never", "Running", containers(a1, bRuns), false, 0},
		{"Never, and one has no status", "", "restartPolicy: Never, containers: [{name: a}, {name: b}]", "Running", containers(a1), false, 0},
		{"OnFailure, and all succeeded", "", "restartPolicy: OnFailure", "Running", containers(a0, b0), true, 30},
		{"OnFailure, and one failed", "", "restartPolicy: OnFailure", "Running", containers(a0, b1), false, 0},
		{"OnFailure, and one waits", "", "restartPolicy: OnFailure", "Running", containers(a0, bWaits), false, 0},
		{"a container that is never restarted", "", "containers: [{name: a, restartPolicy: Never}]", "Running", containers(a1), true, 20},
		{"a container that is, for its exit code", "", `restartPolicy: Never, containers: [{name: a, restartPolicy: Never,
			restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [1, 2]}}]}]`, "Running", containers(a1), false, 0},
		{"and is not, for another", "", `restartPolicy: Never, containers: [{name: a, restartPolicy: Never,
			restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [3]}}]}]`, "Running", containers(a1), true, 20},
		{"a sidecar runs", "", "restartPolicy: Never, initContainers: [{name: s, restartPolicy: Always}]", "Running",
			containers(a0) + `, initContainerStatuses: [{name: s, state: {running: {}}}]`, false, 0},
		{"a sidecar ended last", "", "restartPolicy: Never, initContainers: [{name: s, restartPolicy: Always}]", "Running",
			containers(a0) + `, initContainerStatuses: [{name: s, state: {terminated: {exitCode: 143, finishedAt: T40}}}]`, true, 40},
		{"a sidecar crashes after the others", "", "restartPolicy: Never, initContainers: [{name: s, restartPolicy: Always}]", "Running",
			containers(a0) + `, initContainerStatuses: [{name: s, state: {waiting: {}}}]`, true, 20},
		{"a sidecar is lost", "", "restartPolicy: Never, initContainers: [{name: s, restartPolicy: Always}]", "Succeeded",
			containers(a0) + `, initContainerStatuses: [{name: s, state: {terminated: {exitCode: 143}}}]`, true, 0},
		{"an init container is lost", "", "restartPolicy: Never, initContainers: [{name: i}]", "Succeeded",
			containers(a0) + `, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0}}}]`, true, 20},
		{"being deleted, and ended since", deleted, "", "Running", containers(b1), true, 30},
		{"being deleted in a crash loop: the end is that of a crash", deleted, "", "Running", containers(a1), false, 0},
		{"failed when it was deleted in a crash loop", deleted, "", "Failed", containers(a1), true, 0},
		{"deleted long after it had ended for good", deleted, "restartPolicy: Never", "Succeeded", containers(a0), true, 20},
		{"removed: the timestamp is the request", "deletionTimestamp: T25, deletionGracePeriodSeconds: 0", "", "Failed", containers(b1), true, 30},
		{"a snapshot without the grace period", "deletionTimestamp: T55", "", "Failed", containers(b1), true, 30},
		{"evicted", "", "", "Failed", containers(a1, b1), true, 30},
		{"evicted, and one container lost", "", "", "Failed", containers(a1, bLost), true, 0},
		{"evicted in a crash loop", "", "", "Failed", containers(a1) + `, conditions: [{type: DisruptionTarget, status: "True", lastTransitionTime: T50}]`, true, 0},
		{"evicted while it waited", "", "", "Failed", containers(bWaits), true, 0},
		{"no container ever ran", "", "", "Failed", "reason: Evicted", true, 0},
	} {
		o := lifeOf(t, fmt.Sprintf(pod, c.meta, c.spec, c.phase, c.ext))
		want := int64(0)
		if c.finished != 0 {
			want = at(float64(c.finished))
		}
		if o.stopped != c.stopped || o.finished != want {
			t.Errorf("%s: stopped %v at %v, want %v at %d", c.name, o.stopped, time.Unix(0, o.finished).Sub(epoch), c.stopped, c.finished)
		}
	}
}

// What a Pod of a virtual machine says of its migration.
func TestMigrationAnnotation(t *testing.T) {
	const vm = `ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: vm1, uid: vmi1, controller: true}]`
	ready := func(s string) string { return vm + `, annotations: {` + migrationReady + `: ` + s + `}` }
	day := time.Date(2026, 11, 28, 9, 55, 0, 0, time.UTC)
	for meta, want := range map[string]*migration{
		"name: a": nil,
		vm:        {machine: "vmi1"},
		vm + ", labels: {" + migrationJob + ": job}":                               {machine: "vmi1", target: true},
		ready(`"2026-11-28 09:55:00 +0000 UTC"`):                                   {machine: "vmi1", ready: day.UnixNano()},
		ready(`"2026-11-28 10:55:00 +0100 CET"`):                                   {machine: "vmi1", ready: day.UnixNano()},
		ready(`"2026-11-28 06:55:00 -0300 -03"`):                                   {machine: "vmi1", ready: day.UnixNano()},
		ready(`"2026-11-28 09:55:00.123456789 +0000 UTC m=+7.1"`):                  {machine: "vmi1", ready: day.UnixNano() + 123456789},
		ready(`"2026-11-28T09:55:00Z"`):                                            {machine: "vmi1", ready: day.UnixNano()},
		ready(`"nonsense"`):                                                        {machine: "vmi1"},
		ready(`"0001-01-01 00:00:00 +0000 UTC"`):                                   {machine: "vmi1"},
		`ownerReferences: [{kind: VirtualMachineInstance, name: v, uid: u}]`:       nil, // it is no controller
		`ownerReferences: [{kind: ReplicaSet, name: v, uid: u, controller: true}]`: nil,
	} {
		got := lifeOf(t, `{metadata: {`+meta+`}}`).migration
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: %+v, want %+v", meta, got, want)
		}
	}
}

// life is a step in a test of pods' lives: a Pod as lifeOf reads it, at a time in seconds
// after epoch.
type life struct {
	at   float64
	pod  string
	gone bool
}

// Pods as a watch shows them over time. The first list, at 0, was empty.
func TestLives(t *testing.T) {
	const (
		meta    = `metadata: {name: %s, namespace: ns, uid: uid-%s, creationTimestamp: T%d%s}`
		running = `, conditions: [{type: PodReadyToStartContainers, status: "True", lastTransitionTime: T%d}]`
	)
	// pod returns a Pod that was created and seen by its kubelet at a time.
	pod := func(name string, created int, ip, spec, status string) string {
		if ip != "" {
			ip = `, podIPs: [{ip: ` + ip + `}]`
		}
		return fmt.Sprintf(`{`+meta+`, spec: {nodeName: n1, %s}, status: {startTime: T%d%s%s}}`, name, name, created, "", spec, created, ip, status)
	}
	deleted := func(name string, created, deadline, grace int, status string) string {
		return fmt.Sprintf(`{`+meta+`, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.0.1}], startTime: T%d%s}}`, name, name, created,
			fmt.Sprintf(", deletionTimestamp: T%d, deletionGracePeriodSeconds: %d", deadline, grace), created, status)
	}
	ended := func(code, at int) string {
		return fmt.Sprintf(`, phase: Running, containerStatuses: [{name: c, state: {terminated: {exitCode: %d, finishedAt: T%d}}}]`, code, at)
	}
	const never = "restartPolicy: Never"
	vm := func(name string, created int, more string) string {
		return fmt.Sprintf(`{`+meta+`, spec: {nodeName: n1, restartPolicy: Never}, status: {phase: Running, startTime: T%d, podIPs: [{ip: 10.0.0.1}]}}`, name, name, created,
			`, ownerReferences: [{kind: VirtualMachineInstance, name: v, uid: v, controller: true}]`+more, created)
	}
	target := `, labels: {` + migrationJob + `: job}`
	moved := func(seconds float64) string {
		return target + `, annotations: {` + migrationReady + `: "` + time.Unix(0, at(seconds)).UTC().String() + `"}`
	}
	for _, c := range []struct {
		name  string
		steps []life
		ip    string
		want  map[float64]string
	}{
		{"a crash loop", []life{{at: 10, pod: pod("a", 8, "10.0.0.1", "", fmt.Sprintf(running, 9))}, {at: 21, pod: pod("a", 8, "10.0.0.1", "", ended(1, 20))}}, "10.0.0.1",
			map[float64]string{15: "a live", 30: "a live", 300: "a live"}},
		{"deleted in a crash loop, and used again", []life{
			{at: 10, pod: pod("a", 8, "10.0.0.1", "", fmt.Sprintf(running, 9))},
			{at: 21, pod: pod("a", 8, "10.0.0.1", "", ended(1, 20))},
			{at: 60, pod: deleted("a", 8, 90, 30, ended(1, 20))},
			{at: 61, pod: deleted("a", 8, 90, 30, `, phase: Failed`+ended(1, 20)[len(", phase: Running"):])},
			{at: 62, pod: deleted("a", 8, 60, 0, `, phase: Failed`+ended(1, 20)[len(", phase: Running"):]), gone: true},
			{at: 64, pod: pod("b", 62, "10.0.0.1", "", fmt.Sprintf(running, 63))},
		}, "10.0.0.1", map[float64]string{25: "a retained", 50: "a retained", 59.5: "a retained", 64.5: "b live"}},
		{"evicted, and nothing says when", []life{
			{at: 10, pod: pod("a", 8, "10.0.0.1", "", fmt.Sprintf(running, 9))},
			{at: 21, pod: pod("a", 8, "10.0.0.1", "", ended(1, 20))},
			{at: 60, pod: pod("a", 8, "10.0.0.1", "", `, phase: Failed`+ended(1, 20)[len(", phase: Running"):])},
		}, "10.0.0.1", map[float64]string{50: "a retained", 61: "a retained", 63: "none"}},
		{"short: it was over before its address was shown, shortly after other news", []life{
			{at: 19, pod: pod("other", 18, "10.0.0.9", "", fmt.Sprintf(running, 18))},
			{at: 20, pod: pod("a", 10, "10.0.0.1", never, ended(0, 15))},
		}, "10.0.0.1", map[float64]string{7: "none", 12: "a retained", 15.9: "a retained", 18.5: "none"}},
		{"short: it ended in the second in which it began", []life{{at: 20, pod: pod("a", 15, "10.0.0.1", never, fmt.Sprintf(running, 15)+ended(0, 15))}}, "10.0.0.1",
			map[float64]string{15.5: "a retained", 17.5: "a retained", 18.5: "none"}},
		{"announced late, after the condition", []life{
			{at: 10.2, pod: pod("a", 10, "", "", "")},
			{at: 12.2, pod: pod("a", 10, "", "", fmt.Sprintf(running, 12))},
			{at: 30, pod: pod("a", 10, "10.0.0.1", "", fmt.Sprintf(running, 12))},
		}, "10.0.0.1", map[float64]string{8: "none", 12.5: "a live", 20: "a live", 40: "a live"}},
		{"announced late, with the condition", []life{
			{at: 10.2, pod: pod("a", 10, "", "", "")},
			{at: 30, pod: pod("a", 10, "10.0.0.1", "", fmt.Sprintf(running, 29))},
		}, "10.0.0.1", map[float64]string{8: "none", 12: "a live", 20: "a live", 40: "a live"}},
		{"announced late, without the condition, after another", []life{
			{at: 5, pod: pod("a", 3, "10.0.0.1", never, "")},
			{at: 20.5, pod: pod("a", 3, "10.0.0.1", never, `, phase: Succeeded`+ended(0, 20)[len(", phase: Running"):])},
			{at: 30, pod: pod("b", 21, "10.0.0.1", "", "")},
		}, "10.0.0.1", map[float64]string{19.5: "a retained", 20.3: "a retained", 21.5: "b ambiguous", 24.5: "b live", 31: "b live"}},
		{"the API server's clock is fast", []life{
			{at: 5, pod: pod("a", 3, "10.0.0.1", never, "")},
			{at: 20.5, pod: pod("a", 3, "10.0.0.1", never, `, phase: Succeeded`+ended(0, 20)[len(", phase: Running"):])},
			{at: 23, pod: fmt.Sprintf(`{`+meta+`, spec: {nodeName: n1}, status: {startTime: T20, podIPs: [{ip: 10.0.0.1}]%s}}`, "b", "b", 25, "", fmt.Sprintf(running, 21))},
		}, "10.0.0.1", map[float64]string{19: "a retained", 21.5: "b ambiguous", 24: "b live"}},
		{"a known address passes on within a second", []life{
			{at: 5, pod: pod("a", 3, "10.0.0.1", never, "")},
			{at: 20.9, pod: pod("a", 3, "10.0.0.1", never, ended(0, 20))},
			{at: 21.5, pod: pod("b", 20, "10.0.0.1", "", fmt.Sprintf(running, 20))},
		}, "10.0.0.1", map[float64]string{19.9: "a retained", 20.5: "b ambiguous", 21.3: "b live"}},
		{"another address in place", []life{
			{at: 10, pod: pod("a", 8, "10.0.0.1", "", fmt.Sprintf(running, 9))},
			{at: 40, pod: pod("a", 8, "10.0.0.2", "", fmt.Sprintf(running, 35))},
		}, "10.0.0.1", map[float64]string{20: "a retained", 34.5: "a retained", 38: "none"}},
		{"and the new one", []life{
			{at: 10, pod: pod("a", 8, "10.0.0.1", "", fmt.Sprintf(running, 9))},
			{at: 40, pod: pod("a", 8, "10.0.0.2", "", fmt.Sprintf(running, 35))},
		}, "10.0.0.2", map[float64]string{20: "none", 36.5: "a live", 45: "a live"}},
		{"an interface is added", []life{
			{at: 10, pod: pod("a", 8, "10.0.0.1", "", fmt.Sprintf(running, 9))},
			{at: 40, pod: pod("a", 8, "10.0.0.1}, {ip: 10.0.0.2", "", fmt.Sprintf(running, 9))},
		}, "10.0.0.2", map[float64]string{20: "none", 37.5: "none", 38.5: "a live", 45: "a live"}},
		{"a machine migrates", []life{
			{at: 5, pod: vm("a", 3, "")},
			{at: 60, pod: vm("b", 58, target)},
			{at: 71, pod: vm("b", 58, moved(70))},
			{at: 75, pod: vm("a", 3, "")[:len(vm("a", 3, ""))-len("phase: Running, startTime: T3, podIPs: [{ip: 10.0.0.1}]}}")] + "phase: Succeeded, startTime: T3, podIPs: [{ip: 10.0.0.1}]}}"},
		}, "10.0.0.1", map[float64]string{50: "a retained", 65: "a retained", 69.9: "a retained", 70: "b live", 90: "b live"}},
		{"a machine that is still to migrate", []life{{at: 5, pod: vm("a", 3, "")}, {at: 60, pod: vm("b", 58, target)}}, "10.0.0.1",
			map[float64]string{50: "a live", 65: "a live", 100: "a live"}},
		{"a machine migrates again", []life{
			{at: 5, pod: vm("a", 3, "")},
			{at: 60, pod: vm("b", 58, target)}, {at: 71, pod: vm("b", 58, moved(70.25))},
			{at: 80, pod: vm("a", 3, ""), gone: true},
			{at: 100, pod: vm("c", 98, target)}, {at: 111, pod: vm("c", 98, moved(110))},
		}, "10.0.0.1", map[float64]string{65: "a retained", 70.2: "a retained", 70.3: "b retained", 105: "b retained", 109.9: "b retained", 110.1: "c live"}},
		{"a migration that fails", []life{
			{at: 5, pod: vm("a", 3, "")}, {at: 60, pod: vm("b", 58, target)}, {at: 80, pod: vm("b", 58, target), gone: true},
		}, "10.0.0.1", map[float64]string{65: "a live", 79: "a live", 85: "a live"}},
		{"the source is gone before the machine is said to run", []life{
			{at: 5, pod: vm("a", 3, "")}, {at: 60, pod: vm("b", 58, target)}, {at: 80, pod: vm("a", 3, ""), gone: true},
		}, "10.0.0.1", map[float64]string{65: "a retained", 79: "a retained", 85: "b live"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := watched(t)
				for _, s := range c.steps {
					time.Sleep(time.Until(time.Unix(0, at(s.at))))
					if o := lifeOf(t, s.pod); s.gone {
						e.store.remove(o)
					} else {
						e.store.update(o)
					}
				}
				for when, want := range c.want {
					if got := e.show(c.ip, when, when); got != want {
						t.Errorf("at %v: %s, want %s%s", when, got, want, e.describe(addr(c.ip), time.Duration(when*1e9)))
					}
				}
			})
		})
	}
}
