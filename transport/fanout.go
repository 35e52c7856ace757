package transport

import "github.com/netobserv/goflow2-kube-enricher/flow"

// Fanout returns a writer that gives each record to all of ws, in this order. Each
// of them counts the record. A writer that waits for its output makes the writers
// after it wait, too. A writer that drops records does not. It keeps ws.
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
