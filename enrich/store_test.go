package enrich

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// item makes what is kept of a pod.
func (p podSpec) object(t testing.TB) *object {
	t.Helper()
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(p.yaml()), &pod); err != nil {
		t.Fatal(err)
	}
	return newPod(&pod)
}

// watched returns an Enricher in a bubble whose pods are watched and whose first
// list was empty.
func watched(t *testing.T) *Enricher {
	t.Helper()
	e, _, _ := newTest(t, Config{}, noSource{})
	e.store.markStarted(kindPod)
	e.store.replace(kindPod, nil)
	after(1)
	return e
}

// Pods as a watch tells of them. The steps are taken a second apart, from 1 s on.
func TestWatchedPods(t *testing.T) {
	a, b := podSpec{name: "a", ips: "10.0.0.1"}, podSpec{name: "b", ips: "10.0.0.1"}
	with := func(p podSpec, change func(*podSpec)) podSpec { change(&p); return p }
	terminated := func(seconds int) func(*podSpec) {
		return func(p *podSpec) {
			p.extra = fmt.Sprintf(`containerStatuses: [{state: {terminated: {finishedAt: %q}}}]`, rfc(seconds))
		}
	}
	never := func(p podSpec) podSpec { p.node = "n1, restartPolicy: Never"; return p }
	type step struct {
		pod    podSpec
		delete bool
	}
	const idle = "idle"
	wait := step{pod: podSpec{name: idle}}
	for _, c := range []struct {
		name  string
		steps []step
		want  map[float64]string // at seconds
	}{
		{"seen by the watch", []step{{pod: with(a, func(p *podSpec) { p.ips = "" })}, {pod: a}},
			map[float64]string{-1: "none", 1: "a live", 2: "a live", 1000: "a live"}},
		{"an address by and by", []step{{pod: with(a, func(p *podSpec) { p.ips = "10.0.0.2" })}, wait, wait, wait, {pod: a}},
			map[float64]string{2.9: "none", 3.1: "a live", 5: "a live"}},
		{"deleted, then another", []step{{pod: a}, {pod: a, delete: true}, wait, wait, wait, wait, wait, {pod: b}},
			map[float64]string{1: "a retained", 1.9: "a retained", 3.9: "a retained", 4.1: "none", 5.9: "none", 6.1: "b live", 8: "b live"}},
		{"between two owners the nearer one", []step{{pod: a}, {pod: a, delete: true}, {pod: b}},
			map[float64]string{1.9: "a retained", 2.1: "a retained", 2.4: "a retained", 2.6: "b live", 3: "b live"}},
		{"deleted late", []step{{pod: a}, {pod: b}, {pod: a, delete: true}},
			map[float64]string{1.5: "a retained", 2: "b live", 2.5: "b live", 3: "b live", 100: "b live"}},
		{"both alive", []step{{pod: a}, {pod: b}},
			map[float64]string{1.5: "a live", 2: "b ambiguous", 100: "b ambiguous"}},
		{"both alive for a while", []step{{pod: a}, {pod: b}, {pod: b, delete: true}},
			map[float64]string{1.5: "a live", 2: "a live", 2.5: "a live", 3.5: "a live", 100: "a live"}},
		{"a name comes back", []step{{pod: a}, {pod: a, delete: true}, {pod: with(a, func(p *podSpec) { p.uid = "another" })}},
			map[float64]string{1.5: "a retained", 3.5: "a live"}},
		{"succeeded", []step{{pod: a}, wait, {pod: with(a, func(p *podSpec) { p.phase = "Succeeded" })}, wait, wait, {pod: with(a, func(p *podSpec) { p.phase = "Succeeded" }), delete: true}},
			map[float64]string{2: "a retained", 4.9: "a retained", 5.1: "none", 6: "none"}},
		{"succeeded, with the time of it", []step{{pod: a}, wait, wait, wait, wait, {pod: with(with(a, func(p *podSpec) { p.phase = "Succeeded" }), terminated(2))}},
			map[float64]string{1.5: "a retained", 4: "a retained", 4.1: "none", 6: "none"}},
		{"all containers terminated for good", []step{{pod: a}, wait, wait, wait, wait, wait, {pod: with(never(a), terminated(3))}},
			map[float64]string{1.5: "a retained", 5: "a retained", 5.1: "none", 100: "none"}},
		{"and restarted", []step{{pod: a}, wait, wait, wait, wait, wait, {pod: with(never(a), terminated(3))}, {pod: a}},
			map[float64]string{1.5: "a live", 5.1: "a live", 100: "a live"}},
		{"restarted, terminated again, deleted", []step{{pod: a}, {pod: with(a, terminated(2))}, {pod: a}, wait, wait, wait, {pod: with(a, terminated(7)), delete: true}},
			map[float64]string{1.5: "a retained", 5: "a retained", 9: "a retained", 9.1: "none"}},
		{"being deleted makes it lose", []step{{pod: a}, {pod: with(a, func(p *podSpec) { p.deleted = rfc(4) })}, {pod: b}},
			map[float64]string{1.5: "a live", 3.5: "b ambiguous", 4: "b live"}},
		{"being deleted does not end it", []step{{pod: a}, {pod: with(a, func(p *podSpec) { p.deleted = rfc(4) })}},
			map[float64]string{1.5: "a live", 3.5: "a live", 100: "a live"}},
		{"address lost and found", []step{{pod: a}, {pod: with(a, func(p *podSpec) { p.ips = "" })}, wait, wait, wait, wait, wait, {pod: a}},
			map[float64]string{1.5: "a retained", 4.1: "none", 5.9: "none", 6.1: "a live", 8: "a live"}},
		{"over before it was seen", []step{wait, wait, wait, wait, {pod: with(with(a, func(p *podSpec) { p.phase, p.created = "Failed", rfc(-1) }), terminated(3))}},
			map[float64]string{-4.5: "none", 0.5: "a retained", 3: "a retained", 5.1: "none"}},
		{"host network", []step{{pod: with(a, func(p *podSpec) { p.node = "n1, hostNetwork: true" })}},
			map[float64]string{1: "none", 100: "none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := watched(t)
				for _, s := range c.steps {
					switch it := s.pod.object(t); {
					case s.pod.name == idle:
					case s.delete:
						e.store.remove(it)
					default:
						e.store.update(it)
					}
					after(1)
				}
				for seconds, want := range c.want {
					if got := e.show("10.0.0.1", seconds, seconds); got != want {
						t.Errorf("at %v: %s, want %s", seconds, got, want)
					}
				}
			})
		})
	}
}

