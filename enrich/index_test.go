package enrich

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/hugepages"
)

func randomAddr(r *rand.Rand, pool int) netip.Addr {
	n := r.IntN(pool)
	if n%3 == 0 {
		return netip.AddrFrom16([16]byte{0xfd, 14: byte(n >> 8), 15: byte(n)})
	}
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// Under random changes the table holds what a map holds, and readers that run
// beside them find every address that is never removed.
func TestIndex(t *testing.T) {
	const pool = 20000
	ix := newIndex(newWatchState(false))
	stays := netip.MustParseAddr("192.0.2.1")
	ix.put(newEntry(stays, []segment{{to: never, end: flow.End{Object: &flow.Object{Name: "stays"}, Status: flow.StatusLive}}}, 0))
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for !stop.Load() {
				if end, _ := ix.lookup(stays, 1, 1, 0, 0); end.Object == nil {
					t.Error("an address that was never removed is missing")
					return
				}
				a := randomAddr(r, pool)
				if e := ix.find(a); e != nil && e.addr != a {
					t.Error("found another address")
					return
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(7, 7))
	owned := &flow.Object{}
	want := map[netip.Addr]int64{stays: 0}
	for i := range int64(60000) {
		a := randomAddr(r, pool)
		if r.IntN(3) == 0 {
			ix.remove(a)
			delete(want, a)
			continue
		}
		ix.put(newEntry(a, []segment{{from: i, to: never, end: flow.End{Object: owned, Status: flow.StatusLive}}}, 0))
		want[a] = i
	}
	stop.Store(true)
	wg.Wait()
	if ix.used != len(want) {
		t.Errorf("%d entries, want %d", ix.used, len(want))
	}
	for a, from := range want {
		if e := ix.find(a); e == nil || e.last.from != from {
			t.Fatalf("%s: %+v, want from %d", a, e, from)
		}
	}
	for n := range pool {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		if _, ok := want[a]; !ok && ix.find(a) != nil {
			t.Fatalf("%s was removed", a)
		}
	}
}

// What a look-up reads of an entry is in its first cache line.
func TestEntryFits(t *testing.T) {
	var e entry
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("other sizes")
	}
	if size, hot := unsafe.Sizeof(e), unsafe.Offsetof(e.last)+unsafe.Sizeof(e.last); size != 128 || hot != 64 {
		t.Errorf("%d bytes, of which the first %d are read", size, hot)
	}
	// The allocator has a class of sizes from 113 to 128 bytes.
	for name, size := range map[string]uintptr{"span": unsafe.Sizeof(span{}), "pod": unsafe.Sizeof(pod{})} {
		if size > 112 && size <= 128 {
			t.Errorf("a %s of %d bytes lies among the entries", name, size)
		}
	}
}

// big returns an Enricher that knows so many pods, in an address range of their
// own, half of them with ReplicaSets of five.
func big(tb testing.TB, pods int) (*Enricher, []netip.Addr) {
	tb.Helper()
	e, _, _ := newTest(tb, Config{}, noSource{})
	items := make([]*object, pods)
	addrs := make([]netip.Addr, pods)
	for i := range items {
		addrs[i] = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		items[i] = manyPod(i, addrs[i])
	}
	e.store.markStarted(kindPod)
	e.store.replace(kindPod, items)
	e.store.replace(kindReplicaSet, nil)
	return e, addrs
}

func manyPod(i int, a netip.Addr) *object {
	return &object{
		kind: kindPod, namespace: fmt.Sprint("namespace-", i%50), name: fmt.Sprintf("workload-%d-5d9c7b8f64-%05d", i/5, i),
		uid:    fmt.Sprintf("20000000-0000-4000-8000-%012d", i),
		owners: []ownerRef{{kindReplicaSet, "ReplicaSet", fmt.Sprintf("workload-%d-5d9c7b8f64", i/5), fmt.Sprintf("10000000-0000-4000-8000-%012d", i/5), true, "", ""}},
		addrs:  []netip.Addr{a},
		podPart: &podPart{
			hostIP: fmt.Sprintf("172.18.%d.%d", i%1000/250, i%250), node: fmt.Sprint("worker-", i%1000),
			ready: time.Now().Add(-time.Hour).UnixNano(),
		},
	}
}

// churn creates and deletes so many pods a second, until stop is closed; each
// lives for a second. It returns how many were created.
func churn(e *Enricher, perSecond int, stop <-chan struct{}) (created int) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	pod := func(i int) *object {
		return manyPod(1_000_000+i, netip.AddrFrom4([4]byte{10, byte(i), byte(i >> 8), 1}))
	}
	for ; ; created++ {
		select {
		case <-stop:
			return created
		case <-tick.C:
			e.store.update(pod(created))
			if created >= perSecond {
				e.store.remove(pod(created - perSecond))
			}
		}
	}
}

// web is the port of look-ups.
const web = port(protoTCP<<16 | 443)

func BenchmarkLookup(b *testing.B) {
	for _, tc := range []struct {
		churn int  // pods a second
		huge  bool // with huge pages, as the program has it where it can
	}{{0, false}, {200, false}, {0, true}, {200, true}} {
		name := fmt.Sprintf("pods=50000/churn=%d", tc.churn)
		if tc.huge {
			name += "/hugepages"
		}
		b.Run(name, func(b *testing.B) {
			e, addrs := big(b, 50000)
			if runtime.GC(); tc.huge && !hugepages.Once() {
				b.Skip("the kernel gives none")
			}
			stop := make(chan struct{})
			var wg sync.WaitGroup
			created := 0
			if tc.churn > 0 {
				wg.Go(func() { created = churn(e, tc.churn, stop) })
			}
			begin := time.Now()
			rand.New(rand.NewPCG(1, 1)).Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
			now := time.Now().UnixNano()
			b.ReportAllocs()
			i, missed := 0, 0
			for b.Loop() {
				if end, _ := e.store.index.lookup(addrs[i], now, now, 0, web); end.Object == nil {
					missed++
				}
				if i++; i == len(addrs) {
					i = 0
				}
			}
			close(stop)
			wg.Wait()
			b.ReportMetric(float64(created)/time.Since(begin).Seconds(), "pods/s")
			if missed > 0 {
				b.Fatalf("%d addresses were not found", missed)
			}
		})
	}
}

