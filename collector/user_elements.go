package collector

import (
	"slices"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// userElements are the elements that the user has made fields of, and where they are
// in that list.
type userElements struct {
	list []flow.ExtraElement
	at   map[flow.Element]uint8
}

func newUserElements(list []flow.ExtraElement) *userElements {
	e := &userElements{list: list, at: make(map[flow.Element]uint8)}
	for i := range list {
		e.at[list[i].Element] = uint8(i)
	}
	return e
}

// elementField is a field of a template that holds an element of the user's list.
type elementField struct {
	index   uint16 // in the template
	element uint8  // in the user's list
	typ     flow.ElementType
}

// setElements finds out which fields of the template hold elements of the user's list.
// Of an element that is there several times the last counts that is not 0, as with
// fields. The
// other direction of a biflow has those that RFC 5103 gives it, and IANA's elements
// that are of no direction.
func (rd *recordDecoder) setElements(e *userElements) {
	if len(e.list) == 0 || rd.tmpl.options {
		return
	}
	var reversed map[uint16]bool
	if rd.reverse != nil {
		reversed = make(map[uint16]bool)
	}
	for i := range rd.tmpl.fields {
		el := elementOf(&rd.tmpl.fields[i])
		rd.forward.addElement(e, el, rd.canonical(i))
		if el.PEN == penReverse && reversed != nil {
			reversed[el.ID] = true
		}
	}
	if rd.reverse != nil {
		for i := range rd.tmpl.fields {
			f := &rd.tmpl.fields[i]
			switch el := (flow.Element{ID: f.Type}); {
			case f.PenProvided && f.Pen == penReverse, !f.PenProvided && !reversed[f.Type]:
				rd.reverse.addElement(e, el, rd.canonical(i))
			}
		}
		rd.elementValues = make([]flow.ElementValue, 0, max(len(rd.forward.elements), len(rd.reverse.elements)))
		return
	}
	rd.elementValues = make([]flow.ElementValue, 0, len(rd.forward.elements))
}

func (d *direction) addElement(e *userElements, el flow.Element, index int) {
	steps.Add(steps.Lookup)
	at, ok := e.at[el]
	if !ok {
		return
	}
	steps.Add(len(d.elements))
	ef := elementField{uint16(index), at, e.list[at].Type}
	if i := slices.IndexFunc(d.elements, func(known elementField) bool { return known.element == at }); i >= 0 {
		d.elements[i] = ef
		return
	}
	d.elements = append(d.elements, ef)
}

// readElements returns the elements of the user's list that a record has. They are
// valid until the next record.
func (d *direction) readElements(rd *recordDecoder, record []byte) []flow.ElementValue {
	values := rd.elementValues[:0]
	for _, ef := range d.elements {
		v := rd.value(record, int(ef.index))
		if !ef.typ.Holds(v) {
			continue
		}
		if ef.typ == flow.ElementString {
			v = text(v)
		}
		values = append(values, flow.ElementValue{Index: ef.element, Value: v})
	}
	return values
}

// ReadsElement reports whether records have a field for an element, so that no other
// one can be made of it.
func ReadsElement(e flow.Element) bool {
	if _, ok := flow.FieldByElement(e); ok {
		return true
	}
	if e.PEN == penReverse {
		return ReadsElement(flow.Element{ID: e.ID})
	}
	if e.PEN != penIANA {
		return false
	}
	for _, version := range []uint16{9, 10} {
		number, raw := readByGoflow2(version, e.ID)
		start, end := goflow2Time(version, e.ID)
		if number || raw || start || end {
			return true
		}
	}
	_, pair := textPairs[e.ID]
	return pair || readInPlace(e.ID)
}

// readInPlace reports whether the collector itself makes a field of one of IANA's elements
// that neither goflow2 reads nor a row of the fields' table has. Counters and the like
// that only stand in for others are none: they say more than the field that they fill,
// such as totals since the flow's start (IE 85, 86).
func readInPlace(id uint16) bool {
	switch id {
	case ieEthernetType, ieApplicationID, ieApplicationDescription,
		ieFlowStartSysUpTime, ieFlowEndSysUpTime,
		ieObservationTimeSeconds, ieObservationTimeMilliseconds, ieObservationTimeMicroseconds, ieObservationTimeNanoseconds,
		ieSamplingInterval, ieSamplerRandomInterval,
		ieSourceIPv4Prefix, ieDestinationIPv4Prefix, ieSourceIPv6Prefix, ieDestinationIPv6Prefix,
		ieDot1qVLANID, iePostDot1qVLANID,
		ieUDPSourcePort, ieUDPDestinationPort, ieTCPSourcePort, ieTCPDestinationPort,
		ieIngressPhysicalInterface, ieEgressPhysicalInterface,
		ieInitiatorOctets, ieResponderOctets, ieInitiatorPackets, ieResponderPackets,
		ieIPHeaderPacketSection, ieDataLinkFrameSection, ieLayer2SegmentID:
		return true
	}
	return id >= ieMPLSTopLabelStackSection && id <= ieMPLSLabelStackSection10
}
