package collector

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestReadCapture wants the truth of every capture by way of the capture
// reader, whatever port the exporter sent to.
func TestReadCapture(t *testing.T) {
	for _, listen := range []string{"netflow://:2055,sflow://:6343", "flow://:1"} {
		listeners, err := ParseListen(listen)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range captureNames(t) {
			c, _ := newWith(t, Config{Listeners: listeners})
			var got, want []string
			d := c.NewDecoder(&sink{f: func(r *flow.Record) { want = append(want, tuple(r)) }})
			for _, g := range readCapture(t, name) {
				d.Datagram(g.source, AnyFlow, g.payload, g.received)
			}
			h := &sink{f: func(r *flow.Record) { got = append(got, tuple(r)) }}
			if err := c.ReadCapture(t.Context(), filepath.Join(captures, name+".pcap"), h); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) || h.idle == 0 {
				t.Errorf("%s with -listen %s: %d records, want %d; idle %d times", name, listen, len(got), len(want), h.idle)
			}
		}
	}
}

// TestReadCaptureStopped is no failure.
func TestReadCaptureStopped(t *testing.T) {
	c, _ := newTestCollector(t)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	h := &sink{f: func(*flow.Record) { n++; cancel() }}
	if err := c.ReadCapture(ctx, filepath.Join(captures, "pmacctd-v10.pcap"), h); err != nil {
		t.Error(err)
	}
	if n == 0 || n > 100 {
		t.Errorf("%d records", n)
	}
}
