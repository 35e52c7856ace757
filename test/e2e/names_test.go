package e2e

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
)

// ready starts the program with the service account of the example manifest,
// and waits until it is ready.
func ready(t *testing.T, args ...string) *enricher {
	t.Helper()
	return readyAs(t, kubeconfig(t, metav1.NamespaceDefault, account), args...)
}

func readyAs(t *testing.T, kubeconfig string, args ...string) *enricher {
	t.Helper()
	e := start(t, append([]string{"-kubeconfig", kubeconfig}, args...)...)
	e.waitReady(t)
	return e
}

// checkNames sends flows from and to all expected addresses and compares names.
func checkNames(t *testing.T, e *enricher, expected []expectation) {
	t.Helper()
	for _, x := range expected {
		// The other end is of the same family, unless nobody can tell.
		from, to := e.flow(x.addr, nobody), e.flow(nobody, x.addr)
		if err := e.exporter.IPFIX(from, to); err != nil {
			t.Fatal(err)
		}
		for prefix, f := range map[string]exporter.Flow{"Src": from, "Dst": to} {
			if got := e.record(t, f).names(prefix); !maps.Equal(got, x.want) {
				t.Errorf("%s %s as %s: %v, want %v", x.what, x.addr, prefix, got, x.want)
			}
		}
	}
}

func checkNoComplaints(t *testing.T, e *enricher) {
	t.Helper()
	if got := e.complaints(); len(got) > 0 {
		t.Errorf("the program complained: %v", got)
	}
}

// The rights in the example manifest are enough to name all that is there.
func TestExistingObjects(t *testing.T) {
	e := ready(t)
	checkNames(t, e, expected)
	for _, x := range expected {
		if x.addr.Is4() { // the same, mapped to IPv6
			x.addr = netip.AddrFrom16(x.addr.As16())
			checkNames(t, e, []expectation{x})
		}
	}
	e.terminate(t)
	checkNoComplaints(t, e)
}

