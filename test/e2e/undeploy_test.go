package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// readingKubectl stands in for kubectl and oc: the real one does all but what installs
// the collector, which other tests need as it is.
const readingKubectl = `#!/bin/sh
case "$1" in
apply | delete | rollout) exec cat >/dev/null ;;
*) exec "$REAL_KUBECTL" --kubeconfig "$REAL_KUBECONFIG" "$@" ;;
esac
`

// openshiftNetworks is OpenShift's kind of setting, as far as it is read here.
const openshiftNetworks = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: networks.operator.openshift.io}
spec:
  group: operator.openshift.io
  scope: Cluster
  names: {plural: networks, singular: network, kind: Network}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// undeployCluster has what the targets of make read and change.
type undeployCluster struct {
	t         *testing.T
	namespace string
	bin       string // with the stand-ins
	kubectl   string
	config    string
}

func newUndeployCluster(t *testing.T) *undeployCluster {
	t.Helper()
	lab.NeedsProgram(t, "make")
	c := &undeployCluster{t: t, namespace: testNamespace(t), bin: t.TempDir(), config: filepath.Join(t.TempDir(), "kubeconfig")}
	var err error
	if c.kubectl, err = filepath.Abs("bin/kubectl"); err != nil {
		t.Fatal(err)
	}
	if err := kube.AdminKubeconfig(c.config); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kubectl", "oc"} {
		if err := os.WriteFile(filepath.Join(c.bin, name), []byte(readingKubectl), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ports := []corev1.ServicePort{{Port: 2055, Protocol: corev1.ProtocolUDP}}
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "goflow"}, Spec: corev1.ServiceSpec{Ports: ports}}
	if _, err := kube.Client.CoreV1().Services(c.namespace).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c
}

