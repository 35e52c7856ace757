package hubble

import (
	"context"
	"errors"
	"math"
	"time"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// lostInterval is the shortest time between two messages of how much was skipped, as in Cilium.
const lostInterval = time.Second

// errEnough ends a stream that has sent all that was asked for.
var errEnough = errors.New("enough")

// query is a request for flows, checked.
type query struct {
	selection    *selection
	mask         *mask
	number       uint64 // 0 for no limit
	first        bool
	follow       bool
	since, until time.Time // zero for no limit
}

// newQuery checks a request. Its errors are for the client.
func newQuery(req *observerpb.GetFlowsRequest) (*query, error) {
	if req.GetFirst() && req.GetFollow() {
		return nil, status.Error(codes.InvalidArgument, "first and follow cannot be given together")
	}
	q := &query{number: req.GetNumber(), first: req.GetFirst(), follow: req.GetFollow()}
	var err error
	if q.selection, err = compile(req.GetWhitelist(), req.GetBlacklist()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if q.mask, err = newMask(req.GetFieldMask()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if q.since, err = timeOf(req.GetSince()); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "since: %v", err)
	}
	if q.until, err = timeOf(req.GetUntil()); err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "until: %v", err)
	}
	return q, nil
}

// timeOf returns a time of a request, zero if there is none.
func timeOf(t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, err
	}
	return clamp(t.AsTime()), nil
}

// clamp keeps a time within what Unix nanoseconds can say.
func clamp(t time.Time) time.Time {
	if first := time.Unix(0, 1); t.Before(first) {
		return first
	}
	if last := time.Unix(0, math.MaxInt64); t.After(last) {
		return last
	}
	return t
}

// position is where a stream begins: at the first record received at since, but for so many
// wanted ones.
type position struct {
	since time.Time // zero for the oldest record
	skip  uint64
}

// stream answers one request. One goroutine uses it.
type stream struct {
	s    *Server
	q    *query
	v    *view
	out  messages
	skip uint64 // wanted records that are before the first one to send
	sent uint64
	turn turn

	lost     flowpb.LostEvent // not yet sent
	lostSent time.Time
}

// start finds where to begin. Without a time and without first, that is so many wanted records
// before the newest one.
func (st *stream) start(ctx context.Context) (position, error) {
	source, q := st.s.source, st.q
	switch {
	case !q.since.IsZero():
		return position{since: q.since}, nil
	case q.first, q.number == 0, q.number >= source.Stats().Records:
		return position{}, nil
	}
	var found, oldest, beforeIt uint64 // beforeIt counts those of the same time that are too many
	look := func(r *flow.Record) bool {
		at := r.Msg.TimeReceivedNs
		if found >= q.number && at != oldest {
			return false
		}
		st.v.set(r)
		if !q.selection.wants(st.v) {
			return true
		}
		if found >= q.number {
			beforeIt++
			return true
		}
		oldest = at
		found++
		return true
	}
	var failed error
	err := source.Each(ctx, Query{Newest: true, Waits: st.waits}, func(r *flow.Record) bool {
		if !look(r) {
			return false
		}
		failed = st.next(ctx)
		return failed == nil
	})
	if err = errors.Join(failed, err); err != nil || found < q.number {
		return position{}, err
	}
	return position{since: time.Unix(0, int64(oldest)), skip: beforeIt}, nil
}

// run writes what was asked for. It returns nil once there is no more, or ctx ends. What is
// written last may still be gathered then.
func (st *stream) run(ctx context.Context) error {
	source, q := st.s.source, st.q
	if q.follow && q.number == 0 && q.since.IsZero() {
		return st.follow(ctx, Query{})
	}
	if !st.turn.begin(ctx) {
		return ctx.Err()
	}
	defer st.turn.end()
	at, err := st.start(ctx)
	if err != nil {
		return err
	}
	st.skip = at.skip
	if q.follow {
		if at.since.IsZero() {
			at.since = time.Unix(0, 1) // all that there is, and then what comes
		}
		return st.follow(ctx, Query{Since: at.since})
	}
	var failed error
	err = source.Each(ctx, Query{Since: at.since, Until: q.until, Waits: st.waits}, func(r *flow.Record) bool {
		if failed = st.take(ctx, r); failed == nil {
			failed = st.next(ctx)
		}
		return failed == nil
	})
	return errors.Join(failed, err)
}

