package enrich

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

// run is an Enricher that runs against an API server in memory, in a bubble
// whose time starts at epoch.
type run struct {
	*Enricher
	api  *api
	reg  *prometheus.Registry
	logs *logtest.Hook
}

func inBubble(t *testing.T, prepare func(*api), test func(*testing.T, *run), labels ...string) {
	t.Helper()
	inBubbleWith(t, Config{SyncTimeout: time.Minute}, prepare, test, labels...)
}

func inBubbleWith(t *testing.T, cfg Config, prepare func(*api), test func(*testing.T, *run), labels ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		prepare(a)
		log, _ := logtest.NewNullLogger()
		c, err := NewCluster(a.config(), log, labels...)
		if err != nil {
			t.Fatal(err)
		}
		c.Restrict(a.namespaces...)
		e, reg, logs := newTest(t, cfg, c)
		c.log = e.log
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		test(t, &run{e, a, reg, logs})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		synctest.Wait()
	})
}

// after lets so many seconds pass.
func after(seconds float64) {
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	synctest.Wait()
}

func (r *run) complaints() []string {
	var list []string
	for _, e := range r.logs.AllEntries() {
		if e.Level <= logrus.WarnLevel {
			list = append(list, e.Message)
		}
	}
	return list
}

func TestClusterNamesPods(t *testing.T) {
	web := podSpec{name: "web-1", ips: "10.0.0.1,fd00::1", owner: "ReplicaSet/web-5d/rs1", ready: rfc(-600)}
	for _, old := range []bool{false, true} {
		inBubble(t, func(a *api) {
			a.old = old
			a.put(t, web.yaml())
			a.put(t, `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-5d, namespace: ns, uid: rs1, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d1, controller: true}]}}`)
			a.put(t, `{apiVersion: v1, kind: Service, metadata: {name: svc, namespace: ns, uid: s1}, spec: {type: ClusterIP, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1]}}`)
			a.put(t, `{apiVersion: v1, kind: Node, metadata: {name: n1, uid: n1, labels: {topology.kubernetes.io/zone: z1}}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}`)
		}, func(t *testing.T, r *run) {
			if err := r.Ready(); err != nil {
				t.Fatalf("old=%v: not ready: %v", old, err)
			}
			for _, ip := range []string{"10.0.0.1", "fd00::1"} {
				o := r.Lookup(addr(ip), at(0), at(0)).Object
				if o == nil || o.Name != "web-1" || o.Workload != "web" || o.WorkloadKind != "Deployment" || o.Zone != "z1" || o.HostIP != "192.0.2.1" {
					t.Fatalf("%s: %+v", ip, o)
				}
			}
			if got := r.show("10.96.0.1", 0, 0); got != "svc service" {
				t.Error(got)
			}
			if got := r.show("192.0.2.1", 0, 0); got != "n1 node" {
				t.Error(got)
			}
			if n := r.api.asked("list jobs") + r.api.asked("watch jobs") + r.api.asked("watch replicationcontrollers"); n != 0 {
				t.Errorf("%d requests for kinds that no pod needs", n)
			}

			// An hour later watching still works.
			after(3600)
			late := podSpec{name: "late", ips: "10.0.0.2"}
			r.api.put(t, late.yaml())
			after(1)
			if got := r.show("10.0.0.2", 3600.5, 3600.5); got != "late live" {
				t.Error(got)
			}
			r.api.remove(t, late.yaml())
			after(10)
			if got := r.show("10.0.0.2", 3600.5, 3600.5); got != "late retained" {
				t.Error(got)
			}
			if got := r.show("10.0.0.2", 3610, 3610); got != "none" {
				t.Error(got)
			}
			after(20 * 60)
			if got := r.show("10.0.0.2", 3600.5, 3600.5); got != "none" {
				t.Errorf("after the retention: %s", got)
			}
			if c := r.complaints(); len(c) > 0 {
				t.Error(c)
			}
		})
	}
}

func TestClusterPages(t *testing.T) {
	const n = 2*pageSize + 10
	inBubble(t, func(a *api) {
		a.old = true
		for i := range n {
			a.put(t, podSpec{name: fmt.Sprint("p", i), ips: fmt.Sprintf("10.1.%d.%d", i/250, i%250)}.yaml())
		}
	}, func(t *testing.T, r *run) {
		if got := r.store.stats()[kindPod].objects; got != n {
			t.Errorf("%d pods, want %d", got, n)
		}
		if got := r.api.asked("list pods"); got != 3 {
			t.Errorf("%d pages, want 3", got)
		}
	})
}