// BenchmarkLookupPorts looks up 10,000 Services that share load balancers' addresses, by their
// ports, and node ports at 1,000 Nodes.
func BenchmarkLookupPorts(b *testing.B) {
	e, _, _ := newTest(b, Config{}, noSource{})
	e.store.markStarted(kindPod)
	e.store.replace(kindPod, nil)
	type question struct {
		addr netip.Addr
		port port
	}
	var list []question
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{172, 18, byte(i / 250), byte(i%250 + 1)})
		e.store.update(&object{kind: kindNode, name: fmt.Sprint("n", i), uid: fmt.Sprint("n", i), addrs: []netip.Addr{a}, nodePart: &nodePart{statusAddrs: 1}})
		list = append(list, question{a, port(protoTCP<<16 | 30000 + i)})
	}
	for i := range 10000 {
		a := netip.AddrFrom4([4]byte{198, 51, byte(i / 2500), byte(i / 10 % 250)})
		p := port(protoTCP<<16 | 8000 + i%10)
		s := &object{kind: kindService, namespace: "ns", name: fmt.Sprint("s", i), uid: fmt.Sprint("s", i), addrs: []netip.Addr{a}, servicePart: &servicePart{ports: []port{p}}}
		if i < 1000 {
			s.nodePorts = []port{port(protoTCP<<16 | 30000 + i)}
		}
		e.store.update(s)
		list = append(list, question{a, p})
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	now := time.Now().UnixNano()
	for _, q := range list {
		if end, _ := e.store.index.lookup(q.addr, now, now, 0, q.port); end.Status != flow.StatusService {
			b.Fatalf("%v port %v: %s", q.addr, q.port, show(end))
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e.store.index.lookup(list[i].addr, now, now, 0, list[i].port)
		if i++; i == len(list) {
			i = 0
		}
	}
}

// BenchmarkApplyEndpoints applies a first list of 10,000 EndpointSlices of 10 addresses each.
func BenchmarkApplyEndpoints(b *testing.B) {
	list := make([]*object, 10000)
	for i := range list {
		o := &object{kind: kindEndpointSlice, namespace: "ns", name: fmt.Sprint("s-", i), uid: fmt.Sprint("s", i), servicePart: &servicePart{ports: []port{web}, service: fmt.Sprint("s", i/2)}}
		for j := range 10 {
			o.addrs = append(o.addrs, netip.AddrFrom4([4]byte{198, byte(18 + i/2500), byte(i / 10 % 250), byte(i%10*10 + j)}))
		}
		list[i] = o
	}
	b.ReportAllocs()
	for b.Loop() {
		e, _, _ := newTest(b, Config{}, noSource{})
		e.store.replace(kindEndpointSlice, slices.Clone(list))
	}
}

// BenchmarkLookupShards finds the same entries in shards of maps, which would be
// copied on write, for comparison.
func BenchmarkLookupShards(b *testing.B) {
	e, addrs := big(b, 50000)
	ix := e.store.index
	var shards [2048]map[netip.Addr]*entry
	for _, a := range addrs {
		s := &shards[ix.hash(a)%2048]
		if *s == nil {
			*s = map[netip.Addr]*entry{}
		}
		(*s)[a] = ix.find(a)
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	now := time.Now().UnixNano()
	b.ReportAllocs()
	i, missed := 0, 0
	for b.Loop() {
		if end, _ := ix.at(shards[ix.hash(addrs[i])%2048][addrs[i]], now, now, 0); end.Object == nil {
			missed++
		}
		if i++; i == len(addrs) {
			i = 0
		}
	}
	if missed > 0 {
		b.Fatalf("%d addresses were not found", missed)
	}
	runtime.KeepAlive(e)
}

// BenchmarkChange is the cost of one pod that comes and goes, beside 50,000.
func BenchmarkChange(b *testing.B) {
	e, _ := big(b, 50000)
	items := make([]*object, 1000)
	for i := range items {
		items[i] = manyPod(1_000_000+i, netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e.store.update(items[i%len(items)])
		e.store.remove(items[i%len(items)])
		i++
	}
}

// BenchmarkHistory is a look-up in, and a change of, an address with as many
// ended owners as are remembered.
func BenchmarkHistory(b *testing.B) {
	e, _, _ := newTest(b, Config{}, noSource{})
	a := netip.AddrFrom4([4]byte{10, 0, 0, 1})
	var ended []*object
	for i := range maxEndedPerAddress {
		it := manyPod(i, a)
		it.created = time.Now().UnixNano() - int64(maxEndedPerAddress-i)*4e9
		it.ready = it.created + 1e9
		it.stopped, it.finished = true, it.ready+2e9
		ended = append(ended, it)
	}
	e.store.replace(kindPod, ended)
	first := e.store.index.find(a).segment(0).from
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.Lookup(a, first, first)
		}
	})
	b.Run("change", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			e.store.publishEntry(e.store.entryToChange(a))
		}
	})
}

// BenchmarkFirstList is the time and memory for a cluster of 50,000 pods.
func BenchmarkFirstList(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		big(b, 50000)
	}
}
