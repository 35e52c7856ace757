package pipe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// detection is what is known about bytes that more may follow.
type detection uint8

const (
	undecided detection = iota // more bytes are needed
	isMessage
	noMessage
)

// detect reports whether the input is protobuf, by as few bytes as possible: the
// second byte of a line of JSON decides.
func (r *Reader) detect() detection {
	b := r.buf[r.begin:r.end]
	d := detectMessage(b, r.max)
	if d != noMessage {
		// "{" is also the length of a message of 123 bytes. A whole line that is
		// an object need not wait for so many.
		if i := bytes.IndexByte(b, '\n'); i >= 0 && r.scan.scan(b[:i]) {
			return noMessage
		}
	}
	return d
}

// separatorOf decides whether a newline after the first message is a separator or
// the length of a message of 10 bytes. b is what follows the first message, all of it
// atEnd.
func separatorOf(b []byte, limit int, atEnd bool) separator {
	if len(b) == 0 {
		return separatorUnknown
	}
	if b[0] != '\n' {
		return separatorNone
	}
	asLength, after := detectMessage(b, limit), detectMessage(b[1:], limit)
	switch {
	case asLength == noMessage || asLength == isMessage && after == isMessage:
		return separatorNewline
	case !atEnd && (asLength == undecided || after == undecided):
		return separatorUnknown
	case asLength == isMessage || after == noMessage:
		return separatorNone
	}
	return separatorNewline
}

// detectMessage reports whether b begins with a length and a FlowMessage of that
// length. It is stricter than the parser of messages: fields must be of their own
// types. An empty message is none, since goflow2 writes no such message.
func detectMessage(b []byte, limit int) detection {
	length, prefix := binary.Uvarint(b)
	if prefix == 0 {
		return undecided
	}
	if prefix < 0 || length == 0 || length > uint64(limit) {
		return noMessage
	}
	b = b[prefix:]
	left := int(length) // of the message, of which b may have less
	fields := (*flowpb.FlowMessage)(nil).ProtoReflect().Descriptor().Fields()
	for left > 0 {
		b = b[:min(left, len(b))]
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return detectionOf(n, len(b) < left)
		}
		if !number.IsValid() || !fits(fields.ByNumber(number), wire) {
			return noMessage
		}
		if wire == protowire.BytesType {
			size, m := protowire.ConsumeVarint(b[n:])
			if m > 0 && size > uint64(left-n-m) {
				return noMessage
			}
		}
		m := protowire.ConsumeFieldValue(number, wire, b[n:])
		if m < 0 {
			return detectionOf(m, len(b) < left)
		}
		b = b[n+m:]
		left -= n + m
	}
	return isMessage
}

// detectionOf returns what an error of protowire means. cut reports whether bytes may
// follow.
func detectionOf(code int, cut bool) detection {
	if cut && errors.Is(protowire.ParseError(code), io.ErrUnexpectedEOF) {
		return undecided
	}
	return noMessage
}

// fits reports whether a field can have a wire type. Unknown fields, nil here, can
// have any that is in use.
func fits(f protoreflect.FieldDescriptor, wire protowire.Type) bool {
	switch {
	case wire == protowire.StartGroupType || wire == protowire.EndGroupType:
		return false
	case f == nil:
		return true
	case f.Kind() == protoreflect.BytesKind:
		return wire == protowire.BytesType
	default: // numbers and enumerations, all varints; lists are packed or not
		return wire == protowire.VarintType || f.IsList() && wire == protowire.BytesType
	}
}
