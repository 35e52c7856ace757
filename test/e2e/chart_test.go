package e2e

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

const (
	chartDir  = root + "/charts/goflow2-kube-enricher"
	release   = "flows"
	chartName = release + "-goflow2-kube-enricher" // of the release's objects
	configDir = "/etc/kube-enricher"               // where the collector's container has its configuration

	// restricted is a namespace whose pods must be as Pod Security's strictest
	// level wants them, open one that warns only.
	restricted, open = "restricted", "open"
)

// daemonSetNeeds is how warnings about pods end that could be of the level `restricted`,
// were they not on the nodes' network, where HTTP may be on the loopback, and did they not keep
// templates in a directory of the node, which root alone may write to, and read OVN's sockets.
var daemonSetNeeds = regexp.MustCompile(`: host namespaces \(hostNetwork=true\)` +
	`(, probe or lifecycle host \(container "kube-enricher" uses probe or lifecycle host "[0-9a-f.:]+"\))?` +
	`(, seLinuxOptions \(pod set forbidden securityContext.seLinuxOptions: type "spc_t"\))?` +
	`(, restricted volume types \((volume "(templates|ovn)" uses|volumes "(templates|ovn)", "(templates|ovn)" use) restricted volume type "hostPath"\)` +
	`(, runAsNonRoot != true \(pod must not set securityContext.runAsNonRoot=false\), runAsUser=0 \(pod must not set runAsUser=0\))?)?"?$`)

// testPodEnds lets kwok end what `helm test` runs: kwok runs nothing. What that
// would run is run by the tests here.
const testPodEnds = `apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata:
  name: test-pod-ends
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchAnnotations: {helm.sh/hook: test}
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
      - {key: .status.phase, operator: In, values: [Running]}
  next:
    statusTemplate: |
      phase: Succeeded
`

// chartCluster is a cluster with controllers, nodes and an audit log.
type chartCluster struct {
	*cluster.Cluster
	dir, admin string // for files; kubeconfig with all rights
}

