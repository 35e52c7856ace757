package flow

import (
	"net/netip"
	"slices"
	"strconv"
)

// MaxElements bounds the list of -fields.elements.
const MaxElements = 256

// ElementType is how the value of an [ExtraElement] is read.
type ElementType uint8

// The types of elements, by their names in the file of -fields.elements.
const (
	ElementUint   ElementType = iota // "uint": a number of 1 to 8 bytes
	ElementString                    // "string": text, without the zero bytes at its end
	ElementIPAddr                    // "ipaddr": an address of 4 or 16 bytes
	ElementMAC                       // "mac": an address of 6 bytes
	ElementHex                       // "hex": any bytes, two digits each
)

// ElementTypes lists the names of the types, by their values.
var ElementTypes = []string{"uint", "string", "ipaddr", "mac", "hex"}

// Holds reports whether a value has a length that the type can have. Other values are
// left out of records.
func (t ElementType) Holds(v []byte) bool {
	switch t {
	case ElementUint:
		return 1 <= len(v) && len(v) <= 8
	case ElementIPAddr:
		return len(v) == 4 || len(v) == 16
	case ElementMAC:
		return len(v) == 6
	}
	return true
}

// Append appends a value that the type holds, as text.
func (t ElementType) Append(b, v []byte) []byte {
	switch t {
	case ElementUint:
		return strconv.AppendUint(b, BigEndian(v), 10)
	case ElementIPAddr:
		if a, ok := netip.AddrFromSlice(v); ok {
			b = a.Unmap().AppendTo(b)
		}
		return b
	case ElementMAC:
		return AppendMAC(b, BigEndian(v))
	case ElementHex:
		for _, c := range v {
			b = append(b, HexDigits[c>>4], HexDigits[c&15])
		}
		return b
	}
	return append(b, v...)
}

// BigEndian returns the number in up to 8 bytes.
func BigEndian(v []byte) (n uint64) {
	for _, c := range v {
		n = n<<8 | uint64(c)
	}
	return n
}

// ExtraElement is an element that no row of [Fields] has, and that the user has made a
// field of (-fields.elements). Such fields are in those records that carry the element.
type ExtraElement struct {
	Element
	Name string // in all schemas
	Type ElementType
}

// ElementValue is the value of an [ExtraElement] in a record.
type ElementValue struct {
	Index uint8  // of the element in the user's list
	Value []byte // the type holds it
}

// Element returns the value of the i-th [ExtraElement]. It reports false if the record
// does not carry the element.
func (x *Extra) Element(i int) (v []byte, ok bool) {
	for e := range x.Elements {
		if int(x.Elements[e].Index) == i {
			return x.Elements[e].Value, true
		}
	}
	return nil, false
}

// Size returns how many bytes the slices hold.
func (x *Extra) Size() int {
	n := x.OwnFields.Size()
	if len(x.Elements) > 0 {
		const elementSize = 32
		n += elementSize * len(x.Elements)
		for i := range x.Elements {
			n += len(x.Elements[i].Value)
		}
	}
	return n
}

// clone makes the slices copies of their own.
func (x *Extra) clone() {
	x.OwnFields.clone()
	if len(x.Elements) > 0 {
		x.Elements = slices.Clone(x.Elements)
		for i := range x.Elements {
			x.Elements[i].Value = clone(x.Elements[i].Value)
		}
	}
}