func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		a, b := podSpec{name: "a", ips: "10.0.0.1"}.object(t), podSpec{name: "b", ips: "10.0.0.1"}.object(t)
		e.store.update(a) // [1, 11)
		after(10)
		e.store.remove(a)
		after(10)
		e.store.update(b) // [21, ...)
		for _, c := range []struct {
			from, to float64
			want     string
		}{
			{-10, -2, "none"}, {-10, -1, "a retained"}, {-10, 1, "a retained"}, {5, 6, "a retained"}, {5, 100, "b live"}, {10.5, 22, "b live"},
			{9, 22, "a retained"}, {11, 18.9, "a retained"}, {12, 20, "b live"}, {12.9, 18, "a retained"}, {13.1, 18, "none"}, {14, 30, "b live"},
		} {
			if got := e.show("10.0.0.1", c.from, c.to); got != c.want {
				t.Errorf("[%v, %v]: %s, want %s", c.from, c.to, got, c.want)
			}
		}
	})
}

func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		for i := range 3 * maxEndedPerAddress {
			p := podSpec{name: fmt.Sprint("p", i), ips: "10.0.0.1"}.object(t)
			e.store.update(p)
			after(10)
			e.store.remove(p)
			after(10)
		}
		last := 3*maxEndedPerAddress - 1
		for i := range last + 1 {
			want := "none"
			if i > last-maxEndedPerAddress {
				want = fmt.Sprintf("p%d retained", i)
			}
			if got := e.show("10.0.0.1", float64(20*i+5), float64(20*i+5)); got != want {
				t.Errorf("pod %d: %s, want %s", i, got, want)
			}
		}
		after(defaultRetain.Seconds())
		e.store.expire()
		if n := e.store.index.used; n != 0 {
			t.Errorf("%d addresses are left", n)
		}

		// In total.
		for i := range maxEnded + 100 {
			it := &object{kind: kindPod, podPart: &podPart{}, uid: fmt.Sprint(i), name: fmt.Sprint(i), addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}}
			e.store.update(it)
			e.store.remove(it)
		}
		if n := e.store.index.used; n != maxEnded {
			t.Errorf("%d addresses in history, want %d", n, maxEnded)
		}
	})
}

