package hubble

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	observerpb "github.com/cilium/cilium/api/v1/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// TestTimeouts: times are those of PROTOCOL-HTTP2.md: up to eight digits, and a unit.
func TestTimeouts(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "10S": 10 * time.Second, "250m": 250 * time.Millisecond,
		"7u": 7 * time.Microsecond, "99999999n": 99999999, "0S": 0, "99999999H": 1 << 62, "5124096H": 1 << 62, // 2^64 ns and some minutes
	} {
		if d, ok := parseTimeout(text); !ok || d != want {
			t.Errorf("%s: %v, %v", text, d, ok)
		}
	}
	for _, text := range []string{"", "S", "10", "1s", "-1S", "+1S", "1.5S", "123456789S", "1 S"} {
		if d, ok := parseTimeout(text); ok {
			t.Errorf("%q: %v", text, d)
		}
	}
}

// TestLongMessage: an error that has what the client sent in it does not end its connection, which
// takes only so much of headers.
func TestLongMessage(t *testing.T) {
	s := serve(t, Config{}, newMemory(record(0, 1)))
	c := observerpb.NewObserverClient(dial(t, s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithMaxHeaderListSize(16<<10)))
	for _, text := range []string{"\x00", "é"} {
		filter := &flowpb.FlowFilter{SourceFqdn: []string{strings.Repeat(text, 30000)}}
		_, err := getFlows(t, c, &observerpb.GetFlowsRequest{Whitelist: []*flowpb.FlowFilter{filter}})
		if st := status.Convert(err); st.Code() != codes.InvalidArgument || len(st.Message()) > maxMessage+3 || !utf8.ValidString(st.Message()) {
			t.Errorf("%v with a message of %d bytes", st.Code(), len(st.Message()))
		}
	}
}

// TestEncoded: the texts of statuses are percent-encoded as in URLs, but for what headers can have.
func TestEncoded(t *testing.T) {
	const text = "\"100 %\" of B\u00fcro\n\xff, and +"
	got := encoded(text)
	if got != "\"100 %25\" of B%C3%BCro%0A%FF, and +" {
		t.Error(got)
	}
	if back, err := url.PathUnescape(got); err != nil || back != text {
		t.Error(back, err)
	}
}

// TestCalls has calls that gRPC's own clients do not make.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := servePipes(t, newMemory(record(0, 1)))
		c := newRawClient(t, p.dial(), 1<<20)
		for _, tt := range []struct {
			name   string
			body   string
			header []string
			want   codes.Code
			after  time.Duration
		}{
			{"none", "\x00\x00\x00\x00\x00", nil, codes.OK, 0},
			{"of a type", "\x00\x00\x00\x00\x00", []string{"content-type", "application/grpc+proto"}, codes.OK, 0},
			{"no message", "", nil, codes.InvalidArgument, 0},
			{"half a prefix", "\x00\x00", nil, codes.InvalidArgument, 0},
			{"less than it says", "\x00\x00\x00\x00\x03\x08\x01", nil, codes.InvalidArgument, 0},
			{"more than it says", "\x00\x00\x00\x00\x00\x18\x01", nil, codes.InvalidArgument, 0},
			{"not protobuf", "\x00\x00\x00\x00\x01\xff", nil, codes.InvalidArgument, 0},
			{"compressed", "\x01\x00\x00\x00\x00", nil, codes.Unimplemented, 0},
			{"bad time", "\x00\x00\x00\x00\x00", []string{"grpc-timeout", "soon"}, codes.InvalidArgument, 0},
			{"time", "\x00\x00\x00\x00\x02\x18\x01", []string{"grpc-timeout", "90M"}, codes.DeadlineExceeded, 90 * time.Minute},
		} {
			begun := time.Now()
			id := c.callBytes(observerpb.Observer_GetFlows_FullMethodName, []byte(tt.body), tt.header...)
			if tt.after > 0 {
				time.Sleep(tt.after - time.Second)
				synctest.Wait()
				if code, reset := c.outcome(id); code != "" || reset {
					t.Errorf("%s: status %q, reset %v after %v", tt.name, code, reset, time.Since(begun))
				}
				time.Sleep(2 * time.Second)
			}
			synctest.Wait()
			if code, reset := c.outcome(id); code != fmt.Sprint(uint32(tt.want)) || reset {
				t.Errorf("%s: status %q, reset %v, want %v", tt.name, code, reset, tt.want)
			}
		}
		_ = c.conn.Close()
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestBatches: flows that come together are sent together.
func TestBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		s := unserved(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		flows := 0
		r := &reader{tb: t, each: func(*observerpb.GetFlowsResponse) { flows++ }}
		ended := make(chan error, 1)
		go func() { ended <- s.getFlows(ctx, &observerpb.GetFlowsRequest{Follow: true}, r) }()
		synctest.Wait()
		for i := range 3 {
			m.add(record(i, 1), record(i, 2), record(i, 3), record(i, 4))
			synctest.Wait()
			if flows != 4*(i+1) || r.sent != i+1 {
				t.Errorf("%d flows in %d parts after %d batches", flows, r.sent, i+1)
			}
		}
		cancel()
		<-ended
	})
}
