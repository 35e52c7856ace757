package enrich

import (
	"context"
	"encoding/csv"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// startSnapshot runs an Enricher on a snapshot until the test ends, and waits for it.
func startSnapshot(t *testing.T, path string, cfg Config) *Enricher {
	t.Helper()
	s, err := LoadSnapshot(path)
	if err != nil {
		t.Fatal(err)
	}
	e, _, _ := newTest(t, cfg, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := e.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if err := e.WaitSynced(ctx); err != nil {
		t.Fatal(err)
	}
	return e
}

func when(s string) int64 {
	t, err := time.Parse("2006-01-02 15:04:05", "2026-11-"+s)
	if err != nil {
		panic(err)
	}
	return t.UnixNano()
}

const now = "23 02:00:00"

func TestRules(t *testing.T) {
	e := startSnapshot(t, "testdata/rules.yaml", Config{Unheld: true, KeepEnded: true})
	web := flow.Object{
		Kind: "Pod", Namespace: "shop", Name: "web-5d9c7b8f64-x2x7k", HostIP: "172.18.0.2", Workload: "web", WorkloadKind: "Deployment",
		Node: "worker-1", Zone: "eu-1a", UID: "20000000-0000-4000-8000-000000000001",
	}
	node := flow.Object{
		Kind: "Node", Name: "worker-1", Workload: "worker-1", WorkloadKind: "Node", Node: "worker-1", Zone: "eu-1a",
		UID: "30000000-0000-4000-8000-000000000001",
	}
	service := flow.Object{
		Kind: "Service", Namespace: "shop", Name: "web", Workload: "web", WorkloadKind: "Service",
		UID: "40000000-0000-4000-8000-000000000001",
	}
	warned := func(o flow.Object, warn string) flow.Object { o.Warn = warn; return o }
	const (
		twoWebs   = "Several services found for same IP: mail.office,web.shop"
		twoTwins  = "Several pods found for same IP: twin-a.shop,twin-b.shop"
		allTwins  = "Several pods found for same IP: twin-z.default,twin-a.shop,twin-b.shop"
		twoOwners = "Several owners found for pod shared: Zebra/z,ReplicaSet/web-5d9c7b8f64"
	)
	pod := func(name, workload, kind string) flow.Object {
		return flow.Object{Kind: "Pod", Name: name, Workload: workload, WorkloadKind: kind}
	}
	own := func(name string) flow.Object { return pod(name, name, "Pod") }
	for _, c := range []struct {
		why, addr, from, to string
		status              flow.Status
		want                flow.Object // those of its fields that are set are compared
	}{
		{"all attributes", "10.244.0.5", now, now, flow.StatusLive, web},
		{"second family", "fd00:10:244::5", now, now, flow.StatusLive, web},
		{"just when it was ready", "10.244.0.5", "20 08:00:05", "20 08:00:05", flow.StatusLive, web},
		{"within the tolerance", "10.244.0.5", "20 08:00:03", "20 08:00:03", flow.StatusLive, web},
		{"before it was ready", "10.244.0.5", "20 08:00:01", "20 08:00:02", flow.StatusNone, flow.Object{}},
		{"a flow that began before", "10.244.0.5", "20 07:00:00", "20 08:00:10", flow.StatusLive, web},
		{"unknown address", "10.244.0.99", now, now, flow.StatusNone, flow.Object{}},

		{"a job's pod in its time", "10.244.0.11", "20 09:05:00", "20 09:05:10", flow.StatusRetained, pod("nightly-29-abcde", "nightly", "CronJob")},
		{"just after it", "10.244.0.11", "20 09:10:01", "20 09:10:02", flow.StatusRetained, pod("nightly-29-abcde", "nightly", "CronJob")},
		{"between two owners", "10.244.0.11", "20 09:15:00", "20 09:15:00", flow.StatusNone, flow.Object{}},
		{"the next owner", "10.244.0.11", now, now, flow.StatusLive, pod("db-0", "db", "StatefulSet")},
		{"just before it", "10.244.0.11", "20 09:20:03", "20 09:20:03", flow.StatusLive, pod("db-0", "db", "StatefulSet")},
		{"more of the flow with the first owner", "10.244.0.11", "20 09:05:00", "20 09:21:00", flow.StatusRetained, pod("nightly-29-abcde", "nightly", "CronJob")},
		{"more of the flow with the second owner", "10.244.0.11", "20 09:09:50", "20 09:21:00", flow.StatusLive, pod("db-0", "db", "StatefulSet")},

		{"host network", "172.18.0.2", now, now, flow.StatusNode, node},
		{"static pod", "10.244.0.22", now, now, flow.StatusLive, own("proxy-worker-1")},
		{"several owners", "10.244.1.31", now, now, flow.StatusLive, warned(pod("shared", "z", "Zebra"), twoOwners)},
		{"a Job of another group", "10.244.1.74", now, now, flow.StatusLive, pod("train-0", "train", "Job")},

		{"one twin", "10.244.1.41", "20 10:30:00", "20 10:30:00", flow.StatusLive, own("twin-b")},
		{"two twins: the later start", "10.244.1.41", "20 11:10:00", "20 11:10:00", flow.StatusAmbiguous, warned(own("twin-a"), twoTwins)},
		{"three twins: a soft start does not win", "10.244.1.41", now, now, flow.StatusAmbiguous, warned(own("twin-a"), allTwins)},

		{"being deleted, in time", "10.244.1.51", "20 11:00:00", "20 11:00:00", flow.StatusLive, own("stuck")},
		{"being deleted, late, alone", "10.244.1.51", "20 12:03:00", "20 12:03:00", flow.StatusLive, own("stuck")},
		{"being deleted, late, not alone", "10.244.1.51", now, now, flow.StatusLive, own("heir")},
		{"being deleted, late, nobody else", "10.244.1.52", now, now, flow.StatusLive, own("stuck")},

		{"known time beats a soft start", "10.244.1.61", "20 09:20:00", "20 09:20:00", flow.StatusRetained, own("known")},
		{"the last container ended", "10.244.1.61", "20 09:31:00", "20 09:31:00", flow.StatusLive, own("soft")},

		{"a sidecar runs", "10.244.1.71", now, now, flow.StatusLive, own("sidecar")},
		{"evicted, in its time", "10.244.1.72", "20 08:30:00", "20 08:30:00", flow.StatusRetained, own("evicted")},
		{"evicted, after it", "10.244.1.72", now, now, flow.StatusNone, flow.Object{}},
		{"hardly any status", "10.244.1.73", now, now, flow.StatusLive, own("bare")},

		{"external address of a service", "198.51.100.7", now, now, flow.StatusService, service},
		{"second family of a service", "fd00:10:96::1", now, now, flow.StatusService, service},
		{"two services: the cluster address wins", "10.96.0.1", now, now, flow.StatusAmbiguous, warned(service, twoWebs)},
		{"two services behind one load balancer", "203.0.113.7", now, now, flow.StatusAmbiguous, warned(flow.Object{Name: "mail"}, twoWebs)},
		{"service before node", "10.96.0.2", now, now, flow.StatusService, flow.Object{Name: "mail", Workload: "mail", Warn: "Service and node found for same IP: mail.office,worker-2"}},
		{"headless service", "198.51.100.8", now, now, flow.StatusNone, flow.Object{}},
		{"external name", "198.51.100.9", now, now, flow.StatusNone, flow.Object{}},
		{"another group's service", "10.96.0.3", now, now, flow.StatusNone, flow.Object{}},

		{"second family of a node", "fd00:172:18::2", now, now, flow.StatusNode, node},
		{"external address of a node", "192.0.2.2", now, now, flow.StatusNode, node},
		{"management port", "10.244.0.2", now, now, flow.StatusNode, node},
		{"management port, second family", "fd00:10:244::2", now, now, flow.StatusNode, node},
		{"management port of another network", "10.100.0.2", now, now, flow.StatusNode, node},
		{"node without zone", "172.18.0.3", now, now, flow.StatusNode, flow.Object{Name: "worker-2", Node: "worker-2"}},
	} {
		end := e.Lookup(addr(c.addr), when(c.from), when(c.to))
		if end.Status != c.status {
			t.Errorf("%s: %s, want %s", c.why, show(end), c.status)
			continue
		}
		if end.Object == nil {
			continue
		}
		got, want := *end.Object, c.want
		for a := range flow.AttrStatus {
			if w := want.Attr(a); (w != "" || a == flow.AttrWarn) && got.Attr(a) != w {
				t.Errorf("%s: attribute %d is %q, want %q", c.why, a, got.Attr(a), w)
			}
		}
		if got.Name != want.Name || want.Kind != "" && got.Kind != want.Kind {
			t.Errorf("%s: %s %s, want %s %s", c.why, got.Kind, got.Name, want.Kind, want.Name)
		}
		if !got.Plain() {
			t.Errorf("%s: not plain", c.why)
		}
	}
}

// The forms in which kubectl and others print objects are read alike.
// What kubectl printed of a real cluster: the fixtures of the end-to-end tests,
// written anew by
//
//	make e2e ARGS='-run TestSnapshotOfCluster -dump ../../enrich/testdata/kubectl.yaml'
func TestKubectl(t *testing.T) {
	e := startSnapshot(t, "testdata/kubectl.yaml", Config{Unheld: true, KeepEnded: true})
	for _, c := range []struct {
		addr, status, pod, workload, kind, warn string
	}{
		{"10.244.0.11", "live", "web-5d9c7b8f64-p2xkl", "web", "Deployment", ""},
		{"fd00:10:244::b", "live", "web-5d9c7b8f64-p2xkl", "web", "Deployment", ""},
		{"10.244.0.12", "live", "canary-6f7d-hq8sd", "canary", "Rollout", ""},
		{"10.244.0.13", "live", "db-0", "db", "StatefulSet", ""},
		{"10.244.0.14", "live", "agent-x7k2p", "agent", "DaemonSet", ""},
		{"10.244.0.15", "live", "nightly-29-4kzzt", "nightly", "CronJob", ""},
		{"10.244.0.16", "live", "migrate-9wdlm", "migrate", "Job", ""},
		{"10.244.0.17", "live", "shell", "shell", "Pod", ""},
		{"10.244.0.18", "live", "legacy-1-6tpzn", "legacy", "DeploymentConfig", ""},
		{"10.244.0.19", "live", "queue-0", "queue", "StrimziPodSet", ""},
		{"10.244.0.20", "live", "train-0", "train", "Job", ""},
		{"10.244.0.21", "live", "proxy-node-a", "proxy-node-a", "Pod", ""},
		{"10.244.0.22", "live", "shared", "z", "Zebra", "Several owners found for pod shared: Zebra/z,ReplicaSet/web-5d9c7b8f64"},
		{"10.244.0.23", "none", "", "", "", ""}, // Succeeded
		{"10.244.0.24", "none", "", "", "", ""}, // Failed
		{"10.244.0.25", "none", "", "", "", ""}, // evicted
		{"10.244.0.26", "live", "multus-0", "multus-0", "Pod", ""},
		{"10.200.0.7", "live", "multus-0", "multus-0", "Pod", ""},
		{"fd00:10:200::7", "live", "multus-0", "multus-0", "Pod", ""},
		{"10.201.0.8", "live", "ovn-0", "ovn-0", "Pod", ""},
		{"10.89.0.2", "node", "node-a", "node-a", "Node", ""}, // also of a host-network pod
		{"fd00:89::2", "node", "node-a", "node-a", "Node", ""},
		{"198.51.100.1", "node", "node-a", "node-a", "Node", ""},
		{"10.245.0.2", "node", "node-a", "node-a", "Node", ""},
		{"fd00:10:245::2", "node", "node-a", "node-a", "Node", ""},
		{"10.245.1.2", "node", "node-b", "node-b", "Node", ""},
		{"198.51.100.80", "service", "web", "web", "Service", ""},
		{"198.51.100.81", "service", "web", "web", "Service", ""},
		{"10.96.0.1", "service", "kubernetes", "kubernetes", "Service", ""},
	} {
		at := time.Now().Add(100 * 365 * 24 * time.Hour).UnixNano() // later than all of it
		end := e.Lookup(addr(c.addr), at, at)
		o := end.Object
		if o == nil {
			o = &flow.Object{}
		}
		if end.Status.String() != c.status || o.Name != c.pod || o.Workload != c.workload || o.WorkloadKind != c.kind || o.Warn != c.warn {
			t.Errorf("%s: %s %+v, want %+v", c.addr, end.Status, o, c)
		}
		if o.Kind == "Pod" && o.Zone != "zone-node-a" {
			t.Errorf("%s: zone %q", c.addr, o.Zone)
		}
	}
}

func TestSnapshotForms(t *testing.T) {
	list, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	js, err := yaml.YAMLToJSON(list)
	if err != nil {
		t.Fatal(err)
	}
	var l struct {
		Items []map[string]any `json:"items"`
	}
	if err := yaml.Unmarshal(list, &l); err != nil {
		t.Fatal(err)
	}
	var docs, stream strings.Builder
	docs.WriteString("# comment\n---\n")
	var pods []any
	for _, item := range l.Items {
		y, err := yaml.Marshal(item)
		if err != nil {
			t.Fatal(err)
		}
		j, err := yaml.YAMLToJSON(y)
		if err != nil {
			t.Fatal(err)
		}
		docs.Write(y)
		docs.WriteString("---\n")
		stream.Write(j)
		stream.WriteString("\n")
		if item["kind"] == "Pod" {
			delete(item, "kind")
			delete(item, "apiVersion")
			pods = append(pods, item)
		}
	}
	typed, err := yaml.Marshal(map[string]any{"apiVersion": "v1", "kind": "PodList", "items": pods})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text    string
		skipped int
	}{
		"list.yaml": {string(list), 3}, "list.json": {string(js), 3}, "docs.yaml": {docs.String(), 3}, "stream.json": {stream.String(), 3},
		"pods.yaml": {string(typed), 0}, "flow.yaml": {strings.Replace(string(js), `"kind":`, "kind: ", 1), 3}, "bom.json": {"\ufeff" + string(js), 3},
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadSnapshot(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		skipped := 0
		for _, n := range s.read.skipped {
			skipped += n
		}
		if skipped != c.skipped || len(s.read.items[kindPod]) != len(pods) {
			t.Errorf("%s: %d skipped, %d pods; want %d, %d", name, skipped, len(s.read.items[kindPod]), c.skipped, len(pods))
		}
		e := startSnapshot(t, path, Config{})
		if got := show(e.Lookup(addr("10.244.0.11"), when("20 09:05:00"), when("20 09:05:00"))); got != "nightly-29-abcde retained" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestSnapshotErrors(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"broken YAML":          {"kind: List\nitems:\n- kind: Pod\n   name: x\n", "line 4"},
		"broken later":         {"kind: List\n---\nkind: Pod\nmetadata:\n  name: p\n---\na: [\n", "line 7"},
		"first line":           {"{[", "line 1"},
		"first line of YAML":   {"@\n", "line 1"},
		"no text":              {"kind: Pod\nmetadata: {name: \"a\x01b\"}\n", "line 2"},
		"no UTF-8":             {"kind: Pod\n\nmetadata: {name: \"a\xffb\"}\n", "line 3"},
		"duplicate key":        {"kind: Pod\nmetadata:\n  name: p\n  name: q\n", "line 4"},
		"broken JSON":          {"{\"kind\": \"List\",\n\"items\": [\n}", "line 3"},
		"cut JSON":             {"{\"kind\": \"List\",\n\"items\": [\n", "line 3"},
		"no object":            {"- a\n- b\n", "line 1: not a Kubernetes object"},
		"no kind":              {"a: b\n", "line 1: not a Kubernetes object: it has no kind"},
		"no kind in JSON":      {"{\"a\": 1}", "line 1: not a Kubernetes object: it has no kind"},
		"no name":              {"kind: Pod\n", "line 1: Pod: it has no metadata.name"},
		"empty":                {"", "there is no object"},
		"only comments":        {"# nothing\n---\n", "there is no object"},
		"a field that differs": {"kind: List\nitems:\n- kind: Pod\n  metadata: {name: p}\n  status: {podIPs: x}\n", "line 3: Pod"},
		"a list in itself":     {"&a\nkind: List\nitems: [*a]\n", "lists within lists"},
		"items no list":        {"kind: List\nitems: 3\n", "line 2"},
	} {
		path := filepath.Join(t.TempDir(), "snapshot")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadSnapshot(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %q, want %q in it", name, err, c.want)
		}
	}
	for _, path := range []string{"-", filepath.Join(t.TempDir(), "missing"), t.TempDir()} {
		if _, err := LoadSnapshot(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}

func TestSnapshotReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "snapshot.yaml")
		write := func(pods ...podSpec) {
			var b strings.Builder
			for _, p := range pods {
				b.WriteString("---\n" + p.yaml() + "\n")
			}
			if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a, b := podSpec{name: "a", ips: "10.0.0.1", ready: rfc(-7200)}, podSpec{name: "b", ips: "10.0.0.1", ready: rfc(-60)}
		done := podSpec{name: "done", ips: "10.0.0.2", phase: "Succeeded", extra: `containerStatuses: [{state: {terminated: {finishedAt: "1999-12-31T23:10:00Z"}}}]`}
		write(a, done)
		e := startSnapshot(t, path, Config{})
		check := func(ip string, seconds float64, want string) {
			t.Helper()
			if got := e.show(ip, seconds, seconds); got != want {
				t.Errorf("%s at %v: %s, want %s", ip, seconds, got, want)
			}
		}
		check("10.0.0.1", -3600, "a live")
		after(3600)
		check("10.0.0.2", -3300, "done retained") // what a snapshot holds does not expire

		if err := os.WriteFile(path, []byte("a: ["), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := e.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("reload of a broken file: %v", err)
		}
		check("10.0.0.1", 3600, "a live")

		write(b, done)
		if err := e.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		check("10.0.0.1", -3600, "a retained")
		check("10.0.0.1", 3600, "b live")
		after(1800)
		check("10.0.0.1", -3600, "none")
		check("10.0.0.1", 3600, "b live")
		check("10.0.0.2", -3300, "done retained")
	})
}

// A file of any content is read or refused.
func FuzzSnapshot(f *testing.F) {
	rules, err := os.ReadFile("testdata/rules.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rules)
	f.Add([]byte(podSpec{name: "p", ips: "10.0.0.1", ready: rfc(0)}.yaml()))
	f.Add([]byte(`{"kind":"PodList","items":[{"metadata":{"name":"p"},"status":{"podIPs":[{"ip":"fd00::1"}]}}]}`))
	f.Add([]byte("kind: Node\nmetadata: {name: n, annotations: {k8s.ovn.org/node-subnets: '{\"default\":[\"10.244.0.0/24\"]}'}}\n---\nkind: Service\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseObjects(b, nil)
		if err != nil {
			return
		}
		var addrs []netip.Addr
		for _, it := range o.items[kindPod] {
			addrs = append(addrs, it.addrs...)
		}
		e, _, _ := newTest(t, Config{}, &Snapshot{read: o})
		e.source.(*Snapshot).apply(e.store) // which takes the objects out of the list
		for _, a := range addrs {
			e.Lookup(a, 0, never-1)
		}
	})
}

// The demo's snapshot names every address in the captures made for it, at the
// time of the flows, but those that nobody has.
func TestDemoSnapshot(t *testing.T) {
	e := startSnapshot(t, "../examples/demo/snapshot.yaml", Config{Unheld: true, KeepEnded: true})
	nobody := map[string]bool{"": true, "10.96.0.99": true, "127.0.0.1": true}
	captured := when("23 01:58:00")
	for _, capture := range []string{"ovs-ipfix", "ovs-ipfix-2node-geneve", "ovs-ipfix-nocache", "ovs-ipfix-nolistener", "ovs-netflow5", "ovs-sflow"} {
		f, err := os.Open("../testdata/captures/" + capture + ".truth.csv")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		rows, err := csv.NewReader(f).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		named := 0
		for _, row := range rows[1:] {
			for _, column := range []string{"src", "dst", "exporter"} {
				s := row[slices.Index(rows[0], column)]
				if nobody[s] || addr(s).IsMulticast() {
					continue
				}
				if end := e.Lookup(addr(s), captured, captured); end.Object == nil {
					t.Errorf("%s: nobody has %s", capture, s)
				}
				named++
			}
		}
		if named == 0 {
			t.Errorf("%s has no addresses", capture)
		}
	}
}