// A flow of a time whose owner is forgotten is not given to the next one.
func TestForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		a, b := podSpec{name: "a", ips: "10.0.0.1"}.object(t), podSpec{name: "b", ips: "10.0.0.1"}.object(t)
		e.store.update(a) // [1, 11)
		after(10)
		e.store.remove(a)
		after(1)
		e.store.update(b) // [12, ...)
		check := func(want ...string) {
			t.Helper()
			for i, when := range []float64{5, 10.9, 11.8, 12} {
				if got := e.show("10.0.0.1", when, when); got != want[i] {
					t.Errorf("at %v: %s, want %s", when, got, want[i])
				}
			}
		}
		check("a retained", "a retained", "b live", "b live")
		for s := e.store.index.find(addr("10.0.0.1")).spans; s != nil; s = s.next {
			if s.pod.obj.Name == "a" {
				e.store.dropSpan(s)
			}
		}
		e.store.index.grow(4096) // entries keep what they have
		check("none", "none", "none", "b live")
	})
}

// Nothing is left behind when everything is gone.
func TestNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		st := e.store
		var items []*object
		for i := range 1000 {
			p := podSpec{name: fmt.Sprint("p", i), ips: fmt.Sprintf("10.0.%d.%d,fd00::%x", i%7, i%50, i), owner: fmt.Sprintf("ReplicaSet/rs-%d/rs%d", i%20, i%20)}
			items = append(items, p.object(t))
		}
		nodes := []*object{{kind: kindNode, name: "n1", uid: "n1", addrs: []netip.Addr{addr("192.0.2.1")}, nodePart: &nodePart{zone: "z"}}}
		st.replace(kindPod, items)
		st.replace(kindNode, nodes)
		st.replace(kindService, []*object{{kind: kindService, name: "s", uid: "s", addrs: []netip.Addr{addr("10.0.0.1"), addr("192.0.2.1")}, servicePart: &servicePart{clusterIPs: 1}}})
		for i := range 20 {
			st.update(&object{kind: kindReplicaSet, name: fmt.Sprint("rs-", i), uid: fmt.Sprint("rs", i), owners: []ownerRef{{noKind, "Deployment", "d", "d", true, "", ""}}})
		}
		o := e.Lookup(addr("fd00::1"), at(2), at(2)).Object
		if o == nil || o.Workload != "d" || o.Zone != "z" {
			t.Fatalf("%+v", o)
		}
		if got := e.show("192.0.2.1", 2, 2); got != "n1 node" {
			t.Error(got)
		}
		st.replace(kindService, nil)
		if got := e.show("192.0.2.1", 2, 2); got != "n1 node" {
			t.Error(got)
		}
		st.replace(kindNode, nil)
		st.replace(kindReplicaSet, nil)
		if o := e.Lookup(addr("fd00::1"), at(2), at(2)).Object; o.Workload != "d" || o.Zone != "z" {
			t.Errorf("the pod lost what its owner and node had shown: %+v", o)
		}
		after(1)
		st.replace(kindPod, nil)
		after(defaultRetain.Seconds() + 1)
		st.expire()
		if st.index.used != 0 || len(st.pods) != 0 || len(st.zones) != 0 || st.endedSpans.len() != 0 || st.deletedOwners.len() != 0 {
			t.Errorf("left: %d addresses, %d pods, %d zones, %d ended, %d gone", st.index.used, len(st.pods), len(st.zones), st.endedSpans.len(), st.deletedOwners.len())
		}
		for k := range numKinds {
			if len(st.rootOwners[k])+len(st.pendingOwners[k])+len(st.staticOwners[k]) != 0 {
				t.Errorf("left of %s: %d owners, %d orphans, %d objects", k, len(st.rootOwners[k]), len(st.pendingOwners[k]), len(st.staticOwners[k]))
			}
		}
	})
}

