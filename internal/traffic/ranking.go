package traffic

import (
	"cmp"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

const (
	// halfLife is how fast traffic of the past loses weight in the ranking.
	halfLife = 10 * time.Minute
	// advantage is how many times the traffic of a pair that has a series must
	// be exceeded to take its place. Without it, equals would take turns.
	advantage = 2
	// memory is how long the counters of a pair that has lost its series are
	// kept at least, to go on from there if the pair gets it back.
	memory = time.Hour
	// knownFactor bounds the pairs that are known, as a multiple of the series.
	knownFactor = 4
)

// ranking decides which pairs have series. Traffic goes to the pair's own
// series while it has one, and to that of the others else, never to both and
// never from one to the other afterwards: so that no series goes backwards and
// none shows traffic of another time.
type ranking struct {
	max   int // pairs that have series
	known map[pair]*entry
	// shown are those that have series.
	shown  []*entry
	others counts
	swaps  uint64
	at     time.Time
}

// entry is what is known of a pair.
type entry struct {
	pair   pair
	labels []*dto.LabelPair
	// score is the pair's bytes, those of the past discounted.
	score float64
	fresh counts // since the last merge
	// total is the value of the pair's series.
	total counts
	shown bool
	// left is when the pair lost its series; zero if it never had one.
	left time.Time
}

func newRanking(maxShown int, now time.Time) ranking {
	return ranking{max: maxShown, known: make(map[pair]*entry), at: now}
}

// merge adds what the workers counted up to now.
func (k *ranking) merge(now time.Time, tables []*table) {
	if age := now.Sub(k.at); age > 0 {
		factor := math.Exp2(-float64(age) / float64(halfLife))
		for _, e := range k.known {
			e.score *= factor
		}
		k.at = now
	}
	var candidates []*entry
	for _, t := range tables {
		k.others.add(&t.rest)
		for i, p := range t.pairs {
			p, ok := p.canonical()
			if !ok {
				k.others.add(&t.counts[i])
				continue
			}
			e := k.known[p]
			if e == nil {
				e = &entry{pair: p}
				k.known[p] = e
			}
			if e.fresh == (counts{}) && !e.shown {
				candidates = append(candidates, e)
			}
			e.fresh.add(&t.counts[i])
			e.score += float64(t.counts[i][valueBytes])
		}
	}
	if len(candidates) > 0 {
		k.admit(now, candidates)
	}
	for _, e := range k.shown {
		e.total.add(&e.fresh)
		e.fresh = counts{}
	}
	for _, e := range candidates {
		if !e.shown {
			k.others.add(&e.fresh)
			e.fresh = counts{}
		}
	}
	k.forget(now)
}

// admit gives series to candidates, the largest first: those that are free,
// then those of pairs that have become small.
func (k *ranking) admit(now time.Time, candidates []*entry) {
	slices.SortFunc(candidates, func(a, b *entry) int { return cmp.Compare(b.score, a.score) })
	free := min(k.max-len(k.shown), len(candidates))
	for _, e := range candidates[:free] {
		k.show(e)
		k.shown = append(k.shown, e)
	}
	candidates = candidates[free:]
	// Each pair that loses its series is remembered. While there is no room for
	// that, none does.
	room := k.maxKnown() - len(k.shown) - k.remembered(now)
	if len(candidates) == 0 || room <= 0 {
		return
	}
	slices.SortFunc(k.shown, func(a, b *entry) int { return cmp.Compare(a.score, b.score) })
	for i, e := range candidates[:min(len(candidates), len(k.shown), room)] {
		old := k.shown[i]
		if e.score <= advantage*old.score {
			break
		}
		// What it had since the last merge would be seen nowhere else.
		k.others.add(&old.fresh)
		old.fresh, old.shown, old.left = counts{}, false, now
		k.show(e)
		k.shown[i] = e
		k.swaps++
	}
}

func (k *ranking) show(e *entry) {
	e.shown = true
	if e.labels == nil {
		e.labels = labelPairs(e.pair)
	}
}

func (k *ranking) maxKnown() int { return knownFactor * (k.max + 1) }

// remembered returns how many pairs without a series have lost it lately.
func (k *ranking) remembered(now time.Time) (n int) {
	for _, e := range k.known {
		if !e.shown && e.recent(now) {
			n++
		}
	}
	return n
}

func (e *entry) recent(now time.Time) bool {
	return !e.left.IsZero() && now.Sub(e.left) < memory
}

// forget bounds what is known, at the cost of the smallest that have no series.
func (k *ranking) forget(now time.Time) {
	excess := len(k.known) - k.maxKnown()
	if excess <= 0 {
		return
	}
	var all []*entry
	for _, e := range k.known {
		if !e.shown && !e.recent(now) {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.score, b.score) })
	for _, e := range all[:min(excess, len(all))] {
		delete(k.known, e.pair)
	}
}