// A dump of the cluster, used as a snapshot, gives the same names.
func TestSnapshotOfCluster(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "snapshot.yaml")
	dump, err := kube.Dump(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, *dumpTo} {
		if name == "" {
			continue
		}
		if err := os.WriteFile(name, dump, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := start(t, "-kube.snapshot", file)
	e.waitReady(t)
	checkNames(t, e, expected)
	e.terminate(t)
	checkNoComplaints(t, e)
}

// Every protocol gets the names.
func TestProtocols(t *testing.T) {
	t.Parallel()
	e := ready(t)
	first := slices.IndexFunc(expected, isDeploymentPod)
	web4, both := expected[first:first+1], expected[first:first+2]
	for _, c := range []struct {
		protocol string
		send     func(...exporter.Flow) error
		pods     []expectation
	}{
		{"IPFIX", dial(t, e.netflow).IPFIX, both},
		{"NETFLOW_V9", dial(t, e.netflow).NetFlow9, both},
		{"NETFLOW_V5", dial(t, e.netflow).NetFlow5, web4},
		{"SFLOW_5", dial(t, e.sflow).SFlow, both},
	} {
		for _, x := range c.pods {
			f := e.flow(x.addr, x.addr)
			if err := c.send(f); err != nil {
				t.Fatal(err)
			}
			r := e.record(t, f)
			if r["Type"] != c.protocol || r["Packets"] != 1.0 || r["SrcAddr"] != x.addr.String() {
				t.Errorf("%s of %s: %v", c.protocol, x.addr, r)
			}
			for _, prefix := range []string{"Src", "Dst"} {
				if got := r.names(prefix); !maps.Equal(got, x.want) {
					t.Errorf("%s: %s as %s: %v, want %v", c.protocol, x.addr, prefix, got, x.want)
				}
			}
		}
	}
	e.terminate(t)
	checkNoComplaints(t, e)
}

func isDeploymentPod(x expectation) bool { return x.want["WorkloadKind"] == "Deployment" }

// What cannot be told for sure is told with a warning in the record.
func TestAmbiguity(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	a := createPod(t, pod{namespace: ns, name: "twin-a"})
	createPod(t, pod{namespace: ns, name: "twin-b", ips: a.ips})
	e := ready(t)
	r := e.probe(t, a.ips[0], nobody)
	want := fmt.Sprintf("Several pods found for same IP: twin-a.%s,twin-b.%[1]s", ns)
	if r["SrcWarn"] != want {
		t.Errorf("SrcWarn %q, want %q", r["SrcWarn"], want)
	}
}

// Pods come, go and hand on their addresses while the program runs.
func TestChanges(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	web, err := deployment(t.Context(), ns, "late")
	if err != nil {
		t.Fatal(err)
	}
	e := ready(t)

	first := createPod(t, pod{namespace: ns, name: "late-5d9c7b8f64-first", owner: web})
	for _, ip := range first.ips {
		e.waitNames(t, soon, ip, first.names("late", "Deployment"))
	}

	first.remove(t)
	for _, ip := range first.ips {
		e.waitNames(t, soon, ip, names{})
	}

	second := createPod(t, pod{namespace: ns, name: "late-5d9c7b8f64-second", owner: web, ips: first.ips})
	for _, ip := range first.ips {
		e.waitNames(t, soon, ip, second.names("late", "Deployment"))
	}

	// The next owner is there before the last one is removed, as happens when
	// a job ends: the late removal takes nothing from it.
	done := createPod(t, pod{namespace: ns, name: "done"})
	e.waitNames(t, soon, done.ips[0], done.names("done", "Pod"))
	done.finish(t)
	third := createPod(t, pod{namespace: ns, name: "third", ips: done.ips})
	e.waitNames(t, soon, done.ips[0], third.names("third", "Pod"))
	done.remove(t)
	marker := createPod(t, pod{namespace: ns, name: "marker"}) // once it is seen, the removal was
	e.waitNames(t, soon, marker.ips[0], marker.names("marker", "Pod"))
	e.waitNames(t, soon, done.ips[0], third.names("third", "Pod"))

	e.terminate(t)
	checkNoComplaints(t, e)
}

// exampleRules are the rights in the example manifest without some resources.
func exampleRules(t *testing.T, without ...string) []rbacv1.PolicyRule {
	t.Helper()
	role, err := kube.Client.RbacV1().ClusterRoles().Get(t.Context(), account, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var rules []rbacv1.PolicyRule
	for _, r := range role.Rules {
		r.Resources = slices.DeleteFunc(r.Resources, func(s string) bool { return slices.Contains(without, s) })
		if len(r.Resources) > 0 {
			rules = append(rules, r)
		}
	}
	return rules
}

// mentions matches lines of log with a word in them.
func mentions(word string) func(logLine) bool {
	return func(l logLine) bool { return strings.Contains(l.raw, word) }
}

// Without rights on some kinds the rest works, with a warning for each kind.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	missing := []string{"nodes", "replicasets"}
	e := readyAs(t, serviceAccount(t, ns, exampleRules(t, missing...)))
	var want []expectation
	for _, x := range expected {
		switch x.want["WorkloadKind"] {
		case "Deployment":
			x.want = maps.Clone(x.want)
			x.want["Workload"], x.want["WorkloadKind"] = "web-5d9c7b8f64", "ReplicaSet"
		case "Rollout":
			x.want = maps.Clone(x.want)
			x.want["Workload"], x.want["WorkloadKind"] = "canary-6f7d", "ReplicaSet"
		case "Node":
			x.want = names{}
		}
		want = append(want, x)
	}
	checkNames(t, e, want)

	late := createPod(t, pod{namespace: ns, name: "late"})
	e.waitNames(t, soon, late.ips[0], late.names("late", "Pod"))
	e.terminate(t)
	complaints := e.complaints()
	for _, kind := range missing {
		if n := len(slices.DeleteFunc(slices.Clone(complaints), func(l logLine) bool { return !mentions(kind)(l) })); n != 1 {
			t.Errorf("%d warnings about %s, want 1", n, kind)
		}
	}
	if len(complaints) != len(missing) {
		t.Errorf("%d warnings, want %d", len(complaints), len(missing))
	}
}

// Rights that come after the program has started are used.
func TestLateRights(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	config := serviceAccount(t, ns, nil)
	e := start(t, "-kubeconfig", config, "-kube.sync-timeout", "1s")
	e.waitReady(t) // without a cluster
	web := expected[slices.IndexFunc(expected, isDeploymentPod)]
	e.waitNames(t, soon, web.addr, names{})

	role, err := kube.Client.RbacV1().ClusterRoles().Get(t.Context(), ns, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	role.Rules = exampleRules(t)
	if _, err := kube.Client.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, x := range expected {
		e.waitNames(t, 3*soon, x.addr, x.want)
	}
	e.terminate(t)
}

// The rights that the project's first README asked for: no watch.
func TestOldRights(t *testing.T) {
	t.Parallel()
	ns := testNamespace(t)
	e := readyAs(t, serviceAccount(t, ns, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "services"}, Verbs: []string{"list"}},
		{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: []string{"get"}},
	}))
	var want []expectation
	for _, x := range expected {
		switch x.want["WorkloadKind"] {
		case "Node":
			x.want = names{}
		case "CronJob": // the jobs in between are not known
			x.want = maps.Clone(x.want)
			x.want["Workload"], x.want["WorkloadKind"] = "nightly-29", "Job"
		case "DeploymentConfig":
			x.want = maps.Clone(x.want)
			x.want["Workload"], x.want["WorkloadKind"] = "legacy-1", "ReplicationController"
		case "Deployment", "Rollout": // replicasets are fetched one by one
			e.waitNames(t, soon, x.addr, x.want)
		}
		want = append(want, x)
	}
	checkNames(t, e, want)

	web, err := deployment(t.Context(), ns, "late")
	if err != nil {
		t.Fatal(err)
	}
	const relist = 30 * time.Second
	late := createPod(t, pod{namespace: ns, name: "late-5d9c7b8f64-zs4bk", owner: web})
	begin := time.Now()
	e.waitNames(t, relist+soon, late.ips[0], late.names("late", "Deployment"))
	if took := time.Since(begin); took > relist+5*time.Second {
		t.Errorf("a new pod was named after %s; lists should come every %s", took, relist)
	}
	late.remove(t)
	e.waitNames(t, relist+soon, late.ips[0], names{})
	e.terminate(t)
	if n := len(slices.DeleteFunc(e.complaints(), func(l logLine) bool { return !mentions("watch")(l) })); n != 1 {
		t.Errorf("%d warnings about missing rights to watch, want 1", n)
	}
	seen := map[string]bool{}
	for _, l := range e.complaints() {
		if seen[l.Msg] {
			t.Errorf("repeated warning %q", l.Msg)
		}
		seen[l.Msg] = true
	}
}

