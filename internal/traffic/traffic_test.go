package traffic

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// end is the end of a chain: it takes records and asks to be called again.
type end struct{ records int }

func (e *end) HandleFlow(*flow.Record) { e.records++ }
func (e *end) Idle() bool              { return true }

func newCounter(t testing.TB, maxSeries int) (*Counter, *prometheus.Registry) {
	t.Helper()
	mapping, err := flow.ParseMapping("NextHop=Nxt,DstAddr=Dst,SrcAddr=Src")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewPedanticRegistry()
	c, err := New(Config{Mapping: mapping, MaxSeries: maxSeries}, reg)
	if err != nil {
		t.Fatal(err)
	}
	return c, reg
}

// record is a flow from src to dst, in a mapping in which they are the third
// and the second.
func record(src, dst *flow.Object, bytes, packets uint64) *flow.Record {
	r := new(flow.Record)
	r.Msg.SrcAddr, r.Msg.DstAddr = []byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}
	r.Msg.Bytes, r.Msg.Packets = bytes, packets
	r.Ends[0].Object = object("wrong", "next-hop")
	r.Ends[1].Object, r.Ends[2].Object = dst, src
	return r
}

func object(namespace, workload string) *flow.Object {
	return flow.NewObject(flow.Object{Kind: "Pod", Namespace: namespace, Name: workload + "-" + fmt.Sprint(rand.Uint32()), Workload: workload, WorkloadKind: "Deployment"})
}

