package recent

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/filter"
	"github.com/netobserv/goflow2-kube-enricher/internal/flowtest"
)

// traffic makes records such as Open vSwitch sends, between many pods.
type traffic struct {
	pods   []*flow.Object
	record *flow.Record
	n      int
}

const benchPods = 2000

func newTraffic() *traffic {
	t := &traffic{record: flowtest.Reference()}
	for i := range benchPods {
		t.pods = append(t.pods, flow.NewObject(flow.Object{
			Kind: "Pod", Namespace: fmt.Sprintf("ns-%d", i%20), Name: fmt.Sprintf("workload-%d-%d", i%300, i),
			Workload: fmt.Sprintf("workload-%d", i%300), WorkloadKind: "Deployment",
		}))
	}
	m := &t.record.Msg
	m.NextHop, m.SrcAddr, m.DstAddr = nil, make([]byte, 4), make([]byte, 4)
	m.ObservationDomainId, m.SamplingRate, m.IpTtl, m.TcpFlags = 2, 400, 64, 0x1b
	t.record.Extra.HasStart, t.record.Extra.HasEnd = true, true
	return t
}

// next returns the next record, which is valid until the one after it.
func (t *traffic) next() *flow.Record {
	t.n++
	x := uint32(t.n) * 2654435761
	r, m := t.record, &t.record.Msg
	m.TimeReceivedNs += 20_000
	m.TimeFlowStartNs, m.TimeFlowEndNs = m.TimeReceivedNs-10e9, m.TimeReceivedNs-1e9
	m.SrcPort, m.Bytes, m.Packets, m.SequenceNum = x>>16, uint64(x>>12), uint64(x>>24), uint32(t.n)
	src, dst := x%benchPods, x>>8%benchPods
	binary.BigEndian.PutUint32(m.SrcAddr, 10<<24|src)
	binary.BigEndian.PutUint32(m.DstAddr, 10<<24|dst)
	r.Ends[0] = flow.End{Object: t.pods[src], Status: flow.StatusLive}
	r.Ends[1] = flow.End{Object: t.pods[dst], Status: flow.StatusLive}
	return r
}

// full returns a store of 64 MiB that is full, and how many records it has.
func full(b *testing.B) (s *Store, records int) {
	s = newStore(b, 64<<20)
	st, t := s.Stage(0, end{}), newTraffic()
	for s.gone.Load() == 0 {
		st.HandleFlow(t.next())
	}
	if err := s.Each(context.Background(), Query{}, func(*flow.Record) bool { records++; return true }); err != nil {
		b.Fatal(err)
	}
	return s, records
}

func BenchmarkKeep(b *testing.B) {
	s := newStore(b, 64<<20)
	st, t := s.Stage(0, end{}), newTraffic()
	for s.gone.Load() == 0 {
		st.HandleFlow(t.next())
	}
	b.ReportAllocs()
	began := flowtest.CPUTime(b)
	for b.Loop() {
		st.keep(t.next())
	}
	b.ReportMetric(float64(flowtest.CPUTime(b)-began)/float64(b.N), "cpu-ns/op")
}

// BenchmarkRing is what a record costs in all: to keep it, and to add it to the sums, as often as
// the program does at 50,000 records in a second.
func BenchmarkRing(b *testing.B) {
	s := newStore(b, 64<<20)
	st, c := s.Stage(0, end{}), flowtest.NewCluster()
	const each = 12_500
	touched := uint32(0)
	fold := func() {
		s.sums.mu.Lock()
		s.fold()
		s.sums.mu.Unlock()
	}
	run := func(kept bool) time.Duration {
		began := flowtest.CPUTime(b)
		for range each {
			r := c.Next()
			// An encoder waits for these lines of memory, whether the record is kept or not.
			touched += r.Ends[0].Object.Hint() + r.Ends[1].Object.Hint()
			for range 300 { // the other stages have work to do
				touched = touched*1664525 + 1013904223
			}
			if kept {
				st.keep(r)
			}
		}
		if kept {
			fold()
		}
		return flowtest.CPUTime(b) - began
	}
	for range 160 { // 40 s of it, and the ring is full
		run(true)
	}
	var with, without time.Duration
	n := 0
	for b.Loop() {
		with += run(true)
		without += run(false)
		n += each
	}
	b.ReportMetric(float64(with-without)/float64(n), "cpu-ns/record")
	b.ReportMetric(float64(without)/float64(n), "cpu-ns/made")
	b.ReportMetric(float64(touched&1), "hints") // so that they are read
}

func BenchmarkTraffic(b *testing.B) {
	t := newTraffic()
	began := flowtest.CPUTime(b)
	for b.Loop() {
		t.next()
	}
	b.ReportMetric(float64(flowtest.CPUTime(b)-began)/float64(b.N), "cpu-ns/op")
}

