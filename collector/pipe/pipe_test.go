package pipe

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	flowpb "github.com/netsampler/goflow2/v2/pb"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// collect keeps copies of the records.
type collect struct {
	records []*flow.Record
	idle    atomic.Int64 // calls of Idle
	pending atomic.Int64 // how often Idle is to return true
	after   func(n int)  // called with each record
}

func (c *collect) HandleFlow(r *flow.Record) {
	c.records = append(c.records, r.Clone())
	if c.after != nil {
		c.after(len(c.records))
	}
}

func (c *collect) Idle() bool {
	c.idle.Add(1)
	return c.pending.Add(-1) >= 0
}

// run is what became of an input.
type run struct {
	*collect
	err                             error
	json, protobuf, passed          int
	tooLong, malformed, cut, logged int
	log                             *logtest.Hook
}

// output is what a writer of lines would write.
func (r *run) output() string {
	var b strings.Builder
	for _, rec := range r.records {
		b.Write(rec.Line.Text)
		b.WriteByte('\n')
	}
	return b.String()
}

func newReader(t testing.TB, cfg Config, in io.Reader, c *collect) (*Reader, func(error) *run) {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	reg := prometheus.NewPedanticRegistry()
	cfg.ReceivedJSON = prometheus.NewCounter(prometheus.CounterOpts{Name: "json"})
	cfg.ReceivedProtobuf = prometheus.NewCounter(prometheus.CounterOpts{Name: "protobuf"})
	if cfg.Mapping == nil {
		cfg.Mapping = mapping(t, "SrcAddr=Src,DstAddr=Dst")
	}
	r, err := New(cfg, in, c, log, reg)
	if err != nil {
		t.Fatal(err)
	}
	return r, func(err error) *run {
		count := func(c prometheus.Collector) int { return int(testutil.ToFloat64(c)) }
		return &run{
			collect: c, err: err, log: hook, logged: len(hook.AllEntries()),
			json: count(cfg.ReceivedJSON), protobuf: count(cfg.ReceivedProtobuf), passed: count(r.passed),
			tooLong: count(r.dropped[tooLong]), malformed: count(r.dropped[malformed]), cut: count(r.dropped[cut]),
		}
	}
}

func runReader(t testing.TB, cfg Config, in io.Reader) *run {
	t.Helper()
	r, done := newReader(t, cfg, in, &collect{})
	got := done(r.Run(t.Context()))
	if n := len(got.records); n != got.json+got.protobuf {
		t.Errorf("%d records handed on, %d counted", n, got.json+got.protobuf)
	}
	return got
}

// lostText is the error of a run that dropped what it could not read, "<nil>" if it did
// not.
func lostText(tooLong, malformed int) string {
	var parts []string
	for _, p := range []struct {
		n    int
		name string
	}{{tooLong, "too_long"}, {malformed, "malformed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprint(p.n, " ", p.name))
		}
	}
	if len(parts) == 0 {
		return "<nil>"
	}
	return "read input: lines or messages were dropped: " + strings.Join(parts, ", ") + "; the others are written"
}

// inPieces reads b in several ways.
func inPieces(b []byte) map[string]io.Reader {
	return map[string]io.Reader{
		"at once":              bytes.NewReader(b),
		"byte by byte":         iotest.OneByteReader(bytes.NewReader(b)),
		"with the end":         iotest.DataErrReader(bytes.NewReader(b)),
		"half of what is left": iotest.HalfReader(bytes.NewReader(b)),
	}
}

