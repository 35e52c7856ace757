// Package hubble serves the newest records as flows of Cilium's Hubble: the gRPC service
// observer.Observer, with the types of github.com/cilium/cilium/api/v1. Its command hubble and
// Hubble UI work with it.
//
// A request reads records from a [Source], newest or oldest first. Its filters are compiled to
// predicates over a view of a record, so that a flow is built only for a record that is sent.
// What order, limits and filters mean is as in Cilium's own observer (pkg/hubble/observer and
// pkg/hubble/filters of github.com/cilium/cilium).
package hubble

import (
	"context"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// Source is where records are read from. Its methods may be called by any number of goroutines.
type Source interface {
	// Each calls f with the records that q asks for, in the order of their times of receipt, until f
	// returns false or ctx ends. Those of the same time come in one order, and in the opposite one
	// if the newest come first. A record is valid until f returns.
	Each(ctx context.Context, q Query, f func(*flow.Record) bool) error
	// Follow calls f with each record that arrives from now on, or was received from q.Since on,
	// until ctx ends or f returns an error, which Follow returns. Records come in batches: after
	// each one, the record is nil. With q.Since, what there is already is the first one, even if
	// nothing is, in the order of the times. The others come as they arrive, also those that were
	// received before q.Since. If f is slower than that, some are skipped: the next call says how
	// many, and a little more than a second after such a call there is another one.
	Follow(ctx context.Context, q Query, f func(r *flow.Record, skipped uint64) error) error
	// Stats returns how much there is.
	Stats() Stats
}

// Query asks for records by their time of receipt. Zero times are no limits; both limits are
// within.
type Query struct {
	Since, Until time.Time
	// Newest asks for the newest record first, in place of the oldest.
	Newest bool
	// Match reports whether a record is wanted; nil for all. Only Follow asks it, which may skip
	// records if very many are wanted.
	Match func(*flow.Record) bool
	// Waits, if not nil, may be called before records come, with a function that f may call before
	// it waits for a client: the source needs little memory until f returns. The record is not
	// valid after that. A later call has the function that is to be used from then on.
	Waits func(release func())
}

// Stats tells how much a [Source] has.
type Stats struct {
	// Records is how many records can be read now, Capacity how many about there is room for.
	Records, Capacity uint64
	// Seen is how many there have been since the start.
	Seen uint64
}
