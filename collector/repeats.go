package collector

import (
	"slices"

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

// findRepeats finds the elements that are there several times, those of IANA and their
// reverse ones.
func (rd *recordDecoder) findRepeats() {
	// Both are one more than an index, by whether the element is a reverse one and by its
	// id: of its first field, and in rd.repeats.
	var first, at [2][maxElement]int16
	fields := rd.tmpl.fields
	for i := range fields {
		e, reverse := elementOf(&fields[i]), 0
		if e.PEN == penReverse {
			reverse = 1
		}
		if e.ID >= maxElement || e.PEN != penIANA && reverse == 0 || isList(e) {
			continue
		}
		before := first[reverse][e.ID] - 1
		if before < 0 {
			first[reverse][e.ID] = int16(i) + 1
			continue
		}
		n := int(at[reverse][e.ID]) - 1
		if n < 0 {
			n = len(rd.repeats)
			at[reverse][e.ID] = int16(n) + 1
			rd.repeats = append(rd.repeats, repeatedElement{})
			rd.at = append(rd.at, valueBounds{})
			rd.addRepeat(n, int(before))
		}
		rd.addRepeat(n, i)
	}
}

// addRepeat adds a field to an element that is there several times.
func (rd *recordDecoder) addRepeat(n, field int) {
	if rd.canonicalAt == nil {
		rd.canonicalAt = make([]uint16, len(rd.tmpl.fields))
	}
	rd.canonicalAt[field] = uint16(len(rd.tmpl.fields) + n)
	rd.repeats[n].fields = append(rd.repeats[n].fields, uint16(field))
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
// that is there several times has a place of its own, which is its own canonical place.
func (rd *recordDecoder) canonical(field int) int {
	if field < len(rd.canonicalAt) && rd.canonicalAt[field] > 0 {
		return int(rd.canonicalAt[field])
	}
	return field
}

// resolveRepeats finds the values that count of the record that locate was called for
// last.
func (rd *recordDecoder) resolveRepeats(record []byte) {
	for i := range rd.repeats {
		fields := rd.repeats[i].fields
		at := rd.at[fields[len(fields)-1]]
		for _, field := range slices.Backward(fields) {
			if v := rd.at[field]; !allZero(record[v.offset : v.offset+v.length]) {
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
