package places

import (
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"weak"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// Databases of cities have a record for each city, and most of them say nothing new of the
// country. More records than a stage remembers don't make it look up again what it knows.
func TestManyRecords(t *testing.T) {
	const addresses = maxCombinations + 3000
	for name, record := range map[string]func(i int) mmdbtype.Map{
		"three countries": func(i int) mmdbtype.Map {
			m := country([]string{"DE", "FR", "NL"}[i%3])
			m["city"] = mmdbtype.Uint32(i)
			return m
		},
		"no country": func(i int) mmdbtype.Map { return mmdbtype.Map{"city": mmdbtype.Uint32(i)} },
	} {
		records := map[string]mmdbtype.Map{}
		for i := range addresses {
			records["1."+strconv.Itoa(i/256)+"."+strconv.Itoa(i%256)+".0/24"] = record(i)
		}
		l, _ := newLookup(t, Config{GeoIP: []string{put(t, filepath.Join(t.TempDir(), "c"), makeDatabase(t, "City", records))}})
		s := l.NewStage(new(sink))
		r := new(flow.Record)
		r.Msg.SrcAddr = make([]byte, 4)
		most := 0
		round := func() {
			for i := range addresses {
				r.Ends[0] = flow.End{}
				copy(r.Msg.SrcAddr, []byte{1, byte(i >> 8), byte(i), 9})
				s.HandleFlow(r)
				want, _ := record(i)["country"].(mmdbtype.Map)
				code, _ := want["iso_code"].(mmdbtype.String)
				if got := r.Ends[0].Attr(flow.AttrCountry); got != string(code) {
					t.Fatalf("%s: address %d is in %q, want %q", name, i, got, code)
				}
				most = max(most, len(s.index))
			}
		}
		round()
		if most != maxCombinations {
			t.Errorf("%s: %d combinations at most, %d may be", name, most, maxCombinations)
		}
		if len(s.places) > 4 {
			t.Errorf("%s: %d places", name, len(s.places))
		}
		round() // some addresses are in each other's way in the cache
		want := testing.AllocsPerRun(1, func() {
			for i := range addresses {
				_ = record(i)
			}
		})
		if n := testing.AllocsPerRun(1, round); n > want+100 && !race.Enabled {
			t.Errorf("%s: %v allocations for %d records that were there before", name, n-want, addresses)
		}
	}
}

// A worker without records does not keep tables in memory that were replaced.
func TestIdleStage(t *testing.T) {
	name := put(t, filepath.Join(t.TempDir(), "n"), []byte("10.0.0.0/8: office\n"))
	l, _ := newLookup(t, Config{Networks: name})
	s := l.NewStage(new(sink))
	if got := describe(s, "10.0.0.1"); got != "office|||0|none" {
		t.Error(got)
	}
	old := weak.Make(l.tables.Load())
	put(t, name, []byte("10.0.0.0/8: lab\n"))
	l.renew(true)
	runtime.GC()
	if old.Value() != nil {
		t.Error("the old tables are still there")
	}
	if got := describe(s, "10.0.0.1"); got != "lab|||0|none" {
		t.Error(got)
	}
}

// docs/places.md says how much memory a worker takes at most: with all places and combinations
// that it may remember, and all addresses.
func TestStageMemory(t *testing.T) {
	const most = 11_000_000
	records := map[string]mmdbtype.Map{}
	for i := range maxPlaces - 1 {
		name := "An organization with a name of forty" + strconv.Itoa(10_000+i)
		records["1."+strconv.Itoa(i/256)+"."+strconv.Itoa(i%256)+".0/24"] = asn(uint32(i+1), name)
	}
	l, _ := newLookup(t, Config{GeoIP: []string{put(t, filepath.Join(t.TempDir(), "a"), makeDatabase(t, "ASN", records))}})
	clear(records)
	r := new(flow.Record)
	r.Msg.SrcAddr, r.Msg.DstAddr = make([]byte, 4), make([]byte, 16)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	s := l.NewStage(new(sink))
	for i := range maxPlaces - 1 {
		r.Ends = [flow.MaxEnds]flow.End{}
		copy(r.Msg.SrcAddr, []byte{1, byte(i >> 8), byte(i), 9})
		s.HandleFlow(r)
	}
	took := heap() - before
	t.Logf("%d places and %d combinations take %d bytes", len(s.places), len(s.index), took)
	if len(s.places) != maxPlaces || s.v4.sets == nil || s.v6.sets == nil {
		t.Errorf("%d places; %d may be", len(s.places), maxPlaces)
	}
	if took > most && !race.Enabled {
		t.Errorf("a worker takes %d bytes; docs/places.md says %d", took, most)
	}
	runtime.KeepAlive(r)
}
