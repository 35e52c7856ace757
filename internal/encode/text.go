package encode

import (
	"bytes"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TextConfig configures an encoder of text.
type TextConfig struct {
	// Mapping has the address field of each of [flow.Record].Ends. Source,
	// destination and exporter are shown by name where SrcAddr, DstAddr and
	// SamplerAddress are mapped.
	Mapping []flow.MapEntry
	// Cluster is added to each line unless it is empty.
	Cluster string
	// Color marks names with colours, by ECMA-48's escape sequences.
	Color bool
	// Location is the time zone of times; nil is the local one.
	Location *time.Location
}

// Text encodes a record as one line for people to read:
//
//	10:04:05 shop/cart:56144       → default/kubernetes:443  TCP  20.8 kB    400 p via node-1
//
// These are the time of receipt, the two ends (namespace and workload, or the
// address where the owner is not known), protocol, bytes, packets and exporter.
// The columns of the ends are as wide as the widest name so far, up to a bound.
//
// Any number of goroutines may use an encoder.
type Text struct {
	cfg               TextConfig
	src, dst, sampler int // index of the end, or -1
	// widths are the largest numbers of characters of source and destination so far.
	widths [2]atomic.Int32
}

const (
	minEndWidth = len("255.255.255.255:65535")
	maxEndWidth = 48
	protoWidth  = 4
	bytesWidth  = len("99.9 kB")
	packetWidth = 6
	// textRoom is enough bytes for most lines.
	textRoom = 256
)

// The escape sequences of colours.
const (
	colorNone   = "\x1b[0m"
	colorDim    = "\x1b[2m"
	colorName   = "\x1b[32m" // green
	colorUnsure = "\x1b[33m" // yellow: there is a warning
)

// NewText returns an encoder.
func NewText(cfg TextConfig) *Text {
	if cfg.Location == nil {
		cfg.Location = time.Local
	}
	end := func(f flow.FieldID) int {
		for i, e := range cfg.Mapping {
			if e.Field == f && i < flow.MaxEnds {
				return i
			}
		}
		return -1
	}
	e := &Text{cfg: cfg, src: end(flow.FieldSrcAddr), dst: end(flow.FieldDstAddr), sampler: end(flow.FieldSamplerAddress)}
	for i := range e.widths {
		e.widths[i].Store(int32(minEndWidth))
	}
	return e
}

// AppendRecord appends the record's line.
func (e *Text) AppendRecord(dst []byte, r *flow.Record) []byte {
	m := &r.Msg
	b := reserve(dst, len(dst), textRoom)[:len(dst)]
	hour, minute, second := time.Unix(0, int64(m.TimeReceivedNs)).In(e.cfg.Location).Clock()
	b = e.color(b, colorDim)
	b = append(b, pairs[2*hour], pairs[2*hour+1], ':', pairs[2*minute], pairs[2*minute+1], ':', pairs[2*second], pairs[2*second+1])
	b = e.color(b, colorNone)
	b = append(b, ' ')

	b = e.appendEnd(b, r, 0, e.src, m.SrcAddr, m.SrcMac, m.SrcPort)
	b = e.color(b, colorDim)
	b = append(b, " → "...)
	b = e.color(b, colorNone)
	b = e.appendEnd(b, r, 1, e.dst, m.DstAddr, m.DstMac, m.DstPort)
	b = append(b, ' ')

	start := len(b)
	b = appendProtocol(b, m.Etype, m.Proto)
	b = pad(b, protoWidth-(len(b)-start))
	b = append(b, ' ')
	b = appendBytes(b, m.Bytes)
	b = append(b, ' ')
	b = appendRight(b, m.Packets, packetWidth)
	b = append(b, " p"...)

	b = e.color(b, colorDim)
	b = append(b, " via "...)
	b = e.color(b, colorNone)
	if o := e.object(r, e.sampler); o != nil {
		b = e.appendObject(b, o)
	} else {
		b = appendAddr(b, m.SamplerAddress, false)
	}
	if e.cfg.Cluster != "" {
		b = append(b, " in "...)
		b = appendPrintable(b, e.cfg.Cluster)
	}
	return append(b, '\n')
}

func (e *Text) color(b []byte, sequence string) []byte {
	if e.cfg.Color {
		return append(b, sequence...)
	}
	return b
}

// object returns the owner of an end, nil if it is not known.
func (e *Text) object(r *flow.Record, end int) *flow.Object {
	if end < 0 {
		return nil
	}
	return r.Ends[end].Object
}

// appendEnd appends one end of a flow, padded to its column.
func (e *Text) appendEnd(b []byte, r *flow.Record, column, end int, addr []byte, mac uint64, port uint32) []byte {
	start := len(b)
	escapes := 0
	if o := e.object(r, end); o != nil {
		b = e.appendObject(b, o)
		if e.cfg.Color {
			escapes = len(colorName) + len(colorNone)
		}
	} else {
		b = appendAddr(b, addr, port != 0)
		if len(b) == start { // no IP
			b = reserve(b, start, flow.MACLen+1)
			b = b[:putMAC(b, start, mac)]
		}
	}
	if len(b) == start {
		b = append(b, '-')
	} else if port != 0 {
		b = appendNumber(append(b, ':'), uint64(port))
	}
	width := utf8.RuneCount(b[start:]) - escapes
	most := int(e.widths[column].Load())
	if width > most && width <= maxEndWidth {
		// Another worker may store a width at the same time. The next line corrects it.
		e.widths[column].Store(int32(width))
	}
	return pad(b, most-width)
}

// appendObject appends namespace and workload, or the name of a node.
func (e *Text) appendObject(b []byte, o *flow.Object) []byte {
	if o.Warn != "" {
		b = e.color(b, colorUnsure)
	} else {
		b = e.color(b, colorName)
	}
	if o.Namespace != "" {
		b = append(appendPrintable(b, o.Namespace), '/')
	}
	name := o.Workload
	if name == "" {
		name = o.Name
	}
	return e.color(appendPrintable(b, name), colorNone)
}

// appendPrintable appends a name without characters that terminals interpret.
func appendPrintable(b []byte, s string) []byte {
	for _, c := range s {
		if !unicode.IsPrint(c) {
			c = utf8.RuneError
		}
		b = utf8.AppendRune(b, c)
	}
	return b
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

// appendProtocol appends the name or number of the IP protocol, or the name of the
// EtherType if the packet is not of IP.
func appendProtocol(b []byte, etype, proto uint32) []byte {
	if name := flow.ProtoName(etype, proto); name != "" {
		return append(b, name...)
	}
	if proto != 0 {
		return appendNumber(b, uint64(proto))
	}
	if name := flow.EtypeName(etype); name != "" {
		return append(b, name...)
	}
	return append(b, '-')
}

// appendBytes appends a number of bytes in decimal units, aligned to the right.
func appendBytes(b []byte, v uint64) []byte {
	const units = "kMGTPE"
	if v < 1000 {
		b = appendRight(b, v, bytesWidth-2)
		return append(b, " B"...)
	}
	unit := 0
	tenths := v / 100 // of the unit
	for tenths >= 10_000 && unit < len(units)-1 {
		tenths /= 1000
		unit++
	}
	if tenths < 1000 {
		b = appendRight(b, tenths/10, bytesWidth-5)
		b = append(b, '.', '0'+byte(tenths%10))
	} else {
		b = appendRight(b, tenths/10, bytesWidth-3)
	}
	return append(b, ' ', units[unit], 'B')
}

func appendNumber(b []byte, v uint64) []byte {
	n := len(b)
	b = reserve(b, n, maxUint)
	return b[:putUint(b, n, v)]
}

// appendRight appends a number, aligned to the right.
func appendRight(b []byte, v uint64, width int) []byte {
	for p := width; p > 1 && v < pow10[p-1]; p-- {
		b = append(b, ' ')
	}
	return appendNumber(b, v)
}

func pad(b []byte, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, ' ')
	}
	return b
}
