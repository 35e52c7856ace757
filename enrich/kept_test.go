package enrich

import (
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Objects that records have kept and counted are no other ones. What the cluster sends again gives
// no new object, and a copy has no hint because the first one has.
func TestKeptObjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		tenant := tenantPod("blue", "cli", "n1", "10.244.0.21", "blue/net", "10.100.0.21", "primary")
		all := map[string]func() *object{
			"10.0.0.1":    func() *object { return podSpec{name: "p", ips: "10.0.0.1"}.object(t) },
			"10.100.0.21": func() *object { return tenant },
			"192.0.2.1":   func() *object { return objectOf(t, node("n", "", "192.0.2.1")) },
			"10.96.0.9":   func() *object { return objectOf(t, service("s", rfc(0), "clusterIP: 10.96.0.9")) },
			"192.0.2.101": func() *object {
				return objectOf(t, `{apiVersion: k8s.ovn.org/v1, kind: EgressIP, metadata: {name: out, uid: e1}, spec: {}, status: {items: [{node: n, egressIP: 192.0.2.101}]}}`)
			},
		}
		for _, make := range all {
			e.store.update(make())
		}
		after(10)
		lookup := func(a string) *flow.Object {
			now := time.Now().UnixNano()
			end, _ := e.store.index.lookup(addr(a), now, now, 0, 0)
			if end.Object == nil {
				t.Fatalf("%s is not named", a)
			}
			return end.Object
		}
		for a, make := range all {
			before := lookup(a)
			if n := before.Hint(); n != 0 {
				t.Errorf("%s has the hint %d", a, n)
			}
			before.SetHint(7)
			before.WorkloadID()
			e.store.update(make())
			if got := lookup(a); got != before {
				t.Errorf("%s: the object is another one", a)
			}
		}
		e.store.update(podSpec{name: "q", ips: "10.0.0.1"}.object(t)) // now p is ambiguous
		if o := lookup("10.0.0.1"); o.Warn == "" || o.Hint() != 0 {
			t.Errorf("%+v", o)
		}
	})
}

// Records keep objects, and have their handles made, while the cluster makes others of them.
func TestObjectsInUse(t *testing.T) {
	e, _, _ := newTest(t, Config{}, noSource{keep: true})
	st := e.store
	st.replace(kindPod, []*object{podSpec{name: "p", ips: "10.0.0.1"}.object(t)})
	st.replace(kindService, []*object{objectOf(t, service("web", rfc(0), "clusterIP: 10.96.0.2, ports: [{port: 443, nodePort: 30443}]"))})
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				for _, a := range []string{"10.0.0.1", "192.0.2.1", "10.96.0.2"} {
					now := time.Now().UnixNano()
					if end, _ := st.index.lookup(addr(a), now, now, 0, newPort(6, 30443)); end.Object != nil {
						end.Object.SetHint(end.Object.Hint() + 1)
						end.Object.WorkloadID()
						end.Object.ZonedWorkloadID()
					}
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	zones := []*object{objectOf(t, node("n1", "", "192.0.2.1")), objectOf(t, strings.Replace(node("n1", "", "192.0.2.1"), "z-n1", "z-n2", 1))}
	for i := range 200 {
		st.update(zones[i%2]) // the pod and the Service have another object now
		runtime.Gosched()
	}
	close(done)
	readers.Wait()
}