// What is forbidden is not tried, if the server answers what is; otherwise it is tried.
func eitherWay(t *testing.T, prepare func(*api), test func(*testing.T, *run)) {
	t.Helper()
	for _, noReviews := range []bool{false, true} {
		inBubble(t, func(a *api) {
			a.noReviews = noReviews
			prepare(a)
		}, func(t *testing.T, r *run) {
			test(t, r)
			r.api.mu.Lock()
			defer r.api.mu.Unlock()
			if tried := len(r.api.refused) > 0; tried != noReviews {
				t.Errorf("without reviews %v: refused were %q", noReviews, r.api.refused)
			}
		})
	}
}

// quietFor fails the test unless the kinds that are given have no series that an alert is about, and
// all others have been listed, without an error.
func (r *run) quietFor(t *testing.T, kinds ...kind) {
	t.Helper()
	for _, metric := range []string{"kube_enricher_kube_synced", "kube_enricher_kube_watch_errors_total"} {
		text, err := gathered(r.reg, metric)
		if err != nil {
			t.Fatal(err)
		}
		for k := range numKinds {
			value, found := strings.CutPrefix(text[max(0, strings.Index(text, metric+`{kind="`+k.label()+`"}`)):], metric+`{kind="`+k.label()+`"} `)
			good := map[string]string{"kube_enricher_kube_synced": "1\n", "kube_enricher_kube_watch_errors_total": "0\n"}[metric]
			if slices.Contains(kinds, k) && found || found && !strings.HasPrefix(value, good) {
				t.Errorf("%s of %s is %.2q", metric, k, value)
			}
		}
		if !strings.Contains(text, `{kind="pod"}`) || !strings.Contains(text, `{kind="service"}`) {
			t.Errorf("pods and services are missing:\n%s", text)
		}
	}
}

func TestClusterWithoutOptionalRights(t *testing.T) {
	eitherWay(t, func(a *api) {
		for _, k := range []string{"nodes", "replicasets", "jobs"} {
			a.forbid("list "+k, "watch "+k, "get "+k)
		}
		a.put(t, podSpec{name: "web-1", ips: "10.0.0.1", owner: "ReplicaSet/web-5d/rs1"}.yaml())
		a.put(t, podSpec{name: "cron-1", ips: "10.0.0.2", owner: "Job/cron-7/j1"}.yaml())
		a.put(t, `{apiVersion: v1, kind: Node, metadata: {name: n1, uid: n1, labels: {topology.kubernetes.io/zone: z1}}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}`)
	}, func(t *testing.T, r *run) {
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		o := r.Lookup(addr("10.0.0.1"), at(0), at(0)).Object
		if o.Workload != "web-5d" || o.WorkloadKind != "ReplicaSet" {
			t.Errorf("%+v", o)
		}
		after(3 * 3600)
		c := r.complaints()
		slices.Sort(c)
		if len(c) != 3 || !strings.Contains(c[0], "jobs") || !strings.Contains(c[1], "nodes") || !strings.Contains(c[2], "replicasets") {
			t.Errorf("complaints: %q", c)
		}
		if n := r.api.asked("list nodes"); r.api.noReviews && n < 3 || n > 60 {
			t.Errorf("asked %d times in three hours for what is forbidden", n)
		}
		r.quietFor(t, kindNode, kindReplicaSet, kindJob)
		r.api.allow("list nodes")
		r.api.allow("watch nodes")
		after(400)
		r.quietFor(t, kindReplicaSet, kindJob)
		if text, err := gathered(r.reg, "kube_enricher_kube_synced"); err != nil || !strings.Contains(text, `kube_enricher_kube_synced{kind="node"} 1`) {
			t.Errorf("nodes have no series after the right was granted: %v\n%s", err, text)
		}
		if o := r.Lookup(addr("10.0.0.1"), at(0), at(0)).Object; o.Zone != "z1" {
			t.Errorf("after the right was granted: %+v", o)
		}
	})
}

