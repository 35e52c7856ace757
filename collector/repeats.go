package collector

import (
	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// A template may have an element several times (RFC 7011, 8). Of its values the last
// one counts that is not 0: a zero never replaces a value. Elements of a packet in a
// tunnel are an exception, see [outerHeader].

// repeatedElement is an element that a template has several times. The recordDecoder has a place
// of its own for the value that counts, behind those of the template's fields.
type repeatedElement struct {
	fields []uint16 // in the template, two at least
}

// findRepeats finds the elements that are there several times. Fields without bytes have
// no value.
func (rd *recordDecoder) findRepeats() {
	fields := rd.tmpl.fields
	first := make(map[flow.Element]int, len(fields))
	var at map[flow.Element]int // in rd.repeats
	for i := range fields {
		f := &fields[i]
		if f.Length == 0 {
			continue
		}
		e := elementOf(f)
		before, twice := first[e]
		if !twice {
			first[e] = i
			continue
		}
		if isList(e) {
			continue
		}
		n, known := at[e]
		if !known {
			if at == nil {
				at = make(map[flow.Element]int)
				rd.canonicalAt = make(map[uint16]uint16)
			}
			n = len(rd.repeats)
			at[e] = n
			rd.repeats = append(rd.repeats, repeatedElement{fields: []uint16{uint16(before)}})
			rd.canonicalAt[uint16(before)] = uint16(len(fields) + n)
			rd.at = append(rd.at, valueBounds{})
		}
		rd.repeats[n].fields = append(rd.repeats[n].fields, uint16(i))
		rd.canonicalAt[uint16(i)] = uint16(len(fields) + n)
	}
}

// isList reports whether each of several elements says something by itself, or none does:
// names are those of the ingress and of the egress side, and goflow2 lists addresses of
// labels.
func isList(e flow.Element) bool {
	if e.PEN != penIANA {
		return false
	}
	switch e.ID {
	case ieInterfaceName, ieInterfaceDescription, ieVRFName, ieMPLSTopLabelIPv4Address, ieMPLSTopLabelIPv6Address,
		ieIPHeaderPacketSection, ieDataLinkFrameSection, iePaddingOctets:
		return true
	}
	return false
}

// canonical returns where the value is of a field of the template: that of an element
// that is there several times has a place of its own.
func (rd *recordDecoder) canonical(field int) int {
	if at, ok := rd.canonicalAt[uint16(field)]; ok {
		return int(at)
	}
	return field
}

// resolveRepeats finds the values that count of the record that locate was called for
// last.
func (rd *recordDecoder) resolveRepeats(record []byte) {
	for i := range rd.repeats {
		fields := rd.repeats[i].fields
		at := rd.at[fields[len(fields)-1]]
		for n := len(fields) - 1; n >= 0; n-- {
			if v := rd.at[fields[n]]; !allZero(record[v.offset : v.offset+v.length]) {
				at = v
				break
			}
		}
		rd.at[len(rd.tmpl.fields)+i] = at
	}
}

// elementOf returns the element of a template's field.
func elementOf(f *netflow.Field) flow.Element {
	e := flow.Element{ID: f.Type}
	if f.PenProvided {
		e.PEN = f.Pen
	}
	return e
}
