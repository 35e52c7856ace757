package hubble

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	relaypb "github.com/cilium/cilium/api/v1/relay"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
		UptimeNs: uint64(time.Since(s.started)), Version: s.cfg.Version, FlowsRate: s.rate.perSecond(),
		NumConnectedNodes: wrapperspb.UInt32(1), NumUnavailableNodes: wrapperspb.UInt32(0),
	}, nil
}

// recentNamespaces is how long ago a namespace may have had its last flow, as in Cilium.
const recentNamespaces = time.Hour

// GetNamespaces implements [observerpb.ObserverServer]: the namespaces of the flows of the last
// hour, counted back from the newest one.
func (s *Server) GetNamespaces(ctx context.Context, _ *observerpb.GetNamespacesRequest) (*observerpb.GetNamespacesResponse, error) {
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
		resp.Namespaces = append(resp.Namespaces, &observerpb.Namespace{Cluster: s.cfg.Cluster, Namespace: valid(name)})
	}
	return resp, nil
}

// GetNodes implements [observerpb.ObserverServer]: the Nodes and other exporters that there are
// flows of. Where there are none yet, it is this process.
func (s *Server) GetNodes(ctx context.Context, _ *observerpb.GetNodesRequest) (*observerpb.GetNodesResponse, error) {
	type node struct {
		address string
		flows   uint64
	}
	found := make(map[string]*node)
	err := s.scan(ctx, func(v *view) bool {
		name := v.nodeName()
		n := found[name]
		if n == nil {
			if len(found) >= maxEndpoints {
				return true
			}
			n = &node{address: addrText(v.r.Msg.SamplerAddress)}
			found[name] = n
		}
		n.flows++
		return true
	})
	if err != nil {
		return nil, err
	}
	st := s.source.Stats()
	if len(found) == 0 {
		found[s.cfg.Name] = &node{address: s.Addr()}
	}
	resp := &observerpb.GetNodesResponse{}
	for name, n := range found {
		resp.Nodes = append(resp.Nodes, &observerpb.Node{
			Name: s.inCluster(valid(name)), Version: s.cfg.Version, Address: n.address, State: relaypb.NodeState_NODE_CONNECTED,
			Tls: &observerpb.TLS{Enabled: s.cfg.Cert != ""}, UptimeNs: uint64(time.Since(s.started)),
			NumFlows: n.flows, MaxFlows: max(st.Capacity, st.Records), SeenFlows: n.flows,
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

// scan calls f with a view of each record, the newest first, until it returns false. One
// goroutine scans at a time, the others wait.
func (s *Server) scan(ctx context.Context, f func(*view) bool) error {
	select {
	case s.scanning <- struct{}{}:
		defer func() { <-s.scanning }()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
	v := newView(&s.names)
	err := s.source.Each(ctx, Query{Newest: true}, func(r *flow.Record) bool {
		v.set(r)
		return f(v)
	})
	if err != nil && ctx.Err() == nil {
		return status.Error(codes.Internal, err.Error())
	}
	return endOf(ctx, err)
}
