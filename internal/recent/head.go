package recent

import (
	"encoding/binary"
	"math/bits"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// head is what sums need of a record. It is read without unpacking the others.
type head struct {
	received uint64
	Counts   // zero if other records count the packets
	src, dst flow.End
	// kind and exporter are the fields Type and SamplerAddress.
	kind     flowpb.FlowMessage_FlowType
	exporter []byte
	verdict  verdicts
	address  bool // the record has one
}

// ends says which of a record's Ends are its source and destination.
type ends struct{ src, dst, n int }

// head reads the head of the record at an offset.
func (p *page) head(at int, e ends) (h head) {
	b := p.bytes[at:]
	h.received = binary.LittleEndian.Uint64(b[offReceived:])
	h.src, h.dst = p.end(b, e.src, e.n), p.end(b, e.dst, e.n)
	n := offEnds + endSize*e.n
	mask := binary.LittleEndian.Uint64(b[n:])
	n += 8
	control := b[n : n+numberControl]
	values := b[n+numberControl:]
	h.address = mask&(bitSrcAddr|bitDstAddr) != 0
	// The first numbers are bytes, packets, sampling rate and type.
	l0, l1, l2, l3 := control[0]&15, control[0]>>4, control[1]&15, control[1]>>4
	bytes := binary.LittleEndian.Uint64(values) & lowBytes[l0]
	values = values[l0:]
	packets := binary.LittleEndian.Uint64(values) & lowBytes[l1]
	values = values[l1:]
	rate := binary.LittleEndian.Uint64(values) & lowBytes[l2]
	values = values[l2:]
	h.kind = flowpb.FlowMessage_FlowType(binary.LittleEndian.Uint64(values) & lowBytes[l3])
	if f := b[offFlags]; f&(flagDuplicate|flagSampled) == 0 && h.address {
		h.Bytes, h.Packets = flow.Estimate(bytes, packets, rate, f&flagScaled != 0)
		h.Flows = 1
	}
	h.variable(b[n+numberControl+numbersLen(control):], mask)
	return h
}

// of reads the head of a record that is unpacked.
func (h *head) of(r *flow.Record, e ends) {
	*h = head{received: r.Msg.TimeReceivedNs, verdict: verdictOf(r.Extra.Verdict)}
	if e.src < e.n {
		h.src = r.Ends[e.src]
	}
	if e.dst < e.n {
		h.dst = r.Ends[e.dst]
	}
	if r.CountsOnce() {
		h.Bytes, h.Packets = flow.Estimate(r.Msg.Bytes, r.Msg.Packets, r.Msg.SamplingRate, r.Extra.Scaled)
		h.Flows = 1
	}
}

// end returns one of a record's ends, none if it is not mapped.
func (p *page) end(b []byte, i, n int) (e flow.End) {
	if i >= n {
		return e
	}
	at := offEnds + endSize*i
	e.Status = flow.Status(b[at])
	if id := binary.LittleEndian.Uint16(b[at+1:]); id > 0 {
		e.Object = p.objects[id-1]
	}
	return e
}

// numbersLen returns how long the numbers are.
func numbersLen(control []byte) (n int) {
	const nibbles, bytes = 0x0f0f0f0f0f0f0f0f, 0x0101010101010101
	for len(control) >= 8 {
		v := binary.LittleEndian.Uint64(control)
		n += int(((v&nibbles)+(v>>4&nibbles))*bytes>>56) & 0xff
		control = control[8:]
	}
	for _, c := range control {
		n += int(c&15 + c>>4)
	}
	return n
}

// variable reads the exporter and the verdict in the fields of variable length.
func (h *head) variable(b []byte, mask uint64) {
	const wanted = bitSamplerAddress | bitVerdict
	for rest := mask; rest&wanted != 0; rest &= rest - 1 {
		bit := rest & -rest
		if bit&lists != 0 {
			b = skipList(b, bit)
			continue
		}
		var v []byte
		v, b = takeBytes(b)
		switch bit {
		case bitSamplerAddress:
			h.exporter = v
		case bitVerdict:
			h.verdict = verdictOf(v)
		}
	}
}

// lists are the fields that are lists.
const lists = bitASPath | bitBgpCommunities | bitLayerSize | bitLayerStack | bitMplsLabel | bitMplsTTL |
	bitMplsIP | bitIPv6RoutingHeaderAddresses | bitElements

// skipList returns what follows a list.
func skipList(b []byte, bit uint64) []byte {
	n, b := takeUint(b)
	for ; n > 0; n-- {
		switch bit {
		case bitMplsIP, bitIPv6RoutingHeaderAddresses:
			_, b = takeBytes(b)
		case bitElements:
			_, b = takeBytes(b[1:])
		default:
			_, b = takeUint(b)
		}
	}
	return b
}

// verdicts has what was decided about packets, several of it for a sum.
type verdicts uint8

const (
	verdictAllowed verdicts = 1 << iota
	verdictDropped
)

func verdictOf(v []byte) verdicts {
	switch string(v) {
	case flow.VerdictAllowed:
		return verdictAllowed
	case flow.VerdictDropped:
		return verdictDropped
	}
	return 0
}

// String returns the verdict as the API shows it.
func (v verdicts) String() string {
	return [...]string{"", flow.VerdictAllowed, flow.VerdictDropped, "mixed"}[v&3]
}

// Counts are estimates: see [flow.Estimate]. They stop at the largest number.
type Counts struct {
	Bytes   uint64 `json:"bytes"`
	Packets uint64 `json:"packets"`
	Flows   uint64 `json:"flows"`
}

func (c *Counts) add(d Counts) {
	c.Bytes, c.Packets, c.Flows = plus(c.Bytes, d.Bytes), plus(c.Packets, d.Packets), plus(c.Flows, d.Flows)
}

// remove takes away what was added before.
func (c *Counts) remove(d Counts) {
	c.Bytes, c.Packets, c.Flows = c.Bytes-d.Bytes, c.Packets-d.Packets, c.Flows-d.Flows
}

func plus(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return ^uint64(0)
	}
	return sum
}
