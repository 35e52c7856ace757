package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/harness"
	"github.com/netobserv/goflow2-kube-enricher/test/e2e/lab"
)

// templateInterval is how often Open vSwitch sends its templates. It cannot be set.
const templateInterval = 600 * time.Second

// switchClock is the wall clock of the switches, which are started with it.
type switchClock struct {
	t    *testing.T
	file string
}

// newSwitchClock makes a clock that is behind. Templates that are sent by it are due again the
// sooner after it was set right: a test does not wait for ten minutes. It needs faketime, unless
// ROLLOUT is set: then the test waits.
func newSwitchClock(t *testing.T, behind time.Duration) (*switchClock, []string) {
	t.Helper()
	if os.Getenv("ROLLOUT") != "" {
		return &switchClock{t: t}, nil
	}
	lab.NeedsProgram(t, "faketime")
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if err != nil || len(libraries) == 0 {
		t.Fatal("faketime is installed without its library")
	}
	c := &switchClock{t, filepath.Join(t.TempDir(), "clock")}
	c.set(-behind)
	return c, []string{
		"LD_PRELOAD=" + libraries[0], "FAKETIME_TIMESTAMP_FILE=" + c.file, "FAKETIME_CACHE_DURATION=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
	}
}

func (c *switchClock) set(offset time.Duration) {
	c.t.Helper()
	if err := os.WriteFile(c.file, []byte(fmt.Sprintf("%+d\n", int(offset.Seconds()))), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// right sets the clock right, or lets as much time go by as it was to be behind.
func (c *switchClock) right(behind time.Duration) {
	c.t.Helper()
	if c.file != "" {
		c.set(0)
		time.Sleep(2 * time.Second) // until the switches have read it
		return
	}
	time.Sleep(behind)
}

// TestRollout replaces a Deployment's pod by another, as a rollout with maxSurge 1 and maxUnavailable
// 0 does: the new pod is ready before the old one gets SIGTERM. The exporter is Open vSwitch without
// a cache of flows, which sends its templates every ten minutes. The new pod has no templates, since
// its emptyDir is empty. All packets are in the records of one of the two all the same.
func TestRollout(t *testing.T) {
	const (
		behind = templateInterval - 40*time.Second
		every  = 80 * time.Millisecond // a request and a reply: 50 records/s, at ingress and egress
		pings  = 600                   // 48 s
	)
	clock, env := newSwitchClock(t, behind)
	c := newOVSCluster(t, env...)
	node := c.nodes[0]
	service := netip.MustParseAddr("172.30.0.10")
	owner := c.deployment("goflow")
	var collectors []*ovsPod
	for i, name := range []string{"goflow-5d9c7b8f64-9sd2w", "goflow-7c6f5d9b48-k2m4x"} {
		o := c.schedule(node, name, owner)
		p := c.plug("goflow-"+strconv.Itoa(i), node, byte(9+i))
		c.announce(p, o, "goflow", "Deployment")
		c.serviceAt(p, node, service, i)
		c.lab.Forward(p.ns, kube.Address(), "", kube.Address())
		collectors = append(collectors, p)
	}
	c.endpoint(node, service, 0)
	collect := func(p *ovsPod) *ovsCollector {
		return c.collect(p, "-templates.file", filepath.Join(t.TempDir(), "templates"))
	}
	old := collect(collectors[0])
	node.exportIPFIX(service.String()+":2055", ipfixOptions{sampling: 1, activeTimeout: 60})
	client := c.run("frontend", "Deployment", "frontend-5d9c7b8f64-x2k4p", c.deployment("frontend"), node, 5)
	db := c.run("db", "StatefulSet", "db-0", c.statefulSet("db"), node, 6)
	c.ping(client, db)
	harness.Eventually(t, soon, "records and templates", func() (bool, any) {
		m := old.metrics(t)
		return sum(m, "records_written_total") > 0 && sum(m, "sets_held") == 0, sum(m, "templates")
	})
	clock.right(behind)

	traffic := c.lab.Start(client.ns, "ping", "-q", "-c", strconv.Itoa(pings), "-i", fmt.Sprint(every.Seconds()), db.ips[0].String())
	before := len(old.since(0, all))
	harness.Eventually(t, soon, "records of the traffic", func() (bool, any) { n := len(old.since(0, all)); return n > before+200, n })

	// The rollout. Both pods are there for a while, as the Service's endpoints change.
	young := collect(collectors[1])
	c.endpoint(node, service, 1)
	harness.Eventually(t, soon, "sets without templates in the new pod", func() (bool, any) {
		m := young.metrics(t)
		return sum(m, "sets_held") > 100 && sum(m, "templates") == 0, fmt.Sprint(sum(m, "sets_held"), " held")
	})
	c.finish(old, "the exporter's clock differs")
	harness.Eventually(t, 2*time.Minute, "the templates", func() (bool, any) {
		m := young.metrics(t)
		return sum(m, "sets_held") == 0 && sum(m, "templates") > 0, fmt.Sprint(sum(m, "sets_held"), " held")
	})
	harness.Eventually(t, 2*time.Minute, "end of the traffic", func() (bool, any) { return !traffic.Running(), nil })

	wires := c.wires([]*ovsPod{client, db})
	both := &ovsCollector{enricher: young.enricher, cluster: c}
	for _, v := range []view{ingressIPFIX, egressIPFIX} {
		for p, w := range wires {
			harness.Eventually(t, soon, fmt.Sprintf("equality of %s and the wire of %s", v.name, p.ns), func() (bool, any) {
				both.all = append(old.since(0, all), young.since(0, all)...)
				differences := c.compare(both, v, p, w)
				return len(differences) == 0, strings.Join(differences, "\n")
			})
		}
	}
	t.Logf("%d records by the old pod, %d by the new one", len(old.since(0, all)), len(young.since(0, all)))
	c.checkNames(young.since(0, all))
	c.finish(young)
}

// serviceAt gives a pod the address of a Service, and a wire of its own to a node, the i-th one. What
// the node sends by it keeps the node's address.
func (c *ovsCluster) serviceAt(p *ovsPod, n *ovsNode, service netip.Addr, i int) {
	c.t.Helper()
	near := "service" + strconv.Itoa(i)
	nearMAC, farMAC := fmt.Sprintf("02:00:00:00:01:%02x", i), fmt.Sprintf("02:00:00:00:02:%02x", i)
	c.lab.Pair(n.name, near, p.ns, "export", podMTU)
	c.lab.IP(n.name, "link", "set", near, "address", nearMAC, "up")
	c.lab.IP(p.ns, "link", "set", "export", "address", farMAC, "up")
	c.lab.IP(p.ns, "addr", "add", service.String()+"/32", "dev", "lo")
	c.lab.IP(p.ns, "link", "set", "lo", "up")
	c.lab.IP(p.ns, "route", "add", n.management()[0].String(), "dev", "export", "src", service.String())
	c.neighbour(n.name, near, farMAC, service)
	c.neighbour(p.ns, "export", nearMAC, n.management()[0])
}

// endpoint makes the i-th wire the way from a node to a Service.
func (c *ovsCluster) endpoint(n *ovsNode, service netip.Addr, i int) {
	c.t.Helper()
	c.lab.IP(n.name, "route", "replace", service.String(), "dev", "service"+strconv.Itoa(i), "src", n.management()[0].String())
}
