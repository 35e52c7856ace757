package pipe

import (
	"bytes"
	"math"
	"math/bits"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// str returns the text of a JSON string, valid until the next call, or nil if the
// value is no string.
func (s *scanner) str(value []byte) []byte {
	if value[0] != '"' {
		return nil
	}
	value = value[1 : len(value)-1]
	if bytes.IndexByte(value, '\\') >= 0 {
		s.scratch = unescape(s.scratch[:0], value)
		return s.scratch
	}
	return value
}

// addr reads an address. It returns the zero Addr for what is no address, and for an
// address with a zone, which means nothing in a cluster.
func (s *scanner) addr(value []byte) netip.Addr {
	b := s.str(value)
	if len(b) == 0 || bytes.IndexByte(b, '%') >= 0 {
		return netip.Addr{}
	}
	// The string lives no longer than the call: without a zone an Addr keeps
	// nothing of it, and the error is dropped. A copy would be an allocation.
	a, err := netip.ParseAddr(unsafe.String(&b[0], len(b)))
	if err != nil {
		return netip.Addr{}
	}
	return a
}

// nanos reads a time. It is a number of units since 1970, as a number or in a string,
// or what goflow2's renderers datetime and datetimenano write (RFC 3339). nanos
// returns Unix nanoseconds, 0 for what is no time after 1970.
func (s *scanner) nanos(value []byte, unit uint64) uint64 {
	if value[0] == '"' {
		value = s.str(value)
		if len(value) == 0 {
			return 0
		}
		var t time.Time
		if len(value) > 4 && value[4] == '-' && t.UnmarshalText(value) == nil {
			return timeNanos(t)
		}
	}
	if n, ok := digits(value); ok {
		hi, lo := bits.Mul64(n, unit)
		if hi != 0 || lo > math.MaxInt64 {
			return 0
		}
		return lo
	}
	if c := value[0]; c != '-' && (c < '0' || c > '9') {
		return 0 // true, null, [1], or a text
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if f *= float64(unit); err != nil || !(f >= 1 && f < math.MaxInt64) {
		return 0
	}
	return uint64(f)
}

func timeNanos(t time.Time) uint64 {
	if sec := t.Unix(); sec < 0 || sec >= math.MaxInt64/1_000_000_000 {
		return 0
	}
	return uint64(t.UnixNano())
}

// digits reads a number that consists of digits only.
func digits(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// number64 reads a JSON number. It returns 0 for a number that is negative or not
// whole, and the largest uint64 for a number that is larger.
func number64(b []byte) uint64 {
	if n, ok := digits(b); ok {
		return n
	}
	if n, err := strconv.ParseUint(string(b), 10, 64); err == nil {
		return n
	}
	// 1e3 and 1000.0 are whole, too.
	switch f, _ := strconv.ParseFloat(string(b), 64); {
	case f >= 1<<64:
		return math.MaxUint64
	case f > 0 && f == math.Trunc(f):
		return uint64(f)
	}
	return 0
}

// mac reads a MAC address as goflow2 writes it, with colons. It returns 0 for
// anything else.
func mac(b []byte) uint64 {
	if len(b) != flow.MACLen || b[2] != ':' {
		return 0
	}
	v, _ := flow.ParseMAC(b)
	return v
}
