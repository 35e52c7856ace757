package encode

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TextConfig configures an encoder of text.
type TextConfig struct {
	// Mapping has the address field of each of [flow.Record].Ends. Source,
	// destination and exporter are shown by name where SrcAddr, DstAddr and
	// SamplerAddress are mapped.
	Mapping []flow.MapEntry
	// Cluster is added to each line unless it is empty. On a terminal it is in the head.
	Cluster string
	// Fields is the value of -fields: default, and fields that are added by +NAME. Labels
	// and Elements become fields, too.
	Fields   string
	Labels   []flow.Label
	Elements []flow.ExtraElement
	// Color marks names with colours, by ECMA-48's escape sequences.
	Color bool
	// Width is the width of the terminal that the lines are for, in characters: they fit
	// into it, and there is a head with the date, the time zone and the columns' names. 0
	// is for no terminal: names are never shortened, and each line has the date and zone.
	Width int
	// Location is the time zone of times; nil is the local one.
	Location *time.Location
}

// Text encodes a record as one line for people to read:
//
//	2021-08-08T10:04:05Z shop/cart:56144 → default/kubernetes:443 TCP   20.8 kB    400 p via node-1
//
// These are the time of receipt, the two ends (namespace and workload, or the
// address where the owner is not known), protocol, bytes, packets and exporter, direction
// and verdict where they are known, and the fields that were asked for besides. Without a
// terminal, the columns of the ends are as wide as the widest name so far, up to a bound.
//
// Any number of goroutines may use an encoder.
type Text struct {
	cfg               TextConfig
	src, dst, sampler int // index of the end, or -1
	// widths are the numbers of characters of source and destination: the largest so far,
	// or what the terminal has room for.
	widths [2]atomic.Int32
	// samplerWidth is the room for the exporter, 0 for none; endless without a terminal.
	samplerWidth int
	// state reports whether there is room for direction and verdict.
	state bool
	// columns are the fields that were asked for.
	columns []textColumn
	// day is the last day that the head has named, counted from 1970 on; 0 before the first.
	day atomic.Int64
}

const (
	minEndWidth = len("255.255.255.255:65535")
	maxEndWidth = 48
	protoWidth  = len("ICMP6")
	bytesWidth  = len("99.9 kB")
	packetWidth = 6
	endless     = 1 << 20
	// textRoom is enough bytes for most lines.
	textRoom = 256

	// fixedWidth is what a line on a terminal takes besides the ends and the exporter.
	fixedWidth = len("10:04:05 ") + len(" > ") + len(" ") + protoWidth + len(" ") + bytesWidth + len(" ") + packetWidth + len(" p")
	// viaWidth is what stands before the exporter. It has its column only where the ends
	// have comfortWidth characters each without it.
	viaWidth     = len(" via ")
	comfortWidth = 28
	// least and most of what names get on a terminal.
	leastEndWidth                       = 12
	leastSamplerWidth, mostSamplerWidth = 16, 30
)

// The escape sequences of colours.
const (
	colorNone    = "\x1b[0m"
	colorDim     = "\x1b[2m"
	colorBold    = "\x1b[1m"
	colorName    = "\x1b[1;32m" // green: a workload
	colorService = "\x1b[1;36m" // cyan
	colorNode    = "\x1b[1;34m" // blue
	colorEgress  = "\x1b[1;35m" // magenta: what leaves by an address of its own
	colorUnsure  = "\x1b[1;33m" // yellow: there is a warning
)

// NewText returns an encoder. Errors begin with the name of the option that is wrong.
func NewText(cfg TextConfig) (*Text, error) {
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
	e := &Text{cfg: cfg, src: end(flow.FieldSrcAddr), dst: end(flow.FieldDstAddr), sampler: end(flow.FieldSamplerAddress), samplerWidth: endless, state: true}
	var err error
	if e.columns, err = newColumns(cfg); err != nil {
		return nil, err
	}
	width := minEndWidth
	if cfg.Width > 0 {
		width = e.fit()
	}
	for i := range e.widths {
		e.widths[i].Store(int32(width))
	}
	return e, nil
}

// addedFields returns the names of fields that lines have besides the columns: those that
// -fields adds, and those that -kube.labels and -fields.elements have asked for.
func addedFields(cfg TextConfig) (names []string, err error) {
	for _, e := range cfg.Mapping {
		for _, l := range cfg.Labels {
			names = append(names, e.Prefix+l.Field)
		}
	}
	for i := range cfg.Elements {
		names = append(names, cfg.Elements[i].Name)
	}
	for token := range strings.SplitSeq(cfg.Fields, ",") {
		token = strings.TrimSpace(token)
		name, added := strings.CutPrefix(token, "+")
		switch {
		case token == "" || token == "default":
		case added && name != "default" && name != "all":
			names = append(names, name)
		default:
			return nil, fmt.Errorf("fields: %q: lines of text have columns of their own, to which +NAME adds a field; for fewer, give -format json", token)
		}
	}
	return names, nil
}

// fit divides the terminal's width: it returns that of each end, and sets what there is of
// the other columns.
func (e *Text) fit() int {
	room := e.fitColumns(e.cfg.Width - fixedWidth)
	e.samplerWidth, e.state = 0, false
	if spare := room - 2*comfortWidth - viaWidth - leastSamplerWidth; spare >= 0 {
		e.samplerWidth = min(leastSamplerWidth+spare/6, mostSamplerWidth)
		room -= viaWidth + e.samplerWidth
	}
	if e.samplerWidth > 0 && room-2*comfortWidth-stateWidth >= 0 {
		e.state = true
		room -= stateWidth
	}
	return max(room/2, leastEndWidth)
}

