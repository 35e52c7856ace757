package pipe

import (
	"bytes"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// lines hands on the whole lines in the buffer.
func (r *Reader) lines() {
	for {
		rest := r.buf[r.begin:r.end]
		i := bytes.IndexByte(rest[r.searched:], '\n')
		if i < 0 {
			r.searched = len(rest)
			if r.skipping || len(rest) > r.max {
				r.skip()
				r.skipping = true
				r.advance(len(rest))
				r.searched = 0
			}
			return
		}
		line := rest[:r.searched+i]
		r.searched = 0
		if r.skipping || len(line) > r.max {
			r.skip()
			r.skipping = false
		} else {
			r.handleLine(line)
		}
		r.advance(len(line) + 1)
	}
}

// skip counts the line at begin as dropped, once for each line.
func (r *Reader) skip() {
	if !r.skipping {
		r.drop(tooLong)
		r.warnLimited(warnTooLong, "dropped a line that is too long")
	}
}

// handleLine hands on a line as a record.
func (r *Reader) handleLine(text []byte) {
	r.line = flow.Line{Text: text, Close: -1, Attrs: r.line.Attrs}
	s := r.scan
	if s.scan(text) {
		r.line.Close, r.line.Empty, r.line.Snake, r.line.Keys = s.close, s.empty, s.snake(), s.keys
	} else {
		s.reset()
		r.passed.Inc()
		r.warnLimited(warnPassed, "passed a line through unchanged that is no JSON object")
	}
	r.line.Attrs = s.attrs(r.line.Attrs[:0])
	r.rec.Extra.OwnFields = flow.OwnFields{} // a stage may have filled some in
	for i := range s.requested {
		s.requested[i].set(&r.rec)
	}
	// Nothing else of the record is ever set from a line.
	r.rec.Line = &r.line
	for i := range r.n {
		*r.ends[i] = nil
		if a := s.ends[i]; a.Is4() {
			ip := a.As4()
			*r.ends[i] = append(r.addrs[i][:0], ip[:]...)
		} else if a.IsValid() {
			r.addrs[i] = a.As16()
			*r.ends[i] = r.addrs[i][:]
		}
	}
	m := &r.rec.Msg
	if m.TimeReceivedNs = s.time(timeReceived); m.TimeReceivedNs == 0 {
		m.TimeReceivedNs = r.now
	}
	m.TimeFlowStartNs, m.TimeFlowEndNs = s.time(timeFlowStart), s.time(timeFlowEnd)
	r.rec.Extra.HasStart, r.rec.Extra.HasEnd = m.TimeFlowStartNs != 0, m.TimeFlowEndNs != 0
	r.rec.Extra.HasICMP = m.Type != flowpb.FlowMessage_SFLOW_5 // goflow2 does not read those of samples
	r.handle(r.json)
}
