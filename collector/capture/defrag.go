package capture

import (
	"container/list"
	"net/netip"
	"slices"
	"time"
)

// Bounds on the fragments that wait for others of their datagram.
const (
	// fragmentTimeout is how long the first of them waits, by the capture's clock.
	// It is Linux's default and half of what RFC 8200 allows.
	fragmentTimeout = 30 * time.Second
	// maxFragmentBytes bounds the memory of all of them. The oldest datagram is
	// dropped first.
	maxFragmentBytes = 4 << 20
	// What a datagram and a fragment take besides their bytes, roughly, so that
	// tiny ones are bounded too.
	datagramOverhead = 512
	fragmentOverhead = 64

	maxIPPayload = 65535
)

// fragmentKey identifies the datagram of a fragment (RFC 791, 3.2; RFC 8200, 4.5).
type fragmentKey struct {
	src, dst netip.Addr
	id       uint32
	proto    byte // in IPv4
}

// fragmentOf is one fragment as it comes in.
type fragmentOf struct {
	key    fragmentKey
	proto  byte // of what the first fragment begins with
	offset int  // in bytes
	more   bool // it is not the last
	data   []byte
}

// reassembler puts the fragments of datagrams together.
type reassembler struct {
	partial map[fragmentKey]*partial
	order   list.List // of the same *partial, oldest first
	bytes   int
	out     []byte
	// dropped counts the datagrams that were given up without all of their fragments.
	dropped uint64
}

// incomplete returns how many datagrams lack fragments so far, those that wait included.
func (r *reassembler) incomplete() uint64 { return r.dropped + uint64(len(r.partial)) }

// partial is a datagram of which fragments are missing.
type partial struct {
	key   fragmentKey
	place *list.Element
	began time.Time
	frags []piece // by offset, without overlap
	proto byte
	have  int // bytes
	total int // -1 until the last fragment came
}

// cost is the datagram's part of reassembler.bytes.
func (d *partial) cost() int {
	return datagramOverhead + len(d.frags)*fragmentOverhead + d.have
}

type piece struct {
	offset int
	data   []byte
}

// add takes a fragment. If it completes its datagram, add returns whole and
// what was fragmented, valid until the next call.
func (r *reassembler) add(now time.Time, f *fragmentOf) (proto byte, data []byte, v outcome) {
	end := f.offset + len(f.data)
	if len(f.data) == 0 || end > maxIPPayload || f.more && len(f.data)%8 != 0 {
		return 0, nil, malformed
	}
	for r.order.Len() > 0 && now.Sub(r.oldest().began).Abs() > fragmentTimeout {
		r.drop(r.oldest())
	}
	d := r.partial[f.key]
	if d == nil {
		if r.partial == nil {
			r.partial = make(map[fragmentKey]*partial)
		}
		d = &partial{key: f.key, began: now, total: -1}
		d.place = r.order.PushBack(d)
		r.partial[f.key] = d
		r.bytes += d.cost()
	}
	before := d.cost()
	ok := d.insert(f, end)
	r.bytes += d.cost() - before
	if !ok {
		// Fragments that contradict each other make no datagram; receivers
		// drop them all (RFC 5722).
		r.drop(d)
		return 0, nil, malformed
	}
	if d.have == d.total {
		r.out = r.out[:0]
		for _, piece := range d.frags {
			r.out = append(r.out, piece.data...)
		}
		r.drop(d)
		r.dropped--
		return d.proto, r.out, whole
	}
	for r.bytes > maxFragmentBytes {
		r.drop(r.oldest())
	}
	return 0, nil, fragment
}

func (r *reassembler) oldest() *partial { return r.order.Front().Value.(*partial) }

func (r *reassembler) drop(d *partial) {
	r.dropped++
	r.bytes -= d.cost()
	r.order.Remove(d.place)
	delete(r.partial, d.key)
}

// insert keeps a copy of a fragment, unless the same one is there. It returns false
// if the fragment contradicts another.
func (d *partial) insert(f *fragmentOf, end int) bool {
	at, _ := slices.BinarySearchFunc(d.frags, f.offset, func(p piece, offset int) int { return p.offset - offset })
	if at < len(d.frags) && d.frags[at].offset == f.offset && len(d.frags[at].data) == len(f.data) {
		return true // the same once more
	}
	if at > 0 {
		if before := d.frags[at-1]; before.offset+len(before.data) > f.offset {
			return false
		}
	}
	if at < len(d.frags) && d.frags[at].offset < end || d.total >= 0 && end > d.total {
		return false
	}
	if !f.more {
		if d.total >= 0 && d.total != end || len(d.frags) > at {
			return false
		}
		d.total = end
	}
	if f.offset == 0 {
		d.proto = f.proto
	}
	d.frags = slices.Insert(d.frags, at, piece{f.offset, slices.Clone(f.data)})
	d.have += len(f.data)
	return true
}
