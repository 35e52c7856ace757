package pipe

import (
	"net/netip"
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

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

// timeUnits are the units of times and the suffixes of their fields. The last one
// that a line has counts.
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
	field     int    // its index in scanner.requested, or -1
	attr      int    // its index in scanner.present, or -1
}

// scanner reads lines of JSON. In one pass it checks that a line is exactly one
// object and keeps what the reader needs of its members. It allocates nothing once
// its buffers have grown.
type scanner struct {
	styles  map[string]style // of all fields that are known
	members map[string]*member
	// filter is a set of hashes of the names in members. It saves most look-ups of
	// other names.
	filter [filterBits / 64]uint64

	stack   []byte // closing brackets of what is open inside of a value
	scratch []byte // unescaped text

	// The fields below are of the last line. If a line has a name twice, the last
	// one counts, as with encoding/json.
	close     int // offset of the closing brace
	empty     bool
	mapped    style // of the first address field that is mapped
	known     style // of the first known field
	keys      []string
	ends      [maxAddresses]netip.Addr
	times     [numTimes][len(timeUnits)]uint64 // nanoseconds, 0 = unknown
	requested []requestedField
	present   []presentField
}

// maxAddresses is room for all address fields that there are: those that are mapped,
// then others that the handler reads.
const maxAddresses = 16

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
	for _, id := range flow.VerdictFields {
		generated(flow.Fields[id].Name)
		generated(flow.Fields[id].Snake)
	}
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

// add changes what to do with a member, which is nothing at first.
func (s *scanner) add(name string, change func(*member)) {
	m := s.members[name]
	if m == nil {
		m = &member{end: -1, time: -1, field: -1, attr: -1}
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

// snake reports whether the line's fields have the names of goflow2 v2. The first
// mapped address field decides, else the first known field.
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
	for i := range s.requested {
		s.requested[i].reset()
	}
	for i := range s.present {
		s.present[i].has = false
	}
}

// scan reads a line and reports whether it is one JSON object (RFC 8259), as
// encoding/json would. If it is not, the other fields of the scanner mean nothing.
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
			s.keep(m, b[begin:i])
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

// keep stores what the reader needs of a member.
func (s *scanner) keep(m *member, value []byte) {
	if m.end >= 0 {
		if s.mapped == styleUnknown { // no style, if it is not mapped
			s.mapped = m.style
		}
		s.ends[m.end] = s.addr(value)
	}
	if m.time >= 0 {
		s.times[m.time][m.unit] = s.nanos(value, timeUnits[m.unit].nanos)
	}
	if m.field >= 0 {
		s.requested[m.field].parse(s, value)
	}
	if m.attr >= 0 {
		s.present[m.attr].parse(s, value)
	}
	if m.generated != "" && !slices.Contains(s.keys, m.generated) {
		s.keys = append(s.keys, m.generated)
	}
}