// Fields returns the fields of the flow that the encoder writes.
func (e *Text) Fields() (fields flow.FieldSet) {
	fields.Add(flow.FieldTimeReceivedNs, flow.FieldSrcAddr, flow.FieldDstAddr, flow.FieldSamplerAddress,
		flow.FieldSrcPort, flow.FieldDstPort, flow.FieldSrcMac, flow.FieldDstMac, flow.FieldEtype, flow.FieldProto,
		flow.FieldBytes, flow.FieldPackets, flow.FieldCountsOnce, flow.FieldFlowDirection, flow.FieldVerdict)
	for i := range e.columns {
		fields.Union(e.columns[i].json.Fields())
	}
	return fields
}

// AppendRecord appends the record's line.
func (e *Text) AppendRecord(dst []byte, r *flow.Record) []byte {
	if r.Line != nil && r.Line.Close < 0 {
		return append(appendPrintable(dst, string(r.Line.Text)), '\n') // a line that is no record
	}
	m := &r.Msg
	b := reserve(dst, len(dst), textRoom)[:len(dst)]
	received := time.Unix(0, int64(m.TimeReceivedNs)).In(e.cfg.Location)
	if e.cfg.Width > 0 {
		b = e.appendHead(b, received)
	}
	// What another record counts is there for completeness.
	p := painter{b: b, on: e.cfg.Color}
	if !r.CountsOnce() {
		p.dimmed()
	}
	p.color(colorDim)
	if e.cfg.Width > 0 {
		p.b = appendClock(p.b, received)
	} else {
		p.b = received.AppendFormat(p.b, time.RFC3339)
	}
	p.color(colorNone)
	p.b = append(p.b, ' ')

	e.appendEnd(&p, r, 0, e.src, m.SrcAddr, m.SrcMac, m.SrcPort)
	e.appendArrow(&p, r)
	e.appendEnd(&p, r, 1, e.dst, m.DstAddr, m.DstMac, m.DstPort)
	p.b = append(p.b, ' ')

	start := len(p.b)
	p.b = appendProtocol(p.b, m.Etype, m.Proto)
	p.b = pad(p.b, protoWidth-(len(p.b)-start))
	p.b = append(p.b, ' ')
	p.b = AppendBytes(p.b, m.Bytes)
	p.b = append(p.b, ' ')
	p.b = appendRight(p.b, m.Packets, packetWidth)
	p.b = append(p.b, " p"...)

	if e.samplerWidth > 0 {
		e.appendSampler(&p, r)
	}
	if e.state {
		start, escapes := len(p.b), p.escapes
		e.appendState(&p, r)
		if e.cfg.Width > 0 && len(e.columns) > 0 {
			p.b = pad(p.b, stateWidth-(characters(p.b[start:])-(p.escapes-escapes)))
		}
	}
	if e.cfg.Cluster != "" && e.cfg.Width == 0 {
		p.b = append(p.b, " in "...)
		p.b = appendPrintable(p.b, e.cfg.Cluster)
	}
	e.appendColumns(&p, r)
	p.end()
	return append(p.b, '\n')
}

// appendHead appends the lines that stand over the columns: the date and zone when the
// day has changed, and the columns' names before the first record.
func (e *Text) appendHead(b []byte, t time.Time) []byte {
	_, offset := t.Zone()
	today := (t.Unix()+int64(offset))/(24*60*60) + 1
	last := e.day.Load()
	// Records of two workers may come in another order around midnight.
	if today == last || today == last-1 || !e.day.CompareAndSwap(last, today) {
		return b
	}
	p := painter{b: b, on: e.cfg.Color}
	p.color(colorDim)
	p.b = t.AppendFormat(p.b, "2006-01-02, times in MST (UTC-07:00)")
	if e.cfg.Cluster != "" {
		p.b = append(p.b, ", cluster "...)
		p.b = appendPrintable(p.b, e.cfg.Cluster)
	}
	p.color(colorNone)
	p.b = append(p.b, '\n')
	if last != 0 {
		return p.b
	}
	p.color(colorBold)
	p.b = append(p.b, "TIME     SOURCE"...)
	p.b = pad(p.b, int(e.widths[0].Load())-len("SOURCE"))
	p.b = append(p.b, "   DESTINATION"...)
	p.b = pad(p.b, int(e.widths[1].Load())-len("DESTINATION"))
	p.b = append(p.b, " PROTO   BYTES  PACKETS"...)
	if e.samplerWidth > 0 {
		p.b = append(p.b, " EXPORTER"...)
	}
	if e.state {
		p.b = pad(p.b, viaWidth+e.samplerWidth-len(" EXPORTER"))
		p.b = append(p.b, " DIR VERDICT"...)
	}
	if len(e.columns) > 0 {
		if e.samplerWidth > 0 && !e.state {
			p.b = pad(p.b, viaWidth+e.samplerWidth-len(" EXPORTER"))
		}
		p.b = e.appendColumnHeads(p.b)
	}
	p.color(colorNone)
	return append(p.b, '\n')
}

// appendClock appends hours, minutes and seconds.
func appendClock(b []byte, t time.Time) []byte {
	hour, minute, second := t.Clock()
	return append(b, pairs[2*hour], pairs[2*hour+1], ':', pairs[2*minute], pairs[2*minute+1], ':', pairs[2*second], pairs[2*second+1])
}

// appendProtocol appends the name or number of the IP protocol, or the name of the
// EtherType if the packet is not of IP.
func appendProtocol(b []byte, etype, proto uint32) []byte {
	if etype == flow.EtypeIPv6 && proto == flow.ProtoIPv6ICMP {
		return append(b, "ICMP6"...) // the registry's name is twice as wide as the others
	}
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

// AppendBytes appends a number of bytes in decimal units, aligned to the right.
func AppendBytes(b []byte, v uint64) []byte {
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
