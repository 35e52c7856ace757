package recent

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	flowpb "github.com/netsampler/goflow2/v2/pb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// About says what a [Store] has.
type About struct {
	// Newest and Oldest are the times of receipt of records in memory, zero if there are
	// none. Since is from when on sums are known.
	Newest, Oldest, Since time.Time
	// Records and Counts are all that came since the start.
	Records uint64
	Counts
	// NamedPercent is how many of the records with an address have a name at one end.
	NamedPercent float64
	// Used is how many bytes the records in memory take, InMemory how many they are.
	// Capacity is the room for records and sums.
	Used, Capacity int64
	InMemory       uint64
	Exporters      []Exporter
	Workloads      []End // with a name, by their names; not to be changed
}

// Exporter is who sent records.
type Exporter struct {
	Address  string    `json:"address"`
	Protocol string    `json:"protocol"` // Type of the records
	LastSeen time.Time `json:"last_seen"`
	Records  uint64    `json:"records"`
}

// About returns what there is.
func (s *Store) About() *About {
	a := &About{Capacity: s.cfg.Room}
	u := s.sums
	u.mu.Lock()
	defer u.mu.Unlock()
	s.fold()
	since := s.gone.Load()
	if len(u.buckets) > 0 {
		since = min(since, u.buckets[0].start)
	}
	total := u.total.clone()
	further := newWorkloads() // those that are not among the sums' yet
	oldest := uint64(math.MaxUint64)
	for _, l := range s.glances() {
		a.InMemory += uint64(l.count)
		a.Used += int64(l.used)
		if l.sealed {
			oldest = min(oldest, l.oldest)
		}
		if l.segment.folded.Load() || !l.pin() {
			continue
		}
		v := l.view()
		var h head
		for at := 0; at < v.used; at += v.lengthAt(at) {
			h.read(v, at, s.mapped)
			total.note(&h)
			oldest = min(oldest, h.received)
		}
		further.addUnknown(u.workloads, v.objects)
		l.segment.unpin()
	}
	u.names.update(u.workloads)
	a.Workloads = u.names.with(further.list[outsideNumber+1:])
	a.Newest, a.Oldest, a.Since = timeOf(total.newest), timeOf(oldest), timeOf(since)
	a.Records, a.Counts = total.records, total.counts
	if total.addressed > 0 {
		a.NamedPercent = 100 * float64(total.named) / float64(total.addressed)
	}
	a.Exporters = total.list()
	return a
}

// list returns the exporters, those with most records first.
func (t *totals) list() []Exporter {
	list := make([]Exporter, 0, len(t.exporters))
	for key, e := range t.exporters {
		x := Exporter{Protocol: flow.TypeName(flowpb.FlowMessage_FlowType(key.kind)), LastSeen: timeOf(e.last), Records: e.records}
		if addr, ok := netip.AddrFromSlice([]byte(key.address)); ok {
			x.Address = addr.Unmap().String()
		}
		list = append(list, x)
	}
	slices.SortFunc(list, func(a, b Exporter) int {
		return cmp.Or(cmp.Compare(b.Records, a.Records), cmp.Compare(a.Address, b.Address), cmp.Compare(a.Protocol, b.Protocol))
	})
	return list
}

// span returns the times of the oldest and the newest record that records or sums know
// of, 0 and 0 if there are none.
func (s *Store) span() (oldest, newest uint64) {
	u := s.sums
	u.mu.Lock()
	defer u.mu.Unlock()
	s.fold()
	oldest = math.MaxUint64
	if len(u.buckets) > 0 && s.gone.Load() > 0 {
		oldest = u.buckets[0].start
	}
	newest = u.total.newest
	for _, l := range s.glances() {
		if l.sealed {
			oldest, newest = min(oldest, l.oldest), max(newest, l.newest)
			continue
		}
		if !l.pin() {
			continue
		}
		v := l.view()
		for at := 0; at < v.used; at += v.lengthAt(at) {
			t := v.receivedAt(at)
			oldest, newest = min(oldest, t), max(newest, t)
		}
		l.segment.unpin()
	}
	if newest == 0 {
		return 0, 0
	}
	return oldest, newest
}

// Newest returns the time of receipt of the newest record, zero if there is none.
func (s *Store) Newest() time.Time {
	_, newest := s.span()
	return timeOf(newest)
}

// longestStep returns the longest interval that sums have in an interval.
func (s *Store) longestStep(since, until uint64) (step uint64) {
	s.sums.mu.Lock()
	defer s.sums.mu.Unlock()
	for _, b := range s.sums.buckets {
		if b.start+b.step > since && b.start <= until {
			step = max(step, b.step)
		}
	}
	return step
}
