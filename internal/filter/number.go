package filter

import (
	"cmp"
	"math"
	"math/bits"
)

// integer is a whole number of 64 bits and a sign: fields use all 64 bits, and
// differences can be negative. Results that do not fit become the largest or the
// smallest number. Zero is never negative.
type integer struct {
	mag uint64
	neg bool
}

func signed(v int) integer {
	if v < 0 {
		return integer{-uint64(v), true}
	}
	return integer{uint64(v), false}
}

func (a integer) negated() integer {
	return integer{a.mag, !a.neg && a.mag != 0}
}

func (a integer) float() float64 {
	if a.neg {
		return -float64(a.mag)
	}
	return float64(a.mag)
}

// compare returns a negative number, 0 or a positive one, as [cmp.Compare] does.
func (a integer) compare(b integer) int {
	switch {
	case a.neg != b.neg:
		if a.neg {
			return -1
		}
		return 1
	case a.neg:
		return cmp.Compare(b.mag, a.mag)
	}
	return cmp.Compare(a.mag, b.mag)
}

func (a integer) add(b integer) integer {
	if a.neg == b.neg {
		sum, carry := bits.Add64(a.mag, b.mag, 0)
		if carry != 0 {
			sum = math.MaxUint64
		}
		return integer{sum, a.neg}
	}
	if a.mag >= b.mag {
		return integer{a.mag - b.mag, a.neg && a.mag != b.mag}
	}
	return integer{b.mag - a.mag, b.neg}
}

func (a integer) sub(b integer) integer { return a.add(b.negated()) }

func (a integer) mul(b integer) integer {
	hi, lo := bits.Mul64(a.mag, b.mag)
	if hi != 0 {
		lo = math.MaxUint64
	}
	return integer{lo, a.neg != b.neg && lo != 0}
}

// mod returns the rest of a division, with the sign of a, as Go's % does. It panics if
// b is 0.
func (a integer) mod(b integer) integer {
	m := a.mag % b.mag
	return integer{m, a.neg && m != 0}
}

// compareFloat is compare with a float64. It does not round. It returns ok false if f
// is NaN.
func (a integer) compareFloat(f float64) (c int, ok bool) {
	if math.IsNaN(f) {
		return 0, false
	}
	whole, frac := math.Modf(math.Abs(f))
	b := integer{math.MaxUint64, f < 0}
	if whole >= 1<<64 {
		// Larger than any integer.
		if f < 0 {
			return 1, true
		}
		return -1, true
	}
	b.mag = uint64(whole)
	b.neg = b.neg && b.mag != 0
	if c = a.compare(b); c == 0 && frac != 0 {
		if c = -1; f < 0 {
			c = 1
		}
	}
	return c, true
}
