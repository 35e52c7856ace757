package hubble

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Requests for flows are answered here, without gRPC's library: it hands each message over to
// another goroutine and sends it at once, in a packet of its own. Flows come in bursts, and most
// of what a client that follows costs was that. What is on the wire is as in PROTOCOL-HTTP2.md of
// github.com/grpc/grpc.

// isFlows reports whether a call asks for flows. If it is not gRPC's, its library says so.
func isFlows(r *http.Request) bool {
	if r.URL.Path != observerpb.Observer_GetFlows_FullMethodName || r.Method != http.MethodPost {
		return false
	}
	rest, ok := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// serveFlows answers a request for flows whose body is whole, if there is a place for it.
func (s *Server) serveFlows(w http.ResponseWriter, r *http.Request, body []byte) {
	if filtersIn(body) > maxFilters {
		refuse(w, codes.InvalidArgument, "at most "+strconv.Itoa(maxFilters)+" filters are possible")
		return
	}
	peer := peerOf(r.RemoteAddr)
	if !admit(w, peer, s.streamsAt, s.streams, "requests for flows") {
		return
	}
	defer dismiss(peer, s.streamsAt, s.streams)
	answer := newPatientWriter(w, s.cut)
	w.Header().Set("Content-Type", "application/grpc")
	end := status.Convert(s.callFlows(r, body, answer))
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(int(end.Code())))
	if text := end.Message(); text != "" {
		w.Header().Set(http.TrailerPrefix+"Grpc-Message", encoded(cut(text)))
	}
	answer.Flush()
}

// callFlows returns how the call ends.
func (s *Server) callFlows(r *http.Request, body []byte, w flusher) error {
	ctx := r.Context()
	if text := r.Header.Get("Grpc-Timeout"); text != "" {
		d, ok := parseTimeout(text)
		if !ok {
			return status.Error(codes.InvalidArgument, "grpc-timeout is not a time such as 10S")
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if len(body) < prefix || uint64(binary.BigEndian.Uint32(body[1:])) != uint64(len(body)-prefix) {
		return status.Error(codes.InvalidArgument, "the request is not one message")
	}
	req := new(observerpb.GetFlowsRequest)
	if err := proto.Unmarshal(body[prefix:], req); err != nil {
		return status.Error(codes.InvalidArgument, "the request is not a GetFlowsRequest in protobuf")
	}
	return s.getFlows(ctx, req, w)
}

// parseTimeout reads a time as gRPC writes it: at most eight digits, and a unit.
func parseTimeout(text string) (time.Duration, bool) {
	const most = 8
	last := len(text) - 1
	if last < 1 || last > most {
		return 0, false
	}
	n, err := strconv.ParseUint(text[:last], 10, 32)
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second,
		'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	unit, ok := units[text[last]]
	if err != nil || !ok {
		return 0, false
	}
	const longest = 1 << 62
	if n > longest/uint64(unit) { // more than a hundred years
		return longest, true
	}
	return time.Duration(n) * unit, true
}

// maxMessage bounds what is said of an error, in bytes: what a client sent may be in it, and
// clients take only so much of headers.
const maxMessage = 500

// cut returns the beginning of a text, in whole characters.
func cut(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	n := maxMessage
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "..."
}

// encoded returns the text of a status as it is sent: bytes that headers cannot have are
// percent-encoded.
func encoded(text string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(text))
	for i := range len(text) {
		if c := text[i]; c >= ' ' && c <= '~' && c != '%' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&0xf])
		}
	}
	return string(b)
}

// flusher is where an answer goes. Flush sends what was written.
type flusher interface {
	io.Writer
	Flush()
}

// messages gathers the messages of an answer. One goroutine uses it.
type messages struct {
	w flusher
	b []byte // whole messages, each with its prefix
}

// full reports whether it is time to send what there is.
func (m *messages) full() bool { return len(m.b) >= answerPart }

// send sends what there is. It waits for the client.
func (m *messages) send() error {
	if len(m.b) == 0 {
		return nil
	}
	_, err := m.w.Write(m.b)
	m.w.Flush() // what is left would make a later part longer
	m.b = m.b[:0]
	return err
}

// begin begins a message.
func (m *messages) begin() (at int) {
	m.b = append(m.b, make([]byte, prefix)...)
	return len(m.b)
}

// end ends the message that began at an offset.
func (m *messages) end(at int) {
	binary.BigEndian.PutUint32(m.b[at-prefix+1:], uint32(len(m.b)-at))
}

// Fields of GetFlowsResponse.
const (
	responseFlow     = 1
	responseNodeName = 1000
	responseTime     = 1001
)

// flow adds a flow of which a client wants what a mask says.
func (m *messages) flow(v *view, version string, wanted *mask) error {
	start := m.begin()
	b, at := open(m.b, responseFlow)
	b = v.appendFlow(b, version)
	if wanted != nil {
		f := new(flowpb.Flow)
		if err := proto.Unmarshal(b[at:], f); err != nil {
			return err
		}
		wanted.apply(f)
		var err error
		if b, err = (proto.MarshalOptions{}).MarshalAppend(b[:at], f); err != nil {
			return err
		}
	}
	b = closed(b, at)
	b = v.appendNodeName(b, responseNodeName)
	m.b = appendTime(b, responseTime, v.r.Msg.TimeReceivedNs)
	m.end(start)
	return nil
}

// add adds any message.
func (m *messages) add(resp *observerpb.GetFlowsResponse) (err error) {
	at := m.begin()
	if m.b, err = (proto.MarshalOptions{}).MarshalAppend(m.b, resp); err == nil {
		m.end(at)
	}
	return err
}

// filtersIn returns how many filters a request for flows has. What it cannot read is refused
// later.
func filtersIn(body []byte) (filters int) {
	const blacklist, whitelist = 5, 6 // in GetFlowsRequest
	for b := body[min(prefix, len(body)):]; len(b) > 0; {
		number, _, size := protowire.ConsumeField(b)
		if size < 0 {
			break
		}
		if number == whitelist || number == blacklist {
			filters++
		}
		b = b[size:]
	}
	return filters
}
