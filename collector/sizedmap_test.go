package collector

import (
	"maps"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// heapGrowth returns by how many bytes f makes the live heap grow.
func heapGrowth(f func()) int64 {
	live := func() int64 {
		runtime.GC()
		runtime.GC() // what a pool held through the first
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	f()
	return live() - before
}

// TestSizedMap does the same with a sizedMap and a Go map.
func TestSizedMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, keys := range []int{1, 3, 4, 10, 1000} {
		var m sizedMap[uint32, int]
		want := make(map[uint32]int)
		for i := range 20_000 {
			k := uint32(rnd.IntN(keys) + 1)
			switch predicted := m.bytesWithOneMore(); {
			case rnd.IntN(5000) < (i/1000%5)*1000:
				_, known := want[k]
				m.put(k, i)
				want[k] = i
				if !known && m.bytes() != predicted {
					t.Fatalf("%d bytes, predicted %d", m.bytes(), predicted)
				}
			default:
				m.delete(k)
				delete(want, k)
			}
			k = uint32(rnd.IntN(keys) + 1)
			v, ok := want[k]
			if got := m.get(k); (got != nil) != ok || ok && *got != v {
				t.Fatalf("%d: got %v, want %d, %v", k, got, v, ok)
			}
			if m.len() != len(want) {
				t.Fatalf("%d entries, want %d", m.len(), len(want))
			}
		}
		if got := maps.Collect(m.all()); !maps.Equal(got, want) {
			t.Errorf("%d entries, want %d", len(got), len(want))
		}
		for k := range want {
			m.delete(k)
		}
		if m.bytes() != 0 {
			t.Errorf("an empty map takes %d bytes", m.bytes())
		}
	}
}

// TestSizedMapReturnsMemory fills a map and empties it, and has keys come and go.
func TestSizedMapReturnsMemory(t *testing.T) {
	var m sizedMap[int, int]
	for i := range 100_000 {
		m.put(i+1, i)
	}
	for i := range 99_000 {
		m.delete(i + 1)
	}
	if n := len(m.slots); n > 8*1000 {
		t.Errorf("%d slots for %d entries", n, m.len())
	}
	before := m.bytes()
	for i := range 1_000_000 {
		m.delete(99_000 + i + 1)
		m.put(100_000+i+1, i)
	}
	if m.bytes() != before {
		t.Errorf("%d bytes, %d before keys came and went", m.bytes(), before)
	}
}

// TestVictim looks at a few entries of many, and at different ones each time.
func TestVictim(t *testing.T) {
	var m sizedMap[int, int]
	less := func(a, b int) bool { return a < b }
	if _, _, ok := victim(m.all(), less); ok {
		t.Error("a victim in an empty map")
	}
	m.put(5, 50)
	if k, v, ok := victim(m.all(), less); k != 5 || v != 50 || !ok {
		t.Error(k, v, ok)
	}
	for i := range 1000 {
		m.put(i+1, i)
	}
	looked, chosen := 0, make(map[int]bool)
	for range 1000 {
		k, v, _ := victim(m.all(), func(a, b int) bool { looked++; return a < b })
		if k != v+1 {
			t.Fatal(k, v)
		}
		chosen[k] = true
	}
	if looked != 1000*(evictionChoice-1) || len(chosen) < 20 {
		t.Errorf("%d comparisons, %d different victims", looked, len(chosen))
	}
}

// TestAllocated holds what sizes of objects are taken for to what they are.
func TestAllocated(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector takes memory, too")
	}
	type pointers [8]*int
	for _, slots := range []int{4, 16, 64, 128, 256, 512, 1024, 4096} {
		const objects = 64
		var kept [objects]any
		grown := heapGrowth(func() {
			for i := range kept {
				kept[i] = make([]pointers, slots)
			}
		})
		n := int64(slots) * 64
		if each := grown / objects; each > allocated(n)*21/20 || allocated(n) > each*5/4 {
			t.Errorf("%d slots take %d bytes, taken for %d", slots, each, allocated(n))
		}
		runtime.KeepAlive(kept)
	}
}
