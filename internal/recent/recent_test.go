package recent

import (
	"context"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// end is the end of a chain.
type end struct{}

func (end) HandleFlow(*flow.Record) {}
func (end) Idle() bool              { return false }

func newStore(t testing.TB, room int64) *Store {
	t.Helper()
	mapping, err := flow.ParseMapping("SrcAddr=Src,DstAddr=Dst,NextHop=Nxt")
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Room: room, Mapping: mapping}, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fill sets all exported fields of a value, so that a field that is added later is
// among them.
func fill(v reflect.Value, rnd *rand.Rand) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(v.Field(i), rnd)
			}
		}
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case reflect.Int32:
		v.SetInt(int64(int32(rnd.Uint32())))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rnd.Uint64() >> rnd.IntN(64) & (1<<v.Type().Bits() - 1))
		if rnd.IntN(4) == 0 {
			v.SetUint(0)
		}
	case reflect.Slice:
		n := []int{0, 1, 4, 16, 300}[rnd.IntN(5)]
		if v.Type().Elem().Kind() != reflect.Uint8 {
			n = rnd.IntN(4)
		}
		if n == 0 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), rnd)
		}
	default:
		panic("a record has a field of a kind that is not packed: " + v.Type().String())
	}
}

// TestLossless: whatever a record has, it has it when it is read.
func TestLossless(t *testing.T) {
	s := newStore(t, 16<<20)
	st := s.Stage(0, end{})
	rnd := rand.New(rand.NewPCG(1, 2))
	var want []*flow.Record
	for i := range 2000 {
		r := new(flow.Record)
		fill(reflect.ValueOf(&r.Msg.FlowMessage).Elem(), rnd)
		fill(reflect.ValueOf(&r.Extra).Elem(), rnd)
		r.Msg.TimeReceivedNs = uint64(i)
		for e := range 3 {
			r.Ends[e].Status = flow.Status(rnd.IntN(flow.NumStatus))
			if rnd.IntN(2) == 0 {
				r.Ends[e].Object = flow.NewObject(flow.Object{Kind: "Pod", Name: "p"})
			}
		}
		want = append(want, r.Clone())
		st.HandleFlow(r)
	}
	i := 0
	err := s.Each(context.Background(), Query{}, func(r *flow.Record) bool {
		w := want[i]
		if !proto.Equal(&w.Msg.FlowMessage, &r.Msg.FlowMessage) {
			t.Errorf("record %d: %v, want %v", i, &r.Msg.FlowMessage, &w.Msg.FlowMessage)
		}
		if !reflect.DeepEqual(w.Extra, r.Extra) {
			t.Errorf("record %d: %+v, want %+v", i, r.Extra, w.Extra)
		}
		if w.Ends != r.Ends {
			t.Errorf("record %d has ends %v, want %v", i, r.Ends, w.Ends)
		}
		i++
		return !t.Failed()
	})
	if err != nil || i != len(want) {
		t.Errorf("%d records, %v; want %d", i, err, len(want))
	}
}

// TestNamedPercent: a label or a country is no name, whether sums have the records or not. A record
// without an address does not count.
func TestNamedPercent(t *testing.T) {
	s := newStore(t, MinRoom)
	st := s.Stage(0, end{})
	place := flow.End{Object: flow.NewPlace(flow.Place{SubnetLabel: "internet", Country: "DE"})}
	pod := flow.End{Object: object("a", "x"), Status: flow.StatusLive}
	for i, ends := range [][2]flow.End{{place, place}, {place, {}}, {}, {pod, place}, {place, pod}} {
		r := numbered(uint64(i+1), nil, nil)
		r.Ends[0], r.Ends[1] = ends[0], ends[1]
		st.HandleFlow(r)
	}
	r := numbered(6, nil, nil)
	r.Msg.SrcAddr, r.Msg.DstAddr = nil, nil
	st.HandleFlow(r)
	for range 2 {
		if p := s.About().NamedPercent; p != 40 {
			t.Errorf("%v %% of the records have a name, want 2 of 5", p)
		}
		st.rotate()
	}
	if n := s.sums.total.addressed; n != 5 {
		t.Errorf("the sums have %d records with an address", n)
	}
}
