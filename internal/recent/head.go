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
	// src and dst are where the segment has the objects, from 1 on; 0 for none.
	src, dst uint16
	verdict  verdicts
	address  bool // the record has one
	named    bool // somebody in the cluster is known to have had one
	// kind and exporter are the fields Type and SamplerAddress.
	kind     flowpb.FlowMessage_FlowType
	exporter []byte
}

// ends says which of a record's Ends are its source and destination.
type ends struct{ src, dst, n int }

// counts reports whether the record says something of a pair.
func (h *head) counts() bool { return h.Flows != 0 || h.verdict != 0 }

// read reads the head of the record at an offset.
func (h *head) read(v *view, at int, e ends) {
	b := v.bytes[at:]
	h.received = binary.LittleEndian.Uint64(b[offReceived:])
	src, dst := statusOf(b, e.src, e.n), statusOf(b, e.dst, e.n)
	h.src, h.dst, h.named = placeOf(b, e.src, e.n), placeOf(b, e.dst, e.n), src|dst != flow.StatusNone
	n := offEnds + endSize*e.n
	mask := binary.LittleEndian.Uint64(b[n:])
	words := binary.LittleEndian.Uint64(b[n+maskSize:])
	b = b[n+2*maskSize:]
	h.address = mask&(bitSrcAddr|bitDstAddr) != 0
	h.Counts = Counts{}
	var rate uint64
	kind := v.base[wordType]
	if words&(7<<wordSamplingRate) == 0 { // as in most records: these are three words
		rate = uint64(v.base[wordSamplingRate]) | uint64(v.base[wordSamplingRate+1])<<32
	} else {
		rate = uint64(v.word(b, words, wordSamplingRate)) | uint64(v.word(b, words, wordSamplingRate+1))<<32
		kind = v.word(b, words, wordType)
	}
	h.kind = flowpb.FlowMessage_FlowType(kind)
	if f := v.bytes[at+offFlags]; f&(flagDuplicate|flagSampled) == 0 && h.address {
		bytes, packets := v.counters(b, words)
		h.Bytes, h.Packets = flow.Estimate(bytes, packets, rate, f&flagScaled != 0)
		h.Flows = 1
	}
	h.exporter, h.verdict = nil, 0
	if mask&(bitSamplerAddress|bitVerdict) != 0 { // these two are the first ones
		b = b[wordSize*bits.OnesCount64(words):]
		if mask&bitSamplerAddress != 0 {
			h.exporter, b = takeBytes(b)
		}
		if mask&bitVerdict != 0 {
			verdict, _ := takeBytes(b)
			h.verdict = verdictOf(verdict)
		}
	}
}

// word returns a word of the numbers of a record. b has those that differ from the first
// record's, and mask which ones these are.
func (v *view) word(b []byte, mask uint64, i int) uint32 {
	w := v.base[i]
	if mask>>i&1 != 0 {
		w ^= binary.LittleEndian.Uint32(b[wordSize*bits.OnesCount64(mask&(1<<i-1)):])
	}
	return w
}

// counters returns bytes and packets, whose words are the first ones.
func (v *view) counters(b []byte, mask uint64) (bytes, packets uint64) {
	var w [4]uint32
	if len(b) < len(w)*wordSize { // a short last record, of which there may be less than a word
		for i := range w {
			w[i] = v.word(b, mask, i)
		}
		return uint64(w[wordBytes]) | uint64(w[wordBytes+1])<<32, uint64(w[wordPackets]) | uint64(w[wordPackets+1])<<32
	}
	for i := range w {
		differs := uint32(mask >> i & 1)
		w[i] = v.base[i] ^ binary.LittleEndian.Uint32(b)&-differs
		b = b[wordSize*differs:]
	}
	return uint64(w[wordBytes]) | uint64(w[wordBytes+1])<<32, uint64(w[wordPackets]) | uint64(w[wordPackets+1])<<32
}

// placeOf returns where the segment has one of the ends of a packed record.
func placeOf(b []byte, i, n int) uint16 {
	if i >= n {
		return 0
	}
	return binary.LittleEndian.Uint16(b[offEnds+endSize*i+1:])
}

// statusOf returns how one of the ends of a packed record was found. The object of an end without
// a name, if it has one, is only a place.
func statusOf(b []byte, i, n int) flow.Status {
	if i >= n {
		return flow.StatusNone
	}
	return flow.Status(b[offEnds+endSize*i])
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

// countsOf returns what a record counts: nothing if other records count its packets.
func countsOf(r *flow.Record) (c Counts) {
	if r.CountsOnce() {
		c.Bytes, c.Packets = flow.Estimate(r.Msg.Bytes, r.Msg.Packets, r.Msg.SamplingRate, r.Extra.Scaled)
		c.Flows = 1
	}
	return c
}

func (c *Counts) add(d Counts) {
	c.Bytes, c.Packets, c.Flows = plus(c.Bytes, d.Bytes), plus(c.Packets, d.Packets), plus(c.Flows, d.Flows)
}

func plus(a, b uint64) uint64 {
	sum, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return ^uint64(0)
	}
	return sum
}