func BenchmarkFold(b *testing.B) {
	s, _ := full(b)
	list := s.glances()
	records, i := 0, 0
	began := flowtest.CPUTime(b)
	for b.Loop() {
		g := list[i%len(list)].segment
		w := waiting{segment: g, slot: i % len(list)}
		s.sums.count(g.view(extentOf(g.published.Load())), s.mapped, s.sums.holdObjects(&w))
		s.sums.shrink()
		records += list[i%len(list)].count
		i++
	}
	b.ReportMetric(float64(flowtest.CPUTime(b)-began)/float64(records), "cpu-ns/record")
}

// BenchmarkQuery compares queries over a full ring with reading the ring once.
func BenchmarkQuery(b *testing.B) {
	s, records := full(b)
	f, err := filter.Compile(`SrcNamespace == "ns-3" && Bytes > 1000 || DstPort == 80`, filter.Config{Mapping: s.cfg.Mapping})
	if err != nil {
		b.Fatal(err)
	}
	read := func() error {
		return s.Each(context.Background(), Query{}, func(*flow.Record) bool { return true })
	}
	timed := func(b *testing.B, f func() error) time.Duration {
		began := flowtest.CPUTime(b)
		if err := f(); err != nil {
			b.Fatal(err)
		}
		return flowtest.CPUTime(b) - began
	}
	// By turns, since the machine may be faster at one time than at another.
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			var query, reading time.Duration
			for b.Loop() {
				query += timed(b, f)
				reading += timed(b, read)
			}
			b.ReportMetric(float64(query)/float64(b.N)/float64(records), "cpu-ns/record")
			b.ReportMetric(float64(query)/float64(reading), "times-reading")
			b.ReportMetric(0, "ns/op") // of both
		})
	}
	run("pairs", func() error {
		_, err := s.Pairs(context.Background(), Query{Match: f.Matcher()}, 100)
		return err
	})
	run("all pairs", func() error {
		_, err := s.Pairs(context.Background(), Query{Match: func(*flow.Record) bool { return true }}, 100)
		return err
	})
	run("series", func() error {
		_, err := s.Series(context.Background(), Query{Match: f.Matcher()}, ByNamespace, 60, 20)
		return err
	})
	run("flows", func() error {
		n := 0
		return s.Each(context.Background(), Query{Match: f.Matcher(), Newest: true}, func(*flow.Record) bool { n++; return true })
	})
	run("since", func() error { // all that came in an interval that sums do not have
		_, err := s.Pairs(context.Background(), Query{Since: timeOf(s.gone.Load() + 1)}, 100)
		return err
	})
	run("sums", func() error {
		_, err := s.Pairs(context.Background(), Query{}, 100)
		return err
	})
}

// BenchmarkFollow is what a tick takes of one who follows, of whom there may be many, when 5,000
// records have come: 50,000 a second.
func BenchmarkFollow(b *testing.B) {
	for _, perSecond := range []int{0, 100, 1000} {
		b.Run(fmt.Sprint(perSecond), func(b *testing.B) {
			s, _ := full(b)
			st, t := s.Stage(1, end{}), newTraffic()
			w := s.newFollower(Query{PerSecond: perSecond})
			handed := 0
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for range 5000 {
					st.HandleFlow(t.next())
				}
				w.room = perSecond / 10
				b.StartTimer()
				if err := w.poll(context.Background(), func(r *flow.Record, _ uint64) error { handed++; return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(handed)/float64(b.N), "records/op")
		})
	}
}

// BenchmarkLate is what it takes to read a full ring, and the newest records of it, if some are not
// in the order of their times: 1 in 20 waited for 2 s, the second half is the older one, or all are
// in any order.
func BenchmarkLate(b *testing.B) {
	for _, kind := range []string{"none", "waited", "wrong order", "any"} {
		s := newStore(b, 64<<20)
		st, t := s.Stage(0, end{}), newTraffic()
		rnd := rand.New(rand.NewPCG(1, 2))
		for i := uint64(0); s.gone.Load() == 0; i++ {
			r := t.next()
			at := r.Msg.TimeReceivedNs
			switch {
			case kind == "waited" && i%20 == 0:
				r.Msg.TimeReceivedNs -= 2e9
			case kind == "wrong order" && i > 175_000:
				r.Msg.TimeReceivedNs -= 10e9
			case kind == "any":
				r.Msg.TimeReceivedNs -= rnd.Uint64N(10e9)
			}
			st.HandleFlow(r)
			r.Msg.TimeReceivedNs = at
		}
		for name, most := range map[string]int{"all": math.MaxInt, "newest": 100} {
			b.Run(kind+"/"+name, func(b *testing.B) {
				records := 0
				began := flowtest.CPUTime(b)
				for b.Loop() {
					n := 0
					if err := s.Each(context.Background(), Query{Newest: most == 100}, func(*flow.Record) bool { n++; return n < most }); err != nil {
						b.Fatal(err)
					}
					records += n
				}
				b.ReportMetric(float64(flowtest.CPUTime(b)-began)/float64(records), "cpu-ns/record")
			})
		}
	}
}
