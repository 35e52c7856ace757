package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/proc"
)

// The cluster of the benchmark.
const (
	benchPods     = 50_000
	benchSets     = 20_000
	benchServices = 10_000
	benchNodes    = 1_000
	benchSlices   = 10_000 // EndpointSlices without pods, of two addresses each
	benchEgress   = 1_000

	benchRuns = 3
)

// TestBenchKube measures, if BENCH_KUBE is set, how fast a big cluster is known
// and how much memory that takes, beside plain client-go.
func TestBenchKube(t *testing.T) {
	if os.Getenv("BENCH_KUBE") == "" {
		t.Skip("needs BENCH_KUBE: make bench-kube")
	}
	config := serviceAccount(t, testNamespace(t), []rbacv1.PolicyRule{
		rule("", "pods", "services", "nodes"), rule("apps", "replicasets"), rule("batch", "jobs"),
		rule("discovery.k8s.io", "endpointslices"), rule("k8s.ovn.org", "egressips"),
	})
	begin := time.Now()
	loadBench(t)
	t.Logf("%d pods, %d replicasets, %d services, %d nodes, %d endpointslices, %d egressips were stored in %.0f s",
		benchPods, benchSets, benchServices, benchNodes, benchSlices, benchEgress, time.Since(begin).Seconds())

	plain := filepath.Join(t.TempDir(), "informer")
	if out, err := exec.Command("go", "build", "-o", plain, "./informer").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	type row struct {
		ready, cpu, settled, peak, heap float64
		lookup
	}
	var ours, theirs row
	var runs []row
	for range benchRuns {
		begin := time.Now()
		e := start(t, "-kubeconfig", config)
		client := http.Client{Timeout: time.Second}
		harness.Eventually(t, 2*time.Minute, "readiness", func() (bool, any) {
			response, err := client.Get("http://" + e.http + "/readyz")
			if err != nil {
				return false, err
			}
			_ = response.Body.Close()
			return response.StatusCode == http.StatusOK, response.Status
		})
		r := row{ready: time.Since(begin).Seconds(), cpu: cpuSeconds(t, e.Process)}
		pause(t.Context(), 10*time.Second) // what the first list left behind is given back
		r.settled, r.peak = memory(t, e.Process, "VmRSS"), memory(t, e.Process, "VmHWM")
		for kind, want := range map[string]float64{"endpointslice": benchSlices, "egressip": benchEgress} {
			if got := objectsOf(e.metrics(t), kind); got < want {
				t.Errorf("%v of %s are known", got, kind)
			}
		}
		r.heap = e.metrics(t)["go_memstats_heap_alloc_bytes"].GetMetric()[0].GetGauge().GetValue() / (1 << 20)
		runs = append(runs, r)
		e.terminate(t)
	}
	t.Logf("runs: %+v", runs)
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		t.Logf("load: %s", load)
	}
	slices.SortFunc(runs, func(a, b row) int { return int(1000 * (a.ready - b.ready)) })
	ours = runs[len(runs)/2]
	ours.peak = 0
	for _, r := range runs {
		ours.settled, ours.peak = max(ours.settled, r.settled), max(ours.peak, r.peak)
	}
	huge, small := benchLookup(t)
	ours.lookup = small
	pages := "kube-enricher's look-up is in pages of 4 KiB: the kernel gives no huge ones"
	if huge != (lookup{}) {
		ours.lookup = huge
		pages = fmt.Sprintf("kube-enricher's look-up is in huge pages, as the program has it; in pages of 4 KiB %.0f ns", small.nanos)
	}

	cmd := exec.Command(plain, config)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	p, err := proc.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatalf("plain client-go: %v: %s", err, &stderr)
	}
	var f struct {
		Seconds float64
		CPU     float64
		Heap    float64
		Nanos   float64
		Allocs  int64
		Pods    int
		Created float64
	}
	if err := json.Unmarshal(line, &f); err != nil {
		t.Fatal(err)
	}
	theirs = row{ready: f.Seconds, cpu: f.CPU, settled: memory(t, p, "VmRSS"), peak: memory(t, p, "VmHWM"), heap: f.Heap / (1 << 20), lookup: lookup{f.Nanos, f.Created, fmt.Sprint(f.Allocs)}}
	_ = stdin.Close()
	if err := p.Err(); err != nil {
		t.Error(err)
	}
	if f.Pods < benchPods {
		t.Errorf("plain client-go knows %d addresses", f.Pods)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-24s %10s %10s %10s %10s %10s %10s %7s %10s\n", "", "ready s", "CPU s", "RSS MiB", "peak MiB", "heap MiB", "look-up ns", "allocs", "pods/s")
	for _, line := range []struct {
		name string
		row
	}{{"kube-enricher", ours}, {"client-go ByIndex", theirs}} {
		fmt.Fprintf(&b, "%-24s %10.2f %10.2f %10.0f %10.0f %10.0f %10.0f %7s %10.0f\n", line.name, line.ready, line.cpu, line.settled, line.peak, line.heap, line.nanos, line.allocs, line.created)
	}
	fmt.Fprintf(&b, "ready s and CPU s: until ready, the median of %d runs, of which memory is the most; look-up: while so many pods/s come and go in the index, as in pods/s\n%s\nclient-go: shared informers of full objects, one run, heap after a collection\n", benchRuns, pages)
	fmt.Print(b.String())
}

