package capture

import (
	"context"
	"encoding/binary"
	"math/bits"
	"time"
)

// The types of pcapng blocks (draft-ietf-opsawg-pcapng) that matter here; all
// others are skipped.
const (
	ngSectionHeader        = 0x0a0d0d0a
	ngInterfaceDescription = 1
	ngObsoletePacket       = 2
	ngSimplePacket         = 3
	ngEnhancedPacket       = 6
)

const (
	ngByteOrder = 0x1a2b3c4d

	ngOptionEnd      = 0
	ngOptionTsresol  = 9
	ngOptionTsoffset = 14

	// maxInterfaces bounds what interface descriptions alone can grow. The
	// obsolete packet block could not number more.
	maxInterfaces = 1 << 16
)

// ngInterface is one interface of a pcapng section.
type ngInterface struct {
	link    uint16
	snapLen uint32
	unit    uint64 // ticks in a second
	offset  int64  // seconds to add
}

// time converts a pcapng timestamp, exactly but for parts of nanoseconds.
func (i *ngInterface) time(ticks uint64) time.Time {
	hi, lo := bits.Mul64(ticks%i.unit, 1e9)
	nanos, _ := bits.Div64(hi, lo, i.unit)
	return time.Unix(int64(ticks/i.unit)+i.offset, int64(nanos))
}

// ngReader is the state of reading a pcapng file.
type ngReader struct {
	in     *input
	p      *parser
	order  binary.ByteOrder
	ifaces []ngInterface
}

// readPcapng hands the packets of a pcapng file to p.
func readPcapng(ctx context.Context, in *input, p *parser) error {
	r := ngReader{in: in, p: p, order: binary.LittleEndian}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !in.begin() {
			return nil
		}
		if err := r.readBlock(); err != nil {
			return err
		}
	}
}

// readBlock reads one block with all it holds.
func (r *ngReader) readBlock() error {
	const frame = 12 // type, length, and the length again at the end
	b, err := r.in.peek(frame)
	if err != nil {
		return err
	}
	if r.order.Uint32(b) == ngSectionHeader { // reads the same in either order
		if err := r.section(b[8:]); err != nil {
			return err
		}
	}
	kind, length := r.order.Uint32(b), r.order.Uint32(b[4:])
	if length < frame || length%4 != 0 {
		return r.in.errorf("a block's length cannot be %d", length)
	}
	if err := r.in.skip(8); err != nil {
		return err
	}
	body := length - frame
	var used int
	switch kind {
	case ngSectionHeader:
		used, err = r.version(body)
	case ngInterfaceDescription:
		used, err = r.describe(body)
	case ngEnhancedPacket, ngObsoletePacket:
		used, err = r.packet(kind, body)
	case ngSimplePacket:
		used, err = r.simple(body)
	}
	if err != nil {
		return err
	}
	if err := r.in.skip(int64(body) - int64(used)); err != nil {
		return err
	}
	end, err := r.in.peek(4)
	if err != nil {
		return err
	}
	if again := r.order.Uint32(end); again != length {
		return r.in.errorf("a block's length is %d at its begin and %d at its end", length, again)
	}
	return r.in.skip(4)
}

// section begins a section, which has its own byte order and interfaces.
func (r *ngReader) section(magic []byte) error {
	switch {
	case binary.LittleEndian.Uint32(magic) == ngByteOrder:
		r.order = binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == ngByteOrder:
		r.order = binary.BigEndian
	default:
		return r.in.errorf("no byte order is written as %x", magic)
	}
	r.ifaces = r.ifaces[:0]
	return nil
}

// The methods below read the body of a block and return how many of its bytes
// they have consumed.

func (r *ngReader) version(body uint32) (int, error) {
	b, err := r.fixed(body, 16)
	if err != nil {
		return 0, err
	}
	if major, minor := r.order.Uint16(b[4:]), r.order.Uint16(b[6:]); major != 1 {
		return 0, r.in.errorf("pcapng version %d.%d is not supported", major, minor)
	}
	return 0, nil
}

