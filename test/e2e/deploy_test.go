package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// fakeKubectl stands in for kubectl and oc: it writes down how it was called
// and what it was given, and answers for a cluster with everything in it.
const fakeKubectl = `#!/bin/sh
printf '%s' "${0##*/}" >> "$FAKE/calls"
printf ' %s' "$@" | tr -d '\n' >> "$FAKE/calls"
echo >> "$FAKE/calls"
case "$*" in
*' -f -') cat >> "$FAKE/manifests" ;;
*'get service'*) printf %s "$FAKE_IP" ;;
*' -o name') echo something ;;
patch*) exit "$FAKE_PATCH" ;;
esac
`

// deploy runs a target of make with the stand-ins and returns what it printed,
// how they were called and what manifests they were given.
func deploy(t *testing.T, target, ip string, env ...string) (printed string, calls []string, manifests string) {
	t.Helper()
	lab.NeedsProgram(t, "make")
	dir := t.TempDir()
	for _, name := range []string{"kubectl", "oc"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fakeKubectl), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", target)
	cmd.Dir = root
	cmd.Env = append([]string{
		"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"FAKE=" + dir, "FAKE_IP=" + ip, "FAKE_PATCH=0",
	}, env...)
	out, err := cmd.CombinedOutput()
	if err != nil && !slices.Contains(env, "FAKE_PATCH=1") {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
	called, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	given, err := os.ReadFile(filepath.Join(dir, "manifests"))
	if err != nil {
		t.Fatal(err)
	}
	return string(out), strings.Split(strings.TrimSpace(string(called)), "\n"), string(given)
}

// The targets that install the collector and point exporters at it.
func TestDeploy(t *testing.T) {
	t.Parallel()
	install := func(kubectl, namespace, name string) []string {
		return []string{
			kubectl + " apply -n " + namespace + " -f -",
			kubectl + " rollout status -n " + namespace + " deployment/" + name + " --timeout=5m",
			kubectl + " get service " + name + " -n " + namespace + " -o jsonpath={.spec.clusterIP}",
		}
	}
	const (
		setEnv = "kubectl set env daemonset/ovnkube-node -n ovn-kubernetes -c ovnkube-* "
		patch  = "oc patch networks.operator.openshift.io cluster --type=json -p "
	)
	patched := func(protocol, target string) string {
		return patch + `[  {    "op": "add",    "path": "/spec/exportNetworkFlows",    "value": {      "` + protocol +
			`": {        "collectors": ["` + target + `"]      }    }  }]`
	}
	ovnk := func(field string) string {
		return "kubectl get daemonset/ovnkube-node -n ovn-kubernetes -o jsonpath={" + field + "}"
	}
	env := func(name string) string {
		return ovnk(`.spec.template.spec.containers[*].env[?(@.name=="` + name + `")].value`)
	}
	openshift := func(kubectl, field string) string {
		return kubectl + " get networks.operator.openshift.io cluster --ignore-not-found -o jsonpath={.spec.exportNetworkFlows" + field + "}"
	}
	const note = ".metadata.annotations.kube-enricher-before"
	for name, c := range map[string]struct {
		target, ip string
		env        []string
		want       []string
	}{
		"ovnk": {
			"ovnk-deploy", "10.96.3.4", nil,
			append(install("kubectl", "default", "goflow"), env("OVN_IPFIX_TARGETS"), setEnv+"OVN_IPFIX_TARGETS=10.96.3.4:2055"),
		},
		"ovnk IPv6": {
			"ovnk-deploy", "fd00:96::5", []string{"NAMESPACE=flows", "OVN_IPFIX_CACHE_MAX_FLOWS=10000", "IMAGE=example.org/x", "VERSION=v2"},
			append(install("kubectl", "flows", "goflow"), env("OVN_IPFIX_TARGETS"), ovnk(note), env("OVN_IPFIX_CACHE_MAX_FLOWS"),
				"kubectl annotate daemonset/ovnkube-node -n ovn-kubernetes --overwrite kube-enricher-before=OVN_IPFIX_CACHE_MAX_FLOWS=",
				setEnv+"OVN_IPFIX_TARGETS=[fd00:96::5]:2055 OVN_IPFIX_CACHE_MAX_FLOWS=10000"),
		},
		"ovnk legacy": {
			"ovnk-deploy", "10.96.3.4", []string{"EXPORT=netflow", "OVNK_CONTAINER=ovnkube-node"},
			append(install("kubectl", "default", "goflow-legacy"), env("OVN_NETFLOW_TARGETS"),
				"kubectl set env daemonset/ovnkube-node -n ovn-kubernetes -c ovnkube-node OVN_NETFLOW_TARGETS=10.96.3.4:2056"),
		},
		"cno":      {"cno-deploy", "172.30.0.7", nil, append(install("oc", "default", "goflow"), openshift("oc", ""), patched("ipfix", "172.30.0.7:2055"))},
		"cno IPv6": {"cno-deploy", "fd02::7", nil, append(install("oc", "default", "goflow"), openshift("oc", ""), patched("ipfix", "[fd02::7]:2055"))},
		"cno legacy": {
			"cno-deploy", "172.30.0.7", []string{"EXPORT=netflow"},
			append(install("oc", "default", "goflow-legacy"), openshift("oc", ""), patched("netFlow", "172.30.0.7:2056")),
		},
		// Nothing of ours is found, and nothing is changed.
		"undeploy": {
			"undeploy", "", nil,
			[]string{
				"kubectl get service goflow -n default --ignore-not-found -o jsonpath={.spec.clusterIPs[*]}",
				"kubectl get service goflow-legacy -n default --ignore-not-found -o jsonpath={.spec.clusterIPs[*]}",
				"kubectl get daemonset/ovnkube-node -n ovn-kubernetes --ignore-not-found -o name",
				env("OVN_IPFIX_TARGETS"), env("OVN_NETFLOW_TARGETS"), ovnk(note),
				"kubectl get customresourcedefinition networks.operator.openshift.io --ignore-not-found -o name",
				openshift("kubectl", ".ipfix.collectors[*]"), openshift("kubectl", ".netFlow.collectors[*]"), openshift("kubectl", ""),
				"kubectl delete -n default --ignore-not-found -f -",
				"kubectl delete -n default --ignore-not-found -f -",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			printed, calls, manifests := deploy(t, c.target, c.ip, c.env...)
			if !slices.Equal(calls, c.want) {
				t.Errorf("called\n%s\nwant\n%s", strings.Join(calls, "\n"), strings.Join(c.want, "\n"))
			}
			if n := strings.Count("\n"+printed, "\n+ "); n != len(c.want) {
				t.Errorf("it printed %d commands and ran %d:\n%s", n, len(c.want), printed)
			}
			if name == "ovnk IPv6" && (!strings.Contains(manifests, "    namespace: flows\n") || !strings.Contains(manifests, " image: example.org/x:v2\n")) {
				t.Errorf("namespace or image were not replaced:\n%s", manifests)
			}
			if name == "ovnk" {
				if want, err := os.ReadFile(manifest); err != nil || string(want) != manifests {
					t.Errorf("applied is not the manifest (%v):\n%s", err, manifests)
				}
			}
		})
	}
}

// Where OpenShift refuses an IPv6 address the other way is told.
func TestDeployRefused(t *testing.T) {
	t.Parallel()
	printed, _, _ := deploy(t, "cno-deploy", "fd02::7", "FAKE_PATCH=1")
	if !strings.Contains(printed, "sharedTarget=[fd02::7]:2055") {
		t.Errorf("it said\n%s", printed)
	}
}

// The real kubectl's `set env` with a pattern reaches the container of
// OVN-Kubernetes by either name, and no other; what it set can be taken back.
func TestSetEnv(t *testing.T) {
	t.Parallel()
	kubectl, err := filepath.Abs("bin/kubectl")
	if err != nil {
		t.Fatal(err)
	}
	ns := testNamespace(t)
	ctx := t.Context()
	sets := kube.Client.AppsV1().DaemonSets(ns)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := kube.AdminKubeconfig(config); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ovnkube-node", "ovnkube-controller"} {
		o := &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       appsv1.DaemonSetSpec{Selector: selector, Template: *template.DeepCopy()},
		}
		o.Spec.Template.Spec.Containers = []corev1.Container{
			{Name: "ovn-controller", Image: "example.org/ovn"}, {Name: name, Image: "example.org/ovn"},
		}
		if _, err := sets.Create(ctx, o, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			argument string
			want     []corev1.EnvVar
		}{
			{"OVN_IPFIX_TARGETS=[fd00:96::5]:2055", []corev1.EnvVar{{Name: "OVN_IPFIX_TARGETS", Value: "[fd00:96::5]:2055"}}},
			{"OVN_IPFIX_TARGETS-", nil},
		} {
			cmd := exec.CommandContext(ctx, kubectl, "--kubeconfig", config, "set", "env", "daemonset/"+name, "-n", ns, "-c", "ovnkube-*", c.argument)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", cmd, err, out)
			}
			if o, err = sets.Get(ctx, name, metav1.GetOptions{}); err != nil {
				t.Fatal(err)
			}
			containers := o.Spec.Template.Spec.Containers
			if len(containers[0].Env) > 0 || !slices.Equal(containers[1].Env, c.want) {
				t.Errorf("%s made %v and %v of them", c.argument, containers[0].Env, containers[1].Env)
			}
		}
	}
}