// memory reads a figure of a process, in MiB.
func memory(t *testing.T, p *proc.Process, name string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == name+":" {
			n, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n / 1024
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// cpuSeconds is the processor time that a process has used.
func cpuSeconds(t *testing.T, p *proc.Process) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	// The name, in parentheses, is the second field; these are the 14th and 15th,
	// in hundredths of a second.
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	user, err1 := strconv.ParseFloat(f[11], 64)
	system, err2 := strconv.ParseFloat(f[12], 64)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return (user + system) / 100
}

var benchResult = regexp.MustCompile(`BenchmarkLookup/pods=50000/churn=200(/hugepages)?(?:-\d+)?\s+\d+\s+([\d.]+) ns/op\s+([\d.]+) pods/s.*\s(\d+) allocs/op`)

// benchLookup runs the benchmark of the program's own index, with huge pages and
// without. The former is zero where the kernel gives none.
func benchLookup(t *testing.T) (with, without lookup) {
	t.Helper()
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^BenchmarkLookup$", "./enrich")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	matches := benchResult.FindAllSubmatch(out, -1)
	if err != nil || len(matches) == 0 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, m := range matches {
		nanos, err1 := strconv.ParseFloat(string(m[2]), 64)
		created, err2 := strconv.ParseFloat(string(m[3]), 64)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		r := lookup{nanos, created, string(m[4])}
		if len(m[1]) > 0 {
			with = r
		} else {
			without = r
		}
	}
	return with, without
}

// lookup is what one look-up takes while created pods a second come and go.
type lookup struct {
	nanos, created float64
	allocs         string
}

// objectsOf returns how many objects of a kind the program knows.
func objectsOf(families map[string]*dto.MetricFamily, kind string) float64 {
	for _, m := range families["kube_enricher_kube_objects"].GetMetric() {
		if m.GetLabel()[0].GetValue() == kind {
			return m.GetGauge().GetValue()
		}
	}
	return 0
}

// loadBench fills the cluster with objects of the usual size.
func loadBench(t *testing.T) {
	t.Helper()
	const namespaces = 50
	namespace := func(i int) string { return fmt.Sprintf("bench-%d", i%namespaces) }
	for i := range namespaces {
		if err := createNamespace(t.Context(), namespace(i)); err != nil {
			t.Fatal(err)
		}
	}
	now := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	meta := func(name string, kind, i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: namespace(i), Name: name, CreationTimestamp: now, Generation: 1,
			UID:         types.UID(fmt.Sprintf("%d0000000-0000-4000-8000-%012d", kind, i)),
			Labels:      map[string]string{"app": fmt.Sprintf("app-%d", i/5), "pod-template-hash": "5d9c7b8f64", "app.kubernetes.io/part-of": "bench", "version": "v1"},
			Annotations: map[string]string{"example.org/config-checksum": strings.Repeat("0123456789abcdef", 4)},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &now, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"1\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:env":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{},"f:resources":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}`),
			}},
		}
	}
	container := corev1.Container{
		Name: "main", Image: "registry.example.org/team/application:v1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
		Env:                    []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "DATABASE_HOST", Value: "db.example.org"}},
		Ports:                  []corev1.ContainerPort{{ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		VolumeMounts:           []corev1.VolumeMount{{Name: "kube-api-access", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}},
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
	hostIP := func(i int) string { return fmt.Sprintf("172.18.%d.%d", i%benchNodes/250, i%benchNodes%250+1) }
	set := func(i int) string { return fmt.Sprintf("app-%d-5d9c7b8f64", i) }
	spec := corev1.PodSpec{
		Containers: []corev1.Container{container}, RestartPolicy: corev1.RestartPolicyAlways, DNSPolicy: corev1.DNSClusterFirst,
		SchedulerName: "default-scheduler", ServiceAccountName: "default", TerminationGracePeriodSeconds: new(int64(30)), SecurityContext: &corev1.PodSecurityContext{},
		Volumes: []corev1.Volume{{Name: "kube-api-access", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	}
	condition := func(kind corev1.PodConditionType) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now}
	}
	(&kindsCluster{kube, t}).define("k8s.ovn.org", "EgressIP", "Cluster")
	for _, load := range []struct {
		resource string
		count    int
		object   func(i int) runtime.Object
	}{
		{"minions", benchNodes, func(i int) runtime.Object {
			o := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: meta(fmt.Sprintf("bench-node-%d", i), 4, i)}
			o.Namespace, o.Labels[corev1.LabelTopologyZone] = "", fmt.Sprintf("zone-%d", i%3)
			o.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: hostIP(i)}}
			return o
		}},
		{"replicasets", benchSets, func(i int) runtime.Object {
			o := &appsv1.ReplicaSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}, ObjectMeta: meta(set(i), 1, i)}
			o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: fmt.Sprintf("app-%d", i), UID: types.UID(fmt.Sprintf("50000000-0000-4000-8000-%012d", i)), Controller: new(true)}}
			o.Spec = appsv1.ReplicaSetSpec{Replicas: new(int32(3)), Selector: selector, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec}}
			return o
		}},
		{"services/specs", benchServices, func(i int) runtime.Object {
			o := &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta(fmt.Sprintf("app-%d", i), 3, i)}
			ip := fmt.Sprintf("10.96.%d.%d", 20+i/250, i%250+1)
			o.Spec = corev1.ServiceSpec{
				Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack), Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}}, Selector: labels,
				SessionAffinity: corev1.ServiceAffinityNone, InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyCluster),
			}
			return o
		}},
		{"endpointslices", benchSlices, func(i int) runtime.Object {
			o := &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: meta(fmt.Sprintf("app-%d-external", i), 6, i)}
			o.Labels[discoveryv1.LabelServiceName], o.Labels[discoveryv1.LabelManagedBy] = fmt.Sprintf("app-%d", i), "staff"
			o.AddressType = discoveryv1.AddressTypeIPv4
			o.Ports = []discoveryv1.EndpointPort{{Name: new(""), Port: new(int32(443)), Protocol: new(corev1.ProtocolTCP)}}
			for j := range 2 {
				o.Endpoints = append(o.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("198.18.%d.%d", i/125+80*j, i%125+1)}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}})
			}
			return o
		}},
		{"k8s.ovn.org/egressips", benchEgress, func(i int) runtime.Object {
			ip := fmt.Sprintf("172.19.%d.%d", i/250, i%250+1)
			return &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "k8s.ovn.org/v1", "kind": "EgressIP",
				"metadata": map[string]any{"name": fmt.Sprintf("egress-%d", i), "uid": fmt.Sprintf("70000000-0000-4000-8000-%012d", i), "creationTimestamp": now.UTC().Format(time.RFC3339)},
				"spec":     map[string]any{"egressIPs": []any{ip}, "namespaceSelector": map[string]any{"matchLabels": map[string]any{"kubernetes.io/metadata.name": namespace(i)}}},
				"status":   map[string]any{"items": []any{map[string]any{"node": fmt.Sprintf("bench-node-%d", i), "egressIP": ip}}},
			}}
		}},
		{"pods", benchPods, func(i int) runtime.Object {
			n := i * 2 / 5 // of 20,000 replicasets
			o := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: meta(fmt.Sprintf("%s-%05d", set(n), i), 2, i)}
			o.Namespace = namespace(n)
			o.GenerateName = set(n) + "-"
			o.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: set(n), UID: types.UID(fmt.Sprintf("10000000-0000-4000-8000-%012d", n)), Controller: new(true)}}
			o.Spec = spec
			o.Spec.NodeName = fmt.Sprintf("bench-node-%d", i%benchNodes)
			ip := fmt.Sprintf("10.%d.%d.%d", 128+i/62500, i/250%250, i%250+1)
			o.Status = corev1.PodStatus{
				Phase: corev1.PodRunning, StartTime: &now, HostIP: hostIP(i), HostIPs: []corev1.HostIP{{IP: hostIP(i)}}, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, QOSClass: corev1.PodQOSBestEffort,
				Conditions: []corev1.PodCondition{condition(corev1.PodReadyToStartContainers), condition(corev1.PodInitialized), condition(corev1.PodReady), condition(corev1.ContainersReady), condition(corev1.PodScheduled)},
				ContainerStatuses: []corev1.ContainerStatus{{
					Name: "main", Ready: true, Image: container.Image, ImageID: "registry.example.org/team/application@sha256:" + strings.Repeat("0123456789abcdef", 4),
					ContainerID: "containerd://" + strings.Repeat("0123456789abcdef", 4), Started: new(true), State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
				}},
			}
			return o
		}},
	} {
		if err := kube.Store(t.Context(), load.resource, load.count, load.object); err != nil {
			t.Fatal(err)
		}
	}
	harness.Eventually(t, soon, "all pods at the API server", func() (bool, any) {
		list, err := kube.Client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{Limit: 1})
		if err != nil {
			return false, err
		}
		n := int64(len(list.Items))
		if list.RemainingItemCount != nil {
			n += *list.RemainingItemCount
		}
		return n >= benchPods, n
	})
}
