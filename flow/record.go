package flow

import (
	"net/netip"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"
	"google.golang.org/protobuf/proto"
)

// MaxEnds bounds how many address fields of one record can be mapped to
// Kubernetes objects.
const MaxEnds = 8

// Record is one decoded flow on its way from the wire to the outputs.
//
// A record belongs to the worker that decoded it and is valid until the
// handler it was given to returns: byte slices alias the worker's buffers.
// Whoever keeps a record makes a [Record.Clone].
type Record struct {
	// Msg is goflow2's message, filled by goflow2's producer and then amended
	// where that producer drops or misreads what the exporter sent.
	Msg protoproducer.ProtoProducerMessage
	// Extra is what exporters send and goflow2's message has no field for.
	Extra Extra
	// Ends holds, per entry of the mapping, who owned the address when the
	// flow ran. Entries that the enricher does not use are zero.
	Ends [MaxEnds]End
	// Line is set for a record that was read as a line of text (pipe mode);
	// nil for records decoded from the wire. Encoders that write the same
	// format keep the line byte for byte and only add to it.
	Line *Line
}

// Line is the text form of a record read in pipe mode.
type Line struct {
	// Text is the line without its newline.
	Text []byte
	// Close is the offset in Text of the closing brace of the object, or -1
	// if Text is not one JSON object and must be passed through unchanged.
	Close int
	// Empty reports whether the object has no members. Then no comma goes before
	// the first generated one.
	Empty bool
	// Snake reports whether the line's keys are in goflow2 v2's snake_case style.
	Snake bool
	// Keys lists the line's top-level keys that a generated field could
	// collide with; such a field is not added again.
	Keys []string
	// Attrs lists those generated fields of the line that the reader was asked to
	// keep.
	Attrs []LineAttr
}

// LineAttr is a generated field that a line had when it was read. Text aliases the
// reader's buffer.
type LineAttr struct {
	Ref  AttrRef
	Text []byte
}

// EndCluster stands for an entry of the mapping in the AttrRef of the field
// Cluster.
const EndCluster = -1

// AttrRef names a generated field of a record.
type AttrRef struct {
	End  int // index of the mapping and of [Record].Ends, or EndCluster
	Attr Attr
}

// End is the owner of one address of a record, when the flow ran. [End.Attr] reads
// its generated fields.
type End struct {
	// Object is immutable and shared; nil if nobody is known to own the address.
	Object *Object
	// Status says how the object was found.
	Status Status
}

// Status says how the owner of an address was found. It is the value of the
// opt-in field PStatus and of the label result of lookups_total.
type Status uint8

// The values of Status.
const (
	StatusNone      Status = iota // nobody is known to own the address
	StatusLive                    // a pod that still owns it
	StatusRetained                // a pod that owned it when the flow ran
	StatusAmbiguous               // several pods or services; the better one is named
	StatusService
	StatusNode
	StatusEgressIP // an address that a node translates pods' addresses to
	StatusEndpoint // an endpoint of a service that is no pod
	numStatus
)

// NumStatus is the number of values of Status.
const NumStatus = int(numStatus)

var statusNames = [numStatus]string{"none", "live", "retained", "ambiguous", "service", "node", "egressip", "endpoint"}

// String returns the value as PStatus shows it.
func (s Status) String() string {
	if s < numStatus {
		return statusNames[s]
	}
	return "none"
}

// StatusOf returns the status that a name stands for, StatusNone if there is none.
func StatusOf(name string) Status {
	for s, n := range statusNames {
		if n == name {
			return Status(s)
		}
	}
	return StatusNone
}

// Extra holds what goflow2's message has no field for. Its zero value means
// that the exporter sent none of it. Slices alias the worker's buffers.
type Extra struct {
	// HasStart and HasEnd report whether the exporter sent a start or end time. The
	// template decides, not the value. Without them the message's times are
	// goflow2's default, the export time.
	HasStart, HasEnd bool
	// HasDirection reports whether the exporter sent FlowDirection. Without it 0 is no
	// direction.
	HasDirection bool
	// HasICMP reports whether ICMP type and code were sent, or read in a packet. Without
	// it a type of 0 is none, not that of an echo reply. See [Record.HasICMP].
	HasICMP bool

	// Scaled reports whether the counters are estimates for all packets, because the
	// exporter has multiplied them by its sampling rate already.
	Scaled bool
	// Duplicate reports whether another record counts the same packets. That record
	// is of the same exporter, or of an exporter that the packets passed before. Of
	// all records of a packet exactly one is no duplicate. Only records of Open
	// vSwitch are ever marked.
	Duplicate bool
	// FromTunnel reports whether Duplicate rests on where the packets came in: out of
	// a tunnel, whose other end has a record of them if it saw them come in from a pod.
	// Who knows that the sender is no pod clears Duplicate.
	FromTunnel bool
	// Sampled reports whether a flow of OVN's has sampled the packets, which says that
	// a rule allowed or dropped them. The bridge's own records have the same packets.
	Sampled bool

	// Elements has the elements of the user's list that the record carries.
	Elements []ElementValue

	// OwnFields has the fields of [Fields] that the exporter's elements fill.
	OwnFields
}

// Reset empties the record for the next flow. Ends are left alone: the
// enricher overwrites those it uses.
func (r *Record) Reset() {
	// Msg.Reset would also store what the message's type is, which takes longer than
	// all the rest. Reflection finds it out when it needs it.
	r.Msg.FlowMessage = flowpb.FlowMessage{}
	r.Extra = Extra{}
	r.Line = nil
}

// Clone returns a deep copy that shares nothing with the worker's buffers but
// the immutable objects.
func (r *Record) Clone() *Record {
	c := &Record{Extra: r.Extra, Ends: r.Ends}
	proto.Merge(&c.Msg.FlowMessage, &r.Msg.FlowMessage)
	c.Extra.clone()
	if r.Line != nil {
		l := *r.Line
		l.Text = clone(l.Text)
		l.Keys = append([]string(nil), l.Keys...)
		l.Attrs = append([]LineAttr(nil), l.Attrs...)
		for i := range l.Attrs {
			l.Attrs[i].Text = clone(l.Attrs[i].Text)
		}
		c.Line = &l
	}
	return c
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// Interval returns the time over which the flow ran, in Unix nanoseconds,
// from <= to. Where the exporter sent no time, or one more than a day from the
// time of receipt (exporters without a clock), the time of receipt stands in.
func (r *Record) Interval() (from, to int64) {
	received := int64(r.Msg.TimeReceivedNs)
	from, to = received, received
	if r.Extra.HasEnd {
		to = plausible(int64(r.Msg.TimeFlowEndNs), received)
	}
	switch {
	case r.Extra.HasStart:
		from = plausible(int64(r.Msg.TimeFlowStartNs), received)
		if !r.Extra.HasEnd {
			to = from
		}
	case r.Extra.HasEnd:
		from = to
	}
	if from > to {
		from = to
	}
	return from, to
}

func plausible(t, received int64) int64 {
	const day = 24 * 60 * 60 * 1e9
	if t < received-day || t > received+day {
		return received
	}
	return t
}

// Addr returns the address in one of the record's address fields, unmapped
// (IPv4-mapped IPv6 is IPv4), and whether the field holds one.
func (r *Record) Addr(id FieldID) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(r.Bytes(id))
	return a.Unmap(), ok
}
