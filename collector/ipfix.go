package collector

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/collector/sequence"
	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

// The ids of sets (RFC 7011, 3.3.2; RFC 3954, 5). Data sets have the id of their
// template.
const (
	templateSetID9        = 0
	optionsTemplateSetID9 = 1
	templateSetID         = 2
	optionsTemplateSetID  = 3
	minTemplateID         = 256
)

// fieldSpecifierLen is the length of a field specifier in a template, and that of
// the enterprise number after it (RFC 7011, 3.2).
const fieldSpecifierLen = 4

// header is what the header of a NetFlow v9 or IPFIX message says about its sets.
type header struct {
	proto      protocol
	version    uint16
	exportTime uint32 // Unix seconds
	uptime     uint32 // milliseconds, v9 only
	sequence   uint32
	domain     uint32 // observation domain or source id
}

// netflow9 decodes a NetFlow v9 datagram (RFC 3954). It returns false if nothing
// could be made of it.
func (d *Decoder) netflow9(b []byte) bool {
	const headerLen = 20
	if len(b) < headerLen {
		return false
	}
	be := binary.BigEndian
	h := header{
		proto: protoNetFlow9, version: 9,
		uptime: be.Uint32(b[4:]), exportTime: be.Uint32(b[8:]), sequence: be.Uint32(b[12:]), domain: be.Uint32(b[16:]),
	}
	d.trackSequence(protoNetFlow9, h.domain, h.sequence, sequence.RecordCount{Data: 1}, true, h.uptime)
	return d.sets(b[headerLen:], 0, &h)
}

// ipfix decodes an IPFIX message (RFC 7011). It returns false if nothing could be
// made of it.
func (d *Decoder) ipfix(b []byte) bool {
	const headerLen = 16
	if len(b) < headerLen {
		return false
	}
	be := binary.BigEndian
	length := int(be.Uint16(b[2:]))
	if length < headerLen {
		return false
	}
	h := header{
		proto: protoIPFIX, version: 10,
		exportTime: be.Uint32(b[4:]), sequence: be.Uint32(b[8:]), domain: be.Uint32(b[12:]),
	}
	d.recordCount, d.recordsCounted = sequence.RecordCount{}, true
	// With a length beyond the datagram the last set is cut, which sets counts. What
	// follows the message may be the end of its last set.
	ok := d.sets(b[headerLen:], max(len(b)-length, 0), &h)
	d.trackSequence(protoIPFIX, h.domain, h.sequence, d.recordCount, d.recordsCounted && length <= len(b), 0)
	return ok
}

// sets decodes the sets of a NetFlow v9 or IPFIX message. It decodes each set by
// itself: a bad one is counted, and the others are used. The last behind bytes of b
// are behind the message. A set that begins before them may reach into them: exporters
// that do not count the padding of their sets in the message's length count it in the
// sets'. Those that begin behind the message are used only if padding explains all of
// what is there. sets returns false if nothing could be made of the message.
func (d *Decoder) sets(b []byte, behind int, h *header) bool {
	good, bad := 0, 0
	end := behind     // where the message ends by its length, from the end of b
	accepted := false // the sets behind it are used
	for len(b) > behind && len(b) >= 4 {
		steps.Add(1)
		id, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) <= end && !accepted {
			if accepted = d.paddingOf(b, h) == behind; !accepted {
				break
			}
		}
		if len(b)-end < 4 && (length < 4 || length > len(b) || id < templateSetID) {
			break // no set, but padding and what is behind it
		}
		if id == 0 && length == 0 && allZero(b[:len(b)-behind]) {
			break // a tail of zeros
		}
		if length < 4 || length > len(b) {
			bad++
			break
		}
		content := b[4:length]
		b = b[length:]
		ok := false
		switch {
		case id >= minTemplateID:
			ok = d.dataSet(id, content, h)
		case h.version == 9 && id == templateSetID9, h.version == 10 && id == templateSetID:
			ok = d.templateSet(content, h)
		case h.version == 9 && id == optionsTemplateSetID9:
			ok = d.optionsTemplateSet9(content, h)
		case h.version == 10 && id == optionsTemplateSetID:
			ok = d.optionsTemplateSet(content, h)
		}
		if ok {
			good++
		} else {
			bad++
			d.recordsCounted = false
		}
		if behind > 0 && id >= minTemplateID {
			// The message really ends so much later.
			behind = max(behind-max(d.padding(id, content, h), 0), 0)
		}
	}
	return d.countBadSets(good, bad)
}

// paddingOf returns how many bytes of padding the sets of IPFIX in b have, -1 if b is
// not made of whole sets, or of one whose template is not known.
func (d *Decoder) paddingOf(b []byte, h *header) int {
	n := 0
	for len(b) > 0 {
		steps.Add(1)
		if len(b) < 4 {
			return -1
		}
		id, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			return -1
		}
		switch {
		case id >= minTemplateID:
			padding := d.padding(id, b[4:length], h)
			if padding < 0 {
				return -1
			}
			n += padding
		case id != templateSetID && id != optionsTemplateSetID:
			return -1
		}
		b = b[length:]
	}
	return n
}

// padding returns how many bytes of padding a data set has, -1 if its template is not
// known or something else follows its records.
func (d *Decoder) padding(id uint16, b []byte, h *header) int {
	t, result := d.bind(templateKey{h.domain, h.version, id}, len(b))
	if result != bound {
		return -1
	}
	tail := len(b) // as in decodeRecords
	for tail > 0 && b[tail-1] == 0 {
		tail--
	}
	steps.Add(len(b) - tail)
	for len(b) >= t.tmpl.minLen && tail > 0 {
		steps.Add(1)
		n := t.locate(b)
		if n == 0 {
			break
		}
		b, tail = b[n:], tail-n
	}
	if tail > 0 {
		return -1
	}
	return len(b)
}

