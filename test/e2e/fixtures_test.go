package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
)

const (
	shop    = "shop" // the namespace of what exists from the start
	account = "goflow"
	hostA   = "10.89.0.2" // address of node-a
	hostA6  = "fd00:89::2"
)

// nobody is an address that nothing in the cluster has.
var nobody = netip.MustParseAddr("203.0.113.1")

// expectation says what the program has to say of an address.
type expectation struct {
	what string
	addr netip.Addr
	want names
}

// expected is about everything that [populate] makes.
var expected []expectation

func expect(what string, want names, addrs ...netip.Addr) {
	for _, addr := range addrs {
		expected = append(expected, expectation{what, addr, want})
	}
}

// pod is what the tests want to know about a pod.
type pod struct {
	namespace, name string
	owner           *metav1.OwnerReference
	phase           corev1.PodPhase // Running if empty; what is not running ended long ago
	evicted         bool            // its containers are forgotten
	hostNetwork     bool
	ips             []netip.Addr // new ones if nil
	since           time.Time    // when it got them; now if zero
	annotations     map[string]string
	owners          []metav1.OwnerReference // more of them
}

// names are what the program has to say of the pod's addresses.
func (p *pod) names(workload, kind string) names {
	return names{"Pod": p.name, "Namespace": p.namespace, "HostIP": hostA, "Workload": workload, "WorkloadKind": kind}
}

var podCount, namespaceCount atomic.Uint32

// newIPs returns the addresses of one more pod, of both families.
func newIPs() []netip.Addr {
	n := podCount.Add(1) + 10
	return []netip.Addr{
		netip.AddrFrom4([4]byte{10, 244, byte(n >> 8), byte(n)}),
		netip.MustParseAddr(fmt.Sprintf("fd00:10:244::%x", n)),
	}
}

// create makes the pod on node-a, with the status that its kubelet would write.
func (p *pod) create(ctx context.Context) error {
	if p.ips == nil {
		p.ips = newIPs()
	}
	if p.phase == "" {
		p.phase = corev1.PodRunning
	}
	o := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, Annotations: p.annotations, OwnerReferences: p.owners},
		Spec:       corev1.PodSpec{NodeName: "node-a", HostNetwork: p.hostNetwork, Containers: containers},
	}
	if p.owner != nil {
		o.OwnerReferences = []metav1.OwnerReference{*p.owner}
	}
	pods := kube.Client.CoreV1().Pods(p.namespace)
	o, err := pods.Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.name, err)
	}
	since := metav1.Now()
	if !p.since.IsZero() {
		since = metav1.NewTime(p.since)
	}
	if p.phase != corev1.PodRunning {
		since = metav1.NewTime(since.Add(-time.Hour))
	}
	o.Status = corev1.PodStatus{
		Phase: p.phase, StartTime: &since,
		HostIP: hostA, HostIPs: []corev1.HostIP{{IP: hostA}, {IP: hostA6}},
		PodIP: p.ips[0].String(),
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: since},
		},
	}
	for _, ip := range p.ips {
		o.Status.PodIPs = append(o.Status.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	if p.phase != corev1.PodRunning && !p.evicted {
		o.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: containers[0].Name,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				StartedAt: since, FinishedAt: metav1.NewTime(since.Add(time.Minute)),
			}},
		}}
	}
	if _, err := pods.UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("status of pod %s: %w", p.name, err)
	}
	return nil
}

// createPod makes a pod for one test.
func createPod(t *testing.T, p pod) *pod {
	t.Helper()
	if err := p.create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &p
}

// finish ends the pod's containers; the pod stays.
func (p *pod) finish(t *testing.T) {
	t.Helper()
	patch := []byte(`{"status":{"phase":"Succeeded"}}`)
	_, err := kube.Client.CoreV1().Pods(p.namespace).Patch(t.Context(), p.name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// remove deletes the pod as a kubelet does when all is over.
func (p *pod) remove(t *testing.T) {
	t.Helper()
	if err := kube.Client.CoreV1().Pods(p.namespace).Delete(t.Context(), p.name, *metav1.NewDeleteOptions(0)); err != nil {
		t.Fatal(err)
	}
}

var (
	containers = []corev1.Container{{Name: "main", Image: "example.org/main"}}
	labels     = map[string]string{"app": "shop"}
	selector   = &metav1.LabelSelector{MatchLabels: labels}
	template   = corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labels},
		Spec:       corev1.PodSpec{Containers: containers},
	}
	jobTemplate = func() corev1.PodTemplateSpec {
		t := *template.DeepCopy()
		t.Spec.RestartPolicy = corev1.RestartPolicyNever
		return t
	}()
)

