package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netobserv/goflow2-kube-enricher/test/e2e/exporter"
)

const (
	churnPerSecond = 50 // pods created, and as many deleted
	churnAddrs     = 160
	churnFlows     = 3 // of each pod
	churnLate      = 10 * time.Second
)

// tenancy is the truth about a pod: from when to when it had the address, and
// when the API server knew.
type tenancy struct {
	name                  string
	up, down, shown, gone time.Time
}

func (o tenancy) overlaps(f exporter.Timed) bool {
	return f.Start.Before(o.down) && !f.End.Before(o.up)
}

// churn is what the test did, and its exporter sent.
type churn struct {
	t         *testing.T
	e         *enricher
	namespace string
	begin     time.Time
	length    time.Duration
	tokens    chan struct{}
	away      [2]time.Time // from when to when the program did not see what happened

	mu      sync.Mutex // guards the rest, and the exporter
	count   int
	history map[netip.Addr][]tenancy
	flows   []exporter.Timed
}

// Addresses go from pod to pod all the time, and each flow names the pod that
// had the address when it ran, with no more rights than are recommended. In the
// middle the API server crashes and comes back, while pods live and die.
// CHURN_SECONDS makes the test longer.
func TestChurn(t *testing.T) {
	length := 20 * time.Second
	if s := os.Getenv("CHURN_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		length = time.Duration(n) * time.Second
	}
	namespace := testNamespace(t)
	verbs := []string{"get", "list", "watch"}
	e := readyAs(t, serviceAccount(t, namespace, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "services"}, Verbs: verbs},
		{APIGroups: []string{"apps"}, Resources: []string{"replicasets"}, Verbs: verbs},
	}))
	c := &churn{
		t: t, e: e, namespace: namespace, length: length, begin: time.Now(),
		tokens: make(chan struct{}), history: map[netip.Addr][]tenancy{},
	}
	t.Cleanup(func() { // for the tests to come, whatever happens to this one
		if err := kube.StartAPIServer(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { c.pace(ctx) })
	wg.Go(c.restart)
	for i := range churnAddrs {
		wg.Go(func() { c.hand(ctx, i) })
	}
	wg.Wait()
	c.judge()
	c.e.terminate(t)
}

// restart lets the API server crash and come back half-way through, and finds
// out when the program has heard of it again.
func (c *churn) restart() {
	pause(c.t.Context(), c.length/2)
	c.away[0] = time.Now()
	if err := errors.Join(kube.StopAPIServer(), kube.StartAPIServer(c.t.Context())); err != nil {
		c.t.Error(err)
		return
	}
	up := time.Now()
	c.t.Logf("the API server was away from %.1f s on for %.1f s", c.away[0].Sub(c.begin).Seconds(), up.Sub(c.away[0]).Seconds())
	for ; c.t.Context().Err() == nil; pause(c.t.Context(), 20*time.Millisecond) {
		now := time.Now()
		for _, m := range c.e.metrics(c.t)["kube_enricher_kube_event_age_seconds"].GetMetric() {
			age := time.Duration(m.GetGauge().GetValue() * float64(time.Second))
			if lastEvent := now.Add(-age); m.GetLabel()[0].GetValue() == "pod" && lastEvent.After(up) {
				c.away[1] = now
				c.t.Logf("the program knew all again %.1f s later", now.Sub(up).Seconds())
				return
			}
		}
	}
}

// persist tries something until the API server has done it. What it had done
// before it crashed is done.
func (c *churn) persist(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), soon)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// pace lets pods be created at the rate of the test.
func (c *churn) pace(ctx context.Context) {
	tick := time.NewTicker(time.Second / churnPerSecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			close(c.tokens)
			return
		case <-tick.C:
		}
		select {
		case c.tokens <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// hand hands an address from pod to pod, and sends their flows late.
func (c *churn) hand(ctx context.Context, n int) {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	some := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }
	addr := netip.AddrFrom4([4]byte{10, 250, 0, byte(n)})
	if n%4 == 0 {
		addr = netip.MustParseAddr(fmt.Sprintf("fd00:10:250::%x", n+1))
	}
	var late sync.WaitGroup
	defer late.Wait()
	for range c.tokens {
		c.mu.Lock()
		c.count++
		o := tenancy{name: fmt.Sprintf("churn-%d", c.count)}
		c.mu.Unlock()
		if err := c.create(&o, addr); err != nil {
			c.t.Error(err)
			return
		}
		pause(ctx, 500*time.Millisecond+some(2*time.Second))
		o.down = time.Now()
		// Deleted is deleted, also after the end of the test.
		err := c.persist(func(ctx context.Context) error {
			return kube.Client.CoreV1().Pods(c.namespace).Delete(ctx, o.name, *metav1.NewDeleteOptions(0))
		})
		if err != nil {
			c.t.Error(err)
			return
		}
		o.gone = time.Now()
		c.mu.Lock()
		c.history[addr] = append(c.history[addr], o)
		c.mu.Unlock()
		for range churnFlows {
			from := some(o.down.Sub(o.up))
			length := some(o.down.Sub(o.up) - from)
			f := exporter.Timed{Flow: c.e.flow(addr, nobody), Start: o.up.Add(from), End: o.up.Add(from + length)}
			wait := some(churnLate)
			late.Go(func() {
				pause(context.WithoutCancel(ctx), wait)
				c.send(f)
			})
		}
		pause(ctx, some(500*time.Millisecond))
	}
}

// create makes a pod, and gives it the address as a kubelet does.
func (c *churn) create(o *tenancy, addr netip.Addr) error {
	pods := kube.Client.CoreV1().Pods(c.namespace)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: o.name}, Spec: corev1.PodSpec{NodeName: "node-a", Containers: containers}}
	err := c.persist(func(ctx context.Context) error {
		_, err := pods.Create(ctx, p, metav1.CreateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	now := metav1.Now()
	o.up = now.Time
	p.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, HostIP: hostA, HostIPs: []corev1.HostIP{{IP: hostA}},
		PodIP: addr.String(), PodIPs: []corev1.PodIP{{IP: addr.String()}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReadyToStartContainers, Status: corev1.ConditionTrue, LastTransitionTime: now}},
	}
	err = c.persist(func(ctx context.Context) error {
		_, err := pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
	o.shown = time.Now()
	return err
}

// unseen reports whether the pod came and went while the program could not see it.
func (c *churn) unseen(o tenancy) bool { return o.shown.After(c.away[0]) && o.gone.Before(c.away[1]) }

func (c *churn) send(f exporter.Timed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.e.exporter.IPFIXTimed(f); err != nil {
		c.t.Error(err)
		return
	}
	c.flows = append(c.flows, f)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// describe says when a flow ran, what its record has, and who had the address about then.
func (c *churn) describe(f exporter.Timed, got map[string]string) string {
	var b strings.Builder
	since := func(t time.Time) time.Duration { return t.Sub(c.begin) }
	fmt.Fprintf(&b, "%s from %v to %v: %v; ", f.Src, since(f.Start), since(f.End), got)
	for _, o := range c.history[f.Src] {
		if o.down.After(f.Start.Add(-5*time.Second)) && o.up.Before(f.End.Add(5*time.Second)) {
			fmt.Fprintf(&b, "[%s from %v (shown %v) to %v (deleted %v)] ", o.name, since(o.up), since(o.shown), since(o.down), since(o.gone))
		}
	}
	return b.String()
}

// judge compares the names in the records with the truth. The times in flows
// are in milliseconds.
func (c *churn) judge() {
	t := c.t
	// No name is sure in the 2 s before the last event that came before a watch was interrupted, or
	// so shortly after the first one that came again. A loaded server sends none for a while.
	const margin = 3 * time.Second
	// Before the API server has shown a pod, the one before it may still have the address. Until
	// the program has heard of it takes a while more.
	const lag = 250 * time.Millisecond
	from, to := c.away[0].Add(-margin), c.away[1].Add(margin)
	var named, unnamed, ambiguous, unseen int
	// Records of flows that did not run while the API server was away, of pods that were shown by then.
	var calm, calmNamed int
	var others, othersNamed int // the same, of pods that were not shown by then
	var wrong, lacking []string // lacking are those of calm that are not named for certain
	for _, f := range c.flows {
		shown := slices.ContainsFunc(c.history[f.Src], func(o tenancy) bool {
			return !f.Start.Before(o.shown.Add(lag)) && !f.End.After(o.down)
		})
		f.Start, f.End = f.Start.Truncate(time.Millisecond), f.End.Truncate(time.Millisecond)
		got := c.e.record(t, f.Flow).names("Src")
		history := c.history[f.Src]
		away := !f.End.Before(from) && !f.Start.After(to)
		quiet := shown && !away
		if quiet {
			calm++
		} else if !away {
			others++
		}
		owner := slices.IndexFunc(history, func(o tenancy) bool { return o.name == got["Pod"] })
		switch {
		case got["Pod"] == "" && slices.ContainsFunc(history, func(o tenancy) bool { return o.overlaps(f) && c.unseen(o) }):
			unseen++
		case got["Pod"] == "":
			unnamed++
			if quiet {
				lacking = append(lacking, c.describe(f, got))
			}
		case got["Warn"] != "":
			ambiguous++
			if quiet {
				lacking = append(lacking, c.describe(f, got))
			}
			interrupted := away && strings.Contains(got["Warn"], "interrupted")
			if !interrupted && !slices.ContainsFunc(history, func(o tenancy) bool { return o.overlaps(f) && strings.Contains(got["Warn"], o.name+".") }) {
				wrong = append(wrong, c.describe(f, got))
			}
		case owner >= 0 && (history[owner].overlaps(f) || f.Start.Before(history[owner].up) && history[owner].up.Sub(f.End) <= time.Millisecond):
			named++
			if quiet {
				calmNamed++
			} else if !away {
				othersNamed++
			}
		default:
			wrong = append(wrong, c.describe(f, got))
		}
	}
	seconds, seen := c.length.Seconds(), len(c.flows)-unseen
	t.Logf("%d pods in %.0f s (%.0f a second) on %d addresses; %d records, of pods that were ever seen %d: %d named rightly (%.2f %%), %d wrongly, %d ambiguous, %d unnamed; at other times than the restart's %.2f %% of %d records of pods that were shown, %.2f %% of %d of others",
		c.count, seconds, float64(c.count)/seconds, churnAddrs, len(c.flows), seen, named, 100*float64(named)/float64(max(1, seen)), len(wrong), ambiguous, unnamed,
		100*float64(calmNamed)/float64(max(1, calm)), calm, 100*float64(othersNamed)/float64(max(1, others)), others)
	if len(wrong) > 0 {
		t.Errorf("%d records name a pod that did not have the address:\n%s", len(wrong), strings.Join(wrong[:min(5, len(wrong))], "\n"))
	}
	if float64(calmNamed) < 0.995*float64(calm) || float64(othersNamed) < 0.5*float64(others) || float64(named+ambiguous) < 0.95*float64(seen) {
		t.Errorf("too few records are named; of pods that were shown, at other times than the restart's, these are not, or in doubt:\n%s", strings.Join(lacking[:min(20, len(lacking))], "\n"))
	}
}
