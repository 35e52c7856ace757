package hubble

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestSilentConnections: connections that say nothing, or that have no call for long, are closed,
// so that they keep no place from others.
func TestSilentConnections(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin string
		after time.Duration
	}{
		{"nothing", "", requestTimeout},
		{"half a preface", http2.ClientPreface[:10], requestTimeout},
		{"HTTP/1.1", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", requestTimeout},
		{"no settings", http2.ClientPreface, requestTimeout},
		{"no call", http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", idleAfter + requestTimeout},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, p := servePipes(t, newMemory())
				conn := p.dial()
				go func() { _, _ = io.WriteString(conn, tt.begin) }()
				begun := time.Now()
				_, _ = io.Copy(io.Discard, conn) // until the server closes it
				if took := time.Since(begun); took > tt.after {
					t.Errorf("closed after %v, want %v at most", took, tt.after)
				}
				_ = conn.Close()
				if err := s.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