// model is what the index has to equal, in the plainest form.
type model struct {
	owned map[netip.Addr][]*ownership
	open  map[string][]*ownership
	gaps  []watchGap // not seen by a watch
}

type ownership struct {
	name       string
	from, to   int64
	yieldsFrom int64 // from here on, somebody else may have had the address unseen
	deleted    bool
	shared     func() bool // somebody else has had the address
}

func (o *ownership) uncertainAt(at int64) bool { return at >= o.yieldsFrom && o.shared() }

func (m *model) add(p string, addrs []netip.Addr, now int64) {
	for _, a := range addrs {
		o := &ownership{name: p, from: now, to: never, yieldsFrom: never, shared: func() bool { return len(m.owned[a]) > 1 }}
		m.owned[a] = append(m.owned[a], o)
		m.open[p] = append(m.open[p], o)
	}
}

func (m *model) end(p string, now int64, deleted bool) {
	for _, o := range m.open[p] {
		o.to, o.deleted = min(o.to, now), o.deleted || deleted
	}
}

// relist applies a list: nothing is known for certain of the time since the last event.
func (m *model) relist(lastEvent, now int64) {
	watermark := lastEvent - tolerance
	m.gaps = append(m.gaps, watchGap{watermark, now + tolerance})
	for _, owners := range m.owned {
		for _, o := range owners {
			if o.deleted && o.to > watermark {
				o.yieldsFrom = min(o.yieldsFrom, max(watermark, o.from))
			}
		}
	}
}

// show returns who owned the address at a time: who claims it, one that surely did
// before others, a live one before one that has ended, the latest start; else the
// nearest within the tolerance, unless somebody may have come and gone unseen.
func (m *model) show(a netip.Addr, at int64) string {
	owners := slices.Clone(m.owned[a])
	owners = slices.DeleteFunc(owners, func(o *ownership) bool { // who has lost the address since
		return at >= o.yieldsFrom && slices.ContainsFunc(m.owned[a], func(x *ownership) bool { return x != o && o.yieldsFrom <= x.from && x.from <= at })
	})
	slices.SortFunc(owners, func(x, y *ownership) int {
		switch {
		case x.uncertainAt(at) != y.uncertainAt(at):
			if x.uncertainAt(at) {
				return 1
			}
			return -1
		case x.to == never && y.to != never:
			return -1
		case x.to != never && y.to == never:
			return 1
		}
		return int((y.from - x.from) / int64(time.Millisecond))
	})
	live := 0
	var best *ownership
	for _, o := range owners {
		if o.from <= at && at < o.to {
			if o.to == never {
				live++
			}
			if best == nil {
				best = o
			}
		}
	}
	switch {
	case live > 1:
		return best.name + " ambiguous"
	case live == 1:
		return best.name + " live"
	case best != nil && best.uncertainAt(at):
		return best.name + " ambiguous"
	case best != nil:
		return best.name + " retained"
	}
	if slices.ContainsFunc(m.gaps, func(b watchGap) bool { return b.from <= at && at <= b.to }) {
		return "none"
	}
	slices.SortFunc(owners, func(x, y *ownership) int { return int((y.from - x.from) / int64(time.Millisecond)) })
	nearest := tolerance + 1
	for _, o := range owners {
		if d := max(o.from-at, at-o.to); d < nearest && !o.uncertainAt(o.from) {
			best, nearest = o, d
		}
	}
	switch {
	case best == nil:
		return "none"
	case best.to == never:
		return best.name + " live"
	}
	return best.name + " retained"
}

