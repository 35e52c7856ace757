package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ovsdb"
)

func newPolicies(t testing.TB, cfg Config) *Policies {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	p, err := New(cfg, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// last is a handler that keeps what it was given.
type last struct{ flow.Extra }

func (l *last) HandleFlow(r *flow.Record) { l.Extra = r.Extra }
func (l *last) Idle() bool                { return false }

// sampled returns a record of OVN's, of a flow that ran at a time.
func sampled(app uint8, point uint32, at time.Time) *flow.Record {
	r := &flow.Record{}
	r.Msg.ObservationDomainId, r.Msg.ObservationPointId = uint32(app)<<24|5, point
	r.Msg.TimeReceivedNs, r.Msg.Packets, r.Msg.Bytes = uint64(at.UnixNano()), 1, 100
	return r
}

// ask returns what a record says of a sample: "verdict|kind|namespace|name|direction|rule|warn".
func ask(p *Policies, r *flow.Record) string {
	got := &last{}
	p.NewStage(got).HandleFlow(r)
	parts := []string{}
	for _, b := range [][]byte{got.Verdict, got.PolicyKind, got.PolicyNamespace, got.PolicyName, got.PolicyDirection, got.PolicyRule, got.PolicyWarn} {
		parts = append(parts, string(b))
	}
	return strings.Join(parts, "|")
}

// TestIdentity has ACLs as OVN-Kubernetes writes them
// (go-controller/pkg/libovsdb/ops/db_object_types.go: the keys of each owner type).
func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		action, direction string
		external          map[string]string
		want              string
	}{
		{"allow-related", toPort, map[string]string{idOwner: "NetworkPolicy", idName: "shop:web", idDirection: "Ingress", idRule: "1"}, "allowed|NetworkPolicy|shop|web|Ingress|1"},
		{"drop", toPort, map[string]string{idOwner: "NetpolNamespace", idName: "shop", idDirection: "Ingress", "type": "defaultDeny"}, "dropped|NetworkPolicy|shop||Ingress|"},
		{"drop", fromPort, map[string]string{idOwner: "NetpolNamespace", idName: "shop", idDirection: "Egress", "type": "defaultDeny"}, "dropped|NetworkPolicy|shop||Egress|"},
		{"allow", toPort, map[string]string{idOwner: "NetpolNode", idName: "node-1", "ip": "10.244.0.2"}, "allowed|NetpolNode||node-1|Ingress|"},
		{"pass", toPort, map[string]string{idOwner: "AdminNetworkPolicy", idName: "tenants", idDirection: "Ingress", idRule: "2"}, "|AdminNetworkPolicy||tenants|Ingress|2"},
		{"reject", fromPort, map[string]string{idOwner: "BaselineAdminNetworkPolicy", idName: "default", idDirection: "Egress", idRule: "0"}, "dropped|BaselineAdminNetworkPolicy||default|Egress|0"},
		// Egress firewalls are written on ACLs in the other pipeline, too.
		{"drop", toPort, map[string]string{idOwner: "EgressFirewall", idName: "shop", idFirewall: "3"}, "dropped|EgressFirewall|shop|default|Egress|3"},
		{"allow-stateless", toPort, map[string]string{idOwner: "MulticastNS", idName: "shop", idDirection: "Ingress"}, "allowed|MulticastNS|shop||Ingress|"},
		{"drop", fromPort, map[string]string{idOwner: "UDNIsolation", idName: "AdvertisedNetwork"}, "dropped|UDNIsolation||AdvertisedNetwork|Egress|"},
		{"drop", toPort, nil, "dropped|||mine|Ingress|"}, // of plain OVN, by its name
		{"drop", toPort, map[string]string{idOwner: "none"}, "dropped|||mine|Ingress|"},
	} {
		p := newPolicies(t, Config{})
		put(t, p, tableACL, 1, ovsdb.Insert, map[string]any{
			"action": c.action, "direction": c.direction, "name": "mine", "external_ids": asMap(c.external), "sample_new": ref(2),
		})
		put(t, p, tableSample, 2, ovsdb.Insert, map[string]any{"metadata": 77})
		settle(p, time.Unix(1000, 0), time.Unix(1000, 0))
		if got := ask(p, sampled(2, 77, time.Unix(1001, 0))); got != c.want+"|" {
			t.Errorf("%s %s %v: %s, not %s", c.action, c.direction, c.external, got, c.want)
		}
	}
}

func id(n int) (u ovsdb.UUID) { u[3], u[15] = byte(n), byte(n); return u }

// ref is a reference to a row, as RFC 7047 writes it.
func ref(n int) any { return []string{"uuid", fmt.Sprintf("%08x-0000-0000-0000-%012x", n, n)} }

