package collector

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"
	"strings"
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

// A sequence of datagrams for fuzzing has each behind 16 bits: the lower 13 are its length,
// the upper 3 say which of eight source ports of two addresses it is of. Without a
// datagram, they are an event.
const (
	sequenceLengthBits = 13
	maxSequenceLength  = 1<<sequenceLengthBits - 1

	eventLend    = 1 // 11 s go by
	eventExpire  = 2 // an hour goes by
	eventRestart = 3 // the templates file is written, and another program reads it
)

// event is one of a sequence.
func event(n int) []byte { return be(uint16(n << sequenceLengthBits)) }

// fuzzState is what a sequence is decoded by. After a restart it is another one.
type fuzzState struct {
	t       *testing.T
	c       *Collector
	d       *Decoder
	now     int64
	records uint64
	bytes   int

	restarts uint32
	// small reports whether budgets are so small that a sequence can use them up.
	small bool
}

func (s *fuzzState) start() {
	s.c, _ = newWith(s.t, Config{TemplatesHold: time.Minute, TemplatesHoldSize: 4096, Fields: everyField()})
	if s.small {
		s.c.exporters.exporterBudget, s.c.exporters.totalBudget = 32<<10, 64<<10
		s.c.exporters.holdTotal = 8 << 10
	}
	s.records, s.bytes = 0, 0
	s.d = s.c.NewDecoder(&sink{f: func(r *flow.Record) {
		s.records++
		if from, to := r.Interval(); from > to {
			s.t.Errorf("interval from %d to %d", from, to)
		}
		r.Clone()
	}})
	if s.small {
		s.d.peersBudget, s.d.decodersBudget = 32<<10, 16<<10
	}
}

func (s *fuzzState) datagram(source netip.AddrPort, b []byte) {
	s.bytes += len(b)
	s.d.Datagram(source, AnyFlow, b, s.now)
}

func (s *fuzzState) event(n int) {
	switch n {
	case eventLend:
		s.now += 11e9
		s.tick(false)
	case eventExpire:
		s.now += int64(time.Hour)
		s.tick(false)
	case eventRestart:
		s.restart()
	}
}

// tick does what is done from time to time.
func (s *fuzzState) tick(last bool) {
	s.c.exporters.lendTemplates(s.now, last)
	s.d.decodeLent()
	s.c.exporters.expireHeld(s.now, s.c.own)
	var w sharing
	w.check(s.c.exporters, s.now, s.c.log)
}

