package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
)

// TestLibrariesLog has a server that makes net/http print what it sends. All that the program prints
// is JSON without it.
func TestLibrariesLog(t *testing.T) {
	t.Run("http", func(t *testing.T) { quietLibrary(t, "http") })
	t.Run("otlp by http", func(t *testing.T) {
		quietLibrary(t, "otlp", "-transport.otlp.protocol", "http")
	})
}

// unsolicited answers a request with a body where there can be none.
func unsolicited(conn net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	fmt.Fprintf(conn, "HTTP/1.1 204 No Content\r\n\r\nyour header is %s", r.Header.Get("Authorization"))
	_, _ = io.Copy(io.Discard, conn)
}

// quietLibrary runs the program with an output to a server that answers so, until the log has it.
func quietLibrary(t *testing.T, output string, args ...string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				unsolicited(conn)
			}()
		}
	}()
	stdin, records, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	formatted := map[string]string{"http": "http:protobuf", "otlp": "otlp"}[output]
	flags := "-transport." + output + "."
	address := map[string]string{"http": "url", "otlp": "endpoint"}[output]
	p := startWith(t, stdin, nil, append(args, "-kube.off", "-logfmt", "json", "-drain-timeout", "10ms", "-input", "protobuf", "-transport", formatted,
		flags+address, "http://"+l.Addr().String(), flags+"headers", "Authorization=Bearer hunter2", "-")...)
	if _, err := protodelim.MarshalTo(records, &flowpb.EnrichedFlow{SrcAddr: []byte{192, 0, 2, 1}, DstAddr: []byte{192, 0, 2, 2}, Bytes: 1}); err != nil {
		t.Fatal(err)
	}
	p.eventually("the answer is spoken of", func() bool { return strings.Contains(p.stderr(), "Unsolicited response") })
	p.signal(syscall.SIGTERM)
	p.wait()
	for line := range strings.SplitSeq(p.stderr(), "\n") {
		if !json.Valid([]byte(line)) && !strings.HasPrefix(line, "kube-enricher: ") || strings.Contains(line, "hunter2") {
			t.Errorf("the log has %q", line)
		}
	}
}
