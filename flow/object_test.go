package flow_test

import (
	"reflect"
	"runtime"
	"sync"
	"testing"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// attributesOf calls f with each exported field of an object, which are its attributes.
func attributesOf(o *flow.Object, f func(name string, v reflect.Value)) {
	v := reflect.ValueOf(o).Elem()
	for i := range v.NumField() {
		if field := v.Type().Field(i); field.IsExported() {
			f(field.Name, v.Field(i))
		}
	}
}

// A copy has all attributes, and nothing else: the object it was made of may be in use.
func TestObjectCopy(t *testing.T) {
	var all flow.Object
	attributesOf(&all, func(name string, v reflect.Value) {
		switch v.Interface().(type) {
		case string:
			v.SetString("a " + name)
		case uint64:
			v.SetUint(7)
		case *flow.Place:
			v.Set(reflect.ValueOf(&flow.Place{Country: "NL"}))
		default:
			t.Fatalf("a value for %s is missing here", name)
		}
	})
	o := flow.NewObject(all)
	o.WorkloadID()
	o.ZonedWorkloadID()
	o.SetHint(7)
	if got := o.Copy(); !reflect.DeepEqual(got, all) {
		t.Errorf("got %+v, want %+v", got, all)
	}
	for _, other := range []*flow.Object{&all, flow.NewObject(all), flow.NewObject(o.Copy()), flow.NewObject(*o)} {
		if !o.Equal(other) || !other.Equal(o) {
			t.Error("equal objects are not")
		}
		if n := other.Hint(); n != 0 {
			t.Errorf("a copy has the hint %d", n)
		}
	}
	attributesOf(&all, func(name string, v reflect.Value) {
		was := reflect.ValueOf(v.Interface())
		v.SetZero()
		if o.Equal(&all) || all.Equal(o) {
			t.Errorf("objects that differ in %s are equal", name)
		}
		v.Set(was)
	})
	if n := testing.AllocsPerRun(100, func() {
		c := o.Copy()
		_ = c.Equal(o)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The writer copies and compares objects while workers have their handles made.
func TestObjectInUse(t *testing.T) {
	o := flow.NewObject(flow.Object{Kind: "Pod", Namespace: "shop", Name: "web-1", Workload: "web", WorkloadKind: "Deployment", Zone: "b"})
	want := o.Copy()
	plain := unique.Make(flow.Workload{Namespace: "shop", Name: "web", Kind: "Deployment"})
	zoned := unique.Make(flow.Workload{Namespace: "shop", Name: "web", Kind: "Deployment", Zone: "b"})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if id := o.WorkloadID(); id != plain {
				t.Errorf("workload %+v", id.Value())
			}
			if id := o.ZonedWorkloadID(); id != zoned {
				t.Errorf("workload %+v", id.Value())
			}
			o.SetHint(uint32(i + 1))
			if n := o.Hint(); n < 1 || n > 4 {
				t.Errorf("hint %d", n)
			}
		})
		wg.Go(func() {
			if c := o.Copy(); c != want || !o.Equal(&c) {
				t.Errorf("%+v", c)
			}
		})
	}
	wg.Wait()
}

func TestWorkloadID(t *testing.T) {
	var none unique.Handle[flow.Workload]
	for _, tc := range []struct {
		name        string
		object      *flow.Object
		want, zoned flow.Workload // empty: no handle
	}{
		{"not made", &flow.Object{Workload: "web"}, flow.Workload{}, flow.Workload{}},
		{"a pod", flow.NewObject(flow.Object{Namespace: "shop", Workload: "web", WorkloadKind: "Deployment", Zone: "b"}),
			flow.Workload{Namespace: "shop", Name: "web", Kind: "Deployment"}, flow.Workload{Namespace: "shop", Name: "web", Kind: "Deployment", Zone: "b"}},
		{"without a zone", flow.NewObject(flow.Object{Workload: "n1", WorkloadKind: "Node"}), flow.Workload{Name: "n1", Kind: "Node"}, flow.Workload{Name: "n1", Kind: "Node"}},
		{"no UTF-8", flow.NewObject(flow.Object{Namespace: "a\xff", Workload: "b\xff", WorkloadKind: "c\xff", Zone: "d\xff"}),
			flow.Workload{Namespace: "a\uFFFD", Name: "b\uFFFD", Kind: "c\uFFFD"}, flow.Workload{Namespace: "a\uFFFD", Name: "b\uFFFD", Kind: "c\uFFFD", Zone: "d\uFFFD"}},
		{"a place", flow.NewObject(flow.Object{Place: &flow.Place{SubnetLabel: "office"}}), flow.Workload{Name: "office", Kind: "none"}, flow.Workload{Name: "office", Kind: "none"}},
		{"without a label", flow.NewObject(flow.Object{Place: &flow.Place{Country: "NL"}}), flow.Workload{}, flow.Workload{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for range 2 { // the second time it is there
				for _, c := range []struct {
					got  unique.Handle[flow.Workload]
					want flow.Workload
				}{{tc.object.WorkloadID(), tc.want}, {tc.object.ZonedWorkloadID(), tc.zoned}} {
					want := none
					if c.want != (flow.Workload{}) {
						want = unique.Make(c.want)
					}
					if c.got != want {
						t.Errorf("got another handle than that of %+v", c.want)
					}
				}
			}
		})
	}
}

// Handles are made once for an object, not for each record. One that nobody holds is gone with the
// next collection, and would have to be made again each time. What the runtime allocates beside that
// comes now and then, so the least of several times counts.
func TestHandlesAreKept(t *testing.T) {
	o := flow.NewObject(flow.Object{Namespace: "shop", Workload: "kept", WorkloadKind: "Deployment", Zone: "b"})
	for name, id := range map[string]func() unique.Handle[flow.Workload]{"plain": o.WorkloadID, "zoned": o.ZonedWorkloadID} {
		id()
		least := ^uint64(0)
		for range 10 {
			runtime.GC()
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			id()
			runtime.ReadMemStats(&after)
			least = min(least, after.Mallocs-before.Mallocs)
		}
		if least != 0 {
			t.Errorf("%s: %d allocations", name, least)
		}
	}
}

func BenchmarkWorkloadID(b *testing.B) {
	o := flow.NewObject(flow.Object{Namespace: "shop", Workload: "web", WorkloadKind: "Deployment", Zone: "b"})
	for name, id := range map[string]func() unique.Handle[flow.Workload]{"plain": o.WorkloadID, "zoned": o.ZonedWorkloadID} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				id()
			}
		})
	}
}
