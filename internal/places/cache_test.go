package places

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// A cache has what was added last of each set, and never the number of another key.
func TestCache(t *testing.T) {
	var c cache[uint32]
	if _, ok := c.find(0, 0); ok {
		t.Error("an empty cache knows an address")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for i := range uint32(200_000) {
		key := rnd.Uint32N(40_000) // 0 as well
		n, ok := c.find(uint64(key), key)
		switch {
		case !ok:
			c.add(uint64(key), key, key*3)
		case n != key*3:
			t.Fatalf("%d has the number %d", key, n)
		default:
			found++
		}
		if n, ok := c.find(uint64(key), key); !ok || n != key*3 {
			t.Fatalf("%d has the number %d after it was added in step %d", key, n, i)
		}
	}
	// With as many addresses as that, a set of eight is rarely too small.
	if found < 100_000 {
		t.Errorf("%d of 200,000 were found", found)
	}
	// Those of one hash push each other out, the oldest first.
	for key := range uint32(cacheWays + 1) {
		c.add(7, 1<<20+key, key)
	}
	for key := range uint32(cacheWays + 1) {
		if n, ok := c.find(7, 1<<20+key); ok != (key > 0) || ok && n != key {
			t.Errorf("%d of one hash: %d, %v", key, n, ok)
		}
	}
	// Both halves of an address of IPv6 tell.
	var six cache[[2]uint64]
	for i := range uint64(4) {
		six.add(9, [2]uint64{i / 2, i % 2}, uint32(i))
	}
	for i := range uint64(4) {
		if n, ok := six.find(9, [2]uint64{i / 2, i % 2}); !ok || uint64(n) != i {
			t.Errorf("%d: %d, %v", i, n, ok)
		}
	}
}

// Addresses at a regular distance from each other spread over a cache as random ones do: of
// 10,000 random ones 5 have no room, by Poisson's distribution.
func TestSpread(t *testing.T) {
	const addresses, most = 10_000, 50
	for _, step := range []uint32{1, 2, 4, 16, 64, 256, 1024, 4096, 1 << 16, 1 << 18, 3, 10, 100, 1000, 1449, 10_000, 69_495} {
		var c cache[uint32]
		missed := fill(&c, hash4, addresses, func(i uint64) uint32 { return 10<<24 + uint32(i)*step })
		if missed > most {
			t.Errorf("IPv4, %d from one to the next: %d of %d have no room", step, missed, addresses)
		}
	}
	const network = 0x20010db8_00000000 // 2001:db8::
	for shift := range 50 {
		for name, key := range map[string]func(i uint64) [2]uint64{
			"first hosts":    func(i uint64) [2]uint64 { return [2]uint64{network + i<<shift, 1} },
			"routers":        func(i uint64) [2]uint64 { return [2]uint64{network + i<<shift, 0} },
			"hosts":          func(i uint64) [2]uint64 { return [2]uint64{network, i << shift} },
			"small networks": func(i uint64) [2]uint64 { return [2]uint64{network + i/100<<shift, i % 100} },
			"same in both":   func(i uint64) [2]uint64 { return [2]uint64{network + i<<shift, i} },
		} {
			var c cache[[2]uint64]
			if missed := fill(&c, hash6, addresses, key); missed > most {
				t.Errorf("IPv6, %s, networks of %d bits: %d of %d have no room", name, 64-shift, missed, addresses)
			}
		}
	}
}

// fill adds addresses to a cache, and returns how many of them are not in it afterwards.
func fill[K comparable](c *cache[K], hash func(K) uint64, addresses uint64, key func(i uint64) K) (missed int) {
	for i := range addresses {
		c.add(hash(key(i)), key(i), uint32(i))
	}
	for i := range addresses {
		if n, ok := c.find(hash(key(i)), key(i)); !ok || n != uint32(i) {
			missed++
		}
	}
	return missed
}

// A stage that has more places than it remembers begins anew, and never names the wrong place.
func TestManyPlaces(t *testing.T) {
	list, as := []byte(nil), map[string]mmdbtype.Map{}
	for i := range 160 {
		list = append(list, "1."+strconv.Itoa(i)+".0.0/16: label"+strconv.Itoa(i)+"\n"...)
	}
	for i := range 160 {
		for k := range 128 {
			as["1."+strconv.Itoa(i)+"."+strconv.Itoa(2*k)+".0/24"] = asn(uint32(1000*i+k+1), "Org")
		}
	}
	dir := t.TempDir()
	l, _ := newLookup(t, Config{Networks: put(t, filepath.Join(dir, "n"), list), GeoIP: []string{put(t, filepath.Join(dir, "a"), makeDatabase(t, "ASN", as))}})
	s := l.NewStage(new(sink))
	most := 0
	for range 2 {
		for i := range 160 {
			for k := range 128 {
				r := new(flow.Record)
				r.Msg.SrcAddr = []byte{1, byte(i), byte(2 * k), 9}
				s.HandleFlow(r)
				if r.Msg.SrcAs != uint32(1000*i+k+1) || r.Ends[0].Attr(flow.AttrSubnetLabel) != "label"+strconv.Itoa(i) {
					t.Fatalf("1.%d.%d.9: AS %d, %q", i, 2*k, r.Msg.SrcAs, r.Ends[0].Attr(flow.AttrSubnetLabel))
				}
				most = max(most, len(s.places))
			}
		}
	}
	if most != maxPlaces {
		t.Errorf("%d places at most, %d may be", most, maxPlaces)
	}
}
