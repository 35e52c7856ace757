package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// chartCase is a set of values that the chart is rendered with.
type chartCase struct {
	name   string
	values []string
	render string // what helm made of it
}

// needs are values without which others, that begin so, change nothing.
var needs = map[string][]string{
	"kafka":               {"kafka.enabled=true", "kafka.brokers={kafka-0.kafka:9092,[fd00::9]:9093}"},
	"kafka.tls":           {"kafka.tls.enabled=true"},
	"http":                {"http.enabled=true", "http.url=http://store:8123/"},
	"hubble":              {"hubble.enabled=true"},
	"templates.pvc":       {"templates.storage=pvc"},
	"ui":                  {"ui.enabled=true"},
	"otlp":                {"otlp.enabled=true", "otlp.endpoint=collector:4317"},
	"networkPolicy":       {"networkPolicy.enabled=true"},
	"podDisruptionBudget": {"podDisruptionBudget.enabled=true"},
}

// chartCases are values both of each switch, and more than the default one of
// others, for both kinds.
func chartCases(t *testing.T) []*chartCase {
	t.Helper()
	data, err := os.ReadFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var defaults map[string]any
	if err := yaml.UnmarshalStrict(data, &defaults); err != nil {
		t.Fatal(err)
	}
	var variants [][]string
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, v := range v {
				walk(strings.TrimPrefix(prefix+"."+key, "."), v)
			}
		case bool:
			// The container's switches are Kubernetes' own.
			if !strings.Contains(strings.ToLower(prefix), "securitycontext") {
				variants = append(variants, []string{fmt.Sprintf("%s=%v", prefix, !v)})
			}
		}
	}
	walk("", defaults)
	if len(variants) < 15 {
		t.Errorf("%d switches are few", len(variants))
	}
	for _, v := range []string{
		"fullnameOverride=other", "nameOverride=enricher", "replicas=3", "replicas=0", "terminationGracePeriodSeconds=5",
		"strategy.type=RollingUpdate",
		"image.tag=v1.2.3", "image.digest=sha256:" + strings.Repeat("0a", 32), "image.pullPolicy=Always", "imagePullSecrets[0].name=pull",
		"listen.netflow=0", "listen.sflow=0", "listen.netflow=4739", "listen.sockets=2", "listen.allow={10.0.0.0/8,fd00::/8}", "httpPort=9090", "httpAddress=0.0.0.0", "httpAddress=::",
		"cluster=east", "config.kube.retain=1h", "config.fields={default,+SrcNode}", "extraArgs={-loglevel=debug}",
		"templates.storage=none", "templates.storage=emptyDir", "templates.hostPath=/srv/flows", "templates.size=1Gi", "templates.pvc.existingClaim=claim", "templates.pvc.storageClass=fast", "templates.pvc.accessModes={ReadWriteOncePod}",
		"kafka.topic=flows", "kafka.config.maxmsgbytes=2000000", "kafka.sasl.mechanism=scram-sha512,kafka.sasl.secret=kafka", "kafka.tls.caSecret=kafka-ca",
		"kafka.tls.clientSecret=kafka-client",
		"rbac.namespaces={default,kube-system}", "rbac.egressIPs=true", "rbac.egressIPs=false", "rbac.networks=true", "rbac.owners={virtualmachines.kubevirt.io,deployments.apps}",
		"serviceAccount.name=other", "serviceAccount.create=false,serviceAccount.name=other", "serviceAccount.annotations.a=b",
		"service.type=NodePort", "service.type=NodePort,service.externalTrafficPolicy=Cluster", "service.type=NodePort,service.nodePorts.netflow=30055,service.nodePorts.sflow=30343",
		"service.type=LoadBalancer,service.loadBalancerClass=example.org/lb,service.loadBalancerSourceRanges={10.0.0.0/8}",
		"service.ipFamilyPolicy=SingleStack", "service.ipFamilyPolicy=RequireDualStack", "service.ipFamilyPolicy=SingleStack,service.ipFamilies={IPv6}",
		"service.ipFamilyPolicy=SingleStack,service.ipFamilies={IPv4}", "service.ipFamilies={IPv6,IPv4}", "service.clusterIP=10.96.7.7",
		"service.internalTrafficPolicy=Local", "service.internalTrafficPolicy=Cluster", "replicas=2,service.sessionAffinityTimeoutSeconds=60",
		"service.annotations.a=b", "service.labels.a=b", "metricsService.annotations.a=b",
		"openshift=true", "openshift=false", "openshift=true,templates.storage=pvc", "podSecurityContext.runAsUser=65532",
		"resources.limits.cpu=1", "livenessProbe.timeoutSeconds=5", "readinessProbe.timeoutSeconds=5",
		"extraEnv[0].name=GOMEMLIMIT,extraEnv[0].value=400MiB", "extraEnvFrom[0].secretRef.name=more",
		"extraVolumes[0].name=data,extraVolumes[0].emptyDir.sizeLimit=1Gi,extraVolumeMounts[0].name=data,extraVolumeMounts[0].mountPath=/data,config.transport.file=/data/flows.json",
		"commonLabels.a=b", "commonAnnotations.a=b", "podLabels.a=b", "podAnnotations.a=b", "priorityClassName=system-cluster-critical",
		"nodeSelector.a=b", "tolerations[0].operator=Exists", "topologySpreadConstraints[0].maxSkew=1,topologySpreadConstraints[0].topologyKey=zone,topologySpreadConstraints[0].whenUnsatisfiable=ScheduleAnyway",
		"affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey=zone,affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector.matchLabels.a=b", "dnsConfig.searches={example.org}",
		"serviceMonitor.enabled=true,serviceMonitor.labels.a=b,serviceMonitor.interval=15s,serviceMonitor.scrapeTimeout=5s,serviceMonitor.relabelings[0].action=labeldrop,serviceMonitor.relabelings[0].regex=x",
		"podMonitor.enabled=true,podMonitor.interval=1m30s,podMonitor.metricRelabelings[0].action=labeldrop,podMonitor.metricRelabelings[0].regex=x",
		"dashboards.enabled=true,dashboards.annotations.folder=flows", "prometheusRule.enabled=true,prometheusRule.labels.a=b",
		"networkPolicy.exporters[0].ipBlock.cidr=10.0.0.0/24,networkPolicy.metrics[0].podSelector.matchLabels.a=b,networkPolicy.apiServerCIDRs={10.96.0.1/32,fd00:96::1/128}",
		"networkPolicy.enabled=true,kafka.enabled=true",
		"networkPolicy.enabled=true,otlp.enabled=true,http.enabled=true",
		"networkPolicy.enabled=true,otlp.endpoint=https://collector.example.org",
		"networkPolicy.enabled=true,otlp.protocol=http,otlp.endpoint=http://collector:14318/v1/logs",
		"networkPolicy.enabled=true,http.url=http://[fd00::9]/a:12/", "networkPolicy.enabled=true,http.url=http://store:8124?query=INSERT",
		"networkPolicy.extraIngress[0].ports[0].port=1,networkPolicy.extraEgress[0].ports[0].port=1",
		"ui.address=,ui.port=8083", "hubble.address=::,hubble.port=4245", "hubble.address=,hubble.tls.secret=hubble-tls", "hubble.tls.secret=hubble-tls,hubble.tls.caKey=",
		"ui.enabled=true,hubble.enabled=true,networkPolicy.enabled=true,networkPolicy.ui[0].podSelector.matchLabels.a=b,networkPolicy.hubble[0].ipBlock.cidr=10.0.0.0/24",
		"podDisruptionBudget.minAvailable=50%", "podDisruptionBudget.maxUnavailable=0", "podDisruptionBudget.minAvailable=0",
		"podDisruptionBudget.enabled=false,replicas=3",
		"httpAddress=127.0.0.1", "httpAddress=::1,metricsService.targetPort=https,serviceMonitor.enabled=true,serviceMonitor.endpoint.scheme=https",
	} {
		variants = append(variants, []string{v})
	}
	var cases []*chartCase
	for _, kind := range []string{"Deployment", "DaemonSet"} {
		for i, v := range append([][]string{{"httpPort=8080"}}, variants...) {
			values := []string{"kind=" + kind}
			for prefix, more := range needs {
				if slices.ContainsFunc(strings.Split(v[0], ","), func(s string) bool { return strings.HasPrefix(s, prefix+".") }) {
					values = append(values, more...)
				}
			}
			values = append(values, v...)
			if v[0] == "metricsService.enabled=false" {
				values = append(values, "podMonitor.enabled=true")
			}
			joined := strings.Join(values, ",")
			if kind == "DaemonSet" && strings.Contains(joined, "templates.storage=pvc") ||
				kind == "Deployment" && (strings.Contains(joined, "ovn.enabled=true") || strings.Contains(joined, "httpAddress=127.") || strings.Contains(joined, "httpAddress=::1")) {
				continue // refused
			}
			cases = append(cases, &chartCase{name: fmt.Sprintf("%s-%03d", strings.ToLower(kind), i), values: values})
		}
	}
	return cases
}

