package collector

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestSequencePerProtocol checks in which units each protocol counts.
func TestSequencePerProtocol(t *testing.T) {
	v5 := func(seq uint32, n int) []byte {
		b := v5Message(n, slices.Repeat([][]byte{v5Record(1)}, n)...)
		copy(b[16:], be(seq))
		return b
	}
	engine := func(seq uint32, n int, id uint16) []byte {
		b := v5(seq, n)
		copy(b[20:], be(id))
		return b
	}
	ipfix := func(seq, domain uint32, n int) []byte {
		return ipfixMessage(seq, domain, set(256, slices.Concat(slices.Repeat([][]byte{basicRecord(1)}, n)...)))
	}
	templates := func(domain uint32) []byte { return ipfixMessage(0, domain, set(2, basicTemplate(256))) }
	sflow := func(seq uint32) []byte {
		b := sflowMessage()
		copy(b[16:], be(seq))
		return b
	}
	// relayed is of one of several agents whose datagrams a relay sends from one socket.
	relayed := func(agent string, subAgent, seq uint32) []byte {
		a := netip.MustParseAddr(agent)
		family := uint32(1)
		if a.Is6() {
			family = 2
		}
		return be(uint32(5), family, a, subAgent, seq, uint32(1000), uint32(0))
	}
	for _, tc := range []struct {
		name      string
		proto     protocol
		datagrams [][]byte
		want      uint64
	}{
		{"v5 counts flows", protoNetFlow5, [][]byte{v5(0, 3), v5(3, 2), v5(9, 1)}, 4},
		{"v5 of Open vSwitch has the number of the last flow", protoNetFlow5, [][]byte{v5(29, 30), v5(30, 1), v5(32, 2), v5(62, 30), v5(66, 2), v5(67, 1)}, 2},
		{"v9 counts datagrams", protoNetFlow9, [][]byte{v9Message(5, 1), v9Message(6, 1), v9Message(9, 1)}, 2},
		{"v9 counts by source id", protoNetFlow9, [][]byte{v9Message(5, 1), v9Message(700, 2), v9Message(6, 1), v9Message(701, 2)}, 0},
		{"v9 counts all source ids together", protoNetFlow9, [][]byte{v9Message(5, 1), v9Message(6, 2), v9Message(7, 1), v9Message(10, 2), v9Message(11, 1), v9Message(12, 2)}, 2},
		{"v5 counts all engines together", protoNetFlow5, [][]byte{engine(0, 3, 1), engine(3, 2, 2), engine(5, 1, 1), engine(9, 1, 2), engine(10, 5, 1)}, 3},
		{"v5 counts by engine", protoNetFlow5, [][]byte{engine(0, 3, 1), engine(0, 2, 2), engine(3, 1, 1), engine(9, 1, 2), engine(4, 5, 1)}, 7},
		{"sFlow counts datagrams", protoSFlow, [][]byte{sflow(1), sflow(2), sflow(4)}, 1},
		{"sFlow counts by agent behind a relay", protoSFlow, [][]byte{
			relayed("198.51.100.1", 0, 1000), relayed("198.51.100.2", 0, 9000), relayed("2001:db8::1", 0, 5), relayed("198.51.100.1", 1, 70), relayed("198.51.100.1", 0, 1001),
			relayed("2001:db8::1", 0, 6), relayed("198.51.100.2", 0, 9003), relayed("198.51.100.1", 1, 71), relayed("198.51.100.1", 0, 1002), relayed("2001:db8::2", 0, 900)}, 2},
		{"IPFIX counts records", protoIPFIX, [][]byte{templates(1), ipfix(0, 1, 3), ipfix(3, 1, 2), ipfix(9, 1, 1)}, 4},
		{"IPFIX counts by domain", protoIPFIX, [][]byte{templates(1), templates(2), ipfix(0, 1, 30), ipfix(0, 2, 2), ipfix(30, 1, 2), ipfix(2, 2, 1)}, 0},
		{"Open vSwitch counts across domains", protoIPFIX, [][]byte{templates(1), ipfix(0, 1, 1),
			ipfixMessage(1, 2, set(2, basicTemplate(256))), ipfix(1, 2, 1), ipfix(2, 1, 1), ipfix(3, 2, 1), ipfix(5, 1, 1), ipfix(6, 2, 1)}, 1},
		{"across domains whose templates came at 0", protoIPFIX, slices.Concat([][]byte{templates(1), templates(2)}, func() (ds [][]byte) {
			for i := range uint32(200) {
				if i != 100 {
					ds = append(ds, ipfix(i, 1+i%2, 1))
				}
			}
			return ds
		}()), 1},
		{"an unknown template is no loss", protoIPFIX, [][]byte{templates(1), ipfix(0, 1, 1), ipfixMessage(1, 1, set(300, be(uint32(1), uint32(2)))), ipfix(3, 1, 1), ipfix(4, 1, 1)}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := newTestCollector(t)
			d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
			for _, b := range tc.datagrams {
				d.Datagram(testSource, AnyFlow, b, testTime)
			}
			if d.closeGaps(testTime+6e9, false) {
				t.Error("gaps are open after 6 s")
			}
			if n := d.metrics.sequenceLost[tc.proto].Load(); n != tc.want {
				t.Errorf("%d lost, want %d", n, tc.want)
			}
		})
	}
}

// TestSequenceCaptures follows real exporters, none of which lost anything on
// the way to its capture but those behind the one that nobody listened to.
func TestSequenceCaptures(t *testing.T) {
	for _, name := range captureNames(t) {
		c, _ := newTestCollector(t)
		d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
		for _, g := range readCapture(t, name) {
			d.Datagram(g.source, AnyFlow, g.payload, g.received)
		}
		d.closeGaps(0, true)
		var lost uint64
		for p := range numProtocols {
			lost += d.metrics.sequenceLost[p].Load()
		}
		if (lost != 0) != (name == "ovs-ipfix-nolistener") {
			t.Errorf("%s: %d lost", name, lost)
		}
	}
}
