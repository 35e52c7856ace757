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
	d.exported = int64(h.exportTime) * 1e9
	d.trackSequence(protoNetFlow9, sequence.Stream(h.domain), h.sequence, sequence.RecordCount{Data: 1}, true, h.uptime)
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
	d.exported = int64(h.exportTime) * 1e9
	d.recordCount, d.recordsCounted = sequence.RecordCount{}, true
	// With a length beyond the datagram the last set is cut, which sets counts. What
	// follows the message may be the end of its last set.
	ok := d.sets(b[headerLen:], max(len(b)-length, 0), &h)
	d.trackSequence(protoIPFIX, sequence.Stream(h.domain), h.sequence, d.recordCount, d.recordsCounted && length <= len(b), 0)
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
	slack := 0        // how much more padding there may have been in sets of unknown templates
	accepted := false // the sets behind it are used
	for len(b) > behind-slack && len(b) >= 4 {
		steps.Add(1)
		id, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if len(b) <= end && !accepted {
			least, most, ok := d.paddingOf(b, h)
			if accepted = ok && least <= behind && behind <= most+slack; !accepted {
				break
			}
			behind, slack = 0, 0
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
			least, most, _ := d.padding(id, content, h)
			behind, slack = max(behind-least, 0), slack+most-least
		}
	}
	if d.cut && bad == 0 {
		bad++ // the message was cut between two sets
	}
	return d.countBadSets(good, bad)
}

// paddingOf returns how many bytes of padding the sets of IPFIX in b have, at least and at
// most. ok is false if b is not made of whole sets, or something else follows the records
// of one.
func (d *Decoder) paddingOf(b []byte, h *header) (least, most int, ok bool) {
	for len(b) > 0 {
		steps.Add(1)
		if len(b) < 4 {
			return 0, 0, false
		}
		id, length := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if length < 4 || length > len(b) {
			return 0, 0, false
		}
		switch {
		case id >= minTemplateID:
			l, m, ok := d.padding(id, b[4:length], h)
			if !ok {
				return 0, 0, false
			}
			least, most = least+l, most+m
		case id != templateSetID && id != optionsTemplateSetID:
			return 0, 0, false
		}
		b = b[length:]
	}
	return least, most, true
}

// maxPadding is how much padding there may be if the template of a set is not known:
// sets are padded to 4 or 8 bytes (RFC 7011, 3.3.1).
const maxPadding = 7

// padding returns how many bytes of padding a data set has, at least and at most: they
// differ if its template is not known. ok is false if something else follows its records.
func (d *Decoder) padding(id uint16, b []byte, h *header) (least, most int, ok bool) {
	tail := len(b) // as in decodeRecords
	for tail > 0 && b[tail-1] == 0 {
		tail--
	}
	steps.Add(len(b) - tail)
	t, result := d.bind(templateKey{h.domain, h.version, id}, len(b))
	switch result {
	case templateUnknown:
		return 0, min(len(b)-tail, maxPadding), true
	case tooShort, tooCostly:
		return 0, 0, false
	}
	for len(b) >= t.tmpl.minLen && tail > 0 {
		steps.Add(1)
		n := t.locate(b)
		if n == 0 {
			break
		}
		b, tail = b[n:], tail-n
	}
	if tail > 0 {
		return 0, 0, false
	}
	return len(b), len(b), true
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
		d.spend(forgotten * workOfEviction)
		if ok {
			d.used = true
			if changed {
				d.peer.findSession()
			}
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
