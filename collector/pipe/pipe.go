// Package pipe reads what goflow2 writes to its standard output, JSON lines or
// length-prefixed protobuf, and hands it on record by record.
package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// The values of Config.Input.
const (
	InputAuto     = "auto"     // one of the others, by the first bytes
	InputJSON     = "json"     // lines
	InputProtobuf = "protobuf" // FlowMessages with their length before them
	InputCapture  = "capture"  // a packet capture
)

// DefaultMaxLine is how long a line or message may be, in bytes.
const DefaultMaxLine = 16 << 20

// Config says what is read and what the reader is to find in it.
type Config struct {
	// Input is the format, InputAuto if empty. With InputAuto the input is
	// a capture if it begins as one, protobuf if it begins with a length and a whole
	// FlowMessage of that length, else it is JSON lines. As few bytes as possible decide.
	Input string
	// Mapping lists the addresses that the enricher looks up.
	Mapping []flow.MapEntry
	// Labels lists those that objects have.
	Labels []flow.Label
	// Fields and Attrs list what the handler reads of a record that came as a
	// line, beside the mapped addresses and the times. Lists cannot be read.
	Fields []flow.FieldID
	Attrs  []flow.AttrRef
	// MaxLine bounds a line without its newline and a message without its
	// length, in bytes; DefaultMaxLine if 0.
	MaxLine int
	// RefuseJSON is the error that Run returns if the input turns out to be no
	// protobuf. If it is nil, lines of JSON are read.
	RefuseJSON error
	// Capture reads a capture from the input. If it is nil, a capture is not recognized.
	Capture func(ctx context.Context, in io.Reader) error
	// ReceivedJSON and ReceivedProtobuf count records, before they are handed
	// on. They may be nil.
	ReceivedJSON, ReceivedProtobuf prometheus.Counter
}

const (
	initialBuffer = 256 << 10
	// flushEvery is how often Idle is called at most for records that come one
	// by one, and how long the last of them waits for it.
	flushEvery = 5 * time.Millisecond
	// pendingEvery is how often Idle is called as long as it asks for it.
	pendingEvery = 50 * time.Millisecond
)

// Reader reads records from a pipe. It is made by New and used once, by Run.
//
// JSON. Each line is one record and keeps every byte: flow.Line.Text is the line
// without its newline. Fields can be added to a line that is one JSON object (RFC
// 8259, as encoding/json accepts it). All other lines, blank ones too, are handed
// on with flow.Line.Close -1, to be written as they are, and counted in
// lines_passed_through_total. A line that is longer than MaxLine is dropped,
// counted in lines_dropped_total, and logged with its offset. The last line needs
// no newline.
//
// The message has the mapped addresses of the object and its times, under their
// names in schema v1, schema v2 and goflow2 v1 (TimeReceived, time_received_ns,
// TimeFlowStartMs). Times are integers, strings of integers, or RFC 3339. The
// record also has what Config.Fields and Config.Attrs list, in goflow2's
// renderings. All else stays in the text. The time of receipt of an object without
// one is when it was read. Generated fields follow the style (SrcAddr, src_addr) of
// the first mapped address field, else of the first known field, else that of
// schema v1.
//
// Protobuf. Each message is one record, unknown fields included. Those that this program
// writes and goflow2's message does not have are in flow.Extra, too. The newline after
// each message, which goflow2's file transport writes unless -transport.file.sep is
// empty, is not part of it. A message that cannot be parsed is dropped and counted
// in lines_dropped_total. Reading ends at a length that cannot be one.
//
// Lines and messages that were dropped are an error at the end of the input.
type Reader struct {
	in  io.Reader
	h   flow.Handler
	log logrus.FieldLogger

	input    string
	max      int
	refuse   error
	capture  func(context.Context, io.Reader) error
	json     prometheus.Counter
	protobuf prometheus.Counter
	passed   prometheus.Counter
	dropped  [numDropReasons]prometheus.Counter
	lost     [numDropReasons]uint64 // what dropped counts
	limiters [numWarnings]ratelog.Limiter

	rec   flow.Record
	line  flow.Line
	scan  *scanner
	ends  [maxAddresses]*[]byte  // where rec has the addresses: the mapped ones, then others
	addrs [maxAddresses][16]byte // what those point to
	n     int                    // addresses

	buf       []byte
	begin     int // of what is not handed on yet
	end       int
	searched  int   // bytes from begin on that have no newline
	skipping  bool  // the line at begin is too long, its start is dropped
	offset    int64 // of begin in the input
	now       uint64
	between   bool // after a message, where a separator may be
	separator separator

	fresh   bool // records were handed on since Idle was called
	pending bool // what Idle returned
	idleAt  time.Time
}