func TestNew(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	for want, cfg := range map[string]Config{
		`input "xml" is none of auto, json, protobuf`:      {Input: "xml"},
		"a line of at most -1 bytes is not possible":       {MaxLine: -1},
		"field SrcPort of the mapping is no address":       {Mapping: []flow.MapEntry{{Field: flow.FieldSrcPort, Prefix: "Src"}}},
		"9 entries in the mapping; at most 8 are possible": {Mapping: make([]flow.MapEntry, 9)},
	} {
		if _, err := New(cfg, nil, nil, log, nil); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	if _, err := New(Config{}, nil, nil, log, reg); err != nil {
		t.Error(err)
	}
	if _, err := New(Config{}, nil, nil, log, reg); !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		t.Error("registered twice:", err)
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	// Every address field can be mapped.
	for i := range flow.Fields {
		if f := &flow.Fields[i]; (f.Kind == flow.KindAddr) != (addressIn(new(flow.Record), f.ID) != nil) {
			t.Errorf("field %s: address %v", f.Name, f.Kind == flow.KindAddr)
		}
	}
}

func TestLines(t *testing.T) {
	long := `{"SrcAddr":"10.0.0.1","x":"` + strings.Repeat("x", 400<<10) + `"}`
	for _, c := range []struct {
		name   string
		in     string
		passed int
	}{
		{"empty", "", 0},
		{"objects", "{\"a\":1}\n{}\n {\"SrcAddr\":\"10.0.0.1\"} \n", 0},
		{"CRLF", "{\"a\":1}\r\n{}\r\n", 0},
		{"no newline at the end", "{\"a\":1}\n{}", 0},
		{"blank lines", "\n\r\n \n{}\n\n", 4},
		{"others", "goflow2 starting\n[1]\n{\"a\":\n}\n\xff\x00\n{}{}\n", 6},
		{"longer than the buffer", long + "\n{}\n" + long + "\n", 0},
	} {
		for how, in := range inPieces([]byte(c.in)) {
			if how == "byte by byte" && len(c.in) > 1000 {
				continue
			}
			t.Run(c.name+", "+how, func(t *testing.T) {
				got := runReader(t, Config{}, in)
				want := c.in
				if want != "" && !strings.HasSuffix(want, "\n") {
					want += "\n"
				}
				if got.err != nil || got.output() != want {
					t.Errorf("%v, got %.100q, want %.100q", got.err, got.output(), want)
				}
				if got.passed != c.passed || got.protobuf != 0 || got.logged > 1 {
					t.Errorf("%d lines passed through, want %d; %d messages, %d logged", got.passed, c.passed, got.protobuf, got.logged)
				}
				for _, rec := range got.records {
					members, ok := oracle(rec.Line.Text)
					if (rec.Line.Close >= 0) != ok || ok && rec.Line.Text[rec.Line.Close] != '}' || rec.Line.Empty != (ok && len(members) == 0) {
						t.Errorf("line %.100q: %+v", rec.Line.Text, rec.Line)
					}
				}
			})
		}
	}
}

// TestRecord looks at all that a line makes of a record, with lines before it
// of which nothing may stay.
func TestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(123 * time.Nanosecond)
		now := uint64(time.Now().UnixNano())
		in := `{"SrcAddr":"10.0.0.1","DstAddr":"fd00::2","NextHop":"10.0.0.3","BgpNextHop":"10.0.0.4","SamplerAddress":"10.0.0.5",` +
			`"TunnelSrcAddr":"10.0.0.6","TunnelDstAddr":"10.0.0.7","TimeReceived":10,"TimeFlowStart":8,"TimeFlowEnd":9,"SrcPod":"a"}
{"src_addr":"fd00::1","dst_addr":"10.0.0.2","time_flow_end_ns":7}
broken
{}
`
		got := runReader(t, Config{Mapping: mapping(t, allAddresses)}, strings.NewReader(in))
		if len(got.records) != 4 {
			t.Fatal(len(got.records), "records", got.err)
		}
		addr := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
		for i, want := range []struct {
			msg   *flowpb.FlowMessage
			extra flow.Extra
			line  flow.Line
		}{
			{
				&flowpb.FlowMessage{
					SrcAddr: addr("10.0.0.1"), DstAddr: addr("fd00::2"), NextHop: addr("10.0.0.3"), BgpNextHop: addr("10.0.0.4"), SamplerAddress: addr("10.0.0.5"),
					TimeReceivedNs: 10e9, TimeFlowStartNs: 8e9, TimeFlowEndNs: 9e9,
				},
				flow.Extra{HasStart: true, HasEnd: true, HasICMP: true, OwnFields: flow.OwnFields{TunnelSrcAddr: addr("10.0.0.6"), TunnelDstAddr: addr("10.0.0.7")}},
				flow.Line{Close: 233, Keys: []string{"SrcPod"}},
			},
			{
				&flowpb.FlowMessage{SrcAddr: addr("fd00::1"), DstAddr: addr("10.0.0.2"), TimeReceivedNs: now, TimeFlowEndNs: 7},
				flow.Extra{HasEnd: true, HasICMP: true},
				flow.Line{Close: 64, Snake: true},
			},
			{&flowpb.FlowMessage{TimeReceivedNs: now}, flow.Extra{HasICMP: true}, flow.Line{Close: -1}},
			{&flowpb.FlowMessage{TimeReceivedNs: now}, flow.Extra{HasICMP: true}, flow.Line{Close: 1, Empty: true}},
		} {
			rec := got.records[i]
			if !proto.Equal(&rec.Msg.FlowMessage, want.msg) {
				t.Errorf("message %d is %v, want %v", i, &rec.Msg.FlowMessage, want.msg)
			}
			if fmt.Sprint(rec.Extra) != fmt.Sprint(want.extra) {
				t.Errorf("extra %d is %v, want %v", i, rec.Extra, want.extra)
			}
			want.line.Text = []byte(strings.Split(in, "\n")[i])
			if fmt.Sprint(*rec.Line) != fmt.Sprint(want.line) {
				t.Errorf("line %d is %v, want %v", i, *rec.Line, want.line)
			}
		}
	})
}