func (r *ngReader) describe(body uint32) (int, error) {
	const fixed = 8
	b, err := r.fixed(body, fixed)
	if err != nil {
		return 0, err
	}
	if len(r.ifaces) == maxInterfaces {
		return 0, r.in.errorf("more than %d interfaces", maxInterfaces)
	}
	i := ngInterface{link: r.order.Uint16(b), snapLen: r.order.Uint32(b[4:]), unit: 1e6}
	// Whatever comes first in a list of options longer than this, it is enough.
	if b, err = r.in.peek(int(min(body, maxPacket))); err != nil {
		return 0, err
	}
	for b = b[fixed:]; len(b) >= 4; {
		code, length := r.order.Uint16(b), int(r.order.Uint16(b[2:]))
		padded := 4 + (length+3)&^3
		if code == ngOptionEnd || padded > len(b) {
			break
		}
		switch value := b[4 : 4+length]; {
		case code == ngOptionTsresol && length == 1:
			if i.unit = ticks(value[0]); i.unit == 0 {
				return 0, r.in.errorf("time resolution %#x is not supported", value[0])
			}
		case code == ngOptionTsoffset && length == 8:
			i.offset = int64(r.order.Uint64(value))
		}
		b = b[padded:]
	}
	r.ifaces = append(r.ifaces, i)
	return 0, nil
}

// ticks returns how many ticks a second has by option if_tsresol: 2 or 10 to a
// power. It returns 0 if a uint64 cannot hold that.
func ticks(resolution byte) uint64 {
	power := resolution & 0x7f
	if resolution&0x80 != 0 {
		return 1 << power // 0 from 2^64 on
	}
	if power > 19 {
		return 0
	}
	unit := uint64(1)
	for range power {
		unit *= 10
	}
	return unit
}

func (r *ngReader) packet(kind, body uint32) (int, error) {
	const fixed = 20
	b, err := r.fixed(body, fixed)
	if err != nil {
		return 0, err
	}
	id := r.order.Uint32(b)
	if kind == ngObsoletePacket {
		id = uint32(r.order.Uint16(b)) // the other half counts drops
	}
	if id >= uint32(len(r.ifaces)) {
		return 0, r.in.errorf("a packet of interface %d, of which there is no description", id)
	}
	i := &r.ifaces[id]
	t := i.time(uint64(r.order.Uint32(b[4:]))<<32 | uint64(r.order.Uint32(b[8:])))
	captured, length := r.order.Uint32(b[12:]), r.order.Uint32(b[16:])
	if captured > body-fixed {
		return 0, r.in.errorf("a packet of %d bytes in a block with room for %d", captured, body-fixed)
	}
	return r.data(t, i, fixed, captured, length)
}

func (r *ngReader) simple(body uint32) (int, error) {
	const fixed = 4
	b, err := r.fixed(body, fixed)
	if err != nil {
		return 0, err
	}
	if len(r.ifaces) == 0 {
		return 0, r.in.errorf("a packet before the description of its interface")
	}
	i := &r.ifaces[0]
	length := r.order.Uint32(b)
	captured := min(length, body-fixed)
	if i.snapLen > 0 {
		captured = min(captured, i.snapLen)
	}
	// Such packets have no time; that of the packet before is the nearest.
	return r.data(r.p.last, i, fixed, captured, length)
}

// data reads the packet after the fixed part of a block.
func (r *ngReader) data(t time.Time, i *ngInterface, fixed int, captured, length uint32) (int, error) {
	if captured > maxPacket {
		return 0, r.in.errorf("a packet of %d bytes is longer than any", captured)
	}
	b, err := r.in.peek(fixed + int(captured))
	if err != nil {
		return 0, err
	}
	r.p.packet(t, i.link, b[fixed:], captured < length)
	return len(b), r.in.skip(int64(len(b)))
}

// fixed returns the first n bytes of a block's body, unconsumed.
func (r *ngReader) fixed(body uint32, n int) ([]byte, error) {
	if body < uint32(n) {
		return nil, r.in.errorf("a block of %d bytes is too short for its type", body+12)
	}
	return r.in.peek(n)
}
