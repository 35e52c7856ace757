package enrich

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestExplain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		a, b := podSpec{name: "a", ips: "10.0.0.1"}, podSpec{name: "b", ips: "10.0.0.1"}
		e.store.update(a.object(t)) // [1, 11)
		after(10)
		e.store.remove(a.object(t))
		after(10)
		e.store.update(b.object(t)) // from 21 on
		after(10)
		e.store.update(podSpec{name: "c", ips: "10.0.0.1", deleted: rfc(40)}.object(t)) // from 31 on
		e.store.update(&object{kind: kindService, namespace: "ns", name: "s", uid: "s", addrs: []netip.Addr{addr("10.0.0.2")}, servicePart: &servicePart{clusterIPs: 1}})
		e.store.update(&object{kind: kindNode, name: "n", uid: "n", addrs: []netip.Addr{addr("10.0.0.2"), addr("10.0.0.3")}, nodePart: &nodePart{}})
		for _, c := range []struct {
			addr string
			at   int
			want string // status, rule, chosen, owners
		}{
			{"10.0.0.1", 5, "retained overlap a 3"},
			{"::ffff:10.0.0.1", 5, "retained overlap a 3"},
			{"10.0.0.1", 12, "retained after a 3"},
			{"10.0.0.1", 16, "none none - 3"},
			{"10.0.0.1", 20, "live before b 3"},
			{"10.0.0.1", 25, "live overlap b 3"},
			{"10.0.0.1", 35, "ambiguous overlap c 3"},
			{"10.0.0.1", 45, "live overlap b 3"},
			{"10.0.0.2", 0, "service service s 2"},
			{"10.0.0.3", 0, "node node n 1"},
			{"10.0.0.4", 0, "none none - 0"},
		} {
			x := e.Explain(addr(c.addr), time.Unix(0, at(float64(c.at))))
			chosen := "-"
			if x.Chosen != nil {
				chosen = x.Chosen.Name
			}
			if got := fmt.Sprint(x.Status, " ", x.Rule, " ", chosen, " ", len(x.Owners)); got != c.want || x.Why == "" {
				t.Errorf("%s at %d: %s (%s), want %s", c.addr, c.at, got, x.Why, c.want)
			}
			if rule := e.show(strings.TrimPrefix(c.addr, "::ffff:"), float64(c.at), float64(c.at)); x.Chosen != nil && rule != chosen+" "+x.Status {
				t.Errorf("%s at %d: a look-up says %s", c.addr, c.at, rule)
			}
		}
		text, err := json.Marshal(e.Explain(addr("10.0.0.1"), time.Unix(0, at(5))).Owners)
		want := `[{"kind":"Pod","namespace":"ns","name":"a","uid":"uid-a","from":"2000-01-01T00:00:01Z","to":"2000-01-01T00:00:11Z","soft":false,"from_by":"event","to_by":"event"},` +
			`{"kind":"Pod","namespace":"ns","name":"b","uid":"uid-b","from":"2000-01-01T00:00:21Z","soft":false,"from_by":"event"},` +
			`{"kind":"Pod","namespace":"ns","name":"c","uid":"uid-c","from":"2000-01-01T00:00:31Z","soft":false,"yields_from":"2000-01-01T00:00:40Z","from_by":"event"}]`
		if err != nil || string(text) != want {
			t.Errorf("%s, %v\nwant %s", text, err, want)
		}
		e.store.replace(kindPod, []*object{podSpec{name: "d", ips: "10.0.0.9"}.object(t)})
		if x := e.Explain(addr("10.0.0.9"), time.Now()); len(x.Owners) != 1 || !x.Owners[0].Soft {
			t.Errorf("soft: %+v", x)
		}
	})
}

// A cluster that is away for a while makes names stale, not wrong.
func TestStale(t *testing.T) {
	inBubble(t, func(a *api) { a.put(t, podSpec{name: "p", ips: "10.0.0.1", ready: rfc(-100)}.yaml()) }, func(t *testing.T, r *run) {
		if s := r.Stale(); s != "" {
			t.Errorf("at first: %s", s)
		}
		r.api.interrupt(true)
		after(50)
		if s := r.Stale(); s != "" {
			t.Errorf("too soon: %s", s)
		}
		after(90)
		if s := r.Stale(); !strings.Contains(s, "pods not up to date since 2000-01-01T00:00:") || !strings.Contains(s, "services") {
			t.Errorf("away: %q", s)
		}
		if err := r.Ready(); err != nil || r.show("10.0.0.1", 0, 0) != "p live" {
			t.Errorf("not ready: %v, or forgotten", err)
		}
		r.api.interrupt(false)
		after(60)
		if s := r.Stale(); s != "" {
			t.Errorf("back: %s", s)
		}
		before := time.Now()
		r.api.put(t, podSpec{name: "q", ips: "10.0.0.2"}.yaml())
		after(30)
		want := fmt.Sprintf("# HELP kube_enricher_kube_event_age_seconds Time since the newest watch event or list of this kind arrived.\n"+
			"# TYPE kube_enricher_kube_event_age_seconds gauge\nkube_enricher_kube_event_age_seconds{kind=\"pod\"} %v\n", time.Since(before).Seconds())
		r.metrics.e.store.feeds[kindService].lastEvent, r.metrics.e.store.feeds[kindNode].lastEvent, r.metrics.e.store.feeds[kindReplicaSet].lastEvent = 0, 0, 0
		r.metrics.e.store.feeds[kindEndpointSlice].lastEvent = 0
		if err := testutil.CollectAndCompare(r.metrics, strings.NewReader(want), "kube_enricher_kube_event_age_seconds"); err != nil {
			t.Error(err)
		}
	})
}

