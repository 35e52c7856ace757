// Package pipe reads what goflow2 writes to its standard output, JSON lines or
// length-prefixed protobuf, and hands it on record by record.
package pipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/netobserv/goflow2-kube-enricher/flow"
)

// The values of Config.Input.
const (
	InputAuto     = "auto"     // told from the first bytes
	InputJSON     = "json"     // lines
	InputProtobuf = "protobuf" // FlowMessages with their length before them
)

// DefaultMaxLine is how long a line or message may be, in bytes.
const DefaultMaxLine = 16 << 20

// Config says what is read and what the reader is to find in it.
type Config struct {
	// Input is the format, InputAuto if empty. That takes the input for
	// protobuf if it begins with a length and a whole FlowMessage of that
	// length, else for JSON lines, and decides with the first bytes that tell.
	Input string
	// Mapping lists the addresses that the enricher looks up.
	Mapping []flow.MapEntry
	// Labels lists those that objects have.
	Labels []flow.Label
	// Fields and Attrs list what the handler reads of a record that came as a
	// line, beside the mapped addresses and the times. Lists cannot be read.
	Fields []flow.FieldID
	Attrs  []flow.AttrRef
	// Extra makes protobuf fill flow.Extra, with what goflow2's message has no
	// fields for and this program writes. It is not for outputs in protobuf:
	// what a message came with is written back by itself.
	Extra bool
	// MaxLine bounds a line without its newline and a message without its
	// length, in bytes; DefaultMaxLine if 0.
	MaxLine int
	// RefuseJSON, unless it is nil, says why lines of JSON cannot be taken: Run
	// returns it when the input turns out to be no protobuf.
	RefuseJSON error
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
// JSON. Each line is one record and keeps every byte: flow.Line.Text is the
// line without its newline. What is one JSON object (RFC 8259, with
// encoding/json's verdict) can be added to; all else, blank lines too, is
// handed on with flow.Line.Close -1, to be written as it is, and counted in
// lines_passed_through_total. A line that is longer than MaxLine cannot be held
// and is dropped, counted in lines_dropped_total, and logged with its offset. A
// last line needs no newline.
//
// Of an object, the message gets the mapped addresses and the times, under
// their names in schema v1, schema v2 and goflow2 v1 (TimeReceived, time_received_ns,
// TimeFlowStartMs): integers or strings of them, or RFC 3339; and what
// Config.Fields and Config.Attrs list, with goflow2's renderings. All else stays
// in the text. An object without time of receipt has that of its reading.
// Generated fields follow the style (SrcAddr, src_addr) of the first mapped
// address field, else of the first field that is known, else that of schema v1.
//
// Protobuf. Each message is one record, unknown fields included. A newline
// behind each, which goflow2's file transport writes unless -transport.file.sep
// is empty, is no part of it. A message that cannot be parsed is dropped and
// counted in lines_dropped_total; where lengths make no sense, reading ends.
type Reader struct {
	in  io.Reader
	h   flow.Handler
	log logrus.FieldLogger

	input    string
	max      int
	refuse   error
	extra    bool
	json     prometheus.Counter
	protobuf prometheus.Counter
	passed   prometheus.Counter
	dropped  [numReasons]prometheus.Counter
	quiet    [numComplaints]quiet

	rec   flow.Record
	line  flow.Line
	scan  *scanner
	ends  [flow.MaxEnds]*[]byte  // where rec has the addresses: the mapped ones, then others
	addrs [flow.MaxEnds][16]byte // what those point to
	n     int                    // addresses

	buf       []byte
	begin     int // of what is not handed on yet
	end       int
	searched  int   // bytes from begin on that have no newline
	skipping  bool  // the line at begin is too long, its start is dropped
	offset    int64 // of begin in the input
	now       uint64
	between   bool // behind a message, where a separator may be
	separator separator

	fresh   bool // records were handed on since Idle was called
	pending bool // what Idle returned
	idleAt  time.Time
}

// reason is a value of label reason of lines_dropped_total.
type reason uint8

const (
	tooLong   reason = iota // a line of more than MaxLine bytes
	malformed               // a message that cannot be parsed
	cut                     // the part of a line that had come when reading was stopped
	numReasons
)

// New returns a Reader of in that hands records to h, and registers its
// metrics with reg unless that is nil. It fails if the configuration is wrong
// or a metric is there already.
func New(cfg Config, in io.Reader, h flow.Handler, log logrus.FieldLogger, reg prometheus.Registerer) (*Reader, error) {
	r := &Reader{
		in: in, h: h, log: log,
		input: cfg.Input, max: cfg.MaxLine, refuse: cfg.RefuseJSON, extra: cfg.Extra,
		json: cfg.ReceivedJSON, protobuf: cfg.ReceivedProtobuf,
		scan: newScanner(cfg.Mapping, cfg.Labels...), n: len(cfg.Mapping),
	}
	switch r.input {
	case "":
		r.input = InputAuto
	case InputAuto, InputJSON, InputProtobuf:
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
			r.scan.wantAddress(id, r.n)
			r.n++
		} else if at == nil {
			r.scan.want(id)
		}
	}
	for _, ref := range cfg.Attrs {
		r.scan.wantAttr(ref, cfg.Mapping, cfg.Labels)
	}
	r.passed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "kube_enricher_lines_passed_through_total",
		Help: "Lines read from the pipe that are no JSON object and were passed through unchanged.",
	})
	dropped := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "kube_enricher_lines_dropped_total",
		Help: "Lines and protobuf messages read from the pipe that never became records, by reason.",
	}, []string{"reason"})
	for i, name := range [numReasons]string{"too_long", "malformed", "cut"} {
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

// Run reads to the end of the input and returns nil, or an error that says at
// which offset reading failed. When ctx ends, Run hands on what has been read
// and returns nil.
//
// A read that is under way then is interrupted if the input has a
// SetReadDeadline that works, as sockets and files that can be polled have. If
// not, Run does not wait for it: one goroutine stays in Read until that
// returns, and does nothing else.
func (r *Reader) Run(ctx context.Context) error {
	r.buf = make([]byte, min(initialBuffer, r.bufferLimit()))
	src := source{in: r.in, want: make(chan []byte), got: make(chan result, 1)}
	src.Go(src.run)
	defer src.stop()
	timer := time.NewTimer(pendingEvery)
	defer timer.Stop()
	for {
		r.makeRoom()
		src.read(r.buf[r.end:])
		res, ok := r.await(ctx, src.got, timer)
		if !ok {
			return r.finish(false)
		}
		src.reading = false
		r.end += res.n
		r.now = uint64(time.Now().UnixNano())
		if err := r.consume(); err != nil {
			r.flush()
			return err
		}
		switch {
		case errors.Is(res.err, io.EOF):
			return r.finish(true)
		case res.err != nil:
			at := r.offset + int64(r.end-r.begin)
			return errors.Join(fmt.Errorf("read input: at offset %d: %w", at, res.err), r.finish(false))
		case ctx.Err() != nil:
			return r.finish(false)
		}
	}
}

// await waits for what is being read, and calls Idle when it is due. It returns
// false if ctx ends first.
func (r *Reader) await(ctx context.Context, got <-chan result, timer *time.Timer) (result, bool) {
	for {
		var due <-chan time.Time
		if wait, ok := r.idle(); ok {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case res := <-got:
			return res, true
		case <-due:
		case <-ctx.Done():
			select {
			case res := <-got:
				return res, true
			default:
				return result{}, false
			}
		}
	}
}

// idle calls the handler's Idle if it is due, and tells in what time it will
// be next, if at all.
func (r *Reader) idle() (time.Duration, bool) {
	every := flushEvery
	if !r.fresh {
		every = pendingEvery
	}
	if !r.fresh && !r.pending {
		return 0, false
	}
	if wait := time.Until(r.idleAt.Add(every)); wait > 0 {
		return wait, true
	}
	r.flush()
	return pendingEvery, r.pending
}

func (r *Reader) flush() {
	r.pending = r.h.Idle()
	r.fresh = false
	r.idleAt = time.Now()
}

// bufferLimit is how large the buffer can become: a line that is too long by
// one byte, or a message, must fit.
func (r *Reader) bufferLimit() int { return r.max + maxPrefix + 1 }

// makeRoom moves what is not handed on yet to the front of the buffer, and
// makes that larger if it is half full.
func (r *Reader) makeRoom() {
	if r.begin > 0 {
		r.end = copy(r.buf, r.buf[r.begin:r.end])
		r.begin = 0
	}
	if r.end < len(r.buf)/2 {
		return
	}
	if size := min(2*len(r.buf), r.bufferLimit()); size > len(r.buf) {
		buf := make([]byte, size)
		copy(buf, r.buf[:r.end])
		r.buf = buf
	}
}

// consume hands on the records that are in the buffer.
func (r *Reader) consume() error {
	if r.input == InputAuto {
		switch r.detect() {
		case open:
			return nil
		case good:
			r.input = InputProtobuf
		case bad:
			r.input = InputJSON
		}
	}
	if r.input == InputProtobuf {
		return r.messages(false)
	}
	if r.refuse != nil && r.begin < r.end {
		return r.refuse
	}
	r.lines()
	return nil
}

// finish hands on what is left when no more is read, at the end of the input
// or before.
func (r *Reader) finish(atEnd bool) error {
	defer r.flush()
	if r.input == InputAuto {
		r.input = InputJSON
		if r.refuse != nil && r.begin < r.end {
			return r.refuse
		}
		r.lines()
	}
	if r.input == InputProtobuf {
		if err := r.messages(true); err != nil {
			return err
		}
	}
	rest := r.buf[r.begin:r.end]
	switch {
	case len(rest) == 0 || r.skipping:
	case r.input == InputJSON && (atEnd || r.scan.scan(rest)):
		r.handleLine(rest)
	case r.input == InputProtobuf && atEnd:
		return r.errorf("%w", io.ErrUnexpectedEOF)
	default:
		r.dropped[cut].Inc()
	}
	return nil
}

// advance forgets the next n bytes of the buffer.
func (r *Reader) advance(n int) {
	r.begin += n
	r.offset += int64(n)
}

func (r *Reader) errorf(format string, args ...any) error {
	return fmt.Errorf("read input: at offset %d: "+format, append([]any{r.offset}, args...)...)
}

// handle counts a record and hands it on.
func (r *Reader) handle(received prometheus.Counter) {
	if received != nil {
		received.Inc()
	}
	r.fresh = true
	r.h.HandleFlow(&r.rec)
}

// complaint is a kind of line in the log.
type complaint uint8

const (
	complainPassed complaint = iota
	complainTooLong
	complainMalformed
	numComplaints
)

// complainEvery is how often a kind of complaint is logged at most.
const complainEvery = 10 * time.Second

// quiet is when a kind of complaint may be logged again, and how many were not.
type quiet struct {
	until time.Time
	held  int
}

// complain logs something about what is at begin.
func (r *Reader) complain(c complaint, message string) {
	q := &r.quiet[c]
	now := time.Now()
	if now.Before(q.until) {
		q.held++
		return
	}
	log := r.log.WithField("offset", r.offset)
	if q.held > 0 {
		log = log.WithField("suppressed", q.held)
	}
	log.Warn(message)
	*q = quiet{until: now.Add(complainEvery)}
}

// source reads the input in a goroutine of its own, because a Read of a pipe
// cannot be called off. It reads when asked to and no further, so that it is
// never ahead of the reader and needs no buffer.
type source struct {
	sync.WaitGroup
	in      io.Reader
	want    chan []byte
	got     chan result // with room for one: nobody may be left to take it
	reading bool        // a result is due
}

type result struct {
	n   int
	err error
}

func (s *source) run() {
	for b := range s.want {
		res := result{err: io.ErrNoProgress}
		for range 100 { // as often as bufio.Reader tries
			if n, err := s.in.Read(b); n > 0 || err != nil {
				res = result{n, err}
				break
			}
		}
		s.got <- res
	}
}

// read asks for more.
func (s *source) read(b []byte) {
	s.reading = true
	s.want <- b
}

// stop ends the goroutine and waits for it, unless it is in a Read that cannot
// be interrupted.
func (s *source) stop() {
	close(s.want)
	if s.reading {
		d, ok := s.in.(interface{ SetReadDeadline(time.Time) error })
		if !ok || d.SetReadDeadline(time.Unix(1, 0)) != nil {
			return
		}
		defer func() { _ = d.SetReadDeadline(time.Time{}) }()
	}
	s.Wait()
}