func TestTooLong(t *testing.T) {
	const limit = 100
	line := func(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }
	for _, c := range []struct {
		name    string
		lines   []string
		dropped []bool
	}{
		{"just fits", []string{line(limit)}, []bool{false}},
		{"one byte more", []string{line(limit + 1)}, []bool{true}},
		{"among others", []string{"{}", line(limit + 1), line(limit), line(500), line(50000), "{}"}, []bool{false, true, false, true, true, false}},
	} {
		in := strings.Join(c.lines, "\n")
		var want strings.Builder
		dropped := 0
		for i, l := range c.lines {
			if c.dropped[i] {
				dropped++
			} else {
				want.WriteString(l + "\n")
			}
		}
		for _, end := range []string{"", "\n"} {
			for how, r := range inPieces([]byte(in + end)) {
				got := runReader(t, Config{MaxLine: limit}, r)
				if fmt.Sprint(got.err) != lostText(dropped, 0) || got.output() != want.String() || got.tooLong != dropped || got.logged != min(1, dropped) {
					t.Errorf("%s, %s: %v, dropped %d of %d, logged %d, %q", c.name, how, got.err, got.tooLong, dropped, got.logged, got.output())
				}
			}
		}
	}
	// The default, and where it happened.
	in := io.MultiReader(strings.NewReader("{}\n"), strings.NewReader(line(DefaultMaxLine)+"\n"), strings.NewReader(line(DefaultMaxLine+1)+"\n{}\n"))
	got := runReader(t, Config{}, in)
	if fmt.Sprint(got.err) != lostText(1, 0) || len(got.records) != 3 || got.tooLong != 1 {
		t.Errorf("%v, %d records, %d dropped", got.err, len(got.records), got.tooLong)
	}
	if e := got.log.LastEntry(); e.Level != logrus.WarnLevel || e.Data["offset"] != int64(3+DefaultMaxLine+1) {
		t.Error(e.String())
	}
}

// messageOf is a message with its length.
func messageOf(m *flowpb.FlowMessage) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return append(binary.AppendUvarint(nil, uint64(len(b))), b...)
}

// tenBytes is a message whose length reads as a newline.
func tenBytes(i byte) *flowpb.FlowMessage {
	return &flowpb.FlowMessage{Type: flowpb.FlowMessage_IPFIX, SrcAddr: []byte{10, 0, 0, i}, Bytes: 1 + uint64(i)%100}
}