// restart ends the program and starts another one, which knows the same.
func (s *fuzzState) restart() {
	s.check()
	before := s.c.exporters
	s.restarts++
	file := newTemplatesFile("")
	file.epoch += s.restarts
	var b bytes.Buffer
	w := file.newWriter(&b, maxTemplatesFile)
	w.head()
	for _, e := range before.list() {
		w.exporter(e, true)
	}
	if err := w.flush(); err != nil || w.full {
		s.t.Errorf("full %v, error %v", w.full, err)
	}
	bytesBefore := s.bytes
	s.start()
	s.bytes = bytesBefore // templates of before may be known
	r := &storeReader{f: file, file: bytes.NewReader(b.Bytes()), t: s.c.exporters, now: s.now / 1e9}
	if err := errors.Join(r.check(), r.restore()); err != nil || r.size != int64(b.Len()) {
		s.t.Errorf("error %v, %d of %d bytes", err, r.size, b.Len())
	}
	for _, t := range []*exporters{before, s.c.exporters} {
		t.forgetUntrusted(r.now)
	}
	if s.small {
		return // which of two goes is random
	}
	want, got := comparableAfterRestart(known(before)), comparableAfterRestart(known(s.c.exporters))
	if !slices.Equal(got, want) {
		s.t.Errorf("known after the restart:\n%s\nbefore:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// comparableAfterRestart leaves out what may differ after a restart without a consequence: names that
// two domains gave alike, and selectors that have gone for want of room.
func comparableAfterRestart(known []string) []string {
	return slices.DeleteFunc(known, func(s string) bool { return strings.HasPrefix(s, "name") || strings.HasPrefix(s, "selectors") })
}

// check checks what must hold whatever the datagrams are.
func (s *fuzzState) check() {
	checkAccounts(s.t, s.c.exporters)
	checkCaches(s.t, s.d)
	var counted uint64
	for p := range numProtocols {
		counted += s.d.metrics.records[p].Load()
	}
	if counted != s.records {
		s.t.Errorf("%d records counted, %d handled", counted, s.records)
	}
	if s.d.metrics.drops[dropPanic].Load() != 0 {
		s.t.Error("a panic was contained")
	}
	// Every record takes a byte of a datagram at least, and a biflow is two.
	if s.records > uint64(2*s.bytes) {
		s.t.Errorf("%d records of %d bytes", s.records, s.bytes)
	}
	if n := s.c.exporters.numTemplates.Load(); n > int64(s.bytes/4) {
		s.t.Errorf("%d templates of %d bytes", n, s.bytes)
	}
	s.c.exporters.expireHeld(0, s.c.own)
	if n, b := s.c.exporters.numHeld.Load(), s.c.exporters.heldBytes.Load(); n != 0 || b != 0 {
		s.t.Errorf("%d sets and %d bytes are held at the end", n, b)
	}
}

// fuzzSequence decodes a sequence of datagrams and events.
func fuzzSequence(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &fuzzState{t: t, now: testTime}
		s.start()
		for len(b) >= 2 {
			v := int(binary.BigEndian.Uint16(b))
			from, n := v>>sequenceLengthBits, min(v&maxSequenceLength, len(b)-2)
			g := b[2 : 2+n : 2+n]
			b = b[2+n:]
			if n == 0 {
				s.event(from)
				continue
			}
			addr := testSource.Addr()
			if from&4 != 0 {
				addr = addr.Next()
			}
			s.datagram(netip.AddrPortFrom(addr, uint16(from&3)), g)
		}
		s.tick(true)
		s.check()
	})
}

// FuzzSequences decodes the datagrams of programs (see assembler), and events between them:
// any bytes are a program, so that the fuzzer changes fields, ports and domains, where other
// targets change bytes. Programs of odd length have small budgets.
func FuzzSequences(f *testing.F) {
	const eventOp = 8 // and above: the events
	restarted := func(p []byte) []byte { return append(slices.Clone(p), 5, 1<<2, eventOp+eventRestart, 5, 0) }
	for _, p := range searchSeeds() {
		f.Add(p)
		f.Add(restarted(p))
		f.Add(slices.Concat(restarted(p), []byte{eventOp + eventLend}, p, []byte{5, 3, eventOp + eventExpire}, restarted(p)))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 600 {
			return
		}
		s := &fuzzState{t: t, now: testTime, small: len(program)%2 != 0}
		s.start()
		a := &assembler{program: program, room: maxProgram}
		for len(a.program) > 0 && a.room > 0 {
			a.counter++
			if op := a.next() % (eventOp + eventRestart + 1); op < eventOp {
				a.instruction(op)
			} else {
				s.event(op - eventOp)
			}
			for _, g := range slices.Concat(a.before, a.load) {
				s.datagram(g.source, g.payload)
			}
			a.before, a.load = nil, nil
		}
		s.tick(true)
		s.check()
	})
}

// eventSeeds are sequences with several ports, waiting data, options and restarts.
func eventSeeds(f *testing.F) {
	sources, datagrams := storeExamples()
	var all []byte
	for i, g := range datagrams {
		all = append(all, step(int(sources[i].Port())%8, g)...)
	}
	record := ipfixMessage(0, 1, set(256, basicRecord(1)))
	f.Add(slices.Concat(all, event(eventRestart), step(0, record), step(3, record), event(eventLend), event(eventRestart), step(3, record), event(eventExpire)))
	f.Add(slices.Concat(step(1, ipfixMessage(0, 1, set(2, basicTemplate(256)))), step(2, record), event(eventLend), event(eventRestart), step(2, record), event(eventLend),
		step(2, ipfixMessage(0, 1, set(2, templateRecord(256, ie{27, 16, 0})))), step(2, record)))
	ovs := ipfixMessage(0, 1, set(2, ovsTemplate(256)), set(3, optionsRecord(462, 1, ie{144, 4, 0}, ie{167, 8, 0})))
	f.Add(slices.Concat(step(1, ovs), step(2, ovs), step(1, ipfixMessage(0, 2, set(462, be(uint32(1), uint64(0))))), event(eventLend), step(1, ovs), step(2, ovs), event(eventLend), event(eventRestart)))
}

// step is a datagram of a sequence, of one of the sources.
func step(source int, g []byte) []byte {
	return append(be(uint16(source<<sequenceLengthBits|len(g))), g...)
}

func FuzzNetFlow5(f *testing.F) {
	seeds(f, "softflowd-v5", "ovs-netflow5")
	fuzzSequence(f)
}

func FuzzNetFlow9(f *testing.F) {
	eventSeeds(f)
	seeds(f, "softflowd-v9", "softflowd-v9-sampled10")
	fuzzSequence(f)
}

func FuzzIPFIX(f *testing.F) {
	eventSeeds(f)
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
