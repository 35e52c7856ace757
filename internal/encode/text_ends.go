package encode

import (
	"bytes"
	"unicode"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// appendEnd appends one end of a flow, padded to its column.
func (e *Text) appendEnd(p *painter, r *flow.Record, column, end int, addr []byte, mac uint64, port uint32) {
	most := int(e.widths[column].Load())
	limit := endless
	if e.cfg.Width > 0 {
		limit = most
	}
	portLen := 0
	if port != 0 {
		portLen = 1 + decimalLen(uint64(port))
	}
	start, escapes := len(p.b), p.escapes
	if !e.appendName(p, r, end, limit-portLen) {
		p.b = appendAddr(p.b, addr, port != 0)
		if len(p.b) == start { // no IP
			p.b = reserve(p.b, start, flow.MACLen+1)
			p.b = p.b[:putMAC(p.b, start, mac)]
		}
		p.b = shortenASCII(p.b, start, limit-portLen)
	}
	if len(p.b) == start {
		p.b = append(p.b, '-')
	} else if port != 0 {
		p.b = appendNumber(append(p.b, ':'), uint64(port))
	}
	width := characters(p.b[start:]) - (p.escapes - escapes)
	if width > most && width <= maxEndWidth && e.cfg.Width == 0 {
		// Another worker may store a width at the same time. The next line corrects it.
		e.widths[column].Store(int32(width))
	}
	p.b = pad(p.b, most-width)
}

// appendSampler appends the exporter, padded to its column if others follow it.
func (e *Text) appendSampler(p *painter, r *flow.Record) {
	p.color(colorDim)
	p.b = append(p.b, " via "...)
	p.color(colorNone)
	start, escapes := len(p.b), p.escapes
	if !e.appendName(p, r, e.sampler, e.samplerWidth) {
		p.b = shortenASCII(appendAddr(p.b, r.Msg.SamplerAddress, false), start, e.samplerWidth)
	}
	if e.cfg.Width > 0 && (len(e.columns) > 0 || e.state && (r.DirectionName() != "" || len(r.Extra.Verdict) > 0)) {
		p.b = pad(p.b, e.samplerWidth-(characters(p.b[start:])-(p.escapes-escapes)))
	}
}

// appendName appends namespace and workload of an end, or the name of a node, in at most
// limit characters. It returns false if the end has no name.
func (e *Text) appendName(p *painter, r *flow.Record, end, limit int) bool {
	if end < 0 {
		return false
	}
	namespace, name := lineAttr(r, end, flow.AttrNamespace), lineAttr(r, end, flow.AttrWorkload)
	if name == "" {
		if name = lineAttr(r, end, flow.AttrPod); name == "" {
			name = r.Ends[end].Attr(flow.AttrName)
		}
	}
	if name == "" {
		name = lineAttr(r, end, flow.AttrSubnetLabel)
	}
	if name == "" && namespace == "" {
		return false
	}
	if namespace != "" {
		room := endless
		if over := utf8.RuneCountInString(namespace) + 1 + utf8.RuneCountInString(name) - limit; over > 0 {
			// The name says more than the namespace, which keeps a third.
			room = max(utf8.RuneCountInString(namespace)-over, (limit-1)/3, 1)
		}
		p.color(colorDim)
		from := len(p.b)
		p.b = appendShort(p.b, namespace, room)
		p.b = append(p.b, '/')
		limit -= characters(p.b[from:])
		p.color(colorNone)
	}
	color := colorName
	switch lineAttr(r, end, flow.AttrWorkloadKind) {
	case "Service":
		color = colorService
	case "Node":
		color = colorNode
	case "EgressIP":
		color = colorEgress
	}
	if lineAttr(r, end, flow.AttrWarn) != "" {
		color = colorUnsure
	}
	p.color(color)
	p.b = appendShort(p.b, name, max(limit, 1))
	p.color(colorNone)
	return true
}

// characters returns the number of characters of valid UTF-8. It does not allocate, as
// [utf8.RuneCount] may.
func characters(b []byte) (n int) {
	for _, c := range b {
		if utf8.RuneStart(c) {
			n++
		}
	}
	return n
}

// Attrs returns the generated fields that the encoder reads.
func (e *Text) Attrs() (attrs []flow.AttrRef) {
	for _, end := range []int{e.src, e.dst, e.sampler} {
		if end < 0 {
			continue
		}
		for _, a := range []flow.Attr{flow.AttrNamespace, flow.AttrWorkload, flow.AttrPod, flow.AttrWorkloadKind, flow.AttrWarn} {
			attrs = append(attrs, flow.AttrRef{End: end, Attr: a})
		}
	}
	return attrs
}

// lineAttr returns a generated field of an end: the one that a line had already, else what
// the cluster knows.
func lineAttr(r *flow.Record, end int, attr flow.Attr) string {
	if r.Line != nil {
		for i := range r.Line.Attrs {
			if a := &r.Line.Attrs[i]; a.Ref == (flow.AttrRef{End: end, Attr: attr}) {
				return string(a.Text)
			}
		}
	}
	return r.Ends[end].Attr(attr)
}

// appendShort appends a name in at most n characters, by an ellipsis in its middle.
func appendShort(b []byte, name string, n int) []byte {
	count := utf8.RuneCountInString(name)
	if count <= n {
		return appendPrintable(b, name)
	}
	head := max(n-1, 0) / 2 // the end of a name tells more than its beginning
	tail := max(n-1, 0) - head
	i, from, to := 0, 0, len(name)
	for at := range name {
		if i == head {
			from = at
		}
		if i == count-tail {
			to = at
		}
		i++
	}
	b = append(appendPrintable(b, name[:from]), "…"...)
	return appendPrintable(b, name[to:])
}

// shortenASCII does the same with what was appended from start on.
func shortenASCII(b []byte, start, n int) []byte {
	end := len(b)
	if end-start <= n {
		return b
	}
	const ellipsis = "…"
	head := max(n-1, 0) / 2
	tail := max(n-1, 0) - head
	b = append(b, ellipsis...) // makes room: it has three bytes, and at least two are cut
	copy(b[start+head+len(ellipsis):], b[end-tail:end])
	copy(b[start+head:], ellipsis)
	return b[:start+head+len(ellipsis)+tail]
}

// painter appends colours to a line.
type painter struct {
	b   []byte
	on  bool
	dim bool // the whole line is dim, and has no other colours
	// escapes is how many bytes of b are escape sequences.
	escapes int
}

func (p *painter) color(sequence string) {
	if p.on && !p.dim {
		p.b = append(p.b, sequence...)
		p.escapes += len(sequence)
	}
}

// dimmed makes the rest of the line dim.
func (p *painter) dimmed() {
	p.color(colorDim)
	p.dim = true
}

// end ends a dim line.
func (p *painter) end() {
	if p.on && p.dim {
		p.b = append(p.b, colorNone...)
	}
}

// decimalLen returns the number of digits.
func decimalLen(v uint64) int {
	n := 1
	for n < len(pow10) && v >= pow10[n] {
		n++
	}
	return n
}

// Printable returns a name without characters that terminals interpret.
func Printable(s string) string { return string(appendPrintable(nil, s)) }

// appendPrintable appends a name without characters that terminals interpret.
func appendPrintable(b []byte, s string) []byte {
	for _, c := range s {
		b = appendRune(b, c)
	}
	return b
}

// appendRune appends a character, or a replacement if it cannot be printed.
func appendRune(b []byte, c rune) []byte {
	if !unicode.IsPrint(c) {
		c = utf8.RuneError
	}
	return utf8.AppendRune(b, c)
}

// shorten shortens what has been appended since start to n characters, as appendShort does.
func shorten(b []byte, start, n int) []byte {
	if characters(b[start:]) <= n {
		return b
	}
	end := len(b)
	head := max(n-1, 0) / 2
	from, to := start, end
	for range head {
		_, size := utf8.DecodeRune(b[from:end])
		from += size
	}
	for range max(n-1, 0) - head {
		_, size := utf8.DecodeLastRune(b[from:to])
		to -= size
	}
	b = append(b, "…"...)
	b = append(b, b[to:end]...)
	return b[:from+copy(b[from:], b[end:])]
}

// appendAddr appends an IP address, IPv6 in brackets if a port follows.
func appendAddr(b, addr []byte, brackets bool) []byte {
	start := len(b)
	b = reserve(b, start, maxAddr+2)
	n := putAddr(b, start, addr)
	if brackets && bytes.IndexByte(b[start:n], ':') >= 0 {
		b[start] = '['
		n = putAddr(b, start+1, addr)
		b[n] = ']'
		n++
	}
	return b[:n]
}
