package flow

// Handler is one stage of the chain that a worker's records pass: the enricher,
// the traffic metrics, the filter, an output's writer. A stage that is not the
// last one has a Handler of its own, next, and calls it.
//
// Contract, the same for every stage:
//   - One goroutine calls a Handler, that of its worker. Stages need no lock for
//     what is theirs alone.
//   - Neither method may wait for another exporter, a cluster or an output.
//   - Every record that a stage takes is handed to the next one or counted as
//     dropped with a reason, once.
type Handler interface {
	// HandleFlow takes a record. The record and its byte slices are valid until
	// HandleFlow returns; a stage that keeps a record makes a [Record.Clone].
	HandleFlow(r *Record)
	// Idle reports that no datagram is waiting, so a stage writes out or hands
	// on what it has gathered. It reports whether it has more to do: the worker
	// then calls it again within 50 ms, even if no datagram arrives.
	Idle() (pending bool)
}
