package enrich

import (
	"context"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// Chains of owners as operators make them: names, and who owns what.
const chainObjects = `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: virt-launcher, namespace: ns, uid: p1, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: vm-a, uid: vmi1, controller: true}]}, status: {phase: Running, podIP: 10.0.0.1}}
- {apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: vm-a, namespace: ns, uid: vmi1, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: vm-a, uid: vm1, controller: true}]}}
- {apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm-a, namespace: ns, uid: vm1}}
- {apiVersion: v1, kind: Pod, metadata: {name: hello-00001, namespace: ns, uid: p2, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: hello-00001-5d, uid: rs2, controller: true}]}, status: {phase: Running, podIP: 10.0.0.2}}
- {apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: hello-00001-5d, namespace: ns, uid: rs2, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: hello-00001-deployment, uid: d2, controller: true}]}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: hello-00001-deployment, namespace: ns, uid: d2, ownerReferences: [{apiVersion: serving.knative.dev/v1, kind: Revision, name: hello-00001, uid: r2, controller: true}]}}
- {apiVersion: serving.knative.dev/v1, kind: Revision, metadata: {name: hello-00001, namespace: ns, uid: r2, ownerReferences: [{apiVersion: serving.knative.dev/v1, kind: Configuration, name: hello, uid: c2, controller: true}]}}
- {apiVersion: serving.knative.dev/v1, kind: Configuration, metadata: {name: hello, namespace: ns, uid: c2, ownerReferences: [{apiVersion: serving.knative.dev/v1, kind: Service, name: hello, uid: s2, controller: true}]}}
- {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: hello, namespace: ns, uid: s2}}
- {apiVersion: v1, kind: Pod, metadata: {name: exec-1, namespace: ns, uid: p3, ownerReferences: [{apiVersion: v1, kind: Pod, name: pi-driver, uid: p4, controller: true}]}, status: {phase: Running, podIP: 10.0.0.3}}
- {apiVersion: v1, kind: Pod, metadata: {name: pi-driver, namespace: ns, uid: p4, ownerReferences: [{apiVersion: sparkoperator.k8s.io/v1beta2, kind: SparkApplication, name: pi, uid: sp4, controller: true}]}, status: {phase: Running, podIP: 10.0.0.4}}
- {apiVersion: v1, kind: Pod, metadata: {name: task-pod, namespace: ns, uid: p5, ownerReferences: [{apiVersion: tekton.dev/v1, kind: TaskRun, name: build-task, uid: t5, controller: true}]}, status: {phase: Running, podIP: 10.0.0.5}}
- {apiVersion: tekton.dev/v1, kind: TaskRun, metadata: {name: build-task, namespace: ns, uid: t5, ownerReferences: [{apiVersion: tekton.dev/v1, kind: PipelineRun, name: build, uid: pr5, controller: true}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: gw-1, namespace: ns, uid: p6, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: gw-5d, uid: rs6, controller: true}]}, status: {phase: Running, podIP: 10.0.0.6}}
- {apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: gw-5d, namespace: ns, uid: rs6, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: gw-istio, uid: d6, controller: true}]}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: gw-istio, namespace: ns, uid: d6, ownerReferences: [{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: gw, uid: g6, controller: true}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: ns, uid: p7, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d, uid: rs7, controller: true}]}, status: {phase: Running, podIP: 10.0.0.7}}
- {apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-5d, namespace: ns, uid: rs7, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d7, controller: true}]}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: ns, uid: d7, ownerReferences: [{apiVersion: example.org/v1, kind: Site, name: site, uid: x7, controller: true}]}}
`

var chainCases = []struct {
	owners string
	want   map[string]string // by the last byte of the address
}{
	{"", map[string]string{
		"1": "VirtualMachineInstance/vm-a", "2": "Deployment/hello-00001-deployment", "3": "Pod/pi-driver", "4": "SparkApplication/pi",
		"5": "TaskRun/build-task", "6": "Deployment/gw-istio", "7": "Deployment/web",
	}},
	{"virtualmachines.kubevirt.io,services.serving.knative.dev", map[string]string{
		"1": "VirtualMachine/vm-a", "2": "Service/hello", "3": "Pod/pi-driver", "5": "TaskRun/build-task", "6": "Deployment/gw-istio", "7": "Deployment/web",
	}},
	{"virtualmachineinstances.kubevirt.io", map[string]string{"1": "VirtualMachine/vm-a", "2": "Deployment/hello-00001-deployment"}},
	{"sparkapplications.sparkoperator.k8s.io,taskruns.tekton.dev", map[string]string{"3": "SparkApplication/pi", "4": "SparkApplication/pi", "5": "PipelineRun/build"}},
	{"pipelineruns.tekton.dev,gateways.gateway.networking.k8s.io", map[string]string{"5": "PipelineRun/build", "6": "Gateway/gw", "7": "Deployment/web"}},
	{"deployments.apps", map[string]string{"2": "Revision/hello-00001", "6": "Gateway/gw", "7": "Site/site", "1": "VirtualMachineInstance/vm-a"}},
	{"pods", map[string]string{"3": "SparkApplication/pi", "7": "Deployment/web"}},
	{"nosuch.example.net", map[string]string{"1": "VirtualMachineInstance/vm-a", "7": "Deployment/web"}},
}

func parseOwners(t *testing.T, text string) *Owners {
	t.Helper()
	if text == "" {
		return nil
	}
	o, err := ParseOwners(text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func workloadOf(e *Enricher, last string) string {
	now := time.Now().UnixNano()
	o := e.Lookup(addr("10.0.0."+last), now, now).Object
	if o == nil {
		return "none"
	}
	return o.WorkloadKind + "/" + o.Workload
}

func TestOwnerChainsOfSnapshot(t *testing.T) {
	for _, c := range chainCases {
		t.Run(c.owners, func(t *testing.T) {
			owners := parseOwners(t, c.owners)
			objects, err := parseObjects([]byte(chainObjects), owners)
			if err != nil {
				t.Fatal(err)
			}
			s := &Snapshot{owners: owners, read: objects}
			e, _, _ := newTest(t, Config{Owners: owners}, s)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { _ = e.Run(ctx) }()
			if err := e.WaitSynced(ctx); err != nil {
				t.Fatal(err)
			}
			for last, want := range c.want {
				if got := workloadOf(e, last); got != want {
					t.Errorf("10.0.0.%s is of %s, want %s", last, got, want)
				}
			}
		})
	}
}

// The same in a cluster, where owners are looked for as pods lead to them.
func TestOwnerChainsOfCluster(t *testing.T) {
	var list struct{ Items []map[string]any }
	if err := yaml.Unmarshal([]byte(chainObjects), &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range chainCases {
		t.Run(c.owners, func(t *testing.T) {
			inBubbleWith(t, Config{SyncTimeout: time.Minute, Owners: parseOwners(t, c.owners)}, func(a *api) {
				for _, o := range list.Items {
					text, err := yaml.Marshal(o)
					if err != nil {
						t.Fatal(err)
					}
					a.put(t, string(text))
				}
			}, func(t *testing.T, r *run) {
				if err := r.Ready(); err != nil {
					t.Fatal(err)
				}
				for last, want := range c.want {
					if got := workloadOf(r.Enricher, last); got != want {
						t.Errorf("10.0.0.%s is of %s, want %s", last, got, want)
					}
				}
				after(3600)
				complaints := r.complaints()
				if missing := strings.HasPrefix(c.owners, "nosuch"); missing != (len(complaints) == 1) || !missing && len(complaints) > 0 {
					t.Errorf("complaints: %q", complaints)
				}
				if len(r.api.refused) > 0 {
					t.Errorf("refused: %q", r.api.refused)
				}
			})
		})
	}
}

// Owners that come late, change hands or may not be read.
func TestOwnerChainsInTime(t *testing.T) {
	pod := `{apiVersion: v1, kind: Pod, metadata: {name: launcher, namespace: ns, uid: p1, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: i, uid: vmi1, controller: true}]}, status: {phase: Running, podIP: 10.0.0.1}}`
	instance := func(vm string) string {
		return `{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: i, namespace: ns, uid: vmi1, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: ` + vm + `, uid: ` + vm + `, controller: true}]}}`
	}
	owners := parseOwners(t, "virtualmachines.kubevirt.io")
	inBubbleWith(t, Config{SyncTimeout: time.Minute, Owners: owners}, func(a *api) {
		a.put(t, pod)
		a.put(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm, namespace: ns, uid: vm}}`)
	}, func(t *testing.T, r *run) {
		steps := []struct {
			change func()
			want   string
		}{
			{func() {}, "VirtualMachineInstance/i"},
			{func() { r.api.put(t, instance("vm")) }, "VirtualMachine/vm"},
			{func() { r.api.put(t, instance("other")) }, "VirtualMachine/other"},
			{func() { r.api.remove(t, instance("other")) }, "VirtualMachine/other"},
		}
		for i, s := range steps {
			s.change()
			after(20)
			if got := workloadOf(r.Enricher, "1"); got != s.want {
				t.Errorf("step %d: %s, want %s", i, got, s.want)
			}
		}
		r.api.remove(t, pod)
		after(defaultRetain.Seconds() + 2*sweepEvery.Seconds())
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		if n := len(r.store.chains.links); n != 1 || len(r.store.chains.pending) != 0 {
			t.Errorf("%d owners and %d that are waited for are left", n, len(r.store.chains.pending))
		}
	})
	inBubbleWith(t, Config{SyncTimeout: time.Minute, Owners: owners}, func(a *api) {
		a.forbid("list virtualmachines", "watch virtualmachines", "list virtualmachineinstances", "watch virtualmachineinstances")
		a.put(t, pod)
		a.put(t, instance("vm"))
	}, func(t *testing.T, r *run) {
		after(3600)
		if got := workloadOf(r.Enricher, "1"); got != "VirtualMachineInstance/i" || len(r.api.refused) > 0 {
			t.Errorf("%s; refused: %q", got, r.api.refused)
		}
		if c := r.complaints(); len(c) != 1 || !strings.Contains(c[0], "no right to list") {
			t.Errorf("complaints: %q", c)
		}
	})
}

// Owners that may be listed and not watched are listed as often as other kinds, with the one
// warning of these.
func TestOwnersWithoutWatch(t *testing.T) {
	owners := parseOwners(t, "virtualmachines.kubevirt.io")
	inBubbleWith(t, Config{SyncTimeout: time.Minute, Owners: owners}, func(a *api) {
		a.forbid("watch pods", "watch virtualmachines", "watch virtualmachineinstances")
		a.put(t, `{apiVersion: v1, kind: Pod, metadata: {name: launcher, namespace: ns, uid: p1, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, name: i, uid: vmi1, controller: true}]}, status: {phase: Running, podIP: 10.0.0.1}}`)
		a.put(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: vm, namespace: ns, uid: vm}}`)
	}, func(t *testing.T, r *run) {
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		before := r.api.asked("list virtualmachines")
		after(601)
		if n := r.api.asked("list virtualmachines") - before; n != 20 {
			t.Errorf("%d lists in ten minutes", n)
		}
		r.api.put(t, `{apiVersion: kubevirt.io/v1, kind: VirtualMachineInstance, metadata: {name: i, namespace: ns, uid: vmi1, ownerReferences: [{apiVersion: kubevirt.io/v1, kind: VirtualMachine, name: vm, uid: vm, controller: true}]}}`)
		after(31)
		if got := workloadOf(r.Enricher, "1"); got != "VirtualMachine/vm" {
			t.Errorf("workload %s", got)
		}
		if c := r.complaints(); len(c) != 1 || !strings.Contains(c[0], "no right to watch") || len(r.api.refused) > 0 {
			t.Errorf("complaints: %q, refused: %q", c, r.api.refused)
		}
	})
}

func TestParseOwners(t *testing.T) {
	for _, text := range []string{"", "a.b,", "Pods", "x y", ".apps", "apps."} {
		if _, err := ParseOwners(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
	o := parseOwners(t, "policies.example.org, gateways.gateway.networking.k8s.io")
	if !o.lists("example.org", "Policy") || !o.lists("gateway.networking.k8s.io", "Gateway") || o.lists("example.org", "Gateway") || o.lists("example.org", "Polic") {
		t.Error("kinds are not told by their resources")
	}
}
