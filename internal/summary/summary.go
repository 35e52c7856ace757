// Package summary gathers what a person wants to know after a capture or a pipe was read:
// how many records of which protocols, how many have names, who talked most, and who
// exported.
package summary

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unique"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/encode"
	"github.com/netobserv/goflow2-kube-enricher/internal/traffic"
)

const (
	// maxPairs and maxExporters bound what is kept apart; the rest is summed up.
	maxPairs     = 50_000
	maxExporters = 1_000
	// shown is how many pairs and exporters are listed.
	shown = 10
)

// end is a workload or the label of a network, or an address of which neither is known.
type end struct {
	workload unique.Handle[flow.Workload]
	addr     netip.Addr
}

// named reports whether somebody in the cluster is known to have had the address.
func (e end) named() bool {
	return e.workload != (unique.Handle[flow.Workload]{}) && e.workload.Value().Kind != flow.KindNone
}

type pair struct{ src, dst end }

type counts struct{ bytes, packets uint64 }

// Stage counts records and passes them on unchanged. It is a [flow.Handler], used by one
// goroutine. Captures and pipes have one worker.
type Stage struct {
	next     flow.Handler
	src, dst int  // indexes of a record's Ends; flow.MaxEnds if there is none
	piped    bool // records come from standard input, where most don't say what counts once

	records   map[string]uint64 // by protocol
	named     [3]uint64         // records with no, one and two named ends
	pairs     map[pair]counts
	other     counts // of pairs for which there was no room
	exporters map[netip.Addr]uint64
	others    uint64 // records of exporters for which there was no room
}

// NewStage makes a stage that passes its records on to next. mapping has the fields that a
// record's Ends belong to, by index of Ends. piped reports whether records come from standard
// input.
func NewStage(mapping []flow.MapEntry, piped bool, next flow.Handler) *Stage {
	s := &Stage{
		next: next, piped: piped, src: flow.MaxEnds, dst: flow.MaxEnds,
		records: make(map[string]uint64), pairs: make(map[pair]counts), exporters: make(map[netip.Addr]uint64),
	}
	for i, e := range mapping {
		switch e.Field {
		case flow.FieldSrcAddr:
			s.src = i
		case flow.FieldDstAddr:
			s.dst = i
		}
	}
	return s
}

// HandleFlow implements [flow.Handler]. It does not keep r.
func (s *Stage) HandleFlow(r *flow.Record) {
	if r.Line == nil || r.Line.Close >= 0 {
		s.count(r)
	}
	s.next.HandleFlow(r)
}

// Idle implements [flow.Handler].
func (s *Stage) Idle() (pending bool) { return s.next.Idle() }

func (s *Stage) count(r *flow.Record) {
	s.records[flow.TypeName(r.Msg.Type)]++
	if addr, ok := netip.AddrFromSlice(r.Msg.SamplerAddress); ok {
		addr = addr.Unmap()
		if _, known := s.exporters[addr]; known || len(s.exporters) < maxExporters {
			s.exporters[addr]++
		} else {
			s.others++
		}
	}
	p := pair{endOf(r, s.src, r.Msg.SrcAddr), endOf(r, s.dst, r.Msg.DstAddr)}
	n := 0
	for _, e := range []end{p.src, p.dst} {
		if e.named() {
			n++
		}
	}
	s.named[n]++
	if !r.CountsOnce() {
		return
	}
	c, known := s.pairs[p]
	if !known && len(s.pairs) >= maxPairs {
		s.other.add(r)
		return
	}
	c.add(r)
	s.pairs[p] = c
}

func (c *counts) add(r *flow.Record) {
	bytes, packets := traffic.Estimate(r)
	c.bytes += bytes
	c.packets += packets
}

// endOf returns an end of a record: by the names that a line has already, else by the owner
// of its address.
func endOf(r *flow.Record, index int, addr []byte) end {
	if index < len(r.Ends) {
		if w := ofLine(r, index); w != (flow.Workload{}) {
			return end{workload: unique.Make(w)}
		}
		if o := r.Ends[index].Object; o != nil {
			if w := o.WorkloadID(); w != (unique.Handle[flow.Workload]{}) { // that of a country is
				return end{workload: w}
			}
		}
	}
	a, _ := netip.AddrFromSlice(addr)
	return end{addr: a.Unmap()}
}

// ofLine returns the workload that a line of JSON names.
func ofLine(r *flow.Record, index int) (w flow.Workload) {
	if r.Line == nil {
		return w
	}
	for i := range r.Line.Attrs {
		if a := &r.Line.Attrs[i]; a.Ref.End == index {
			switch a.Ref.Attr {
			case flow.AttrNamespace:
				w.Namespace = string(a.Text)
			case flow.AttrWorkload:
				w.Name = string(a.Text)
			}
		}
	}
	if w.Name == "" {
		return flow.Workload{}
	}
	return w
}

