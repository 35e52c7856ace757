package pipe

import (
	"bytes"
	"encoding/binary"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// maxPrefix is the length of the longest varint.
const maxPrefix = binary.MaxVarintLen64

// separator is what is between messages. By default goflow2's file transport writes
// a newline after each, which its length does not include
// (transport/file/transport.go).
type separator uint8

const (
	separatorUnknown separator = iota
	separatorNone
	separatorNewline
)

// messages hands on the whole protobuf messages in the buffer. atEnd reports whether
// no more bytes come.
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
		r.drop(malformed)
		r.warnLimited(warnMalformed, "dropped a message that is not goflow2's")
		return
	}
	if m.TimeReceivedNs == 0 {
		m.TimeReceivedNs = r.now
	}
	r.rec.Extra.HasStart, r.rec.Extra.HasEnd = m.TimeFlowStartNs != 0, m.TimeFlowEndNs != 0
	unknown := m.ProtoReflect().GetUnknown()
	switch m.Type {
	case flowpb.FlowMessage_NETFLOW_V9, flowpb.FlowMessage_IPFIX:
		r.rec.Extra.HasICMP = true
	case flowpb.FlowMessage_SFLOW_5:
		// goflow2 does not read those of samples. This program does, but for fragments without
		// the header.
		r.rec.Extra.HasICMP = len(unknown) > 0 && m.FragmentOffset == 0
	} // NetFlow v5 has none: what is found in its ports is never type 0 with code 0.
	fillExtra(&r.rec, unknown)
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
	eachField(unknown, func(number protowire.Number, wire protowire.Type, value []byte) {
		f := ownFields[number]
		switch {
		case f == nil:
		case f.ID == flow.FieldCountsOnce:
			r.Extra.Duplicate = bytes.Equal(value, []byte{0})
		case f.Kind == flow.KindUint && wire == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			r.SetUint(f.ID, v)
		case f.Kind != flow.KindUint && wire == protowire.BytesType:
			b, _ := protowire.ConsumeBytes(value)
			r.SetBytes(f.ID, b)
		}
	})
}