// An address in several networks is explained with all of them.
func TestExplainNetworks(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	e.store.replace(kindNode, []*object{tenantNode("n2", "192.168.1.12")})
	e.store.replace(kindPod, []*object{
		tenantPod("blue", "cli", "n1", "10.244.0.21", "blue/net", "10.100.0.21", "primary"),
		tenantPod("red", "job", "n2", "10.244.1.31", "red/net", "10.100.0.21", "primary"),
		tenantPod("red", "one", "n2", "10.244.1.32", "red/net", "10.100.0.22", "primary"),
		tenantPod("red", "two", "n2", "10.244.1.33", "red/net", "192.168.1.12", "primary"),
		tenantPod("red", "lab", "n2", "10.244.1.34", "red/lab", "10.200.0.1", "secondary"),
	})
	for ip, want := range map[string]string{
		"10.244.0.21":  "live overlap cli default, cli  0a:58:0a:f4:00:15",
		"10.100.0.21":  "ambiguous network cli blue/net, cli blue/net 0a:58:0a:64:00:15, job red/net 0a:58:0a:64:00:15",
		"10.100.0.22":  "live overlap one red/net, one red/net 0a:58:0a:64:00:16",
		"192.168.1.12": "node node n2 , two red/net 0a:58:c0:a8:01:0c, n2  ",
		"10.200.0.1":   "live overlap lab red/lab, lab red/lab 0a:58:0a:c8:00:01",
	} {
		x := e.Explain(addr(ip), time.Now())
		got := fmt.Sprint(x.Status, " ", x.Rule, " ", x.Chosen.Name, " ", x.Chosen.Network)
		for _, o := range x.Owners {
			got += fmt.Sprint(", ", o.Name, " ", o.Network, " ", o.MAC)
		}
		if got != want || x.Why == "" {
			t.Errorf("%s: %s (%s), want %s", ip, got, x.Why, want)
		}
	}
	if x := e.Explain(addr("10.100.0.22"), time.Now()); !strings.HasSuffix(x.Why, "; in network red/net, which records of another network do not reach") {
		t.Error(x.Why)
	}
}

// What decided about a time is told: hand-overs, what is not certain, and how the times are known.
func TestExplainTimes(t *testing.T) {
	const spec = `{metadata: {name: %[1]s, namespace: ns, uid: %[1]s, creationTimestamp: T%[2]d%[3]s}, spec: {restartPolicy: Never}, status: {phase: %[4]s, startTime: T%[2]d, podIPs: [{ip: %[5]s}]%[6]s}}`
	const ready = `, conditions: [{type: PodReadyToStartContainers, status: "True", lastTransitionTime: T%d}]`
	const vm = `, ownerReferences: [{kind: VirtualMachineInstance, name: v, uid: v, controller: true}]`
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		update := func(seconds float64, name string, created int, meta, phase, ip, more string) {
			time.Sleep(time.Until(time.Unix(0, at(seconds))))
			e.store.update(lifeOf(t, fmt.Sprintf(spec, name, created, meta, phase, ip, more)))
		}
		update(10, "a", 8, "", "Running", "10.0.0.1", fmt.Sprintf(ready, 9))
		update(10, "vm1", 8, vm, "Running", "10.0.0.2", "")
		update(20, "vm2", 18, vm+", labels: {"+migrationJob+": j}, annotations: {"+migrationReady+": "+`"`+epoch.Add(30*time.Second).String()+`"}`, "Running", "10.0.0.2", "")
		update(20.9, "a", 8, "", "Succeeded", "10.0.0.1", `, containerStatuses: [{state: {terminated: {finishedAt: T20}}}]`)
		update(40, "b", 21, "", "Running", "10.0.0.1", "")
		for _, c := range []struct {
			addr string
			at   float64
			why  string // a part of it
		}{
			{"10.0.0.1", 15, "the pod owned the address then"},
			{"10.0.0.1", 20.5, "the pod did within 2s"},
			{"10.0.0.1", 21.5, "passed from pod to pod"},
			{"10.0.0.1", 30, "before it was announced"},
			{"10.0.0.2", 25, "had not migrated"},
			{"10.0.0.2", 35, "it had migrated to the pod"},
		} {
			if x := e.Explain(addr(c.addr), time.Unix(0, at(c.at))); x.Rule != "overlap" || !strings.Contains(x.Why, c.why) {
				t.Errorf("%s at %v: %s: %s, want %q", c.addr, c.at, x.Rule, x.Why, c.why)
			}
		}
		got := ""
		for _, o := range append(e.Explain(addr("10.0.0.1"), time.Now()).Owners, e.Explain(addr("10.0.0.2"), time.Now()).Owners...) {
			got += fmt.Sprintf("%s %s %s %v; ", o.Name, o.FromBy, o.ToBy, o.CertainFrom != nil)
		}
		if want := "a event finished false; b start_time  true; vm1 event migration false; vm2 migration  false; "; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}
