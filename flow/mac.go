package flow

// HexDigits are the digits of hexadecimal numbers as this program writes them.
const HexDigits = "0123456789abcdef"

// MACLen is the length of a MAC address as text.
const MACLen = len("00:00:00:00:00:00")

// AppendMAC appends the low 48 bits as a MAC address, such as 0a:58:0a:f4:00:01.
func AppendMAC(b []byte, mac uint64) []byte {
	var text [MACLen + 1]byte
	PutMAC(&text, mac)
	return append(b, text[:MACLen]...)
}

// PutMAC writes the low 48 bits as a MAC address, with a colon after it: a last
// octet that is like the others makes it faster.
func PutMAC(text *[MACLen + 1]byte, mac uint64) {
	mac <<= 16
	for i := 0; i < len(text); i += 3 {
		octet := byte(mac >> 56)
		text[i], text[i+1], text[i+2] = HexDigits[octet>>4], HexDigits[octet&15], ':'
		mac <<= 8
	}
}

// ParseMAC reads a MAC address of six bytes in any form that net.ParseMAC knows:
// 0a:58:0a:f4:00:01, 0a-58-0a-f4-00-01, 0a58.0af4.0001 or 0a580af40001, in letters
// of either case. It returns false for anything else. It does not allocate.
func ParseMAC[S []byte | string](s S) (mac uint64, ok bool) {
	var digits int // between two separators
	var separator byte
	switch {
	case len(s) == MACLen && (s[2] == ':' || s[2] == '-'):
		digits, separator = 2, s[2]
	case len(s) == len("0a58.0af4.0001") && s[4] == '.':
		digits, separator = 4, '.'
	case len(s) == len("0a580af40001"):
		digits = len(s)
	default:
		return 0, false
	}
	for i := range len(s) {
		if i%(digits+1) == digits {
			if s[i] != separator {
				return 0, false
			}
			continue
		}
		digit, ok := HexDigit(s[i])
		if !ok {
			return 0, false
		}
		mac = mac<<4 | digit
	}
	return mac, true
}

// HexDigit returns the value of a hexadecimal digit in either case, and false for
// other characters.
func HexDigit(c byte) (digit uint64, ok bool) {
	switch {
	case '0' <= c && c <= '9':
		return uint64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return uint64(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return uint64(c-'A') + 10, true
	}
	return 0, false
}
