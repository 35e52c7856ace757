package e2e

import (
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/cluster"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
)

// The manifests are strict YAML of known fields, accepted by the API server,
// each all of one name, asking for no more rights than documented, and their
// pods run where only restricted ones may.
func TestManifest(t *testing.T) {
	t.Parallel()
	for file, name := range map[string]string{manifest: account, legacyManifest: account + "-legacy"} {
		t.Run(name, func(t *testing.T) { checkManifest(t, file, name) })
	}
}

func checkManifest(t *testing.T, file, name string) {
	t.Helper()
	ctx := t.Context()
	objects, err := cluster.ReadObjects(file)
	if err != nil {
		t.Fatal(err)
	}
	ns := testNamespace(t)
	enforce := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`)
	if _, err := kube.Client.CoreV1().Namespaces().Patch(ctx, ns, types.MergePatchType, enforce, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range objects {
		kinds = append(kinds, o.GetObjectKind().GroupVersionKind().Kind)
		if err := kube.Apply(ctx, ns, o, true); err != nil {
			t.Error(err)
		}
		m, err := meta.Accessor(o)
		if err != nil {
			t.Fatal(err)
		}
		if m.GetName() != name || m.GetNamespace() != "" || m.GetLabels()["app"] != name {
			t.Errorf("%s %s: namespace %q, labels %v", kinds[len(kinds)-1], m.GetName(), m.GetNamespace(), m.GetLabels())
		}
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			watch := []string{"get", "list", "watch"}
			want := []rbacv1.PolicyRule{
				{APIGroups: []string{""}, Resources: []string{"pods", "services", "nodes"}, Verbs: watch},
				{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: watch},
				{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: watch},
			}
			if !reflect.DeepEqual(o.Rules, want) {
				t.Errorf("rights %v, want %v", o.Rules, want)
			}
		case *appsv1.Deployment:
			p := &corev1.Pod{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
				ObjectMeta: metav1.ObjectMeta{Name: name, Labels: o.Spec.Template.Labels},
				Spec:       o.Spec.Template.Spec,
			}
			if err := kube.Apply(ctx, ns, p, true); err != nil {
				t.Error(err)
			}
			checkContainer(t, &o.Spec.Template.Spec.Containers[0])
		}
	}
	want := []string{"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Deployment", "Service"}
	if !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
}

// checkContainer checks what the API server takes no offence at.
func checkContainer(t *testing.T, c *corev1.Container) {
	t.Helper()
	if c.LivenessProbe == nil || c.ReadinessProbe == nil {
		t.Error("the container lacks probes")
	}
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
		t.Errorf("resources %v", c.Resources)
	}
	if ro := c.SecurityContext.ReadOnlyRootFilesystem; ro == nil || !*ro {
		t.Error("the container can write to its root file system")
	}
	// The program takes its arguments.
	directory := t.TempDir()
	args := []string{"-check", "-kube.off"}
	for _, a := range c.Args {
		args = append(args, strings.Replace(a, templatesDirectory, directory, 1))
	}
	if out, err := command(t, args...).CombinedOutput(); err != nil {
		t.Errorf("%q: %v\n%s", args, err, out)
	}
	for _, m := range c.VolumeMounts {
		if m.MountPath != templatesDirectory {
			t.Errorf("volume at %s", m.MountPath)
		}
	}
}

// The documented command makes of the patch one that OpenShift's network
// configuration takes.
func TestNetworkPatch(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	service, err := kube.Client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, account, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", `printf %s "$(sed -e "s/GF_IP/$GF_IP/" examples/net-cluster-patch.json)"`)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GF_IP="+service.Spec.ClusterIP)
	patch, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}

	networks := kube.Dynamic.Resource(applyNetworkKind(t))
	network := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "operator.openshift.io/v1", "kind": "Network",
		"metadata": map[string]any{"name": "cluster"}, "spec": map[string]any{"logLevel": "Normal"},
	}}
	harness.Eventually(t, soon, "kind Network", func() (bool, any) {
		err := kube.Apply(ctx, "", network, false)
		return err == nil, err
	})
	for range 2 { // with and without earlier settings
		network, err = networks.Patch(ctx, "cluster", types.JSONPatchType, patch, metav1.PatchOptions{})
		if err != nil {
			t.Fatalf("%v\n%s", err, patch)
		}
	}
	want := map[string]any{
		"logLevel": "Normal",
		"exportNetworkFlows": map[string]any{
			"ipfix": map[string]any{"collectors": []any{service.Spec.ClusterIP + ":2055"}},
		},
	}
	if got := network.Object["spec"]; !reflect.DeepEqual(got, want) {
		t.Errorf("spec %v, want %v", got, want)
	}
}

// applyNetworkKind makes the kind of OpenShift's network configuration known.
func applyNetworkKind(t *testing.T) schema.GroupVersionResource {
	t.Helper()
	const group, version, plural = "operator.openshift.io", "v1", "networks"
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + "." + group},
		"spec": map[string]any{
			"group": group, "scope": "Cluster",
			"names": map[string]any{"plural": plural, "singular": "network", "kind": "Network", "listKind": "NetworkList"},
			"versions": []any{map[string]any{
				"name": version, "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object", "x-kubernetes-preserve-unknown-fields": true,
				}},
			}},
		},
	}}
	if err := kube.Apply(t.Context(), "", definition, false); err != nil {
		t.Fatal(err)
	}
	return schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
}