// The rights that the first README asked for.
func TestClusterWithOldRights(t *testing.T) {
	web := podSpec{name: "web-1", ips: "10.0.0.1", owner: "ReplicaSet/web-5d/rs1", ready: rfc(-100)}
	eitherWay(t, func(a *api) {
		a.forbid("watch pods", "watch services", "list nodes", "watch nodes", "list replicasets", "watch replicasets")
		a.put(t, web.yaml())
		a.put(t, podSpec{name: "web-2", ips: "10.0.0.2", owner: "ReplicaSet/web-5d/rs1", ready: rfc(-100)}.yaml())
		a.put(t, podSpec{name: "lost-2", ips: "10.0.0.4", owner: "ReplicaSet/lost-5d/gone", ready: rfc(-100)}.yaml())
		a.put(t, `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: web-5d, namespace: ns, uid: rs1, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: d1, controller: true}]}}`)
	}, func(t *testing.T, r *run) {
		after(1)
		if err := r.Ready(); err != nil {
			t.Fatal(err)
		}
		for ip, want := range map[string]string{"10.0.0.1": "web", "10.0.0.2": "web", "10.0.0.4": "lost-5d"} {
			if o := r.Lookup(addr(ip), at(0), at(0)).Object; o.Workload != want {
				t.Errorf("%s: %+v", ip, o)
			}
		}
		// Changes are seen every 30 s; times are those of the objects.
		after(9)
		r.api.remove(t, web.yaml())
		r.api.put(t, podSpec{name: "next", ips: "10.0.0.1", ready: rfc(15)}.yaml())
		after(25)
		for when, want := range map[float64]string{-200: "none", -50: "web-1 retained", -3: "web-1 retained", 5: "web-1 ambiguous", 14: "web-1 ambiguous", 16: "next live", 100: "next live"} {
			if got := r.show("10.0.0.1", when, when); got != want {
				t.Errorf("at %v: %s, want %s", when, got, want)
			}
		}
		after(3600)
		if n := r.api.asked("get replicasets web-5d"); n != 1 {
			t.Errorf("the ReplicaSet was fetched %d times", n)
		}
		if n := r.api.asked("get replicasets lost-5d"); n != 1 {
			t.Errorf("the ReplicaSet that is gone was fetched %d times", n)
		}
		if n := r.api.asked("list pods"); n < 115 || n > 125 {
			t.Errorf("%d lists in an hour", n)
		}
		if n := r.api.asked("watch pods"); n > 30 {
			t.Errorf("%d attempts to watch in an hour", n)
		}
		n := 0
		for _, c := range r.complaints() {
			if strings.Contains(c, "watch") {
				n++
			}
		}
		if c := r.complaints(); n != 1 || len(c) != 3 {
			t.Errorf("complaints: %q", c)
		}
		if got := testutil.ToFloat64(r.metrics.relists[kindPod]); got < 115 {
			t.Errorf("%v relists counted", got)
		}
		r.quietFor(t, kindNode, kindReplicaSet)
	})
}

func TestClusterUnreachable(t *testing.T) {
	inBubble(t, func(a *api) {
		a.down = true
		a.put(t, podSpec{name: "p", ips: "10.0.0.1"}.yaml())
	}, func(t *testing.T, r *run) {
		after(20)
		err := r.Ready()
		if err == nil || !strings.Contains(err.Error(), "pods, services, ") || !strings.HasSuffix(err.Error(), " not synced: dial tcp: connection refused by test") ||
			strings.Contains(err.Error(), "http") {
			t.Errorf("Ready: %v", err)
		}
		after(41)
		if err := r.Ready(); err != nil {
			t.Errorf("after the timeout: %v", err)
		}
		if got := r.show("10.0.0.1", 0, 0); got != "none" {
			t.Error(got)
		}
		if n := len(r.complaints()); n < 2 || n > 8 { // one each ten seconds
			t.Errorf("%d complaints in a minute", n)
		}
		if c := r.complaints()[0]; !strings.Contains(c, "cannot reach the Kubernetes API (list ") || !strings.Contains(c, "; retrying") {
			t.Errorf("complaint: %s", c)
		}
		r.api.interrupt(false)
		after(50)
		if got := r.show("10.0.0.1", 0, 0); got != "p live" {
			t.Error(got)
		}
		again := 0
		for _, e := range r.logs.AllEntries() {
			if e.Message == "the Kubernetes API answers again" {
				again++
			}
		}
		if again != 1 {
			t.Errorf("logged %d times that the API answers again", again)
		}
	})
}

