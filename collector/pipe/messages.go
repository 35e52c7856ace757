package pipe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxPrefix is the length of the longest varint.
const maxPrefix = binary.MaxVarintLen64

// separator is what is between messages. goflow2's file transport writes a
// newline behind each by default, for which lengths do not account
// (transport/file/transport.go).
type separator uint8

const (
	separatorUnknown separator = iota
	separatorNone
	separatorNewline
)

// messages hands on the whole protobuf messages in the buffer, after which no
// more come atEnd.
func (r *Reader) messages(atEnd bool) error {
	for {
		rest := r.buf[r.begin:r.end]
		if r.between {
			if r.separator == separatorUnknown {
				r.separator = separatorOf(rest, r.max, atEnd)
			}
			if len(rest) == 0 || r.separator == separatorUnknown {
				return nil
			}
			if r.separator == separatorNewline && rest[0] == '\n' {
				r.advance(1)
				rest = rest[1:]
			}
			r.between = false
		}
		length, prefix := binary.Uvarint(rest)
		if prefix < 0 || length > uint64(r.max) {
			return r.errorf("no message is that long; goflow2's protobuf, with the length before each message, is expected")
		}
		if prefix == 0 || len(rest)-prefix < int(length) {
			return nil
		}
		r.handleMessage(rest[prefix : prefix+int(length)])
		r.advance(prefix + int(length))
		r.between = true
	}
}

// handleMessage hands on a message as a record.
func (r *Reader) handleMessage(b []byte) {
	r.rec.Reset()
	m := &r.rec.Msg
	if err := proto.Unmarshal(b, &m.FlowMessage); err != nil {
		r.dropped[malformed].Inc()
		r.complain(complainMalformed, "dropped a message that is not goflow2's")
		return
	}
	if m.TimeReceivedNs == 0 {
		m.TimeReceivedNs = r.now
	}
	r.rec.Extra.HasStart, r.rec.Extra.HasEnd = m.TimeFlowStartNs != 0, m.TimeFlowEndNs != 0
	if r.extra {
		fillExtra(&r.rec, m.ProtoReflect().GetUnknown())
	}
	r.handle(r.protobuf)
}

// ownFields has the fields of flow.proto that goflow2's message lacks, by number.
var ownFields = func() map[protowire.Number]*flow.Field {
	fields := make(map[protowire.Number]*flow.Field)
	for i := range flow.Fields {
		if f := &flow.Fields[i]; f.Number >= flow.NumberOwn {
			fields[protowire.Number(f.Number)] = f
		}
	}
	return fields
}()

// fillExtra reads what another kube-enricher put into a message. Its slices
// alias unknown.
func fillExtra(r *flow.Record, unknown []byte) {
	for len(unknown) > 0 {
		number, wire, n := protowire.ConsumeTag(unknown)
		if n < 0 {
			return
		}
		m := protowire.ConsumeFieldValue(number, wire, unknown[n:])
		if m < 0 {
			return
		}
		value := unknown[n : n+m]
		unknown = unknown[n+m:]
		f := ownFields[number]
		switch {
		case f == nil:
		case f.Kind == flow.KindUint && wire == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			r.SetUint(f.ID, v)
		case f.Kind != flow.KindUint && wire == protowire.BytesType:
			b, _ := protowire.ConsumeBytes(value)
			r.SetBytes(f.ID, b)
		}
	}
}

// verdict is what can be said of bytes that may go on.
type verdict uint8

const (
	open verdict = iota // more bytes are needed to tell
	good
	bad
)

// detect tells whether the input is protobuf, from as few bytes as possible:
// a line of JSON is known by its second byte.
func (r *Reader) detect() verdict {
	b := r.buf[r.begin:r.end]
	v := message(b, r.max)
	if v != bad {
		// A line that is an object is what it looks like, and not to be kept
		// waiting for as many bytes as "{" is a length of.
		if i := bytes.IndexByte(b, '\n'); i >= 0 && r.scan.scan(b[:i]) {
			return bad
		}
	}
	return v
}

// separatorOf tells from what follows the first message, in the end all of it,
// whether a newline there is a separator or the length of a message of 10 bytes.
func separatorOf(b []byte, limit int, atEnd bool) separator {
	if len(b) == 0 {
		return separatorUnknown
	}
	if b[0] != '\n' {
		return separatorNone
	}
	asLength, behind := message(b, limit), message(b[1:], limit)
	switch {
	case asLength == bad || asLength == good && behind == good:
		return separatorNewline
	case !atEnd && (asLength == open || behind == open):
		return separatorUnknown
	case asLength == good || behind == bad:
		return separatorNone
	}
	return separatorNewline
}

// message tells whether b begins with a length and a FlowMessage of that
// length. It is stricter than what reads messages: fields must be of their own
// types. goflow2 writes no empty message.
func message(b []byte, limit int) verdict {
	length, prefix := binary.Uvarint(b)
	if prefix == 0 {
		return open
	}
	if prefix < 0 || length == 0 || length > uint64(limit) {
		return bad
	}
	b = b[prefix:]
	left := int(length) // of the message, of which b may have less
	fields := (*flowpb.FlowMessage)(nil).ProtoReflect().Descriptor().Fields()
	for left > 0 {
		b = b[:min(left, len(b))]
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return cutOrBad(n, len(b) < left)
		}
		if !number.IsValid() || !fits(fields.ByNumber(number), wire) {
			return bad
		}
		if wire == protowire.BytesType {
			size, m := protowire.ConsumeVarint(b[n:])
			if m > 0 && size > uint64(left-n-m) {
				return bad
			}
		}
		m := protowire.ConsumeFieldValue(number, wire, b[n:])
		if m < 0 {
			return cutOrBad(m, len(b) < left)
		}
		b = b[n+m:]
		left -= n + m
	}
	return good
}

// cutOrBad reads an error of protowire; cut says that bytes may follow.
func cutOrBad(code int, cut bool) verdict {
	if cut && errors.Is(protowire.ParseError(code), io.ErrUnexpectedEOF) {
		return open
	}
	return bad
}

// fits says that a field can have a wire type. Unknown fields, nil here, can
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