func TestMessages(t *testing.T) {
	full := func(i byte) *flowpb.FlowMessage {
		return &flowpb.FlowMessage{
			Type: flowpb.FlowMessage_IPFIX, TimeReceivedNs: 1628419398e9, TimeFlowStartNs: uint64(i), SrcAddr: []byte{10, 0, 0, i},
			MplsLabel: []uint32{1, 2, 3}, MplsIp: [][]byte{{1, 2, 3, 4}}, LayerStack: []flowpb.FlowMessage_LayerStack{0, 1}, Bytes: 1 << 60,
		}
	}
	custom := full(1)
	custom.ProtoReflect().SetUnknown([]byte{0xd0, 0x02, 1, 0xba, 0x3e, 1, 'x'}) // fields 42 and 999
	ten := func(from, to byte) (ms []*flowpb.FlowMessage) {
		for i := from; i < to; i++ {
			ms = append(ms, tenBytes(i))
		}
		return ms
	}
	if n := len(messageOf(tenBytes(1))); n != 11 {
		t.Fatal(n)
	}
	for _, c := range []struct {
		name     string
		messages []*flowpb.FlowMessage
	}{
		{"one", []*flowpb.FlowMessage{full(1)}},
		{"several", []*flowpb.FlowMessage{full(1), full(10), {Type: 1}, custom, full(3)}},
		{"of ten bytes", ten(0, 20)},
		{"then of ten bytes", append([]*flowpb.FlowMessage{full(1)}, ten(0, 3)...)},
		{"of ten bytes first", append(ten(0, 1), full(1), full(2))},
		{"ten, ten, full", append(ten(9, 11), full(1))},
	} {
		for _, separator := range []string{"", "\n"} {
			var in []byte
			for _, m := range c.messages {
				in = append(append(in, messageOf(m)...), separator...)
			}
			for _, input := range []string{InputAuto, InputProtobuf} {
				for how, r := range inPieces(in) {
					name := fmt.Sprintf("%s, separator %q, %s, %s", c.name, separator, how, input)
					got := runReader(t, Config{Input: input}, r)
					if got.err != nil || len(got.records) != len(c.messages) || got.protobuf != len(c.messages) || got.logged > 0 {
						t.Errorf("%s: %v, %d records of %d", name, got.err, len(got.records), len(c.messages))
						continue
					}
					for i, rec := range got.records {
						want := proto.CloneOf(c.messages[i])
						if want.TimeReceivedNs == 0 {
							want.TimeReceivedNs = rec.Msg.TimeReceivedNs
						}
						if !proto.Equal(&rec.Msg.FlowMessage, want) || rec.Msg.TimeReceivedNs == 0 || rec.Line != nil {
							t.Errorf("%s: message %d is %v, want %v", name, i, &rec.Msg.FlowMessage, want)
						}
						if rec.Extra.HasStart != (want.TimeFlowStartNs != 0) || rec.Extra.HasEnd {
							t.Errorf("%s: message %d has start %v, end %v", name, i, rec.Extra.HasStart, rec.Extra.HasEnd)
						}
					}
				}
			}
		}
	}
}

func TestBadMessages(t *testing.T) {
	good := messageOf(tenBytes(1))
	bad := []byte{3, 0x32, 9, 9} // a field that is longer than the message
	huge := binary.AppendUvarint(nil, DefaultMaxLine+1)
	overflow := bytes.Repeat([]byte{0xff}, 11)
	const long = "no message is that long; goflow2's protobuf, with the length before each message, is expected"
	for _, c := range []struct {
		name      string
		in        []byte
		records   int
		malformed int
		err       string
	}{
		{"malformed", slices.Concat(good, bad, good, bad, bad, good), 3, 3, ""},
		{"too long", slices.Concat(good, bad, huge, good), 1, 1, "read input: at offset 15: " + long},
		{"overflow", slices.Concat(good, overflow), 1, 0, "read input: at offset 11: " + long},
		{"cut", slices.Concat(good, good[:10]), 1, 0, "read input: at offset 11: unexpected EOF"},
		{"cut in the length", slices.Concat(good, huge[:2]), 1, 0, "read input: at offset 11: unexpected EOF"},
		{"cut behind a separator", slices.Concat(good, []byte("\n"), good, []byte("\n"), good[:10]), 2, 0, "read input: at offset 24: unexpected EOF"},
		{"empty message", slices.Concat(good, []byte{0}, good), 3, 0, ""},
		{"nothing", nil, 0, 0, ""},
	} {
		for how, in := range inPieces(c.in) {
			got := runReader(t, Config{Input: InputProtobuf}, in)
			if fmt.Sprint(got.err) != cmp.Or(c.err, lostText(0, c.malformed)) || len(got.records) != c.records || got.malformed != c.malformed || got.logged != min(1, c.malformed) {
				t.Errorf("%s, %s: %v, %d records, %d malformed, %d logged", c.name, how, got.err, len(got.records), got.malformed, got.logged)
			}
			if got.err != nil && strings.HasPrefix(c.name, "cut") && !errors.Is(got.err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %s: the error does not wrap io.ErrUnexpectedEOF", c.name, how)
			}
			if isCut := strings.HasPrefix(c.name, "cut"); (got.cut == 1) != isCut {
				t.Errorf("%s, %s: %d messages are counted as cut", c.name, how, got.cut)
			}
		}
	}
}

