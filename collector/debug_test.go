package collector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"testing"

	"github.com/netsampler/goflow2/v2/decoders/netflow"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// TestWriteTemplates compares the page with what encoding/json makes of goflow2's map.
func TestWriteTemplates(t *testing.T) {
	c, _ := newTestCollector(t)
	show := func() any {
		var b bytes.Buffer
		if err := c.WriteTemplates(&b); err != nil {
			t.Fatal(err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, b.Bytes(), "", "  "); err != nil || indented.String() != b.String() {
			t.Errorf("indented otherwise (%v): %s", err, b.String())
		}
		var v any
		if err := json.Unmarshal(b.Bytes(), &v); err != nil {
			t.Fatalf("%v: %s", err, b.String())
		}
		return v
	}
	if got := show(); !reflect.DeepEqual(got, map[string]any{}) {
		t.Errorf("%v of no exporter", got)
	}
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	want := make(map[string]netflow.FlowBaseTemplateSet)
	fields := []ie{{8, 4, 0}, {82, 0xffff, 0}, {891, 1, 6876}}
	for _, source := range []string{"192.0.2.1:4739", "192.0.2.1:4740", "[2001:db8::1]:9", "192.0.2.7:1"} {
		from := netip.MustParseAddrPort(source)
		d.Datagram(from, AnyFlow, v5Message(1, v5Record(1)), testTime)
		if source == "192.0.2.7:1" {
			continue // has no templates
		}
		for domain := range uint32(2) {
			d.Datagram(from, AnyFlow, ipfixMessage(0, domain, set(2, templateRecord(300, fields...), basicTemplate(256)), set(3, optionsRecord(301, 1, ie{149, 4, 0}, ie{34, 4, 0}))), testTime)
		}
		d.Datagram(from, AnyFlow, v9Message(0, 7, set(1, be(uint16(400), uint16(4), uint16(4), uint16(1), uint16(4), uint16(34), uint16(4)))), testTime)
		want[source] = make(netflow.FlowBaseTemplateSet)
		e := c.exporters.get(from.Addr(), 0)
		for k, l := range e.allTemplates() {
			if k.port == from.Port() {
				want[source][uint64(k.version)<<48|uint64(k.domain)<<16|uint64(k.id)] = (&template{k.templateKey, l.shape}).goflow2()
			}
		}
		if len(want[source]) != 7 {
			t.Fatalf("%d templates", len(want[source]))
		}
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var wanted any
	if err := json.Unmarshal(text, &wanted); err != nil {
		t.Fatal(err)
	}
	if got := show(); !reflect.DeepEqual(got, wanted) {
		t.Errorf("got  %v\nwant %v", got, wanted)
	}
}

// heapWriter notes how large the heap is while something is written to it.
type heapWriter struct {
	every, written, next int
	most                 uint64
}

func (w *heapWriter) Write(b []byte) (int, error) {
	if w.written += len(b); w.written > w.next {
		w.next += w.every
		w.most = max(w.most, liveHeap())
	}
	return len(b), nil
}

// liveHeap returns the bytes of the heap that are in use.
func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestWriteTemplatesStreams writes templates whose JSON is far larger than they are.
func TestWriteTemplatesStreams(t *testing.T) {
	c, _ := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	var fields []ie
	for i := range 1000 {
		fields = append(fields, ie{uint16(1000 + i), 60, 1 << 31})
	}
	for i := range 40 {
		for id := range 16 {
			d.Datagram(forged(i), AnyFlow, ipfixMessage(0, 1, set(2, templateRecord(uint16(256+id), fields...))), testTime)
		}
	}
	before := liveHeap()
	w := heapWriter{every: 1 << 20}
	if err := c.WriteTemplates(&w); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes written, the heap has grown by %d", w.written, int64(w.most)-int64(before))
	if w.written < 50<<20 || w.most > before+4<<20 {
		t.Errorf("%d bytes written, the heap has grown from %d to %d", w.written, before, w.most)
	}
	if err := c.WriteTemplates(failingWriter{}); !errors.Is(err, errWrite) {
		t.Errorf("error %v", err)
	}
	runtime.KeepAlive(d)
}

var errWrite = fmt.Errorf("cannot be written")

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errWrite }

// TestWriteExportersStreams has as many exporters as a flood of forged ones makes.
func TestWriteExportersStreams(t *testing.T) {
	c, _ := newTestCollector(t)
	d := c.NewDecoder(&sink{f: func(*flow.Record) {}})
	b := v5Message(1, v5Record(1))
	const exporters = 50_000
	for i := range exporters {
		d.Datagram(forged(i), AnyFlow, b, testTime)
	}
	before := liveHeap()
	w := heapWriter{every: 2 << 20}
	if err := c.WriteExporters(&w); err != nil {
		t.Fatal(err)
	}
	grown := int64(w.most) - int64(before)
	t.Logf("%d bytes written, the heap has grown by %d", w.written, grown)
	if w.written < 100*exporters || grown > 64*exporters {
		t.Errorf("%d bytes written, the heap has grown by %d", w.written, grown)
	}
	runtime.KeepAlive(d)
}