// testMatrix renders the chart with many values. Each result is right by the
// schemas of this API server, which also takes it, and the program's settings in
// it are such that the program takes them.
func (c *chartCluster) testMatrix(t *testing.T) {
	cases := chartCases(t)
	namespaces := map[string]string{"Deployment": restricted, "DaemonSet": open}
	dir := filepath.Join(c.dir, "matrix")
	var group sync.WaitGroup
	turns := make(chan struct{}, 2)
	for _, x := range cases {
		namespace := namespaces[strings.TrimPrefix(x.values[0], "kind=")]
		if err := os.MkdirAll(filepath.Join(dir, namespace), 0o700); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			args := []string{"template", release, chartDir, "--namespace", namespace}
			var err error
			if x.render, _, err = c.try(t.Context(), "helm", append(args, sets(x.values...)...)...); err != nil {
				t.Error(err)
				return
			}
			if err := os.WriteFile(filepath.Join(dir, namespace, x.name+".yaml"), []byte(x.render), 0o600); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	t.Run("kubeconform", func(t *testing.T) { c.checkSchemas(t, dir) })
	t.Run("dry run", func(t *testing.T) { c.dryRun(t, dir) })
	t.Run("settings", func(t *testing.T) { checkSettings(t, cases) })
	t.Run("contents", func(t *testing.T) { checkContents(t, cases) })
	t.Run("notes", c.checkOutputNotes)
}

// checkOutputNotes has notes that say where records go, without secrets of their URL, and how to
// reach the page and Hubble's API by Services that there are.
func (c *chartCluster) checkOutputNotes(t *testing.T) {
	for want, values := range map[string][]string{
		"\n\nSee the records, and whether all is well:\n\n  kubectl logs ": nil,
		"\n\nRecords go to the Kafka topic flows and to the OpenTelemetry receiver collector:4317 and to http://store:8123/in. See whether all is well:\n\n": {
			"kafka.enabled=true", "kafka.brokers={kafka:9092}", "kafka.topic=flows", "otlp.enabled=true", "otlp.endpoint=collector:4317",
			"http.enabled=true", "http.url=http://user:secret@store:8123/in?key=secret",
		},
		"\n\nSee who talks to whom, on http://localhost:8083:\n\n  kubectl port-forward -n default service/notes-goflow2-kube-enricher-ui 8083:8083\n": {
			"ui.enabled=true", "ui.port=8083",
		},
		"\n\nAsk with Hubble's command:\n\n  kubectl port-forward -n default service/notes-goflow2-kube-enricher-hubble 4244:4244\n  hubble --server localhost:4244 observe --follow\n": {
			"hubble.enabled=true",
		},
		"-hubble 4245:4245\n  hubble --server tls://localhost:4245 --tls-ca-cert-files ca.crt --tls-client-cert-file tls.crt --tls-client-key-file tls.key observe --follow\n": {
			"hubble.enabled=true", "hubble.port=4245", "hubble.tls.secret=hubble-tls",
		},
		"\n\nThe Service leads to one of the pods, which shows the records that it received itself.": {"kind=DaemonSet", "ui.enabled=true"},
	} {
		out, _ := c.run(t, "helm", append([]string{"install", "notes", chartDir, "--dry-run=client"}, sets(values...)...)...)
		manifest, notes, _ := strings.Cut(out, "\nNOTES:")
		if !strings.Contains(notes, want) || strings.Contains(strings.ReplaceAll(notes, "hubble-tls", ""), "secret") {
			t.Errorf("no %q in the notes\n%s", want, notes)
		}
		for _, forward := range regexp.MustCompile(`port-forward -n default service/(\S+) \d+:(\d+)`).FindAllStringSubmatch(notes, -1) {
			service := regexp.MustCompile(`(?s)kind: Service\nmetadata:\n  name: ` + forward[1] + `\n(.*?)\n---`).FindStringSubmatch(manifest)
			if service == nil || !strings.Contains(service[1], "\n      port: "+forward[2]+"\n") {
				t.Errorf("%s: there is no such Service in\n%s", forward[0], manifest)
			}
		}
	}
}

// checkSchemas holds what was rendered to the schemas that this API server
// publishes, without room for what they don't know.
func (c *chartCluster) checkSchemas(t *testing.T, dir string) {
	t.Helper()
	schemas := t.TempDir()
	if err := c.writeSchemas(t, schemas); err != nil {
		t.Fatal(err)
	}
	location := schemas + "/{{.ResourceKind}}{{.KindSuffix}}.json"
	out, _ := c.run(t, "kubeconform", "-strict", "-summary", "-schema-location", location, dir)
	t.Log(strings.TrimSpace(out))

	// It would find a mistake.
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	text := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {selector: {}, template: {spec: {containers: [{name: x, imagee: y}]}}}\n"
	if err := os.WriteFile(wrong, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := c.try(t.Context(), "kubeconform", "-strict", "-schema-location", location, wrong); err == nil || !strings.Contains(out, "imagee") {
		t.Errorf("a wrong field was not found: %s", out)
	}
}

// writeSchemas makes of the server's OpenAPI document a JSON Schema for each
// kind, as kubeconform wants them.
func (c *chartCluster) writeSchemas(t *testing.T, dir string) error {
	t.Helper()
	data, err := c.Client.Discovery().RESTClient().Get().AbsPath("/openapi/v2").SetHeader("Accept", "application/json").DoRaw(t.Context())
	if err != nil {
		return err
	}
	var api struct{ Definitions map[string]map[string]any }
	if err := json.Unmarshal(data, &api); err != nil {
		return err
	}
	for _, d := range api.Definitions {
		strict(d)
	}
	const quantity = "io.k8s.apimachinery.pkg.api.resource.Quantity"
	if api.Definitions[quantity] == nil {
		return errors.New("no definition " + quantity)
	}
	api.Definitions[quantity]["type"] = []any{"string", "number"} // the server takes both
	for name, d := range api.Definitions {
		kinds, _ := d["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 {
			continue // kinds of several groups are no resources
		}
		kind, _ := kinds[0].(map[string]any)
		group, _, _ := strings.Cut(fmt.Sprint(kind["group"]), ".")
		parts := []string{fmt.Sprint(kind["kind"]), group, fmt.Sprint(kind["version"])}
		file := strings.ToLower(strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "-")) + ".json"
		used := map[string]any{}
		collect(api.Definitions, name, used)
		schema, err := json.Marshal(map[string]any{"$ref": "#/definitions/" + name, "definitions": used})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), schema, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// strict allows no other properties than those that are listed, and says in
// JSON Schema what OpenAPI says in its own way.
func strict(v any) {
	switch v := v.(type) {
	case []any:
		for _, v := range v {
			strict(v)
		}
	case map[string]any:
		if v["format"] == "int-or-string" || v["x-kubernetes-int-or-string"] == true {
			v["type"] = []any{"integer", "string"}
		}
		_, properties := v["properties"].(map[string]any)
		if _, more := v["additionalProperties"]; properties && !more && v["x-kubernetes-preserve-unknown-fields"] == nil {
			v["additionalProperties"] = false
		}
		for _, v := range v {
			strict(v)
		}
	}
}

// collect adds a definition and all that it refers to.
func collect(all map[string]map[string]any, name string, used map[string]any) {
	if used[name] != nil {
		return
	}
	used[name] = all[name]
	text, err := json.Marshal(all[name])
	if err != nil {
		panic(err)
	}
	for _, m := range regexp.MustCompile(`"#/definitions/([^"]+)"`).FindAllSubmatch(text, -1) {
		collect(all, string(m[1]), used)
	}
}

// dryRun has the API server look at all that was rendered.
func (c *chartCluster) dryRun(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	for _, namespace := range []string{restricted, open} { // pods need an account that exists
		for _, name := range []string{chartName, "other", release + "-enricher"} {
			accounts := c.Client.CoreV1().ServiceAccounts(namespace)
			if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := accounts.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}()
		}
		_, problems := c.run(t, "kubectl", "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", filepath.Join(dir, namespace))
		for line := range strings.Lines(problems) {
			if namespace == open && daemonSetNeeds.MatchString(strings.TrimSpace(line)) {
				continue
			}
			t.Errorf("%s: %s", namespace, line)
		}
	}
}

// checkSettings runs what `helm test` would run in the cluster: the program,
// to check its settings.
func checkSettings(t *testing.T, cases []*chartCase) {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"/data", "/kafka/ca", "/kafka/client", "/templates", "/hubble/tls"} {
		if err := os.MkdirAll(dir+sub, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeCertificate(t, dir+"/kafka/ca/ca.crt", dir+"/kafka/client/tls.key")
	if err := os.Link(dir+"/kafka/ca/ca.crt", dir+"/kafka/client/tls.crt"); err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, dir+"/hubble/tls/tls.crt", dir+"/hubble/tls/tls.key")
	if err := os.Link(dir+"/hubble/tls/tls.crt", dir+"/hubble/tls/ca.crt"); err != nil {
		t.Fatal(err)
	}
	kubeconfig := unreachable(t)
	usage, err := command(t, "-h").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, usage)
	}
	kafka := strings.Contains(string(usage), "-transport.kafka.brokers")
	if !kafka {
		t.Log("the program has no output to Kafka: settings of that are not checked")
	}
	checked := map[string]bool{}
	for _, x := range cases {
		objects := manifests(t, x.render)
		i := slices.IndexFunc(objects, func(o object) bool { return o["kind"] == "Pod" })
		if i < 0 {
			continue
		}
		pod := objects[i].at("spec").(map[string]any)
		if pod["automountServiceAccountToken"] != nil {
			t.Errorf("%v: without a token there is no cluster to be found", x.values)
		}
		var args []string
		for _, a := range object(pod["containers"].([]any)[0].(map[string]any)).at("args").([]any) {
			if strings.HasPrefix(a.(string), "-check.ready=") {
				continue // nothing runs here: TestCheckReady of the program has one that does
			}
			args = append(args, strings.Replace(a.(string), configDir, dir, 1))
		}
		config := collectorConfig(t, objects)
		key := config + strings.Join(args, " ")
		if checked[key] || !kafka && strings.Contains(config, "transport.kafka.") {
			continue
		}
		checked[key] = true
		config = strings.NewReplacer("/etc/kafka/", dir+"/kafka/", "/etc/hubble/", dir+"/hubble/", "/var/lib/kube-enricher/", dir+"/templates/", "/data/", dir+"/data/").Replace(config)
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := command(t, append(args, "-kubeconfig", kubeconfig)...)
		cmd.Env = append(cmd.Env, "KAFKA_SASL_USER=user", "KAFKA_SASL_PASS=password")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s\n%s", x.values, err, out, config)
		}
	}
	if len(checked) < 10 {
		t.Errorf("%d different settings are few", len(checked))
	}
}

// writeCertificate writes a certificate and its key.
func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
