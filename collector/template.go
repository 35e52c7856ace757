package collector

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/internal/steps"
)

const (
	// variableLength as a field's length means that the length is in the record
	// (RFC 7011, 7). Some NetFlow v9 exporters use it too.
	variableLength = 0xffff
	// maxTemplateFields bounds a template's size; real ones have less than 100
	// fields, and a datagram of Ethernet's size holds at most 360.
	maxTemplateFields = 1024
	// maxRecordLen is the longest record that fits a UDP datagram.
	maxRecordLen = 65535
)

// templateKey identifies a template within one exporter.
type templateKey struct {
	domain  uint32 // observation domain, or v9 source id
	version uint16 // 9 or 10
	id      uint16
}

// template is one template as received. It was checked and does not change.
type template struct {
	key templateKey
	*shape
}

// shape is how a template lays out its records. Exporters that run the same
// software send the same shapes, so each is kept once for all of them. All but
// templates is immutable.
type shape struct {
	fields  []netflow.Field // those with a length; scopes first where options is true
	scopes  int
	options bool
	// minLen is the length of the shortest record, in bytes. It is at least 1. All
	// records have this length unless variable is true.
	minLen   int
	variable bool
	// id encodes the version and all fields: equal ids mean equal records.
	id string
	// hash is one of id, which nobody can foresee.
	hash uint32
	// openVSwitch reports whether it is one of Open vSwitch's for packets.
	openVSwitch bool
	// stored is its number in the templates file since that was written anew for the
	// storedIn-th time. Only the goroutine that writes the file uses them.
	stored, storedIn uint32
	// templates counts the templates of all exporters that have this shape;
	// exporters.shapesMu guards it.
	templates int
}

// bytes returns what the shape takes on the heap.
func (s *shape) bytes() int64 {
	return allocated(int64(unsafe.Sizeof(*s))) + allocated(int64(cap(s.fields))*int64(unsafe.Sizeof(netflow.Field{}))) + allocated(int64(len(s.id)))
}

// newTemplate checks a template that was received. It returns nil if the template
// cannot describe a record: it has no fields (an IPFIX withdrawal, which RFC 7011,
// 8.4 forbids over UDP), its records have no bytes, or no datagram can hold one.
func newTemplate(key templateKey, scopes, fields []netflow.Field, options bool) *template {
	if len(scopes)+len(fields) > maxTemplateFields || key.id < 256 {
		return nil
	}
	// Fields without length tell nothing. A template may have a thousand of them at no
	// cost to each record, so they must cost us nothing either.
	s := &shape{options: options, fields: make([]netflow.Field, 0, len(scopes)+len(fields))}
	s.fields = appendFields(s.fields, scopes)
	s.scopes = len(s.fields)
	s.fields = appendFields(s.fields, fields)
	steps.Add(4*steps.Allocation + 2*len(s.fields))
	steps.Copied((9 + 9 + int(unsafe.Sizeof(netflow.Field{}))) * len(s.fields)) // id twice
	b := make([]byte, 0, 5+9*len(s.fields))
	b = binary.BigEndian.AppendUint16(b, key.version)
	b = binary.BigEndian.AppendUint16(b, uint16(s.scopes))
	b = append(b, bit(options))
	for i := range s.fields {
		f := &s.fields[i]
		if f.PenProvided {
			// goflow2 clears the enterprise bit in templates, but not in
			// options templates.
			f.Type &= 0x7fff
		}
		if f.Length == variableLength {
			s.variable = true
			s.minLen++
		} else {
			s.minLen += int(f.Length)
		}
		b = append(b, bit(f.PenProvided))
		b = binary.BigEndian.AppendUint16(b, f.Type)
		b = binary.BigEndian.AppendUint16(b, f.Length)
		b = binary.BigEndian.AppendUint32(b, f.Pen)
	}
	if s.minLen == 0 || s.minLen > maxRecordLen {
		return nil
	}
	s.id = string(b)
	s.hash = uint32(maphash.String(shapeSeed, s.id))
	s.openVSwitch = key.version == 10 && !options && fromOpenVSwitch(s.fields)
	return &template{key, s}
}

// appendFields appends the fields that have a length.
func appendFields(to, fields []netflow.Field) []netflow.Field {
	for i := range fields {
		if fields[i].Length > 0 {
			to = append(to, fields[i])
		}
	}
	return to
}

var shapeSeed = maphash.MakeSeed()

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// nextField returns the length in bytes of the value of a field at the start of b,
// and that of the prefix before it, which holds the length of a variable-length
// field (RFC 7011, 7). ok is false if b does not hold the whole field.
func nextField(f *netflow.Field, b []byte) (prefix, length int, ok bool) {
	length = int(f.Length)
	if f.Length == variableLength {
		if len(b) < 1 {
			return 0, 0, false
		}
		prefix, length = 1, int(b[0])
		if length == 0xff {
			if len(b) < 3 {
				return 0, 0, false
			}
			prefix, length = 3, int(b[1])<<8|int(b[2])
		}
	}
	return prefix, length, prefix+length <= len(b)
}
