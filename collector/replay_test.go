package collector

import (
	"context"
	"encoding/binary"
	"os"
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

// pcapOf makes a capture of datagrams to a port, the last one cut to snap bytes of
// payload unless that is 0.
func pcapOf(t *testing.T, port uint16, snap int, datagrams ...[]byte) string {
	t.Helper()
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0)
	for i, d := range datagrams {
		ip := ipv4Packet(17, 0, be(uint16(4739), port, uint16(8+len(d)), uint16(0), d))
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		captured := len(ip)
		if snap > 0 && i == len(datagrams)-1 {
			captured = len(ip) - len(d) + snap
		}
		b = le.AppendUint32(le.AppendUint32(b, testExport), 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(captured)), uint32(len(ip)))
		b = append(b, ip[:captured]...)
	}
	path := filepath.Join(t.TempDir(), "made.pcap")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReadCaptureTails has zeros behind messages to a port that nobody listens on.
func TestReadCaptureTails(t *testing.T) {
	basic := basicRecord(40000)
	sample := sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x0800, ipv4Packet(17, 0, udpHeader(10))))))
	for name, datagrams := range map[string][][]byte{
		"NetFlow v1":      {v1Message(1, v1Record(40000))},
		"NetFlow v5":      {v5Message(1, v5Record(40000))},
		"NetFlow v7":      {v7Message(1, v7Record(40000))},
		"NetFlow v9":      {v9Message(0, 1, set(0, basicTemplate(256))), v9Message(1, 1, set(256, basic))},
		"IPFIX":           {ipfixMessage(0, 1, set(2, basicTemplate(256))), ipfixMessage(0, 1, set(256, basic))},
		"sFlow":           {sample},
		"IPFIX, two sets": {ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basic))},
	} {
		for _, tail := range []int{0, 1, 2, 3, 4, 7, 8, 9, 16, 100} {
			var padded [][]byte
			for _, d := range datagrams {
				padded = append(padded, append(slices.Clone(d), make([]byte, tail)...))
			}
			c, _ := newTestCollector(t)
			n := 0
			if err := c.ReadCapture(t.Context(), pcapOf(t, 9995, 0, padded...), &sink{f: func(*flow.Record) { n++ }}); err != nil {
				t.Fatal(err)
			}
			if passed := c.passedOver[notWhole].Load(); n != 1 || passed != 0 {
				t.Errorf("%s with %d zeros: %d records, %d datagrams passed over", name, tail, n, passed)
			}
			// What follows is no export: it is passed over, and counted.
			for i := range padded {
				padded[i] = append(padded[i], 1, 2, 3, 4, 5)
			}
			c, _ = newTestCollector(t)
			if err := c.ReadCapture(t.Context(), pcapOf(t, 9995, 0, padded...), &sink{f: func(*flow.Record) { t.Errorf("%s: a record", name) }}); err != nil {
				t.Fatal(err)
			}
			if passed := c.passedOver[notWhole].Load(); passed != uint64(len(datagrams)) {
				t.Errorf("%s with %d zeros and more: %d datagrams passed over", name, tail, passed)
			}
		}
	}
}

// TestReadCaptureCut has the snap length cut the last datagram of a capture at each
// byte: what is whole is used, and the rest is counted as cut, not as malformed.
func TestReadCaptureCut(t *testing.T) {
	sample := func() []byte {
		return flowSample(1, 2, rawHeader(1, 100, ethernet(0x0800, ipv4Packet(17, 0, udpHeader(10)))))
	}
	for name, datagrams := range map[string][][]byte{
		"NetFlow v1": {v1Message(2, v1Record(40000), v1Record(40001))},
		"NetFlow v5": {v5Message(2, v5Record(40000), v5Record(40001))},
		"NetFlow v9": {v9Message(0, 1, set(0, basicTemplate(256))), v9Message(1, 1, set(256, basicRecord(40000)), set(256, basicRecord(40001)))},
		"IPFIX":      {ipfixMessage(0, 1, set(2, basicTemplate(256))), ipfixMessage(0, 1, set(256, basicRecord(40000)), set(256, basicRecord(40001)))},
		"sFlow":      {sflowMessage(sample(), sample())},
	} {
		last := datagrams[len(datagrams)-1]
		for snap := 4; snap < len(last); snap++ {
			c, _ := newWith(t, Config{Listeners: []Listener{{Protocols: AnyFlow, Port: 2055}}})
			n := 0
			if err := c.ReadCapture(t.Context(), pcapOf(t, 2055, snap, datagrams...), &sink{f: func(*flow.Record) { n++ }}); err != nil {
				t.Fatal(err)
			}
			m := c.allMetrics()[len(c.allMetrics())-1]
			datagramsCut, setsCut := m.drops[dropTruncated].Load(), m.sets[setTruncated].Load()
			if datagramsCut+setsCut != 1 || n > 0 && datagramsCut > 0 || n > 1 {
				t.Errorf("%s cut to %d of %d: %d records, %v datagrams and %v sets cut", name, snap, len(last), n, datagramsCut, setsCut)
			}
			if bad := m.drops[dropMalformed].Load() + m.sets[setMalformed].Load(); bad != 0 {
				t.Errorf("%s cut to %d of %d: %v malformed", name, snap, len(last), bad)
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