func TestClusterRequiredRights(t *testing.T) {
	eitherWay(t, func(a *api) {
		a.forbid("list pods", "watch pods")
	}, func(t *testing.T, r *run) {
		after(5)
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "grant the verbs get, list and watch on pods") {
			t.Errorf("Ready: %v", err)
		}
		if text, err := gathered(r.reg, "kube_enricher_kube_synced"); err != nil || !strings.Contains(text, `kube_enricher_kube_synced{kind="pod"} 0`) ||
			testutil.ToFloat64(r.metrics.failures[kindPod]) == 0 {
			t.Errorf("no alarm without pods: %v\n%s", err, text)
		}
		r.api.allow("list pods")
		r.api.allow("watch pods")
		after(45)
		if err := r.Ready(); err != nil {
			t.Error(err)
		}
		r.api.put(t, podSpec{name: "p", ips: "10.0.0.1"}.yaml())
		after(1) // by a watch: no right to it is missing any more
		if got := r.show("10.0.0.1", 100, 100); got != "p live" {
			t.Error(got)
		}
		for _, c := range r.complaints() {
			if !strings.Contains(c, "no right to pods") {
				t.Errorf("complaint %q", c)
			}
		}
	})
}

// A watch that was cut resumes; what happened meanwhile is reported with its time
// as far as objects know it.
func TestClusterInterruption(t *testing.T) {
	a1 := podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}
	b := podSpec{name: "b", ips: "10.0.0.1", ready: rfc(40)}
	inBubble(t, func(a *api) { a.put(t, a1.yaml()) }, func(t *testing.T, r *run) {
		after(9)
		r.api.put(t, podSpec{name: "news", ips: "10.0.0.9"}.yaml())
		after(1)
		r.api.interrupt(true)
		after(20)
		gone := a1
		gone.deleted = rfc(35)
		r.api.remove(t, gone.yaml())
		r.api.put(t, b.yaml())
		after(20) // the API is back at 50 s, and seen at most a minute later
		r.api.interrupt(false)
		after(60)
		for when, want := range map[float64]string{5: "a retained", 34: "a retained", 41: "b live", 60: "b live"} {
			if got := r.show("10.0.0.1", when, when); got != want {
				t.Errorf("at %v: %s, want %s", when, got, want)
			}
		}
		if n := testutil.ToFloat64(r.metrics.failures[kindPod]); n == 0 {
			t.Error("no failure counted")
		}
	})
}

// A server that is starting refuses everything for a moment. That is not the
// end of all rights, unless it lasts.
func TestClusterRestart(t *testing.T) {
	inBubble(t, func(a *api) { a.put(t, podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}.yaml()) }, func(t *testing.T, r *run) {
		all := []string{"list pods", "watch pods", "list services", "watch services", "list nodes", "watch nodes", "list replicasets", "watch replicasets"}
		after(300)
		r.api.forbid(all...)
		r.api.interrupt(false) // crashes, and is there again
		after(3)
		for _, what := range all {
			r.api.allow(what)
		}
		r.api.put(t, podSpec{name: "b", ips: "10.0.0.2", ready: rfc(303)}.yaml())
		after(2)
		if got := r.show("10.0.0.2", 304, 304); got != "b live" {
			t.Error(got)
		}
		r.api.put(t, podSpec{name: "c", ips: "10.0.0.3", ready: rfc(305)}.yaml())
		after(0.1)
		if got := r.show("10.0.0.3", 305.1, 305.1); got != "c live" {
			t.Errorf("%s: it does not watch", got)
		}
		if c := r.complaints(); len(c) > 0 {
			t.Errorf("complaints: %q", c)
		}
		after(300)
		r.api.forbid("watch pods")
		r.api.interrupt(false)
		after(120)
		if c := r.complaints(); len(c) != 1 || !strings.Contains(c[0], "no right to watch") {
			t.Errorf("complaints: %q", c)
		}
		r.api.put(t, podSpec{name: "d", ips: "10.0.0.4"}.yaml())
		after(31)
		if got := r.show("10.0.0.4", 1000, 1000); got != "d live" {
			t.Errorf("%s: it does not list instead", got)
		}
	})
}