// Under any sequence of changes, the index answers as the model does.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rand.New(rand.NewPCG(seed, 1))
				e := watched(t)
				m := &model{owned: map[netip.Addr][]*ownership{}, open: map[string][]*ownership{}}
				lastEvent := time.Now().UnixNano()
				var pool []netip.Addr
				for i := range 12 {
					pool = append(pool, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
				}
				live := map[string]*object{}
				names := func() []string {
					var n []string
					for name := range live {
						n = append(n, name)
					}
					slices.Sort(n)
					return n
				}
				for i := range 300 {
					time.Sleep(time.Duration(1+r.IntN(4000)) * time.Millisecond)
					now := time.Now().UnixNano()
					all := names()
					switch what := r.IntN(10); {
					case what < 5 || len(all) == 0: // created
						name := fmt.Sprint("p", i)
						var addrs []netip.Addr
						for _, k := range r.Perm(len(pool))[:1+r.IntN(2)] {
							addrs = append(addrs, pool[k])
						}
						// The index keeps so many for an address, no more.
						if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return len(m.owned[a]) >= maxEndedPerAddress }) {
							continue
						}
						it := &object{kind: kindPod, podPart: &podPart{}, name: name, namespace: "ns", uid: name, addrs: addrs}
						live[name] = it
						e.store.update(it)
						m.add(name, addrs, now)
					case what < 6: // finished
						name := all[r.IntN(len(all))]
						c := *live[name]
						c.stopped = true
						live[name] = &c
						e.store.update(&c)
						m.end(name, now, false)
					case what < 9: // deleted
						name := all[r.IntN(len(all))]
						e.store.remove(live[name])
						delete(live, name)
						m.end(name, now, true)
					default: // listed again
						var items []*object
						for _, name := range all {
							items = append(items, live[name])
						}
						e.store.replace(kindPod, items)
						m.relist(lastEvent, now)
						if n := len(m.gaps); n > maxGaps {
							t.Fatal("more gaps than are remembered")
						}
					}
					lastEvent = now
					for range 20 {
						a := pool[r.IntN(len(pool))]
						when := now - r.Int64N(int64(5*time.Minute))
						if got, want := show(e.Lookup(a, when, when)), m.show(a, when); got != want {
							since := time.Duration(when - epoch.UnixNano())
							t.Fatalf("step %d, %s, at %v: %s, want %s%s", i, a, since, got, want, e.describe(a, since))
						}
					}
				}
			})
		})
	}
}

func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		for _, p := range []struct{ ns, name string }{{"b", "x"}, {"a", "z"}, {"a", "yy"}} {
			it := podSpec{name: p.name, ns: p.ns, uid: p.ns + p.name, ips: "10.0.0.1"}.object(t)
			if p.name == "yy" {
				it.owners = []ownerRef{{noKind, "Foo", "f", "1", false, "", ""}, {noKind, "Bar", "b", "2", false, "", ""}}
			}
			e.store.update(it)
			after(1)
		}
		end := e.Lookup(addr("10.0.0.1"), at(10), at(10))
		want := "Several pods found for same IP: yy.a,z.a,x.b; Several owners found for pod yy: Foo/f,Bar/b"
		if end.Status != flow.StatusAmbiguous || end.Object.Name != "yy" || end.Object.Warn != want {
			t.Errorf("%s, %q", show(end), end.Object.Warn)
		}
		// One controller is no ambiguity.
		it := podSpec{name: "c", ips: "10.0.0.2"}.object(t)
		it.owners = []ownerRef{{noKind, "Foo", "f", "1", false, "", ""}, {noKind, "Bar", "b", "2", true, "", ""}}
		e.store.update(it)
		if o := e.Lookup(addr("10.0.0.2"), at(10), at(10)).Object; o.Warn != "" || o.Workload != "b" || o.WorkloadKind != "Bar" {
			t.Errorf("%+v", o)
		}
		if strings.Contains(end.Object.Warn, "\n") {
			t.Error("a line break")
		}
	})
}

