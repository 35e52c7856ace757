package collector

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestClockOffset has exporters whose clocks are wrong, by the header of each protocol.
func TestClockOffset(t *testing.T) {
	for name, tc := range map[string]struct {
		datagram []byte
		at       int // of the time in the header
	}{
		"NetFlow v1": {v1Message(1, v1Record(1)), 8},
		"NetFlow v5": {v5Message(1, v5Record(1)), 8},
		"NetFlow v7": {v7Message(1, v7Record(1)), 8},
		"NetFlow v9": {v9Message(0, 1, set(0, basicTemplate(256)), set(256, basicRecord(1))), 8},
		"IPFIX":      {ipfixMessage(0, 1, set(2, basicTemplate(256)), set(256, basicRecord(1))), 4},
	} {
		c, hook := newTestCollector(t)
		d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
		now := testTime
		send := func(source netip.AddrPort, offset time.Duration) float64 {
			// Warnings are at least 10 s apart.
			now += 20e9
			binary.BigEndian.PutUint32(tc.datagram[tc.at:], uint32((now+int64(offset))/1e9))
			d.Datagram(source, AnyFlow, tc.datagram, now)
			return float64(c.exporters.get(source.Addr(), now/1e6).clock.offset.Load()) / 1e9
		}
		var logged []string
		for _, offset := range []time.Duration{0, 90 * time.Second, 5 * time.Minute, 6 * time.Minute, 0, -3 * time.Hour, -100 * time.Second, -time.Hour, 0} {
			// The test's clock is at half a second.
			if got, want := send(testSource, offset), offset.Seconds()-0.5; got != want {
				t.Errorf("%s: %v s, want %v", name, got, want)
			}
		}
		send(netip.MustParseAddrPort("192.0.2.77:1"), 10*time.Minute)
		for _, e := range hook.AllEntries() {
			if strings.Contains(e.Message, "clock differs") {
				logged = append(logged, fmt.Sprint(e.Data["exporter"], " ", e.Data["offset"]))
			}
		}
		// Once until the clock is right again.
		if got, want := strings.Join(logged, ", "), testSource.String()+" 5m0s, "+testSource.String()+" -3h0m1s, 192.0.2.77:1 10m0s"; got != want {
			t.Errorf("%s: logged %s, want %s", name, got, want)
		}
	}
	// What has no time, or is not of use, says nothing.
	c, _ := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	withoutClock := v9Message(0, 1, set(0, basicTemplate(256)))
	binary.BigEndian.PutUint32(withoutClock[8:], 0)
	for _, b := range [][]byte{withoutClock, v5Message(0), ipfixMessage(0, 1), sflowMessage(flowSample(1, 2, rawHeader(1, 60, ethernet(0x0806, make([]byte, 28)))))} {
		d.Datagram(testSource, AnyFlow, b, testTime)
	}
	if n := c.exporters.get(testSource.Addr(), 0).clock.offset.Load(); n != 0 {
		t.Errorf("an offset of %d ns", n)
	}
}
