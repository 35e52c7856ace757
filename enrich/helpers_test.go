package enrich

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func parseObject(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := yaml.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

// noSource is a source of nothing.
type noSource struct{ keep bool }

func (noSource) run(ctx context.Context, _ *store) { <-ctx.Done() }
func (noSource) reload(*store) error               { return nil }
func (s noSource) fixed() bool                     { return s.keep }

// newTest returns an Enricher without a source, and what it logs.
func newTest(t testing.TB, cfg Config, source Source) (*Enricher, *prometheus.Registry, *logtest.Hook) {
	t.Helper()
	if cfg.Mapping == nil {
		m, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Mapping = m
	}
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	reg := prometheus.NewRegistry()
	e, err := New(cfg, source, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	return e, reg, hook
}

// podSpec is what tests vary of a pod.
type podSpec struct {
	name, ns, uid string
	ips           string // separated by commas
	owner         string // Kind/name/uid
	node          string
	phase         string
	ready         string // seconds after epoch
	extra         string // of status, as JSON members
	deleted       string
	created       string
}

// epoch is the time at which synctest begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (p podSpec) yaml() string {
	or := func(a, b string) string {
		if a == "" {
			return b
		}
		return a
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{apiVersion: v1, kind: Pod, metadata: {name: %s, namespace: %s, uid: %s`, p.name, or(p.ns, "ns"), or(p.uid, "uid-"+p.name))
	if p.owner != "" {
		f := strings.Split(p.owner, "/")
		api := map[string]string{"ReplicaSet": "apps/v1", "Job": "batch/v1", "StatefulSet": "apps/v1", "ReplicationController": "v1"}[f[0]]
		fmt.Fprintf(&b, `, ownerReferences: [{apiVersion: %s, kind: %s, name: %s, uid: %s, controller: true}]`, or(api, "v1"), f[0], f[1], f[2])
	}
	if p.created != "" {
		fmt.Fprintf(&b, `, creationTimestamp: %q`, p.created)
	}
	if p.deleted != "" {
		fmt.Fprintf(&b, `, deletionTimestamp: %q`, p.deleted)
	}
	fmt.Fprintf(&b, `}, spec: {nodeName: %s}, status: {phase: %s, hostIP: 192.0.2.1`, or(p.node, "n1"), or(p.phase, "Running"))
	if p.ips != "" {
		b.WriteString(`, podIPs: [`)
		for i, ip := range strings.Split(p.ips, ",") {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "{ip: %q}", ip)
		}
		b.WriteString(`]`)
	}
	if p.ready != "" {
		fmt.Fprintf(&b, `, conditions: [{type: PodReadyToStartContainers, status: "True", lastTransitionTime: %q}]`, p.ready)
	}
	if p.extra != "" {
		b.WriteString(", " + p.extra)
	}
	b.WriteString("}}")
	return b.String()
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// at returns a time so many seconds after epoch.
func at(seconds float64) int64 { return epoch.UnixNano() + int64(seconds*1e9) }

func rfc(seconds int) string {
	return epoch.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339)
}

// show describes who owned an address at a time.
func show(end flow.End) string {
	if end.Object == nil {
		return end.Status.String()
	}
	return end.Object.Name + " " + end.Status.String()
}

func (e *Enricher) show(ip string, from, to float64) string {
	return show(e.Lookup(addr(ip), at(from), at(to)))
}
