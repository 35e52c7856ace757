package hubble

import (
	"sync/atomic"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
)

// stallTimeout is how long a client may take nothing, before its request is ended. What it
// missed until then is skipped.
const stallTimeout = time.Minute

// watchedSender sends to a client and notes since when it has been waiting for it.
type watchedSender struct {
	out     grpc.ServerStreamingServer[observerpb.GetFlowsResponse]
	waiting atomic.Int64 // Unix nanoseconds since when a message waits; 0 for none
}

// Send waits until there is room for a message on its way to the client.
func (w *watchedSender) Send(resp *observerpb.GetFlowsResponse) error {
	w.waiting.Store(time.Now().UnixNano())
	defer w.waiting.Store(0)
	return w.out.Send(resp)
}

// stalled reports whether a message has been waiting for that long. Other goroutines may call it.
func (w *watchedSender) stalled(long time.Duration) bool {
	since := w.waiting.Load()
	return since != 0 && time.Now().UnixNano()-since >= int64(long)
}
