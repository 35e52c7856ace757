package encode

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// textColumn is a field that was asked for besides those that all lines have. On a terminal it
// is a column with a head; elsewhere each line has its name: NAME=VALUE.
type textColumn struct {
	name   string
	json   *JSON // of this field alone
	number bool  // aligned to the right
	width  int   // characters on a terminal
}

// What columns get on a terminal. Names are shortened where there is no room for more, numbers
// are not.
const (
	textColumnWidth, leastColumnWidth = 16, 8
	// crampedWidth is what ends should have before names in columns are shortened.
	crampedWidth = 18
	// none stands for a field that the record does not have.
	none = "-"
)

// newColumns makes the columns of the fields that are asked for.
func newColumns(cfg TextConfig) (columns []textColumn, err error) {
	names, err := addedFields(cfg)
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			continue
		}
		json, err := NewJSON(JSONConfig{Schema: "v1", Fields: name, Mapping: cfg.Mapping, Labels: cfg.Labels, Elements: cfg.Elements})
		if err != nil {
			return nil, err
		}
		c := textColumn{name: name, json: json}
		c.width, c.number = columnWidth(name, cfg.Elements)
		c.width = max(c.width, utf8.RuneCountInString(name))
		columns = append(columns, c)
	}
	return columns, nil
}

// columnWidth returns how much room the values of a field may take, and whether they are
// numbers.
func columnWidth(name string, elements []flow.ExtraElement) (width int, number bool) {
	f, known := flow.FieldByName(name)
	switch {
	case !known && slices.ContainsFunc(elements, func(e flow.ExtraElement) bool { return e.Name == name && e.Type == flow.ElementUint }):
		return len("4294967295"), true
	case !known:
		return textColumnWidth, false
	case f.Kind == flow.KindUint && strings.HasSuffix(name, "Ns"):
		return len("1795399200000000000"), true
	case f.Kind == flow.KindUint && f.Bits > 0 && f.Bits <= 16:
		return len("65535"), true
	case f.Kind == flow.KindUint:
		return len("4294967295"), true
	case f.Kind == flow.KindMAC:
		return flow.MACLen, false
	case f.Kind == flow.KindBool:
		return len("false"), false
	}
	return textColumnWidth, false
}

// fitColumns takes the columns' room from that of the ends, and returns what is left.
func (e *Text) fitColumns(room int) int {
	for i := range e.columns {
		room -= 1 + e.columns[i].width
	}
	for room < 2*crampedWidth {
		widest := -1
		for i := range e.columns {
			c := &e.columns[i]
			if !c.number && c.width > leastColumnWidth && (widest < 0 || c.width > e.columns[widest].width) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		e.columns[widest].width--
		room++
	}
	return room
}

// appendColumnHeads appends the names of the columns.
func (e *Text) appendColumnHeads(b []byte) []byte {
	for i := range e.columns {
		c := &e.columns[i]
		b = append(b, ' ')
		start := len(b)
		b = appendShort(b, c.name, c.width)
		b = c.align(b, start, i == len(e.columns)-1)
	}
	return b
}

// appendColumns appends the fields that were asked for.
func (e *Text) appendColumns(p *painter, r *flow.Record) {
	for i := range e.columns {
		c := &e.columns[i]
		p.b = append(p.b, ' ')
		if e.cfg.Width == 0 {
			p.color(colorDim)
			p.b = append(append(p.b, c.name...), '=')
			p.color(colorNone)
		}
		start := len(p.b)
		p.b = c.appendValue(p.b, r)
		switch {
		case e.cfg.Width == 0:
			p.b = quoteBlanks(p.b, start)
		case !c.number:
			p.b = shorten(p.b, start, c.width)
		}
		if e.cfg.Width > 0 {
			p.b = c.align(p.b, start, i == len(e.columns)-1)
		}
	}
}

// align pads what has been appended since start to the column, numbers at the left, others at
// the right unless they are the last.
func (c *textColumn) align(b []byte, start int, last bool) []byte {
	n := c.width - characters(b[start:])
	switch {
	case n <= 0 || last && !c.number:
		return b
	case !c.number:
		return pad(b, n)
	}
	end := len(b)
	b = pad(b, n)
	copy(b[start+n:], b[start:end])
	for i := start; i < start+n; i++ {
		b[i] = ' '
	}
	return b
}

// appendValue appends the value as JSON has it, text without its quotes and escapes. It does
// not allocate.
func (c *textColumn) appendValue(b []byte, r *flow.Record) []byte {
	if s := &c.json.steps[0]; s.op == opAttr && r.Line != nil {
		if v := lineAttr(r, int(s.end), s.attr); v != "" {
			return appendPrintable(b, v)
		}
	}
	start := len(b)
	b = c.json.appendFields(b, r) // {"NAME":VALUE} and a line break
	end := len(b)
	object := b[start : end-2]
	colon := bytes.Index(object, keyEnd)
	if colon < 0 {
		return append(b[:start], none...)
	}
	value := start + colon + len(keyEnd)
	if b[value] == '"' {
		b = appendUnquoted(b, value+1, end-3)
	} else {
		b = append(b, b[value:end-2]...)
	}
	if len(b) == end {
		b = append(b, none...)
	}
	return b[:start+copy(b[start:], b[end:])]
}

var keyEnd = []byte(`":`)

// appendUnquoted appends the text of the JSON string that is within b, as printable characters.
func appendUnquoted(b []byte, from, to int) []byte {
	for i := from; i < to; {
		c, n := utf8.DecodeRune(b[i:to])
		if c == '\\' && i+1 < to {
			switch b[i+1] {
			case 'u': // a control character, or one that HTML or JavaScript has a use for
				code, err := strconv.ParseUint(string(b[min(i+2, to):min(i+6, to)]), 16, 32)
				c, n = rune(code), 6
				if err != nil {
					c = utf8.RuneError
				}
			case '"', '\\', '/':
				c, n = rune(b[i+1]), 2
			default: // line breaks and such
				c, n = utf8.RuneError, 2
			}
		}
		b = appendRune(b, c)
		i += n
	}
	return b
}

// quoteBlanks quotes what has been appended since start, if a reader could not tell where it
// ends.
func quoteBlanks(b []byte, start int) []byte {
	if !bytes.ContainsAny(b[start:], " \"=") {
		return b
	}
	end := len(b)
	b = append(b, '"')
	for i := start; i < end; i++ {
		if b[i] == '"' || b[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, b[i])
	}
	b = append(b, '"')
	return b[:start+copy(b[start:], b[end:])]
}
