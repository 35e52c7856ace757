package enrich

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/internal/race"
)

// TestKubelets is TestChurn with pods as kubelets run and announce them. With
// CHURN_SEEDS=32 it runs as many, bigger simulations.
func TestKubelets(t *testing.T) {
	seeds, pods := uint64(3), 700
	if s, err := strconv.ParseUint(os.Getenv("CHURN_SEEDS"), 10, 16); err == nil {
		seeds, pods = s, 2000
	}
	if race.Enabled {
		seeds, pods = 1, 200
	}
	ordinary := kubeletPace{
		lives: [2]time.Duration{2 * time.Second, 5 * time.Minute}, reuse: 5 * time.Second, lag: time.Second,
		node: 200 * time.Millisecond, exporter: 100 * time.Millisecond, api: 100 * time.Millisecond,
	}
	with := func(change func(*kubeletPace)) kubeletPace { p := ordinary; change(&p); return p }
	cut := func(w *churnWorld) { w.cut() }
	relist := func(w *churnWorld) { w.cut(); w.resumes = false }
	migrate := func(w *churnWorld) { w.addMachines(8, 4, [2]time.Duration{time.Hour, 90 * time.Minute}) }
	for _, c := range []struct {
		name  string
		pace  kubeletPace
		wrong float64 // of all records, at most
		doubt float64 // of them ambiguous, at most
		more  func(*churnWorld)
	}{
		{"ordinary", ordinary, 0, 0.005, nil},
		{"crash loops", with(func(p *kubeletPace) { p.crashing = 0.7 }), 0, 0.005, nil},
		{"crash loops, addresses used again at once", with(func(p *kubeletPace) { p.crashing, p.reuse = 0.7, 200*time.Millisecond }), 0, 0.015, nil},
		{"late addresses", with(func(p *kubeletPace) { p.late = 0.3 }), 0.0001, 0.005, nil},
		{"late addresses without PodReadyToStartContainers", with(func(p *kubeletPace) { p.late, p.noReady = 0.3, true }), 0.0001, 0.005, nil},
		{"the API server's clock is fast", with(func(p *kubeletPace) { p.api = 5 * time.Second }), 0.0001, 0.005, nil},
		{"the API server's clock is slow", with(func(p *kubeletPace) { p.api = -5 * time.Second }), 0.0001, 0.005, nil},
		{"kubelets' clocks are wrong", with(func(p *kubeletPace) { p.node = time.Second }), 0.0001, 0.005, nil},
		{"exporters' clocks are wrong", with(func(p *kubeletPace) { p.exporter = time.Second }), 0.0001, 0.005, nil},
		{"migration", ordinary, 0.0001, 0.005, migrate},
		{"other addresses", with(func(p *kubeletPace) { p.moves, p.crashing = true, 0.2 }), 0.0001, 0.005, nil},
		{"outages", with(func(p *kubeletPace) { p.crashing, p.late = 0.2, 0.2 }), 0.0001, 0.03, cut},
		{"outages, listed again", with(func(p *kubeletPace) { p.crashing, p.late = 0.2, 0.2 }), 0.0002, 0.04, relist},
	} {
		t.Run(c.name, func(t *testing.T) {
			var written, settled churnScore
			for seed := range seeds {
				w := newKubeletWorld(seed, c.pace, pods)
				w.resumes = true
				if c.more != nil {
					c.more(w)
				}
				w.renew()
				synctest.Test(t, func(t *testing.T) {
					scores := runChurn(t, w, true)
					written.sum(&scores[2])
					settled.sum(&scores[3])
				})
			}
			t.Logf("as written: %v; no rule can decide %.3f %%", &written, 100*float64(written.undecided)/float64(max(1, written.flows)))
			for _, s := range []*churnScore{&written, &settled} {
				// One record more may be a matter of chance in the short runs.
				if s.wrong > 0 && float64(s.wrong) > c.wrong*float64(s.all)+min(1, 1e4*c.wrong) {
					t.Errorf("%d of %d records name a pod that did not own the address", s.wrong, s.all)
				}
				if float64(s.ambiguous) > c.doubt*float64(s.flows) {
					t.Errorf("%d of %d records are ambiguous", s.ambiguous, s.flows)
				}
				if s.lost > 0 {
					t.Errorf("%d of %d steady flows are not named for sure", s.lost, s.steady)
				}
				if t.Failed() {
					t.Error(strings.Join(s.examples, "\n"))
				}
			}
			if written.flows == 0 || written.named < written.flows*9/10 {
				t.Errorf("%v", &written)
			}
		})
	}
}

// sum adds another simulation.
func (s *churnScore) sum(o *churnScore) {
	s.all += o.all
	s.flows += o.flows
	s.named += o.named
	s.wrong += o.wrong
	s.ambiguous += o.ambiguous
	s.unnamed += o.unnamed
	s.nobodys += o.nobodys
	s.steady += o.steady
	s.lost += o.lost
	s.undecided += o.undecided
	if n := 8 - len(s.examples); n > 0 {
		s.examples = append(s.examples, o.examples[:min(n, len(o.examples))]...)
	}
}

// renew lets the watch of pods end every 5 to 10 minutes. The next one goes on at once.
func (w *churnWorld) renew() {
	end := w.pods[len(w.pods)-1].down
	for at := w.upTo(5 * time.Minute); at < end; at += w.between(5*time.Minute, 10*time.Minute) {
		to := at + w.between(5*time.Millisecond, 300*time.Millisecond)
		if !overlapsAny(w.cuts, at, to+time.Second) {
			w.renewals = append(w.renewals, churnInterval{at, to})
		}
	}
}

func overlapsAny(list []churnInterval, from, to time.Duration) bool {
	for _, c := range list {
		if c.overlaps(from, to) {
			return true
		}
	}
	return false
}

// undecided reports whether another pod may have had the address throughout the flow, as far as
// the times in the API can say.
func (w *churnWorld) undecided(f *churnFlow) bool {
	if f.owner == nil || f.owner.bounds == nil {
		return false
	}
	h := w.history[f.addr]
	i := slices.Index(h, f.owner)
	b := f.owner.bounds
	if i+1 < len(h) && h[i+1].bounds != nil && f.from >= max(b.certainUntil, h[i+1].bounds.notBefore) {
		return true
	}
	return i > 0 && h[i-1].bounds != nil && f.to < min(b.certainFrom, h[i-1].bounds.notAfter)
}
