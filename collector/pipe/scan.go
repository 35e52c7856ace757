package pipe

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"time"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxDepth is how deep objects and arrays may nest, encoding/json's limit.
const maxDepth = 10000

// style is how a line names its fields.
type style uint8

const (
	styleUnknown style = iota
	stylePascal        // schema v1, goflow2 v1: SrcAddr
	styleSnake         // goflow2 v2: src_addr
)

// The times of a record.
const (
	timeReceived = iota
	timeFlowStart
	timeFlowEnd
	numTimes
)

// timeUnits are the units that a time may be given in, and how their fields are
// named; the last that a line has is taken.
var timeUnits = [...]struct {
	suffix, snake string
	nanos         uint64
}{
	{"", "", 1e9},
	{"Ms", "_ms", 1e6},
	{"Ns", "_ns", 1},
}

// member is what to do with a member of an object.
type member struct {
	style     style  // of an address
	end       int    // entry of the mapping whose address it is, or -1
	time      int    // which time it is, or -1
	unit      int    // of the time, in timeUnits
	generated string // its name, if a generated field has that name
	want      int    // what it is of scanner.wants, or -1
	attr      int    // what it is of scanner.given, or -1
}

// scanner reads lines of JSON. In one pass it checks that a line is exactly one
// object and takes from its members what the reader needs. It allocates nothing
// once its buffers have grown.
type scanner struct {
	styles  map[string]style // of all fields that are known
	members map[string]*member
	filter  [filterBits / 64]uint64 // most names that are no members are not looked up

	stack   []byte // closing brackets of what is open inside of a value
	scratch []byte // unescaped text

	// What the last line had. Of a name that it has twice, the last counts, as
	// it does for encoding/json.
	close  int // offset of the closing brace
	empty  bool
	mapped style // of the first address field that is mapped
	known  style // of the first known field
	keys   []string
	ends   [flow.MaxEnds]netip.Addr
	times  [numTimes][len(timeUnits)]uint64 // nanoseconds, 0 = unknown
	wants  []want
	given  []given
}

func newScanner(mapping []flow.MapEntry, labels ...flow.Label) *scanner {
	s := &scanner{styles: make(map[string]style), members: make(map[string]*member)}
	both := func(pascal, snake string, change func(*member)) {
		s.styles[pascal] = stylePascal
		s.add(pascal, func(m *member) { m.style = stylePascal; change(m) })
		if snake != "" {
			s.styles[snake] = styleSnake
			s.add(snake, func(m *member) { m.style = styleSnake; change(m) })
		}
	}
	for i := range flow.Fields {
		f := &flow.Fields[i]
		s.styles[f.Snake] = styleSnake // "" where there is none
		s.styles[f.Name] = stylePascal
	}
	delete(s.styles, "")
	names := [numTimes][2]string{{"TimeReceived", "time_received"}, {"TimeFlowStart", "time_flow_start"}, {"TimeFlowEnd", "time_flow_end"}}
	for t, name := range names {
		for u, unit := range timeUnits {
			both(name[0]+unit.suffix, name[1]+unit.snake, func(m *member) { m.time, m.unit = t, u })
		}
	}
	generated := func(name string) { s.add(name, func(m *member) { m.generated = name }) }
	generated("Cluster")
	generated("cluster")
	generated("K8S_ClusterName")
	for i, e := range mapping {
		f := &flow.Fields[e.Field]
		both(f.Name, f.Snake, func(m *member) { m.end = i })
		for _, a := range flow.Attrs {
			generated(e.Prefix + a.Name)
			generated(e.Snake + "_" + a.Snake)
		}
		for _, a := range flow.NetObservAttrs {
			generated(e.Prefix + a.Name)
		}
		for _, l := range labels {
			generated(e.Prefix + l.Field)
			generated(e.Snake + "_" + l.Snake)
		}
	}
	return s
}

// add changes what to do with a member, nothing at first.
func (s *scanner) add(name string, change func(*member)) {
	m := s.members[name]
	if m == nil {
		m = &member{end: -1, time: -1, want: -1, attr: -1}
		s.members[name] = m
		bit := filterBit(name)
		s.filter[bit/64] |= 1 << (bit % 64)
	}
	change(m)
}

const filterBits = 1 << 12

