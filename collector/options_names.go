package collector

import (
	"strconv"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// naming is a set of the numbers of a record that options data may give a name to.
type naming uint8

const (
	nameInIf naming = 1 << iota
	nameOutIf
	nameIngressVRF
	nameEgressVRF
	nameApplicationID

	nameIfs  = nameInIf | nameOutIf
	nameVRFs = nameIngressVRF | nameEgressVRF
)

// wantedNames returns what the fields that are asked for need names of.
func wantedNames(fields *flow.FieldSet) (n naming) {
	for id, of := range map[flow.FieldID]naming{
		flow.FieldInIfName: nameInIf, flow.FieldInIfDescription: nameInIf,
		flow.FieldOutIfName: nameOutIf, flow.FieldOutIfDescription: nameOutIf,
		flow.FieldIngressVrfName: nameIngressVRF, flow.FieldEgressVrfName: nameEgressVRF,
		flow.FieldApplicationName: nameApplicationID,
	} {
		if fields.Has(id) {
			n |= of
		}
	}
	return n
}

// setNames finds out which of the wanted names the records of the template have use
// for, or whether its options data have some.
func (rd *recordDecoder) setNames(wanted naming) {
	var n naming
	steps.Add(len(rd.tmpl.fields))
	for i := range rd.tmpl.fields {
		f := &rd.tmpl.fields[i]
		if f.PenProvided {
			continue
		}
		switch f.Type {
		case ieIngressInterface, ieIngressPhysicalInterface:
			n |= nameInIf
		case ieEgressInterface, ieEgressPhysicalInterface:
			n |= nameOutIf
		case ieIngressVRFID:
			n |= nameIngressVRF
		case ieEgressVRFID:
			n |= nameEgressVRF
		case ieApplicationID:
			n |= nameApplicationID
			rd.application = rd.canonical(i)
			rd.applicationID = make([]byte, 0, maxApplicationID)
		case ieInterfaceName, ieInterfaceDescription, ieVRFName:
			rd.hasNames = rd.tmpl.options && wanted != 0
		}
	}
	if rd.tmpl.options {
		rd.hasNames = rd.hasNames || n&wanted&nameApplicationID != 0
		return
	}
	rd.forward.names = n & wanted
	if rd.reverse != nil {
		rd.reverse.names = n.opposite() & wanted
	}
}

// opposite exchanges the two ends of a biflow.
func (n naming) opposite() naming {
	return n&nameApplicationID | n&(nameInIf|nameIngressVRF)<<1 | n&(nameOutIf|nameEgressVRF)>>1
}

// addNames fills in the names of interfaces, VRFs and the application that options
// data have announced. What the record says itself stays.
func (d *Decoder) addNames(n naming, t *templateBinding, record []byte, domain uint32) {
	names := &d.peer.exporter.names
	if names.buckets.Load() == nil {
		return
	}
	find := func(k nameKey, of nameSource) *namedEntry {
		if d.owes() {
			return nil
		}
		e, passed := names.find(k, of)
		d.spend(passed * workOfNamer)
		return e
	}
	of := nameSource{domain, d.peer.source.Port(), uint32(d.received / 1e9)}
	m, x := &d.rec.Msg, &d.rec.Extra
	if n&nameInIf != 0 && m.InIf != 0 {
		if e := find(nameKey{nameOfInterface, uint64(m.InIf)}, of); e != nil {
			setText(&x.InIfName, e.name)
			setText(&x.InIfDescription, e.description)
		}
	}
	if n&nameOutIf != 0 && m.OutIf != 0 {
		if e := find(nameKey{nameOfInterface, uint64(m.OutIf)}, of); e != nil {
			setText(&x.OutIfName, e.name)
			setText(&x.OutIfDescription, e.description)
		}
	}
	if n&nameIngressVRF != 0 {
		if e := find(nameKey{nameOfVRF, uint64(x.IngressVrfID)}, of); e != nil {
			setText(&x.IngressVrfName, e.name)
		}
	}
	if n&nameEgressVRF != 0 {
		if e := find(nameKey{nameOfVRF, uint64(x.EgressVrfID)}, of); e != nil {
			setText(&x.EgressVrfName, e.name)
		}
	}
	if n&nameApplicationID != 0 && len(x.ApplicationName) == 0 {
		if key, ok := applicationKey(t.value(record, t.application)); ok {
			if e := find(key, of); e != nil {
				x.ApplicationName = e.name
			}
		}
	}
}

// setText sets a text that is not set.
func setText(to *[]byte, text []byte) {
	if len(*to) == 0 {
		*to = text
	}
}

// applicationKey returns the key of an applicationId: a byte for the engine that
// classified it, then the selector, whose length may vary (RFC 6759, 4.1). ok is false
// if there is none.
func applicationKey(v []byte) (k nameKey, ok bool) {
	if len(v) == 0 {
		return k, false
	}
	selector := v[1:]
	for len(selector) > 0 && selector[0] == 0 {
		selector = selector[1:]
	}
	if len(selector) > 7 {
		return k, false
	}
	return nameKey{nameOfApplication, uint64(v[0])<<56 | number(selector)}, true
}

// decodeNames remembers the names in a record of options data about a domain. Which
// elements there are decides what is named: their order does not matter.
func (d *Decoder) decodeNames(t *templateBinding, b []byte, domain uint32) {
	var (
		in, out, ingressVRF, egressVRF, application []byte
		names, descriptions                         [2][]byte // of interfaces, as they come
		vrf, appName, appDescription                []byte
	)
	steps.Add(len(t.tmpl.fields))
	for i := range t.tmpl.fields {
		f := &t.tmpl.fields[i]
		if f.PenProvided {
			continue
		}
		v := t.value(b, i)
		if i < t.tmpl.scopes && t.tmpl.key.version == 9 {
			if f.Type == scopeInterface9 {
				in = v
			}
			continue // v9 has numbers of their own for scopes
		}
		switch f.Type {
		case ieIngressInterface, ieIngressPhysicalInterface:
			in = firstNumber(in, v)
		case ieEgressInterface, ieEgressPhysicalInterface:
			out = firstNumber(out, v)
		case ieInterfaceName:
			keepFirst(&names, v)
		case ieInterfaceDescription:
			keepFirst(&descriptions, v)
		case ieIngressVRFID:
			ingressVRF = v
		case ieEgressVRFID:
			egressVRF = v
		case ieVRFName:
			vrf = text(v)
		case ieApplicationID:
			application = v
		case ieApplicationName:
			appName = text(v)
		case ieApplicationDescription:
			appDescription = text(v)
		}
	}
	if d.wantedNames&nameIfs != 0 {
		d.learnInterfaces(domain, number(in), number(out), &names, &descriptions)
	}
	if d.wantedNames&nameVRFs != 0 && vrf != nil {
		if ingressVRF == nil || egressVRF != nil && number(ingressVRF) == 0 {
			ingressVRF = egressVRF
		}
		if ingressVRF != nil {
			d.learnName(domain, nameKey{nameOfVRF, number(ingressVRF)}, vrf, nil)
		}
	}
	if d.wantedNames&nameApplicationID != 0 {
		if len(appName) == 0 && appDescription != nil {
			appName = appDescription
		}
		if k, ok := applicationKey(application); ok && appName != nil {
			d.learnName(domain, k, appName, nil)
		}
	}
}

// learnInterfaces remembers the names and descriptions of the interfaces in and out of
// a record of options data. A record that names one has its index in either or in
// both; a record that names both has two names, that of in first.
func (d *Decoder) learnInterfaces(domain uint32, in, out uint64, names, descriptions *[2][]byte) {
	if in == 0 {
		in, out = out, 0
	}
	if in != 0 && (names[0] != nil || descriptions[0] != nil) {
		d.learnName(domain, nameKey{nameOfInterface, in}, names[0], descriptions[0])
	}
	if out != 0 && out != in && (names[1] != nil || descriptions[1] != nil) {
		d.learnName(domain, nameKey{nameOfInterface, out}, names[1], descriptions[1])
	}
}

// firstNumber returns v unless there is a number other than 0 already.
func firstNumber(have, v []byte) []byte {
	if number(have) != 0 {
		return have
	}
	return v
}

// keepFirst keeps the first two texts.
func keepFirst(texts *[2][]byte, v []byte) {
	switch {
	case texts[0] == nil:
		texts[0] = text(v)
	case texts[1] == nil:
		texts[1] = text(v)
	}
}

// learnName remembers what the datagram's source tells about a key. What it does not
// tell is nil and stays as it was; an empty text ends an older one.
func (d *Decoder) learnName(domain uint32, k nameKey, name, description []byte) {
	if !d.mayWork(workOfName) {
		d.refuse()
		return
	}
	name, description = name[:min(len(name), maxNameLen)], description[:min(len(description), maxNameLen)]
	of := nameSource{domain, d.peer.source.Port(), uint32(d.received / 1e9)}
	passed := d.peer.exporter.learnName(announcedName{nameKey: k, nameSource: of, name: name, description: description})
	d.spend(passed * workOfNamer)
}

// learnName remembers a name of an exporter's options data, and returns how many entries it
// had to look at.
func (e *exporter) learnName(n announcedName) (passed int) {
	steps.Add(steps.Lock)
	e.mu.Lock()
	if !e.evicted.Load() {
		var changed bool
		if passed, changed = e.names.put(n, e.nameBudget()); changed {
			e.account()
		}
	}
	if e.names.unsaved {
		e.markUnsaved(nil)
	}
	e.mu.Unlock()
	e.all.makeRoom(e)
	return passed
}

const (
	// maxSelectorLen is how much of a selector of an applicationId is shown, in bytes.
	maxSelectorLen   = 32
	maxApplicationID = len("255:0x") + 2*maxSelectorLen
)

// appendApplicationID appends an applicationId as ENGINE:SELECTOR.
func appendApplicationID(b, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	b = strconv.AppendUint(b, uint64(v[0]), 10)
	b = append(b, ':')
	selector := v[1:]
	for len(selector) > 8 && selector[0] == 0 {
		selector = selector[1:]
	}
	if len(selector) <= 8 {
		return strconv.AppendUint(b, number(selector), 10)
	}
	b = append(b, "0x"...)
	for _, c := range selector[:min(len(selector), maxSelectorLen)] {
		b = append(b, flow.HexDigits[c>>4], flow.HexDigits[c&15])
	}
	return b
}