func asMap(m map[string]string) any {
	pairs := [][2]string{}
	for k, v := range m {
		pairs = append(pairs, [2]string{k, v})
	}
	return []any{"map", pairs}
}

func put(t testing.TB, p *Policies, table string, n int, op ovsdb.Op, columns map[string]any) {
	t.Helper()
	if err := p.db.sides[sideNorth].change(table, id(n), op, row(t, columns)); err != nil {
		t.Fatal(err)
	}
}

func row(t testing.TB, columns map[string]any) ovsdb.Row {
	t.Helper()
	row := ovsdb.Row{}
	for k, v := range columns {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		row[k] = text
	}
	return row
}

func settle(p *Policies, since, until time.Time) {
	p.db.sides[sideNorth].settle(period{since.UnixNano(), until.UnixNano()})
	roles := p.db.applications()
	p.apps.Store(&roles)
}

// policyACL is an ACL of a NetworkPolicy.
func policyACL(name, action string, new, established int) map[string]any {
	return map[string]any{
		"action": action, "direction": toPort, "sample_new": ref(new), "sample_est": ref(established),
		"external_ids": asMap(map[string]string{idOwner: "NetworkPolicy", idName: "shop:" + name, idDirection: "Ingress", idRule: "0"}),
	}
}

// TestTime has numbers that change hands. Flows are named by who had the number when they
// ran, whichever order they arrive in. What connections that live on may carry is said.
func TestTime(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(10000+s), 0) }
	p := newPolicies(t, Config{})
	put(t, p, tableSample, 11, ovsdb.Insert, map[string]any{"metadata": 500})
	put(t, p, tableSample, 12, ovsdb.Insert, map[string]any{"metadata": 501})
	put(t, p, tableACL, 1, ovsdb.Insert, policyACL("a", "allow-related", 11, 12))
	p.db.sides[sideNorth].settle(period{-forever, at(0).UnixNano()})
	// At 100 s policy a goes, and at 200 s policy b comes with its numbers.
	put(t, p, tableACL, 1, ovsdb.Delete, nil)
	settle(p, at(100), at(100))
	put(t, p, tableACL, 2, ovsdb.Insert, policyACL("b", "drop", 11, 12))
	settle(p, at(200), at(200))

	const a, b = "allowed|NetworkPolicy|shop|a|Ingress|0|", "dropped|NetworkPolicy|shop|b|Ingress|0|"
	const both = "||||||Several policies found for same number: NetworkPolicy shop/a (Ingress 0, allowed),NetworkPolicy shop/b (Ingress 0, dropped)"
	for _, c := range []struct {
		app   uint8
		point uint32
		at    int
		want  string
	}{
		{2, 500, -5000, a}, // what was there at first may have been there for long
		{2, 500, 50, a},
		{2, 500, 101, a},
		{2, 500, 150, a}, // nobody else had it
		{2, 500, 199, b}, // within the tolerance, where nobody else claims it
		{2, 500, 250, b},
		{3, 501, 50, a},
		{3, 501, 150, a},
		{3, 501, 250, both}, // a connection that a allowed may live on
		{3, 501, 100 + 21*60, b},
		{2, 502, 50, "||||||"}, // a number that nobody has
		{2, 501, 50, "||||||"}, // one that established connections have
		{1, 500, 50, "dropped||||||"},
		{9, 500, 50, "||||||"}, // an application that nobody knows
	} {
		if got := ask(p, sampled(c.app, c.point, at(c.at))); got != c.want {
			t.Errorf("application %d, number %d, %d s:\n%s, not\n%s", c.app, c.point, c.at, got, c.want)
		}
	}
}

// TestNoDatapath has a sample that ovn-controller makes without a logical flow: test/e2e
// shows that real ones are of packets that arrive.
func TestNoDatapath(t *testing.T) {
	p := newPolicies(t, Config{})
	r := sampled(1, 40, time.Unix(10000, 0))
	r.Msg.ObservationDomainId = 1 << 24
	if got := ask(p, r); got != "||||||" {
		t.Error(got)
	}
}

// TestInterruption has two views with time between them: who had the number then is not known.
func TestInterruption(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(10000+s), 0) }
	p := newPolicies(t, Config{})
	put(t, p, tableSample, 11, ovsdb.Insert, map[string]any{"metadata": 500})
	put(t, p, tableACL, 1, ovsdb.Insert, policyACL("a", "drop", 11, 0))
	p.db.sides[sideNorth].settle(period{-forever, at(0).UnixNano()})
	put(t, p, tableACL, 1, ovsdb.Delete, nil)
	put(t, p, tableACL, 2, ovsdb.Insert, policyACL("b", "drop", 11, 0))
	settle(p, at(100), at(200)) // the first view was good until 100 s
	for s, want := range map[int]string{
		50:  "dropped|NetworkPolicy|shop|a|Ingress|0|",
		150: "dropped||||||Several policies found for same number: NetworkPolicy shop/a (Ingress 0, dropped),NetworkPolicy shop/b (Ingress 0, dropped)",
		250: "dropped|NetworkPolicy|shop|b|Ingress|0|",
	} {
		if got := ask(p, sampled(2, 500, at(s))); got != want {
			t.Errorf("%d s: %s, not %s", s, got, want)
		}
	}
}