// scrape returns the values of all traffic metrics by name and labels, as
// bytes_total a/b/C>d/e/F.
func scrape(t testing.TB, g prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), prefix)
		for _, m := range f.GetMetric() {
			values[name+" "+key(m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

func key(m *dto.Metric) string {
	l := make(map[string]string)
	for _, p := range m.GetLabel() {
		l[p.GetName()] = p.GetValue()
	}
	if len(l) < 6 {
		return l["result"]
	}
	return l["src_namespace"] + "/" + l["src_workload"] + "/" + l["src_kind"] + ">" + l["dst_namespace"] + "/" + l["dst_workload"] + "/" + l["dst_kind"]
}

const others = "other/other/other>other/other/other"

func expect(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for k, v := range want {
		if g, ok := got[k]; g != v || !ok {
			t.Errorf("%s is %v (%v), want %v", k, g, ok, v)
		}
	}
}

func TestCount(t *testing.T) {
	c, reg := newCounter(t, 100)
	next := new(end)
	s := c.NewStage(next)
	front, back := object("shop", "frontend"), object("shop", "backend")
	s.HandleFlow(record(front, back, 1000, 10))
	s.HandleFlow(record(object("shop", "frontend"), back, 1, 1)) // another pod of it
	s.HandleFlow(record(back, front, 5, 2))

	sampled := record(front, nil, 100, 2)
	sampled.Msg.SamplingRate = 400
	s.HandleFlow(sampled)
	scaledAlready := record(nil, front, 100, 2)
	scaledAlready.Msg.SamplingRate, scaledAlready.Extra.Scaled = 400, true
	s.HandleFlow(scaledAlready)

	repeated := record(front, back, 1000, 10)
	repeated.Extra.Duplicate = true
	s.HandleFlow(repeated)
	ofOVN := record(front, back, 1000, 10)
	ofOVN.Extra.Sampled = true
	s.HandleFlow(ofOVN)
	arp := record(nil, nil, 60, 1)
	arp.Msg.SrcAddr, arp.Msg.DstAddr = nil, nil
	s.HandleFlow(arp)

	got := scrape(t, reg)
	expect(t, got, map[string]float64{
		"bytes_total shop/frontend/Deployment>shop/backend/Deployment":   1001,
		"packets_total shop/frontend/Deployment>shop/backend/Deployment": 11,
		"flows_total shop/frontend/Deployment>shop/backend/Deployment":   2,
		"bytes_total shop/backend/Deployment>shop/frontend/Deployment":   5,
		"bytes_total shop/frontend/Deployment>//none":                    40_000,
		"packets_total shop/frontend/Deployment>//none":                  800,
		"flows_total shop/frontend/Deployment>//none":                    1,
		"bytes_total //none>shop/frontend/Deployment":                    100,
		"bytes_total " + others:                                          0,
		"records_total counted":                                          5,
		"records_total repeated":                                         1,
		"records_total sample":                                           1,
		"records_total no_address":                                       1,
		"series ":                                                        4,
		"series_replaced_total ":                                         0,
	})
	if len(got) != 3*5+6 {
		t.Errorf("%d values: %v", len(got), got)
	}
	if next.records != 8 {
		t.Errorf("%d records were handed on, want 8", next.records)
	}
	if !s.Idle() {
		t.Error("the answer to Idle is not that of the next handler")
	}
	expect(t, scrape(t, reg), got) // nothing is counted twice
}

// TestBounds: whatever comes, no metric has more series than allowed, none goes
// backwards unless it was away for an hour, and the increases of all add up to
// what was sent.
func TestBounds(t *testing.T) {
	const maxSeries = 20
	c, reg := newCounter(t, maxSeries)
	stages := []*Stage{c.NewStage(new(end)), c.NewStage(new(end)), c.NewStage(new(end))}
	objects := make([]*flow.Object, 40)
	for i := range objects {
		objects[i] = object("ns", fmt.Sprint("w", i))
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	last := make(map[string]float64)
	lastShown := make(map[string]time.Time)
	var sent, seen, records float64
	now := time.Now()
	for round := range 400 {
		// A few pairs at a time have most of the traffic, others after a while.
		hot := round / 20 * 7
		for range 300 {
			src, dst := rnd.IntN(len(objects)), rnd.IntN(len(objects))
			bytes := rnd.Uint64N(100)
			if rnd.IntN(2) == 0 {
				src, dst, bytes = (hot+rnd.IntN(3))%len(objects), (hot+rnd.IntN(3))%len(objects), 10_000
			}
			stages[rnd.IntN(len(stages))].HandleFlow(record(objects[src], objects[dst], bytes, 1))
			sent += float64(bytes)
			records++
		}
		now = now.Add(30 * time.Second)
		series := make(map[string]int)
		flows := 0.0
		for _, m := range c.collect(now) {
			var d dto.Metric
			if err := m.Write(&d); err != nil {
				t.Fatal(err)
			}
			name := m.Desc().String()
			series[name]++
			k := name + key(&d)
			v := d.GetCounter().GetValue()
			if before, ok := last[k]; ok && d.GetCounter() != nil {
				if away := now.Sub(lastShown[k]); v < before && away < keepLost {
					t.Fatalf("round %d: %s went from %v to %v, away for %v", round, k, before, v, away)
				}
				if v < before {
					last[k] = 0 // what Prometheus makes of it
				}
			}
			lastShown[k] = now
			switch m.Desc() {
			case c.descs[valueBytes]:
				seen += v - last[k]
			case c.descs[valueFlows]:
				flows += v
			}
			last[k] = v
		}
		for name, n := range series {
			if n > maxSeries {
				t.Fatalf("round %d: %d series of %s", round, n, name)
			}
		}
		if n := len(c.ranking.known); n > knownFactor*maxSeries {
			t.Fatalf("round %d: %d pairs are known", round, n)
		}
		var late counts // of series that have just appeared
		for _, e := range c.ranking.shown {
			late.add(&e.fresh)
		}
		if round == 0 && late != (counts{}) {
			t.Fatalf("the first scrape lacks %v", late)
		}
		if flows := flows + float64(late[valueFlows]); c.ranking.swaps == 0 && flows != records {
			t.Fatalf("round %d: %v flows are shown of %v", round, flows, records)
		}
		if seen := seen + float64(late[valueBytes]); seen != sent {
			t.Fatalf("round %d: increases add up to %v bytes of %v", round, seen, sent)
		}
	}
	if c.ranking.swaps < 10 {
		t.Errorf("%d series were replaced", c.ranking.swaps)
	}
	got := scrape(t, reg)
	if got["series "] != maxSeries-1 {
		t.Errorf("%v pairs have series, want %d", got["series "], maxSeries-1)
	}
	if got["bytes_total "+others] == 0 {
		t.Error("the others have no traffic")
	}
}

// TestRanking: the pairs with most traffic get the series, keep them against
// equals, and lose them to others with much more.
func TestRanking(t *testing.T) {
	c, reg := newCounter(t, 3)
	s := c.NewStage(new(end))
	o := make([]*flow.Object, 5)
	for i := range o {
		o[i] = object("ns", fmt.Sprint(i))
	}
	series := func(i int) string { return fmt.Sprintf("bytes_total ns/%d/Deployment>//none", i) }
	send := func(bytes ...uint64) {
		for i, n := range bytes {
			if n > 0 {
				s.HandleFlow(record(o[i], nil, n, 1))
			}
		}
	}
	has := func(got map[string]float64, want ...int) {
		t.Helper()
		for i := range o {
			_, ok := got[series(i)]
			wanted := false
			for _, w := range want {
				wanted = wanted || w == i
			}
			if ok != wanted {
				t.Errorf("pair %d has a series: %v", i, ok)
			}
		}
	}
	send(10, 1000, 100, 2000)
	got := scrape(t, reg)
	has(got, 1, 3)
	expect(t, got, map[string]float64{series(1): 1000, series(3): 2000, "bytes_total " + others: 110})

	send(0, 0, 0, 0, 1900) // not twice as much as pair 1
	got = scrape(t, reg)
	has(got, 1, 3)
	expect(t, got, map[string]float64{"bytes_total " + others: 2010})

	send(0, 50, 0, 0, 1900) // now it is
	got = scrape(t, reg)
	has(got, 3, 4)
	// What was counted among others stays there; what pair 1 had is gone with it.
	// The series of pair 4 is new: Prometheus must see it begin.
	expect(t, got, map[string]float64{series(4): 0, "bytes_total " + others: 2060, "series_replaced_total ": 1})

	send(0, 9000)
	got = scrape(t, reg)
	has(got, 1, 4) // pair 3 with 2000 is the smallest now
	// Pair 1 goes on from where it was.
	expect(t, got, map[string]float64{series(1): 1000, series(4): 1900, "bytes_total " + others: 2060})
	expect(t, scrape(t, reg), map[string]float64{series(1): 1000 + 9000, series(4): 1900, "bytes_total " + others: 2060})
}

// TestAppears: a series that appears between two scrapes is shown as 0 once. What counts for it
// before it is shown with its value, and then loses its place, counts among others.
func TestAppears(t *testing.T) {
	c, _ := newCounter(t, 2)
	s := c.NewStage(new(end))
	start := time.Now()
	shown := func(minute int) map[string]*dto.Counter {
		t.Helper()
		counters := make(map[string]*dto.Counter)
		for _, m := range c.collect(start.Add(time.Duration(minute) * time.Minute)) {
			var d dto.Metric
			if err := m.Write(&d); err != nil {
				t.Fatal(err)
			}
			if m.Desc() == c.descs[valueBytes] {
				counters[key(&d)] = d.GetCounter()
			}
		}
		return counters
	}
	check := func(got map[string]*dto.Counter, workload string, bytes float64, since time.Duration) {
		t.Helper()
		m := got["ns/"+workload+"/Deployment>//none"]
		if m == nil || m.GetValue() != bytes || m.GetCreatedTimestamp().AsTime().Sub(start).Round(time.Second) != since {
			t.Errorf("%s is %v, want %v since %v", workload, m, bytes, since)
		}
	}
	object := func(name string) *flow.Object { return object("ns", name) }
	shown(1)
	s.HandleFlow(record(object("a"), nil, 10, 1))
	check(shown(2), "a", 0, time.Minute)
	s.HandleFlow(record(object("a"), nil, 1, 1))
	check(shown(3), "a", 11, time.Minute)

	s.HandleFlow(record(object("b"), nil, 100, 1))
	check(shown(4), "b", 0, 3*time.Minute)
	s.HandleFlow(record(object("b"), nil, 100, 1))
	s.HandleFlow(record(object("c"), nil, 1000, 1))
	got := shown(5)
	check(got, "c", 0, 4*time.Minute)
	if n := got[others].GetValue(); n != 200 {
		t.Errorf("others have %v bytes, want those of b", n)
	}
	if got[others].GetCreatedTimestamp() != nil {
		t.Error("others did not begin with the program")
	}
	check(shown(6), "c", 1000, 4*time.Minute)
}

func TestNoRoom(t *testing.T) {
	c, reg := newCounter(t, 2)
	s := c.NewStage(new(end))
	for i := range minRoom + 100 {
		s.HandleFlow(record(object("ns", fmt.Sprint(i)), nil, 10, 1))
	}
	if n := len(s.table.used); n != minRoom {
		t.Errorf("%d pairs in a table with room for %d", n, minRoom)
	}
	expect(t, scrape(t, reg), map[string]float64{"flows_total " + others: minRoom + 100 - 1, "series ": 1})
}

// TestHostile: nothing that an exporter or a snapshot can say breaks a scrape.
func TestHostile(t *testing.T) {
	c, reg := newCounter(t, 100)
	s := c.NewStage(new(end))
	named := func(namespace, name, kind string) *flow.Object {
		return flow.NewObject(flow.Object{Namespace: namespace, Workload: name, WorkloadKind: kind})
	}
	a := object("ns", "a")
	huge := record(a, a, math.MaxUint64, math.MaxUint64)
	huge.Msg.SamplingRate = math.MaxUint64
	s.HandleFlow(huge)
	s.HandleFlow(record(a, a, 1, 1))
	o := named("other", "other", "other")
	s.HandleFlow(record(o, o, 7, 1))
	none := named("", "", "none")
	s.HandleFlow(record(none, nil, 1, 1))
	s.HandleFlow(record(nil, none, 2, 1))
	s.HandleFlow(record(nil, nil, 4, 1))
	s.HandleFlow(record(named("\xff", "x\x00\n\"", "K\xfe\xff"), nil, 1, 1))
	s.HandleFlow(record(named("\xfe", "x\x00\n\"", "K\xfd"), nil, 1, 1)) // looks the same
	s.HandleFlow(record(new(flow.Object), nil, 8, 1))                    // not made by NewObject
	expect(t, scrape(t, reg), map[string]float64{
		"bytes_total ns/a/Deployment>ns/a/Deployment": flow.MaxEstimate + 1,
		"bytes_total " + others:                       7,
		"bytes_total //none>//none":                   15,
		"flows_total //none>//none":                   4,
		"bytes_total \uFFFD/x\x00\n\"/K\uFFFD>//none": 2,
	})
	var sum counts
	for range 1 << 17 {
		sum.add(&counts{flow.MaxEstimate, 1, 1})
	}
	if sum[valueBytes] != math.MaxUint64 {
		t.Errorf("a sum beyond the largest number is %d", sum[valueBytes])
	}
}

func TestNew(t *testing.T) {
	if _, err := New(Config{MaxSeries: 1}, prometheus.NewRegistry()); err == nil {
		t.Error("1 series is no error")
	}
	reg := prometheus.NewRegistry()
	if _, err := New(Config{MaxSeries: 2}, reg); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{MaxSeries: 2}, reg); err == nil {
		t.Error("registering twice is no error")
	}
}

// TestConcurrent counts in several workers during scrapes. It is for the race
// detector, and for the sum.
func TestConcurrent(t *testing.T) {
	c, reg := newCounter(t, 10)
	const workers, each = 4, 5000
	var wg sync.WaitGroup
	for range workers {
		s := c.NewStage(new(end))
		wg.Go(func() {
			objects := []*flow.Object{object("ns", "a"), object("ns", "b"), nil}
			for i := range each {
				s.HandleFlow(record(objects[i%3], objects[i/3%3], 3, 1))
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if _, err := reg.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	bytes := 0.0
	for k, v := range scrape(t, reg) {
		if strings.HasPrefix(k, "bytes_total ") {
			bytes += v
		}
	}
	if bytes != workers*each*3 {
		t.Errorf("%v bytes, want %d", bytes, workers*each*3)
	}
}

// pairs makes n records of different pairs.
func pairs(n int) []*flow.Record {
	objects := make([]*flow.Object, 1000)
	for i := range objects {
		objects[i] = object("ns", fmt.Sprint(i))
	}
	records := make([]*flow.Record, n)
	for i := range records {
		records[i] = record(objects[i%len(objects)], objects[(i*7+i/len(objects))%len(objects)], 1500, 1)
	}
	return records
}

// TestAllocations: no record allocates once its pair is known, not even after
// the table was taken away.
func TestAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	c, reg := newCounter(t, 5000)
	s := c.NewStage(new(end))
	records := pairs(3000)
	run := func() {
		for _, r := range records {
			s.HandleFlow(r)
		}
	}
	for range 2 { // both tables
		run()
		scrape(t, reg)
	}
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Errorf("%v allocations for %d records", n, len(records))
	}
}

func BenchmarkHandleFlow(b *testing.B) {
	for _, n := range []int{10, 1000, 20_000} {
		b.Run(fmt.Sprintf("pairs=%d", n), func(b *testing.B) {
			c, _ := newCounter(b, 5000)
			s := c.NewStage(new(end))
			records := pairs(n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if i++; i == n {
					i = 0
				}
				s.HandleFlow(records[i])
			}
		})
	}
}

// BenchmarkScrape is of a scrape with all series in use and as many pairs
// beside them.
func BenchmarkScrape(b *testing.B) {
	c, reg := newCounter(b, 5000)
	s := c.NewStage(new(end))
	records := pairs(10_000)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, r := range records {
			s.HandleFlow(r)
		}
		b.StartTimer()
		if _, err := reg.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
