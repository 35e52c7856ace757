package recent

import (
	"encoding/json"
	"strconv"
	"time"
)

// AppendJSON appends the answer to b, as [encoding/json] would. It takes a sixth of the time, and
// the page asks for 3,000 pairs every few seconds.
func (p *Pairs) AppendJSON(b []byte) []byte {
	b = appendKnown(append(b, `{"start":`...), p.Start)
	b = appendKnown(append(b, `,"end":`...), p.End)
	b = append(b, `,"pairs":[`...)
	for i := range p.Pairs {
		d := &p.Pairs[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = d.Src.AppendJSON(append(b, `{"src":`...))
		b = d.Dst.AppendJSON(append(b, `,"dst":`...))
		b = d.Counts.appendJSON(append(b, ','))
		b = appendTime(append(b, `,"last_seen":`...), d.LastSeen)
		b = append(appendString(append(b, `,"verdict":`...), d.Verdict), '}')
	}
	b = p.Other.Counts.appendJSON(append(b, `],"other":{`...))
	b = strconv.AppendInt(append(b, `,"pairs":`...), int64(p.Other.Pairs), 10)
	return append(b, "}}"...)
}

// AppendJSON appends the answer to b, as [encoding/json] would.
func (s *Series) AppendJSON(b []byte) []byte {
	b = appendKnown(append(b, `{"start":`...), s.Start)
	b = append(append(b, `,"step_seconds":`...), strconv.FormatFloat(s.StepSeconds, 'f', -1, 64)...)
	b = append(b, `,"series":[`...)
	for i := range s.Series {
		if i > 0 {
			b = append(b, ',')
		}
		b = s.Series[i].appendJSON(b)
	}
	b = s.Other.appendJSON(append(b, `],"other":`...))
	return append(b, '}')
}

func (l *Line) appendJSON(b []byte) []byte {
	b = append(b, '{')
	if l.Label != "" {
		b = append(appendString(append(b, `"label":`...), l.Label), ',')
	}
	b = appendNumbers(append(b, `"bytes":`...), l.Bytes)
	b = appendNumbers(append(b, `,"packets":`...), l.Packets)
	return append(b, '}')
}

// AppendJSON appends an end to b, as [encoding/json] would.
func (e *End) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"kind":`...), e.Kind)
	b = appendString(append(b, `,"namespace":`...), e.Namespace)
	b = appendString(append(b, `,"name":`...), e.Name)
	return append(b, '}')
}

// appendJSON appends the members of an object.
func (c *Counts) appendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `"bytes":`...), c.Bytes, 10)
	b = strconv.AppendUint(append(b, `,"packets":`...), c.Packets, 10)
	return strconv.AppendUint(append(b, `,"flows":`...), c.Flows, 10)
}

func appendNumbers(b []byte, list []uint64) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, v, 10)
	}
	return append(b, ']')
}

// appendKnown appends a time, null for nil.
func appendKnown(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	return appendTime(b, *t)
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}

// appendString appends a text, most often the name of an object, which has nothing to escape.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}
