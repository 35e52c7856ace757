package collector

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// seeds adds every datagram of a capture by itself, and the capture as one
// sequence of datagrams.
func seeds(f *testing.F, names ...string) {
	for _, name := range names {
		var sequence []byte
		for _, g := range readCapture(f, name) {
			if len(sequence) < 1<<12 {
				sequence = binary.BigEndian.AppendUint16(sequence, uint16(len(g.payload)))
				sequence = append(sequence, g.payload...)
			}
		}
		f.Add(sequence)
	}
	f.Add(lengthPrefixed(ipfixMessage(0, 1, set(3, optionsRecord(300, 1, ie{144, 4, 0}, ie{305, 4, 0}, ie{306, 4, 0})), set(300, be(uint32(1), uint32(1), uint32(9)))),
		ipfixMessage(0, 1, set(2, templateRecord(256, ie{82, 0xffff, 0}, ie{1, 4, 0}, ie{1, 4, 29305})), set(256, be(uint8(4), "eth0", uint32(1), uint32(2)))),
		ipfixMessage(0, 1, set(2, be(uint16(256), uint16(0))))))
	f.Add(lengthPrefixed(sflowMessage(flowSample(1, 2, rawHeader(1, 100, ethernet(0x86dd, ipv6Packet(44, be(uint8(17), uint8(0), uint16(0), uint32(9), udpHeader(10)))))))))
}

func lengthPrefixed(datagrams ...[]byte) []byte {
	var b []byte
	for _, g := range datagrams {
		b = binary.BigEndian.AppendUint16(b, uint16(len(g)))
		b = append(b, g...)
	}
	return b
}

// fuzzSequence decodes a sequence of datagrams, each behind its length in 16
// bits, and checks what must hold whatever they are.
func fuzzSequence(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _ := newTestCollector(t)
		c.exporters.holdFor = time.Minute
		records := uint64(0)
		d := c.NewDecoder(&sink{f: func(r *flow.Record) {
			records++
			if from, to := r.Interval(); from > to {
				t.Errorf("interval from %d to %d", from, to)
			}
			r.Clone()
		}})
		bytes := 0
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			g := b[2 : 2+n : 2+n]
			b = b[2+n:]
			bytes += n
			// Datagrams of odd length are of another source port.
			source := netip.AddrPortFrom(testSource.Addr(), testSource.Port()+uint16(n%2))
			d.Datagram(source, AnyFlow, g, testTime)
		}
		c.exporters.lendTemplates(testTime, true)
		d.decodeLent()
		checkAccounts(t, c.exporters)
		checkCaches(t, d)
		var counted uint64
		for p := range numProtocols {
			counted += d.metrics.records[p].Load()
		}
		if counted != records {
			t.Errorf("%d records counted, %d handled", counted, records)
		}
		if d.metrics.drops[dropPanic].Load() != 0 {
			t.Error("a panic was contained")
		}
		// Every record takes a byte of a datagram at least, and a biflow is two.
		if records > uint64(2*bytes) {
			t.Errorf("%d records of %d bytes", records, bytes)
		}
		if n := d.peers[testSource].templates(); n > bytes/4 {
			t.Errorf("%d templates of %d bytes", n, bytes)
		}
	})
}

func (p *peer) templates() int {
	if p == nil {
		return 0
	}
	return p.exporter.countTemplates()
}

func FuzzNetFlow5(f *testing.F) {
	seeds(f, "softflowd-v5", "ovs-netflow5")
	fuzzSequence(f)
}

func FuzzNetFlow9(f *testing.F) {
	seeds(f, "softflowd-v9", "softflowd-v9-sampled10")
	fuzzSequence(f)
}

func FuzzIPFIX(f *testing.F) {
	seeds(f, "ovs-ipfix", "ovs-ipfix-2node-geneve", "softflowd-v10", "pmacctd-v10")
	fuzzSequence(f)
}

func FuzzSFlow(f *testing.F) {
	seeds(f, "ovs-sflow", "pmacctd-sflow-s10")
	f.Add(lengthPrefixed(sflowMessage(
		flowSample(1, 1<<30|257, sampled, gateway(be(uint32(2), ip6), 1, 2, 3, 2, 1, 1, 4, 2, 1, 5, 1, 6, 7), structure(1002, uint32(0), uint32(24), uint32(25))),
		expandedSample(0, 1, 1, 260, structure(4, make([]byte, 56)), structure(2, make([]byte, 24)), structure(1001, make([]byte, 16))),
		discarded(1, 2, 256, structure(3, make([]byte, 32)), rawHeader(14, 60, be(uint32(0xff030021), ipv4Packet(6, 0, udpHeader(20)))))),
		ipfixMessage(0, 1, set(2, templateRecord(256, ie{315, 0xffff, 0}, ie{313, 0xffff, 0})), set(256, be(uint8(0), uint8(28), ipv4Packet(17, 0, udpHeader(0)))))))
	fuzzSequence(f)
}

// FuzzUpstream compares a data set of a fixed template with what upstream goflow2
// makes of it, where the guards let goflow2 see it.
func FuzzUpstream(f *testing.F) {
	f.Add(ovsRecord(testSource.Addr(), testSource.Addr(), 1), false)
	f.Add(basicRecord(1), true)
	f.Fuzz(func(t *testing.T, record []byte, basic bool) {
		template, length := templateRecord(256, ovsFields()...), len(ovsRecord(testSource.Addr(), testSource.Addr(), 1))
		if basic {
			template, length = basicTemplate(256), len(basicRecord(1))
		}
		if len(record) > math.MaxInt16 {
			return
		}
		record = record[:len(record)/length*length]
		for i := 0; i < len(record); i += length {
			if allZero(record[i:]) {
				return // a tail of zeros is no record to us
			}
		}
		g := datagram{testSource, ipfixMessage(0, 1, set(2, template), set(256, record)), testTime}
		c, _ := newTestCollector(t)
		var ours []*flowpb.FlowMessage
		d := c.NewDecoder(&sink{f: func(r *flow.Record) {
			ours = append(ours, proto.Clone(&r.Msg.FlowMessage).(*flowpb.FlowMessage))
		}})
		d.Datagram(g.source, AnyFlow, g.payload, g.received)
		want, err := newUpstream(t).decode(g)
		if err != nil {
			return
		}
		if len(want) != len(ours) {
			t.Fatalf("%d records, upstream has %d", len(ours), len(want))
		}
		for i := range want {
			for _, name := range differing(want[i], ours[i]) {
				if ok := filled[name]; ok == nil || !ok(want[i], ours[i]) {
					t.Errorf("record %d: %s is %v, upstream has %v", i, name, value(ours[i], name), value(want[i], name))
				}
			}
		}
	})
}