// A list after an interruption tells what is gone, by its absence.
func TestClusterCompaction(t *testing.T) {
	for _, old := range []bool{false, true} {
		inBubble(t, func(a *api) {
			a.old = old
			a.put(t, podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-100)}.yaml())
			a.put(t, podSpec{name: "stays", ips: "10.0.0.2", ready: rfc(-100)}.yaml())
		}, func(t *testing.T, r *run) {
			after(9)
			r.api.put(t, podSpec{name: "news", ips: "10.0.0.9"}.yaml())
			after(1)
			r.api.interrupt(true)
			r.api.remove(t, podSpec{name: "a"}.yaml())
			r.api.put(t, podSpec{name: "b", ips: "10.0.0.1", ready: rfc(20)}.yaml())
			r.api.compact()
			after(20)
			r.api.interrupt(false)
			after(60)
			for when, want := range map[float64]string{-50: "a retained", 0: "a retained", 6: "a retained", 19: "a ambiguous", 21: "b live", 200: "b live"} {
				if got := r.show("10.0.0.1", when, when); got != want {
					t.Errorf("old=%v at %v: %s, want %s", old, when, got, want)
				}
			}
			if got := r.show("10.0.0.2", 0, 50); got != "stays live" {
				t.Error(got)
			}
			if n := testutil.ToFloat64(r.metrics.relists[kindPod]); n == 0 {
				t.Error("no relist counted")
			}
		})
	}
}

// Owners that arrive after their pods are named in them; owners' kinds that are
// rare are asked for when a pod has one.
func TestClusterLateOwners(t *testing.T) {
	inBubble(t, func(*api) {}, func(t *testing.T, r *run) {
		workload := func(ip string) string {
			o := r.Lookup(addr(ip), at(1000), at(1000)).Object
			if o == nil {
				return ""
			}
			return o.WorkloadKind + "/" + o.Workload
		}
		r.api.put(t, podSpec{name: "job-1", ips: "10.0.0.1", owner: "Job/job-29/j1"}.yaml())
		r.api.put(t, podSpec{name: "rc-1", ips: "10.0.0.2", owner: "ReplicationController/rc-1/rc1"}.yaml())
		r.api.put(t, podSpec{name: "ro-1", ips: "10.0.0.3", owner: "ReplicaSet/ro-6f/rs1"}.yaml())
		after(1)
		for ip, want := range map[string]string{"10.0.0.1": "Job/job-29", "10.0.0.2": "ReplicationController/rc-1", "10.0.0.3": "ReplicaSet/ro-6f"} {
			if got := workload(ip); got != want {
				t.Errorf("before: %s: %s, want %s", ip, got, want)
			}
		}
		r.api.put(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: job-29, namespace: ns, uid: j1, ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: job, uid: c1, controller: true}]}}`)
		r.api.put(t, `{apiVersion: v1, kind: ReplicationController, metadata: {name: rc-1, namespace: ns, uid: rc1, ownerReferences: [{apiVersion: apps.openshift.io/v1, kind: DeploymentConfig, name: rc, uid: d1, controller: true}]}}`)
		rs := `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: ro-6f, namespace: ns, uid: rs1, ownerReferences: [{apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: ro, uid: r1, controller: true}]}}`
		r.api.put(t, rs)
		after(1)
		for ip, want := range map[string]string{"10.0.0.1": "CronJob/job", "10.0.0.2": "DeploymentConfig/rc", "10.0.0.3": "Rollout/ro"} {
			if got := workload(ip); got != want {
				t.Errorf("after: %s: %s, want %s", ip, got, want)
			}
		}
		// The owner goes; the pod keeps its name, even if it changes.
		r.api.remove(t, rs)
		r.api.put(t, podSpec{name: "ro-1", ips: "10.0.0.3", owner: "ReplicaSet/ro-6f/rs1", node: "n2"}.yaml())
		r.api.put(t, podSpec{name: "ro-2", ips: "10.0.0.4", owner: "ReplicaSet/ro-6f/rs1"}.yaml())
		after(1)
		for _, ip := range []string{"10.0.0.3", "10.0.0.4"} {
			if got := workload(ip); got != "Rollout/ro" {
				t.Errorf("without the owner: %s: %s", ip, got)
			}
		}
		after(3600)
		if n := len(r.store.rootOwners[kindReplicaSet]); n != 0 {
			t.Errorf("%d ReplicaSets are still known", n)
		}
	})
}