// An owner that changes hands is followed, and so is a node's zone.
func TestRenderedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := watched(t)
		st := e.store
		look := func() string {
			o := e.Lookup(addr("10.0.0.1"), at(5), at(5)).Object
			return o.WorkloadKind + "/" + o.Workload + " " + o.Zone
		}
		rs := func(owners ...ownerRef) {
			st.update(&object{kind: kindReplicaSet, name: "rs", uid: "rs", owners: owners})
		}
		node := func(zone string) {
			st.update(&object{kind: kindNode, name: "n1", uid: "n1", nodePart: &nodePart{zone: zone}})
		}
		p := podSpec{name: "p", ips: "10.0.0.1", owner: "ReplicaSet/rs/rs"}
		for i, c := range []struct {
			do   func()
			want string
		}{
			{func() { st.update(p.object(t)) }, "ReplicaSet/rs "},
			{func() { rs() }, "ReplicaSet/rs "},
			{func() { rs(ownerRef{followed: noKind, kind: "Deployment", name: "d", uid: "d", controller: true}) }, "Deployment/d "},
			{func() { node("z1") }, "Deployment/d z1"},
			{func() { rs(ownerRef{followed: noKind, kind: "Rollout", name: "r", uid: "r", controller: true}) }, "Rollout/r z1"},
			{func() { node("z2") }, "Rollout/r z2"},
			{func() { st.remove(&object{kind: kindNode, name: "n1", uid: "n1", nodePart: &nodePart{}}) }, "Rollout/r z2"},
			{func() { q := p; q.owner = "StatefulSet/s/s"; st.update(q.object(t)) }, "StatefulSet/s z2"},
			{func() { rs() }, "StatefulSet/s z2"},
			{func() { st.update(p.object(t)) }, "ReplicaSet/rs z2"},
		} {
			c.do()
			if got := look(); got != c.want {
				t.Errorf("step %d: %q, want %q", i, got, c.want)
			}
		}
	})
}

// Whoever shares an address with someone else leaves a trace.
func TestSharedFallback(t *testing.T) {
	const a = "192.0.2.1"
	node := func(name string) *object {
		return &object{kind: kindNode, name: name, uid: name, addrs: []netip.Addr{addr(a)}, nodePart: &nodePart{}}
	}
	service := func(name string) *object {
		return &object{kind: kindService, namespace: "ns", name: name, uid: name, addrs: []netip.Addr{addr(a)}, servicePart: &servicePart{clusterIPs: 1}}
	}
	for _, c := range []struct {
		items []*object
		name  string
		want  flow.Status
		warn  string
	}{
		{[]*object{node("n")}, "n", flow.StatusNode, ""},
		{[]*object{service("s")}, "s", flow.StatusService, ""},
		{[]*object{node("n"), service("s")}, "s", flow.StatusService, "Service and node found for same IP: s.ns,n"},
		{[]*object{service("s"), node("b"), node("a")}, "s", flow.StatusService, "Service and node found for same IP: s.ns,a,b"},
		{[]*object{node("b"), node("a")}, "a", flow.StatusAmbiguous, "Several nodes found for same IP: a,b"},
		{[]*object{service("t"), node("n"), service("s")}, "s", flow.StatusAmbiguous, "Several services found for same IP: s.ns,t.ns; Service and node found for same IP: s.ns,n"},
	} {
		e, _, _ := newTest(t, Config{}, noSource{})
		for _, it := range c.items {
			e.store.update(it)
		}
		now := time.Now().UnixNano()
		end := e.Lookup(addr(a), now, now)
		if end.Object == nil || end.Object.Name != c.name || end.Status != c.want || end.Object.Warn != c.warn {
			t.Errorf("%s: %+v, want %s, %q", show(end), end.Object, c.name, c.warn)
		}
		for _, it := range c.items[1:] {
			e.store.remove(it)
		}
		now = time.Now().UnixNano()
		if end := e.Lookup(addr(a), now, now); end.Object.Name != c.items[0].name || end.Object.Warn != "" {
			t.Errorf("one is left: %+v", end.Object)
		}
	}
}
