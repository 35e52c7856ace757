package enrich

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

func labelled(name, labels string) string {
	return `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "` + name + `", "namespace": "ns", "uid": "` + name + `", "labels": ` + labels +
		`}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "startTime": "1999-12-31T23:00:00Z"}}`
}

func wantLabels(t *testing.T, e *Enricher, want ...string) {
	t.Helper()
	now := time.Now().UnixNano()
	o := e.Lookup(addr("10.0.0.1"), now, now).Object
	if o == nil {
		t.Fatal("no pod")
	}
	for i, w := range want {
		if got := o.Attr(flow.AttrLabel + flow.Attr(i)); got != w {
			t.Errorf("label %d: %q, want %q", i, got, w)
		}
	}
}

func TestLabelsOfCluster(t *testing.T) {
	inBubble(t, func(a *api) { a.put(t, labelled("p", `{"app": "web", "other": "x", "tier": "front"}`)) }, func(t *testing.T, r *run) {
		wantLabels(t, r.Enricher, "front", "", "web")
		r.api.put(t, labelled("p", `{"app": "mail", "none": "here"}`))
		after(1)
		wantLabels(t, r.Enricher, "", "here", "mail")
	}, "tier", "none", "app")
}

func TestLabelsOfSnapshot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.json")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(labelled("p", `{"app": "web", "other": "x"}`))
	s, err := LoadSnapshot(file, "app", "tier")
	if err != nil {
		t.Fatal(err)
	}
	e, _, _ := newTest(t, Config{}, s)
	s.apply(e.store)
	wantLabels(t, e, "web", "")
	write(labelled("p", `{"tier": "back"}`))
	if err := e.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLabels(t, e, "", "back")
}