// TestModify has changes as monitor_cond sends them: the new value of single columns, and
// what differs in maps (ovsdb-server(7), section 4.1.14).
func TestModify(t *testing.T) {
	now := time.Unix(10000, 0)
	p := newPolicies(t, Config{})
	put(t, p, tableSample, 11, ovsdb.Insert, map[string]any{"metadata": 500})
	put(t, p, tableACL, 1, ovsdb.Insert, policyACL("a", "drop", 11, 0))
	settle(p, now, now)
	step := func(want string, table string, n int, op ovsdb.Op, columns map[string]any) {
		t.Helper()
		put(t, p, table, n, op, columns)
		now = now.Add(time.Hour)
		settle(p, now, now)
		if got := ask(p, sampled(2, 500, now.Add(time.Minute))); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	step("dropped|NetworkPolicy|shop|c|Ingress|0|", tableACL, 1, ovsdb.Modify, map[string]any{"external_ids": asMap(map[string]string{idName: "shop:c"})})
	step("dropped|NetworkPolicy|shop|c|Ingress||", tableACL, 1, ovsdb.Modify, map[string]any{"external_ids": asMap(map[string]string{idRule: "0", "other": "x"})})
	step("allowed|NetworkPolicy|shop|c|Ingress||", tableACL, 1, ovsdb.Modify, map[string]any{"action": "allow"})
	step("allowed|NetworkPolicy|shop|d|Ingress|0|", tableACL, 2, ovsdb.Insert, func() map[string]any {
		put(t, p, tableACL, 1, ovsdb.Modify, map[string]any{"sample_new": []any{"set", []any{}}})
		return policyACL("d", "allow", 11, 0)
	}())
	// The application's number moves from OVN-Kubernetes' to another.
	put(t, p, tableApp, 31, ovsdb.Insert, map[string]any{"id": 2, "type": "drop"})
	put(t, p, tableApp, 32, ovsdb.Insert, map[string]any{"id": 77, "type": "acl-new"})
	settle(p, now, now)
	if got := ask(p, sampled(77, 500, now.Add(time.Minute))); got != "allowed|NetworkPolicy|shop|d|Ingress|0|" {
		t.Error(got)
	}
	if got := ask(p, sampled(2, 500, now.Add(time.Minute))); got != "dropped||||||" {
		t.Error(got)
	}
}

// TestBrokenReload leaves what is known as it is if a file cannot be read.
func TestBrokenReload(t *testing.T) {
	text, err := os.ReadFile("testdata/nb-samples.json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nb.json")
	write := func(b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	p := newPolicies(t, Config{Northbound: file})
	if err := p.Load(); err != nil {
		t.Fatal(err)
	}
	const want = "dropped|NetworkPolicy|shop||Ingress||"
	check := func() {
		t.Helper()
		if got := ask(p, sampled(43, 4351, time.Now())); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	check()
	for _, broken := range []string{"", "{", string(text[:700]), `{"headings":["x"],"data":[]}`} {
		write([]byte(broken))
		if err := p.Load(); err == nil || !strings.Contains(err.Error(), "-ovn.nb") {
			t.Errorf("a broken file: %v", err)
		}
		check()
	}
}

// TestMetrics counts samples by policy. A series that appears after the first scrape is 0
// once, and there are at most as many as asked for.
func TestMetrics(t *testing.T) {
	p := newPolicies(t, Config{Northbound: "testdata/nb-samples.json", MaxSeries: 3}) // none, one policy, others
	if err := p.Load(); err != nil {
		t.Fatal(err)
	}
	s := p.NewStage(&last{})
	now := time.Now()
	s.HandleFlow(sampled(43, 4351, now))
	const none = `kube_enricher_policy_packets_total{direction="",kind="none",name="",namespace="",verdict=""} `
	scrape := func(want string) {
		t.Helper()
		if err := testutil.CollectAndCompare(p.metrics, strings.NewReader(`# HELP kube_enricher_policy_packets_total Packets that OVN sampled because a policy allowed or dropped them, multiplied by the sampling rate. Policies beyond -metrics.workloads are summed up as other.
# TYPE kube_enricher_policy_packets_total counter
`+want), "kube_enricher_policy_packets_total"); err != nil {
			t.Error(err)
		}
	}
	const deny = `kube_enricher_policy_packets_total{direction="Ingress",kind="NetworkPolicy",name="",namespace="shop",verdict="dropped"} `
	const rest = `kube_enricher_policy_packets_total{direction="other",kind="other",name="other",namespace="other",verdict="other"} `
	scrape(none + "0\n" + deny + "1\n")
	s.HandleFlow(sampled(43, 9999, now))
	r := sampled(44, 4302, now)
	r.Msg.SamplingRate = 10
	s.HandleFlow(r)
	scrape(none + "1\n" + deny + "1\n" + rest + "0\n")
	s.HandleFlow(sampled(43, 4321, now))
	scrape(none + "1\n" + deny + "1\n" + rest + "11\n")
}

// writeACLs writes a file of n ACLs, as ovn-nbctl lists them.
func writeACLs(tb testing.TB, n int) string {
	file := filepath.Join(tb.TempDir(), "nb.json")
	f, err := os.Create(file)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	uuid := func(i int) string {
		return fmt.Sprintf(`["uuid","%08x-1111-4222-8333-%012x"]`, i*2654435761%(1<<32), i)
	}
	list := func(rows int, headings string, row func(i int)) {
		fmt.Fprint(f, `{"data":[`)
		for i := range rows {
			if i > 0 {
				fmt.Fprint(f, ",")
			}
			row(i)
		}
		fmt.Fprintf(f, `],"headings":%s}`+"\n", headings)
	}
	list(n, `["_uuid","action","direction","external_ids","label","log","match","meter","name","options","priority","sample_est","sample_new","severity","tier"]`, func(i int) {
		fmt.Fprintf(f, `[%s,"allow-related","to-lport",["map",[["direction","Ingress"],["gress-index","%d"],["ip-block-index","-1"],["k8s.ovn.org/id","default-network-controller:NetworkPolicy:ns-%d:policy-%d:Ingress:%d:None:-1"],["k8s.ovn.org/name","ns-%d:policy-%d"],["k8s.ovn.org/owner-controller","default-network-controller"],["k8s.ovn.org/owner-type","NetworkPolicy"],["port-policy-protocol","None"]]],0,false,"ip4.src == $a5642994970181515866 && outport == @a14012923409128626925","acl-logging","NP:ns-%d:policy-%d:Ingress",["map",[]],1001,%s,%s,["set",[]],2]`,
			uuid(3*i), i%4, i/200, i/4, i%4, i/200, i/4, i/200, i/4, uuid(3*i+1), uuid(3*i+2))
	})
	list(2*n, `["_uuid","collectors","metadata"]`, func(i int) {
		fmt.Fprintf(f, `[%s,["uuid","00000007-1111-4222-8333-000000000007"],%d]`, uuid(i/2*3+1+i%2), (1000+i)*48271%(1<<32))
	})
	return file
}

// BenchmarkLoad reads 50,000 ACLs with two samples each. MiB is what they take up.
func BenchmarkLoad(b *testing.B) {
	file := writeACLs(b, 50_000)
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		p := newPolicies(b, Config{Northbound: file})
		if err := p.Load(); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if p.acls() != 50_000 {
			b.Fatal(p.acls())
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
		runtime.KeepAlive(p)
	}
}

// BenchmarkStage says what a sample costs.
func BenchmarkStage(b *testing.B) {
	p := newPolicies(b, Config{Northbound: "testdata/nb-samples.json", MaxSeries: 100})
	if err := p.Load(); err != nil {
		b.Fatal(err)
	}
	s, r := p.NewStage(&last{}), sampled(43, 4351, time.Now())
	b.ReportAllocs()
	for b.Loop() {
		s.HandleFlow(r)
	}
}

// TestStageAllocates holds the stage to no allocation, doubtful numbers included.
func TestStageAllocates(t *testing.T) {
	now := time.Now()
	p := newPolicies(t, Config{MaxSeries: 100})
	put(t, p, tableSample, 11, ovsdb.Insert, map[string]any{"metadata": 500})
	put(t, p, tableACL, 1, ovsdb.Insert, policyACL("a", "drop", 11, 0))
	put(t, p, tableACL, 2, ovsdb.Insert, policyACL("b", "allow", 11, 0))
	settle(p, now, now)
	s := p.NewStage(&last{})
	for _, r := range []*flow.Record{sampled(2, 500, now), sampled(1, 500, now), sampled(2, 7, now)} {
		s.HandleFlow(r)
		if n := testing.AllocsPerRun(100, func() { s.HandleFlow(r) }); n != 0 {
			t.Errorf("number %d: %v allocations", r.Msg.ObservationPointId, n)
		}
	}
}
