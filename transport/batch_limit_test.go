package transport

import (
	"net/http"
	"slices"
	"testing"
)

// TestBatchLimit follows a limit down and up again. A destination that takes 300 bytes
// refuses few batches, and one that takes all gets whole batches in the end.
func TestBatchLimit(t *testing.T) {
	var l batchLimit
	l.reset(1000)
	send := func(room int) (refused bool) {
		size := l.get()
		if size > room {
			l.tooLarge(size)
			return true
		}
		l.accepted(size)
		return false
	}
	refused := 0
	for range 5000 {
		if send(300) {
			refused++
		}
	}
	if got := l.get(); got < 150 || got > 500 || refused > 2+5000/growAfter {
		t.Errorf("%d bytes, %d of 5000 batches were refused", got, refused)
	}
	l.tooLarge(50)
	if got := l.get(); got != 25 {
		t.Errorf("%d bytes after a batch of 50 was too large", got)
	}
	for range 10 * growAfter {
		l.accepted(l.get() / 2)
	}
	if got := l.get(); got != 25 {
		t.Errorf("%d bytes after small batches, which show nothing", got)
	}
	for range 7 * growAfter {
		send(1 << 20)
	}
	if got := l.get(); got != 1000 {
		t.Errorf("%d bytes after all batches were taken, want 1000", got)
	}
	l.tooLarge(1)
	if got := l.get(); got != 1 {
		t.Errorf("%d bytes, want at least 1", got)
	}
}

// TestHTTPTooLargeOnce has a server that takes only small batches at first, and then
// all. Batches become larger again.
func TestHTTPTooLargeOnce(t *testing.T) {
	s, server := newInserts(t)
	small := true
	s.fail = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if !small || r.ContentLength <= 2000 {
			return false
		}
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return true
	}
	b := newHTTP(t, HTTPConfig{BatchBytes: 16_000}, server)
	b.start()
	w := b.NewWriter()
	b.hand(w, 0, 1000, 50)
	b.counted()
	s.mu.Lock()
	small, s.bodies = false, nil
	s.mu.Unlock()
	const more = 40_000
	b.hand(w, 1000, more, 50)
	b.counted()
	b.expect(1000+more, 0, 0, 0, 0)
	s.once(t, 1000+more)
	s.mu.Lock()
	defer s.mu.Unlock()
	if most := slices.Max(s.bodies); most < 16_000/60 {
		t.Errorf("the largest of %d batches has %d records after the server takes larger ones", len(s.bodies), most)
	}
	noError(t, b.stop())
}