// populate makes what exists before the program starts: nodes, workloads of
// many kinds, services, and the objects of the example manifest.
func populate(ctx context.Context) error {
	for _, step := range []func(context.Context) error{applyExample, createNodes, createWorkloads, createNetworks, createServices} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("populate: %w", err)
		}
	}
	return nil
}

// applyExample applies the example manifest as its users do.
func applyExample(ctx context.Context) error {
	objects, err := cluster.ReadObjects(manifest)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if role, ok := o.(*rbacv1.ClusterRole); ok { // as on OpenShift
			role.Rules = append(role.Rules, rbacv1.PolicyRule{
				APIGroups: []string{""}, Resources: []string{"replicationcontrollers"}, Verbs: []string{"get", "list", "watch"},
			})
		}
		if err := kube.Apply(ctx, metav1.NamespaceDefault, o, false); err != nil {
			return err
		}
	}
	return nil
}

func createNodes(ctx context.Context) error {
	for _, n := range []struct {
		name, subnets string
		addresses     []string // the last two: what OVN-Kubernetes derives from subnets
	}{
		{"node-a", `{"default":["10.245.0.0/24","fd00:10:245::/64"]}`, []string{hostA, hostA6, "198.51.100.1", "10.245.0.2", "fd00:10:245::2"}},
		{"node-b", `{"default":"10.245.1.0/24"}`, []string{"10.89.0.3", "fd00:89::3", "198.51.100.2", "10.245.1.2"}},
	} {
		o := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name:        n.name,
			Labels:      map[string]string{corev1.LabelTopologyZone: "zone-" + n.name},
			Annotations: map[string]string{"k8s.ovn.org/node-subnets": n.subnets},
		}}
		o, err := kube.Client.CoreV1().Nodes().Create(ctx, o, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
		o.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: n.addresses[0]},
			{Type: corev1.NodeInternalIP, Address: n.addresses[1]},
			{Type: corev1.NodeExternalIP, Address: n.addresses[2]},
			{Type: corev1.NodeHostName, Address: n.name},
		}
		if _, err := kube.Client.CoreV1().Nodes().UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("status of node %s: %w", n.name, err)
		}
		for _, addr := range n.addresses {
			expect("node", names{"Workload": n.name, "WorkloadKind": "Node"}, netip.MustParseAddr(addr))
		}
	}
	return nil
}

func controller(o metav1.Object, group schema.GroupVersion, kind string) *metav1.OwnerReference {
	return metav1.NewControllerRef(o, group.WithKind(kind))
}

// replicaSet makes a ReplicaSet and returns the reference to it.
func replicaSet(ctx context.Context, namespace, name string, owner *metav1.OwnerReference) (*metav1.OwnerReference, error) {
	o := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{*owner}},
		Spec:       appsv1.ReplicaSetSpec{Selector: selector, Template: template},
	}
	o, err := kube.Client.AppsV1().ReplicaSets(namespace).Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("replicaset %s: %w", name, err)
	}
	return controller(o, appsv1.SchemeGroupVersion, "ReplicaSet"), nil
}

// deployment makes a Deployment with a ReplicaSet, whose name is the
// Deployment's and "-5d9c7b8f64", and returns the reference to the latter.
func deployment(ctx context.Context, namespace, name string) (*metav1.OwnerReference, error) {
	o := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Selector: selector, Template: template},
	}
	o, err := kube.Client.AppsV1().Deployments(namespace).Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("deployment %s: %w", name, err)
	}
	return replicaSet(ctx, namespace, name+"-5d9c7b8f64", controller(o, appsv1.SchemeGroupVersion, "Deployment"))
}

// job makes a Job and returns the reference to it.
func job(ctx context.Context, namespace, name string, owner *metav1.OwnerReference) (*metav1.OwnerReference, error) {
	o := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: batchv1.JobSpec{Template: jobTemplate}}
	if owner != nil {
		o.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	o, err := kube.Client.BatchV1().Jobs(namespace).Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", name, err)
	}
	return controller(o, batchv1.SchemeGroupVersion, "Job"), nil
}

