package recent

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// By says what traffic over time is divided by.
type By uint8

// The values of [By].
const (
	ByTotal By = iota
	ByNamespace
	ByPair
)

// Series is an answer about traffic over time.
type Series struct {
	Start       *time.Time `json:"start"` // nil if there are no records
	StepSeconds float64    `json:"step_seconds"`
	Series      []Line     `json:"series"`
	Other       Line       `json:"other"`
}

// Line has the traffic of one label, by buckets.
type Line struct {
	Label   string   `json:"label,omitempty"`
	Bytes   []uint64 `json:"bytes"`
	Packets []uint64 `json:"packets"`
}

func newLine(label string, n int) *Line {
	return &Line{Label: label, Bytes: make([]uint64, n), Packets: make([]uint64, n)}
}

func (l *Line) add(i int, c Counts) {
	l.Bytes[i], l.Packets[i] = plus(l.Bytes[i], c.Bytes), plus(l.Packets[i], c.Packets)
}

func (l *Line) total() (n uint64) {
	for _, v := range l.Bytes {
		n = plus(n, v)
	}
	return n
}

// maxCells bounds the buckets of all labels of an answer.
const maxCells = 400_000

// niceSteps are the lengths of buckets that answers have, in seconds. Longer ones are
// whole days.
var niceSteps = []uint64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400}

// stepFor returns the length of n buckets for an interval, in nanoseconds.
func stepFor(length uint64, n int) uint64 {
	least := (length + uint64(n) - 1) / uint64(n)
	for _, s := range niceSteps {
		if s*1e9 >= least {
			return s * 1e9
		}
	}
	const day = 86400 * 1e9
	return (least + day - 1) / day * day
}

// Series answers how much traffic there was over time, in at most n buckets, and with at
// most limit labels one by one. The interval must be within what [Store.Span] returns.
func (s *Store) Series(ctx context.Context, q Query, by By, n, limit int) (*Series, error) {
	t := newPairTable(maxPairs)
	defer t.free()
	since, until := q.bounds()
	oldest, newest := s.span()
	since, until = max(since, oldest), min(until, newest)
	if since > until || newest == 0 {
		return &Series{Series: []Line{}, Other: *newLine("", 0)}, nil
	}
	// Sums have buckets of their own, which the answer's must not be shorter than.
	step := stepFor(until-since+1, n)
	if q.Match == nil && s.sumsReach(since) {
		step = max(step, s.longestStep(since, until))
	}
	for (until/step - since/step) >= uint64(n) {
		step = stepFor(step+1, 1)
	}
	start := since - since%step
	count := int((until-start)/step) + 1
	c := chart{by: by, table: t, lines: make(map[string]*Line), other: newLine("", count), most: maxCells / count}
	_, _, err := s.visit(ctx, &q, t, func(number int32, at uint64, d *sum) {
		c.line(number).add(int(min(max(at, start)-start, until-start)/step), d.Counts)
	})
	if err != nil {
		return nil, err
	}
	return c.answer(start, step, limit), nil
}

// chart gathers lines.
type chart struct {
	by    By
	table *pairTable
	lines map[string]*Line
	of    []*Line // by the numbers of pairs
	other *Line
	most  int
}

// line returns the line of a pair.
func (c *chart) line(number int32) *Line {
	if number < 0 {
		return c.other
	}
	if int(number) < len(c.of) {
		return c.of[number]
	}
	label := c.label(c.table.ends(number))
	l := c.lines[label]
	if l == nil {
		l = c.other
		if len(c.lines) < c.most {
			l = newLine(label, len(c.other.Bytes))
			c.lines[label] = l
		}
	}
	c.of = append(c.of, l)
	return l
}

func (c *chart) label(src, dst handle) string {
	switch c.by {
	case ByNamespace:
		for _, h := range [...]handle{src, dst} {
			if w := h.Value(); w.Namespace != "" {
				return w.Namespace
			}
		}
		return Outside
	case ByPair:
		return endName(src) + " → " + endName(dst)
	}
	return "total"
}

func endName(h handle) string {
	if w := h.Value(); w.Namespace != "" {
		return w.Namespace + "/" + w.Name
	}
	return h.Value().Name
}

// answer shows the lines with most bytes.
func (c *chart) answer(start, step uint64, limit int) *Series {
	a := &Series{Start: known(start), StepSeconds: float64(step) / 1e9, Series: []Line{}}
	var lines []*Line
	for _, l := range c.lines {
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b *Line) int {
		return cmp.Or(cmp.Compare(b.total(), a.total()), cmp.Compare(a.Label, b.Label))
	})
	for i, l := range lines {
		if i < limit {
			a.Series = append(a.Series, *l)
			continue
		}
		for j := range l.Bytes {
			c.other.add(j, Counts{Bytes: l.Bytes[j], Packets: l.Packets[j]})
		}
	}
	a.Other = *c.other
	return a
}
