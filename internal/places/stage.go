package places

import (
	"encoding/binary"
	"net/netip"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	// maxPlaces bounds the different places that a worker remembers.
	maxPlaces = 1 << 14
	// maxCombinations bounds the records of databases of which a worker remembers the place.
	maxCombinations = 1 << 14
)

// place is what is known of some addresses.
type place struct {
	object *flow.Object // nil if nothing is known of them
	// as is the ASNumber of the object's Place. It is here as well, since each record needs it
	// and Place is a cache line that nothing else of a record may need.
	as uint32
}

// combination is a place by where its parts are.
type combination struct {
	label   int32                // -1 for none
	offsets [maxDatabases]uint32 // of the databases' records
}

// Stage names the ends of a worker's records that nobody in the cluster has. It is a
// [flow.Handler], used by one goroutine at a time.
type Stage struct {
	l       *Lookup
	next    flow.Handler
	mapping []flow.MapEntry
	alone   bool // no stage before has filled in the Ends

	// made is the number of the tables that the rest was made from; 0 before the first record.
	// The tables themselves are not kept: a worker may be idle for days, and a database is large.
	made uint64
	// v4 and v6 have an index of places for each address that was looked up lately.
	v4     cache[uint32]
	v6     cache[[2]uint64] // the upper half first
	places []place          // the first one is that of addresses of which nothing is known
	// numbers and index find a place in places: by what it is, and by where it is written.
	// Databases of cities have many records for one country.
	numbers map[flow.Place]uint32
	index   map[combination]uint32
}

// NewStage makes a worker's stage that passes its records on to next.
func (l *Lookup) NewStage(next flow.Handler) *Stage {
	return &Stage{l: l, next: next, mapping: l.cfg.Mapping, alone: l.cfg.Alone}
}

// Idle implements [flow.Handler].
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }

// HandleFlow implements [flow.Handler]. It does not keep r.
func (s *Stage) HandleFlow(r *flow.Record) {
	t := s.l.tables.Load()
	if t.number != s.made {
		s.made = t.number
		s.forget()
	}
	for i := range s.mapping {
		end := &r.Ends[i]
		if s.alone {
			*end = flow.End{}
		} else if end.Object != nil {
			continue
		}
		field := s.mapping[i].Field
		n := s.find(t, r.Bytes(field))
		p := &s.places[n]
		end.Object = p.object
		switch {
		case field == flow.FieldSrcAddr && r.Msg.SrcAs == 0:
			r.Msg.SrcAs = p.as
		case field == flow.FieldDstAddr && r.Msg.DstAs == 0:
			r.Msg.DstAs = p.as
		}
	}
	s.next.HandleFlow(r)
}

// forget empties what was remembered.
func (s *Stage) forget() {
	s.v4.sets, s.v6.sets = nil, nil
	s.places, s.numbers = []place{{}}, map[flow.Place]uint32{{}: 0}
	s.index = make(map[combination]uint32)
}

// find returns the index of the place of an address.
func (s *Stage) find(t *tables, addr []byte) uint32 {
	switch len(addr) {
	case 4:
		key := binary.BigEndian.Uint32(addr)
		hash := hash4(key)
		i, ok := s.v4.find(hash, key)
		if !ok {
			i = s.look(t, netip.AddrFrom4([4]byte(addr)))
			s.v4.add(hash, key, i)
		}
		return i
	case 16:
		key := [2]uint64{binary.BigEndian.Uint64(addr), binary.BigEndian.Uint64(addr[8:])}
		hash := hash6(key)
		i, ok := s.v6.find(hash, key)
		if !ok {
			i = s.look(t, netip.AddrFrom16([16]byte(addr)).Unmap())
			s.v6.add(hash, key, i)
		}
		return i
	}
	return 0
}

// look finds an address in the tables, and returns the index of its place.
func (s *Stage) look(t *tables, a netip.Addr) uint32 {
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
		return 0
	}
	if i, ok := s.index[key]; ok {
		return i
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
	i := s.number(p)
	if len(s.index) >= maxCombinations {
		clear(s.index)
	}
	s.index[key] = i
	return i
}

// number returns the index of a place. If there are too many places, all are forgotten: the
// caches have their indexes.
func (s *Stage) number(p flow.Place) uint32 {
	if i, ok := s.numbers[p]; ok {
		return i
	}
	if len(s.places) >= maxPlaces {
		s.forget()
	}
	i := uint32(len(s.places))
	o := flow.NewPlace(p)
	s.places = append(s.places, place{o, p.ASNumber})
	s.numbers[*o.Place] = i // whose texts are the object's
	return i
}
