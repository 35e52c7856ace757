package transport

import "github.com/netobserv/goflow2-kube-enricher/flow"

// Fanout returns a writer that gives each record to all of ws, in this order.
// Each of them accounts for the record by itself; one that waits for its
// output makes the others' records wait, too, one that drops does not.
func Fanout(ws ...Writer) Writer {
	if len(ws) == 1 {
		return ws[0]
	}
	return fanout(ws)
}

type fanout []Writer

// HandleFlow implements [Writer].
func (ws fanout) HandleFlow(r *flow.Record) {
	for _, w := range ws {
		w.HandleFlow(r)
	}
}

// Skip implements [Writer].
func (ws fanout) Skip() {
	for _, w := range ws {
		w.Skip()
	}
}

// Idle implements [Writer].
func (ws fanout) Idle() (pending bool) {
	for _, w := range ws {
		pending = w.Idle() || pending
	}
	return pending
}
