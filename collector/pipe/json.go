package pipe

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxDepth is how deep objects and arrays may nest, encoding/json's limit.
const maxDepth = 10000

// The functions below read JSON text (RFC 8259). Each returns the index after what
// it has read, or a negative number if that is not there.

// space skips white space.
func space(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// value reads any value.
func (s *scanner) value(b []byte, i int) int {
	if i < len(b) && (b[i] == '{' || b[i] == '[') {
		return s.nested(b, i)
	}
	return scalar(b, i)
}

// scalar reads a value that is no object or array.
func scalar(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch c := b[i]; {
	case c == '"':
		end, _ := text(b, i+1)
		if end < 0 {
			return -1
		}
		return end + 1
	case c == '-' || '0' <= c && c <= '9':
		return number(b, i)
	case c == 't':
		return literal(b, i, "true")
	case c == 'f':
		return literal(b, i, "false")
	case c == 'n':
		return literal(b, i, "null")
	}
	return -1
}

func literal(b []byte, i int, want string) int {
	if len(b)-i < len(want) || string(b[i:i+len(want)]) != want {
		return -1
	}
	return i + len(want)
}

func number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case i < len(b) && b[i] == '0':
		i++
	case i < len(b) && '1' <= b[i] && b[i] <= '9':
		i = skipDigits(b, i)
	default:
		return -1
	}
	if i < len(b) && b[i] == '.' {
		begin := i + 1
		if i = skipDigits(b, begin); i == begin {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		begin := i
		if i = skipDigits(b, begin); i == begin {
			return -1
		}
	}
	return i
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

// nested reads an object or array with all that it contains.
func (s *scanner) nested(b []byte, i int) int {
	s.stack = s.stack[:0]
	for {
		// A value, and in an object its name before it.
		if n := len(s.stack); n > 0 && s.stack[n-1] == '}' {
			if i >= len(b) || b[i] != '"' {
				return -1
			}
			end, _ := text(b, i+1)
			if end < 0 {
				return -1
			}
			if i = space(b, end+1); i >= len(b) || b[i] != ':' {
				return -1
			}
			i = space(b, i+1)
		}
		if i < len(b) && (b[i] == '{' || b[i] == '[') {
			if len(s.stack)+1 >= maxDepth { // with the line's own object
				return -1
			}
			s.stack = append(s.stack, b[i]+2) // '}' or ']'
			i = space(b, i+1)
			if i >= len(b) || b[i] != s.stack[len(s.stack)-1] {
				continue
			}
		} else if i = scalar(b, i); i < 0 {
			return -1
		} else {
			i = space(b, i)
		}
		// A comma, or the end of one or more of what is open.
		for {
			if i >= len(b) {
				return -1
			}
			if b[i] == ',' {
				i = space(b, i+1)
				break
			}
			if b[i] != s.stack[len(s.stack)-1] {
				return -1
			}
			i++
			if s.stack = s.stack[:len(s.stack)-1]; len(s.stack) == 0 {
				return i
			}
			i = space(b, i)
		}
	}
}

// text reads a string whose opening quote is before i. It returns the index of the
// closing quote, or -1. escaped reports whether anything in it is escaped.
func text(b []byte, i int) (end int, escaped bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for {
		// Eight bytes at a time: the lowest bit that is set marks the first
		// quote, backslash or control character.
		for len(b)-i >= 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			quote, slash := w^'"'*ones, w^'\\'*ones
			if found := ((quote-ones)&^quote | (slash-ones)&^slash | (w-0x20*ones)&^w) & highs; found != 0 {
				i += bits.TrailingZeros64(found) / 8
				break
			}
			i += 8
		}
		for i < len(b) && b[i] >= 0x20 && b[i] != '"' && b[i] != '\\' {
			i++
		}
		if i >= len(b) || b[i] < 0x20 {
			return -1, escaped
		}
		if b[i] == '"' {
			return i, escaped
		}
		escaped = true
		if i++; i >= len(b) {
			return -1, escaped
		}
		switch b[i] {
		case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			i++
		case 'u':
			if _, ok := hex4(b, i+1); !ok {
				return -1, escaped
			}
			i += 5
		default:
			return -1, escaped
		}
	}
}

// hex4 reads the four digits of \uXXXX.
func hex4(b []byte, i int) (r rune, ok bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		digit, ok := flow.HexDigit(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(digit)
	}
	return r, true
}

// unescape appends the text of a JSON string that text has accepted.
func unescape(dst, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			dst = append(dst, b[i])
			continue
		}
		i++
		switch c := b[i]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(b, i+1)
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+2 < len(b) && b[i+1] == '\\' && b[i+2] == 'u' {
					low, _ = hex4(b, i+3)
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default: // quote, backslash, slash
			dst = append(dst, c)
		}
	}
	return dst
}