// replicationController makes one and returns the reference to it.
func replicationController(ctx context.Context, namespace, name string, owner *metav1.OwnerReference) (*metav1.OwnerReference, error) {
	o := &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{*owner}},
		Spec:       corev1.ReplicationControllerSpec{Selector: labels, Template: &template},
	}
	o, err := kube.Client.CoreV1().ReplicationControllers(namespace).Create(ctx, o, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("replicationcontroller %s: %w", name, err)
	}
	return controller(o, corev1.SchemeGroupVersion, "ReplicationController"), nil
}

// custom refers to a controller of a kind that the API server does not have.
func custom(apiVersion, kind, name string) *metav1.OwnerReference {
	return &metav1.OwnerReference{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(kind + "-" + name), Controller: new(true)}
}

// createNetworks makes pods with addresses in other networks than the cluster's.
func createNetworks(ctx context.Context) error {
	for _, n := range []struct {
		name, annotation, text string
		addrs                  []string
	}{
		{
			"multus-0", "k8s.v1.cni.cncf.io/network-status",
			`[{"name":"cbr0","interface":"eth0","ips":["%s"],"mac":"0a:58:0a:f4:00:07","default":true,"dns":{}},` +
				`{"name":"shop/blue","interface":"net1","ips":["10.200.0.7","fd00:10:200::7"],"mac":"02:00:00:00:00:07","dns":{}}]`,
			[]string{"10.200.0.7", "fd00:10:200::7"},
		},
		{
			"ovn-0", "k8s.ovn.org/pod-networks",
			`{"default":{"ip_addresses":["%s/24"],"mac_address":"0a:58:0a:f4:00:08","gateway_ips":["10.244.0.1"],"ip_address":"%[1]s/24"},` +
				`"shop/red":{"ip_addresses":["10.201.0.8/24"],"mac_address":"02:00:00:00:00:08","ip_address":"10.201.0.8/24"}}`,
			[]string{"10.201.0.8"},
		},
	} {
		ips := newIPs()
		p := pod{namespace: shop, name: n.name, ips: ips, annotations: map[string]string{n.annotation: fmt.Sprintf(n.text, ips[0])}}
		if err := p.create(ctx); err != nil {
			return err
		}
		for _, a := range n.addrs {
			ips = append(ips, netip.MustParseAddr(a))
		}
		expect("pod in two networks", p.names(p.name, "Pod"), ips...)
	}
	return nil
}

