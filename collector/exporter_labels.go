package collector

import (
	"cmp"
	"math/bits"
	"slices"
	"time"
)

const (
	// maxExporterLabels bounds the values of the label exporter. The other exporters
	// share the value "other".
	maxExporterLabels = 1000
	// labelSilence is after what time without a datagram an exporter's label goes to
	// another one that has none.
	labelSilence = time.Hour
)

// chooseLabelled divides exporters into those with series of their own in the metrics and
// the others. now is in Unix milliseconds.
//
// Of exporters alike the one that was known first has series, so those of an exporter stay
// from scrape to scrape. Another one takes its place only if that one has been of use for
// twice as long, in seconds, or has templates in use where this one has not. So forged
// sources take what is free, and give it back to exporters.
func chooseLabelled(all []*exporter, now int64) (labelled, others []*exporter) {
	if len(all) <= maxExporterLabels {
		return all, nil
	}
	type ranked struct {
		*exporter
		class int
	}
	ranks := make([]ranked, len(all))
	for i, e := range all {
		ranks[i] = ranked{e, e.labelClass(now)}
	}
	slices.SortFunc(ranks, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.class, a.class), cmp.Compare(a.number, b.number))
	})
	for i := range ranks {
		all[i] = ranks[i].exporter
	}
	return all[:maxExporterLabels], all[maxExporterLabels:]
}

// labelClass returns how much an exporter is worth a label, at now (Unix
// milliseconds). The forged source of one datagram is worth as much as any exporter that
// has sent one. It is worth little later.
func (e *exporter) labelClass(now int64) int {
	if now-e.lastSeen.Load() > labelSilence.Milliseconds() {
		return 0
	}
	class := 2 * bits.Len32(e.secondsUsed.Load())
	if class > 0 && e.templatesUsed.Load() {
		class++
	}
	return class
}

// markSeconds notes that a datagram of the exporter was of use: it held records, options
// data or a template. now is in Unix seconds. It reports whether this is the first such
// datagram in a second.
func (e *exporter) markSeconds(now int64) bool {
	last := e.lastUsed.Load()
	if now <= last || !e.lastUsed.CompareAndSwap(last, now) {
		return false
	}
	e.secondsUsed.Add(1)
	return true
}
