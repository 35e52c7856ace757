package hubble

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc/codes"

	"github.com/netobserv/goflow2-kube-enricher/internal/ratelog"
)

// What clients may take, all of them together.
const (
	maxConnections = 128
	maxCalls       = 192      // calls at a time
	maxStreams     = 96       // requests for flows among them
	maxScans       = 2        // that read records now, each of which takes a core
	scanTurn       = 1024     // records that one of them reads before it is another's turn
	maxLists       = 4        // answers with lists of nodes or namespaces, which can be long
	maxCallsEach   = 32       // calls at a time on one connection
	maxRequest     = 64 << 10 // bytes of a request: thousands of values of filters
	maxFilters     = 1000     // of a request; each takes a kilobyte, and two bytes on the way
	maxHeaders     = 16 << 10 // bytes of the headers of a call

	// What clients of one address may take of them. All who come by "kubectl port-forward" have
	// one, that of the loopback interface.
	maxConnectionsAt = 64
	maxCallsAt       = 128
	maxStreamsAt     = 64

	// requestTimeout is how long a request may be on its way, and a handshake.
	requestTimeout = 10 * time.Second
	// stallTimeout is how long a client may take nothing of an answer before its call is ended.
	stallTimeout = time.Minute
	// idleAfter is how long a connection may have no call. gRPC's clients connect again by
	// themselves.
	idleAfter = 5 * time.Minute
	// A client that has gone without a word is found out after pingAfter and pingTimeout.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
)

// prefix is how many bytes come before a message: whether it is compressed, and its length
// (PROTOCOL-HTTP2.md of github.com/grpc/grpc).
const prefix = 5

// newFront returns the server of HTTP/2 that calls come through. gRPC's own one lets each stream
// hold a message that comes half and 64 KiB that its client does not read, for as long as the
// connection lasts, which makes gigabytes of all together. This one hands calls to gRPC once
// they are whole, and answers wait in the window of the client.
func (s *Server) newFront(config *tls.Config) *http.Server {
	front := &http.Server{
		Handler:           http.HandlerFunc(s.serveCall),
		TLSConfig:         config,
		ReadHeaderTimeout: requestTimeout,
		IdleTimeout:       idleAfter,
		MaxHeaderBytes:    maxHeaders,
		ErrorLog:          ratelog.Panics(s.log),
		Protocols:         new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxCallsEach, MaxReadFrameSize: 16 << 10,
			MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 64 << 10,
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, WriteByteTimeout: stallTimeout,
		},
	}
	front.Protocols.SetHTTP2(config != nil)
	front.Protocols.SetUnencryptedHTTP2(config == nil)
	return front
}

// serveCall answers a call, if there is a place for it and its request comes in time.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request) {
	peer := peerOf(r.RemoteAddr)
	if !admit(w, peer, s.callsAt, s.calls, "calls") {
		return
	}
	defer dismiss(peer, s.callsAt, s.calls)
	body, code, problem := readRequest(w, r)
	if code != codes.OK {
		refuse(w, code, problem)
		return
	}
	switch {
	case isFlows(r):
		s.serveFlows(w, r, body)
		return
	case r.URL.Path == observerpb.Observer_GetNodes_FullMethodName, r.URL.Path == observerpb.Observer_GetNamespaces_FullMethodName:
		if !enter(r.Context(), s.lists) {
			return
		}
		defer leave(s.lists)
	}
	answer := newPatientWriter(w, s.cut)
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.grpc.ServeHTTP(answer, r)
	r.Body = http.NoBody // net/http has the request for as long as the answer takes
	answer.Flush()
}

// readRequest reads the message of a call. If it does not come, or is not one that is taken, it
// returns what the client gets to know.
func readRequest(w http.ResponseWriter, r *http.Request) (body []byte, code codes.Code, problem string) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(requestTimeout))
	body, err := io.ReadAll(io.LimitReader(r.Body, prefix+maxRequest+1))
	_ = c.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, codes.DeadlineExceeded, "the request has not come within " + requestTimeout.String()
	case err != nil:
		return nil, codes.Canceled, "the request breaks off"
	case len(body) > prefix+maxRequest:
		return nil, codes.ResourceExhausted, "the request has more than " + strconv.Itoa(maxRequest) + " bytes"
	case len(body) > 0 && body[0] != 0:
		return nil, codes.Unimplemented, "compressed requests are not taken"
	}
	return body, codes.OK, ""
}

// refuse answers a call without gRPC. The text has no percent sign, and is ASCII.
func refuse(w http.ResponseWriter, code codes.Code, text string) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Grpc-Status", strconv.Itoa(int(code)))
	w.Header().Set("Grpc-Message", text)
	w.WriteHeader(http.StatusOK)
}

// tryEnter takes a place if one is free.
func tryEnter(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

// enter waits for a place. It reports false if ctx has ended before.
func enter(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func leave(places chan struct{}) { <-places }

// turn is a place among the few who read records at a time. Whoever reads many gives it to
// somebody else after [scanTurn] of them.
type turn struct {
	places  chan struct{}
	taken   bool
	looked  int
	release func() // gives back what is kept to read, nil if nothing is
}

// begin waits for a place, unless one is taken. It reports false if ctx has ended before.
func (t *turn) begin(ctx context.Context) bool {
	t.taken = t.taken || enter(ctx, t.places)
	return t.taken
}

// end gives the place back, if one is taken.
func (t *turn) end() {
	if t.taken {
		leave(t.places)
	}
	t.taken = false
}

// pause gives the place back while the reader waits for something else. What was read is gone.
func (t *turn) pause() {
	t.end()
	if t.release != nil {
		t.release()
	}
}

// next comes with each record, or after it if there is a release. It returns an error if ctx has
// ended.
func (t *turn) next(ctx context.Context) error {
	if t.looked++; t.looked%scanTurn != 0 {
		return nil
	}
	t.pause()
	if !t.begin(ctx) {
		return ctx.Err()
	}
	return nil
}
