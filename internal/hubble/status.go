package hubble

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	relaypb "github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc/status"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// rateWindow is the time over which the rate of flows is measured, and rateStep how often they
// are counted.
const (
	rateWindow = time.Minute
	rateStep   = time.Second
)

// rate measures how many records there are in a second, over the last minute. Any number of
// goroutines may use it at once.
type rate struct {
	mu     sync.Mutex
	counts [rateWindow/rateStep + 1]uint64 // a ring of what was seen
	n      int                             // how many have been noted
}

// note notes what has been seen until now. It is called at every rateStep.
func (r *rate) note(seen uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[r.n%len(r.counts)] = seen
	r.n++
}

// perSecond returns the rate, 0 before two steps.
func (r *rate) perSecond() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	steps := min(r.n, len(r.counts)) - 1
	if steps < 1 {
		return 0
	}
	last, first := r.counts[(r.n-1)%len(r.counts)], r.counts[(r.n-1-steps)%len(r.counts)]
	return float64(last-first) / (time.Duration(steps) * rateStep).Seconds()
}

// measure counts records until ctx ends.
func (s *Server) measure(ctx context.Context) {
	tick := time.NewTicker(rateStep)
	defer tick.Stop()
	for {
		s.rate.note(s.source.Stats().Seen)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// ServerStatus implements [observerpb.ObserverServer].
func (s *Server) ServerStatus(context.Context, *observerpb.ServerStatusRequest) (*observerpb.ServerStatusResponse, error) {
	st := s.source.Stats()
	return &observerpb.ServerStatusResponse{
		NumFlows: st.Records, MaxFlows: max(st.Capacity, st.Records), SeenFlows: st.Seen,
		UptimeNs: uint64(time.Since(s.started)), Version: s.versionText(), FlowsRate: s.rate.perSecond(),
	}, nil
}

// versionText returns the program and its version, as clients show it.
func (s *Server) versionText() string { return emitterName + " " + s.cfg.Version }

// recentNamespaces is how long ago a namespace may have had its last flow, as in Cilium.
const recentNamespaces = time.Hour

// GetNamespaces implements [observerpb.ObserverServer]: the namespaces of the flows of the last
// hour, counted back from the newest one.
func (s *Server) GetNamespaces(ctx context.Context, _ *observerpb.GetNamespacesRequest) (*observerpb.GetNamespacesResponse, error) {
	return s.namespaces.get(ctx, s.findNamespaces)
}

func (s *Server) findNamespaces(ctx context.Context) (*observerpb.GetNamespacesResponse, error) {
	found := make(map[string]bool)
	var oldest int64
	err := s.scan(ctx, func(v *view) bool {
		at := int64(v.r.Msg.TimeReceivedNs)
		if oldest == 0 {
			oldest = at - int64(recentNamespaces)
		}
		if at < oldest {
			return false
		}
		for _, o := range [...]*flow.Object{v.src.object, v.dst.object} {
			if o != nil && o.Namespace != "" && !found[o.Namespace] {
				found[o.Namespace] = true
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	resp := &observerpb.GetNamespacesResponse{}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		resp.Namespaces = append(resp.Namespaces, &observerpb.Namespace{Cluster: s.cluster, Namespace: valid(name)})
	}
	return resp, nil
}

// GetNodes implements [observerpb.ObserverServer]: the Nodes and other exporters that there are
// flows of. Where there are none yet, it is this process.
func (s *Server) GetNodes(ctx context.Context, _ *observerpb.GetNodesRequest) (*observerpb.GetNodesResponse, error) {
	return s.nodes.get(ctx, s.findNodes)
}

// maxNodes bounds the Nodes and exporters that are listed.
const maxNodes = 10_000

// exporter is what the records of a Node, or of another exporter, tell of it.
type exporter struct {
	address string
	flows   uint64
}

func (s *Server) findNodes(ctx context.Context) (*observerpb.GetNodesResponse, error) {
	found := make(map[string]*exporter)
	err := s.scan(ctx, func(v *view) bool {
		name := v.nodeName()
		e := found[name]
		if e == nil {
			if len(found) >= maxNodes {
				return true
			}
			e = &exporter{address: addrText(v.r.Msg.SamplerAddress)}
			found[name] = e
		}
		e.flows++
		return true
	})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		found[s.cfg.Name] = &exporter{address: s.Addr()}
	}
	st, uptime := s.source.Stats(), uint64(time.Since(s.started))
	resp := &observerpb.GetNodesResponse{}
	for name, e := range found {
		resp.Nodes = append(resp.Nodes, &observerpb.Node{
			Name: s.inCluster(valid(name)), Version: s.versionText(), Address: e.address, State: relaypb.NodeState_NODE_CONNECTED,
			Tls: &observerpb.TLS{Enabled: s.cfg.Cert != ""}, UptimeNs: uptime,
			NumFlows: e.flows, MaxFlows: max(st.Capacity, st.Records), SeenFlows: e.flows,
		})
	}
	slices.SortFunc(resp.Nodes, func(a, b *observerpb.Node) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return resp, nil
}

func addrText(b []byte) string {
	if a := addrOf(b); a.IsValid() {
		return a.String()
	}
	return ""
}

// scan calls f with a view of each record, the newest first, until it returns false.
func (s *Server) scan(ctx context.Context, f func(*view) bool) error {
	t := turn{places: s.scans}
	if !t.begin(ctx) {
		return endOf(ctx, ctx.Err())
	}
	defer t.end()
	v := newView(&s.names)
	var failed error
	err := s.source.Each(ctx, Query{Newest: true}, func(r *flow.Record) bool {
		if failed = t.next(ctx); failed != nil {
			return false
		}
		v.set(r)
		return f(v)
	})
	return endOf(ctx, errors.Join(failed, err))
}

// reuse is how many times as long as an answer took it is given again. Hubble UI asks every 5 s.
const reuse = 20

// answer is a message that takes a while to make. One goroutine makes it at a time, and the others
// wait. None may change it.
type answer[T any] struct {
	making chan struct{} // a place for the one who makes it
	last   T
	until  time.Time // when it is too old
}

func newAnswer[T any]() *answer[T] { return &answer[T]{making: make(chan struct{}, 1)} }

// get returns the answer that others were given, or makes a new one.
func (a *answer[T]) get(ctx context.Context, create func(context.Context) (T, error)) (T, error) {
	select {
	case a.making <- struct{}{}:
		defer func() { <-a.making }()
	case <-ctx.Done():
		var none T
		return none, status.FromContextError(ctx.Err()).Err()
	}
	begun := time.Now()
	if begun.Before(a.until) {
		return a.last, nil
	}
	made, err := create(ctx)
	if err != nil {
		return made, err
	}
	now := time.Now()
	a.last, a.until = made, now.Add(reuse*now.Sub(begun))
	return made, nil
}
