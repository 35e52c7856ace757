package collector

import (
	"unsafe"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// element is a field of the template as one direction reads it.
type element struct {
	flow.Element
	index int  // in the template
	skip  bool // the direction does not have it
}

// newRecordDecoder compiles how the records of a template are read.
func newRecordDecoder(t *template) *recordDecoder {
	rd := &recordDecoder{tmpl: *t, sampler: -1, sequence: -1, physical: [2]int16{-1, -1}, at: make([]valueBounds, len(t.fields))}
	rd.findRepeats()
	rd.rate = newRateElements(rd)
	steps.Add(3*steps.Allocation + 2*len(t.fields))
	steps.Copied(t.minLen + len(t.fields)*int(unsafe.Sizeof(element{})))
	offset := 0
	elements := make([]element, len(t.fields))
	for i := range t.fields {
		f := &t.fields[i]
		elements[i] = element{Element: elementOf(f), index: i}
		switch elements[i].Element {
		case flow.Element{ID: ieSamplerID}, flow.Element{ID: ieSelectorID}:
			rd.sampler = rd.canonical(i)
		case flow.Element{ID: ieSelectionSequenceID}:
			rd.sequence = rd.canonical(i)
		case flow.Element{ID: ieIngressPhysicalInterface}:
			rd.physical[0] = int16(rd.canonical(i))
		case flow.Element{ID: ieEgressPhysicalInterface}:
			rd.physical[1] = int16(rd.canonical(i))
		}
		if !t.variable {
			rd.at[i] = valueBounds{offset, int(f.Length)}
			offset += int(f.Length)
		}
	}
	// The buffer is in cache lines of its own: it is written for each record, and
	// other workers' record decoders may lie beside it.
	const line = 64
	rd.scratch = make([]byte, line+t.minLen+line)[line : line+t.minLen : line+t.minLen]
	rd.forward = rd.compile(elements)
	if reversed := reverseElements(elements); reversed != nil {
		d := rd.compile(reversed)
		for i, x := range d.extra {
			if x.op == opSetUint && x.field == flow.FieldBiFlowDirection {
				d.extra[i].op = opReverseBiflowDirection
			}
		}
		rd.reverse = &d
		for _, el := range elements {
			if isReverseCounter(el) {
				rd.reverseCounters = append(rd.reverseCounters, uint16(el.index))
			}
		}
	}
	return rd
}

const (
	// maxElement is above all IANA elements that are looked for in a template.
	maxElement = 512
	// maxVariants is above the number of elements that may fill one field.
	maxVariants = 8
)

// compiler compiles how the elements of one direction are read.
type compiler struct {
	rd        *recordDecoder
	version   uint16
	elements  []element
	direction direction
	// slots are the offsets of the fields in the scratch buffer. A variable-length
	// field takes one byte there.
	slots []int
	// The next three are by IANA element, and one more than the index of a field, so
	// that 0 is for elements that the direction lacks. They are arrays, since a datagram
	// may hold hundreds of templates of hundreds of fields.
	//
	// first is the first field of the element, last the last one with a short value, and
	// lastOther the last one with a long value or a variable length.
	first, last, lastOther [maxElement]int16
	// extraOfField and extraOfOp are one more than the index of an extra field, by field
	// or by op, and by variant.
	extraOfField [len(flow.Fields)][maxVariants]int16
	extraOfOp    [numExtraOps][maxVariants]int16
	// candidates are the elements that goflow2 makes the same of.
	candidates [numTargets]choice
	// repeated are other elements that goflow2 reads and that are there several times.
	repeated []choice
	// hasBytes and hasPackets report whether the usual counters are there.
	hasBytes, hasPackets bool
	// texts counts the texts so far of which there may be two.
	texts map[uint16]int
}

func (rd *recordDecoder) compile(elements []element) direction {
	c := &compiler{rd: rd, version: rd.tmpl.key.version, elements: elements}
	// A field of goflow2's and an extra one may be made of each element.
	steps.Add(16*steps.Allocation + (6+steps.Lookup+steps.Allocation/2)*len(elements))
	c.layOut()
	c.hasBytes, c.hasPackets = c.find(ieOctetDeltaCount) >= 0, c.find(iePacketDeltaCount) >= 0
	c.addICMP()
	c.addMPLS()
	for _, el := range elements {
		if el.skip {
			continue
		}
		if el.PEN == penIANA {
			c.addGoflow2Field(el)
		}
		c.addElement(el)
	}
	c.addChoices()
	c.addSubstitutes()
	c.addCounters()
	c.addTimes()
	c.addSections()
	c.direction.outer = c.findOuterHeader()
	c.direction.hasDirection = c.find(ieFlowDirection) >= 0
	c.direction.openVSwitch = c.version == 10 && isOpenVSwitch(elements)
	return c.direction
}

// layOut finds out where fields are in the scratch buffer, and which field of an
// element is the last one.
func (c *compiler) layOut() {
	c.slots = make([]int, len(c.rd.tmpl.fields))
	offset := 0
	for i := range c.rd.tmpl.fields {
		c.slots[i] = offset
		if f := &c.rd.tmpl.fields[i]; f.Length == variableLength {
			offset++
		} else {
			offset += int(f.Length)
		}
	}
	for _, el := range c.elements {
		if el.PEN != penIANA || el.skip || el.ID >= maxElement {
			continue
		}
		at := int16(el.index) + 1 // a template has at most maxTemplateFields
		if c.first[el.ID] == 0 {
			c.first[el.ID] = at
		}
		if n := c.rd.tmpl.fields[el.index].Length; n <= 8 || n != variableLength && isNextHop(el.ID) {
			c.last[el.ID] = at
		} else {
			c.lastOther[el.ID] = at
		}
	}
}

// lastOf returns the index of the last field of an IANA element below maxElement, -1 if
// there is none. One with a short value goes before others.
func (c *compiler) lastOf(id uint16) int16 {
	if i := c.last[id]; i > 0 {
		return int16(c.rd.canonical(int(i) - 1))
	}
	if i := c.lastOther[id]; i > 0 {
		return int16(c.rd.canonical(int(i) - 1))
	}
	return -1
}

// find returns the index of the first field of an IANA element below maxElement, or of
// the value that counts of several, -1 if there is none.
func (c *compiler) find(id uint16) int {
	if i := c.first[id]; i > 0 {
		return c.rd.canonical(int(i) - 1)
	}
	return -1
}

// findFirst returns the index of the first element that is there, or -1.
func (c *compiler) findFirst(ids ...uint16) int {
	for _, id := range ids {
		if i := c.find(id); i >= 0 {
			return i
		}
	}
	return -1
}

// addGoflow2Field has goflow2's producer read an element, if it can.
func (c *compiler) addGoflow2Field(el element) {
	d, f := &c.direction, &c.rd.tmpl.fields[el.index]
	start, end := goflow2Time(c.version, el.ID)
	d.hasStart, d.hasEnd = d.hasStart || start, d.hasEnd || end
	number, raw := readByGoflow2(c.version, el.ID)
	if el.ID == iePostOctetDeltaCount && c.hasBytes || el.ID == iePostPacketDeltaCount && c.hasPackets {
		number = false // see addCounters
	}
	if isICMP(el.ID) && d.icmp.own {
		number = false // see icmpReader
	}
	isVariable := f.Length == variableLength
	if !raw && !(number && (isVariable || f.Length <= 8)) {
		return
	}
	df := netflow.DataField{Type: el.ID}
	if isVariable {
		d.variable = append(d.variable, variableField{uint16(len(d.fields)), uint16(el.index)})
	} else {
		slot, end := c.slots[el.index], c.slots[el.index]+int(f.Length)
		df.Value = c.rd.scratch[slot:end:end]
	}
	d.fields = append(d.fields, df)
	c.addCandidate(el, isVariable)
}

// addElement adds an extra field for an element that maps to one field.
func (c *compiler) addElement(el element) {
	if el.PEN == penIANA && el.ID == ieIPTTL {
		return // see addSubstitutes
	}
	if f, ok := flow.FieldByElement(el.Element); ok {
		if len(f.Elements) > 1 {
			c.addExtra(setOneOf(f, el.Element), el.index)
		} else {
			c.addExtra(setField(f.ID), el.index)
		}
		return
	}
	if el.PEN != penIANA {
		return
	}
	switch el.ID {
	case ieInterfaceName, ieInterfaceDescription, ieVRFName:
		// Open vSwitch sends the name twice in the templates of outgoing packets:
		// of the ingress, then of the egress interface.
		n := c.texts[el.ID]
		if n == 0 && c.isEgressText(el) {
			n = 1
		}
		if n < len(textPairs[el.ID]) {
			c.addExtra(textPairs[el.ID][n], el.index)
		}
		if c.texts == nil {
			c.texts = make(map[uint16]int)
		}
		c.texts[el.ID]++
	case ieApplicationID:
		c.addExtra(extraField{op: opApplicationID}, el.index)
	case ieApplicationDescription:
		if c.find(ieApplicationName) < 0 {
			c.addExtra(setField(flow.FieldApplicationName), el.index)
		}
	}
}

// isEgressText reports whether a text is of the egress side: it is the only one, and of
// the two sides the template has the egress side alone.
func (c *compiler) isEgressText(el element) bool {
	if int(max(c.last[el.ID], c.lastOther[el.ID]))-1 != el.index {
		return false
	}
	if el.ID == ieVRFName {
		return c.find(ieIngressVRFID) < 0 && c.find(ieEgressVRFID) >= 0
	}
	return c.findFirst(ieIngressInterface, ieIngressPhysicalInterface) < 0 && c.findFirst(ieEgressInterface, ieEgressPhysicalInterface) >= 0
}

// addExtra adds an extra field. If an element is there several times the last one
// counts, as with those that goflow2 reads.
func (c *compiler) addExtra(x extraField, index int) {
	x.index = uint16(c.rd.canonical(index))
	x.other = -1
	d := &c.direction
	at := &c.extraOfOp[x.op][x.variant]
	if x.op <= opSetAddrUnlessZero {
		at = &c.extraOfField[x.field][x.variant]
	}
	if *at > 0 && d.extra[*at-1].op == x.op {
		d.extra[*at-1].index = x.index
		return
	}
	d.extra = append(d.extra, x)
	*at = int16(len(d.extra))
}

// addSections adds the beginnings of packets. They come last: they fill in counters
// only where the record has none.
func (c *compiler) addSections() {
	for _, section := range [...]struct {
		id uint16
		op extraOp
	}{{ieDataLinkFrameSection, opFrameSection}, {ieIPHeaderPacketSection, opIPSection}} {
		if i := c.find(section.id); i >= 0 {
			c.addExtra(extraField{op: section.op}, i)
			c.direction.sections = true
		}
	}
}

// addIfZero adds an extra field that sets a field to the value of an element, if the
// template has it and the field is 0 until then.
func (c *compiler) addIfZero(id uint16, field flow.FieldID) {
	if i := c.lastOf(id); i >= 0 {
		x := setField(field)
		x.op, x.index = opSetUintIfZero, uint16(i)
		c.direction.extra = append(c.direction.extra, x)
	}
}
