package encode

import (
	"github.com/netobserv/goflow2-kube-enricher/flow"
)

const (
	colorDropped = "\x1b[1;31m" // red

	// directionWidth and verdictWidth are those of their columns, stateWidth that of both
	// with the spaces before them.
	directionWidth = len("out")
	verdictWidth   = len("dropped")
	stateWidth     = 1 + directionWidth + 1 + verdictWidth
)

// appendArrow appends what stands between the ends. On a terminal, which may have no room
// for the verdict, a record of dropped packets has an arrow of its own.
func (e *Text) appendArrow(p *painter, r *flow.Record) {
	if e.cfg.Width > 0 && string(r.Extra.Verdict) == flow.VerdictDropped {
		p.color(colorDropped)
		p.b = append(p.b, " ↛ "...)
	} else {
		p.color(colorDim)
		p.b = append(p.b, " → "...)
	}
	p.color(colorNone)
}

// appendState appends direction and verdict where they are known. On a terminal they have
// columns, in which the line ends after its last word.
func (e *Text) appendState(p *painter, r *flow.Record) {
	direction, limit := r.DirectionName(), endless
	if e.cfg.Width > 0 {
		direction, limit = shortDirection(direction), verdictWidth
	}
	if direction == "" && len(r.Extra.Verdict) == 0 {
		return
	}
	if direction != "" || e.cfg.Width > 0 {
		p.b = append(append(p.b, ' '), direction...)
	}
	if len(r.Extra.Verdict) == 0 {
		return
	}
	if e.cfg.Width > 0 {
		p.b = pad(p.b, directionWidth-len(direction))
	}
	p.b = append(p.b, ' ')
	if string(r.Extra.Verdict) == flow.VerdictDropped {
		p.color(colorDropped)
	}
	p.b = appendShort(p.b, string(r.Extra.Verdict), limit)
	if string(r.Extra.Verdict) == flow.VerdictDropped {
		p.color(colorNone)
	}
}

func shortDirection(name string) string {
	switch name {
	case "ingress":
		return "in"
	case "egress":
		return "out"
	}
	return ""
}