// filterBit maps a name, not empty, to a bit of the filter.
func filterBit[T string | []byte](name T) uint {
	return (uint(name[0]) ^ uint(name[len(name)-1])<<3 ^ uint(len(name))<<6) % filterBits
}

// snake says that the line's fields are named as goflow2 v2 does it: by its
// first address field that is mapped, else by the first of the known fields.
func (s *scanner) snake() bool {
	if s.mapped != styleUnknown {
		return s.mapped == styleSnake
	}
	return s.known == styleSnake
}

// time returns one of the line's times in Unix nanoseconds, 0 if it has none.
func (s *scanner) time(t int) uint64 {
	for u := len(timeUnits) - 1; u >= 0; u-- {
		if v := s.times[t][u]; v != 0 {
			return v
		}
	}
	return 0
}

// reset forgets the last line.
func (s *scanner) reset() {
	s.close, s.empty, s.mapped, s.known = -1, false, styleUnknown, styleUnknown
	s.keys = s.keys[:0]
	clear(s.ends[:])
	clear(s.times[:])
	for i := range s.wants {
		s.wants[i].forget()
	}
	for i := range s.given {
		s.given[i].has = false
	}
}

// scan reads a line and says whether it is one JSON object (RFC 8259), with
// encoding/json's verdict. If it is not, what was found means nothing.
func (s *scanner) scan(b []byte) bool {
	s.reset()
	i := space(b, 0)
	if i == len(b) || b[i] != '{' {
		return false
	}
	i = space(b, i+1)
	if i < len(b) && b[i] == '}' {
		s.close, s.empty = i, true
		return space(b, i+1) == len(b)
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return false
		}
		end, escaped := text(b, i+1)
		if end < 0 {
			return false
		}
		m := s.lookup(b[i+1:end], escaped)
		if i = space(b, end+1); i >= len(b) || b[i] != ':' {
			return false
		}
		begin := space(b, i+1)
		if i = s.value(b, begin); i < 0 {
			return false
		}
		if m != nil {
			s.take(m, b[begin:i])
		}
		if i = space(b, i); i >= len(b) {
			return false
		}
		if b[i] == '}' {
			s.close = i
			return space(b, i+1) == len(b)
		}
		if b[i] != ',' {
			return false
		}
		i = space(b, i+1)
	}
}

// lookup returns what to do with a member, nil if nothing.
func (s *scanner) lookup(name []byte, escaped bool) *member {
	if escaped {
		s.scratch = unescape(s.scratch[:0], name)
		name = s.scratch
	}
	if s.known == styleUnknown {
		s.known = s.styles[string(name)]
	}
	if len(name) == 0 {
		return nil
	}
	if bit := filterBit(name); s.filter[bit/64]>>(bit%64)&1 == 0 {
		return nil
	}
	return s.members[string(name)]
}

// take keeps what the reader needs of a member.
func (s *scanner) take(m *member, value []byte) {
	if m.end >= 0 {
		if s.mapped == styleUnknown { // no style, if it is not mapped
			s.mapped = m.style
		}
		s.ends[m.end] = s.addr(value)
	}
	if m.time >= 0 {
		s.times[m.time][m.unit] = s.nanos(value, timeUnits[m.unit].nanos)
	}
	if m.want >= 0 {
		s.wants[m.want].take(s, value)
	}
	if m.attr >= 0 {
		s.given[m.attr].take(s, value)
	}
	if m.generated != "" && !slices.Contains(s.keys, m.generated) {
		s.keys = append(s.keys, m.generated)
	}
}

// str returns the text of a JSON string, valid until the next call, or nil if
// the value is none.
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

// addr reads an address. What is none, and an address with a zone, which names
// nothing in a cluster, gives the zero Addr.
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

// nanos reads a time: a number of units since 1970, as a number or in a string,
// or what goflow2's renderers datetime and datetimenano write (RFC 3339). It
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

// digits reads a number that is nothing but digits.
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

// The functions below walk JSON text. They return the index behind what they
// were to read, or a negative number if that is not there.

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

// nested reads an object or array with all it holds.
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

// text reads a string whose opening quote is before i and returns the index of
// the closing one, or -1, and whether anything in it is escaped.
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
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends the text of a JSON string that text found to be good.
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