// dataSet decodes a data set, or keeps it until its template comes. It returns
// false if the set is malformed.
func (d *Decoder) dataSet(id uint16, b []byte, h *header) bool {
	k := templateKey{h.domain, h.version, id}
	t, result := d.bind(k, len(b))
	switch {
	case result == bound:
		return d.decodeRecords(t, b, h)
	case result == tooShort:
		return true // it has no records
	case len(b) == 0:
		d.metrics.dropSet(setTimeout) // nothing of it need wait
		return true
	case result == tooCostly, d.exporters.holdFor > 0 && !d.mayWork(workOfHeldSet):
		d.refuse()
	case !d.hold(k, b, h):
		// Another worker has learned the template just now.
		return d.dataSet(id, b, h)
	default:
		// Its bytes earn nothing until it is decoded.
		d.peer.work = max(d.peer.work-len(b)*workPerByte, 0)
		d.errors.report(dropNoTemplate, d.peer.source, nil, d.received)
	}
	d.recordsCounted = false
	return true
}

// wholeTemplates returns how many bytes at the start of a template set are whole
// template records. headerLen is the length of a record's header, and count returns
// the number of its fields, or -1 if the header contradicts itself. enterprise
// reports whether field specifiers may have an enterprise number. ok is false if
// more than padding remains.
func wholeTemplates(b []byte, headerLen int, enterprise bool, count func(header []byte) int) (n int, ok bool) {
	for len(b)-n >= headerLen {
		if binary.BigEndian.Uint16(b[n:]) < minTemplateID {
			return n, allZero(b[n:])
		}
		fields := count(b[n:])
		at := n + headerLen
		if fields < 0 || fields > (len(b)-at)/fieldSpecifierLen {
			return n, false
		}
		steps.Add(1 + 2*fields) // goflow2 goes round them, too
		steps.Copied(fields * int(unsafe.Sizeof(netflow.Field{})))
		for range fields {
			if len(b)-at < fieldSpecifierLen {
				return n, false
			}
			hasNumber := enterprise && b[at]&0x80 != 0
			at += fieldSpecifierLen
			if hasNumber {
				if len(b)-at < fieldSpecifierLen {
					return n, false
				}
				at += fieldSpecifierLen
			}
		}
		n = at
	}
	return n, true
}

// addTemplate checks a template and remembers it for the exporter.
func (d *Decoder) addTemplate(h *header, id uint16, scopes, fields []netflow.Field, options bool) {
	if !d.mayWork(workOfTemplate) {
		d.refuse()
		return
	}
	t := newTemplate(templateKey{h.domain, h.version, id}, scopes, fields, options)
	if t == nil {
		d.metrics.templatesRejected.Add(1)
		return
	}
	// A new exporter has no templates, so it is the first one to be evicted when
	// another worker needs room. It is then looked up again.
	for range 3 {
		e, port := d.peer.exporter, d.peer.source.Port()
		changed, forgotten, ok := e.learnTemplate(t, port, d.received/1e9)
		d.peer.work -= forgotten * workOfEviction
		if ok {
			if changed && e.numHeld.Load() > 0 {
				d.decodeHeld(e, e.removeDecodable(t.key, port))
			}
			break
		}
		d.peer = d.peerOf(d.peer.source)
	}
}

// templateSet decodes a template set of either version. It returns false if not
// all of it could be decoded, as the two functions for options do.
func (d *Decoder) templateSet(b []byte, h *header) bool {
	n, ok := wholeTemplates(b, 4, h.version == 10, func(b []byte) int { return int(binary.BigEndian.Uint16(b[2:])) })
	records, err := netflow.DecodeTemplateSet(h.version, bytes.NewBuffer(b[:n]))
	for i := range records {
		d.addTemplate(h, records[i].TemplateId, nil, records[i].Fields, false)
	}
	return ok && err == nil
}

func (d *Decoder) optionsTemplateSet(b []byte, h *header) bool {
	n, ok := wholeTemplates(b, 6, true, func(b []byte) int {
		fields, scopes := binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:])
		if scopes > fields {
			return -1
		}
		return int(fields)
	})
	records, err := netflow.DecodeIPFIXOptionsTemplateSet(bytes.NewBuffer(b[:n]))
	for i := range records {
		d.addTemplate(h, records[i].TemplateId, records[i].Scopes, records[i].Options, true)
	}
	return ok && err == nil
}

func (d *Decoder) optionsTemplateSet9(b []byte, h *header) bool {
	n, ok := wholeTemplates(b, 6, false, func(b []byte) int {
		return int(binary.BigEndian.Uint16(b[2:])/fieldSpecifierLen) + int(binary.BigEndian.Uint16(b[4:])/fieldSpecifierLen)
	})
	records, err := netflow.DecodeNFv9OptionsTemplateSet(bytes.NewBuffer(b[:n]))
	for i := range records {
		d.addTemplate(h, records[i].TemplateId, records[i].Scopes, records[i].Options, true)
	}
	return ok && err == nil
}

func allZero(b []byte) bool {
	steps.Add(1)
	for _, c := range b {
		steps.Add(1)
		if c != 0 {
			return false
		}
	}
	return true
}