// follow takes what comes. The first batch may be all that there is, so the stream keeps its turn
// until the end of that one. What comes later is bounded by the second.
func (st *stream) follow(ctx context.Context, from Query) error {
	if !st.q.selection.all() {
		from.Match = func(r *flow.Record) bool {
			st.v.set(r)
			if st.q.selection.wants(st.v) || st.q.isOver(r) {
				return true
			}
			_ = st.next(ctx) // if ctx has ended, Follow notices
			return false
		}
	}
	from.Waits = st.waits
	return st.s.source.Follow(ctx, from, func(r *flow.Record, skipped uint64) error {
		if err := st.tellLost(skipped); err != nil {
			return err
		}
		if r == nil {
			st.turn.end()
			return st.out.send()
		}
		if err := st.take(ctx, r); err != nil {
			return err
		}
		return st.next(ctx)
	})
}

// next comes after each record, which is not there any more then. If it is another one's turn,
// the stream waits for its next one, and keeps no pages of the source meanwhile. It returns an
// error if ctx has ended.
func (st *stream) next(ctx context.Context) error {
	if !st.turn.taken {
		return nil
	}
	return st.turn.next(ctx)
}

// isOver reports whether a record came after all that was asked for.
func (q *query) isOver(r *flow.Record) bool {
	return !q.until.IsZero() && int64(r.Msg.TimeReceivedNs) > q.until.UnixNano()
}

// take adds a record to the answer if it is wanted. It returns errEnough after the last one.
func (st *stream) take(ctx context.Context, r *flow.Record) error {
	q := st.q
	if q.isOver(r) {
		return errEnough
	}
	if !q.since.IsZero() && int64(r.Msg.TimeReceivedNs) < q.since.UnixNano() { // it came late
		return nil
	}
	st.v.set(r)
	if !q.selection.wants(st.v) {
		return nil
	}
	if st.skip > 0 {
		st.skip--
		return nil
	}
	if err := st.out.flow(st.v, st.s.cfg.Version, q.mask); err != nil {
		return err
	}
	if st.out.full() {
		if err := st.flush(ctx); err != nil {
			return err
		}
	}
	if st.sent++; !q.follow && st.sent == q.number {
		return errEnough
	}
	return nil
}

// waits takes what is to be called before the client is waited for.
func (st *stream) waits(release func()) { st.turn.release = release }

// flush sends what has been gathered.
func (st *stream) flush(ctx context.Context) error {
	reads := st.turn.taken
	st.turn.pause() // the client may be slow
	if err := st.out.send(); err != nil {
		return err
	}
	if reads && !st.turn.begin(ctx) {
		return ctx.Err()
	}
	return nil
}

// tellLost counts the records that the client was too slow for, and tells it at most once a
// second.
func (st *stream) tellLost(skipped uint64) error {
	now := time.Now()
	if skipped > 0 {
		st.s.skipped.Add(float64(skipped))
		if st.lost.NumEventsLost == 0 {
			st.lost.First = timestamppb.New(now)
		}
		st.lost.NumEventsLost += skipped
		st.lost.Last = timestamppb.New(now)
	}
	if now.Sub(st.lostSent) < lostInterval {
		return nil
	}
	return st.addLost(now)
}

// addLost adds how much was lost since this was sent the last time, if anything.
func (st *stream) addLost(now time.Time) error {
	if st.lost.NumEventsLost == 0 {
		return nil
	}
	st.lostSent = now
	event := &flowpb.LostEvent{
		Source: flowpb.LostEventSource_HUBBLE_RING_BUFFER, NumEventsLost: st.lost.NumEventsLost,
		First: st.lost.First, Last: st.lost.Last,
	}
	st.lost.NumEventsLost = 0
	return st.out.add(&observerpb.GetFlowsResponse{
		Time: timestamppb.New(now), NodeName: st.s.cfg.Name,
		ResponseTypes: &observerpb.GetFlowsResponse_LostEvents{LostEvents: event},
	})
}

// getFlows answers a request. Its error is for the client.
func (s *Server) getFlows(ctx context.Context, req *observerpb.GetFlowsRequest, w flusher) error {
	q, err := newQuery(req)
	if err != nil {
		return err
	}
	st := &stream{s: s, q: q, v: newView(&s.names), out: messages{w: w}, turn: turn{places: s.scans}}
	err = st.run(ctx)
	if endOf(ctx, err) == nil {
		err = errors.Join(st.addLost(time.Now()), st.out.send())
	}
	return endOf(ctx, err)
}

// endOf returns what a client gets to know of the end of its stream.
func endOf(ctx context.Context, err error) error {
	switch {
	case err == nil || errors.Is(err, errEnough):
		return nil
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Internal, err.Error())
}