// TestDetect finds out after how many bytes the format is known.
func TestDetect(t *testing.T) {
	message := messageOf(&flowpb.FlowMessage{Type: flowpb.FlowMessage_IPFIX, TimeReceivedNs: 1, SrcAddr: make([]byte, 4), MplsLabel: []uint32{1, 300}, Bytes: 1})
	spaced := `{ "P": 1, "x": 2}`
	for _, c := range []struct {
		name string
		in   string
		json bool
		at   int // bytes
	}{
		{"goflow2 JSON", `{"type":"IPFIX","time_received_ns":1}` + "\n", true, 2},
		{"spaced JSON", spaced + "\n", true, len(spaced) + 1},
		{"blank line first", "\n{}\n", true, 2},
		{"CRLF", "\r\n{}", true, 2},
		{"empty object", "{}\n", true, 2},
		{"text", "listening on :2055\n", true, 2},
		{"array", "[1]\n", true, 2},
		{"byte order mark", "\ufeff{}\n", true, 4},
		{"zero", "\x00\x00", true, 1},
		{"message", string(message), false, len(message)},
		{"message and more", string(message) + "\nmore", false, len(message)},
		{"message of ten bytes", string(messageOf(tenBytes(1))), false, 11},
		{"nothing", "", true, 0},
		{"half a message", string(message[:len(message)-1]), true, len(message) - 1},
	} {
		at := -1
		for n := 1; n <= len(c.in) && at < 0; n++ {
			r, _ := newReader(t, Config{}, nil, nil)
			r.buf, r.end = []byte(c.in), n
			switch r.detect() {
			case isMessage:
				at = n
				if c.json {
					t.Errorf("%s: protobuf", c.name)
				}
			case noMessage:
				at = n
				if !c.json {
					t.Errorf("%s: JSON", c.name)
				}
			}
		}
		if at < 0 {
			at = len(c.in)
		}
		if at != c.at {
			t.Errorf("%s: known after %d bytes, want %d", c.name, at, c.at)
		}
		got := runReader(t, Config{}, strings.NewReader(strings.TrimSuffix(c.in, "more")))
		if (got.json > 0) != (c.json && c.in != "") || got.err != nil {
			t.Errorf("%s: %d lines, %d messages, %v", c.name, got.json, got.protobuf, got.err)
		}
	}
	// A line that could be the beginning of a message is not kept waiting.
	r, _ := newReader(t, Config{}, nil, nil)
	for line, want := range map[string]detection{"{ }": undecided, "{ }\n": noMessage, "{   \n": undecided} {
		r.buf, r.begin, r.end = []byte(line), 0, len(line)
		if got := r.detect(); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// TestRefuseJSON checks that lines are refused, protobuf and nothing at all not.
func TestRefuseJSON(t *testing.T) {
	message := messageOf(&flowpb.FlowMessage{Bytes: 1})
	for in, want := range map[string]error{
		"":                    nil,
		string(message):       nil,
		"{\"Bytes\":1}\n{}\n": errRefused,
		"{\"Bytes\":1}":       errRefused, // whether this is all is known at the end
		"x":                   errRefused,
		"\n":                  errRefused,
	} {
		for how, r := range inPieces([]byte(in)) {
			got := runReader(t, Config{RefuseJSON: errRefused}, r)
			if !errors.Is(got.err, want) || got.json > 0 || got.protobuf > 0 != (in == string(message)) {
				t.Errorf("%q %s: %v, %d lines, %d messages", in, how, got.err, got.json, got.protobuf)
			}
		}
	}
}

var errRefused = errors.New("lines are refused")

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		r, done := newReader(t, Config{Input: InputJSON, MaxLine: 10}, pr, &collect{})
		ran := make(chan error)
		go func() { ran <- r.Run(t.Context()) }()
		write := func(s string) {
			if _, err := io.WriteString(pw, s); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		write("{}\nbad\nbad\nfar too long\nfar too long\n")
		time.Sleep(ratelog.Interval)
		write("bad\nbad\n")
		pw.Close()
		got := done(<-ran)
		want := []struct {
			offset     int64
			suppressed any
			message    string
		}{
			{3, nil, "passed a line through unchanged that is no JSON object"},
			{11, nil, "dropped a line that is too long"},
			{37, uint64(1), "passed a line through unchanged that is no JSON object"},
		}
		for i, e := range got.log.AllEntries() {
			if i >= len(want) {
				t.Errorf("logged %q", e.Message)
			} else if w := want[i]; e.Data["offset"] != w.offset || e.Data["suppressed"] != w.suppressed || e.Message != w.message {
				t.Errorf("logged %v %q, want %v", e.Data, e.Message, w)
			}
		}
		if got.passed != 4 || got.tooLong != 2 || got.logged != 3 {
			t.Errorf("%+v", got)
		}
	})
}