// dropReason is a value of label reason of lines_dropped_total.
type dropReason uint8

const (
	tooLong   dropReason = iota // a line of more than MaxLine bytes
	malformed                   // a message that cannot be parsed
	cut                         // the part of a line that had come when reading was stopped
	numDropReasons
)

var dropNames = [numDropReasons]string{"too_long", "malformed", "cut"}

// New returns a Reader of in that hands records to h on the goroutine that calls
// Run. It registers its metrics with reg unless reg is nil. It fails if the
// configuration is wrong or a metric is registered already.
func New(cfg Config, in io.Reader, h flow.Handler, log logrus.FieldLogger, reg prometheus.Registerer) (*Reader, error) {
	r := &Reader{
		in: in, h: h, log: log,
		input: cfg.Input, max: cfg.MaxLine, refuse: cfg.RefuseJSON, capture: cfg.Capture,
		json: cfg.ReceivedJSON, protobuf: cfg.ReceivedProtobuf,
		scan: newScanner(cfg.Mapping, cfg.Labels...), n: len(cfg.Mapping),
	}
	switch r.input {
	case "":
		r.input = InputAuto
	case InputAuto, InputJSON, InputProtobuf:
	case InputCapture:
		if cfg.Capture == nil {
			return nil, errors.New("input capture: nothing reads captures here")
		}
	default:
		return nil, fmt.Errorf("input %q is none of %s, %s, %s", cfg.Input, InputAuto, InputJSON, InputProtobuf)
	}
	if r.max == 0 {
		r.max = DefaultMaxLine
	}
	if r.max < 1 || r.max > 1<<30 {
		return nil, fmt.Errorf("a line of at most %d bytes is not possible", cfg.MaxLine)
	}
	if r.n > flow.MaxEnds {
		return nil, fmt.Errorf("%d entries in the mapping; at most %d are possible", r.n, flow.MaxEnds)
	}
	for i, e := range cfg.Mapping {
		if r.ends[i] = addressIn(&r.rec, e.Field); r.ends[i] == nil {
			return nil, fmt.Errorf("field %s of the mapping is no address", flow.Fields[e.Field].Name)
		}
	}
	for _, id := range cfg.Fields {
		if at := addressIn(&r.rec, id); at != nil && !slices.Contains(r.ends[:r.n], at) {
			r.ends[r.n] = at
			r.scan.requestAddress(id, r.n)
			r.n++
		} else if at == nil {
			r.scan.request(id)
		}
	}
	for _, ref := range cfg.Attrs {
		r.scan.requestAttr(ref, cfg.Mapping, cfg.Labels)
	}
	r.passed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kube_enricher_lines_passed_through_total",
		Help: "Lines read from the pipe that are no JSON object and were passed through unchanged.",
	})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kube_enricher_lines_dropped_total",
		Help: "Lines and protobuf messages read from the pipe that never became records, by reason.",
	}, []string{"reason"})
	for i, name := range dropNames {
		r.dropped[i] = dropped.WithLabelValues(name)
	}
	if reg != nil {
		for _, c := range []prometheus.Collector{r.passed, dropped} {
			if err := reg.Register(c); err != nil {
				return nil, fmt.Errorf("register metrics of the pipe: %w", err)
			}
		}
	}
	return r, nil
}

// addressIn returns where a record holds an address field, nil if the field is
// no address.
func addressIn(r *flow.Record, f flow.FieldID) *[]byte {
	if flow.Fields[f].Kind != flow.KindAddr {
		return nil
	}
	return r.BytesAt(f)
}
