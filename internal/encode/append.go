package encode

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The put functions write at b[n:] and return the offset after what they wrote. The
// caller has made room for the longest value. Encoders spend most of their time in
// these functions.

const (
	maxUint = 20 // digits of the largest uint64
	maxAddr = len("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	// maxPrefix is the length of the longest value of bounded length.
	maxPrefix = maxAddr + len("/128")
)

// pairs holds the two digits of the numbers below 100.
const pairs = "00010203040506070809" +
	"10111213141516171819" +
	"20212223242526272829" +
	"30313233343536373839" +
	"40414243444546474849" +
	"50515253545556575859" +
	"60616263646566676869" +
	"70717273747576777879" +
	"80818283848586878889" +
	"90919293949596979899"

// octets holds the decimal digits of each byte and a dot. The last element is the
// number of these characters.
var octets = func() (t [256][5]byte) {
	for i := range t {
		d := append(fmtUint(uint64(i)), '.')
		copy(t[i][:4], d)
		t[i][4] = byte(len(d))
	}
	return t
}()

func fmtUint(v uint64) []byte {
	var b [maxUint]byte
	return b[:putUint(b[:], 0, v)]
}

// pow10 holds the smallest number of i+1 digits; 0 has one digit too.
var pow10 = [maxUint]uint64{
	0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

// putUint writes a number in decimal.
func putUint(b []byte, n int, v uint64) int {
	if v < 10 {
		b[n] = '0' + byte(v)
		return n + 1
	}
	return putLongUint(b, n, v)
}

func putLongUint(b []byte, n int, v uint64) int {
	// log10(2) is about 1233/4096; the estimate is at most one too large.
	digits := bits.Len64(v)*1233>>12 + 1
	if v < pow10[digits-1] {
		digits--
	}
	end := n + digits
	d := b[n:end]
	i := len(d)
	for v >= 100 && i >= 2 {
		q := v / 100
		p := (v - q*100) * 2
		i -= 2
		d[i+1], d[i] = pairs[p+1], pairs[p]
		v = q
	}
	if v >= 10 {
		d[1], d[0] = pairs[v*2+1], pairs[v*2]
	} else {
		d[0] = '0' + byte(v)
	}
	return end
}

// putAddr writes an IP address of 4 or 16 bytes: nothing for other lengths,
// IPv4 for IPv4-mapped IPv6, and RFC 5952's form for other IPv6.
func putAddr(b []byte, n int, addr []byte) int {
	switch len(addr) {
	case 4:
		return putIPv4(b, n, [4]byte(addr))
	case 16:
		if binary.BigEndian.Uint64(addr) == 0 && binary.BigEndian.Uint32(addr[8:]) == 0xffff {
			return putIPv4(b, n, [4]byte(addr[12:]))
		}
		return len(netip.AddrFrom16([16]byte(addr)).AppendTo(b[:n]))
	}
	return n
}

func putIPv4(b []byte, n int, addr [4]byte) int {
	for _, octet := range addr {
		o := &octets[octet]
		*(*[4]byte)(b[n:]) = [4]byte(o[:4])
		n += int(o[4])
	}
	return n - 1 // without the last dot
}

// putUpstreamAddr writes an IP address as goflow2 does, which keeps the form of
// IPv4-mapped IPv6 addresses.
func putUpstreamAddr(b []byte, n int, addr []byte) int {
	if len(addr) == 4 {
		return putIPv4(b, n, [4]byte(addr))
	}
	if a, ok := netip.AddrFromSlice(addr); ok {
		return len(a.AppendTo(b[:n]))
	}
	return n
}

// putUpstreamNet writes the network of an address as goflow2 does. Where there is
// none, goflow2 writes netip's text for an invalid prefix.
func putUpstreamNet(b []byte, n int, addr []byte, length uint32) int {
	if len(addr) == 4 && length <= 32 {
		masked := binary.BigEndian.Uint32(addr) &^ (1<<(32-length) - 1)
		n = putIPv4(b, n, [4]byte(binary.BigEndian.AppendUint32(b[:n], masked)[n:]))
		b[n] = '/'
		return putUint(b, n+1, uint64(length))
	}
	if a, ok := netip.AddrFromSlice(addr); ok && length <= uint32(a.BitLen()) {
		prefix, _ := a.Prefix(int(length)) // fails for lengths that are too large
		return len(prefix.AppendTo(b[:n]))
	}
	return n + copy(b[n:], "invalid Prefix")
}

// putMAC writes the low 48 bits as a MAC address, nothing for 0.
func putMAC(b []byte, n int, mac uint64) int {
	if mac<<16 == 0 {
		return n
	}
	flow.PutMAC((*[flow.MACLen + 1]byte)(b[n:]), mac)
	return n + flow.MACLen
}

// reserve extends b to its capacity and makes that at least n+need. It keeps b[:n]
// alone.
func reserve(b []byte, n, need int) []byte {
	if cap(b)-n < need {
		b = slices.Grow(b[:n], need)
	}
	return b[:cap(b)]
}

// replacement is U+FFFD in UTF-8, which stands for each byte that is no UTF-8.
const replacement = "\uFFFD"

// runeAt returns how many bytes the character at s[i] takes up. A byte that is no
// UTF-8 is not valid; encoders write [replacement] for it.
func runeAt[S []byte | string](s S, i int) (size int, valid bool) {
	r, size := utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
	return size, r != utf8.RuneError || size > 1
}

// validLen returns how long s is as [appendValid] appends it.
func validLen[S []byte | string](s S) int {
	length := len(s)
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		size, valid := runeAt(s, i)
		if !valid {
			length += len(replacement) - 1
		}
		i += size
	}
	return length
}

// appendValid appends s with U+FFFD for each byte that is no UTF-8.
func appendValid[S []byte | string](b []byte, s S) []byte {
	start := 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		size, valid := runeAt(s, i)
		if !valid {
			b = append(append(b, s[start:i]...), replacement...)
			start = i + 1
		}
		i += size
	}
	return append(b, s[start:]...)
}

// appendQuoted appends s as the inside of a JSON string (RFC 8259, section 7), with
// U+FFFD for each byte that is no UTF-8.
func appendQuoted[S []byte | string](b []byte, s S) []byte {
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			size, valid := runeAt(s, i)
			if !valid {
				b = append(append(b, s[start:i]...), replacement...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', flow.HexDigits[c>>4], flow.HexDigits[c&15])
		}
		i++
		start = i
	}
	return append(b, s[start:]...)
}