func newChartCluster(t *testing.T) *chartCluster {
	t.Helper()
	c := &chartCluster{dir: t.TempDir()}
	stage := filepath.Join(c.dir, "test-pod-ends.yaml")
	if err := os.WriteFile(stage, []byte(testPodEnds), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	c.Cluster, err = cluster.Start(t.Context(), "bin", c.dir, cluster.WithAudit(),
		cluster.WithControllers(stage, "volume/fast/pvc-provision.yaml", "volume/fast/pv-bind.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	c.admin = filepath.Join(c.dir, "admin.kubeconfig")
	for i := range 2 {
		c.createNode(t, i+1)
	}
	for name, level := range map[string]string{restricted: "enforce", open: "warn"} {
		_, err := c.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name:   name,
			Labels: map[string]string{"pod-security.kubernetes.io/" + level: "restricted", "pod-security.kubernetes.io/warn": "restricted"},
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The Prometheus operator's kinds, and a storage class.
	monitoring, err := cluster.ModuleDir(root+"/tools/chart", "github.com/prometheus-operator/prometheus-operator")
	if err != nil {
		t.Fatal(err)
	}
	kwok, err := cluster.ModuleDir(".", "sigs.k8s.io/kwok")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{
		monitoring + "/example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
		monitoring + "/example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
		monitoring + "/example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
		kwok + "/kustomize/stage/volume/fast/storage-class.yaml",
	} {
		c.run(t, "kubectl", "create", "-f", file)
	}
	c.run(t, "kubectl", "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
	c.run(t, "kubectl", "wait", "--for=condition=Ready", "--timeout=60s", "node", "--all")
	return c
}

// createNode makes a node of both families, which kwok keeps ready.
func (c *chartCluster) createNode(t *testing.T, n int) {
	t.Helper()
	_, err := c.Client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", n)},
		Spec:       corev1.NodeSpec{PodCIDR: fmt.Sprintf("10.244.%d.0/24", n), PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", n), fmt.Sprintf("fd00:10:244:%d::/64", n)}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", n)},
			{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("2001:db8::%d", n)},
			{Type: corev1.NodeHostName, Address: fmt.Sprintf("node-%d", n)},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// try runs one of the tools as the administrator.
func (c *chartCluster) try(ctx context.Context, tool string, args ...string) (stdout, stderr string, err error) {
	path, err := filepath.Abs(filepath.Join("bin", tool))
	if err != nil {
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.admin, "HOME="+c.dir)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", tool, strings.Join(args, " "), err, &out, &problems)
		return out.String(), problems.String(), err
	}
	return out.String(), problems.String(), nil
}

func (c *chartCluster) run(t *testing.T, tool string, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := c.try(t.Context(), tool, args...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr
}

// sets are values as arguments of helm.
func sets(values ...string) []string {
	var args []string
	for _, v := range values {
		args = append(args, "--set", v)
	}
	return args
}

// install installs or upgrades a release and waits until all is ready.
func (c *chartCluster) install(t *testing.T, release, namespace string, values ...string) (stdout, stderr string) {
	t.Helper()
	args := []string{"upgrade", release, chartDir, "--install", "--namespace", namespace, "--wait", "--timeout", "60s"}
	return c.run(t, "helm", append(args, sets(values...)...)...)
}

func (c *chartCluster) uninstall(t *testing.T, release, namespace string) {
	t.Helper()
	c.run(t, "helm", "uninstall", release, "--namespace", namespace, "--wait", "--timeout", "60s")
}

// TestChart tests the Helm chart on a cluster with controllers and nodes.
func TestChart(t *testing.T) {
	t.Parallel()
	c := newChartCluster(t)
	t.Run("lint", func(t *testing.T) {
		out, _ := c.run(t, "helm", "lint", "--strict", chartDir)
		if strings.Contains(out, "WARNING") {
			t.Error(out)
		}
	})
	t.Run("refusals", c.testRefusals)
	t.Run("files", c.testFiles)
	t.Run("recipe", c.testRecipe)
	t.Run("matrix", c.testMatrix)
	t.Run("lifecycle", c.testLifecycle)
	t.Run("volume", c.testVolume)
	t.Run("daemonset", c.testDaemonSet)
	t.Run("readiness", c.testReadiness)
	t.Run("rights", c.testRights)
}

// testRefusals: what makes no sense is refused, with a hint.
func (c *chartCluster) testRefusals(t *testing.T) {
	for values, want := range map[string]string{
		"replica=2":                       "replica",
		"service.typ=NodePort":            "typ",
		"kind=StatefulSet":                "Deployment",
		"replicas=two":                    "integer",
		"listen.netflow=65536":            "65,535",
		"listen.netflow=0,listen.sflow=0": "needs a port",
		"listen.allow={nodes}":            "pattern",
		"config.listen=flow://:2055":      "listen.netflow",
		"config.templates.file=/tmp/x":    "templates.storage",
		"config.kube.retian=1h":           "kube.retian is no flag",
		"config.hubble.addr=:4244":        "hubble.enabled",
		"config.ui.addr=:8082":            "ui.enabled",
		"hubble.port=0":                   "minimum",
		"config.check=true,config.n=shop": "n is no flag",
		"httpAddress=127.0.0.1":           "networkPolicy.metrics",
		"kind=DaemonSet,httpAddress=::1,podMonitor.enabled=true":           "metricsService.targetPort",
		"kind=DaemonSet,httpAddress=127.0.0.1,serviceMonitor.enabled=true": "metricsService.targetPort",
		"kafka.enabled=true,kafka.brokers={k:9092},kafka.config.topics=x":  "transport.kafka.topics is no flag",
		"kafka.enabled=true":   "kafka.brokers",
		"kafka.config.topic=x": "kafka.topic",
		"kafka.enabled=true,kafka.brokers={k:9092},kafka.sasl.mechanism=plain": "kafka.sasl.secret",
		"templates.storage=pvc,replicas=2":                                     "one replica",
		"templates.storage=pvc,kind=DaemonSet":                                 "one replica",
		"templates.storage=hostPath":                                           "for a DaemonSet",
		"templates.storage=hostPath,kind=DaemonSet,openshift=true":             "not for OpenShift",
		"templates.hostPath=var":                                               "pattern",
		"serviceMonitor.enabled=true,podMonitor.enabled=true":                  "choose one",
		"serviceMonitor.enabled=true,metricsService.enabled=false":             "metricsService.enabled",
	} {
		_, _, err := c.try(t.Context(), "helm", "template", release, chartDir, "--set", values)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want a refusal that says %q", values, err, want)
		}
	}
}

// testFiles: dashboards and rules are taken as they are, however many there are.
func (c *chartCluster) testFiles(t *testing.T) {
	chart := t.TempDir()
	if err := os.CopyFS(chart, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	render := func() (dashboards map[string]string, rules []any) {
		out, _ := c.run(t, "helm", "template", release, chart, "--set", "dashboards.enabled=true,prometheusRule.enabled=true")
		dashboards = map[string]string{}
		for _, o := range manifests(t, out) {
			if o.at("metadata", "labels", "grafana_dashboard") == "1" {
				for name, text := range o.at("data").(map[string]any) {
					dashboards[name] = strings.TrimSpace(text.(string))
				}
			}
			if o["kind"] == "PrometheusRule" {
				rules = append(rules, o.at("spec", "groups").([]any)...)
			}
		}
		return dashboards, rules
	}
	for _, dir := range []string{"/dashboards", "/rules"} {
		if err := errors.Join(os.RemoveAll(chart+dir), os.Mkdir(chart+dir, 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	if dashboards, rules := render(); len(dashboards)+len(rules) > 0 {
		t.Errorf("of nothing: %v, %v", dashboards, rules)
	}
	want := map[string]string{"one_a.json": `{"legend":"{{pod}}"}`, "two.json": "{\n  \"a\": 1\n}"}
	for name, text := range want {
		if err := os.WriteFile(chart+"/dashboards/"+name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		text := "groups:\n  - name: " + name + "\n    rules:\n      - {alert: A, expr: up == 0, annotations: {summary: '{{ $labels.pod }}'}}\n"
		if err := os.WriteFile(chart+"/rules/"+name+".yaml", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dashboards, rules := render()
	if !maps.Equal(dashboards, want) {
		t.Errorf("dashboards %q, want %q", dashboards, want)
	}
	if len(rules) != 2 || !strings.Contains(fmt.Sprint(rules), "{{ $labels.pod }}") {
		t.Errorf("rules: %v", rules)
	}
}

// testRecipe: the values that docs/security.md shows put a proxy before the metrics. The API server
// takes what they make.
func (c *chartCluster) testRecipe(t *testing.T) {
	page, err := os.ReadFile(root + "/docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	values := regexp.MustCompile("(?s)```yaml\n(kind: DaemonSet\n.*?)```").FindSubmatch(page)
	if values == nil {
		t.Fatal("docs/security.md has no values for a DaemonSet")
	}
	dir := t.TempDir()
	file, rendered := filepath.Join(dir, "values.yaml"), filepath.Join(dir, "rendered.yaml")
	if err := os.WriteFile(file, values[1], 0o600); err != nil {
		t.Fatal(err)
	}
	// A pod needs an account that exists.
	out, _ := c.run(t, "helm", "template", release, chartDir, "--namespace", open, "-f", file, "--set", "test.enabled=false")
	if err := os.WriteFile(rendered, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(t, "kubectl", "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", rendered)
	for _, o := range manifests(t, out) {
		if o["kind"] != "DaemonSet" {
			continue
		}
		containers, _ := o.at("spec", "template", "spec", "containers").([]any)
		if text := fmt.Sprint(containers); len(containers) != 2 || !strings.Contains(text, "name:https") {
			t.Errorf("no proxy in %s", text)
		}
	}
}

// object is a rendered object.
type object map[string]any

func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// manifests splits what helm rendered.
func manifests(t *testing.T, text string) []object {
	t.Helper()
	var objects []object
	for _, doc := range regexp.MustCompile(`(?m)^---\s*$`).Split(text, -1) {
		var o object
		if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		if len(o) > 0 {
			objects = append(objects, o)
		}
	}
	return objects
}

// collectorConfig is the program's configuration in rendered objects.
func collectorConfig(t *testing.T, objects []object) string {
	t.Helper()
	for _, o := range objects {
		if config, ok := o.at("data", "config.yaml").(string); ok && o["kind"] == "ConfigMap" {
			return config
		}
	}
	t.Fatal("no configuration in the rendered objects")
	return ""
}

// installed are the rendered objects of a release.
func (c *chartCluster) installed(t *testing.T, release, namespace string) []object {
	t.Helper()
	out, _ := c.run(t, "helm", "get", "manifest", release, "--namespace", namespace)
	return manifests(t, out)
}

func (c *chartCluster) deployment(t *testing.T, namespace string) *appsv1.Deployment {
	t.Helper()
	d, err := c.Client.AppsV1().Deployments(namespace).Get(t.Context(), chartName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// testLifecycle installs, asks for notes, tests, upgrades and uninstalls, where
// pods must be as the level `restricted` wants them.
func (c *chartCluster) testLifecycle(t *testing.T) {
	ctx := t.Context()
	_, problems := c.install(t, release, restricted)
	if strings.Contains(problems, "PodSecurity") {
		t.Error(problems)
	}
	d := c.deployment(t, restricted)
	if d.Status.AvailableReplicas != 1 {
		t.Errorf("%d pods are available", d.Status.AvailableReplicas)
	}
	s, err := c.Client.CoreV1().Services(restricted).Get(ctx, chartName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Spec.ClusterIPs) != 2 || s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
		t.Errorf("addresses %v, affinity %s; want both families, no affinity for one replica", s.Spec.ClusterIPs, s.Spec.SessionAffinity)
	}
	harness.Eventually(t, soon, "endpoints", func() (bool, any) {
		e, err := c.Client.DiscoveryV1().EndpointSlices(restricted).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + chartName})
		return err == nil && len(e.Items) == 2 && len(e.Items[0].Endpoints) == 1 && len(e.Items[0].Ports) == 2, e
	})
	c.checkNotes(t, s.Spec.ClusterIPs[0])
	c.run(t, "helm", "test", release, "--namespace", restricted, "--timeout", "60s")

	// An upgrade that changes the program's settings starts new pods; one that
	// does not, does not.
	const generation = "deployment.kubernetes.io/revision"
	before := d.Annotations[generation]
	c.install(t, release, restricted, "service.annotations.a=b")
	if after := c.deployment(t, restricted).Annotations[generation]; after != before {
		t.Errorf("an upgrade of the Service made revision %s of the pods out of %s", after, before)
	}
	c.install(t, release, restricted, "config.fields={default,+SrcNode}", "replicas=2")
	d = c.deployment(t, restricted)
	if after := d.Annotations[generation]; after == before {
		t.Error("an upgrade of the configuration did not roll the pods out")
	}
	if d.Status.AvailableReplicas != 2 || d.Status.UpdatedReplicas != 2 {
		t.Errorf("after the upgrade: %+v", d.Status)
	}
	if s, err = c.Client.CoreV1().Services(restricted).Get(ctx, chartName, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		t.Errorf("affinity with two replicas: %s", s.Spec.SessionAffinity)
	}
	c.uninstall(t, release, restricted)

	// IPv6 only: brackets.
	c.install(t, release, restricted, "service.ipFamilyPolicy=SingleStack", "service.ipFamilies={IPv6}")
	if s, err = c.Client.CoreV1().Services(restricted).Get(ctx, chartName, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	c.checkNotes(t, s.Spec.ClusterIP)
	c.uninstall(t, release, restricted)
	c.checkGone(t, restricted)
}

// checkGone checks that nothing is left of the release.
func (c *chartCluster) checkGone(t *testing.T, namespace string) {
	t.Helper()
	kinds, _ := c.run(t, "kubectl", "api-resources", "--verbs=list", "-o", "name")
	list := strings.Join(strings.Fields(kinds), ",")
	harness.Eventually(t, soon, "end of all objects", func() (bool, any) {
		left, _ := c.run(t, "kubectl", "get", list, "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name", "--ignore-not-found")
		left = strings.TrimSpace(regexp.MustCompile(`(?m)^event.*$`).ReplaceAllString(left, ""))
		return left == "", left
	})
	if roles, _ := c.run(t, "kubectl", "get", "clusterroles,clusterrolebindings", "-o", "name"); strings.Contains(roles, chartName) {
		t.Errorf("left in %s: %s", namespace, roles)
	}
}

// checkNotes runs the commands that the notes show, with a kubectl and an oc that
// do what reads and print what writes.
func (c *chartCluster) checkNotes(t *testing.T, addr string) {
	t.Helper()
	target := addr + ":2055"
	if strings.Contains(addr, ":") {
		target = "[" + addr + "]:2055"
	}
	said := c.runNotes(t, restricted)
	const set = "kubectl set env daemonset/ovnkube-node -c ovnkube-* -n ovn-kubernetes OVN_IPFIX_TARGETS="
	rest := said
	for _, want := range []string{ // in this order: an image, as long as none is published, the nodes' own collectors first, then the Service
		"make image push IMAGE=registry.example/goflow2-kube VERSION=v0.1.0\n",
		"helm upgrade " + release + " charts/goflow2-kube-enricher --namespace " + restricted + " --reuse-values --set image.repository=registry.example/goflow2-kube\n",
		"kubectl label namespace " + restricted + " pod-security.kubernetes.io/enforce=privileged\n",
		"helm upgrade " + release + " charts/goflow2-kube-enricher --namespace " + restricted + " --reuse-values --set kind=DaemonSet\n",
		set + ":2055 OVN_IPFIX_CACHE_MAX_FLOWS=10000\n",
		"oc create configmap ovs-flows-config -n openshift-network-operator --from-literal=nodePort=2055 --from-literal=cacheMaxFlows=10000\n",
		set + target + " OVN_IPFIX_CACHE_MAX_FLOWS=10000\n",
		`oc patch networks.operator.openshift.io cluster --type=merge -p {"spec":{"exportNetworkFlows":{"ipfix":{"collectors":["` + target + `"]}}}}` + "\n",
	} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Errorf("the notes' commands are\n%swanted is, after those before it,\n%s", said, want)
			break
		}
	}
}

func (c *chartCluster) runNotes(t *testing.T, namespace string) string {
	t.Helper()
	notes, _ := c.run(t, "helm", "get", "notes", release, "--namespace", namespace)
	kubectl, err := filepath.Abs("bin/kubectl")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("set -eu\nkubectl() { case $1 in get) %s \"$@\" ;; *) echo kubectl \"$@\" ;; esac; }\noc() { echo oc \"$@\"; }\nhelm() { echo helm \"$@\"; }\nmake() { echo make \"$@\" IMAGE=$IMAGE VERSION=$VERSION; }\n", kubectl)
	for line := range strings.Lines(notes) { // commands are indented
		if strings.HasPrefix(line, "  ") {
			script += line
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.admin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the notes' commands: %v\n%s\n%s", err, out, notes)
	}
	return string(out)
}

// testVolume: templates on a claim, added later, which outlives the release.
func (c *chartCluster) testVolume(t *testing.T) {
	c.install(t, release, restricted)
	c.install(t, release, restricted, "templates.storage=pvc")
	d := c.deployment(t, restricted)
	if d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType || d.Spec.Template.Spec.SecurityContext.FSGroup == nil {
		t.Errorf("strategy %s, security context %+v", d.Spec.Strategy.Type, d.Spec.Template.Spec.SecurityContext)
	}
	c.uninstall(t, release, restricted)
	claims := c.Client.CoreV1().PersistentVolumeClaims(restricted)
	if _, err := claims.Get(t.Context(), chartName+"-templates", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	c.install(t, release, restricted, "templates.storage=pvc") // takes up the claim that is there
	c.uninstall(t, release, restricted)
	c.install(t, release, restricted, "templates.storage=pvc", "templates.pvc.existingClaim="+chartName+"-templates")
	c.uninstall(t, release, restricted)
	if err := claims.Delete(t.Context(), chartName+"-templates", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

// testDaemonSet: a collector on each node's network, with templates on the node. That is
// all that the level `restricted` has against it.
func (c *chartCluster) testDaemonSet(t *testing.T) {
	_, problems := c.install(t, release, open, "kind=DaemonSet")
	found := regexp.MustCompile(`would violate PodSecurity .*`).FindAllString(strings.ReplaceAll(problems, `\`, ""), -1)
	if len(found) != 1 || !daemonSetNeeds.MatchString(found[0]) {
		t.Errorf("warnings: %q", problems)
	}
	pods, err := c.Client.CoreV1().Pods(open).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + release})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		nodes[p.Spec.NodeName] = true
		if !p.Spec.HostNetwork || p.Status.PodIP != p.Status.HostIP {
			t.Errorf("pod %s on %s: %s", p.Name, p.Status.HostIP, p.Status.PodIP)
		}
	}
	if len(nodes) != 2 || len(pods.Items) != 2 {
		t.Errorf("%d pods on nodes %v", len(pods.Items), nodes)
	}
	said := c.runNotes(t, open)
	for _, want := range []string{
		"kubectl set env daemonset/ovnkube-node -c ovnkube-* -n ovn-kubernetes OVN_IPFIX_TARGETS=:2055 OVN_IPFIX_CACHE_MAX_FLOWS=10000\n",
		"oc create configmap ovs-flows-config -n openshift-network-operator --from-literal=nodePort=2055 --from-literal=cacheMaxFlows=10000\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the notes' commands are\n%swanted is\n%s", said, want)
		}
	}
	c.uninstall(t, release, open)
}

// inhabitants makes workloads of each kind that a right is for, and says what
// they are called with all rights.
func (c *chartCluster) inhabitants(t *testing.T) map[string]expectation {
	t.Helper()
	ctx, create := t.Context(), metav1.CreateOptions{}
	const ns = "default"
	one := int32(1)
	yes := true
	_, err1 := c.Client.AppsV1().Deployments(ns).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: appsv1.DeploymentSpec{Replicas: &one, Selector: selector, Template: template},
	}, create)
	cron, err2 := c.Client.BatchV1().CronJobs(ns).Create(ctx, &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly"},
		Spec:       batchv1.CronJobSpec{Schedule: "0 0 1 1 *", Suspend: &yes, JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: jobTemplate}}},
	}, create)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	_, err1 = c.Client.BatchV1().Jobs(ns).Create(ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Name: "nightly-1", OwnerReferences: []metav1.OwnerReference{*controller(cron, batchv1.SchemeGroupVersion, "CronJob")},
		},
		Spec: batchv1.JobSpec{Template: jobTemplate},
	}, create)
	config := &metav1.ObjectMeta{Name: "old", UID: "00000000-0000-0000-0000-000000000001"}
	_, err2 = c.Client.CoreV1().ReplicationControllers(ns).Create(ctx, &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{
			Name: "old-1", OwnerReferences: []metav1.OwnerReference{*controller(config, schema.GroupVersion{Group: "apps.openshift.io", Version: "v1"}, "DeploymentConfig")},
		},
		Spec: corev1.ReplicationControllerSpec{Replicas: &one, Selector: map[string]string{"old": "1"}, Template: &corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"old": "1"}}, Spec: template.Spec,
		}},
	}, create)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	found := map[string]expectation{}
	harness.Eventually(t, soon, "running pods", func() (bool, any) {
		pods, err := c.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for i := range pods.Items {
			p := &pods.Items[i]
			if p.Status.PodIP == "" || len(p.OwnerReferences) == 0 {
				continue
			}
			want := map[string][2]string{
				"ReplicaSet": {"web", "Deployment"}, "Job": {"nightly", "CronJob"}, "ReplicationController": {"old", "DeploymentConfig"},
			}[p.OwnerReferences[0].Kind]
			found[p.OwnerReferences[0].Kind] = expectation{"pod", netip.MustParseAddr(p.Status.PodIP), names{
				"Pod": p.Name, "Namespace": ns, "HostIP": p.Status.HostIP, "Workload": want[0], "WorkloadKind": want[1],
			}}
		}
		return len(found) == 3, found
	})
	s, err := c.Client.CoreV1().Services(ns).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found["Service"] = expectation{"service", netip.MustParseAddr(s.Spec.ClusterIP), names{"Namespace": ns, "Workload": "kubernetes", "WorkloadKind": "Service"}}
	found["Node"] = expectation{"node", netip.MustParseAddr("192.0.2.1"), names{"Workload": "node-1", "WorkloadKind": "Node"}}
	return found
}

// testRights runs the program with the chart's settings and its service
// account, with all rights and without each that can be left out. It asks for
// nothing that is forbidden.
func (c *chartCluster) testRights(t *testing.T) {
	all := c.inhabitants(t)
	for _, x := range []struct {
		value, resource, group string
		without                map[string][2]string // workloads and their kinds that are different then
	}{
		{},
		{"rbac.nodes=false", "nodes", "", map[string][2]string{"Node": {}}},
		{"rbac.jobs=false", "jobs", "batch", map[string][2]string{"Job": {"nightly-1", "Job"}}},
		{"rbac.endpointSlices=false", "endpointslices", "discovery.k8s.io", nil},
		{"rbac.replicationControllers=false", "replicationcontrollers", "", map[string][2]string{"ReplicationController": {"old-1", "ReplicationController"}}},
	} {
		// An own release: its account's requests are told from others'.
		release := strings.ToLower(strings.NewReplacer(".", "-", "=false", "").Replace("all-but-" + cmp.Or(x.value, "nothing")))
		t.Run(release, func(t *testing.T) {
			values := []string{"fullnameOverride=" + release}
			if x.value != "" {
				values = append(values, x.value)
			}
			c.install(t, release, restricted, values...)
			defer c.uninstall(t, release, restricted)
			role := c.clusterRole(t, restricted+"-"+release)
			if x.value != "" {
				c.waitDenied(t, release, x.group, x.resource)
			}
			e := c.startCollector(t, release)
			var want []expectation
			for kind, w := range all {
				if other, ok := x.without[kind]; ok {
					w.want = maps.Clone(w.want)
					w.want["Workload"], w.want["WorkloadKind"] = other[0], other[1]
					if other[0] == "" {
						w.want = names{}
					}
				}
				e.waitNames(t, soon, w.addr, w.want)
				want = append(want, w)
			}
			checkNames(t, e, want)
			e.terminate(t)
			// Of what few clusters have, a missing right is no warning.
			quiet := x.value == "" || x.resource == "endpointslices"
			if complaints := e.complaints(); quiet && len(complaints) > 0 ||
				!quiet && (len(complaints) != 1 || !mentions("no right to list "+x.resource)(complaints[0])) {
				t.Errorf("warnings: %v", complaints)
			}
			c.checkRequests(t, release, role)
		})
	}
	t.Run("audit log", func(t *testing.T) { c.checkAudit(t) })
}

func (c *chartCluster) clusterRole(t *testing.T, name string) *rbacv1.ClusterRole {
	t.Helper()
	role, err := c.Client.RbacV1().ClusterRoles().Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return role
}

// waitDenied waits until the API server knows that an account has no right to
// list a resource, and that it has to list pods.
func (c *chartCluster) waitDenied(t *testing.T, account, group, resource string) {
	t.Helper()
	may := func(group, resource string) bool {
		answer, err := c.Client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:               "system:serviceaccount:" + restricted + ":" + account,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "list", Group: group, Resource: resource},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.Status.Allowed
	}
	harness.Eventually(t, soon, "right to list pods, none to list "+resource, func() (bool, any) {
		return may("", "pods") && !may(group, resource), resource
	})
}

// startCollector starts the program as the chart would have it started, but on
// ports and with files of the test.
func (c *chartCluster) startCollector(t *testing.T, release string) *enricher {
	t.Helper()
	dir := t.TempDir()
	objects := c.installed(t, release, restricted)
	i := slices.IndexFunc(objects, func(o object) bool { return o["kind"] == "Deployment" })
	d := objects[i].at("spec", "template", "spec").(map[string]any)
	account, _ := d["serviceAccountName"].(string)
	container := d["containers"].([]any)[0].(map[string]any)
	config := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(config, []byte(collectorConfig(t, objects)), 0o600); err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, a := range container["args"].([]any) {
		args = append(args, strings.Replace(a.(string), configDir, dir, 1))
	}
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := c.Kubeconfig(t.Context(), kubeconfig, restricted, account); err != nil {
		t.Fatal(err)
	}
	e := start(t, append(args, "-templates.file", filepath.Join(dir, "templates.json"), "-kubeconfig", kubeconfig)...)
	e.waitReady(t)
	return e
}

// checkRequests checks in the audit log that an account asked for nothing that
// was forbidden, for nothing but what its role is about, and that it made use of
// the whole role.
func (c *chartCluster) checkRequests(t *testing.T, account string, role *rbacv1.ClusterRole) {
	t.Helper()
	requests, err := c.Requests(restricted, account)
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]bool{} // resource.group
	for i := range requests {
		r := &requests[i]
		if r.Status.Code == 401 || r.Status.Code == 403 {
			t.Errorf("forbidden: %s", r)
		}
		if r.Ref.Resource == "selfsubjectaccessreviews" && r.Verb == "create" {
			continue
		}
		if r.Ref.Resource == "" && r.Verb == "get" {
			continue // discovery, which is everybody's
		}
		asked[r.Ref.Resource+"."+r.Ref.APIGroup] = true
		if !slices.ContainsFunc(role.Rules, func(rule rbacv1.PolicyRule) bool {
			return slices.Contains(rule.APIGroups, r.Ref.APIGroup) && slices.Contains(rule.Resources, r.Ref.Resource) && slices.Contains(rule.Verbs, r.Verb)
		}) {
			t.Errorf("not in the role: %s", r)
		}
	}
	granted := map[string]bool{}
	for _, rule := range role.Rules {
		for _, resource := range rule.Resources {
			granted[resource+"."+rule.APIGroups[0]] = true
		}
		if !slices.Equal(rule.Verbs, []string{"get", "list", "watch"}) {
			t.Errorf("verbs %v on %v", rule.Verbs, rule.Resources)
		}
	}
	if !maps.Equal(asked, granted) {
		t.Errorf("rights to %v, asked for %v", granted, asked)
	}
}

// checkAudit checks that the audit log would tell.
func (c *chartCluster) checkAudit(t *testing.T) {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.Kubeconfig(t.Context(), kubeconfig, "default", "default"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.try(t.Context(), "kubectl", "--kubeconfig", kubeconfig, "get", "pods"); err == nil {
		t.Error("pods were listed without rights")
	}
	requests, err := c.Requests("default", "default")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(requests, func(r cluster.Request) bool { return r.Ref.Resource == "pods" && r.Status.Code == 403 }) {
		t.Errorf("a forbidden request is not in the audit log: %v", requests)
	}
}
