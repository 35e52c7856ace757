package recent

import (
	"encoding/binary"
	"slices"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// A packed record is, with offsets in bytes:
//
//	0   length of all, 4 bytes
//	4   time of receipt, 8 bytes
//	12  flags of flow.Extra
//	13  for each entry of the mapping: status, and where the segment has the object (2 bytes)
//	..  which fields of variable length there are, 8 bytes
//	..  which words of the numbers differ from those of the segment's first record, 8 bytes
//	..  these words, each as its difference, 4 bytes
//	..  the fields of variable length, each with its length
//
// Numbers are little endian. All that the table of fields decides about is in
// pack_gen.go.
const (
	offReceived = 4
	offFlags    = 12
	offEnds     = 13
	endSize     = 3
	maskSize    = 8
	wordSize    = 4

	// maxUvarint is the longest form of the numbers that are packed one by one, which have
	// 32 bits at most.
	maxUvarint = binary.MaxVarintLen32
	// slack is how many bytes after a record may be written.
	slack = 8
	// maxWords bounds the words of the numbers: each is a bit of a mask.
	maxWords = 64
)

// maxFixed is the length of a packed record without its fields of variable length, at
// most.
const maxFixed = offEnds + endSize*flow.MaxEnds + 2*maskSize + wordSize*numWords + slack

// notZero is 1 if v is not 0. There is no branch, and so none that is foretold wrongly.
func notZero(v uint32) uint64 { return (uint64(v) + 1<<32 - 1) >> 32 }

// The flags of a record.
const (
	flagHasStart = 1 << iota
	flagHasEnd
	flagHasDirection
	flagHasICMP
	flagScaled
	flagDuplicate
	flagFromTunnel
	flagSampled
)

func flagsOf(x *flow.Extra) (f byte) {
	return bit(x.HasStart)*flagHasStart | bit(x.HasEnd)*flagHasEnd | bit(x.HasDirection)*flagHasDirection |
		bit(x.HasICMP)*flagHasICMP | bit(x.Scaled)*flagScaled | bit(x.Duplicate)*flagDuplicate |
		bit(x.FromTunnel)*flagFromTunnel | bit(x.Sampled)*flagSampled
}

func setFlags(x *flow.Extra, f byte) {
	x.HasStart, x.HasEnd = f&flagHasStart != 0, f&flagHasEnd != 0
	x.HasDirection, x.HasICMP = f&flagHasDirection != 0, f&flagHasICMP != 0
	x.Scaled, x.Duplicate = f&flagScaled != 0, f&flagDuplicate != 0
	x.FromTunnel, x.Sampled = f&flagFromTunnel != 0, f&flagSampled != 0
}

// bit is 1 for true. The compiler makes it a move.
func bit(b bool) (n byte) {
	if b {
		n = 1
	}
	return n
}

// fold makes small numbers of small differences of either sign.
func fold(d uint64) uint64 { return d<<1 ^ uint64(int64(d)>>63) }

func unfold(v uint64) uint64 { return v>>1 ^ -(v & 1) }

// appendBytes appends v with its length. b has room for it.
func appendBytes(b, v []byte) []byte {
	n := len(b)
	if len(v) == 4 { // an address, most often
		b = b[:n+5]
		b[n] = 4
		binary.LittleEndian.PutUint32(b[n+1:], binary.LittleEndian.Uint32(v))
		return b
	}
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func takeBytes(b []byte) (v, rest []byte) {
	n, b := takeUint(b)
	if n == 0 {
		return nil, b
	}
	return b[:n:n], b[n:]
}

// takeUint reads a number that appendBytes and the others have written.
func takeUint(b []byte) (v uint32, rest []byte) {
	if b[0] < 0x80 {
		return uint32(b[0]), b[1:]
	}
	long, n := binary.Uvarint(b)
	return uint32(long), b[n:]
}

func appendUints(b []byte, list []uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return b
}

func appendLayers(b []byte, list []flowpb.FlowMessage_LayerStack) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = binary.AppendUvarint(b, uint64(uint32(v)))
	}
	return b
}

func appendAddrs(b []byte, list [][]byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, v := range list {
		b = appendBytes(b, v)
	}
	return b
}

func addrsSize(list [][]byte) int {
	n := maxUvarint
	for _, v := range list {
		n += maxUvarint + len(v)
	}
	return n
}

func appendElements(b []byte, list []flow.ElementValue) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for i := range list {
		b = appendBytes(append(b, list[i].Index), list[i].Value)
	}
	return b
}

func elementsSize(list []flow.ElementValue) int {
	n := maxUvarint
	for i := range list {
		n += 1 + maxUvarint + len(list[i].Value)
	}
	return n
}

// unpacker unpacks one record after another. The lists of a record are valid until the
// next one.
type unpacker struct {
	words    [maxWords]uint32
	filled   uint64 // the fields of variable length that the record before has
	uints    []uint32
	addrs    [][]byte
	layers   []flowpb.FlowMessage_LayerStack
	elements []flow.ElementValue
}

// reset forgets the lists of the record before.
func (u *unpacker) reset() {
	u.uints, u.addrs, u.layers, u.elements = u.uints[:0], u.addrs[:0], u.layers[:0], u.elements[:0]
}

// room returns a slice of n elements at the end of a list, which grows if need be.
func room[T any](list *[]T, n uint32) []T {
	at := len(*list)
	*list = slices.Grow(*list, int(n))[:at+int(n)]
	return (*list)[at : at+int(n) : at+int(n)]
}

func (u *unpacker) takeUints(b []byte) (list []uint32, rest []byte) {
	n, b := takeUint(b)
	list = room(&u.uints, n)
	for i := range list {
		list[i], b = takeUint(b)
	}
	return list, b
}

func (u *unpacker) takeLayers(b []byte) (list []flowpb.FlowMessage_LayerStack, rest []byte) {
	n, b := takeUint(b)
	list = room(&u.layers, n)
	for i := range list {
		var v uint32
		v, b = takeUint(b)
		list[i] = flowpb.FlowMessage_LayerStack(v)
	}
	return list, b
}

func (u *unpacker) takeAddrs(b []byte) (list [][]byte, rest []byte) {
	n, b := takeUint(b)
	list = room(&u.addrs, n)
	for i := range list {
		list[i], b = takeBytes(b)
	}
	return list, b
}

func (u *unpacker) takeElements(b []byte) []flow.ElementValue {
	n, b := takeUint(b)
	list := room(&u.elements, n)
	for i := range list {
		list[i].Index = b[0]
		list[i].Value, b = takeBytes(b[1:])
	}
	return list
}
