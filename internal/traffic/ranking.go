package traffic

import (
	"cmp"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

const (
	// halfLife is the time after which traffic has half of its weight in the ranking.
	halfLife = 10 * time.Minute
	// advantage is how many times more traffic a pair needs than a pair with a series,
	// to take its place. Without it, pairs with similar traffic would take turns.
	advantage = 2
	// keepLost is how long the counters of a pair that has lost its series are kept at
	// least. If the pair gets a series again, it goes on from there.
	keepLost = time.Hour
	// knownFactor bounds the pairs that are known, as a multiple of the series.
	knownFactor = 4
)

// ranking decides which pairs have series. The traffic of a pair is counted by its own
// series while it has one, otherwise by the shared one. It is never counted by both,
// and never moved from one to the other. So no counter decreases, and none grows by
// traffic of an earlier time. Its methods are called with Counter.mu held.
type ranking struct {
	max     int // pairs that have series
	known   map[pair]*pairState
	shown   []*pairState // those of known that have series
	others  counts       // of the shared series
	swaps   uint64
	decayed time.Time // when the scores were last discounted
	merged  time.Time // when the last merge was; before the first, when counting began
	merges  uint64
	zones   bool // whether the labels have zones
}

// pairState is what is known of a pair.
type pairState struct {
	pair   pair
	labels []*dto.LabelPair // nil before the pair has a series
	score  float64          // bytes, those of the past discounted
	fresh  counts           // since the last merge
	total  counts           // the values of the pair's series
	shown  bool             // it has a series
	// appeared reports whether the merge that is under way gave it the series.
	appeared bool
	since    time.Time // when counting for its series began
	lostAt   time.Time // when the pair lost its series; zero if it never did
}

func newRanking(maxShown int, now time.Time) ranking {
	return ranking{max: maxShown, known: make(map[pair]*pairState), decayed: now, merged: now}
}

// merge adds the counts of the workers' tables, which it does not change.
//
// A series that was not there at the last merge keeps its value once more, which is 0 if it is new:
// what was counted since then is added by the next merge. Prometheus takes no notice of the first
// value of a series, and would miss that traffic. The first merge has true values, as the first
// scrape of any program has.
func (k *ranking) merge(now time.Time, tables []*table) {
	if age := now.Sub(k.decayed); age > 0 {
		factor := math.Exp2(-float64(age) / float64(halfLife))
		for _, e := range k.known {
			e.score *= factor
		}
		k.decayed = now
	}
	var candidates []*pairState
	for _, t := range tables {
		k.others.add(&t.overflow)
		for _, i := range t.used {
			n := &t.entries[i].counts
			p, ok := t.entries[i].pair.canonical()
			if !ok {
				k.others.add(n)
				continue
			}
			e := k.known[p]
			if e == nil {
				e = &pairState{pair: p}
				k.known[p] = e
			}
			if e.fresh == (counts{}) && !e.shown {
				candidates = append(candidates, e)
			}
			e.fresh.add(n)
			e.score += float64(n[valueBytes])
		}
	}
	if len(candidates) > 0 {
		k.admit(now, candidates)
	}
	for _, e := range k.shown {
		if e.appeared && k.merges > 0 {
			e.appeared = false
			continue
		}
		e.total.add(&e.fresh)
		e.fresh, e.appeared = counts{}, false
	}
	k.merges++
	k.merged = now
	for _, e := range candidates {
		if !e.shown {
			k.others.add(&e.fresh)
			e.fresh = counts{}
		}
	}
	k.forget(now)
}

// admit gives series to candidates, those with the highest score first. First it gives
// those that are free, then those of pairs with a much lower score.
func (k *ranking) admit(now time.Time, candidates []*pairState) {
	slices.SortFunc(candidates, func(a, b *pairState) int { return cmp.Compare(b.score, a.score) })
	free := min(k.max-len(k.shown), len(candidates))
	for _, e := range candidates[:free] {
		k.show(e)
		k.shown = append(k.shown, e)
	}
	candidates = candidates[free:]
	// A pair that loses its series is remembered. If there is no room for that, no
	// pair loses its series.
	room := k.maxKnown() - len(k.shown) - k.recentlyLost(now)
	if len(candidates) == 0 || room <= 0 {
		return
	}
	slices.SortFunc(k.shown, func(a, b *pairState) int { return cmp.Compare(a.score, b.score) })
	for i, e := range candidates[:min(len(candidates), len(k.shown), room)] {
		old := k.shown[i]
		if e.score <= advantage*old.score {
			break
		}
		// Its traffic since the last merge, or the one before, is not in its series yet.
		k.others.add(&old.fresh)
		old.fresh, old.shown, old.appeared, old.lostAt = counts{}, false, false, now
		k.show(e)
		k.shown[i] = e
		k.swaps++
	}
}

// show gives a pair a series.
func (k *ranking) show(e *pairState) {
	e.shown, e.appeared = true, true
	if e.labels == nil {
		e.labels, e.since = labelPairs(e.pair, k.zones), k.merged
	}
}

func (k *ranking) maxKnown() int { return knownFactor * (k.max + 1) }

// recentlyLost returns the number of pairs that have lost their series lately.
func (k *ranking) recentlyLost(now time.Time) (n int) {
	for _, e := range k.known {
		if !e.shown && e.recent(now) {
			n++
		}
	}
	return n
}

// recent reports whether the pair has lost a series lately.
func (e *pairState) recent(now time.Time) bool {
	return !e.lostAt.IsZero() && now.Sub(e.lostAt) < keepLost
}

// forget bounds the pairs that are known. Those with the lowest scores go, if they have
// no series and have not lost one lately.
func (k *ranking) forget(now time.Time) {
	excess := len(k.known) - k.maxKnown()
	if excess <= 0 {
		return
	}
	var all []*pairState
	for _, e := range k.known {
		if !e.shown && !e.recent(now) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *pairState) int { return cmp.Compare(a.score, b.score) })
	for _, e := range all[:min(excess, len(all))] {
		delete(k.known, e.pair)
	}
}