// The API server goes away and comes back. It is not parallel: other tests need
// the server.
func TestServerRestart(t *testing.T) {
	ns := testNamespace(t)
	web := expected[slices.IndexFunc(expected, isDeploymentPod)]
	stays := createPod(t, pod{namespace: ns, name: "stays"})
	goes := createPod(t, pod{namespace: ns, name: "goes"})
	config := kubeconfig(t, metav1.NamespaceDefault, account)
	e := readyAs(t, config)
	e.waitNames(t, soon, goes.ips[0], goes.names("goes", "Pod"))
	before := resyncs(t, e)

	t.Cleanup(func() { // for the tests to come, whatever happens to this one
		if err := kube.StartAPIServer(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := kube.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := kube.Forget(t.Context(), "pods", ns, "goes"); err != nil {
		t.Fatal(err)
	}
	checkNames(t, e, []expectation{web})
	// One that starts while the server is away writes what it gets, and names
	// it later.
	startedOffline := start(t, "-kubeconfig", config, "-kube.sync-timeout", "1s")
	startedOffline.waitReady(t)
	startedOffline.waitNames(t, soon, web.addr, names{})

	if err := kube.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	checkNames(t, e, []expectation{web})
	late := createPod(t, pod{namespace: ns, name: "late"})
	for _, e := range []*enricher{e, startedOffline} {
		// Attempts come at growing intervals.
		e.waitNames(t, 3*soon, late.ips[0], late.names("late", "Pod"))
		e.waitNames(t, soon, goes.ips[0], names{})
		e.waitNames(t, soon, stays.ips[0], stays.names("stays", "Pod"))
		for _, x := range expected {
			e.waitNames(t, 3*soon, x.addr, x.want)
		}
		if status, body := e.get(t, "/readyz"); status != http.StatusOK {
			t.Errorf("/readyz: %d %s", status, body)
		}
	}
	// Both watch again, rather than look from time to time.
	fresh := createPod(t, pod{namespace: ns, name: "fresh"})
	for _, e := range []*enricher{e, startedOffline} {
		e.waitNames(t, soon/3, fresh.ips[0], fresh.names("fresh", "Pod"))
	}
	if after := resyncs(t, e); after <= before {
		t.Errorf("no resync counted: %v before and after", after)
	}
	e.terminate(t)
	startedOffline.terminate(t)
}

// resyncs counts the interruptions that the program had to make up for.
func resyncs(t *testing.T, e *enricher) float64 {
	t.Helper()
	m := e.metrics(t)
	return sum(m, "kube_relists_total") + sum(m, "kube_watch_errors_total")
}
