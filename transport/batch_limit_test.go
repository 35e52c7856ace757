package transport

import "testing"

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
