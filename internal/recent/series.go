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
	c := chart{by: by, table: t, lines: make(map[string]*Line), none: new(Line), other: newLine("", count), most: maxCells / count}
	last, index := uint64(0), 0 // divisions take time, and most sums are of one interval after another
	bucket := func(at uint64) int {
		if at != last {
			last, index = at, int(min(max(at, start)-start, until-start)/step)
		}
		return index
	}
	_, err := s.visit(ctx, &q, t, func(p pair, at uint64, d Counts, _ uint64, _ verdicts) {
		c.line(p).add(bucket(at), d)
	}, func(at uint64, d Counts) { c.other.add(bucket(at), d) })
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
	of    []*Line // by numbers: of workloads, nil if not known yet, or of pairs
	none  *Line   // stands for no namespace
	rest  *Line   // of what is not divided; nil before the first
	other *Line
	most  int
}

// line returns the line of a pair.
func (c *chart) line(p pair) *Line {
	switch c.by {
	case ByNamespace:
		l := c.lineOf(p.src)
		if l == c.none {
			l = c.lineOf(p.dst)
		}
		if l != c.none {
			return l
		}
	case ByPair:
		n := c.table.pairs.number(p)
		switch {
		case n < 0:
			return c.other
		case int(n) == len(c.of):
			c.of = append(c.of, c.labelled(endName(c.table.workloads.list[p.src])+" → "+endName(c.table.workloads.list[p.dst])))
		}
		return c.of[n]
	}
	if c.rest == nil {
		c.rest = c.labelled(map[By]string{ByTotal: "total", ByNamespace: Outside}[c.by])
	}
	return c.rest
}

// lineOf returns the line of the namespace of a workload, c.none if it has no namespace.
func (c *chart) lineOf(workload uint32) *Line {
	for int(workload) >= len(c.of) {
		c.of = append(c.of, make([]*Line, max(len(c.table.workloads.list)-len(c.of), 1))...)
	}
	l := c.of[workload]
	if l == nil {
		l = c.none
		if name := c.table.workloads.list[workload].Value().Namespace; name != "" {
			l = c.labelled(name)
		}
		c.of[workload] = l
	}
	return l
}

// labelled returns the line with a label, that of others if there are too many.
func (c *chart) labelled(label string) *Line {
	l := c.lines[label]
	if l == nil {
		l = c.other
		if len(c.lines) < c.most {
			l = newLine(label, len(c.other.Bytes))
			c.lines[label] = l
		}
	}
	return l
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