// Fields returns the fields that a stage reads of records that come as lines.
func Fields() []flow.FieldID {
	return []flow.FieldID{
		flow.FieldType, flow.FieldBytes, flow.FieldPackets, flow.FieldSamplingRate, flow.FieldCountsOnce,
		flow.FieldSrcAddr, flow.FieldDstAddr, flow.FieldSamplerAddress,
	}
}

// Attrs returns the generated fields that a stage reads of records that come as lines.
func Attrs(mapping []flow.MapEntry) (attrs []flow.AttrRef) {
	for i, e := range mapping {
		if e.Field == flow.FieldSrcAddr || e.Field == flow.FieldDstAddr {
			attrs = append(attrs, flow.AttrRef{End: i, Attr: flow.AttrNamespace}, flow.AttrRef{End: i, Attr: flow.AttrWorkload})
		}
	}
	return attrs
}

// Write writes the summary. drops says what was dropped, by reason; empty if nothing was.
func (s *Stage) Write(w io.Writer, drops string) error {
	var b strings.Builder
	var total uint64
	var protocols []string
	for _, name := range byValue(s.records) {
		total += s.records[name]
		protocols = append(protocols, fmt.Sprintf("%s %s", thousands(s.records[name]), name))
	}
	fmt.Fprintf(&b, "\n%s records", thousands(total))
	if len(protocols) > 0 {
		fmt.Fprintf(&b, ": %s", strings.Join(protocols, ", "))
	}
	b.WriteByte('\n')
	if total > 0 {
		fmt.Fprintf(&b, "names: both ends %s, one end %s, none %s\n",
			percent(s.named[2], total), percent(s.named[1], total), percent(s.named[0], total))
	}
	s.writeExporters(&b)
	s.writePairs(&b)
	if drops == "" {
		drops = "nothing"
	}
	fmt.Fprintf(&b, "dropped: %s\n", drops)
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Stage) writeExporters(b *strings.Builder) {
	if len(s.exporters) == 0 {
		return
	}
	addrs := byValue(s.exporters)
	var list []string
	for _, a := range addrs[:min(shown, len(addrs))] {
		list = append(list, fmt.Sprintf("%s (%s)", a, thousands(s.exporters[a])))
	}
	more := ""
	if n := len(addrs) - len(list); n > 0 || s.others > 0 {
		more = fmt.Sprintf(" and %d more", n)
		if s.others > 0 {
			more = fmt.Sprintf(" and more than %d more", n)
		}
	}
	fmt.Fprintf(b, "exporters, with their records: %s%s\n", strings.Join(list, ", "), more)
}

// writePairs writes the pairs with the most bytes, and the sum of the others.
func (s *Stage) writePairs(b *strings.Builder) {
	if len(s.pairs) == 0 {
		return
	}
	pairs := make([]pair, 0, len(s.pairs))
	for p := range s.pairs {
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(p, q pair) int {
		return cmp.Or(cmp.Compare(s.pairs[q].bytes, s.pairs[p].bytes), strings.Compare(p.String(), q.String()))
	})
	if s.piped {
		b.WriteString("most bytes, by all records:\n")
	} else {
		b.WriteString("most bytes, each packet counted once:\n")
	}
	other := s.other
	for i, p := range pairs {
		c := s.pairs[p]
		if i < shown {
			fmt.Fprintf(b, "  %s  %11s packets  %s\n", encode.AppendBytes(nil, c.bytes), thousands(c.packets), p)
			continue
		}
		other.bytes += c.bytes
		other.packets += c.packets
	}
	if n := len(pairs) - shown; n > 0 {
		fmt.Fprintf(b, "  %s  %11s packets  of %s other pairs\n", encode.AppendBytes(nil, other.bytes), thousands(other.packets), thousands(uint64(n)))
	}
}

// String returns a pair as it is shown.
func (p pair) String() string { return p.src.String() + " → " + p.dst.String() }

// String returns a workload with its namespace, or an address.
func (e end) String() string {
	if e.workload == (unique.Handle[flow.Workload]{}) {
		if !e.addr.IsValid() {
			return "-"
		}
		return e.addr.String()
	}
	w := e.workload.Value()
	if w.Namespace == "" {
		return encode.Printable(w.Name)
	}
	return encode.Printable(w.Namespace + "/" + w.Name)
}

// byValue returns the keys of m, those with the largest values first.
func byValue[K comparable](m map[K]uint64) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	return keys
}

// percent returns a share with one decimal.
func percent(n, of uint64) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(of)) }

// thousands returns a number with commas between groups of three digits.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
