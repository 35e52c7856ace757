package enrich

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// span is the time over which a pod owns an address, in Unix nanoseconds.
type span struct {
	pod     *pod
	addr    netip.Addr
	network *network

	from int64
	to   int64 // exclusive; never while the pod owns the address
	sure int64 // from here on it only claims what nobody else does

	next *span // of the same address
	sib  *span // of the same pod

	soft    bool // the start may have been later than from
	final   bool // the end will not change any more
	queued  bool // for removal
	dropped bool
}

// timeliner turns spans into segments. It keeps its scratch space.
type timeliner struct {
	claims   []claim
	bounds   []int64
	rivals   []*flow.Object
	segments []segment
}

// claim is a span whose soft start has been resolved.
type claim struct {
	*span
	from int64
	sure int64
}

// of returns who owned the address of the spans, and when. If a MAC is given,
// others don't count. The result is valid until the next call.
func (t *timeliner) of(first *span, mac uint64) []segment {
	t.segments = t.segments[:0]
	if first == nil {
		return nil
	}
	if first.next == nil {
		return append(t.segments, segment{first.from, first.to, flow.End{Object: first.pod.obj, Status: first.status()}})
	}
	t.claims, t.bounds = t.claims[:0], t.bounds[:0]
	for s := first; s != nil; s = s.next {
		if mac != 0 && (s.network == nil || s.network.mac != mac) {
			continue
		}
		c := claim{s, s.from, min(s.sure, s.to)}
		if s.soft {
			c.from = s.hardened(first)
		}
		t.claims = append(t.claims, c)
		t.bounds = append(t.bounds, c.from, max(c.from, c.sure), s.to)
	}
	slices.Sort(t.bounds)
	t.bounds = slices.Compact(t.bounds)
	for i := range len(t.bounds) - 1 {
		from, to := t.bounds[i], t.bounds[i+1]
		end := t.owner(from)
		if end.Object == nil {
			continue
		}
		if n := len(t.segments); n > 0 && t.segments[n-1].to == from && sameEnd(t.segments[n-1].end, end) {
			t.segments[n-1].to = to
			continue
		}
		t.segments = append(t.segments, segment{from, to, end})
	}
	return t.segments
}

func (s *span) status() flow.Status {
	if s.to == never {
		return flow.StatusLive
	}
	return flow.StatusRetained
}

// hardened moves the start of a soft span behind the end of each owner that is
// known to have ended before it: two pods don't have one address at a time,
// and a soft start may be too early.
func (s *span) hardened(first *span) int64 {
	from := s.from
	for o := first; o != nil; o = o.next {
		known := o.to != never && o.sure >= o.to
		if o != s && o.in() == s.in() && known && o.to <= s.to && (o.to < s.to || o.from < s.from) {
			from = max(from, o.to)
		}
	}
	return from
}

// owner chooses among those who claim the address at a time, and says so if
// several of them are alive.
func (t *timeliner) owner(at int64) flow.End {
	var best *claim
	mixed := false // in several networks, of which none is better
	t.rivals = t.rivals[:0]
	for i := range t.claims {
		c := &t.claims[i]
		if at < c.from || at >= c.to {
			continue
		}
		mixed = mixed || best != nil && best.in() != c.in()
		if best == nil || c.beats(best, at) {
			best = c
		}
	}
	if best == nil {
		return flow.End{}
	}
	if best.to != never && !mixed {
		return flow.End{Object: best.pod.obj, Status: flow.StatusRetained}
	}
	for i := range t.claims {
		c := &t.claims[i]
		if at < c.from || at >= c.to {
			continue
		}
		if mixed || c.to == never && (at < c.sure) == (at < best.sure) {
			t.rivals = append(t.rivals, c.pod.obj)
		}
	}
	if len(t.rivals) == 1 {
		return flow.End{Object: best.pod.obj, Status: flow.StatusLive}
	}
	return flow.End{Object: ambiguous(best.pod.obj, "Several pods found for same IP: ", t.rivals), Status: flow.StatusAmbiguous}
}

func (c *claim) beats(o *claim, at int64) bool {
	if a, b := at < c.sure, at < o.sure; a != b {
		return a
	}
	if c.soft != o.soft {
		return o.soft
	}
	if a, b := c.to == never, o.to == never; a != b {
		return a
	}
	if c.from != o.from {
		return c.from > o.from
	}
	return compareObjects(c.pod.obj, o.pod.obj) < 0
}

func sameEnd(a, b flow.End) bool {
	return a.Status == b.Status && (a.Object == b.Object || *a.Object == *b.Object)
}

func compareObjects(a, b *flow.Object) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.UID, b.UID))
}

// ambiguous returns a copy of best with a warning that names all rivals.
func ambiguous(best *flow.Object, sentence string, rivals []*flow.Object) *flow.Object {
	slices.SortFunc(rivals, compareObjects)
	return warn(best, sentence, rivals)
}

// warn returns a copy of best with a warning before those it has.
func warn(best *flow.Object, sentence string, rivals []*flow.Object) *flow.Object {
	var b strings.Builder
	b.WriteString(sentence)
	for i, o := range rivals {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(o.Name)
		if o.Namespace != "" { // nodes have none
			b.WriteByte('.')
			b.WriteString(o.Namespace)
		}
	}
	if best.Warn != "" {
		b.WriteString("; ")
		b.WriteString(best.Warn)
	}
	c := *best
	c.Warn = b.String()
	return flow.NewObject(c)
}
