package recent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestWorkloads: workloads are listed by their names, each once, whether a record of theirs is
// among the sums or not, and whether sums have forgotten others or not.
func TestWorkloads(t *testing.T) {
	s := newStore(t, 8*MinRoom) // for all records
	st := s.Stage(0, end{})
	var want []string
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range uint64(500) {
		name := fmt.Sprint("w-", rnd.IntN(1e9))
		want = append(want, name)
		// The second object is of the same workload, and the sums know the first one for long.
		st.HandleFlow(numbered(i+1, object("a", name), object("a", name)))
		st.HandleFlow(numbered(i+1, nil, object("a", want[0])))
		for n := range i % 3 * 20 {
			st.HandleFlow(numbered(i+n+1, nil, nil))
		}
		if i%50 == 7 {
			s.sums.forgetSpare()
		}
		if i%20 > 0 {
			continue
		}
		var got []string
		for _, e := range s.About().Workloads {
			got = append(got, e.Name)
		}
		if !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			t.Fatalf("%d workloads after %d", len(got), len(want))
		}
	}
}

// TestNames: what sums have forgotten is not listed any more, and a list that somebody reads does
// not change.
func TestNames(t *testing.T) {
	table := func(list ...string) *workloads {
		w := newWorkloads()
		for _, name := range list {
			w.of(object("a", name))
		}
		return w
	}
	var n names
	check := func(list []End, want ...string) {
		t.Helper()
		var got []string
		for _, e := range list {
			got = append(got, e.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	w := table("c", "a")
	n.update(w)
	first := n.list
	check(first, "a", "c")
	w.of(object("a", "b"))
	n.update(w)
	check(n.list, "a", "b", "c")
	check(n.with([]handle{object("a", "aa").WorkloadID()}), "a", "aa", "b", "c")
	n.update(table("d", "b"))
	check(n.list, "b", "d")
	check(first, "a", "c")
	w = table("d", "b", "a", "c")
	n.update(w)
	w.of(object("a", "e")) // which was not seen
	n.forget(table("e", "c", "d"))
	check(n.list, "c", "d", "e")
	w = table("c")
	n.forget(w)
	w.of(object("a", "b"))
	n.update(w)
	check(n.list, "b", "c")
	check(first, "a", "c")
}

// TestFewWorkloads: of more workloads than are listed, the first are.
func TestFewWorkloads(t *testing.T) {
	s := newStore(t, 16*MinRoom)
	st := s.Stage(0, end{})
	const n = maxWorkloads + 1000
	for i := range uint64(n) {
		st.HandleFlow(numbered(i+1, object("a", fmt.Sprintf("w-%05d", n-1-i)), nil))
		if i%2500 == 2499 {
			s.About()
		}
	}
	list := s.About().Workloads
	if len(list) != maxWorkloads || list[0].Name != "w-00000" || list[maxWorkloads-1].Name != fmt.Sprintf("w-%05d", maxWorkloads-1) {
		t.Errorf("%d workloads, from %s to %s", len(list), list[0].Name, list[len(list)-1].Name)
	}
}

// TestNamesRoom: what the names take counts as the sums' does, and those that were not listed are
// when others are forgotten.
func TestNamesRoom(t *testing.T) {
	const n = maxWorkloads + 1000
	s := newStore(t, 64*MinRoom)
	u := s.sums
	var left []*flow.Object
	for i := range n {
		o := object("a", fmt.Sprintf("w-%05d", i))
		u.workloads.of(o)
		if i >= 2000 {
			left = append(left, o)
		}
	}
	before := u.size()
	s.About()
	if took := u.size() - before; took < maxWorkloads*int64(unsafe.Sizeof(End{}))+n*int64(unsafe.Sizeof(handle{})) {
		t.Errorf("names of %d workloads take %d bytes", n, took)
	}
	// Those that objects have stay.
	u.objects.hold(left, make([]uint32, len(left)), u.workloads, make([]int32, len(left)), make([]uint32, len(left)))
	u.forgetSpare()
	list := s.About().Workloads
	if len(list) != n-2000 || list[0].Name != "w-02000" || list[len(list)-1].Name != fmt.Sprintf("w-%05d", n-1) {
		t.Errorf("%d workloads, from %s to %s", len(list), list[0].Name, list[len(list)-1].Name)
	}
}

// TestNamesForgotten: workloads that are forgotten are not kept by the names.
func TestNamesForgotten(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	for i := range uint64(1000) {
		st.HandleFlow(numbered(i+1, object("a", fmt.Sprint("w-", i)), nil))
	}
	if n := len(s.About().Workloads); n != 1000 {
		t.Errorf("%d workloads", n)
	}
	old := s.sums.workloads
	s.sums.forgetSpare()
	if s.sums.names.of == old {
		t.Error("the names have a table that nobody else has")
	}
	if n := len(s.About().Workloads); n != 1000 {
		t.Errorf("%d workloads", n)
	}
}

// TestJSON: answers are rendered as encoding/json does it.
func TestJSON(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 60_000, time.UTC)
	odd := End{"Pod", "a \"b\" \\ <c> & \x7f\u2028", "wörkload\n"}
	for _, a := range []interface{ AppendJSON([]byte) []byte }{
		&Pairs{Pairs: []Pair{}},
		&Pairs{Start: &at, End: &at, Other: Others{Counts{1, 2, 3}, 4}, Pairs: []Pair{
			{odd, End{"none", "", "outside"}, Counts{math.MaxUint64, 0, 7}, at, "mixed"}, {LastSeen: at.Truncate(time.Second)},
		}},
		&Series{Series: []Line{}, Other: *newLine("", 0)},
		&Series{Start: &at, StepSeconds: 2, Series: []Line{{"a<b", []uint64{1, 2}, []uint64{3, 4}}, {"c", []uint64{5}, []uint64{6}}}, Other: *newLine("", 3)},
		&Series{StepSeconds: 1e7 * 86400, Series: []Line{}, Other: *newLine("", 1)},
		&odd, &End{"\u2028", "ü", "\xff\x00"},
	} {
		want, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.AppendJSON([]byte("before ")); string(got) != "before "+string(want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestPairNumbers: pairs have the numbers in whose order they came, one by one and in batches,
// and there are no more than there may be.
func TestPairNumbers(t *testing.T) {
	const most = 3000
	rnd := rand.New(rand.NewPCG(1, 2))
	one, many := newPairs(most, 0), newPairs(most, 0)
	var batch batch
	var other Counts
	want := make(map[pair]int32)
	sums := make(map[pair]uint64)
	beyond := uint64(0)
	for range 50_000 {
		p := pair{uint32(rnd.IntN(100)), uint32(rnd.IntN(100))}
		n, ok := want[p]
		switch {
		case !ok && len(want) < most:
			n = int32(len(want))
			want[p] = n
		case !ok:
			n = -1
			beyond++
		}
		sums[p]++
		if got := one.number(p); got != n {
			t.Fatalf("%v has the number %d, want %d", p, got, n)
		}
		next := batch.next()
		next.pair, next.sum = p, sum{Counts: Counts{Flows: 1}}
		if batch.full() {
			many.addAll(&batch, &other)
		}
	}
	many.addAll(&batch, &other)
	if len(many.list) != most || other.Flows != beyond || beyond == 0 {
		t.Errorf("%d pairs, and %d flows of others; want %d and %d", len(many.list), other.Flows, most, beyond)
	}
	for i, p := range many.list {
		if want[p.pair] != int32(i) || p.Flows != sums[p.pair] {
			t.Fatalf("%v has the number %d and %d flows, want %d and %d", p.pair, i, p.Flows, want[p.pair], sums[p.pair])
		}
	}
}

// TestOutsideTheTime: an answer about a time of which there is nothing does not end before it
// starts, and no line is shown of who was silent.
func TestOutsideTheTime(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	const second = uint64(1e9)
	for i := range uint64(100) {
		namespace := "early"
		if i >= 50 {
			namespace = "late"
		}
		st.HandleFlow(numbered((1e6+i)*second, object(namespace, "x"), nil))
	}
	for _, match := range []func(*flow.Record) bool{nil, func(*flow.Record) bool { return true }} {
		for _, until := range []int64{1e6 - 10, 1e6 + 40} {
			p, err := s.Pairs(context.Background(), Query{Since: time.Unix(1e6-1000, 0), Until: time.Unix(until, 0), Match: match}, 10)
			if err != nil || p.Start == nil || p.End == nil || p.Start.After(*p.End) {
				t.Errorf("until %d: from %v to %v, %v", until, p.Start, p.End, err)
			}
		}
		line, err := s.Series(context.Background(), Query{Since: time.Unix(1e6+60, 0), Match: match}, ByNamespace, 10, 10)
		if err != nil || len(line.Series) != 1 || line.Series[0].Label != "late" || line.Series[0].total() != 40*100 {
			t.Errorf("%+v, %v", line, err)
		}
	}
}

// TestNumbersOfSums: an answer takes the numbers of workloads from the sums, whatever happens to
// these meanwhile: segments that they do not have yet, workloads that are new to them, and others
// that they number anew, since some have left.
func TestNumbersOfSums(t *testing.T) {
	const second = uint64(1e9)
	for _, folded := range []bool{true, false} {
		s := newStore(t, 4*MinRoom)
		st := s.Stage(0, end{})
		want := make(map[string]uint64)
		i := uint64(1000)
		send := func(n int, time func() uint64) {
			for range n {
				i++
				name := fmt.Sprint("w-", i%97+i/1000) // others than before after some time
				want[name]++
				st.HandleFlow(numbered(time(), object("a", name), nil))
			}
		}
		// What comes first has later times, so to number workloads by their buckets changes all.
		send(4000, func() uint64 { return second * (1e6 - i) })
		if folded {
			s.About() // adds what is full to the sums, and the rest is in the open segment
		}
		asked := maps.Clone(want)
		seen := 0
		p, err := s.Pairs(context.Background(), Query{Match: func(*flow.Record) bool {
			if seen++; seen%700 == 1 {
				send(500, func() uint64 { return second * 2e6 })
				s.About()
				if seen > 2000 {
					s.sums.mu.Lock()
					s.sums.forgetSpare()
					s.sums.mu.Unlock()
				}
			}
			return true
		}}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]uint64)
		for _, d := range p.Pairs {
			got[d.Src.Name] += d.Flows
		}
		if !maps.Equal(got, asked) {
			t.Errorf("folded %t: %v, want %v", folded, got, asked)
		}
	}
}