// FuzzPipe reads anything in any pieces: nothing is lost and nothing changes,
// however the input is cut.
func FuzzPipe(f *testing.F) {
	f.Add([]byte("{\"SrcAddr\":\"10.0.0.1\"}\nbad\r\n\n{}"), uint8(3))
	f.Add([]byte("{\"a\":\"a line that is longer than the limit that is set here, which is sixty-four\"}\n{}\n"), uint8(10))
	f.Add(slices.Concat(messageOf(tenBytes(1)), messageOf(tenBytes(2))), uint8(1))
	f.Add(slices.Concat(messageOf(tenBytes(1)), []byte("\n"), messageOf(tenBytes(2)), []byte("\n")), uint8(7))
	f.Add([]byte{3, 0x32, 9, 9, 0, 1}, uint8(2))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		const limit = 64
		for _, input := range []string{InputJSON, InputProtobuf, InputAuto} {
			whole := runReader(t, Config{Input: input, MaxLine: limit}, bytes.NewReader(in))
			pieces := runReader(t, Config{Input: input, MaxLine: limit}, &inChunks{in, int(piece)%20 + 1})
			if fmt.Sprint(whole.err) != fmt.Sprint(pieces.err) || whole.json != pieces.json || whole.protobuf != pieces.protobuf ||
				whole.passed != pieces.passed || whole.tooLong != pieces.tooLong || whole.malformed != pieces.malformed {
				t.Fatalf("%s: at once %+v, in pieces %+v", input, whole, pieces)
			}
			for i, r := range whole.records {
				p := pieces.records[i]
				r.Msg.TimeReceivedNs, p.Msg.TimeReceivedNs = 0, 0
				if !proto.Equal(&r.Msg.FlowMessage, &p.Msg.FlowMessage) || r.Line != nil && fmt.Sprint(*r.Line) != fmt.Sprint(*p.Line) {
					t.Errorf("%s: record %d differs", input, i)
				}
			}
			if input == InputProtobuf || whole.protobuf > 0 {
				continue
			}
			var want strings.Builder
			long := 0
			for line := range bytes.Lines(in) {
				if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > limit {
					long++
				} else {
					want.Write(line)
					want.WriteByte('\n')
				}
			}
			if fmt.Sprint(whole.err) != lostText(long, 0) || whole.output() != want.String() || whole.tooLong != long {
				t.Errorf("%s: %v, %d lines too long, %q", input, whole.err, whole.tooLong, whole.output())
			}
		}
	})
}

// inChunks reads n bytes at a time.
type inChunks struct {
	b []byte
	n int
}

func (c *inChunks) Read(b []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.b[:min(c.n, len(c.b))])
	c.b = c.b[n:]
	return n, nil
}
