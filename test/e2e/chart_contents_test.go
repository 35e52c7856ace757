package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// templatesOn returns the kind of volume that a pod keeps templates on, and the directory
// of the node if it is one.
func templatesOn(pod any) string {
	volumes, _ := object(pod.(map[string]any)).at("volumes").([]any)
	for _, v := range volumes {
		v := object(v.(map[string]any))
		if v["name"] != "templates" {
			continue
		}
		if path, ok := v.at("hostPath", "path").(string); ok {
			return "hostPath " + path
		}
		for kind := range v {
			if kind != "name" {
				return kind
			}
		}
	}
	return "none"
}

// checkContents checks what schemas cannot know: that values do what they are
// for, and nothing in the wrong place.
func checkContents(t *testing.T, cases []*chartCase) {
	t.Helper()
	find := func(x *chartCase, kind, name string) object {
		for _, o := range manifests(t, x.render) {
			if o["kind"] == kind && (name == "" || o.at("metadata", "name") == name) {
				return o
			}
		}
		return nil
	}
	has := func(x *chartCase, values ...string) bool {
		for _, v := range values {
			if !strings.Contains(","+strings.Join(x.values, ",")+",", ","+v+",") {
				return false
			}
		}
		return true
	}
	wayOut := func(ports ...string) func(x *chartCase) bool {
		return func(x *chartCase) bool {
			text, err := json.Marshal(find(x, "NetworkPolicy", "").at("spec", "egress"))
			return err == nil && !slices.ContainsFunc(ports, func(port string) bool {
				return !strings.Contains(string(text), `"port":`+port+",")
			})
		}
	}
	// checks is what is true of all cases that have certain values.
	checks := []struct {
		values []string
		what   string
		true   func(x *chartCase) bool
	}{
		{[]string{"kind=DaemonSet"}, "the nodes' network", func(x *chartCase) bool {
			return find(x, "DaemonSet", "").at("spec", "template", "spec", "hostNetwork") == true && find(x, "Deployment", "") == nil
		}},
		{[]string{"kind=Deployment"}, "the pods' network", func(x *chartCase) bool {
			return find(x, "Deployment", "").at("spec", "template", "spec", "hostNetwork") == nil && find(x, "DaemonSet", "") == nil
		}},
		{[]string{"ui.enabled=true", "hubble.enabled=true"}, "page and Hubble's API on loopback, with Services, and an Ingress nowhere", func(x *chartCase) bool {
			policy := fmt.Sprint(find(x, "NetworkPolicy", "").at("spec", "ingress"))
			return strings.Contains(x.render, "ui.addr: 127.0.0.1:8082\n") && strings.Contains(x.render, "hubble.addr: 127.0.0.1:4244\n") &&
				find(x, "Service", chartName+"-ui") != nil && find(x, "Service", chartName+"-hubble") != nil && find(x, "Ingress", "") == nil &&
				(has(x, "kind=DaemonSet") || strings.Contains(policy, "port:8082") && strings.Contains(policy, "port:4244"))
		}},
		{[]string{"kind=Deployment", "replicas=3"}, "affinity", func(x *chartCase) bool {
			return find(x, "Service", chartName).at("spec", "sessionAffinity") == "ClientIP"
		}},
		{[]string{"kind=DaemonSet", "replicas=3"}, "no affinity", func(x *chartCase) bool {
			return find(x, "Service", chartName).at("spec", "sessionAffinity") == nil
		}},
		{[]string{"kind=Deployment", "replicas=3"}, "spread, with a budget", func(x *chartCase) bool {
			spread := fmt.Sprint(find(x, "Deployment", "").at("spec", "template", "spec", "topologySpreadConstraints"))
			return strings.Contains(spread, "topology.kubernetes.io/zone") && strings.Contains(spread, "kubernetes.io/hostname") && strings.Count(spread, "component:collector") == 2 &&
				(find(x, "PodDisruptionBudget", "") != nil || has(x, "podDisruptionBudget.enabled=false"))
		}},
		{[]string{"podDisruptionBudget.enabled=false"}, "without a budget", func(x *chartCase) bool { return find(x, "PodDisruptionBudget", "") == nil }},
		{[]string{"kind=Deployment", "httpPort=8080"}, "one replica without a budget, not spread", func(x *chartCase) bool {
			return find(x, "PodDisruptionBudget", "") == nil && find(x, "Deployment", "").at("spec", "template", "spec", "topologySpreadConstraints") == nil
		}},
		{[]string{"httpPort=8080"}, "a test of readiness by the Service", func(x *chartCase) bool {
			return strings.Contains(x.render, "- -check.ready=http://"+chartName+"-metrics."+map[bool]string{true: restricted, false: open}[has(x, "kind=Deployment")]+".svc:8080/readyz\n")
		}},
		{[]string{"httpAddress=127.0.0.1"}, "HTTP on the node's loopback, and nowhere else", func(x *chartCase) bool {
			pod := find(x, "DaemonSet", "").at("spec", "template", "spec").(map[string]any)
			container := object(pod["containers"].([]any)[0].(map[string]any))
			return strings.Contains(x.render, "addr: 127.0.0.1:8080\n") && container.at("livenessProbe", "httpGet", "host") == "127.0.0.1" &&
				container.at("readinessProbe", "httpGet", "host") == "127.0.0.1" && find(x, "Service", chartName+"-metrics") == nil &&
				find(x, "Pod", "").at("spec", "hostNetwork") == true && strings.Contains(x.render, "- -check.ready=http://127.0.0.1:8080/readyz\n")
		}},
		{[]string{"httpAddress=::1"}, "a proxy between Prometheus and the loopback", func(x *chartCase) bool {
			ports, _ := find(x, "Service", chartName+"-metrics").at("spec", "ports").([]any)
			return strings.Contains(x.render, "addr: '[::1]:8080'\n") && len(ports) == 1 && ports[0].(map[string]any)["targetPort"] == "https" &&
				strings.Contains(fmt.Sprint(find(x, "ServiceMonitor", "").at("spec", "endpoints")), "scheme:https")
		}},
		{[]string{"service.type=NodePort", "service.nodePorts.netflow=30055"}, "the exporter's address", func(x *chartCase) bool {
			return find(x, "Service", chartName).at("spec", "externalTrafficPolicy") == "Local"
		}},
		{[]string{"kind=DaemonSet", "httpPort=8080"}, "the own node's collector", func(x *chartCase) bool {
			return find(x, "Service", chartName).at("spec", "internalTrafficPolicy") == "Local"
		}},
		{[]string{"kind=DaemonSet", "networkPolicy.enabled=true"}, "no policy", func(x *chartCase) bool { return find(x, "NetworkPolicy", "") == nil }},
		{[]string{"kind=Deployment", "networkPolicy.enabled=true", "kafka.enabled=true"}, "ways out for DNS, API server and brokers", wayOut("53", "5353", "443", "6443", "9092", "9093")},
		// A port stands in one place only if none of the other ways needs it.
		{[]string{"kind=Deployment", "networkPolicy.enabled=true", "otlp.enabled=true", "http.enabled=true"}, "ways out for OTLP and HTTP", wayOut("4317", "8123")},
		{[]string{"kind=Deployment", "otlp.endpoint=https://collector.example.org"}, "a way out for gRPC's own port", wayOut("4317")},
		{[]string{"kind=Deployment", "otlp.endpoint=http://collector:14318/v1/logs"}, "a way out for OTLP by HTTP", wayOut("14318")},
		{[]string{"kind=Deployment", "http.url=http://[fd00::9]/a:12/"}, "a way out for HTTP's own port", wayOut("80")},
		{[]string{"kind=Deployment", "http.url=http://store:8124?query=INSERT"}, "a way out for the URL's port", wayOut("8124")},
		{[]string{"kind=DaemonSet", "openshift=true"}, "a binding to hostnetwork-v2", func(x *chartCase) bool { return find(x, "RoleBinding", "") != nil }},
		{[]string{"kind=DaemonSet", "openshift=false"}, "no binding to hostnetwork-v2", func(x *chartCase) bool { return find(x, "RoleBinding", "") == nil }},
		{[]string{"kind=DaemonSet", "httpPort=8080"}, "templates on the node, which root may write", func(x *chartCase) bool {
			pod := find(x, "DaemonSet", "").at("spec", "template", "spec")
			return templatesOn(pod) == "hostPath /var/lib/kube-enricher/"+open+"-"+chartName && object(pod.(map[string]any)).at("securityContext", "runAsUser") == 0.0
		}},
		{[]string{"kind=DaemonSet", "templates.hostPath=/srv/flows"}, "the given directory", func(x *chartCase) bool {
			return templatesOn(find(x, "DaemonSet", "").at("spec", "template", "spec")) == "hostPath /srv/flows"
		}},
		{[]string{"kind=DaemonSet", "templates.storage=emptyDir"}, "no root", func(x *chartCase) bool {
			pod := find(x, "DaemonSet", "").at("spec", "template", "spec")
			return templatesOn(pod) == "emptyDir" && object(pod.(map[string]any)).at("securityContext", "runAsNonRoot") == true
		}},
		{[]string{"kind=DaemonSet", "openshift=true"}, "no directory of the node", func(x *chartCase) bool {
			return templatesOn(find(x, "DaemonSet", "").at("spec", "template", "spec")) == "emptyDir"
		}},
		{[]string{"kind=DaemonSet", "podSecurityContext.runAsUser=65532"}, "the user that was asked for", func(x *chartCase) bool {
			return find(x, "DaemonSet", "").at("spec", "template", "spec", "securityContext", "runAsUser") == 65532.0
		}},
		{[]string{"kind=Deployment", "httpPort=8080"}, "templates that outlive the container", func(x *chartCase) bool {
			return templatesOn(find(x, "Deployment", "").at("spec", "template", "spec")) == "emptyDir"
		}},
		{[]string{"kind=DaemonSet", "httpPort=8080"}, "a test without a directory of the node", func(x *chartCase) bool {
			return templatesOn(find(x, "Pod", "").at("spec")) == "emptyDir"
		}},
		{[]string{"openshift=true", "templates.storage=pvc"}, "no group of the chart's choice", func(x *chartCase) bool {
			return find(x, "Deployment", "").at("spec", "template", "spec", "securityContext", "fsGroup") == nil
		}},
		{[]string{"rbac.create=false"}, "no role", func(x *chartCase) bool {
			return find(x, "ClusterRole", "") == nil && find(x, "ClusterRoleBinding", "") == nil
		}},
		{[]string{"rbac.namespaces={default,kube-system}"}, "Roles in the namespaces alone", func(x *chartCase) bool {
			var in []string
			for _, o := range manifests(t, x.render) {
				if o["kind"] == "Role" || o["kind"] == "RoleBinding" && o.at("roleRef", "kind") == "Role" {
					in = append(in, fmt.Sprint(o.at("metadata", "namespace")))
				}
			}
			return find(x, "ClusterRole", "") == nil && find(x, "ClusterRoleBinding", "") == nil && fmt.Sprint(slices.Sorted(slices.Values(in))) == "[default default kube-system kube-system]" &&
				!strings.Contains(fmt.Sprint(find(x, "Role", "")), "nodes") && strings.Contains(x.render, "kube.namespaces")
		}},
		{[]string{"rbac.egressIPs=true"}, "a right to egress IPs", func(x *chartCase) bool {
			return strings.Contains(fmt.Sprint(find(x, "ClusterRole", "")), "egressips")
		}},
		{[]string{"rbac.egressIPs=false"}, "no right to egress IPs", func(x *chartCase) bool {
			return !strings.Contains(fmt.Sprint(find(x, "ClusterRole", "")), "egressips")
		}},
		{[]string{"rbac.networks=true"}, "a right to networks", func(x *chartCase) bool {
			role := fmt.Sprint(find(x, "ClusterRole", ""))
			return strings.Contains(role, "network-attachment-definitions") && strings.Contains(role, "clusteruserdefinednetworks")
		}},
		{[]string{"rbac.owners={virtualmachines.kubevirt.io,deployments.apps}"}, "rights to owners", func(x *chartCase) bool {
			role := fmt.Sprint(find(x, "ClusterRole", ""))
			return strings.Contains(role, "[kubevirt.io]") && strings.Contains(role, "[deployments]")
		}},
		{[]string{"service.enabled=false"}, "no Service", func(x *chartCase) bool { return find(x, "Service", chartName) == nil }},
		{[]string{"test.enabled=false"}, "no test", func(x *chartCase) bool { return find(x, "Pod", "") == nil }},
		{[]string{"service.ipFamilyPolicy=SingleStack", "service.ipFamilies={IPv6}"}, "IPv6", func(x *chartCase) bool {
			return fmt.Sprint(find(x, "Service", chartName).at("spec", "ipFamilies")) == "[IPv6]"
		}},
	}
	for _, check := range checks {
		n := 0
		for _, x := range cases {
			if has(x, check.values...) {
				n++
				if !check.true(x) {
					t.Errorf("%v: not %s:\n%s", x.values, check.what, x.render)
				}
			}
		}
		if n == 0 {
			t.Errorf("no case with %v", check.values)
		}
	}
	// Each dashboard and each file of rules is in its object.
	for pattern, kind := range map[string]string{"/dashboards/*.json": "dashboards.enabled=true", "/rules/*.yaml": "prometheusRule.enabled=true"} {
		files, err := filepath.Glob(chartDir + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range cases {
			if !has(x, kind) {
				continue
			}
			for _, file := range files {
				if kind == "dashboards.enabled=true" {
					if !strings.Contains(x.render, "  "+filepath.Base(file)+": |-\n") {
						t.Errorf("%v: no %s", x.values, file)
					}
				} else if find(x, "PrometheusRule", "") == nil {
					t.Errorf("%v: no PrometheusRule", x.values)
				}
			}
		}
	}
	// All containers are locked down alike, and no password is anywhere.
	for _, x := range cases {
		for _, o := range manifests(t, x.render) {
			spec := o.at("spec", "template", "spec")
			if o["kind"] == "Pod" {
				spec = o["spec"]
			}
			pod, ok := spec.(map[string]any)
			if !ok {
				continue
			}
			for _, v := range pod["containers"].([]any) {
				c := object(v.(map[string]any))
				if c.at("securityContext", "readOnlyRootFilesystem") != true || c.at("resources", "limits", "memory") == nil {
					t.Errorf("%v: container of %s is open: %v", x.values, o["kind"], c)
				}
			}
		}
	}
}