func createWorkloads(ctx context.Context) error {
	if err := createNamespace(ctx, shop); err != nil {
		return err
	}
	var (
		create = metav1.CreateOptions{}
		apps   = kube.Client.AppsV1()
		batch  = kube.Client.BatchV1()
	)
	web, err := deployment(ctx, shop, "web")
	if err != nil {
		return err
	}
	rollout, err := replicaSet(ctx, shop, "canary-6f7d", &metav1.OwnerReference{
		APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout", Name: "canary", UID: "6c3a", Controller: new(true),
	})
	if err != nil {
		return err
	}
	db, err := apps.StatefulSets(shop).Create(ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Selector: selector, Template: template},
	}, create)
	if err != nil {
		return fmt.Errorf("statefulset: %w", err)
	}
	agent, err := apps.DaemonSets(shop).Create(ctx, &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       appsv1.DaemonSetSpec{Selector: selector, Template: template},
	}, create)
	if err != nil {
		return fmt.Errorf("daemonset: %w", err)
	}
	agentRef := controller(agent, appsv1.SchemeGroupVersion, "DaemonSet")
	nightly, err := batch.CronJobs(shop).Create(ctx, &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: "nightly"},
		Spec: batchv1.CronJobSpec{
			Schedule:    "0 3 * * *",
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: jobTemplate}},
		},
	}, create)
	if err != nil {
		return fmt.Errorf("cronjob: %w", err)
	}
	nightlyJob, err := job(ctx, shop, "nightly-29", controller(nightly, batchv1.SchemeGroupVersion, "CronJob"))
	if err != nil {
		return err
	}
	migrate, err := job(ctx, shop, "migrate", nil)
	if err != nil {
		return err
	}
	legacy, err := replicationController(ctx, shop, "legacy-1", custom("apps.openshift.io/v1", "DeploymentConfig", "legacy"))
	if err != nil {
		return err
	}

	host := []netip.Addr{netip.MustParseAddr(hostA), netip.MustParseAddr(hostA6)}
	for _, w := range []struct {
		pod
		workload, kind string
	}{
		{pod{name: "web-5d9c7b8f64-p2xkl", owner: web}, "web", "Deployment"},
		{pod{name: "canary-6f7d-hq8sd", owner: rollout}, "canary", "Rollout"},
		{pod{name: "db-0", owner: controller(db, appsv1.SchemeGroupVersion, "StatefulSet")}, "db", "StatefulSet"},
		{pod{name: "agent-x7k2p", owner: agentRef}, "agent", "DaemonSet"},
		{pod{name: "nightly-29-4kzzt", owner: nightlyJob}, "nightly", "CronJob"},
		{pod{name: "migrate-9wdlm", owner: migrate}, "migrate", "Job"},
		{pod{name: "shell"}, "shell", "Pod"},
		{pod{name: "legacy-1-6tpzn", owner: legacy}, "legacy", "DeploymentConfig"},
		{pod{name: "queue-0", owner: custom("core.strimzi.io/v1", "StrimziPodSet", "queue")}, "queue", "StrimziPodSet"},
		{pod{name: "train-0", owner: custom("batch.volcano.sh/v1alpha1", "Job", "train")}, "train", "Job"},
		{pod{name: "proxy-node-a", owner: &metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: "node-a", UID: "11", Controller: new(true)}}, "proxy-node-a", "Pod"},
		{pod{name: "shared", owners: []metav1.OwnerReference{
			{APIVersion: "example.org/v1", Kind: "Zebra", Name: "z", UID: "12"},
			{APIVersion: web.APIVersion, Kind: web.Kind, Name: web.Name, UID: web.UID},
		}}, "z", "Zebra"},
		// These have an address, but do not own it.
		{pod{name: "agent-host", owner: agentRef, hostNetwork: true, ips: host}, "", ""},
		{pod{name: "migrate-done", owner: migrate, phase: corev1.PodSucceeded}, "", ""},
		{pod{name: "migrate-failed", owner: migrate, phase: corev1.PodFailed}, "", ""},
		{pod{name: "migrate-evicted", owner: migrate, phase: corev1.PodFailed, evicted: true}, "", ""},
	} {
		p := w.pod
		p.namespace = shop
		if err := p.create(ctx); err != nil {
			return err
		}
		switch {
		case len(p.owners) > 1:
			want := p.names(w.workload, w.kind)
			want["Warn"] = "Several owners found for pod " + p.name + ": Zebra/z,ReplicaSet/" + web.Name
			expect("pod of several", want, p.ips...)
		case w.workload != "":
			expect("pod of a "+w.kind, p.names(w.workload, w.kind), p.ips...)
		case !p.hostNetwork:
			expect("finished pod", names{}, p.ips...)
		}
	}
	return nil
}

func createServices(ctx context.Context) error {
	services := kube.Client.CoreV1().Services(shop)
	ports := []corev1.ServicePort{{Port: 80}}
	balancer, external := "198.51.100.80", "198.51.100.81"
	o, err := services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Ports: ports, Selector: labels, ExternalIPs: []string{external},
			IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	clusterIPs := o.Spec.ClusterIPs
	o.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: balancer}, {Hostname: "web.example.org"}}
	if _, err := services.UpdateStatus(ctx, o, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("status of service: %w", err)
	}
	for _, ip := range append(clusterIPs, balancer, external) {
		expect("service", names{"Namespace": shop, "Workload": "web", "WorkloadKind": "Service"}, netip.MustParseAddr(ip))
	}

	_, err = services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "headless"},
		Spec:       corev1.ServiceSpec{Ports: ports, ClusterIP: corev1.ClusterIPNone},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("headless service: %w", err)
	}
	expect("nobody", names{}, nobody, netip.MustParseAddr("2001:db8::1"))
	return nil
}

func createNamespace(ctx context.Context, name string) error {
	o := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := kube.Client.CoreV1().Namespaces().Create(ctx, o, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	return nil
}

// testNamespace makes a namespace for one test.
func testNamespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("%s-%d", strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")), namespaceCount.Add(1))
	if err := createNamespace(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return name
}

// serviceAccount makes a service account, in a namespace of the test, whose
// rights everywhere are rules, and returns a kubeconfig file of it.
func serviceAccount(t *testing.T, namespace string, rules []rbacv1.PolicyRule) string {
	t.Helper()
	ctx, create := t.Context(), metav1.CreateOptions{}
	meta := metav1.ObjectMeta{Name: namespace}
	_, err1 := kube.Client.CoreV1().ServiceAccounts(namespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, create)
	_, err2 := kube.Client.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, create)
	_, err3 := kube.Client.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: namespace},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: namespace}},
	}, create)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return kubeconfig(t, namespace, namespace)
}