// make runs targets.
func (c *undeployCluster) make(args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "make", append([]string{"--no-print-directory"}, args...)...)
	cmd.Dir = root
	cmd.Env = []string{
		"PATH=" + c.bin + ":" + os.Getenv("PATH"), "HOME=" + c.t.TempDir(), "NAMESPACE=" + c.namespace, "OVNK_NAMESPACE=" + c.namespace,
		"REAL_KUBECTL=" + c.kubectl, "REAL_KUBECONFIG=" + c.config,
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

func (c *undeployCluster) run(stdin string, args ...string) string {
	c.t.Helper()
	// Also for the end of the test, when its context is cancelled.
	cmd := exec.CommandContext(context.WithoutCancel(c.t.Context()), c.kubectl, append([]string{"--kubeconfig", c.config}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (c *undeployCluster) target() string {
	c.t.Helper()
	s, err := kube.Client.CoreV1().Services(c.namespace).Get(c.t.Context(), "goflow", metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if strings.Contains(s.Spec.ClusterIP, ":") {
		return "[" + s.Spec.ClusterIP + "]:2055"
	}
	return s.Spec.ClusterIP + ":2055"
}

// TestUndeployOVNK: what others have set stays, and what ovnk-deploy changed is set back.
func TestUndeployOVNK(t *testing.T) {
	t.Parallel()
	c := newUndeployCluster(t)
	for name, before := range map[string]map[string]string{
		"nothing was set": {},
		"others were":     {"OVN_IPFIX_TARGETS": "192.0.2.9:2055,[2001:db8::9]:4739", "OVN_IPFIX_SAMPLING": "100", "OVN_NETFLOW_TARGETS": "192.0.2.9:2056"},
	} {
		t.Run(name, func(t *testing.T) {
			sets := kube.Client.AppsV1().DaemonSets(c.namespace)
			o := &appsv1.DaemonSet{
				ObjectMeta: metav1.ObjectMeta{Name: "ovnkube-node"},
				Spec:       appsv1.DaemonSetSpec{Selector: selector, Template: *template.DeepCopy()},
			}
			container := corev1.Container{Name: "ovnkube-controller", Image: "example.org/ovn"}
			for name, value := range before {
				container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: value})
			}
			o.Spec.Template.Spec.Containers = []corev1.Container{{Name: "nbdb", Image: "example.org/ovn"}, container}
			if _, err := sets.Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			check := func(want map[string]string, noted bool) {
				t.Helper()
				o, err := sets.Get(t.Context(), "ovnkube-node", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]string{}
				for _, v := range o.Spec.Template.Spec.Containers[1].Env {
					got[v.Name] = v.Value
				}
				if !maps.Equal(got, want) || len(o.Spec.Template.Spec.Containers[0].Env) > 0 {
					t.Errorf("%v, want %v", got, want)
				}
				if _, found := o.Annotations["kube-enricher-before"]; found != noted {
					t.Errorf("annotations %v, noted should be %v", o.Annotations, noted)
				}
			}
			during := maps.Clone(before)
			during["OVN_IPFIX_TARGETS"] = strings.TrimPrefix(before["OVN_IPFIX_TARGETS"]+","+c.target(), ",")
			c.make("ovnk-deploy")
			check(during, false)
			c.make("ovnk-deploy", "OVN_IPFIX_SAMPLING=50")
			during["OVN_IPFIX_SAMPLING"] = "50"
			check(during, true)
			c.make("ovnk-deploy", "OVN_IPFIX_SAMPLING=10", "OVN_IPFIX_CACHE_MAX_FLOWS=10000")
			during["OVN_IPFIX_SAMPLING"], during["OVN_IPFIX_CACHE_MAX_FLOWS"] = "10", "10000"
			check(during, true)
			c.make("undeploy")
			check(before, false)
			c.make("undeploy")
			check(before, false)
			if err := sets.Delete(t.Context(), "ovnkube-node", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestUndeployCNO does the same on OpenShift.
func TestUndeployCNO(t *testing.T) {
	t.Parallel()
	c := newUndeployCluster(t)
	c.run(openshiftNetworks, "apply", "-f", "-")
	t.Cleanup(func() { c.run("", "delete", "customresourcedefinition", "networks.operator.openshift.io") })
	c.run("", "wait", "--for=condition=Established", "customresourcedefinition/networks.operator.openshift.io")
	for name, test := range map[string]struct{ before, during string }{
		"nothing was set":    {`{}`, `{"exportNetworkFlows":{"ipfix":{"collectors":[%q]}}}`},
		"others were":        {`{"exportNetworkFlows":{"ipfix":{"collectors":["192.0.2.9:2055"]}}}`, `{"exportNetworkFlows":{"ipfix":{"collectors":["192.0.2.9:2055",%q]}}}`},
		"another protocol":   {`{"exportNetworkFlows":{"sFlow":{"collectors":["192.0.2.9:6343"]}}}`, `{"exportNetworkFlows":{"ipfix":{"collectors":[%q]},"sFlow":{"collectors":["192.0.2.9:6343"]}}}`},
		"another of NetFlow": {`{"exportNetworkFlows":{"netFlow":{"collectors":["192.0.2.9:2056"]}}}`, `{"exportNetworkFlows":{"ipfix":{"collectors":[%q]},"netFlow":{"collectors":["192.0.2.9:2056"]}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			c.run(fmt.Sprintf(`{"apiVersion":"operator.openshift.io/v1","kind":"Network","metadata":{"name":"cluster"},"spec":%s}`, test.before), "create", "-f", "-")
			check := func(want string) {
				t.Helper()
				var got, wanted any
				if err := json.Unmarshal([]byte(c.run("", "get", "networks.operator.openshift.io", "cluster", "-o", "jsonpath={.spec}")), &got); err != nil {
					t.Fatal(err)
				}
				if err := json.Unmarshal([]byte(want), &wanted); err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(wanted) {
					t.Errorf("%v, want %v", got, wanted)
				}
			}
			during := fmt.Sprintf(test.during, c.target())
			for range 2 {
				c.make("cno-deploy")
				check(during)
			}
			c.make("undeploy")
			check(test.before)
			c.run("", "delete", "networks.operator.openshift.io", "cluster")
		})
	}
}
