package exporter

import "time"

// Timed is a flow with times of its own.
type Timed struct {
	Flow
	Start, End time.Time
}

const (
	templateTimed4 = 258 + iota
	templateTimed6
)

// IPFIXTimed sends a flow with its times in milliseconds, the template in front
// of it.
func (e *Exporter) IPFIXTimed(f Timed) error {
	millis := func(t time.Time) func(*Flow) []byte {
		return func(*Flow) []byte { return number(8, uint64(t.UnixMilli())) }
	}
	id, family := uint16(templateTimed6), ipv6
	if isIPv4(&f.Flow) {
		id, family = templateTimed4, ipv4
	}
	fields := join(common, family, []field{{152, 8, millis(f.Start)}, {153, 8, millis(f.End)}})
	b := make([]byte, 16)
	be.PutUint16(b, 10)
	be.PutUint32(b[4:], exportTime())
	be.PutUint32(b[8:], e.flows)
	b = appendTemplate(b, 2, id, fields)
	b = appendData(b, id, fields, &f.Flow)
	be.PutUint16(b[2:], uint16(len(b)))
	return e.send(b, 1)
}
