package filter

import (
	"net/netip"
	"strconv"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// eval is what a compiled expression is evaluated with. It is used by one goroutine.
type eval struct {
	r       *flow.Record
	unknown []byte   // the unknown fields of a message that came over a pipe
	buf     [64]byte // room for the text of one address, until the next one
	hex     []byte   // room for the text of one element, until the next one
}

// kind is the type of an operand.
type kind uint8

const (
	kindBool kind = iota
	kindNumber
	kindText
	kindAddr // an IP address, which equals text with any spelling of it
	kindMAC
	kindList // several values, for the right side of in
)

var kindNames = [...]string{"a condition", "a number", "text", "an address", "a MAC address", "a list"}

func (k kind) String() string { return kindNames[k] }

// operand is a compiled part of the expression. Which functions it has depends on its
// kind; the others are nil.
type operand struct {
	kind kind
	text string // for errors: what the user wrote, shortened
	// literal reports whether the value is the same for all records. The functions can be
	// called with a nil eval then, and the value is in integer, float or str.
	literal bool
	field   *flow.Field // the field that the operand is, nil if it is none

	b func(*eval) bool       // of a kindBool
	u func(*eval) uint64     // of a number that is whole and never negative; of a kindMAC
	i func(*eval) integer    // of a number that is whole, also if it has u
	f func(*eval) float64    // of a number that can have a fraction
	s func(*eval) string     // of a kindText; the text of a kindAddr and a kindMAC
	a func(*eval) netip.Addr // of a kindAddr; returns the zero Addr if the field is not set

	integer integer
	float   float64
	str     string
}

func (o *operand) String() string { return o.text }

// whole reports whether a number never has a fraction.
func (o *operand) whole() bool { return o.i != nil }

// asFloat returns a number as a float64, which / needs.
func (o *operand) asFloat() func(*eval) float64 {
	switch {
	case o.f != nil:
		return o.f
	case o.u != nil:
		u := o.u
		return func(e *eval) float64 { return float64(u(e)) }
	}
	i := o.i
	return func(e *eval) float64 { return i(e).float() }
}

// wholeLiteral returns the operand of a whole number.
func wholeLiteral(v integer) *operand {
	o := &operand{kind: kindNumber, literal: true, integer: v, float: v.float(), i: func(*eval) integer { return v }}
	o.text = strconv.FormatUint(v.mag, 10)
	if v.neg {
		o.text = "-" + o.text
	} else {
		o.u = func(*eval) uint64 { return v.mag }
	}
	return o
}

// floatLiteral returns the operand of a number with a fraction.
func floatLiteral(v float64) *operand {
	return &operand{
		kind: kindNumber, literal: true, float: v, text: strconv.FormatFloat(v, 'g', -1, 64),
		f: func(*eval) float64 { return v },
	}
}
