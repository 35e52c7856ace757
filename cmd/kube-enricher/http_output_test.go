package main

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/netobserv/goflow2-kube-enricher/flow/flowpb"
)

// posts is an HTTP server that keeps what is sent.
type posts struct {
	mu       sync.Mutex
	body     []byte
	requests []*http.Request
	code     int
}

func newPosts(t *testing.T, code int) (*posts, string) {
	p := &posts{code: code}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return p, server.URL
}

func (p *posts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.body = append(p.body, body...)
	p.requests = append(p.requests, r)
	w.WriteHeader(p.code)
	_, _ = io.WriteString(w, "your key is "+r.Header.Get("X-Key")+", your tenant "+r.Header.Get("X-Tenant")+", your query "+r.URL.RawQuery)
}

// TestHTTPOutput sends a capture to a server, as JSON and as protobuf, and compares
// what it gets with the file.
func TestHTTPOutput(t *testing.T) {
	for format, contentType := range map[string]string{"json": "application/x-ndjson", "protobuf": "application/x-protobuf"} {
		t.Run(format, func(t *testing.T) {
			p, url := newPosts(t, 200)
			key := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(key, []byte("hunter2\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "flows")
			outputOf(t, "-kube.snapshot", demoSnapshot, "-transport", "file,http", "-format", format, "-transport.file", file,
				"-transport.http.url", url+"/?query=INSERT", "-transport.http.headers", "x-key=${file:"+key+"}", kafkaCapture)
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if format == "json" && !slices.Equal(sortedLines(p.body), sortedLines(want)) || format == "protobuf" && !slices.Equal(sortedMessages(t, p.body), sortedMessages(t, want)) {
				t.Error("the server's records are not those of the file")
			}
			r := p.requests[0]
			if r.URL.String() != "/?query=INSERT" || r.Header.Get("Content-Type") != contentType || r.Header.Get("X-Key") != "hunter2" {
				t.Errorf("%s, %v", r.URL, r.Header)
			}
		})
	}
}

func sortedLines(text []byte) []string {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	slices.Sort(lines)
	return lines
}

// sortedMessages reads messages with their lengths before them.
func sortedMessages(t *testing.T, b []byte) []string {
	t.Helper()
	var list []string
	r := bufio.NewReader(bytes.NewReader(b))
	for {
		m := new(flowpb.EnrichedFlow)
		err := protodelim.UnmarshalFrom(r, m)
		if err == io.EOF {
			slices.Sort(list)
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(text))
	}
}

// TestHTTPOutputSecrets has secrets wherever they may be, and a server that repeats
// them. The program's messages have none.
func TestHTTPOutputSecrets(t *testing.T) {
	_, url := newPosts(t, 401)
	url = strings.Replace(url, "http://", "http://user:hunter2@", 1) + "/?password=hunter2"
	env := []string{"KEY=hunter2", "KUBE_ENRICHER_TRANSPORT_HTTP_HEADERS=X-Key=${KEY},Authorization=Bearer hunter2,X-Tenant=q~"}
	for _, args := range [][]string{
		{kafkaCapture},
		{"-check", kafkaCapture},
		{"-check", "-check.live", kafkaCapture},
		{"-transport.http.compression", "hunter3", kafkaCapture},
	} {
		args = append([]string{"-kube.off", "-loglevel", "trace", "-transport", "http", "-transport.http.url", url}, args...)
		stdout, stderr, code := runWith(t, env, args...)
		if strings.Contains(stdout+stderr, "hunter2") || strings.Contains(stdout+stderr, "q~") {
			t.Errorf("%v: a secret is shown: %s%s", args[5:], stdout, stderr)
		}
		if failed := args[len(args)-2] != "-check" && args[len(args)-2] != "-check.live"; failed == (code == exitDone) {
			t.Errorf("%v: exit code %d: %s", args[5:], code, stderr)
		}
	}
}
