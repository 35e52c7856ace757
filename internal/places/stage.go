package places

import (
	"encoding/binary"
	"net/netip"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// cacheSets and cacheWays say how many addresses a worker remembers: in as many sets,
	// of which an address may be in one. If each had but one place, half of 10,000
	// addresses would be in the way of others. cacheSets is a power of two.
	cacheBits = 13
	cacheSets = 1 << cacheBits
	cacheWays = 4
	// maxObjects bounds the different places that a worker remembers.
	maxObjects = 1 << 14
)

// slot has what is known of an address.
type slot struct {
	high, low uint64       // the address as IPv6
	object    *flow.Object // nil if the slot is free, nobody if nothing is known
}

// nobody stands for an address of which nothing is known.
var nobody = new(flow.Object)

// set has the addresses of one hash, the newest first.
type set [cacheWays]slot

// combination is a place by where its parts are.
type combination struct {
	label   int32 // -1 for none
	offsets [maxDatabases]uintptr
}

// Stage names the ends of a worker's records that nobody in the cluster has. It is a
// [flow.Handler], used by one goroutine at a time.
type Stage struct {
	l    *Lookup
	next flow.Handler

	tables  *tables // that the rest was made from
	cache   []set   // by a hash of the address; nil before the first one
	objects map[combination]*flow.Object
}

// NewStage makes a worker's stage that passes its records on to next.
func (l *Lookup) NewStage(next flow.Handler) *Stage { return &Stage{l: l, next: next} }

// Idle implements [flow.Handler].
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }

// HandleFlow implements [flow.Handler]. It does not keep r.
func (s *Stage) HandleFlow(r *flow.Record) {
	if t := s.l.tables.Load(); t != s.tables {
		s.tables = t
		s.cache, s.objects = make([]set, cacheSets), make(map[combination]*flow.Object)
	}
	for i, m := range s.l.cfg.Mapping {
		end := &r.Ends[i]
		if s.l.cfg.Alone {
			*end = flow.End{}
		} else if end.Object != nil {
			continue
		}
		if end.Object = s.find(r.Bytes(m.Field)); end.Object == nil {
			continue
		}
		as := end.Object.Place.ASNumber
		switch {
		case m.Field == flow.FieldSrcAddr && r.Msg.SrcAs == 0:
			r.Msg.SrcAs = as
		case m.Field == flow.FieldDstAddr && r.Msg.DstAs == 0:
			r.Msg.DstAs = as
		}
	}
	s.next.HandleFlow(r)
}

// find returns what is known of an address, nil for nothing.
func (s *Stage) find(addr []byte) *flow.Object {
	var high, low uint64
	switch len(addr) {
	case 4:
		low = 0xffff<<32 | uint64(binary.BigEndian.Uint32(addr))
	case 16:
		high, low = binary.BigEndian.Uint64(addr), binary.BigEndian.Uint64(addr[8:])
	default:
		return nil
	}
	// Fibonacci hashing: the upper bits of the product depend on all of both numbers.
	c := &s.cache[((high*0x9e3779b97f4a7c15^low)*0x9e3779b97f4a7c15)>>(64-cacheBits)%cacheSets]
	for i := range c {
		if slot := &c[i]; slot.low == low && slot.high == high && slot.object != nil {
			return known(slot.object)
		}
	}
	copy(c[1:], c[:])
	a, _ := netip.AddrFromSlice(addr)
	c[0] = slot{high, low, s.look(a.Unmap())}
	if c[0].object == nil {
		c[0].object = nobody
	}
	return known(c[0].object)
}

// known returns the object of a slot, nil for nobody.
func known(o *flow.Object) *flow.Object {
	if o == nobody {
		return nil
	}
	return o
}

// look finds an address in the tables.
func (s *Stage) look(a netip.Addr) *flow.Object {
	t := s.tables
	key := combination{label: -1}
	known := false
	if t.networks != nil {
		if i, ok := t.networks.table.Lookup(a); ok {
			key.label, known = i, true
		}
	}
	for i, d := range t.databases {
		key.offsets[i] = d.find(a)
		known = known || key.offsets[i] != none
	}
	if !known {
		return nil
	}
	if o, ok := s.objects[key]; ok {
		return o
	}
	var p flow.Place
	if key.label >= 0 {
		p.SubnetLabel = t.networks.labels[key.label]
	}
	for i, d := range t.databases {
		if key.offsets[i] != none {
			if err := d.read(key.offsets[i], &p); err != nil {
				s.l.damaged(err)
			}
		}
	}
	var o *flow.Object
	if p != (flow.Place{}) {
		o = flow.NewObject(flow.Object{Place: &p})
	}
	if len(s.objects) >= maxObjects {
		clear(s.objects)
	}
	s.objects[key] = o
	return o
}
